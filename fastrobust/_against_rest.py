"""Each class against all others: the logit of its probability by softmax, of which 1 less that follows as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._dispatch import backend

__all__ = ["against_rest", "moved", "places_of", "pulled_back"]


def against_rest(x: Any, axis: int) -> Any:
    """x_k - log sum over j != k of exp(x_j), along an axis of an array of any library.

    The sigmoid of it is softmax's probability, and that of minus it the probability of all others, which 1 less the
    first would have lost.
    """
    xp = backend(x).xp
    with np.errstate(all="ignore"):
        z, top, others, largest, rest, shares = _parts(xp, x, axis)
        # Of a class that is not the likeliest the others have a sum of 1 or more.
        beside = largest + xp.log1p(xp.where(top, 0.0, xp.exp(rest - largest) - shares))
        found = moved(xp, z - xp.where(top, rest, beside), -1, axis)
    return found.astype(x.dtype) if xp is np else found


def pulled_back(x: Any, axis: int, slopes: Any) -> Any:
    """The derivatives in x of what has these in `against_rest`."""
    xp = backend(x).xp
    given = moved(xp, _wide(xp, slopes), axis, -1)
    with np.errstate(all="ignore"):
        z, top, others, largest, rest, shares = _parts(xp, x, axis)
        beside = 1.0 + xp.where(top, 0.0, xp.exp(rest - largest) - shares)
        # What a class takes from the slopes of the others: the likeliest one's apart, of which the rest may be tiny.
        of_top = xp.where(top, given, 0.0).sum(-1)[..., None]
        each = xp.where(top, 0.0, given / beside)
        total = each.sum(-1)[..., None]
        of_rest = xp.where(rest > -np.inf, xp.exp(others - rest), 0.0)
        taken = xp.where(top, total, shares * (total - each) + of_rest * of_top)
        found = moved(xp, given - taken, -1, axis)
    return found.astype(slopes.dtype) if xp is np else found


def moved(xp: Any, array: Any, axis: int, to: int) -> Any:
    """The array with that axis elsewhere; PyTorch's transformations know its own name for that alone."""
    return getattr(xp, "movedim", xp.moveaxis)(array, axis, to)


def places_of(xp: Any, array: Any) -> Any:
    """The numbers of the places along the last axis, where the array is."""
    return xp.arange(array.shape[-1], **({"device": array.device} if hasattr(array, "requires_grad") else {}))


def _wide(xp: Any, x: Any) -> Any:
    """Doubles of NumPy's arrays, whose results are rounded."""
    return x.astype(np.float64) if xp is np else x


def _parts(xp: Any, x: Any, axis: int) -> tuple[Any, ...]:
    """The logits, classes along the last axis; where the likeliest is, one of several; the others, -inf in its place.

    Then the largest logit, the logarithm of the others' sum of exponentials, and exponentials over the largest.
    """
    z = moved(xp, _wide(xp, x), axis, -1)
    top = places_of(xp, z) == xp.argmax(z, -1)[..., None]
    others, largest = xp.where(top, -np.inf, z), xp.where(top, z, 0.0).sum(-1)[..., None]
    return z, top, others, largest, _log_sum(xp, others), xp.exp(z - largest)


def _log_sum(xp: Any, z: Any) -> Any:
    """The logarithm of the sum of exponentials along the last axis, which is kept; -inf, and constant, of none."""
    largest = xp.amax(z, -1)
    largest = xp.where(largest > -np.inf, largest, 0.0)[..., None]
    total = xp.exp(z - largest).sum(-1)[..., None]
    return xp.where(total == 0, -np.inf, largest + xp.log(xp.where(total == 0, 1.0, total)))
