"""Iteratively reweighted least squares for linear models."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import OptimizeResult

from .._loss import Loss
from .._types import Array, ArrayLike
from ._arrays import SADDLE, called, count, double, ended, number, typical
from ._unit_loss import chosen
from ._whitened import LinearModel

_HALVINGS = 30
_SAME = 1e-12  # of the sum: no change of it
_ROUNDED = 1e-12  # of the largest target, where a step may be of the size of rounding
_STALLED = 0.9  # of the step before: what is left where there is no progress
_UNRESOLVED = 0.1  # of the residuals that count: where rounding moves fitted values by more, nothing was found


def irls(
    X: ArrayLike,
    y: ArrayLike,
    alpha: float | None = None,
    scale: float | None = None,
    *,
    loss: Loss | None = None,
    weights: ArrayLike | None = None,
    x0: ArrayLike | None = None,
    tol: float = 1e-8,
    maxiter: int = 100,
    callback: Callable[[OptimizeResult], object] | None = None,
) -> OptimizeResult:
    """Coefficients of a linear model: the minimum of sum_i weights_i rho(y_i - x_i' b, alpha, scale).

    Or of sum_i weights_i loss((y_i - x_i' b)/scale).

    Parameters
    ----------
    X : array of NumPy or CuPy, shape (n, k)
        Rows of a design; a column of ones for an intercept. CuPy arrays stay on their device.
    y : array, shape (n,)
    alpha, scale : float
        Shape in [-inf, inf], and c > 0 in the units of y: often ``efficiency_scale(alpha)`` times a robust estimate of
        the noise, such as 1.4826 times the median absolute residual of a fit with alpha = 1.
    loss : fastrobust.losses.Loss, in place of alpha
        One of a residual alone, of the catalogue or of your own, with defaults for all its parameters (see
        `Loss.with_defaults`); the scale is 1 then, unless it is given. Its weights psi(x)/x have to be finite, which
        those of `losses.mae` are not.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a row out.
    x0 : array, shape (k,), optional
        Coefficients to begin with; without, those of least squares. Below alpha = 1 the problem has several minima, and
        the start decides: see `gnc`.
    tol : float
        The loop ends where a step changes the fitted values by less than tol c, in root mean square with the weights
        of the rows, so that rows that have none any more do not count; or by less than rounding.
    maxiter : int
    callback : callable, optional
        Called as ``callback(intermediate_result)`` with what the result would be, after each iteration; StopIteration
        ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, the coefficients; ``fun``, the sum; ``residuals`` y - X x; ``weights``, c^2 psi(r)/r, 1 at r = 0 (of a
        loss: psi(z)/z, z = r/scale, over its value at 0 unless that is 0), without the rows' own; ``nit``, ``success``,
        ``message``, ``status`` (successes: 0 converged, 2 as far as rounding lets it; others: 1 maxiter, 3 nothing has
        a weight, 4 rows with a weight do not determine all coefficients, 5 stationary but no minimum, 6 no step lowers
        the sum, 99 stopped).

    Raises
    ------
    TypeError, ValueError
        For arrays of other libraries or shapes, NaN or infinity where the weight is not 0, parameters out of range,
        residuals whose loss is infinite (alpha > 2), coefficients that the dtype cannot hold; for alpha and a loss
        together, a loss with more data than a residual, without defaults, with weights that are infinite or negative,
        or made of straight pieces.

    Notes
    -----
    Each step solves a weighted least-squares problem in coordinates in which X'X = 1 (Holland and Welsch 1977). For
    alpha <= 2, and for a loss whose weights fall (`Loss.traits`), it cannot raise the sum; for others, steps by the
    curvature, where it is positive, are halved until they do not. Dependent columns: the least norm. Computed in
    float64, in units of the scale and of the columns, whatever the dtype and the units.

    The loss bounds what a residual counts, not what a row of leverage does: least squares passes close to a far row of
    X, whose residual is then small. Below alpha = 1 start from a fit that such rows have not bent, such as that of
    `RobustRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import irls
    >>> t = np.arange(20.0)
    >>> y = 2 * t + 1
    >>> y[3] = 500
    >>> print(irls(np.c_[t, np.ones(20)], y, alpha=0.0, scale=0.1).x.round(3))
    [2. 1.]
    >>> from fastrobust import losses
    >>> print(irls(np.c_[t, np.ones(20)], y, loss=losses.huber.with_defaults(delta=0.001)).x.round(3))
    [2. 1.]
    """
    rho, scale = chosen("irls", alpha, scale, loss)
    tol, maxiter, stops = number("tol", tol, positive=True), count("maxiter", maxiter), called(callback)
    model = LinearModel(X, y, weights, scale)
    row_weights, unit = model.weights, model.scale
    gamma = model.solve(None) if x0 is None else model.gamma(x0)

    def objective(residuals: Array) -> float:
        return float(rho.value(residuals, unit, reduction="sum", weights=row_weights))

    with np.errstate(over="ignore"):  # alpha > 2, and said below
        residuals = model.residuals(gamma)
        value, nit, status, moves = objective(residuals), 0, 1, math.inf
    rho.finite(value, scale)

    def result() -> OptimizeResult:
        """The result as far as the loop has come, in the units and the dtype of the data."""
        outside = model.all_residuals(gamma)
        with np.errstate(over="ignore"):  # alpha > 2
            # In float64, in which any scale is a number.
            relative = rho.relative(double(outside), scale).astype(outside.dtype)
        return OptimizeResult(x=model.coefficients(gamma), fun=value, residuals=outside, weights=relative, nit=nit)

    while status == 1 and nit < maxiter:
        relative = rho.weights(residuals, unit)
        if rho.weightless(model.counted(relative)):
            # Near 0 a loss may be level.
            status = 3 if value > objective(model.xp.zeros_like(residuals)) else 0
            break
        nit += 1
        bend = rho.bend(model.z(residuals), relative)
        lately = moves
        gamma, step, moves = model.step(gamma, bend, relative * residuals)
        moves /= unit
        small = moves <= tol
        if not small and _STALLED * lately < moves <= _ROUNDED * model.far / unit:
            floor = model.rounding(bend) / unit
            usual = typical(model.xp, bend * model.share, model.z(residuals))
            status = 1 if moves > floor else 2 if rho.square or floor <= _UNRESOLVED * usual else 6
        for _ in range(_HALVINGS):
            moved = model.residuals(gamma + step)
            new = objective(moved)
            if new <= max(value * (1 + _SAME), value * (1 - _SAME)) or small or status != 1:
                break
            step = step / 2
        else:
            status = 6
            break
        gamma, residuals, value = gamma + step, moved, new
        status = 0 if small else status
        if stops(result) and status == 1:
            status = 99
    if status in (0, 2) and not model.determined:
        status = 4
    elif status in (0, 2) and not rho.convex and model.saddle(rho.curvature(model.z(residuals))) < SADDLE:
        status = 5
    return ended(result(), status, maxiter)
