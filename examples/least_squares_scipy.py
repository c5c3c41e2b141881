"""Fit a decay with outliers by SciPy's least_squares, under losses of several shapes, and draw the fits.

SciPy has five losses. scipy_loss(alpha) is the whole family between and beyond them: 2 is SciPy's "linear", 1 its
"soft_l1", 0 its "cauchy" (with f_scale smaller by sqrt(2)), -2 is Geman-McClure, -inf is Welsch.

    pip install ".[optimize,plot]"             # in a clone of the repository
    python examples/least_squares_scipy.py                  # prints the fits, writes least_squares_scipy.png
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole
from scipy.optimize import least_squares

from fastrobust.optimize import scipy_loss

matplotlib.use("Agg")
from matplotlib import pyplot

TRUE = 3.0, 0.8  # height and rate
NOISE = 0.05


def model(p: Any, t: Any) -> Any:
    return p[0] * np.exp(-p[1] * t)


def main(arguments: list[str] | None = None) -> None:
    """Simulate, fit, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outliers", type=float, default=0.25, help="their share of the points (0.25)")
    parser.add_argument("--seed", type=int, default=0, help="of the points (0)")
    parser.add_argument("--figure", type=Path, default=Path("least_squares_scipy.png"), help="picture to write")
    chosen = parser.parse_args(arguments)
    if not 0 <= chosen.outliers < 1:
        parser.error("--outliers must be at least 0 and less than 1")

    rng = np.random.default_rng(chosen.seed)
    t = np.linspace(0, 5, 120)
    y = model(TRUE, t) + NOISE * rng.standard_normal(t.size)
    outlier = rng.random(t.size) < chosen.outliers
    y[outlier] += rng.uniform(0.5, 3, outlier.sum())

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    axes.plot(t[~outlier], y[~outlier], ".", color="0.6", markersize=4)
    axes.plot(t[outlier], y[outlier], "x", color="tab:orange", markersize=4, label="outliers")
    axes.plot(t, model(TRUE, t), "k--", linewidth=1, label="truth")
    print(f"{'truth':>12}: height {TRUE[0]:.3f}, rate {TRUE[1]:.3f}")
    start = [1.0, 1.0]
    for alpha in (2.0, 1.0, 0.0, -2.0, -math.inf):
        # The scale: the residual at which the loss begins to bend, two to three times the noise.
        found = least_squares(lambda p: model(p, t) - y, start, loss=scipy_loss(alpha), f_scale=2.5 * NOISE)
        start = found.x  # losses that turn down have several minima: from the convex end towards them
        name = f"{alpha:g}" + " (least squares)" * (alpha == 2)
        print(f"alpha {alpha:6g}: height {found.x[0]:.3f}, rate {found.x[1]:.3f}")
        axes.plot(t, model(found.x, t), label=rf"$\alpha$ = {name}")
    axes.set(xlabel="t", ylabel="y", ylim=(-0.3, 6.2))
    axes.legend()
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
