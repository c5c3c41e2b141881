"""Where a robust regression begins: the problem is not convex, so it goes down from several points.

The starts are least squares, the convex alpha = 1, and the best of many exact fits of as many rows as coefficients,
each improved by reweighting. They do not depend on whether a residual is exactly 0 or a rounding error: a fit that
holds the majority exactly has to be found in either case.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import loss, weight
from ._problem import CLOSE, GRADIENT, Doubles, Point, Problem, Stopped, Tell
from ._unit_loss import barron

HESSIAN = 40_000  # rows whose Hessian is good enough to begin with
SAMPLE = 4000  # rows for the starts; more when there are many coefficients
FEW = 1000  # rows on which fits of subsets compete
DRAWS = 500  # subsets tried for a start: all, if there are no more
AT_ONCE = 50  # fits whose residuals are in memory together
KEPT = 20  # draws that are improved
STEPS = 20  # of reweighting: enough to tell one minimum from another
FITS = 3  # of those, to start from
SAME = 1e-6  # two fits whose means differ by less are one
EXACT = 1e-6  # a median residual this small a part of the mean one is rounding, or 0


def sample_size(k: int) -> int:
    """The number of rows for the starts of a fit of k coefficients."""
    return max(SAMPLE, 40 * k)


def search(problem: Problem, ols: Doubles, rms: float, tell: Tell) -> Point:
    """The best of several starts on a sample of the rows, polished on all of them; or where the callback ends that."""
    least_squares = _least_squares(problem, ols, rms)
    try:
        best = _best_on_a_sample(problem, ols, least_squares, tell)
    except Stopped as stop:
        alpha = stop.point.alpha if problem.alpha is None else problem.alpha  # the first fit has another one
        return problem.measured(replace(stop.point, alpha=alpha), 0)[0]
    try:
        return _on_all_rows(problem, best, least_squares, rms, tell)
    except Stopped as stop:
        return problem.measured(stop.point, stop.point.iterations)[0]


def _best_on_a_sample(problem: Problem, ols: Doubles, least_squares: Point, tell: Tell) -> Point:
    """The lowest point that is reached from the starts, on a sample of the rows."""
    sample = _drawn(problem, sample_size(problem.design.k))
    starts = _starts(sample, ols, least_squares, tell)
    ends = [sample.descend(start, tell, f"start {i} of {len(starts)}") for i, start in enumerate(starts, 1)]
    return min(ends, key=lambda point: point.value)


def _on_all_rows(problem: Problem, best: Point, least_squares: Point, rms: float, tell: Tell) -> Point:
    """The sample's best point, polished on all rows; or the way down from least squares, where that ends lower."""
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


def _drawn(problem: Problem, size: int) -> Problem:
    """A sample of so many rows, drawn by weight, and then counted, not weighted; all, if there are no more."""
    if problem.design.n <= size:
        return problem
    share = None if problem.weights is None else problem.weights / problem.weights.sum()
    drawn = np.random.default_rng(0).choice(problem.design.n, size, p=share)
    chosen, counts = np.unique(drawn, return_counts=True)
    return problem.part(chosen, counts.astype(np.float64))


def _least_squares(problem: Problem, ols: Doubles, rms: float) -> Point:
    """The start at least squares: alpha = 2, and the root mean square as the scale, where these are estimated."""
    alpha = 2.0 if problem.alpha is None else problem.alpha
    if problem.scale is not None:
        return Point(ols, alpha, problem.scale)
    # The loss grows fast above 2, so the scale begins at the largest residual.
    largest = float(np.abs(problem.residuals(ols)).max()) if alpha > 2 else rms
    return Point(ols, alpha, max(largest, 2 * problem.floor))


def _starts(sample: Problem, ols: Doubles, least_squares: Point, tell: Tell) -> list[Point]:
    """The points to descend from: least squares, alpha = 1, and fits of subsets, each with alpha = 0 and 1, or its own.

    Where alpha is at least 2, all is convex, and least squares is the only one; likewise for a loss that is convex and
    may grow like that.
    """
    alpha, own = sample.alpha, sample.own
    if alpha is not None and alpha >= 2:  # convex: one start is enough
        return [least_squares]
    if own is not None and own.convex and (own.square or not own.falls):
        return [least_squares]
    # alpha = 1 is convex in the coefficients and already robust, so it is worth a solve of its own. The size of
    # residuals tells whether least squares is nearer to it than no coefficients at all.
    near = min((_point(sample, gamma, 1.0) for gamma in (ols, np.zeros_like(ols))), key=lambda point: point.scale)
    smooth = Problem(sample.design, sample.y, sample.weights, 1.0, sample.scale, sample.floor, sample.low)
    # The kernel that is compiled anyway; of another loss, none is.
    smooth.evaluate, smooth.wrt = (sample.evaluate if own is None else barron(1.0).evaluate), sample.wrt
    smoothed = smooth.descend(near, tell, "first fit")
    starts = [least_squares, Point(smoothed.gamma, 1.0 if alpha is None else alpha, smoothed.scale)]
    if sample.low < 1 and not (own is not None and own.convex):
        tell("fits of subsets")
        for point in _subset_fits(_drawn(sample, max(FEW, 10 * sample.design.k))):
            starts += [_point(sample, point.gamma, 1.0)] * (alpha is None) + [point]
    return starts


def _point(problem: Problem, gamma: Doubles, alpha: float) -> Point:
    """The point of these coefficients with a scale by the size of their residuals, where the scale is estimated."""
    if problem.scale is not None:
        return Point(gamma, alpha, problem.scale)
    size = np.abs(problem.residuals(gamma))
    mean = float(np.average(size, weights=problem.weights))
    median = float(medians(size[None], problem.weights)[0])
    # The median absolute residual; where over half of the rows are fitted exactly, the mean.
    scale = 1.4826 * median if median > EXACT * mean else mean
    return Point(gamma, alpha, max(scale, 2 * problem.floor))


def medians(sizes: Doubles, weights: Doubles | None) -> Doubles:
    """The weighted median of each row."""
    if weights is None:
        medians: Doubles = np.median(sizes, axis=1)
        return medians
    order = np.argsort(sizes, axis=1)
    below = np.cumsum(weights[order], axis=1)
    middle = np.argmax(below >= 0.5 * below[:, -1:], axis=1)
    weighted: Doubles = np.take_along_axis(sizes, np.take_along_axis(order, middle[:, None], axis=1), axis=1)[:, 0]
    return weighted


# --- fits of subsets


class _Fits:
    """Some coefficients with a scale each, and the mean objective there.

    Where alpha is to be estimated it is 0, which forgets far rows most and so tells most minima apart.
    """

    def __init__(self, problem: Problem, Q: Doubles, gammas: Doubles) -> None:
        self.problem, self.Q, self.gammas = problem, Q, gammas
        self.alpha = 0.0 if problem.alpha is None else problem.alpha
        self.residuals = problem.y - gammas @ Q.T
        if problem.scale is None:
            self.scales = self.bounded(1.4826 * medians(np.abs(self.residuals), problem.weights))
        else:
            self.scales = np.full(len(gammas), problem.scale)

    def bounded(self, scales: Doubles) -> Doubles:
        """The scales, none below twice the floor, where only rounding is left."""
        return np.maximum(scales, 2 * self.problem.floor)

    def mean(self, each: Doubles) -> Doubles:
        """The weighted mean over the rows of the data, for each fit."""
        return np.asarray(np.average(each, axis=1, weights=self.problem.weights))

    def weights(self) -> Doubles:
        """The weight of each row in each fit, relative to a residual of 0."""
        z, own = self.residuals / self.scales[:, None], self.problem.own
        return np.asarray(weight(z, self.alpha, 1.0) if own is None else own.relative(z, 1.0))

    def rescale(self, weights: Doubles) -> None:
        """Take one step of the scales to where mean(z psi(z)) = 1."""
        if self.problem.scale is None:
            z = self.residuals / self.scales[:, None]
            self.scales = self.bounded(self.scales * np.sqrt(self.mean(weights * z * z)))

    def improve(self) -> None:
        """Take some steps of reweighted least squares: for alpha <= 2 no step raises the objective."""
        k = self.Q.shape[1]
        products = (self.Q[:, :, None] * self.Q[:, None, :]).reshape(-1, k * k)
        for _ in range(STEPS):
            weights = self.weights()
            self.rescale(weights)
            if self.problem.weights is not None:
                weights = weights * self.problem.weights
            grams = (weights @ products).reshape(-1, k, k)
            pulls = (weights * self.residuals) @ self.Q
            self.gammas = self.gammas + (np.linalg.pinv(grams, hermitian=True) @ pulls[:, :, None])[:, :, 0]
            self.residuals = self.problem.y - self.gammas @ self.Q.T

    def values(self) -> Doubles:
        """The mean objective of each fit, infinite where it is none."""
        z, own = self.residuals / self.scales[:, None], self.problem.own
        each = loss(z, self.alpha, 1.0) if own is None else own.value(z, 1.0) / own.top
        values = self.mean(each) + np.log(self.scales)
        return np.where(np.isfinite(values), values, math.inf)


def _subset_fits(problem: Problem) -> list[Point]:
    """The best of many exact fits of as many rows as coefficients, improved, and each minimum once."""
    design, y = problem.design, problem.y
    if not 0 < design.k <= min(20, design.n):  # a larger random subset is hardly ever free of outliers
        return []
    Q, rows = design.rows(slice(None)), _subsets(design.n, design.k, problem.weights)
    gammas: Doubles = (np.linalg.pinv(Q[rows]) @ y[rows][:, :, None])[:, :, 0]
    scored: list[tuple[float, int]] = []
    for start in range(0, len(gammas), AT_ONCE):
        fits = _Fits(problem, Q, gammas[start : start + AT_ONCE])
        fits.rescale(fits.weights())
        scored += zip(fits.values().tolist(), range(start, len(gammas)), strict=False)
    fits = _Fits(problem, Q, gammas[[draw for _, draw in sorted(scored)[:KEPT]]])
    fits.improve()
    values, chosen = fits.values(), list[int]()
    for i in np.argsort(values, kind="stable").tolist():
        if not chosen or values[i] - values[chosen[-1]] > SAME * (1 + abs(values[i])):
            chosen.append(i)
    return [Point(fits.gammas[i], fits.alpha, float(fits.scales[i])) for i in chosen[:FITS]]


def _subsets(n: int, k: int, weights: Doubles | None) -> NDArray[np.intp]:
    """Rows of subsets of k, shape (draws, k): all there are, or random ones, by weight, with a fixed seed."""
    if math.comb(n, k) <= DRAWS:
        return np.array(list(itertools.combinations(range(n), k)))
    random = np.random.default_rng(1)
    draws = []
    for _ in range(DRAWS // AT_ONCE):
        # The k smallest of exponential times with rates as the weights: drawn without replacement.
        times = random.exponential(size=(AT_ONCE, n))
        if weights is not None:
            times /= weights
        draws.append(np.argpartition(times, k - 1, axis=1)[:, :k])
    return np.concatenate(draws)
