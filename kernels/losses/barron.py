"""Barron's general robust loss rho(x, alpha, c) and its derivatives (Barron, CVPR 2019, eq. 13), for one element.

Notation, everywhere below: z = x/c, s = z^2, b = |alpha - 2|, u = s/b, t = log1p(u), k = alpha/2, E = exp(k t),
v = exp(-t) = 1/(1+u), d = 1 - k, phi(y) = y - 1 + exp(-y), g(y) = phi(y)/y^2.

    rho        = (b/alpha) expm1(k t)
    d rho/dx   = (x/c^2) E v              weight = E v/c^2          d rho/dc = -z d rho/dx
    curvature  = (E v/c^2) (1 - sign(2-alpha) b u/(1+u))
    d rho/dalpha = sign(2-alpha)/2 E t^2 [g(k t) - g(t)]

`prepared` has what depends on alpha and c alone, so that a loop over x computes it once.  Then three stages, each with
what the stages before it found: `logarithm`, `values`, `dalpha`.  The CPU runs each stage
over a block of elements before the next, since short chains of operations overlap better; a GPU thread runs them in a
row.  What a caller does not use, the compiler removes.

Two flags choose the case: ``extreme``, whether x and alpha are arbitrary rather than `ordinary`; ``close``, as the
function of that name.  They are constants where the caller knows; where both values apply the bits are the same, those
of subnormal results excepted, which are rounded once more in the extreme case.

Special values without special cases, by moving alpha to where the general formula is right and cannot be told apart:
|alpha| is floored at 2^-40 (2^-70 in double), where rho and its derivatives differ from those at 0 by less than 2^-34
(2^-60), and capped at 2^48 (2^90), where kt differs from +-s/2 by less than s^2/2^50; alpha = 2 becomes 2 - epsilon.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..arithmetic import coefficients as c
from ..arithmetic.elementary import (
    decompose,
    exp_parts,
    exp_tail,
    fast_two_sum,
    log_parts,
    power_of_two,
    product,
    quarter_scale,
    scaled,
    square_root,
    two_product,
    two_sum,
)
from ..arithmetic.primitives import constant, fma, homogeneous, max, min, opposite, scalar, where
from . import barron_in_doubles, higher
from .definition import Bound, Cases, Definition, Domain, Stage
from .shapes import ALPHA_MAX, FINITE, close, limits_of, outside, shape, sign_of

__all__ = ["LOSS"]

_NORMAL = constant(2.0**-126, 2.0**-1022)  # a smaller scale counts as 0
_NAN = constant(float("nan"))
_Z_BIG = constant(2.0**52, 2.0**484)  # beyond it x is scaled by 2^-shift, so that neither z^2 nor u overflows
_SHIFT = constant(100.0, 700.0)
_SHRINK, _GROW = constant(2.0**-100, 2.0**-700), constant(2.0**100, 2.0**700)
# Beyond these 1/c^2 might leave the range: there c is counted in units of 2^j, j = +-94 (+-762).
_C_LEAST, _C_MOST = constant(2.0**-60, 2.0**-500), constant(2.0**60, 2.0**500)
_UNIT, _UNIT_DOWN, _UNIT_UP = constant(94.0, 762.0), constant(2.0**-94, 2.0**-762), constant(2.0**94, 2.0**762)
_U_TINY = constant(2.0**-28, 2.0**-66)  # below it log1p(u) = u - u^2/2, even after multiplication by k
_S_TINY = constant(2.0**-30, 2.0**-60)  # below it rho = s/2 to working precision, whatever alpha
_KT_SMALL = constant(0.3)  # |kt| below it: E g(kt) from the polynomial of exp
_DELTA_MAX = constant(0.7, 1.5)
_ORDINARY = constant(2.0**39, 2.0**288)
_SPLIT = constant(64.0, 512.0)
_POWER_MAX = constant(120.0, 1000.0)
_PHI_MIN = constant(2.0**-10)
_DOWN = constant(-100.0, -1000.0)
_difference = homogeneous(*c.DIFFERENCE)


class Prepared(NamedTuple):
    """The numbers that depend on alpha and c alone, for all x."""

    alpha: Any  # as it was given
    k: Any  # of alpha floored and capped, as all that follows
    b: Any
    b_low: Any
    inverse_b: Any
    ratio: Any  # b/alpha
    inverse_k2: Any  # 1/k^2
    inverse_k2_low: Any
    c: Any
    inverse_c: Any
    inverse_c2: Any  # 1/c^2, rounded once, in units of 2^-2j, see `_unit`


class Log(NamedTuple):
    """The logarithm left by the first stage: t = log1p(u) and what it is made of; 1 + u = 2^e m, see `log_parts`."""

    t: Any
    t_low: Any
    e: Any
    inverse_m: Any
    inverse_m_low: Any
    q: Any
    q_low: Any
    tail: Any
    tail_low: Any


class Exp(NamedTuple):
    """The parts that `values` leaves of E = exp(k t) = 2^n (1 + r): 1 + r, n and the polynomial p(r)."""

    g: Any
    g_low: Any
    n: Any
    p: Any


@scalar
def prepared(alpha, scale):
    """The stage that prepares: alpha and c looked at once, for all x."""
    return Prepared(*shape(alpha), *width(scale))


@scalar
def _unit(c):
    """The unit of c as 2^-j and j: 1 and 0 unless c is so small, or so large, that 1/c^2 might leave the range."""
    T = type(c)
    large, small = c > _C_MOST(c), c < _C_LEAST(c)
    down = where(large, _UNIT_DOWN(c), where(small, _UNIT_UP(c), T(1.0)))
    return down, where(large, _UNIT(c), where(small, -_UNIT(c), T(0.0)))


@scalar
def width(scale):
    """The numbers that depend on c alone: the fields of `Prepared` from c on."""
    T = type(scale)
    infinite = scale > FINITE(scale)
    valid = scale >= _NORMAL(scale)
    down = _unit(scale)[0]
    c = scale * down
    inv = where(valid, T(1.0) / c, _NAN(scale))
    inv_low = where(infinite, T(0.0), fma(-inv, c, T(1.0)) * inv)
    square, square_low = product(inv, inv_low, inv, inv_low)
    return where(infinite, T(1.0), scale), inv * down, square + square_low


@scalar
def ordinary(prepared):
    """Tell whether alpha and c allow the quick case, which is not `extreme`, and the |x| up to which it holds.

    There |k| <= 2 and u <= 2^39 (2^288), so that no exponent leaves the normal range, and |kt| < 1 where t < 0.3466.
    alpha = 2 itself has selects of its own, which are left to the extreme case.
    """
    alpha, k, b, c = prepared.alpha, prepared.k, prepared.b, prepared.c
    T = type(k)
    limit = min(c * square_root(b * _ORDINARY(b)), FINITE(k))  # which infinity exceeds
    return (abs(k) <= T(2.0)) & (alpha != T(2.0)) & (c >= _C_LEAST(c)) & (c <= _C_MOST(c)), limit


@scalar
def _substitute(x, prepared, extreme):
    """The substitution z = x/c, s = z^2, u = s/b, in two words each: k t is conditioned by up to 88 (709) on them.

    Before them come a flag, whether x is so big that it was scaled down, and the x taken.
    """
    b, bl, inv_b = prepared.b, prepared.b_low, prepared.inverse_b
    c, inv_c = prepared.c, prepared.inverse_c
    big = extreme & (abs(x * inv_c) > _Z_BIG(x))
    x = where(big, x * _SHRINK(x), x)
    z = x * inv_c
    zl = fma(-z, c, x) * inv_c
    s, sl = two_product(z, z)
    sl = fma(z + z, zl, sl)
    u = s * inv_b
    ul = (fma(-u, b, s) + (sl - u * bl)) * inv_b
    return big, x, z, zl, s, sl, u, ul


@scalar
def logarithm(x, prepared, extreme, close):
    """The first stage: t = log1p(u) in two words, with what it is made of, see `Log`; it has no outputs."""
    T = type(x)
    one, zero, half = T(1.0), T(0.0), T(0.5)
    big, _, _, _, _, _, u, ul = _substitute(x, prepared, extreme)
    # Where u was scaled down it stands for 1 + u: there u > 2^50.
    tiny = (u < _U_TINY(x)) & opposite(big)
    uw, uwl = where(tiny, (_U_TINY(x), zero), (u, ul))
    unit = where(big, zero, one)
    y, yl = fast_two_sum(max(uw, unit), min(uw, unit))
    e, m, ml = decompose(y, yl + uwl)
    small = (e == zero) & opposite(big)
    f, fl = where(small, (uw, uwl), (m - one, ml))
    e = e + where(big, _SHIFT(x) + _SHIFT(x), zero)
    t, tl, q, ql, tail, tail_low = log_parts(f, fl, m, ml, e)
    t, tl = where(tiny, (u, fma(-half * u, u, ul)), (t, tl))
    inv_m = one / m
    inv_m_low = inv_m * (fma(-inv_m, m, one) - inv_m * ml)
    return (), Log(t, tl, e, inv_m, inv_m_low, q, ql, tail, tail_low)


@scalar
def values(x, prepared, log, extreme, close):
    """The second stage: rho, d/dx, d/dc, weight and curvature, by the formulas above.

    rho is a multiple of expm1(k t), all others of E v = 2^(n-e) (1 + r)/m, whose power of two is applied last, so that
    a result is right where E overflows and where v underflows.
    """
    T = type(x)
    alpha, k, b, ratio = prepared.alpha, prepared.k, prepared.b, prepared.ratio
    inv_c, inv_c2 = prepared.inverse_c, prepared.inverse_c2
    t, tl, e, inv_m, inv_m_low = log.t, log.t_low, log.e, log.inverse_m, log.inverse_m_low
    one, zero, half = T(1.0), T(0.0), T(0.5)
    big, xs, z, zl, s, sl, u, _ = _substitute(x, prepared, extreme)
    two = extreme & (alpha == T(2.0))
    down, unit = where(extreme, _unit(prepared.c), (one, zero))

    kt, ktl = product(k, zero, t, tl)
    n, r, rl, p = exp_parts(kt, ktl)

    # rho: expm1(kt) = 2^n r + (2^n - 1), with 2^n in two factors since b/alpha may be tiny.
    post_n = where(extreme, min(max(n - _SPLIT(x), zero), _POWER_MAX(x)), zero)
    low_n = where(extreme, min(max(n - post_n, -_POWER_MAX(x)), _POWER_MAX(x)), n)
    pow_n = power_of_two(low_n)
    rho = ratio * fma(pow_n, r, pow_n - one)
    rho = where(extreme, rho * power_of_two(post_n), rho)
    grow = where(big, _GROW(x), one)
    quadratic = (s < _S_TINY(x)) & opposite(big) & (opposite(extreme) | (alpha == alpha))
    rho = where(two | quadratic, ((half * (s + sl)) * grow) * grow, rho)

    # E v = 2^(n-e) (1 + r)/m
    g, gl = fast_two_sum(one, r)
    gl += rl
    ev, evl = product(g, gl, inv_m, inv_m_low)
    ev, evl, ne = where(two, (one, zero, zero), (ev, evl, n - e))
    w = fma(inv_c2, ev, inv_c2 * evl)
    weight = scaled(w, ne - (unit + unit), extreme)
    xc = where(extreme, xs * down, xs) * inv_c2
    psi = fma(xc, ev, xc * evl)
    shift = where(big, _SHIFT(x), zero)
    dx = scaled(psi, ne + (shift - unit), extreme)
    # The product of two large numbers may overflow where E v makes it small again.
    large = extreme & (min(abs(z), abs(psi)) > one)
    psi, extra = where(large, (psi * _SHRINK(x), _SHIFT(x)), (psi, zero))
    dscale = -scaled((z + zl) * psi, ne + (shift + shift - unit + extra), extreme)
    small = (e == zero) & opposite(big)
    share = where(small, u * inv_m, one - where(big, zero, power_of_two(-e) * inv_m))  # u/(1+u)
    share = where(two, zero, share)
    curvature = scaled(w * fma(-sign_of(alpha) * b, share, one), ne - (unit + unit), extreme)

    # |x| = inf came out as NaN.
    far = extreme & (abs(x) > FINITE(x))
    limits = limits_of(alpha, ratio, prepared.inverse_k2, prepared.inverse_k2_low)
    rho = where(far, limits[0] + zero * inv_c, rho)
    dx = where(far, where(x > zero, limits[1] * inv_c, -(limits[1] * inv_c)), dx)
    dscale = where(far, -(limits[3] * inv_c), dscale)
    flat = scaled(limits[2] * inv_c2, -(unit + unit), extreme)
    weight = where(far, flat, weight)
    curvature = where(far, flat, curvature)
    return (rho, dx, dscale, weight, curvature), Exp(g, gl, n, p)


@scalar
def dalpha(x, prepared, log, exp, extreme, close):
    """The third stage: d rho/dalpha = sign/2 [E phi(kt)/k^2 - E phi(t)], in three regimes.

    For small t the two terms agree to three orders: the true value is s^3/(24 b^2).  All of it is computed in units of
    2^max(n, 0), so that E may exceed the largest number where the result does not.
    """
    T = type(x)
    alpha, k, b, bl = prepared.alpha, prepared.k, prepared.b, prepared.b_low
    ik2, ik2_low = prepared.inverse_k2, prepared.inverse_k2_low
    t, tl, e, inv_m, inv_m_low, q, ql, tail, tail_low = log
    g, gl, n, p = exp
    one, zero, half = T(1.0), T(0.0), T(0.5)
    big, _, _, _, _, _, u, ul = _substitute(x, prepared, extreme)
    tiny = (u < _U_TINY(x)) & opposite(big)
    small = (e == zero) & opposite(big)
    v_scale = where(big, zero, power_of_two(-e))
    v, vl = v_scale * inv_m, v_scale * inv_m_low
    kt, ktl = product(k, zero, t, tl)
    sign = sign_of(alpha)
    d = half * sign * b
    up = where(extreme, max(n, zero), zero)
    # Below 2^-100 (2^-1000), E and E kt^2 are nothing beside 1.
    down = power_of_two(where(extreme, max(min(n, zero), _DOWN(t)), n))
    down = where(extreme & (n < _DOWN(t)), zero, down)
    unit = power_of_two(max(-up, _DOWN(t)))
    e, el = down * g, down * gl

    # 1. |t|, |kt| < 1: g(kt) - g(t) = d t sum (-1)^n/(n+2)! h_(n-1)(t, kt), a divided difference without cancellation.
    # The low words of d and, three times, of t go in with the first factor.
    dt = fma(-d, t, -(half * sign * bl * t + d * (T(3.0) * tl)))
    near = dt * _difference(t + kt, -(t * kt)) * (e * t) * t

    # phi(t): for small u, t = 2q + tail and u/(1+u) = 2q/(1+q), so phi = q u v + tail, all terms positive.
    square, square_low = two_product(t, t)
    square_low = fma(t + t, tl, square_low)
    a, al = product(q, ql, u, ul)
    a, al = product(a, al, v, vl)
    a, rest = fast_two_sum(a, tail)
    al += tail_low + rest
    # Otherwise directly; t - 1 + v has lost at most 3 of the 7 extra bits.
    w, wl = two_sum(t, -one)
    w, rest = two_sum(w, v)
    wl += rest + (tl + vl)
    phi, phi_low = where(extreme & small, (a, al), (w, wl))
    phi, phi_low = where(extreme & tiny, (half * square, half * square_low), (phi, phi_low))

    # 2. |1 - k| < 1/32: d factored out of E phi(kt)/k^2 - E phi(t),
    #    E d/k^2 [(1+k) phi(t) - t + t v expm1(d t)/(d t)].  Where d t > 0.7, the last term is below all precision.
    # The two floors only keep what t < 1 will discard from becoming subnormal.
    delta = min(max(d * max(t, half), -_DELTA_MAX(t)), _DELTA_MAX(t))
    tv, tvl = product(t, tl, v, vl)
    w, rest = two_sum((phi + phi) - t, tv)
    rest += tvl + ((phi_low + phi_low) - tl)
    rest += fma(tv, delta * fma(delta, exp_tail(delta), half), -(d * max(phi, _PHI_MIN(t))))
    factored = e * (d * ik2) * (w + rest)

    # 3. directly.  E phi(kt)/k^2 for small kt: t^2 E g(kt), E g(y) = 1/2 + y (1/2 - p + y p), p the tail of expm1.
    w, wl = two_sum(kt, -one)
    w, wl = product(e, el, w, wl + ktl)
    w, rest = two_sum(unit, w)
    w, wl = product(w, wl + rest, ik2, ik2_low)
    flat = abs(kt) < _KT_SMALL(t)
    w = where(flat, half * square, w)
    y = kt + ktl
    wl = where(flat, fma(square, y * fma(y, p, half - p), half * square_low), wl)
    a, al = product(e, el, phi, phi_low)
    direct = (w - a) + (wl - al)

    far = where(close, factored, direct)
    slope = half * sign * where(max(t, abs(kt)) < one, near, far)
    # It falls off as alpha^-2 beyond the cap; two factors, since the square underflows before the result.
    beyond = where(extreme & (abs(alpha) > ALPHA_MAX(x)), ALPHA_MAX(x) / abs(alpha), one)
    f, g = quarter_scale(up)
    slope = where(extreme, ((slope * f) * (f * beyond)) * (f * (g * beyond)), slope)
    slope = where(extreme & (abs(alpha) > FINITE(alpha)), zero * t, slope)
    limit = limits_of(alpha, prepared.ratio, ik2, ik2_low)[4]
    slope = where(extreme & (abs(x) > FINITE(x)), limit + zero * prepared.inverse_c, slope)
    return (slope,), ()


# A stage's flags are constants, so what one does not use costs nothing.
CASES = Cases(ordinary, outside, close, ("dalpha",))
SCALE = Domain(0.0, True, "scale must be positive, got {}: it is the residual at which the loss begins to bend")
VALUES = barron_in_doubles.VALUES  # which `values` gives, in its order

# Floats in doubles are rounded once, but for what 2^-13 of a unit can do.  At the witnesses, from `tests/attack.py`,
# which are of the code in words, its errors are, in this order, 2.06 and 2.03, 1.89 and 2.00, 4.48 and 3.44,
# 2.77 and 2.78, 1.31 and 1.31, 3.64 and 4.22 units; README's table has what other points gave.
BOUNDS = {
    "value": Bound(
        1,
        4,
        (
            (7.042974061732821e-07, 1.5039653778076172, 1.0000001111620804e-06),
            (-6.24643906840213, 5.574190159665019, 7.0664418290027164),
        ),
        words=4,
    ),
    "dx": Bound(
        1,
        4,
        (
            (1.018476239910655e31, -0.00031706708250567317, 1.3017200899412273e-06),
            (-1.39503187604257e207, 3.6482788111320374e-195, 0.1216814120244278),
        ),
        words=4,
    ),
    "dalpha": Bound(
        1,
        8,
        (
            (0.70710688829422, 6.516851373978419e16, 1.0),
            (3.191637333005088, -2.6082087132763707, 262.31479893498533),
        ),
        words=8,
    ),
    "dscale": Bound(
        1,
        4,
        (
            (-5.124990991716344e22, -0.009228648617863655, 0.33123886585235596),
            (4.206919947827075e240, 7.220367704065274e-245, 3.3141608904131245e-05),
        ),
        words=4,
    ),
    "weight": Bound(
        1,
        4,
        (
            (-2.7156856060028076, 4.168409275605002e-16, 7.893568515777588),
            (-3.2208843844533923e130, -7.042452421424356e-13, 11.015110201035444),
        ),
        words=4,
    ),
    "curvature": Bound(
        1,
        8,
        (
            (1.5302231311798096, -3.6530816555023193, 1.0),
            (0.23558183692258997, -3.460304059372831, 0.1556564008841956),
        ),
        relative_to="weight",
        words=8,
    ),
}

LOSS = Definition(
    name="loss",
    data=("x",),
    parameters=("alpha", "scale"),
    others=("weight", "curvature"),
    prepares=(Stage(prepared, Prepared),),
    stages=(Stage(logarithm, Log), Stage(values, Exp, VALUES), Stage(dalpha, None, ("dalpha",))),
    cases=CASES,
    in_doubles=barron_in_doubles.CODE,
    domains={"scale": SCALE},
    slopes=higher.slopes,
    costly=higher.COSTLY,
    bounds=BOUNDS,
)
