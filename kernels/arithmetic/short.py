"""Elementary functions of doubles that are right to 36 bits: enough where the result becomes a float32.

They take half of the operations of those in `functions`, since no second word is carried.  Where a formula cancels more
than the twelve bits that are left beyond a float32, those are needed.  Numbers are doubles here, and nothing else.
"""

from __future__ import annotations

from . import coefficients as c
from .elementary import ROUND, decompose, power_of_two
from .functions import made_of, maximum, minimum
from .primitives import fma, max, min, polynomial, scalar, where

__all__ = [
    "exp",
    "expm1",
    "expm1mx",
    "log",
    "log1p",
    "log1p_of_fraction",
    "logcosh",
    "maximum",
    "minimum",
    "power",
    "sigmoid",
    "softplus",
    "tanh",
]

_LOG_TAIL = polynomial(c.SHORT_LOG_TAIL, c.SHORT_LOG_TAIL)
_FRACTION_TAIL = polynomial(c.SHORT_FRACTION_TAIL, c.SHORT_FRACTION_TAIL)
exp_tail = polynomial(c.SHORT_EXP_TAIL, c.SHORT_EXP_TAIL)
_INFINITY, _NAN = float("inf"), float("nan")
_LARGEST = 1.7976931348623157e308
_LEAST, _MOST = -708.0, 709.0  # exponents whose powers of two are normal numbers
_LN2, _INVERSE_LN2 = 0.6931471805599453, c.INV_LN2[1]
_NORMAL = 2.0**-1022


@scalar
def parts_of_exp(x):
    """exp(x) = 2^n (1 + r), r of the argument that is left."""
    T = type(x)
    n = fma(x, T(_INVERSE_LN2), ROUND(x)) - ROUND(x)
    a = fma(n, T(-_LN2), x)
    return n, fma(a * a, fma(a, exp_tail(a), T(0.5)), a)


@scalar
def exp(x):
    """The exponential: 0 from -708 on downwards, infinite from 709 on upwards."""
    T = type(x)
    n, r = parts_of_exp(min(max(x, T(_LEAST)), T(_MOST)))
    power = power_of_two(n)
    inside = fma(power, r, power)
    return where(x > T(_MOST), T(_INFINITY), where(x < T(_LEAST), T(0.0), inside))


@scalar
def expm1(x):
    """The exponential less 1."""
    T = type(x)
    n, r = parts_of_exp(min(max(x, T(_LEAST)), T(_MOST)))
    power = power_of_two(n)
    return where(x > T(_MOST), T(_INFINITY), fma(power, r, power - T(1.0)))


@scalar
def expm1mx(x):
    """expm1(x) - x: from the tail of the exponential where that would cancel."""
    T = type(x)
    near = abs(x) < T(0.34)
    return where(near, (x * fma(x, exp_tail(x), T(0.5))) * x, expm1(x) - x)


@scalar
def log_by_quotient(e, q):
    """log(2^e (1 + f)) by q = f/(2 + f)."""
    T = type(q)
    w = q * q
    return fma(e, T(_LN2), fma(q * w, _LOG_TAIL(w), q + q))


@scalar
def _log_of_parts(e, f):
    """log(2^e (1 + f))."""
    return log_by_quotient(e, f / (type(f)(2.0) + f))


@scalar
def log(x):
    """The natural logarithm; of subnormal numbers, which no float32 is, minus infinity."""
    T = type(x)
    e, m, _ = decompose(x, T(0.0))
    inside = where(x > T(_LARGEST), x, _log_of_parts(e, m - T(1.0)))
    outside = where(abs(x) < T(_NORMAL), T(-_INFINITY), T(_NAN))
    return where(x >= T(_NORMAL), inside, outside)


@scalar
def log1p(u):
    """The natural logarithm of 1 + u."""
    T = type(u)
    e, m, _ = decompose(T(1.0) + u, T(0.0))
    inside = _log_of_parts(e, where(e == T(0.0), u, m - T(1.0)))
    outside = where(u == T(-1.0), T(-_INFINITY), T(_NAN))
    return where(u > T(-1.0), where(u > T(_LARGEST), u, inside), outside)


@scalar
def log1p_of_fraction(u):
    """The natural logarithm of 1 + u for u from 0 to 1."""
    T = type(u)
    q = u / (T(2.0) + u)
    w = q * q
    return fma(q * w, _FRACTION_TAIL(w), q + q)


sigmoid, softplus, tanh, logcosh = made_of(exp, expm1, log1p_of_fraction)


@scalar
def power(x, y):
    """x^y = exp(y log x) for x >= 0; NaN for x < 0."""
    T = type(x)
    zero, one = T(0.0), T(1.0)
    # 0 and infinity are their own powers, and so is 1, whatever y is.
    result = where((y == zero) | (x == one), one, exp(y * log(x)))
    return where((x == x) & (y == y), result, x + y)
