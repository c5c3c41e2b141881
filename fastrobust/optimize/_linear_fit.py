"""The result of a linear regression: the solution in the fit's own units, said in those of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import weight
from .._arguments import ALPHA_RANGE
from .._loss import Loss
from .._types import NDArray
from ._problem import Doubles, Point, Problem
from ._starts import sample_size
from ._units import Data

CONVERGED = 1e-5  # what counts as converged when rounding stops the line search earlier


@dataclass(frozen=True)
class LinearFit:
    """A fitted model in the units of the data. Coefficients do not include the intercept."""

    coefficients: Doubles
    intercept: float
    alpha: float  # NaN with another loss
    alpha_range: tuple[float, float]  # where it was sought
    scale: float
    residuals: Doubles
    weights: Doubles  # relative to a residual of zero: 1 counts fully
    value: float  # the mean negative log-likelihood; of the loss where that is given, or alpha was fixed below 0
    gradient: float
    iterations: int  # those on all rows
    converged: bool
    exact_rows: int  # where an estimated scale shrank to nothing, the rows that lie exactly on the fit; else 0
    ols_coefficients: Doubles
    ols_intercept: float
    ols_rms: float  # the root mean square residual; 0 where only rounding is left
    centre: Doubles  # of the columns
    triangle: Doubles  # R of the QR factors of the centred columns, each row as often as its weight says
    loss: Loss | None = None  # in place of Barron's


@dataclass(frozen=True)
class Solution:
    """The fit before it is said in the data's units: the rows that counted, least squares, and the best point."""

    data: Data
    problem: Problem
    R: Doubles  # of the QR factors of the columns, with the roots of the weights
    ols: Doubles  # coefficients of least squares, in the design's terms
    rms: float  # the root mean square of its residuals
    exact_ols: bool  # whether only rounding is left of those
    best: Point

    @property
    def enough(self) -> float:
        """The gradient from which on it counts as converged: a large mean is known to so many digits only."""
        return CONVERGED * max(1.0, self.best.value)  # far outliers at alpha >= 2

    @property
    def exact(self) -> bool:
        """True where an estimated scale has shrunk to nothing."""
        best, floor = self.best, self.problem.floor
        # Where over half of the rows agree exactly, the optimizer cannot come to rest.
        collapsing = best.gradient > self.enough and best.scale < 1e-6 * self.rms
        return self.problem.scale is None and (self.exact_ols or collapsing or best.scale <= 10 * floor)


def linear_fit(
    solution: Solution, X: NDArray, y: NDArray, sample_weight: Doubles | None, scale: float | None, loss: Loss | None
) -> LinearFit:
    """The solution for all rows of the data, in their units; a fixed scale stays the number that was given."""
    best, problem, units, total = solution.best, solution.problem, solution.data.units, solution.data.total
    own = problem.own
    if not (math.isfinite(best.value) and math.isfinite(best.gradient)):
        name, remedy = f"alpha = {best.alpha:g}", "raise scale, or lower alpha"
        if own is not None:
            name, remedy = own.name, own.remedy
        raise ValueError(f"the loss is infinite at {name}, scale = {units.outside(best.scale):g}: {remedy}")
    residuals = _all_residuals(solution, X, y)
    exact_rows = _rows_on_it(solution, residuals, sample_weight) if solution.exact else 0
    relative: Doubles = residuals / best.scale
    if own is None:
        weight(relative, best.alpha, 1.0, out=relative)
    else:
        relative = np.asarray(own.relative(relative, 1.0))
    residuals *= units.y_spread
    residuals *= units.y_unit
    coefficients, intercept = _in_units(solution, best.gamma)
    ols_coefficients, ols_intercept = _in_units(solution, solution.ols)
    if not (np.isfinite(coefficients).all() and math.isfinite(intercept)):
        raise ValueError("a coefficient is beyond a double's range: give the columns in other units, or centre them")
    is_loss = own is not None or (problem.alpha is not None and problem.alpha < 0)
    count = len(y) if sample_weight is None else float(sample_weight.sum())
    return LinearFit(
        coefficients=coefficients,
        intercept=intercept,
        alpha=best.alpha,
        alpha_range=(problem.low, ALPHA_RANGE[1]),
        scale=units.outside(best.scale) if scale is None else scale,
        residuals=residuals,
        weights=relative,
        value=best.value * (1.0 if own is None else own.top) + (0.0 if is_loss else units.log_size),
        gradient=best.gradient,
        iterations=best.iterations,
        converged=best.gradient <= solution.enough,
        exact_rows=exact_rows,
        ols_coefficients=ols_coefficients,
        ols_intercept=ols_intercept,
        ols_rms=0.0 if solution.exact_ols else units.outside(solution.rms),
        centre=units.centre * units.x_unit,
        # The weights within are those of rows merged, of mean 1.
        triangle=solution.R * math.sqrt(count / total) * units.x_unit,
        loss=loss,
    )


def _first(solution: Solution, gamma: Doubles) -> float:
    """The intercept among coefficients in the design's terms, 0 without one."""
    return float(gamma[0]) if solution.data.units.intercept else 0.0


def _in_units(solution: Solution, gamma: Doubles) -> tuple[Doubles, float]:
    """Coefficients and intercept in the data's units, of those in the design's terms."""
    return solution.data.units.linear(solution.problem.design.coefficients(gamma), _first(solution, gamma))


def _all_residuals(solution: Solution, X: NDArray, y: NDArray) -> Doubles:
    """The residuals of all rows, in the order of the data, in the fit's units."""
    best, design = solution.best, solution.problem.design
    if len(y) == design.n > sample_size(X.shape[1] + 1):  # the same rows in the same order
        return solution.problem.residuals(best.gamma)
    return solution.data.units.residuals(X, y, design.coefficients(best.gamma), _first(solution, best.gamma))


def _rows_on_it(solution: Solution, residuals: Doubles, sample_weight: Doubles | None) -> int:
    """The number of rows that count and lie exactly on the fit."""
    on_it = np.abs(residuals) <= max(solution.best.scale, 100 * solution.problem.floor)
    if sample_weight is not None:
        on_it &= sample_weight > 0
    return int(np.count_nonzero(on_it))
