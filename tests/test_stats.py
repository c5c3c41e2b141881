"""`fastrobust.stats.barron` against SciPy's own distributions, mpmath's quadrature and samples."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest
from marks import slow
from mpmath import mp, mpf
from scipy import stats

import fastrobust as fr
from fastrobust.optimize import fit_shape
from fastrobust.stats import barron

SHAPES = [0.0, 1e-8, 0.01, 0.3, 1.0, 1.9, 2 - 2.0**-52, 2.0, 2.001, 3.0, 8.0, 100.0, np.inf]
NORMAL, CAUCHY = stats.norm(), stats.cauchy(scale=np.sqrt(2))

# --- the oracle: the density's integrals, with the loss from its definition


def loss(x: mpf, alpha: float) -> mpf:
    return oracle.loss(x, alpha, 1.0) if x else mpf(0)


def beyond(z: float, alpha: float, g: Any = lambda x: 1) -> mpf:
    """The integral of g exp(rho(z) - rho) from z >= 0 on."""
    start = loss(mpf(z), alpha)

    def integrand(y: mpf) -> mpf:
        depth = loss(z + y, alpha) - start
        return g(z + y) * mpmath.exp(-depth) if depth < 300 else mpf(0)

    steepness = oracle.influence(mpf(z), alpha, 1.0) if z else mpf(0)
    length = 1 / (steepness + mpf(1) / (1 + z))
    b = abs(mpf(alpha) - 2) if np.isfinite(alpha) else mpf(1)
    ends = [length * mpf(2) ** k for k in range(-6, 9)]
    if 0 < b < 1 and z < 10:
        ends += [mpmath.sqrt(b) * mpf(4) ** k for k in (-1, 0, 1, 2)]
    if alpha < 0.6:
        ends += [length * mpf(10) ** k for k in range(3, 40, 2)] + [mpmath.inf]
    with mp.workdps(22):
        return mpmath.quad(integrand, [mpf(0), *sorted(ends)])


@functools.cache
def mass(alpha: float) -> mpf:
    return 2 * beyond(0.0, alpha)


TAILS = [
    pytest.param(z, a, marks=[pytest.mark.slow] * (z in (0.1, 10.0)))
    for a in SHAPES for z in (0.1, 1.5, 10.0, 1e3, 1e6) if fr.loss(z, a, 1.0) < 5e3
]  # fmt: skip


# --- the distribution function and its inverse


@pytest.mark.parametrize(("z", "alpha"), TAILS)
def test_tails_against_mpmath(z: float, alpha: float) -> None:
    """Relative errors: 1e-14, and 4 units of the last place of rho, which the density has as well."""
    rho = loss(mpf(z), alpha)
    log_truth = mpmath.log(beyond(z, alpha) / mass(alpha)) - rho
    allowed = 1e-14 + 4 * 2.0**-52 * float(rho)
    assert abs(barron.logsf(z, alpha) - log_truth) <= allowed
    assert abs(barron.logcdf(-z, alpha) - log_truth) <= allowed
    truth = mpmath.exp(log_truth)
    if truth > 1e-300:
        assert abs(barron.sf(z, alpha) / truth - 1) <= allowed
        assert abs(barron.cdf(z, alpha) + truth - 1) <= 4e-16
        assert barron.logcdf(z, alpha) == pytest.approx(float(mpmath.log1p(-truth)), rel=1e-14)


def test_the_normal_and_cauchy() -> None:
    x = np.concatenate([-np.geomspace(1e-8, 37, 40), [0.0], np.geomspace(1e-8, 37, 40)])
    q = np.array([1e-300, 1e-20, 1e-3, 0.2, 0.5, 0.7, 1 - 1e-3, 1 - 1e-15])
    for alpha, known in ((2.0, NORMAL), (0.0, CAUCHY)):
        for name in ("pdf", "cdf", "sf"):
            np.testing.assert_allclose(getattr(barron, name)(x, alpha), getattr(known, name)(x), rtol=4e-13)
        np.testing.assert_allclose(barron.logpdf(x, alpha), known.logpdf(x), rtol=1e-14)
        for name in ("logcdf", "logsf"):
            np.testing.assert_allclose(getattr(barron, name)(x, alpha), getattr(known, name)(x), rtol=4e-13)
        for name in ("ppf", "isf"):
            found, expected = getattr(barron, name)(q, alpha), getattr(known, name)(q)
            np.testing.assert_allclose(found, expected, rtol=4e-13, atol=3e-16)
        assert barron.entropy(alpha) == pytest.approx(known.entropy(), rel=4e-15)
    # Where the tail underflows; SciPy's own cauchy.sf is an arctangent.
    assert barron.logsf(100.0, 2.0) == pytest.approx(NORMAL.logsf(100.0), rel=1e-15)
    assert barron.logsf(1e6, 0.0) == pytest.approx(
        float(mpmath.log(mpmath.atan(mpmath.sqrt(2) / 10**6) / mp.pi)), 1e-15
    )
    assert barron.logsf(1e300, 0.0) == pytest.approx(np.log(np.sqrt(2) / np.pi) - 300 * np.log(10), rel=1e-15)


Q = np.concatenate([10.0 ** -np.array([300.0, 200, 100, 50, 16, 10, 5, 2, 1]), [0.3, 0.49, 0.5, 0.51, 0.9, 1 - 1e-9]])


@pytest.mark.parametrize("alpha", SHAPES, ids=str)
def test_quantiles_invert(alpha: float) -> None:
    """Relative errors of q: 1e-14, and 10 units of the last place of log q, for which no x is near enough."""
    allowed = 1e-14 - 10 * 2.0**-52 * np.log(Q)
    assert np.all(np.abs(barron.cdf(barron.ppf(Q, alpha), alpha) / Q - 1) <= allowed)
    assert np.all(np.abs(barron.sf(barron.isf(Q, alpha), alpha) / Q - 1) <= allowed)
    last = 1 - 2.0**-53
    assert barron.cdf(barron.ppf(last, alpha), alpha) == last
    assert np.all(np.diff(barron.ppf(Q, alpha)) > 0)
    x = np.array([0.1, 0.8, 2.5])
    # On the side where cdf is near 1 it holds x to its last place over the density.
    rounding = 8 * 2.0**-53 / barron.pdf(x, alpha)
    assert np.all(np.abs(barron.ppf(barron.cdf(x, alpha), alpha) - x) <= rounding)
    np.testing.assert_allclose(barron.isf(barron.sf(x, alpha), alpha), x, rtol=1e-14, atol=2e-15)


@pytest.mark.parametrize("alpha", SHAPES, ids=str)
def test_symmetry_and_sums(alpha: float) -> None:
    x = np.array([0.0, 1e-300, 1e-5, 0.3, 1.0, 2.0, 4.0, 30.0])
    np.testing.assert_array_equal(barron.cdf(x, alpha), barron.sf(-x, alpha))
    np.testing.assert_array_equal(barron.pdf(x, alpha), barron.pdf(-x, alpha))
    np.testing.assert_allclose(barron.cdf(x, alpha) + barron.sf(x, alpha), 1, rtol=1e-15)
    assert barron.cdf(0.0, alpha) == pytest.approx(0.5, rel=1e-15)
    for median in (barron.median(alpha), barron.ppf(0.5, alpha), barron.isf(0.5, alpha)):
        assert median == 0 and not np.signbit(median)
    assert barron.median(alpha, loc=3.0, scale=1e-3) == 3.0


def test_ends_and_what_is_no_number() -> None:
    for alpha in SHAPES:
        at = np.array([-np.inf, np.inf, np.nan])
        np.testing.assert_array_equal(barron.cdf(at, alpha), [0, 1, np.nan])
        np.testing.assert_array_equal(barron.sf(at, alpha), [1, 0, np.nan])
        np.testing.assert_array_equal(barron.pdf(at, alpha), [0, 0, np.nan])
        np.testing.assert_array_equal(barron.logsf(at, alpha), [0, -np.inf, np.nan])
        np.testing.assert_array_equal(barron.ppf([0, 1, np.nan, -0.1, 1.1], alpha), [-np.inf, np.inf] + 3 * [np.nan])
        np.testing.assert_array_equal(barron.isf([0, 1, np.nan], alpha), [np.inf, -np.inf, np.nan])
        far = np.array([1e10, 1e154, 1e300])
        assert barron.logsf(far, alpha).tolist() == sorted(barron.logsf(far, alpha), reverse=True)
        assert np.all(barron.ppf(5e-324, alpha) < barron.ppf(1e-300, alpha))
    for bad in (-1.0, -0.001, np.nan, -np.inf):
        for name, at in (("pdf", 0.0), ("cdf", 1.0), ("logsf", 1.0), ("ppf", 0.3), ("var", None), ("entropy", None)):
            assert np.isnan(getattr(barron, name)(*(() if at is None else (at,)), bad))
        with pytest.raises(ValueError, match="Domain error"):
            barron.rvs(bad, size=2)


# --- moments and entropy


@pytest.mark.parametrize("alpha", [*SHAPES[3:7], np.inf, *slow(0.01, *SHAPES[7:-1])], ids=str)
def test_normalization_moments_and_entropy_against_mpmath(alpha: float) -> None:
    """To 1e-13 and, for the moments at alpha = 0.01, 1e-12: they are 10^11 and 10^27."""
    assert abs(mass(alpha) * mpf(float(barron.pdf(0.0, alpha))) - 1) < 4e-15
    entropy = 2 * beyond(0.0, alpha, lambda x: loss(x, alpha)) / mass(alpha) + mpmath.log(mass(alpha))
    assert abs(barron.entropy(alpha) / entropy - 1) < 1e-13
    second, fourth = (moment(order, alpha) / mass(alpha) for order in (2, 4))
    rtol = 1e-12 if alpha < 0.1 else 1e-13
    assert abs(barron.var(alpha) / second - 1) < rtol
    assert abs(barron.moment(4, alpha) / fourth - 1) < rtol
    mean, _, skewness, kurtosis = barron.stats(alpha, moments="mvsk")
    assert mean == 0 and skewness == 0 and barron.moment(3, alpha) == 0
    assert float(kurtosis) == pytest.approx(float(fourth / second**2 - 3), rel=3 * rtol, abs=1e-13)


def moment(order: int, alpha: float) -> mpf:
    """The integral of |x|^order exp(-rho), over log x."""

    def integrand(log_x: mpf) -> mpf:
        x = mpmath.exp(log_x)
        rho = loss(x, alpha)
        return mpmath.exp((order + 1) * log_x - rho) if rho < 1e4 else mpf(0)

    ends = range(-25, 140, 5) if alpha < 0.1 else range(-25, 25 if alpha < 0.5 else 8)
    with mp.workdps(22):
        return 2 * mpmath.quad(integrand, ends)


def test_moments_that_are_infinite_or_nearly() -> None:
    mean, variance, skewness, kurtosis = barron.stats(0.0, moments="mvsk")
    assert np.isnan(mean) and variance == np.inf and np.isnan(skewness) and np.isnan(kurtosis)
    assert barron.std(0.0) == np.inf and barron.moment(4, 0.0) == np.inf and np.isnan(barron.moment(1, 0.0))
    # The rest from mpmath, 30 digits; below 0.00031 the variance exceeds a double.
    assert barron.var(0.0015) == pytest.approx(3.52967665946964e64, rel=1e-12)
    assert barron.var([0.01, 0.005])[1] == pytest.approx(2.6917555709561399e20, rel=1e-12)
    assert barron.var([1e-300, 1e-5, 3.0e-4]).tolist() == 3 * [np.inf] and barron.var(3.3e-4) == pytest.approx(
        1.0212832413722699e287, 1e-12
    )
    assert barron.stats([1e-5, 0.02], moments="k")[0] == np.inf and np.isfinite(barron.stats(0.02, moments="k"))
    assert barron.mean([0.0, 0.5], loc=2.0)[1] == 2.0 and barron.mean(1e-9) == 0.0
    assert barron.moment(2, 2.0, loc=1.0, scale=3.0) == pytest.approx(10.0, rel=1e-12)
    known = [NORMAL.dist.moment(order, 0.5, 2.0) for order in range(8)]
    assert [barron.moment(order, 2.0, 0.5, 2.0) for order in range(8)] == pytest.approx(known, rel=1e-12)
    assert barron.moment(4, [0.0, 1e-5, 2.0], loc=[1.0, -1.0, 0.0])[:2].tolist() == [np.inf, np.inf]
    assert np.isnan(barron.moment(2, [-1.0, 1.0], scale=[1.0, -1.0])).all()
    with pytest.raises(ValueError, match="order"):
        barron.moment(-2, 1.0)


# --- samples


@pytest.mark.parametrize("alpha", SHAPES, ids=str)
def test_samples_have_the_distribution(alpha: float) -> None:
    """Kolmogorov and Smirnov with a fixed seed; the tails by counts beyond a quantile."""
    samples = barron.rvs(alpha, loc=0.3, scale=0.7, size=20_000, random_state=np.random.default_rng(5))
    assert stats.kstest(samples, barron(alpha, 0.3, 0.7).cdf).pvalue > 1e-3
    assert np.isfinite(samples).all()
    many = barron.rvs(alpha, size=400_000, random_state=np.random.default_rng(6))
    for sign in (-1, 1):
        beyond_it = np.count_nonzero(sign * many > barron.isf(1e-3, alpha))
        assert abs(beyond_it - 400) < 80  # four standard deviations


def test_samples_of_many_shapes_at_once() -> None:
    shapes = np.array([0.0, 0.5, 2.0, np.inf])
    samples = barron.rvs(shapes, scale=2.0, size=(10_000, 4), random_state=np.random.default_rng(7))
    for alpha, column in zip(shapes, samples.T, strict=True):
        assert stats.kstest(column, barron(alpha, scale=2.0).cdf).pvalue > 1e-3
    each = np.random.default_rng(8).uniform(0, 4, 20_000)
    uniform = barron.cdf(barron.rvs(each, random_state=np.random.default_rng(9)), each)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3


def test_samples_repeat() -> None:
    for shape in (1.3, np.array([0.3, 1.0, 5.0])):
        size = (70_000, *np.shape(shape))
        first, second = (barron.rvs(shape, size=size, random_state=np.random.default_rng(1)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, barron.rvs(shape, size=size, random_state=np.random.default_rng(2)))
    np.testing.assert_array_equal(barron.rvs(1.0, size=9, random_state=3), barron.rvs(1.0, size=9, random_state=3))
    assert np.ndim(barron.rvs(1.0, random_state=0)) == 0 and barron.rvs(1.0, size=0, random_state=0).shape == (0,)
    # The bits themselves, so that a change does not go unseen.
    known = barron.rvs(1.0, size=2, random_state=np.random.default_rng(0))
    np.testing.assert_allclose(known, KNOWN, rtol=1e-15)


KNOWN = [1.0605967137702905, -3.7638568574097024]


# --- SciPy's interface


def test_broadcasting_and_frozen_distributions() -> None:
    x, alpha, scale = np.linspace(-3, 3, 7)[:, None, None], np.array([0.0, 1.0, np.inf])[:, None], np.array([0.5, 2.0])
    for name in ("pdf", "logpdf", "cdf", "sf", "logcdf", "logsf"):
        whole = getattr(barron, name)(x, alpha, 0.1, scale)
        assert whole.shape == (7, 3, 2)
        one = getattr(barron(np.inf, loc=0.1, scale=2.0), name)(1.0)
        assert one == pytest.approx(whole[4, 2, 1], rel=1e-15)
    assert barron.ppf([[0.1], [0.5]], [0.0, 1.0, 2.0]).shape == (2, 3)
    assert barron.var([[0.5], [1.0]], scale=[1.0, 2.0]).shape == (2, 2)
    np.testing.assert_allclose(barron.logpdf(x, alpha, 0.1, scale), -fr.nll(x - 0.1, alpha, scale), rtol=1e-13)
    large = np.linspace(-5, 5, 50_001)
    np.testing.assert_array_equal(barron.cdf(large, 1.0)[::5000], barron.cdf(large[::5000], 1.0))
    assert barron.cdf(np.float32(1), np.float32(2)) == pytest.approx(NORMAL.cdf(1), rel=1e-15)
    assert barron.interval(0.9, 2.0) == pytest.approx(NORMAL.interval(0.9), rel=1e-14)
    again = pickle.loads(pickle.dumps(barron(1.5, 1.0, 2.0)))
    assert again.cdf(0.7) == barron.cdf(0.7, 1.5, 1.0, 2.0)
    assert barron.expect(lambda v: v * v, (2.0,)) == pytest.approx(1, rel=1e-7)


@pytest.mark.parametrize(("alpha", "scale"), [(0.0, 1.0), (0.7, 0.5), (1.5, 20.0), (2.0, 1e-3), (4.0, 1.0)])
def test_fit_finds_the_parameters(alpha: float, scale: float) -> None:
    """Within five standard errors of n = 20,000; and no neighbour has a larger likelihood."""
    data = barron.rvs(alpha, loc=3 * scale, scale=scale, size=20_000, random_state=np.random.default_rng(11))
    found = barron.fit(data, alpha_range=(0, 32))
    of_alpha, of_scale = fit_shape(data - found[1], alpha_range=(0, 32)).stderr
    assert abs(found[0] - alpha) <= 5 * of_alpha and abs(found[2] - scale) <= 5 * of_scale
    assert found[1] == pytest.approx(3 * scale, abs=0.05 * scale)
    least = barron.nnlf(found, data)
    for step in np.eye(3) * np.array([1e-3, 1e-3 * scale, 1e-3 * scale]):
        for sign in (-1, 1):
            near = found + sign * step
            assert near[0] < 0 or barron.nnlf(near, data) > least - 1e-6


def test_fit_holds_what_is_fixed() -> None:
    data = barron.rvs(1.0, loc=1.0, scale=2.0, size=4000, random_state=np.random.default_rng(12))
    assert barron.fit(data, falpha=2.0) == pytest.approx((2.0, data.mean(), data.std()), rel=1e-6)
    for name in ("f0", "fix_alpha"):
        assert barron.fit(data, **{name: 2.0}) == barron.fit(data, falpha=2.0)
    assert barron.fit(data, floc=0.5)[1] == 0.5 and barron.fit(data, fscale=1.5)[2] == 1.5
    _, loc, scale = barron.fit(data, falpha=0)
    assert (loc, scale * np.sqrt(2)) == pytest.approx(stats.cauchy.fit(data), abs=1e-3)
    assert 0.5 <= barron.fit(data, alpha_range=(0.5, 0.6))[0] <= 0.6
    one = barron.fit(data, falpha=1.0, fscale=2.0)
    assert one[0] == 1.0 and one[2] == 2.0 and abs(np.mean(fr.influence(data - one[1], 1.0, 2.0))) < 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_fit_finds_the_highest_of_several_maxima(seed: int) -> None:
    """Of two clusters: one of them with the other as outliers, or both; against a fine grid over all parameters."""
    random = np.random.default_rng(seed)
    near = random.normal(0, 1, 30)
    for data in (
        np.r_[near, random.normal(50, 1, 25)],
        np.r_[near, random.normal(1e4, 1, 25)],
        np.r_[near, random.normal(50, 1, 5)],
        np.r_[near, random.uniform(-500, 500, 40)],
    ):
        found = barron.fit(data, alpha_range=(0, 32))
        grid = (
            (alpha, loc, scale)
            for alpha in (0.0, 0.5, 1.0, 2.0, 8.0, 32.0)
            for loc in [*np.quantile(data, np.linspace(0.05, 0.95, 10)), data.mean()]
            for scale in np.std(data) * np.geomspace(1e-5, 2, 25)
        )
        assert barron.nnlf(found, data) <= min(barron.nnlf(point, data) for point in grid)
        assert barron.fit(random.permutation(data), alpha_range=(0, 32)) == pytest.approx(found, rel=1e-9)


def test_two_clusters_of_the_issue() -> None:
    """From the median it would stay at one of them, at 266."""
    data = np.r_[np.random.default_rng(0).normal(0, 1, 30), np.random.default_rng(1).normal(50, 1, 25)]
    alpha, loc, scale = barron.fit(data, alpha_range=(0, 32))
    assert barron.nnlf((alpha, loc, scale), data) < 250 and alpha == 32 and 20 < loc < 30
    assert barron.fit(data, alpha_range=(0, 1))[0] <= 1
    assert abs(barron.fit(data, falpha=0.0)[1]) < 1  # the larger cluster


def test_fit_of_more_than_the_starts_look_at() -> None:
    """Three fifths of 30,000 in one cluster: alpha and scale of all of them, not of the sample."""
    random = np.random.default_rng(0)
    data = np.r_[random.normal(0, 1, 18_000), random.normal(100, 1, 12_000)]
    found = barron.fit(data, falpha=0.0)
    assert abs(found[1]) < 0.05
    least = barron.nnlf(found, data)
    for step in np.eye(3)[1:] * 1e-3:
        assert min(barron.nnlf(found + step, data), barron.nnlf(found - step, data)) > least


def test_fit_says_what_is_wrong() -> None:
    data = np.arange(9.0)
    with pytest.raises(ValueError, match="all fixed"):
        barron.fit(data, falpha=1.0, floc=0.0, fscale=1.0)
    with pytest.raises(ValueError, match="not finite"):
        barron.fit([1.0, np.nan])
    for wrong, message in (
        ({"nonsense": 1}, "does not take nonsense"),
        ({"falpha": 1.0, "f0": 1.0}, "takes one of"),
        ({"falpha": 1.0, "alpha_range": (0, 1)}, "takes one of"),
    ):
        with pytest.raises(TypeError, match=message):
            barron.fit(data, **wrong)


@pytest.mark.parametrize("unit", [1e-160, 1e-5, 1e200])
def test_fit_in_any_units(unit: float) -> None:
    data = np.random.default_rng(13).normal(3, 1, 500)
    expected, found = barron.fit(data), barron.fit(unit * data)
    assert found == pytest.approx((expected[0], unit * expected[1], unit * expected[2]), rel=1e-6)


@pytest.mark.parametrize("unit", [2.0**-1020, 2.0**1014])
def test_fit_at_the_ends_of_the_range(unit: float) -> None:
    """Sums and differences of the data overflow, and scales are subnormal."""
    data = np.random.default_rng(13).standard_cauchy(200)
    data *= 500 / np.max(np.abs(data))
    for options in ({}, {"floc": 0.5}, {"fscale": 1.5}):
        scaled = {name: unit * value for name, value in options.items()}
        alpha, loc, scale = barron.fit(unit * data, **scaled)
        assert (alpha, loc / unit, scale / unit) == pytest.approx(barron.fit(data, **options), rel=1e-6)


def test_a_fixed_scale_in_a_far_unit() -> None:
    """Far above the data each loss is least squares; far below, at alpha = 0, one of the data has the maximum."""
    data = np.random.default_rng(14).standard_normal(30)
    assert barron.fit(data, falpha=0.0, fscale=1e306) == pytest.approx((0.0, data.mean(), 1e306), rel=1e-12)
    _, loc, _ = barron.fit(data, falpha=0.0, fscale=1e-30)
    assert np.min(abs(data - loc)) < 1e-12


def test_fit_finds_light_tails_beside_a_wide_fit_of_heavy_ones() -> None:
    """Their maximum is in the middle of the data; the fit from the median is as wide as that is far."""
    data = np.array([0.385, 12.123, 4.252, 4.033, 0.072])
    found = barron.fit(data, alpha_range=(0, 32))
    assert found[0] == 32 and barron.nnlf(found, data) < barron.nnlf((1.03, 3.377, 2.744), data) - 0.1


def test_fit_refuses_what_has_no_maximum_or_is_no_number() -> None:
    for data in ([1.0] * 10, np.r_[np.zeros(60), np.arange(40)]):
        with pytest.raises(stats.FitError, match="the scale shrinks"):
            barron.fit(data)
    data = np.arange(9.0)
    for bad in (data + 1j, np.ma.masked_array(data, data > 5)):
        with pytest.raises(TypeError, match="real numbers"):
            barron.fit(bad)
    for options in (
        {"falpha": -1.0, "fscale": 1.0}, {"falpha": np.nan}, {"floc": np.nan}, {"floc": np.inf}, {"alpha_range": 3.0},
        {"fscale": 0.0}, {"fscale": -1.0}, {"fscale": 1e-200}, {"alpha_range": (0, np.nan)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(options))):
            barron.fit(data, **options)
    for options in ({"falpha": "1"}, {"floc": "1"}, {"fscale": [1.0]}, {"alpha_range": ("0", 1)}):
        with pytest.raises(TypeError, match=next(iter(options))):
            barron.fit(data, **options)


def test_scipys_own_fit_takes_it() -> None:
    data = barron.rvs(1.0, loc=1.0, scale=2.0, size=300, random_state=np.random.default_rng(12))
    found = stats.fit(barron, data, bounds={"alpha": (0, 2), "loc": (0, 2), "scale": (1, 3)}, optimizer=_few)
    assert found.params.alpha <= 2


def _few(function: Any, bounds: Any, **options: Any) -> Any:
    from scipy.optimize import minimize

    return minimize(function, [1.0, 1.0, 2.0], bounds=bounds, method="Nelder-Mead", options={"maxiter": 20})
