"""How heavy are the tails of a stock's daily returns?  Fit shape and scale to them, with standard errors, and draw.

The residuals are the daily log returns of Google, 2004 to 2008, less their median (Matplotlib ships the prices). The
normal distribution is alpha = 2, Cauchy's is alpha = 0; maximum likelihood finds what lies between. The quantiles show
where each model fails: the normal at the largest days, Cauchy's at all but the ordinary ones.

    pip install ".[optimize,plot]"             # in a clone of the repository
    python examples/shape_of_returns.py                  # prints the fits, writes shape_of_returns.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from picture import whole

from fastrobust.optimize import fit_shape
from fastrobust.stats import barron

matplotlib.use("Agg")
from matplotlib import cbook, pyplot


def main(arguments: list[str] | None = None) -> None:
    """Read, fit, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", type=Path, default=Path("shape_of_returns.png"), help="picture to write")
    chosen = parser.parse_args(arguments)

    with cbook.get_sample_data("goog.npz") as file:
        prices = file["price_data"]["adj_close"]
    returns = np.diff(np.log(prices))
    residuals = np.sort(returns - np.median(returns))

    found = fit_shape(residuals)
    print(f"{residuals.size} daily returns: alpha = {found.alpha:.3f} +- {found.stderr[0]:.3f}, ", end="")
    print(f"c = {found.scale:.5f} +- {found.stderr[1]:.5f}; {found.message}")
    fits = {"normal": 2.0, "Cauchy": 0.0, "fitted": found.alpha}
    models = {}
    for name, alpha in fits.items():
        fit = fit_shape(residuals, alpha=alpha)
        models[name] = barron(alpha, scale=fit.scale)
        print(f"{name:>8}: alpha = {alpha:.3f}, mean negative log-likelihood {fit.fun:.4f}")

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    grid = np.linspace(1.2 * residuals[0], 1.2 * residuals[-1], 600)
    left.hist(residuals, bins=120, density=True, color="0.8", label="returns")
    probabilities = (np.arange(residuals.size) + 0.5) / residuals.size
    for name, model in models.items():
        label = rf"{name}, $\alpha$ = {fits[name]:.2f}"
        left.plot(grid, model.pdf(grid), label=label)
        right.plot(model.ppf(probabilities), residuals, ".", markersize=3, label=label)
    left.set(xlabel="daily log return, less the median", ylabel="density", yscale="log", ylim=(1e-2, 1e2))
    left.legend()
    ends = np.array([residuals[0], residuals[-1]])
    right.plot(ends, ends, "k--", linewidth=1)
    right.set(xlabel="quantile of the model", ylabel="quantile of the returns", xlim=2 * ends)
    right.legend()
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
