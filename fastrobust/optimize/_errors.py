"""Standard errors of a regression's coefficients, by leaving out one row at a time.

For each row one Newton step of the likelihood of the others, in all that is estimated: coefficients, alpha and the
scale. The squares of these steps add up to the variances (the jackknife). With h the row's influence on its own fit,
the step is its score over 1 - h: for least squares this is HC3, for large samples the sandwich.

Why so: alpha and the scale follow the residuals, and with few rows they follow them closely. Errors that take them as
given are too small, whatever correction for degrees of freedom they get: with 20 rows, nominal intervals of 95 % held
the truth in 75 to 93 % by the sandwich, by its HC3 and by Huber's pooled formula (Robust Statistics, 1981, (6.5)).

A fit that ignores half of its rows knows only what the other half says. So intervals are those of Student's t with as
many degrees of freedom as the weights sum to, less the coefficients; and as users read the errors and take n - k, the
errors are as much larger as its quantile at 95 %. Then intervals cover 94 to 97 % for normal, t3 and contaminated
errors, with 20 rows as with 100: see tests/test_optimize_errors.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr, solve_triangular
from scipy.special import stdtrit

from .. import nll_and_grad
from .._arguments import ALPHA_RANGE
from .._types import NDArray
from ._linear_fit import LinearFit
from ._problem import Doubles
from ._regression import RANK
from ._starts import medians
from ._unit_loss import UnitLoss, barron, reweighted, titled
from ._whitened import blocks

AT_BOUND = 1e-6  # alpha this close to an end of its range stays there
STEP = 1e-5  # of alpha, for differences of gradients
ALONE = 0.95  # a row with this influence on its own fit is hardly contradicted by the others
FACTOR = 2.0  # by which one row may move the scale, and 2 - alpha: beyond, a quadratic says nothing
DEFINITE = 1e-8  # the least curvature, relative to the largest, of a minimum
RELATED = 30.0  # a condition number beyond which coefficients are known much worse than by their own columns
SHARED = 1e-8  # of a coefficient's direction, outside of those that the rows determine
INFLATED = 10.0  # a variance this many times as large as that of the column alone
ROUNDING = 1e-14  # residuals, relative to fitted values, that say nothing
USUAL = 0.95  # the confidence for which the errors are made
FAR = 100.0  # a scale so many times larger or smaller than the residuals is in the wrong unit


@dataclass(frozen=True)
class CoefficientErrors:
    """Standard errors of the coefficients, in their units; the intercept's comes first, if there is one.

    NaN is what nothing can be said about: coefficients that the rows do not determine, and those of fits that hold
    their rows exactly.
    """

    robust: Doubles
    ols: Doubles  # the classical ones
    df: float  # degrees of freedom: rows less coefficients
    condition: float  # of the columns, centred and of one length; infinite where they depend on each other
    doubts: tuple[str, ...]  # sentences about what makes them doubtful

    def margins(self, errors: Doubles, confidence: float = USUAL) -> Doubles:
        """Half the widths of the intervals about coefficients that have these errors."""
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, got {confidence!r}")
        return errors * _quantile(self.df, confidence)


def _quantile(df: float, confidence: float) -> float:
    """Half the width of the interval of that confidence by Student's t, in errors; NaN without degrees of freedom."""
    return float(stdtrit(df, 0.5 + 0.5 * confidence)) if df > 0 else math.nan


class _Columns:
    """The columns, centred and of one length, and coordinates in which they are orthonormal."""

    def __init__(self, fit: LinearFit, intercept: bool) -> None:
        # In units of the largest elements: no square over- or underflows.
        R, self.intercept = fit.triangle, int(intercept)
        size = np.abs(R).max(axis=0, initial=0.0)
        if not np.isfinite(size).all():
            j = int(np.isfinite(size).argmin())
            raise ValueError(f"X[:, {j}] has a length beyond a double's range: give it in another unit")
        size[size == 0] = 1.0
        length = np.sqrt(np.sum((R / size) ** 2, axis=0))
        self.empty = length == 0
        self.length = size * np.where(self.empty, 1.0, length)
        self.unit_triangle = R / self.length
        _, values, directions = np.linalg.svd(self.unit_triangle)
        self.rank = int(np.count_nonzero(values > RANK * values[:1].sum()))
        self.condition = float(values[0] / values[-1]) if self.rank == len(length) > 0 else math.inf
        if not len(length):
            self.condition = 1.0
        self.directions = directions[: self.rank].T
        self.map = self.directions / values[: self.rank]
        self.centre = fit.centre
        self.k = self.rank + self.intercept

    def rows(self, X: NDArray, part: slice, root: float) -> Doubles:
        """A block of rows, in coordinates in which those of all rows have unit squares."""
        block = (X[part] - self.centre) / self.length @ self.map
        return np.column_stack((np.full(len(block), 1 / root), block)) if self.intercept else block

    def transform(self, root: float) -> Doubles:
        """The matrix from these coordinates to coefficients times the lengths of their columns, and the intercept."""
        slopes = self.map if not self.intercept else np.column_stack((np.zeros(len(self.map)), self.map))
        if not self.intercept:
            return slopes
        first = np.concatenate(([1 / root], -(self.centre / self.length) @ self.map))
        return np.vstack((first, slopes))

    def undetermined(self) -> NDArray:
        """Flags of coefficients that are shared with other columns, or multiply nothing but zeros."""
        determined = np.sum(self.directions**2, axis=1)
        shared = determined < 1 - SHARED
        if not self.intercept:
            return np.asarray(shared)
        # The intercept is that of the centre, which is determined, less the centre's own coefficients.
        centre = self.centre / self.length
        rest = np.linalg.norm(centre - self.directions @ (self.directions.T @ centre))
        return np.concatenate(([rest > SHARED * np.linalg.norm(centre)], shared)).astype(np.bool_)

    def inflation(self) -> Doubles:
        """The factors by which each variance is larger than for the column alone."""
        return np.asarray(np.sum(self.map**2, axis=1))


def coefficient_errors(
    fit: LinearFit, X: NDArray, weights: Doubles | None, *, alpha_estimated: bool, scale_estimated: bool,
    intercept: bool, names: list[str],
) -> CoefficientErrors:  # fmt: skip
    """The errors for the rows of the fit, each counted as often as its weight says; 0 leaves it out.

    The jackknife is made in coordinates in which the columns are orthonormal, and its root is then brought into the
    units of the coefficients. Where it says nothing, the errors are NaN, and a doubt says why.
    """
    rho = barron(fit.alpha) if fit.loss is None else reweighted("standard_errors", fit.loss)
    if fit.loss is not None and not rho.curvature(np.zeros(1))[0] > 0:
        raise ValueError(
            f"there are no standard errors for {titled(fit.loss)}: they count each row by its weight relative to that "
            "of a residual 0, and that is 0"
        )
    residuals, relative = fit.residuals, fit.weights
    if weights is not None:
        used = weights > 0
        X, residuals, relative, weights = X[used], residuals[used], relative[used], weights[used]
    columns = _Columns(fit, intercept)
    k, n = columns.k, float(len(residuals) if weights is None else weights.sum())
    if weights is not None and n <= k < len(residuals):
        raise ValueError(
            f"sample_weight sums to {n:g}, and that many rows cannot determine {k} coefficients: a weight counts "
            "repetitions, so multiply the weights until they sum to the number of observations"
        )
    transform = columns.transform(math.sqrt(n))
    lengths = np.concatenate(([1.0] * columns.intercept, columns.length))
    doubts = _dependent(columns, names) or _related(columns, names)

    def in_units(steps: Doubles, unit: float) -> Doubles:
        errors = np.sqrt(np.sum((transform @ steps) ** 2, axis=1)) * (unit / lengths)
        return np.where(columns.undetermined(), math.nan, errors)

    ols = np.full(len(lengths), math.nan)
    if n > k and fit.ols_rms:
        ols = in_units(np.eye(k), math.sqrt(n / (n - k)) * fit.ols_rms)
    robust = np.full(len(lengths), math.nan)
    carried = float(np.sum(np.minimum(relative, 1.0) * (1.0 if weights is None else weights)))
    if not scale_estimated and fit.alpha != 2:
        doubts += _wrong_unit(fit.scale, residuals, weights)
    if fit.exact_rows or n <= k:
        pass
    elif not scale_estimated and carried <= k:
        doubts.append(
            f"no standard errors: the rows count {carried:.3g} in all, which is not enough for {k} coefficients: "
            "raise the scale"
        )
    else:
        jackknife = _Jackknife(fit, rho, X, residuals, weights, columns, n, alpha_estimated, scale_estimated)
        fitted = abs(fit.intercept) + np.abs(fit.coefficients) @ (np.abs(fit.centre) + columns.length)
        root = jackknife.covariance_root()
        if fit.scale * jackknife.largest <= ROUNDING * fitted:
            doubts.append("no standard errors: the rows that count lie exactly on the fit")
        elif root is None:
            doubts.append("no standard errors: the objective has no minimum of positive curvature here")
        else:
            few = _quantile(min(max(carried - k, 1.0), n - k), USUAL) / _quantile(n - k, USUAL)
            robust = in_units(root, fit.scale * jackknife.unit) * few
    return CoefficientErrors(robust, ols, n - k, columns.condition, tuple(doubts))


def _related(columns: _Columns, names: list[str]) -> list[str]:
    """A doubt about columns that nearly depend on each other, those whose variances are inflated most; else none."""
    if not RELATED < columns.condition < math.inf:
        return []
    inflation = columns.inflation()
    worst = np.argsort(-inflation, kind="stable")
    listed = [names[j] for j in worst if inflation[j] >= min(INFLATED, inflation[worst[0]])]
    return [
        f"columns nearly depend on each other (condition number {columns.condition:.3g}): "
        f"the coefficients of {_listed(listed)} are hard to tell apart; leave some of these columns out"
    ]


def _dependent(columns: _Columns, names: list[str]) -> list[str]:
    """A doubt about columns that are combinations of others, and of the intercept, about which all are centred."""
    if columns.rank == len(names):
        return []
    if columns.empty.any():
        return [f"columns are constant: {_listed([names[j] for j in np.flatnonzero(columns.empty)])}; leave them out"]
    S, order = qr(columns.unit_triangle, pivoting=True, mode="r")
    combination = solve_triangular(S[: columns.rank, : columns.rank], S[: columns.rank, columns.rank])
    extra = names[order[columns.rank]]
    others = [names[order[i]] for i in np.argsort(order[: columns.rank]) if abs(combination[i]) > 1e-6]
    more = len(names) - columns.rank - 1
    also = f" ({more} more column{'s' * (more > 1)} likewise)" if more else ""
    return [f"columns are collinear: {extra!r} is a linear combination of {_listed(others)}{also}; leave one out"]


def _listed(names: list[str]) -> str:
    """The names in quotes, with commas and an "and" before the last."""
    return " and ".join([", ".join(map(repr, names[:-1]))] * (len(names) > 1) + [repr(names[-1])])


def _wrong_unit(scale: float, residuals: Doubles, weights: Doubles | None) -> list[str]:
    """A doubt about a given scale that is far larger or smaller than the median residual; else none."""
    typical = 1.4826 * float(medians(np.abs(residuals)[None], weights)[0])
    if not typical or scale / FAR <= typical <= scale * FAR:
        return []
    many, than = (typical / scale, "smaller") if typical > scale else (scale / typical, "larger")
    return [
        f"the scale {scale:.6g} is {many:.3g} times {than} than the residuals ({typical:.3g}): "
        "it has to be in the unit of the target"
    ]


class _Scores:
    """Each row's first and second derivatives of the negative log-likelihood, in units of the scale.

    By its residual's fitted value (r), the logarithm of the scale (s) and alpha (a); 0 for what is not estimated.
    """

    def __init__(self, z: Doubles, rho: UnitLoss, alpha: float, low: float, alpha_free: bool, scale_free: bool) -> None:
        psi, self.rr = np.asarray(rho.influence(z)) / rho.top, np.asarray(rho.curvature(z)) / rho.top
        self.r, none = -psi, np.zeros_like(z)
        self.s: Doubles = 1 - z * psi if scale_free else none
        self.rs: Doubles = z * self.rr + psi if scale_free else none
        self.ss = z * self.rs
        self.a = self.ra = self.aa = none
        if alpha_free:
            step = min(STEP, 0.1 * (alpha - low), 0.1 * (ALPHA_RANGE[1] - alpha))
            above, below = (nll_and_grad(z, alpha + side * step, 1.0, wrt=("x", "alpha")) for side in (1, -1))
            self.a = 0.5 * (np.asarray(above.dalpha) + np.asarray(below.dalpha))
            self.ra = (np.asarray(below.dx) - np.asarray(above.dx)) / (2 * step)
            self.aa = (np.asarray(above.dalpha) - np.asarray(below.dalpha)) / (2 * step)
        self.sa = z * self.ra if scale_free else none


class _Jackknife:
    """The change of the coefficients when a row is left out, in whitened coordinates and in units of the scale."""

    def __init__(
        self, fit: LinearFit, rho: UnitLoss, X: NDArray, residuals: Doubles, weights: Doubles | None,
        columns: _Columns, n: float, alpha_estimated: bool, scale_estimated: bool,
    ) -> None:  # fmt: skip
        self.X, self.columns, self.root, self.alpha, self.rho = X, columns, math.sqrt(n), fit.alpha, rho
        self.count = np.ones(len(residuals)) if weights is None else weights
        self.low, high = fit.alpha_range
        self.alpha_free = alpha_estimated and self.low + AT_BOUND < fit.alpha < high - AT_BOUND
        # Least squares does not depend on the scale.
        self.scale_free = scale_estimated and abs(fit.alpha - 2) > AT_BOUND
        self.z = residuals / fit.scale
        # The unit of scores, so that no square over- or underflows.
        psi = np.asarray(rho.influence(self.z)) / rho.top
        self.largest = float(np.abs(psi).max())
        self.unit = self.largest or 1.0
        self.pooled = self.unit * math.sqrt(float(self.count @ (psi / self.unit) ** 2) / (n - columns.k))
        self.H, self.rs, self.ra = np.zeros((columns.k,) * 2), np.zeros(columns.k), np.zeros(columns.k)
        self.ss = self.sa = self.aa = 0.0
        for part in self.parts():
            Q, count, scores = columns.rows(X, part, self.root), self.count[part], self.scores(part)
            self.H += (Q.T * (count * scores.rr)) @ Q
            self.rs += Q.T @ (count * scores.rs)
            self.ra += Q.T @ (count * scores.ra)
            self.ss += float(count @ scores.ss)
            self.sa += float(count @ scores.sa)
            self.aa += float(count @ scores.aa)

    def parts(self) -> Iterator[slice]:
        """All rows, a few at a time."""
        return blocks(np, len(self.count))

    def scores(self, part: slice) -> _Scores:
        """The derivatives of these rows' likelihoods at the fit."""
        return _Scores(self.z[part], self.rho, self.alpha, self.low, self.alpha_free, self.scale_free)

    def covariance_root(self) -> Doubles | None:
        """A root of the covariance, over ``unit``; None where there is no minimum."""
        least, most = np.linalg.eigvalsh(self.H)[[0, -1]]
        if not least > DEFINITE * most > 0:
            return None
        inverse = np.asarray(np.linalg.inv(self.H), np.float64)
        squares = np.zeros_like(self.H)
        for part in self.parts():
            step = self.steps(part, inverse) / self.unit
            squares += (step.T * self.count[part]) @ step
        values, directions = np.linalg.eigh(squares)
        return np.asarray(directions * np.sqrt(np.maximum(values, 0.0)))

    def steps(self, part: slice, inverse: Doubles) -> Doubles:
        """Steps of Newton's method of the coefficients, a row for each of some rows: towards the fit without it."""
        # The Hessian of the others is H - c q q'. First the coefficients' answer to the row's own score and to a move
        # of the scale and of alpha; then these two, by what is left of their curvature, within their ranges.
        scores = self.scores(part)
        r, rr, rs, ra = scores.r, scores.rr, scores.rs, scores.ra
        Q = self.columns.rows(self.X, part, self.root)
        far = Q @ inverse
        leverage = rr * np.einsum("ij,ij->i", far, Q)
        rest = 1 - np.minimum(leverage, ALONE)

        def answer(mine: Doubles, of_all: Doubles) -> Doubles:
            """inv(H - c q q') (of_all + mine q)."""
            fixed = inverse @ of_all
            moved: Doubles = fixed + far * ((mine + rr * (Q @ fixed)) / rest)[:, None]
            return moved

        def without(mine: Doubles, of_all: Doubles, by: Doubles) -> Doubles:
            """The product of answers with mixed derivatives, less the row's own."""
            product: Doubles = by @ of_all - mine * np.einsum("ij,ij->i", Q, by)
            return product

        step = answer(r, np.zeros_like(self.rs))
        # A row that alone determines a direction has no residual to speak of: it is given the others' size.
        alone = leverage > ALONE
        step[alone] = far[alone] * np.maximum(np.abs(r[alone]), self.pooled)[:, None]
        if self.scale_free:
            by_scale = answer(-rs, self.rs)
            bend = self.ss - scores.ss - without(rs, self.rs, by_scale)
            pull = scores.s - without(rs, self.rs, step)
        if self.alpha_free:
            by_alpha = answer(-ra, self.ra)
            bend_alpha = self.aa - scores.aa - without(ra, self.ra, by_alpha)
            pull_alpha = scores.a - without(ra, self.ra, step)
            if self.scale_free:
                mixed = self.sa - scores.sa - without(rs, self.rs, by_alpha)
                share = np.where(bend > 0, mixed / np.where(bend > 0, bend, 1.0), 0.0)
                bend_alpha, pull_alpha = bend_alpha - share * mixed, pull_alpha - share * pull
            # Near 2 everything depends on the logarithm of 2 - alpha.
            left = ALPHA_RANGE[1] - self.alpha
            move = _within(
                pull_alpha, bend_alpha, max(self.low - self.alpha, left * (1 - FACTOR)), left * (1 - 1 / FACTOR)
            )
            step -= by_alpha * move[:, None]
            if self.scale_free:
                pull = pull - mixed * move
        if self.scale_free:
            step -= by_scale * _within(pull, bend, -math.log(FACTOR), math.log(FACTOR))[:, None]
        return step


def _within(pull: Doubles, bend: Doubles, low: float, high: float) -> Doubles:
    """The minimum of bend x^2/2 - pull x within a range: at one of its ends, where the parabola opens downwards."""
    inside = np.clip(pull / np.where(bend > 0, bend, 1.0), low, high)
    at_low, at_high = (0.5 * bend * end**2 - pull * end for end in (low, high))
    return np.where(bend > 0, inside, np.where(at_low < at_high, low, high))
