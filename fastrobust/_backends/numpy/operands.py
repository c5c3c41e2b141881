"""The operands of a call as arrays that NumPy computes with, in one dtype, and what may be skipped for simple ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ... import _arguments as arguments

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
    """A Python number as 0-d array; what the dtype cannot hold is infinite, which alpha may be."""
    with np.errstate(over="ignore"):
        try:
            return np.asarray(float(value), dtype)
        except OverflowError:
            return np.asarray(math.inf if value > 0 else -math.inf, dtype)


def prepared(family: str, x: Any, alpha: Any, scale: Any, dtype: Any = None) -> tuple[np.dtype[Any], Any, Any, Any]:
    """Dtype of the result, unless given, and the arguments as arrays that NumPy may cast to it.

    Python numbers, among which NumPy counts its float64 scalars, and integer parameters take the dtype of the rest.
    """
    plain = {type(x), type(alpha), type(scale)} == {np.ndarray} and x.dtype is alpha.dtype is scale.dtype
    if plain and dtype is None and x.dtype.char in "fd" and x.dtype.isnative:
        return x.dtype, x, alpha, scale  # nothing to look at
    arguments.check_numbers(alpha, scale, family)
    arrays = {"x": array("x", x)}
    weak = {}
    for name, value in (("alpha", alpha), ("scale", scale)):
        if isinstance(value, arguments.NUMBERS):
            weak[name] = value
        else:
            arrays[name] = array(name, value)
    found = arguments.result_dtype(arrays, "x")
    dtype = found if dtype is None else arguments.requested(dtype)
    compute = arguments.compute_type(dtype)
    for name in ("alpha", "scale"):
        if name in weak:
            arrays[name] = number(weak[name], compute)
        elif arrays[name].dtype.kind in "biu":
            arrays[name] = arrays[name].astype(compute)
    return dtype, arrays["x"], arrays["alpha"], arrays["scale"]


def by_position(arrays: Iterable[Any]) -> bool:
    """Whether all broadcast by the position of their axes; xarray's do by the names of these, pandas's by an index."""
    return all(hasattr(a, "shape") and not (hasattr(a, "dims") or hasattr(a, "index")) for a in arrays)


def overlap(out: Any, array: Any) -> bool:
    """Whether writing to out spoils array; element by element in place does not."""
    if out is None or array is None or not np.may_share_memory(out, array):
        return False
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return not (same and out.ctypes.data == array.ctypes.data)


def in_range(family: str, alpha: float, scale: float) -> bool:
    """Whether these numbers need no attention: neither a message nor a rounding to infinity."""
    return -_LARGEST <= alpha <= _LARGEST and 0 < scale <= _LARGEST and (alpha >= 0 or family != "nll")


def unchecked(family: str, x: Any, alpha: Any, scale: Any) -> bool:
    """Whether x is a plain array with a kernel and the parameters are numbers that need no attention."""
    return (
        type(x) is np.ndarray
        and x.dtype.char in "fd"
        and x.dtype.isnative
        and (type(alpha) in arguments.NUMBERS or type(alpha) is x.dtype.type)
        and (type(scale) in arguments.NUMBERS or type(scale) is x.dtype.type)
        and in_range(family, alpha, scale)
    )
