"""The checks that backends share: dtypes, numbers, shapes, memory for results.  For arrays whose dtypes are NumPy's."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from ._types import Array, DType, Shaped
from .kernels.losses.definition import Definition

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

NUMBERS = (float, int)  # what takes the dtype of the rest
_HALF = ("float16", "bfloat16")


def supported(name: str, dtype: DType) -> None:
    """Refuse complex numbers, strings, objects and what else has no kernel."""
    if dtype.kind not in "biu" and not floating(dtype):
        first = "take its real part or its absolute value, or " if dtype.kind == "c" else ""
        raise TypeError(
            f"{name} has dtype {dtype}, which fastrobust does not take: {first}convert it to float16, bfloat16, "
            "float32, float64 or an integer type with .astype()"
        )


def floating(dtype: DType) -> bool:
    """Tell whether it is one of the four floating-point dtypes that have kernels, in whatever byte order."""
    return dtype.char in "efd" or dtype.name in _HALF


def requested(dtype: DTypeLike) -> DType:
    """The value of dtype=, as a dtype; an error unless it is one of floating point."""
    wanted: DType = np.dtype(dtype)
    if not floating(wanted):
        raise TypeError(f"dtype must be float16, bfloat16, float32 or float64, got {wanted}")
    return wanted


def result_dtype(arrays: Mapping[str, Shaped], leading: str) -> DType:
    """The dtype of the result.  Floating-point arguments are promoted; integers are float64 in the leading one only."""
    dtypes = []
    for name, array in arrays.items():
        supported(name, array.dtype)
        if array.dtype.kind not in "biu":
            dtypes.append(array.dtype)
        elif name == leading:
            dtypes.append(np.dtype(np.float64))
    try:
        return np.result_type(*dtypes)
    except TypeError:
        raise TypeError(
            f"{' and '.join(arrays)} have dtypes {', '.join(map(str, dtypes))}, without a common type: convert one"
        ) from None


def compute_type(dtype: DType) -> type:
    """The type that is computed in: float32 also for the two half precisions, which are rounded once at the end."""
    return np.float64 if dtype == np.float64 else np.float32


def _shown(number: float) -> str:
    """The number, for a message; Python refuses to print integers of thousands of digits."""
    try:
        return repr(number)
    except ValueError:
        return f"{'-' if number < 0 else ''}(an integer of {int(number).bit_length()} bits)"


def _is_number(value: object) -> TypeGuard[float]:
    """Tell whether it is a number of Python's or a scalar of NumPy's, not an array, be it without axes."""
    return isinstance(value, NUMBERS) or (
        isinstance(value, np.generic) and (value.dtype.kind in "biu" or floating(value.dtype))
    )


def check_numbers(definition: Definition, operands: Sequence[object]) -> None:
    """Refuse numbers that the definition has no meaning for; bad elements of arrays give NaN instead, as NaN does."""
    for k, domain in definition.limited:
        value = operands[k]
        if _is_number(value) and value == value and not domain.holds(value):
            raise ValueError(domain.error.format(_shown(value)))


def number(value: float | np.floating[Any] | np.integer[Any]) -> float:
    """The number as a float; what is too large for one is infinite, which alpha may be."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


ALPHA_RANGE = (0.0, 2.0)  # where alpha is looked for, unless the user says otherwise
SHIFT = math.log(math.e - 1)  # softplus of it is 1: where a learned scale starts


def alpha_range(bounds: Iterable[float], start: float | None) -> tuple[float, float, float]:
    """The bounds of a learned alpha, and where it starts: in their middle unless that is given."""
    try:
        low, high = map(float, bounds)
        first = 0.5 * (low + high) if start is None else float(start)
    except (TypeError, ValueError):
        raise ValueError(
            f"alpha_range must be two numbers, (low, high), and alpha_init one or None, got {bounds!r} and {start!r}"
        ) from None
    if not 0 <= low <= high < math.inf:
        raise ValueError(f"alpha_range must be (low, high) with 0 <= low <= high, got {bounds!r}")
    if not (low < first < high or low == first == high):
        raise ValueError(f"alpha_init must lie inside of alpha_range {bounds!r}, got {start!r}")
    return low, high, first


def scale_range(least: float, start: float) -> tuple[float, float]:
    """The lower bound of a learned scale, and where it starts."""
    try:
        low, first = float(least), float(start)
    except (TypeError, ValueError):
        raise ValueError(f"scale_min and scale_init must be numbers, got {least!r} and {start!r}") from None
    if not 0 < low <= first < math.inf:
        raise ValueError(f"scale_min and scale_init must be 0 < min <= init, got {least!r} and {start!r}")
    return low, first


_broadcast = functools.lru_cache(np.broadcast_shapes)  # which takes 5 us


def broadcast(names: Iterable[str], arrays: Iterable[Any]) -> tuple[int, ...]:
    """The common shape of the arrays of these names."""
    try:
        return _broadcast(*[a.shape for a in arrays])
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in zip(names, arrays, strict=True))
        raise ValueError(
            f"shapes do not broadcast: {shapes}. Compared from the last axis, each pair must be equal or 1"
        ) from None


def given(
    out: Any, names: tuple[str, ...], shapes: Mapping[str, tuple[int, ...]], kind: type[Any] = np.ndarray
) -> tuple[Any, ...]:
    """The entries of ``out``, checked: for each name an array of that kind and its shape to write to, or None."""
    if out is None:
        return (None,) * len(names)
    entries: tuple[Any, ...] = out if isinstance(out, tuple) else (out,)
    if len(entries) != len(names):
        raise ValueError(f"out must have an entry for each of {', '.join(names)}, or None there; got {len(entries)}")
    for name, array in zip(names, entries, strict=True):
        foreign = kind is np.ndarray and getattr(type(array), "__array_ufunc__", None) is not np.ndarray.__array_ufunc__
        if array is not None and (foreign or not isinstance(array, kind) or array.shape != shapes[name]):
            got = f"shape {array.shape}" if isinstance(array, kind) and not foreign else f"a {type(array).__name__}"
            raise ValueError(f"out for {name} must be an array of shape {shapes[name]}, got {got}")
        if array is not None and not getattr(array.flags, "writeable", True):
            raise ValueError(f"out for {name} is read-only: pass an array that may be written")
    return entries


@functools.cache
def outputs(wrt: tuple[str, ...]) -> tuple[str, ...]:
    """The names of what a kernel computes for the value and these gradients."""
    return ("value", *("d" + name for name in wrt))


def unbroadcast(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The gradient, summed in double over the axes along which a parameter of that shape was broadcast."""
    lead = gradient.ndim - len(shape)
    while lead < 0:  # leading axes of length 1
        shape, lead = shape[1:], lead + 1
    axes = tuple(i for i in range(gradient.ndim) if i < lead or shape[i - lead] == 1 != gradient.shape[i])
    return gradient.sum(axis=axes, dtype=np.float64) if axes else gradient


def fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Tell whether a shape broadcasts to the other."""
    try:
        return np.broadcast_shapes(shape, other) == other
    except ValueError:
        return False


def axis_of(axis: object, count: int, of: str, name: str = "axis") -> int:
    """The axis, one of so many ``of`` an operand, counted from the first."""
    if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {axis!r}")
    if not -count <= axis < count:
        raise ValueError(f"{name} {axis} is not one of the {count} axes of {of}")
    return int(axis) % count
