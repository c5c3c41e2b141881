"""What the loops say of what they found: a success is a minimum, everything else has a message with a remedy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust.optimize import RobustRegressor, gauss_newton, gnc, gnc_custom, irls

FAR = np.array([0.0, 100.0, 200.0, 300.0])
ONES = np.ones((4, 1))


def line(n: int = 40) -> tuple[Any, Any]:
    t = np.linspace(0, 4, n)
    return np.c_[t, np.ones(n)], 2 * t + 1 + 0.1 * np.random.default_rng(0).standard_normal(n)


# --- where nothing was found


def honest(found: Any) -> None:
    """A row of ``FAR`` is fitted, at the cost of all others; or it is said that nothing was found."""
    if found.success:
        assert abs(found.residuals[:4]).min() < 1e-3 and np.sort(found.weights[:4])[-2] < 1e-5
    else:
        assert found.status == 3 and "raise scale, or name known_inliers" in found.message, found


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("schedule", "alpha"), [("truncated", None), ("geman-mcclure", None), ("alpha", -2.0)])
def test_gnc_with_every_row_rejected_has_found_nothing(schedule: str, alpha: float | None, dtype: str) -> None:
    """The cost is 4 in the middle of the rows, and 3 at each of them: rounding decides whether one is reached."""
    honest(gnc(ONES.astype(dtype), FAR.astype(dtype), alpha, 0.1, schedule=schedule))

    def solve(weights: Any) -> float:
        return 150.0  # stays in the middle

    own = gnc_custom(solve, lambda b: (FAR - b).astype(dtype), alpha, 0.1, schedule=schedule)
    assert (own.success, own.status) == (False, 3) and "name known_inliers" in own.message


def test_known_inliers_find_the_better_cost() -> None:
    for known in ([1], np.array([False, True, False, False])):
        found = gnc(ONES, FAR, None, 0.1, schedule="truncated", known_inliers=known)
        assert found.success
        np.testing.assert_allclose(found.x, [100.0])
        np.testing.assert_allclose(found.weights, [0, 1, 0, 0], atol=1e-6)
        own = gnc_custom(
            lambda w: FAR.mean() if w is None else w @ FAR / w.sum(), lambda b: FAR - b, None, 0.1,
            schedule="truncated", known_inliers=known,
        )  # fmt: skip
        assert own.success and own.x == pytest.approx(100.0)


@pytest.mark.parametrize(("schedule", "alpha"), [("alpha", -2.0), ("geman-mcclure", None), ("truncated", None)])
def test_known_inliers_choose_between_two_lines(schedule: str, alpha: float | None) -> None:
    X, y = line(80)
    y[1::2] += 10
    for known, offset in ((np.arange(0, 80, 8), 1), (np.arange(1, 80, 8), 11)):
        found = gnc(X, y, alpha, 0.4, schedule=schedule, known_inliers=known)
        assert found.success and (found.weights[known] == 1).all()
        np.testing.assert_allclose(found.x, (2, offset), atol=0.1)
    every = gnc(X, y, alpha, 0.4, schedule=schedule, known_inliers=np.arange(80))
    np.testing.assert_allclose(every.x, np.linalg.lstsq(X, y, rcond=None)[0], rtol=1e-9)


def test_known_inliers_that_are_none() -> None:
    X, y = line()
    for known, message in (
        ([40], "indices from 0 to 39"),
        ([-1], "indices from 0 to 39"),
        ([[1]], "indices from 0 to 39"),
        (np.ones(3, bool), r"a mask of shape \(40,\), got a mask of \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            gnc(X, y, -2.0, 0.3, known_inliers=known)
    with pytest.raises(TypeError, match="known_inliers must be integers or bool, got float64"):
        gnc(X, y, -2.0, 0.3, known_inliers=[1.5])
    with pytest.raises(ValueError, match="known_inliers holds rows that have a weight of 0"):
        gnc(X, y, -2.0, 0.3, known_inliers=[0, 1], weights=np.r_[0.0, np.ones(39)])
    np.testing.assert_array_equal(gnc(X, y, -2.0, 0.3, known_inliers=[]).x, gnc(X, y, -2.0, 0.3).x)


def test_left_out_rows_are_no_inliers() -> None:
    """A row of weight 0 has no residual that could keep the others from being rejected."""
    weights = np.array([1.0, 1, 1, 1, 0])
    y, X = np.r_[FAR, 150.0], np.ones((5, 1))
    assert irls(X, y, -math.inf, 0.1, weights=weights).status == 3
    honest(gnc(X, y, -2.0, 0.1, weights=weights))
    honest(gnc(X, y, None, 0.1, schedule="truncated", weights=weights))
    found = gauss_newton(lambda b: b - y, [150.0], lambda b: X, -math.inf, 0.1, weights=weights)
    assert found.status == 3


# --- leverage


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("schedule", "alpha"), [("alpha", -2.0), ("geman-mcclure", None), ("truncated", None)])
def test_rows_of_leverage_do_not_bend_the_way(schedule: str, alpha: float | None, dtype: str) -> None:
    X, y = line()
    for far in ({0: 1e3}, {0: 1e3, 7: 1e6}):
        for row, at in far.items():
            X[row, 0], y[row] = at, -5 * at + 3 * row
        found = gnc(X.astype(dtype), y.astype(dtype), alpha, 0.4, schedule=schedule)
        assert found.success, found.message
        np.testing.assert_allclose(found.x, (2, 1), atol=0.1)
        assert found.weights[list(far)].max() < 1e-3
    model = RobustRegressor().fit(X[:, :1], y)
    np.testing.assert_allclose(found.x, (*model.coef_, model.intercept_), atol=0.05)


def test_good_rows_of_leverage_keep_their_weight() -> None:
    X, y = line()
    X[0, 0] = 1e3
    y[0] = 2.05 * 1e3 + 1  # which says more about the slope than all others
    found = gnc(X, y, -2.0, 0.4)
    assert found.success and found.weights[0] > 0.9
    np.testing.assert_allclose(found.x, (2.05, 1), atol=0.15)


def test_a_row_that_alone_determines_a_coefficient_stays() -> None:
    X, y = line()
    X = np.c_[X, np.eye(40)[:, 5]]
    y[5], y[9] = 50.0, 80.0
    found = gnc(X, y, -2.0, 0.4)
    assert found.success
    np.testing.assert_allclose(found.x[:2], (2, 1), atol=0.1)
    np.testing.assert_allclose(found.residuals[5], 0, atol=1e-9)


# --- stationary points that are no minima


@pytest.mark.parametrize("alpha", [-math.inf, -2.0, 0.0, 0.5])
def test_the_middle_of_two_halves_is_no_minimum(alpha: float) -> None:
    """Least squares between two groups, where all derivatives cancel, and the sum is highest."""
    y = np.repeat([-30.0, 30.0], 20) + np.tile([-0.5, 0.5], 20)
    X = np.ones((40, 1))
    scale = 5.0 if math.isinf(alpha) else 1.0
    for found in (
        irls(X, y, alpha, scale),
        irls(X, y, alpha, scale, x0=[0.0]),
        gauss_newton(lambda b: b - y, [0.0], lambda b: X, alpha, scale),
        gauss_newton(lambda b: np.sinh(b) - y, [0.0], lambda b: X * np.cosh(b), alpha, scale),
    ):
        assert (found.status, found.success) == (5, False) and "no minimum" in found.message, found
    for start in (25.0, -25.0):
        found = gauss_newton(lambda b: b - y, [start], lambda b: X, alpha, scale)
        assert found.success and abs(found.x[0]) > 25
        assert irls(X, y, alpha, scale, x0=[start]).success
    assert irls(X, y, 1.0, scale).success  # convex: the middle is the minimum


def test_convex_losses_reject_nothing_whatever_the_scale() -> None:
    """alpha = 1 with a tiny scale is the median."""
    y = np.array([0.0, 1.0, 2.0, 50.0, 1e6])
    for found in (
        irls(np.ones((5, 1)), y, 1.0, 1e-3, x0=[1.5], maxiter=1000),
        gauss_newton(lambda b: b - y, [1.5], lambda b: np.ones((5, 1)), 1.0, 1e-3),
        gnc(np.ones((5, 1)), y, 1.0, 1e-3, maxiter=1000),
    ):
        assert found.success, found.message
        assert found.x[0] == pytest.approx(2.0, abs=1e-3)


def messy(seed: int) -> tuple[Any, Any, Any, float, float]:
    """A design, a target, a start, alpha and a scale: outliers up to 10^12, and rows of leverage up to 10^5."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(8, 80)), int(rng.integers(1, 4))
    X, beta, noise = rng.standard_normal((n, k)), rng.standard_normal(k), 10 ** rng.uniform(-2, 0)
    y = X @ beta + noise * rng.standard_normal(n)
    far = rng.random(n) < rng.choice([0, 0.1, 0.3, 0.5])
    y[far] += 10 ** rng.uniform(0, 12) * rng.standard_normal(int(far.sum()))
    if seed % 3 == 0:
        X[0, 0] = 10 ** rng.uniform(1, 5)
        y[0] = -5 * X[0, 0]
    start = beta + rng.standard_normal(k) * 10 ** rng.uniform(-2, 1)
    return X, y, start, float(rng.choice([-math.inf, -2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0])), 3 * noise


@pytest.mark.parametrize("seed", range(40))
def test_a_success_is_a_minimum(seed: int) -> None:
    """A further step of reweighting moves no fitted value, and nowhere does the sum bend down."""
    X, y, start, alpha, scale = messy(seed)
    for loop, found in (
        ("irls", irls(X, y, alpha, scale)),
        ("irls from a start", irls(X, y, alpha, scale, x0=start)),
        ("gauss_newton", gauss_newton(lambda b: X @ b - y, start, lambda b: X, alpha, scale)),
        ("gnc", gnc(X, y, alpha, scale)),
    ):
        assert found.success or len(found.message) > 20
        if not found.success:
            continue
        z = (y - X @ found.x) / scale
        weight, bend = fr.weight(z, alpha, 1.0), fr.curvature(z, alpha, 1.0)
        length = np.sqrt((X.T * X.T) @ weight)
        columns = X / length
        step = np.linalg.lstsq((columns.T * weight) @ columns, columns.T @ (weight * z), rcond=1e-12)[0]
        moved = math.sqrt((columns @ step) ** 2 @ weight / weight.sum())
        usual = weight.sum() / (weight / np.maximum(abs(z), 1)).sum()
        rounding = 1e-14 * (weight * (abs(y) + abs(X) @ abs(found.x))).max() / weight.mean() / scale
        assert moved <= max(1e-5 * usual, rounding), (loop, alpha, moved, usual, rounding)
        if alpha < 1:
            assert np.linalg.eigvalsh((columns.T * bend) @ columns)[0] > -1e-6, (loop, alpha)


# --- what is not determined


def test_columns_of_zeros_and_directions_without_a_weight() -> None:
    X, y = line()
    wide = np.c_[X, np.zeros(40)]
    found = gauss_newton(lambda b: wide @ b - y, [0.0, 0.0, 7.0], lambda b: wide, 1.0, 0.3)
    assert (found.status, found.success) == (4, False)
    assert "column 2 of the Jacobian is 0" in found.message and "leave it out" in found.message
    np.testing.assert_allclose(found.x, (*irls(X, y, 1.0, 0.3).x, 7.0), rtol=1e-6)
    least = irls(wide, y, 1.0, 0.3)  # as documented: the least norm
    assert least.success and least.x[2] == 0
    squared = gauss_newton(lambda p: p**2 - np.array([1.0]), [0.0], lambda p: np.diag(2 * p), 2.0, 1.0)
    assert (squared.status, squared.success) == (4, False)  # where all slopes are 0: the worst point
    assert irls(np.zeros((4, 2)), FAR, 2.0, 1.0).success
    assert (gnc(np.zeros((4, 2)), FAR, 1.0, 1.0).x == 0).all()
    # The only row that knows the last coefficient is rejected.
    alone = np.c_[X, np.eye(40)[:, 0]]
    y[0] = 1e9
    found = irls(alone, y, -math.inf, 0.3, x0=[2.0, 1.0, 0.0])
    assert (found.status, found.success) == (4, False) and "does not determine all unknowns" in found.message


# --- what is not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_named(bad: float) -> None:
    X, y = line()
    with pytest.raises(ValueError, match="x0 must be finite"):
        irls(X, y, 0.0, 0.3, x0=[bad, 1.0])
    with pytest.raises(ValueError, match="x0 must be finite"):
        gauss_newton(lambda b: X @ b - y, [bad, 1.0], lambda b: X, 0.0, 0.3)
    for at in ((0, 0), (39, 1)):
        spoilt = X.copy()
        spoilt[at] = bad
        with pytest.raises(ValueError, match="X or y holds NaN or infinity"):
            irls(spoilt, y, 0.0, 0.3)
        with pytest.raises(ValueError, match="X or y holds NaN or infinity"):
            gnc(spoilt, y, 0.0, 0.3)
        with pytest.raises(ValueError, match=r"jac\(x\) holds NaN or infinity"):
            gauss_newton(lambda b: X @ b - y, [1.0, 1.0], lambda b, spoilt=spoilt: spoilt, 0.0, 0.3)
    spoilt = y.copy()
    spoilt[3] = bad
    for call in (
        lambda: irls(X, spoilt, 0.0, 0.3),
        lambda: gnc(X, spoilt, 0.0, 0.3),
        lambda: gauss_newton(lambda b: X @ b - spoilt, [1.0, 1.0], lambda b: X, 0.0, 0.3),
        lambda: gnc_custom(lambda w: 0, lambda s: spoilt, 0.0, 0.3),
    ):
        with pytest.raises(ValueError, match="NaN or infinity"):
            call()
    weights = np.ones(40)
    weights[3] = 0
    expected = irls(np.delete(X, 3, 0), np.delete(y, 3), 0.0, 0.3).x
    for found in (
        irls(X, spoilt, 0.0, 0.3, weights=weights),
        gnc(X, spoilt, 0.0, 0.3, weights=weights),
        gauss_newton(lambda b: X @ b - spoilt, [1.0, 1.0], lambda b: X, 0.0, 0.3, weights=weights),
    ):
        np.testing.assert_allclose(found.x, expected, rtol=1e-6)


def test_residuals_that_are_never_finite_again_end_the_loop() -> None:
    """Steps are shortened until they have no digits, and then the start is not called a solution."""
    X, y = line()
    calls: list[int] = []

    def fun(b: Any) -> Any:
        calls.append(1)
        return X @ b - y if len(calls) == 1 else np.full(40, math.nan)

    found = gauss_newton(fun, [0.0, 0.0], lambda b: X, 1.0, 0.3, maxiter=1000)
    assert (found.status, found.success) == (6, False) and "no step lowers the sum" in found.message
    assert (found.x == 0).all() and len(calls) < 100


def test_a_wrong_jacobian_is_no_success() -> None:
    X, y = line()
    found = gauss_newton(lambda b: X @ b - y, [0.0, 0.0], lambda b: -X, 1.0, 0.3)
    assert not found.success and found.status in (1, 6)


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 1.0, 2.0])
def test_residuals_that_are_differences_of_large_numbers_converge(alpha: float) -> None:
    """Coordinates of 10^7: residuals have nine digits, which neither they nor the Jacobian show."""
    X, y = line()
    expected = irls(X, y, alpha, 0.3).x
    found = gauss_newton(lambda b: (1e7 + X @ b) - (1e7 + y), [0.0, 0.0], lambda b: X, alpha, 0.3)
    assert found.success, found.message
    np.testing.assert_allclose(found.x, expected, atol=1e-8)
    curved = gauss_newton(
        lambda b: (1e7 + np.sinh(X @ b / 4)) - (1e7 + np.sinh(y / 4)), [1.5, 1.5],
        lambda b: X * np.cosh(X @ b / 4)[:, None] / 4, alpha, 0.3,
    )  # fmt: skip
    assert curved.success, curved.message
    np.testing.assert_allclose(curved.x, (2, 1), atol=0.1)


# --- dtypes


@pytest.mark.parametrize("alpha", [-2.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("dtypes", [("f4", "f8", "f8"), ("f4", "f4", "f8"), ("f8", "f4", "f8"), ("f8", "f8", "f4"),
                                    ("f4", "f4", "f4"), ("f8", "f8", "f2")])  # fmt: skip
def test_residuals_jacobian_and_start_may_have_dtypes_of_their_own(alpha: float, dtypes: tuple[str, ...]) -> None:
    X, y = line()
    of_f, of_J, of_x = dtypes
    expected = irls(X, y, alpha, 0.3).x
    found = gauss_newton(
        lambda b: (X @ b - y).astype(of_f), np.array([1.9, 1.1], of_x), lambda b: X.astype(of_J), alpha, 0.3
    )
    assert found.success, found.message
    wide = np.result_type(*dtypes, "f4")
    assert found.x.dtype == wide and found.grad.dtype == wide
    assert found.residuals.dtype == np.result_type(of_f, "f4") and found.jac.dtype == np.result_type(of_J, "f4")
    close = 2e-5 if "f4" in dtypes else 1e-8
    np.testing.assert_allclose(found.x, expected, atol=close)


def test_float32_from_a_solver_of_ones_own_converges() -> None:
    X, y = line()
    y[::4] += 20

    def solve(weights: Any) -> Any:
        root = np.ones(40) if weights is None else np.sqrt(weights.astype("f8"))
        return np.linalg.lstsq(root[:, None] * X, root * y, rcond=None)[0]

    found = gnc_custom(solve, lambda b: (y - X @ b).astype("f4"), -2.0, 0.3)
    assert found.success and found.weights.dtype == np.float32
    np.testing.assert_allclose(found.x, gnc(X, y, -2.0, 0.3).x, rtol=1e-5)


# --- without a trip to the host


def test_far_rows_stay_on_the_device(fake_cupy: Any) -> None:
    """The paths that only rows of leverage, far targets and undetermined columns take."""
    X, y = line()
    X[0, 0], y[0], y[5] = 1e6, -5e6, 9.97e36
    cp = fake_cupy
    gX, gy = cp.asarray(X), cp.asarray(y)
    start = [1.9, 1.1]
    pairs = (
        (irls(gX, gy, -2.0, 0.3, x0=cp.asarray(start)), irls(X, y, -2.0, 0.3, x0=start)),
        (
            gauss_newton(lambda b: gX @ b - gy, cp.asarray(start), lambda b: gX, 1.0, 0.3),
            gauss_newton(lambda b: X @ b - y, start, lambda b: X, 1.0, 0.3),
        ),
        (
            gauss_newton(lambda b: gX @ b - gy, cp.asarray(start), lambda b: gX, -2.0, 0.3),
            gauss_newton(lambda b: X @ b - y, start, lambda b: X, -2.0, 0.3),
        ),
        (gnc(gX, gy, -2.0, 0.3, known_inliers=[1, 2]), gnc(X, y, -2.0, 0.3, known_inliers=[1, 2])),
        (gnc(gX, gy, None, 0.3, schedule="truncated"), gnc(X, y, None, 0.3, schedule="truncated")),
    )
    far, near = np.zeros((40, 3)), np.random.default_rng(0).standard_normal((40, 3))
    far[:] = near
    far[0] = 1e20
    pairs += (
        (
            irls(cp.asarray(far), gy, -2.0, 0.3, x0=cp.asarray([1.0, 1, 1])),
            irls(far, y, -2.0, 0.3, x0=[1.0, 1, 1]),
        ),
    )
    for found, expected in pairs:
        assert type(found.x) is cp.ndarray and found.status == expected.status and found.nit == expected.nit
        np.testing.assert_allclose(found.x.get(), expected.x, rtol=1e-8)
