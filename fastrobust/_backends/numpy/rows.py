"""Losses of rows: the generalized ufuncs over the loops of `kernels.loops.rows`, in parts for threads."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._threads import in_threads
from ..._types import NDArray
from ...kernels.compilers.alone import alone
from ...kernels.loops.panels import BLOCK, PARALLEL, ROWS
from ...kernels.losses.rowwise import RowDefinition
from .c_api import ufunc_over
from .pieces import PIECE

__all__ = ["RowResults", "of_rows"]

_LANES = 16  # what the terms of longer rows are filled up to
_TOGETHER = 1 << 12  # elements of rows whose terms are kept together, as the first cache holds them
_KEPT = 1 << 16  # elements of the longest rows whose terms are kept, as the second cache holds them


class RowResults(NamedTuple):
    """What rows come to, not weighted but for the derivatives in the data."""

    value: NDArray
    by_numbers: tuple[NDArray, ...]
    by_data: tuple[NDArray, ...]  # empty where not asked for


@functools.cache
def _ufunc(definition: RowDefinition, dtype: type, slopes: bool) -> np.ufunc:
    """The ufunc of rows of that dtype, see `kernels.loops.rows`; made at the first call."""
    return alone(lambda: _made(definition, dtype, slopes))


def _made(definition: RowDefinition, dtype: type, slopes: bool) -> np.ufunc:
    """`_ufunc` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.rows(definition, dtype, slopes)
    count, numbers = len(definition.data), len(definition.numbers)
    indices = [np.int64] if definition.apart else []
    takes = [dtype] * count + indices + [np.float64] * (numbers + 2)
    gives = [np.float64] * (1 + numbers) + [dtype] * (count if slopes else 0)
    given = ["(n)"] * count + ["()"] * (len(indices) + numbers + 1) + ["(s)"]
    found = ["()"] * (1 + numbers) + ["(n)"] * (count if slopes else 0)
    return ufunc_over(address, definition.name, takes, gives, f"{','.join(given)}->{','.join(found)}")


def _room(definition: RowDefinition, length: int, slopes: bool) -> int:
    """How many doubles of memory a loop is given."""
    if length <= BLOCK:
        return definition.summed * length * ROWS
    room = -(-length // _LANES) * _LANES
    if not slopes or room > _KEPT:
        return definition.summed * BLOCK
    return definition.summed * room * max(1, min(ROWS, _TOGETHER // room))


def of_rows(
    definition: RowDefinition,
    data: Sequence[NDArray],
    index: NDArray | None,
    numbers: Sequence[float],
    weights: NDArray | float,
    slopes: Sequence[NDArray] | None,
) -> RowResults:
    """What rows along the last axis come to, on all cores if that pays.

    Data, of one shape, are float32 or float64; ``index`` is of int64, and like the weights, doubles, of the shape of
    the rows.  ``slopes`` are arrays like the data to which the derivatives times the weights go, or None.
    """
    ufunc = _ufunc(definition, data[0].dtype.type, slopes is not None)
    *outer, length = data[0].shape
    shape = tuple(outer)
    value = np.empty(shape)
    by_numbers = tuple(np.empty(shape) for _ in numbers)
    by_data = () if slopes is None else tuple(slopes)
    axis = int(np.argmax(shape)) if shape else 0

    def parts(arrays: Sequence[Any]) -> list[Any]:
        """The arrays with the axis first that is shared out."""
        return [np.moveaxis(a, axis, 0) if shape else a for a in arrays]

    given = [*data, *([] if index is None else [index])]
    before, outs = parts(given), parts([value, *by_numbers, *by_data])
    (weighing,) = parts([np.broadcast_to(weights, shape)])

    def part(first: int, last: int) -> None:
        """The rows of that part, with memory of their own."""
        cut = slice(first, last) if shape else ()
        scratch = np.empty(_room(definition, length, slopes is not None))
        ufunc(*[a[cut] for a in before], *numbers, weighing[cut], scratch, out=tuple(o[cut] for o in outs))

    size, rows = data[0].size, shape[axis] if shape else 1
    if size < PARALLEL:
        part(0, rows)
    else:
        in_threads(part, rows, 1, max(1, PIECE * rows // size))
    return RowResults(value, by_numbers, by_data)


def summed(values: NDArray, weights: NDArray | float) -> float:
    """The sum of values times weights, exactly rounded; a weight of 0 excludes what is not finite."""
    terms = np.where(np.asarray(weights) == 0, 0.0, values * weights)
    return math.fsum(terms.ravel()) if np.isfinite(terms).all() else float(terms.sum())
