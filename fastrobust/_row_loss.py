"""Losses of rows, a value for all elements along an axis: what they have in common on all libraries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from ._call import check_reduction
from ._dispatch import backend, joined, shown
from ._row_operations import Operations
from .kernels.compilers.alone import imported

if TYPE_CHECKING:
    from ._types import ArrayLike
    from .kernels.losses.rowwise import RowDefinition

__all__ = [
    "Call",
    "Task",
    "check_fits",
    "checked",
    "combined",
    "derivatives_of",
    "divisor",
    "evaluated",
    "kernels_for",
    "of_library",
    "over",
    "real",
    "value_of",
    "weighed",
]


class Task(NamedTuple):
    """What a loss of rows is."""

    name: str
    data: tuple[str, ...]  # operands with an element for each place in a row
    numbers: tuple[str, ...]  # those with a number for each row
    # definition(kernels, data): that for data of three axes, of which the second is the row's, and more numbers of it
    definition: Callable[[Any, list[Any]], tuple[RowDefinition, list[Any]]]
    # composed(library, data, numbers): each row's value, in operations of a library, of rows along the last axis
    composed: Callable[[Operations, list[Any], list[Any]], Any]


class Call(NamedTuple):
    """The options of a call."""

    axis: int
    weights: Any
    reduction: str


def value_of(task: Task, data: Sequence[ArrayLike], numbers: Sequence[ArrayLike], call: Call) -> Any:
    """The loss of each row, or their sum or mean."""
    check_reduction(call.reduction)
    own = of_library(data[0], task.data[0])
    if own is not None:
        return own.value_of(task, list(data), list(numbers), call)
    return evaluated(task, data, numbers, call, ())[0]


def derivatives_of(
    task: Task, data: Sequence[ArrayLike], numbers: Sequence[ArrayLike], call: Call, wrt: Sequence[str]
) -> list[Any]:
    """The loss of each row, or their sum or mean, and the derivatives in all operands, None for those not wanted."""
    check_reduction(call.reduction)
    names = (*task.data, *task.numbers)
    if not isinstance(wrt, tuple | list) or not set(wrt) <= set(names):
        raise ValueError(f"wrt must be a tuple of names out of {names}, got {wrt!r}")
    own = of_library(data[0], task.data[0])
    if own is not None:
        found: list[Any] = own.derivatives_of(task, list(data), list(numbers), call, tuple(wrt))
        return found
    return evaluated(task, data, numbers, call, wrt)


def of_library(x: object, name: str) -> Any:
    """The functions for arrays of the library of x, if that differentiates by itself, else None: see `Backend`."""
    return getattr(backend(x, name), "row_losses", None)


def check_fits(name: str, shape: tuple[int, ...], rows: tuple[int, ...]) -> None:
    """Refuse numbers of another shape than that of the rows, or one that broadcasts to it."""
    if not arguments.fits(shape, rows):
        raise ValueError(f"{name} must broadcast to the rows, of shape {rows}; got shape {shape}")


def checked(axis: object, shape: tuple[int, ...]) -> int:
    """The axis of the rows, counted from the first."""
    return arguments.axis_of(axis, len(shape), "the data")


def kernels_for(loss: str, names: Sequence[str], operands: Sequence[object], weights: object = None) -> Any:
    """The kernels for arrays of the first operand's library, which all others are of: see `_backends.numpy.rows`."""
    target: Any = backend(operands[0], names[0])
    given = [*zip(names, operands, strict=True), *([] if weights is None else [("weights", weights)])]
    for name, value in given:
        if not hasattr(joined(name, value, target, names[0], operands[0]), "row_kernels"):  # as containers have none
            raise TypeError(
                f"{name} is a {shown(value)}: {loss} takes arrays of NumPy, CuPy, PyTorch and JAX; convert it"
            )
    return imported(target.row_kernels)


def real(kernels: Any, name: str, value: object) -> Any:
    """The array of a real type; numbers and lists are made one."""
    array = kernels.array(name, value)
    arguments.supported(name, array.dtype)
    return array


def evaluated(task: Task, data: Sequence[object], numbers: Sequence[Any], call: Call, wrt: Sequence[str]) -> list[Any]:
    """The value and the derivatives in all operands, by kernels, None for those that are not wanted."""
    kernels = kernels_for(task.name, (*task.data, *task.numbers), (*data, *numbers), call.weights)
    arrays = [real(kernels, name, value) for name, value in zip(task.data, data, strict=True)]
    dtype = arguments.result_dtype(dict(zip(task.data, arrays, strict=True)), task.data[0])
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(task.data, arrays, strict=True))
        raise ValueError(f"the data of {task.name} do not broadcast: {shapes}") from None
    axis = checked(call.axis, shape)
    rows = shape[:axis] + shape[axis + 1 :]
    around = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])

    def of_rows(name: str, value: object) -> Any:
        """A number, or one for each row."""
        if isinstance(value, arguments.NUMBERS):
            return arguments.number(value)
        array = real(kernels, name, value).astype(np.float64, copy=False)
        check_fits(name, array.shape, rows)
        return kernels.xp.broadcast_to(array, rows).reshape(around)

    with kernels.place(arrays[0]):
        xp, ways = kernels.xp, (around[0], shape[axis], around[1])
        given = [
            xp.ascontiguousarray(xp.broadcast_to(array, shape), kernels.stored(dtype)).reshape(ways) for array in arrays
        ]
        weights = None if call.weights is None else of_rows("weights", call.weights)
        if isinstance(weights, float):
            weights = xp.full(around, weights)
        each = [of_rows(name, value) for name, value in zip(task.numbers, numbers, strict=True)]
        total = divisor(xp, weights, math.prod(rows), call.reduction)
        definition, more = task.definition(kernels, given)
        slopes = [xp.empty_like(array) for array in given] if set(wrt) & set(task.data) else None
        factors = over(xp, weights, total)
        found = kernels.of_rows(definition, given, None, [*each, *more], factors, slopes)
        results = [combined(xp, found.value, weights, rows, call.reduction, total, dtype)]
        for place, name in enumerate(task.data):
            wanted = slopes is not None and name in wrt
            results.append(slopes[place].astype(dtype, copy=False).reshape(shape) if slopes and wanted else None)
        parts = found.by_numbers[: len(each)]
        for name, value, part in zip(task.numbers, numbers, parts, strict=True):
            seen = _of_number(xp, part, np.shape(value), weights, rows, call, total, dtype) if name in wrt else None
            results.append(seen)
    return results


def _of_number(
    xp: Any, part: Any, shape: tuple[int, ...], weights: Any, rows: tuple[int, ...], call: Call, total: Any, dtype: Any
) -> Any:
    """The derivative in a number of the rows, of its own shape if the losses are summed."""
    if call.reduction == "none":
        return combined(xp, part, weights, rows, "none", 1.0, dtype)
    each = weighed(xp, part, weights).reshape(rows)
    lead = len(rows) - len(shape)
    axes = tuple(k for k in range(len(rows)) if k < lead or shape[k - lead] == 1)
    return (each.sum(axis=axes).reshape(shape) / total).astype(dtype)[()]


def weighed(xp: Any, values: Any, weights: Any) -> Any:
    """The values times the weights, 0 for a weight of 0 whatever the value is."""
    return values if weights is None else xp.where(weights == 0, 0.0, values) * weights


def combined(xp: Any, values: Any, weights: Any, rows: tuple[int, ...], reduction: str, total: Any, dtype: Any) -> Any:
    """The values weighted, or their sum or mean; what is too large for the dtype is infinite."""
    with np.errstate(over="ignore", under="ignore"):
        weighted = weighed(xp, values, weights)
        if reduction == "none":
            return weighted.astype(dtype).reshape(rows)[()]
        return xp.asarray(weighted.sum() / total).astype(dtype)[()]


def divisor(xp: Any, weights: Any, count: int, reduction: str, empty: str = "nan") -> Any:
    """What sums are divided by: 1, or for a mean the weights or the count; NaN or 1 if these come to nothing."""
    nothing = math.nan if empty == "nan" else 1.0
    if reduction != "mean":
        return 1.0
    if weights is None:
        return float(count) or nothing
    total = weights.sum()
    return (float(total) or nothing) if xp is np else xp.where(total == 0, nothing, total)


def over(xp: Any, weights: Any, total: Any) -> Any:
    """The factors of derivatives: weights over what sums are divided by, if that is there."""
    if not isinstance(total, float):
        total = xp.where(total == total, total, 1.0)
    elif total != total or total == 1.0:
        return 1.0 if weights is None else weights
    return (1.0 if weights is None else weights) / total
