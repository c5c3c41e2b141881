"""Elementary functions in double-word arithmetic: log1p and expm1 as unevaluated sums high + low.

Why two words: in ``exp(k log1p(u))`` an error of half an ulp in the logarithm is multiplied by ``k t``, up to 88 in
float32 and 709 in float64.  Each function below carries about 7 bits more than the working precision, so that the final
rounding is the only one that counts.  Nothing here branches; all selects are between values already computed.
"""

from __future__ import annotations

from . import coefficients as c
from .primitives import bits, constant, fma, from_bits, max, min, polynomial, scalar, where
from .scaling import APART

_log_tail = polynomial(*c.LOG_TAIL)
exp_tail = polynomial(*c.EXP_TAIL)
_ln2_high, _ln2_low = constant(*c.LN2_HIGH), constant(*c.LN2_LOW)
_two_thirds_high, _two_thirds_low = constant(*c.TWO_THIRDS_HIGH), constant(*c.TWO_THIRDS_LOW)
_inv_ln2 = constant(*c.INV_LN2)

_MANTISSA = constant(23, 52)  # bits of the stored significand
_FRACTION = constant(0x7FFFFF, 0xFFFFFFFFFFFFF)
_SQRT_HALF = constant(0x3F3504F3, 0x3FE6A09E667F3BCD)
_ONE_LESS_SQRT_HALF = constant(0x3F800000 - 0x3F3504F3, 0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
_INTEGER = constant(0x4B000000, 0x4330000000000000)  # 2^23, 2^52: or-ing an integer in gives 2^23 + integer
_INTEGER_BIAS = constant(8388608.0 + 127.0, 4503599627370496.0 + 1023.0)
_NEGATE_EXPONENT = constant(254, 2046)
ROUND = constant(12582912.0, 6755399441055744.0)  # 1.5 * 2^23, 1.5 * 2^52: adding it rounds to an integer
_ROUND_BIASED = constant(12582912.0 + 127.0, 6755399441055744.0 + 1023.0)
# Largest exponent that a scaled result can need, see `barron`: products of E = exp(k t) with (1 + u)^-1 and t^2.
_KT_MAX = constant(345.0, 2300.0)
_TINY = constant(2.0**-28, 2.0**-60)  # below it expm1(r) = r to working precision
_HALF_ONE = constant(0x1F800000, 0x1FF0000000000000)
SCALE_MAX = constant(500.0, 4000.0)
_LEAST, _MOST = constant(895, 0), constant(1171, 2044)  # exponents, biased, of the sums of weights: see `lifted`
LARGEST = 1.7976931348623157e308


@scalar
def two_sum(a, b):
    """a + b = s + e, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@scalar
def fast_two_sum(a, b):
    """a + b = s + e, exactly, if the exponent of a is not below that of b or a = 0."""
    s = a + b
    return s, b - (s - a)


@scalar
def two_product(a, b):
    """a * b = p + e, exactly."""
    p = a * b
    return p, fma(a, b, -p)


@scalar
def product(ah, al, bh, bl):
    """(ah + al) * (bh + bl) to about twice the working precision."""
    p = ah * bh
    return p, fma(ah, bh, -p) + fma(ah, bl, al * bh)


@scalar
def power_of_two(n):
    """2^n for an integral n within the exponent range of normal numbers."""
    i = bits(n + _ROUND_BIASED(n))
    U = type(i)
    return from_bits(U(i << _MANTISSA(n)))


@scalar
def quarter_scale(n):
    """Two powers f, g with f^3 g = 2^n: four factors reach any exponent, and none goes against the sign of n."""
    T = type(n)
    n = min(max(n, -SCALE_MAX(n)), SCALE_MAX(n))
    q = (fma(n, T(0.25), ROUND(n))) - ROUND(n)
    return power_of_two(q), power_of_two(n - T(3.0) * q)


@scalar
def scaled(p, n, extreme):
    """p * 2^n, overflowing and underflowing only if the result does; unless extreme, 2^n must be a normal number."""
    f, g = quarter_scale(n)
    return where(extreme, ((p * f) * f) * f * g, p * power_of_two(n))


@scalar
def square_root(x):
    """A lower bound of sqrt(x), x normal, within a factor of two: for thresholds, not for results."""
    i = bits(x)
    U = type(i)
    return from_bits(U(U(i >> U(1)) + _HALF_ONE(x)))


@scalar
def decompose(y, yl):
    """y + yl = 2^e (m + ml), m in [sqrt(1/2), sqrt(2)): returns e, m, ml."""
    i = bits(y)
    U = type(i)
    i = U(i + _ONE_LESS_SQRT_HALF(y))
    biased = U(i >> _MANTISSA(y))
    m = from_bits(U(U(i & _FRACTION(y)) + _SQRT_HALF(y)))
    e = from_bits(U(biased | _INTEGER(y))) - _INTEGER_BIAS(y)
    shrink = from_bits(U(U(_NEGATE_EXPONENT(y) - biased) << _MANTISSA(y)))
    return e, m, yl * shrink


@scalar
def log_parts(f, fl, m, ml, e):
    """log(2^e (1 + f + fl)) = t + tl; m + ml = 1 + f + fl.  Also q = f/(2 + f), high and low, and the tail t - 2q.

    log(1+f) = 2q + (2/3) q^3 + q^5 R(q^2): the tail is less than 1 % of the sum, so one word does for R.
    """
    T = type(f)
    d, dl = fast_two_sum(T(1.0), m)
    dl += ml
    inv = T(1.0) / d
    q = f * inv
    ql = (fma(-q, d, f) + (fl - q * dl)) * inv
    w, wl = two_product(q, q)
    wl += (q + q) * ql
    cube, cube_low = product(q, ql, w, wl)
    a, al = product(cube, cube_low, _two_thirds_high(f), _two_thirds_low(f))
    a, al = fast_two_sum(a, fma(cube, w * _log_tail(w), al))
    # The sum is left with a low word of an ulp or two: what follows takes that, and normalizing would cost time.
    t, tl = fast_two_sum(q + q, a)
    whole, whole_low = fast_two_sum(e * _ln2_high(f), e * _ln2_low(f))
    t, rest = fast_two_sum(whole, t)
    tl = (tl + rest) + (whole_low + ((ql + ql) + al))
    return t, tl, q, ql, a, al


@scalar
def exp_parts(y, yl):
    """exp(y + yl) = 2^n (1 + r + rl), r + rl = expm1 of the reduced argument a: returns n, r, rl, p(a).

    expm1(a) = a + a^2/2 + a^3 p(a).  y is clamped to where every scaled result has long overflowed or vanished.
    """
    T = type(y)
    limit = _KT_MAX(y)
    yl = where(abs(y) > limit, T(0.0), yl)
    y = min(max(y, -limit), limit)
    n = fma(y, _inv_ln2(y), ROUND(y)) - ROUND(y)
    whole, whole_low = fast_two_sum(n * _ln2_high(y), n * _ln2_low(y))
    a = y - whole  # exact: whole is 0 or within a factor of two of y
    al = yl - whole_low
    # The floor keeps powers of a tiny argument from becoming subnormal, at a hundred cycles each.
    tiny = abs(a) < _TINY(y)
    z = where(tiny, _TINY(y), a)
    p = exp_tail(z)
    square, square_low = two_product(T(0.5) * z, z)
    cube = (z * z) * (z * p)
    low = square_low + (cube + fma(al, z + (square + cube), al))  # al may be many ulps of a: it takes all of exp(a)
    tail, tail_low = fast_two_sum(square, low)
    tail, tail_low = where(tiny, (al, T(0.0)), (tail, tail_low))
    r, rl = fast_two_sum(a, tail)
    return n, r, rl + tail_low, p


@scalar
def lifted(total, apart, zero):
    """The power 2^-k for weights like ``zero`` of that sum, and the sum after it, as doubles: see `scaling.lifted`."""
    over = (abs(total) > LARGEST) & (abs(apart) <= LARGEST)
    sum_in_range = where(over, apart, total)
    i = bits(sum_in_range)
    U = type(i)
    biased = min(max(U(U(i << U(1)) >> U(53)), U(_LEAST(zero))), U(_MOST(zero)))
    lift = from_bits(U(U(U(2045) - biased) << U(52)))
    return where(over, lift * APART, lift), sum_in_range * lift
