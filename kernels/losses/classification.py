"""Losses of classification with two classes: of probabilities, of logits, of scores."""

from __future__ import annotations

from typing import Any

from ..graph.real import exp, expm1, log, log1p, maximum, minimum, softplus, where
from .definition import Domain
from .formula import Formula

__all__ = ["BALANCED_FOCAL_LOGITS", "BCE", "BCE_LOGITS", "FOCAL_LOGITS", "HINGE", "SMOOTHED_HINGE", "SQUARED_HINGE"]

Number = Any  # of a formula: see `graph.real`


def _weighted(weight: Number, term: Number) -> Number:
    """A product, 0 where the weight is, also if the term is infinite; its derivative in the weight is the term."""
    infinite = (term + term == term) & (term != 0)
    return weight * where((weight == 0) & infinite, 0, term)


def bce(x: Number, target: Number) -> Number:
    """Binary cross-entropy of a probability: -(t log x + (1 - t) log(1 - x)), with 0 log 0 = 0.

    It is infinite where a certain prediction is wrong.  A probability near 1 has lost its digits: take logits if you
    have them.
    """
    return _weighted(target, -log(x)) + _weighted(1 - target, -log1p(-x))


def _cross_entropy(x: Number, target: Number, rest: Number, positive: Number) -> Number:
    """For a target and 1 less that.  Both terms are positive, so that nothing cancels."""
    return _weighted(target, positive * softplus(-x)) + _weighted(rest, softplus(x))


def bce_logits(x: Number, target: Number, pos_weight: Number = 1.0, label_smoothing: Number = 0.0) -> Number:
    """Binary cross-entropy of a logit: w t softplus(-x) + (1 - t) softplus(x).

    The weight w of the positive class is ``pos_weight``; with ``label_smoothing`` s the target is t (1 - s) + s/2.
    """
    kept, added = 1 - label_smoothing, 0.5 * label_smoothing
    return _cross_entropy(x, target * kept + added, (1 - target) * kept + added, pos_weight)


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

    1 - p is s(-x) (1 + (1 - t)(exp(x) - 1)), or the same with -x for x and 1 - t for t: of its logarithm, in the form
    for the nearer label or that for the side of x, both terms are negative.
    """
    for_one = -softplus(x) + log1p(_weighted(1 - target, expm1(minimum(x, _FAR))))
    for_zero = -softplus(-x) + log1p(_weighted(target, expm1(minimum(-x, _FAR))))
    logarithm = where((target == 1) | ((target != 0) & (x <= 0)), for_one, for_zero)
    return exp(gamma * logarithm) * _cross_entropy(x, target, 1 - target, 1)


_FAR = 700.0  # logits from which on nothing is left of the loss of an easy example


def focal_logits(x: Number, target: Number, gamma: Number = 2.0) -> Number:
    """Focal loss of a logit: (1 - p)^gamma times the binary cross-entropy, p = t s(x) + (1 - t) s(-x).

    Labels t may be soft.  For gamma = 0 it is the cross-entropy.
    """
    return _focal(x, target, gamma)


def balanced_focal_logits(x: Number, target: Number, gamma: Number = 2.0, balance: Number = 0.25) -> Number:
    """Focal loss of a logit, weighted by t balance + (1 - t)(1 - balance)."""
    return (target * balance + (1 - target) * (1 - balance)) * _focal(x, target, gamma)


_GAMMA = {"gamma": Domain(0.0, False, "gamma must not be negative, got {}: it is by how much easy examples count less")}
_PROBABILITY = {"x": Domain(0.0, False, "x must be a probability, got {}: for logits take bce_logits")}

_LABEL, _SIDE, _UNIT = {"target": (0.0, 1.0)}, {"target": (-1.0, 1.0)}, (0.0, 1.0)

BCE = Formula(bce, domains=_PROBABILITY, ranges={"x": _UNIT, **_LABEL})
BCE_LOGITS = Formula(bce_logits, ("pos_weight", "label_smoothing"), ranges={**_LABEL, "label_smoothing": _UNIT})
HINGE, SQUARED_HINGE = (Formula(function, ("margin",), ranges=_SIDE) for function in (hinge, squared_hinge))
SMOOTHED_HINGE = Formula(smoothed_hinge, ranges=_SIDE)
FOCAL_LOGITS = Formula(
    focal_logits, ("gamma",), precision="wide", domains=_GAMMA, ranges={**_LABEL, "gamma": (0.0, 5.0)}
)
BALANCED_FOCAL_LOGITS = Formula(
    balanced_focal_logits,
    ("gamma", "balance"),
    precision="wide",
    domains=_GAMMA,
    ranges={**_LABEL, "gamma": (0.0, 5.0), "balance": _UNIT},
)
