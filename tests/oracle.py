"""The reference: Barron's loss and its partition function in mpmath, from the definitions.

Nothing here is shared with ``kernels/``: no expm1/log1p form, no series.  Where the textbook formula cancels it is
evaluated with so many more digits that it does not matter, and the number of digits comes from a bound on the rounding
error of that very evaluation.  Results are right to about 33 digits (or to the caller's ``mp.prec`` if that is higher),
or to an absolute ``2**-1300``, which no floating-point format here resolves.

Arguments are Python or NumPy floats of any width and are taken exactly (mpf works too, for ``mp.diff``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from mpmath import mp, mpf

INF, NAN, ZERO = mpf("inf"), mpf("nan"), mpf(0)
BITS = 110  # relative accuracy of what is returned
FLOOR = -1300  # log2 of the absolute error that is always good enough

# (significand bits, least and greatest exponent of a normal number)
FORMATS = {
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
    "float32": (24, -126, 127),
    "float64": (53, -1022, 1023),
}


class Loss(NamedTuple):
    """rho and its derivatives at one point."""

    loss: mpf
    influence: mpf
    weight: mpf
    curvature: mpf
    dscale: mpf
    dalpha: mpf


class Partition(NamedTuple):
    """log Z and its derivative in alpha."""

    log_partition: mpf
    log_partition_dalpha: mpf


class NLL(NamedTuple):
    """rho + log c + log Z and its partial derivatives."""

    nll: mpf
    dx: mpf
    dalpha: mpf
    dscale: mpf


def format_name(dtype: Any) -> str:
    """'float32' for np.float32, np.dtype('float32') or 'float32'; likewise for ml_dtypes.bfloat16."""
    return dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or dtype.__name__


def exact(v: Any) -> mpf:
    """v as an mpf, without rounding."""
    return v if isinstance(v, mpf) else mpf(float(v))


def eps_at_two(dtype: Any) -> mpf:
    """The floor of b at alpha = 2: the epsilon of the dtype that is computed in (float32 for the 16-bit formats)."""
    return mpf(2) ** (1 - max(FORMATS[format_name(dtype)][0], FORMATS["float32"][0]))


# ---------------------------------------------------------------------------------------------------------------------
# The loss


class _Shape(NamedTuple):
    """What is left of the loss when c is divided out: psi = (x/c^2) q, and d psi/dx = (q + bend)/c^2."""

    rho: mpf
    q: mpf
    bend: mpf
    dalpha: mpf


def _mag(v: mpf) -> int:
    """An exponent e with |v| <= 2**e, very negative for zero."""
    return mp.mag(v) if v else -(10**9)


def _at_infinity(s: mpf, alpha: mpf, target: int) -> _Shape:
    # alpha -> -inf: rho = 1 - exp(-s/2);  alpha -> +inf: rho = exp(s/2) - 1;  neither depends on alpha any more.
    sign = 1 if alpha > 0 else -1
    with mp.workprec(target + 20 + min(-FLOOR, max(0, -mp.mag(s))) + max(0, mp.mag(s))):
        q = mp.exp(sign * s / 2)
        return _Shape(sign * (q - 1), q, sign * s * q, ZERO)


def _at_zero(s: mpf, target: int) -> _Shape:
    # rho = log(s/2 + 1);  d rho/d alpha is the limit of the general formula: L^2/4 - L/2 + s/(2(s+2)) ~ s^3/96.
    with mp.workprec(target + 20 + min(-FLOOR, max(0, -3 * mp.mag(s)))):
        log = mp.log(s / 2 + 1)
        q = 1 / (s / 2 + 1)
        return _Shape(log, q, -s * q * q, log**2 / 4 - log / 2 + s / (2 * (s + 2)))


def _general(s: mpf, alpha: mpf, target: int) -> _Shape:
    # rho = (b/a)(P - 1),  P = (s/b + 1)^(a/2),  b = |a - 2|,  b' = sign(a - 2),  L = log(s/b + 1):
    # d rho/d a = (b'/a - b/a^2)(P - 1) + (b/a) P (L/2 - (a/2)(s/b^2) b' / (s/b + 1)).
    u_mag = mp.mag(s) - mp.mag(alpha - 2)
    a_mag = mp.mag(alpha)
    prec = target + 30 + max(0, -3 * u_mag) + max(0, a_mag, -2 * a_mag)
    prec = min(prec, target - FLOOR + max(0, a_mag, -2 * a_mag))
    while True:
        with mp.workprec(prec):
            b, slope = abs(alpha - 2), mp.sign(alpha - 2)
            u = s / b
            base = u + 1
            log = mp.log(base)
            power = mp.exp(alpha / 2 * log)
            rho = b / alpha * (power - 1)
            dalpha = (slope / alpha - b / alpha**2) * (power - 1) + b / alpha * power * (
                log / 2 - alpha / 2 * (s / b**2) * slope / base
            )
            # Each term is off by less than its size times 2**(6-prec) (1 + |a/2| + |a/2 L|): the rounding of u + 1
            # enters the power with the factor a/2, the rounding of the exponent with its size.
            terms = (1 / abs(alpha) + b / alpha**2 + b / abs(alpha) * (1 + log)) * (1 + power) + power
            error = _mag(terms) + max(0, a_mag, a_mag + _mag(log)) + 8 - prec
            least = min(_mag(rho), _mag(dalpha))
            missing = min(target + error - least, error - FLOOR)
            if missing <= 0:
                q = power / base
                return _Shape(rho, q, (alpha - 2) * u * q / base, dalpha)
        prec += missing + 10


def _shape(s: mpf, alpha: mpf, eps: mpf, target: int) -> _Shape:
    """The loss at c = 1 and 0 < s = x^2 < inf."""
    if mp.isinf(alpha):
        return _at_infinity(s, alpha, target)
    if alpha == 0:
        return _at_zero(s, target)
    if alpha == 2:
        # d rho/d alpha diverges at 2; by convention it takes its value at 2 - eps.
        return _Shape(s / 2, mpf(1), ZERO, _general(s, alpha - eps, target).dalpha)
    return _general(s, alpha, target)


def _far(sign: int, alpha: mpf, c: mpf) -> Loss:
    """The limit x -> sign * inf."""
    if alpha == -INF:
        return Loss(mpf(1), ZERO, ZERO, ZERO, ZERO, ZERO)
    if alpha < 0:
        return Loss((alpha - 2) / alpha, ZERO, ZERO, ZERO, ZERO, 2 / alpha**2)
    dalpha = ZERO if alpha == INF else INF
    if alpha == 0:
        return Loss(INF, ZERO, ZERO, ZERO, -2 / c, dalpha)
    if alpha < 1:
        return Loss(INF, ZERO, ZERO, ZERO, -INF, dalpha)
    if alpha == 1:
        return Loss(INF, sign / c, ZERO, ZERO, -INF, dalpha)
    if alpha < 2:
        return Loss(INF, sign * INF, ZERO, ZERO, -INF, dalpha)
    if alpha == 2:
        return Loss(INF, sign * INF, 1 / c**2, 1 / c**2, -INF, dalpha)
    return Loss(INF, sign * INF, INF, INF, -INF, dalpha)


@lru_cache(maxsize=1 << 16)
def _all_at(x: mpf, alpha: mpf, c: mpf, eps: mpf, target: int) -> Loss:
    if mp.isnan(x) or mp.isnan(alpha) or not c > 0:
        return Loss(*[NAN] * 6)
    with mp.workprec(target + 40):
        if mp.isinf(x):
            return _far(1 if x > 0 else -1, alpha, c)
        z = x / c
        if z == 0:
            return Loss(ZERO, ZERO, 1 / c**2, 1 / c**2, ZERO, ZERO)
        # s enters e^(s/2) and the power of s/b + 1 with its absolute error times alpha: form it from z at full length.
        with mp.workprec(target + 40 + max(0, 2 * mp.mag(z), _mag(alpha) if mp.isfinite(alpha) else 0)):
            s = (x / c) ** 2
        rho, q, bend, dalpha = _shape(s, alpha, eps, target)
        return Loss(rho, z / c * q, q / c**2, (q + bend) / c**2, -z * z / c * q, dalpha)


def all_at(x: Any, alpha: Any, scale: Any, dtype: Any = "float64") -> Loss:
    """rho, psi, psi/x, d psi/dx, d rho/dc and d rho/d alpha; ``dtype`` matters for d rho/d alpha at alpha = 2 only."""
    return _all_at(exact(x), exact(alpha), exact(scale), eps_at_two(dtype), max(BITS, mp.prec))


def loss(x: Any, alpha: Any, scale: Any) -> mpf:
    """rho."""
    return all_at(x, alpha, scale).loss


def influence(x: Any, alpha: Any, scale: Any) -> mpf:
    """psi = d rho/dx."""
    return all_at(x, alpha, scale).influence


def weight(x: Any, alpha: Any, scale: Any) -> mpf:
    """psi/x, and 1/c^2 at x = 0."""
    return all_at(x, alpha, scale).weight


def curvature(x: Any, alpha: Any, scale: Any) -> mpf:
    """d^2 rho/dx^2."""
    return all_at(x, alpha, scale).curvature


def dscale(x: Any, alpha: Any, scale: Any) -> mpf:
    """d rho/dc."""
    return all_at(x, alpha, scale).dscale


def dalpha(x: Any, alpha: Any, scale: Any, dtype: Any = "float64") -> mpf:
    """d rho/d alpha."""
    return all_at(x, alpha, scale, dtype).dalpha


# ---------------------------------------------------------------------------------------------------------------------
# The partition function Z = int exp(-rho(x, alpha, 1)) dx and the likelihood

# exp(-1000) = 1e-434: where rho exceeds it the integrand is left out, and exp of a huge number is not formed.
NEGLIGIBLE = 1000


def _integral(g: Callable[[mpf], mpf], b: mpf) -> mpf:
    # The integrand varies on two scales, sqrt(b) and 1: the pieces run from the one to the other by factors of 8.
    ends, x = [ZERO], mp.sqrt(b)
    while x < 1:
        ends.append(x)
        x *= 8
    return 2 * mp.quad(g, [*ends, 1, 2, 4, 8, 32, INF])


@lru_cache(maxsize=1 << 14)
def _partition(alpha: mpf, eps: mpf) -> Partition:
    if mp.isnan(alpha):
        return Partition(NAN, NAN)
    if alpha < 0:
        return Partition(INF, NAN)  # the integral diverges
    if 0 < alpha < mpf(2) ** -150:
        return _partition(ZERO, eps)  # differs by O(alpha), beyond the digits wanted
    with mp.workprec(BITS):

        def at(x: mpf, a: mpf) -> tuple[mpf, mpf]:
            """exp(-rho) and d rho/d alpha exp(-rho)."""
            if x == 0:
                return mpf(1), ZERO
            if a > 2 and x > 64:  # below exp(-x^2/2) = exp(-2048)
                return ZERO, ZERO
            p = _shape(x * x, a, eps, BITS)
            density = mp.exp(-p.rho) if p.rho < NEGLIGIBLE else ZERO
            return density, p.dalpha * density

        if mp.isinf(alpha):
            return Partition(mp.log(_integral(lambda x: at(x, alpha)[0], mpf(1))), ZERO)
        near = alpha if alpha != 2 else alpha - eps
        b = abs(near - 2)
        z = _integral(lambda x: at(x, alpha)[0], b)
        z_near = z if near == alpha else _integral(lambda x: at(x, near)[0], b)
        # mp.quad stops at an absolute error, and the derivative falls like 1/alpha^2: integrate it scaled to order 1.
        unit = max(mpf(1), near**2)
        return Partition(mp.log(z), -_integral(lambda x: unit * at(x, near)[1], b) / unit / z_near)


def partition_at(alpha: Any, dtype: Any = "float64") -> Partition:
    """log Z and (log Z)', the latter at 2 - eps for alpha = 2 and one-sided at 0; inf and NaN for alpha < 0."""
    return _partition(exact(alpha), eps_at_two(dtype))


def log_partition(alpha: Any) -> mpf:
    """log Z(alpha)."""
    return partition_at(alpha).log_partition


def log_partition_dalpha(alpha: Any, dtype: Any = "float64") -> mpf:
    """(log Z)'(alpha)."""
    return partition_at(alpha, dtype).log_partition_dalpha


def _nll_terms(x: Any, alpha: Any, scale: Any, dtype: Any) -> tuple[list[mpf], ...]:
    """What is added up in each field of NLL."""
    f, p, c = all_at(x, alpha, scale, dtype), partition_at(alpha, dtype), exact(scale)
    log_c, reciprocal = (mp.log(c), 1 / c) if c > 0 else (NAN, NAN)
    return (
        [f.loss, log_c, p.log_partition],
        [f.influence],
        [f.dalpha, p.log_partition_dalpha],
        [f.dscale, reciprocal],
    )


def nll_at(x: Any, alpha: Any, scale: Any, dtype: Any = "float64") -> NLL:
    """rho + log c + log Z and its partial derivatives; for alpha < 0 the value is +inf and d/d alpha NaN."""
    with mp.workprec(max(BITS, mp.prec)):
        return NLL(*map(mp.fsum, _nll_terms(x, alpha, scale, dtype)))


def nll_summands(x: Any, alpha: Any, scale: Any, dtype: Any = "float64") -> NLL:
    """The largest summand in each field of ``nll_at``: the sums have zeros, their ulp is taken from these."""
    with mp.workprec(max(BITS, mp.prec)):
        return NLL(*(max(map(abs, terms)) for terms in _nll_terms(x, alpha, scale, dtype)))


def nll(x: Any, alpha: Any, scale: Any) -> mpf:
    """rho + log c + log Z."""
    return nll_at(x, alpha, scale).nll


# ---------------------------------------------------------------------------------------------------------------------
# The measure


def _last_place(v: mpf, bits: int, least: int) -> int:
    """log2 of the unit in the last place of |v| rounded to ``bits`` bits; below 2**least that of the subnormals."""
    if not v:
        return least - bits + 1
    with mp.workprec(bits):
        rounded_mag: int = mp.mag(+v)  # 2**(mag-1) <= |rounded v| < 2**mag
    return max(rounded_mag - 1, least) - bits + 1


def ulp_error(got: Any, truth: mpf, dtype: Any, at_least: Any = None) -> float:
    """The error of ``got`` in units of the last place of ``truth`` rounded to ``dtype``.

    - Two NaN: 0.  One NaN, or an infinite truth missed: inf.
    - A truth that rounds to inf (at least half a unit beyond the largest finite number) is met by that inf.  Otherwise
      an inf counts as the number after the largest finite one, 2**(emax + 1): as wrong as its neighbour.
    - Below the normal range the unit is the smallest subnormal number, also for truth 0.
    - ``at_least``: a magnitude whose unit is used if it is larger than that of the truth.  It may be beyond the range:
      a float16 curvature can be far below a weight that float16 does not hold.
    """
    bits, emin, emax = FORMATS[format_name(dtype)]
    got = float(got)
    if math.isnan(got) or mp.isnan(truth):
        return 0.0 if math.isnan(got) and mp.isnan(truth) else math.inf
    if mp.isinf(truth):
        return 0.0 if got == float(truth) else math.inf
    with mp.workprec(BITS + 20):
        top = mpf(2) ** (emax + 1)
        if math.isinf(got):
            if truth * mp.sign(got) >= top - mpf(2) ** (emax - bits):
                return 0.0
            value = top * mp.sign(got)
        else:
            value = mpf(got)
        unit = min(_last_place(truth, bits, emin), emax - bits + 1)
        if at_least is not None and mp.isfinite(at_least):
            unit = max(unit, _last_place(exact(at_least), bits, emin))
        error = abs(value - truth)
        return 0.0 if not error else math.inf if mp.mag(error) - unit > 1000 else float(mp.ldexp(error, -unit))
