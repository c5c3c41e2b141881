"""Integrals of Barron's density exp(-rho(x, alpha, 1))/Z(alpha), for any array library and alpha >= 0.

``xp`` is the library: NumPy, PyTorch, or a namespace of such functions that has `total`, `settled`, `repeated` and
`fixed` of its own, for a compiler that would unroll the loops here.  Everything is over arrays of one dtype that
broadcast, one pass for each node of the quadrature, so that memory does not grow with the number of nodes.

Tails: with w = sqrt(2 rho) the density becomes exp(-w^2/2) (w/psi) dw, and w/psi lies between exp(w^2/4), at alpha = 0,
and something below 1.  So one rule takes algebraic and exponential tails alike: w = w0 + L exp(tau - exp(-tau)), which
crowds towards the end of the tail, where singularities are near.  Only 1/psi is evaluated; exp(-w^2/2) is known.

Errors in float64: `log_tail` less -rho(z) is within 1e-14 for alpha from 0 to infinity (2.3e-15 found, at z = 1e3,
alpha = 0).  To this adds the rounding of rho(z), which the density has as well: 7.5e-14 of the tail at z = 10,
alpha = 3, where rho is 450.
`log_moment`: 5e-13, at alpha = 7e-4, order 4; 1e-13 for order 2; a few units of the last place from alpha = 0.1 on.
In float32, which has fewer nodes: `log_tail` 5e-7 (1 + rho), `expected_loss` 5e-7 of itself, quantiles 3e-5 of
themselves or 1e-6, second moments 1e-4 of themselves, at alpha = 0.003, and 2e-6 from 0.1 on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from . import _api
from ._types import Array, Namespace, NDArray, Shaped
from .kernels.losses.inverse import Inverse, loss_at_log

if TYPE_CHECKING:
    import jax
    import torch

_Array = TypeVar("_Array", "torch.Tensor", "jax.Array", NDArray, Array)  # arguments and results are of one library
_State = TypeVar("_State")

_NEWTON = 60  # steps at most; three to six suffice

# --- what depends on the dtype

_Columns = tuple[list[float], ...]


def _of_tails(step: float, first: int, end: int) -> _Columns:
    """y = exp(tau - exp(-tau)) and the weights of it, tau from first * step on."""
    taus = [step * i for i in range(first, end)]
    nodes = [math.exp(tau - math.exp(-tau)) for tau in taus]
    return nodes, [step * (1 + math.exp(-tau)) * y for tau, y in zip(taus, nodes, strict=True)]


def _of_moments(step: float, first: int, end: int) -> _Columns:
    """sinh(tau) and its derivative."""
    taus = [step * i for i in range(first, end)]
    return [math.sinh(tau) for tau in taus], [math.cosh(tau) for tau in taus]


class _Precision(NamedTuple):
    """The ends of a dtype's range, and the nodes that its digits ask for."""

    least: float  # alpha: the formulas have their limits at 0, 2 and infinity within what these ends leave out
    most: float
    gap: float  # abs(alpha - 2)
    rho: float
    far: float  # of log x: beyond, s/b + 1 is s/b
    start: float  # the least w at which to divide by the density
    step: float  # of Newton's method, relative: the error is squared
    tails: _Columns
    moments: _Columns
    spacing: float  # of the latter


_DOUBLE = _Precision(
    least=1e-250,
    most=1e250,
    gap=1e-17,
    rho=1e280,
    far=300.0,
    start=1e-16,
    step=1e-9,
    # At 0.11 the same errors, at 0.13 5e-13: alpha = 0.3 and below, where w/psi is singular at 2.5 + 2.5i.  From
    # exp(-40) to exp(3.7) = 40: what is beyond is below 1e-17.
    tails=_of_tails(0.1, -36, 38),
    # At 0.03 1e-12, at alpha = 0.02: the integrand has a bend far to the left of a wide peak.
    moments=_of_moments(0.025, -180, 117),
    spacing=0.025,
)
_SINGLE = _Precision(
    least=1e-18,
    most=1e18,
    gap=1e-8,
    rho=1e28,
    far=40.0,
    start=1e-8,
    step=1e-4,
    tails=_of_tails(0.15, -19, 18),
    moments=_of_moments(0.1, -38, 27),
    spacing=0.1,
)


def _precision(value: Shaped) -> _Precision:
    """The limits and the nodes for the dtype of that array."""
    return _SINGLE if value.dtype.itemsize == 4 else _DOUBLE


# --- loops, for libraries that have none of their own


def _fixed(xp: Namespace, value: _Array) -> _Array:
    """The value as a constant: where the nodes are need not be differentiated."""
    if hasattr(xp, "fixed"):
        return xp.fixed(value)
    return value.detach() if hasattr(value, "detach") else value


def _total(xp: Namespace, term: Callable[[float, float], _Array], columns: _Columns) -> _Array:
    """The sum of term(*row) over the rows of the columns."""
    if hasattr(xp, "total"):
        return xp.total(term, columns)
    total: Any = 0.0
    for row in zip(*columns, strict=True):
        total = total + term(*row)
    return total


def _settled(xp: Namespace, step: Callable[[_Array], tuple[_Array, _Array]], value: _Array, most: int) -> _Array:
    """The value after steps, which also say where another one is wanted; at most that many."""
    if hasattr(xp, "settled"):
        return xp.settled(step, value, most)
    for _ in range(most):
        value, moving = step(value)
        if not bool(moving.any()):
            break
    return value


def _repeated(xp: Namespace, step: Callable[[_State], _State], state: _State, times: int) -> _State:
    """The state after that many steps."""
    if hasattr(xp, "repeated"):
        return xp.repeated(step, state, times)
    for _ in range(times):
        state = step(state)
    return state


# --- tails


def inverse_of(xp: Namespace, alpha: Shaped) -> Inverse:
    """x as a function of w = sqrt(2 rho), within the ends of alpha's dtype."""
    ends = _precision(alpha)
    return Inverse(xp, alpha, ends.least, ends.most, ends.gap)


def _length(w: _Array) -> _Array:
    """The length over which the tail falls off in w."""
    return 2 / (2 + w)


def _log_rest(xp: Namespace, w: _Array, inverse: Inverse) -> _Array:
    """The logarithm of the integral of exp(-rho(x)) beyond w, less -w^2/2."""
    length, exponent = _length(w), inverse.exponent(w)  # exp(exponent) alone may overflow

    def term(y: float, weight: float) -> _Array:
        v = y * length
        return weight * inverse.slope(w + v, -v * (w + 0.5 * v) - exponent)

    return xp.log(_total(xp, term, _precision(w).tails) * length) + exponent


def log_tail(xp: Namespace, z: _Array, alpha: _Array) -> _Array:
    """The logarithm of the probability beyond z >= 0, finite where that underflows.  Not to be differentiated."""
    rho = _api.loss(z, alpha, 1.0)
    w = xp.sqrt(2 * xp.clip(rho, None, _precision(rho).rho))
    return _log_rest(xp, w, inverse_of(xp, alpha)) - rho - _api.log_partition(alpha)


def upper_quantile(xp: Namespace, tail: _Array, alpha: _Array) -> _Array:
    """The z >= 0 beyond which the probability is ``tail``: 0 for 1/2, infinite for 0.  Not to be differentiated."""
    # Newton's steps on log tail(w), which is concave and falls: from wherever the first step starts, it lands at or
    # beyond the solution, and the others approach from there.
    positive = xp.where(tail > 0, tail, 0.25)
    target, log_z, inverse = xp.log(positive), _api.log_partition(alpha), inverse_of(xp, alpha)
    w = xp.sqrt(xp.clip(-2 * xp.log(2 * positive), 0.0, None)) + 0.0 * log_z
    limits = _precision(w)

    def newton(w: _Array) -> tuple[_Array, _Array]:
        """One step towards the w of that tail, and where another one is wanted."""
        rest = _log_rest(xp, w, inverse)
        at = xp.clip(w, limits.start, None)
        step = (rest - 0.5 * w * w - log_z - target) / inverse.slope(at, -rest)
        w = xp.clip(w + step, 0.0, None)
        return w, abs(step) > limits.step * (1 + w)

    w = _settled(xp, newton, w, _NEWTON)
    # Half of the probability lies beyond 0, exactly; Newton's method stops at 0 give or take rounding. NaN stays NaN.
    z = inverse.x(w)
    inside = xp.where((tail < 0.5) | xp.isnan(z), z, 0.0)
    return xp.where(tail > 0, inside, xp.where((tail == 0) & (alpha >= 0), math.inf, math.nan))


def _integral(xp: Namespace, z: _Array, alpha: _Array, integrand: Callable[[_Array], _Array | float]) -> _Array:
    """The integral of integrand(rho) exp(-rho)/Z from z >= 0 to infinity.

    The points move with z and not with alpha, so the sum can be differentiated in both.
    """
    shape, start = _fixed(xp, alpha), _fixed(xp, z)
    limits, inverse = _precision(shape), inverse_of(xp, shape)
    w = xp.sqrt(2 * xp.clip(_api.loss(start, shape, 1.0), None, limits.rho))
    length = _length(w)

    def term(y: float, weight: float) -> _Array:
        at = w + y * length
        rho = _api.loss(z + xp.clip(inverse.x(at) - start, 0.0, None), alpha, 1.0)
        return weight * length * inverse.slope(at) * integrand(rho) * xp.exp(-rho)

    return _total(xp, term, limits.tails) * xp.exp(-_api.log_partition(alpha))


def tail(xp: Namespace, z: _Array, alpha: _Array) -> _Array:
    """The probability beyond z >= 0, for derivatives in z and alpha; rho(z) must not overflow."""
    return _integral(xp, z, alpha, lambda rho: 1.0)


def expected_loss(xp: Namespace, alpha: _Array) -> _Array:
    """The expectation of rho, which the entropy is made of."""
    return 2 * _integral(xp, xp.zeros_like(alpha), alpha, lambda rho: rho)


# --- moments

_BISECTIONS = 60


def log_peak(xp: Namespace, power: float, alpha: _Array) -> _Array:
    """The log x at which x^power exp(-rho) is largest, where x psi = power >= 2; `far` at most."""

    def halved(ends: tuple[_Array, _Array]) -> tuple[_Array, _Array]:
        """The half of the interval of log x in which x psi passes the power."""
        low, high = ends
        middle = 0.5 * (low + high)
        x = xp.exp(middle)
        below = _api.influence(x, alpha, 1.0) < power / x
        return xp.where(below, middle, low), xp.where(below, high, middle)

    ends = xp.full_like(alpha, -1.0), xp.full_like(alpha, _precision(alpha).far)
    return _repeated(xp, halved, ends, _BISECTIONS)[1]


def log_moment(xp: Namespace, order: int, alpha: _Array) -> _Array:
    """The logarithm of E |x|^order, even order; infinite for alpha below 1e-5, where it is 10^9000 and more."""
    # Over log x, about the peak of x^(order+1) exp(-rho): to the right it falls off as a normal density or faster, to
    # the left exponentially.  Its width goes from 0.3 (alpha = inf) to 1/sqrt(alpha (order + 1)).
    shape, power, limits = _fixed(xp, alpha), order + 1, _precision(alpha)
    centre = log_peak(xp, power, shape)
    x, small = xp.exp(centre), xp.clip(shape, 1e-5, 1.0)
    far = centre >= limits.far
    slope = x * (_api.influence(x, shape, 1.0) + x * _api.curvature(x, shape, 1.0))  # of x psi, over log x
    width = 1 / xp.sqrt(xp.where(far, small * power, xp.clip(slope, 1e-5, None)))
    centre = xp.where(far, xp.log(power / (2 - small)) / small + 0.5 * xp.log(2 - small), centre)
    top = power * centre - _loss_far(xp, centre, shape)

    def term(place: float, weight: float) -> _Array:
        log_x = centre + width * place
        rho = _loss_far(xp, log_x, alpha)
        return weight * xp.exp(power * log_x - rho - top)

    total = _total(xp, term, limits.moments)
    log_expectation = xp.log(2 * limits.spacing * width * total) + top - _api.log_partition(alpha)
    return xp.where(shape < 1e-5, math.inf, log_expectation)


def _loss_far(xp: Namespace, log_x: _Array, alpha: _Array) -> _Array:
    """The loss at x that may exceed the dtype if alpha < 1, as the moments need it."""
    end = _precision(log_x).far
    far = loss_at_log(xp, xp.clip(log_x, end, None), xp.clip(alpha, 1e-5, 1.0))
    return xp.where(log_x < end, _api.loss(xp.exp(xp.clip(log_x, None, end)), alpha, 1.0), far)


def second_moment(xp: Namespace, alpha: _Array) -> _Array:
    """The variance at scale 1; infinite at alpha = 0, and where it exceeds the dtype (below 0.00031 in double)."""
    return xp.exp(log_moment(xp, 2, alpha))
