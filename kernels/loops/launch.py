"""Which CUDA kernels to launch, with which words and grids: for every backend whose arrays lie on a GPU.

Arrays come as addresses, shapes and strides, so that no framework is needed here, nor Numba where the kernels are in
the cache.  Storage is what the memory holds, one of "float16", "bfloat16", "float32", "float64"; the two halves are
computed in float32, in which parameters and weights always come.

=========  ============================================================  ==========================================
layout     alpha and scale                                               x, contiguous unless "strided"
=========  ============================================================  ==========================================
shared     one number each, by value or by address                       16 bytes at a time
columns    vary along one axis, (outer, period, inner), with as many     element by element, a thread keeps its
           threads as period * inner; prepared once for a thread         column; with one column for any alignment
rows       the same with an inner axis too long for that; prepared       element by element, a warp keeps its row
           once for `ROW` elements
each       one number or one for each element, like x                    16 bytes at a time, 8 of the halves
strided    any strides                                                   any strides
=========  ============================================================  ==========================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..arithmetic import scaling
from ..losses.signatures import LOSS

__all__ = [
    "THREADS",
    "Array",
    "Device",
    "Operands",
    "elementwise",
    "number",
    "operands",
    "partition",
    "reduction",
    "total",
]

THREADS = 256  # of a block
BLOCKS = 8  # for each multiprocessor, at most
CHUNK = 4096  # partial sums that one warp of `cuda.fold` takes
ROW = 2048  # elements of a row that a warp takes at a time
LAYOUTS = ("shared", "columns", "rows", "each", "strided")
DIMENSIONS = 4  # of the layout "strided"
SUMS = LOSS.sums  # what a reduction sums up, in this order of partial sums

# Words of an elementwise kernel: the first are the same in all layouts, the outputs' addresses come last.
N, X, ALPHA_AT, SCALE_AT, ALPHA, SCALE, ALPHA_STEP, SCALE_STEP, PERIOD, INNER, STRIDE = range(11)
WEIGHTS, TOTAL_AT, FACTOR, STEP, PARTIALS, DX = range(STRIDE + 1, STRIDE + 7)  # what a reduction has besides
EXTENTS = STRIDE + 1  # "strided": extents of all axes but the first, then the strides of x, alpha, scale
OUT_AT = {layout: EXTENTS + (4 * DIMENSIONS - 1 if layout == "strided" else 0) for layout in LAYOUTS}


class Array(NamedTuple):
    """Memory on the device; strides count elements."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Device(NamedTuple):
    """How to run kernels: on the current stream of the arrays' device."""

    multiprocessors: int
    launch: Callable[[tuple[object, ...], int, Sequence[int]], None]  # what `ptx.kernel` takes, blocks, words
    scratch: Callable[[int], int]  # address of memory for so many doubles, which lives until the kernels are queued


def number(value: float) -> int:
    """The word of a number."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


class Operands(NamedTuple):
    """x, alpha and scale of a call and how they lie, seen once."""

    n: int
    x: Array
    parameters: tuple[Array | float, Array | float]
    extents: list[int]  # of the axes that are left when those that run on into the next one are joined
    strides: list[list[int]]  # of x, alpha and scale
    layout: str
    period: int
    inner: int
    steps: tuple[int, int]  # of alpha and scale, from one element or column to the next

    @property
    def plannable(self) -> bool:
        """Whether the kernels have as many axes."""
        return len(self.extents) <= DIMENSIONS

    @property
    def reducible(self) -> bool:
        """Whether `reduction` takes them: a view that repeats an element has more gradients than sums."""
        sizes = [math.prod(p.shape) if isinstance(p, Array) else 1 for p in self.parameters]
        plain = all(size == (self.period if step else 1) for size, step in zip(sizes, self.steps, strict=True))
        return self.n > 0 and plain and self.layout in ("shared", "columns", "rows")


def operands(device: Device, x: Array, alpha: Array | float, scale: Array | float) -> Operands:
    """Look at x, which has the shape of the result, and at parameters that broadcast in it."""
    parameters = (alpha, scale)
    extents, strides = _joined(x, parameters)
    ours = strides[1:]
    contiguous = all(own == math.prod(extents[i + 1 :]) for i, own in enumerate(strides[0]))
    varying = {i for own in ours for i, stride in enumerate(own) if stride}
    layout, period, inner, steps = "strided", 1, 1, (0, 0)
    if contiguous and not varying:
        layout = "shared"
    elif contiguous and len(extents) == 1 and all(own[0] in (0, 1) for own in ours):
        layout, steps = "each", (ours[0][0], ours[1][0])
    elif contiguous and len(extents) > 1 and len(varying) == 1:
        (axis,) = varying
        period, inner, steps = extents[axis], math.prod(extents[axis + 1 :]), (ours[0][axis], ours[1][axis])
        if period * inner <= device.multiprocessors * BLOCKS * THREADS:
            layout = "columns"
        elif inner >= 32:  # threads of a warp
            layout = "rows"
    return Operands(math.prod(x.shape), x, parameters, extents, strides, layout, period, inner, steps)


def _joined(x: Array, parameters: Sequence[Array | float]) -> tuple[list[int], list[list[int]]]:
    """Extents, and the strides of x, alpha and scale, with axes that run on into the next one joined."""
    spread = [x.strides] + [_spread(p, x) if isinstance(p, Array) else [0] * len(x.shape) for p in parameters]
    extents: list[int] = []
    strides: list[tuple[int, ...]] = []
    for extent, *own in zip(x.shape, *spread, strict=True):
        if extent == 1:
            continue
        if strides and all(before == extent * now for before, now in zip(strides[-1], own, strict=True)):
            extents[-1] *= extent
            strides[-1] = tuple(own)
        else:
            extents.append(extent)
            strides.append(tuple(own))
    return extents, [list(own) for own in zip(*strides, strict=True)] or [[], [], []]


def _spread(parameter: Array, x: Array) -> list[int]:
    """Its strides along x's axes."""
    lead = len(x.shape) - len(parameter.shape)
    own = zip(parameter.shape, parameter.strides, strict=True)
    return [0] * lead + [0 if extent == 1 else stride for extent, stride in own]


class _Plan(NamedTuple):
    layout: str
    blocks: int
    words: list[int]
    sums: int  # partial sums of each kind that a reduction writes


def _plan(device: Device, storage: str, given: Operands, addresses: Sequence[int]) -> _Plan:
    """Grid and words of an elementwise kernel or a reduction that uses these addresses too.

    Memory that is not aligned to 16 bytes takes another layout.
    """
    n, layout, period, inner = given.n, given.layout, given.period, given.inner
    if not given.plannable:
        raise ValueError(f"the strides of x, alpha and scale need {len(given.extents)} axes, more than {DIMENSIONS}")
    many = [p.address for p in given.parameters if isinstance(p, Array) and math.prod(p.shape) > 1]
    if any(address % 16 for address in (given.x.address, *addresses, *many)):
        layout = {"shared": "columns", "each": "strided"}.get(layout, layout)
    count = {"float64": 2, "float32": 4, "float16": 8, "bfloat16": 8}[storage]
    at_once = {"shared": count, "each": min(count, 4)}.get(layout, 1)
    threads = n // inner * -(-inner // ROW) * 32 if layout == "rows" else -(-n // at_once)
    most = device.multiprocessors * BLOCKS
    blocks = min(most, -(-threads // THREADS))
    if layout == "columns":
        blocks = max(blocks, -(-period * inner // THREADS))
    stride = blocks * THREADS // (period * inner) * (period * inner)  # of "columns"
    values = [(p.address, 0.0) if isinstance(p, Array) else (0, p) for p in given.parameters]
    addressed, numbers = [at for at, _ in values], [number(value) for _, value in values]
    words = [n, given.x.address, *addressed, *numbers, *given.steps, period, inner, stride]
    if layout == "strided":
        lead = DIMENSIONS - len(given.extents)
        words += ([1] * lead + given.extents)[1:]
        for own in given.strides:
            words += [0] * lead + own
    sums = {"shared": blocks * THREADS // 32, "columns": stride, "rows": threads // 32}.get(layout, 0)
    return _Plan(layout, max(1, blocks), words, sums)


def elementwise(
    device: Device, family: str, outputs: tuple[str, ...], storage: str, given: Operands, outs: Sequence[int]
) -> None:
    """Fill contiguous outputs of x's shape, at these addresses."""
    if given.n == 0:
        return
    plan = _plan(device, storage, given, outs)
    device.launch(("elementwise", family, outputs, storage, plan.layout), plan.blocks, [*plan.words, *outs])


def partition(device: Device, outputs: tuple[str, ...], storage: str, n: int, alpha: int, outs: Sequence[int]) -> None:
    """The same for log Z of n contiguous alpha."""
    if n:
        blocks = min(device.multiprocessors * BLOCKS, -(-n // THREADS))
        device.launch(("partition", outputs, storage), blocks, [n, alpha, *outs])


def reduction(
    device: Device,
    family: str,
    outputs: tuple[str, ...],
    storage: str,
    given: Operands,
    weights: int,
    total_at: int,
    factor: float,
    dx: int,
    targets: dict[str, int],
) -> None:
    """Sums of value, dalpha, dscale times 1/total (on the device, see `total`) or the factor; dx likewise, by element.

    ``weights`` is the address of contiguous ones of the computing type, or 0; gradients have the parameters' shapes.
    """
    if unknown := targets.keys() - SUMS:
        raise ValueError(f"no sum is called {', '.join(sorted(unknown))}: targets are out of {', '.join(SUMS)}")
    plan = _plan(device, storage, given, [dx, weights])
    partials = device.scratch(len(SUMS) * plan.sums)
    step = scaling.step(given.n, storage == "float64")
    words = [*plan.words, weights, total_at, number(factor), number(step), partials, dx]
    device.launch(("reduction", family, outputs, storage, plan.layout), plan.blocks, words)
    steps = {"value": 0, "dalpha": given.steps[0], "dscale": given.steps[1]}
    for k, name in enumerate(SUMS):
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
    """Sums over the groups, until one is left for each column."""
    while True:
        parts = -(-groups // CHUNK)
        destination = target if parts == 1 else device.scratch(parts * columns)
        blocks = min(device.multiprocessors * BLOCKS, -(-parts * columns * 32 // THREADS))
        words = [source, groups, columns, CHUNK, destination, int(parts == 1), total_at, number(factor)]
        device.launch(("fold", storage), blocks, words)
        if parts == 1:
            return
        source, groups = destination, parts
