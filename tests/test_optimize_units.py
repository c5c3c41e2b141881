"""The loops give the same in all units, in float32 as in float64, and far rows cost the others no digits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import exp, mp, mpf, sqrt

from fastrobust.optimize import efficiency_scale, fit_shape, gauss_newton, gnc, irls, scipy_loss, triggs_factors

TYPES = ("f4", "f8")
LOOPS = ("irls", "irls with a start", "gauss_newton", "gnc", "gnc geman-mcclure", "gnc truncated")
START = np.array([0.5, 0.3])


def rows(seed: int = 0, n: int = 60) -> tuple[Any, Any]:
    """A line, and a seventh of the rows far off it."""
    rng = np.random.default_rng(seed)
    X = np.c_[rng.uniform(-2, 2, n), np.ones(n)]
    y = X @ (0.7, 0.15) + 0.05 * rng.standard_normal(n)
    y[::7] += 3
    return X, y


def fitted(loop: str, X: Any, y: Any, alpha: float, scale: float, start: Any) -> Any:
    if loop == "irls":
        return irls(X, y, alpha, scale)
    if loop == "irls with a start":
        return irls(X, y, alpha, scale, x0=start)
    if loop == "gnc":
        return gnc(X, y, alpha, scale)
    if loop.startswith("gnc"):
        return gnc(X, y, scale=2 * scale, schedule=loop.removeprefix("gnc "))
    return gauss_newton(lambda b: X @ b - y, start, lambda b: X, alpha, scale)


# Binary exponents of the units of y and of both columns, in parts of the range of the dtype, such that neither the
# arrays nor the coefficients, nor for gauss_newton the user's own products, leave it.
UNITS = [
    (-0.95, 0, 0), (0.95, 0, 0), (0, -0.95, 0), (0, 0.95, 0), (0, 0.5, -0.4), (0, -0.45, 0.5), (0.5, 0.9, 0.9),
    (-0.5, -0.9, -0.9), (-0.95, -0.5, -0.4), (0.95, 0.95, 0.95), (-0.95, -0.95, -0.95), (0.4, 0, 0.9), (-0.4, -0.9, 0),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("loop", LOOPS)
def test_solutions_scale_with_the_units(loop: str, dtype: str) -> None:
    X, y = rows()
    schedule = loop in ("gnc geman-mcclure", "gnc truncated")
    for alpha in (-2.0,) if schedule else (-math.inf, -2.0, 0.0, 1.0, 2.0) + (() if loop == "gnc" else (3.0,)):
        expected = fitted(loop, X.astype(dtype), y.astype(dtype), alpha, 0.1, START.astype(dtype))
        for parts in UNITS:
            of_y, *of_X = 2.0 ** np.round(np.multiply(parts, -math.log2(np.finfo(dtype).tiny)))
            arrays = [(part).astype(dtype) for part in (X * of_X, y * of_y, START * of_y / of_X)]
            found = fitted(loop, arrays[0], arrays[1], alpha, 0.1 * of_y, arrays[2])
            assert found.x.dtype == dtype and found.success == expected.success, (alpha, parts, found.message)
            scaled = found.x.astype("f8") * of_X / of_y
            np.testing.assert_allclose(scaled, expected.x, rtol=0, atol=64 * np.finfo(dtype).eps, err_msg=f"{parts}")
            np.testing.assert_allclose(
                found.residuals.astype("f8") / of_y, expected.residuals, rtol=0, atol=256 * np.finfo(dtype).eps
            )


@settings(max_examples=30, deadline=None)
@given(
    loop=st.sampled_from(LOOPS), alpha=st.sampled_from((-2.0, 0.0, 1.0, 1.5)), seed=st.integers(0, 5),
    units=st.tuples(st.floats(-140, 140), st.floats(-70, 70), st.floats(-70, 70)), narrow=st.booleans(),
)  # fmt: skip
def test_solutions_scale_with_units_that_are_no_powers_of_two(
    loop: str, alpha: float, seed: int, units: tuple[float, float, float], narrow: bool
) -> None:
    dtype = "f4" if narrow else "f8"
    of_y, *of_X = 10.0 ** (np.array(units) / (8 if narrow else 1))
    X, y = rows(seed)
    expected = fitted(loop, X, y, alpha, 0.1, START)
    found = fitted(
        loop, (X * of_X).astype(dtype), (y * of_y).astype(dtype), alpha, 0.1 * of_y, (START * of_y / of_X).astype(dtype)
    )
    assert found.success == expected.success, (found.message, expected.message)
    # Rounding of the data and of the units moves the solution by some eps, and where a loop stops by its tolerance.
    close = 1e-5 if narrow else 1e-8
    np.testing.assert_allclose(found.x.astype("f8") * of_X / of_y, expected.x, rtol=close, atol=close)


@pytest.mark.parametrize("alpha", [-math.inf, -2.0, 0.0, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("dtype", TYPES)
def test_triggs_factors_scale_with_the_units(alpha: float, dtype: str) -> None:
    z = np.array([0.0, 1e-3, 0.5, -1.0, 3.0, 5.0, *([] if alpha > 2 else [1e3, 1e9])], dtype)
    expected = triggs_factors(z, alpha, 1.0)
    power = -int(math.log2(np.finfo(dtype).tiny)) - 35
    for unit in (2.0**-power, 2.0**-20, 2.0**20, 2.0**power):
        for found, of_one in zip(triggs_factors(z * z.dtype.type(unit), alpha, unit), expected, strict=True):
            assert found.dtype == dtype
            below = float(np.finfo(dtype).smallest_subnormal) * unit  # where the factors are subnormal
            np.testing.assert_allclose(found.astype("f8") * unit, of_one, rtol=2 * np.finfo(dtype).eps, atol=below)
    wide = triggs_factors(z.astype("f8"), alpha, 1.0)
    for found, exact in zip(expected, wide, strict=True):  # also where psi/r itself is below float32
        np.testing.assert_allclose(found, exact, rtol=1e-6, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize(
    ("alpha", "z"), [(4.0, 1e160), (32.0, 1e15), (1e300, 45.0), (math.inf, 38.0), (math.inf, 50.0)]
)
def test_triggs_factors_where_their_product_overflows(alpha: float, z: float) -> None:
    """psi/r = (1 + u)^(b/2), b = alpha - 2, u = z^2/b, and rho'' = psi/r (1 + b u/(1 + u)) leave a double's range."""
    with mp.workdps(400):
        square = mpf(z) ** 2
        b = mpf(alpha) - 2
        root = exp(square / 4) if math.isinf(alpha) else (1 + square / b) ** (b / 4)
        ratio = sqrt(1 + (square if math.isinf(alpha) else square / (1 + square / b)))
        expected = [float(root / ratio), float(root * ratio)]
    for scale in (1.0, 2.0**-10, 2.0**10):
        found = [factor[0] * scale for factor in triggs_factors(np.array([z * scale]), alpha, scale)]
        assert found == pytest.approx(expected, rel=1e-12)
    for bad in triggs_factors(np.array([math.inf, 1e308]), alpha, 1.0):
        assert not np.isnan(bad).any()


@pytest.mark.parametrize("options", [{"alpha_range": (0, 32)}, {"alpha_range": (-32, 32), "truncation": 4.0}])
def test_shapes_of_float32_just_below_2_are_those_of_float64(options: dict[str, Any]) -> None:
    """Both parts of the slope diverge at 2; with one rounded as the other is not, they met at 2.000001."""
    for seed in (0, 1, 3):
        x = np.random.default_rng(seed).normal(size=500).astype("f4")
        found, expected = fit_shape(x, **options), fit_shape(x.astype("f8"), **options)
        assert found.success and expected.success and expected.alpha < 2
        assert (found.alpha, found.scale) == pytest.approx((expected.alpha, expected.scale), abs=1e-4)


def test_shapes_with_given_scales_in_far_units() -> None:
    for size in (1e-310, 1e-305, 1e-20):  # nothing beside the scale
        found = fit_shape(np.array([size, -size]), alpha=0.0, scale=1.0)
        assert found.success and found.scale == 1 and found.fun == pytest.approx(math.log(math.pi * math.sqrt(2)))
    with pytest.raises(
        ValueError, match=r"scale = 1[.]0 is over 1e[+]300 times smaller than the residuals, about 1e[+]308"
    ):
        fit_shape(np.array([1e308, 1e308, 5.0]), scale=1.0)
    found = fit_shape(np.array([1e308, 1e308, 1e-308]), alpha_range=(-32, 32), truncation=3.0)
    assert not found.success and "outside of the range of float64" in found.message


def test_irls_weights_of_float32_at_scales_that_are_no_float32() -> None:
    X, y = np.ones((4, 1), "f4"), np.array([1, 2, 3, 5], "f4")
    for unit, scale in ((np.float32(2.0**-149), 2.0**-150), (np.float32(2.0**125), 2.0**130)):
        with np.errstate(all="raise", under="ignore"):
            found = irls(X, y * unit, 1.0, scale)
        z = found.residuals.astype("f8") / scale
        np.testing.assert_allclose(found.weights, 1 / np.sqrt(1 + z * z), rtol=1e-6)


def test_gauss_newton_refuses_subnormal_scales_and_is_quiet_where_steps_overflow() -> None:
    X, y = rows()
    with pytest.raises(ValueError, match="scale must not be subnormal, got 1e-310: change the residuals' units"):
        fitted("gauss_newton", X, y * 1e-310, 0.0, 1e-310, START)
    with np.errstate(all="raise", under="ignore"):  # no such solution is a float64
        assert not fitted("gauss_newton", X * 1e-300, y * 1e10, 1.0, 1e9, START).success
        with pytest.raises(ValueError, match="the loss is infinite at the start"):
            gauss_newton(lambda b: 0 * b[0] + np.full(3, 1.7e308), [0.0], lambda b: np.ones((3, 1)), 1.0, 1.0)


def test_triggs_factors_refuse_a_scale_that_the_dtype_cannot_invert() -> None:
    for dtype, scale in (("f4", 1e-39), ("f4", 1e-50), ("f4", 1e39), ("f8", 1e-309), ("f8", 1.7e308)):
        with pytest.raises(ValueError, match=r"scale must have an inverse in float(32|64), got"):
            triggs_factors(np.ones(2, dtype), 1.0, scale)


@pytest.mark.parametrize("unit", [2.0**-500, 2.0**500])
def test_the_loss_for_scipy_knows_no_unit(unit: float) -> None:
    """SciPy hands over (f/f_scale)^2, which is the same in all units; see its docstring for what SciPy does besides."""
    z = np.array([0.0, 0.3, 2.0, 1e9])
    np.testing.assert_array_equal(scipy_loss(0.5)((np.sqrt(z) * unit / unit) ** 2), scipy_loss(0.5)(np.sqrt(z) ** 2))


def test_a_scale_of_given_efficiency_is_in_units_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    noise, scale = rng.standard_normal(400), efficiency_scale(0.0)
    X = np.ones((400, 1))
    expected = irls(X, noise, 0.0, scale).x
    for unit in (2.0**-900, 2.0**900):
        np.testing.assert_allclose(irls(X, unit * noise, 0.0, unit * scale).x / unit, expected, rtol=1e-14)


# --- what was wrong, with the right values


@pytest.mark.parametrize(
    ("dtype", "unit", "column"),
    [
        ("f4", 1e-19, 1), ("f4", 1e-30, 1), ("f4", 1e19, 1), ("f4", 1e30, 1), ("f4", 1, 1e-22), ("f4", 1, 1e22),
        ("f8", 1e-155, 1), ("f8", 1e-290, 1), ("f8", 1e155, 1), ("f8", 1e290, 1), ("f8", 1, 1e-200), ("f8", 1, 1e200),
    ],
)  # fmt: skip
def test_squares_that_leave_the_range_do_not_make_the_start_a_solution(dtype: str, unit: float, column: float) -> None:
    t = np.linspace(0, 4, 20)
    X = (np.c_[np.ones(20), t] * column).astype(dtype)
    y = ((2 + 1.02 * t) * unit).astype(dtype)
    for found in (
        gauss_newton(lambda b: X @ b - y, np.zeros(2, dtype), lambda b: X, 1.0, 0.1 * unit),
        irls(X, y, 1.0, 0.1 * unit, x0=np.zeros(2, dtype)),
    ):
        assert found.success and found.nit > 0, found.message
        close = 1e-6 if dtype == "f4" else 1e-12
        np.testing.assert_allclose(found.x.astype("f8") * (column / unit), (2, 1.02), rtol=close)


def noisy(n: int = 40) -> tuple[Any, Any]:
    t = np.linspace(0, 4, n)
    return t, 2 + t + 0.1 * np.random.default_rng(0).standard_normal(n)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("far", [1e3, 1e5, 9.97e36])
def test_far_targets_do_not_loosen_the_tolerance(far: float, dtype: str) -> None:
    t, y = noisy()
    expected = irls(np.c_[np.ones(39), t[1:]], y[1:], -2.0, 0.3)
    y[0] = far
    X, y = np.c_[np.ones(40), t].astype(dtype), y.astype(dtype)
    start = np.array([1.9, 1.1], dtype)
    for found in (
        irls(X, y, -2.0, 0.3, x0=start),
        gauss_newton(lambda b: X @ b - y, start, lambda b: X, -2.0, 0.3),
    ):
        assert found.success
        tolerance = 1e-6 if dtype == "f4" else 1e-7
        np.testing.assert_allclose(found.x, expected.x, rtol=tolerance)
        assert found.fun == pytest.approx(expected.fun + 2, rel=1e-5)


def test_a_row_that_pulls_without_end_pulls_by_its_sign_alone() -> None:
    """alpha = 1 with a target of 10^37: the derivatives of the others' losses balance 1/c."""
    t, y = noisy()
    y[0] = 9.97e36
    X = np.c_[np.ones(40), t]
    for found in (irls(X, y, 1.0, 0.3), gauss_newton(lambda b: X @ b - y, [2.0, 1.0], lambda b: X, 1.0, 0.3)):
        assert found.success, found.message
        z = (y[1:] - X[1:] @ found.x) / 0.3
        np.testing.assert_allclose(X[1:].T @ (z / np.sqrt(1 + z * z)) + X[0], 0, atol=1e-5)


@pytest.mark.parametrize("far", [1e3, 1e9, 1e15])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_row_of_leverage_that_lost_its_weight_takes_no_direction_with_it(far: float, dtype: str) -> None:
    t, y = noisy()
    expected = irls(np.c_[np.ones(39), t[1:]], y[1:], -2.0, 0.3)
    t[0], y[0] = far, -5 * far
    X, y = np.c_[np.ones(40), t].astype(dtype), y.astype(dtype)
    found = irls(X, y, -2.0, 0.3, x0=np.array([1.9, 1.1], dtype))
    assert found.success and found.weights[0] < 1e-9
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-6 if dtype == "f4" else 1e-7)
    assert found.fun == pytest.approx(expected.fun + 2, rel=1e-5)


def test_a_far_cell_in_two_columns_does_not_make_them_dependent() -> None:
    rng = np.random.default_rng(1)
    X = np.c_[np.ones(50), rng.standard_normal((50, 2))]
    y = X @ (1.0, 2.0, 3.0) + 0.05 * rng.standard_normal(50)
    expected = irls(X[1:], y[1:], -2.0, 0.2)
    X[0, 1:] = 1e20
    found = irls(X, y, -2.0, 0.2, x0=[1.1, 2.1, 2.9])
    assert found.success
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-7)
    np.testing.assert_allclose(gnc(X, y, -2.0, 0.2).x, expected.x, rtol=1e-7)


def test_half_a_million_saturated_rows_of_float32_hide_nothing() -> None:
    """A loss of 2 each: a float32 sum of them changes by a sixteenth at least."""
    near = 1.6 + 0.1 * np.random.default_rng(0).standard_normal(40)
    y = np.r_[near, np.full(500_000, 1e6)].astype("f4")
    column = np.ones((y.size, 1), "f4")
    expected = irls(np.ones((40, 1)), near, -2.0, 0.3).x[0]
    found = gauss_newton(lambda b: b - y, np.array([1.5], "f4"), lambda b: column, -2.0, 0.3)
    assert found.success and found.x.dtype == np.float32
    assert float(found.x[0]) == pytest.approx(expected, abs=2e-6)
    assert float(irls(column, y, -2.0, 0.3, x0=[1.5]).x[0]) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("scale", [1e30, 1e200, 5e307])
def test_a_scale_beyond_all_residuals_makes_every_loss_least_squares(scale: float) -> None:
    X, y = rows()
    expected = np.linalg.lstsq(X, y, rcond=None)[0]
    for alpha in (-2.0, 0.0, 1.0, 2.0):
        for loop in LOOPS:
            found = fitted(loop, X, y, alpha, scale, START)
            assert found.success, (loop, found.message)
            np.testing.assert_allclose(found.x, expected, rtol=1e-9, err_msg=loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_scale_below_all_digits_is_no_success(loop: str) -> None:
    X, y = rows()
    for scale in (1e-200, 1e-300):
        found = fitted(loop, X, y, -2.0, scale, START)
        assert not found.success and found.status == 3 and "raise scale" in found.message


@pytest.mark.parametrize("alpha", [-math.inf, -2.0, 0.0])
def test_the_largest_number_as_a_mark_of_missing_targets(alpha: float) -> None:
    X, y = rows()
    largest = np.r_[np.finfo("f8").max, y[1:]]
    for found, expected in (
        (irls(X, largest, alpha, 0.2, x0=START), irls(X[1:], y[1:], alpha, 0.2, x0=START)),
        (gauss_newton(lambda b: X @ b - largest, START, lambda b: X, alpha, 0.2),
         gauss_newton(lambda b: X[1:] @ b - y[1:], START, lambda b: X[1:], alpha, 0.2)),
    ):  # fmt: skip
        assert found.success and expected.success
        np.testing.assert_allclose(found.x, expected.x, rtol=1e-6)


def test_coefficients_outside_of_the_dtype_are_refused() -> None:
    X, y = rows()
    for dtype, unit in (("f4", 1e25), ("f8", 1e200)):
        with pytest.raises(ValueError, match="coefficients lie outside of the range of float"):
            irls((X / unit).astype(dtype), (y * unit).astype(dtype), 0.0, 0.1 * unit)


@pytest.mark.parametrize("weight", [1e-90, 1e-40, 1e40, 1e90])
def test_weights_of_any_size_weigh_alike(weight: float) -> None:
    X, y = rows()
    counts = np.random.default_rng(0).integers(0, 3, y.size).astype(float)
    for dtype in TYPES:
        for run in (
            lambda X, y, w: irls(X, y, 0.0, 0.1, weights=w),
            lambda X, y, w: gnc(X, y, 0.0, 0.1, weights=w),
            lambda X, y, w: gauss_newton(lambda b: X @ b - y, START.astype(X.dtype), lambda b: X, 0.0, 0.1, weights=w),
        ):
            found, expected = (run(X.astype(dtype), y.astype(dtype), w) for w in (counts * weight, counts))
            assert found.success and expected.success
            np.testing.assert_allclose(found.x, expected.x, rtol=1e-6 if dtype == "f4" else 1e-9)
