"""Losses of rows: the loops of `kernels.loops.rows`, as generalized ufuncs, or in parts for threads."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from ..._arguments import compute_type
from ..._threads import in_threads
from ..._types import DType, NDArray, RowResults
from ...kernels.compilers.alone import alone
from ...kernels.loops.panels import BLOCK, LANES, PARALLEL, ROWS
from ...kernels.losses.rowwise import RowDefinition
from .c_api import ufunc_over
from .pieces import PIECE

__all__ = ["array", "of_rows", "place", "stored", "xp"]

xp = np

_TOGETHER = 1 << 12  # elements of rows whose terms are kept together, as the first cache holds them
_KEPT = 1 << 16  # elements of the longest rows whose terms are kept, as the second cache holds them


def array(name: str, value: Any) -> NDArray:
    """The value as an array."""
    return np.asarray(value)


def place(value: Any) -> AbstractContextManager[None]:
    """What makes the place of an array the current one: there is but one."""
    return nullcontext()


def stored(dtype: DType) -> DType:
    """The dtype in which the kernels take data: halves as float32."""
    return np.dtype(compute_type(dtype))


class _Loop(NamedTuple):
    """A loop for rows of one dtype: as a ufunc, and as a function of addresses that lets other threads run.

    NumPy lets them run only where there are 500 rows or as many results.
    """

    ufunc: np.ufunc
    function: Callable[..., None]


@functools.cache
def _loop(definition: RowDefinition, dtype: type, slopes: bool) -> _Loop:
    """The loop, made at the first call."""
    return alone(lambda: _made(definition, dtype, slopes))


def _made(definition: RowDefinition, dtype: type, slopes: bool) -> _Loop:
    """`_loop` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.rows(definition, dtype, slopes)
    count, numbers = len(definition.data), len(definition.numbers)
    indices: list[Any] = [np.int64] if definition.apart else []
    takes = [*[dtype] * count, *indices, *[np.float64] * (numbers + 2)]
    gives = [*[np.float64] * (1 + numbers), *[dtype] * (definition.derived if slopes else 0)]
    given = ["(n)"] * count + ["()"] * (len(indices) + numbers + 1) + ["(s)"]
    found = ["()"] * (1 + numbers) + ["(n)"] * (definition.derived if slopes else 0)
    ufunc = ufunc_over(address, definition.name, takes, gives, f"{','.join(given)}->{','.join(found)}")
    return _Loop(ufunc, ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address))


def of_rows(
    definition: RowDefinition,
    data: Sequence[NDArray],
    index: NDArray | None,
    numbers: Sequence[Any],
    weights: Any,
    slopes: Sequence[NDArray] | None,
) -> RowResults:
    """What rows along the second axis of three come to, on all cores if that pays.

    Data, of one shape, are contiguous and of a dtype that is `stored`; ``index``, int64, is of the shape of the first
    and the last axis, numbers and weights are floats or doubles of that shape.  ``slopes`` are arrays like the data, to
    which derivatives times the weights go, or None.
    """
    before, length, after = data[0].shape
    dtype: type = data[0].dtype.type
    loop = _loop(definition, dtype, slopes is not None)
    results = RowResults(np.empty((before, after)), tuple(np.empty((before, after)) for _ in numbers))
    given = [np.swapaxes(a, 1, 2) for a in data] + ([] if index is None else [index])
    outs = [results.value, *results.by_numbers, *[np.swapaxes(a, 1, 2) for a in slopes or ()]]
    room = _room(definition, length, slopes is not None)
    if data[0].size < PARALLEL:
        loop.ufunc(*given, *numbers, weights, np.empty(room), out=tuple(outs))
        return results
    axis = int(after > before)  # which is shared out among threads
    fixed = [np.broadcast_to(np.float64(number), (before, after)) for number in (*numbers, weights)]
    operands = [np.moveaxis(a, axis, 0) for a in (*given, *fixed)]
    targets = [np.moveaxis(a, axis, 0) for a in outs]

    def part(first: int, last: int) -> None:
        """These rows, with memory of their own: one run of the loop for each place along the other axis."""
        memory = np.empty(room)
        for other in range(operands[0].shape[1]):
            run = [a[first:last, other] for a in operands], memory, [a[first:last, other] for a in targets]
            _run(loop.function, *run)

    rows = (before, after)[axis]
    in_threads(part, rows, 1, max(1, PIECE * rows // data[0].size))
    return results


def _room(definition: RowDefinition, length: int, slopes: bool) -> int:
    """How many doubles of memory a loop is given."""
    if length <= BLOCK:
        return definition.summed * length * ROWS
    room = -(-length // LANES) * LANES  # what the terms of a row are filled up to
    if not slopes or room > _KEPT:
        return definition.summed * BLOCK
    return definition.summed * room * max(1, min(ROWS, _TOGETHER // room))


def _run(function: Callable[..., None], operands: list[NDArray], memory: NDArray, outs: list[NDArray]) -> None:
    """The loop over these rows, the first axis of all but the memory."""
    arrays = [*operands, memory, *outs]
    rows, length = operands[0].shape
    along = [a.strides[1] for a in operands if a.ndim == 2] + [memory.itemsize]
    along += [a.strides[1] for a in outs if a.ndim == 2]
    steps = [*[a.strides[0] for a in operands], 0, *[a.strides[0] for a in outs], *along]
    words = ctypes.c_ssize_t
    addresses = (words * len(arrays))(*[a.ctypes.data for a in arrays])
    function(addresses, (words * 3)(rows, length, memory.size), (words * len(steps))(*steps), None)
