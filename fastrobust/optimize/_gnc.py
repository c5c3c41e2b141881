"""Graduated non-convexity: from a convex problem, step by step, to a robust one with many minima."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from .._loss import Loss
from .._types import Array, ArrayLike, Namespace
from ._arrays import SADDLE, called, count, double, ended, floats, library, number, typical
from ._unit_loss import NOTHING, UnitLoss, barron, chosen, convex_radius
from ._whitened import LinearModel

_FACTOR = 1.4  # of the control parameter, from stage to stage
_FLATTEST = -64.0  # for alpha = -inf, which no schedule can interpolate; the last stages have alpha itself
_BINARY = 1e-6  # weights of truncated least squares that near 0 or 1 are decided
_STALLED = 0.9  # of the change before: what is left where there is no progress
_UNRESOLVED = 0.1  # where rounding changes weights by more, nothing was found
_FARTHEST = 1e150  # residuals in units of the scale: no weight tells those beyond from those
_REJECTED = (
    "every residual is so far out that none has a weight, so nothing was found: raise scale, or name known_inliers"
)
SCHEDULES = ("alpha", "geman-mcclure", "truncated", "scale")


def gnc(
    X: ArrayLike,
    y: ArrayLike,
    alpha: float | None = None,
    scale: float | None = None,
    *,
    loss: Loss | None = None,
    schedule: str | None = None,
    weights: ArrayLike | None = None,
    known_inliers: ArrayLike | None = None,
    tol: float = 1e-8,
    maxiter: int = 200,
    callback: Callable[[OptimizeResult], object] | None = None,
) -> OptimizeResult:
    """Coefficients of a linear model that are not lost to gross outliers, by way of easier problems.

    What is minimized at the end is sum_i weights_i rho(y_i - x_i' b, alpha, scale), or of loss((y_i - x_i' b)/scale).
    `gnc_custom` does the same with a weighted least-squares problem of your own.

    Parameters
    ----------
    X : array of NumPy or CuPy, shape (n, k)
        Rows of a design; a column of ones for an intercept. CuPy arrays stay on their device.
    y : array, shape (n,)
    alpha : float, for the schedule in alpha
        The shape to end with, at most 2.
    scale : float
        c > 0, in the units of the residuals. For "truncated", the largest residual of an inlier. With a loss it is 1,
        unless it is given.
    loss : fastrobust.losses.Loss, in place of alpha
        As in `irls`, and with weights that fall, see `Loss.traits`.
    schedule : {"alpha", "geman-mcclure", "truncated", "scale"}, optional
        What changes from stage to stage: alpha_k = (alpha mu + 2)/(mu + 1), with mu from 1/100 upwards by 1.4; at
        alpha = -2 the scale c sqrt(mu), with mu downwards to 1 from where the loss is convex at all residuals; or the
        surrogate of truncated least squares, mu upwards until every weight is 0 or 1. With a loss it is "scale", that
        of Geman-McClure for any loss that is convex around 0; one that is convex everywhere has one stage. Without,
        it is "alpha" unless another one is named.
    weights : array, shape (n,), optional
        >= 0; 0 leaves a row out.
    known_inliers : array of integers or of bool, optional
        Which residuals are no outliers, by their indices or as a mask of shape (n,): they keep the weight 1, as in
        least squares, and guide the others. As GTSAM's knownInliers.
    tol : float
        The loop ends where, at the end of the schedule, no weight changes by more than tol times the largest, and
        residuals, averaged with the weights, by less than tol c.
    maxiter : int
        Of all stages of a way together, each of which solves one weighted problem.
    callback : callable, optional
        Called as ``callback(intermediate_result)`` after each stage; StopIteration ends the loop.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x``, the coefficients; ``residuals``; ``weights``, shape (n,), from 0 for an outlier to 1; ``mu``, the control
        parameter; ``nit``, ``success``, ``message`` and ``status`` (0 converged, 1 maxiter, 3 every residual is
        rejected, 4 rows with a weight do not determine all coefficients, 5 stationary but no minimum, 99 stopped).

    Raises
    ------
    TypeError, ValueError
        For arrays of other libraries or shapes, NaN or infinity, an unknown schedule, parameters out of range,
        coefficients that the dtype cannot hold, and losses that are as `irls` does not take them, that have weights
        which rise, or that are not convex around 0.

    Notes
    -----
    H. Yang et al., Graduated Non-Convexity for Robust Spatial Perception, RA-L 2020, has the last two schedules; its
    bound of inliers for Geman-McClure is 2c. The first does with the shape what those do with the scale. A scale three
    to five times the noise's leaves inliers their weight.

    The way begins at least squares, which passes close to rows of leverage, far out in X: annealing does not see them
    as outliers. Where a row has a leverage above 1/2, the way is taken a second time without such rows, which count
    again at its end, and the lower sum is the result. A group of rows of leverage that support each other hides from
    this and defeats annealing: begin with known inliers, or with the subsets of `RobustRegressor`.

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
    settings = _checked("gnc", alpha, scale, loss, schedule, tol, maxiter, callback)
    if callable(X) or callable(y):
        raise TypeError("X and y are data; for a solver and residuals of your own there is gnc_custom")
    return _annealed(_Linear(X, y, weights, settings.scale), known_inliers, settings)


def gnc_custom(
    solve: Callable[..., object],
    residuals: Callable[..., ArrayLike],
    alpha: float | None = None,
    scale: float | None = None,
    *,
    loss: Loss | None = None,
    schedule: str | None = None,
    known_inliers: ArrayLike | None = None,
    tol: float = 1e-8,
    maxiter: int = 200,
    callback: Callable[[OptimizeResult], object] | None = None,
) -> OptimizeResult:
    """A solution of your own problem that is not lost to gross outliers, by way of easier problems.

    What is minimized at the end is sum_i rho(r_i, alpha, scale), or of loss(r_i/scale), by your solver of the weighted
    least-squares problem.

    Parameters
    ----------
    solve : callable
        From weights, an array of shape (n,), to the solution, of any kind, that makes sum_i weights_i r_i^2 least. The
        first weights are None, for all equal. Weights of your own are for you to multiply these by.
    residuals : callable
        From a solution to the residuals, an array of NumPy or CuPy of shape (n,): distances, signed or not.
    alpha, scale, loss, schedule, known_inliers, tol, maxiter, callback
        As in `gnc`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As of `gnc`; ``x`` is the solution, and statuses 4 and 5 do not occur, since nothing is known of its unknowns.

    Raises
    ------
    TypeError, ValueError
        As in `gnc`, and for residuals of another shape, or NaN or infinity among them.

    Notes
    -----
    Schedules and their source as in `gnc`. What has a leverage in your problem is not known here: a group of points
    that pulls the first solution to itself defeats annealing. Begin with known inliers then.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import gnc_custom
    >>> points = np.array([[0.0, 0.1], [0.1, 0.0], [-0.1, 0.0], [0.0, -0.1], [9.0, 5.0], [-7.0, 8.0]])
    >>> found = gnc_custom(
    ...     lambda weights: np.average(points, axis=0, weights=weights),
    ...     lambda centre: np.linalg.norm(points - centre, axis=1), alpha=-2.0, scale=0.5)
    >>> print(abs(found.x).max() < 0.02, found.weights.round(2))
    True [0.98 0.98 0.98 0.98 0.   0.  ]
    """
    settings = _checked("gnc_custom", alpha, scale, loss, schedule, tol, maxiter, callback)
    for name, function in (("solve", solve), ("residuals", residuals)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got a {type(function).__name__}; for data there is gnc")
    return _annealed(_Own(solve, residuals, settings.scale), known_inliers, settings)


class _Settings(NamedTuple):
    """The arguments that both functions take, checked."""

    rho: UnitLoss | None  # None for truncated least squares
    radius: float  # up to which it is convex, for the schedule in the scale
    scale: float
    schedule: str
    tol: float
    maxiter: int
    stops: Callable[[Callable[[], OptimizeResult]], bool]


def _checked(
    function: str,
    alpha: float | None,
    scale: float | None,
    loss: Loss | None,
    schedule: str | None,
    tol: float,
    maxiter: int,
    callback: Callable[[OptimizeResult], object] | None,
) -> _Settings:
    """The arguments of a call, refused where they make no sense or do not fit the schedule."""
    if scale is None and loss is None:
        raise TypeError("scale is missing: three to five times the noise of the inliers")
    scale, tol, maxiter = (
        1.0 if scale is None else number("scale", scale, positive=True),
        number("tol", tol, positive=True),
        count("maxiter", maxiter),
    )
    stops = called(callback)
    if schedule is None:
        schedule = "alpha" if loss is None else "scale"
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(map(repr, SCHEDULES))}, got {schedule!r}")
    if (schedule == "scale") != (loss is not None):
        raise ValueError(
            f"schedule must be 'scale' with a loss, and another one without, got {schedule!r}"
            + ("" if loss is None else ": leave it out")
        )
    rho, radius = None, math.inf
    if loss is not None:
        radius = convex_radius(loss)
        if not radius > 0:
            raise ValueError(
                f"{function} begins where the loss is convex, and {loss.__name__} is not around 0: take irls or "
                "gauss_newton, from a start of your own"
            )
        rho, scale = chosen(function, alpha, scale, loss, falling=True)
    elif schedule == "geman-mcclure":
        rho = barron(-2.0 if alpha is None else alpha)
        if rho.alpha != -2:
            raise ValueError(f"alpha must be -2 or left out for Geman-McClure, got {rho.alpha:g}")
    elif schedule == "truncated":
        if alpha is not None:
            raise ValueError(f"alpha must be left out for truncated least squares, got {alpha!r}")
    else:
        rho = barron(alpha)
        if not rho.falls:
            raise ValueError(f"alpha must be at most 2, got {rho.alpha:g}: above, the problem is convex, see irls")
    return _Settings(rho, radius, scale, schedule, tol, maxiter, stops)


def _annealed(problem: _Own | _Linear, known_inliers: ArrayLike | None, settings: _Settings) -> OptimizeResult:
    """The result at the end of the schedule, taken once, and once more where rows have much leverage.

    The second way begins without those rows, which least squares passes close to, and counts them again at its end;
    the result is the one with the lower sum.
    """
    rho, radius, scale, schedule, tol, maxiter, stops = settings
    xp = problem.xp
    known = _mask(xp, known_inliers, problem)
    nit, messages = 0, {3: _REJECTED}
    stage = Stage.first(rho, schedule, float(abs(problem.z).max()), radius)

    def weighed(stage: Stage) -> Array:
        relative = stage.weights(xp, problem.z)
        return relative if known is None else xp.where(known, 1.0, relative)

    def result() -> OptimizeResult:
        """The result as far as the way has come, in the units of the data."""
        x, residuals = problem.solved()
        with np.errstate(over="ignore"):
            relative = stage.weights(xp, double(residuals) / scale)
        relative = (relative if known is None else xp.where(known, 1.0, relative)).astype(residuals.dtype)
        return OptimizeResult(x=x, residuals=residuals, weights=relative, mu=stage.mu, nit=nit)

    def once(factors: Array | None) -> int:
        """The status with which the way ends; the factors of rows, None for 1, are 1 at the end of the schedule.

        A stage weighs the residuals of the one before, and solves. The last stage repeats itself until weights and
        residuals have come to rest.
        """
        nonlocal stage, nit
        relative, status, last, change = None, 1, nit + maxiter, math.inf
        while status == 1 and nit < last:
            before, relative = relative, weighed(stage)
            counted = problem.counted(relative)
            # Early weights of a surrogate are small.
            if not float(counted.max()) > (0 if rho is None or rho.convex else NOTHING):
                return 3
            nit += 1
            near = xp.minimum(relative, 1 - relative) <= _BINARY
            # Early weights may be small all together, which decides nothing.
            decided = bool(near.all()) and float(counted.max()) > 0.5
            z = problem.z
            problem.solve(relative if factors is None or stage.last else relative * factors)
            if stage.last and before is not None:
                moved, floor = moves(counted, z)
                change, lately = max(moved, float(abs(relative - before).max()) / float(counted.max())), change
                # Where rounding decides, one does not come nearer any more.
                status = 0 if change <= tol or _STALLED * lately < change <= floor else 1
            stage = stage.next(decided)
            if stops(result) and status:
                status = 99
        if status == 0:
            bend = stage.curvature(xp, problem.z)
            status = problem.judged(bend if known is None else xp.where(known, 1.0, bend))
        return status

    def moves(counted: Array, z: Array) -> tuple[float, float]:
        """The mean move of residuals that have a weight, and what rounding may do to them, in their usual size."""
        weight = problem.weighted(counted)
        usual = typical(xp, weight, z)
        floor = problem.rounding(counted, usual) / usual
        return float((weight * abs(problem.z - z)).sum() / weight.sum()) / usual, min(floor, _UNRESOLVED)

    def cost() -> float:
        """The sum that is minimized, at the solution that the problem holds; known inliers count by their squares."""
        z = problem.z
        each = xp.minimum(0.5 * z * z, 0.5) if rho is None else rho.value(z, 1.0) / rho.top
        return float(problem.weighted(each if known is None else xp.where(known, 0.5 * z * z, each)).sum())

    status = once(None)
    best = ended(result(), status, maxiter, messages)
    factors = None if status == 99 or (rho is not None and rho.convex) else problem.without_leverage(known)
    if factors is not None:
        with np.errstate(over="ignore"):
            first = best.status not in (0, 1), cost()
            problem.solve(factors)
            stage = Stage.first(rho, schedule, float(abs(problem.z * factors).max()), radius)
            status = once(factors)
            if status == 99 or (status not in (0, 1), cost()) < first:
                best = ended(result(), status, maxiter, messages)
    return best


def _mask(xp: Namespace, known: ArrayLike | None, problem: _Own | _Linear) -> Array | None:
    """Known inliers as a mask, or None."""
    if known is None:
        return None
    n = problem.z.size
    given = xp.asarray(known)
    if given.dtype.kind == "b":
        mask = given
        if mask.shape != (n,):
            raise ValueError(f"known_inliers must be indices, or a mask of shape ({n},), got a mask of {mask.shape}")
    else:
        if given.dtype.kind not in "iu" and given.size:
            raise TypeError(f"known_inliers must be integers or bool, got {given.dtype}")
        if given.ndim != 1 or (given.size and not (int(given.min()) >= 0 and int(given.max()) < n)):
            raise ValueError(f"known_inliers must be indices from 0 to {n - 1}, got {known!r}")
        mask = xp.zeros(n, dtype=bool)
        mask[given.astype(np.int64)] = True
    if bool((problem.counted(mask * 1.0) < mask).any()):
        raise ValueError(
            "known_inliers holds rows that have a weight of 0: leave them out there, or give them a weight"
        )
    return mask if bool(mask.any()) else None


class _Own:
    """A user's solver, and his residuals in units of the scale."""

    def __init__(self, solve: Callable[..., object], residuals: Callable[..., ArrayLike], scale: float) -> None:
        self._solve, self._residuals, self.scale = solve, residuals, scale
        self.solution = solve(None)
        first = residuals(self.solution)
        self.xp = library("residuals(solution)", first)
        self.shape: tuple[int, ...] | None = None
        self._measure(first)

    def _measure(self, given: ArrayLike) -> None:
        """Keep the residuals that the user's function gives, checked, and as ``z`` in units of the scale."""
        residuals = floats(self.xp, "residuals(solution)", given)
        if residuals.ndim != 1 or not residuals.size or self.shape not in (None, residuals.shape):
            raise ValueError(f"residuals must return shape {self.shape or '(n,)'}, got {residuals.shape}")
        if not bool(self.xp.isfinite(residuals).all()):
            raise ValueError("residuals(solution) holds NaN or infinity: leave such elements out")
        self.shape, self.residuals = residuals.shape, residuals.copy()  # whose memory the user may use again
        with np.errstate(over="ignore"):
            self.z: Array = self.xp.clip(double(residuals) / self.scale, -_FARTHEST, _FARTHEST)

    def solve(self, relative: Array) -> None:
        """Let the user's solver take these weights, in the dtype of his residuals, and measure its solution."""
        self.solution = self._solve(relative.astype(self.residuals.dtype))
        self._measure(self._residuals(self.solution))

    def solved(self) -> tuple[object, Array]:
        """The solution, and its residuals in the user's units."""
        return self.solution, self.residuals

    def counted(self, relative: Array) -> Array:
        """The weights as they are: the user multiplies them by weights of his own, if he has any."""
        return relative

    weighted = counted

    def rounding(self, relative: Array, usual: float) -> float:
        """The change of residuals of that size that rounding may make, in units of the scale."""
        return 64 * float(np.finfo(self.residuals.dtype).eps) * usual

    def judged(self, bend: Array) -> int:
        """The status of a solution, by curvatures: where the loss bends down at every residual, none is an inlier."""
        return 0 if bool((bend > 0).any()) else 3

    def without_leverage(self, kept: Array | None) -> None:
        """None, since the leverage of what the user's solver fits is unknown."""


class _Linear:
    """A linear model, and its residuals in units of the scale."""

    def __init__(self, X: ArrayLike, y: ArrayLike, weights: ArrayLike | None, scale: float) -> None:
        self.model = LinearModel(X, y, weights, scale)
        self.xp, self.counted, self.without_leverage = self.model.xp, self.model.counted, self.model.without_leverage
        self.solve(None)

    def solve(self, relative: Array | None) -> None:
        """Weighted least squares, with these weights times the rows' own, and its residuals as ``z``."""
        self.gamma = self.model.solve(relative)
        self.z = self.model.z(self.model.residuals(self.gamma))

    def solved(self) -> tuple[Array, Array]:
        """The coefficients, and the residuals of all rows, in the units of the data."""
        return self.model.coefficients(self.gamma), self.model.all_residuals(self.gamma)

    def weighted(self, each: Array) -> Array:
        """The parts of the rows in a sum, times the rows' own weights."""
        return each * self.model.share

    def rounding(self, relative: Array, usual: float) -> float:
        """The change of residuals that rounding may make, in units of the scale, whatever their usual size."""
        return 8 * self.model.rounding(relative) / self.model.scale

    def judged(self, bend: Array) -> int:
        """The status of a solution, by curvatures: no minimum, or one that rows do not determine, is no result."""
        if not bool((self.counted(bend) > 0).any()):
            return 3
        if not self.model.determined:
            return 4
        return 5 if self.model.saddle(bend) < SADDLE else 0


class Stage(NamedTuple):
    """A stage of a schedule."""

    rho: UnitLoss | None
    schedule: str
    mu: float
    last: bool

    @classmethod
    def first(cls, rho: UnitLoss | None, schedule: str, largest: float, radius: float) -> Stage:
        """The first stage for residuals of at most that size, in units of the scale: (nearly) convex at all of them."""
        ratio = largest**2
        if schedule == "alpha":
            return cls(rho, schedule, 0.01, rho is not None and rho.square)
        if schedule == "geman-mcclure":  # z^2 < 4/3: the loss is convex there
            return cls(rho, schedule, max(1.0, 0.75 * ratio), 0.75 * ratio <= 1)
        if schedule == "scale":
            ratio = (largest / radius) ** 2
            return cls(rho, schedule, max(1.0, ratio), ratio <= 1)
        # Where all lie within the scale, others that were left out may not: then weights are 0 and 1 from the start.
        return cls(None, schedule, 1 / max(2 * ratio - 1, _BINARY), ratio <= 1)

    def weights(self, xp: Namespace, z: Array) -> Array:
        """The weights of residuals in units of the scale at this stage, 1 for a residual of 0."""
        rho, schedule, mu, last = self
        if rho is None:
            size = xp.maximum(abs(z), 1e-30)
            return xp.clip(math.sqrt(mu * (mu + 1)) / size - mu, 0, 1)
        if schedule == "alpha" and rho.alpha is not None and not last:
            rho = barron((max(rho.alpha, _FLATTEST) * mu + 2) / (mu + 1))
        return rho.relative(z, 1.0 if schedule == "alpha" else math.sqrt(mu))

    def curvature(self, xp: Namespace, z: Array) -> Array:
        """The curvature of the loss at the end of the schedule; the weights for truncated least squares."""
        return self.weights(xp, z) if self.rho is None else self.rho.curvature(z) / self.rho.top

    def next(self, decided: bool) -> Stage:
        """The next stage; the last repeats itself."""
        if self.last:
            return self
        if self.schedule in ("geman-mcclure", "scale"):
            mu = max(self.mu / _FACTOR, 1.0)
            return self._replace(mu=mu, last=mu == 1)
        mu = self.mu * _FACTOR
        if self.schedule == "alpha":
            return self._replace(mu=mu, last=mu > 100)
        return self._replace(mu=self.mu if decided else mu, last=decided)
