"""Barron's distribution for SciPy: `barron`, to be used as the distributions in `scipy.stats`.  Needs SciPy."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy.stats import CensoredData, FitError, rv_continuous

from . import _density, curvature, influence, log_partition, loss, nll, weight
from ._arguments import ALPHA_RANGE
from ._meaning import check_rows
from ._types import ArrayLike, NDArray, Options
from .optimize import fit_shape
from .optimize._arrays import number
from .optimize._private_scipy import parameters, shape_info

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

__all__ = ["barron"]

_Method = Callable[..., Any]  # of SciPy's, which has no types
_Generator: TypeAlias = "np.random.Generator | np.random.RandomState"

_BLOCK = 1 << 13  # points for which one node of a quadrature is computed at a time; they stay in the cache
_PROPOSALS = 1 << 14
_ROUNDS, _STEPS = 100, 200  # of `fit`: far more than it takes
_REWEIGHTED = 30  # steps that tell one maximum from another
_MAXIMA = 3  # of those, to start from
_SAMPLE = 20_000
_NARROWEST = 1e-100  # fixed scales, in units of the deviations: of smaller ones the weights underflow


# --- arguments


def _check(name: str, value: object) -> None:
    """Refuse what has no real numbers, or what SciPy would drop in silence."""
    check_rows(**{name: value})
    dtype = getattr(value, "dtype", None)
    if getattr(dtype, "kind", "") in ("c", "m", "M"):  # complex numbers and times
        raise TypeError(f"{name} has dtype {dtype}: give real numbers, in one unit")


def _checked(method: _Method, *leading: str) -> _Method:
    """A method of SciPy's, of these arguments and the parameters, that takes numbers only.

    SciPy makes arrays of whatever it gets, without the mask, the unit or the labels.
    """
    names = (*leading, "alpha", "loc", "scale")

    @functools.wraps(method)
    def checked(self: _Barron, *args: object, **options: object) -> Any:
        """The method itself, once all its arguments are looked at together and one by one."""
        given = dict(zip(names, args, strict=False)) | {n: v for n, v in options.items() if n in names}
        for name, value in given.items():
            _check(name, value)
        check_rows(**given)
        return method(self, *args, **options)

    return checked


def _in_blocks(function: Callable[[NDArray, NDArray], NDArray], x: NDArray, alpha: NDArray) -> NDArray:
    """The function of x and alpha, block by block, in double; it may well be infinite, which gives no warning."""
    x, alpha = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(alpha, np.float64))
    shape, x, alpha = x.shape, x.reshape(-1), alpha.reshape(-1)
    if alpha.size and np.all(alpha == alpha[0]):
        alpha = alpha[:1]  # as SciPy repeats one shape for all x
    result = np.empty(x.size)
    with np.errstate(over="ignore"):
        for start in range(0, x.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            result[part] = function(x[part], alpha if alpha.size == 1 else alpha[part])
    return result.reshape(shape)


def _log_tail(z: NDArray, alpha: NDArray) -> NDArray:
    """The logarithm of the probability beyond z >= 0 at scale 1."""
    return _in_blocks(functools.partial(_density.log_tail, np), z, alpha)


def _upper_quantile(tail: NDArray, alpha: NDArray) -> NDArray:
    """The z >= 0 at scale 1 beyond which the probability is ``tail``."""
    return _in_blocks(functools.partial(_density.upper_quantile, np), tail, alpha)


# --- samples


def _widest(alpha: NDArray | float) -> NDArray:
    """The largest x exp(-rho/2); sqrt(2) at alpha = 0, where it is only approached."""
    alpha = np.asarray(alpha, np.float64)
    x = np.exp(_density.log_peak(np, 2.0, alpha))
    # Near the maximum the error of x counts squared; the factor is for rounding, 1e-13 at alpha = 1e-300.
    return x * np.exp(-0.5 * loss(x, alpha, 1.0)) * (1 + 1e-12)


@functools.lru_cache(maxsize=64)
def _widest_of_one(alpha: float) -> float:
    """The width for one shape, remembered from call to call, since samples are often drawn one by one."""
    return float(_widest(alpha))


def _accepted(
    alpha: NDArray | float, widest: NDArray | float, count: int, random_state: _Generator
) -> tuple[NDArray, NDArray]:
    """Proposals v/u with (u, v) uniform on (0, 1] x [-widest, widest], and which of them to keep: u^2 <= exp(-rho)."""
    u, x = random_state.random((2, count))
    np.subtract(1.0, u, out=u)
    x -= 0.5
    x *= 2 * widest
    x /= u
    rho = loss(x, alpha, 1.0)
    rho *= -0.5
    return x, np.log(u, out=u) <= rho


def _samples(alpha: float, count: int, random_state: _Generator) -> NDArray:
    """The samples of one shape, at location 0 and scale 1."""
    samples, filled, widest = np.empty(count), 0, _widest_of_one(alpha)
    while filled < count:
        proposed = min(_PROPOSALS, int(1.5 * (count - filled)) + 8)
        x, keep = _accepted(alpha, widest, proposed, random_state)
        x = x[keep][: count - filled]
        samples[filled : filled + x.size] = x
        filled += x.size
    return samples


def _samples_of_each(alpha: NDArray, random_state: _Generator) -> NDArray:
    """One sample for each element of alpha, a vector."""
    shapes, which = np.unique(alpha, return_inverse=True)
    widest, samples = _widest(shapes)[which], np.empty(alpha.size)
    for start in range(0, alpha.size, _PROPOSALS):
        left = np.arange(start, min(start + _PROPOSALS, alpha.size))
        while left.size:
            x, keep = _accepted(alpha[left], widest[left], left.size, random_state)
            samples[left[keep]] = x[keep]
            left = left[~keep]
    return samples


# --- fitting


def _centre(x: NDArray, alpha: float, scale: float, loc: float) -> float:
    """The location of largest likelihood next to that one."""
    for _ in range(_STEPS):
        z = (x - loc) / scale
        pull = float(np.mean(influence(z, alpha, 1.0)))
        # Newton's step where the mean loss bends upwards enough; else reweighting, which descends for alpha <= 2.
        weights, bend = float(np.mean(weight(z, alpha, 1.0))), float(np.mean(curvature(z, alpha, 1.0)))
        step = pull / (bend if bend > 0.3 * weights else weights)
        loc += scale * step
        if abs(step) <= 1e-10:
            break
    return loc


def _loss_and_scale(x: NDArray, locs: NDArray, alpha: float, scale: float | None) -> tuple[NDArray, NDArray, NDArray]:
    """The mean negative log-likelihoods that reweighting reaches from some locations, less log Z; locations, scales."""
    if scale is None:
        scales = np.median(abs(x - locs[:, None]), axis=1)
        scales = np.maximum(scales, 1e-10 * (x[-1] - x[0]))
    else:
        scales = np.full(len(locs), scale)
    for _ in range(_REWEIGHTED):
        z = (x - locs[:, None]) / scales[:, None]
        weights = weight(z, alpha, 1.0)
        locs = locs + scales * (weights * z).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300)
        if scale is None:
            scales = scales * np.maximum(np.sqrt((weights * z * z).mean(axis=1)), 1e-3)
            scales = np.maximum(scales, 1e-10 * (x[-1] - x[0]))
    z = (x - locs[:, None]) / scales[:, None]
    return loss(z, alpha, 1.0).mean(axis=1) + np.log(scales), locs, scales


def _locations(x: NDArray, alphas: tuple[float, float], scale: float | None) -> list[float]:
    """The locations to begin at: the best maxima at the least alpha, where there may be several, the median, the mean.

    These maxima are reached from quantiles and from the middles of the shortest intervals that hold some part of the
    data.
    """
    starts = [float(np.median(x)), float(np.mean(x))]
    if x[-1] == x[0] or alphas[0] >= 1:  # -log f is convex
        return starts
    middles = []
    for share in (2, 4, 8):
        width = max(len(x) // share, 1)
        lengths = x[width:] - x[: len(x) - width]
        if lengths.size:
            first = int(np.argmin(lengths))
            middles.append(0.5 * (x[first] + x[first + width]))
    locs = np.concatenate((np.quantile(x, np.arange(1, 16, 2) / 16), middles))
    losses, locs, scales = _loss_and_scale(x, locs, alphas[0], scale)
    best: list[int] = []
    for i in np.argsort(losses, kind="stable"):
        if math.isfinite(losses[i]) and all(abs(locs[i] - locs[j]) > 1e-3 * (scales[i] + scales[j]) for j in best):
            best.append(int(i))
    return [*(float(locs[i]) for i in best[:_MAXIMA]), *starts]


def _alternate(x: NDArray, loc: float, fixed_loc: bool, shape: Options) -> tuple[float, OptimizeResult]:
    """(alpha, scale) given loc, and loc given these, in turns; the last loc, and the last result of `fit_shape`."""
    for _ in range(_ROUNDS):
        estimate = fit_shape(x - loc, **shape)
        before = loc
        if estimate.success and not fixed_loc:
            loc = _centre(x, estimate.alpha, estimate.scale, loc)
        if abs(loc - before) <= 1e-8 * estimate.scale:
            break
    return loc, estimate


class _Barron(rv_continuous):  # type: ignore[misc]
    r"""Barron's distribution, whose negative log-likelihood is the general robust loss.

    %(before_notes)s

    Notes
    -----
    The density is

    .. math::

        f(x, \alpha) = \frac{\exp(-\rho(x, \alpha, 1))}{Z(\alpha)}, \qquad
        \rho(x, \alpha, 1) = \frac{|\alpha - 2|}{\alpha}
            \left(\left(\frac{x^2}{|\alpha - 2|} + 1\right)^{\alpha/2} - 1\right)

    for :math:`\alpha \ge 0`: 2 is the normal distribution, 1 a smoothed Laplace, 0 Cauchy's, :math:`\sqrt 2` times as
    wide; beyond 2 the tails are lighter than the normal's, and infinity is allowed. `barron.logpdf(x, alpha, loc,
    scale)` is ``-fastrobust.nll(x - loc, alpha, scale)``.

    All in double. The tails (`cdf`, `sf` and their logarithms) are integrals by 74 points, within 1e-14 of themselves
    near the centre and within rho(x) times 2e-16 further out, as the density is; the logarithms stay finite where the
    probabilities underflow. `ppf` and `isf` invert them to the same precision, from either end; near the median their
    error is 2e-16 times the scale. A point takes about a microsecond, a quantile five.

    `rvs` takes ratios of uniform numbers, of which at least seven in ten are kept, whatever alpha. The same seed gives
    the same samples, however many threads run.

    At alpha = 0 there is no mean (NaN), and the variance is infinite; otherwise all moments are finite, but large: the
    variance is 84 at 0.1 and 1e96 at 0.001. Those beyond a double are infinite.

    `fit` maximizes the likelihood, by `fastrobust.optimize.fit_shape` for alpha and scale, in turns with the location.
    It takes what SciPy's fits take (`falpha`, `floc`, `fscale`), and `alpha_range`, the range of alpha, (0, 2) unless
    given: for tails lighter than the normal's, raise its end.

    Source: J. T. Barron, A General and Adaptive Robust Loss Function, CVPR 2019, section 2.

    %(after_notes)s

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.stats import barron
    >>> print(barron.cdf(1.0, 2.0).round(12), barron.logsf(1e6, 0.0).round(6))
    0.841344746069 -14.613667
    >>> noise = barron(1.0, loc=3.0, scale=0.5)
    >>> noise.rvs(size=2, random_state=np.random.default_rng(0)).shape
    (2,)
    >>> print(noise.interval(0.95)[1].round(6), barron.var([0.0, 0.5, 2.0]).round(6))
    4.693374 [     inf 5.591264 1.      ]
    """

    pdf, logpdf, cdf, logcdf, sf, logsf = (
        _checked(getattr(rv_continuous, name), "x") for name in ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf")
    )
    ppf, isf = _checked(rv_continuous.ppf, "q"), _checked(rv_continuous.isf, "q")
    rvs, stats, entropy = _checked(rv_continuous.rvs), _checked(rv_continuous.stats), _checked(rv_continuous.entropy)

    def nnlf(self, theta: tuple[ArrayLike, ...], x: ArrayLike) -> float:
        """The negative log-likelihood of x, theta being (alpha, loc, scale); infinite where these are no parameters."""
        for name, value in zip(("alpha", "loc", "scale", "x"), (*theta, x), strict=False):
            _check(name, value)
        return super().nnlf(theta, x)

    def _shape_info(self) -> list[object]:
        """The range of alpha, for SciPy's functions that look for the parameters of a distribution."""
        return [shape_info("alpha", 0, np.inf)]

    def _argcheck(self, alpha: NDArray) -> NDArray:
        """Tell for each alpha whether there is a density; for NaN there is none."""
        return np.asarray(alpha) >= 0

    def _logpdf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The logarithm of the density at scale 1, as all of the following: SciPy moves and scales it."""
        return -nll(x, alpha, 1.0)

    def _pdf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The density."""
        return np.exp(self._logpdf(x, alpha))

    def _cdf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The probability below x, which by symmetry is that above -x."""
        return self._sf(-x, alpha)

    def _sf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The probability above x, from the nearer tail."""
        tail = np.exp(_log_tail(np.abs(x), alpha))
        return np.where(x < 0, 1 - tail, tail)

    def _logcdf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The logarithm of the probability below x."""
        return self._logsf(-x, alpha)

    def _logsf(self, x: NDArray, alpha: NDArray) -> NDArray:
        """The logarithm of the probability above x, finite where the probability underflows."""
        log_tail = _log_tail(np.abs(x), alpha)
        return np.where(x < 0, np.log1p(-np.exp(log_tail)), log_tail)

    def _ppf(self, q: NDArray, alpha: NDArray) -> NDArray:
        """The x below which the probability is q, from the nearer tail."""
        z = _upper_quantile(np.minimum(q, 1 - q), alpha)
        return np.where(q < 0.5, -z, z)

    def _isf(self, q: NDArray, alpha: NDArray) -> NDArray:
        """The x above which the probability is q, from the nearer tail."""
        z = _upper_quantile(np.minimum(q, 1 - q), alpha)
        return np.where(q > 0.5, -z, z)

    def _rvs(self, alpha: NDArray, size: Any = None, random_state: Any = None) -> NDArray:
        """Samples of the shape ``size``, for a single alpha, or for each element of what alpha broadcasts to."""
        alpha = np.asarray(alpha, np.float64)
        if alpha.size == 1:
            return _samples(float(alpha.reshape(())), math.prod(size), random_state).reshape(size)
        return _samples_of_each(np.broadcast_to(alpha, size).reshape(-1), random_state).reshape(size)

    def _munp(self, n: int, alpha: NDArray) -> NDArray:
        """The moment E x^n; NaN for an odd n at alpha = 0, where there is none."""
        alpha = np.asarray(alpha, np.float64)
        if n == 0:
            return np.ones_like(alpha)
        if n % 2:
            return np.where(alpha > 0, 0.0, math.nan)
        with np.errstate(over="ignore"):
            return np.exp(_density.log_moment(np, n, alpha))

    def moment(self, order: int, *args: ArrayLike, **options: ArrayLike) -> NDArray | float:
        """E x^order, not central; infinite ones are infinite for every loc, where SciPy's own sum would be NaN."""
        if order < 0 or order != int(order):
            raise ValueError(f"order is {order!r}: moments have integer orders, 0 or more")
        alpha, loc, scale = parameters(self, args, options)
        for name, value in (("alpha", alpha), ("loc", loc), ("scale", scale)):
            _check(name, value)
        alpha, loc, scale = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (alpha, loc, scale)))
        order, total = int(order), np.zeros(alpha.shape)
        good = self._argcheck(alpha) & (scale > 0)
        alpha, loc, scale = alpha[good], loc[good], scale[good]
        terms = np.zeros(alpha.shape)
        for k in range(0, order + 1, 2):
            centred = math.comb(order, k) * scale**k * self._munp(k, alpha)
            vanish = (loc == 0) & (k < order)  # 0 times infinity would be NaN
            terms += loc ** (order - k) * np.where(vanish, 0.0, centred)
        if order % 2:
            terms[alpha == 0] = math.nan
        total[good], total[~good] = terms, math.nan
        return total[()]

    def _stats(self, alpha: NDArray) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """The mean, the variance, the skewness and the excess kurtosis."""
        alpha = np.asarray(alpha, np.float64)
        none = np.where(alpha > 0, 0.0, math.nan)
        second, fourth = (_density.log_moment(np, order, alpha) for order in (2, 4))
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = np.where(np.isfinite(fourth), np.exp(fourth - 2 * second), np.where(alpha > 0, math.inf, math.nan))
            return none, np.exp(second), none, ratio - 3

    def _entropy(self, alpha: NDArray) -> NDArray:
        """The differential entropy, E rho + log Z."""
        alpha = np.asarray(alpha, np.float64)
        return _density.expected_loss(np, alpha) + log_partition(alpha)

    def fit(self, data: ArrayLike | CensoredData, *args: float, **options: Any) -> tuple[float, float, float]:
        """alpha, loc and scale of largest likelihood; see the notes on the distribution.

        Parameters
        ----------
        data : array_like
            Samples; flattened.
        *args : float, optional
            A starting value of alpha, which is not needed and not used; so are `loc` and `scale`.
        falpha, floc, fscale : float, optional
            Parameters to hold fixed. `f0` and `fix_alpha` are other names of `falpha`.
        alpha_range : tuple of two floats, optional
            Where alpha is looked for, (0, 2) unless given.
        method : {"MLE", "MM"}, optional
            "MM", the method of moments, is SciPy's own.

        Returns
        -------
        alpha, loc, scale : float

        Raises
        ------
        TypeError, ValueError
            For data that are no finite real numbers, and parameters that contradict each other, or are all fixed.
        scipy.stats.FitError
            Where the likelihood grows without bound, as half of the data are equal, or all.

        Notes
        -----
        Alternates between (alpha, scale) given loc and loc given these, which hardly depend on each other, since the
        density is symmetric. Below alpha = 1 the likelihood may have several maxima, one for each cluster of the data:
        it begins at the median, the mean, and the three best maxima that are found at the least alpha, on at most
        20,000 of the data, and takes the highest that it reaches. That may be one that treats no data as outliers.
        """
        if isinstance(data, np.ma.MaskedArray):
            raise TypeError("data must be real numbers without a mask: give data.compressed()")
        _check("data", data)
        if str(options.get("method", "mle")).lower() != "mle" or isinstance(data, CensoredData):
            return super().fit(data, *args, **options)
        names = ("falpha", "f0", "fix_alpha")
        fixed = [alpha for name in names if (alpha := options.pop(name, None)) is not None]
        floc, fscale, within = (options.pop(name, None) for name in ("floc", "fscale", "alpha_range"))
        for name in ("loc", "scale", "method"):
            options.pop(name, None)
        if options or len(args) > 1:
            raise TypeError(f"fit does not take {', '.join(options) or 'so many positional arguments'}; it takes data, "
                            "alpha, falpha, floc, fscale, alpha_range and method")  # fmt: skip
        if len(fixed) + (within is not None) > 1:
            raise TypeError("fit takes one of falpha, f0, fix_alpha and alpha_range")
        if within is not None and np.shape(within) != (2,):
            raise ValueError(f"alpha_range must be (low, high), got {within!r}; falpha fixes alpha")
        if fixed and floc is not None and fscale is not None:
            raise ValueError("alpha, loc and scale are all fixed: there is nothing to fit")
        if np.iscomplexobj(data):
            raise TypeError("data must be real numbers: give the real part")
        x = np.ravel(np.asarray(data, np.float64))
        if not x.size or not np.isfinite(x).all():
            raise ValueError("data is empty or has values that are not finite: leave those out")
        fixed = [number("falpha", value) for value in fixed]
        within = None if within is None else tuple(number("alpha_range", end) for end in within)
        if fixed and fixed[0] < 0:
            raise ValueError(f"falpha must not be negative, got {fixed[0]!r}: there is no density below 0")
        fscale = None if fscale is None else number("fscale", fscale, positive=True)
        floc = None if floc is None else number("floc", floc)
        if floc is not None and math.isinf(floc):
            raise ValueError(f"floc must be finite, got {floc!r}")

        # A power of two, so that no sum and no difference overflows, and no scale is subnormal.
        largest = max(float(np.max(np.abs(x))), abs(floc or 0.0))
        power = 40 if largest > 2.0**1000 else -100 if largest < 2.0**-900 else 0
        x, inner_loc = np.ldexp(x, -power), math.ldexp(floc or 0.0, -power)
        with np.errstate(over="ignore"):
            inner_scale = None if fscale is None else min(float(np.ldexp(fscale, -power)), np.finfo(float).max)
        size = float(np.median(np.abs(x - (np.median(x) if floc is None else inner_loc))))
        if inner_scale is not None and inner_scale < _NARROWEST * size:
            raise ValueError(f"fscale = {fscale!r} is over {1 / _NARROWEST:g} times smaller than the deviations of the "
                             f"data, about {math.ldexp(size, power):g}: give it in their unit")  # fmt: skip

        within = within or ALPHA_RANGE
        shape = {"alpha": fixed[0] if fixed else None, "alpha_range": within, "scale": inner_scale}
        if floc is not None:
            starts, part = [inner_loc], x
        else:
            # On a sample that all starts share; the seed is fixed, and the order of the data makes no difference.
            part = np.sort(x)
            if part.size > _SAMPLE:
                part = part[np.sort(np.random.default_rng(0).integers(0, part.size, _SAMPLE))]
            low, high = (fixed[0],) * 2 if fixed else within
            # Last the middle, where light tails that end with the data have their maximum: however wide another fit is.
            starts = [*_locations(part, (float(low), float(high)), inner_scale), 0.5 * (part[0] + part[-1])]
        reached: list[tuple[float, float, OptimizeResult]] = []  # the negative log-likelihood, the location, the rest
        for i, start in enumerate(starts):
            if i < len(starts) - 1 and any(abs(start - loc) <= estimate.scale for _, loc, estimate in reached):
                continue
            loc, estimate = _alternate(part, start, floc is not None, shape)
            if not estimate.success:
                raise FitError(f"{estimate.message}; fscale fixes the scale")
            reached.append((float(estimate.fun), loc, estimate))
        _, loc, estimate = min(reached, key=lambda fit: fit[0])
        if part.size < x.size:
            loc, estimate = _alternate(x, loc, False, shape)
            if not estimate.success:
                raise FitError(f"{estimate.message}; fscale fixes the scale")
        loc = math.ldexp(loc, power) if floc is None else floc
        return float(estimate.alpha), loc, math.ldexp(float(estimate.scale), power) if fscale is None else fscale


barron = _Barron(name="barron", shapes="alpha")
