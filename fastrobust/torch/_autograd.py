"""The functions on tensors: which route a call takes, and the rules of differentiation.

=============================================  ====================================================================
call                                           route
=============================================  ====================================================================
no gradient wanted                             the kernel alone
plain tensors, ordinary autograd               `_Value`, `_Reduced`: value and partial derivatives in one pass
`torch.func`, forward mode, subclasses         `_Parts`, with rules for vmap and jvp, in tensor operations
the compiler                                   `_Traced`, the same without jvp, which it does not take, over operators
`torch.func` inside the compiler               a Taylor polynomial at the detached arguments: see `_expanded`
=============================================  ====================================================================

Derivatives are again outputs of the kernels, or follow from them by `kernels.losses.higher`, so that every order is
right.
The module is what `_dispatch` finds for tensors: `evaluate`, `weighted`, `partition`, `reduce`.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _arguments as arguments
from .._types import LossGrad
from ..kernels.arithmetic import scaling
from ..kernels.losses import higher
from . import _kernels

xp = torch  # the library's functions
_WRT, _FIRST = ("x", "alpha", "scale"), ("dx", "dalpha", "dscale")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PROMOTED = {(a, b): torch.promote_types(a, b) for a in _FLOATS for b in _FLOATS}
_TRANSFORM = torch._C._functorch.TransformType
_in_transform = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_compiling = torch.compiler.is_compiling


# --- arguments


def no_tensor(name: str, value: Any) -> TypeError:
    """The error for an argument that is none."""
    if isinstance(value, torch.fx.Proxy):
        return TypeError(
            f"{name} is a Proxy of torch.fx, whose symbolic tracing cannot look into fastrobust: take "
            "torch.export.export, or keep the function that calls it whole with torch.fx.wrap"
        )
    return TypeError(f"{name} is a {type(value).__name__}: make it a tensor with torch.as_tensor()")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _recording() -> bool:
    """Whether torch.jit.trace looks on, which it does not through a compiler."""
    return torch._C._is_tracing()


def _not_recorded() -> None:
    """Refuse torch.jit.trace, which does not see the kernels and takes their results for constants."""
    if _recording():
        raise RuntimeError(
            "torch.jit.trace would take the results of fastrobust for constants, whatever the next arguments: take "
            "torch.export.export or torch.compile, or leave the loss out of what is traced"
        )


def _prepared(family: str, **values: Any) -> tuple[torch.dtype, list[Any]]:
    """Dtype of the result, and x and the parameters: tensors on one device, numbers as they are."""
    arguments.check_numbers(values.get("alpha", 1.0), values.get("scale", 1.0), family)
    name, x = next(iter(values.items()))
    for what, value in values.items():
        if not isinstance(value, (Tensor, *arguments.NUMBERS)):
            raise no_tensor(what, value)
        if isinstance(value, Tensor) and (
            value.layout is not torch.strided
            or value.is_complex()
            or (value.is_floating_point() and value.dtype not in _FLOATS)
            or value.is_quantized
        ):
            raise TypeError(
                f"{what} is a tensor of {value.dtype}, {value.layout}, which fastrobust does not take: make it a dense "
                "tensor of float16, bfloat16, float32 or float64"
            )
    if not x.is_floating_point():
        x = x.double()
    elif x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type):
        x = x.float()
    found = [x]
    for what, value in list(values.items())[1:]:
        if isinstance(value, Tensor) and value.device != x.device:
            if value.dim() or not value.is_cpu:
                raise ValueError(f"{what} is on {value.device} and {name} on {x.device}: move one with .to()")
            value = value.to(x.device, non_blocking=True)  # else the GPU would be waited for
        found.append(value)
    return promoted(found), found


def promoted(values: Sequence[Any]) -> torch.dtype:
    """Their common dtype, by PyTorch's rule: tensors without axes give way.  Dynamo knows no `result_type`."""
    floats = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    dtypes = [v.dtype for v in floats if v.dim()] or [v.dtype for v in floats]
    found = dtypes[0]
    for dtype in dtypes[1:]:
        found = _PROMOTED[found, dtype]
    return found


def difference(value: Tensor, other: Tensor) -> Tensor:
    """value - other; of integers in double, since small ones wrap around and single precision lacks large ones."""
    if value.is_floating_point() and other.is_floating_point():
        return value - other
    if value.is_complex() or other.is_complex():
        return value - other  # which is refused by name
    floats = [t for t in (value, other) if t.is_floating_point()]
    found = value.double() - other.double()
    return found.to(floats[0].dtype) if floats else found


def _shape(x: Tensor, alpha: Any, scale: Any) -> torch.Size:
    """The common shape, or an error that names the arguments."""
    if _compiling() or _modes():  # whose lengths may be symbols
        return _kernels.broadcast(x, alpha, scale)
    shapes = {n: v for n, v in (("x", x), ("alpha", alpha), ("scale", scale)) if isinstance(v, Tensor)}
    return torch.Size(arguments.broadcast(**shapes))


def _tensors(x: Tensor, alpha: Any, scale: Any) -> Any:
    """Numbers as tensors of the computing type."""
    return [x, *(p if isinstance(p, Tensor) else _tensor(p, x) for p in (alpha, scale))]


def _tensor(number: float, x: Tensor) -> Tensor:
    """A number as a tensor of the computing type.

    The compiler has numbers as inputs of its program, but only where they meet tensors in arithmetic; elsewhere, as in
    `torch.full`, each is a constant, and each new one another program.
    """
    options: Any = {"dtype": _kernels.compute_type(x.dtype), "device": x.device}
    if _compiling():
        return torch.ones((), **options) * arguments.number(number)
    return torch.full((), arguments.number(number), **options)


def _plain(values: Sequence[Any]) -> bool:
    """Whether what is not a number is a tensor with memory of its own."""
    return all((type(v) in _kernels.PLAIN and (v.is_cpu or v.is_cuda)) or not isinstance(v, Tensor) for v in values)


def visible(value: Tensor) -> bool:
    """Whether the elements can be looked at, without a compiler, a transform or a tracer between."""
    return not _compiling() and not _general() and not _recording() and _plain((value,))


def _general() -> bool:
    """Whether a transform, forward mode or a tracer is active, for which plain tensors are not all there is."""
    return bool(_in_transform()) or forward_ad._current_level >= 0 or (not _compiling() and bool(_modes()))


def fusible(values: Sequence[Any]) -> bool:
    """Whether these go into one pass of ordinary autograd: plain tensors of one dtype, the last of them constant."""
    _not_recorded()
    if _compiling() or _general() or not torch.is_grad_enabled():
        return False
    dtype, device, wanted = values[0].dtype, values[0].device, False
    for value in values:
        if value is not None:
            if type(value) not in _kernels.PLAIN or value.dtype is not dtype or value.device != device:
                return False
            if value.layout is not torch.strided:
                return False
            wanted = wanted or value.requires_grad
    constant = values[-1] is None or not values[-1].requires_grad
    return wanted and constant and dtype in _FLOATS[2:] and device.type in ("cpu", "cuda")


def _one_forward() -> None:
    """Refuse forward mode within forward mode, through which PyTorch takes a `Function` for a constant."""
    if _in_transform() and _levels()[1] > 1:
        raise NotImplementedError("forward mode within forward mode: take jacfwd(jacrev(f)) or torch.func.hessian")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _levels() -> tuple[int, int]:
    """How many levels of `torch.func` differentiate in reverse, and how many forward."""
    kinds = [level.key() for level in torch._C._functorch.get_interpreter_stack() or []]
    return kinds.count(_TRANSFORM.Grad), kinds.count(_TRANSFORM.Jvp)


def _recorded(x: Tensor, alpha: Any, scale: Any) -> bool:
    """Whether autograd follows a call of plain tensors and numbers."""
    return torch.is_grad_enabled() and (
        x.requires_grad
        or (type(alpha) in _kernels.PLAIN and alpha.requires_grad)
        or (type(scale) in _kernels.PLAIN and scale.requires_grad)
    )


def _wanted(values: Sequence[Any]) -> tuple[bool, ...]:
    return tuple(isinstance(v, Tensor) and v.requires_grad for v in values)


# --- derivatives of any order


def _parts(family: str, names: tuple[str, ...], x: Tensor, alpha: Tensor, scale: Tensor, dtype: Any) -> list[Tensor]:
    """The named outputs, differentiable; all arguments are tensors."""
    if _compiling():
        if _general():
            return _expanded(family, names, x, alpha, scale, dtype)
        return list(_Traced.apply(x, alpha, scale, family, names, dtype))
    _one_forward()
    return list(_Parts.apply(x, alpha, scale, family, names, dtype))


def _log_z(names: tuple[str, ...], alpha: Tensor) -> list[Tensor]:
    if _compiling():
        if not _general():
            return list(_LogZTraced.apply(alpha, names))
        _few_levels(2 if names == ("value",) else 1)
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
    _one_forward()
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
        if _compiling():  # which would trace hundreds of operations
            return _hessian(*args, family, dtype)[3]
        found = higher.dalpha_twice(torch, wide[0], wide[1], wide[2])
        return found + _log_z(("d2alpha",), wide[1])[0] if family == "nll" else found

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
        if not _compiling() and not _modes() and _plain((x, alpha, scale)):
            return tuple(_kernels.evaluate(family, names, x, alpha, scale, dtype))
        if not _compiling() and any(type(t).__name__ == "DTensor" for t in (x, alpha, scale)):
            return _kernels.sharded(family, names, x, alpha, scale, dtype)
        return tuple(_kernels.elementwise(x, alpha, scale, family, list(names), dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, ctx.family, ctx.names, ctx.dtype = inputs
        kept = [part for name, part in zip(ctx.names, output, strict=True) if name != "value"]
        ctx.save_for_backward(*tensors, *kept)
        ctx.save_for_forward(*tensors, *kept)
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


def _expanded(family: str, names: tuple[str, ...], x: Tensor, alpha: Tensor, scale: Tensor, dtype: Any) -> list[Tensor]:
    """The outputs as polynomials in x - x.detach() and so on, all 0, around the outputs of operators.

    Dynamo traces neither our rules for `torch.func` nor an operator's; it takes them for constants, silently.  Exact
    for two derivatives of the value and one of anything else.
    """
    _few_levels(2 if names == ("value",) else 1)
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


def _few_levels(most: int) -> None:
    """Refuse more derivatives than `_expanded` has: they would be 0."""
    if sum(_levels()) > most:
        raise NotImplementedError(
            f"inside torch.compile, torch.func differentiates this {most} times at most: apply torch.func outside"
        )


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


class _LogZTraced(torch.autograd.Function):
    """log Z and its derivatives, those named."""

    @staticmethod
    def forward(alpha: Tensor, names: tuple[str, ...]) -> Any:
        if not _compiling() and not _modes() and _plain((alpha,)):
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
        return _log_z(("dalpha" if name == "value" else "d2alpha",), alpha)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (alpha,) = ctx.saved_tensors
        pairs = zip(ctx.names, gradients, strict=True)
        products = [g * _LogZTraced._slope(name, alpha) for name, g in pairs if g is not None]
        return sum(products[1:], products[0]) if products else None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, alpha: Tensor, names: tuple[str, ...]) -> Any:
        return tuple(_log_z(names, alpha)), (in_dims[0],) * len(names)


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
            full = _tensors(x, *(p if t is None else t for p, t in zip(ctx.parameters, args[1:], strict=True)))
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


class _Reduced(torch.autograd.Function):
    """The sum or mean, with d/dx for each element and the parameters' gradients from the same pass, which it keeps.

    Second derivatives need x again: they are there as long as somebody else keeps it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Any, scale: Any, weights: Any, family: str, mean: bool, dtype: Any) -> Any:
        wrt = tuple(n for n, need in zip(_WRT, ctx.needs_input_grad, strict=False) if need)
        value, *gradients = _kernels.sums(family, wrt, x, alpha, scale, weights, mean, dtype)
        ctx.save_for_backward(*gradients)
        ctx.again = family, "mean" if mean else "sum", dtype
        ctx.args = watched(x, (alpha, scale, weights))
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        family, reduction, dtype = ctx.again

        def again(x: Tensor, alpha: Any, scale: Any, weights: Any) -> Tensor:
            return _composed(family, x, alpha, scale, weights, reduction, dtype)

        return *pulled_back(ctx, gradient, again), None, None, None, None


def pulled_back(ctx: Any, gradient: Tensor, again: Callable[..., Tensor]) -> list[Tensor | None]:
    """The gradients that ``ctx`` keeps times the one that comes, for those of the first three inputs that need one.

    With create_graph=True by way of ``again``, which computes the value anew from ``ctx.args``, differentiably.
    """
    found, wanted = ctx.saved_tensors, ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():
        args: list[Any] = [a.alias() if isinstance(a, Watched) else a for a in ctx.args]
        inputs = [a for a, w in zip(args, wanted, strict=False) if w]
        left = iter(torch.autograd.grad(again(*args), inputs, gradient, create_graph=True))
    else:
        left = iter([gradient * f for f in found])
    return [next(left) if w else None for w in wanted]


class Watched:
    """A tensor as it is now; ``weak``: if somebody else keeps it."""

    def __init__(self, tensor: Tensor, weak: bool) -> None:
        self.reference: Callable[[], Any] = weakref.ref(tensor) if weak else lambda: tensor
        self.version = 0 if tensor.is_inference() else tensor._version

    def alias(self) -> Tensor:
        """Lest what one argument has to do with another be counted in `pulled_back` and again by the engine."""
        found = self.reference()
        if found is None or (not found.is_inference() and found._version != self.version):
            raise RuntimeError(
                "create_graph=True through reduction='sum' or 'mean' needs the residuals and parameters as they were, "
                f"but one was {'freed' if found is None else 'changed in place'}: keep the tensor that was passed "
                "(the difference with the target, not only its parts), or take reduction='none' and reduce the result"
            )
        return found.view_as(found)


def watched(x: Tensor, others: Sequence[Any]) -> list[Any]:
    """What `pulled_back` needs for second derivatives; no memory is held of x and of what is as large."""
    most = max(1024, x.numel() // 8)
    return [Watched(x, True), *(Watched(a, a.numel() > most) if isinstance(a, Tensor) else a for a in others)]


class _ReducedTraced(torch.autograd.Function):
    """`_Reduced` for the compiler: the sum or mean, and its gradients."""

    @staticmethod
    def forward(
        x: Tensor, alpha: Tensor, scale: Tensor, weights: Any, family: str, wrt: tuple[str, ...], mean: bool, dtype: Any
    ) -> Any:
        return tuple(_kernels.reduction(x, alpha, scale, weights, family, list(wrt), mean, dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.wrt = inputs[5]
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:
        found = dict(zip(ctx.wrt, ctx.saved_tensors, strict=True))
        return *(gradient * found[n] if n in found else None for n in _WRT), None, None, None, None, None


# --- what the dispatcher calls


def _named(family: str, names: tuple[str, ...], x: Tensor, alpha: Any, scale: Any, dtype: torch.dtype) -> list[Tensor]:
    """The named outputs for each element, by the route that the call needs."""
    args: tuple[Any, ...] = (x, alpha, scale)
    wanted = _wanted(args) if torch.is_grad_enabled() else (False,) * 3
    if _compiling() or _general() or not _plain(args):
        # With the value, what its backward pass needs.
        more = tuple(n for n, w in zip(_FIRST, wanted, strict=True) if w and names == ("value",))
        x, alpha, scale = _tensors(x, alpha, scale)
        if more and _compiling() and not _general():
            return [_ValueTraced.apply(x, alpha, scale, family, names + more, dtype)[0]]
        return _parts(family, names + more, x, alpha, scale, dtype)[: len(names)]
    if not any(wanted):
        return _kernels.evaluate(family, names, x, alpha, scale, dtype)
    if names == ("value",):
        return [_Value.apply(x, alpha, scale, family, dtype, None)]
    x, alpha, scale = _tensors(x, alpha, scale)
    return _parts(family, names, x, alpha, scale, dtype)


def _composed(
    family: str, x: Tensor, alpha: Any, scale: Any, weights: Any, reduction: str, dtype: torch.dtype
) -> Tensor:
    """The loss in tensor operations around one value for each element; differentiable in the weights too."""
    x, alpha, scale = _masked(weights, x, alpha, scale)
    value = _named(family, ("value",), x, alpha, scale, _kernels.compute_type(dtype))[0]
    return weighed(value, weights, reduction).to(dtype)


def _masked(weights: Tensor | None, x: Tensor, alpha: Any, scale: Any) -> tuple[Tensor, Any, Any]:
    """The arguments, harmless where the weight is 0: later a derivative of NaN there would meet a factor of 0."""
    if weights is None:
        return x, alpha, scale
    none = weights == 0
    alpha, scale = (
        torch.where(none, 1.0, p) if isinstance(p, Tensor) and p.dim() and p.is_floating_point() else p
        for p in (alpha, scale)
    )
    return torch.where(none, 0.0, x), alpha, scale


def weighed(value: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """Values for each element, weighted and reduced; a weight of 0 excludes an element, whatever its value."""
    if weights is None:
        return value if reduction == "none" else _summed(value, (), value.numel() if reduction == "mean" else 1)
    weights = _lifted(weights, value) if reduction == "mean" else weights.to(value.dtype)  # which is no half precision
    value = torch.where(weights == 0, 0.0, value * weights)
    if reduction == "none":
        return value
    count = weights.expand(value.shape).sum() if reduction == "mean" else 1
    return _summed(value, (), count)


def _lifted(weights: Tensor, like: Tensor) -> Tensor:
    """Weights of a mean times a power of two, such that they sum to about 1 over that shape: see `scaling`."""
    if not like.numel():
        return weights.to(like.dtype)
    wide = weights.double()
    fixed = wide.detach()
    first = scaling.inverse_power(torch, abs(fixed).max())  # so that the sum is in reach
    second = scaling.inverse_power(torch, abs((fixed * first).sum()) * (like.numel() / fixed.numel()))
    return (wide * first * second).to(like.dtype)


def _summed(part: Tensor, shape: Sequence[int], count: Any) -> Tensor:
    """The sum to that shape over the count, NaN if that is 0; taken of smaller terms where it overflows otherwise."""
    plain, apart = (p.sum_to_size(*shape) if len(shape) else p.sum() for p in (part, part * scaling.APART))
    found = scaling.divided(torch, plain, apart, count)
    return torch.where(count == 0, math.nan, found) if isinstance(count, Tensor) else found


def weights_for(weights: Any, x: Tensor, shape: torch.Size) -> Tensor:
    """As a tensor that broadcasts to the shape of the result."""
    if not isinstance(weights, Tensor):
        weights = torch.as_tensor(weights, dtype=_kernels.compute_type(x.dtype), device=x.device)
    if weights.is_complex():
        raise TypeError(f"weights has dtype {weights.dtype}, which fastrobust does not take: make it real")
    if weights.device != x.device:
        raise ValueError(f"weights is on {weights.device} and x on {x.device}: move one with .to()")
    if not weights.is_floating_point():
        weights = weights.to(_kernels.compute_type(x.dtype))
    try:
        fits = torch.broadcast_shapes(weights.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not broadcast to the shape {tuple(shape)} of the result"
        )
    return weights


def _filled(results: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
    """The results in the memory of ``out``, where there is some."""
    out = options.get("out")
    if out is None:
        return results
    out = out if isinstance(out, tuple) else (out,)
    if len(out) != len(results):
        raise ValueError(f"out must have an entry for each of {len(results)} results, or None there; got {len(out)}")
    for given, result in zip(out, results, strict=True):
        if given is not None:
            if not isinstance(given, Tensor) or given.shape != result.shape:
                raise ValueError(f"out must be a tensor of shape {tuple(result.shape)}, got {given!r:.200}")
            if not torch.can_cast(result.dtype, given.dtype):
                raise TypeError(f"out of dtype {given.dtype} does not take {result.dtype}: pass a wider one")
            if given.requires_grad or result.requires_grad:
                raise RuntimeError("out= records no gradients: leave it out, or call under torch.no_grad()")
            given.copy_(result)
    return [r if g is None else g for g, r in zip(out, results, strict=True)]


def _options(options: dict[str, Any], x: Any) -> Any:
    """x, in the dtype that is wanted; refuses what a ufunc takes and tensors do not."""
    if unknown := options.keys() - {"out", "dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for tensors, only out and dtype are")
    if options.get("dtype") is None:
        return x
    if options["dtype"] not in _FLOATS:
        raise TypeError(f"dtype must be torch.float16, bfloat16, float32 or float64, got {options['dtype']!r}")
    return x.to(options["dtype"])


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: a tensor, or a tuple of them."""
    _not_recorded()
    if not options and not _compiling() and not _general():
        numbers = _kernels.numbers(family, x, alpha, scale)
        if numbers is not None:
            if not _recorded(x, alpha, scale):
                results = _kernels.quick(family, names, x, *numbers)
                return results[0] if len(names) == 1 else tuple(results)
            if names == ("value",):
                return _Value.apply(x, alpha, scale, family, x.dtype, numbers)
    if options:
        x = _options(options, x)
    dtype, (x, alpha, scale) = _prepared(family, x=x, alpha=alpha, scale=scale)
    _shape(x, alpha, scale)
    results = _named(family, names, x, alpha, scale, dtype)
    if options:
        results = _filled([r.to(options.get("dtype") or dtype) for r in results], options)
    return results[0] if len(names) == 1 else tuple(results)


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights; a weight of 0 excludes an element, whatever its value."""
    _not_recorded()
    dtype, (x, alpha, scale) = _prepared(family, x=_options(options, x), alpha=alpha, scale=scale)
    weights = weights_for(weights, x, _shape(x, alpha, scale))
    found = _named(family, names, *_masked(weights, x, alpha, scale), _kernels.compute_type(dtype))
    results = [weighed(part, weights, "none").to(dtype) for part in found]
    results = _filled(results, options)
    return results[0] if len(names) == 1 else tuple(results)


def partition(names: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    _not_recorded()
    _, (alpha,) = _prepared("loss", alpha=_options(options, alpha))
    results = _filled(_log_z(names, alpha), options)
    return results[0] if len(names) == 1 else tuple(results)


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    _not_recorded()
    if weights is out is None and not _compiling() and not _general():
        numbers = _kernels.numbers(family, x, alpha, scale)
        if numbers is not None:
            if not _recorded(x, alpha, scale):
                found = _kernels.quick_sums(family, wrt, x, *numbers, reduction == "mean")
                return LossGrad(found[0], *(found[wrt.index(n) + 1] if n in wrt else None for n in _WRT))
            if not wrt:
                value = _Reduced.apply(x, alpha, scale, None, family, reduction == "mean", x.dtype)
                return LossGrad(value, None, None, None)
    dtype, args = _prepared(family, x=x, alpha=alpha, scale=scale)
    x, alpha, scale = args
    shape = _shape(x, alpha, scale)
    if weights is not None:
        weights = weights_for(weights, x, shape)
    everything = [*args, weights]
    recording = torch.is_grad_enabled() and any(_wanted(everything))
    fused = weights is None or not weights.requires_grad
    mean = reduction == "mean"
    if _compiling() and not _general() and fused and not (recording and wrt):
        names = tuple(n for n, w in zip(_WRT, _wanted(args), strict=True) if w) if recording else wrt
        found = list(_ReducedTraced.apply(*_tensors(*args), weights, family, names, mean, dtype))
        results = dict(zip(("value", *("d" + n for n in names)), found, strict=True))
    elif _compiling() or _general() or not _plain(everything) or (recording and (wrt or not fused)):
        results = _composed_gradients(family, wrt, args, weights, reduction, dtype)
    elif recording:
        results = {"value": _Reduced.apply(*args, weights, family, mean, dtype)}
    else:
        found = _kernels.reduce(family, wrt, x, alpha, scale, weights, mean, dtype)
        results = dict(zip(("value", *("d" + n for n in wrt)), found, strict=True))
    chosen = ["value", *("d" + n for n in wrt)]
    given = None if out is None else tuple(out[LossGrad._fields.index(n)] for n in chosen)
    filled = _filled([results[n] for n in chosen], {"out": given})
    return LossGrad(**(dict.fromkeys(LossGrad._fields) | dict(zip(chosen, filled, strict=True))))


def _composed_gradients(
    family: str, wrt: tuple[str, ...], args: Any, weights: Any, reduction: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """`reduce` in tensor operations."""
    x, alpha, scale = args
    if not wrt:
        return {"value": _composed(family, x, alpha, scale, weights, reduction, dtype)}
    names = tuple("d" + n for n in wrt)
    value, *each = _named(family, ("value", *names), *_masked(weights, x, alpha, scale), _kernels.compute_type(dtype))
    results = {"value": weighed(value, weights, reduction).to(dtype)}
    count: Any = 1 if reduction == "sum" else value.numel()
    if weights is not None:
        weights = _lifted(weights, value) if reduction == "mean" else weights.to(value.dtype)
        count = weights.expand(value.shape).sum() if reduction == "mean" else 1
    for name, part in zip(names, each, strict=True):
        part = weighed(part, weights, "none")
        like = alpha if name == "dalpha" else scale
        shape = tuple(like.shape) if isinstance(like, Tensor) else ()
        if name == "dx" or tuple(part.shape) == shape:
            results[name] = (part / count).to(dtype)
        else:
            results[name] = _summed(part, shape, count).to(dtype)
    return results
