"""Barron's loss of float32 numbers, in doubles inside: the formulas of `barron` as they are written there.

A double holds z^2, u and E of all numbers that are floats, so that there is no second word, and no exponent apart.
Its functions are parts of those in `short`, without their special cases; each result is rounded once.

The stages are those of `barron`, with these differences.  In the case that is not ``extreme``, x is such that |kt| is
below 600, |k| is at most 3 and alpha is not 2; in the extreme one |kt| is cut there, where E is beyond all floats
either way.  What depends on alpha and c alone is written where it is used: loops compute it once for parameters that
are shared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arithmetic import coefficients as c
from ..arithmetic.elementary import decompose, power_of_two, square_root
from ..arithmetic.primitives import double, fma, max, min, scalar, single, where
from ..arithmetic.short import exp_tail, log_by_quotient, parts_of_exp
from .definition import Cases, Code, Stage
from .shapes import ALPHA_MAX, BELOW_TWO, FINITE, close, limits_of, moved_off, outside, sign_of

__all__ = [
    "CASES",
    "CODE",
    "VALUES",
    "Exp",
    "Log",
    "dalpha_of",
    "inverse_of_scale",
    "logarithm",
    "prepared",
    "values_of",
]

_DIFFERENCE = c.DIFFERENCE[1][:5]
_NORMAL, _LARGEST = 2.0**-126, 3.4028234663852886e38  # a smaller scale counts as 0
_K_MOST, _Z_MOST, _KT_MOST = 3.0, 1e40, 600.0
_NEAR = 1.0 / 32  # t and |kt| below it: a divided difference of five terms, right to 2^-34
_FLAT = 1.0 / 256  # |kt| below it: E g(kt) by four terms, right to 2^-34
_SMALL = 1.0 / 8  # t below it, for any k: phi(t) by six terms, right to 2^-31
_DELTA_MOST = 0.7


class Prepared(NamedTuple):
    """The numbers that depend on alpha and c alone, for all x."""

    alpha: Any  # as it was given
    k: Any  # of alpha floored and capped, as all that follows
    inverse_k: Any
    b: Any
    ratio: Any  # b/alpha
    c: Any
    inverse_c: Any
    inverse_c2: Any  # 1/c^2
    u_of_square: Any  # 1/(b c^2)


class Log(NamedTuple):
    """The logarithm left by the first stage: t = log1p(u), and v = 1/(1 + u)."""

    t: Any
    v: Any


class Exp(NamedTuple):
    """The exponential left by the second stage: E = exp(kt)."""

    e: Any


@scalar
def inverse_of_scale(c):
    """1/c; NaN of what is not positive, and of what is smaller than the normal floats."""
    T = type(c)
    return where(c >= T(_NORMAL), T(1.0) / c, T(float("nan")))


@scalar
def prepared(alpha, scale):
    """The stage that prepares: alpha and c looked at once, for all x."""
    a, c = double(alpha), double(scale)
    T = type(a)
    moved = moved_off(where(a == T(2.0), double(BELOW_TWO(alpha)), a))  # 2 is 2 - epsilon, that of a float
    b = abs(moved - T(2.0))
    inverse = T(1.0) / (moved * b)
    inverse_alpha = b * inverse
    inverse_c = inverse_of_scale(c)
    inverse_c2 = inverse_c * inverse_c
    of_alpha = a, T(0.5) * moved, T(2.0) * inverse_alpha, b, b * inverse_alpha
    return Prepared(*of_alpha, c, inverse_c, inverse_c2, (moved * inverse) * inverse_c2)


@scalar
def ordinary(prepared):
    """Tell whether alpha and c allow the quick case, which is not `extreme`, and the |x| up to which it holds."""
    alpha, inverse_c = prepared.alpha, prepared.inverse_c
    T = type(alpha)
    usual = (abs(prepared.k) <= T(_K_MOST)) & (alpha != T(2.0)) & (inverse_c == inverse_c)
    return usual, single(min(prepared.c * (square_root(prepared.b) * T(_Z_MOST)), T(_LARGEST)))


@scalar
def logarithm(x, prepared, extreme, close):
    """The first stage: t = log1p(u) by one division, with 1/(1 + u) from the same; it has no outputs."""
    x = double(x)
    T = type(x)
    one = T(1.0)
    u = (x * x) * prepared.u_of_square
    e, _, shrink = decompose(one + u, one)
    f = fma(u, shrink, shrink - one)
    m, h = one + f, T(2.0) + f
    inverse = one / (m * h)
    t = log_by_quotient(e, f * (m * inverse))
    v = shrink * (h * inverse)
    bad = extreme & (u != u)  # of whose bits the logarithm would be a number
    return (), Log(where(bad, u, t), where(bad, u, v))


@scalar
def values_of(x, prepared, log, extreme):
    """The outputs of the second stage, as doubles, and what it leaves."""
    alpha, inverse_c = prepared.alpha, prepared.inverse_c
    t, v = log
    x = double(x)
    T = type(x)
    one, zero, half = T(1.0), T(0.0), T(0.5)
    kt = prepared.k * t
    kt = where(extreme, min(max(kt, T(-_KT_MOST)), T(_KT_MOST)), kt)
    n, r = parts_of_exp(kt)
    power = power_of_two(n)
    rho = abs(prepared.ratio * fma(power, r, power - one))  # 0 and not -0
    e = fma(power, r, power)
    two = extreme & (alpha == T(2.0))
    square = x * x
    rho = where(two, half * (square * prepared.inverse_c2), rho)
    weight = where(two, one, e * v) * prepared.inverse_c2
    dx = x * weight
    dscale = (x * -inverse_c) * dx
    share = where(two, zero, (square * prepared.u_of_square) * v)  # u/(1+u)
    curvature = weight * fma(-(sign_of(alpha) * prepared.b), share, one)

    far = extreme & (abs(x) > FINITE(x))
    limits = limits_of(alpha, prepared.ratio, prepared.inverse_k * prepared.inverse_k, zero)
    rho = where(far, limits[0] + zero * inverse_c, rho)
    dx = where(far, where(x > zero, limits[1] * inverse_c, -(limits[1] * inverse_c)), dx)
    dscale = where(far, -(limits[3] * inverse_c), dscale)
    weight, curvature = where(far, (limits[2] * prepared.inverse_c2,) * 2, (weight, curvature))
    return (rho, dx, dscale, weight, curvature), Exp(e)


@scalar
def values(x, prepared, log, extreme, close):
    """The second stage: rho, d/dx, d/dc, weight and curvature."""
    outputs, exp = values_of(x, prepared, log, extreme)
    return tuple(map(single, outputs)), exp


@scalar
def _difference(k, t):
    """The divided difference [g(kt) - g(t)]/((k - 1) t) of g(y) = phi(y)/y^2 by its series: sums of powers of k."""
    T = type(t)
    powers = [T(1.0)]
    for _ in _DIFFERENCE[1:]:
        powers.append(fma(k, powers[-1], T(1.0)))
    total, *others = (
        T(coefficient) * power for coefficient, power in zip(_DIFFERENCE[::-1], powers[::-1], strict=True)
    )
    for term in others:
        total = fma(total, t, term)
    return total


@scalar
def _phi_of_small(t):
    """phi(t) = t - 1 + exp(-t) by its series."""
    T = type(t)
    total = T(1.0 / 40320)
    for n in (5040, 720, 120, 24, 6, 2):
        total = fma(-total, t, T(1.0 / n))
    return (t * t) * total


@scalar
def dalpha_of(x, prepared, log, exp, extreme, close):
    """The derivative d rho/dalpha = sign/2 [E phi(kt)/k^2 - E phi(t)], as a double, in the three forms of `barron`."""
    alpha, k, inverse_k = prepared.alpha, prepared.k, prepared.inverse_k
    ik2 = inverse_k * inverse_k
    t, v = log
    e = exp.e
    T = type(t)
    one, zero, half = T(1.0), T(0.0), T(0.5)
    kt, square = k * t, t * t
    half_sign = half * sign_of(alpha)
    d = half_sign * prepared.b

    # 1. t and |kt| small: a divided difference.
    near = (-d * _difference(k, t)) * (e * (square * t))
    # phi(t); where k is not large, t is 1/96 at least.
    phi = (t - one) + v
    phi = where(extreme & (abs(k) > T(_K_MOST)) & (t < T(_SMALL)), _phi_of_small(t), phi)
    # 2. |1 - k| < 1/32: d factored out.  Where d t > 0.7, the last term is nothing.
    delta = min(max(d * t, T(-_DELTA_MOST)), T(_DELTA_MOST))
    tv = t * v
    rest = fma(tv, delta * fma(delta, exp_tail(delta), half), -(d * phi))
    factored = (e * (d * ik2)) * ((((phi + phi) - t) + tv) + rest)
    # 3. directly; E phi(kt)/k^2 = t^2 E g(kt) for small kt by its series.
    flat = square * fma(kt, fma(kt, fma(kt, T(1.0 / 30), T(1.0 / 8)), T(1.0 / 3)), half)
    direct = where(t < T(_FLAT) * abs(inverse_k), flat, fma(kt - one, e, one) * ik2) - e * phi

    is_near = t < T(_NEAR) * min(one, abs(inverse_k))
    slope = abs(half_sign * where(is_near, near, where(close, factored, direct)))  # 0 and not -0
    # It falls off as alpha^-2 beyond the cap.
    beyond = where(extreme & (abs(alpha) > ALPHA_MAX(t)), ALPHA_MAX(t) / abs(alpha), one)
    slope = where(extreme, (slope * beyond) * beyond, slope)
    slope = where(extreme & (abs(alpha) > FINITE(alpha)), zero * t, slope)
    far = extreme & (abs(double(x)) > FINITE(t))
    return where(far, limits_of(alpha, prepared.ratio, ik2, zero)[4] + zero * prepared.inverse_c, slope)


@scalar
def dalpha(x, prepared, log, exp, extreme, close):
    """The third stage: d rho/dalpha."""
    return (single(dalpha_of(x, prepared, log, exp, extreme, close)),), ()


VALUES = "value", "dx", "dscale", "weight", "curvature"  # which `values` gives, in its order
CASES = Cases(ordinary, outside, close, ("dalpha",))

CODE = Code(
    parameters=("alpha", "scale"),
    prepares=(Stage(prepared, Prepared),),
    stages=(Stage(logarithm, Log), Stage(values, Exp, VALUES), Stage(dalpha, None, ("dalpha",))),
    cases=CASES,
    carries=np.float64,
)
