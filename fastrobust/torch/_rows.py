"""Losses of rows on tensors: by the kernels with derivatives from the same pass, or by operations; see `_row_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _row_loss as rows
from .._row_loss import Call, Task
from .._row_operations import weighed
from . import _kernels
from ._context import refuse_jit_trace
from ._cross_entropy import HALVES, OPERATIONS, array_over, plain, tensor_over

__all__ = ["derivatives_of", "value_of"]


def value_of(task: Task, data: list[Any], numbers: list[Any], call: Call) -> Tensor:
    """The loss, differentiable: by the kernels for plain tensors, else by operations on tensors."""
    refuse_jit_trace()
    data, dtype = _prepared(task, data)
    if not _usable([*data, *numbers], call.weights):
        return _composed(task, data, numbers, call).to(dtype)
    tensors = [*data, *(value for value in numbers if isinstance(value, Tensor))]
    if torch.is_grad_enabled() and any(value.requires_grad for value in tensors):
        data = torch.broadcast_tensors(*data)
        value: Tensor = _Rows.apply(
            task, call, [None if isinstance(v, Tensor) else v for v in numbers], *data, *numbers
        )
        return value.to(dtype)
    found: Tensor = _evaluated(task, data, numbers, call, ())[0]
    return found.to(dtype)


def derivatives_of(task: Task, data: list[Any], numbers: list[Any], call: Call, wrt: tuple[str, ...]) -> list[Any]:
    """The loss and its derivatives, without a graph, by the kernels."""
    data, dtype = _prepared(task, data)
    if not _usable([*data, *numbers], call.weights):
        raise TypeError("value_and_grad takes plain tensors on one device; let autograd differentiate others")
    found = _evaluated(task, data, numbers, call, wrt)
    return [None if part is None else part.to(dtype) for part in found]


def _prepared(task: Task, data: Sequence[Any]) -> tuple[list[Tensor], torch.dtype]:
    """The data in one dtype that is computed with, and the dtype of the result."""
    for name, value in zip(task.data, data, strict=True):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor as {task.data[0]} is, got a {type(value).__name__}")
    dtype = data[0].dtype
    for value in data[1:]:
        dtype = torch.promote_types(dtype, value.dtype)
    dtype = dtype if dtype.is_floating_point else torch.float64
    wide = torch.float32 if dtype in HALVES else dtype
    return [value.to(wide) for value in data], dtype


def _usable(values: Sequence[Any], weights: Any) -> bool:
    """Tell whether the kernels take this, with constant weights."""
    return not (isinstance(weights, Tensor) and weights.requires_grad) and plain([*values, weights])


def _evaluated(task: Task, data: Sequence[Any], numbers: Sequence[Any], call: Call, wrt: tuple[str, ...]) -> list[Any]:
    """What the kernels give, as tensors like the data."""
    with _kernels.on(data[0], task.data[0]):  # arrays are made of tensors, and tensors of arrays, on PyTorch's stream
        given = Call(call.axis, array_over(call.weights), call.reduction)
        found = rows.evaluated(task, [array_over(v) for v in data], [array_over(v) for v in numbers], given, wrt)
        return [None if part is None else tensor_over(part, data[0].dtype) for part in found]


def _composed(task: Task, data: list[Any], numbers: list[Any], call: Call) -> Tensor:
    """The loss in operations on tensors, differentiable to any order."""
    data = list(torch.broadcast_tensors(*data))
    axis = rows.checked(call.axis, tuple(data[0].shape))
    like = {"dtype": data[0].dtype, "device": data[0].device}
    shape = tuple(data[0].shape)
    of_rows = {"weights": call.weights, **dict(zip(task.numbers, numbers, strict=True))}
    given = {name: value if value is None else torch.as_tensor(value, **like) for name, value in of_rows.items()}
    for name, value in given.items():
        if value is not None:
            rows.check_fits(name, tuple(value.shape), shape[:axis] + shape[axis + 1 :])
    weights, *numbers = given.values()
    data = [value.movedim(axis, -1) for value in data]
    if weights is not None:  # so that no NaN comes from what is excluded
        data = [torch.where((weights == 0)[..., None], 0.0, value) for value in data]
    each = task.composed(OPERATIONS, data, numbers)
    found: Tensor = weighed(OPERATIONS, each, weights, call.reduction)
    return found


class _Rows(torch.autograd.Function):
    """The loss with the derivatives of the same pass; those of these by tensor operations."""

    @staticmethod
    def forward(ctx: Any, task: Task, call: Call, constants: list[Any], *operands: Any) -> Tensor:
        """The loss; ``constants`` are the numbers that are no tensors, with None for others."""
        names, count = (*task.data, *task.numbers), len(task.data)
        ctx.wrt = tuple(name for name, needed in zip(names, ctx.needs_input_grad[3:], strict=True) if needed)
        ctx.task, ctx.call, ctx.constants = task, call, constants
        ctx.save_for_backward(*[value for value in operands if isinstance(value, Tensor)])
        value, *ctx.slopes = _evaluated(task, operands[:count], operands[count:], call, ctx.wrt)
        made: Tensor = value
        return made

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        """The derivatives times what comes; where they are to be differentiated, by operations that are."""
        task, call, saved = ctx.task, ctx.call, list(ctx.saved_tensors)
        count = len(task.data)
        data, left = saved[:count], iter(saved[count:])
        numbers = [next(left) if value is None else value for value in ctx.constants]
        operands, needed = [*data, *numbers], ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():
            wanted = [value for value, need in zip(operands, needed, strict=True) if need]
            again = _composed(task, data, numbers, call)
            found = iter(torch.autograd.grad(again, wanted, gradient, create_graph=True))
            return None, None, None, *[next(found) if need else None for need in needed]
        # Handed over, and computed again if this is called again, so that the large ones need not be copied.
        slopes = ctx.slopes or _evaluated(task, data, numbers, call, ctx.wrt)[1:]
        ctx.slopes = None
        results: list[Any] = []
        each = call.reduction == "none"
        axis = rows.checked(call.axis, tuple(data[0].shape))
        for place, (slope, operand, need) in enumerate(zip(slopes, operands, needed, strict=True)):
            if not need:
                results.append(None)
            elif place < count:
                part = slope.to(operand.dtype)
                if each or gradient.is_cuda or float(gradient) != 1.0:  # without waiting for a GPU
                    part.mul_(gradient.unsqueeze(axis) if each else gradient)
                results.append(part)
            else:
                part = slope.to(operand.dtype) * gradient
                results.append(part.sum_to_size(operand.shape))
        return None, None, None, *results
