"""Student's t in operations that array libraries share, which differentiate them.

The density of z = x/c with n degrees of freedom is Gamma((n + 1)/2)/(sqrt(pi n) Gamma(n/2)) (1 + z^2/n)^(-(n + 1)/2).
``xp`` is the array library.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["log_normalization", "log_tail"]


def log_normalization(xp: Any, df: Any) -> Any:
    """Minus the logarithm of the density at 0: log Gamma(a) - log Gamma(a + 1/2) + log(2 pi a)/2, a = n/2."""
    # The two log Gamma cancel for a large a: their difference is that at b = a + steps, by its expansion in 1/b, and
    # the logarithm of a product of factors near 1.
    a, steps = 0.5 * df, 16 if df.dtype.itemsize == 8 else 4
    b = a + steps
    y = 1 / (b * b)
    last = 31 / 18432 - y * 691 / 180224
    expansion = (1 / 8 + y * (-1 / 192 + y * (1 / 640 + y * (-17 / 14336 + y * last)))) / b
    product = xp.sqrt(a / b)
    for k in range(steps):
        product = product * (1 + 0.5 / (a + k))
    return xp.log(product) + expansion + 0.5 * math.log(2 * math.pi)


def log_tail(xp: Any, x: Any, df: Any, scale: Any) -> Any:
    """Minus the logarithm of the density, relative to that at 0: (n + 1)/2 log(1 + z^2/n)."""
    t = x / (scale * xp.sqrt(df))
    big = abs(t) > 1e15  # where t^2 may overflow, and 1 is nothing beside it
    small, far = xp.where(big, 0.0, t), xp.where(big, abs(t), 1.0)
    return (0.5 * df + 0.5) * xp.where(big, 2 * xp.log(far), xp.log1p(small * small))
