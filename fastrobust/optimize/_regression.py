"""Linear regression under the adaptive robust likelihood, by the library's own value-and-gradient functions.

    minimize over beta, alpha, scale:   mean_i nll(y_i - x_i' beta, alpha, scale)

The problem is not convex, so it is solved from several starts (least squares, the convex alpha = 1, and exact fits of
random small subsets, which find the bulk of the rows when far-away rows mislead the others) on at most a few thousand
rows, and the best point is polished on all of them, at the end by Newton's method: to rounding, so that neither the
order of the rows nor a weight in place of a repetition shows. A copy of the design matrix is centred and whitened by a
small matrix that is applied to the coefficients, never to the rows: an iteration reads X twice and writes nothing as
large. NumPy arrays in and out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from .. import curvature, loss_and_grad, nll_and_grad, weight
from ._whitened import blocks, triangle, whitening

Array = NDArray[np.float64]
Tell = Callable[[str], None]

ALPHA_RANGE = (0.0, 2.0)
HESSIAN = 40_000  # rows whose Hessian is good enough to begin with
SAMPLE = 4000  # rows for the starts; more when there are many coefficients
DRAWS = 200  # random subsets tried for a start
CLOSE = 1e-5  # where L-BFGS-B hands over to Newton: the projected gradient of the mean, in units of the scale
GRADIENT = 1e-9  # where it goes on after all
ROUNDING = 1e-12  # where Newton stops: another step changes nothing
CONVERGED = 1e-5  # what counts as converged when rounding stops the line search earlier
NEWTON = 16  # steps at most: from CLOSE it takes two to six
RANK = 1e-10  # a standardized column this close to the span of the others is collinear


@dataclass(frozen=True)
class LinearFit:
    """A fitted model in the units of the data. Coefficients do not include the intercept."""

    coefficients: Array
    intercept: float
    alpha: float
    alpha_range: tuple[float, float]  # where it was sought
    scale: float
    residuals: Array
    weights: Array  # relative to a residual of zero: 1 counts fully
    value: float  # the mean of the negative log-likelihood, or of the loss where alpha was fixed below 0
    gradient: float
    iterations: int  # those on all rows
    converged: bool
    exact_rows: int  # where an estimated scale shrank to nothing, the rows that lie exactly on the fit; else 0
    ols_coefficients: Array
    ols_intercept: float
    ols_rms: float  # the root mean square residual; 0 where only rounding is left
    centre: Array  # of the columns
    triangle: Array  # R of the QR factors of the centred columns, each row times the root of its weight


class Design:
    """``[1 X] = Q [1 map^-1]``, or without the 1: ``Q' Q = n`` as far as X has the rank, and Q is never formed."""

    def __init__(self, X: Array, map: Array, intercept: bool) -> None:
        self.X, self.map, self.intercept = X, map, int(intercept)
        self.n, self.k = len(X), map.shape[1] + intercept

    def coefficients(self, gamma: Array) -> Array:
        beta: Array = self.map @ gamma[self.intercept :]
        return beta

    def predict(self, gamma: Array, out: Array) -> Array:
        np.matmul(self.X, self.coefficients(gamma), out=out)
        if self.intercept:
            out += gamma[0]
        return out

    def project(self, v: Array) -> Array:
        """The transpose of ``predict``."""
        return np.concatenate(([v.sum()] * self.intercept, self.map.T @ (self.X.T @ v)))

    def rows(self, part: slice) -> Array:
        """A block of whitened rows."""
        block = self.X[part] @ self.map
        return np.column_stack((np.ones(len(block)), block)) if self.intercept else block


@dataclass(frozen=True)
class Point:
    gamma: Array
    alpha: float
    scale: float
    value: float = math.inf
    gradient: float = math.inf
    iterations: int = 0


class Problem:
    """The mean loss or negative log-likelihood of some rows, as a function of what is to be estimated."""

    def __init__(
        self, design: Design, y: Array, weights: Array | None, alpha: float | None, scale: float | None, floor: float,
        low: float,
    ) -> None:  # fmt: skip
        self.design, self.y, self.weights = design, y, weights
        self.alpha, self.scale, self.floor, self.low = alpha, scale, floor, low
        self.evaluate: Any = loss_and_grad if alpha is not None and alpha < 0 else nll_and_grad
        # Always the same gradients, also where only the value is wanted: each choice is a kernel to compile.
        self.wrt = ("x", *(["alpha"] if alpha is None else []), *(["scale"] if scale is None else []))
        self.r, self.dx = np.empty_like(y), np.empty_like(y)
        low_high = [(-np.inf, np.inf)] * design.k + [(low, ALPHA_RANGE[1])] * (alpha is None)
        high = 1e6 * max(1.0, float(np.abs(y).max()))  # no fit is that bad, but a step of the line search may be
        low_high += [(math.log(floor), math.log(high))] * (scale is None)
        self.bounds = np.array(low_high).reshape(-1, 2)

    def part(self, rows: Any, weights: Array | None) -> Problem:
        design = Design(np.asfortranarray(self.design.X[rows]), self.design.map, bool(self.design.intercept))
        return Problem(design, self.y[rows], weights, self.alpha, self.scale, self.floor, self.low)

    def residuals(self, gamma: Array) -> Array:
        self.design.predict(gamma, out=self.r)
        return np.subtract(self.y, self.r, out=self.r)

    def theta(self, point: Point) -> Array:
        """Coefficients, alpha and the logarithm of the scale, the estimated ones."""
        more = [point.alpha] * (self.alpha is None) + [math.log(point.scale)] * (self.scale is None)
        return np.concatenate((point.gamma, more))

    def unit(self, point: Point) -> Array:
        """Steps of ``theta`` that are alike: coefficients in units of the scale."""
        return np.concatenate((np.full(self.design.k, point.scale), np.ones(len(self.theta(point)) - self.design.k)))

    def point(self, theta: Array) -> Point:
        k = self.design.k
        alpha = float(theta[k]) if self.alpha is None else self.alpha
        return Point(theta[:k].copy(), alpha, math.exp(float(theta[-1])) if self.scale is None else self.scale)

    def slope(self, point: Point) -> tuple[float, Array]:
        """The mean and its gradient by ``theta``."""
        r = self.residuals(point.gamma)
        out = (None, self.dx, None, None)
        found = self.evaluate(
            r, point.alpha, point.scale, reduction="mean", weights=self.weights, out=out, wrt=self.wrt
        )
        more = [float(found.dalpha)] if self.alpha is None else []
        more += [point.scale * float(found.dscale)] if self.scale is None else []
        return float(found.value), np.concatenate((-self.design.project(self.dx), more))

    def measured(self, point: Point, iterations: int) -> tuple[Point, Array]:
        """The point with its value and its projected gradient, coefficients in units of the scale; and the gradient."""
        value, gradient = self.slope(point)
        gradient[: self.design.k] *= point.scale
        theta, (low, high) = self.theta(point), self.bounds.T
        size = np.abs(theta - np.clip(theta - gradient, low, high))[self.design.k :].max(initial=0.0)
        size = max(float(size), float(np.abs(gradient[: self.design.k]).max(initial=0.0)))
        return Point(point.gamma, point.alpha, point.scale, value, size, iterations), gradient

    def descend(self, start: Point, tell: Tell, what: str, stop: float = CLOSE) -> Point:
        """L-BFGS-B from a start. Coefficients move in units of the starting scale, and the scale by its logarithm."""
        k, origin, steps = self.design.k, self.theta(start), start.iterations
        if len(origin) == 0:
            return self.measured(start, 0)[0]
        unit = self.unit(start)
        origin[k:] = 0.0

        def function(x: Array) -> tuple[float, Array]:
            value, gradient = self.slope(self.point(origin + unit * x))
            gradient *= unit
            if not (math.isfinite(value) and np.isfinite(gradient).all()):
                # alpha > 2 overflows far from the fit: a high plateau sends the line search back.
                return 1e10, np.zeros_like(x)
            return value, gradient

        def progress(intermediate_result: Any) -> None:
            nonlocal steps
            steps += 1
            tell(f"{what}: iteration {steps}, mean {intermediate_result.fun:.9g}")

        x0 = np.concatenate((np.zeros(k), self.theta(start)[k:]))
        options = {"maxcor": 20, "ftol": 0.0, "gtol": stop, "maxiter": 1000, "maxfun": 3000, "maxls": 40}
        found = minimize(
            function, x0, jac=True, method="L-BFGS-B", bounds=self.bounds, callback=progress, options=options
        )
        return self.measured(self.point(origin + unit * found.x), steps)[0]

    def newton(self, start: Point, tell: Tell, what: str, hessian: Array | None = None) -> Point:
        """Newton's method while it helps. alpha stays at an end of its range where the gradient points beyond.

        It begins with that Hessian, if one is given, and keeps each for as long as a step leaves a fifth: a new one
        takes as long as several steps.
        """
        low, high = self.bounds.T
        best, gradient = self.measured(start, start.iterations)
        fresh = False
        for _ in range(NEWTON):
            if best.gradient <= ROUNDING:
                break
            if hessian is None:
                hessian, fresh = self.hessian(best, gradient), True
            theta = self.theta(best)
            free = np.flatnonzero(~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))))
            unit = self.unit(best)
            moved = theta.copy()
            try:
                H = hessian[np.ix_(free, free)]
                np.linalg.cholesky(H)
                moved[free] -= unit[free] * np.linalg.solve(H, gradient[free])
            except np.linalg.LinAlgError:
                helped = False
            else:
                moved = np.clip(moved, low, high)
                next_, next_gradient = self.measured(self.point(moved), best.iterations + 1)
                no_worse = next_.value <= best.value + 1e-9 * (1 + abs(best.value))
                helped = next_.gradient < 0.5 * best.gradient and no_worse
            if helped:
                slow = next_.gradient > 0.2 * best.gradient
                best, gradient = next_, next_gradient
                tell(f"{what}: iteration {best.iterations}, mean {best.value:.9g}")
            elif fresh:
                break
            fresh = False
            if not helped or slow:
                hessian = None
        return best

    def hessian(self, point: Point, gradient: Array) -> Array:
        """Of the coefficients exactly; in the directions of alpha and the scale by differences of gradients."""
        k, theta, unit = self.design.k, self.theta(point), self.unit(point)
        H = np.zeros((len(theta), len(theta)))
        for j in range(k, len(theta)):
            moved = theta.copy()
            moved[j] += 1e-6 if theta[j] + 1e-6 < self.bounds[j, 1] else -1e-6
            H[:, j] = H[j, :] = (self.slope(self.point(moved))[1] * unit - gradient) / (moved[j] - theta[j])
        slope: Array = self.residuals(point.gamma) / point.scale
        curvature(slope, point.alpha, 1.0, out=slope)
        slope /= len(slope) if self.weights is None else self.weights.sum()
        if self.weights is not None:
            slope *= self.weights
        for part in blocks(np, self.design.n):
            Q = self.design.rows(part)
            H[:k, :k] += (Q.T * slope[part]) @ Q
        return H

    def polish(self, start: Point, tell: Tell, what: str) -> Point:
        """To rounding, as far as that goes."""
        found = start
        for stop in (CLOSE, GRADIENT):
            if found.gradient > GRADIENT:
                found = self.descend(found, tell, what, stop)
            if found.gradient > ROUNDING:
                found = self.newton(found, tell, what)
        return found


@np.errstate(over="ignore", under="ignore", invalid="ignore")  # far from the fit, and scales far from the residuals
def fit_linear(
    X: NDArray[Any], y: NDArray[Any], sample_weight: Array | None = None, *, alpha: float | None = None,
    scale: float | None = None, fit_intercept: bool = True, tell: Tell,
) -> LinearFit:  # fmt: skip
    """Fit ``y`` by the columns of ``X``, finite both, weighted by nonnegative weights that are not all 0.

    ``None`` means estimated. A fixed ``alpha < 0`` has no normalizable density: the mean loss is minimized instead, and
    ``scale`` must be fixed. Where rows or columns do not determine the coefficients, the smallest are taken, in units
    of the columns' spread.
    """
    tell("checking the columns")
    used, y_used, weights = _rows(X, y, sample_weight)
    n, k = used.shape
    sqrt = None if weights is None else np.sqrt(weights)

    # Powers of two: exact, and no square overflows. Column by column, which stay in cache.
    x_unit, centre = np.ones(k), np.zeros(k)
    for j, column in enumerate(used.T):
        low, high = column.min(), column.max()
        x_unit[j] = _power_of_two(np.maximum(high, -low))
        column /= x_unit[j]
        if fit_intercept:
            centre[j] = low / x_unit[j] if low == high else np.average(column, weights=weights)
            column -= centre[j]
    y_unit = float(_power_of_two(np.array([np.abs(y_used).max()]))[0])
    y_used /= y_unit
    # The middle and the bulk, not the mean: one far row must not set the unit.
    y_centre = float(np.median(y_used)) if fit_intercept else 0.0
    size = np.abs(y_used - y_centre)
    y_size = math.sqrt(float(np.mean(size**2)))
    y_spread = max(float(np.median(size)) or y_size, 1e-100 * y_size) or 1.0
    y_used = (y_used - y_centre) / y_spread
    y_size /= y_spread

    tell("least squares")
    R: Array = triangle(np, used, sqrt)
    design = Design(used, _whitening(R, n if weights is None else float(weights.sum())), fit_intercept)
    the_scale = None if scale is None else scale / y_unit / y_spread
    rounding = 8 * np.finfo(float).eps * abs(y_centre) / y_spread
    floor = max(1e-10, 10 * rounding)
    low_alpha = _lowest_alpha(design.k, n, weights) if alpha is None and scale is None else ALPHA_RANGE[0]
    problem = Problem(design, y_used, weights, alpha, the_scale, floor, low_alpha)
    ols = np.zeros(design.k)
    for _ in range(3):  # the second takes rounding away, and the third what is left of it where columns nearly depend
        r = problem.residuals(ols) if ols.any() else y_used
        step = design.project(r if weights is None else r * weights) / (n if weights is None else weights.sum())
        ols += step
        if np.abs(step).max(initial=0.0) <= 1e-14 * np.abs(ols).max(initial=0.0):
            break
    else:
        r = problem.residuals(ols)
    rms = math.sqrt(float(np.average(r**2, weights=weights)))
    nothing_left = rms <= 10 * (1e-13 * y_size + rounding)

    if nothing_left:  # residuals of 0 are the minimum for each alpha, and the density at 0 is highest for 2
        best = Point(ols, 2.0 if alpha is None else alpha, the_scale or floor)
        best = replace(best, value=problem.slope(best)[0], gradient=0.0)
    else:
        best = _search(problem, ols, rms, tell)
    if not (math.isfinite(best.value) and math.isfinite(best.gradient)):
        raise ValueError(
            f"the loss is infinite at alpha = {best.alpha:g}, scale = {best.scale * y_spread * y_unit:g}: "
            "raise scale, or lower alpha"
        )
    enough = CONVERGED * max(1.0, best.value)  # far outliers at alpha >= 2: a large mean, known to so many digits
    # Where over half of the rows agree exactly, the optimizer cannot come to rest.
    collapsing = best.gradient > enough and best.scale < 1e-6 * rms
    exact = the_scale is None and (nothing_left or collapsing or best.scale <= 10 * floor)

    def in_units(gamma: Array) -> tuple[Array, float]:
        beta = design.coefficients(gamma)
        at_zero = y_centre + y_spread * (float(gamma[0]) - float(centre @ beta)) if fit_intercept else 0.0
        return beta * y_spread / x_unit * y_unit, at_zero * y_unit

    beta = design.coefficients(best.gamma)
    first = float(best.gamma[0]) if fit_intercept else 0.0
    if len(y) == n > _sample_size(k + 1):  # the same rows in the same order
        residuals = problem.residuals(best.gamma)
    else:
        residuals = np.empty(len(y))
        for part in blocks(np, len(y)):
            fitted = (X[part] / x_unit - centre) @ beta + first
            np.subtract((y[part] / y_unit - y_centre) / y_spread, fitted, out=residuals[part])
    exact_rows = int(np.count_nonzero(np.abs(residuals) <= max(best.scale, 100 * floor))) if exact else 0
    relative: Array = residuals / best.scale
    weight(relative, best.alpha, 1.0, out=relative)
    residuals *= y_spread
    residuals *= y_unit
    coefficients, intercept = in_units(best.gamma)
    ols_coefficients, ols_intercept = in_units(ols)
    is_loss = alpha is not None and alpha < 0
    return LinearFit(
        coefficients=coefficients,
        intercept=intercept,
        alpha=best.alpha,
        alpha_range=(low_alpha, ALPHA_RANGE[1]),
        scale=best.scale * y_spread * y_unit if scale is None else scale,
        residuals=residuals,
        weights=relative,
        value=best.value + (0.0 if is_loss else math.log(y_spread) + math.log(y_unit)),
        gradient=best.gradient,
        iterations=best.iterations,
        converged=best.gradient <= enough,
        exact_rows=exact_rows,
        ols_coefficients=ols_coefficients,
        ols_intercept=ols_intercept,
        ols_rms=0.0 if nothing_left else rms * y_spread * y_unit,
        centre=centre * x_unit,
        triangle=R * x_unit,
    )


def _rows(X: NDArray[Any], y: NDArray[Any], weights: Array | None) -> tuple[Array, Array, Array | None]:
    """A copy in float64 of the rows that count, with weights of mean 1; None where all weigh the same.

    Rows that fit the sample for the starts are sorted, and equal ones become one: then neither their order nor a weight
    in place of a repetition makes a difference, not even in which subsets are drawn.
    """
    if weights is not None and not weights.all():
        keep = weights > 0
        X, y, weights = X[keep], y[keep], weights[keep]
    if len(y) <= _sample_size(X.shape[1] + 1):
        rows, place = np.unique(np.column_stack((y, X)).astype(np.float64), axis=0, return_inverse=True)
        weights = np.bincount(place.ravel(), weights).astype(np.float64)
        X, y = rows[:, 1:], rows[:, 0]
    if weights is not None:
        weights = None if (weights == weights[0]).all() else weights / weights.max()
    if weights is not None:
        weights = weights / weights.mean()
    # Columns in one piece: products with X, and X' with a vector, take a third of the time.
    return np.array(X, np.float64, order="F"), np.array(y, np.float64), weights


def _sample_size(k: int) -> int:
    return max(SAMPLE, 40 * k)


def _lowest_alpha(k: int, n: int, weights: Array | None) -> float:
    """The lower end of alpha's range: 0, or 1 where k rows carry half of the weight.

    Then an exact fit of those rows makes the likelihood at alpha = 0 grow without bound as the scale shrinks. At
    alpha >= 1 it is bounded, and has one maximum for each alpha.
    """
    share = k / n
    if weights is not None and k < n:
        share = float(np.partition(weights, n - k)[n - k :].sum() / weights.sum())
    return 1.0 if share >= 0.5 else ALPHA_RANGE[0]


def _power_of_two(size: Array) -> Array:
    """The one above, within what can be divided by; 1 for 0."""
    return np.where(size > 0, np.ldexp(1.0, np.clip(np.frexp(size)[1], -1000, 1000)), 1.0)


def _whitening(R: Array, n: float) -> Array:
    """``map`` with ``map' R' R map = n``, of as many columns as R has rank, after each column of R has the length 1."""
    length = np.sqrt(np.sum(R**2, axis=0))
    length[length == 0] = 1.0
    map: Array = whitening(np, R / length, RANK) * math.sqrt(n) / length[:, None]
    return map


def _search(problem: Problem, ols: Array, rms: float, tell: Tell) -> Point:
    """The best of several starts on a sample of the rows, polished on all of them."""
    size = _sample_size(problem.design.k)
    sample = problem
    if problem.design.n > size:
        # Drawn by weight, and then counted, not weighted.
        share = None if problem.weights is None else problem.weights / problem.weights.sum()
        drawn = np.random.default_rng(0).choice(problem.design.n, size, p=share)
        chosen, counts = np.unique(drawn, return_counts=True)
        sample = problem.part(chosen, counts.astype(np.float64))
    least_squares = _least_squares(problem, ols, rms)
    starts = _starts(sample, ols, least_squares, tell)
    found = [sample.descend(start, tell, f"start {i} of {len(starts)}") for i, start in enumerate(starts, 1)]
    best = min(found, key=lambda point: point.value)
    what = f"fitting {problem.design.n:,} rows"
    # From the sample's optimum, restarted with its scale as the unit; and never worse than least squares. Where that
    # is a minimum, as for half of all normal errors, the way to it is long: alpha has a logarithmic pole in its slope.
    step = -(-problem.design.n // HESSIAN)
    few = problem.part(slice(None, None, step), None if problem.weights is None else problem.weights[::step])
    hessian = None if step == 1 else few.hessian(*few.measured(best, 0))
    best = problem.newton(Point(best.gamma, best.alpha, best.scale), tell, what, hessian)
    if problem.alpha is None and problem.scale is None and best.gradient <= GRADIENT:
        # The normal likelihood at the root mean square, for which no row has to be read.
        scale = least_squares.scale
        value = 0.5 * (rms / scale) ** 2 + math.log(scale) + 0.5 * math.log(2 * math.pi)
        at_ols = replace(least_squares, value=value)
    else:
        at_ols = problem.measured(least_squares, 0)[0]
    if best.gradient > GRADIENT and at_ols.gradient <= CLOSE and at_ols.value <= best.value:
        best = at_ols
    best = problem.polish(best, tell, what)
    return best if best.value <= at_ols.value else problem.polish(at_ols, tell, what)


def _least_squares(problem: Problem, ols: Array, rms: float) -> Point:
    alpha = 2.0 if problem.alpha is None else problem.alpha
    if problem.scale is not None:
        return Point(ols, alpha, problem.scale)
    # The loss grows fast above 2, so the scale begins at the largest residual.
    largest = float(np.abs(problem.residuals(ols)).max()) if alpha > 2 else rms
    return Point(ols, alpha, max(largest, 2 * problem.floor))


def _starts(sample: Problem, ols: Array, least_squares: Point, tell: Tell) -> list[Point]:
    alpha = sample.alpha
    if alpha is not None and alpha >= 2:  # convex: one start is enough
        return [least_squares]
    # alpha = 1 is convex in the coefficients and already robust, so it is worth a solve of its own. The size of
    # residuals tells whether least squares is nearer to it than no coefficients at all.
    near = min((_point(sample, gamma, 1.0) for gamma in (ols, np.zeros_like(ols))), key=lambda point: point.scale)
    smooth = Problem(sample.design, sample.y, sample.weights, 1.0, sample.scale, sample.floor, sample.low)
    smooth.evaluate, smooth.wrt = sample.evaluate, sample.wrt  # the kernel that is compiled anyway
    smoothed = smooth.descend(near, tell, "first fit")
    starts = [least_squares, Point(smoothed.gamma, 1.0 if alpha is None else alpha, smoothed.scale)]
    if sample.low < 1:
        shapes = (1.0, 0.0) if alpha is None else (alpha,)
        starts += [_point(sample, gamma, shape) for gamma in _subset_fits(sample) for shape in shapes]
    return starts


def _point(problem: Problem, gamma: Array, alpha: float) -> Point:
    if problem.scale is not None:
        return Point(gamma, alpha, problem.scale)
    size = np.abs(problem.residuals(gamma))
    # The median absolute residual; where over half of the rows are fitted exactly, the mean.
    scale = 1.4826 * _median(size, problem.weights) or float(size.mean())
    return Point(gamma, alpha, max(scale, 2 * problem.floor))


def _median(size: Array, weights: Array | None) -> float:
    if weights is None:
        return float(np.median(size))
    order = np.argsort(size)
    below = np.cumsum(weights[order])
    return float(size[order[np.searchsorted(below, 0.5 * below[-1])]])


def _subset_fits(problem: Problem) -> list[Array]:
    """The three best of many exact fits of as many random rows as coefficients, by the median absolute residual."""
    design, y, weights = problem.design, problem.y, problem.weights
    if not 0 < design.k <= min(20, design.n):  # a larger random subset is hardly ever free of outliers
        return []
    Q, random = design.rows(slice(None)), np.random.default_rng(1)
    share = None if weights is None else weights / weights.sum()
    scored = []
    for draw in range(DRAWS):
        rows = random.choice(design.n, design.k, replace=False, p=share)
        gamma = np.linalg.lstsq(Q[rows], y[rows], rcond=None)[0]
        scored.append((_median(np.abs(y - Q @ gamma), weights), draw, gamma))
    return [gamma for _, _, gamma in sorted(scored, key=lambda entry: entry[:2])[:3]]
