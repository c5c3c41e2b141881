"""Cross-entropy, lengths and means in operations of a library that differentiates to any order, where no kernels are.

With a class j, lse = z_j + log(1 + sum over i != j of exp(z_i - z_j)).  That is the right class, or the likeliest where
there is a probability for each: then the logarithm, and its derivative in z_j, are made of small numbers, and are no
difference of large ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Given", "Operations", "composed", "length", "transformed", "weighed"]


class Operations(NamedTuple):
    """A library's functions by NumPy's names, and those that it has elsewhere."""

    xp: Any
    moveaxis: Callable[[Any, int, int], Any]
    logsumexp: Callable[[Any, int], Any]  # of an array along an axis
    constant: Callable[[Any], Any]  # the array, which is not differentiated by


class Given(NamedTuple):
    """The arguments of a call but for the logits and the options that have derivatives."""

    target: Any
    axis: int
    weights: Any
    class_weights: Any
    ignore_index: int | None
    smooth_over: str
    reduction: str
    empty: str


def length(library: Operations, x: Any) -> Any:
    """The Euclidean length along the last axis, scaled so that no square overflows or vanishes; at 0 it is even."""
    xp = library.xp
    if x.shape[-1] == 0:
        return x.sum(-1)
    size = library.constant(xp.amax(abs(x), -1))
    scale = xp.where((size > 0) & (size < math.inf), size, xp.ones_like(size))
    total = ((x / scale[..., None]) ** 2).sum(-1)
    nothing = total == 0
    return xp.where(nothing, xp.zeros_like(total), scale * xp.sqrt(xp.where(nothing, xp.ones_like(total), total)))


def weighed(library: Operations, each: Any, weights: Any, reduction: str) -> Any:
    """What each row is, weighted, or the sum or mean; a weight of 0 excludes it."""
    xp = library.xp
    if weights is None:
        return each if reduction == "none" else each.sum() if reduction == "sum" else each.mean()
    weights = xp.broadcast_to(weights, each.shape)
    found = xp.where(weights == 0, xp.zeros_like(each), each) * weights
    if reduction == "none":
        return found
    return found.sum() if reduction == "sum" else found.sum() / weights.sum()


def _of_samples(xp: Any, zero: Any, shape: tuple[int, ...], places: Any, given: Given, by_index: bool) -> Any:
    """What each sample counts, 0 for those that are ignored, of the type of that zero."""
    weights: Any = zero + 1 if given.weights is None else given.weights + zero
    if by_index:
        target = given.target
        if given.class_weights is not None:
            own = places == target[..., None]
            of_class = xp.where(own.any(-1), xp.where(own, given.class_weights, zero).sum(-1), math.nan)
            weights = xp.where(weights == 0, zero, weights * of_class)  # NaN of an index that is no class
        if given.ignore_index is not None:
            weights = xp.where(target != given.ignore_index, weights, zero)
    return xp.broadcast_to(weights, shape)


def composed(
    library: Operations,
    x: Any,
    places: Any,
    given: Given,
    by_index: bool,
    options: tuple[Any, ...],
) -> Any:
    """The loss, by the functions of that library; ``places`` are the numbers of the classes, 0, 1, ..., as integers.

    An index that is no class gives NaN: it cannot be an error where values are not there to be looked at.
    """
    (temperature, smoothing, z_loss), (xp, moveaxis, logsumexp, _) = options, library
    z, target = moveaxis(x, given.axis, -1), given.target
    zero = xp.zeros_like(z[..., :1].sum())
    weights = _of_samples(xp, zero, z.shape[:-1], places, given, by_index)
    excluded = weights == 0
    of_each = getattr(temperature, "ndim", 0) > 0
    divisor = temperature[..., None] if of_each else temperature
    z = xp.where(excluded[..., None], zero, z) / divisor  # so that no NaN comes from what is excluded
    pivot = target if by_index else xp.argmax(z, -1)
    mask = places == pivot[..., None]
    top = xp.where(mask, z, zero).sum(-1)
    rest = logsumexp(xp.where(mask, xp.finfo(z.dtype).min, z), -1)
    excess = xp.logaddexp(rest - top, xp.zeros_like(top))
    gaps, inside = top[..., None] - z, xp.ones_like(z)
    if given.smooth_over == "finite":
        inside = xp.where(z == -math.inf, zero, inside)
        gaps = xp.where(inside == 0, zero, gaps)
    smoothed: Any = zero
    if not isinstance(smoothing, float | int) or smoothing != 0:
        shares = inside / inside.sum(-1)[..., None]
        smoothed = smoothing * ((shares * gaps).sum(-1) + excess)
    hard = excess
    if not by_index:
        q = moveaxis(target, given.axis, -1)
        hard = xp.where(q == 0, zero, q * (excess[..., None] + (top[..., None] - z))).sum(-1)
    lse = top + excess
    found = (1.0 - smoothing) * hard + smoothed + z_loss * lse * lse
    if by_index:
        found = xp.where(mask.any(-1), found, math.nan)
    return _reduced(xp, found, weights, given)


def transformed(xp: Any, zero: Any, places: Any, given: Given, function: Callable[[Given], Any]) -> Any:
    """A function of each sample's loss, weighted, or the sum or mean: it gets what to ask for that loss by."""
    weights = _of_samples(xp, zero, given.target.shape, places, given, True)
    each = function(Given(given.target, given.axis, weights != 0, None, given.ignore_index, "all", "none", "nan"))
    return _reduced(xp, each, weights, given)


def _reduced(xp: Any, each: Any, weights: Any, given: Given) -> Any:
    """What each sample is, weighted, or the sum or mean."""
    excluded = weights == 0
    found = xp.where(excluded, xp.zeros_like(each), each) * weights
    if given.reduction == "none":
        return found
    total = found.sum()
    if given.reduction == "sum":
        return total
    counted = weights.sum()
    nothing = math.nan if given.empty == "nan" else 0.0
    return xp.where(counted == 0, nothing, total / xp.where(counted == 0, 1.0, counted))
