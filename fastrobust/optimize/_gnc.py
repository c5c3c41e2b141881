"""Graduated non-convexity: from a convex problem, step by step, to a robust one with many minima."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from scipy.optimize import OptimizeResult

from ._arrays import called, count, ended, floats, library, number, relative_weight, weightless
from ._whitened import LinearModel

_FACTOR = 1.4  # of the control parameter, from stage to stage
_FLATTEST = -64.0  # for alpha = -inf, which no schedule can interpolate; the last stages have alpha itself
_BINARY = 1e-6  # weights of truncated least squares that near 0 or 1 are decided
SCHEDULES = ("alpha", "geman-mcclure", "truncated")


def gnc(
    X: Any,
    y: Any,
    alpha: float | None = None,
    scale: float | None = None,
    *,
    schedule: str = "alpha",
    weights: Any = None,
    tol: float = 1e-8,
    maxiter: int = 200,
    callback: Callable[[OptimizeResult], Any] | None = None,
) -> OptimizeResult:
    """A robust fit that is not lost to gross outliers: sum_i weights_i rho(r_i, alpha, scale), through easier ones.

    For a linear model, ``gnc(X, y, alpha, scale)``; for your own solver of a weighted least-squares problem,
    ``gnc(solve, residuals, alpha, scale)``.

    Parameters
    ----------
    X : array of NumPy or CuPy, shape (n, k); or callable
        Rows of a design; or ``solve(weights)``, which returns the solution that makes sum_i weights_i r_i^2 least, of
        any kind; weights have shape (n,), and the first are None, for all equal.
    y : array, shape (n,); or callable
        Or ``residuals(solution)``, which returns an array of shape (n,): distances, signed or not.
    alpha : float, for the schedule in alpha
        The shape to end with, at most 2.
    scale : float
        c > 0, in the units of the residuals. For "truncated", the largest residual of an inlier.
    schedule : {"alpha", "geman-mcclure", "truncated"}
        What changes from stage to stage: alpha_k = (alpha mu + 2)/(mu + 1), with mu from 1/100 upwards by 1.4; at
        alpha = -2 the scale c sqrt(mu), with mu downwards to 1 from where the loss is convex at all residuals; or the
        surrogate of truncated least squares, mu upwards until every weight is 0 or 1.
    weights : array, shape (n,), optional
        >= 0, for linear models; 0 leaves a row out.
    tol : float
        The loop ends where, at the end of the schedule, no weight changes by more than tol.
    maxiter : int
        Of all stages together, each of which solves one weighted problem.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each stage; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, coefficients or solution; ``residuals``; ``weights``, shape (n,), from 0 for an outlier to 1; ``mu``, the
        control parameter; ``nit``, ``success``, ``message`` and ``status`` (0 converged, 1 maxiter, 3 nothing has a
        weight, 99 stopped).

    Raises
    ------
    TypeError, ValueError
        For arrays of other libraries or shapes, NaN or infinity, an unknown schedule, and parameters out of range.

    Notes
    -----
    H. Yang et al., Graduated Non-Convexity for Robust Spatial Perception, RA-L 2020, has the last two schedules; its
    bound of inliers for Geman-McClure is 2c. The first does with the shape what those do with the scale. A scale three
    to five times the noise's leaves inliers their weight.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import gnc
    >>> rng = np.random.default_rng(0)
    >>> t = rng.uniform(0, 10, 200)
    >>> y = 2 * t + 1 + 0.1 * rng.standard_normal(200)
    >>> y[:120] = rng.uniform(0, 100, 120)  # 60 % outliers
    >>> print(gnc(np.c_[t, np.ones(200)], y, scale=0.5, schedule="truncated").x.round(1))
    [2. 1.]
    """
    if scale is None:
        raise TypeError("scale is missing: three to five times the noise of the inliers")
    scale, tol, maxiter = (
        number("scale", scale, positive=True),
        number("tol", tol, positive=True),
        count("maxiter", maxiter),
    )
    stops = called(callback)
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(map(repr, SCHEDULES))}, got {schedule!r}")
    if schedule == "geman-mcclure":
        alpha = -2.0 if alpha is None else number("alpha", alpha)
        if alpha != -2:
            raise ValueError(f"alpha must be -2 or left out for Geman-McClure, got {alpha:g}")
    elif schedule == "truncated":
        if alpha is not None:
            raise ValueError(f"alpha must be left out for truncated least squares, got {alpha!r}")
    else:
        alpha = number("alpha", alpha)
        if alpha > 2:
            raise ValueError(f"alpha must be at most 2, got {alpha:g}: above, the problem is convex, see irls")
    if callable(X) != callable(y):
        raise TypeError("give both a design and a target, or both a solver and a function for residuals")
    if callable(X) and weights is not None:
        raise TypeError("weights are for linear models: multiply by them in your own solver")
    linear = None if callable(X) else LinearModel(X, y, weights)
    solve, residuals_of = (X, y) if linear is None else (linear.solve, linear.residuals)

    solution = solve(None)
    xp = library("residuals(solution)", first := residuals_of(solution))
    residuals = _checked(xp, first, None)
    if linear is not None:
        tol = max(tol, 64 * linear.rounding() / scale)
    current, relative = Stage.first(alpha, scale, schedule, float(abs(residuals).max())), None
    nit, status = 0, 1

    def result() -> OptimizeResult:
        x = solution if linear is None else linear.coefficients(solution)
        found = residuals if linear is None else linear.all_residuals(solution)
        return OptimizeResult(x=x, residuals=found, weights=current.weights(xp, found), mu=current.mu, nit=nit)

    while status == 1 and nit < maxiter:
        before, relative = relative, current.weights(xp, residuals)
        if weightless(relative):
            status = 3
            break
        nit += 1
        settled = before is not None and float(abs(relative - before).max()) <= tol
        decided = bool((xp.minimum(relative, 1 - relative) <= _BINARY).all())
        solution = solve(relative.copy())
        residuals = _checked(xp, residuals_of(solution), residuals)
        if current.last and settled:
            status = 0
        current = current.next(decided)
        if stops(result) and status:
            status = 99
    return ended(result(), status, maxiter)


def _checked(xp: Any, found: Any, before: Any) -> Any:
    """Residuals, finite and as many as before."""
    found = floats(xp, "residuals(solution)", found)
    if found.ndim != 1 or not found.size or (before is not None and found.shape != before.shape):
        expected = "(n,)" if before is None else before.shape
        raise ValueError(f"residuals must return shape {expected}, got {found.shape}")
    if not bool(xp.isfinite(found).all()):
        raise ValueError("residuals(solution) holds NaN or infinity: leave such elements out")
    return found


class Stage(NamedTuple):
    """A stage of a schedule."""

    alpha: float | None
    scale: float
    schedule: str
    mu: float
    last: bool

    @classmethod
    def first(cls, alpha: float | None, scale: float, schedule: str, largest: float) -> Stage:
        ratio = (largest / scale) ** 2
        if schedule == "alpha":
            return cls(alpha, scale, schedule, 0.01, alpha == 2)
        if schedule == "geman-mcclure":  # z^2 < 4/3: the loss is convex there
            return cls(-2.0, scale, schedule, max(1.0, 0.75 * ratio), 0.75 * ratio <= 1)
        return cls(None, scale, schedule, 1 / max(2 * ratio - 1, 1e-300), ratio <= 1)

    def weights(self, xp: Any, residuals: Any) -> Any:
        """1 for a residual of 0."""
        alpha, scale, schedule, mu, last = self
        if alpha is None:
            size = xp.maximum(abs(residuals) / scale, 1e-30)
            return xp.clip(math.sqrt(mu * (mu + 1)) / size - mu, 0, 1)
        if schedule == "alpha" and not last:
            alpha = (max(alpha, _FLATTEST) * mu + 2) / (mu + 1)
        wide = math.sqrt(mu) if schedule == "geman-mcclure" else 1.0
        return relative_weight(residuals / scale, alpha, wide)

    def next(self, decided: bool) -> Stage:
        """The next one; the last repeats itself."""
        if self.last:
            return self
        if self.schedule == "geman-mcclure":
            mu = max(self.mu / _FACTOR, 1.0)
            return self._replace(mu=mu, last=mu == 1)
        mu = self.mu * _FACTOR
        if self.schedule == "alpha":
            return self._replace(mu=mu, last=mu > 100)
        return self._replace(mu=self.mu if decided else mu, last=decided)
