"""Ufuncs over the CPU kernels: one for each dtype, so that only what is used gets compiled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...kernels.compilers.alone import alone
from .c_api import ufunc_over

__all__ = ["layout", "ufunc_for"]


@functools.cache
def ufunc_for(name: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> np.ufunc:
    """The ufunc over one kernel, of (x, alpha, scale) or of alpha alone.  Kernels are built here, at the first call."""
    return alone(lambda: _ufunc(name, outputs, dtype, layout))


def _ufunc(name: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> np.ufunc:
    from ...kernels.loops import compiled

    if name == "log_partition":
        return ufunc_over(compiled.kernel("partition", outputs, dtype), name, dtype, 1, len(outputs))
    address = compiled.kernel("elementwise", name, outputs, dtype, layout)
    return ufunc_over(address, name, dtype, 3, len(outputs))


def layout(alpha: Any, scale: Any) -> str:
    """The kernels' layout for these parameters."""
    return "shared" if getattr(alpha, "size", 1) == 1 == getattr(scale, "size", 1) else "each"
