"""Gauss-Newton steps for a user's own residuals, with Triggs' correction for the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from .._loss import Loss
from .._types import Array, ArrayLike
from ._arrays import (
    called,
    count,
    double,
    ended,
    exponents,
    floats,
    library,
    number,
    powers,
    typical,
    weights_for,
)
from ._triggs import Corrected, norm
from ._unit_loss import chosen

_TINY = 1e-3  # of what bends the loss: a step that can be the last one
_HELPED = 0.99  # of the gradient: what a step must leave at most where the sum shows no difference
_CLEAR = 1e-6  # of the sum: a reduction that rounding does not hide
_SHORT = 1e-5  # of a residual and of the scale: where two terms of a series are exact
_LOOSE = 1e-2  # damping that shortens no step that matters
_STIFFEST = 1e15  # damping at which steps have no digits left
_EPS = float(np.finfo(np.float64).eps)


def gauss_newton(
    fun: Callable[..., ArrayLike],
    x0: ArrayLike,
    jac: Callable[..., ArrayLike],
    alpha: float | None = None,
    scale: float | None = None,
    *,
    loss: Loss | None = None,
    weights: ArrayLike | None = None,
    xtol: float = 1e-10,
    gtol: float = 1e-10,
    maxiter: int = 100,
    callback: Callable[[OptimizeResult], object] | None = None,
) -> OptimizeResult:
    """A minimum of sum_i weights_i rho(f_i(x), alpha, scale) for residuals f and their Jacobian.

    Or of sum_i weights_i loss(f_i(x)/scale).

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
    loss : fastrobust.losses.Loss, in place of alpha
        As in `irls`; the scale is 1 then, unless it is given.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a residual out.
    xtol, gtol : float
        The loop ends where a step is smaller than xtol times x, in units of the columns, and matters little to the
        residuals, or where the cosine between the corrected residuals and every column of the corrected Jacobian is at
        most gtol, with residuals beyond c counted as c; or where rounding hides any progress.
    maxiter : int
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each step taken; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``; ``fun``, the sum (SciPy's cost is c^2 times that of alpha); ``residuals``; ``jac``, shape (n, k);
        ``grad`` of the sum, shape (k,); ``weights``, as of `irls`, without your own; ``nit``, ``nfev``, ``njev``,
        ``success``, ``message``, ``status`` (successes: 0 small gradient, 2 small steps, or none that rounding lets be
        seen; others: 1 maxiter, 3 nothing has a weight, 4 a column of zeros, 5 stationary but no minimum, 6 no step
        lowers the sum though the gradient is not 0, 99 stopped).

    Raises
    ------
    TypeError, ValueError
        For shapes that do not fit, residuals that are not finite at x0 or whose loss is infinite there (alpha > 2), a
        Jacobian that is not finite, parameters out of range, and losses as in `irls`.

    Notes
    -----
    Levenberg and Marquardt's damping, in units of the columns' norms, around the steps of `triggs_factors`; a step is
    taken if it lowers the sum, and the damping follows the ratio of actual to predicted reduction (Nielsen 1999).
    Computed in float64; ``fun`` gets x in the widest dtype of x0, residuals and Jacobian. The loss bounds what a
    residual counts, not what a row of leverage does: far rows of the Jacobian pull the fit to themselves, and hide.

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
    rho, scale = chosen("gauss_newton", alpha, scale, loss)
    xtol, gtol = number("xtol", xtol, positive=True), number("gtol", gtol, positive=True)
    maxiter, stops = count("maxiter", maxiter), called(callback)
    if scale < np.finfo(np.float64).tiny:
        raise ValueError(f"scale must not be subnormal, got {scale:g}: change the residuals' units")
    for name, function in (("fun", fun), ("jac", jac)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {function!r}")
    xp = library("x0", x0)
    x = xp.atleast_1d(floats(xp, "x0", x0)).copy()
    if x.ndim != 1 or not x.size or not bool(xp.isfinite(x).all()):
        raise ValueError(f"x0 must be finite, of shape (k,), got {x0!r}")

    def losses(residuals: Array) -> Array:
        """The loss of each residual, in float64; their sum has no digits for the others where one is far out."""
        with np.errstate(over="ignore", invalid="ignore"):  # alpha > 2, and far from the minimum
            each = rho.value(double(residuals), inner)
            return each if row_weights is None else xp.where(row_weights > 0, each * row_weights, 0)

    def summed(each: Array) -> float:
        with np.errstate(over="ignore"):
            return float(each.sum())

    def evaluated(at: Array) -> tuple[Any, Any]:
        """Residuals, and the loss of each; None where x has left its range, or residuals are not finite."""
        if not bool(xp.isfinite(at).all()):
            return None, None
        residuals = floats(xp, "fun(x)", fun(at.copy())).copy()  # whose memory fun may use again
        if residuals.ndim != 1 or residuals.shape != shape[:1]:
            raise ValueError(f"fun must return residuals of shape {shape[:1]}, got {residuals.shape}")
        each = losses(residuals)
        return residuals, each if math.isfinite(summed(each)) else None

    def linearized() -> Corrected:
        """The corrected problem near x, with the user's Jacobian there."""
        plain = floats(xp, "jac(x)", jac(x.copy())).copy()
        if plain.shape != shape:
            raise ValueError(f"jac must return shape {shape}, got {plain.shape}")
        return Corrected.near(xp, plain, residuals, share, rho, inner)

    def lost(noise: Array, digits: float) -> float:
        """The change of the sum that such noise in the residuals makes, and the rounding of losses of that sum."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            effect = norm(xp, near.target * noise) + float((noise * noise).sum())
        return effect * near.height**2 * unit**2 + 4 * _EPS * digits

    def reduction(moved: Array, after: Array, moves: Array, noise: Array) -> tuple[float, float]:
        """The amount by which a step lowers the sum, and what rounding does to it, term by term."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            change = xp.where(near.bends > 0, near.bends * ((double(moved) - double(residuals)) / inner), 0)
            # A difference of the size of rounding is that of the linear model, and a small one needs no loss.
            error = abs(change - moves)
            change = xp.where(error <= 8 * noise, moves, change)
            short = abs(change) <= _SHORT * near.bends * xp.maximum(abs(near.z), 1)
            taylor = -(near.target + 0.5 * near.ratio * change) * change * (near.height**2 * unit**2)
            drop = float(xp.where(short, taylor, each - after).sum())
            # Residuals may be known less well than is thought: as far as the model and they differ.
            unclear = xp.where(short, xp.where(error <= 8 * noise, 0, error), noise)
        return drop, 4 * lost(unclear, float(xp.where(short, 0, each).sum()))

    residuals = floats(xp, "fun(x0)", fun(x.copy())).copy()
    if residuals.ndim != 1 or not residuals.size:
        raise ValueError(f"fun must return residuals of shape (n,), got {residuals.shape}")
    shape = (residuals.size, x.size)
    row_weights = weights_for(xp, weights, double(residuals))
    used = residuals if row_weights is None else residuals[row_weights > 0]
    if not bool(xp.isfinite(used).all()):
        raise ValueError("fun(x0) holds NaN or infinity: begin elsewhere, or give such residuals a weight of 0")
    share, unit = None, 1.0
    if row_weights is not None:
        share = xp.sqrt(row_weights)
        unit = float(powers(xp, exponents(xp, share.max())))
        share = share / unit
    # Far within the scale Barron's loss is a square, whose size does not matter, but must not underflow.
    inner = scale
    if rho.alpha is not None:
        inner = min(scale, 2.0**100 * float(abs(double(used)).max()) or scale)
    each = losses(residuals)
    rho.finite(summed(each), scale)
    near = linearized()
    x = x.astype(xp.result_type(x, residuals, near.plain), copy=False)
    eps = max(float(np.finfo(part.dtype).eps) for part in (x, residuals))
    nit, nfev, njev, status, damping, growth = 0, 1, 1, 1, 1e-4, 2.0

    def result() -> OptimizeResult:
        """The result as far as the loop has come, with sum and gradient at the scale that was given."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            relative = rho.relative(double(residuals), scale).astype(residuals.dtype)
            ours = (inner / scale) ** 2
            grad = (near.slope(xp) * (unit**2 * ours)).astype(x.dtype)
        return OptimizeResult(
            x=x, fun=float(each.sum()) * ours, residuals=residuals, jac=near.plain, grad=grad, weights=relative,
            nit=nit, nfev=nfev, njev=njev,
        )  # fmt: skip

    while status == 1:
        counted = double(residuals if row_weights is None else residuals[row_weights > 0])
        if rho.weightless(rho.weights(counted, scale)):
            # Near 0 a loss may be level.
            status = 3 if summed(each) > summed(losses(xp.zeros_like(residuals))) else 0
            break
        # The size of residuals that matter: the scale, or more where all lie beyond.
        squares = near.bends * near.bends
        usual = typical(xp, squares, near.z)
        length = norm(xp, near.bends * xp.minimum(abs(near.z), usual))
        gradient = near.gradient(xp, near)
        if gradient <= gtol * length * near.height:
            status = 0
        if status != 1 or nit == maxiter:
            break
        nit += 1
        step = near.step(xp, damping, usual)
        moves = near.rows @ step
        predicted = -float(moves @ near.target) - 0.5 * float(moves @ moves)
        predicted *= near.height**2 * unit**2
        with np.errstate(over="ignore"):  # `evaluated` knows
            at = (x + near.change(xp, step)).astype(x.dtype)
        moved, after = evaluated(at)
        nfev += 1
        drop, unclear, hidden, blurred = -math.inf, 0.0, False, 0.0
        if after is not None:
            total, drop = float(each.sum()), float((each - after).sum())
            if not (predicted > _CLEAR * total and drop > 0.5 * predicted):
                noise = near.rounding(xp, x, eps)
                drop, unclear = reduction(moved, after, moves, noise)
                # Where the sum has no digits left to show the reduction, the step may be the last one.
                hidden = predicted <= max(lost(noise, total), unclear)
                # As far as a step can be told from what rounding makes of it.
                blurred = norm(xp, xp.sqrt((near.rows * near.rows).T @ (noise * noise)))
        if drop > 0 or (hidden and drop >= -unclear):
            undamped = 1 + damping
            size = undamped * norm(xp, step)
            moved_by, counting = undamped * norm(xp, moves), usual * norm(xp, near.bends)
            tiny = moved_by <= max(_TINY * counting, 8 * blurred)
            small = size <= xtol * norm(xp, near.in_columns(xp, x)) < math.inf
            small = small and moved_by <= min(_TINY, math.sqrt(xtol)) * counting  # far rows make units of columns large
            before = x, residuals, each, near
            x, residuals, each = at, moved, after
            near = linearized()
            njev += 1
            if small:
                status = 2
            elif hidden and tiny and damping <= _LOOSE and not near.gradient(xp, before[-1]) < _HELPED * gradient:
                status = 2
                if near.gradient(xp, before[-1]) > gradient:
                    x, residuals, each, near = before
            if hidden and tiny:
                damping, growth = damping / 10, 2.0
            else:
                ratio = min(drop / predicted, 1.0) if predicted > 0 else 0.0
                damping, growth = damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 2.0
            if stops(result) and status == 1:
                status = 99
        else:
            damping, growth = damping * growth, 2 * growth
            status = 1 if damping < _STIFFEST else 6

    def lower_nearby() -> bool:
        """Tell whether the sum falls, or may fall unseen, along the direction in which it bends down most."""
        direction = near.downwards(xp)
        if direction is None:
            return False
        along, gain = direction
        noise = lost(near.rounding(xp, x, eps), float(each.sum()))
        if gain * unit**2 <= noise:
            return True
        with np.errstate(over="ignore"):
            points = [(x + near.change(xp, by * along)).astype(x.dtype) for by in (1.0, -1.0, 0.1, -0.1)]
        sums = (after for _, after in map(evaluated, points))
        return any(after is not None and float((after - each).sum()) < -noise for after in sums)

    messages = {}
    dead = abs(near.rows).max(axis=0) == 0
    if status in (0, 2) and bool(dead.any()):
        status = 4
        messages[4] = (
            f"column {int(dead.argmax())} of the Jacobian is 0 wherever a residual has a weight, so that this unknown "
            "was not determined: leave it out, or start elsewhere"
        )
    elif status in (0, 2) and not rho.convex and lower_nearby():
        status = 5
    return ended(result(), status, maxiter, messages)
