"""Wavelet pyramids with the interface of Barron's package; see `fastrobust.transforms.Wavelet` for fast ones.

Images have the shape (channels, width, height).  Beyond its ends a line goes on reflected, without a repeated sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ._arguments import floating

if TYPE_CHECKING:
    from ...torch._types import ArrayLike, NDArray

__all__ = [
    "Filters",
    "HalfFilters",
    "collapse",
    "construct",
    "flatten",
    "generate_filters",
    "get_max_num_levels",
    "pad_reflecting",
    "rescale",
    "visualize",
]

Pyramid = Sequence[Any]  # three bands of each level, fine to coarse, then the residual: tensors


class HalfFilters(NamedTuple):
    """The low-pass and the high-pass filter of symmetric ones from their centre on."""

    lo: NDArray
    hi: NDArray


class Filters(NamedTuple):
    """The filters of analysis and synthesis."""

    analysis_lo: NDArray
    analysis_hi: NDArray
    synthesis_lo: NDArray
    synthesis_hi: NDArray


# To twelve digits, as that package and most others have them: A. Cohen, I. Daubechies and J.-C. Feauveau, 1992, and
# D. Le Gall and A. Tabatabai, 1988.
_HALVES = {
    "LeGall5/3": HalfFilters(lo=np.array([0.75, 0.25, -0.125]) * math.sqrt(2), hi=np.array([1.0, -0.5]) / math.sqrt(2)),
    "CDF9/7": HalfFilters(
        lo=np.array([0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507]),
        hi=np.array([0.788485616406, -0.418092273222, -0.040689417609, 0.064538882629]),
    ),
}


def generate_filters(wavelet_type: str | None = None) -> Filters | tuple[str, ...]:
    """The filters of a wavelet, or without a name the names of those that there are."""
    if wavelet_type is None:
        return tuple(_HALVES)
    if wavelet_type not in _HALVES:
        raise ValueError(f"wavelet_type must be one of {', '.join(map(repr, _HALVES))}, got {wavelet_type!r}")
    halves = _HALVES[wavelet_type]

    def whole(half: NDArray, alternating: bool) -> NDArray:
        signed = half * (-1.0) ** np.arange(len(half)) if alternating else half
        return np.concatenate([signed[:0:-1], signed])

    return Filters(whole(halves.lo, False), whole(halves.hi, False), whole(halves.hi, True), whole(halves.lo, True))


def _filters(wavelet_type: str) -> Filters:
    """The filters of a wavelet that is named."""
    found = generate_filters(wavelet_type)
    if not isinstance(found, Filters):
        raise ValueError(f"wavelet_type must be one of {', '.join(map(repr, found))}, got {wavelet_type!r}")
    return found


def _reflected(places: Tensor, length: int) -> Tensor:
    """The samples at places that may lie beyond either end."""
    place = torch.remainder(places, max(1, 2 * (length - 1)))
    return torch.minimum(place, 2 * (length - 1) - place)


def pad_reflecting(x: ArrayLike, padding_below: int, padding_above: int, axis: int = 1) -> Tensor:
    """The array with so many samples more before and after those along an axis, reflected as often as needed."""
    x = floating("x", x)
    if padding_below < 0 or padding_above < 0:
        raise ValueError(f"paddings must not be negative, got {padding_below} and {padding_above}")
    length = x.shape[axis]
    places = torch.arange(-padding_below, length + padding_above, device=x.device)
    return x.index_select(axis, _reflected(places, length))


def _check_resample_inputs(x: Tensor, f: Sequence[float] | NDArray, direction: int, shift: int) -> None:
    """Refuse what has no three axes, no filter of one, another direction or shift than 0 and 1."""
    if x.dim() != 3:
        raise ValueError(f"x must have three axes, (channels, width, height), got shape {tuple(x.shape)}")
    if np.ndim(f) != 1:
        raise ValueError(f"f must have one axis, got shape {np.shape(f)}")
    for name, value in (("direction", direction), ("shift", shift)):
        if value not in (0, 1):
            raise ValueError(f"{name} must be 0 or 1, got {value!r}")


def _filtered(x: Tensor, f: Sequence[float] | NDArray, axis: int, first: int, step: int) -> Tensor:
    """Each ``step``-th of the filtered samples along an axis; a filter of even length reaches farther up."""
    count, length = len(f), x.shape[axis]
    padded = pad_reflecting(x, (count - 1) // 2, count // 2, axis) if length else x
    total = torch.zeros_like(x[(slice(None),) * axis + (slice(first, None, step),)])
    for k, factor in enumerate(np.asarray(f, np.float64).tolist()):
        part = padded[(slice(None),) * axis + (slice(k, k + length),)]
        total = total + factor * part[(slice(None),) * axis + (slice(first, None, step),)]
    return total


def _downsample(x: ArrayLike, f: Sequence[float] | NDArray, direction: int, shift: int) -> Tensor:
    """Every second of the filtered samples along axis 1 + direction, from that of the shift on."""
    x = floating("x", x)
    _check_resample_inputs(x, f, direction, shift)
    return _filtered(x, f, 1 + direction, shift, 2)


def _upsample(x: ArrayLike, up_sz: Sequence[int], f: Sequence[float] | NDArray, direction: int, shift: int) -> Tensor:
    """The samples at every second place of axis 1 + direction, zeros between them, filtered; ``up_sz`` is the shape."""
    x = floating("x", x)
    _check_resample_inputs(x, f, direction, shift)
    if len(up_sz) != 3:
        raise ValueError(f"up_sz must be the shape of the result, three numbers, got {tuple(up_sz)}")
    axis = 1 + direction
    spread = x.new_zeros(tuple(int(n) for n in up_sz))
    places = torch.arange(shift, spread.shape[axis], 2, device=x.device)
    if x.shape[axis] != len(places):
        raise ValueError(f"up_sz {tuple(up_sz)} does not fit x of shape {tuple(x.shape)} along axis {axis}")
    return _filtered(spread.index_copy(axis, places, x), f[::-1], axis, 0, 1)


def get_max_num_levels(sz: Sequence[int]) -> int:
    """How many levels an image of shape (channels, width, height) has: until its shorter side is one sample."""
    least = min(int(sz[1]), int(sz[2]))
    return max(0, least - 1).bit_length()


def _check_levels(num_levels: int, sz: Sequence[int]) -> None:
    """Refuse more levels than there are."""
    most = get_max_num_levels(sz)
    if not 0 <= num_levels <= most:
        raise ValueError(f"num_levels must be from 0 to {most} for an image of shape {tuple(sz)}, got {num_levels!r}")


def construct(im: ArrayLike, num_levels: int, wavelet_type: str) -> tuple[Any, ...]:
    """The pyramid of an image: of each level, fine to coarse, three bands, then the residual.

    The bands are high along both axes, low along the first and high along the second, and the other way round.
    """
    im = floating("im", im)
    if im.dim() != 3:
        raise ValueError(f"im must have three axes, (channels, width, height), got shape {tuple(im.shape)}")
    _check_levels(num_levels, im.shape)
    filters = _filters(wavelet_type)
    found: list[Any] = []
    for _ in range(num_levels):
        high, low = _downsample(im, filters.analysis_hi, 0, 1), _downsample(im, filters.analysis_lo, 0, 0)
        found.append(
            (
                _downsample(high, filters.analysis_hi, 1, 1),
                _downsample(low, filters.analysis_hi, 1, 1),
                _downsample(high, filters.analysis_lo, 1, 0),
            )
        )
        im = _downsample(low, filters.analysis_lo, 1, 0)
    return (*found, im)


def collapse(pyr: Pyramid, wavelet_type: str) -> Tensor:
    """The image of a pyramid."""
    filters = _filters(wavelet_type)
    *levels, residual = pyr
    im = floating("the residual", residual)
    for both, first_low, second_low in reversed(levels):
        size = im.shape[0], im.shape[1] + both.shape[1], im.shape[2] + both.shape[2]
        low = _joined((*size[:1], im.shape[1], size[2]), 1, im, first_low, filters)
        high = _joined((*size[:1], both.shape[1], size[2]), 1, second_low, both, filters)
        im = _joined(size, 0, low, high, filters)
    return im


def _joined(size: Sequence[int], direction: int, low: Tensor, high: Tensor, filters: Filters) -> Tensor:
    """What has these bands along an axis."""
    of_low = _upsample(low, size, filters.synthesis_lo, direction, 0)
    return of_low + _upsample(high, size, filters.synthesis_hi, direction, 1)


def rescale(pyr: Pyramid, scale_base: float) -> list[Any]:
    """The pyramid with level d, from 0, times scale_base^d, and the residual times scale_base^levels."""
    *levels, residual = pyr
    scaled: list[Any] = [tuple(band * scale_base**d for band in bands) for d, bands in enumerate(levels)]
    return [*scaled, residual * scale_base ** len(levels)]


def flatten(pyr: Pyramid) -> Tensor:
    """The pyramid as one image: [[coarser, high along 2], [high along 1, high along both]], recursively."""
    *levels, residual = pyr
    flat: Tensor = residual
    for both, first_low, second_low in reversed(levels):
        flat = torch.cat([torch.cat([flat, first_low], 2), torch.cat([second_low, both], 2)], 1)
    return flat


def visualize(pyr: Pyramid, percentile: float = 99.0) -> NDArray:
    """The flat pyramid as a picture, uint8 of shape (width, height, channels).

    Each band is grey at 0 and reaches black and white at that percentile of its sizes; the residual at its least and
    largest values.
    """
    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile must be from 0 to 100, got {percentile!r}")

    def of_band(band: Tensor) -> Tensor:
        sizes = band.abs().reshape(-1).sort().values
        largest = sizes[min(len(sizes) - 1, int(len(sizes) * percentile / 100))] if len(sizes) else 1.0
        return 0.5 * (1 + torch.nan_to_num(band / largest).clamp(-1, 1))

    *levels, residual = pyr
    low = residual - residual.min()
    shown = [tuple(of_band(band) for band in bands) for bands in levels]
    flat = flatten([*shown, torch.nan_to_num(low / low.max())])
    return np.asarray(torch.round(255 * flat).to(torch.uint8).permute(1, 2, 0).cpu())
