"""Wavelets of several levels along several axes: by the CPU's kernels, or by a matrix for each level and axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._matrices import along
from ._threads import in_threads
from .kernels.loops.panels import PARALLEL

if TYPE_CHECKING:
    from ._types import NDArray
    from .kernels.losses.wavelets import Wavelet

__all__ = ["by_kernels", "by_matrices"]

_PIECE = 1 << 20  # elements that a thread takes at most, between two looks at signals


def by_kernels(
    wavelet: Wavelet, x: NDArray, levels: int, axes: Sequence[int], analysis: bool, transposed: bool
) -> NDArray:
    """The transform of an array of NumPy's, on all cores if that pays."""
    lead, count = x.ndim - len(axes), math.prod(x.shape)
    moved = np.moveaxis(x, axes, range(lead, x.ndim))
    batch = moved.reshape(math.prod(moved.shape[:lead]), *moved.shape[lead:])
    result = np.empty_like(batch, order="C")

    def part(first: int, last: int) -> None:
        _lift(wavelet, batch[first:last], levels, analysis, transposed, result[first:last])

    if count and count >= PARALLEL and len(batch) > 1:
        in_threads(part, len(batch), 1, max(1, _PIECE * len(batch) // count))
    elif count:
        part(0, len(batch))
    return np.moveaxis(result.reshape(moved.shape), range(lead, x.ndim), axes)


def _lift(wavelet: Wavelet, x: NDArray, levels: int, analysis: bool, transposed: bool, out: NDArray) -> None:
    """The transform along all axes but the first, to ``out``."""
    from ._backends.numpy.lifting import lifted, memory_for

    memory = memory_for(max(x.shape[1:]), x.dtype)
    blocks = _blocks(x.shape, levels)
    if not analysis or not blocks:
        out[...] = x
    other = np.empty_like(out)
    for level, block in enumerate(blocks if analysis else blocks[::-1]):
        source, target = (x if analysis and level == 0 else out[block]), other[block]
        for axis in range(1, x.ndim)[:: -1 if analysis else 1]:
            lifted(wavelet, source, axis, analysis, transposed, target, memory)
            source, target = target, out[block] if target.base is other else other[block]
        if source.base is other:
            out[block] = source


def _blocks(shape: Sequence[int], levels: int) -> list[tuple[slice, ...]]:
    """Of each level what is transformed, of all axes but the first: the low bands of the level before."""
    lengths, found = list(shape[1:]), []
    for _ in range(levels):
        found.append((slice(None), *(slice(0, length) for length in lengths)))
        lengths = [(length + 1) // 2 for length in lengths]
    return found


def by_matrices(
    target: Any, wavelet: Wavelet, x: Any, levels: int, axes: Sequence[int], analysis: bool, transposed: bool
) -> Any:
    """The transform in operations of a backend's library, by products with a matrix for each level and axis."""
    if levels == 0:
        return x
    way = wavelet.name, "analysis" if analysis else "synthesis", "transposed" if transposed else "plain"
    low = [slice(None)] * x.ndim
    for axis in axes:  # PyTorch's compiler may take "axis in axes" for false where lengths vary
        low[axis] = slice(0, (x.shape[axis] + 1) // 2)

    def level(x: Any) -> Any:
        for axis in axes:
            x = along(target, x, axis, "wavelet", x.shape[axis], *way)
        return x

    def deeper(x: Any) -> Any:
        """The array with its low bands transformed."""
        inner = by_matrices(target, wavelet, x[tuple(low)], levels - 1, axes, analysis, transposed)
        return _with_corner(target.xp, x, inner, axes)

    return deeper(level(x)) if analysis else level(deeper(x))


def _with_corner(xp: Any, x: Any, corner: Any, axes: Sequence[int]) -> Any:
    """The array with another one in place of its first part along some axes."""
    axis, *others = axes
    length = corner.shape[axis]
    first, rest = (
        x[tuple(part if k == axis else slice(None) for k in range(x.ndim))]
        for part in (slice(0, length), slice(length, None))
    )
    inner = _with_corner(xp, first, corner, others) if others else corner
    return xp.concatenate([inner, rest], axis)
