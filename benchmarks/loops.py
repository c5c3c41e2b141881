"""Time of fits and of samples: ``python -m benchmarks.loops`` from the repository's root."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.linear_model import HuberRegressor

import fastrobust as fr
from fastrobust.optimize import RobustRegressor, fit_shape, irls
from fastrobust.stats import barron

from .measure import PACKAGES, copies, environment, interleaved, options, quartiles, write_csv

ROWS, COLUMNS_OF_X, RESIDUALS, SAMPLES = 1_000_000, 10, 10_000_000, 10_000_000
COLUMNS = [
    *("work", "who", "size", "iterations", "median_s", "q1_s", "q3_s", "samples", "times_reference", "reference"),
    *("floor_s", "date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
A linear model of a million rows and ten columns with a tenth of outliers, against one numpy.linalg.lstsq on the same
data and scikit-learn's HuberRegressor; the most likely alpha and scale of ten million residuals, against one pass of
the mean negative log-likelihood with its gradients; ten million samples, against NumPy's normal ones. The floor is a
copy of the bytes that one pass must move.
"""
Measured = tuple[str, dict[str, Callable[[], Any]], dict[str, Callable[[Any], int]], int, int]


def linear() -> Measured:
    """Name, calls (the reference first), iterations of a result, size, and bytes of one pass."""
    rng = np.random.default_rng(0)
    X, beta = rng.standard_normal((ROWS, COLUMNS_OF_X)), rng.standard_normal(COLUMNS_OF_X)
    y = X @ beta + 0.1 * rng.standard_normal(ROWS)
    far = rng.random(ROWS) < 0.1
    y[far] += 10 * rng.standard_normal(int(far.sum()))
    calls: dict[str, Callable[[], Any]] = {
        "numpy.linalg.lstsq": lambda: np.linalg.lstsq(X, y, rcond=None),
        "RobustRegressor()": lambda: RobustRegressor().fit(X, y),
        "RobustRegressor(0, c)": lambda: RobustRegressor(0.0, 0.1).fit(X, y),
        "irls, ten iterations": lambda: irls(X, y, 0.0, 0.1, maxiter=10, tol=1e-300),
        "HuberRegressor": lambda: HuberRegressor(max_iter=1000).fit(X, y),
    }
    for name in list(calls)[1:]:
        found = calls[name]()
        if not np.abs((found.x if "irls" in name else found.coef_) - beta).max() < 2e-3:
            raise SystemExit(f"{name} has found something else")
    iterations = {name: lambda found: int(found.n_iter_) for name in calls if "Regressor" in name}
    iterations["irls, ten iterations"] = lambda found: int(found.nit)
    return "linear model", calls, iterations, ROWS, 2 * X.nbytes


def shape() -> Measured:
    rng = np.random.default_rng(1)
    x = barron(0.7, scale=2.0).rvs(RESIDUALS, random_state=rng).astype(np.float32)
    calls: dict[str, Callable[[], Any]] = {
        "nll_and_grad, one pass": lambda: fr.nll_and_grad(x, 0.7, 2.0, reduction="mean", wrt=("alpha", "scale")),
        "fit_shape": lambda: fit_shape(x, alpha_range=(0, 32)),
        "fit_shape, truncated": lambda: fit_shape(x, alpha_range=(-32, 32), truncation=10.0),
    }
    iterations = {name: lambda found: int(found.nfev) for name in calls if "fit" in name}
    return "alpha and scale", calls, iterations, RESIDUALS, x.nbytes


def samples() -> Measured:
    rng = np.random.default_rng(2)
    calls: dict[str, Callable[[], Any]] = {"numpy standard_normal": lambda: rng.standard_normal(SAMPLES)}
    for alpha in (0.0, 0.5, 1.0, 2.0, math.inf):
        calls[f"barron({alpha:g}).rvs"] = functools.partial(barron(alpha).rvs, SAMPLES, random_state=rng)
    return "samples", calls, {}, SAMPLES, 8 * SAMPLES


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    chosen = options("loops", DESCRIPTION, 9, "loops.csv", arguments)
    console, rows = Console(), []
    for make in track((linear, shape, samples), description="measuring", console=console):
        work, calls, iterations, size, traffic = make()
        counted = {name: str(count(calls[name]())) for name, count in iterations.items()}
        floors = copies(traffic)
        times = interleaved(calls | floors, {}, {}, chosen.samples, 1e-3)
        reference = next(iter(calls))
        ratio = {name: float(np.median(times[name])) / float(np.median(times[reference])) for name in calls}
        floor = min(float(np.median(times[name])) for name in floors)
        rows += [
            {
                "work": work, "who": name, "size": size, "iterations": counted.get(name, ""),
                **quartiles(times[name]), "times_reference": f"{ratio[name]:.3g}", "reference": reference,
                "floor_s": f"{floor:.4g}",
            }
            for name in calls
        ]  # fmt: skip
    same = environment()
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    table = Table("work", "who", "size", "iterations", "time", "x reference", "floor of a pass")
    for row in rows:
        labels = row["work"], row["who"], f"{row['size']:,}", row["iterations"], f"{float(row['median_s']):.3f} s"
        table.add_row(*labels, row["times_reference"], f"{float(row['floor_s']):.3f} s")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
