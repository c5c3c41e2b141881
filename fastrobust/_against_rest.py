"""Each class against all others: the logit of its probability by softmax, of which 1 less that follows as well."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._dispatch import backend

__all__ = ["against_rest", "pulled_back"]


def against_rest(x: Any, axis: int) -> Any:
    """x_k - log sum over j != k of exp(x_j), along an axis of an array of any library.

    The sigmoid of it is softmax's probability, and that of minus it the probability of all others, which 1 less the
    first would have lost.
    """
    xp = backend(x).xp
    z = xp.moveaxis(_wide(xp, x), axis, -1)
    top, others = _apart(xp, z)
    largest = xp.where(top, z, 0.0).sum(-1)[..., None]
    rest = _log_sum(xp, others)
    shares = xp.exp(z - largest)
    # Of a class that is not the likeliest the others have a sum of 1 or more.
    beside = largest + xp.log1p(xp.where(top, 0.0, xp.exp(rest - largest) - shares))
    found = xp.moveaxis(z - xp.where(top, rest, beside), -1, axis)
    return found.astype(x.dtype) if xp is np else found


def pulled_back(x: Any, axis: int, slopes: Any) -> Any:
    """The derivatives in x of what has these in `against_rest`."""
    xp = backend(x).xp
    z, given = xp.moveaxis(_wide(xp, x), axis, -1), xp.moveaxis(_wide(xp, slopes), axis, -1)
    top, others = _apart(xp, z)
    largest = xp.where(top, z, 0.0).sum(-1)[..., None]
    rest = _log_sum(xp, others)
    shares = xp.exp(z - largest)
    beside = 1.0 + xp.where(top, 0.0, xp.exp(rest - largest) - shares)
    # What a class takes from the slopes of the others: the likeliest one's apart, of which the rest may be tiny.
    of_top = xp.where(top, given, 0.0).sum(-1)[..., None]
    each = xp.where(top, 0.0, given / beside)
    total = each.sum(-1)[..., None]
    taken = xp.where(top, total, shares * (total - each) + xp.exp(others - rest) * of_top)
    found = xp.moveaxis(given - taken, -1, axis)
    return found.astype(slopes.dtype) if xp is np else found


def _wide(xp: Any, x: Any) -> Any:
    """Doubles of NumPy's arrays, whose results are rounded."""
    return x.astype(np.float64) if xp is np else x


def _apart(xp: Any, z: Any) -> tuple[Any, Any]:
    """Where the likeliest class is, one of several, and the others, with -inf in its place."""
    places = xp.arange(z.shape[-1], **({"device": z.device} if hasattr(z, "requires_grad") else {}))
    top = places == xp.argmax(z, -1)[..., None]
    return top, xp.where(top, -np.inf, z)


def _log_sum(xp: Any, z: Any) -> Any:
    """The logarithm of the sum of exponentials along the last axis, which is kept."""
    largest = xp.amax(z, -1)
    largest = xp.where(largest > -np.inf, largest, 0.0)[..., None]
    return largest + xp.log(xp.exp(z - largest).sum(-1))[..., None]
