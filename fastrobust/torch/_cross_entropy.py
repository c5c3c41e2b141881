"""Cross-entropy on tensors: the kernels with derivatives of their own, or tensor operations that differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from .. import _cross_entropy as rows
from .. import _row_operations as row_operations
from .._call import check_reduction
from .._row_operations import Given, Operations, composed
from .._samples import OPTIONS, checked_axis, checked_index, checked_options
from . import _kernels
from ._context import ordinary, refuse_jit_trace
from ._modules import Reduction

__all__ = [
    "HALVES",
    "OPERATIONS",
    "CrossEntropyLoss",
    "array_over",
    "loss",
    "loss_and_grad",
    "plain",
    "tensor_over",
    "transformed",
]

Option = float | Tensor
_PLAIN = (1.0, 0.0, 0.0)  # the options that change nothing
HALVES = (torch.float16, torch.bfloat16)
OPERATIONS = Operations(torch, torch.movedim, torch.logsumexp, Tensor.detach)


def loss(x: Tensor, call: Given, options: tuple[Option, ...]) -> Tensor:
    """The loss, differentiable: by the kernels for plain tensors, else by operations on tensors."""
    refuse_jit_trace()
    checked_options(options, (Tensor,))
    if not isinstance(x, Tensor) or not isinstance(call.target, Tensor):
        raise TypeError(f"x and target must be tensors, got {type(x).__name__} and {type(call.target).__name__}")
    if x.dtype in HALVES:  # computed in float32, and rounded once
        return loss(x.float(), call, options).to(x.dtype)
    if not x.is_floating_point():
        x = x.to(torch.float64)
    if not _usable(x, call, options):
        return _composed(x, call, options)
    given = [x, *[option if isinstance(option, Tensor) else None for option in options]]
    if torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in given):
        value: Tensor = _CrossEntropy.apply(call, options, *given)
        return value
    found: Tensor = _evaluated(x, call, options, ()).value
    return found


def transformed(x: Tensor, call: Given, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of the cross-entropy of each sample, weighted, or its sum or mean."""
    return _of_samples(x, call, lambda x, plain: function(loss(x, plain, _PLAIN)))


def by_class(x: Tensor, call: Given, function: Callable[..., Tensor]) -> Tensor:
    """A function of scores along the last axis and of where the right class is; weighted and reduced.

    It gets the library, the scores, that, and the numbers of the classes.
    """

    def each(x: Tensor, plain: Given) -> Tensor:
        z = torch.where(plain.weights[..., None], x.movedim(plain.axis, -1), 0.0)
        places = torch.arange(z.shape[-1], device=x.device)
        right = places == plain.target[..., None]
        return torch.where(right.any(-1), function(torch, z, right, places), torch.nan)

    return _of_samples(x, call, each)


def _of_samples(x: Tensor, call: Given, function: Callable[[Tensor, Given], Tensor]) -> Tensor:
    """A function of each sample, weighted, or its sum or mean; of indices of classes."""
    if x.dtype in HALVES:
        return _of_samples(x.float(), call, function).to(x.dtype)
    if not isinstance(call.target, Tensor) or call.target.is_floating_point() or call.target.dtype is torch.bool:
        raise TypeError("target must be a tensor of class indices, integers")
    axis = checked_axis(tuple(x.shape), tuple(call.target.shape), "i", call)
    if x.is_cpu and _usable(x, call, ()):  # where values are there to be looked at, for nothing
        checked_index(array_over(call.target), x.shape[axis], call.ignore_index)
    given, zero = _floating(call, x, call.target.long()), torch.zeros((), dtype=x.dtype, device=x.device)
    places = torch.arange(x.shape[axis], device=x.device)
    found: Tensor = row_operations.transformed(torch, zero, places, given, lambda plain: function(x, plain))
    return found


def loss_and_grad(x: Tensor, call: Given, options: tuple[Option, ...], wrt: tuple[str, ...]) -> rows.CrossEntropyGrad:
    """The loss and its derivatives, without a graph, by the kernels."""
    wide = x.float() if x.dtype in HALVES else x
    if not _usable(wide, call, options):
        raise TypeError("value_and_grad takes plain tensors on one device; let autograd differentiate others")
    found = _evaluated(wide, call, options, wrt)
    dtype = x.dtype if x.is_floating_point() else torch.float64
    return rows.CrossEntropyGrad(*[None if part is None else part.to(dtype) for part in found])


def _usable(x: Tensor, call: Given, options: tuple[Option, ...]) -> bool:
    """Tell whether the kernels take this, constant but for x and the options."""
    constant = [v for v in (call.target, call.weights, call.class_weights) if isinstance(v, Tensor)]
    single = all(o.is_cpu and o.numel() == 1 for o in options if isinstance(o, Tensor))  # read without waiting
    given = [x, *options, call.target, call.weights, call.class_weights]
    return single and not any(v.requires_grad for v in constant) and plain(given)


def plain(values: Sequence[Any]) -> bool:
    """Tell whether the kernels take these tensors, which are ordinary ones on one device, or numbers."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors[0].is_cpu and any(not isinstance(v, Tensor | float | int | None) for v in values):
        return False  # arrays of NumPy and lists
    return ordinary() and all(
        type(v) in _kernels.PLAIN
        and (v.is_cpu or v.is_cuda)
        and v.device == tensors[0].device
        and v.layout is torch.strided
        for v in tensors
    )


def array_over(value: Any) -> Any:
    """The array over a tensor's memory; what is none as it is."""
    if not isinstance(value, Tensor):
        return value
    return _kernels.array_of(value.float() if value.dtype is torch.bfloat16 else value)


def tensor_over(part: Any, dtype: torch.dtype) -> Tensor:
    """The tensor over an array's memory, or of a number."""
    if isinstance(part, np.generic):
        return torch.tensor(part.item(), dtype=dtype)
    found: Tensor = torch.from_numpy(part) if isinstance(part, np.ndarray) else from_dlpack(part)
    return found.to(dtype)


def _evaluated(x: Tensor, call: Given, options: tuple[Option, ...], wrt: tuple[str, ...]) -> rows.CrossEntropyGrad:
    """What the kernels give, as tensors like x."""
    numbers = tuple(float(option) for option in options)
    with _kernels.on(x, "x"):  # arrays are made of tensors, and tensors of arrays, on PyTorch's stream
        target, weights, class_weights = map(array_over, (call.target, call.weights, call.class_weights))
        given = Given(target, call.axis, weights, class_weights, *call[4:])
        found = rows.evaluated(array_over(x), given, numbers, wrt)
        return rows.CrossEntropyGrad(*[None if part is None else tensor_over(part, x.dtype) for part in found])


class _CrossEntropy(torch.autograd.Function):
    """The loss with the derivatives of the same pass; those of these by tensor operations."""

    @staticmethod
    def forward(ctx: Any, call: Given, options: tuple[Option, ...], x: Tensor, *tensors: Tensor | None) -> Tensor:
        """The loss; ``tensors`` are the options that are, by which they are followed."""
        names = ("x", *OPTIONS)
        ctx.wrt = tuple(name for name, needed in zip(names, ctx.needs_input_grad[2:], strict=True) if needed)
        ctx.call, ctx.options = call, options
        ctx.save_for_backward(x, *tensors)
        value, *ctx.slopes = _evaluated(x, call, options, ctx.wrt)
        made: Tensor = value
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """The derivatives times what comes; where they are to be differentiated, by operations that are."""
        x, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            options = tuple(o if t is None else t for o, t in zip(ctx.options, tensors, strict=True))
            wanted = [value for value, need in zip((x, *tensors), needed, strict=True) if need]
            found = iter(torch.autograd.grad(_composed(x, ctx.call, options), wanted, gradient, create_graph=True))
            return None, None, *[next(found) if need else None for need in needed]
        # Handed over, and computed again if this is called again, so that the large one need not be copied.
        slopes = ctx.slopes or _evaluated(x, ctx.call, ctx.options, ctx.wrt)[1:]
        ctx.slopes = None
        dx, *others = slopes
        each = ctx.call.reduction == "none"
        if dx is not None and (each or gradient.is_cuda or float(gradient) != 1.0):  # without waiting for a GPU
            dx.mul_(gradient.unsqueeze(ctx.call.axis) if each else gradient)
        pairs = zip(others, tensors, strict=True)
        by_option = [None if s is None else (s * gradient).sum().to(t.dtype).reshape(t.shape) for s, t in pairs]
        return None, None, dx, *by_option


def _floating(call: Given, x: Tensor, target: Tensor) -> Given:
    """The arguments with that target, and weights that are tensors like x."""

    def like(value: Any) -> Any:
        return None if value is None else torch.as_tensor(value, device=x.device).to(x.dtype)

    return Given(target, call.axis, like(call.weights), like(call.class_weights), *call[4:])


def _composed(x: Tensor, call: Given, options: tuple[Option, ...]) -> Tensor:
    """The loss in operations on tensors, differentiable to any order."""
    by_index = not call.target.is_floating_point()
    kind = "b" if call.target.dtype is torch.bool else "i" if by_index else "f"
    checked_axis(tuple(x.shape), tuple(call.target.shape), kind, call)
    given = _floating(call, x, call.target.long() if by_index else call.target.to(x.dtype))
    places = torch.arange(x.shape[call.axis], device=x.device)
    found: Tensor = composed(OPERATIONS, x, places, given, by_index, options)
    return found


class CrossEntropyLoss(nn.Module):
    """Cross-entropy of logits and classes, as `fastrobust.losses.cross_entropy`, with the arguments of `torch.nn`'s.

    Parameters
    ----------
    weight : Tensor of shape (K,), optional
        A factor for each class. It multiplies a sample's whole loss, its smoothed part included.
    ignore_index : int
        The index of samples that are left out.
    reduction : {"none", "sum", "mean"}
        "mean" divides by the sum of the weights of the samples' classes.
    label_smoothing : float
    temperature, z_loss : float, Tensor or torch.nn.Parameter
        See `fastrobust.losses.cross_entropy`; a Parameter learns.
    empty : {"nan", "zero"}
        The mean if all samples are left out.

    Examples
    --------
    >>> import torch
    >>> import fastrobust.torch as frt
    >>> logits = torch.tensor([[40.0, 0.0]], requires_grad=True)
    >>> frt.CrossEntropyLoss()(logits, torch.tensor([0])).backward()
    >>> logits.grad
    tensor([[-4.2484e-18,  4.2484e-18]])
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
        *,
        temperature: Option = 1.0,
        z_loss: Option = 0.0,
        empty: str = "nan",
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing
        self.temperature, self.z_loss, self.empty = temperature, z_loss, empty

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss; classes are along the second axis of the input, the first if there is no other."""
        by_index = not target.is_floating_point()
        call = Given(
            target, min(1, input.ndim - 1), None, self.weight, self.ignore_index if by_index else None, "all",
            self.reduction, self.empty,
        )  # fmt: skip
        return loss(input, call, (self.temperature, self.label_smoothing, self.z_loss))

    def extra_repr(self) -> str:
        """The options, for the module's repr."""
        return f"ignore_index={self.ignore_index}, reduction={self.reduction!r}, label_smoothing={self.label_smoothing}"
