"""The rules of differentiation of a definition's outputs for each element, of any order.

Derivatives are again outputs of the kernels, or follow from them by the definition's `slopes`, so that every order is
right.  Sums and means are in `_reductions`, which stands on `named`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..kernels.losses import catalogue
from ..kernels.losses.definition import Definition
from . import _kernels, _private
from ._arguments import tensors
from ._context import compiling, few_levels, general, one_forward, plain, requires

if TYPE_CHECKING:
    from .._types import Array, Namespace
    from ._types import Context, Gradients, Operands, Value


def named(definition: Definition, names: tuple[str, ...], operands: Operands, dtype: torch.dtype) -> list[Tensor]:
    """The named outputs for each element, by the route that the call needs."""
    wanted = requires(operands) if torch.is_grad_enabled() else (False,) * len(operands)
    if compiling() or general() or not plain(operands):
        # With the value, what its backward pass needs.
        first = zip(definition.gradients, wanted, strict=True)
        more = tuple(n for n, w in first if w and names == ("value",))
        operands = tensors(operands)
        if more and compiling() and not general():
            return [_ValueTraced.apply(definition, names + more, dtype, *operands)[0]]
        return _parts(definition, names + more, operands, dtype)[: len(names)]
    if not any(wanted):
        return _kernels.evaluate(definition, names, operands, dtype)
    if names == ("value",):
        return [_Value.apply(definition, dtype, None, *operands)]
    return _parts(definition, names, tensors(operands), dtype)


def _parts(
    definition: Definition, names: tuple[str, ...], operands: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """The named outputs, differentiable; all operands are tensors."""
    if compiling():
        if general():
            return _expanded(definition, names, operands, dtype)
        if not (torch.is_grad_enabled() and any(requires(operands))):
            # Dynamo would call a Function's forward with the context before any number of operands.
            return _kernels.elementwise(list(operands), definition.name, list(names), dtype)
        return list(_Traced.apply(definition, names, dtype, *operands))
    one_forward()
    return list(_Parts.apply(definition, names, dtype, *operands))


class _Library:
    """PyTorch, as a definition's rules of differentiation need it; they compute in double."""

    xp: Namespace = torch

    def __init__(
        self, definition: Definition, operands: Sequence[Tensor], dtype: torch.dtype, have: dict[str, Tensor]
    ) -> None:
        self.definition, self.operands, self.dtype = definition, operands, dtype
        self.have = have  # outputs at hand

    def outputs(self, names: Sequence[str]) -> list[Tensor]:
        """Outputs of this definition, of its dtype."""
        missing = tuple(n for n in names if n not in self.have)
        if missing:
            parts = _parts(self.definition, missing, self.operands, self.dtype)
            self.have.update(zip(missing, parts, strict=True))
        return [self.have[n] for n in names]

    def get(self, *names: str) -> list[Tensor]:
        """Outputs of this definition, in double."""
        return [part.double() for part in self.outputs(names)]

    def evaluate(self, definition: Definition, names: Sequence[str], *operands: Tensor) -> list[Tensor]:
        """Outputs of another definition, in double."""
        return _parts(definition, tuple(names), operands, torch.float64)

    def fold(self, step: Callable[..., Value], total: Value, rows: Sequence[tuple[float, ...]]) -> Value:
        """Return step(total, *row) after the last of the rows."""
        for row in rows:
            total = step(total, *row)
        return total


def _slopes(
    definition: Definition, name: str, operands: Sequence[Tensor], dtype: torch.dtype, have: dict[str, Tensor],
    wanted: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """Derivatives of one output in the operands, for each element, those wanted; ``have`` are outputs at hand."""
    library = _Library(definition, operands, dtype, have)
    if name == "value":
        left = iter(library.outputs([n for n, w in zip(definition.gradients, wanted, strict=True) if w]))
        return [next(left) if w else None for w in wanted]
    if definition.slopes is None:
        raise NotImplementedError(
            f"a derivative of {name} was asked for: the definition of {definition.title} has none"
        )
    slopes: list[Tensor | None] = [None] * len(wanted)
    left_to_rules = list(wanted)
    if compiling() and name in definition.gradients:  # the compiler would trace hundreds of operations
        i = definition.gradients.index(name)
        for j, operand in enumerate(definition.operands):
            if wanted[j] and (name, operand) in definition.costly:
                slopes[j] = _hessian(list(operands), definition.name, dtype)[_pair(len(operands), i, j)]
                left_to_rules[j] = False
    if any(left_to_rules):
        rows = definition.slopes(library, name, [operand.double() for operand in operands], left_to_rules)
        slopes = [r.to(dtype) if w else before for r, w, before in zip(rows, left_to_rules, slopes, strict=True)]
    return slopes


def _pair(count: int, i: int, j: int) -> int:
    """The place of a pair of operands among all pairs, in order, the first of each not after the second."""
    i, j = min(i, j), max(i, j)
    return i * count - i * (i - 1) // 2 + j - i


def _sum_to(gradient: Tensor, like: Tensor) -> Tensor:
    """The gradient summed over the axes along which its operand was broadcast, of the operand's shape and dtype."""
    if gradient.shape != like.shape:
        gradient = gradient.sum_to_size(like.shape) if like.dim() else gradient.sum()
    return gradient if gradient.dtype == like.dtype else gradient.to(like.dtype)


class _Traced(torch.autograd.Function):
    """The named outputs.  The backward pass takes the first derivatives of the value from among them if they are."""

    @staticmethod
    def forward(
        definition: Definition, names: tuple[str, ...], dtype: torch.dtype, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        """The outputs from the kernels, from each process's part of DTensors, or from the operator."""
        if not compiling() and not _private.modes() and plain(operands):
            return tuple(_kernels.evaluate(definition, names, operands, dtype))
        if not compiling() and any(type(t).__name__ == "DTensor" for t in operands):
            return _kernels.sharded(definition, names, operands, dtype)
        return tuple(_kernels.elementwise(list(operands), definition.name, list(names), dtype))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the operands, and the outputs that `_slopes` may use again."""
        ctx.definition, ctx.names, ctx.dtype, *operands = inputs
        kept = [part for name, part in zip(ctx.names, output, strict=True) if name != "value"]
        ctx.save_for_backward(*operands, *kept)
        ctx.save_for_forward(*operands, *kept)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Context, *gradients: Tensor | None) -> Gradients:
        """The sum over the outputs of gradient times slope, for each operand that wants it."""
        operands, have = _saved(ctx)
        wanted = ctx.needs_input_grad[3:]
        total: list[Tensor | None] = [None] * len(operands)
        for name, gradient in zip(ctx.names, gradients, strict=True):
            if gradient is None:
                continue
            for i, slope in enumerate(_slopes(ctx.definition, name, operands, ctx.dtype, have, wanted)):
                if slope is not None:
                    part = _sum_to(gradient * slope, operands[i])
                    before = total[i]
                    total[i] = part if before is None else before + part
        return None, None, None, *total

    @staticmethod
    def vmap(
        info: object,
        in_dims: tuple[int | None, ...],
        definition: Definition,
        names: tuple[str, ...],
        dtype: torch.dtype,
        *operands: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """The outputs under vmap: once, of operands that broadcast."""
        outputs = _parts(definition, names, _kernels.aligned(in_dims[3:], operands), dtype)
        return tuple(outputs), (0,) * len(names)


def _saved(ctx: Context) -> tuple[Sequence[Tensor], dict[str, Tensor]]:
    """The operands that `_Traced` kept, and the outputs by their names."""
    count = len(ctx.definition.operands)
    operands, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
    return operands, dict(zip((n for n in ctx.names if n != "value"), kept, strict=True))


class _Parts(_Traced):
    """`_Traced` with a rule for forward mode, which the compiler does not take."""

    @staticmethod
    def jvp(ctx: Context, *tangents: Any) -> tuple[Tensor, ...]:
        """The sum over the operands of slope times tangent, for each output; None is no tangent."""
        operands, have = _saved(ctx)
        tangents = tangents[3:]
        wanted = [t is not None for t in tangents]
        derivatives = []
        for name in ctx.names:
            slopes = _slopes(ctx.definition, name, operands, ctx.dtype, have, wanted)
            products = [s * t for s, t in zip(slopes, tangents, strict=True) if s is not None]
            derivatives.append(sum(products[1:], products[0]))
        shape = _kernels.broadcast(operands)  # which a rule need not have
        return tuple(r if r.shape == shape else r.expand(shape) for r in derivatives)


# --- the compiler, through which neither rules for `torch.func` nor many operations go


def _expanded(
    definition: Definition, names: tuple[str, ...], operands: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """The outputs as polynomials in x - x.detach() and so on, all 0, around the outputs of operators.

    Dynamo traces neither our rules for `torch.func` nor an operator's; it takes them for constants, silently.  Exact
    for two derivatives of the value and one of anything else.
    """
    few_levels(2 if names == ("value",) else 1)
    fixed = [a.detach() for a in operands]
    steps = [torch.where(torch.isfinite(f), a - f, 0.0) for a, f in zip(operands, fixed, strict=True)]
    needed = list(dict.fromkeys((*names, *definition.gradients, *definition.others)))
    have = dict(zip(needed, _kernels.elementwise(fixed, definition.name, needed, dtype), strict=True))
    pairs, count = _hessian(fixed, definition.name, dtype), len(fixed)
    rows = {name: [pairs[_pair(count, i, j)] for j in range(count)] for i, name in enumerate(definition.gradients)}
    polynomials = []
    for name in names:
        if name == "value":
            slopes: Any = [_finite(have[n]) + 0.5 * _dot(rows[n], steps) for n in definition.gradients]
        elif name in rows:
            slopes = rows[name]
        else:
            slopes = _slopes(definition, name, fixed, dtype, have, (True,) * count)
        polynomials.append((have[name] + _dot(slopes, steps)).to(dtype))
    return polynomials


def _finite(slope: Tensor) -> Tensor:
    """The slope as a factor that leaves 0 what is 0: without NaN and infinity."""
    return torch.nan_to_num(slope)


def _dot(factors: Sequence[Tensor], steps: Sequence[Tensor]) -> Tensor:
    """The sum of slopes times steps."""
    return sum(_finite(f) * s for f, s in zip(factors[1:], steps[1:], strict=True)) + _finite(factors[0]) * steps[0]


def _second(operands: list[Tensor], definition: str, dtype: torch.dtype) -> list[Tensor]:
    """The second derivatives of the value, in all pairs of operands: see `_pair`."""
    meant, shape = catalogue.named(definition), _kernels.broadcast(operands)
    slopes: list[Any] = []
    for i, name in enumerate(meant.gradients):
        wanted = [j >= i for j in range(len(operands))]
        slopes += _slopes(meant, name, operands, dtype, {}, wanted)[i:]
    return [slope.expand(shape).contiguous() for slope in slopes]


# An operator, since the compiler would trace hundreds of operations.
_kernels.register("hessian(Tensor[] operands, str definition, ScalarType dtype) -> Tensor[]", _second)
_hessian = torch.ops.fastrobust.hessian.default


@torch.library.register_fake("fastrobust::hessian")  # type: ignore[untyped-decorator]
def _(operands: list[Tensor], definition: str, dtype: torch.dtype) -> list[Tensor]:
    """Tensors like the results: one for each pair, of the common shape."""
    shape, count = _kernels.broadcast(operands), len(operands)
    return [operands[0].new_empty(shape, dtype=dtype) for _ in range(count * (count + 1) // 2)]


@torch.library.register_vmap("fastrobust::hessian")  # type: ignore[untyped-decorator]
def _(
    info: object, in_dims: Sequence[Sequence[int | None]], operands: list[Tensor], definition: str, dtype: torch.dtype
) -> tuple[list[Tensor], list[int]]:
    """The operator under vmap: once, on operands that broadcast."""
    pairs = _hessian(_kernels.aligned(in_dims[0], operands), definition, dtype)
    return pairs, [0] * len(pairs)


# --- ordinary autograd on plain tensors


@functools.cache
def _with_slopes(definition: Definition, wanted: tuple[bool, ...]) -> tuple[str, ...]:
    """The names of the value and of the derivatives in the operands that want one."""
    return ("value", *(n for n, w in zip(definition.gradients, wanted, strict=True) if w))


class _Value(torch.autograd.Function):
    """The value for each element, and the derivatives that are needed, in one pass."""

    @staticmethod
    def forward(
        ctx: Context, definition: Definition, dtype: torch.dtype, rest: list[Array | float] | None, *operands: Any
    ) -> Tensor:
        """The value, by the short way if ``rest`` is what `rest_of` found; keeps the slopes that are wanted."""
        names = _with_slopes(definition, ctx.needs_input_grad[3:])
        if rest is not None:
            value, *slopes = _kernels.quick(definition, names, operands[0], rest)
        else:
            value, *slopes = _kernels.evaluate(definition, names, operands, dtype)
        ctx.definition, ctx.dtype = definition, dtype
        kept = [operand if isinstance(operand, Tensor) else None for operand in operands]
        ctx.numbers = [operand if k is None else None for operand, k in zip(operands, kept, strict=True)]
        ctx.save_for_backward(*kept, *slopes)
        return value

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> Gradients:
        """The slopes that were kept times the gradient; anew and differentiable under create_graph=True."""
        wanted, saved = ctx.needs_input_grad[3:], ctx.saved_tensors
        operands, slopes = saved[: len(wanted)], saved[len(wanted) :]
        if torch.is_grad_enabled():  # create_graph=True
            full = tensors([n if t is None else t for n, t in zip(ctx.numbers, operands, strict=True)])
            slopes = [s for s in _slopes(ctx.definition, "value", full, ctx.dtype, {}, wanted) if s is not None]
        left = iter(slopes)
        return (
            None,
            None,
            None,
            *(_sum_to(gradient * next(left), o) if w else None for o, w in zip(operands, wanted, strict=True)),
        )


class _ValueTraced(torch.autograd.Function):
    """`_Value` for the compiler: the value and the first derivatives named after it, which have none themselves."""

    @staticmethod
    def forward(
        definition: Definition, names: tuple[str, ...], dtype: torch.dtype, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        """The outputs, by the operator."""
        return tuple(_kernels.elementwise(list(operands), definition.name, list(names), dtype))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the operands, for their shapes and dtypes, and the first derivatives."""
        ctx.definition, ctx.names, _, *operands = inputs
        ctx.save_for_backward(*operands, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Context, gradient: Tensor, *_: object) -> Gradients:
        """The derivatives that were kept times the gradient of the value."""
        gradients = ctx.definition.gradients
        operands, slopes = ctx.saved_tensors[: len(gradients)], ctx.saved_tensors[len(gradients) :]
        by_name = dict(zip(ctx.names[1:], slopes, strict=True))
        pairs = zip(gradients, operands, strict=True)
        return None, None, None, *(_sum_to(gradient * by_name[n], o) if n in by_name else None for n, o in pairs)
