"""Losses of regions: how little a predicted region and a target have in common.

With p the probability of each element, t its target, and, so that nothing cancels for a right answer,

    over = sum max(p - t, 0)       missed = sum max(t - p, 0)       common = sum min(p, t)

a loss is a quotient of what is off and the whole, where others take 1 less a score.  For targets of 0 and 1 that is the
same; for others it is 0 where p = t, which 1 - 2 sum(p t)/sum(p + t) is not.  Of logits p - t is t sigmoid(-x) less
(1 - t) sigmoid(x), so that the loss of a right answer keeps its digits however small it is.

Without smoothing, a region without a target has the loss 1, and 0 if p is 0 everywhere; the derivatives in p are 0.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from ..graph.functions import mean, power, sigmoid, sum, where
from ..graph.real import operand
from .definition import Domain
from .formula import Formula, with_operands

__all__ = ["EMPTY", "NAMES", "TARGET", "Empty", "formula"]

Number = Any  # of a formula: see `graph.real`
Empty = Literal["one", "zero", "mean", "skip"]
EMPTY: tuple[Empty, ...] = ("one", "zero", "mean", "skip")  # what a region without a target comes to
TARGET = sum(operand(1))  # by which the other ways than "one" know such a region


class _Element(NamedTuple):
    """An element: its probability, by how much it is off its target, and what they have in common."""

    p: Number
    off: Number  # either of the next two
    over: Number
    missed: Number
    common: Number

    @classmethod
    def of_logit(cls, x: Number, target: Number) -> _Element:
        """Of a logit, from both sides."""
        p = sigmoid(x)
        return cls._of(p, target, target * sigmoid(-x) - (1 - target) * p)

    @classmethod
    def of_probability(cls, x: Number, target: Number) -> _Element:
        """Of the probability itself."""
        return cls._of(x, target, target - x)

    @classmethod
    def _of(cls, p: Number, target: Number, below: Number) -> _Element:
        """By how much it is below its target."""
        is_over = below < 0
        over, missed = where(is_over, -below, 0), where(is_over, 0, below)
        return cls(p, where(is_over, -below, below), over, missed, where(is_over, target, p))


def _share(part: Number, whole: Number) -> Number:
    """A quotient, of which 0/0 is 0."""
    return where(whole == 0, 0, part / where(whole == 0, 1, whole))


def _dice(element: _Element, target: Number, smooth: Number = 0.0) -> Number:
    """Dice loss{}: sum |p - t| / (sum p + sum t + smooth)."""
    off = sum(element.off)
    return _share(off, off + 2 * sum(element.common) + smooth)


def _squared_dice(element: _Element, target: Number, smooth: Number = 0.0) -> Number:
    """Dice loss with squares{}: sum (p - t)^2 / (sum p^2 + sum t^2 + smooth)."""
    off = sum(element.off * element.off)
    return _share(off, off + 2 * sum(element.p * target) + smooth)


def _jaccard(element: _Element, target: Number, smooth: Number = 0.0) -> Number:
    """Jaccard loss{}: sum |p - t| / (sum max(p, t) + smooth), 1 less the intersection over the union."""
    off = sum(element.off)
    return _share(off, off + sum(element.common) + smooth)


def _tversky(
    element: _Element, target: Number, alpha: Number = 0.5, beta: Number = 0.5, smooth: Number = 0.0
) -> Number:
    """Tversky loss{}: off / (sum min(p, t) + off + smooth), off = alpha sum max(p - t, 0) + beta sum max(t - p, 0).

    ``alpha`` is the factor of what is predicted wrongly, ``beta`` of what is missed; with both 1/2 it is Dice's.
    """
    off = alpha * sum(element.over) + beta * sum(element.missed)
    return _share(off, sum(element.common) + off + smooth)


def _focal_tversky(
    element: _Element,
    target: Number,
    alpha: Number = 0.5,
    beta: Number = 0.5,
    gamma: Number = 0.75,
    smooth: Number = 0.0,
) -> Number:
    """Tversky loss to the power of gamma{}.

    Abraham and Khan (2019) call 1/gamma gamma, and take 4/3.
    """
    loss = _tversky(element, target, alpha, beta, smooth)
    return where(loss == 0, 0, power(where(loss == 0, 1, loss), gamma))


_FORMULAS = {
    function.__name__.removeprefix("_"): function
    for function in (_dice, _squared_dice, _jaccard, _tversky, _focal_tversky)
}
_KINDS: dict[str, tuple[str, Callable[[Number, Number], _Element]]] = {
    "": (" of probabilities", _Element.of_probability),
    "_logits": (" of logits", _Element.of_logit),
}
NAMES = tuple(name + kind for name in _FORMULAS for kind in _KINDS)


@functools.cache
def formula(name: str, empty: Empty = "one") -> Formula:
    """The formula of that name; ``empty`` says what a region without a target comes to, "skip" as "zero"."""
    kind = "_logits" if name.endswith("_logits") else ""
    short = name.removesuffix("_logits")
    function = _FORMULAS[short]
    parameters = list(inspect.signature(function).parameters.values())[2:]
    defaults = {parameter.name: parameter.default for parameter in parameters}
    said, element_of = _KINDS[kind]

    def region(x: Number, target: Number, *parameters: Number) -> Number:
        element = element_of(x, target)
        loss = function(element, target, *parameters)
        if empty == "one":
            return loss
        return where(sum(target) == 0, mean(element.p) if empty == "mean" else 0, loss)

    region.__doc__ = (function.__doc__ or "").format(said)
    title = name if empty == "one" else f"{name}_empty_{empty}"
    domains = {key: Domain(0.0, False, f"{key} must not be negative, got {{}}") for key in defaults}
    return Formula(
        with_operands(region, title, ("x", "target", *defaults), defaults),
        tuple(defaults),
        domains=domains,
        ranges={"target": (0.0, 1.0), **({} if kind else {"x": (0.0, 1.0)})},
        owner=__name__,
    )
