"""The loss of a residual over its scale, of Barron's family or a `Loss`: what the loops ask of either."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import curvature as barron_curvature
from .. import influence as barron_influence
from .. import loss as barron_loss
from .. import loss_and_grad
from .. import weight as barron_weight
from .._dispatch import backend
from .._loss import Loss
from .._traits import at, seen_of
from .._types import Array, ArrayLike, LossGrad, NDArray
from ._arrays import number

NOTHING = 1e-15  # of the weight at 0: weights of a loss that is not convex, where all residuals are too far out
_FARTHEST = 1e150  # residuals in units of the scale, whose squares are in range: no loss tells those beyond apart
_ALIKE = 1e-9  # relative, of weights that are one
_NEAR = 4e-3  # of a loss's own scale, for its series near 0
_SECOND = 1e-3  # of the weight: where less is left of the curvature, the weight stands for it


@dataclass(frozen=True)
class UnitLoss:
    """The loss of z = residual/scale: its value, its weight psi(z)/z, its curvature, and what kind of loss it is."""

    name: str  # what messages call it
    remedy: str  # against an infinite loss
    value: Callable[..., Any]  # of residuals and their scale, with options such as a reduction
    weight: Callable[[Array], Array]  # of z
    influence: Callable[[Array], Array]  # of z
    curvature: Callable[[Array], Array]  # of z
    evaluate: Callable[..., LossGrad]  # as `fastrobust.loss_and_grad`, over the weight at 0
    top: float  # the weight at 0, in which results have theirs; 1 if that is 0
    convex: bool
    falls: bool  # whether its weights do, so that no reweighted step can raise the sum
    square: bool
    alpha: float | None  # of Barron's family

    def finite(self, value: float, scale: float) -> None:
        """Refuse a start from which no step can be made."""
        if not math.isfinite(value):
            raise ValueError(f"the loss is infinite at the start, at {self.name}, scale = {scale:g}: {self.remedy}")

    def weights(self, residuals: Array, scale: float) -> Array:
        """The weights of residuals of that scale, in units in which no square of it overflows."""
        with np.errstate(over="ignore", under="ignore"):  # too far out for any weight
            return self.weight(residuals / scale)

    def relative(self, residuals: Array, scale: float) -> Array:
        """The weights of residuals relative to that of 0, which is 1 then."""
        weights = self.weights(residuals, scale)
        return weights if self.top == 1 else weights / self.top

    def weightless(self, weights: Array) -> bool:
        """Tell whether all are so far out that rounding alone decides; where the loss is convex, none is."""
        return not float(weights.max()) > (0 if self.convex else NOTHING * self.top)

    def bend(self, z: Array, weights: Array) -> Array:
        """What a step takes for the curvature: the weights, if they fall; else the curvature where it is positive."""
        if self.falls:
            return weights
        second = self.curvature(z)
        return backend(z, "z").xp.where(second > _SECOND * weights, second, weights)


def chosen(
    function: str, alpha: float | None, scale: float | None, loss: Loss | None, *, falling: bool = False
) -> tuple[UnitLoss, float]:
    """The loss that a call asks for, by alpha or by itself, and its scale."""
    if loss is None:
        if alpha is None:
            raise TypeError(f"{function} needs alpha, or loss=, one of fastrobust.losses or of fastrobust.define")
        of_alpha = barron(alpha)
        if scale is None:
            raise TypeError("scale is missing: the size of residual from which one begins to count less")
        return of_alpha, number("scale", scale, positive=True)
    if alpha is not None:
        raise TypeError(f"{function} takes alpha or loss, got both: alpha = {alpha!r} and {loss!r:.100}")
    own = reweighted(function, loss)
    if falling and not own.falls:
        raise ValueError(
            f"{function} only reweights, and the weights psi(x)/x of {own.name} do not fall with |x|: take irls or "
            "gauss_newton, which go by its curvature"
        )
    return own, 1.0 if scale is None else number("scale", scale, positive=True)


@functools.lru_cache(maxsize=8)
def _barron(alpha: float) -> UnitLoss:
    """Barron's loss of that shape."""

    def value(residuals: ArrayLike, scale: float, **options: Any) -> Any:
        return barron_loss(residuals, alpha, scale, **options)

    return UnitLoss(
        name=f"alpha = {alpha:g}",
        remedy="raise scale, or lower alpha",
        value=value,
        weight=lambda z: barron_weight(z, alpha, 1.0),
        influence=lambda z: barron_influence(z, alpha, 1.0),
        curvature=lambda z: barron_curvature(z, alpha, 1.0),
        evaluate=loss_and_grad,
        top=1.0,
        convex=alpha >= 1,
        falls=alpha <= 2,
        square=alpha == 2,
        alpha=alpha,
    )


def barron(alpha: object) -> UnitLoss:
    """Barron's loss of the shape that a user gives."""
    return _barron(number("alpha", alpha))


# --- losses of the catalogue, and of the user's own


def numbers_of(loss: object) -> tuple[Loss, tuple[float, ...]]:
    """A user's loss, if it is one of residuals alone, and a number for each of its parameters."""
    if not isinstance(loss, Loss):
        raise TypeError(f"loss must be one of fastrobust.losses, or made by fastrobust.define, got {loss!r:.100}")
    if len(loss.data) > 1:
        raise TypeError(
            f"loss must be one of a residual alone, and {loss.__name__} has the data {', '.join(loss.data)}"
        )
    defaults = loss.formula.defaults
    without = [name for name in loss.parameters if name not in defaults]
    if without:
        raise TypeError(
            f"{loss.__name__} has no default for {', '.join(without)}: give "
            f"loss={loss.__name__}.with_defaults({', '.join(f'{name}=...' for name in without)})"
        )
    return loss, tuple(float(defaults[name]) for name in loss.parameters)


def reweighted(function: str, loss: object) -> UnitLoss:
    """A user's loss for loops that stand on its weights, which have to be finite, and not negative."""
    own, numbers = numbers_of(loss)
    seen = seen_of(own.formula, numbers)
    title = titled(own)
    if not seen.finite:
        raise ValueError(
            f"{function} needs weights psi(x)/x that are finite, and those of {title} are not, at x = 0, where its "
            "slope has to be 0: take one that is smooth there, such as losses.huber with a small delta"
        )
    if not seen.rises:
        raise ValueError(
            f"{function} needs a loss that is least at x = 0, and {title} has weights psi(x)/x below 0: shift it"
        )
    if not seen.bends:
        raise ValueError(
            f"{function} needs a loss with a curvature, and {title} is made of straight pieces: take one that is "
            "rounded, such as losses.squared_epsilon_insensitive or losses.huber"
        )

    def value(residuals: Array, scale: float, **options: Any) -> Any:
        with np.errstate(over="ignore"):
            return own(_within(residuals / scale), *numbers, **options)

    def evaluate(
        residuals: NDArray, _: float, scale: float, *, out: tuple[NDArray | None, ...], wrt: object, **options: Any
    ) -> LossGrad:
        """Of residuals of that scale, whatever alpha is; the derivative in them alone."""
        memory = None, out[1], *[None] * len(numbers)
        found = own.value_and_grad(_within(residuals / scale), *numbers, wrt=own.data, out=memory, **options)
        found[1][...] /= scale * seen.top
        return LossGrad(found.value / seen.top, found[1], None, None)

    return UnitLoss(
        name=title,
        remedy="raise scale, or begin nearer",
        value=value,
        weight=lambda z: own.weight(_within(z), *numbers),
        influence=lambda z: own.influence(_within(z), *numbers),
        curvature=lambda z: own.curvature(_within(z), *numbers),
        evaluate=evaluate,
        top=seen.top,
        convex=seen.traits.convex,
        falls=seen.traits.falling_weights,
        square=seen.square,
        alpha=None,
    )


def titled(loss: Loss) -> str:
    """A loss by its name and the numbers of its parameters."""
    given = ", ".join(f"{name}={loss.formula.defaults[name]:g}" for name in loss.parameters)
    return f"{loss.__name__}({given})" if given else loss.__name__


def _within(z: Array) -> Array:
    """The residuals, those beyond any meaning brought in."""
    return backend(z, "z").xp.clip(z, -_FARTHEST, _FARTHEST)


def convex_radius(loss: Loss) -> float:
    """The size of residual up to which a loss is convex, as far as its curvature shows; 0 where it is not near 0."""
    own, numbers = numbers_of(loss)
    return seen_of(own.formula, numbers).radius


# --- the slope of weights


def slope_of_weights(loss: Loss, numbers: tuple[float, ...]) -> Callable[[NDArray], NDArray]:
    """The function w'(x)/x of residuals, where w = psi(x)/x is an even loss's weight."""
    # By the graph, that of a quotient where x is no factor: then (psi' - w)/x^2, which cancels as x goes to 0.
    second = Loss(loss.formula.weight.weight)
    end, series = _series(loss, numbers)

    def slope(x: NDArray) -> NDArray:
        """At residuals that are not negative."""
        x = np.minimum(x, _FARTHEST)
        return np.where(x <= end, _polynomial(series, np.minimum(x, end) ** 2), second(x, *numbers))

    return slope


def _polynomial(coefficients: Sequence[float], s: NDArray) -> NDArray:
    """The polynomial of these coefficients, the constant first."""
    total = np.zeros_like(s)
    for coefficient in reversed(coefficients):
        total = total * s + coefficient
    return total


def _series(loss: Loss, numbers: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    """Where the series of w'(x)/x at 0 ends, below 0 if it has none, and its coefficients as one of x^2.

    With a, b, c the fourth, sixth and eighth derivative of the loss at 0, it is a/3 + b x^2/30 + c x^4/840.
    """
    formula, zero = loss.formula, np.zeros(1)
    fourth, sixth, eighth = (float(part[0]) for part in at(formula, (4, 6, 8), zero, numbers))
    series = fourth / 3, sixth / 30, eighth / 840
    if not all(map(math.isfinite, series)) or not (sixth and eighth):
        return -1.0, (0.0,)
    # A few thousandths of where terms are of one size, so that the first one left out is below rounding.
    end = _NEAR * math.sqrt(min(abs(fourth / sixth), abs(sixth / eighth)))
    # Derivatives at 0 may be none of a loss's: those of |x|^3 are 0.
    (by_graph,) = at(formula.weight.weight, (0,), np.array([end]), numbers)
    by_series = float(_polynomial(series, np.asarray(end * end)))
    alike = end > 0 and abs(float(by_graph[0]) - by_series) <= _ALIKE * abs(by_series)
    return (end, series) if alike else (-1.0, (0.0,))
