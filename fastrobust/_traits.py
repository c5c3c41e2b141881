"""What kind of loss of residuals a formula is, found by looking at it at residuals of many sizes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .kernels.losses.formula import Formula, in_wide_numbers

__all__ = ["Seen", "Traits", "at", "residuals", "seen_of", "traits_of"]

Doubles = NDArray[np.float64]

_TOLERANCE = 1e-9  # relative, in comparisons of values, influences and weights
_ROUNDED = 1e-12  # of values, which a difference of two may be off by; of a weight or curvature, which is 0 then
_SETTLED = 2.0  # by how much a weight that is finite may grow from one residual near 0 to another much nearer
_LARGEST = 250  # the exponent of two of the largest residual, whose fourth power is in range
_FINE = 24  # up to which exponent the residuals are close
_FAR, _FARTHER = 2.0**150, 2.0**200  # between which an influence that is bounded has settled
_GROWN = 1.5  # by how much one that is not has grown there: that of a logarithm by 1.33 times 4/3
_UNDERFLOW = 1e-150  # of the largest weight: exponentials that far down have no digits
_NOTHING = 1e-6  # of the largest influence: what is left of it far out, if it goes to 0


class Traits(NamedTuple):
    """What kind of loss of residuals one is: see `Loss.traits`."""

    even: bool
    convex: bool
    bounded_influence: bool
    redescending: bool
    falling_weights: bool


def residuals() -> Doubles:
    """Positive residuals of many sizes, rising."""
    fine = np.arange(-_FINE * 32, _FINE * 32 + 1) / 32
    coarse = np.arange(_FINE * 2 + 1, _LARGEST * 2 + 1) / 2
    return np.exp2(np.concatenate((-coarse[::-1], fine, coarse)))


def traits_of(formula: Formula, parameters: Sequence[float]) -> Traits:
    """The traits at these parameters."""
    size = residuals()
    x = np.concatenate((-size[::-1], [0.0], size))
    value, psi = at(formula, [0, 1], x, parameters)
    bounded, redescending = _far_out(x, psi)
    even = _same(value, value[::-1])
    return Traits(
        even=even,
        convex=_convex(x, value, psi),
        bounded_influence=bounded,
        redescending=redescending,
        falling_weights=even and _falling(size, *around(formula.weight, 0, parameters)),
    )


def around(formula: Formula, order: int, parameters: Sequence[float]) -> tuple[Doubles, Doubles, float]:
    """The derivative of that order at the residuals, at their negatives, and at 0."""
    size = residuals()
    (each,) = at(formula, [order], np.concatenate((size, -size, [0.0])), parameters)
    return each[: len(size)], each[len(size) : -1], float(each[-1])


def at(formula: Formula, orders: Sequence[int], x: Doubles, parameters: Sequence[float]) -> list[Doubles]:
    """Derivatives of these orders in x."""
    roots = [formula.root((order, *[0] * len(parameters))) for order in orders]
    found = in_wide_numbers(roots, [x, *(np.float64(value) for value in parameters)])
    return [np.broadcast_to(part, x.shape) for part in found]


def _same(one: Doubles, other: Doubles) -> bool:
    """Tell whether all numbers are equal, but for the tolerance; what is infinite in both is."""
    return bool(np.isclose(one, other, rtol=_TOLERANCE, atol=0.0).all())


def _convex(x: Doubles, value: Doubles, psi: Doubles) -> bool:
    """Tell whether the slope of each chord lies between the influences at its ends."""
    if np.isnan(value).any() or np.isnan(psi).any():
        return False
    known = np.isfinite(value) & np.isfinite(psi)
    x, value, psi = x[known], value[known], psi[known]
    if len(x) < 2:
        return False
    step = np.diff(x)
    chord = np.diff(value) / step
    size = np.maximum(np.abs(psi[:-1]), np.abs(psi[1:]))
    height = np.maximum(np.abs(value[:-1]), np.abs(value[1:]))
    with np.errstate(over="ignore"):  # close to 0, where values that are not 0 have no digits for differences
        margin = _TOLERANCE * size + _ROUNDED * height / step
    return bool(((psi[:-1] <= chord + margin) & (chord <= psi[1:] + margin)).all())


def _far_out(x: Doubles, psi: Doubles) -> tuple[bool, bool]:
    """Tell whether the influence is bounded, and whether it goes to 0 on both sides."""
    size = np.abs(psi)
    if not np.isfinite(size).all():
        return False, False
    largest, far = float(size.max()), float(size[np.abs(x) >= _FARTHER].max())
    bounded = far <= _GROWN * float(size[np.abs(x) <= _FAR].max())
    return bounded, bounded and far <= _NOTHING * largest and largest > 0


def _falling(size: Doubles, right: Doubles, left: Doubles, at_zero: float) -> bool:
    """Tell whether weights are finite and not negative, and none is above that of a smaller residual of either sign."""
    most = np.concatenate(([at_zero], np.maximum(left, right)))
    least = np.concatenate(([at_zero], np.minimum(left, right)))
    if not (np.isfinite(most).all() and (least >= 0).all()):
        return False
    return bool((most[1:] <= least[:-1] * (1 + _TOLERANCE) + _UNDERFLOW * most.max()).all())


# --- more of it, for the loops that a loss may go into


@dataclass(frozen=True)
class Seen:
    """What the residuals of many sizes show of a loss."""

    traits: Traits
    finite: bool  # whether its weights are
    rises: bool  # on both sides of 0, or is level
    bends: bool  # anywhere
    square: bool
    top: float  # the weight at 0, 1 if that is 0
    radius: float  # up to which its curvature is not negative


def _not_negative(each: Doubles, at_zero: float) -> NDArray[np.bool_]:
    """Flags of what is not below 0 by more than rounding, beside what was there at smaller residuals."""
    so_far = np.maximum.accumulate(np.abs(np.concatenate(([at_zero], each))))[:-1]
    return np.asarray(each >= -_ROUNDED * so_far)


@functools.lru_cache(maxsize=64)
def seen_of(formula: Formula, parameters: tuple[float, ...]) -> Seen:
    """The look at a loss, once for each."""
    size = residuals()
    right, left, at_zero = around(formula.weight, 0, parameters)
    most, least = np.maximum(left, right), np.minimum(left, right)
    nearest, near = (max(abs(right[i]), abs(left[i])) for i in (0, len(size) // 4))
    # Far out a loss may overflow.
    finite = not np.isnan(most).any() and bool(np.isfinite([at_zero, *most[size <= 1]]).all())
    finite = finite and bool(nearest <= _SETTLED * max(near, abs(at_zero)))
    ahead, behind, bend_at_zero = around(formula, 2, parameters)
    ends = np.flatnonzero(~_not_negative(np.minimum(ahead, behind), bend_at_zero))
    radius = float(size[ends[0] - 1]) if len(ends) and ends[0] else 0.0 if len(ends) else math.inf
    return Seen(
        traits=traits_of(formula, parameters),
        finite=finite,
        rises=at_zero >= 0 and bool(_not_negative(least, at_zero).all()),
        bends=bool((np.maximum(ahead, behind) > 0).any()),
        square=at_zero > 0
        and bool((most <= at_zero * (1 + _TOLERANCE)).all() and (least >= at_zero * (1 - _TOLERANCE)).all()),
        top=at_zero if finite and at_zero > 0 else 1.0,
        radius=radius if bend_at_zero >= 0 else 0.0,
    )
