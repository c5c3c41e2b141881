"""Sums over all elements in one pass, with gradients in the shapes of the parameters.

Panels of a fixed size are summed one by one, and their sums in a fixed tree, so that bits depend on no thread.
"""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ... import _arguments as arguments
from ..._types import LossGrad
from ...kernels.compilers.alone import alone
from ...kernels.loops.panels import PANEL, PANELS_MAX, SUMS_MAX, TILE
from .operands import overlap, prepared, unchecked
from .pieces import call, columns, each_panel, run, tile
from .ufuncs import ufunc_for
from .weights import Factors, broadcast, factors, weigh

__all__ = ["reduce"]


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    plain = weights is None and unchecked(family, x, alpha, scale)
    if plain and 0 < x.size <= PANEL and x.flags.c_contiguous and _only_dx(out, x):
        return _reduce_small(family, wrt, x, alpha, scale, reduction, out)
    return _reduce(family, wrt, x, alpha, scale, reduction, weights, out)


# --- one panel, with numbers as parameters


def _only_dx(out: Any, x: Any) -> bool:
    """Whether out is nothing, or no more than memory for dx as it should be."""
    if out is None:
        return True
    dx = out[1]
    return (
        out[0] is out[2] is out[3] is None
        and type(dx) is np.ndarray
        and dx.dtype == x.dtype
        and dx.shape == x.shape
        and dx.flags.carray
        and (dx is x or not np.may_share_memory(dx, x))
    )


def _reduce_small(
    family: str, wrt: tuple[str, ...], x: Any, alpha: float, scale: float, reduction: str, out: Any
) -> LossGrad:
    """`reduce` of up to one panel with numbers as parameters: the same bits for a third of the overhead."""
    T, size, item = x.dtype.type, x.size, x.itemsize
    C = ctypes.c_float if T is np.float32 else ctypes.c_double
    kernel = _panel(family, arguments.outputs(wrt), T, "shared")
    dx = None if "x" not in wrt else np.empty(x.shape, T) if out is None else out[1]
    by, _ = factors(reduction, size, None, T is np.float64)
    numbers, sums = (C * 5)(alpha, scale, by.dx, 1.0, by.step), (ctypes.c_double * 3)()
    base, dx_at = ctypes.addressof(numbers), 0 if dx is None else _address(dx)
    addresses = (ctypes.c_ssize_t * 7)(
        _address(x), base, base + item, 0, dx_at, base + 2 * item, ctypes.addressof(sums)
    )
    kernel(addresses, (ctypes.c_ssize_t * 2)(1, size), (ctypes.c_ssize_t * 5)(), None)
    value, dalpha, dscale = (T(C(v * by.last).value) for v in sums)  # C overflows to infinity without a warning
    dx = dx[()] if out is None and dx is not None else dx  # a scalar if it has no axes
    return LossGrad(value, dx, dalpha if "alpha" in wrt else None, dscale if "scale" in wrt else None)


def _address(array: Any) -> int:
    """The address of a contiguous array; ``array.ctypes.data`` takes four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if array.flags.writeable else int(array.ctypes.data)


# --- any arrays


@np.errstate(all="ignore")  # elements tell of overflow and NaN, not warnings
def _reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """`reduce` in general."""
    dtype, x, alpha, scale = prepared(family, x, alpha, scale)
    compute = arguments.compute_type(dtype)
    shape = arguments.broadcast(x=x, alpha=alpha, scale=scale)
    if weights is not None:
        weights = np.ascontiguousarray(broadcast(weights, shape, compute))
        compute = np.float64 if weights.dtype == np.float64 else compute
    x, alpha, scale = (np.asarray(a, compute) for a in (x, alpha, scale))
    shapes = {"value": (), "dx": shape, "dalpha": alpha.shape, "dscale": scale.shape}
    given = dict(zip(shapes, arguments.given(out, tuple(shapes), shapes), strict=True))
    by, weights = factors(reduction, math.prod(shape), weights, compute is np.float64)
    x = np.ascontiguousarray(x if x.shape == shape else np.broadcast_to(x, shape))
    dx = None
    if "x" in wrt:
        dx = given["dx"]
        usable = dx is not None and dx.dtype == compute and dx.flags.c_contiguous
        spoils = any(overlap(dx, a) for a in (x, alpha, scale)) or (
            weights is not None and np.may_share_memory(dx, weights)
        )
        if not usable or spoils:
            dx = np.empty(shape, compute)

    sums = _Sums(family, arguments.outputs(wrt), x, alpha, scale, weights, dx, by)
    value, dalpha, dscale = sums.found()
    results = {"value": np.asarray(value), "dx": dx}
    results["dalpha"] = np.reshape(dalpha, alpha.shape) if "alpha" in wrt else None
    results["dscale"] = np.reshape(dscale, scale.shape) if "scale" in wrt else None
    for name, result in results.items():
        if result is not None and given[name] is None:
            results[name] = result.astype(dtype, copy=False)[()]
        elif result is not None:
            if result is not given[name]:
                np.copyto(given[name], result, casting="same_kind")
            results[name] = given[name]
    return LossGrad(**results)


class _Sums(NamedTuple):
    """A reduction with operands of the dtype that it computes in, x, weights and dx in one piece.

    Each way to do it gives the sums of the value, and of d/dalpha and d/dscale by parameter, and fills dx in.
    """

    family: str
    outputs: tuple[str, ...]
    x: Any
    alpha: Any
    scale: Any
    weights: Any  # of x's shape, or None
    dx: Any  # memory for d/dx, or None
    by: Factors

    def found(self) -> tuple[Any, Any, Any]:
        """The sums, in the way that the parameters' shapes ask for."""
        x, alpha, scale = self.x, self.alpha, self.scale
        if x.size == 0:
            return np.float64(0) * self.by.dx, np.zeros(alpha.size) * self.by.dx, np.zeros(scale.size) * self.by.dx
        tail = x.shape[x.ndim - columns(x, alpha, scale) :]
        period = math.prod(tail)
        if period == 1:
            return self._by_number()
        if period < x.size:
            return self._by_column(tail)
        if any(1 < a.size < x.size for a in (alpha, scale)):
            return self._by_axis()
        return self._by_element()

    # Parameters that are numbers, or vary along the last axes: kernels that sum.

    def _by_number(self) -> tuple[Any, Any, Any]:
        """The sums where alpha and scale are one number each."""
        value, dalpha, dscale = _tree(self._panels("shared", (self.alpha, self.scale), PANEL, 1, 3)) * self.by.last
        return value, dalpha, dscale

    def _by_column(self, tail: tuple[int, ...]) -> tuple[Any, Any, Any]:
        """The sums where the parameters vary along the last axes of x only, of the shape ``tail``."""
        period = math.prod(tail)
        repeat = max(1, TILE // period)
        tiles = [tile(a, tail, repeat) for a in (self.alpha, self.scale)]
        width = period * repeat
        slots = 1 + 2 * width
        rows, rest = divmod(self.x.size, width)
        panels = min(PANELS_MAX, max(2, SUMS_MAX // slots))
        sums = self._panels("columns", tiles, width, max(1, PANEL // width, -(-rows // panels)), slots)
        if rest:
            # The last row's sums have `rest` columns each, not `width`.
            last = sums[-1].copy()
            sums[-1] = 0
            sums[-1, 0] = last[0]
            sums[-1, 1 : 1 + rest] = last[1 : 1 + rest]
            sums[-1, 1 + width : 1 + width + rest] = last[1 + rest : 1 + 2 * rest]
        total = _tree(sums)
        gradients = []
        for array, part in ((self.alpha, total[1 : 1 + width]), (self.scale, total[1 + width :])):
            folded = part.reshape(repeat, period).sum(axis=0)
            gradients.append(arguments.unbroadcast(folded.reshape(tail), array.shape))
        value, dalpha, dscale = (part * self.by.last for part in (total[0], *gradients))
        return value, dalpha, dscale

    def _panels(self, layout: str, tiles: Sequence[Any], width: int, height: int, slots: int) -> Any:
        """So many sums of each panel: of ``height`` rows of ``width`` elements, and of what is left of the last row."""
        x, by = self.x, self.by
        kernel = _panel(self.family, self.outputs, x.dtype.type, layout)
        item, start = x.itemsize, x.ctypes.data
        weights_at = 0 if self.weights is None else self.weights.ctypes.data
        dx_at = 0 if self.dx is None else self.dx.ctypes.data
        rows, rest = divmod(x.size, width)
        whole = -(-rows // height)
        sums = np.zeros((whole + (rest > 0), slots))
        at = ((ctypes.c_double if item == 8 else ctypes.c_float) * 3)(by.dx, by.lift, by.step)
        steps = (ctypes.c_ssize_t * 5)(
            width * item, *(item if t.size > 1 else 0 for t in tiles), width * item, width * item
        )

        def part(first: int, last: int) -> None:
            for panel in range(first, last):
                begin = panel * height * width if panel < whole else rows * width
                dims = (ctypes.c_ssize_t * 2)(min(height, rows - panel * height), width)
                if panel == whole:
                    dims = (ctypes.c_ssize_t * 2)(1, rest)
                offset = begin * item
                addresses = (ctypes.c_ssize_t * 7)(
                    start + offset,
                    *(t.ctypes.data for t in tiles),
                    weights_at and weights_at + offset,
                    dx_at and dx_at + offset,
                    ctypes.addressof(at),
                    sums[panel].ctypes.data,
                )
                kernel(addresses, dims, steps, None)

        each_panel(part, len(sums), x.size)
        return sums

    # A parameter that varies along the first axis: ufuncs, and sums of their results.

    def _by_axis(self) -> tuple[Any, Any, Any]:
        """The sums where a parameter is neither one number nor one for each element.

        Gradients for each element, then sums over the other axes.
        """
        x, by, stored = self.x, self.by, self._stored()
        ufunc = ufunc_for(self.family, self.outputs, x.dtype.type, "each")
        arrays = {name: stored[name] if name in stored else np.empty(x.shape, x.dtype) for name in self.outputs}
        run(ufunc, [x, self.alpha, self.scale], list(arrays.values()))
        for name, array in arrays.items():
            weigh(array, self.weights, by.lift, by.dx if name in stored else by.step)
        found = {"value": arrays["value"].sum(dtype=np.float64) * by.last} | stored
        for name, parameter in (("dalpha", self.alpha), ("dscale", self.scale)):
            if name in arrays and name not in stored:
                found[name] = arguments.unbroadcast(arrays[name], parameter.shape) * by.last
        return found["value"], found.get("dalpha"), found.get("dscale")

    def _by_element(self) -> tuple[Any, Any, Any]:
        """The sums where a parameter has one number for each element, and the other one as well, or only one.

        Panel by panel, so that weights, factor and sums find their operands in the cache.
        """
        x, by, stored = self.x, self.by, self._stored()
        ufunc = ufunc_for(self.family, self.outputs, x.dtype.type, "each")
        flat = [a.reshape(-1) for a in (x, self.alpha, self.scale)]
        weights = None if self.weights is None else self.weights.reshape(-1)
        places = {name: array.reshape(-1) for name, array in stored.items()}
        summed = [name for name in self.outputs if name not in places]
        sums = np.zeros((-(-x.size // PANEL), len(summed)))

        def part(first: int, last: int) -> None:
            buffers = {name: np.empty(min(PANEL, x.size), x.dtype) for name in summed}
            with np.errstate(all="ignore"):
                for panel in range(first, last):
                    cut = slice(panel * PANEL, min((panel + 1) * PANEL, x.size))
                    size = cut.stop - cut.start
                    outs = {n: places[n][cut] if n in places else buffers[n][:size] for n in self.outputs}
                    call(ufunc, [a if a.size == 1 else a[cut] for a in flat], list(outs.values()))
                    for name, array in outs.items():
                        own = None if weights is None else weights[cut]
                        weigh(array, own, by.lift, by.dx if name in places else by.step)
                    sums[panel] = [outs[name].sum(dtype=np.float64) for name in summed]

        each_panel(part, len(sums), x.size)
        found = dict(zip(summed, _tree(sums) * by.last, strict=True)) | stored
        return found["value"], found.get("dalpha"), found.get("dscale")

    def _stored(self) -> dict[str, Any]:
        """Memory for the results that are kept for each element, by name."""
        parameters = {"dalpha": self.alpha, "dscale": self.scale}
        stored = {
            name: np.empty(self.x.shape, self.x.dtype)
            for name, a in parameters.items()
            if name in self.outputs and a.size == self.x.size
        }
        return stored if self.dx is None else stored | {"dx": self.dx}


@functools.cache
def _panel(family: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> Callable[..., None]:
    """The reduction kernel of that layout, callable with addresses; releases the GIL."""
    return alone(lambda: _reduction(family, outputs, dtype, layout))


def _reduction(family: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> Callable[..., None]:
    from ...kernels.loops import compiled

    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(compiled.kernel("reduction", family, outputs, dtype, layout))


def _tree(sums: Any) -> Any:
    """Sum over the first axis in a fixed tree: the second half is added to the first, until one is left."""
    while len(sums) > 1:
        half = (len(sums) + 1) // 2
        sums[: len(sums) - half] += sums[half:]
        sums = sums[:half]
    return sums[0]
