"""Numbers of two words, pairs of a number and what it lacks: twice the precision, and the functions of `functions`.

Sums, products, quotients and roots carry about twice the digits of a word; the exponential and the logarithm six bits
more than one, what is made of them by a difference two to five (a test has which).  Nothing is scaled: where a first
word is infinite or NaN, the second is nothing.
"""

from __future__ import annotations

from . import coefficients as c
from . import functions
from .elementary import exp_parts, exp_tail, fast_two_sum, power_of_two, product, two_sum
from .functions import erf_integral, parts_of_log, parts_of_log1p, rest_of_erf, scaled_by_halves
from .primitives import constant, fma, max, min, opposite, scalar, sqrt, where

__all__ = [
    "absolute",
    "divided",
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
    "minus",
    "negative",
    "plus",
    "power",
    "root",
    "sigmoid",
    "softplus",
    "tanh",
    "times",
]

_LN2_HIGH, _LN2_LOW = constant(*c.LN2_HIGH), constant(*c.LN2_LOW)
_ERF_LAST = 10  # the integral down to which one word does, since its error is multiplied by 4.5/19, 4.5/17, ...
_LEAST, _MOST, _INFINITY = functions._LEAST, functions._MOST, functions._INFINITY
_REDUCED = functions._REDUCED
_WHOLE = constant(60.0, 120.0)  # exponents from which on expm1 is exp, in two words
_TINY = constant(2.0**-60, 2.0**-500)  # below it log1p(u) = u in two words, and what would be squared is not


@scalar
def plus(a, b):
    """a + b."""
    s, e = two_sum(a[0], b[0])
    return fast_two_sum(s, e + (a[1] + b[1]))


@scalar
def negative(a):
    """-a."""
    return -a[0], -a[1]


@scalar
def minus(a, b):
    """a - b."""
    s, e = two_sum(a[0], -b[0])
    return fast_two_sum(s, e + (a[1] - b[1]))


@scalar
def times(a, b):
    """a b."""
    p, e = product(a[0], a[1], b[0], b[1])
    return fast_two_sum(p, e)


@scalar
def divided(a, b):
    """a/b."""
    q = a[0] / b[0]
    rest = fma(-q, b[0], a[0]) + (a[1] - q * b[1])
    return fast_two_sum(q, rest / b[0])


@scalar
def absolute(a):
    """|a|."""
    below = a[0] < type(a[0])(0.0)
    return abs(a[0]), where(below, -a[1], a[1])


@scalar
def root(a):
    """The square root."""
    T = type(a[0])
    s = sqrt(a[0])
    rest = fma(-s, s, a[0]) + a[1]
    return fast_two_sum(s, where(s > T(0.0), rest / (s + s), T(0.0)))


@scalar
def _in_range(a):
    """The argument, or where its exponential is 0 or infinite a number of one word for which it is, too."""
    within = min(max(a[0], _LEAST(a[0])), _MOST(a[0]))
    return within, where(within == a[0], a[1], type(a[1])(0.0))  # a low word that is large beside the end is none of it


@scalar
def exp(a):
    """The exponential."""
    T = type(a[0])
    n, r, rl, _ = exp_parts(*_in_range(a))
    g, gl = fast_two_sum(T(1.0), r)
    g, gl = fast_two_sum(g, gl + rl)
    return scaled_by_halves(g, n), scaled_by_halves(gl, n)


@scalar
def expm1(a):
    """The exponential less 1."""
    T = type(a[0])
    n, r, rl, _ = exp_parts(*_in_range(a))
    whole = exp(a)
    scale = power_of_two(min(max(n, -_WHOLE(n)), _WHOLE(n)))
    s, e = two_sum(scale, T(-1.0))
    s, rest = two_sum(s, scale * r)
    s, rest = fast_two_sum(s, (e + rest) + scale * rl)
    return where(n > _WHOLE(n), whole, (s, rest))


@scalar
def expm1mx(a):
    """expm1(a) - a: where that cancels a^2/2 is formed in two words, and what follows it is small."""
    T = type(a[0])
    x = a[0]
    near = abs(x) < _REDUCED(x)
    tiny = abs(x) < _TINY(x)
    z = where(near & opposite(tiny), x, _TINY(x))
    square, low = product(x, a[1], T(0.5) * x, T(0.5) * a[1])
    series = fast_two_sum(square, low + where(tiny, T(0.0), (z * z) * (z * exp_tail(z))))
    return where(near, series, minus(expm1(a), a))


@scalar
def log(a):
    """The natural logarithm."""
    T = type(a[0])
    high, low = parts_of_log(a[0])
    high, low = fast_two_sum(high, low + a[1] / a[0])
    return where((a[0] > T(0.0)) & (abs(high) < _INFINITY(high)), (high, low), (functions.log(a[0]), T(0.0)))


@scalar
def log1p(a):
    """The natural logarithm of 1 + a."""
    T = type(a[0])
    tiny = abs(a[0]) < _TINY(a[0])
    u, ul = where(tiny, (_TINY(a[0]), T(0.0)), (a[0], a[1]))
    high, low = fast_two_sum(*parts_of_log1p(u, ul))
    inside = where(tiny, (a[0], a[1]), (high, low))
    return where((a[0] > T(-1.0)) & (a[0] < _INFINITY(a[0])), inside, (functions.log1p(a[0]), T(0.0)))


log1p_of_fraction = log1p  # of any number


@scalar
def log1pmx(a):
    """log1p(a) - a: where that cancels, -a q and what is small beside it, q = a/(2 + a)."""
    T = type(a[0])
    x = a[0]
    near = abs(x) < functions._NEAR_ONE(x)
    tiny = abs(x) < _TINY(x)
    z = where(near & opposite(tiny), x, _TINY(x))
    zl = where(near & opposite(tiny), a[1], T(0.0))
    tail, _ = functions.tail_of_log1pmx(z)
    series = plus(times((-z, -zl), divided((z, zl), plus((T(2.0), T(0.0)), (z, zl)))), (tail, T(0.0)))
    series = where(tiny, times((T(-0.5) * x, T(-0.5) * a[1]), (x, a[1])), series)
    far = where(near, (T(1.0), T(0.0)), (x, a[1]))
    return where(near, series, minus(log1p(far), far))


@scalar
def sigmoid(a):
    """The logistic function."""
    T = type(a[0])
    one = T(1.0), T(0.0)
    e = exp(negative(absolute(a)))
    return divided(where(a[0] >= T(0.0), one, e), plus(one, e))


@scalar
def softplus(a):
    """log(1 + exp(a))."""
    T = type(a[0])
    return plus(where(a[0] > T(0.0), (a[0], a[1]), (T(0.0), T(0.0))), log1p(exp(negative(absolute(a)))))


@scalar
def tanh(a):
    """The hyperbolic tangent."""
    T = type(a[0])
    size = absolute(a)
    q = expm1((T(-2.0) * size[0], T(-2.0) * size[1]))
    t = divided(negative(q), plus((T(2.0), T(0.0)), q))
    return where(a[0] < T(0.0), negative(t), t)


@scalar
def logcosh(a):
    """The logarithm of the hyperbolic cosine."""
    T = type(a[0])
    size = absolute(a)
    q = expm1(where(size[0] < T(1.0), size, (T(1.0), T(0.0))))
    half = T(0.5) * q[0], T(0.5) * q[1]
    near = log1p(divided(times(half, q), plus(q, (T(1.0), T(0.0)))))
    far = plus(
        minus(size, fast_two_sum(_LN2_HIGH(a[0]), _LN2_LOW(a[0]))), log1p(exp((T(-2.0) * size[0], T(-2.0) * size[1])))
    )
    return where(size[0] < T(1.0), near, far)


@scalar
def power(a, b):
    """a^b for a > 0."""
    return exp(times(b, log(a)))


@scalar
def erf(a):
    """The error function, as in `functions`, by integrals up to 1.5."""
    T = type(a[0])
    size = absolute(a)
    near = size[0] < T(1.5)
    zero = T(0.0), T(0.0)
    z = where(near, size, zero)
    square = times(z, z)
    e = exp(negative(square))
    double = T(2.0) * square[0], T(2.0) * square[1]
    value = erf_integral(z[0], e[0], _ERF_LAST), T(0.0)
    for n in range(_ERF_LAST - 1, -1, -1):
        value = divided(plus(e, times(double, value)), (T(2.0 * n + 1.0), T(0.0)))
    factor = tuple(part(z[0]) for part in functions._TWO_OVER_ROOT_PI)
    inside = times(z, times(factor, value))
    far = where(near, (T(1.5), T(0.0)), size)
    value = where(near, inside, fast_two_sum(T(1.0), -rest_of_erf(*far)))
    return where(a[0] < T(0.0), negative(value), where(a[0] == a[0], value, a))


@scalar
def minimum(a, b):
    """The smaller of two, as in `functions`."""
    return where((b[0] < a[0]) | ((b[0] == a[0]) & (b[1] < a[1])) | (b[0] != b[0]), b, a)


@scalar
def maximum(a, b):
    """The larger of two, as in `functions`."""
    return where((b[0] > a[0]) | ((b[0] == a[0]) & (b[1] > a[1])) | (b[0] != b[0]), b, a)
