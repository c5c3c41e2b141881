"""Maximum likelihood of shape and scale for given residuals.

    minimize over alpha, c:   mean rho(x, alpha, c) + log c + log Z(alpha)

For each alpha the scale solves mean(z psi(z)) = 1, z = x/c, whose left side falls as c grows; along these scales the
slope in alpha is mean(d rho/d alpha) + (log Z)'.  Both are found by bracketing, so that nothing can leave its bounds.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from scipy.optimize import OptimizeResult, brentq

from .. import PartitionGrad, _truncated, log_partition_and_grad, loss, loss_and_grad
from .._arguments import ALPHA_RANGE
from .._meaning import check_rows
from .._types import Array, ArrayLike, Namespace, NDArray
from ..kernels.losses.truncation import rule
from ._arrays import floats, library, number, weights_for
from ._residuals import Residuals, chosen

# Where the search begins: alpha at which the slope is looked at, on a sample.
_GRID = [*(-(2.0**i) for i in range(5, -2, -1)), *(i / 4 for i in (0, 1, 2, 4, 6, 8, 10, 12, 16, 24, 40, 64, 128))]
_WINDOWS = 4  # starts of truncated fits, each with a quarter of the scale of the one before
_BETTER = 5.0  # by how much a narrower window must raise the log-likelihood of what is inside
_STEPS = 7  # of Newton's at most, on all residuals
_APART = 0.01  # points between which the sample's derivatives are differences
_NEAREST = 1e-10  # the least scale, in units of the typical residual
_TINY, _HUGE = 1e-300, 1e300
_FAR = 1e15  # where the untruncated density ends for the information: beyond is less than 1e-9 of it


def _log_z(alpha: float, tau: float) -> PartitionGrad:
    """log Z of the density cut off at tau, which is taken as at least 1e-300, and its derivative."""
    return log_partition_and_grad(alpha, truncation=max(tau, _TINY))


def _edge(alpha: float, tau: float) -> float:
    """tau d(log Z)/d tau = 2 tau exp(-rho(tau))/Z."""
    if math.isinf(tau):
        return 0.0
    tau = max(tau, _TINY)
    return 2 * tau * math.exp(-float(loss(tau, alpha, 1.0)) - float(_log_z(alpha, tau).value))


class _Fit:
    """The two equations on some residuals, within bounds."""

    def __init__(self, residuals: Residuals, alphas: tuple[float, float], scales: tuple[float, float]) -> None:
        self.residuals, self.alphas = residuals, alphas
        self.low, self.high = map(math.log, scales)
        self.precision = 1e-7 if residuals.x.dtype == np.float32 else 1e-12  # that of the sums

    def growth(self, alpha: float, size: float) -> float:
        """mean(z psi) less what the likelihood wants it to be: positive where the scale is too small."""
        scale = math.exp(size)
        means = self.residuals.at(alpha, scale)
        if means.total and scale > 2 * means.end:  # so flat that no larger scale says anything else
            return -1.0
        return min(means.growth, _HUGE) - 1 + _edge(alpha, means.end / scale)

    def size(self, alpha: float, guess: float) -> float:
        """The logarithm of the best scale for that alpha, searched from a guess."""
        near = min(max(guess, self.low), self.high)
        if self.low == self.high:
            return near
        growth, step = functools.cache(functools.partial(self.growth, alpha)), 0.02
        up = growth(near) > 0
        while True:
            far = min(max(near + (step if up else -step), self.low), self.high)
            if far == near:
                return near
            if (growth(far) > 0) != up:
                return float(brentq(growth, near, far, xtol=self.precision))
            near, step = far, 3 * step

    def slope(self, alpha: float, size: float) -> float:
        """The derivative in alpha at that scale; and along the best scales, where it is the same."""
        scale = math.exp(size)
        means = self.residuals.at(alpha, scale)
        # Both parts diverge at 2, only their sum does not: log Z at the alpha at which sums of float32 are taken, which
        # is rounded, and 2 - eps for 2.
        kind = self.residuals.x.dtype.type
        alpha = float(kind(alpha))
        alpha = 2 - float(np.finfo(kind).eps) if alpha == 2 else alpha
        return min(means.dalpha, _HUGE) + float(_log_z(alpha, means.end / scale).dalpha)

    def value(self, alpha: float, size: float, end: float = math.inf) -> float:
        """The mean negative log-likelihood of what is within ``end``, which must be the same to compare."""
        means = self.residuals.at(alpha, math.exp(size), end)
        return means.rho + size + float(_log_z(alpha, means.end / math.exp(size)).value)

    def search(self, guess: float) -> tuple[float, float]:
        """The best alpha and log scale to be reached from that log scale, or, truncated, from smaller ones too."""
        solutions = []
        for start in range(_WINDOWS if self.residuals.truncated and self.low < self.high else 1):
            solutions.append(self.solve(*self.start(guess - start * math.log(4.0)), 0.05))
        # The widest window, unless the residuals in a narrower one are clearly likelier under what was found with it:
        # a wide one may hold outliers, a narrow one says little.
        solutions.sort(key=lambda point: -point[1])
        best = solutions[0]
        for alpha, size in solutions[1:]:
            inside = self.residuals.at(alpha, math.exp(size))
            gain = self.value(*best, inside.end) - self.value(alpha, size, inside.end)
            if size > self.low and gain * inside.total > _BETTER:
                best = alpha, size
        return best

    def start(self, guess: float) -> tuple[float, float]:
        """The best alpha of a grid, with its scale."""
        low, high = self.alphas
        grid = [low, *(a for a in _GRID if low < a < high), *([high] if high > low else [])]
        sizes: list[float] = []
        for alpha in grid:
            sizes.append(self.size(alpha, sizes[-1] if sizes else guess))
        end = math.exp(guess) * self.residuals.truncation
        values = [self.value(alpha, size, end) for alpha, size in zip(grid, sizes, strict=True)]
        best = min(range(len(grid)), key=lambda i: values[i])
        return grid[best], sizes[best]

    def solve(self, alpha: float, size: float, step: float) -> tuple[float, float]:
        """The solution near an alpha and a logarithm of the scale.

        Steps in alpha grow until the slope has changed its sign; then it is searched between the last two.
        """
        sizes = {alpha: size}

        @functools.cache
        def slope(alpha: float) -> float:  # along the best scales, each searched from that of the nearest alpha
            nearest = min(sizes, key=lambda other: abs(other - alpha))
            sizes[alpha] = self.size(alpha, sizes[nearest])
            return self.slope(alpha, sizes[alpha])

        low, high = self.alphas
        near = min(max(alpha, low), high)
        down = slope(near) > 0
        while True:
            far = min(max(near + (-step if down else step), low), high)
            if far == near:
                break
            if (slope(far) > 0) != down:
                near = float(brentq(slope, near, far, xtol=10 * self.precision))
                break
            near, step = far, 2 * step
        slope(near)
        return near, sizes[near]

    def equations(self, at: NDArray) -> NDArray:
        """The derivative of the mean negative log-likelihood in alpha and the logarithm of the scale."""
        alpha, size = map(float, at)
        return np.array([self.slope(alpha, size), -self.growth(alpha, size)])

    def from_sample(self, sample: _Fit, alpha: float, size: float) -> tuple[float, float] | None:
        """The solution by Newton's steps from that on a sample, or None if they do not arrive at one.

        Their Jacobian is the sample's, by differences, and after each step Broyden's: the residuals are read once for
        each, some five times.
        """
        bounds, at = np.array([self.alphas, (self.low, self.high)]), np.array([alpha, size])
        inside = np.minimum(at - bounds[:, 0], bounds[:, 1] - at)
        free = np.flatnonzero(inside > 0)
        if self.residuals.truncated or not free.size or (inside[free] < _APART).any():
            return None
        shifts = _APART * np.eye(2)[free]
        jacobian = np.array([sample.equations(at + s) - sample.equations(at - s) for s in shifts])[:, free].T
        jacobian /= 2 * _APART
        tolerance = np.array([10 * self.precision, self.precision])[free]
        left = self.equations(at)
        for _ in range(_STEPS):
            if not (np.isfinite([*jacobian.flat, *left]).all() and jacobian[0, 0] > 0 and np.linalg.det(jacobian) > 0):
                return None  # no minimum
            step = np.linalg.solve(jacobian, -left[free])
            if (abs(step) <= tolerance).all():
                # At a bound the likelihood must fall towards the inside.
                outward = np.where(at == bounds[:, 0], left, np.where(at == bounds[:, 1], -left, 0.0))
                fixed = bounds[:, 0] == bounds[:, 1]
                return (float(at[0]), float(at[1])) if ((outward >= 0) | fixed).all() else None
            at[free] += step
            if ((at[free] <= bounds[free, 0]) | (at[free] >= bounds[free, 1])).any():
                return None
            before, left = left, self.equations(at)
            jacobian += np.outer(left[free] - before[free] - jacobian @ step, step) / (step @ step)
        return None

    def errors(self, alpha: float, size: float) -> NDArray:
        """Standard errors of alpha and log c by Fisher's information; 0 for what is fixed, infinite without any."""
        means = self.residuals.at(alpha, math.exp(size))
        free = np.flatnonzero([self.alphas[0] < self.alphas[1], self.low < self.high])
        information = _information(alpha, max(means.end / math.exp(size), _TINY))[np.ix_(free, free)]
        roots, errors = np.sqrt(np.diag(information)), np.zeros(2)
        errors[free] = math.inf
        if means.total and free.size and (roots > 0).all():
            correlation = information / roots / roots[:, None]
            if np.linalg.eigvalsh(correlation)[0] > 1e-9:
                errors[free] = np.sqrt(np.diag(np.linalg.inv(correlation)) / means.total) / roots
        return errors


def _information(alpha: float, truncation: float) -> NDArray:
    """Fisher's information about (alpha, log c) in one residual, by quadrature over the density."""
    x, weights = rule(min(truncation, _FAR))
    with np.errstate(over="ignore", invalid="ignore"):
        rho = loss_and_grad(x, alpha, 1.0, wrt=("alpha", "scale"))
    density = weights * np.exp(-rho.value)
    density /= density.sum()
    scores = np.where(density > 0, (rho.dalpha, rho.dscale), 0.0)
    scores -= (scores @ density)[:, None]
    return (scores * density) @ scores.T


def fit_shape(
    x: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    alpha: float | None = None,
    scale: float | None = None,
    alpha_range: tuple[float, float] = ALPHA_RANGE,
    scale_range: tuple[float, float] = (0.0, math.inf),
    truncation: float | None = None,
) -> OptimizeResult:
    """Maximum-likelihood shape alpha and scale c of residuals.

    Parameters
    ----------
    x : array of NumPy or CuPy, any shape
        Residuals, centred at 0. CuPy arrays stay on their device.
    weights : array, broadcast to x, optional
        How often each residual counts, >= 0; 0 excludes it, whatever it is. Weights that sum to 1 are one residual.
    alpha, scale : float, optional
        What is given is fixed, and its range does not matter.
    alpha_range : (float, float)
        Bounds of alpha, (0, 2) unless given. Beyond 2 the tails are lighter than the normal's; below 0 there is only a
        truncated density.
    scale_range : (float, float)
        Bounds of the scale. With 0, the scale is positive, and at least 1e-10 of the typical residual.
    truncation : float, optional
        tau > 0: the density is cut off at abs(x) = tau c, and exists for every alpha. Residuals beyond lie outside
        of the density and are left out: the result is that alpha and c which the residuals within tau c have as
        their most likely ones. The further the others are, the less they matter.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``alpha``, ``scale``, and both as ``x``; ``fun``, the mean negative log-likelihood of what is inside, and
        ``grad`` of it; ``stderr``, standard errors of alpha and scale by Fisher's information (0 for what is fixed, and
        to be taken with care at a bound); ``inside``, the sum of weights inside; ``nfev``, how often all residuals were
        read; ``success`` and ``status`` (1 where the likelihood has no maximum because half of the residuals are 0, or
        more, and the scale shrinks to nothing, where at most two residuals are inside, or where the equations could not
        be solved); ``message``, which says what ended at a bound.

    Raises
    ------
    TypeError
        For arrays of other libraries, and what holds no real numbers.
    ValueError
        For no residuals, NaN or (without truncation) infinity among them, and bounds that are none.

    Notes
    -----
    Likelihood: Barron 2019, eq. 16; truncated: Chebrolu et al. 2021, arXiv 2004.14938. The best scale for an alpha
    solves mean(z psi(z)) = 1 with z = x/c; alpha, mean(d rho/d alpha) = -(log Z)' there. Both by bracketing, started
    from the median absolute residual and the best of a grid of alpha, on at most 20,000 residuals; from there on all
    of them by Newton's steps, which read them some five times, or, where that is near a bound or the density is
    truncated, by bracketing again, which reads them ten to eighty times. Truncated, there may be several solutions: the
    widest counts, unless the residuals in a narrower one are clearly likelier under that.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.optimize import fit_shape
    >>> x = np.random.default_rng(0).standard_cauchy(100_000)  # alpha = 0, c = 1/sqrt(2)
    >>> found = fit_shape(x)
    >>> print(round(found.alpha, 2), round(found.scale, 2), found.stderr.round(3))
    0.0 0.71 [0.001 0.003]
    """
    xp = library("x", x)
    tau = math.inf if truncation is None else _truncated.checked(truncation)
    truncated = math.isfinite(tau)
    alphas = _bounds("alpha", alpha, alpha_range)
    if alphas[0] < 0 and not truncated:
        what = f"alpha_range must not be negative without a truncation, got {alpha_range!r}"
        if alpha is not None:
            what = f"alpha must not be negative without a truncation, got {alpha!r}"
        raise ValueError(f"{what}: there is no density below 0")
    given = _bounds("scale", scale, scale_range)
    if scale is not None and not 0 < given[1] < math.inf:
        raise ValueError(f"scale must be positive and finite, got {scale!r}")
    if not (0 <= given[0] < math.inf and given[1] > 0):
        raise ValueError(f"scale_range must be (low, high) with 0 <= low < inf and high > 0, got {scale_range!r}")
    check_rows(x=x, weights=weights)
    each = floats(xp, "x", x)
    counts = weights_for(xp, weights, each) if each.size else None
    each, counts = each.reshape(-1), None if counts is None else counts.reshape(-1)
    if counts is not None:
        each, counts = each[counts > 0], counts[counts > 0]
    if not each.size:
        raise ValueError("x is empty: there is nothing to fit")
    largest = max(float(each.max()), -float(each.min()))
    if math.isnan(largest) or (math.isinf(largest) and not truncated):
        remedy = "a weight of 0 leaves them out" + (", and so does a truncation" if math.isinf(largest) else "")
        raise ValueError(f"x holds {'NaN' if math.isnan(largest) else 'infinity'}: {remedy}")
    if math.isinf(largest):
        finite = abs(each[xp.isfinite(each)])
        if not finite.size:
            raise ValueError("x holds nothing finite: there is nothing to fit")
        largest = float(finite.max())
    typical = _typical(xp, each[chosen(xp, each.size)]) or largest or 1.0
    # In units in which squares of the scale are neither subnormal nor infinite.
    unit = 1.0 if abs(math.log(typical)) < 25 else 2.0 ** round(math.log2(typical))
    if unit != 1:
        each, typical, largest = each / each.dtype.type(unit), typical / unit, min(largest / unit, _HUGE)
    scales = floor, widest = _NEAREST * typical, 2 * max(largest, typical)
    if given != (0, math.inf):
        low, high = (min(max(end / unit, _TINY), _HUGE) for end in given)
        if given[1] < _TINY * unit:
            what = f"scale_range = {scale_range!r}" if scale is None else f"scale = {scale!r}"
            raise ValueError(f"{what} is over {1 / _TINY:g} times smaller than the residuals, about "
                             f"{typical * unit:g}: give it in their unit")  # fmt: skip
        high = high if math.isfinite(given[1]) else max(low, widest)
        scales = low if given[0] else min(floor, high), high

    residuals = Residuals.ordered(xp, each, counts, tau)
    part = residuals.sample()
    fit = _Fit(part, alphas, scales)
    shape, size = fit.search(math.log(1.4826 * typical))
    if part is not residuals:
        near, sample = 3 * float(fit.errors(shape, size)[0]), fit
        fit = _Fit(residuals, alphas, scales)
        arrived = fit.from_sample(sample, shape, size)
        shape, size = arrived or fit.solve(shape, size, min(max(near, 1e-4), 1.0))
    return _result(fit, shape, size, unit, given, math.log(floor))


def _result(
    fit: _Fit, alpha: float, size: float, unit: float, given: tuple[float, float], floor: float
) -> OptimizeResult:
    """The result of a fit, in the units of the residuals that were given.

    Here is decided whether the fit is a success: the likelihood must have a maximum, enough residuals must be inside,
    and the equations must be solved, but for those of parameters at a bound.
    """
    scale = math.exp(size)
    means = fit.residuals.at(alpha, scale)
    unsolved, ends = 0.0, []
    equations = {
        "alpha": (alpha, fit.alphas, fit.slope(alpha, size)),
        "scale": (size, (fit.low, fit.high), -fit.growth(alpha, size)),
    }
    for name, (at, (low, high), slope) in equations.items():
        if low < high and at in (low, high):
            ends.append(f"{name} is at its {'lower' if at == low else 'upper'} bound")
        elif low < high:
            unsolved = max(unsolved, abs(slope))
    failure = ""
    if fit.low < fit.high and (fit.residuals.half_are_0(alpha) or (size == fit.low and size <= floor)):
        failure = "the likelihood grows as the scale shrinks: too many residuals are 0"
    elif not means.inside or (
        fit.residuals.truncated and means.inside <= 2 and (fit.low < fit.high or fit.alphas[0] < fit.alphas[1])
    ):
        failure = f"only {means.inside} residuals are inside: another truncation or scale may help"
    # Where residuals enter and leave with the scale, the equations jump by one residual's part.
    elif unsolved > max(1e3 * fit.precision, 20 / means.inside if fit.residuals.truncated else 0.0):
        failure = f"the equations are solved to {unsolved:.1g} only"
    with np.errstate(over="ignore", under="ignore"):
        true_scale = min(max(scale * unit, given[0]), given[1])
        grad = np.array([slope for _, _, slope in equations.values()]) / np.array([1.0, true_scale])
        errors = fit.errors(alpha, size) * np.array([1.0, true_scale])
    if not 0 < true_scale < math.inf:
        failure = failure or "the scale lies outside of the range of float64: change the units of x"
    return OptimizeResult(
        x=np.array([alpha, true_scale]),
        alpha=alpha,
        scale=true_scale,
        # A given scale that is too large for the unit has the same losses as the largest one there: none.
        fun=fit.value(alpha, size) + math.log(max(unit, given[0] / scale)),
        grad=grad,
        stderr=errors,
        inside=means.total,
        nfev=len(fit.residuals.known),
        success=not failure,
        status=int(bool(failure)),
        message="; ".join([*ends, failure] if failure else ends) or "the likelihood is at its maximum",
    )


def _typical(xp: Namespace, x: Array) -> float:
    """The median absolute residual; where that is 0, of those that are not."""
    size = abs(x[xp.isfinite(x)])
    typical = float(xp.median(size)) if size.size else 0.0
    if not typical and bool((size > 0).any()):
        typical = float(xp.median(size[size > 0]))
    return typical


def _bounds(name: str, fixed: float | None, within: tuple[float, float]) -> tuple[float, float]:
    """The bounds of a parameter; equal ones where it is fixed."""
    if fixed is not None:
        if isinstance(fixed, (tuple, list)):
            raise TypeError(f"{name} must be a number or None, got {fixed!r}: bounds are {name}_range")
        fixed = number(name, fixed)
        return fixed, fixed
    name = f"{name}_range"
    try:
        low, high = within
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be (low, high), got {within!r}") from None
    low, high = number(name, low), number(name, high)
    if low > high:
        raise ValueError(f"{name} must be (low, high) with low <= high, got {within!r}")
    return low, high
