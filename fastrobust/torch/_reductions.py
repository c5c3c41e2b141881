"""Sums and weighted means of a definition's value, and their rules of differentiation."""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..kernels.arithmetic import scaling
from ..kernels.losses.definition import Definition
from . import _kernels, _private
from ._context import ordinary, refuse_jit_trace
from ._rules import named

if TYPE_CHECKING:
    from ._types import Context, Gradients, Operand, Operands


def fusible(values: Sequence[Any]) -> bool:
    """Tell whether these fit one pass of ordinary autograd: plain tensors of one dtype, the last of them constant."""
    refuse_jit_trace()
    if not ordinary() or not torch.is_grad_enabled():
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
    return wanted and constant and dtype in _kernels.WIDE and device.type in ("cpu", "cuda")


@functools.cache
def _chosen(definition: Definition, wanted: tuple[bool, ...]) -> tuple[str, ...]:
    """The names of the operands that want a gradient."""
    return tuple(name for name, w in zip(definition.operands, wanted, strict=True) if w)


class _Reduced(torch.autograd.Function):
    """The sum or mean, with the data's derivatives for each element and the parameters' gradients, which it keeps.

    All are from the same pass.  Second derivatives need the data again: they are there as long as somebody else keeps
    them.  The engine sums gradients up where the data broadcast.
    """

    @staticmethod
    def forward(
        ctx: Context,
        definition: Definition,
        mean: bool,
        dtype: torch.dtype,
        weights: Tensor | None,
        *operands: Operand,
    ) -> Tensor:
        """The sum or mean; keeps the gradients that are wanted."""
        wrt = _chosen(definition, ctx.needs_input_grad[4:])
        value, *gradients = _kernels.sums(definition, wrt, operands, weights, mean, dtype)
        ctx.save_for_backward(*gradients)
        ctx.again = definition, "mean" if mean else "sum", dtype
        ctx.args = watched((*operands, weights))
        return value

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> Gradients:
        """The gradients that were kept, times the one that comes."""
        definition, reduction, dtype = ctx.again

        def again(*args: Any) -> Tensor:
            *operands, weights = args
            return _composed(definition, operands, weights, reduction, dtype)

        return None, None, None, None, *pulled_back(ctx, ctx.needs_input_grad[4:], gradient, again)


def pulled_back(
    ctx: Context, wanted: Sequence[bool], gradient: Tensor, again: Callable[..., Tensor]
) -> list[Tensor | None]:
    """The gradients that ``ctx`` keeps times the one that comes, for those of the first arguments that want one.

    With create_graph=True by way of ``again``, which computes the value anew from ``ctx.args``, differentiably.
    """
    kept = ctx.saved_tensors
    if torch.is_grad_enabled():
        args: list[Any] = [a.alias() if isinstance(a, Watched) else a for a in ctx.args]
        inputs = [a for a, w in zip(args, wanted, strict=False) if w]
        left = iter(torch.autograd.grad(again(*args), inputs, gradient, create_graph=True))
    else:
        left = iter([gradient * k for k in kept])
    return [next(left) if w else None for w in wanted]


class Watched:
    """A tensor as it is now; ``weak``: if somebody else keeps it."""

    def __init__(self, tensor: Tensor, weak: bool) -> None:
        self.reference: Callable[[], Tensor | None] = weakref.ref(tensor) if weak else lambda: tensor
        self.version = 0 if tensor.is_inference() else _private.version(tensor)

    def alias(self) -> Tensor:
        """A view of the tensor, lest its share in another argument be counted in `pulled_back` and by the engine."""
        tensor = self.reference()
        if tensor is None or (not tensor.is_inference() and _private.changed(tensor, self.version)):
            raise RuntimeError(
                "create_graph=True through reduction='sum' or 'mean' needs the residuals and parameters as they were, "
                f"but one was {'freed' if tensor is None else 'changed in place'}: keep the tensor that was passed "
                "(the difference with the target, not only its parts), or take reduction='none' and reduce the result"
            )
        return tensor.view_as(tensor)


def watched(args: Operands) -> list[Watched | Operand | None]:
    """The arguments that `pulled_back` needs for second derivatives, the residuals first.

    No memory is held of these and of what is as large.
    """
    x, *others = args
    most = max(1024, x.numel() // 8)
    return [Watched(x, True), *(Watched(a, a.numel() > most) if isinstance(a, Tensor) else a for a in others)]


class _ReducedTraced(torch.autograd.Function):
    """`_Reduced` for the compiler: the sum or mean, and its gradients."""

    @staticmethod
    def forward(
        definition: Definition,
        wrt: tuple[str, ...],
        mean: bool,
        dtype: torch.dtype,
        weights: Tensor | None,
        *operands: Tensor,
    ) -> tuple[Tensor, ...]:
        """The sum or mean, and its gradients, by the operator."""
        return tuple(_kernels.reduction(list(operands), weights, definition.name, list(wrt), mean, dtype))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep the gradients, which have none themselves."""
        ctx.definition, ctx.wrt = inputs[:2]
        ctx.save_for_backward(*output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Context, gradient: Tensor, *_: object) -> Gradients:
        """The gradients that were kept, times the one that comes for the sum or mean."""
        by_name = dict(zip(ctx.wrt, ctx.saved_tensors, strict=True))
        names = ctx.definition.operands
        return None, None, None, None, None, *(gradient * by_name[n] if n in by_name else None for n in names)


# --- in tensor operations, around one value for each element


def _composed(
    definition: Definition, operands: Operands, weights: Tensor | None, reduction: str, dtype: torch.dtype
) -> Tensor:
    """The sum or mean in tensor operations around one value for each element; differentiable in the weights too."""
    operands = masked(definition, operands, weights)
    value = named(definition, ("value",), operands, _kernels.compute_type(dtype))[0]
    return weighed(value, weights, reduction).to(dtype)


def composed_gradients(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    weights: Tensor | None,
    reduction: str,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The sum or mean, and its gradients by their names, in tensor operations, which are differentiable again."""
    if not wrt:
        return {"value": _composed(definition, operands, weights, reduction, dtype)}
    names = tuple("d" + n for n in wrt)
    harmless = masked(definition, operands, weights)
    value, *each = named(definition, ("value", *names), harmless, _kernels.compute_type(dtype))
    results = {"value": weighed(value, weights, reduction).to(dtype)}
    count: Operand = 1 if reduction == "sum" else value.numel()
    if weights is not None:
        weights = _lifted(weights, value) if reduction == "mean" else weights.to(value.dtype)
        count = weights.expand(value.shape).sum() if reduction == "mean" else 1
    by_name = dict(zip(definition.operands, operands, strict=True))
    for name, part in zip(wrt, each, strict=True):
        part, like = weighed(part, weights, "none"), by_name[name]
        shape = tuple(like.shape) if isinstance(like, Tensor) else ()
        if name in definition.data or tuple(part.shape) == shape:
            results["d" + name] = (part / count).to(dtype)
        else:
            results["d" + name] = _summed(part, shape, count).to(dtype)
    return results


def masked(definition: Definition, operands: Operands, weights: Tensor | None) -> list[Operand]:
    """The operands, harmless where the weight is 0: later a derivative of NaN there would meet a factor of 0."""
    if weights is None:
        return list(operands)
    none = weights == 0
    return [
        torch.where(none, definition.harmless(name), operand)
        if isinstance(operand, Tensor) and operand.is_floating_point() and (operand.dim() or name in definition.data)
        else operand
        for name, operand in zip(definition.operands, operands, strict=True)
    ]


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


def _summed(part: Tensor, shape: Sequence[int], count: Operand) -> Tensor:
    """The sum to that shape over the count, NaN if that is 0; taken of smaller terms where it overflows otherwise."""
    plain, apart = (p.sum_to_size(*shape) if len(shape) else p.sum() for p in (part, part * scaling.APART))
    total = scaling.divided(torch, plain, apart, count)
    return torch.where(count == 0, math.nan, total) if isinstance(count, Tensor) else total
