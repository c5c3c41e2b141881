"""The data of a regression in units in which nothing over- or underflows, and the way back from them.

The units are powers of two, of each column and of the target, so that dividing by them is exact; columns are centred,
and the target is centred and divided by its spread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._types import NDArray
from ._problem import Doubles
from ._starts import sample_size
from ._whitened import blocks

FAR_X, FAR_Y = 2.0**40, 1e100  # times the spread of the others: beyond, the columns keep too few of their digits


@dataclass(frozen=True)
class Units:
    """The units that the data were divided by, and the centres that were taken from them for an intercept."""

    x_unit: Doubles  # of each column
    centre: Doubles  # of each column, in its unit
    y_unit: float
    y_centre: float  # in y_unit
    y_spread: float  # in y_unit
    intercept: bool

    @property
    def rounding(self) -> float:
        """The size of what rounding makes of a centred target, in its units here."""
        return 8 * np.finfo(float).eps * abs(self.y_centre) / self.y_spread

    @property
    def log_size(self) -> float:
        """The surplus of the mean negative log-likelihood in the data's units over that in the units here."""
        return math.log(self.y_spread) + math.log(self.y_unit)

    def inside(self, scale: float | None) -> float | None:
        """A scale of the data's units in those here."""
        return None if scale is None else scale / self.y_unit / self.y_spread

    def outside(self, scale: float) -> float:
        """A scale of the units here in those of the data."""
        return scale * self.y_spread * self.y_unit

    def linear(self, beta: Doubles, first: float) -> tuple[Doubles, float]:
        """Coefficients and intercept in the data's units, of those here."""
        at_zero = self.y_centre + self.y_spread * (first - float(self.centre @ beta)) if self.intercept else 0.0
        return beta * self.y_spread / self.x_unit * self.y_unit, at_zero * self.y_unit

    def residuals(self, X: NDArray, y: NDArray, beta: Doubles, first: float) -> Doubles:
        """Residuals of all rows of the data, in the units here, for coefficients and an intercept in them."""
        residuals = np.empty(len(y))
        for part in blocks(np, len(y)):
            fitted = (X[part] / self.x_unit - self.centre) @ beta + first
            target = y[part].astype(np.float64) / self.y_unit
            np.subtract((target - self.y_centre) / self.y_spread, fitted, out=residuals[part])
        return residuals


@dataclass(frozen=True)
class Data:
    """The rows that count, in units of their own."""

    X: Doubles
    y: Doubles
    weights: Doubles | None  # of mean 1; None where all weigh the same
    total: float  # of the weights
    size: float  # the root mean square of y
    units: Units


def in_units(X: NDArray, y: NDArray, weights: Doubles | None, fit_intercept: bool) -> Data:
    """A copy of the rows that count, scaled, and centred if there is to be an intercept."""
    used, target, weights = _rows(X, y, weights)
    x_unit, centre = _scale_columns(used, weights, fit_intercept)
    if said := _far_off(target, FAR_Y):
        raise ValueError(f"y {said}")
    y_unit = float(_power_of_two(np.array([np.abs(target).max()]))[0])
    target /= y_unit
    # The middle and the bulk, not the mean: one far row must not set the unit.
    y_centre = float(np.median(target)) if fit_intercept else 0.0
    size = np.abs(target - y_centre)
    y_size = math.sqrt(float(np.mean(size**2)))
    y_spread = float(np.median(size)) or y_size or 1.0
    target = (target - y_centre) / y_spread
    total = len(used) if weights is None else float(weights.sum())
    units = Units(x_unit, centre, y_unit, y_centre, y_spread, fit_intercept)
    return Data(used, target, weights, total, y_size / y_spread, units)


def _rows(X: NDArray, y: NDArray, weights: Doubles | None) -> tuple[Doubles, Doubles, Doubles | None]:
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


def _scale_columns(X: Doubles, weights: Doubles | None, centred: bool) -> tuple[Doubles, Doubles]:
    """Divide the columns by powers of two, and centre them where that is wanted; the units, and the centres in them."""
    unit, centre = np.ones(X.shape[1]), np.zeros(X.shape[1])
    # Powers of two: exact, and no square overflows. Column by column, which stay in cache.
    for j, column in enumerate(X.T):
        low, high = column.min(), column.max()
        if said := _far_off(column, FAR_X):
            raise ValueError(f"X[:, {j}] {said}")
        unit[j] = _power_of_two(np.maximum(high, -low))
        column /= unit[j]
        if centred:
            centre[j] = low / unit[j] if low == high else np.average(column, weights=weights)
            column -= centre[j]
    return unit, centre


def _far_off(values: Doubles, limit: float) -> str | None:
    """A complaint about a number so far from the bulk, as fill values are, that little would be left of the others.

    None where there is no such number.
    """
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


def _power_of_two(size: Doubles) -> Doubles:
    """The power of two above each size, within what can be divided by; 1 for 0."""
    return np.where(size > 0, np.ldexp(1.0, np.clip(np.frexp(size)[1], -1000, 1000)), 1.0)
