"""Integrals of Barron's density exp(-rho(x, alpha, 1))/Z(alpha), for any array library and alpha >= 0.

``xp`` is the library: NumPy, PyTorch.  Everything is over arrays of doubles that broadcast, one pass for each node of
the quadrature, so that memory does not grow with the number of nodes.

Tails: with w = sqrt(2 rho) the density becomes exp(-w^2/2) (w/psi) dw, and w/psi lies between exp(w^2/4), at alpha = 0,
and something below 1.  So one rule takes algebraic and exponential tails alike: w = w0 + L exp(tau - exp(-tau)), which
crowds towards the end of the tail, where singularities are near.  Only 1/psi is evaluated; exp(-w^2/2) is known.

Errors: `log_tail` less -rho(z) is within 1e-14 for alpha from 0 to infinity (2.3e-15 found, at z = 1e3, alpha = 0).
To this adds the rounding of rho(z), which the density has as well: 7.5e-14 of the tail at z = 10, alpha = 3, where rho
is 450.
`log_moment`: 5e-13, at alpha = 7e-4, order 4; 1e-13 for order 2; a few units of the last place from alpha = 0.1 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from . import _api

_STEP = 0.1  # at 0.11 the same errors, at 0.13 5e-13: alpha = 0.3 and below, where w/psi is singular at 2.5 + 2.5i
_TAU = [_STEP * i for i in range(-36, 38)]  # from exp(-40) to exp(3.7) = 40: what is beyond is below 1e-17
_NODES = [math.exp(tau - math.exp(-tau)) for tau in _TAU]
_WEIGHTS = [_STEP * (1 + math.exp(-tau)) * y for tau, y in zip(_TAU, _NODES, strict=True)]

_NEWTON = 60  # steps at most; three to six suffice


def _fixed(alpha: Any) -> Any:
    """A constant of that value: where the nodes are need not be differentiated."""
    return alpha.detach() if hasattr(alpha, "detach") else alpha


class _Inverse:
    """x as a function of w = sqrt(2 rho(x, alpha, 1)), and dx/dw = w/psi."""

    def __init__(self, xp: Any, alpha: Any) -> None:
        # The formulas have their limits at 0, 2 and infinity within what these ends leave out, and no 0/0.
        self.xp = xp
        self.a = xp.clip(alpha, 1e-250, 1e250)
        self.b = xp.clip(abs(self.a - 2), 1e-17, None)
        self.low = self.a < 3
        self.linear = xp.where(self.low, self.a, 0.0)

    def _at(self, w: Any) -> tuple[Any, Any]:
        """(psi/w)^2 exp(2 e) and e, the exponent in dx/dw."""
        # With r = w^2/2 and q = log1p(a r/b) it is 1 + x^2/b = exp(2 q/a).  Below 3, x^2 is formed from d = (2/a-1) q
        # as exp(d) (a r - b expm1(-d)): near alpha = 2, exp(2 q/a) is large and multiplied by b.  Above 3 this cancels.
        xp, r = self.xp, 0.5 * w * w
        q = xp.log1p(r * (self.a / self.b))
        d = (2 - self.a) / self.a * q
        m = self.b * xp.expm1(xp.where(self.low, -d, 2 / self.a * q))
        return xp.where(self.low, self.linear * r - m, m), xp.where(self.low, 0.5 * d, d)

    def x(self, w: Any) -> Any:
        square, exponent = self._at(w)
        return self.xp.sqrt(square) * self.xp.exp(self.xp.where(self.low, exponent, 0.0))

    def log_x(self, w: Any) -> Any:
        """log x, where x may exceed a double."""
        square, exponent = self._at(w)
        return 0.5 * self.xp.log(square) + self.xp.where(self.low, exponent, 0.0)

    def log_slope(self, w: Any) -> Any:
        """log dx/dw for w > 0."""
        square, exponent = self._at(w)
        return self.xp.log(w) - 0.5 * self.xp.log(square) + exponent

    def exponent(self, w: Any) -> Any:
        return self._at(w)[1]

    def slope(self, w: Any, exponent: Any = 0.0) -> Any:
        """dx/dw for w > 0, times exp(exponent)."""
        square, own = self._at(w)
        return w / self.xp.sqrt(square) * self.xp.exp(own + exponent)


def _length(w: Any) -> Any:
    """Over which the tail falls off in w."""
    return 2 / (2 + w)


def _log_rest(xp: Any, w: Any, inverse: _Inverse) -> Any:
    """log of the integral of exp(-rho(x)) beyond w, less -w^2/2."""
    length, own, total = _length(w), inverse.exponent(w), 0.0  # exp(own) alone may overflow
    for y, weight in zip(_NODES, _WEIGHTS, strict=True):
        v = y * length
        total = total + weight * inverse.slope(w + v, -v * (w + 0.5 * v) - own)
    return xp.log(total * length) + own


def log_tail(xp: Any, z: Any, alpha: Any) -> Any:
    """log of the probability beyond z >= 0, finite where the probability underflows.  Not to be differentiated."""
    rho = _api.loss(z, alpha, 1.0)
    w = xp.sqrt(2 * xp.clip(rho, None, 1e280))
    return _log_rest(xp, w, _Inverse(xp, alpha)) - rho - _api.log_partition(alpha)


def upper_quantile(xp: Any, tail: Any, alpha: Any) -> Any:
    """The z >= 0 beyond which the probability is ``tail``: 0 for 1/2, infinite for 0.  Not to be differentiated."""
    # Newton's steps on log tail(w), which is concave and falls: from wherever the first step starts, it lands at or
    # beyond the solution, and the others approach from there.
    positive = xp.where(tail > 0, tail, 0.25)
    target, log_z, inverse = xp.log(positive), _api.log_partition(alpha), _Inverse(xp, alpha)
    w = xp.sqrt(xp.clip(-2 * xp.log(2 * positive), 0.0, None)) + 0.0 * log_z
    for _ in range(_NEWTON):
        rest = _log_rest(xp, w, inverse)
        at = xp.clip(w, 1e-16, None)
        step = (rest - 0.5 * w * w - log_z - target) / inverse.slope(at, -rest)
        w = xp.clip(w + step, 0.0, None)
        if not bool((abs(step) > 1e-9 * (1 + w)).any()):  # the error is squared
            break
    # Half of the probability lies beyond 0, exactly; Newton's method stops at 0 give or take rounding. NaN stays NaN.
    z = inverse.x(w)
    found = xp.where((tail < 0.5) | xp.isnan(z), z, 0.0)
    return xp.where(tail > 0, found, xp.where((tail == 0) & (alpha >= 0), math.inf, math.nan))


def _beyond(xp: Any, z: Any, alpha: Any) -> Iterator[tuple[Any, Any]]:
    """Points x > z >= 0 and their weights, for integrals of functions of x that fall off as the density does.

    The points move with z and not with alpha, so such sums can be differentiated in both.
    """
    inverse, start = _Inverse(xp, _fixed(alpha)), _fixed(z)
    w = xp.sqrt(2 * xp.clip(_api.loss(start, _fixed(alpha), 1.0), None, 1e280))
    length = _length(w)
    for y, weight in zip(_NODES, _WEIGHTS, strict=True):
        at = w + y * length
        yield z + xp.clip(inverse.x(at) - start, 0.0, None), weight * length * inverse.slope(at)


def _integral(xp: Any, z: Any, alpha: Any, integrand: Callable[[Any], Any]) -> Any:
    """The integral of integrand(rho) exp(-rho)/Z from z >= 0 to infinity."""
    total = 0.0
    for x, weight in _beyond(xp, z, alpha):
        rho = _api.loss(x, alpha, 1.0)
        total = total + weight * integrand(rho) * xp.exp(-rho)
    return total * xp.exp(-_api.log_partition(alpha))


def tail(xp: Any, z: Any, alpha: Any) -> Any:
    """The probability beyond z >= 0, for derivatives in z and alpha; rho(z) must not overflow."""
    return _integral(xp, z, alpha, lambda rho: 1.0)


def expected_loss(xp: Any, alpha: Any) -> Any:
    """E rho."""
    return 2 * _integral(xp, xp.zeros_like(alpha), alpha, lambda rho: rho)


# --- moments

_FAR = 300.0  # of log x: beyond, s/b + 1 is s/b
_BISECTIONS = 60
_MOMENT_STEP = 0.025  # at 0.03 1e-12, at alpha = 0.02: the integrand has a bend far to the left of a wide peak
_MOMENT_NODES = [_MOMENT_STEP * i for i in range(-180, 117)]


def log_peak(xp: Any, power: float, alpha: Any) -> Any:
    """The log x at which x^power exp(-rho) is largest, where x psi = power >= 2; `_FAR` at most."""
    low, high = xp.full_like(alpha, -1.0), xp.full_like(alpha, _FAR)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        x = xp.exp(middle)
        below = _api.influence(x, alpha, 1.0) < power / x
        low, high = xp.where(below, middle, low), xp.where(below, high, middle)
    return high


def log_moment(xp: Any, order: int, alpha: Any) -> Any:
    """log E |x|^order for an even order; infinite for alpha below 1e-5, where it is 10^9000 and more."""
    # Over log x, about the peak of x^(order+1) exp(-rho): to the right it falls off as a normal density or faster, to
    # the left exponentially.  Its width goes from 0.3 (alpha = inf) to 1/sqrt(alpha (order + 1)).
    shape, power = _fixed(alpha), order + 1
    centre = log_peak(xp, power, shape)
    x, small = xp.exp(centre), xp.clip(shape, 1e-5, 1.0)
    far = centre >= _FAR
    slope = x * (_api.influence(x, shape, 1.0) + x * _api.curvature(x, shape, 1.0))  # of x psi, over log x
    width = 1 / xp.sqrt(xp.where(far, small * power, xp.clip(slope, 1e-5, None)))
    centre = xp.where(far, xp.log(power / (2 - small)) / small + 0.5 * xp.log(2 - small), centre)
    top = power * centre - _loss_far(xp, centre, shape)
    total = 0.0
    for tau in _MOMENT_NODES:
        log_x = centre + width * math.sinh(tau)
        rho = _loss_far(xp, log_x, alpha)
        total = total + math.cosh(tau) * xp.exp(power * log_x - rho - top)
    found = xp.log(2 * _MOMENT_STEP * width * total) + top - _api.log_partition(alpha)
    return xp.where(shape < 1e-5, math.inf, found)


def _loss_far(xp: Any, log_x: Any, alpha: Any) -> Any:
    """rho at x that may exceed a double if alpha < 1, as the moments need it."""
    small = xp.clip(alpha, 1e-5, 1.0)
    b = 2 - small
    far = b / small * xp.expm1(small * (xp.clip(log_x, _FAR, None) - 0.5 * xp.log(b)))
    return xp.where(log_x < _FAR, _api.loss(xp.exp(xp.clip(log_x, None, _FAR)), alpha, 1.0), far)


def second_moment(xp: Any, alpha: Any) -> Any:
    """E x^2 at scale 1; infinite at alpha = 0, and below 0.00031, where it exceeds a double."""
    return xp.exp(log_moment(xp, 2, alpha))
