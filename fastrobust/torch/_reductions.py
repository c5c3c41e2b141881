"""Sums and weighted means of the loss, and their rules of differentiation."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..kernels.arithmetic import scaling
from ..kernels.losses.signatures import LOSS
from . import _kernels, _private
from ._context import compiling, general, refuse_jit_trace
from ._rules import named

WRT = LOSS.operands


def fusible(values: Sequence[Any]) -> bool:
    """Tell whether these fit one pass of ordinary autograd: plain tensors of one dtype, the last of them constant."""
    refuse_jit_trace()
    if compiling() or general() or not torch.is_grad_enabled():
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


class _Reduced(torch.autograd.Function):
    """The sum or mean, with d/dx for each element and the parameters' gradients from the same pass, which it keeps.

    Second derivatives need x again: they are there as long as somebody else keeps it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Any, scale: Any, weights: Any, family: str, mean: bool, dtype: Any) -> Any:
        wrt = tuple(n for n, need in zip(WRT, ctx.needs_input_grad, strict=False) if need)
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
        self.version = 0 if tensor.is_inference() else _private.version(tensor)

    def alias(self) -> Tensor:
        """A view of the tensor, lest its share in another argument be counted in `pulled_back` and by the engine."""
        found = self.reference()
        if found is None or (not found.is_inference() and _private.changed(found, self.version)):
            raise RuntimeError(
                "create_graph=True through reduction='sum' or 'mean' needs the residuals and parameters as they were, "
                f"but one was {'freed' if found is None else 'changed in place'}: keep the tensor that was passed "
                "(the difference with the target, not only its parts), or take reduction='none' and reduce the result"
            )
        return found.view_as(found)


def watched(x: Tensor, others: Sequence[Any]) -> list[Any]:
    """The arguments that `pulled_back` needs for second derivatives; no memory is held of x and of what is as large."""
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
        return *(gradient * found[n] if n in found else None for n in WRT), None, None, None, None, None


# --- in tensor operations, around one value for each element


def _composed(
    family: str, x: Tensor, alpha: Any, scale: Any, weights: Any, reduction: str, dtype: torch.dtype
) -> Tensor:
    """The loss in tensor operations around one value for each element; differentiable in the weights too."""
    x, alpha, scale = masked(weights, x, alpha, scale)
    value = named(family, ("value",), x, alpha, scale, _kernels.compute_type(dtype))[0]
    return weighed(value, weights, reduction).to(dtype)


def composed_gradients(
    family: str, wrt: tuple[str, ...], args: Any, weights: Any, reduction: str, dtype: torch.dtype
) -> dict[str, Tensor]:
    """`reduce` in tensor operations."""
    x, alpha, scale = args
    if not wrt:
        return {"value": _composed(family, x, alpha, scale, weights, reduction, dtype)}
    names = tuple("d" + n for n in wrt)
    value, *each = named(family, ("value", *names), *masked(weights, x, alpha, scale), _kernels.compute_type(dtype))
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


def masked(weights: Tensor | None, x: Tensor, alpha: Any, scale: Any) -> tuple[Tensor, Any, Any]:
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
