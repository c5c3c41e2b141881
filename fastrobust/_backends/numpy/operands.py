"""The operands of a call as arrays that NumPy computes with, in one dtype, and what may be skipped for simple ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ... import _arguments as arguments
from ..._types import DType, NDArray
from ...kernels.losses.definition import Definition

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = [
    "LARGEST",
    "Operands",
    "Outputs",
    "array",
    "by_position",
    "limits",
    "number",
    "numbers",
    "one_shape",
    "overlap",
    "prepared",
    "unchecked",
]

# The operands of a call as they come: arrays, numbers and lists, told apart by their types as the program runs.
Operands: TypeAlias = Sequence[Any]
Outputs: TypeAlias = Any  # an array, or what ufuncs make of other containers; a tuple of these for several names
LARGEST = float(np.finfo(np.float32).max)
_DOUBLE, _SINGLE = np.dtype(np.float64), np.dtype(np.float32)  # which almost every array of that kind has


def array(name: str, value: Any) -> NDArray:
    """The value as something that NumPy computes with: itself, if it takes ufuncs like an array, or an array of it."""
    if hasattr(value, "__array_ufunc__"):
        return np.asarray(value) if isinstance(value, np.memmap) else value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: NumPy makes no array of this {type(value).__name__} ({error})") from None


def number(value: float, dtype: DTypeLike) -> NDArray:
    """A Python number as 0-d array; what the dtype cannot hold is infinite, which a parameter may be."""
    value = arguments.number(value)
    if abs(value) <= LARGEST:
        return np.asarray(value, dtype)
    with np.errstate(over="ignore"):
        return np.asarray(value, dtype)


def prepared(definition: Definition, operands: Operands, dtype: DTypeLike | None = None) -> tuple[DType, list[NDArray]]:
    """The dtype of the result, unless given, and the operands as arrays that NumPy may cast to it.

    After the first operand, Python numbers, among which NumPy counts its float64 scalars, and integers take the dtype
    of the rest.
    """
    names, first = definition.operands, operands[0]
    if dtype is None and _alike(operands):
        return first.dtype, list(operands)
    arguments.check_numbers(definition, operands)
    if type(first) is int and names[0] in definition.domains:
        first = number(first, np.float64)[()]  # of any size, as parameters are
    arrays = {names[0]: array(names[0], first)}
    for k in range(1, len(operands)):
        if not isinstance(operands[k], arguments.NUMBERS):
            arrays[names[k]] = array(names[k], operands[k])
    promoted = arguments.result_dtype(arrays, names[0])
    dtype = promoted if dtype is None else arguments.requested(dtype)
    compute = arguments.compute_type(dtype)
    ready = [arrays[names[0]]]
    for k in range(1, len(operands)):
        operand = arrays.get(names[k])
        if operand is None:
            operand = number(operands[k], compute)
        elif operand.dtype.kind in "biu":
            operand = operand.astype(compute)
        ready.append(operand)
    return dtype, ready


def _alike(operands: Operands) -> bool:
    """Tell whether there is nothing to look at: plain arrays of one type, which has a kernel."""
    first = operands[0]
    for a in operands:
        if type(a) is not np.ndarray or a.dtype is not first.dtype:
            return False
    return first.dtype.char in "fd" and bool(first.dtype.isnative)


def one_shape(operands: Operands) -> bool:
    """Tell whether all are plain arrays of one type, which has a kernel, and of one shape, in rows."""
    if not _alike(operands):
        return False
    shape = operands[0].shape
    return all([a.shape == shape and a.flags.c_contiguous for a in operands])  # noqa: C419 - in less time


def by_position(arrays: Iterable[object]) -> bool:
    """Tell whether all broadcast by the position of their axes; xarray's do by names of axes, pandas's by an index."""
    return all(hasattr(a, "shape") and not (hasattr(a, "dims") or hasattr(a, "index")) for a in arrays)


def overlap(out: NDArray | None, array: NDArray | None) -> bool:
    """Tell whether writing to out spoils array; element by element in place does not."""
    if out is None or array is None or not np.may_share_memory(out, array):
        return False
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return not (same and out.ctypes.data == array.ctypes.data)


class _Limits(dict[Definition, tuple[float | None, ...]]):
    """The limits that a number must exceed to need no attention, for each operand of a definition.

    None for data, which are arrays.  It lies below the least if this is itself inside: NumPy's scalars are compared in
    their own precision, to which the limit is rounded, and nothing outside may be taken for inside.  A dictionary: it
    is asked in half the time of a `functools.cache`.
    """

    def __missing__(self, definition: Definition) -> tuple[float | None, ...]:
        lowest: list[float | None] = [None for _ in definition.data]
        for name in definition.parameters:
            low = math.nextafter(-LARGEST, -math.inf)
            if (domain := definition.domains.get(name)) is not None:
                low = max(low, domain.least if domain.open else math.nextafter(domain.least, -math.inf))
            lowest.append(low)
        self[definition] = tuple(lowest)
        return self[definition]


limits = _Limits()


def unchecked(definition: Definition, operands: Operands) -> bool:
    """Tell whether no operand needs a look: data are plain arrays of one shape, with a kernel, parameters numbers."""
    x = operands[0]
    if type(x) is not np.ndarray:
        return False
    dtype = x.dtype
    if dtype is not _DOUBLE and dtype is not _SINGLE and (dtype.char not in "fd" or not dtype.isnative):
        return False
    for low, value in zip(limits[definition], operands):  # noqa: B905 - strict takes time
        if type(value) is float:
            if low is None or not low < value <= LARGEST:
                return False
        elif (value is not x or low is not None) and not _fits(value, x, low):
            return False
    return True


def _fits(value: Any, x: NDArray, low: float | None) -> bool:
    """Tell whether it is data of x's kind and shape, or a number that needs no attention, if that is what is wanted."""
    if low is None:
        return type(value) is np.ndarray and value.dtype is x.dtype and bool(value.shape == x.shape)
    return (type(value) is int or type(value) is x.dtype.type) and low < value <= LARGEST


def numbers(definition: Definition, operands: Operands) -> bool:
    """Tell whether all operands are numbers of Python's that need no attention."""
    for value in operands:
        if type(value) is not float or not abs(value) <= LARGEST:
            return False
    arguments.check_numbers(definition, operands)
    return True
