"""The choice of CUDA kernels, their words and grids: for every backend whose arrays lie on a GPU.

Arrays come as addresses, shapes and strides, so that no framework is needed here, nor Numba where the kernels are in
the cache.  Storage is what the memory holds, one of "float16", "bfloat16", "float32", "float64"; the two halves are
computed in float32, in which parameters and weights always come.

=========  ============================================================  ==========================================
layout     parameters                                                    data, contiguous unless "strided"
=========  ============================================================  ==========================================
shared     one number each, by value or by address                       16 bytes at a time
columns    vary along one axis, (outer, period, inner), with as many     element by element, a thread keeps its
           threads as period * inner; prepared once for a thread         column; with one column for any alignment
rows       the same with an inner axis too long for that; prepared       element by element, a warp keeps its row
           once for `ROW` elements
each       one number or one for each element, like the data             16 bytes at a time, 8 of the halves
strided    any strides                                                   any strides
=========  ============================================================  ==========================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..arithmetic import scaling
from ..losses.definition import Definition

__all__ = [
    "DOUBLES",
    "REGISTERS",
    "THREADS",
    "Array",
    "Device",
    "Operands",
    "Places",
    "elementwise",
    "number",
    "operands",
    "reduction",
    "summed",
    "total",
]

THREADS = 128  # of a block
BLOCKS = 16  # for each multiprocessor, at most
# Blocks that a multiprocessor's 65,536 registers are for, at least: 168 for a thread, in double 255.
REGISTERS = {"float32": 3, "float64": 2}
CHUNK = 4096  # partial sums that one warp of `cuda.fold` takes
ROW = 2048  # elements of a row that a warp takes at a time
LAYOUTS = ("shared", "columns", "rows", "each", "strided")
DIMENSIONS = 4  # of the layout "strided"
DOUBLES = frozenset({(8, 0), (9, 0), (10, 0)})  # compute capabilities with half as many units for doubles as for floats


class Places:
    """The places of the words that a kernel gets: those of all kernels first, the outputs' addresses last."""

    def __init__(self, definition: Definition, layout: str) -> None:
        data, parameters = len(definition.data), len(definition.parameters)
        self.n, self.data = 0, 1
        self.addresses = self.data + data  # of parameters, 0 for those by value
        self.values = self.addresses + parameters
        self.steps = self.values + parameters  # from one element or column to the next
        self.period = self.steps + parameters
        self.inner, self.stride, after = self.period + 1, self.period + 2, self.period + 3
        # What a reduction has besides: addresses of weights and of their total, two numbers, then addresses again.
        self.weights, self.total, self.factor, self.step, self.partials = range(after, after + 5)
        self.slopes = after + 5  # of the data
        self.end = self.slopes + data
        # "strided": extents of all axes but the first, then the strides of the operands.
        self.extents = after
        self.strides = self.extents + DIMENSIONS - 1
        self.outputs = after + (DIMENSIONS - 1 + DIMENSIONS * (data + parameters) if layout == "strided" else 0)


def summed(definition: Definition, outputs: Sequence[str]) -> tuple[str, ...]:
    """The names of what a reduction with these outputs sums up, in the order of its partial sums."""
    return tuple(name for name in definition.sums if name in outputs)


class Array(NamedTuple):
    """Memory on the device; strides count elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Device(NamedTuple):
    """A GPU that runs kernels, on the current stream of the arrays' device."""

    multiprocessors: int
    doubles: bool  # whether it computes with doubles at half the rate of floats, see `DOUBLES`
    launch: Callable[[tuple[object, ...], int, Sequence[int]], None]  # what `ptx.kernel` takes, blocks, words
    scratch: Callable[[int], int]  # address of memory for so many doubles, which lives until the kernels are queued


def number(value: float) -> int:
    """The word of a number: the bits of its double."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


class Operands(NamedTuple):
    """The operands of a call and how they lie, seen once."""

    n: int
    data: tuple[Array, ...]
    parameters: tuple[Array | float, ...]
    extents: list[int]  # of the axes that are left when those that run on into the next one are joined
    strides: list[list[int]]  # of the data, then of the parameters
    layout: str
    period: int
    inner: int
    steps: tuple[int, ...]  # of the parameters, from one element or column to the next

    @property
    def plannable(self) -> bool:
        """Tell whether there are no more axes than the kernels have."""
        return len(self.extents) <= DIMENSIONS

    @property
    def reducible(self) -> bool:
        """Tell whether `reduction` takes them: a view that repeats an element has more gradients than sums."""
        sizes = [math.prod(p.shape) if isinstance(p, Array) else 1 for p in self.parameters]
        plain = all(size == (self.period if step else 1) for size, step in zip(sizes, self.steps, strict=True))
        return self.n > 0 and plain and self.layout in ("shared", "columns", "rows")


def operands(device: Device, data: Sequence[Array], parameters: Sequence[Array | float]) -> Operands:
    """Look at data, which have the shape of the result, and at parameters that broadcast in it, for the best layout."""
    shape = data[0].shape
    extents, strides = _joined(data, parameters)
    ours = strides[len(data) :]
    dense = [math.prod(extents[i + 1 :]) for i in range(len(extents))]
    contiguous = all(each == dense for each in strides[: len(data)])
    varying = {i for each in ours for i, stride in enumerate(each) if stride}
    layout, period, inner, steps = "strided", 1, 1, (0,) * len(parameters)
    if contiguous and not varying:
        layout = "shared"
    elif contiguous and len(extents) == 1 and all(each[0] in (0, 1) for each in ours):
        layout, steps = "each", tuple(each[0] for each in ours)
    elif contiguous and len(extents) > 1 and len(varying) == 1:
        (axis,) = varying
        period, inner, steps = extents[axis], math.prod(extents[axis + 1 :]), tuple(each[axis] for each in ours)
        if period * inner <= device.multiprocessors * BLOCKS * THREADS:
            layout = "columns"
        elif inner >= 32:  # threads of a warp
            layout = "rows"
    return Operands(math.prod(shape), tuple(data), tuple(parameters), extents, strides, layout, period, inner, steps)


def _joined(data: Sequence[Array], parameters: Sequence[Array | float]) -> tuple[list[int], list[list[int]]]:
    """Extents, and the strides of all operands, with axes that run on into the next one joined."""
    shape = data[0].shape
    spread = [array.strides for array in data]
    spread += [_spread(p, shape) if isinstance(p, Array) else (0,) * len(shape) for p in parameters]
    extents: list[int] = []
    strides: list[tuple[int, ...]] = []
    for extent, *along in zip(shape, *spread, strict=True):
        if extent == 1:
            continue
        if strides and all(before == extent * now for before, now in zip(strides[-1], along, strict=True)):
            extents[-1] *= extent
            strides[-1] = tuple(along)
        else:
            extents.append(extent)
            strides.append(tuple(along))
    return extents, [list(each) for each in zip(*strides, strict=True)] or [[] for _ in spread]


def _spread(parameter: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The parameter's strides along the axes of that shape, 0 where it is repeated."""
    lead = len(shape) - len(parameter.shape)
    axes = zip(parameter.shape, parameter.strides, strict=True)
    return (0,) * lead + tuple(0 if extent == 1 else stride for extent, stride in axes)


class _Plan(NamedTuple):
    """The layout, grid and words with which a kernel is launched."""

    layout: str
    blocks: int
    words: list[int]
    sums: int  # partial sums of each kind that a reduction writes


def _plan(device: Device, storage: str, given: Operands, addresses: Sequence[int]) -> _Plan:
    """The grid and words of an elementwise kernel or a reduction that uses these addresses too.

    Memory that is not aligned to 16 bytes takes another layout.
    """
    n, layout, period, inner = given.n, given.layout, given.period, given.inner
    if not given.plannable:
        raise ValueError(f"the strides of the operands need {len(given.extents)} axes, more than {DIMENSIONS}")
    many = [p.address for p in given.parameters if isinstance(p, Array) and math.prod(p.shape) > 1]
    many += [array.address for array in given.data]
    if any(address % 16 for address in (*addresses, *many)):
        layout = {"shared": "columns", "each": "strided"}.get(layout, layout)
    count = {"float64": 2, "float32": 4, "float16": 8, "bfloat16": 8}[storage]
    at_once = {"shared": count, "each": min(count, 4)}.get(layout, 1)
    threads = n // inner * -(-inner // ROW) * 32 if layout == "rows" else -(-n // at_once)
    most = device.multiprocessors * BLOCKS
    blocks = min(most, -(-threads // THREADS))
    if layout == "columns":
        blocks = max(blocks, -(-period * inner // THREADS))
    stride = blocks * THREADS // (period * inner) * (period * inner)  # of "columns"
    pairs = [(p.address, 0.0) if isinstance(p, Array) else (0, p) for p in given.parameters]
    addressed, numbers = [at for at, _ in pairs], [number(value) for _, value in pairs]
    words = [n, *(array.address for array in given.data), *addressed, *numbers, *given.steps, period, inner, stride]
    if layout == "strided":
        lead = DIMENSIONS - len(given.extents)
        words += ([1] * lead + given.extents)[1:]
        for each in given.strides:
            words += [0] * lead + each
    sums = {"shared": blocks * THREADS // 32, "columns": stride, "rows": threads // 32}.get(layout, 0)
    return _Plan(layout, max(1, blocks), words, sums)


def _written(device: Device, definition: Definition, storage: str) -> Definition:
    """The definition whose code that device runs best for elements of that storage."""
    if storage == "float64":
        return definition.for_dtype(np.float64)
    return definition if device.doubles else definition.in_words


def elementwise(
    device: Device,
    definition: Definition,
    outputs: tuple[str, ...],
    storage: str,
    given: Operands,
    outs: Sequence[int],
) -> None:
    """Fill contiguous outputs of the data's shape, at these addresses."""
    if given.n == 0:
        return
    plan = _plan(device, storage, given, outs)
    definition = _written(device, definition, storage)
    device.launch(("elementwise", definition, outputs, storage, plan.layout), plan.blocks, [*plan.words, *outs])


def reduction(
    device: Device,
    definition: Definition,
    outputs: tuple[str, ...],
    storage: str,
    given: Operands,
    weights: int,
    total_at: int,
    factor: float,
    targets: dict[str, int],
) -> None:
    """Launch the sums times 1/total (on the device, see `total`) or the factor; derivatives in data likewise.

    ``targets`` are addresses by name of output.  ``weights`` is the address of contiguous ones of the computing type,
    or 0; gradients have the parameters' shapes.
    """
    stored = ["d" + name for name in definition.data]
    if unknown := targets.keys() - {*definition.sums, *stored}:
        known = ", ".join((*definition.sums, *stored))
        raise ValueError(f"no sum is called {', '.join(sorted(unknown))}: targets are out of {known}")
    slopes = [targets.get(name, 0) for name in stored]
    plan = _plan(device, storage, given, [*slopes, weights])
    sums = summed(definition, outputs)
    partials = device.scratch(len(sums) * plan.sums)
    step = scaling.step(given.n, storage == "float64")
    words = [*plan.words, weights, total_at, number(factor), number(step), partials, *slopes]
    definition = _written(device, definition, storage)
    device.launch(("reduction", definition, outputs, storage, plan.layout), plan.blocks, words)
    steps = dict(zip(definition.sums, (0, *given.steps), strict=True))
    for k, name in enumerate(sums):
        if name in targets:
            columns = given.period if steps[name] else 1
            source = partials + 8 * k * plan.sums
            last = (1.0 if total_at else factor) / step
            _fold(device, storage, source, plan.sums // columns, columns, targets[name], total_at, last)


def total(device: Device, storage: str, n: int, weights: int, target: int) -> None:
    """The sum of n weights, and that of `scaling.APART` times them, as two doubles."""
    blocks = max(1, min(device.multiprocessors * BLOCKS, -(-n // (8 * THREADS))))
    warps = blocks * THREADS // 32
    partials = device.scratch(2 * warps)
    device.launch(("total", storage), blocks, [n, weights, partials])
    for k in range(2):
        _fold(device, "float64", partials + 8 * k * warps, warps, 1, target + 8 * k, 0, 1.0)


def _fold(
    device: Device, storage: str, source: int, groups: int, columns: int, target: int, total_at: int, factor: float
) -> None:
    """Launch sums over the groups, until one is left for each column."""
    while True:
        parts = -(-groups // CHUNK)
        destination = target if parts == 1 else device.scratch(parts * columns)
        blocks = min(device.multiprocessors * BLOCKS, -(-parts * columns * 32 // THREADS))
        words = [source, groups, columns, CHUNK, destination, int(parts == 1), total_at, number(factor)]
        device.launch(("fold", storage), blocks, words)
        if parts == 1:
            return
        source, groups = destination, parts
