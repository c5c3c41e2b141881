"""Elementary functions of doubles that are right to 36 bits: enough where the result becomes a float32.

They take half of the operations of those in `functions`, since no second word is carried.  Where a formula cancels more
than the twelve bits that are left beyond a float32, those are needed.  Numbers are doubles here, and nothing else.
"""

from __future__ import annotations

from . import coefficients as c
from .elementary import ROUND, decompose, power_of_two
from .functions import made_of, maximum, minimum
from .primitives import bits, constant, double, fma, from_bits, horner, max, min, scalar, single, sqrt, where

__all__ = [
    "LEAST",
    "exp",
    "exp_of_negative",
    "expm1",
    "expm1mx",
    "inverse_root",
    "log",
    "log1p",
    "log1p_of_fraction",
    "log1p_of_positive",
    "log1pmx",
    "log_of_usual",
    "logcosh",
    "maximum",
    "minimum",
    "power",
    "root",
    "root_and_inverse",
    "sigmoid",
    "softplus",
    "tanh",
]

_LOG_TAIL, _FRACTION_TAIL, exp_tail = map(horner, (c.SHORT_LOG_TAIL, c.SHORT_FRACTION_TAIL, c.SHORT_EXP_TAIL))
_INFINITY, _NAN = float("inf"), float("nan")
_LARGEST = 1.7976931348623157e308
_LEAST, _MOST = -708.0, 709.0  # exponents whose powers of two are normal numbers
_LN2, _INVERSE_LN2 = 0.6931471805599453, c.INV_LN2[1]
_NORMAL = 2.0**-1022
LEAST = 2.0**-1000  # from which on numbers are usual
# Less half of a number's bits these are nearest to those of the inverse of its root, within 3.5 %.
_ROOT_SEED = constant(0, 0x5FE6E8EB1C432B18)


@scalar
def _near_inverse_root(x):
    """1/sqrt(x) of what is not below `LEAST`, by two steps of third order; infinite if x is."""
    T = type(x)
    word = bits(x)
    y = from_bits(_ROOT_SEED(x) - (word >> type(word)(1)))
    for _ in range(2):
        rest = fma(-(x * y), y, T(1.0))
        y = fma(y, rest * fma(rest, T(0.375), T(0.5)), y)
    return y


@scalar
def inverse_root(x):
    """1/sqrt(x) of what is not below `LEAST`, in a third of the time of a division and a root."""
    return where(x > type(x)(_LARGEST), type(x)(0.0), _near_inverse_root(x))


@scalar
def root(x):
    """The square root of what is not below `LEAST`."""
    return x * _near_inverse_root(x)


@scalar
def root_and_inverse(x):
    """sqrt(x) and 1/sqrt(x) of what is from 2^-100 to 2^100, right to 45 bits: from those of floats."""
    T = type(x)
    seed = sqrt(single(x))
    half, seed = double(single(T(0.5)) / seed), double(seed)
    y = fma(fma(-seed, seed, x), half, seed)
    rest = half + half
    return y, fma(rest, fma(-y, rest, T(1.0)), rest)


@scalar
def inverse_of_one_to_two(d):
    """1/d of what is from 1 to 2, in half of the time of a division.

    The seed is (1 - T(2d - 3)/T(-3))/d with Chebyshev's T of the third degree, right to 1/99; the steps are of the
    third and of the second order.
    """
    T = type(d)
    y = fma(fma(T(32.0 / 99.0), d, T(-144.0 / 99.0)), d, T(210.0 / 99.0))
    rest = fma(-d, y, T(1.0))
    y = fma(y, fma(rest, rest, rest), y)
    return fma(y, fma(-d, y, T(1.0)), y)


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
def exp_of_negative(x):
    """The exponential of what is not positive; from -708 on downwards 3e-308, where no float is left."""
    n, r = parts_of_exp(max(x, type(x)(_LEAST)))
    power = power_of_two(n)
    return fma(power, r, power)


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
    far = expm1(x) - min(x, T(_LARGEST))
    return where(near, (x * fma(x, exp_tail(x), T(0.5))) * x, far)


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
def log_of_usual(x):
    """The natural logarithm of what is not below `LEAST`."""
    T = type(x)
    e, m, _ = decompose(x, T(0.0))
    return where(x <= T(_LARGEST), _log_of_parts(e, m - T(1.0)), x)


@scalar
def log1p(u):
    """The natural logarithm of 1 + u."""
    T = type(u)
    e, m, _ = decompose(T(1.0) + u, T(0.0))
    inside = _log_of_parts(e, where(e == T(0.0), u, m - T(1.0)))
    outside = where(u == T(-1.0), T(-_INFINITY), T(_NAN))
    return where(u > T(-1.0), where(u > T(_LARGEST), u, inside), outside)


@scalar
def log1p_of_positive(u):
    """The natural logarithm of 1 + u for u >= 0."""
    T = type(u)
    e, m, _ = decompose(T(1.0) + u, T(0.0))
    return where(u <= T(_LARGEST), _log_of_parts(e, where(e == T(0.0), u, m - T(1.0))), u)


@scalar
def log1pmx(u):
    """log1p(u) - u: from the tail of the logarithm where that would cancel."""
    T = type(u)
    e, m, _ = decompose(T(1.0) + u, T(0.0))
    near = e == T(0.0)
    f = where(near, u, m - T(1.0))
    q = f / (T(2.0) + f)
    w = q * q
    tail = (q * w) * _LOG_TAIL(w)
    inside = where(near, fma(-u, q, tail), fma(e, T(_LN2), tail + (q + q)) - u)
    outside = where(u == T(-1.0), T(-_INFINITY), T(_NAN))
    return where(u > T(-1.0), where(u > T(_LARGEST), -u, inside), outside)


@scalar
def log1p_of_fraction(u):
    """The natural logarithm of 1 + u for u from 0 to 1."""
    T = type(u)
    q = u / (T(2.0) + u)
    w = q * q
    return fma(q * w, _FRACTION_TAIL(w), q + q)


@scalar
def sigmoid(x):
    """The logistic function 1/(1 + exp(-x)); that of -x has the same exponential and quotient."""
    T = type(x)
    e = exp_of_negative(-abs(x))
    inverse = inverse_of_one_to_two(T(1.0) + e)
    return where(x >= T(0.0), inverse, e * inverse)


_, softplus, tanh, logcosh = made_of(exp_of_negative, expm1, log1p_of_fraction)


@scalar
def power(x, y):
    """x^y = exp(y log x) for x >= 0; NaN for x < 0."""
    T = type(x)
    zero, one = T(0.0), T(1.0)
    # 0 and infinity are their own powers, and so is 1, whatever y is.
    result = where((y == zero) | (x == one), one, exp(y * log(x)))
    return where((x == x) & (y == y), result, x + y)
