"""Iteratively reweighted least squares in ten lines, with the library's weight, and the same as one call.

A parabola through points of which some are far off. The picture shows the fits and the weights that the points end
with: an outlier's vote fades with its distance.

    pip install ".[optimize,plot]"             # in a clone of the repository
    python examples/irls.py                  # prints the iterations, writes irls.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole

import fastrobust as fr
from fastrobust.optimize import irls

matplotlib.use("Agg")
from matplotlib import pyplot

TRUE = 0.5, -1.0, 0.2


def by_hand(X: Any, y: Any, alpha: float, scale: float) -> Any:
    """The ten lines."""
    coefficients = np.linalg.lstsq(X, y, rcond=None)[0]
    for iteration in range(100):
        residuals = y - X @ coefficients
        print(f"{iteration:3}: {coefficients.round(4)}, loss {fr.loss(residuals, alpha, scale, reduction='sum'):.6f}")
        root = np.sqrt(fr.weight(residuals, alpha, scale))
        new = np.linalg.lstsq(root[:, None] * X, root * y, rcond=None)[0]
        if np.allclose(new, coefficients, rtol=1e-10, atol=1e-10):
            break
        coefficients = new
    return coefficients


def main(arguments: list[str] | None = None) -> None:
    """Simulate, fit twice, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--alpha", type=float, default=0.0, help="shape of the loss, at most 2 (0)")
    parser.add_argument("--scale", type=float, default=0.2, help="where it begins to bend; the noise is 0.1 (0.2)")
    parser.add_argument("--seed", type=int, default=0, help="of the points (0)")
    parser.add_argument("--figure", type=Path, default=Path("irls.png"), help="picture to write (irls.png)")
    chosen = parser.parse_args(arguments)
    if not chosen.alpha <= 2 or not chosen.scale > 0:
        parser.error("--alpha must be at most 2 and --scale positive")

    rng = np.random.default_rng(chosen.seed)
    t = np.sort(rng.uniform(-3, 3, 80))
    X = np.vander(t, 3)
    y = X @ TRUE + 0.1 * rng.standard_normal(t.size)
    y[rng.random(t.size) < 0.2] += 4

    found = by_hand(X, y, chosen.alpha, chosen.scale)
    library = irls(X, y, chosen.alpha, chosen.scale)
    print(f"irls: {library.x.round(4)} after {library.nit} iterations; {library.message}")

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    points = axes.scatter(t, y, c=library.weights, cmap="viridis", vmin=0, vmax=1, s=14)
    figure.colorbar(points, label="weight")
    axes.plot(t, X @ np.linalg.lstsq(X, y, rcond=None)[0], color="tab:orange", label="least squares")
    axes.plot(t, X @ found, color="tab:blue", label=rf"IRLS, $\alpha$ = {chosen.alpha:g}")
    axes.plot(t, X @ TRUE, "k--", linewidth=1, label="truth")
    axes.set(xlabel="t", ylabel="y")
    axes.legend()
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
