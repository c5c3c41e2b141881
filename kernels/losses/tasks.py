"""What the losses of several tasks come to together."""

from __future__ import annotations

from typing import Any

from ..graph.functions import exp
from .formula import Formula

__all__ = ["UNCERTAINTY_WEIGHTED"]

Number = Any  # of a formula: see `graph.real`


def uncertainty_weighted(x: Number, log_variance: Number) -> Number:
    """A task's loss x by the uncertainty that it learns: exp(-s) x + s/2 of the logarithm s of a variance.

    Kendall, Gal and Cipolla (2018). Give the losses of all tasks as one array, with a parameter for each, and sum.
    """
    return exp(-log_variance) * x + 0.5 * log_variance


UNCERTAINTY_WEIGHTED = Formula(uncertainty_weighted, ("log_variance",))
