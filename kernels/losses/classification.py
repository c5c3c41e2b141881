"""Losses of classification with two classes: of probabilities, of logits, of scores."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..graph.functions import exp, log, log1p, maximum, where
from ..graph.terms import weighted
from .definition import Domain
from .formula import Formula

__all__ = ["BALANCED_FOCAL_LOGITS", "BCE", "BCE_LOGITS", "FOCAL_LOGITS", "HINGE", "SMOOTHED_HINGE", "SQUARED_HINGE"]

Number = Any  # of a formula: see `graph.real`


def bce(x: Number, target: Number) -> Number:
    """Binary cross-entropy of a probability: -(t log x + (1 - t) log(1 - x)), with 0 log 0 = 0.

    It is infinite where a certain prediction is wrong.  A probability near 1 has lost its digits: take logits if you
    have them.
    """
    return weighted(target, -log(x)) + weighted(1 - target, -log1p(-x))


class _Sides(NamedTuple):
    """A logit and a label, said so that either side of 0 has one formula, with one exponential."""

    size: Number  # |x|, which goes on through 0
    near: Number  # the label of the side on which x is, and that of the other: they are 1 together
    far: Number

    @classmethod
    def of(cls, x: Number, target: Number, rest: Number) -> _Sides:
        """Of the label, and of 1 less that."""
        right = x >= 0
        return cls(where(right, x, -x), where(right, target, rest), where(right, rest, target))


def bce_logits(x: Number, target: Number, pos_weight: Number = 1.0, label_smoothing: Number = 0.0) -> Number:
    """Binary cross-entropy of a logit: w t softplus(-x) + (1 - t) softplus(x).

    The weight w of the positive class is ``pos_weight``; with ``label_smoothing`` s the target is t (1 - s) + s/2.

    For a label between 0 and 1 the derivative in x, (1 - t) s(x) - w t s(-x) with the sigmoid s, is 0 at some x: near
    that it is right to 4 units in the last place of its terms, not of their difference.
    """
    kept, added = 1 - label_smoothing, 0.5 * label_smoothing
    size, near, far = _Sides.of(x, target * kept + added, (1 - target) * kept + added)
    rest = log1p(exp(-size))
    of_near, of_far = where(x >= 0, pos_weight, 1), where(x >= 0, 1, pos_weight)
    return weighted(near, of_near * rest) + weighted(far, of_far * (rest + size))


def hinge(x: Number, target: Number, margin: Number = 1.0) -> Number:
    """Hinge loss of a score: max(0, margin - t x) for targets t of -1 and 1; its derivative at the bend is 0."""
    return maximum(0, margin - target * x)


def squared_hinge(x: Number, target: Number, margin: Number = 1.0) -> Number:
    """The square of the hinge loss."""
    beyond = maximum(0, margin - target * x)
    return beyond * beyond


def smoothed_hinge(x: Number, target: Number) -> Number:
    """Rennie's smooth hinge of z = t x: 1/2 - z for z < 0, (1 - z)^2/2 up to 1, then 0; targets t are -1 and 1."""
    z = target * x
    rest = 1 - z
    return where(z < 0, 0.5 - z, where(z > 1, 0, 0.5 * (rest * rest)))


def _focal(x: Number, target: Number, gamma: Number) -> Number:
    """(1 - p)^gamma CE, p the probability of the target.

    With e = exp(-|x|) and the labels of `_Sides`, 1 - p is (near e + far)/(1 + e) and CE is log(1 + e) + far |x|: sums
    of positive terms.  Where e would be no number any more, the logarithm goes on for a label of exactly 1 (floats
    without doubles inside have no such least number: they come to 0 there), and otherwise e is nothing beside the rest.
    """
    size, near, far = _Sides.of(x, target, 1 - target)
    e = exp(-size)
    rest = log1p(e)
    wrong = near * maximum(e, _LEAST) + far
    nothing = wrong == 0
    beyond = where(nothing, size, where(near == 1, maximum(size - _FAR, 0), 0))
    logarithm = log(where(nothing, 1, wrong)) - beyond - rest
    return exp(gamma * logarithm) * (rest + weighted(far, size))


_FAR, _LEAST = 708.0, 3.307553003638408e-308  # exp(-708), which no double is far below


def focal_logits(x: Number, target: Number, gamma: Number = 2.0) -> Number:
    """Focal loss of a logit: (1 - p)^gamma times the binary cross-entropy, p = t s(x) + (1 - t) s(-x).

    Labels t may be soft.  For gamma = 0 it is the cross-entropy.  Results below the normal numbers of their type have
    fewer digits than others, and are wrong by less than 1e-320 (float64).
    """
    return _focal(x, target, gamma)


def balanced_focal_logits(x: Number, target: Number, gamma: Number = 2.0, balance: Number = 0.25) -> Number:
    """Focal loss of a logit, weighted by t balance + (1 - t)(1 - balance)."""
    return (target * balance + (1 - target) * (1 - balance)) * _focal(x, target, gamma)


_GAMMA = {"gamma": Domain(0.0, False, "gamma must not be negative, got {}: it is by how much easy examples count less")}
_PROBABILITY = {"x": Domain(0.0, False, "x must be a probability, got {}: for logits take bce_logits")}

_LABEL, _SIDE, _UNIT = {"target": (0.0, 1.0)}, {"target": (-1.0, 1.0)}, (0.0, 1.0)

BCE = Formula(bce, domains=_PROBABILITY, ranges={"x": _UNIT, **_LABEL})
BCE_LOGITS = Formula(
    bce_logits, ("pos_weight", "label_smoothing"), ranges={**_LABEL, "label_smoothing": _UNIT}, of_terms=("x",)
)
# Wide, since a margin less a product cancels where a point is right on it, which few points that are tried are.
HINGE, SQUARED_HINGE = (
    Formula(function, ("margin",), precision="wide", ranges=_SIDE) for function in (hinge, squared_hinge)
)
SMOOTHED_HINGE = Formula(smoothed_hinge, precision="wide", ranges=_SIDE)
FOCAL_LOGITS = Formula(
    focal_logits, ("gamma",), precision="half wide", domains=_GAMMA, ranges={**_LABEL, "gamma": (0.0, 5.0)}
)
BALANCED_FOCAL_LOGITS = Formula(
    balanced_focal_logits,
    ("gamma", "balance"),
    precision="half wide",
    domains=_GAMMA,
    ranges={**_LABEL, "gamma": (0.0, 5.0), "balance": _UNIT},
)
