"""A ufunc over large arrays: rows of parameters that repeat are made long enough; pieces for threads, of sums too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..._threads import in_threads
from ..._types import NDArray
from ...kernels.loops.panels import PARALLEL, TILE
from ...kernels.losses.definition import Definition

__all__ = ["call", "columns", "each_panel", "run", "tile"]

PIECE = 1 << 23  # elements that a thread takes at most at a time, so that Ctrl-C is heeded soon


def columns(parameters: Sequence[NDArray]) -> int:
    """The number of trailing axes that hold all that the parameters vary along; they repeat over the axes before."""
    return max(
        (a.ndim - min((i for i, n in enumerate(a.shape) if n > 1), default=a.ndim) for a in parameters), default=0
    )


def tile(parameter: NDArray, tail: tuple[int, ...], repeat: int) -> NDArray:
    """A parameter over the trailing block of that shape, flat and repeated; a single number stays one."""
    if parameter.size == 1:
        return parameter.reshape(1)
    inner = parameter.reshape(parameter.shape[max(0, parameter.ndim - len(tail)) :])  # leading axes have length 1
    tile = np.empty((repeat, *tail), parameter.dtype)
    tile[...] = inner
    return tile.reshape(-1)


def run(ufunc: np.ufunc, definition: Definition, arrays: Sequence[NDArray], outs: Sequence[NDArray]) -> None:
    """Fill outs, all of the broadcast shape, with the ufunc of the operands, on all cores if that pays.

    Contiguous arrays are flattened first, with parameters that repeat in short rows spread over longer ones.
    """
    data, parameters = arrays[: len(definition.data)], arrays[len(definition.data) :]
    shape, size = outs[0].shape, outs[0].size
    if all(a.shape == shape and a.flags.c_contiguous for a in (*data, *outs)):
        tail = shape[len(shape) - columns(parameters) :]
        period = math.prod(tail)
        flat = [o.reshape(-1) for o in outs]
        if period == 1 or all(a.shape == shape and a.flags.c_contiguous for a in parameters):
            arrays, outs = [a.reshape(-1) for a in arrays], flat
        elif period < TILE // 2 and size > TILE:
            # Short rows would be all loop overhead: repeat the parameters to a tile that the first-level cache holds.
            tiles = [tile(a, tail, TILE // period) for a in parameters]
            width = TILE // period * period
            whole, rows = size - size % width, [a.reshape(-1) for a in data]
            rest = [*(a[whole:] for a in rows), *(a[: size - whole] for a in tiles)]
            call(ufunc, rest, [o[whole:] for o in flat])
            arrays = [*(a[:whole].reshape(-1, width) for a in rows), *tiles]
            outs = [o[:whole].reshape(-1, width) for o in flat]
    shape = outs[0].shape
    if math.prod(shape) < PARALLEL:
        call(ufunc, arrays, outs)
        return
    axis = int(np.argmax(shape))
    views = [np.moveaxis(np.broadcast_to(a, shape), axis, 0) for a in arrays]
    targets = [np.moveaxis(o, axis, 0) for o in outs]

    def part(start: int, stop: int) -> None:
        call(ufunc, [v[start:stop] for v in views], [o[start:stop] for o in targets])

    in_threads(part, shape[axis], 256 if len(shape) == 1 else 1, PIECE * shape[axis] // math.prod(shape))


def call(ufunc: np.ufunc, arrays: Sequence[NDArray], outs: Sequence[NDArray]) -> None:
    """The ufunc into outs.  A result too large for the type of an output is inf, without a warning."""
    char = ufunc.types[0][-1]
    if all(o.dtype.char == char for o in outs):
        ufunc(*arrays, out=tuple(outs), casting="same_kind")
    else:
        with np.errstate(over="ignore", under="ignore"):
            ufunc(*arrays, out=tuple(outs), casting="same_kind")


def each_panel(part: Callable[[int, int], None], panels: int, size: int) -> None:
    """part(first, last) over all panels of so many elements together, on all cores if there are elements enough."""
    if size < PARALLEL:
        part(0, panels)
    else:
        in_threads(part, panels, 1, PIECE * panels // size)
