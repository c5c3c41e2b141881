"""The catalogue's losses in mpmath, from their textbook formulas: the judge of `fastrobust.losses`.

Nothing here is shared with the package; derivatives are differences of many digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath

__all__ = ["VALUES", "mp", "value_and_slopes"]

mp = mpmath.mp.clone()
mp.dps = 600  # textbook formulas cancel, and differences take half of the digits


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def _entropy(weight: Any, probability: Any) -> Any:
    return -weight * mp.log(probability) if weight != 0 else mp.mpf(0)


def _bce(p: Any, t: Any, w: Any = 1) -> Any:
    return w * _entropy(t, p) + _entropy(1 - t, 1 - p)


def _bce_logits(x: Any, t: Any, w: Any = 1, s: Any = 0) -> Any:
    t = t * (1 - s) + s / mp.mpf(2)
    positive = _entropy(t, _sigmoid(x)) if x > -500 else -t * x
    return w * positive + (_entropy(1 - t, _sigmoid(-x)) if x < 500 else (1 - t) * x)


def _focal(x: Any, t: Any, gamma: Any) -> Any:
    p = t * _sigmoid(x) + (1 - t) * _sigmoid(-x)
    return (1 - p) ** gamma * _bce_logits(x, t)


def _xlogy(x: Any, y: Any) -> Any:
    return x * mp.log(y) if x != 0 else mp.mpf(0)


def _poisson(mean: Any, t: Any) -> Any:
    return 2 * (_xlogy(t, t / mean) - t + mean)


def _gamma(mean: Any, t: Any) -> Any:
    return 2 * (t / mean - 1 - mp.log(t / mean))


def _tweedie(mean: Any, t: Any, p: Any) -> Any:
    if p == 1:
        return _poisson(mean, t)
    if p == 2:
        return _gamma(mean, t)
    first = t ** (2 - p) / ((1 - p) * (2 - p)) if t != 0 or p > 2 else mp.mpf(0)
    return 2 * (first - t * mean ** (1 - p) / (1 - p) + mean ** (2 - p) / (2 - p))


def _kl(mean: Any, log_variance: Any, other: Any = 0, other_log_variance: Any = 0) -> Any:
    v, w = mp.exp(log_variance), mp.exp(other_log_variance)
    return (other_log_variance - log_variance + (v + (mean - other) ** 2) / w - 1) / 2


def _biweight(x: Any, c: Any) -> Any:
    return c * c / 6 * (1 - (1 - (x / c) ** 2) ** 3) if abs(x) < c else c * c / 6


def _smooth_hinge(x: Any, t: Any) -> Any:
    z = t * x
    return mp.mpf(1) / 2 - z if z < 0 else (1 - z) ** 2 / 2 if z < 1 else mp.mpf(0)


def _student_t(x: Any, nu: Any, sigma: Any) -> Any:
    normalization = mp.log(nu * mp.pi) / 2 + mp.loggamma(nu / 2) - mp.loggamma((nu + 1) / 2)
    return (nu + 1) / 2 * mp.log(1 + (x / sigma) ** 2 / nu) + mp.log(sigma) + normalization


VALUES: dict[str, Callable[..., Any]] = {
    "mse": lambda x: x**2,
    "half_squared_error": lambda x: x**2 / 2,
    "mae": abs,
    "huber": lambda x, d: x**2 / 2 if abs(x) <= d else d * (abs(x) - d / 2),
    "smooth_l1": lambda x, b: x**2 / (2 * b) if abs(x) < b else abs(x) - b / 2,
    "pseudo_huber": lambda x, d: d**2 * (mp.sqrt(1 + (x / d) ** 2) - 1),
    "cauchy": lambda x, c: mp.log(1 + (x / c) ** 2 / 2),
    "geman_mcclure": lambda x, c: 2 * (x / c) ** 2 / ((x / c) ** 2 + 4),
    "welsch": lambda x, c: 1 - mp.exp(-((x / c) ** 2) / 2),
    "tukey": _biweight,
    "log_cosh": lambda x: mp.log(mp.cosh(x)),
    "quantile": lambda x, t, q: max(q * (t - x), (q - 1) * (t - x)),
    "expectile": lambda x, t, q: (q if t > x else 1 - q) * (t - x) ** 2,
    "epsilon_insensitive": lambda x, e: max(abs(x) - e, mp.mpf(0)),
    "squared_epsilon_insensitive": lambda x, e: max(abs(x) - e, mp.mpf(0)) ** 2,
    "bce": _bce,
    "bce_logits": _bce_logits,
    "hinge": lambda x, t, m: max(m - t * x, mp.mpf(0)),
    "squared_hinge": lambda x, t, m: max(m - t * x, mp.mpf(0)) ** 2,
    "smoothed_hinge": _smooth_hinge,
    "focal_logits": _focal,
    "balanced_focal_logits": lambda x, t, g, b: (t * b + (1 - t) * (1 - b)) * _focal(x, t, g),
    "poisson_deviance": _poisson,
    "poisson_deviance_log": lambda x, t: _poisson(mp.exp(x), t),
    "gamma_deviance": _gamma,
    "gamma_deviance_log": lambda x, t: _gamma(mp.exp(x), t),
    "gaussian_nll": lambda x, v: (mp.log(v) + x**2 / v) / 2,
    "gaussian_nll_log": lambda x, s: (s + x**2 / mp.exp(s)) / 2,
    "standard_kl": _kl,
    "gaussian_kl": lambda x, s, m, r: _kl(x, s, m, r),
    "student_t": _student_t,
    "contrastive": lambda x, t, m: (t * x**2 + (1 - t) * max(m - x, 0) ** 2) / 2,
    "uncertainty_weighted": lambda x, s: mp.exp(-s) * x + s / 2,
    "tweedie_deviance": _tweedie,
    "tweedie_deviance_log": lambda x, t, p: _tweedie(mp.exp(x), t, p),
    "gan_minimax_generator": lambda x: mp.log(_sigmoid(-x)),
    "gan_non_saturating_generator": lambda x: -mp.log(_sigmoid(x)),
    "gan_hinge": lambda x, t: max(1 - t * x, mp.mpf(0)),
    "gan_wasserstein": lambda x, t: -t * x,
    "gan_least_squares": lambda x, t: (x - t) ** 2 / 2,
    "min_snr_noise": lambda x, s, g: min(mp.exp(s), g) / mp.exp(s) * x**2,
    "min_snr_data": lambda x, s, g: min(mp.exp(s), g) * x**2,
    "min_snr_velocity": lambda x, s, g: min(mp.exp(s), g) / (mp.exp(s) + 1) * x**2,
}


def value_and_slopes(name: str, operands: Sequence[float]) -> list[Any]:
    """The value and its derivative in each operand; the operands are taken as the numbers they are."""
    at = [mp.mpf(float(operand)) for operand in operands]
    function = VALUES[name]
    found = [function(*at)]
    for place, center in enumerate(at):
        step = max(abs(center), mp.mpf(1) / 10**6) * mp.mpf(10) ** -200  # to the side where a bend is not
        for side in (1, -1):
            moved = [[*at[:place], center + side * k * step, *at[place + 1 :]] for k in (1, 2)]
            one, two = (function(*point) for point in moved)
            slope = (4 * one - two - 3 * found[0]) / (2 * side * step)  # of second order
            if side == 1:
                right = slope
        agree = abs(right - slope) <= abs(right) * mp.mpf(10) ** -60 or abs(right) + abs(slope) < mp.mpf(10) ** -350
        found.append(right if agree else mp.nan)
    return found
