"""The operands of a call as arrays that NumPy computes with, in one dtype, and what may be skipped for simple ones."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ... import _arguments as arguments
from ...kernels.losses.definition import Definition

__all__ = ["array", "by_position", "in_range", "number", "overlap", "prepared", "unchecked"]

_LARGEST = float(np.finfo(np.float32).max)


def array(name: str, value: Any) -> Any:
    """The value as something that NumPy computes with: itself, or an array of it."""
    if hasattr(value, "__array_ufunc__"):
        return np.asarray(value) if isinstance(value, np.memmap) else value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: NumPy makes no array of this {type(value).__name__} ({error})") from None


def number(value: float, dtype: Any) -> Any:
    """A Python number as 0-d array; what the dtype cannot hold is infinite, which a parameter may be."""
    with np.errstate(over="ignore"):
        try:
            return np.asarray(float(value), dtype)
        except OverflowError:
            return np.asarray(math.inf if value > 0 else -math.inf, dtype)


def prepared(definition: Definition, operands: Sequence[Any], dtype: Any = None) -> tuple[np.dtype[Any], list[Any]]:
    """Dtype of the result, unless given, and the operands as arrays that NumPy may cast to it.

    After the first operand, Python numbers, among which NumPy counts its float64 scalars, and integers take the dtype
    of the rest.
    """
    first, *others = operands
    if dtype is None and _is_plain(first) and all(type(a) is np.ndarray and a.dtype is first.dtype for a in others):
        return first.dtype, list(operands)  # nothing to look at
    arguments.check_numbers(definition, operands)
    leading, *names = definition.operands
    if type(first) is int and leading in definition.domains:
        first = number(first, np.float64)[()]  # of any size, as parameters are
    arrays = {leading: array(leading, first)}
    weak = {}
    for name, value in zip(names, others, strict=True):
        if isinstance(value, arguments.NUMBERS):
            weak[name] = value
        else:
            arrays[name] = array(name, value)
    found = arguments.result_dtype(arrays, leading)
    dtype = found if dtype is None else arguments.requested(dtype)
    compute = arguments.compute_type(dtype)
    for name in names:
        if name in weak:
            arrays[name] = number(weak[name], compute)
        elif arrays[name].dtype.kind in "biu":
            arrays[name] = arrays[name].astype(compute)
    return dtype, [arrays[name] for name in definition.operands]


def by_position(arrays: Iterable[Any]) -> bool:
    """Whether all broadcast by the position of their axes; xarray's do by the names of these, pandas's by an index."""
    return all(hasattr(a, "shape") and not (hasattr(a, "dims") or hasattr(a, "index")) for a in arrays)


def overlap(out: Any, array: Any) -> bool:
    """Whether writing to out spoils array; element by element in place does not."""
    if out is None or array is None or not np.may_share_memory(out, array):
        return False
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return not (same and out.ctypes.data == array.ctypes.data)


@functools.cache
def _limits(definition: Definition) -> tuple[float, ...]:
    """What a number must exceed to need no attention, for each parameter.

    That lies below the least if this is itself inside: NumPy's scalars are compared in their own precision, to which
    the limit is rounded, and nothing outside may be taken for inside.
    """
    found = []
    for name in definition.parameters:
        low = math.nextafter(-_LARGEST, -math.inf)
        if (domain := definition.domains.get(name)) is not None:
            low = max(low, domain.least if domain.open else math.nextafter(domain.least, -math.inf))
        found.append(low)
    return tuple(found)


def in_range(definition: Definition, parameters: Sequence[float]) -> bool:
    """Whether these numbers need no attention: neither a message nor a rounding to infinity."""
    for low, value in zip(_limits(definition), parameters):  # noqa: B905 - strict takes time
        if not low < value <= _LARGEST:
            return False
    return True


def _is_plain(x: Any) -> bool:
    """Whether it is NumPy's own array, of a dtype that there are kernels for."""
    return type(x) is np.ndarray and x.dtype.char in "fd" and x.dtype.isnative


def unchecked(definition: Definition, operands: Sequence[Any]) -> bool:
    """Whether the data are plain arrays of one shape, with a kernel, and the parameters numbers without attention."""
    x, count = operands[0], len(definition.data)
    if not _is_plain(x):
        return False
    if count > 1:
        for other in operands[1:count]:
            if type(other) is not np.ndarray or other.dtype is not x.dtype or other.shape != x.shape:
                return False
    for low, value in zip(_limits(definition), operands[count:]):  # noqa: B905 - strict takes time
        kind = type(value)
        if (kind is not float and kind is not int and kind is not x.dtype.type) or not low < value <= _LARGEST:
            return False
    return True
