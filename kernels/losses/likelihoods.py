"""Deviances and negative log-likelihoods, and the divergence of Gaussians."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..arithmetic import coefficients as c
from ..graph.functions import deviance, exp, expm1, gap, log, log1p, moment, sqrt, where
from ..graph.real import lifted
from .definition import Domain
from .formula import Formula

__all__ = [
    "GAMMA_DEVIANCE",
    "GAMMA_DEVIANCE_LOG",
    "GAUSSIAN_KL",
    "GAUSSIAN_NLL",
    "GAUSSIAN_NLL_LOG",
    "POISSON_DEVIANCE",
    "POISSON_DEVIANCE_LOG",
    "STANDARD_KL",
    "STUDENT_T",
    "TWEEDIE_DEVIANCE",
    "TWEEDIE_DEVIANCE_LOG",
]

Number = Any  # of a formula: see `graph.real`
_INFINITY = float("inf")


def _rest(u: Number) -> Number:
    """The difference exp(u) - 1 - u, which is made without cancellation."""
    return expm1(u) - u


def _log_ratio(mean: Number, target: Number) -> Number:
    """log(mean/target), of which neither is 0; by their difference where they are near each other."""
    near = abs(mean - target) < 0.5 * target
    return where(near, log1p((mean - target) / target), log(mean / target))


def poisson_deviance(x: Number, target: Number) -> Number:
    """Poisson deviance of a mean x > 0: 2 (t log(t/x) - t + x), with 0 log 0 = 0."""
    return where(target == 0, 2 * x, 2 * target * _rest(_log_ratio(x, where(target == 0, 1, target))))


def poisson_deviance_log(x: Number, target: Number) -> Number:
    """Poisson deviance of the logarithm x of a mean: 2 (t (log t - x) - t + exp(x))."""
    return where(target == 0, 2 * exp(x), 2 * target * _rest(x - log(where(target == 0, 1, target))))


def _poisson_slope(x: Number, target: Number) -> Number:
    """The derivative in the target, 2 log(t/x), where the automatic one is a difference."""
    return -2 * _log_ratio(x, target)


def _poisson_log_slope(x: Number, target: Number) -> Number:
    """The same for the logarithm of the mean."""
    return 2 * (log(target) - x)


def gamma_deviance(x: Number, target: Number) -> Number:
    """Gamma deviance of a mean x > 0 for targets t > 0: 2 (t/x - 1 - log(t/x))."""
    return 2 * _rest(-_log_ratio(x, target))


def gamma_deviance_log(x: Number, target: Number) -> Number:
    """Gamma deviance of the logarithm x of a mean for targets t > 0: 2 (t exp(-x) - 1 - log t + x)."""
    return 2 * _rest(log(target) - x)


def _tweedie(of_zero: Number, u: Number, target: Number, power: Number) -> Number:
    """Tweedie deviance by u = log(mean/target), and for a target of 0 by the mean to the power of 2 - p."""
    # 2 t^(2 - p) times the integral of expm1(s) exp((1 - p) s) over s in (0, u), which is a divided difference of
    # expm1(z)/z: p = 0, 1 and 2 are points like others.
    zero = target == 0
    inside = 2 * where(zero, 1, target) ** (2 - power) * deviance(u, 1 - power)
    return where(zero, where(power < 2, 2 * of_zero / (2 - power), _INFINITY), inside)


def _tweedie_target_slope(of_zero: Number, u: Number, target: Number, power: Number) -> Number:
    """The derivative in the target, 2 (t^(1 - p) - mean^(1 - p))/(1 - p); of 0 by the mean to the power of 1 - p."""
    q, zero = 1 - power, target == 0
    inside = -2 * where(zero, 1, target) ** q * (u * moment(q * u))
    return where(zero, where(power < 1, -2 * of_zero / q, -_INFINITY), inside)


def tweedie_deviance(x: Number, target: Number, power: Number = 1.5) -> Number:
    """Tweedie deviance of a mean x > 0: twice the integral of (s - t) s^-p over s from t to x, p the power.

    It is the squared error for p = 0, the Poisson deviance for 1, the gamma deviance for 2 and continuous in between.
    For t = 0 it is 2 x^(2 - p)/(2 - p), infinite if p >= 2.  Errors are below 4 units in the last place for p from -1
    to 3, in the derivatives too, but near where the derivative in p is 0; the ratio of x and t must be in range.
    """
    u = _log_ratio(x, where(target == 0, 1, target))
    return _tweedie(x ** (2 - power), u, target, power)


def _tweedie_x_slope(x: Number, target: Number, power: Number) -> Number:
    return 2 * ((x - target) * x**-power)


def _tweedie_t_slope(x: Number, target: Number, power: Number) -> Number:
    u = _log_ratio(x, where(target == 0, 1, target))
    return _tweedie_target_slope(x ** (1 - power), u, target, power)


def tweedie_deviance_log(x: Number, target: Number, power: Number = 1.5) -> Number:
    """Tweedie deviance of the logarithm x of a mean: `tweedie_deviance` of exp(x).

    Its errors are those too, but near x = log t: the difference is known to 2^-58 of log t (float64).
    """
    return _tweedie(exp((2 - power) * x), x - log(where(target == 0, 1, target)), target, power)


def _tweedie_log_x_slope(x: Number, target: Number, power: Number) -> Number:
    zero = target == 0
    inside = target * (exp((1 - power) * x) * expm1(x - log(where(zero, 1, target))))
    return 2 * where(zero, exp((2 - power) * x), inside)


def _tweedie_log_t_slope(x: Number, target: Number, power: Number) -> Number:
    u = x - log(where(target == 0, 1, target))
    return _tweedie_target_slope(exp((1 - power) * x), u, target, power)


def gaussian_nll(x: Number, variance: Number) -> Number:
    """Negative log-likelihood of a residual under a variance: (log v + x^2/v)/2, without log(2 pi)/2.

    Errors are below 4 units in the last place, but near where it or its derivative in v is 0: there they are below
    2^-56 (float64) or 2^-32 (float32) of the larger of its terms.
    """
    return 0.5 * (log(variance) + x * (x / variance))


def gaussian_nll_log(x: Number, log_variance: Number) -> Number:
    """Negative log-likelihood of a residual under the logarithm l of a variance: (l + x^2 exp(-l))/2.

    Errors are below 4 units in the last place, but near where it or its derivative in l is 0: there they are below
    2^-56 (float64) or 2^-32 (float32) of the larger of its terms.
    """
    size = x * exp(-0.5 * log_variance)
    return 0.5 * (log_variance + size * size)


def standard_kl(x: Number, log_variance: Number) -> Number:
    """Divergence of a Gaussian from the standard one, as in variational autoencoders: (x^2 + exp(l) - 1 - l)/2.

    The mean is x, l the logarithm of the variance.
    """
    return 0.5 * (x * x + _rest(log_variance))


def gaussian_kl(x: Number, log_variance: Number, mean: Number, other_log_variance: Number) -> Number:
    """Divergence of one Gaussian, of mean x, from another: (exp(l - m) - 1 - (l - m) + (x - mean)^2 exp(-m))/2.

    The logarithms of their variances are l and m.
    """
    size = (x - mean) * exp(-0.5 * other_log_variance)
    return 0.5 * (_rest(log_variance - other_log_variance) + size * size)


def student_t(x: Number, nu: Number, sigma: Number = 1.0) -> Number:
    """Student's t, a negative log-likelihood: (nu + 1)/2 log(1 + z^2/nu) + log sigma + C(nu), z = x/sigma.

    The residual is x, and C is log Gamma(nu/2) - log Gamma((nu + 1)/2) + log(nu pi)/2; nu = inf is the normal
    distribution.  Errors are below 4 units in the last place, in the derivatives too, but near where the value or the
    derivative in nu is 0: there they are below 2^-58 (float64) or 2^-35 (float32) of the largest of its terms.
    """
    tail = _Tail.of(x, nu, sigma)
    core = where(nu == _INFINITY, 0.5 * (tail.z * tail.z), 0.5 * (nu + 1) * tail.log)
    return core + (log(sigma) + _normalization(nu))


def _normalization(nu: Number) -> Number:
    """C(nu): log(2 pi)/2, and what falls to 0 like 1/(4 nu)."""
    high, low = c.HALF_LOG_TWO_PI
    return lifted(high) + (low + gap(0.5 * nu))


class _Tail(NamedTuple):
    """What the loss and its derivatives are made of; where z is so large that 1 is nothing beside z^2, w is 0."""

    z: Number
    w: Number  # z^2/nu
    u: Number  # w, or |z|/sqrt(nu) where z is large
    log: Number  # log(1 + w)
    far: Any
    inverse: Number  # 1/(sigma (1 + w)), or 1/x where that is far out

    @classmethod
    def of(cls, x: Number, nu: Number, sigma: Number) -> _Tail:
        z = x / sigma
        t = z * (1 / sqrt(nu))
        size = abs(t)
        far = size > 1e17  # whose square is in the range of float32
        near = where(far, 0, t)
        w = near * near
        u = where(far, size, w)
        return cls(z, w, u, where(far, 2, 1) * log1p(u), far, 1 / where(far, x, sigma * (1 + w)))


def _student_t_slope(x: Number, nu: Number, sigma: Number) -> Number:
    """The derivative in x: (nu + 1) x/(nu sigma^2 + x^2)."""
    tail = _Tail.of(x, nu, sigma)
    return where(tail.far, nu + 1, (1 + 1 / nu) * tail.z) * tail.inverse


def _student_t_slope_in_nu(x: Number, nu: Number, sigma: Number) -> Number:
    """The derivative in nu: (log(1 + w) - w/(1 + w) - w/(1 + w)/nu)/2 + C'(nu), w = z^2/nu.

    The first two are of the order of w^2, and so are log(1 + w) - w and w^2/(1 + w) that make them up where w is small.
    """
    tail = _Tail.of(x, nu, sigma)
    share = where(tail.far, 1, (tail.w * sigma) * tail.inverse)
    rest = where(tail.u < 1, (log1p(tail.u) - tail.u) + tail.w * share, tail.log - share)
    return 0.5 * (rest - share * (1 / nu)) + 0.5 * gap(0.5 * nu, 1)


def _student_t_slope_in_sigma(x: Number, nu: Number, sigma: Number) -> Number:
    """The derivative in sigma: (1 - z^2)/(sigma (1 + w)), where the automatic one is a difference."""
    tail = _Tail.of(x, nu, sigma)
    return where(tail.far, -nu / sigma, (1 - tail.z) * ((1 + tail.z) * tail.inverse))


def _mean(message: str) -> dict[str, Domain]:
    return {"x": Domain(0.0, True, f"x must be positive, got {{}}: {message}")}


_MEAN = _mean("it is a mean; for its logarithm take the deviance whose name ends in _log")
_COUNT = {"target": Domain(0.0, False, "target must not be negative, got {}")}
_LOG_MEAN, _LOG_VARIANCE = {"x": (-20.0, 20.0)}, {"log_variance": (-20.0, 20.0)}
_SIZE = {"target": Domain(0.0, True, "target must be positive, got {}")}

POISSON_DEVIANCE = Formula(poisson_deviance, domains=_MEAN | _COUNT, slopes={"target": _poisson_slope})
POISSON_DEVIANCE_LOG = Formula(
    poisson_deviance_log, domains=_COUNT, ranges=_LOG_MEAN, slopes={"target": _poisson_log_slope}
)
GAMMA_DEVIANCE = Formula(gamma_deviance, domains=_MEAN | _SIZE)
GAMMA_DEVIANCE_LOG = Formula(gamma_deviance_log, domains=_SIZE, ranges=_LOG_MEAN)
GAUSSIAN_NLL = Formula(gaussian_nll, domains={"variance": Domain(0.0, True, "variance must be positive, got {}")})
GAUSSIAN_NLL_LOG = Formula(gaussian_nll_log, ranges=_LOG_VARIANCE)
STANDARD_KL = Formula(standard_kl, ranges=_LOG_VARIANCE)
GAUSSIAN_KL = Formula(gaussian_kl, precision="wide", ranges={**_LOG_VARIANCE, "other_log_variance": (-20.0, 20.0)})
STUDENT_T = Formula(
    student_t,
    ("nu", "sigma"),
    precision="half wide",
    domains={
        "nu": Domain(0.0, True, "nu must be positive, got {}: it is the number of degrees of freedom"),
        "sigma": Domain(0.0, True, "sigma must be positive, got {}: it is the scale of the residuals"),
    },
    slopes={"x": _student_t_slope, "nu": _student_t_slope_in_nu, "sigma": _student_t_slope_in_sigma},
)
_POWER = {"power": (-1.0, 3.0)}
TWEEDIE_DEVIANCE = Formula(
    tweedie_deviance,
    ("power",),
    precision="wide",
    domains=_MEAN | _COUNT,
    ranges=_POWER,
    slopes={"x": _tweedie_x_slope, "target": _tweedie_t_slope},
)
TWEEDIE_DEVIANCE_LOG = Formula(
    tweedie_deviance_log,
    ("power",),
    precision="wide",
    domains=_COUNT,
    ranges=_LOG_MEAN | _POWER,
    slopes={"x": _tweedie_log_x_slope, "target": _tweedie_log_t_slope},
)
