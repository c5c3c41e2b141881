"""`RobustRegressor` for a person: what cannot be answered is an error with a remedy, and estimates have errors."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

import fastrobust as fr
from fastrobust.optimize import RobustRegressor

from .common import UserError

Doubles = NDArray[np.float64]
Tell = Callable[[str], None]

INTERCEPT = "(intercept)"
LARGEST = 1e302  # a column's size, and 1 over its smallest spread


@dataclass(frozen=True)
class Fit:
    """A fitted model. Coefficients, intercept first, and residuals are in the units of the file."""

    names: list[str]
    coefficients: Doubles
    errors: Doubles  # NaN where nothing can be said
    margins: Doubles  # half the widths of intervals of 95 %
    df: float  # of their t distribution
    condition: float  # of the columns, centred and of one length
    doubts: tuple[str, ...]  # sentences on what to take with care
    alpha: float
    alpha_estimated: bool
    alpha_range: tuple[float, float]
    alpha_at_bound: str | None
    scale: float
    scale_estimated: bool
    objective: str  # "nll", or "loss" for alpha < 0
    value: float  # the mean of the objective
    log_likelihood: float | None
    aic: float | None
    gradient: float
    iterations: int
    converged: bool
    ols_coefficients: Doubles
    ols_errors: Doubles
    ols_margins: Doubles
    ols_sigma: float | None
    ols_log_likelihood: float | None
    ols_aic: float | None
    residuals: Doubles
    weights: Doubles  # relative to a residual of zero: 1 counts fully


def fit(
    X: Doubles, y: Doubles, names: list[str], alpha: float | None = None, scale: float | None = None,
    tell: Tell = lambda text: None,
) -> Fit:  # fmt: skip
    """Fit ``y`` by the columns of ``X`` and an intercept. ``None`` means estimated.

    A fixed ``alpha < 0`` has no normalizable density: the mean loss is minimized instead, and ``scale`` must be fixed.
    Refused are too few rows, columns that say nothing, and fits that the data leave without an answer.
    """
    n, k = X.shape[0], X.shape[1] + 1
    estimated = ["alpha"] * (alpha is None) + ["the scale"] * (scale is None)
    if n < k + len(estimated):
        count = f"{k - 1} coefficient{'s' * (k > 2)}, the intercept" + "".join(f", {name}" for name in estimated)
        raise UserError(f"{n} row{'s' * (n > 1)} cannot determine {k + len(estimated)} parameters ({count})")
    _check_columns(X, y, names)

    regressor = RobustRegressor("auto" if alpha is None else alpha, "auto" if scale is None else scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the report says it
        try:
            solution = regressor.fit(X, y, callback=lambda known: tell(known.message)).result_
        except ValueError as error:
            raise UserError(_in_words(str(error), names)) from None
    tell("standard errors")
    errors = regressor.standard_errors(X, names=names)
    if math.isinf(errors.condition):
        raise UserError(errors.doubts[0])
    if solution.exact_rows and solution.ols_rms == 0:
        raise UserError(
            "the columns reproduce the target exactly: least squares leaves nothing but rounding, so the scale has no "
            "estimate; give --scale NUMBER to fit all the same"
        )
    if solution.exact_rows:
        raise UserError(
            f"the scale shrinks to zero: {solution.exact_rows} of {n} rows lie exactly on one fit, and the "
            "likelihood grows without bound there; give --scale NUMBER, the size of residual that is not yet an outlier"
        )

    is_loss = alpha is not None and alpha < 0
    log_likelihood = None if is_loss else -n * solution.value
    sigma = math.sqrt(n / (n - k)) * solution.ols_rms if n > k else None
    # alpha = 2 is the normal density, so least squares gets its likelihood from the same function.
    normal = float(fr.nll(solution.ols_rms, 2.0, solution.ols_rms)) if solution.ols_rms > 0 else None
    bound = dict(zip(solution.alpha_range, ("lower", "upper"), strict=True))
    return Fit(
        names=[INTERCEPT, *names],
        coefficients=np.concatenate(([solution.intercept], solution.coefficients)),
        errors=errors.robust,
        margins=errors.margins(errors.robust),
        df=errors.df,
        condition=errors.condition,
        doubts=errors.doubts,
        alpha=solution.alpha,
        alpha_estimated=alpha is None,
        alpha_range=solution.alpha_range,
        alpha_at_bound=next((b for a, b in bound.items() if alpha is None and abs(solution.alpha - a) < 1e-6), None),
        scale=solution.scale,
        scale_estimated=scale is None,
        objective="loss" if is_loss else "nll",
        value=solution.value,
        log_likelihood=log_likelihood,
        aic=None if log_likelihood is None else 2 * (k + len(estimated)) - 2 * log_likelihood,
        gradient=solution.gradient,
        iterations=solution.iterations,
        converged=solution.converged,
        ols_coefficients=np.concatenate(([solution.ols_intercept], solution.ols_coefficients)),
        ols_errors=errors.ols,
        ols_margins=errors.margins(errors.ols),
        ols_sigma=sigma,
        ols_log_likelihood=None if normal is None else -n * normal,
        ols_aic=None if normal is None else 2 * (k + 1) + 2 * n * normal,
        residuals=solution.residuals,
        weights=solution.weights,
    )


def _in_words(message: str, names: list[str]) -> str:
    """The regressor's message with y and the columns of X called by their names in the file."""
    message = re.sub(r"^X\[:, (\d+)\]", lambda match: f"column {names[int(match[1])]!r}", message)
    return re.sub("^y ", "the target ", message)


def _check_columns(X: Doubles, y: Doubles, names: list[str]) -> None:
    """Refuse columns that do not vary, or beyond what leaves coefficients and their errors in a double's range."""
    spreads = []
    for column, what in [(y, "the target"), *((X[:, j], f"column {name!r}") for j, name in enumerate(names))]:
        low, high = float(column.min()), float(column.max())
        if low == high:
            raise UserError(f"{what} is constant ({low:g}), so it says nothing beside the intercept")
        if max(high, -low) > LARGEST or high - low < 1 / LARGEST:
            raise UserError(
                f"{what} runs from {low:.3g} to {high:.3g}: only sizes from {1 / LARGEST:g} to {LARGEST:g} can be "
                "fitted, so give it in another unit"
            )
        spreads.append(high - low)
        power = math.log10(spreads[0]) - math.log10(spreads[-1])
        if abs(power) > math.log10(LARGEST):
            raise UserError(
                f"the target varies by {spreads[0]:.3g} and {what} by {spreads[-1]:.3g}: a coefficient of about "
                f"1e{power:+.0f} is beyond a double's range, so give one of them in another unit"
            )
