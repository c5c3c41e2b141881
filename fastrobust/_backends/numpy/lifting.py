"""Wavelets along an axis of arrays: the loops of `kernels.loops.lifting` as generalized ufuncs."""

from __future__ import annotations

import functools

import numpy as np

from ..._types import DType, NDArray
from ...kernels.compilers.alone import alone
from ...kernels.loops.panels import LANES
from ...kernels.losses.wavelets import Wavelet
from .c_api import ufunc_over

__all__ = ["lifted", "memory_for"]


@functools.cache
def _ufunc(wavelet: Wavelet, dtype: type, analysis: bool, transposed: bool) -> np.ufunc:
    """The ufunc (n),(s) -> (n), made at the first call."""
    return alone(lambda: _made(wavelet, dtype, analysis, transposed))


def _made(wavelet: Wavelet, dtype: type, analysis: bool, transposed: bool) -> np.ufunc:
    """`_ufunc` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.lifting(wavelet, dtype, analysis, transposed)
    return ufunc_over(address, wavelet.__name__, [dtype] * 2, [dtype], "(n),(s)->(n)")


def memory_for(length: int, dtype: DType) -> NDArray:
    """The memory that lines of up to that length go through."""
    return np.empty(length * LANES, dtype)


def lifted(
    wavelet: Wavelet, x: NDArray, axis: int, analysis: bool, transposed: bool, out: NDArray, memory: NDArray
) -> None:
    """One level along an axis of float32 or float64, written to other memory."""
    dtype: type = x.dtype.type
    # Which other axis a line lies along does not matter: swapping takes a tenth of the time of moving.
    _ufunc(wavelet, dtype, analysis, transposed)(x.swapaxes(axis, -1), memory, out.swapaxes(axis, -1))
