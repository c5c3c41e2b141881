"""Linear regression under the adaptive robust likelihood, by the library's own value-and-gradient functions.

    minimize over beta, alpha, scale:   mean_i nll(y_i - x_i' beta, alpha, scale)

The problem is not convex, so it is solved from several starts (least squares, the convex alpha = 1, and exact fits of
random small subsets, which find the bulk of the rows when far-away rows mislead the others) on at most a few thousand
rows, and the best point is polished on all of them, at the end by Newton's method: to rounding, so that neither the
order of the rows nor a weight in place of a repetition shows. A copy of the design matrix is centred and whitened by a
small matrix that is applied to the coefficients, never to the rows: an iteration reads X twice and writes nothing as
large. NumPy arrays in and out.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .._arguments import ALPHA_RANGE
from .._loss import Loss
from .._types import NDArray
from ._linear_fit import LinearFit, Solution, linear_fit
from ._problem import Design, Doubles, Point, Problem, Tell
from ._starts import search
from ._unit_loss import UnitLoss, reweighted
from ._units import Data, in_units
from ._whitened import triangle, whitening

RANK = 1e-10  # a standardized column this close to the span of the others is collinear


@np.errstate(over="ignore", under="ignore", invalid="ignore")  # far from the fit, and scales far from the residuals
def fit_linear(
    X: NDArray, y: NDArray, sample_weight: Doubles | None = None, *, alpha: float | None = None,
    scale: float | None = None, loss: Loss | None = None, fit_intercept: bool = True, tell: Tell,
) -> LinearFit:  # fmt: skip
    """Fit ``y`` by the columns of ``X``, finite both, weighted by nonnegative weights that are not all 0.

    ``None`` means estimated. A fixed ``alpha < 0`` has no normalizable density: the mean loss is minimized instead, and
    ``scale`` must be fixed; so it must for another ``loss``, whose mean is minimized in place of all that. Where rows
    or columns do not determine the coefficients, the smallest are taken, in units of the columns' spread.
    """
    own = None
    if loss is not None:
        own, alpha = reweighted("RobustRegressor", loss), math.nan
    tell("checking the columns")
    data = in_units(X, y, sample_weight, fit_intercept)
    tell.offset = 0.0 if own is not None or (alpha is not None and alpha < 0) else data.units.log_size
    tell("least squares")
    R: Doubles = triangle(np, data.X, None if data.weights is None else np.sqrt(data.weights))
    problem = _problem(data, R, alpha, scale, own)
    ols, rms = _least_squares(problem, data.total)
    exact_ols = rms <= 10 * (1e-13 * data.size + data.units.rounding)
    if exact_ols:  # residuals of 0 are the minimum for each alpha, and the density at 0 is highest for 2
        best = Point(ols, 2.0 if alpha is None else alpha, problem.scale or problem.floor)
        best = replace(best, value=problem.slope(best)[0], gradient=0.0)
    else:
        best = search(problem, ols, rms, tell)
    return linear_fit(Solution(data, problem, R, ols, rms, exact_ols, best), X, y, sample_weight, scale, loss)


def _problem(data: Data, R: Doubles, alpha: float | None, scale: float | None, own: UnitLoss | None) -> Problem:
    """The mean to be minimized over the data's rows; R is that of the QR factors of the weighted columns."""
    design = Design(data.X, _whitening(R, data.total), data.units.intercept)
    floor = max(1e-10, 10 * data.units.rounding)
    estimated = alpha is None and scale is None
    low = _lowest_alpha(design.k, design.n, data.weights) if estimated else ALPHA_RANGE[0]
    return Problem(design, data.y, data.weights, alpha, data.units.inside(scale), floor, low, own)


def _least_squares(problem: Problem, total: float) -> tuple[Doubles, float]:
    """Coefficients of least squares, and the root mean square of its residuals; ``total`` is that of the weights."""
    design, weights = problem.design, problem.weights
    ols = np.zeros(design.k)
    for _ in range(3):  # the second takes rounding away, and the third what is left of it where columns nearly depend
        r = problem.residuals(ols) if ols.any() else problem.y
        step = design.project(r if weights is None else r * weights) / total
        ols += step
        if np.abs(step).max(initial=0.0) <= 1e-14 * np.abs(ols).max(initial=0.0):
            break
    else:
        r = problem.residuals(ols)
    return ols, math.sqrt(float(np.average(r**2, weights=weights)))


def _lowest_alpha(k: int, n: int, weights: Doubles | None) -> float:
    """The lower end of alpha's range: 0, or 1 where k rows carry half of the weight.

    Then an exact fit of those rows makes the likelihood at alpha = 0 grow without bound as the scale shrinks. At
    alpha >= 1 it is bounded, and has one maximum for each alpha.
    """
    share = k / n
    if weights is not None and k < n:
        share = float(np.partition(weights, n - k)[n - k :].sum() / weights.sum())
    return 1.0 if share >= 0.5 else ALPHA_RANGE[0]


def _whitening(R: Doubles, n: float) -> Doubles:
    """``map`` with ``map' R' R map = n``, of as many columns as R has rank, after each column of R has the length 1."""
    length = np.sqrt(np.sum(R**2, axis=0))
    length[length == 0] = 1.0
    map: Doubles = whitening(np, R / length, RANK) * math.sqrt(n) / length[:, None]
    return map
