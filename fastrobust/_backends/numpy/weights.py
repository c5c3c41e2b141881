"""Weights of elements, and the factors of a reduction: what results are multiplied by before they are rounded."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import NamedTuple

import numpy as np

from ... import _arguments as arguments
from ..._types import ArrayLike, NDArray
from ...kernels.arithmetic import scaling
from .operands import array

__all__ = ["Factors", "broadcast", "factors", "unweighted", "weigh"]


def broadcast(weights: ArrayLike, shape: tuple[int, ...], dtype: type) -> NDArray:
    """The weights, broadcast to that shape, as array of that dtype; as they are if that has not the range."""
    weights = np.asarray(array("weights", weights))
    arguments.supported("weights", weights.dtype)
    with contextlib.suppress(FloatingPointError), np.errstate(over="raise", under="raise"):
        weights = weights.astype(dtype, copy=False)
    try:
        return np.broadcast_to(weights, shape)
    except ValueError:
        raise ValueError(
            f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result"
        ) from None


def weigh(array: NDArray, weights: NDArray | None, lift: float = 1.0, factor: float = 1.0) -> None:
    """array *= weights * lift * factor; a weight of 0 excludes an element, whatever its value.

    Elements tell of overflow and NaN: call it where NumPy's warnings are off.
    """
    if weights is not None:
        array *= weights if lift == 1.0 else weights * array.dtype.type(lift)
        np.copyto(array, 0, where=weights == 0)
    if factor != 1.0:
        array *= array.dtype.type(factor)


class Factors(NamedTuple):
    """The numbers that a reduction multiplies by: see `kernels.arithmetic.scaling`."""

    slope: float  # each derivative in data, besides its weight
    lift: float  # the weights
    step: float  # what is summed
    last: float  # its sum


def factors(reduction: str, size: int, weights: NDArray | None, double: bool) -> tuple[Factors, NDArray | None]:
    """The factors of a reduction, and its weights.

    The weights are multiplied here if all are subnormal: no power of two lifts these in one step.
    """
    if weights is None or reduction == "sum":
        return unweighted(reduction, size, double), weights
    total = float(weights.sum(dtype=np.float64))
    about = np.finfo(weights.dtype)
    if 0 < abs(total) < about.tiny and abs(weights).max() < about.tiny:
        weights = weights * about.dtype.type(2.0**about.nmant)
        total = float(weights.sum(dtype=np.float64))
    apart = float((weights * scaling.APART).sum()) if double and math.isinf(total) else total
    lift, total = scaling.lifted(total, apart, double)
    step, factor = scaling.step(size, double), math.nan if total == 0 else 1.0 / total
    return Factors(factor, lift, step, factor / step), weights


@functools.lru_cache
def unweighted(reduction: str, size: int, double: bool) -> Factors:
    """The factors of a sum, or of a mean without weights."""
    step = scaling.step(size, double)
    factor = 1.0 if reduction == "sum" else 1.0 / size if size else math.nan
    return Factors(factor, 1.0, step, factor / step)
