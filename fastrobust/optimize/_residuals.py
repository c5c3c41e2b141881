"""Residuals whose shape and scale are fitted: which are inside of the density, a sample of them, and their means."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import loss_and_grad
from .._types import Array, Namespace

__all__ = ["Residuals", "chosen"]

SAMPLE = 20_000  # residuals at most


class Point(NamedTuple):
    """The means at an alpha and a scale over the residuals inside, from which the equations and the value are made."""

    rho: float
    dalpha: float
    growth: float  # mean z psi(z)
    total: float  # of the weights inside
    inside: int  # how many residuals
    end: float  # the largest of them


class Residuals:
    """Residuals and what is wanted of them; if truncated absolute ones, sorted, so that a slice is inside."""

    def __init__(self, xp: Namespace, x: Array, weights: Array | None, truncation: float) -> None:
        self.xp, self.x, self.weights, self.truncation = xp, x, weights, truncation
        self.truncated = math.isfinite(truncation)
        self.known: dict[tuple[float, ...], Point] = {}

    @classmethod
    def ordered(cls, xp: Namespace, x: Array, weights: Array | None, truncation: float) -> Residuals:
        """The residuals with their weights, sorted by absolute value where the density is truncated."""
        if math.isfinite(truncation):
            x = abs(x)
            if weights is None:
                x = xp.sort(x)
            else:
                order = xp.argsort(x)
                x, weights = x[order], weights[order]
        return cls(xp, x, weights, truncation)

    def sample(self) -> Residuals:
        """Some residuals, drawn with a fixed seed: every so-manyth would be a trap for periodic data."""
        if self.x.size <= SAMPLE:
            return self
        some = chosen(self.xp, self.x.size)
        weights = None if self.weights is None else self.weights[some]
        return Residuals(self.xp, self.x[some], weights, self.truncation)

    def half_are_0(self, alpha: float) -> bool:
        """Tell whether the likelihood at that alpha grows all the way as the scale shrinks, if only to a limit.

        The equation, mean(z psi(z)) = 1, has no solution then, but is solved to rounding by any scale small enough.
        """
        if alpha != 0 or self.truncated:
            return False
        zero = self.x == 0
        if self.weights is None:
            return 2 * int(zero.sum()) >= int(self.x.size)
        return 2 * float(self.weights[zero].sum(dtype=np.float64)) >= float(self.weights.sum(dtype=np.float64))

    def at(self, alpha: float, scale: float, end: float = math.inf) -> Point:
        """The means over what is inside: within tau c, and within ``end``.

        The density is cut off at the largest residual inside, not at tau c: where nothing lies between the two, a
        window that grows with c would call ever larger scales consistent.
        """
        key = (alpha, scale, end)
        if key not in self.known:
            self.known[key] = self._at(alpha, scale, end)
        return self.known[key]

    def _at(self, alpha: float, scale: float, end: float) -> Point:
        """The means of ``at``, computed: one pass over the residuals inside."""
        x, weights, last = self.x, self.weights, math.inf
        if self.truncated:
            end = min(self.truncation * scale if math.isinf(end) else end, float(np.finfo(x.dtype).max))
            inside = int(self.xp.searchsorted(x, self.xp.asarray(end, dtype=x.dtype), side="right"))
            x, weights = x[:inside], None if weights is None else weights[:inside]
            last = float(x[-1]) if inside else 0.0
            last = last or end
        total = float(x.size if weights is None else weights.sum(dtype=np.float64))
        if not total:
            return Point(math.inf, math.inf, math.inf, 0.0, 0, last)
        with np.errstate(over="ignore", invalid="ignore"):  # alpha > 2 and a small scale
            mean = loss_and_grad(x, alpha, scale, reduction="mean", weights=weights, wrt=("alpha", "scale"))
            parts = float(mean.value), float(mean.dalpha), -scale * float(mean.dscale)
        rho, dalpha, growth = (math.inf if math.isnan(part) else part for part in parts)
        return Point(rho, dalpha, growth, total, x.size, last)


def chosen(xp: Namespace, size: int) -> Array | slice:
    """The indices of the residuals, of so many, that make the sample."""
    if size <= SAMPLE:
        return slice(None)
    return xp.asarray(np.sort(np.random.default_rng(0).integers(0, size, SAMPLE)))
