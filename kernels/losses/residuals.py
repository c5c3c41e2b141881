"""Losses of a residual, prediction less target, or of both where the side counts."""

from __future__ import annotations

from typing import Any

from ..graph.functions import exp, expm1, log, log1p, logcosh, maximum, minimum, sqrt, where
from .definition import Domain
from .formula import Formula

__all__ = [
    "CAUCHY",
    "EPSILON_INSENSITIVE",
    "EXPECTILE",
    "GEMAN_MCCLURE",
    "HALF_SQUARED_ERROR",
    "HUBER",
    "LOG_COSH",
    "MAE",
    "MSE",
    "PSEUDO_HUBER",
    "QUANTILE",
    "SMOOTH_L1",
    "SQUARED_EPSILON_INSENSITIVE",
    "TUKEY",
    "WELSCH",
]

Number = Any  # of a formula: see `graph.real`


def _positive(name: str, what: str) -> dict[str, Domain]:
    return {name: Domain(0.0, True, f"{name} must be positive, got {{}}: it is {what}")}


def _not_negative(name: str, what: str) -> dict[str, Domain]:
    return {name: Domain(0.0, False, f"{name} must not be negative, got {{}}: it is {what}")}


_BEND = "the residual at which the loss begins to bend"


def mse(x: Number) -> Number:
    """Squared error x^2."""
    return x * x


def half_squared_error(x: Number) -> Number:
    """Half of the squared error, x^2/2, whose derivative is x."""
    return 0.5 * (x * x)


def mae(x: Number) -> Number:
    """Absolute error |x|, whose derivative at 0 is 0."""
    return abs(x)


def huber(x: Number, delta: Number = 1.0) -> Number:
    """Huber's loss: x^2/2 up to |x| = delta, then delta (|x| - delta/2)."""
    return where(abs(x) <= delta, 0.5 * (x * x), delta * (abs(x) - 0.5 * delta))


def _huber_slope(x: Number, delta: Number) -> Number:
    """The derivative in delta, |x| - delta beyond it, where the automatic one subtracts its half twice."""
    return maximum(0, abs(x) - delta)


def smooth_l1(x: Number, beta: Number = 1.0) -> Number:
    """Smooth L1: x^2/(2 beta) up to |x| = beta, then |x| - beta/2; for beta = 0 it is |x|."""
    return where(abs(x) < beta, (x / beta) * (0.5 * x), abs(x) - 0.5 * beta)


def pseudo_huber(x: Number, delta: Number = 1.0) -> Number:
    """Pseudo-Huber (Charbonnier): delta^2 (sqrt(1 + z^2) - 1), z = x/delta."""
    # Far out 1 is nothing beside z^2, which may overflow.
    z = x / delta
    far = abs(z) > 1e12
    near = where(far, 1, z)
    return where(far, delta * (abs(x) - delta), delta * delta * (sqrt(1 + near * near) - 1))


def _pseudo_huber_slope(x: Number, delta: Number) -> Number:
    """The derivative in delta: delta (s - 1)^2/s, s = sqrt(1 + z^2), where the automatic one is a difference."""
    z = x / delta
    far = abs(z) > 1e12
    near = where(far, 1, z)
    rest = sqrt(1 + near * near) - 1
    return where(far, abs(x) - 2 * delta, delta * (rest * (rest / (1 + rest))))


def cauchy(x: Number, scale: Number = 1.0) -> Number:
    """Cauchy (Lorentzian): log(1 + z^2/2), z = x/scale; `fastrobust.loss` at alpha = 0."""
    z = x / scale
    return where(abs(z) < 1e12, log1p(0.5 * z * z), 2 * log(abs(z)) - _LOG_2)


_LOG_2 = 0.6931471805599453


def geman_mcclure(x: Number, scale: Number = 1.0) -> Number:
    """Geman-McClure: 2 z^2/(z^2 + 4), z = x/scale; `fastrobust.loss` at alpha = -2."""
    z = x / scale
    inverse = 2 / z
    return where(abs(z) < 2, 2 * z * z / (z * z + 4), 2 / (1 + inverse * inverse))


def welsch(x: Number, scale: Number = 1.0) -> Number:
    """Welsch (Leclerc): 1 - exp(-z^2/2), z = x/scale; `fastrobust.loss` at alpha = -inf."""
    z = x / scale
    return -expm1(-0.5 * z * z)


def _geman_mcclure_slope(x: Number, scale: Number) -> Number:
    """The derivative in scale, -16 z^2/(z^2 + 4)^2/scale, with fewer roundings than the automatic one."""
    z = x / scale
    inverse = 2 / z
    root = where(abs(z) < 2, z / (z * z + 4), inverse / (2 + 2 * (inverse * inverse)))
    return -16 / scale * (root * root)


def _welsch_slope(x: Number, scale: Number) -> Number:
    """The derivative in x, z/scale exp(-z^2/2), by the root of exp: that is a normal number where exp is not."""
    z = x / scale
    root = exp(-0.25 * z * z)
    return root * (z / scale) * root


def _welsch_scale_slope(x: Number, scale: Number) -> Number:
    """The derivative in scale, -z^2/scale exp(-z^2/2), likewise."""
    z = x / scale
    root = exp(-0.25 * z * z)
    return -(root * z * (z / scale) * root)


def tukey(x: Number, c: Number = 4.685) -> Number:
    """Tukey's biweight: c^2/6 (1 - (1 - z^2)^3) up to |z| = 1, z = x/c, then c^2/6."""
    z = x / c
    s = minimum(z * z, 1)
    return where(s >= 1, c * c / 6, x * x / 6 * (3 + s * (s - 3)))


def _tukey_slope(x: Number, c: Number) -> Number:
    """The derivative in c: c/3 s^2 (3 - 2 s), s = z^2, where the automatic one is a difference."""
    z = x / c
    s = minimum(z * z, 1)
    return c / 3 * (s * s * (3 - 2 * s))


def log_cosh(x: Number) -> Number:
    """The logarithm of cosh(x), between x^2/2 and |x| - log 2."""
    return logcosh(x)


def quantile(x: Number, target: Number, q: Number = 0.5) -> Number:
    """Quantile (pinball) loss of a prediction: q e for e = target - x > 0, else (q - 1) e; its derivative at 0 is 0."""
    e = target - x
    return where(e > 0, q, 1 - q) * abs(e)


def expectile(x: Number, target: Number, q: Number = 0.5) -> Number:
    """Expectile loss of a prediction: q e^2 for e = target - x > 0, else (1 - q) e^2."""
    e = target - x
    return where(e > 0, q, 1 - q) * (e * e)


def epsilon_insensitive(x: Number, epsilon: Number = 0.1) -> Number:
    """Epsilon-insensitive: |x| - epsilon where that is positive, else 0."""
    return maximum(0, abs(x) - epsilon)


def squared_epsilon_insensitive(x: Number, epsilon: Number = 0.1) -> Number:
    """The square of the epsilon-insensitive loss."""
    beyond = maximum(0, abs(x) - epsilon)
    return beyond * beyond


MSE, HALF_SQUARED_ERROR, MAE = Formula(mse), Formula(half_squared_error), Formula(mae)
HUBER = Formula(huber, ("delta",), domains=_not_negative("delta", _BEND), slopes={"delta": _huber_slope})
SMOOTH_L1 = Formula(smooth_l1, ("beta",), domains=_not_negative("beta", _BEND))
PSEUDO_HUBER = Formula(
    pseudo_huber, ("delta",), domains=_positive("delta", _BEND), slopes={"delta": _pseudo_huber_slope}
)
_SCALE = _positive("scale", _BEND)
CAUCHY = Formula(cauchy, ("scale",), domains=_SCALE)
GEMAN_MCCLURE = Formula(geman_mcclure, ("scale",), domains=_SCALE, slopes={"scale": _geman_mcclure_slope})
WELSCH = Formula(welsch, ("scale",), domains=_SCALE, slopes={"x": _welsch_slope, "scale": _welsch_scale_slope})
TUKEY = Formula(
    tukey,
    ("c",),
    domains=_positive("c", "the residual from which on the loss is constant"),
    slopes={"c": _tukey_slope},
)
LOG_COSH = Formula(log_cosh)
QUANTILE, EXPECTILE = (Formula(function, ("q",), ranges={"q": (0, 1)}) for function in (quantile, expectile))
EPSILON_INSENSITIVE, SQUARED_EPSILON_INSENSITIVE = (
    Formula(function, ("epsilon",), domains=_not_negative("epsilon", "the error that costs nothing"))
    for function in (epsilon_insensitive, squared_epsilon_insensitive)
)
