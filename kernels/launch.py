"""Which CUDA kernels to launch, with which words and grids: for every backend whose arrays lie on a GPU.

Arrays come as addresses, shapes and strides, so that no framework is needed here, nor Numba where the kernels are in
the cache.  Storage is what the memory holds, one of "float16", "bfloat16", "float32", "float64"; the two halves are
computed in float32, in which parameters and weights always come.

=========  ============================================================  ==========================================
layout     alpha and scale                                               x, contiguous unless "strided"
=========  ============================================================  ==========================================
shared     one number each, by value or by address                       16 bytes at a time
columns    one number or one for each column, prepared once for a        element by element, a thread keeps its
           thread                                                        column; with one column for any alignment
each       one number or one for each element, like x                    16 bytes at a time, 8 of the halves
strided    any strides                                                   any strides
=========  ============================================================  ==========================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = [
    "THREADS",
    "Array",
    "Device",
    "elementwise",
    "number",
    "partition",
    "plannable",
    "reducible",
    "reduction",
    "total",
]

THREADS = 256  # of a block
BLOCKS = 8  # for each multiprocessor, at most
CHUNK = 4096  # partial sums that one warp of `cuda.fold` takes
LAYOUTS = ("shared", "columns", "each", "strided")
DIMENSIONS = 4  # of the layout "strided"
SUMS = ("value", "dalpha", "dscale")  # what a reduction sums up, in this order of partial sums

# Words of an elementwise kernel: the first are the same in all layouts, the outputs' addresses come last.
N, X, ALPHA_AT, SCALE_AT, ALPHA, SCALE, ALPHA_STEP, SCALE_STEP, PERIOD, STRIDE = range(10)
WEIGHTS, TOTAL_AT, FACTOR, PARTIALS, DX = range(STRIDE + 1, STRIDE + 6)  # what a reduction has besides
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


class _Plan(NamedTuple):
    layout: str
    blocks: int
    words: list[int]
    period: int
    stride: int
    steps: tuple[int, int]  # of alpha and scale


def _axes(x: Array, parameters: Sequence[Array | float]) -> list[tuple[int, list[int]]]:
    """Extents, and the strides of x, alpha and scale, with axes that run on into the next one joined."""
    strides = [x.strides] + [[0] * len(x.shape) if not isinstance(p, Array) else _spread(p, x) for p in parameters]
    joined: list[tuple[int, list[int]]] = []
    for extent, *own in zip(x.shape, *strides, strict=True):
        if extent == 1:
            continue
        if joined and all(before == extent * now for before, now in zip(joined[-1][1], own, strict=True)):
            joined[-1] = (joined[-1][0] * extent, own)
        else:
            joined.append((extent, own))
    return joined


def _spread(parameter: Array, x: Array) -> list[int]:
    """Its strides along x's axes."""
    lead = len(x.shape) - len(parameter.shape)
    own = zip(parameter.shape, parameter.strides, strict=True)
    return [0] * lead + [0 if extent == 1 else stride for extent, stride in own]


def _plan(device: Device, storage: str, x: Array, parameters: Sequence[Array | float], outs: Sequence[int]) -> _Plan:
    """Layout, grid and words of an elementwise kernel or a reduction; ValueError beyond `DIMENSIONS` axes."""
    n = math.prod(x.shape)
    axes = _axes(x, parameters)
    count = 2 if storage == "float64" else 4 if storage == "float32" else 8
    most = device.multiprocessors * BLOCKS
    extents = [extent for extent, _ in axes]
    strides = [list(own) for own in zip(*(own for _, own in axes), strict=True)] or [[], [], []]
    period, stride, steps = 1, 1, (0, 0)
    addresses = [x.address, *outs, *(p.address for p in parameters if isinstance(p, Array) and math.prod(p.shape) > 1)]
    aligned = all(address % 16 == 0 for address in addresses)
    contiguous = all(own == math.prod(extents[i + 1 :]) for i, own in enumerate(strides[0]))
    if len(axes) <= 1 and contiguous and (not axes or strides[1] == strides[2] == [0]):
        layout = "shared" if aligned else "columns"
    elif len(axes) == 1 and contiguous and aligned and all(s[0] in (0, 1) for s in strides[1:]):
        layout, steps = "each", (strides[1][0], strides[2][0])
    elif (
        len(axes) == 2
        and contiguous
        and all(s[0] == 0 and s[1] in (0, 1) for s in strides[1:])
        and extents[1] <= most * THREADS
    ):
        layout, period, steps = "columns", extents[1], (strides[1][1], strides[2][1])
    elif len(axes) <= DIMENSIONS:
        layout = "strided"
    else:
        raise ValueError(f"the strides of x, alpha and scale need {len(axes)} axes, more than {DIMENSIONS}")
    at_once = {"shared": count, "each": min(count, 4)}.get(layout, 1)
    blocks = min(most, -(-n // (THREADS * at_once)))
    if layout == "columns":
        blocks = max(blocks, -(-period // THREADS))
        stride = blocks * THREADS // period * period
    values = [(p.address, 0.0) if isinstance(p, Array) else (0, p) for p in parameters]
    words = [n, x.address, *(at for at, _ in values), *(number(v) for _, v in values), *steps, period, stride]
    if layout == "strided":
        lead = DIMENSIONS - len(axes)
        words += ([1] * lead + extents)[1:]
        for own in strides:
            words += [0] * lead + own
    return _Plan(layout, max(1, blocks), words, period, stride, steps)


def elementwise(
    device: Device,
    family: str,
    outputs: tuple[str, ...],
    storage: str,
    x: Array,
    alpha: Array | float,
    scale: Array | float,
    outs: Sequence[int],
) -> None:
    """Fill contiguous outputs of x's shape, in which the parameters broadcast."""
    if math.prod(x.shape) == 0:
        return
    plan = _plan(device, storage, x, (alpha, scale), outs)
    device.launch(("elementwise", family, outputs, storage, plan.layout), plan.blocks, [*plan.words, *outs])


def partition(device: Device, outputs: tuple[str, ...], storage: str, n: int, alpha: int, outs: Sequence[int]) -> None:
    """The same for log Z of n contiguous alpha."""
    if n:
        blocks = min(device.multiprocessors * BLOCKS, -(-n // THREADS))
        device.launch(("partition", outputs, storage), blocks, [n, alpha, *outs])


def plannable(x: Array, parameters: Sequence[Array | float]) -> bool:
    """Whether the strides come down to the axes that a kernel has."""
    return len(_axes(x, parameters)) <= DIMENSIONS


def reducible(device: Device, storage: str, x: Array, alpha: Array | float, scale: Array | float) -> bool:
    """Whether `reduction` takes them."""
    return math.prod(x.shape) > 0 and _plan(device, storage, x, (alpha, scale), ()).layout in ("shared", "columns")


def reduction(
    device: Device,
    family: str,
    outputs: tuple[str, ...],
    storage: str,
    x: Array,
    alpha: Array | float,
    scale: Array | float,
    weights: int,
    total_at: int,
    factor: float,
    dx: int,
    targets: dict[str, int],
) -> None:
    """Sums of value, dalpha, dscale times 1/total (a double on the device) or the factor; dx likewise, by element.

    ``weights`` is the address of contiguous ones of the computing type, or 0; gradients have the parameters' shapes.
    """
    plan = _plan(device, storage, x, (alpha, scale), [dx, weights])
    rows = plan.layout == "shared"
    size = plan.blocks * THREADS // 32 if rows else plan.stride
    partials = device.scratch(len(SUMS) * size)
    words = [*plan.words, weights, total_at, number(factor), partials, dx]
    device.launch(("reduction", family, outputs, storage, plan.layout), plan.blocks, words)
    steps = {"value": 0, "dalpha": plan.steps[0], "dscale": plan.steps[1]}
    for k, name in enumerate(SUMS):
        if name in targets:
            columns = plan.period if steps[name] else 1
            _fold(device, storage, partials + 8 * k * size, size // columns, columns, targets[name], total_at, factor)


def total(device: Device, storage: str, n: int, weights: int, target: int) -> None:
    """The sum of n weights, as a double."""
    blocks = max(1, min(device.multiprocessors * BLOCKS, -(-n // (8 * THREADS))))
    partials = device.scratch(blocks * THREADS // 32)
    device.launch(("total", storage), blocks, [n, weights, partials])
    _fold(device, "float64", partials, blocks * THREADS // 32, 1, target, 0, 1.0)


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
