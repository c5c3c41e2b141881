"""What the loops check alike: arrays of NumPy or CuPy, in float32 or float64, where they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._dispatch import backend


def library(name: str, value: Any) -> Any:
    """NumPy, or CuPy, whose functions the loops use."""
    xp = backend(value, leading=name).xp
    if xp.__name__ not in ("numpy", "cupy"):
        raise TypeError(f"{name} is a {type(value).__module__} array: convert it to one of NumPy or CuPy")
    return xp


def floats(xp: Any, name: str, value: Any) -> Any:
    """As an array of float64, or of float32 if that is what it is; halves become float32."""
    found = xp.asarray(value)
    if found.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {found.dtype}")
    small = found.dtype.kind == "f" and found.dtype.itemsize <= 4
    return found.astype(np.float32 if small else np.float64, copy=False)


def weights_for(xp: Any, weights: Any, like: Any) -> Any:
    """Weights of that array's shape and dtype, or None."""
    if weights is None:
        return None
    found = floats(xp, "weights", weights).astype(like.dtype, copy=False)
    try:
        found = xp.broadcast_to(found, like.shape)
    except ValueError:
        raise ValueError(f"weights of shape {found.shape} do not broadcast to {like.shape}") from None
    if not bool((found >= 0).all()) or bool(xp.isinf(found).any()):
        raise ValueError("weights must be finite and not negative")
    if not bool((found > 0).any()):
        raise ValueError("weights are all 0: nothing is left to fit")
    return found
