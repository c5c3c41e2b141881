"""Iteratively reweighted least squares for linear models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from .. import loss
from ._arrays import called, count, ended, finite_loss, number, relative_weight, weightless
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
        Shape in [-inf, inf], and c > 0 in the units of y: often ``efficiency_scale(alpha)`` times a robust estimate of
        the noise, such as 1.4826 times the median absolute residual of a fit with alpha = 1.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a row out.
    start : array, shape (k,), optional
        Coefficients to begin with; without, those of least squares. Below alpha = 1 the problem has several minima, and
        the start decides: see `gnc`.
    tol : float
        The loop ends where a step changes the fitted values by less than tol c, in root mean square.
    maxiter : int
    callback : callable, optional
        Called as ``callback(intermediate_result)`` with what the result would be, after each iteration; StopIteration
        ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, the coefficients; ``fun``, the sum; ``residuals`` y - X x; ``weights``, c^2 psi(r)/r, 1 at r = 0, without
        the rows' own; ``nit``, ``success``, ``status`` (0 converged, 1 maxiter, 3 nothing has a weight, 99 stopped),
        ``message``.

    Raises
    ------
    TypeError, ValueError
        For arrays of other libraries or shapes, NaN or infinity where the weight is not 0, parameters out of range, and
        residuals whose loss is infinite (alpha > 2).

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
    alpha, scale = number("alpha", alpha), number("scale", scale, positive=True)
    tol, maxiter, stops = number("tol", tol, positive=True), count("maxiter", maxiter), called(callback)
    model = LinearModel(X, y, weights)
    xp, weights = model.xp, model.weights
    tol = max(tol, 8 * model.rounding() / scale)
    gamma = model.solve(None) if start is None else model.gamma(start)

    def objective(residuals: Any) -> float:
        return float(loss(residuals, alpha, scale, reduction="sum", weights=weights))

    with np.errstate(over="ignore"):  # alpha > 2, and said below
        residuals = model.residuals(gamma)
        value, nit, status = objective(residuals), 0, 1
    finite_loss(value, alpha, scale)

    def result() -> OptimizeResult:
        found = model.all_residuals(gamma)
        relative = relative_weight(found, alpha, scale)
        return OptimizeResult(x=model.coefficients(gamma), fun=value, residuals=found, weights=relative, nit=nit)

    while status == 1 and nit < maxiter:
        relative = relative_weight(residuals, alpha, scale)
        if weightless(relative):
            status = 3
            break
        nit += 1
        step = model.step(relative, residuals)
        for _ in range(_HALVINGS):
            size = float(xp.sqrt((step * step).sum() / residuals.size)) / scale
            moved = residuals - model.Q @ step
            new = objective(moved)
            if new <= value or size <= tol:
                break
            step = step / 2
        if new > value and size > tol:
            status = 2
            break
        gamma, residuals, value = gamma + step, moved, new
        status = 0 if size <= tol else 1
        if stops(result) and status:
            status = 99
    return ended(result(), status, maxiter, small="no step lowers the sum any more")
