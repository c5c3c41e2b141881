"""Losses of rows in mpmath, from their textbook formulas: the judge of `fastrobust.losses`.

Nothing here is shared with the package; derivatives are differences of many digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpmath

__all__ = ["cross_entropy", "divergence", "mp", "region", "slopes", "softmax_focal", "triplet"]

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


def divergence(x: Sequence[Any], target: Sequence[Any]) -> Any:
    """The sum of p log(p/q) of softmax of both."""
    q, p = ([mp.exp(mp.mpf(v) - _log_sum(map(mp.mpf, z))) for v in z] for z in (x, target))
    return mp.fsum(a * mp.log(a / b) for a, b in zip(p, q, strict=True))


def softmax_focal(x: Sequence[Any], target: int, gamma: Any) -> Any:
    """Of one sample."""
    loss = cross_entropy(x, target)
    return (1 - mp.exp(-loss)) ** gamma * loss


def region(name: str, x: Sequence[Any], target: Sequence[float], parameters: Sequence[Any]) -> Any:
    """1 less a score, of which the intersection is the sum of what is the smaller of both."""
    of_logits, name = name.endswith("_logits"), name.removesuffix("_logits")
    p = [1 / (1 + mp.exp(-mp.mpf(v))) for v in x] if of_logits else [mp.mpf(v) for v in x]
    t = [mp.mpf(v) for v in target]
    pairs = list(zip(p, t, strict=True))
    both, smooth = mp.fsum(min(pair) for pair in pairs), parameters[-1]
    if name == "dice":
        return 1 - (2 * both + smooth) / (mp.fsum(p) + mp.fsum(t) + smooth)
    if name == "squared_dice":
        squares = mp.fsum(a * a + b * b for a, b in pairs) + smooth
        return 1 - (2 * mp.fsum(a * b for a, b in pairs) + smooth) / squares
    if name == "jaccard":
        return 1 - (both + smooth) / (mp.fsum(p) + mp.fsum(t) - both + smooth)
    alpha, beta = parameters[:2]
    over, missed = (mp.fsum(max(s * (a - b), 0) for a, b in pairs) for s in (1, -1))
    loss = 1 - (both + smooth) / (both + alpha * over + beta * missed + smooth)
    return loss if name == "tversky" else loss ** parameters[2]


def triplet(rows: Sequence[Any], margin: Any, distance: str, swap: bool, soft: bool) -> Any:
    """Of the elements of anchor, positive and negative, one after the other."""
    n = len(rows) // 3
    a, p, q = ([mp.mpf(v) for v in rows[k * n : (k + 1) * n]] for k in range(3))

    def length(v: Sequence[Any]) -> Any:
        return mp.sqrt(mp.fsum(x * x for x in v))

    def far(u: Sequence[Any], v: Sequence[Any]) -> Any:
        between = [x - y for x, y in zip(u, v, strict=True)]
        if distance == "cosine":
            return 1 - mp.fsum(x * y for x, y in zip(u, v, strict=True)) / (length(u) * length(v))
        if distance == "manhattan":
            return mp.fsum(abs(x) for x in between)
        return length(between) ** (2 if distance == "squared" else 1)

    z = far(a, p) - (min(far(a, q), far(p, q)) if swap else far(a, q)) + margin
    return mp.log(1 + mp.exp(z)) if soft else max(z, mp.mpf(0))


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
