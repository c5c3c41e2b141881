"""Iteratively reweighted least squares for linear models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scipy.optimize import OptimizeResult

from .. import loss, weight
from ._arrays import ended, parameters, reported
from ._whitened import LinearModel

_HALVINGS = 30


def irls(
    X: Any,
    y: Any,
    alpha: float,
    scale: float,
    *,
    weights: Any = None,
    start: Any = None,
    tol: float = 1e-8,
    maxiter: int = 100,
    callback: Callable[[OptimizeResult], Any] | None = None,
) -> OptimizeResult:
    """Coefficients of a linear model: the minimum of sum_i weights_i rho(y_i - x_i' b, alpha, scale).

    Parameters
    ----------
    X : array of NumPy or CuPy, shape (n, k)
        Rows of a design; a column of ones for an intercept. CuPy arrays stay on their device.
    y : array, shape (n,)
    alpha, scale : float
        Shape in [-inf, inf], and c > 0 in the units of y.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a row out.
    start : array, shape (k,), optional
        Coefficients to begin with; without, those of least squares. Below alpha = 1 the problem has several minima, and
        the start decides: see `gnc`.
    tol : float
        The loop ends where a step changes the fitted values by less than tol c, in root mean square.
    maxiter : int
    callback : callable, optional
        Called as ``callback(result)`` with what the result would be, after each iteration; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, the coefficients; ``fun``, the sum; ``residuals``; ``weights``, c^2 psi(r)/r, 1 at r = 0; ``nit``,
        ``success``, ``status`` (0 converged, 1 maxiter, 99 stopped), ``message``.

    Raises
    ------
    TypeError, ValueError
        For arrays of other libraries or shapes, NaN or infinity where the weight is not 0, and parameters out of range.

    Notes
    -----
    Each step solves a weighted least-squares problem in coordinates in which X'X = 1 (Holland and Welsch 1977). For
    alpha <= 2 it cannot raise the sum; beyond, steps are halved until they do not. Dependent columns: the least norm.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import irls
    >>> t = np.arange(20.0)
    >>> y = 2 * t + 1
    >>> y[3] = 500
    >>> print(irls(np.c_[t, np.ones(20)], y, alpha=0.0, scale=0.1).x.round(3))
    [2. 1.]
    """
    parameters(alpha, scale, tol, maxiter)
    model = LinearModel(X, y, weights)
    xp, weights = model.xp, model.weights
    gamma = model.solve(None) if start is None else model.gamma(start)

    def objective(residuals: Any) -> float:
        return float(loss(residuals, alpha, scale, reduction="sum", weights=weights))

    def relative(residuals: Any) -> Any:
        return weight(residuals, alpha, scale) * scale**2

    residuals = model.residuals(gamma)
    value, nit, status = objective(residuals), 0, 1

    def result() -> OptimizeResult:
        found = model.all_residuals(gamma)
        return OptimizeResult(x=model.coefficients(gamma), fun=value, residuals=found, weights=relative(found), nit=nit)

    while status == 1 and nit < maxiter:
        nit += 1
        step = model.step(relative(residuals), residuals)
        size = float(xp.sqrt((step * step).sum() / residuals.size)) / scale
        if not math.isfinite(size):
            status = 3
            break
        for _ in range(_HALVINGS):
            moved = residuals - model.design.Q @ step
            new = objective(moved)
            if new <= value or size <= tol:
                break
            step, size = step / 2, size / 2
        gamma, residuals, value = gamma + step, moved, min(new, value)
        status = 0 if size <= tol else 1
        if callback is not None and reported(callback, result()):
            status = 99
    return ended(
        result(),
        status,
        {
            0: "converged",
            1: f"maxiter = {maxiter} iterations were not enough",
            3: "no residual has a weight: the scale is too small for the start",
            99: "stopped by the callback",
        },
    )
