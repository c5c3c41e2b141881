"""The rules of differentiation of the loss for each element and of log Z, of any order.

Derivatives are again outputs of the kernels, or follow from them by `kernels.losses.higher`, so that every order is
right.  Sums and means are in `_reductions`, which stands on `named`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.losses import higher
from ..kernels.losses.signatures import LOSS
from . import _kernels, _private
from ._arguments import tensors
from ._context import compiling, few_levels, general, one_forward, plain, requires

_FIRST = LOSS.gradients


def named(family: str, names: tuple[str, ...], x: Tensor, alpha: Any, scale: Any, dtype: torch.dtype) -> list[Tensor]:
    """The named outputs for each element, by the route that the call needs."""
    args: tuple[Any, ...] = (x, alpha, scale)
    wanted = requires(args) if torch.is_grad_enabled() else (False,) * 3
    if compiling() or general() or not plain(args):
        # With the value, what its backward pass needs.
        more = tuple(n for n, w in zip(_FIRST, wanted, strict=True) if w and names == ("value",))
        x, alpha, scale = tensors(x, alpha, scale)
        if more and compiling() and not general():
            return [_ValueTraced.apply(x, alpha, scale, family, names + more, dtype)[0]]
        return _parts(family, names + more, x, alpha, scale, dtype)[: len(names)]
    if not any(wanted):
        return _kernels.evaluate(family, names, x, alpha, scale, dtype)
    if names == ("value",):
        return [_Value.apply(x, alpha, scale, family, dtype, None)]
    x, alpha, scale = tensors(x, alpha, scale)
    return _parts(family, names, x, alpha, scale, dtype)


def _parts(family: str, names: tuple[str, ...], x: Tensor, alpha: Tensor, scale: Tensor, dtype: Any) -> list[Tensor]:
    """The named outputs, differentiable; all arguments are tensors."""
    if compiling():
        if general():
            return _expanded(family, names, x, alpha, scale, dtype)
        return list(_Traced.apply(x, alpha, scale, family, names, dtype))
    one_forward()
    return list(_Parts.apply(x, alpha, scale, family, names, dtype))


def log_z(names: tuple[str, ...], alpha: Tensor) -> list[Tensor]:
    """log Z and its derivatives, those named, differentiable."""
    if compiling():
        if not general():
            return list(_LogZTraced.apply(alpha, names))
        few_levels(2 if names == ("value",) else 1)
        fixed = alpha.detach()  # see `_expanded`
        step, order = torch.where(torch.isfinite(fixed), alpha - fixed, 0.0), ("value", "dalpha", "d2alpha")
        value, slope, bend = _kernels.log_partition(fixed, list(order))
        first, second = _finite(slope), _finite(bend)
        found = {
            "value": value + (first + 0.5 * second * step) * step,
            "dalpha": slope + second * step,
            "d2alpha": bend,
        }
        return [found[name] for name in names]
    one_forward()
    return list(_LogZ.apply(alpha, names))


def _slopes(
    family: str, name: str, args: Sequence[Tensor], dtype: Any, have: dict[str, Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Derivatives of one output in x, alpha and scale, for each element, those wanted; ``have`` are outputs at hand."""
    x, alpha, scale = args

    def get(*names: str) -> list[Tensor]:
        missing = tuple(n for n in names if n not in have)
        if missing:
            have.update(zip(missing, _parts(family, missing, x, alpha, scale, dtype), strict=True))
        return [have[n] for n in names]

    if name == "value":
        found = get(*(n for n, w in zip(_FIRST, wanted, strict=True) if w))
        return [found.pop(0) if w else None for w in wanted]
    wide = [a.double() for a in args]

    def twice() -> Any:
        if not wanted[1]:
            return None
        if compiling():  # which would trace hundreds of operations
            return _hessian(*args, family, dtype)[3]
        found = higher.dalpha_twice(torch, wide[0], wide[1], wide[2])
        return found + log_z(("d2alpha",), wide[1])[0] if family == "nll" else found

    slopes = higher.slopes(torch, name, family, wide, lambda *names: [part.double() for part in get(*names)], twice)
    return [s.to(dtype) if w else None for s, w in zip(slopes, wanted, strict=True)]


def _sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    if gradient.shape != like.shape:
        gradient = gradient.sum_to_size(like.shape) if like.dim() else gradient.sum()
    return gradient if gradient.dtype == like.dtype else gradient.to(like.dtype)


class _Traced(torch.autograd.Function):
    """The named outputs.  The backward pass takes the first derivatives of the value from among them if they are."""

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: tuple[str, ...], dtype: Any) -> Any:
        if not compiling() and not _private.modes() and plain((x, alpha, scale)):
            return tuple(_kernels.evaluate(family, names, x, alpha, scale, dtype))
        if not compiling() and any(type(t).__name__ == "DTensor" for t in (x, alpha, scale)):
            return _kernels.sharded(family, names, x, alpha, scale, dtype)
        return tuple(_kernels.elementwise(x, alpha, scale, family, list(names), dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *args, ctx.family, ctx.names, ctx.dtype = inputs
        kept = [part for name, part in zip(ctx.names, output, strict=True) if name != "value"]
        ctx.save_for_backward(*args, *kept)
        ctx.save_for_forward(*args, *kept)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        *args, have = _saved(ctx)
        wanted = ctx.needs_input_grad[:3]
        total: list[Tensor | None] = [None] * 3
        for name, gradient in zip(ctx.names, gradients, strict=True):
            if gradient is None:
                continue
            for i, slope in enumerate(_slopes(ctx.family, name, args, ctx.dtype, have, wanted)):
                if slope is not None:
                    part = _sum_to(gradient * slope, args[i])
                    before = total[i]
                    total[i] = part if before is None else before + part
        return *total, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: Any, dtype: Any
    ) -> Any:
        x, alpha, scale = _kernels.aligned(in_dims[:3], (x, alpha, scale))
        return tuple(_parts(family, names, x, alpha, scale, dtype)), (0,) * len(names)


def _saved(ctx: Any) -> Any:
    x, alpha, scale, *kept = ctx.saved_tensors
    return x, alpha, scale, dict(zip((n for n in ctx.names if n != "value"), kept, strict=True))


class _Parts(_Traced):
    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        *args, have = _saved(ctx)
        wanted = [t is not None for t in tangents[:3]]
        results = []
        for name in ctx.names:
            slopes = _slopes(ctx.family, name, args, ctx.dtype, have, wanted)
            products = [s * t for s, t in zip(slopes, tangents, strict=False) if s is not None]
            results.append(sum(products[1:], products[0]))
        return tuple(results)


# --- the compiler, through which neither rules for `torch.func` nor many operations go


def _expanded(family: str, names: tuple[str, ...], x: Tensor, alpha: Tensor, scale: Tensor, dtype: Any) -> list[Tensor]:
    """The outputs as polynomials in x - x.detach() and so on, all 0, around the outputs of operators.

    Dynamo traces neither our rules for `torch.func` nor an operator's; it takes them for constants, silently.  Exact
    for two derivatives of the value and one of anything else.
    """
    few_levels(2 if names == ("value",) else 1)
    args = [x, alpha, scale]
    fixed = [a.detach() for a in args]
    steps = [torch.where(torch.isfinite(f), a - f, 0.0) for a, f in zip(args, fixed, strict=True)]
    needed = tuple(dict.fromkeys((*names, *_FIRST, "weight", "curvature")))
    have = dict(zip(needed, _kernels.elementwise(*fixed, family, list(needed), dtype), strict=True))
    xx, xa, xc, aa, ac, cc = _hessian(*fixed, family, dtype)
    rows = {"dx": (xx, xa, xc), "dalpha": (xa, aa, ac), "dscale": (xc, ac, cc)}
    results = []
    for name in names:
        if name == "value":
            slopes: Any = [_finite(have[n]) + 0.5 * _dot(rows[n], steps) for n in _FIRST]
        elif name in rows:
            slopes = rows[name]
        else:
            slopes = _slopes(family, name, fixed, dtype, have, (True, True, True))
        results.append((have[name] + _dot(slopes, steps)).to(dtype))
    return results


def _finite(slope: Tensor) -> Tensor:
    """A factor of 0 that leaves it 0."""
    return torch.nan_to_num(slope)


def _dot(factors: Sequence[Any], steps: Sequence[Tensor]) -> Tensor:
    return sum(_finite(f) * s for f, s in zip(factors[1:], steps[1:], strict=True)) + _finite(factors[0]) * steps[0]


def _second(x: Tensor, alpha: Tensor, scale: Tensor, family: str, dtype: torch.dtype) -> list[Tensor]:
    """All second derivatives: in x twice, x and alpha, x and scale, alpha twice, alpha and scale, scale twice."""
    args, everything = (x, alpha, scale), (True, True, True)
    xx, xa, xc = _slopes(family, "dx", args, dtype, {}, everything)
    _, aa, ac = _slopes(family, "dalpha", args, dtype, {}, everything)
    cc = _slopes(family, "dscale", args, dtype, {}, (False, False, True))[2]
    shape = torch.broadcast_shapes(*(a.shape for a in args))
    return [part.expand(shape).contiguous() for part in (xx, xa, xc, aa, ac, cc)]  # type: ignore[union-attr]


# An operator, since the compiler would trace hundreds of operations.
_kernels.register("hessian(Tensor x, Tensor alpha, Tensor scale, str family, ScalarType dtype) -> Tensor[]", _second)
_hessian = torch.ops.fastrobust.hessian.default


@torch.library.register_fake("fastrobust::hessian")  # type: ignore[untyped-decorator]
def _(x: Tensor, alpha: Tensor, scale: Tensor, family: str, dtype: torch.dtype) -> list[Tensor]:
    shape = torch.broadcast_shapes(x.shape, alpha.shape, scale.shape)
    return [x.new_empty(shape, dtype=dtype) for _ in range(6)]


@torch.library.register_vmap("fastrobust::hessian")  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: Any, x: Tensor, alpha: Tensor, scale: Tensor, family: str, dtype: torch.dtype) -> Any:
    return _hessian(*_kernels.aligned(in_dims[:3], (x, alpha, scale)), family, dtype), [0] * 6


# --- log Z


class _LogZTraced(torch.autograd.Function):
    """log Z and its derivatives, those named."""

    @staticmethod
    def forward(alpha: Tensor, names: tuple[str, ...]) -> Any:
        if not compiling() and not _private.modes() and plain((alpha,)):
            return tuple(_kernels.partition(names, alpha))
        return tuple(_kernels.log_partition(alpha, list(names)))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        alpha, ctx.names = inputs
        ctx.save_for_backward(alpha)
        ctx.save_for_forward(alpha)
        ctx.set_materialize_grads(False)

    @staticmethod
    def _slope(name: str, alpha: Tensor) -> Tensor:
        if name == "d2alpha":
            raise NotImplementedError("a third derivative of log Z in alpha was asked for: two are available")
        return log_z(("dalpha" if name == "value" else "d2alpha",), alpha)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (alpha,) = ctx.saved_tensors
        pairs = zip(ctx.names, gradients, strict=True)
        products = [g * _LogZTraced._slope(name, alpha) for name, g in pairs if g is not None]
        return sum(products[1:], products[0]) if products else None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, alpha: Tensor, names: tuple[str, ...]) -> Any:
        return tuple(log_z(names, alpha)), (in_dims[0],) * len(names)


class _LogZ(_LogZTraced):
    @staticmethod
    def jvp(ctx: Any, tangent: Any, _: Any) -> Any:
        (alpha,) = ctx.saved_tensors
        return tuple(_LogZTraced._slope(name, alpha) * tangent for name in ctx.names)


# --- ordinary autograd on plain tensors


class _Value(torch.autograd.Function):
    """One output of the loss for each element, and the derivatives that are needed, in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Any, scale: Any, family: str, dtype: Any, numbers: Any) -> Any:
        names = ("value", *(n for n, need in zip(_FIRST, ctx.needs_input_grad, strict=False) if need))
        if numbers is not None:
            value, *slopes = _kernels.quick(family, names, x, *numbers)
        else:
            value, *slopes = _kernels.evaluate(family, names, x, alpha, scale, dtype)
        ctx.family, ctx.dtype = family, dtype
        ctx.parameters = [None if isinstance(p, Tensor) else p for p in (alpha, scale)]
        ctx.save_for_backward(x, *(p if isinstance(p, Tensor) else None for p in (alpha, scale)), *slopes)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, alpha, scale, *slopes = ctx.saved_tensors
        args, wanted = (x, alpha, scale), ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # create_graph=True
            full = tensors(x, *(p if t is None else t for p, t in zip(ctx.parameters, args[1:], strict=True)))
            slopes = [s for s in _slopes(ctx.family, "value", full, ctx.dtype, {}, wanted) if s is not None]
        left = iter(slopes)
        parts = [_sum_to(gradient * next(left), a) if w else None for a, w in zip(args, wanted, strict=True)]
        return *parts, None, None, None


class _ValueTraced(torch.autograd.Function):
    """`_Value` for the compiler: the value and the first derivatives named after it, which have none themselves."""

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: tuple[str, ...], dtype: Any) -> Any:
        return tuple(_kernels.elementwise(x, alpha, scale, family, list(names), dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.names = inputs[4]
        ctx.save_for_backward(*inputs[:3], *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        found = dict(zip(ctx.names[1:], ctx.saved_tensors[3:], strict=True))
        pairs = zip(_FIRST, ctx.saved_tensors[:3], strict=True)
        return *(_sum_to(gradient * found[n], a) if n in found else None for n, a in pairs), None, None, None
