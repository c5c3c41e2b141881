"""Powers of two that keep sums in range: exact factors, which change no bit where none is needed.  No Numba here.

A mean is sum(w e)/sum(w).  Its weights are multiplied by 2^-k, with k such that their sum lies between 1/2 and 1: then,
if no weight is negative, no product and no partial sum exceeds the largest e, and no product is subnormal unless its
part of the mean is.  Besides, doubles are multiplied by 2^-j before they are summed, 2^j at least their number, so that
partial sums do not overflow unless the total does; floats are summed in double, which holds them all.  What this costs:
terms below 2^(j-1022), and weights below 2^-126 (2^-1022) of their sum, are rounded to multiples of the least number;
where the weights are not seen before the pass (on a GPU, in JAX), also terms whose weights are all subnormal.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["APART", "EXPONENTS", "divided", "inverse_power", "lifted", "step"]

APART = 2.0**-64  # times this, what is too large a sum is summed once more
EXPONENTS = {False: (-127, 149), True: (-1022, 1022)}  # k for which 2^-k is a float, a double


def step(count: int, double: bool) -> float:
    """The factor 2^-j for so many doubles; floats need none, since they are summed in double."""
    return 2.0 ** -(max(count, 1) - 1).bit_length() if double else 1.0


def lifted(total: float, apart: float, double: bool) -> tuple[float, float]:
    """The power 2^-k for weights of that sum, and their sum after it, as `elementary.lifted` has them in kernels.

    ``apart`` is the sum of `APART` times the weights, which counts where ``total`` is infinite; ``double`` says whether
    the weights are doubles or floats.
    """
    over = math.isinf(total) and math.isfinite(apart)
    sum_in_range = apart if over else total
    least, most = EXPONENTS[double]
    exponent = min(max(math.frexp(sum_in_range)[1], least), most) if math.isfinite(sum_in_range) else most
    lift = 2.0**-exponent
    return lift * APART if over else lift, sum_in_range * lift


# --- for array libraries that differentiate and trace: ``xp`` is the library


def divided(xp: Any, plain: Any, apart: Any, count: Any) -> Any:
    """A sum over the count: ``plain`` is the sum, and ``apart`` that of `APART` times its terms, where it overflowed.

    The count may be a tracer's symbol for a number of elements.
    """
    fits = xp.isfinite(plain)
    # No infinity is divided: its derivative in the count would be NaN.
    return xp.where(fits, xp.where(fits, plain, xp.zeros_like(plain)) / count, apart / (count * APART))


def inverse_power(xp: Any, size: Any) -> Any:
    """The power of two that brings ``size`` to about 1; 1 where it is 0, infinite or NaN."""
    usual = (size > 0) & (size < math.inf)
    most = 120.0 if "32" in str(size.dtype) else 1000.0
    power = xp.floor(xp.log2(xp.where(usual, size, xp.ones_like(size))))
    return xp.exp2(-xp.clip(power, -most, most))
