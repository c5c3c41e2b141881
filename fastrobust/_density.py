"""Integrals of Barron's density exp(-rho(x, alpha, 1)), by one quadrature, for any array library.

``xp`` is the library: NumPy, PyTorch.  The double-exponential rule y = exp(pi/2 sinh(tau)) over all y > 0 takes
algebraic tails (alpha = 0) as well as exponential ones with the same nodes: to 1e-13 for alpha <= 3, 1e-7 for any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from . import _api

_STEP, _COUNT = 0.05, 100
_TAU = [_STEP * i for i in range(-_COUNT, _COUNT + 1)]
_NODES = [math.exp(0.5 * math.pi * math.sinh(tau)) for tau in _TAU]
_WEIGHTS = [_STEP * 0.5 * math.pi * math.cosh(tau) * y for tau, y in zip(_TAU, _NODES, strict=True)]


def _integral(
    xp: Any, z: Any, alpha: Any, length: Any, integrand: Callable[[Any, Any], Any], nothing: float = 800.0
) -> Any:
    """Of integrand(s, rho) from z to infinity; it decays over that length, and is nothing where rho exceeds that."""
    total, end = 0.0, _end(xp, alpha, nothing)
    for y, weight in zip(_NODES, _WEIGHTS, strict=True):
        s = z + y * length
        s = xp.where(s < end, s, end)
        total = total + weight * integrand(s, _api.loss(s, alpha, 1.0))
    return total * length


def _end(xp: Any, alpha: Any, rho: float) -> Any:
    """Where the loss is about that: beyond, derivatives would overflow."""
    alpha = alpha.detach() if hasattr(alpha, "detach") else alpha
    a = xp.where(alpha < 1e-6, 1e-6, xp.where(alpha > 1e6, 1e6, alpha))
    b = abs(a - 2) + 1e-9
    log = xp.log1p(rho * a / b) * 2 / a
    log = xp.where(log < 1400, log, 1400.0)
    return xp.sqrt(-b * xp.expm1(-log)) * xp.exp(0.5 * log)


def tail(xp: Any, z: Any, alpha: Any, length: Any) -> Any:
    """The integral of the density, not normalized, from z >= 0 to infinity."""
    return _integral(xp, z, alpha, length, lambda s, rho: xp.exp(-rho))


def decay(z: Any, alpha: Any) -> Any:
    """A length for `tail`: that over which the density falls off beyond z >= 0."""
    return 1 / (_api.influence(z, alpha, 1.0) + 1 / (1 + z))


def expected_loss(xp: Any, alpha: Any) -> Any:
    """E rho."""
    found = _integral(xp, xp.zeros_like(alpha), alpha, 1.0, lambda s, rho: rho * xp.exp(-rho))
    return 2 * found * xp.exp(-_api.log_partition(alpha))


def second_moment(xp: Any, alpha: Any) -> Any:
    """E x^2 at scale 1; infinite at alpha = 0, and below 0.001, where it is 10^96 and more."""
    # Below 0.007 the integrand's peak, about 1.5^(1/alpha), is beyond the nodes.
    small = xp.where(alpha > 1e-3, alpha, 1e-3)
    peak = xp.where(alpha < 0.007, xp.exp(math.log(1.5) / small), 1.0)
    zero = xp.zeros_like(alpha)
    found = _integral(xp, zero, alpha, peak, lambda s, rho: xp.exp(2 * xp.log(s) - rho), 3000.0)
    found = 2 * found * xp.exp(-_api.log_partition(alpha))
    return xp.where(alpha >= 1e-3, found, math.inf)
