"""A loss of a user's own for the tests of the loops, which share its kernels."""

from __future__ import annotations

from typing import Any

import fastrobust as fr
from fastrobust.math import sqrt, where


@fr.define(params="c tau")
def lopsided(x: Any, c: Any = 1.0, tau: Any = 0.3) -> Any:
    """An asymmetric pseudo-Huber loss."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)
