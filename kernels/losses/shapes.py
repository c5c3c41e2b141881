"""What depends on Barron's alpha alone: the numbers that formulas take of it, the limits for |x| = inf, the cases.

See `barron` for the notation and for how alpha is moved away from 0, 2 and infinity.
"""

from __future__ import annotations

from ..arithmetic.elementary import product, two_sum
from ..arithmetic.primitives import constant, fma, opposite, scalar, where

__all__ = ["ALPHA_MAX", "BELOW_TWO", "FINITE", "close", "limits_of", "moved_off", "outside", "shape", "sign_of"]

_ALPHA_MIN = constant(2.0**-40, 2.0**-70)
ALPHA_MAX = constant(2.0**48, 2.0**90)
BELOW_TWO = constant(2.0 - 2.0**-23, 2.0 - 2.0**-52)
FINITE = constant(3.4028234663852886e38, 1.7976931348623157e308)
_INFINITY = constant(float("inf"))
_D_SMALL = constant(1.0 / 32)  # |1 - k| below it: (1 - k) is factored out of d rho/d alpha


@scalar
def moved_off(alpha):
    """The number alpha, away from 0, 2 and infinity."""
    T = type(alpha)
    a = where(abs(alpha) < _ALPHA_MIN(alpha), _ALPHA_MIN(alpha), alpha)
    a = where(alpha == T(2.0), BELOW_TWO(alpha), a)
    cap = ALPHA_MAX(alpha)
    return where(a > cap, cap, where(a < -cap, -cap, a))


@scalar
def shape(alpha):
    """The numbers that depend on alpha alone: the fields of `barron.Prepared` up to 1/k^2."""
    T = type(alpha)
    a = moved_off(alpha)
    signed, signed_low = two_sum(a, T(-2.0))
    sign = sign_of(alpha)
    b, bl = abs(signed), -sign * signed_low
    inv = T(1.0) / a
    ratio = b * inv
    ratio = fma(fma(-ratio, a, b) + bl, inv, ratio)
    ik = inv + inv
    ik_low = fma(-ik, T(0.5) * a, T(1.0)) * ik
    ik2, ik2_low = product(ik, ik_low, ik, ik_low)
    return alpha, T(0.5) * a, b, bl, T(1.0) / b, ratio, ik2, ik2_low


@scalar
def sign_of(alpha):
    """sign(2 - alpha), where 2 counts as 2 - epsilon."""
    T = type(alpha)
    return where(alpha > T(2.0), T(-1.0), T(1.0))


@scalar
def close(prepared):
    """Tell whether alpha is within 1/16 of 2."""
    b = prepared.b
    T = type(b)
    return T(0.5) * b < _D_SMALL(b)


@scalar
def outside(x, limit):
    """Tell whether x is beyond that limit, or NaN."""
    return opposite(abs(x) <= limit)


@scalar
def limits_of(alpha, ratio, inverse_k2, inverse_k2_low):
    """Limits for |x| = inf of rho, psi c, weight c^2, -c d rho/dc, d rho/dalpha.

    For alpha < 0 the two that are not 0 are what the formulas for finite x come to where E is nothing, so that they are
    never exceeded: rho is b/|alpha| times a number up to 1, d rho/dalpha is 1/(2 k^2) less something (unless alpha is
    beyond the cap, where the two roundings after it may exceed it by one unit).
    """
    T = type(alpha)
    inf, nil = _INFINITY(alpha), where(alpha == alpha, T(0.0), alpha)
    floored = abs(alpha) < _ALPHA_MIN(alpha)
    rho = where(floored, T(1.0) - T(2.0) / alpha, -ratio)
    rho = where(alpha >= T(0.0), inf, rho)
    psi = where(alpha > T(1.0), inf, where(alpha == T(1.0), T(1.0), nil))
    weight = where(alpha > T(2.0), inf, where(alpha == T(2.0), T(1.0), nil))
    dscale = where(alpha > T(0.0), inf, where(alpha == T(0.0), T(2.0), nil))
    moved = floored | (abs(alpha) > ALPHA_MAX(alpha))
    slope = where(moved, T(2.0) / alpha / alpha, T(0.5) * (inverse_k2 + inverse_k2_low))
    slope = where(alpha >= T(0.0), inf, slope)
    return rho, psi, weight, dscale, where(abs(alpha) > FINITE(alpha), nil, slope)
