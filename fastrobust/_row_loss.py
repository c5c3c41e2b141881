"""Losses of rows, a value for all elements along an axis: what they have in common on all libraries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from ._call import check_reduction
from ._dispatch import backend, shown
from ._row_operations import Operations

if TYPE_CHECKING:
    from ._types import ArrayLike, NDArray
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
    "of_library",
    "real",
    "value_of",
]


class Task(NamedTuple):
    """What a loss of rows is."""

    name: str
    data: tuple[str, ...]  # operands with an element for each place in a row
    numbers: tuple[str, ...]  # those with a number for each row
    # kernels(data): the definition for data of three axes, of which the second is the row's, and more numbers of it
    kernels: Callable[[list[NDArray]], tuple[RowDefinition, list[NDArray]]]
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


def real(loss: str, name: str, value: object) -> NDArray:
    """The array of a real type, of NumPy's; numbers and lists are made one."""
    if getattr(backend(value, name), "__name__", "") != f"{__package__}._backends.numpy":
        raise TypeError(f"{name} is a {shown(value)}: {loss} takes arrays of NumPy, PyTorch and JAX; convert it")
    array = np.asarray(value)
    arguments.supported(name, array.dtype)
    return array


def evaluated(
    task: Task, data: Sequence[object], numbers: Sequence[object], call: Call, wrt: Sequence[str]
) -> list[Any]:
    """The value and the derivatives in all operands of NumPy's arrays, None for those that are not wanted."""
    arrays = [real(task.name, name, value) for name, value in zip(task.data, data, strict=True)]
    dtype = arguments.result_dtype(dict(zip(task.data, arrays, strict=True)), task.data[0])
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in zip(task.data, arrays, strict=True))
        raise ValueError(f"the data of {task.name} do not broadcast: {shapes}") from None
    axis = checked(call.axis, shape)
    rows = shape[:axis] + shape[axis + 1 :]
    around = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    ways, compute = (around[0], shape[axis], around[1]), arguments.compute_type(dtype)
    given: list[NDArray] = [
        np.ascontiguousarray(np.broadcast_to(array, shape), compute).reshape(ways) for array in arrays
    ]

    def of_rows(name: str, value: object) -> NDArray:
        array = real(task.name, name, value).astype(np.float64, copy=False)
        check_fits(name, array.shape, rows)
        return np.broadcast_to(array, rows).reshape(around)

    weights = np.ascontiguousarray(of_rows("weights", 1.0 if call.weights is None else call.weights))
    each = [of_rows(name, value) for name, value in zip(task.numbers, numbers, strict=True)]
    total = divisor(weights, call.reduction)
    scaled = weights / total if total == total else weights
    definition, more = task.kernels(given)
    slopes = [np.empty_like(array) for array in given] if set(wrt) & set(task.data) else None
    found = _kernels().of_rows(definition, given, None, [*each, *more], scaled, slopes)
    results = [combined(found.value, weights, rows, call.reduction, total, dtype)]
    for place, name in enumerate(task.data):
        wanted = slopes is not None and name in wrt
        results.append(slopes[place].astype(dtype, copy=False).reshape(shape) if slopes and wanted else None)
    for name, value, part in zip(task.numbers, map(np.asarray, numbers), found.by_numbers[: len(each)], strict=True):
        results.append(None if name not in wrt else _of_number(part, value.shape, weights, rows, call, total, dtype))
    return results


def _of_number(
    part: NDArray, shape: tuple[int, ...], weights: NDArray, rows: tuple[int, ...], call: Call, total: float, dtype: Any
) -> Any:
    """The derivative in a number of the rows, of its own shape if the losses are summed."""
    each = combined(part, weights, rows, "none", 1.0, np.float64)
    if call.reduction == "none":
        return each.astype(dtype)[()]
    lead = len(rows) - len(shape)
    axes = tuple(k for k in range(len(rows)) if k < lead or shape[k - lead] == 1)
    return (np.sum(each, axis=axes).reshape(shape) / total).astype(dtype)[()]


def combined(values: NDArray, weights: NDArray, rows: tuple[int, ...], reduction: str, total: float, dtype: Any) -> Any:
    """The values weighted, or their sum or mean; what is too large for the dtype is infinite."""
    with np.errstate(over="ignore", under="ignore"):
        weighted = np.where(weights == 0, 0.0, values) * weights
        if reduction == "none":
            return weighted.astype(dtype).reshape(rows)[()]
        return np.dtype(dtype).type(np.sum(weighted) / total)


def divisor(weights: NDArray, reduction: str, empty: str = "nan") -> float:
    """What sums are divided by: the weights of a mean, NaN or 1 if they come to nothing."""
    total = float(weights.sum()) if reduction == "mean" else 1.0
    return total if total != 0.0 else math.nan if empty == "nan" else 1.0


def _kernels() -> Any:
    """The kernels, which are imported when they are first used."""
    from ._backends.numpy import rows

    return rows
