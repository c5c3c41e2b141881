"""The pieces and loops of fastrobust.optimize, against SciPy, statsmodels, closed forms and the mpmath oracle."""

from __future__ import annotations

import doctest
import itertools
import math
from typing import Any

import mpmath
import numpy as np
import oracle
import points
import pytest
import rlm
import statsmodels.api as sm
from marks import slow
from scipy.optimize import OptimizeResult, least_squares
from scipy.spatial.transform import Rotation
from scipy.special import erf

import fastrobust as fr
from fastrobust import optimize, stats
from fastrobust.optimize import (
    efficiency_scale,
    fit_shape,
    gauss_newton,
    gnc,
    gnc_custom,
    irls,
    scipy_loss,
    triggs_factors,
)

ALPHAS = (-math.inf, -2.0, 0.0, 1.0, 1.5, 2.0, 3.0)


def line(outliers: float = 0.1, n: int = 200, seed: int = 0) -> tuple[Any, Any]:
    """A design with an intercept, and a target of which a part is far off."""
    rng = np.random.default_rng(seed)
    X = np.c_[rng.uniform(-2, 2, n), np.ones(n)]
    y = X @ (0.7, 0.15) + 0.05 * rng.standard_normal(n)
    far = rng.uniform(size=n) < outliers
    return X, np.where(far, y + rng.uniform(1, 9, n) * rng.choice([1, 1, -1], n), y)


# --- the loss for SciPy


@pytest.mark.parametrize(("alpha", "name", "ratio"), [(1.0, "soft_l1", 1.0), (0.0, "cauchy", math.sqrt(2))])
def test_scipy_loss_is_that_of_scipy(alpha: float, name: str, ratio: float) -> None:
    X, y = line()

    def run(start: Any, loss: Any, scale: float, calls: int | None) -> Any:
        return least_squares(lambda b: X @ b - y, start, lambda b: X, loss=loss, f_scale=scale, max_nfev=calls)

    # At the same points cost and gradient are the same; where two optimizers stop, depends on the machine.
    for start in ([0.0, 0.0], [0.7, 0.15], [-3.0, 40.0]):
        ours, theirs = run(start, scipy_loss(alpha), 0.1, 1), run(start, name, 0.1 * ratio, 1)
        np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-13)
        np.testing.assert_allclose(ours.grad, theirs.grad, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(ours.jac.T @ ours.jac, theirs.jac.T @ theirs.jac, rtol=1e-11, atol=1e-13)
    ours = run([0.0, 0.0], scipy_loss(alpha), 0.1, None)
    theirs = run(ours.x, name, 0.1 * ratio, None)
    assert ours.success
    np.testing.assert_allclose(ours.cost, theirs.cost, rtol=1e-9)


@pytest.mark.parametrize("alpha", [*ALPHAS, 4.0, 5.0, math.inf])
def test_scipy_loss_at_the_ends_of_the_range(alpha: float) -> None:
    with np.errstate(over="ignore"):
        rows = scipy_loss(alpha)(np.array([0.0, 5e-324, 1e-300, 1e300, math.inf]))
    assert not np.isnan(rows).any()
    np.testing.assert_allclose(rows[:, 0], (0, 1, 0 if alpha == 2 else math.copysign(0.5, alpha - 2)), rtol=1e-15)
    if alpha < 2:
        assert rows[1, 4] == 0 and rows[2, 4] == 0


@pytest.mark.parametrize("alpha", ALPHAS)
def test_scipy_loss_returns_derivatives_of_its_first_row(alpha: float) -> None:
    z = np.array([1e-12, 1e-3, 0.3, 2.0, 50.0])
    value, first, second = scipy_loss(alpha)(z)
    with mpmath.workdps(40):
        for i, at in enumerate(z):

            def twice(t: Any) -> Any:
                return 2 * oracle.loss(mpmath.sqrt(t), mpmath.mpf(alpha), mpmath.mpf(1))

            exact = [mpmath.diff(twice, mpmath.mpf(float(at)), k, h=mpmath.mpf(10) ** -15) for k in range(3)]
            found = (value[i], first[i], second[i])
            np.testing.assert_allclose(found[:2], [float(e) for e in exact[:2]], rtol=1e-9)
            np.testing.assert_allclose(found[2], float(exact[2]), rtol=1e-9, atol=1e-11)


def test_scipy_loss_gives_memory_of_its_own_and_refuses_what_is_no_shape() -> None:
    rho, z = scipy_loss(0.5), np.arange(3.0)
    one, two = rho(z), rho(z)
    one[:] = -1
    assert (two >= 0)[:2].all() and not np.shares_memory(one, two) and np.array_equal(z, np.arange(3.0))
    with pytest.raises(ValueError, match="alpha must be a number, got nan"):
        scipy_loss(math.nan)
    with pytest.raises(TypeError, match=r"alpha must be a number, got '0\.5'"):
        scipy_loss("0.5")  # type: ignore[arg-type]


# --- efficiency


@pytest.mark.parametrize(("alpha", "scale"), points.EFFICIENT)
def test_scales_of_95_percent_efficiency(alpha: float, scale: float) -> None:
    assert efficiency_scale(alpha) == pytest.approx(scale, abs=6e-10)  # the figures have nine digits


def test_cauchys_constant_is_the_one_of_r_and_statsmodels() -> None:
    assert efficiency_scale(0.0) * math.sqrt(2) == pytest.approx(2.3849, abs=1e-4)
    assert efficiency_scale(-math.inf) * math.sqrt(2) == pytest.approx(2.9846, abs=1e-4)  # Welsch's


def test_efficiencies_from_the_median_to_the_mean() -> None:
    assert efficiency_scale(1.0, 0.64) < 0.02 < 10 < efficiency_scale(0.0, 0.9999)
    scales = [efficiency_scale(0.5, e) for e in (0.3, 0.5, 0.7, 0.9, 0.99)]
    assert scales == sorted(scales)


@pytest.mark.parametrize(
    ("alpha", "efficiency", "message"),
    [
        (2.0, 0.95, "alpha must be below 2"),
        (0.0, 1.0, "efficiency must lie between 0 and 1"),
        (0.0, 0.0, "efficiency must lie between 0 and 1"),
        (0.0, math.nan, "efficiency must be a number"),
        (1.0, 0.63, "between 0.636[67]"),  # 2/pi
        (1.9, 0.95, "between 0.997"),
        (1.999, 0.95, r"between 0\.9999997.* for alpha = 1\.999, got 0\.95"),
        (1.9999999, 0.95, "so near 2 that every scale"),
    ],
)
def test_efficiencies_that_cannot_be(alpha: float, efficiency: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        efficiency_scale(alpha, efficiency)


# --- the truncated density


@pytest.mark.parametrize(
    ("alpha", "tau", "value"),
    [
        (-2.0, 3.0, 3.337497797967966),
        (-math.inf, 10.0, 8.717731999861343),
        (1.0, 10.0, 3.272071173491624),
        (0.0, 3.0, 2 * math.sqrt(2) * math.atan(3 / math.sqrt(2))),
        (0.0, 1e6, 2 * math.sqrt(2) * math.atan(1e6 / math.sqrt(2))),
        (2.0, 3.0, math.sqrt(2 * math.pi) * erf(3 / math.sqrt(2))),
        (2.0, 1e-8, 2e-8),
    ],
)
def test_truncated_partition_function_in_closed_form(alpha: float, tau: float, value: float) -> None:
    found = fr.log_partition(alpha, truncation=tau)
    assert abs(float(found) - math.log(value)) <= 1e-14 * max(1, abs(math.log(value)))


@pytest.mark.parametrize("alpha", [-1e6, -2.0, -1e-8, 0.1, 1.5, 1.999999, 2.1, 8.0, 100.0, math.inf])
@pytest.mark.parametrize("tau", [0.1, 3.0, 1e3])
def test_truncated_partition_function_against_quadrature(alpha: float, tau: float) -> None:
    def density(x: Any) -> Any:
        rho = oracle.loss(x, mpmath.mpf(alpha), mpmath.mpf(1))
        return mpmath.exp(-rho) if rho < 2000 else mpmath.mpf(0)

    with mpmath.workdps(25):
        ends = [0, *(p for p in (0.3, 1, 2, 3, 4, 6, 10, 30, 100) if p < tau), tau]
        exact = float(mpmath.log(2 * mpmath.quad(density, ends)))
    found = fr.log_partition_and_grad(np.array([alpha]), truncation=tau)
    assert abs(found.value[0] - exact) <= 1e-14 * max(1, abs(exact))
    step = 1e-4 * max(1.0, abs(alpha)) if math.isfinite(alpha) else 0.0
    if step and abs(alpha - 2) > 0.01:
        above, below = (float(fr.log_partition(alpha + s, truncation=tau)) for s in (step, -step))
        assert found.dalpha[0] == pytest.approx((above - below) / (2 * step), rel=1e-5, abs=1e-9)


def test_a_wide_truncation_is_none() -> None:
    for alpha in (0.5, 1.0, 2.0, 8.0):
        assert fr.log_partition(alpha, truncation=1e9) == pytest.approx(float(fr.log_partition(alpha)), abs=1e-9)
    assert fr.log_partition(1.0, truncation=math.inf) == fr.log_partition(1.0)
    assert fr.log_partition(np.float32(1.0), truncation=3).dtype == np.float32


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_truncated_likelihood(dtype: str) -> None:
    x = np.array([0.0, 1.0, -2.0, 6.0, math.nan], dtype)
    scale, tau = 2.0, 2.5
    log_z = float(fr.log_partition(-2.0, truncation=tau))
    expected = fr.loss(x, -2.0, scale).astype("f8") + math.log(scale) + log_z
    expected[3] = math.inf  # outside of the density
    found = fr.nll(x, -2.0, scale, truncation=tau)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=4 * np.finfo(dtype).eps)
    parts = fr.nll_and_grad(x, np.array([-2.0], dtype), np.array([scale], dtype), truncation=tau)
    plain = fr.loss_and_grad(x, -2.0, scale)
    slope = float(fr.log_partition_and_grad(-2.0, truncation=tau).dalpha)
    np.testing.assert_allclose(parts.value, expected, rtol=4 * np.finfo(dtype).eps)
    inside = [0, 1, 2, 4]
    np.testing.assert_array_equal(parts.dx[inside], plain.dx[inside])
    np.testing.assert_allclose(parts.dalpha[inside], plain.dalpha[inside] + slope, rtol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(parts.dscale[inside], plain.dscale[inside] + 1 / scale, rtol=4 * np.finfo(dtype).eps)
    assert parts.dx[3] == parts.dalpha[3] == parts.dscale[3] == 0


def test_truncated_likelihood_reduced_and_weighted() -> None:
    x, weights = np.array([[0.3, 1.0], [-2.0, math.nan]]), np.array([[1.0, 2.0], [3.0, 0.0]])
    alpha, scale = np.array([-1.0, 0.5]), np.array([[1.0], [2.0]])
    each = fr.nll_and_grad(np.nan_to_num(x), alpha, scale, truncation=4.0)
    for reduction, over in (("sum", 1.0), ("mean", 6.0)):
        found = fr.nll_and_grad(x, alpha, scale, truncation=4.0, weights=weights, reduction=reduction)
        np.testing.assert_allclose(found.value, (each.value * weights).sum() / over, rtol=1e-14)
        np.testing.assert_allclose(found.dx, each.dx * weights / over, rtol=1e-14)
        np.testing.assert_allclose(found.dalpha, (each.dalpha * weights).sum(0) / over, rtol=1e-13)
        np.testing.assert_allclose(found.dscale, (each.dscale * weights).sum(1, keepdims=True) / over, rtol=1e-13)
        value = fr.nll(x, alpha, scale, truncation=4.0, weights=weights, reduction=reduction)
        np.testing.assert_allclose(value, found.value, rtol=1e-15)
    assert fr.nll([9.0, 9.0], -1.0, 1.0, truncation=4.0, weights=[0.0, 1.0], reduction="sum") == math.inf
    assert fr.nll_and_grad(x, alpha, scale, truncation=4.0, wrt=("scale",)).dx is None


def test_truncations_that_cannot_be() -> None:
    for bad in (0.0, -1.0, math.nan, "3", [1.0], True, 1j):
        with pytest.raises(ValueError, match="truncation must be a positive number"):
            fr.log_partition(1.0, truncation=bad)
    with pytest.raises(TypeError, match="out"):
        fr.nll(np.ones(2), 1.0, 1.0, truncation=1.0, out=np.ones(2))
    with pytest.raises(TypeError, match="out together with truncation"):
        fr.nll_and_grad(np.ones(2), 1.0, 1.0, truncation=1.0, out=(None,) * 4)
    with pytest.raises(ValueError, match="reduction must be"):
        fr.nll(np.ones(2), 1.0, 1.0, truncation=1.0, reduction="all")
    with pytest.raises(ValueError, match="scale must be positive"):
        fr.nll(np.ones(2), 1.0, 0.0, truncation=1.0)
    with pytest.raises(TypeError, match="alpha has dtype complex128"):
        fr.log_partition(np.array([1j]), truncation=1.0)


def test_truncated_bad_elements_are_nan_and_weights_exclude_parameters() -> None:
    scale = np.array([0.0, -1.0, math.nan, 1.0])
    found = fr.nll_and_grad(np.ones(4), -1.0, scale, truncation=2.0)
    for part in found:
        assert np.isnan(part[:3]).all() and np.isfinite(part[3])
    assert np.isnan(fr.nll(np.ones(4), -1.0, scale, truncation=2.0)[:3]).all()
    kept = fr.nll_and_grad(np.ones(4), -1.0, scale, truncation=2.0, weights=np.array([0.0, 0, 0, 1]), reduction="mean")
    alone = fr.nll_and_grad(1.0, -1.0, 1.0, truncation=2.0)
    assert (kept.value, kept.dalpha) == pytest.approx((alone.value, alone.dalpha), rel=1e-15)
    np.testing.assert_allclose(kept.dscale, [0, 0, 0, alone.dscale], rtol=1e-15)


def test_truncated_lists_numbers_and_shapes_are_those_without() -> None:
    for options in ({"reduction": "sum"}, {}):
        plain = fr.nll_and_grad(np.ones((2, 2)), [1.0, 1.5], [1.0, 2.0], **options)
        cut = fr.nll_and_grad(np.ones((2, 2)), [1.0, 1.5], [1.0, 2.0], truncation=1e9, **options)
        for one, other in zip(plain, cut, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-8)
            assert np.shape(one) == np.shape(other)
    assert type(fr.nll(1.0, 1.0, 1.0, truncation=2.0)) is type(fr.nll(1.0, 1.0, 1.0)) is np.float64
    assert fr.nll(np.ones(2, "f4"), 1.0, 1.0, truncation=3.0, weights=[1, 2]).dtype == np.float32


def test_truncated_halves_are_computed_in_more() -> None:
    half = np.array([-2.0, 0.0, 1.0, 2.0, 1e4], "f2")
    wide = fr.log_partition(half.astype("f8"), truncation=1.5)
    np.testing.assert_array_equal(fr.log_partition(half, truncation=1.5), wide.astype("f2"))
    x = np.ones(100_000, "f2")
    expected = fr.nll_and_grad(1.0, -1.0, 1.0, truncation=10.0)
    found = fr.nll_and_grad(x, -1.0, 1.0, truncation=10.0, reduction="mean")
    for name in ("value", "dalpha", "dscale"):
        assert getattr(found, name).dtype == np.float16
        assert float(getattr(found, name)) == pytest.approx(float(getattr(expected, name)), rel=2e-3)
    assert float(found.dx[0]) == pytest.approx(float(expected.dx) / 1e5, rel=0.02)


@pytest.mark.parametrize("tau", [5e-324, 1e-300, 1e290, 1e300, 1.79e308])
def test_truncations_at_the_ends_of_the_range(tau: float) -> None:
    expected = math.log(2) + math.log(tau) if tau < 1 else 0.5 * math.log(2 * math.pi)
    assert float(fr.log_partition(2.0, truncation=tau)) == pytest.approx(expected, abs=1e-12)
    assert np.isfinite(fr.nll(np.ones(2, "f4"), 1.0, 1e30, truncation=tau)[0]) == (tau > 1)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_truncated_likelihood_is_differentiated_by_frameworks(framework: str) -> None:
    x = np.array([0.5, 1.0, -2.0, 4.0])
    expected = fr.nll_and_grad(x, -1.5, 1.0, truncation=3.0, weights=[1, 1, 1, 0], reduction="mean")
    if framework == "torch":
        torch = pytest.importorskip("torch")
        alpha = torch.tensor(-1.5, dtype=torch.float64, requires_grad=True)
        weights = torch.tensor([1.0, 1, 1, 0])
        value = fr.nll(torch.tensor(x), alpha, 1.0, truncation=3.0, weights=weights, reduction="mean")
        value.backward()
        found, slope = float(value.detach()), float(alpha.grad)
        tolerance = 1e-12
        with pytest.raises(TypeError, match="differentiate nll"):
            fr.nll_and_grad(torch.tensor(x), alpha, 1.0, truncation=3.0)
    else:
        import jax

        import fastrobust.jax as frj

        weights = np.array([1.0, 1, 1, 0], np.float32)

        def mean(alpha: Any) -> Any:
            return frj.nll(x.astype("f4"), alpha, 1.0, truncation=3.0, weights=weights, reduction="mean")

        found, slope = map(float, jax.jit(jax.value_and_grad(mean))(np.float32(-1.5)))
        tolerance = 1e-5
    assert found == pytest.approx(float(expected.value), rel=tolerance)
    assert slope == pytest.approx(float(expected.dalpha), rel=tolerance)


# --- shape and scale


def drawn(alpha: float, n: int, seed: int, tau: float = 1e12) -> Any:
    """Samples at scale 1 by inverting a table of the trapezoidal rule."""
    rng = np.random.default_rng(seed)
    grid = np.r_[0.0, np.geomspace(1e-6, tau, 200_001)]
    with np.errstate(over="ignore"):
        density = np.exp(-fr.loss(grid, alpha, 1.0))
    below = np.r_[0.0, np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))]
    return np.interp(rng.random(n), below / below[-1], grid) * rng.choice([-1.0, 1.0], n)


@pytest.mark.parametrize("n", [1_000, 100_000])
@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 8.0])
def test_shape_and_scale_of_samples_are_found(alpha: float, n: int) -> None:
    found = fit_shape(2.5 * drawn(alpha, n, seed=7), alpha_range=(0, 32))
    assert found.success and abs(found.alpha - alpha) < 3 * found.stderr[0] + 1e-12
    assert abs(found.scale - 2.5) < 3 * found.stderr[1]
    assert abs(found.grad).max() < 1e-9 or "bound" in found.message


@pytest.mark.parametrize("tau", [3.0, 10.0])
@pytest.mark.parametrize("alpha", [-4.0, -1.0, 0.0, 2.0, *slow(-2.0, -0.5, 1.0)])
def test_shape_and_scale_of_truncated_samples_are_found(alpha: float, tau: float) -> None:
    x = 2.5 * drawn(alpha, 20_000, 3, tau)
    found = fit_shape(x, alpha_range=(-32, 32), truncation=tau)
    assert found.success and abs(found.alpha - alpha) < 3 * found.stderr[0]
    assert abs(found.scale - 2.5) < 3 * found.stderr[1]


@pytest.mark.parametrize(
    ("alpha", "tau", "share"), [(-2.0, 10.0, 0.2), (-1.0, 20.0, 0.1), (-2.0, 5.0, 0.2), (0.0, 10.0, 0.2)]
)
def test_outliers_beyond_the_truncation_do_not_mislead(alpha: float, tau: float, share: float) -> None:
    rng = np.random.default_rng(1)
    x = drawn(alpha, 4000, 1, tau)
    x[: int(share * x.size)] = rng.uniform(2 * tau, 50 * tau, int(share * x.size))
    found = fit_shape(3 * x, alpha_range=(-32, 32), truncation=tau)
    assert found.success and abs(found.alpha - alpha) < 4 * found.stderr[0]
    assert abs(found.scale - 3) < 4 * found.stderr[1]


def test_fits_that_say_nothing_are_no_successes() -> None:
    x = drawn(0.0, 2000, 2)
    empty = fit_shape(x + 100, truncation=1.0, scale=0.1)
    assert not empty.success and empty.status == 1 and "only 0 residuals" in empty.message and math.isinf(empty.fun)
    few = fit_shape(x, alpha_range=(-32, 32), truncation=0.05)
    assert few.success == (few.inside > 2) and not few.success
    for two in ([1.0], [1.0, 2.0]):  # no more than there are unknowns
        found = fit_shape(two, alpha_range=(-32, 32), truncation=10.0)
        assert not found.success and f"only {len(two)} residuals" in found.message
        assert fit_shape(two, truncation=10.0, alpha=1.0, scale=1.0).success
    collapsed = fit_shape(np.r_[np.zeros(60), np.ones(40)], alpha_range=(0, 32))
    assert not collapsed.success and "shrinks" in collapsed.message
    for scale in ((5.0, 6.0), (0.1, 0.2)):  # one's own bounds are no failure
        bound = fit_shape(x, alpha_range=(0, 32), scale_range=scale)
        assert bound.success and "scale is at its" in bound.message and bound.scale in scale
    assert fit_shape([1e-9, 2e-9, 3.0], alpha=32.0, truncation=1e-3, scale=1.0).stderr[0] == 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_range_of_alpha_is_that_of_a_learned_one_and_can_be_widened(dtype: str) -> None:
    """(0, 2), for `fit_shape` and for learned alphas; it may end at a bound, with finite numbers."""
    light, heavy = np.linspace(-1, 1, 300).astype(dtype), (drawn(0.0, 300, 4) ** 3).astype(dtype)
    for x, end, side in ((light, 2.0, "upper"), (heavy, 0.0, "lower")):
        found = fit_shape(x)
        assert found.success and found.alpha == end and found.message == f"alpha is at its {side} bound"
        assert all(np.isfinite(found[name]).all() for name in ("scale", "fun", "grad", "stderr"))
    assert fit_shape(light, alpha_range=(0, 32)).alpha > 2
    assert fit_shape(heavy, alpha_range=(-32, 2), truncation=30.0).alpha < 0
    assert fit_shape(light, alpha=4.0).alpha == 4.0  # what is given is fixed
    wide = fit_shape(light)
    assert fit_shape(light, scale_range=(0.0, 1.0)).scale == pytest.approx(wide.scale, rel=1e-6)
    assert fit_shape(light, scale_range=(2 * wide.scale, math.inf)).scale == pytest.approx(2 * wide.scale, rel=1e-6)
    assert fit_shape(light, scale_range=(wide.scale / 2, math.inf)).scale == pytest.approx(wide.scale, rel=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("given", [{}, {"alpha": 1.0}, {"scale": 0.5}, {"alpha_range": (0.0, 0.4)}], ids=str)
def test_many_residuals_are_read_a_few_times(
    given: dict[str, Any], weighted: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Newton's steps to where bracketing ends, too; also where alpha is at a bound."""
    rng = np.random.default_rng(11)
    x = rng.standard_t(3, 200_000).astype(dtype)
    options = given | ({"weights": rng.random(x.size)} if weighted else {})
    found = fit_shape(x, **options)
    monkeypatch.setattr(optimize._shape._Fit, "from_sample", lambda *_: None)
    slow = fit_shape(x, **options)
    assert found.success and found.nfev <= 8 and found.message == slow.message
    precision = {"f4": 3e-6, "f8": 1e-10}[dtype]
    np.testing.assert_allclose(found.x, slow.x, rtol=precision)
    np.testing.assert_allclose(found.fun, slow.fun, rtol=1e-6 if dtype == "f4" else 1e-13)


def test_the_sample_for_the_start_is_not_fooled_by_periods() -> None:
    x = np.full(60_000, 1e-3)
    x[::3] = np.random.default_rng(0).normal(size=20_000)
    low, high = fit_shape(np.sort(x), alpha_range=(0, 32)), fit_shape(x, alpha_range=(0, 32))
    assert (low.alpha, low.scale) == pytest.approx((high.alpha, high.scale), rel=1e-6)


def test_residuals_beyond_the_truncation_do_not_matter() -> None:
    x = drawn(0.0, 20_000, 5)
    near = fit_shape(x, alpha_range=(-32, 32), truncation=10.0)
    far = fit_shape(np.where(abs(x) > 30, 1e6 * x, x), alpha_range=(-32, 32), truncation=10.0)
    assert (near.alpha, near.scale) == pytest.approx((far.alpha, far.scale), rel=1e-9)
    assert abs(near.alpha) < 3 * near.stderr[0] and abs(near.scale - 1) < 3 * near.stderr[1]
    assert near.inside < x.size


EDGES: dict[str, Any] = {
    "one": [2.0],
    "two": [1.0, 2.0],
    "two that are equal": [3.0, -3.0],
    "equal": [5.0] * 100,
    "zeros": [0.0] * 10,
    "one zero": [0.0],
    "mostly zeros": [0.0] * 60 + [1.0] * 40,
    "a gigantic one": [*np.random.default_rng(0).normal(size=99), 1e300],
    "a few and a gigantic one": [*np.random.default_rng(0).normal(size=9), 1e30],
    "tiny": list(1e-200 * np.random.default_rng(1).normal(size=50)),
    "huge": list(1e200 * np.random.default_rng(1).normal(size=50)),
    "subnormal": [5e-324, 1e-323],
    "uniform": list(np.linspace(-1, 1, 300)),
    "integers": [1, 2, 3, -4],
}


@pytest.mark.parametrize("tau", [None, 3.0, 10.0])
@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("dtype", ["f8", *slow("f4")])
def test_no_residuals_lead_out_of_the_bounds(case: str, tau: float | None, dtype: str) -> None:
    with np.errstate(over="ignore", under="ignore"):
        x = np.asarray(EDGES[case]).astype(dtype)
    if not np.isfinite(x).any() or (tau is None and not np.isfinite(x).all()):
        with pytest.raises(ValueError, match="x holds"):
            fit_shape(x, truncation=tau)
        return
    whole, positive = (0.0 if tau is None else -32.0, 32.0), (0.0, math.inf)
    for alpha, alphas, scale, scales in (
        (None, whole, None, positive),
        (None, (0.0, 2.0), None, positive),
        (None, (0.5, 1.5), None, (0.1, 2.0)),
        (None, (0.5, 1.5), None, (0.1, math.inf)),
        (1.0, whole, None, positive),
        (None, whole, 0.7, positive),
    ):
        found = fit_shape(x, alpha=alpha, scale=scale, alpha_range=alphas, scale_range=scales, truncation=tau)
        low, high = alphas if alpha is None else (alpha, alpha)
        assert low <= found.alpha <= high
        low, high = scales if scale is None else (scale, scale)
        assert low <= found.scale <= high and 0 < found.scale < math.inf
        assert not math.isnan(found.fun) and not np.isnan(found.stderr).any() and isinstance(found.message, str)


def test_the_fit_is_the_minimum_and_weights_are_counts() -> None:
    x = drawn(0.7, 300, 1)
    counts = np.random.default_rng(2).integers(0, 4, x.size)
    found, repeated = fit_shape(x, weights=counts), fit_shape(np.repeat(x, counts))
    assert found.alpha == pytest.approx(repeated.alpha, rel=1e-9)
    assert found.scale == pytest.approx(repeated.scale, rel=1e-9)
    assert found.inside == counts.sum()
    for alpha, scale in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01), (0.01, 0.01), (-0.01, 0.01)):
        at = found.alpha + alpha, found.scale * (1 + scale)
        assert fr.nll(x, *at, weights=counts, reduction="mean") > found.fun
    assert found.fun == pytest.approx(
        float(fr.nll(x, found.alpha, found.scale, weights=counts, reduction="mean")), rel=1e-12
    )
    with_nan = fit_shape(np.r_[x, math.nan], weights=np.r_[counts, 0])
    assert with_nan.alpha == found.alpha
    one = fit_shape(1e-3 * x[:, None])
    assert one.alpha == pytest.approx(fit_shape(x).alpha, rel=1e-8)


def test_the_scale_at_alpha_2_and_0_in_closed_form() -> None:
    x = np.random.default_rng(3).normal(size=1000)
    assert fit_shape(x, alpha=2.0).scale == pytest.approx(math.sqrt(np.mean(x * x)), rel=1e-12)
    from scipy.stats import cauchy

    _, width = cauchy.fit(x, floc=0)
    assert fit_shape(x, alpha=0.0).scale * math.sqrt(2) == pytest.approx(width, rel=1e-4)  # SciPy's simplex


def test_standard_errors_are_those_of_the_information() -> None:
    found = fit_shape(np.random.default_rng(3).normal(size=1000), alpha=2.0)
    assert found.stderr == pytest.approx([0.0, found.scale / math.sqrt(2000)], rel=1e-9)
    found = fit_shape(drawn(0.0, 1000, 3), alpha=0.0)  # Cauchy's information about its scale is 1/(2 c^2)
    assert found.stderr == pytest.approx([0.0, found.scale / math.sqrt(500)], rel=1e-9)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("options", [{}, {"alpha": 0.0}])
def test_half_of_the_residuals_at_0_let_the_scale_shrink(dtype: str, options: dict[str, float]) -> None:
    """At alpha = 0 the likelihood grows to a limit: any scale small enough solves the equation to rounding."""
    other = 0.1 + abs(np.random.default_rng(0).standard_cauchy(50))
    for zeros in (50, 51, 60):
        x = np.r_[np.zeros(zeros), other].astype(dtype)
        for found in (
            fit_shape(x, **options),
            fit_shape(np.r_[0, other].astype(dtype), weights=np.r_[zeros, np.ones(50)]),
        ):
            assert found.status == 1 and not found.success and "the scale shrinks" in found.message
    # One more that is not 0 and there is a maximum; at alpha = 1 there always is.
    found = fit_shape(np.r_[np.zeros(49), other].astype(dtype), **options)
    assert found.success and found.scale > 1e-3
    assert fit_shape(x, alpha=1.0).success
    assert fit_shape(x, **options, scale=0.1).success
    # Neither equal sizes nor rounding to a grid are zeros.
    assert fit_shape(np.full(40, 5.0, dtype)).success
    assert fit_shape(np.round(np.random.default_rng(0).normal(size=200)).astype(dtype)).success


def test_bad_calls_of_fit_shape() -> None:
    x = np.ones(3)
    for arguments, message in (
        ({"x": []}, "x is empty"),
        ({"x": [1.0, math.nan]}, "x holds NaN: a weight of 0"),
        ({"x": [1.0, math.inf]}, "x holds infinity.*truncation"),
        ({"x": x, "weights": [1, -1, 1]}, "not negative, and go from -1 to 1"),
        ({"x": x, "weights": [0, 0, 0]}, "all 0"),
        ({"x": x, "weights": [1, 1]}, "do not broadcast"),
        ({"x": x, "alpha_range": (1.0, 0.0)}, "low <= high"),
        ({"x": x, "alpha_range": (1.0, 2.0, 3.0)}, r"alpha_range must be \(low, high\)"),
        ({"x": x, "alpha_range": 1.0}, r"alpha_range must be \(low, high\)"),
        ({"x": x, "alpha_range": (0.0, math.nan)}, "alpha_range must be a number"),
        ({"x": x, "alpha": -1.0}, "alpha must not be negative without a truncation"),
        ({"x": x, "alpha_range": (-1.0, 2.0)}, "alpha_range must not be negative without a truncation"),
        ({"x": x, "alpha": math.nan}, "alpha must be a number"),
        ({"x": x, "scale": 0.0}, "scale must be positive"),
        ({"x": x, "scale": -1.0}, "scale must be positive"),
        ({"x": x, "scale": math.inf}, "scale must be positive and finite"),
        ({"x": x, "scale_range": (math.inf, math.inf)}, "scale_range must be"),
        ({"x": x, "scale_range": (-1.0, 1.0)}, "scale_range must be"),
        ({"x": x, "scale_range": (0.0, 0.0)}, "scale_range must be"),
        ({"x": x, "scale_range": (1e-320, 1e-310)}, r"scale_range = \(.*\) is over .* times smaller"),
        ({"x": x, "truncation": -1.0}, "truncation must be"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_shape(**arguments)
    for bad, reason in (
        (np.array([1j]), "x has dtype complex128"),
        (np.array([1.0, None]), "astype"),
        (np.ma.masked_array(x, [True, False, False]), "x is a masked array"),
    ):
        with pytest.raises(TypeError, match=reason):
            fit_shape(bad)
    with pytest.raises(TypeError, match="alpha must be a number, got 'auto'"):
        fit_shape(x, alpha="auto")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"scale must be a number or None, got .*: bounds are scale_range"):
        fit_shape(x, scale=(0.1, 1.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="positional"):
        fit_shape(x, x)  # type: ignore[misc]
    assert fit_shape(np.array([1.0, 2.0, -3.0], "f2")).success


def test_fit_shape_takes_no_tensors() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="NumPy or CuPy"):
        fit_shape(torch.ones(3))


# --- linear models


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 1.0, 1.9])
def test_irls_agrees_with_statsmodels(alpha: float) -> None:
    X, y = line()
    tune = efficiency_scale(alpha) if alpha < 1.5 else 1.5
    theirs = sm.RLM(y, X, M=rlm.Norm(alpha, tune)).fit(update_scale=False, tol=1e-12, maxiter=500)
    ours = irls(X, y, alpha, tune * theirs.scale, tol=1e-12)
    np.testing.assert_allclose(ours.x, theirs.params, rtol=1e-7)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-6)


@pytest.mark.parametrize("alpha", [*ALPHAS, 6.0])
def test_irls_ends_at_a_stationary_point_below_its_start(alpha: float) -> None:
    X, y = line(0.1 if alpha <= 2 else 0.0)
    values: list[float] = []
    found = irls(X, y, alpha, 0.2, tol=1e-12, callback=lambda result: values.append(result.fun))
    assert found.success and found.status == 0 and len(values) == found.nit
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(values))
    slope = X.T @ fr.influence(found.residuals, alpha, 0.2)
    assert abs(slope).max() < 1e-7
    np.testing.assert_allclose(found.residuals, y - X @ found.x, atol=1e-13)
    assert found.fun == pytest.approx(float(fr.loss(found.residuals, alpha, 0.2).sum()), rel=1e-12)


def test_irls_at_alpha_2_is_least_squares_whatever_the_columns() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 6)), rng.normal(size=50)
    X[:, 1] = X[:, 0] * 1e9  # collinear, and large
    X[:, 2] = 0.0
    found = irls(X, y, 2.0, 1.0)
    np.testing.assert_allclose(X @ found.x, X @ np.linalg.lstsq(X, y, rcond=1e-12)[0], atol=1e-9)
    assert abs(found.x[2]) < 1e-12
    wide = irls(rng.normal(size=(3, 7)), y[:3], 2.0, 1.0)
    np.testing.assert_allclose(wide.residuals, 0, atol=1e-9)


def test_irls_is_accurate_for_nearly_dependent_columns() -> None:
    t = np.linspace(0, 1, 300)
    X = np.vander(1000 + t, 4)  # condition number 1e20, 1e13 with scaled columns
    rng = np.random.default_rng(1)
    y = np.sin(3 * t) + 0.01 * rng.standard_normal(300)
    y[::10] += 5
    clean = np.vander(t - 0.5, 4)
    found, expected = irls(X, y, 0.0, 0.05, tol=1e-10), irls(clean, y, 0.0, 0.05, tol=1e-10)
    assert abs(found.residuals - expected.residuals).max() < 1e-5  # a parabola is 0.014 off


def test_irls_weights_count_and_exclude() -> None:
    X, y = line()
    counts = np.random.default_rng(1).integers(0, 3, y.size)
    found = irls(X, y, 0.0, 0.1, weights=counts, tol=1e-12)
    repeated = irls(np.repeat(X, counts, 0), np.repeat(y, counts), 0.0, 0.1, tol=1e-12)
    np.testing.assert_allclose(found.x, repeated.x, rtol=1e-9)
    bad = X.copy()
    bad[counts == 0] = math.nan
    np.testing.assert_array_equal(irls(bad, y, 0.0, 0.1, weights=counts, tol=1e-12).x, found.x)


def test_irls_starts_where_it_is_told_and_stops_when_told() -> None:
    X, y = line(0.0)
    y[::3] += 5  # a line of its own, and a minimum of its own
    for offset in (0.15, 5.15):
        np.testing.assert_allclose(irls(X, y, -2.0, 0.1, x0=[0.7, offset]).x, (0.7, offset), atol=0.03)

    def stop(result: OptimizeResult) -> None:
        if result.nit == 2:
            raise StopIteration

    found = irls(X, y, 0.0, 0.1, callback=stop)
    assert (found.nit, found.status, found.success) == (2, 99, False)
    few = irls(X, y, 0.0, 0.1, maxiter=1)
    assert (few.nit, few.status, few.success) == (1, 1, False) and "maxiter = 1" in few.message


def test_bad_calls_of_irls() -> None:
    X, y = line(n=10)
    for arguments, message in (
        ((X, y, math.nan, 1.0), "alpha must be a number"),
        ((X, y, 1.0, 0.0), "scale must be a positive, finite number, got 0"),
        ((X, y, math.inf, 1e-3), "the loss is infinite at the start"),
        ((X, y[:-1], 1.0, 1.0), r"X must have shape \(n, k\)"),
        ((y, y, 1.0, 1.0), r"X must have shape \(n, k\)"),
        ((X[:0], y[:0], 1.0, 1.0), "X is empty"),
        ((np.full_like(X, math.nan), y, 1.0, 1.0), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            irls(*arguments)
    with pytest.raises(ValueError, match="x0 must have shape"):
        irls(X, y, 1.0, 1.0, x0=[1.0])
    with pytest.raises(ValueError, match="maxiter"):
        irls(X, y, 1.0, 1.0, maxiter=-1)
    with pytest.raises(TypeError, match="callback must be callable"):
        irls(X, y, 1.0, 1.0, callback="a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="y is a masked array"):
        irls(X, np.ma.masked_array(y, y > 0), 1.0, 1.0)
    from scipy.sparse import csr_array

    with pytest.raises(TypeError, match=r"X is sparse.*toarray"):
        irls(csr_array(X), y, 1.0, 1.0)


@pytest.mark.parametrize("unit", [1e-150, 1e-21, 1e21, 1e150])
def test_units_do_not_matter(unit: float) -> None:
    X, y = line()
    residuals, jacobian = (lambda b: X @ b - unit * y), (lambda b: X)
    for alpha in (-2.0, 1.0):
        expected = irls(X, y, alpha, 0.1).x
        np.testing.assert_allclose(irls(X, unit * y, alpha, 0.1 * unit).x / unit, expected, rtol=1e-7)
        found = gauss_newton(residuals, unit * expected * 1.1, jacobian, alpha, 0.1 * unit)
        np.testing.assert_allclose(found.x / unit, expected, rtol=1e-7)
        found = gnc(X, unit * y, alpha, 0.1 * unit)
        np.testing.assert_allclose(found.x / unit, gnc(X, y, alpha, 0.1).x, rtol=1e-7)


def test_nothing_with_a_weight_is_no_success() -> None:
    X, y = line()
    for found in (
        irls(X, y, -math.inf, 1e-6, x0=[100.0, 100.0]),
        gauss_newton(lambda b: X @ b - y, [100.0, 100.0], lambda b: X, -math.inf, 1e-3),
        gnc_custom(lambda w: 0, lambda s: np.full(5, 1e9), -math.inf, 1e-3),
    ):
        assert (found.status, found.success) == (3, False) and "none has a weight" in found.message


@pytest.mark.parametrize("loop", ["irls", "gnc", "gnc_custom", "gauss_newton"])
def test_callbacks_are_called_as_scipy_calls_them_and_harm_nothing(loop: str) -> None:
    X, y = line()
    start = np.array([0.5, 0.1])

    def solved(weights: Any) -> Any:
        root = np.ones(len(y)) if weights is None else np.sqrt(weights)
        return np.linalg.lstsq(root[:, None] * X, root * y, rcond=None)[0]

    def run(callback: Any) -> Any:
        if loop == "irls":
            return irls(X, y, 0.0, 0.1, x0=start, callback=callback)
        if loop == "gnc":
            return gnc(X, y, 0.0, 0.1, callback=callback)
        if loop == "gnc_custom":
            return gnc_custom(solved, lambda b: y - X @ b, 0.0, 0.1, callback=callback)
        return gauss_newton(lambda b: X @ b - y, start, lambda b: X, 0.0, 0.1, callback=callback)

    seen: list[int] = []

    def by_name(*, intermediate_result: OptimizeResult) -> None:
        seen.append(intermediate_result.nit)
        intermediate_result.x[:] = 1e6
        intermediate_result.residuals[:] = 1e6

    found, expected = run(by_name), run(None)
    np.testing.assert_array_equal(found.x, expected.x)
    assert seen == sorted(seen) and len(seen) > 2 and (start == (0.5, 0.1)).all()


def test_float32_stays_float32() -> None:
    X, y = (a.astype("f4") for a in line())
    found = irls(X, y, 0.0, 0.1)
    assert {found.x.dtype, found.residuals.dtype, found.weights.dtype} == {np.dtype("f4")}
    np.testing.assert_allclose(found.x, (0.7, 0.15), atol=0.02)


# --- residuals of one's own


def decay() -> tuple[Any, Any, Any]:
    t = np.linspace(0, 4, 80)
    y = 3 * np.exp(-0.5 * t) + 0.01 * np.random.default_rng(0).standard_normal(80)
    y[::6] += 2

    def residuals(p: Any) -> Any:
        return p[0] * np.exp(-p[1] * t) - y

    def jacobian(p: Any) -> Any:
        return np.c_[np.exp(-p[1] * t), -t * p[0] * np.exp(-p[1] * t)]

    return residuals, jacobian, y


@pytest.mark.parametrize("alpha", ALPHAS)
def test_triggs_factors_give_gradient_and_curvature(alpha: float) -> None:
    r = np.array([0.0, 0.3, -1.0, 2.0, -40.0 if alpha <= 2 else 5.0])
    left, right = triggs_factors(r, alpha, 0.8)
    np.testing.assert_allclose(left * r * right, fr.influence(r, alpha, 0.8), rtol=1e-14)
    bend, weight = fr.curvature(r, alpha, 0.8), fr.weight(r, alpha, 0.8)
    np.testing.assert_allclose(right**2, np.where(bend > 1e-3 * weight, bend, weight), rtol=1e-14)
    assert (right[:4] > 0).all()


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 1.0, 2.0, 2.5])
def test_gauss_newton_agrees_with_scipy(alpha: float) -> None:
    residuals, jacobian, _ = decay()
    start, scale = ([1.0, 1.0], 0.1) if alpha >= 0 else ([2.8, 0.6], 0.1)
    scale = 3.0 if alpha > 2 else scale
    ours = gauss_newton(residuals, start, jacobian, alpha, scale)
    theirs = least_squares(
        residuals, start, jacobian, loss=scipy_loss(alpha), f_scale=scale, xtol=1e-15, ftol=1e-15, gtol=1e-14
    )
    assert ours.success
    np.testing.assert_allclose(ours.x, theirs.x, rtol=1e-6)
    assert ours.fun == pytest.approx(theirs.cost / scale**2, rel=1e-10)
    assert abs(ours.grad).max() < 1e-5 / scale
    np.testing.assert_allclose(ours.grad, jacobian(ours.x).T @ fr.influence(ours.residuals, alpha, scale), atol=1e-8)
    np.testing.assert_array_equal(ours.jac, jacobian(ours.x))


def test_the_second_order_term_saves_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastrobust.optimize import _triggs

    residuals, jacobian, _ = decay()
    found = gauss_newton(residuals, [2.5, 0.6], jacobian, 0.0, 0.05)
    assert found.success and found.nfev == found.nit + 1 and found.njev <= found.nit + 1
    monkeypatch.setattr(_triggs, "_SECOND", math.inf)
    without = gauss_newton(residuals, [2.5, 0.6], jacobian, 0.0, 0.05)
    np.testing.assert_allclose(without.x, found.x, rtol=1e-6)
    assert found.nit < without.nit


def test_gauss_newton_from_where_almost_nothing_has_a_weight() -> None:
    rng = np.random.default_rng(0)
    X = np.c_[np.ones(50), rng.normal(size=50)]
    y = X @ (1.0, 2.0) + 0.1 * rng.normal(size=50)
    for start in ([15.0, 0.0], [12.0, 0.0]):
        found = gauss_newton(lambda b: X @ b - y, start, lambda b: X, -math.inf, 1.0)
        assert not found.success or abs(found.grad).max() < 1e-6
    np.testing.assert_allclose(found.x, (1, 2), atol=0.1)


def test_gauss_newton_leaves_what_it_was_given_and_copies_what_it_gets() -> None:
    t = np.linspace(0, 4, 60)
    y = 3 * np.exp(-0.5 * t)
    y[::6] += 2
    memory, start = np.zeros(60), np.array([1.0, 1.0])

    def reused(p: Any) -> Any:
        np.subtract(p[0] * np.exp(-p[1] * t), y, out=memory)
        p[:] = 0
        return memory

    def jacobian(p: Any) -> Any:
        return np.c_[np.exp(-p[1] * t), -t * p[0] * np.exp(-p[1] * t)]

    for alpha, maxiter in ((-3.0, 2), (-3.0, 50), (1.0, 3)):
        found = gauss_newton(reused, start, jacobian, alpha, 0.1, maxiter=maxiter)
        np.testing.assert_allclose(found.residuals, found.x[0] * np.exp(-found.x[1] * t) - y, atol=1e-12)
        np.testing.assert_allclose(found.jac, jacobian(found.x), atol=1e-12)
    assert (start == 1).all() and gauss_newton(reused, start, jacobian, 1.0, 0.1, maxiter=0).x is not start


def test_gauss_newton_takes_lists_and_numbers_as_starts() -> None:
    def squares(p: Any) -> Any:
        return p**2 - np.array([1.0, 2.0])

    found = gauss_newton(squares, [1, 1], lambda p: np.diag(2 * p), 2.0, 1.0)
    np.testing.assert_allclose(found.x, (1, math.sqrt(2)), rtol=1e-9)
    one = gauss_newton(lambda p: p - 3.0, 0.0, lambda p: np.ones((1, 1)), 2.0, 1.0)
    np.testing.assert_allclose(one.x, [3.0])
    residuals, jacobian, _ = decay()
    exact, early = (gauss_newton(residuals, [1.0, 1.0], jacobian, 0.0, 0.1, gtol=gtol) for gtol in (1e-10, 1e-2))
    assert early.status == 0 and early.success and early.nit < exact.nit


def test_gauss_newton_never_goes_up_and_comes_back_from_bad_steps() -> None:
    residuals, jacobian, _ = decay()
    values: list[float] = []

    def broken(p: Any) -> Any:
        return np.full(80, math.nan) if p[1] < 0 or p[0] > 30 else residuals(p)

    found = gauss_newton(broken, [10.0, 1.5], jacobian, 1.0, 0.1, callback=lambda result: values.append(result.fun))
    assert found.success and all(b < a * (1 + 1e-12) for a, b in itertools.pairwise(values))
    np.testing.assert_allclose(found.x, (3.0, 0.5), rtol=0.05)


def test_gauss_newton_weights_exclude() -> None:
    residuals, jacobian, _ = decay()
    weights = np.ones(80)
    weights[::6] = 0

    def with_nan(p: Any) -> Any:
        return np.where(weights > 0, residuals(p), math.nan)

    found = gauss_newton(with_nan, [1.0, 1.0], jacobian, 2.0, 1.0, weights=weights)
    np.testing.assert_allclose(found.x, (3.0, 0.5), rtol=0.01)


def test_bad_calls_of_gauss_newton() -> None:
    residuals, jacobian, _ = decay()
    with pytest.raises(ValueError, match=r"jac must return shape \(80, 2\), got \(2, 80\)"):
        gauss_newton(residuals, [1.0, 1.0], lambda p: jacobian(p).T, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"fun must return residuals of shape \(n,\)"):
        gauss_newton(lambda p: residuals(p)[:, None], [1.0, 1.0], jacobian, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"fun\(x0\) holds NaN"):
        gauss_newton(lambda p: residuals(p) * math.nan, [1.0, 1.0], jacobian, 1.0, 0.1)
    for start in ([[1.0, 1.0]], [], [math.nan, 1.0]):
        with pytest.raises(ValueError, match="x0 must be finite, of shape"):
            gauss_newton(residuals, start, jacobian, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"jac\(x\) holds NaN"):
        gauss_newton(residuals, [1.0, 1.0], lambda p: jacobian(p) * math.nan, 1.0, 0.1)
    with pytest.raises(ValueError, match="the loss is infinite at the start"):
        gauss_newton(residuals, [1.0, 1.0], jacobian, math.inf, 1e-3)
    for name in ("xtol", "gtol"):
        with pytest.raises(ValueError, match=f"{name} must be a positive"):
            gauss_newton(residuals, [1.0, 1.0], jacobian, 1.0, 0.1, **{name: -1.0})
    with pytest.raises(TypeError, match="jac must be callable"):
        gauss_newton(residuals, [1.0, 1.0], "2-point", 1.0, 0.1)  # type: ignore[arg-type]
    sizes = iter((80, 79))
    with pytest.raises(ValueError, match=r"fun must return residuals of shape \(80,\), got \(79,\)"):
        gauss_newton(lambda p: residuals(p)[: next(sizes)], [1.0, 1.0], jacobian, 1.0, 0.1)
    with pytest.raises(ValueError, match=r"fun must return residuals of shape \(n,\)"):
        gauss_newton(lambda p: np.zeros(0), [1.0], lambda p: np.zeros((0, 1)), 1.0, 0.1)


# --- graduated non-convexity

SCHEDULES = [("alpha", -2.0), ("alpha", -math.inf), ("alpha", 0.0), ("geman-mcclure", None), ("truncated", None)]


@pytest.mark.parametrize(("schedule", "alpha"), SCHEDULES)
def test_gnc_finds_a_line_among_gross_outliers(schedule: str, alpha: float | None) -> None:
    X, y = line(0.6, n=500)
    scale = 0.2 if schedule == "truncated" else 0.1
    found = gnc(X, y, alpha, scale, schedule=schedule)
    assert found.success and found.status == 0
    np.testing.assert_allclose(found.x, (0.7, 0.15), atol=0.03)
    np.testing.assert_allclose(found.residuals, y - X @ found.x, atol=1e-12)
    outlier = abs(y - X @ (0.7, 0.15)) > 1
    assert found.weights[outlier].max() < 0.02 and found.weights[~outlier].mean() > 0.8
    assert abs(np.linalg.lstsq(X, y, rcond=None)[0] - (0.7, 0.15)).max() > 0.5
    if alpha is not None and alpha < 1:
        assert abs(X.T @ fr.influence(found.residuals, alpha, scale)).max() < 1e-4  # a minimum of the target


@pytest.mark.parametrize(("schedule", "alpha"), SCHEDULES)
def test_gnc_registers_points_with_80_percent_outliers_by_a_solver_of_ones_own(
    schedule: str, alpha: float | None
) -> None:
    rng = np.random.default_rng(1)
    turn, shift = Rotation.random(rng=2).as_matrix(), np.array([1.0, 2.0, -1.0])
    source = rng.normal(size=(300, 3))
    target = source @ turn.T + shift + 0.01 * rng.normal(size=source.shape)
    target[:240] = rng.uniform(-5, 5, (240, 3))

    def solve(weights: Any) -> tuple[Any, Any]:
        w = np.full(300, 1 / 300) if weights is None else weights / weights.sum()
        a, b = w @ source, w @ target
        rotation = Rotation.align_vectors(target - b, source - a, weights=w)[0].as_matrix()
        return rotation, b - rotation @ a

    def residuals(pose: tuple[Any, Any]) -> Any:
        return np.linalg.norm(source @ pose[0].T + pose[1] - target, axis=1)

    def error(pose: tuple[Any, Any]) -> float:
        return float(np.linalg.norm(pose[0] - turn) + np.linalg.norm(pose[1] - shift))

    found = gnc_custom(solve, residuals, alpha, 0.05, schedule=schedule)
    assert found.success and error(found.x) < 0.02
    assert found.weights[:240].max() < 0.5 and found.weights[240:].mean() > 0.5
    one_shot = solve(fr.weight(residuals(solve(None)), -2.0, 0.05))
    assert error(solve(None)) > 0.5 and error(one_shot) > 0.5


def test_gnc_weights_exclude_and_callback_stops() -> None:
    X, y = line(0.3)
    y[:5] = math.nan
    weights = np.r_[np.zeros(5), np.ones(195)]
    found = gnc(X, y, -2.0, 0.1, weights=weights)
    np.testing.assert_allclose(found.x, (0.7, 0.15), atol=0.03)
    seen: list[float] = []

    def stop(result: OptimizeResult) -> None:
        seen.append(result.mu)
        if len(seen) == 3:
            raise StopIteration

    assert gnc(X, y, -2.0, 0.1, weights=weights, callback=stop).status == 99
    np.testing.assert_allclose(np.diff(np.log(seen)), math.log(1.4), rtol=1e-12)
    assert gnc(X, y, -2.0, 0.1, weights=weights, maxiter=2).status == 1


def test_bad_calls_of_gnc() -> None:
    X, y = line(n=10)
    for options, message in (
        ({"schedule": "beta"}, "schedule must be one of 'alpha'"),
        ({"schedule": "truncated"}, "alpha must be left out"),
        ({"schedule": "geman-mcclure", "alpha": 0.0}, "alpha must be -2 or left out"),
        ({"alpha": 3.0}, "alpha must be at most 2"),
        ({"scale": -1.0}, "scale must be"),
    ):
        with pytest.raises(ValueError, match=message):
            gnc(X, y, **{"alpha": -2.0, "scale": 1.0, **options})
    with pytest.raises(TypeError, match="scale is missing"):
        gnc(X, y)
    with pytest.raises(TypeError, match="alpha must be a number, got None"):
        gnc(X, y, scale=1.0)
    for design, target in ((X, lambda s: y), (lambda w: 0, y), (lambda w: 0, lambda s: y)):
        with pytest.raises(TypeError, match="of your own there is gnc_custom"):
            gnc(design, target, -2.0, 1.0)
    with pytest.raises(TypeError, match="solve must be callable, got a ndarray; for data there is gnc"):
        gnc_custom(X, y, -2.0, 1.0)
    with pytest.raises(TypeError, match="residuals must be callable"):
        gnc_custom(lambda w: 0, y, -2.0, 1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'weights'"):
        gnc_custom(lambda w: 0, lambda s: y, -2.0, 1.0, weights=y)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scale is missing"):
        gnc_custom(lambda w: 0, lambda s: y, -2.0)
    with pytest.raises(ValueError, match="schedule must be one of"):
        gnc_custom(lambda w: 0, lambda s: y, -2.0, 1.0, schedule="beta")
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        gnc_custom(lambda w: 0, lambda s: y * math.nan, -2.0, 1.0)
    sizes = iter((10, 9))
    with pytest.raises(ValueError, match=r"shape \(10,\), got \(9,\)"):
        gnc_custom(lambda w: 0, lambda s: y[: next(sizes)], -2.0, 1.0)


def test_a_solver_may_write_to_its_weights() -> None:
    X, y = line(0.3)

    def solve(weights: Any) -> Any:
        if weights is None:
            return np.linalg.lstsq(X, y, rcond=None)[0]
        np.sqrt(weights, out=weights)
        return np.linalg.lstsq(weights[:, None] * X, weights * y, rcond=None)[0]

    found = gnc_custom(solve, lambda b: y - X @ b, -2.0, 0.1)
    assert found.success
    np.testing.assert_allclose(found.x, gnc(X, y, -2.0, 0.1).x, rtol=1e-6)


def test_exact_data_is_fitted_exactly() -> None:
    X, _ = line()
    y = X @ (0.7, 0.15)
    for schedule, alpha in SCHEDULES:
        np.testing.assert_allclose(gnc(X, y, alpha, 0.1, schedule=schedule).x, (0.7, 0.15), atol=1e-12)
    np.testing.assert_allclose(irls(X, y, 0.0, 0.1).x, (0.7, 0.15), atol=1e-12)


# --- documents


@pytest.mark.parametrize("name", [*optimize.__all__, "barron"])
def test_the_examples_in_docstrings_say_what_comes_out(name: str) -> None:
    found = type(stats.barron) if name == "barron" else getattr(optimize, name)
    runner, told = doctest.DocTestRunner(verbose=False), []
    for test in doctest.DocTestFinder(recurse=False).find(found, name, globs={}):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).attempted >= 2 and not runner.summarize(verbose=False).failed, "".join(told)
