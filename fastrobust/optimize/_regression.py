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
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import weight
from .._arguments import ALPHA_RANGE
from ._problem import Array, Design, Point, Problem, Tell
from ._starts import sample_size, search
from ._whitened import blocks, triangle, whitening

CONVERGED = 1e-5  # what counts as converged when rounding stops the line search earlier
RANK = 1e-10  # a standardized column this close to the span of the others is collinear
FAR_X, FAR_Y = 2.0**40, 1e100  # times the spread of the others: beyond, the columns keep too few of their digits


@dataclass(frozen=True)
class LinearFit:
    """A fitted model in the units of the data. Coefficients do not include the intercept."""

    coefficients: Array
    intercept: float
    alpha: float
    alpha_range: tuple[float, float]  # where it was sought
    scale: float
    residuals: Array
    weights: Array  # relative to a residual of zero: 1 counts fully
    value: float  # the mean of the negative log-likelihood, or of the loss where alpha was fixed below 0
    gradient: float
    iterations: int  # those on all rows
    converged: bool
    exact_rows: int  # where an estimated scale shrank to nothing, the rows that lie exactly on the fit; else 0
    ols_coefficients: Array
    ols_intercept: float
    ols_rms: float  # the root mean square residual; 0 where only rounding is left
    centre: Array  # of the columns
    triangle: Array  # R of the QR factors of the centred columns, each row as often as its weight says


@np.errstate(over="ignore", under="ignore", invalid="ignore")  # far from the fit, and scales far from the residuals
def fit_linear(
    X: NDArray[Any], y: NDArray[Any], sample_weight: Array | None = None, *, alpha: float | None = None,
    scale: float | None = None, fit_intercept: bool = True, tell: Tell,
) -> LinearFit:  # fmt: skip
    """Fit ``y`` by the columns of ``X``, finite both, weighted by nonnegative weights that are not all 0.

    ``None`` means estimated. A fixed ``alpha < 0`` has no normalizable density: the mean loss is minimized instead, and
    ``scale`` must be fixed. Where rows or columns do not determine the coefficients, the smallest are taken, in units
    of the columns' spread.
    """
    tell("checking the columns")
    used, y_used, weights = _rows(X, y, sample_weight)
    n, k = used.shape
    count = len(y) if sample_weight is None else float(sample_weight.sum())
    sqrt = None if weights is None else np.sqrt(weights)

    # Powers of two: exact, and no square overflows. Column by column, which stay in cache.
    x_unit, centre = np.ones(k), np.zeros(k)
    for j, column in enumerate(used.T):
        low, high = column.min(), column.max()
        if said := far_off(column, FAR_X):
            raise ValueError(f"X[:, {j}] {said}")
        x_unit[j] = _power_of_two(np.maximum(high, -low))
        column /= x_unit[j]
        if fit_intercept:
            centre[j] = low / x_unit[j] if low == high else np.average(column, weights=weights)
            column -= centre[j]
    if said := far_off(y_used, FAR_Y):
        raise ValueError(f"y {said}")
    y_unit = float(_power_of_two(np.array([np.abs(y_used).max()]))[0])
    y_used /= y_unit
    # The middle and the bulk, not the mean: one far row must not set the unit.
    y_centre = float(np.median(y_used)) if fit_intercept else 0.0
    size = np.abs(y_used - y_centre)
    y_size = math.sqrt(float(np.mean(size**2)))
    y_spread = float(np.median(size)) or y_size or 1.0
    y_used = (y_used - y_centre) / y_spread
    y_size /= y_spread
    is_loss = alpha is not None and alpha < 0
    offset = tell.offset = 0.0 if is_loss else math.log(y_spread) + math.log(y_unit)

    tell("least squares")
    R: Array = triangle(np, used, sqrt)
    design = Design(used, _whitening(R, n if weights is None else float(weights.sum())), fit_intercept)
    the_scale = None if scale is None else scale / y_unit / y_spread
    rounding = 8 * np.finfo(float).eps * abs(y_centre) / y_spread
    floor = max(1e-10, 10 * rounding)
    low_alpha = _lowest_alpha(design.k, n, weights) if alpha is None and scale is None else ALPHA_RANGE[0]
    problem = Problem(design, y_used, weights, alpha, the_scale, floor, low_alpha)
    ols = np.zeros(design.k)
    for _ in range(3):  # the second takes rounding away, and the third what is left of it where columns nearly depend
        r = problem.residuals(ols) if ols.any() else y_used
        step = design.project(r if weights is None else r * weights) / (n if weights is None else weights.sum())
        ols += step
        if np.abs(step).max(initial=0.0) <= 1e-14 * np.abs(ols).max(initial=0.0):
            break
    else:
        r = problem.residuals(ols)
    rms = math.sqrt(float(np.average(r**2, weights=weights)))
    nothing_left = rms <= 10 * (1e-13 * y_size + rounding)

    if nothing_left:  # residuals of 0 are the minimum for each alpha, and the density at 0 is highest for 2
        best = Point(ols, 2.0 if alpha is None else alpha, the_scale or floor)
        best = replace(best, value=problem.slope(best)[0], gradient=0.0)
    else:
        best = search(problem, ols, rms, tell)
    if not (math.isfinite(best.value) and math.isfinite(best.gradient)):
        raise ValueError(
            f"the loss is infinite at alpha = {best.alpha:g}, scale = {best.scale * y_spread * y_unit:g}: "
            "raise scale, or lower alpha"
        )
    enough = CONVERGED * max(1.0, best.value)  # far outliers at alpha >= 2: a large mean, known to so many digits
    # Where over half of the rows agree exactly, the optimizer cannot come to rest.
    collapsing = best.gradient > enough and best.scale < 1e-6 * rms
    exact = the_scale is None and (nothing_left or collapsing or best.scale <= 10 * floor)

    def in_units(gamma: Array) -> tuple[Array, float]:
        beta = design.coefficients(gamma)
        at_zero = y_centre + y_spread * (float(gamma[0]) - float(centre @ beta)) if fit_intercept else 0.0
        return beta * y_spread / x_unit * y_unit, at_zero * y_unit

    beta = design.coefficients(best.gamma)
    first = float(best.gamma[0]) if fit_intercept else 0.0
    if len(y) == n > sample_size(k + 1):  # the same rows in the same order
        residuals = problem.residuals(best.gamma)
    else:
        residuals = np.empty(len(y))
        for part in blocks(np, len(y)):
            fitted = (X[part] / x_unit - centre) @ beta + first
            target = y[part].astype(np.float64) / y_unit
            np.subtract((target - y_centre) / y_spread, fitted, out=residuals[part])
    on_it = np.abs(residuals) <= max(best.scale, 100 * floor)
    if sample_weight is not None:
        on_it &= sample_weight > 0
    exact_rows = int(np.count_nonzero(on_it)) if exact else 0
    relative: Array = residuals / best.scale
    weight(relative, best.alpha, 1.0, out=relative)
    residuals *= y_spread
    residuals *= y_unit
    coefficients, intercept = in_units(best.gamma)
    ols_coefficients, ols_intercept = in_units(ols)
    if not (np.isfinite(coefficients).all() and math.isfinite(intercept)):
        raise ValueError("a coefficient is beyond a double's range: give the columns in other units, or centre them")
    return LinearFit(
        coefficients=coefficients,
        intercept=intercept,
        alpha=best.alpha,
        alpha_range=(low_alpha, ALPHA_RANGE[1]),
        scale=best.scale * y_spread * y_unit if scale is None else scale,
        residuals=residuals,
        weights=relative,
        value=best.value + offset,
        gradient=best.gradient,
        iterations=best.iterations,
        converged=best.gradient <= enough,
        exact_rows=exact_rows,
        ols_coefficients=ols_coefficients,
        ols_intercept=ols_intercept,
        ols_rms=0.0 if nothing_left else rms * y_spread * y_unit,
        centre=centre * x_unit,
        # The weights within are those of rows merged, of mean 1.
        triangle=R * math.sqrt(count / (n if weights is None else float(weights.sum()))) * x_unit,
    )


def far_off(values: Array, limit: float) -> str | None:
    """What to say of a number so far from the bulk that little would be left of the others, as fill values are."""
    halves = values[:: -(-len(values) // 1000)] / 2  # whose differences are in range
    middle = float(np.median(halves))
    sizes = np.abs(halves - middle)
    spread = float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
    farthest = max(float(values.max()), float(values.min()), key=lambda value: abs(value / 2 - middle))
    if not spread or abs(farthest / 2 - middle) / spread <= limit:
        return None
    return (
        f"holds {farthest:.6g}, and half of its values lie within {2 * spread:.3g} of {2 * middle:.6g}: if it stands "
        "for a missing value, leave the row out; where all are measured, fit their logarithm"
    )


def _rows(X: NDArray[Any], y: NDArray[Any], weights: Array | None) -> tuple[Array, Array, Array | None]:
    """A copy in float64 of the rows that count, with weights of mean 1; None where all weigh the same.

    Rows that fit the sample for the starts are sorted, and equal ones become one: then neither their order nor a weight
    in place of a repetition makes a difference, not even in which subsets are drawn.
    """
    if weights is not None and not weights.all():
        keep = weights > 0
        X, y, weights = X[keep], y[keep], weights[keep]
    if len(y) <= sample_size(X.shape[1] + 1):
        rows, place = np.unique(np.column_stack((y, X)).astype(np.float64), axis=0, return_inverse=True)
        weights = np.bincount(place.ravel(), weights).astype(np.float64)
        X, y = rows[:, 1:], rows[:, 0]
    if weights is not None:
        weights = None if (weights == weights[0]).all() else weights / weights.max()
    if weights is not None:
        weights = weights / weights.mean()
    # Columns in one piece: products with X, and X' with a vector, take a third of the time.
    return np.array(X, np.float64, order="F"), np.array(y, np.float64), weights


def _lowest_alpha(k: int, n: int, weights: Array | None) -> float:
    """The lower end of alpha's range: 0, or 1 where k rows carry half of the weight.

    Then an exact fit of those rows makes the likelihood at alpha = 0 grow without bound as the scale shrinks. At
    alpha >= 1 it is bounded, and has one maximum for each alpha.
    """
    share = k / n
    if weights is not None and k < n:
        share = float(np.partition(weights, n - k)[n - k :].sum() / weights.sum())
    return 1.0 if share >= 0.5 else ALPHA_RANGE[0]


def _power_of_two(size: Array) -> Array:
    """The one above, within what can be divided by; 1 for 0."""
    return np.where(size > 0, np.ldexp(1.0, np.clip(np.frexp(size)[1], -1000, 1000)), 1.0)


def _whitening(R: Array, n: float) -> Array:
    """``map`` with ``map' R' R map = n``, of as many columns as R has rank, after each column of R has the length 1."""
    length = np.sqrt(np.sum(R**2, axis=0))
    length[length == 0] = 1.0
    map: Array = whitening(np, R / length, RANK) * math.sqrt(n) / length[:, None]
    return map
