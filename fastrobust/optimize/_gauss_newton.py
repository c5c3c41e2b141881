"""Gauss-Newton steps for a user's own residuals, with Triggs' correction for the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from .. import curvature, loss, weight
from ._arrays import (
    called,
    count,
    ended,
    finite_loss,
    floats,
    library,
    number,
    relative_weight,
    weightless,
    weights_for,
)

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
    residuals = floats(xp, "residuals", residuals)
    alpha, scale = number("alpha", alpha), number("scale", scale, positive=True)
    z = residuals / scale  # no square of the scale overflows
    first, second = weight(z, alpha, 1.0), curvature(z, alpha, 1.0)
    rows = xp.sqrt(xp.where(second > _SECOND * first, second, first))
    return first / xp.where(rows > 0, rows, 1) / scale, rows / scale


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
        The loop ends where a step is smaller than xtol times x, or where the cosine between the corrected residuals and
        every column of the corrected Jacobian is at most gtol.
    maxiter : int
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each step taken; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``; ``fun``, the sum (SciPy's cost is c^2 times that); ``residuals``; ``jac``, shape (n, k); ``grad`` of the
        sum, shape (k,); ``weights``, c^2 psi(r)/r, without your own; ``nit``, ``nfev``, ``njev``, ``success``,
        ``status`` (0 small gradient, 1 maxiter, 2 small steps, 3 nothing has a weight, 99 stopped), ``message``.

    Raises
    ------
    TypeError, ValueError
        For shapes that do not fit, residuals that are not finite at x0 or whose loss is infinite there (alpha > 2), a
        Jacobian that is not finite, and parameters out of range.

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
    alpha, scale = number("alpha", alpha), number("scale", scale, positive=True)
    xtol, gtol = number("xtol", xtol, positive=True), number("gtol", gtol, positive=True)
    maxiter, stops = count("maxiter", maxiter), called(callback)
    for name, function in (("fun", fun), ("jac", jac)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {function!r}")
    xp = library("x0", x0)
    x = xp.atleast_1d(floats(xp, "x0", x0)).copy()
    if x.ndim != 1 or not x.size or not bool(xp.isfinite(x).all()):
        raise ValueError(f"x0 must be finite, of shape (k,), got {x0!r}")

    def objective(found: Any) -> float:
        with np.errstate(over="ignore"):  # alpha > 2, and far from the minimum
            return float(loss(found, alpha, scale, reduction="sum", weights=weights))

    def evaluated(at: Any) -> tuple[Any, float]:
        found = floats(xp, "fun(x)", fun(at)).copy()  # whose memory fun may use again
        if found.ndim != 1 or found.shape != shape[:1]:
            raise ValueError(f"fun must return residuals of shape {shape[:1]}, got {found.shape}")
        return found, objective(found)

    def linearized() -> tuple[Any, Any, Any]:
        """The Jacobian, and corrected residuals and Jacobian, at x."""
        plain = floats(xp, "jac(x)", jac(x))
        if plain.shape != shape:
            raise ValueError(f"jac must return shape {shape}, got {plain.shape}")
        left, right = triggs_factors(residuals, alpha, scale)
        if weights is None:
            target, rows = left * residuals, right[:, None] * plain
        else:
            used, root = weights > 0, xp.sqrt(weights)
            target = xp.where(used, root * left * residuals, 0)
            rows = xp.where(used[:, None], (root * right)[:, None] * plain, 0)
        if not bool(xp.isfinite(rows).all()):
            raise ValueError("jac(x) holds NaN or infinity where the weight is not 0")
        return plain, target, rows

    residuals = floats(xp, "fun(x0)", fun(x.copy())).copy()
    if residuals.ndim != 1 or not residuals.size:
        raise ValueError(f"fun must return residuals of shape (n,), got {residuals.shape}")
    shape = (residuals.size, x.size)
    weights = weights_for(xp, weights, residuals)
    if not bool(xp.isfinite(residuals if weights is None else residuals[weights > 0]).all()):
        raise ValueError("fun(x0) holds NaN or infinity: begin elsewhere, or give such residuals a weight of 0")
    value = objective(residuals)
    finite_loss(value, alpha, scale)
    precision = 8 * float(np.finfo(residuals.dtype).eps)
    plain, target, rows = linearized()
    nit, nfev, njev, status, damping, growth = 0, 1, 1, 1, 1e-4, 2.0

    def result() -> OptimizeResult:
        relative = relative_weight(residuals, alpha, scale)
        return OptimizeResult(
            x=x, fun=value, residuals=residuals, jac=plain, grad=rows.T @ target, weights=relative,
            nit=nit, nfev=nfev, njev=njev,
        )  # fmt: skip

    while status == 1:
        norms = xp.sqrt((rows * rows).sum(axis=0))
        norms = xp.where(norms > 0, norms, 1)
        grad = rows.T @ target
        if weightless(relative_weight(residuals if weights is None else residuals[weights > 0], alpha, scale)):
            status = 3
        elif float(abs(grad / norms).max()) <= gtol * float(xp.sqrt((target * target).sum())):
            status = 0
        if status != 1 or nit == maxiter:
            break
        nit += 1
        # The damped step as a least-squares problem of its own, which squares no condition number.
        damped = xp.concatenate((rows / norms, math.sqrt(damping) * xp.eye(x.size, dtype=rows.dtype)))
        step = -xp.linalg.lstsq(damped, xp.concatenate((target, xp.zeros_like(grad))), rcond=None)[0] / norms
        predicted = -float(step @ grad) - 0.5 * float(((rows @ step) ** 2).sum())
        moved, lower = evaluated(x + step)
        nfev += 1
        # Where the sum has no digits left to show the reduction, the last step is taken on trust.
        last = max(predicted, abs(value - lower)) <= precision * value
        if float(xp.sqrt((step * step).sum())) <= xtol * float(xp.sqrt((x * x).sum())) or last:
            status = 2
        if lower < value or last:
            ratio = min((value - lower) / predicted, 1.0) if predicted > 0 else 0.0
            damping, growth = damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
            x, residuals, value = x + step, moved, lower
            plain, target, rows = linearized()
            njev += 1
            if stops(result) and status == 1:
                status = 99
        else:
            damping, growth = damping * growth, 2 * growth
    return ended(result(), status, maxiter, small="the steps are too small to matter")
