"""The loops with losses of the catalogue and of the user's own, in place of Barron's by its alpha."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from own_losses import lopsided
from scipy.optimize import least_squares, minimize

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import exp
from fastrobust.optimize import gauss_newton, gnc, gnc_custom, irls, scipy_loss, triggs_factors
from fastrobust.optimize._unit_loss import convex_radius

RANDOM = np.random.default_rng(7)
N = 80
X = np.c_[RANDOM.normal(size=(N, 2)), np.ones(N)]
Y = X @ [1.0, -2.0, 3.0] + 0.2 * RANDOM.standard_t(3, size=N)
Y[:12] += 4.0
SCALE = 0.35
BARRON = {"cauchy": 0.0, "geman_mcclure": -2.0, "welsch": -math.inf, "pseudo_huber": 1.0, "half_squared_error": 2.0}
QUICK = [name if name == "geman_mcclure" else pytest.param(name, marks=pytest.mark.slow) for name in BARRON]


def lopsided_by_numpy(x: Any, c: float = 1.0, tau: float = 0.3) -> Any:
    return np.where(x > 0, tau, 1 - tau) * c * (np.hypot(c, x) - c)


@fr.define
def quartic(x: Any) -> Any:
    return x**4


@fr.define
def shifted(x: Any) -> Any:
    """Least at 1."""
    return (x - 1) ** 2


@fr.define
def cubic(x: Any) -> Any:
    """Convex, with weights that rise from 0."""
    return abs(x) * x * x


@fr.define
def ditch(x: Any) -> Any:
    """Even, and bent down at 0, which is no minimum."""
    return x**4 - x * x


@fr.define
def exponential(x: Any) -> Any:
    """Convex and asymmetric, without bounds."""
    return exp(x) - 1 - x


def _beside(parameters: Any, loss: Any, scale: float = SCALE, weights: Any = 1.0) -> Any:
    """The minimum of the plain sum, by SciPy's simplex from there and back."""

    def total(b: Any) -> float:
        return float(np.sum(weights * loss((Y - X @ b) / scale)))

    options = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000, "maxfev": 4000}
    found = minimize(total, parameters, method="Nelder-Mead", options=options)
    return minimize(total, found.x, method="Nelder-Mead", options=options).x


@pytest.mark.parametrize("name", QUICK)
def test_the_catalogue_is_barrons_loss_where_that_is_the_same(name: str) -> None:
    loss, alpha = getattr(losses, name), BARRON[name]
    start = irls(X, Y, 1.0, SCALE).x
    for ours, theirs in (
        (irls(X, Y, loss=loss, scale=SCALE, x0=start), irls(X, Y, alpha, SCALE, x0=start)),
        (
            gauss_newton(lambda b: X @ b - Y, start, lambda b: X, loss=loss, scale=SCALE),
            gauss_newton(lambda b: X @ b - Y, start, lambda b: X, alpha, SCALE),
        ),
    ):
        assert ours.success and theirs.success
        np.testing.assert_allclose(ours.x, theirs.x, atol=1e-7)
        np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-6)
        assert ours.fun == pytest.approx(theirs.fun, rel=1e-12)
    residuals = np.array([0.0, 1e-9, 0.3, -2.0, 40.0])
    for ours, theirs in zip(
        triggs_factors(residuals, loss=loss, scale=SCALE), triggs_factors(residuals, alpha, SCALE), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)
    z = np.array([0.0, 1e-300, 1e-20, 0.1, 0.9, 3.9, 4.1, 1e3, 1e12])
    np.testing.assert_allclose(scipy_loss(loss=loss)(z), scipy_loss(alpha)(z), rtol=1e-13, atol=1e-300)


def test_a_loss_has_the_scale_1_unless_one_is_given() -> None:
    np.testing.assert_array_equal(irls(X, Y, loss=losses.huber).x, irls(X, Y, loss=losses.huber, scale=1.0).x)
    other = irls(X, Y, loss=losses.huber.with_defaults(delta=SCALE))
    np.testing.assert_allclose(other.x, irls(X, Y, loss=losses.huber, scale=SCALE).x, atol=1e-8)
    assert other.fun == pytest.approx(SCALE**2 * irls(X, Y, loss=losses.huber, scale=SCALE).fun)


@pytest.mark.parametrize("name", ["HuberT", "TukeyBiweight"])
def test_statsmodels_finds_the_same(name: str) -> None:
    sm = pytest.importorskip("statsmodels.api", reason="statsmodels is not installed")
    norm = getattr(sm.robust.norms, name)()
    theirs = sm.RLM(Y, X, M=norm).fit(update_scale=False, maxiter=500, tol=1e-12)
    loss = losses.huber.with_defaults(delta=norm.t) if name == "HuberT" else losses.tukey.with_defaults(c=norm.c)
    ours = irls(X, Y, loss=loss, scale=theirs.scale, tol=1e-10, maxiter=500)
    assert ours.success
    np.testing.assert_allclose(ours.x, theirs.params, atol=1e-8)
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-7)


@pytest.mark.parametrize("loop", ["irls", "gauss_newton"])
@pytest.mark.parametrize(
    ("loss", "by_numpy"),
    [
        (lopsided, lopsided_by_numpy),
        (losses.log_cosh, lambda x: np.logaddexp(x, -x) - math.log(2)),
        (losses.squared_epsilon_insensitive.with_defaults(epsilon=0.5), lambda x: np.maximum(0, abs(x) - 0.5) ** 2),
        pytest.param(
            0.5 * losses.mse + losses.huber,
            lambda x: 0.5 * x * x + np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5),
            marks=pytest.mark.slow,
        ),
        pytest.param(cubic, lambda x: abs(x) ** 3, marks=pytest.mark.slow),
        pytest.param(exponential, lambda x: np.expm1(x) - x, marks=pytest.mark.slow),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_losses_of_other_kinds(loop: str, loss: losses.Loss, by_numpy: Any) -> None:
    weights = RANDOM.integers(0, 3, N).astype(float)
    if loop == "irls":
        found = irls(X, Y, loss=loss, scale=SCALE, weights=weights)
    else:
        start = np.linalg.lstsq(X, Y, rcond=None)[0]
        found = gauss_newton(lambda b: X @ b - Y, start, lambda b: X, loss=loss, scale=SCALE, weights=weights)
        if not loss.traits().even:  # whose residuals have the other sign there
            found = gauss_newton(lambda b: Y - X @ b, start, lambda b: -X, loss=loss, scale=SCALE, weights=weights)
    assert found.success, found.message
    np.testing.assert_allclose(found.x, _beside(found.x + 0.1, by_numpy, weights=weights), atol=2e-6)
    expected = float(np.sum(weights * by_numpy((Y - X @ found.x) / SCALE)))
    assert found.fun == pytest.approx(expected, rel=1e-12)


def test_units_and_dtypes() -> None:
    plain = irls(X, Y, loss=losses.tukey, scale=SCALE)
    for unit in (2.0**-400, 2.0**300):
        scaled = irls(X, Y * unit, loss=losses.tukey, scale=SCALE * unit)
        np.testing.assert_array_equal(scaled.x / unit, plain.x)
        np.testing.assert_array_equal(scaled.weights, plain.weights)
    small = irls(X.astype(np.float32), Y.astype(np.float32), loss=losses.tukey, scale=SCALE)
    assert small.success and small.x.dtype == small.weights.dtype == np.float32
    np.testing.assert_allclose(small.x, plain.x, atol=1e-5)


def test_weights_are_relative_to_that_of_0() -> None:
    found = irls(X, Y, loss=losses.mse, scale=SCALE)
    np.testing.assert_array_equal(found.weights, 1.0)
    found = irls(X, Y, loss=losses.tukey, scale=SCALE)
    np.testing.assert_allclose(
        found.weights, np.clip(1 - (found.residuals / SCALE / 4.685) ** 2, 0, 1) ** 2, rtol=1e-12
    )
    half = irls(X, Y, loss=losses.tukey * 0.5, scale=SCALE)
    np.testing.assert_allclose(half.weights, found.weights, rtol=1e-12)
    assert half.fun == pytest.approx(found.fun / 2)


def test_a_level_bottom_is_a_minimum() -> None:
    """Within epsilon nothing counts, which is no error; far out of reach of a redescending loss it is one."""
    wide = losses.squared_epsilon_insensitive.with_defaults(epsilon=100.0)
    found = irls(X, Y, loss=wide)
    assert found.status == 0 and found.fun == 0
    np.testing.assert_allclose(found.x, np.linalg.lstsq(X, Y, rcond=None)[0], rtol=1e-12)
    assert irls(X, Y, loss=losses.tukey, scale=SCALE, x0=np.full(3, 1e6)).status == 3


def test_a_negative_loss_descends_as_well() -> None:
    lowered = fr.define(_lowered)
    np.testing.assert_allclose(irls(X, Y, loss=lowered).x, irls(X, Y, loss=losses.log_cosh).x, atol=1e-7)


def _lowered(x: Any) -> Any:
    return fr.math.logcosh(x) - 1000


# --- SciPy


def R(loss: Any, z: Any) -> tuple[Any, Any, Any]:
    """SciPy's R, R' and R'' by numerical differentiation in mpmath, of a formula of its own."""
    with mp.workdps(120):
        z = mp.mpf(float(z))
        h = max(z, mp.mpf("1e-30")) * mp.mpf("1e-20")
        low, middle, high = (2 * loss(mp.sqrt(abs(part))) for part in (z - h, z, z + h))
        return middle, (high - low) / (2 * h), (high - 2 * middle + low) / h**2


@pytest.mark.parametrize(
    ("loss", "by_mpmath"),
    [
        (losses.log_cosh, lambda x: mp.log(mp.cosh(x))),
        (losses.tukey, lambda x: mp.mpf(4.685) ** 2 / 6 * (1 - (1 - (x / mp.mpf(4.685)) ** 2) ** 3)),
        pytest.param(
            losses.pseudo_huber.with_defaults(delta=0.1),
            lambda x: mp.mpf(0.1) ** 2 * (mp.sqrt(1 + (x / mp.mpf(0.1)) ** 2) - 1),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            losses.welsch.with_defaults(scale=30.0), lambda x: 1 - mp.exp(-((x / 30) ** 2) / 2), marks=pytest.mark.slow
        ),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_scipys_second_derivative_is_right_near_0(loss: losses.Loss, by_mpmath: Any) -> None:
    """(curvature - weight)/(2 z) would have lost all its digits below |x| = 1e-8."""
    z = np.concatenate((10.0 ** np.arange(-28, 1.0, 1.7), [9e-8, 1.1e-6, 4e-6, 1e-3, 2.0, 15.0]))
    found = scipy_loss(loss=loss)(z)
    for i, one in enumerate(z):
        for part, true in zip(found, R(by_mpmath, one), strict=True):
            assert float(part[i]) == pytest.approx(float(true), rel=4e-14), (one, part[i])
    at_zero = scipy_loss(loss=loss)(np.zeros(1))
    np.testing.assert_allclose(at_zero[:, 0], scipy_loss(loss=loss)(np.array([1e-40]))[:, 0], rtol=1e-14, atol=1e-39)


def test_scipys_derivatives_where_there_is_no_series() -> None:
    z = np.array([1e-12, 0.3, 1.0 - 1e-12, 4.0, 1e6])
    np.testing.assert_allclose(
        scipy_loss(loss=losses.huber)(z)[2], np.where(z < 1, 0.0, -0.5 * z**-1.5), rtol=1e-13, atol=0
    )
    np.testing.assert_allclose(scipy_loss(loss=cubic)(z)[2], 1.5 / np.sqrt(z), rtol=1e-12)
    np.testing.assert_allclose(scipy_loss(loss=quartic)(np.append(z, 0))[2], 4.0, rtol=1e-13)
    np.testing.assert_allclose(scipy_loss(loss=losses.mse)(z), [2 * z, 2 + 0 * z, 0 * z], rtol=1e-15)


def test_least_squares_takes_a_loss() -> None:
    start = irls(X, Y, 1.0, SCALE).x
    found = least_squares(
        lambda b: X @ b - Y,
        start,
        lambda b: X,
        loss=scipy_loss(loss=losses.tukey),
        f_scale=SCALE,
        xtol=1e-14,
        gtol=1e-12,
    )
    np.testing.assert_allclose(found.x, irls(X, Y, loss=losses.tukey, scale=SCALE, x0=start).x, atol=1e-6)


# --- annealing


def test_annealing_finds_what_most_rows_hide() -> None:
    y = Y.copy()
    y[:45] = RANDOM.uniform(-30, 60, 45)
    truth = irls(X[45:], y[45:], loss=losses.tukey, scale=SCALE).x
    found = gnc(X, y, loss=losses.tukey, scale=SCALE)
    assert found.success and found.mu == 1
    np.testing.assert_allclose(found.x, truth, atol=0.2)
    polished = irls(X, y, loss=losses.tukey, scale=SCALE, x0=found.x)
    np.testing.assert_allclose(found.x, polished.x, atol=1e-6)
    own = gnc_custom(
        lambda w: np.linalg.lstsq(X * np.sqrt(1 if w is None else w[:, None]), y * np.sqrt(1 if w is None else w))[0],
        lambda b: y - X @ b, loss=losses.tukey, scale=SCALE,
    )  # fmt: skip
    np.testing.assert_allclose(own.x, found.x, atol=1e-6)


def test_the_schedule_of_geman_mcclure_is_that_in_the_scale() -> None:
    found = gnc(X, Y, loss=losses.geman_mcclure, scale=SCALE, known_inliers=[20, 21])
    expected = gnc(X, Y, scale=SCALE, schedule="geman-mcclure", known_inliers=[20, 21])
    assert abs(found.nit - expected.nit) <= 1  # the grid ends a little before 4/3
    np.testing.assert_allclose(found.x, expected.x, atol=1e-8)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-7)


def test_a_convex_loss_has_one_stage() -> None:
    mus: list[float] = []
    found = gnc(X, Y, loss=losses.huber, scale=SCALE, callback=lambda result: mus.append(result.mu))
    assert set(mus) == {1.0}
    np.testing.assert_allclose(found.x, irls(X, Y, loss=losses.huber, scale=SCALE, tol=1e-10).x, atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "radius"),
    [
        (losses.geman_mcclure, 2 / math.sqrt(3)),
        (losses.welsch.with_defaults(scale=3.0), 3.0),
        (losses.cauchy, math.sqrt(2)),
        (losses.tukey, 4.685 / math.sqrt(5)),
        (losses.huber, math.inf),
        (ditch, 0.0),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_the_convex_part(loss: losses.Loss, radius: float) -> None:
    found = convex_radius(loss)
    assert found == radius or radius * 2 ** (-1 / 32) < found <= radius * (1 + 1e-9)


@pytest.mark.filterwarnings("ignore:::torch")
def test_arrays_of_cupy_stay_on_the_device(fake_cupy: Any) -> None:
    """Over a stand-in for CuPy, to the same numbers."""
    there = fake_cupy.asarray(X), fake_cupy.asarray(Y)
    for here, away in (
        (irls(X, Y, loss=losses.tukey, scale=SCALE), irls(*there, loss=losses.tukey, scale=SCALE)),
        (irls(X, Y, loss=lopsided, scale=SCALE), irls(*there, loss=lopsided, scale=SCALE)),
        (gnc(X, Y, loss=losses.tukey, scale=SCALE), gnc(*there, loss=losses.tukey, scale=SCALE)),
    ):
        assert type(away.x) is fake_cupy.ndarray and type(away.weights) is fake_cupy.ndarray
        np.testing.assert_allclose(np.asarray(away.x.get()), here.x, rtol=1e-9)


# --- what is refused


CALLS = {
    "irls": lambda **options: irls(X, Y, **options),
    "gauss_newton": lambda **options: gauss_newton(lambda b: X @ b - Y, np.zeros(3), lambda b: X, **options),
    "triggs_factors": lambda **options: triggs_factors(Y, **options),
    "scipy_loss": lambda **options: scipy_loss(**options),
    "gnc": lambda **options: gnc(X, Y, **options),
    "gnc_custom": lambda **options: gnc_custom(lambda w: 0.0, lambda b: Y, **options),
}


@pytest.mark.parametrize("function", CALLS)
@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"alpha": 1.0, "loss": losses.huber}, TypeError, "takes alpha or loss, got both: alpha = 1.0"),
        ({"loss": "huber"}, TypeError, "loss must be one of fastrobust.losses, or made by .*, got 'huber'"),
        (
            {"loss": losses.quantile},
            TypeError,
            "loss must be one of a residual alone, and quantile has the data x",
        ),
        ({"loss": losses.mae}, ValueError, "those of mae are not, at x = 0, .* losses.huber with a small delta"),
        ({"loss": losses.epsilon_insensitive}, ValueError, "straight pieces: .*squared_epsilon"),
        ({"loss": shifted}, ValueError, "at x = 0, where its slope has to be 0"),
        ({"loss": ditch}, ValueError, "least at x = 0|is not around 0"),
    ],
)
def test_what_is_no_loss_for_the_loops(function: str, options: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        CALLS[function](**options)


@pytest.mark.parametrize("function", CALLS)
def test_a_parameter_without_a_default(function: str) -> None:
    bare = fr.define(_bare, params="c")
    with pytest.raises(TypeError, match=r"_bare has no default for c: give loss=_bare.with_defaults\(c=...\)"):
        CALLS[function](loss=bare)


def _bare(x: Any, c: Any) -> Any:
    return (x / c) ** 2


def test_what_single_loops_refuse() -> None:
    for function in ("irls", "gauss_newton", "triggs_factors", "scipy_loss"):
        with pytest.raises(TypeError, match=f"{function} needs alpha, or loss="):
            CALLS[function]()
    with pytest.raises(TypeError, match="scale is missing"):
        irls(X, Y, 1.0)
    with pytest.raises(ValueError, match="scale must be a positive, finite number, got 0"):
        irls(X, Y, loss=losses.huber, scale=0)
    with pytest.raises(ValueError, match=r"needs a loss that is even, .* lopsided\(c=1, tau=0.3\) is not: take gauss"):
        scipy_loss(loss=lopsided)
    with pytest.raises(ValueError, match=r"gnc only reweights, .* lopsided\(c=1, tau=0.3\) do not fall"):
        gnc(X, Y, loss=lopsided)
    with pytest.raises(ValueError, match=r"schedule must be 'scale' with a loss, .* got 'alpha': leave it out"):
        gnc(X, Y, loss=losses.huber, schedule="alpha")
    with pytest.raises(ValueError, match="schedule must be 'scale' with a loss, and another one without, got 'scale'"):
        gnc(X, Y, 0.0, 1.0, schedule="scale")
    with pytest.raises(ValueError, match=r"infinite at the start, at exponential, scale = 1e-06: raise scale"):
        irls(X, Y, loss=exponential, scale=1e-6)
