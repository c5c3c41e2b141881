"""Gauss-Newton steps for a user's own residuals, with Triggs' correction for the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scipy.optimize import OptimizeResult

from .. import curvature, loss, weight
from ._arrays import ended, floats, library, parameters, reported, weights_for

_SECOND = 1e-3  # of the first-order term: where less is left of the curvature, the first-order term alone is used


def triggs_factors(residuals: Any, alpha: float, scale: float) -> tuple[Any, Any]:
    """Factors that make a least-squares problem of a robust one, locally: for the residuals, and for rows of J.

    Parameters
    ----------
    residuals : array of NumPy or CuPy, any shape
    alpha, scale : float
        Shape in [-inf, inf], and c > 0 in the units of the residuals.

    Returns
    -------
    residual_factor, jacobian_factor : arrays of the residuals' shape
        With r~ = residual_factor r and J~ = jacobian_factor[:, None] J, the gradient J~' r~ is that of sum rho(r), and
        J~' J~ the Gauss-Newton approximation of its Hessian: rho'' J J' where rho'' is positive, and the first-order
        psi/r J J' elsewhere, so that no outlier makes it indefinite.

    Notes
    -----
    Triggs et al., Bundle Adjustment: A Modern Synthesis, 1999, section 4.3. Ceres Solver has the same corrector, and
    drops the second-order term wherever the loss bends down, for alpha < 2 everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import triggs_factors
    >>> of_residuals, of_rows = triggs_factors(np.array([0.0, 1.0, 10.0]), 0.0, 1.0)
    >>> print((of_residuals * of_rows).round(4), of_rows.round(4))
    [1.     0.6667 0.0196] [1.     0.4714 0.14  ]
    """
    xp = library("residuals", residuals)
    first, second = weight(residuals, alpha, scale), curvature(residuals, alpha, scale)
    rows = xp.sqrt(xp.where(second > _SECOND * first, second, first))
    return first / xp.where(rows > 0, rows, 1), rows


def gauss_newton(
    fun: Callable[[Any], Any],
    x0: Any,
    jac: Callable[[Any], Any],
    alpha: float,
    scale: float,
    *,
    weights: Any = None,
    xtol: float = 1e-10,
    gtol: float = 1e-10,
    maxiter: int = 100,
    callback: Callable[[OptimizeResult], Any] | None = None,
) -> OptimizeResult:
    """A minimum of sum_i weights_i rho(f_i(x), alpha, scale) for residuals f and their Jacobian.

    Parameters
    ----------
    fun : callable
        From x, shape (k,), to the residuals, shape (n,), an array of NumPy or CuPy.
    x0 : array, shape (k,)
        Where to begin. Below alpha = 1 the problem has several minima, and this decides.
    jac : callable
        From x to the Jacobian, shape (n, k).
    alpha, scale : float
        Shape in [-inf, inf], and c > 0 in the units of the residuals.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a residual out.
    xtol, gtol : float
        The loop ends where a step is smaller than xtol times x, or where the gradient is: its product with every column
        of the Jacobian is a cosine, and the largest at most gtol.
    maxiter : int
    callback : callable, optional
        Called as ``callback(result)`` after each step taken; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``; ``fun``, the sum; ``residuals``; ``grad``, shape (k,); ``weights``, c^2 psi(r)/r; ``nit``, ``nfev``,
        ``njev``, ``success``, ``status`` (0 small gradient, 1 maxiter, 2 small step, 99 stopped), ``message``.

    Raises
    ------
    TypeError, ValueError
        For shapes that do not fit, residuals that are not finite at x0, and parameters out of range.

    Notes
    -----
    Levenberg and Marquardt's damping, in units of the columns' norms, around the steps of `triggs_factors`; a step is
    taken if it lowers the sum, and the damping follows the ratio of actual to predicted reduction (Nielsen 1999).

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import gauss_newton
    >>> t = np.linspace(0, 4, 60)
    >>> y = 3 * np.exp(-0.5 * t)
    >>> y[::6] += 2
    >>> found = gauss_newton(
    ...     lambda p: p[0] * np.exp(-p[1] * t) - y, [1.0, 1.0],
    ...     lambda p: np.c_[np.exp(-p[1] * t), -t * p[0] * np.exp(-p[1] * t)], alpha=-2.0, scale=0.1)
    >>> print(found.x.round(3))
    [3.  0.5]
    """
    parameters(alpha, scale, xtol, maxiter)
    start = fun(x0)
    xp = library("fun(x0)", start)
    x = xp.asarray(x0)
    x = x.astype(float) if x.dtype.kind != "f" else x
    if x.ndim != 1:
        raise ValueError(f"x0 must have shape (k,), got {x.shape}")

    def evaluated(at: Any, found: Any) -> tuple[Any, float]:
        found = floats(xp, "fun(x)", found)
        if found.ndim != 1:
            raise ValueError(f"fun must return residuals of shape (n,), got {found.shape}")
        return found, float(loss(found, alpha, scale, reduction="sum", weights=weights))

    residuals = floats(xp, "fun(x0)", start)
    weights = weights_for(xp, weights, residuals)
    residuals, value = evaluated(x, residuals)
    if not math.isfinite(value):
        raise ValueError("fun(x0) holds NaN or infinity: begin elsewhere, or give such residuals a weight of 0")
    nit, nfev, njev, status, damping, growth = 0, 1, 0, 1, 1e-4, 2.0
    grad: Any = None

    def result() -> OptimizeResult:
        relative = weight(residuals, alpha, scale) * scale**2
        return OptimizeResult(
            x=x, fun=value, residuals=residuals, grad=grad, weights=relative, nit=nit, nfev=nfev, njev=njev
        )

    new = True  # whether x is one where the Jacobian is not known yet
    while status == 1 and nit < maxiter:
        if new:
            rows = floats(xp, "jac(x)", jac(x))
            njev += 1
            if rows.shape != (residuals.size, x.size):
                raise ValueError(f"jac must return shape {(residuals.size, x.size)}, got {rows.shape}")
            left, right = triggs_factors(residuals, alpha, scale)
            if weights is not None:
                root = xp.sqrt(weights)
                left, right = left * root, right * root
                rows, known = xp.where((weights > 0)[:, None], rows, 0), xp.where(weights > 0, residuals, 0)
            else:
                known = residuals
            target, rows = left * known, right[:, None] * rows
            grad = rows.T @ target
            norms = xp.sqrt((rows * rows).sum(axis=0))
            norms = xp.where(norms > 0, norms, 1)
            size = float(xp.sqrt((target * target).sum()))
            if float(abs(grad / norms).max()) <= gtol * size:
                status = 0
                break
        nit += 1
        # The damped step as a least-squares problem of its own, which squares no condition number.
        damped = xp.concatenate((rows / norms, math.sqrt(damping) * xp.eye(x.size, dtype=rows.dtype)))
        step = -xp.linalg.lstsq(damped, xp.concatenate((target, xp.zeros_like(grad))), rcond=None)[0] / norms
        predicted = -float(step @ grad) - 0.5 * float(((rows @ step) ** 2).sum())
        small = float(xp.sqrt((step * step).sum())) <= xtol * (xtol + float(xp.sqrt((x * x).sum())))
        moved, lower = evaluated(x + step, fun(x + step))
        nfev += 1
        new = lower < value
        if new:
            ratio = (value - lower) / predicted if predicted > 0 else 0.0
            x, residuals, value = x + step, moved, lower
            damping, growth = damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
            if callback is not None and reported(callback, result()):
                status = 99
        else:
            damping, growth = damping * growth, 2 * growth
        if small and status == 1:
            status = 2
    return ended(
        result(),
        status,
        {
            0: "the gradient is small",
            1: f"maxiter = {maxiter} iterations were not enough",
            2: "the step is small",
            99: "stopped by the callback",
        },
    )
