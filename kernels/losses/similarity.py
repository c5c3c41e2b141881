"""Losses of a distance, of what is alike or not: see `losses.norm`."""

from __future__ import annotations

from typing import Any

from ..graph.functions import maximum
from .formula import Formula

__all__ = ["CONTRASTIVE"]

Number = Any  # of a formula: see `graph.real`


def contrastive(x: Number, target: Number, margin: Number = 1.0) -> Number:
    """Contrastive loss of a distance: x^2/2 for what is alike (target 1), max(0, margin - x)^2/2 for what is not (0).

    Hadsell, Chopra and LeCun (2006), who call 0 what is 1 here.
    """
    missing = maximum(margin - x, 0)
    return 0.5 * (target * (x * x) + (1 - target) * (missing * missing))


CONTRASTIVE = Formula(contrastive, ("margin",), precision="wide", ranges={"target": (0.0, 1.0)})
