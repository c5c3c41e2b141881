"""What all is held against: the mpmath oracle of the tests, and fastrobust in float64 once that has confirmed it."""

from __future__ import annotations

import sys

import numpy as np

import fastrobust as fr

from .measure import ROOT
from .rivals import problem

sys.path.insert(0, str(ROOT / "tests"))

import bounds
import oracle
import oracle_losses
import points

__all__ = ["GRADIENTS", "bounds", "confirm", "oracle", "oracle_losses", "points"]

GRADIENTS = ("loss", "influence", "dalpha", "dscale")  # what `loss_and_grad` returns, by the oracle's names


def confirm(count: int = 200) -> None:
    """Stop if float64 `loss_and_grad` is beyond its bounds on the benchmarks' own data.

    Rivals are checked against it, and it would pass a check against itself.
    """
    p = problem("loss_and_grad", "none", "float64", "full", count)
    found = dict(zip(GRADIENTS, fr.loss_and_grad(p.x, p.alpha, p.scale), strict=True))
    for i, where in enumerate(zip(p.x, p.alpha, p.scale, strict=True)):
        truth = oracle.all_at(*where)
        for function, values in found.items():
            error = oracle.ulp_error(values[i], getattr(truth, function), np.float64)
            if not error <= bounds.BOUNDS[function]["float64"]:
                at = ", ".join(float(v).hex() for v in where)
                raise SystemExit(f"fastrobust itself is wrong, nothing is timed: {function} at {at} by {error:.3g} ulp")
