"""Linear regression under the adaptive robust likelihood, by the library's own value-and-gradient functions.

    minimize over beta, alpha, scale:   mean_i nll(y_i - x_i' beta, alpha, scale)

The problem is not convex, so it is solved from several starts (least squares, the convex alpha = 1, and exact fits of
random small subsets, which find the bulk of the rows when far-away rows mislead the others) on at most a few thousand
rows, and the best point is polished on all of them. The design matrix is standardized in place and whitened by a
triangular factor that is applied to the coefficients, never to the rows: an iteration reads X twice and writes
nothing as large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular
from scipy.optimize import minimize

import fastrobust as fr

from .common import UserError

Array = NDArray[np.float64]
Tell = Callable[[str], None]

INTERCEPT = "(intercept)"
ALPHA_RANGE = (0.0, 2.0)
SAMPLE = 4000  # rows for the starts; more when there are many coefficients
DRAWS = 200  # random subsets tried for a start
GRADIENT = 1e-8  # where the optimizer stops: the projected gradient of the mean, in units of the scale
CONVERGED = 1e-5  # what counts as converged when rounding stops the line search earlier
RANK = 1e-10  # a standardized column this close to the span of the others is collinear


@dataclass(frozen=True)
class Fit:
    """A fitted model. Coefficients, intercept first, and residuals are in the units of the file."""

    names: list[str]
    coefficients: Array
    errors: Array
    bread: str  # what the sandwich covariance was built on: "curvature", or "weight" where that is not positive
    alpha: float
    alpha_estimated: bool
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
    ols_coefficients: Array
    ols_errors: Array | None
    ols_sigma: float | None
    ols_log_likelihood: float | None
    ols_aic: float | None
    residuals: Array
    weights: Array  # relative to a residual of zero: 1 counts fully


class Design:
    """The standardized columns behind an intercept: ``[1 X] = Q R sqrt(n)``, with ``R`` kept and ``Q`` never formed."""

    def __init__(self, X: Array, R: Array) -> None:
        self.X = X
        self.R = R
        self.n, self.k = X.shape[0], R.shape[0]
        self.inverse: Array = solve_triangular(R, np.eye(self.k))

    def predict(self, gamma: Array, out: Array) -> Array:
        beta = solve_triangular(self.R, gamma)
        np.matmul(self.X, beta[1:], out=out)
        out += beta[0]
        return out

    def project(self, v: Array) -> Array:
        """The transpose of ``predict``."""
        product = np.concatenate(([v.sum()], self.X.T @ v))
        whitened: Array = solve_triangular(self.R, product, trans="T")
        return whitened

    def rows(self, start: int, stop: int) -> Array:
        """A block of whitened rows."""
        block = np.column_stack((np.ones(min(stop, self.n) - start), self.X[start:stop]))
        whitened: Array = block @ self.inverse
        return whitened


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

    def __init__(self, design: Design, y: Array, alpha: float | None, scale: float | None, floor: float) -> None:
        self.design, self.y = design, y
        self.alpha, self.scale, self.floor = alpha, scale, floor
        self.evaluate: Any = fr.loss_and_grad if alpha is not None and alpha < 0 else fr.nll_and_grad
        self.wrt = ("x", *(["alpha"] if alpha is None else []), *(["scale"] if scale is None else []))
        self.r, self.dx = np.empty_like(y), np.empty_like(y)

    def residuals(self, gamma: Array) -> Array:
        self.design.predict(gamma, out=self.r)
        return np.subtract(self.y, self.r, out=self.r)

    def gradients(self, gamma: Array, alpha: float, scale: float) -> Any:
        return self.mean(self.evaluate, self.residuals(gamma), alpha, scale)

    def mean(self, evaluate: Any, r: Array, alpha: float, scale: float) -> Any:
        """The mean of a function over residuals, and its gradients. ``dx`` is left in ``self.dx``.

        Always with the same gradients, also where only the value is wanted: each choice is a kernel to compile.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # alpha > 2, far from the fit: see solve
            return evaluate(r, alpha, scale, reduction="mean", out=(None, self.dx, None, None), wrt=self.wrt)

    def solve(self, start: Point, tell: Tell, what: str) -> Point:
        """L-BFGS-B from a start. Coefficients move in units of the starting scale, and the scale by its logarithm."""
        k, unit = self.design.k, start.scale
        free_alpha, free_scale = self.alpha is None, self.scale is None
        x0 = np.concatenate((np.zeros(k), [start.alpha] * free_alpha, [math.log(start.scale)] * free_scale))
        bounds = [(-np.inf, np.inf)] * k + [ALPHA_RANGE] * free_alpha
        bounds += [(math.log(self.floor), np.inf)] * free_scale

        steps = 0

        def unpack(theta: Array) -> tuple[Array, float, float]:
            alpha = float(theta[k]) if self.alpha is None else self.alpha
            scale = math.exp(float(theta[-1])) if self.scale is None else self.scale
            return start.gamma + unit * theta[:k], alpha, scale

        def function(theta: Array) -> tuple[float, Array]:
            gamma, alpha, scale = unpack(theta)
            found = self.gradients(gamma, alpha, scale)
            value = float(found.value)
            gradient = np.zeros_like(theta)
            gradient[:k] = -unit * self.design.project(self.dx)
            if free_alpha:
                gradient[k] = float(found.dalpha)
            if free_scale:
                gradient[-1] = scale * float(found.dscale)
            if not (math.isfinite(value) and np.isfinite(gradient).all()):
                # alpha > 2 overflows far from the fit: a high plateau sends the line search back.
                return 1e10, np.zeros_like(theta)
            return value, gradient

        def progress(intermediate_result: Any) -> None:
            nonlocal steps
            steps += 1
            tell(f"{what}: iteration {steps}, mean {intermediate_result.fun:.9g}")

        options = {"maxcor": 20, "ftol": 0.0, "gtol": GRADIENT, "maxiter": 1000, "maxfun": 3000, "maxls": 40}
        found = minimize(function, x0, jac=True, method="L-BFGS-B", bounds=bounds, callback=progress, options=options)
        low, high = np.array(bounds).T
        projected = found.x - np.clip(found.x - found.jac, low, high)
        gamma, alpha, scale = unpack(found.x)
        return Point(gamma, alpha, scale, float(found.fun), float(np.abs(projected).max()), int(found.nit))


def fit(
    X: Array, y: Array, names: list[str], alpha: float | None = None, scale: float | None = None,
    tell: Tell = lambda text: None,
) -> Fit:  # fmt: skip
    """Fit ``y`` by the columns of ``X`` and an intercept. ``None`` means estimated. **X is overwritten.**

    A fixed ``alpha < 0`` has no normalizable density: the mean loss is minimized instead, and ``scale`` must be fixed.
    """
    n, k = X.shape[0], X.shape[1] + 1
    estimated = ["alpha"] * (alpha is None) + ["the scale"] * (scale is None)
    if n < k + len(estimated):
        count = f"{k - 1} coefficient{'s' * (k > 2)}, the intercept" + "".join(f", {name}" for name in estimated)
        raise UserError(f"{n} row{'s' * (n > 1)} cannot determine {k + len(estimated)} parameters ({count})")
    tell("checking the columns")
    centre, spread = _standardize(X, names)
    y_centre, y_spread = _centre_and_spread(y, "the target")
    y = (y - y_centre) / y_spread

    # Least squares, from the triangular factor of [1 X y], made a block of rows at a time.
    tell("least squares")
    triangle = _triangle(X, y)
    _check_rank(triangle[:k, :k], [INTERCEPT, *names])
    design = Design(X, triangle[:k, :k] / math.sqrt(n))
    ols_gamma = triangle[:k, k] / math.sqrt(n)
    problem = Problem(design, y, alpha, None if scale is None else scale / y_spread, floor=1e-10)
    ols_residuals = problem.residuals(ols_gamma).copy()
    rms = math.sqrt(np.mean(ols_residuals**2))
    rounding = 1e-13 + 8 * np.finfo(float).eps * abs(y_centre) / y_spread
    problem.floor = max(problem.floor, 10 * rounding)
    if rms <= 10 * rounding and scale is None:
        raise UserError(
            "the columns reproduce the target exactly: least squares leaves nothing but rounding, so the scale has no "
            "estimate; give --scale NUMBER to fit all the same"
        )

    best = _search(problem, ols_gamma, rms, tell)
    collapsing = best.gradient > CONVERGED and best.scale < 1e-6 * rms
    if scale is None and (best.scale <= 10 * problem.floor or collapsing):
        # Where over half of the rows agree exactly, or where there are fewer than twice as many rows as coefficients.
        near = np.abs(problem.residuals(best.gamma)) <= max(best.scale, 100 * problem.floor)
        raise UserError(
            f"the scale shrinks to zero: {np.count_nonzero(near)} of {n} rows lie exactly on one fit, and the "
            "likelihood grows without bound there; give --scale NUMBER, the size of residual that is not yet an outlier"
        )

    tell("standard errors")
    problem.gradients(best.gamma, best.alpha, best.scale)
    residuals = problem.r
    covariance, bread = _sandwich(design, residuals, problem.dx * (n * best.scale), best)
    # From the whitened coordinates to the units of the file: standardized first, then each column's own units.
    to_units = np.diag(y_spread / np.concatenate(([1.0], spread)))
    to_units[0, 1:] = -y_spread * centre / spread
    to_units = to_units @ design.inverse
    shift = np.concatenate(([y_centre], np.zeros(k - 1)))
    residuals *= y_spread
    the_scale = scale if scale is not None else best.scale * y_spread
    weights = np.asarray(fr.weight(residuals, best.alpha, the_scale))
    weights *= the_scale**2

    is_loss = alpha is not None and alpha < 0
    mean = float(problem.mean(problem.evaluate, residuals, best.alpha, the_scale).value)
    log_likelihood = None if is_loss else -n * mean
    sigma = math.sqrt(n / (n - k)) * rms * y_spread if n > k else None
    ols_log_likelihood = None
    if rms > 10 * rounding:
        # alpha = 2 is the normal density, so least squares gets its likelihood from the same function.
        ols_residuals *= y_spread
        ols_log_likelihood = -n * float(problem.mean(fr.nll_and_grad, ols_residuals, 2.0, rms * y_spread).value)
    bound = {ALPHA_RANGE[0]: "lower", ALPHA_RANGE[1]: "upper"}
    return Fit(
        names=[INTERCEPT, *names],
        coefficients=to_units @ best.gamma + shift,
        errors=_root_diagonal(to_units, covariance),
        bread=bread,
        alpha=best.alpha,
        alpha_estimated=alpha is None,
        alpha_at_bound=next((b for a, b in bound.items() if alpha is None and abs(best.alpha - a) < 1e-6), None),
        scale=the_scale,
        scale_estimated=scale is None,
        objective="loss" if is_loss else "nll",
        value=mean,
        log_likelihood=log_likelihood,
        aic=None if log_likelihood is None else 2 * (k + len(estimated)) - 2 * log_likelihood,
        gradient=best.gradient,
        iterations=best.iterations,
        converged=best.gradient <= CONVERGED,
        ols_coefficients=to_units @ ols_gamma + shift,
        ols_errors=None if sigma is None else _root_diagonal(to_units, np.eye(k) * (sigma / y_spread) ** 2 / n),
        ols_sigma=sigma,
        ols_log_likelihood=ols_log_likelihood,
        ols_aic=None if ols_log_likelihood is None else 2 * (k + 1) - 2 * ols_log_likelihood,
        residuals=residuals,
        weights=weights,
    )


def _centre_and_spread(column: Array, what: str) -> tuple[float, float]:
    low, high = float(column.min()), float(column.max())
    if low == high:
        raise UserError(f"{what} is constant ({low:g}), so it says nothing beside the intercept")
    with np.errstate(over="ignore", invalid="ignore"):
        centre = float(column.mean())
        half = max(high - centre, centre - low)
        spread = half * math.sqrt(np.mean(((column - centre) / half) ** 2))
    if not (math.isfinite(spread) and spread > 0):
        raise UserError(f"{what} has values too large to work with ({low:g} to {high:g})")
    return centre, spread


def _standardize(X: Array, names: list[str]) -> tuple[Array, Array]:
    centre, spread = np.empty(X.shape[1]), np.empty(X.shape[1])
    for j, name in enumerate(names):
        column = X[:, j]
        centre[j], spread[j] = _centre_and_spread(column, f"column {name!r}")
        column -= centre[j]
        column /= spread[j]
    return centre, spread


def _blocks(n: int, k: int) -> Iterator[tuple[int, int]]:
    """Few enough rows at a time to stay in cache, where a QR of a tall block is ten times as fast as outside."""
    size = max(512, 4 * k)
    return ((start, min(start + size, n)) for start in range(0, n, size))


def _triangle(X: Array, y: Array) -> Array:
    """R of the QR factors of ``[1 X y]``. As accurate as a QR of the whole, which would copy the whole."""
    width = X.shape[1] + 2
    R: Array = np.zeros((0, width))
    for start, stop in _blocks(len(y), width):
        block = np.column_stack((np.ones(stop - start), X[start:stop], y[start:stop]))
        triangle: Any = np.linalg.qr(np.vstack((R, block)), mode="r")  # Any: NumPy's stubs know no mode
        R = triangle
    return np.vstack((R, np.zeros((max(0, width - len(R)), width))))


def _check_rank(R: Array, names: list[str]) -> None:
    # The intercept stays first: a column may be a combination of others, the intercept is never the one to drop.
    factors: Any = qr(R[1:, 1:], pivoting=True, mode="r")
    S, order = factors
    diagonal = np.abs(np.diag(S))
    size = math.sqrt(float(np.sum(R[:, 1] ** 2)))
    rank = int(np.count_nonzero(diagonal > RANK * size))
    if rank == len(diagonal):
        return
    combination = solve_triangular(S[:rank, :rank], S[:rank, rank])
    extra = names[1 + order[rank]]
    others = [names[1 + order[i]] for i in np.argsort(order[:rank]) if abs(combination[i]) > 1e-6]
    more = len(diagonal) - rank - 1
    also = f" ({more} more column{'s' * (more > 1)} likewise)" if more else ""
    listed = " and ".join([", ".join(map(repr, others[:-1]))] * (len(others) > 1) + [repr(others[-1])])
    raise UserError(f"columns are collinear: {extra!r} is a linear combination of {listed}{also}; leave one out")


def _search(problem: Problem, ols: Array, rms: float, tell: Tell) -> Point:
    """The best of several starts on a sample of the rows, polished on all of them."""
    design, y, alpha, scale = problem.design, problem.y, problem.alpha, problem.scale
    n, k = design.n, design.k
    least_squares = Point(ols, 2.0 if alpha is None else alpha, rms if scale is None else scale)
    if alpha is not None and alpha >= 2:
        # Convex: one start is enough. The loss grows fast above 2, so the scale begins at the largest residual.
        if alpha > 2 and scale is None:
            least_squares = Point(ols, alpha, max(float(np.abs(problem.residuals(ols)).max()), problem.floor))
        return problem.solve(least_squares, tell, "fitting")

    size = min(n, max(SAMPLE, 40 * k))
    sample = problem
    if size < n:
        chosen = np.sort(np.random.default_rng(0).choice(n, size, replace=False))
        part = Design(np.asfortranarray(design.X[chosen]), design.R)
        sample = Problem(part, y[chosen], alpha, scale, problem.floor)

    # alpha = 1 is convex in the coefficients and already robust, so it is worth a solve of its own.
    starts = [least_squares]
    smooth = Problem(sample.design, sample.y, 1.0, scale, problem.floor)
    smooth.evaluate, smooth.wrt = problem.evaluate, problem.wrt  # the kernel that is compiled anyway
    smoothed = smooth.solve(_point(smooth, ols, 1.0), tell, "first fit")
    starts.append(Point(smoothed.gamma, 1.0 if alpha is None else alpha, smoothed.scale))
    starts += [_point(sample, gamma, 1.0 if alpha is None else alpha) for gamma in _subset_fits(sample)]
    found = [sample.solve(start, tell, f"start {i} of {len(starts)}") for i, start in enumerate(starts, 1)]
    best = min(found, key=lambda point: point.value)
    if sample is problem:
        return best
    # From the sample's optimum, restarted with its scale as the unit; and never worse than least squares.
    best = problem.solve(best, tell, f"fitting {n:,} rows")
    at_ols = problem.gradients(ols, least_squares.alpha, least_squares.scale)
    return best if best.value <= float(at_ols.value) else problem.solve(least_squares, tell, f"fitting {n:,} rows")


def _point(problem: Problem, gamma: Array, alpha: float) -> Point:
    if problem.scale is not None:
        return Point(gamma, alpha, problem.scale)
    size = np.abs(problem.residuals(gamma))
    # The median absolute residual; where over half of the rows are fitted exactly, the mean.
    scale = 1.4826 * float(np.median(size)) or float(size.mean())
    return Point(gamma, alpha, max(scale, 2 * problem.floor))


def _subset_fits(problem: Problem) -> list[Array]:
    """The three best of many exact fits of as many random rows as coefficients, by the median absolute residual."""
    design, y = problem.design, problem.y
    if design.k > 20:  # a random subset that large is hardly ever free of outliers
        return []
    Q, random = design.rows(0, design.n), np.random.default_rng(1)
    scored = []
    for draw in range(DRAWS):
        rows = random.choice(design.n, design.k, replace=False)
        gamma = np.linalg.lstsq(Q[rows], y[rows], rcond=None)[0]
        scored.append((float(np.median(np.abs(y - Q @ gamma))), draw, gamma))
    return [gamma for _, _, gamma in sorted(scored, key=lambda entry: entry[:2])[:3]]


def _sandwich(design: Design, r: Array, psi: Array, point: Point) -> tuple[Array, str]:
    """``(S psi' q q')^-1 (S psi^2 q q') (S psi' q q')^-1``, S the sum over whitened rows q, times ``n / (n - k)``.

    psi and psi' are those of residuals in units of the scale. The last factor is the one that least squares has too,
    so that the two columns of errors can be compared.
    """
    n, k = design.n, design.k
    curvature = np.asarray(fr.curvature(r, point.alpha, point.scale)) * point.scale**2
    weight = np.asarray(fr.weight(r, point.alpha, point.scale)) * point.scale**2
    meat, curved, weighted = np.zeros((k, k)), np.zeros((k, k)), np.zeros((k, k))
    for start, stop in _blocks(n, k):
        Q = design.rows(start, stop)
        part = slice(start, stop)
        meat += (Q.T * psi[part] ** 2) @ Q
        curved += (Q.T * curvature[part]) @ Q
        weighted += (Q.T * weight[part]) @ Q
    # Far-away rows have negative curvature for alpha < 1 and may outvote the others; the weights are never negative.
    ok = float(np.linalg.eigvalsh(curved)[0]) > 1e-3 * float(np.linalg.eigvalsh(weighted)[-1])
    inverse = np.linalg.pinv(curved if ok else weighted, hermitian=True)
    correction = n / (n - k) if n > k else math.nan
    return correction * point.scale**2 * (inverse @ meat @ inverse), "curvature" if ok else "weight"


def _root_diagonal(transform: Array, covariance: Array) -> Array:
    variances: Array = np.einsum("ij,jk,ik->i", transform, covariance, transform)
    return np.sqrt(np.maximum(variances, 0.0))
