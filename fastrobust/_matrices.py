"""The matrices of transforms along an axis, made in double, and products with them on arrays of any library."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .kernels.losses.wavelets import WAVELETS

if TYPE_CHECKING:
    from ._types import NDArray

__all__ = ["YUV_SCALE", "along", "matrix"]

# The YUV of PAL, scaled to a determinant of 1: matrix and factor as in Barron's package, robust_loss_pytorch.
YUV_SCALE = 1.580227820074
_SMALL = 360  # elements of a line whose matrix takes a MiB
_YUV = YUV_SCALE * np.array(
    [[0.299, 0.587, 0.114], [-0.14714119, -0.28886916, 0.43601035], [0.61497538, -0.51496512, -0.10001026]]
)


def matrix(kind: str, length: int, *options: str) -> NDArray:
    """The matrix of that kind for so many elements; small ones are kept."""
    return _kept(kind, length, *options) if length <= _SMALL else _KINDS[kind](length, *options)


@functools.lru_cache(maxsize=256)
def _kept(kind: str, length: int, *options: str) -> NDArray:
    """`matrix` with a memory, of 256 MiB at most."""
    found = _KINDS[kind](length, *options)
    found.flags.writeable = False
    return found


def _wavelet(length: int, name: str, way: str, transposed: str) -> NDArray:
    """One level of a line, of which each column is what a unit vector becomes."""
    from ._backends.numpy.lifting import lifted, memory_for

    found, memory = np.empty((length, length)), memory_for(length, np.dtype(np.float64))
    lifted(WAVELETS[name], np.eye(length), 0, way == "analysis", transposed == "transposed", found, memory)
    return found


def _cosines(length: int, way: str) -> NDArray:
    """The orthonormal cosine transform of type II, or its inverse."""
    if length == 0:
        return np.zeros((0, 0))
    places = np.arange(length)
    # Angles are reduced exactly, by integers, before they are multiplied by pi.
    turns = ((2 * places + 1) * places[:, None]) % (4 * length)
    found = math.sqrt(2.0 / length) * np.cos(math.pi * (turns / (2.0 * length)))
    found[0] = math.sqrt(1.0 / length)
    return np.array(found.T if way == "inverse" else found)


def _colours(length: int, way: str) -> NDArray:
    """YUV of RGB, its inverse or its transpose."""
    return np.array(np.linalg.inv(_YUV) if way == "inverse" else _YUV.T if way == "adjoint" else _YUV)


_KINDS: dict[str, Callable[..., NDArray]] = {"wavelet": _wavelet, "cosines": _cosines, "colours": _colours}


def along(target: Any, x: Any, axis: int, kind: str, length: int, *options: str) -> Any:
    """The array of that backend multiplied by a matrix along an axis, counted from the first, of that length."""
    xp, product = target.xp, getattr(target, "product", operator.matmul)
    made = getattr(target, "constant", None)
    by = made(x, kind, length, *options) if made else xp.asarray(matrix(kind, length, *options), dtype=x.dtype)
    if axis == x.ndim - 2:
        return product(by, x)
    if axis == x.ndim - 1:
        return product(x, by.T)
    return xp.swapaxes(product(xp.swapaxes(x, axis, -1), by.T), axis, -1)
