"""Losses of rows in mpmath, from their textbook formulas: the judge of `fastrobust.losses`.

Nothing here is shared with the package; derivatives are differences of many digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath

__all__ = ["cross_entropy", "mp", "slopes", "softmax_focal"]

mp = mpmath.mp.clone()
mp.dps = 800


def _log_sum(z: Sequence[Any]) -> Any:
    return mp.log(mp.fsum(mp.exp(v) for v in z))


def cross_entropy(
    x: Sequence[Any], target: Any, temperature: Any = 1, smoothing: Any = 0, z_loss: Any = 0, finite: bool = False
) -> Any:
    """Of one sample: the index of the right class, or a probability for each."""
    z = [mp.mpf(v) / temperature for v in x]
    q = [mp.mpf(int(k == target)) for k in range(len(z))] if isinstance(target, int) else [mp.mpf(v) for v in target]
    counts = [k for k, v in enumerate(z) if not finite or v != -mp.inf]
    q = [(1 - smoothing) * v + (mp.mpf(smoothing) / len(counts) if k in counts else 0) for k, v in enumerate(q)]
    lse = _log_sum(z)
    return mp.fsum(p * (lse - v) for p, v in zip(q, z, strict=True) if p != 0) + z_loss * lse**2


def softmax_focal(x: Sequence[Any], target: int, gamma: Any) -> Any:
    """Of one sample."""
    loss = cross_entropy(x, target)
    return (1 - mp.exp(-loss)) ** gamma * loss


def slopes(function: Any, arguments: Sequence[Any], step: float = 1e-300) -> list[Any]:
    """The derivatives of a function of numbers in each of them, by central differences; -inf stays where it is."""
    h, found = mp.mpf(step), []
    for k, value in enumerate(arguments):
        if value == -mp.inf:
            found.append(mp.mpf(0))
            continue
        around = [[*arguments[:k], mp.mpf(value) + side, *arguments[k + 1 :]] for side in (h, -h)]
        found.append((function(around[0]) - function(around[1])) / (2 * h))
    return found
