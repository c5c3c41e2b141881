"""Sums over all elements in one pass, with gradients in the shapes of the parameters.

Panels of a fixed size are summed one by one, and their sums in a fixed tree, so that bits depend on no thread.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ... import _arguments as arguments
from ..._types import ArrayLike, NDArray
from ...kernels.compilers.alone import alone
from ...kernels.loops.panels import PANEL, PANELS_MAX, STREAM, SUMS_MAX, TILE
from ...kernels.losses.definition import Definition
from .operands import Operands, overlap, prepared, unchecked
from .pieces import call, columns, each_panel, run, tile
from .ufuncs import ufunc_for, whole_for
from .weights import Factors, broadcast, factors, weigh

__all__ = ["reduce"]

Out: TypeAlias = Sequence[Any] | None  # for each of the results an array to write to, or None
Results: TypeAlias = tuple[Any, ...]  # the value, then gradients in all operands: numbers, arrays, None if not wanted
Sums: TypeAlias = list[Any]  # of the value, and of the derivatives in each parameter: numbers, or arrays of its shape


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    reduction: str,
    weights: ArrayLike | None,
    out: Out,
) -> Results:
    """Sum or weighted mean of the value, and gradients: for each element in data, in their own shapes in parameters."""
    if weights is None and unchecked(definition, operands) and 0 < (x := operands[0]).size <= PANEL:
        contiguous, leading = x.flags.c_contiguous, len(definition.data)
        for a in operands[1:leading]:
            contiguous &= a.flags.c_contiguous
        if contiguous and (out is None or _only_slopes(out, operands[:leading])):
            return _reduce_small(definition, wrt, operands, reduction, out)
    return _reduce(definition, wrt, operands, reduction, weights, out)


# --- one panel, with numbers as parameters


def _only_slopes(out: Sequence[Any], data: Sequence[NDArray]) -> bool:
    """Tell whether out is no more than memory for derivatives in the data as it should be."""
    x, slopes = data[0], out[1 : 1 + len(data)]
    return (
        out[0] is None
        and all(a is None for a in out[1 + len(data) :])
        and all(
            a is None
            or (
                type(a) is np.ndarray
                and a.dtype == x.dtype
                and a.shape == x.shape
                and a.flags.carray
                and all(a is other or not np.may_share_memory(a, other) for other in data)
            )
            for a in slopes
        )
    )


def _reduce_small(
    definition: Definition, wrt: tuple[str, ...], operands: Operands, reduction: str, out: Out
) -> Results:
    """`reduce` of up to one panel with numbers as parameters: the same bits by one call of a generalized ufunc."""
    x = operands[0]
    ufunc = whole_for(definition, wrt, x.dtype.type, reduction == "mean")
    flat = x.ndim == 1
    if flat and out is None and not wrt:
        return (ufunc(*operands),) + (None,) * len(operands)
    leading = len(definition.data)
    if not flat:
        operands = *[a.reshape(-1) for a in operands[:leading]], *operands[leading:]
    if out is None:
        results = ufunc(*operands)
    else:
        places = [a for name, a in zip(definition.operands, out[1:], strict=True) if name in wrt]
        results = ufunc(*operands, out=(None, *[a if flat or a is None else a.reshape(-1) for a in places]))
    if not wrt:
        return (results,) + (None,) * len(operands)
    if flat and len(wrt) == len(operands):
        return results
    following = iter(results)
    every = [next(following), *[next(following) if name in wrt else None for name in definition.operands]]
    if not flat:
        for k, slope in enumerate(every[1 : 1 + leading], 1):
            if slope is not None:
                given = None if out is None else out[k]
                every[k] = given if given is not None else slope.reshape(x.shape) if x.ndim else slope[0]
    return tuple(every)


def _address(array: Any) -> int:
    """The address of a contiguous array; ``array.ctypes.data`` takes four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if array.flags.writeable else int(array.ctypes.data)


# --- any arrays


@np.errstate(all="ignore")  # elements tell of overflow and NaN, not warnings
def _reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    reduction: str,
    weights: ArrayLike | None,
    out: Out,
) -> Results:
    """`reduce` in general: operands, weights and memory made such that kernels can take them, then `_Sums`.

    Derivatives in data are computed in the memory that was given for them, where it is of the right kind and nothing
    else is in it, and elsewhere if not.
    """
    leading, names = len(definition.data), arguments.outputs(definition.operands)
    dtype, arrays = prepared(definition, operands)
    compute = arguments.compute_type(dtype)
    shape = arguments.broadcast(definition.operands, arrays)
    if weights is not None:
        weights = np.ascontiguousarray(broadcast(weights, shape, compute))
        compute = np.float64 if weights.dtype == np.float64 else compute
    arrays = [np.asarray(a, compute) for a in arrays]
    shapes = {name: arrays[k - 1].shape if k > leading else shape if k else () for k, name in enumerate(names)}
    given = arguments.given(out, names, shapes)
    by, weights = factors(reduction, math.prod(shape), weights, compute is np.float64)
    for k in range(leading):
        a = arrays[k]
        arrays[k] = np.ascontiguousarray(a if a.shape == shape else np.broadcast_to(a, shape))
    results: list[NDArray | None] = [None] * len(names)
    for k, name in enumerate(definition.data, 1):
        if name in wrt:
            slope = given[k]
            usable = slope is not None and slope.dtype == compute and slope.flags.c_contiguous
            if not usable or any(overlap(slope, a) for a in arrays) or _share(slope, weights):
                slope = np.empty(shape, compute)
            results[k] = slope

    outputs = arguments.outputs(wrt)
    sums = _Sums(
        definition, outputs, arrays[:leading], arrays[leading:], weights, results[1 : 1 + leading], by
    ).computed()
    results[0] = np.asarray(sums[0])
    for k, name in enumerate(definition.parameters, 1):
        if name in wrt:
            results[leading + k] = np.reshape(sums[k], arrays[leading + k - 1].shape)
    for k, (result, into) in enumerate(zip(results, given, strict=True)):
        if result is not None and into is None:
            results[k] = result.astype(dtype, copy=False)[()]
        elif result is not None:
            if result is not into:
                np.copyto(into, result, casting="same_kind")
            results[k] = into
    return tuple(results)


def _share(array: NDArray, weights: NDArray | None) -> bool:
    """Tell whether the array may lie in the memory of the weights."""
    return weights is not None and np.may_share_memory(array, weights)


class _Sums(NamedTuple):
    """A reduction with operands of the dtype that it computes in, data, weights and their slopes in one piece.

    Each way to do it gives the sums of the value and of the derivatives in each parameter, and fills the slopes in.
    """

    definition: Definition
    outputs: tuple[str, ...]
    data: list[NDArray]  # of the shape that all are broadcast to
    parameters: list[NDArray]
    weights: NDArray | None  # of the data's shape
    slopes: list[NDArray | None]  # for each of the data memory for the derivative in it, or None
    by: Factors

    def computed(self) -> Sums:
        """The sums, in the way that the parameters' shapes ask for; those that are not wanted are something."""
        x, parameters = self.data[0], self.parameters
        if x.size == 0:
            return [np.zeros(shape) * self.by.slope for shape in ((), *(p.shape for p in parameters))]
        tail = x.shape[x.ndim - columns(parameters) :]
        period = math.prod(tail)
        if period == 1:
            return self._by_number()
        if period < x.size:
            return self._by_column(tail)
        if any(1 < p.size < x.size for p in parameters):
            return self._by_axis()
        return self._by_element()

    # Parameters that are numbers, or vary along the last axes: kernels that sum.

    def _by_number(self) -> Sums:
        """The sums where each parameter is one number."""
        return list(_tree(self._panels("shared", self.parameters, PANEL, 1, 1 + len(self.parameters))) * self.by.last)

    def _by_column(self, tail: tuple[int, ...]) -> Sums:
        """The sums where the parameters vary along the last axes of the data only, of the shape ``tail``."""
        period, size, count = math.prod(tail), self.data[0].size, len(self.parameters)
        repeat = max(1, TILE // period)
        tiles = [tile(p, tail, repeat) for p in self.parameters]
        width = period * repeat
        slots = 1 + count * width
        rows, rest = divmod(size, width)
        panels = min(PANELS_MAX, max(2, SUMS_MAX // slots))
        sums = self._panels("columns", tiles, width, max(1, PANEL // width, -(-rows // panels)), slots)
        if rest:
            # The last row's sums have `rest` columns each, not `width`.
            last = sums[-1].copy()
            sums[-1] = 0
            sums[-1, 0] = last[0]
            for k in range(count):
                sums[-1, 1 + k * width :][:rest] = last[1 + k * rest :][:rest]
        total = _tree(sums)
        parts = [total[0]]
        for k, parameter in enumerate(self.parameters):
            folded = total[1 + k * width :][:width].reshape(repeat, period).sum(axis=0)
            parts.append(arguments.unbroadcast(folded.reshape(tail), parameter.shape))
        return [part * self.by.last for part in parts]

    def _panels(self, layout: str, tiles: Sequence[NDArray], width: int, height: int, slots: int) -> NDArray:
        """The sums of each panel, ``slots`` many, and the slopes filled in.

        A panel has ``height`` rows of ``width`` elements; what is left of the last row is one more.  ``tiles`` are the
        parameters of a row.
        """
        data, by, size, item = self.data, self.by, self.data[0].size, self.data[0].itemsize
        dtype: type = data[0].dtype.type
        kernel = _panel(self.definition, self.outputs, dtype, layout)
        starts, ends = [_address(a) for a in data], [_address(t) for t in tiles]
        weights_at = 0 if self.weights is None else _address(self.weights)
        slopes_at = [0 if slope is None else _address(slope) for slope in self.slopes]
        rows, rest = divmod(size, width)
        whole = -(-rows // height)
        sums = np.zeros((whole + (rest > 0), slots))
        sums_at = _address(sums)
        streaming = size * item >= STREAM
        at = ((ctypes.c_double if item == 8 else ctypes.c_float) * 4)(by.slope, by.lift, by.step, streaming)
        factors_at = ctypes.addressof(at)
        along, across = [width * item] * len(data), [item if t.size > 1 else 0 for t in tiles]
        steps = (ctypes.c_ssize_t * (len(across) + 2 * len(along) + 1))(*along, *across, width * item, *along)
        words = ctypes.c_ssize_t * (len(steps) + 2)

        def part(first: int, last: int) -> None:
            """Sum up these panels, by a call of the kernel, and one more for what is left of the last row."""
            calls = [(first, min(last, whole), width), (whole, last, rest)]
            for panel, end, columns_count in calls:
                if panel >= end:
                    continue
                begin = min(panel * height, rows)
                offset = begin * width * item
                addresses = words(
                    *[start + offset for start in starts],
                    *ends,
                    weights_at and weights_at + offset,
                    *[slope and slope + offset for slope in slopes_at],
                    factors_at,
                    sums_at + panel * slots * sums.itemsize,
                )
                count = 1 if panel == whole else min(end * height, rows) - begin
                kernel(addresses, _DIMS(count, columns_count, height), steps, None)

        each_panel(part, len(sums), size)
        return sums

    # A parameter that varies along the first axis: ufuncs, and sums of their results.

    def _by_axis(self) -> Sums:
        """The sums where a parameter is neither one number nor one for each element.

        Gradients for each element, then sums over the other axes.
        """
        x, by, stored = self.data[0], self.by, self._stored()
        dtype: type = x.dtype.type
        ufunc = ufunc_for(self.definition, self.outputs, dtype, "each")
        arrays = {name: stored[name] if name in stored else np.empty(x.shape, x.dtype) for name in self.outputs}
        run(ufunc, self.definition, [*self.data, *self.parameters], list(arrays.values()))
        for name, array in arrays.items():
            weigh(array, self.weights, by.lift, by.slope if name in stored else by.step)
        sums = [arrays["value"].sum(dtype=np.float64) * by.last]
        for name, parameter in zip(self.definition.sums[1:], self.parameters, strict=True):
            if name in arrays and name not in stored:
                sums.append(arguments.unbroadcast(arrays[name], parameter.shape) * by.last)
            else:
                sums.append(stored.get(name))
        return sums

    def _by_element(self) -> Sums:
        """The sums where a parameter has one number for each element, and each other one as well, or only one.

        Panel by panel, so that weights, factor and sums find their operands in the cache.
        """
        by, stored, size = self.by, self._stored(), self.data[0].size
        dtype: type = self.data[0].dtype.type
        ufunc = ufunc_for(self.definition, self.outputs, dtype, "each")
        flat = [a.reshape(-1) for a in (*self.data, *self.parameters)]
        weights = None if self.weights is None else self.weights.reshape(-1)
        places = {name: array.reshape(-1) for name, array in stored.items()}
        summed = [name for name in self.outputs if name not in places]
        sums = np.zeros((-(-size // PANEL), len(summed)))

        def part(first: int, last: int) -> None:
            """Sum up these panels; what is not kept for each element is computed in buffers."""
            buffers: dict[str, NDArray] = {name: np.empty(min(PANEL, size), dtype) for name in summed}
            with np.errstate(all="ignore"):
                for panel in range(first, last):
                    cut = slice(panel * PANEL, min((panel + 1) * PANEL, size))
                    length = cut.stop - cut.start
                    outs = {n: places[n][cut] if n in places else buffers[n][:length] for n in self.outputs}
                    call(ufunc, [a if a.size == 1 else a[cut] for a in flat], list(outs.values()))
                    for name, array in outs.items():
                        some = None if weights is None else weights[cut]
                        weigh(array, some, by.lift, by.slope if name in places else by.step)
                    sums[panel] = [outs[name].sum(dtype=np.float64) for name in summed]

        each_panel(part, len(sums), size)
        totals = dict(zip(summed, _tree(sums) * by.last, strict=True)) | stored
        return [totals.get(name) for name in self.definition.sums]

    def _stored(self) -> dict[str, NDArray]:
        """Memory for the results that are kept for each element, by name."""
        x = self.data[0]
        slopes = zip(self.definition.gradients, self.slopes, strict=False)  # those in data come first
        return {name: slope for name, slope in slopes if slope is not None} | {
            name: np.empty(x.shape, x.dtype)
            for name, parameter in zip(self.definition.sums[1:], self.parameters, strict=True)
            if name in self.outputs and parameter.size == x.size
        }


_DIMS = ctypes.c_ssize_t * 3  # rows, columns, rows of a panel


@functools.cache
def _panel(definition: Definition, outputs: tuple[str, ...], dtype: type, layout: str) -> Callable[..., None]:
    """The reduction kernel of that layout, callable with addresses; releases the GIL."""
    return alone(lambda: _reduction(definition, outputs, dtype, layout))


def _reduction(definition: Definition, outputs: tuple[str, ...], dtype: type, layout: str) -> Callable[..., None]:
    """`_panel` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.kernel("reduction", definition, outputs, dtype, layout)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address)


def _tree(sums: NDArray) -> NDArray:
    """The sum over the first axis in a fixed tree: the second half is added to the first, until one is left."""
    while len(sums) > 1:
        half = (len(sums) + 1) // 2
        sums[: len(sums) - half] += sums[half:]
        sums = sums[:half]
    return sums[0]
