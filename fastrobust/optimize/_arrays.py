"""What the loops check alike: arrays of NumPy or CuPy, in float32 or float64, where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from .._arguments import NUMBERS
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


def system(xp: Any, X: Any, y: Any) -> tuple[Any, Any]:
    """A design and a target, of one dtype."""
    X, y = floats(xp, "X", X), floats(xp, "y", y)
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise ValueError(f"X must have shape (n, k) and y (n,), got {X.shape} and {y.shape}")
    if not X.size:
        raise ValueError(f"X is empty, of shape {X.shape}: there is nothing to fit")
    dtype = xp.result_type(X, y)
    return X.astype(dtype, copy=False), y.astype(dtype, copy=False)


def parameters(alpha: Any, scale: Any, tol: Any, maxiter: Any) -> None:
    """Refuse what no loop can work with."""
    for name, value, positive in (("alpha", alpha, False), ("scale", scale, True), ("tol", tol, True)):
        if not isinstance(value, (*NUMBERS, np.number)) or np.isnan(value) or (positive and not 0 < value < np.inf):
            raise ValueError(f"{name} must be a {'positive ' if positive else ''}number, got {value!r}")
    if not isinstance(maxiter, (int, np.integer)) or maxiter < 0:
        raise ValueError(f"maxiter must be an integer >= 0, got {maxiter!r}")


def reported(callback: Callable[[OptimizeResult], Any], result: OptimizeResult) -> bool:
    """Whether the callback wants the loop to end, as in SciPy."""
    try:
        callback(result)
    except StopIteration:
        return True
    return False


def ended(result: OptimizeResult, status: int, messages: dict[int, str]) -> OptimizeResult:
    """The result, with how the loop ended: by success if converged (0), or by small steps (2)."""
    result.update(status=status, success=status in (0, 2), message=messages[status])
    return result
