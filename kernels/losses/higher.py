"""Second derivatives of rho in operations that NumPy, PyTorch and JAX share, for their automatic differentiation.

Kernels give rho and its first derivatives, and the weight W and the curvature.  All second derivatives but one follow
from those, from x, c and from two functions of u, with the notation of `barron` and v = u/(1+u), phi = t - v:

    d2 rho/dx dalpha = W x phi/2        dW/dx = -sign(2-alpha) (W/c^2) x/(1+u)        dW/dalpha = W phi/2
    curvature = W (1 - sign(2-alpha) g), g = z^2/(1+u), dg/d(z^2) = 1/(1+u)^2, dg/dalpha = -sign(2-alpha) v^2

and what c does, from the homogeneity in x/c.  The one that is left is an integral, as d rho = (b/2) exp(k t) dt and
d phi/dalpha, dW/dalpha are as above:

    d2 rho/dalpha^2 = 1/4 int_0^t exp(k y) [(b/2) phi(y)^2 + sign(2-alpha) (1 - exp(-y))^2] dy.

Everything here can be differentiated again by the framework.  ``xp`` is the array library.  In double the relative
error is about 1e-12, of the integral 1e-9; in float32, where a library has no more, about 1e-5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .definition import Library

__all__ = ["COSTLY", "dalpha_twice", "slopes"]

_RULES = "dx", "dalpha", "dscale", "weight", "curvature"
COSTLY = frozenset({("dalpha", "alpha")})  # `dalpha_twice`

# The floor and the cap of alpha, and what stands for 2, as in `barron`; |z| beyond which z^2/b could overflow.  In
# double and in float32.
_DOUBLE = 2.0**-70, 2.0**90, 2.0 - 2.0**-52, 2.0**400
_SINGLE = 2.0**-40, 2.0**48, 2.0 - 2.0**-23, 2.0**48
_SERIES = 0.02  # u below it: phi as a power series

# Tanh-sinh nodes and weights for [0, 1]: exact enough for integrands with a logarithm at either end.
_STEP, _COUNT = 0.12, 28
_NODES = [1 / (1 + math.exp(-math.pi * math.sinh(_STEP * i))) for i in range(-_COUNT, _COUNT + 1)]
_WEIGHTS = [
    _STEP * math.pi * math.cosh(_STEP * i) * p * (1 - p)
    for i, p in zip(range(-_COUNT, _COUNT + 1), _NODES, strict=True)
]


def slopes(
    library: Library, name: str, operands: Sequence[Any], wanted: Sequence[bool], with_log_c: bool = False
) -> list[Any]:
    """Rules of differentiation of rho, or of rho + log c: see `definition.Definition`.

    Each is one of the kernels' outputs times a function of x, c and u, by the formulas above; only the integral, d2
    rho/dalpha^2, costs a sum, and is left out where it is not wanted.
    """
    if name not in _RULES:
        raise ValueError(
            f"no rule for the derivatives of {name!r}: it must be one of {', '.join(_RULES)} (those of the value are "
            "outputs of its kernel)"
        )
    xp = library.xp
    x, alpha, scale = operands
    u, rest, t, _, _ = _ratio(xp, x, alpha, scale)
    z = x / scale  # no square of it, nor of the scale, is formed: each may leave the range where the result does not
    v = xp.where(u < 1, u * rest, 1 - rest)
    phi = _phi(xp, u, v, t)
    side = _sign(xp, alpha)
    factor = 1 - side * z * (z * rest)  # curvature = W factor
    if name in ("dx", "dalpha", "dscale"):
        (psi,) = library.get("dx")
        mixed = 0.5 * psi * phi
        if name == "dx":
            (curvature,) = library.get("curvature")
            return [curvature, mixed, -psi * (1 + factor) / scale]
        if name == "dalpha":
            twice = dalpha_twice(xp, x, alpha, scale, library.fold) if wanted[1] else None
            return [mixed, twice, -z * mixed]
        of_log_c = 1 / scale if with_log_c else 0.0
        return [-psi * (1 + factor) / scale, -z * mixed, (psi * (2 + factor) * z - of_log_c) / scale]
    # The weight, and then the curvature.
    (weight,) = library.get("weight")
    dx, dalpha = -side * weight * (z * rest) / scale, 0.5 * weight * phi
    if name == "curvature":
        (curvature,) = library.get("curvature")
        dx = dx * factor - side * weight * rest * 2 * (z * rest) / scale
        weight, dalpha = curvature, 0.5 * phi * curvature + weight * v * v
    return [dx, dalpha, -(2 * weight + x * dx) / scale]


def _sign(xp: Any, alpha: Any) -> Any:
    """sign(2 - alpha), where 2 counts as 2 - epsilon."""
    return xp.where(alpha > 2, -1.0, 1.0)


def dalpha_twice(xp: Any, x: Any, alpha: Any, scale: Any, fold: Callable[..., Any]) -> Any:
    """The second derivative of rho in alpha; ``fold`` as in `definition.Library`."""
    _, _, t, k, b = _ratio(xp, x, alpha, scale)
    side = _sign(xp, alpha)
    kt = k * t
    flat = abs(kt) < 1e-9
    safe = xp.where(flat, 1.0, kt)
    growth, decays = xp.expm1(safe), safe < -0.5
    rising, falling = xp.where(decays, 1.0, growth), xp.where(decays, safe, -1.0)
    # With p = expm1(k t y)/expm1(k t), the exponential is in the measure and what is left is smooth but for log p.

    def step(total: Any, p: Any, rest: Any, weight: Any) -> Any:
        """Add the integrand at the node p, of which ``rest`` is 1 - p."""
        log = xp.where(decays, xp.log(xp.exp(falling) - rest * xp.expm1(falling)), xp.log1p(p * rising))
        y = t * xp.where(flat, p, log / safe)
        gone = -xp.expm1(-y)
        phi = _phi(xp, xp.expm1(y), gone, y)
        return total + weight * (0.5 * b * phi * phi + side * gone * gone)

    # The second of a row is 1 - p, without rounding.
    total = fold(step, 0.0 * t, list(zip(_NODES, reversed(_NODES), _WEIGHTS, strict=True)))
    second = 0.25 * t * xp.where(flat, 1.0, growth / safe) * total
    return xp.where(abs(alpha) > _limits(xp, alpha)[1], 0.0, second)


def _limits(xp: Any, alpha: Any) -> tuple[float, float, float, float]:
    """The floor and the cap of alpha, what stands for 2, and the largest |z|, in the dtype of alpha."""
    return _DOUBLE if xp.finfo(alpha.dtype).bits == 64 else _SINGLE


def _ratio(xp: Any, x: Any, alpha: Any, scale: Any) -> tuple[Any, Any, Any, Any, Any]:
    """The ratio u = z^2/b, with 1/(1+u), t, k and b; where z^2 could overflow, u is only a large number."""
    low, high, below_two, most = _limits(xp, alpha)
    alpha = xp.where(abs(alpha) < low, low, alpha)
    alpha = xp.where(alpha == 2, below_two, alpha)
    alpha = xp.where(alpha > high, high, xp.where(alpha < -high, -high, alpha))
    b = abs(alpha - 2)
    z = x / scale
    far = abs(z) > most
    near, large = xp.where(far, 1.0, z), xp.where(far, z, 2.0)
    u = near * near / b
    rest = xp.where(far, (b / large) / large, 1 / (1 + u))
    t = xp.where(far, 2 * xp.log(abs(large)) - xp.log(b), xp.log1p(u))
    return xp.where(far, most, u), rest, t, 0.5 * alpha, b


def _phi(xp: Any, u: Any, v: Any, t: Any) -> Any:
    """The difference t - v, t = log1p(u), v = u/(1+u); for small u, where they agree to first order, a power series."""
    small = u < _SERIES
    w = xp.where(small, u, 0.0)
    series = 0.0 * w
    for n in range(10, 1, -1):
        series = (n - 1) / n * (-1) ** n + w * series
    return xp.where(small, series * w * w, xp.where(small, 1.0, t) - xp.where(small, 1.0, v))
