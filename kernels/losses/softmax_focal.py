"""The focal loss of several classes, of what cross-entropy gives for a sample (Lin et al. 2017, with softmax).

With L the cross-entropy, p = exp(-L) and q = 1 - p = -expm1(-L): q^gamma L, whose derivatives in the logits are those
of the cross-entropy times q^gamma + gamma q^(gamma - 1) p L, a sum of what is positive.
"""

from __future__ import annotations

from typing import Any

from ..graph.functions import exp, expm1, log, log1p, where
from .definition import Domain
from .formula import Formula

__all__ = ["FOCAL_OF_LOSS"]

_CERTAIN = 700.0  # losses from which on q is 1, infinite ones among them


def focal_of_loss(x: Any, gamma: Any) -> Any:
    """Of the cross-entropy x >= 0; 0 where that is 0, so that no power of 0 is looked at."""
    q = -expm1(-x)
    return where(x < _CERTAIN, where(x > 0, q**gamma * x, 0.0 * x), x)


def _by_gamma(x: Any, gamma: Any) -> Any:
    """The derivative in gamma, q^gamma x log q, with log q = log1p(-exp(-x)) where q is nearly 1."""
    q = -expm1(-x)
    log_q = where(x > 0.7, log1p(-exp(-x)), log(q))
    certain = where(x >= _CERTAIN, 0.0 * gamma, x)  # NaN of NaN
    return where(x < _CERTAIN, where(x > 0, q**gamma * x * log_q, 0.0 * x), certain)


FOCAL_OF_LOSS = Formula(
    focal_of_loss,
    ("gamma",),
    precision="half wide",
    domains={"gamma": Domain(0.0, False, "gamma must be >= 0, got {}: it makes little of easy samples")},
    slopes={"gamma": _by_gamma},
    ranges={"x": (0.0, 50.0), "gamma": (0.0, 5.0)},
)
