"""What the loops check alike: numbers, and arrays of NumPy or CuPy in float32 or float64, where they are."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from numbers import Integral, Real

import numpy as np
from scipy.optimize import OptimizeResult

from .. import _arguments as arguments
from .._dispatch import backend
from .._meaning import check_rows
from .._types import Array, ArrayLike, DType, Namespace

# --- arguments


def number(name: str, value: object, positive: bool = False) -> float:
    """A user's number as a float; one that is too large for a float is infinite, which alpha may be."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")
    converted = arguments.number(value)  # type: ignore[arg-type]
    if math.isnan(converted) or (positive and not 0 < converted < math.inf):
        raise ValueError(f"{name} must be a {'positive, finite ' if positive else ''}number, got {value!r}")
    return converted


def count(name: str, value: object) -> int:
    """A user's integer, of Python's or NumPy's, as one of Python's; a negative one is refused."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, got {value!r}")
    return int(value)


def library(name: str, value: object) -> Namespace:
    """NumPy, or CuPy, whose functions the loops use."""
    if hasattr(value, "toarray"):
        raise TypeError(f"{name} is sparse, which the loops do not take: convert it with .toarray()")
    xp = backend(value, name).xp
    if xp.__name__ not in ("numpy", "cupy"):
        raise TypeError(f"{name} is a {type(value).__module__} array: convert it to one of NumPy or CuPy")
    return xp


def floats(xp: Namespace, name: str, value: ArrayLike) -> Array:
    """A user's array in float64, or in float32 if it has that or a half; one of another library is refused."""
    check_rows(**{name: value})
    if library(name, value) is not xp:
        raise TypeError(f"{name} is a {type(value).__module__} array, and the others are of {xp.__name__}: convert one")
    try:
        array = xp.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} cannot be made an array: {error}") from None
    if array.dtype.kind == "O":
        raise TypeError(f"{name} holds Python objects: convert it with .astype(float)")
    arguments.supported(name, array.dtype)
    small = array.dtype.kind not in "biu" and array.dtype.itemsize <= 4
    return array.astype(np.float32 if small else np.float64, copy=False)


def weights_for(xp: Namespace, weights: ArrayLike | None, like: Array) -> Array | None:
    """Weights in the shape and dtype of the array ``like``, finite and not negative; None where none are given."""
    if weights is None:
        return None
    each = floats(xp, "weights", weights).astype(like.dtype, copy=False)
    try:
        each = xp.broadcast_to(each, like.shape)
    except ValueError:
        raise ValueError(f"weights of shape {each.shape} do not broadcast to {like.shape}") from None
    low, high = float(each.min()), float(each.max())
    if not (low >= 0 and high < 1e100):
        raise ValueError(f"weights must be finite and not negative, and go from {low:g} to {high:g}")
    if not high > 0:
        raise ValueError("weights are all 0, so nothing is left to fit: give some rows a positive one")
    return each


def system(xp: Namespace, X: ArrayLike, y: ArrayLike) -> tuple[Array, Array, DType]:
    """A design and a target in float64, and the dtype that their results are to have."""
    design, target = floats(xp, "X", X), floats(xp, "y", y)
    if design.ndim != 2 or target.shape != design.shape[:1]:
        raise ValueError(f"X must have shape (n, k) and y (n,), got {design.shape} and {target.shape}")
    if not design.size:
        raise ValueError(f"X is empty, of shape {design.shape}: there is nothing to fit")
    return double(design), double(target), xp.result_type(design, target)


def double(array: Array) -> Array:
    """The array in float64, in which the loops compute: no square of a float32 leaves its range there.

    Sums of a million squares keep their digits, too.
    """
    return array.astype(np.float64, copy=False)


# --- numbers of any size


def exponents(xp: Namespace, size: Array) -> Array:
    """The exponents of the powers of two at or below those sizes: division by them is exact. 0 for a size of 0."""
    return xp.where(size > 0, xp.frexp(size)[1] - 1, 0)


def powers(xp: Namespace, exponents: Array) -> Array:
    """The powers of two with those exponents, in float64."""
    return xp.ldexp(xp.ones(exponents.shape), exponents)


# --- loops


def typical(xp: Namespace, weights: Array, z: Array) -> float:
    """The size of residuals that matter, in units of the scale: 1, or more where all are larger; the harmonic mean."""
    share = weights / weights.max()  # tiny ones far out do not underflow
    return float(share.sum() / (share / xp.maximum(abs(z), 1)).sum())


def lowest(xp: Namespace, size: Array, bend: Array) -> tuple[float, Array]:
    """The least v'Hv / v'|H|v for |H| = ``size`` and H = ``bend``, and v: negative at what is no minimum along v.

    Between -1 and 1, whatever the units of the unknowns.
    """
    root = xp.sqrt(xp.diag(size))
    root = xp.where(root > 0, root, 1)
    values, directions = xp.linalg.eigh(size / root / root[:, None])
    # What no row with a curvature determines is left alone.
    length = xp.where(values > 1e-12 * values[-1], xp.sqrt(abs(values)), math.inf)
    whitened = directions / length
    values, directions = xp.linalg.eigh(whitened.T @ (bend / root / root[:, None]) @ whitened)
    return float(values[0]), (whitened @ directions[:, 0]) / root


SADDLE = -1e-6  # a value of `lowest` that no rounding makes


def called(callback: Callable[..., object] | None) -> Callable[[Callable[[], OptimizeResult]], bool]:
    """A function that shows the callback a result, and says whether the loop is to end, both as in SciPy."""
    if callback is None:
        return lambda result: False
    if not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    by_name = set(inspect.signature(callback).parameters) == {"intermediate_result"}

    def stops(result: Callable[[], OptimizeResult]) -> bool:
        """Show the callback a copy of the result, which it may change, and tell whether it ended the loop."""
        shown = OptimizeResult({key: part.copy() if hasattr(part, "copy") else part for key, part in result().items()})
        try:
            if by_name:
                callback(intermediate_result=shown)
            else:
                callback(shown)
        except StopIteration:
            return True
        return False

    return stops


def ended(result: OptimizeResult, status: int, maxiter: int, messages: dict[int, str] | None = None) -> OptimizeResult:
    """The result, with how the loop ended; 0 and 2 are successes."""
    known = {
        0: "converged",
        1: f"maxiter = {maxiter} iterations were not enough: raise it, or the tolerance, or begin nearer",
        2: "converged, as far as rounding lets it",
        3: "every residual is so far out that none has a weight: raise scale, or start elsewhere",
        4: "what still has a weight does not determine all unknowns: raise scale, start elsewhere, or leave some out",
        5: "the sum is stationary here, but has no minimum: start elsewhere, or raise scale",
        6: "no step lowers the sum, though its gradient is not 0: rounding hides it, or derivatives are wrong",
        99: "stopped by the callback",
    }
    result.update(status=status, success=status in (0, 2), message=(messages or {}).get(status, known[status]))
    return result
