"""The rule by which a density cut off at |x| = tau is integrated, whatever its shape."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

__all__ = ["rule"]

_SPACING = 0.04  # of log x between nodes near x = 1: the integrand at alpha = inf is analytic for |Im log x| < 0.22
_REACH = 38.0  # the nodes go to within e^-38 of both ends, relative to 1 and to tau


@functools.lru_cache(maxsize=64)
def rule(tau: float) -> tuple[Any, Any]:
    """Nodes in (0, tau) and weights that sum to 1: x = tau/(1 + exp(-pi sinh t)), double exponential at both ends."""
    size = max(math.log(tau), 0.0)
    step = _SPACING / math.hypot(math.pi, size)
    below, above = (math.ceil(math.asinh(reach / math.pi) / step) for reach in (_REACH + size, _REACH))
    t = step * np.arange(-below, above + 1)
    low, high = np.exp(-math.pi * np.sinh(t)), np.exp(math.pi * np.sinh(t))
    x, weights = tau / (1 + low), step * math.pi * np.cosh(t) / (1 + low) / (1 + high)
    x.flags.writeable = weights.flags.writeable = False
    return x, weights
