"""Elementary functions of one number: the parts of `elementary`, rounded once at the end.

Errors are below 1.5 units in the last place, those of `tanh`, `sigmoid` and `erf` below 3, of `logcosh` below 3.5, of
`power` below 4; a test has what each comes to.  Arguments outside of a function's domain give NaN, and limits are met
at infinity.
"""

from __future__ import annotations

from typing import Any

from . import coefficients as c
from .elementary import ROUND, decompose, exp_parts, exp_tail, log_parts, power_of_two, product, two_sum
from .primitives import constant, fma, max, min, opposite, polynomial, scalar, where

__all__ = [
    "erf",
    "exp",
    "expm1",
    "expm1mx",
    "log",
    "log1p",
    "log1p_of_fraction",
    "log1pmx",
    "logcosh",
    "maximum",
    "minimum",
    "power",
    "sigmoid",
    "softplus",
    "tanh",
]

_INFINITY, _NAN = constant(float("inf")), constant(float("nan"))
_LARGEST = constant(3.4028234663852886e38, 1.7976931348623157e308)
_NORMAL = constant(2.0**-126, 2.0**-1022)
_LEAST, _MOST = constant(-104.5, -746.0), constant(89.5, 710.5)  # exponents beyond which exp is 0 and infinite
_UP, _UP_BY = constant(2.0**32, 2.0**64), constant(32.0, 64.0)  # for the logarithm of subnormal numbers
_TINY = constant(2.0**-28, 2.0**-66)  # below it log1p(u) = u - u^2/2
_TINY_FRACTION = constant(2.0**-40, 2.0**-300)  # the same for what is cubed
_FRACTION_TAIL = polynomial(*c.FRACTION_TAIL)
_LOG_TAIL = polynomial(*c.LOG_TAIL)
_NEAR_ONE = constant(0.29)  # arguments of log1p that need no exponent
_REDUCED = constant(0.34)  # arguments that need no reduction to the tail of the exponential
_WHOLE = constant(60.0)  # exponents from which on expm1 is exp
_INVERSE_LN2 = constant(*c.INV_LN2)
_LN2_HIGH, _LN2_LOW = constant(*c.LN2_HIGH), constant(*c.LN2_LOW)
_TWO_OVER_ROOT_PI = constant(*c.TWO_OVER_ROOT_PI_HIGH), constant(*c.TWO_OVER_ROOT_PI_LOW)
_erf_rest = polynomial(*c.ERF_REST)
_ERF_TOP = 30  # of the integrals below: where any value will do, since its error is multiplied by 4.5/59, 4.5/57, ...


@scalar
def scaled_by_halves(g, n):
    """g 2^n in two factors: right where the result leaves the range, for exponents up to twice that of the range."""
    T = type(g)
    half = fma(T(0.5), n, ROUND(n)) - ROUND(n)
    return (g * power_of_two(half)) * power_of_two(n - half)


@scalar
def exp(x):
    """The exponential: 2^n (1 + r), r of the argument that is left, which rounding spoils less than the last sum."""
    T = type(x)
    y = min(max(x, _LEAST(x)), _MOST(x))
    n = fma(y, _INVERSE_LN2(x), ROUND(x)) - ROUND(x)
    a = fma(n, -_LN2_LOW(x), fma(n, -_LN2_HIGH(x), y))
    r = fma(a * a, fma(a, exp_tail(a), T(0.5)), a)
    return scaled_by_halves(T(1.0) + r, n)


@scalar
def _parts_of_expm1(x):
    """The exponential where it is large, and elsewhere what makes up expm1(x) = p (r + low) + (p - 1)."""
    T = type(x)
    n, r, low, _ = exp_parts(min(max(x, _LEAST(x)), _MOST(x)), T(0.0))
    whole = scaled_by_halves(T(1.0) + (r + low), n)
    return n > _WHOLE(x), whole, power_of_two(min(max(n, -_WHOLE(x)), _WHOLE(x))), r, low


@scalar
def expm1(x):
    """The exponential less 1."""
    large, whole, power, r, low = _parts_of_expm1(x)
    return where(large, whole, fma(power, r, power - type(x)(1.0)) + power * low)


@scalar
def expm1mx(x):
    """expm1(x) - x: from the tail of the exponential where that would cancel."""
    T = type(x)
    near = abs(x) < _REDUCED(x)
    z = where(near & (abs(x) > _TINY(x)), x, _TINY(x))
    half = T(0.5)
    tail = where(abs(x) > _TINY(x), fma(z, exp_tail(z), half), half)
    large, whole, power, r, low = _parts_of_expm1(x)
    rest, rest_low = two_sum(power - T(1.0), -x)
    far = fma(power, r, rest) + fma(power, low, rest_low)
    return where(near, (x * tail) * x, where(large, whole, where(x < -_LARGEST(x), -x, far)))


@scalar
def parts_of_log(x):
    """The logarithm of a positive finite number in two words."""
    T = type(x)
    subnormal = x < _NORMAL(x)
    e, m, _ = decompose(where(subnormal, x * _UP(x), x), T(0.0))
    return log_parts(m - T(1.0), T(0.0), m, T(0.0), where(subnormal, e - _UP_BY(x), e))[:2]


@scalar
def log(x):
    """The natural logarithm."""
    T = type(x)
    high, low = parts_of_log(x)
    outside = where(x == T(0.0), -_INFINITY(x), _NAN(x))
    return where(x > T(0.0), where(x > _LARGEST(x), x, high + low), outside)


@scalar
def parts_of_log1p(u, low):
    """The logarithm of 1 + u + low in two words, for u > -1 and not too small to be squared."""
    T = type(u)
    y, rest = two_sum(T(1.0), u)
    e, m, ml = decompose(y, rest + low)
    f, fl = where(e == T(0.0), (u, low), (m - T(1.0), ml))
    return log_parts(f, fl, m, ml, e)[:2]


@scalar
def log1p(u):
    """The natural logarithm of 1 + u."""
    T = type(u)
    tiny = abs(u) < _TINY(u)
    high, low = parts_of_log1p(where(tiny, _TINY(u), u), T(0.0))
    inside = where(tiny, fma(T(-0.5) * u, u, u), where(u > _LARGEST(u), u, high + low))
    return where(u > T(-1.0), inside, where(u == T(-1.0), -_INFINITY(u), _NAN(u)))


@scalar
def log1p_of_fraction(u):
    """The natural logarithm of 1 + u for u from 0 to 1, which needs no exponent: 2q + q^3 L(q^2), q = u/(2 + u)."""
    T = type(u)
    z = max(u, _TINY_FRACTION(u))
    d = T(2.0) + z
    inverse = T(1.0) / d
    q = z * inverse
    low = (fma(-q, d, z) - q * (z - (d - T(2.0)))) * inverse
    w = q * q
    return where(u < _TINY_FRACTION(u), u, (q + q) + fma(q * w, _FRACTION_TAIL(w), low + low))


@scalar
def tail_of_log1pmx(u):
    """log1p(u) - u + u q of a u that needs no exponent: q^3 L(q^2), q = u/(2 + u); and q."""
    T = type(u)
    q = u / (T(2.0) + u)
    w = q * q
    return (q * w) * fma(w, _LOG_TAIL(w), T(2.0 / 3)), q


@scalar
def log1pmx(u):
    """log1p(u) - u: by its series where that would cancel, and by a logarithm in two words elsewhere."""
    T = type(u)
    near = abs(u) < _NEAR_ONE(u)
    tiny = abs(u) < _TINY(u)
    z = where(near & opposite(tiny), u, _TINY(u))
    tail, q = tail_of_log1pmx(z)
    series = where(tiny, (T(-0.5) * u) * u, fma(-z, q, tail))
    high, low = parts_of_log1p(where(near, T(1.0), u), T(0.0))
    inside = where(near, series, where(u > _LARGEST(u), -u, (high - u) + low))
    return where(u > T(-1.0), inside, where(u == T(-1.0), -_INFINITY(u), _NAN(u)))


def made_of(exp: Any, expm1: Any, log1p_of_fraction: Any) -> tuple[Any, Any, Any, Any]:
    """The functions that exponentials and logarithms make up: sigmoid, softplus, tanh and logcosh."""

    @scalar
    def sigmoid(x):
        """The logistic function 1/(1 + exp(-x))."""
        T = type(x)
        e = exp(-abs(x))
        return where(x >= T(0.0), T(1.0), e) / (T(1.0) + e)

    @scalar
    def softplus(x):
        """log(1 + exp(x))."""
        T = type(x)
        return maximum(x, T(0.0)) + log1p_of_fraction(exp(-abs(x)))

    @scalar
    def tanh(x):
        """The hyperbolic tangent."""
        T = type(x)
        q = expm1(T(-2.0) * abs(x))
        t = abs(q) / (T(2.0) + q)
        return where(x < T(0.0), -t, t)

    @scalar
    def logcosh(x):
        """The logarithm of the hyperbolic cosine, in a form for either side of 1 that does not cancel."""
        T = type(x)
        size = abs(x)
        q = expm1(min(size, T(1.0)))
        near = log1p_of_fraction(T(0.5) * q * (q / (T(1.0) + q)))
        far = ((size - _LN2_HIGH(x)) - _LN2_LOW(x)) + log1p_of_fraction(exp(T(-2.0) * size))
        return where(size < T(1.0), near, far)

    return sigmoid, softplus, tanh, logcosh


sigmoid, softplus, tanh, logcosh = made_of(exp, expm1, log1p_of_fraction)


@scalar
def power(x, y):
    """x^y = exp(y log x) for x >= 0, with the logarithm in two words; NaN for x < 0."""
    T = type(x)
    zero, one = T(0.0), T(1.0)
    high, low = parts_of_log(x)
    k, kl = product(y, zero, high, low)
    n, r, rl, _ = exp_parts(min(max(k, _LEAST(x)), _MOST(x)), where(abs(k) < -_LEAST(x), kl, zero))
    inside = scaled_by_halves(one + (r + rl), n)
    # 0 and infinity: their own powers.
    rising = where(x == zero, y < zero, y > zero)
    edge = where(rising, _INFINITY(x), zero)
    result = where((x > zero) & (x <= _LARGEST(x)), inside, where(x < zero, _NAN(x), edge))
    result = where((y == zero) | (x == one), one, result)
    return where((x == x) & (y == y), result, x + y)


@scalar
def rest_of_erf(x, low):
    """1 - erf(x + low) for x >= 1, by its quotient with exp(-x^2)."""
    T = type(x)
    size = min(x, T(12.0))
    square, rest = product(size, low, size, low)
    e = exp(-square)
    at = min(size, T(c.ERF_TO))
    return fma(-e, rest, e) * _erf_rest((at - T(c.ERF_CENTER)) / (at + T(c.ERF_CENTER)))


@scalar
def erf_integral(x, e, until):
    """The integral of t^2n exp(-x^2 t^2) over t in (0, 1) for n = until and x <= 1.5, e = exp(-x^2).

    By parts that for n is (e + 2 x^2 times that for n + 1)/(2n + 1), in which nothing cancels.
    """
    T = type(x)
    double = T(2.0) * (x * x)
    value = e * T(1.0 / (2 * _ERF_TOP + 1))
    for n in range(_ERF_TOP - 1, until - 1, -1):
        value = fma(double, value, e) * T(1.0 / (2 * n + 1))
    return value


@scalar
def erf(x):
    """The error function: up to 1 by integrals of exp(-x^2 t^2), beyond by its difference from 1."""
    T = type(x)
    size = abs(x)
    near = size < T(1.0)
    z = where(near, size, T(0.0))
    square = z * z
    e = exp(-square)
    integral = erf_integral(z, fma(-e, fma(z, z, -square), e), 0)
    high, low = _TWO_OVER_ROOT_PI
    inside = fma(high(x), integral * z, low(x) * (integral * z))
    value = where(near, inside, T(1.0) - rest_of_erf(where(near, T(1.0), size), T(0.0)))
    return where(x == x, where(x < T(0.0), -value, value), x)


@scalar
def minimum(a, b):
    """The smaller of two, the first if they are equal, NaN if either is."""
    return where((b < a) | (b != b), b, a)


@scalar
def maximum(a, b):
    """The larger of two, the first if they are equal, NaN if either is."""
    return where((b > a) | (b != b), b, a)
