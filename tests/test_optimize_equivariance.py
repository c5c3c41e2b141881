"""RobustRegressor does not depend on the units and the origin of its data, nor on what is added to y of the columns.

All numbers are integers times powers of two, so that the transformed data are exact, in float32 too: whatever differs
is the fit's doing.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from marks import slow

from fastrobust.optimize import RobustRegressor

SEEDS = [0, 1, *slow(2, 3, 4, 5)]
KINDS = ["exact", "normal", "Cauchy", "outliers"]


def data(kind, seed):
    """Some 12 to 40 rows, with 1 to 3 columns."""
    random = np.random.default_rng([seed, KINDS.index(kind)])
    n, k = int(random.integers(12, 40)), int(random.integers(1, 4))
    X = random.integers(-8, 9, size=(n, k)).astype(float)
    y = X @ random.integers(-3, 4, size=k)
    if kind == "exact":
        far = random.permutation(n)[: (n - k - 1) // 2 - 1]
        y[far] += random.integers(1, 9, size=len(far)) * random.choice([-1, 1], size=len(far))
    elif kind == "normal":
        y += np.round(8 * random.normal(size=n)) / 8
    elif kind == "Cauchy":
        y += np.clip(np.round(8 * random.standard_cauchy(size=n)) / 8, -500, 500)
    else:
        y += np.round(8 * random.normal(size=n)) / 8
        y[: n // 4] += 100
    return X, y


def mixing(k, random):
    """An integer matrix with determinant 1 or -1, and its inverse."""
    A = np.eye(k)
    for _ in range(k):
        i, j = random.permutation(k)[:2] if k > 1 else (0, 0)
        if i != j:
            A[:, i] += random.choice([-1.0, 1.0]) * A[:, j]
    return A[:, random.permutation(k)] * random.choice([-1.0, 1.0], size=k)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_affine_maps_of_x_and_y_go_through(seed, kind, dtype):
    """y -> a y + X b + c and X -> (X A + shift) 2^power, one after the other and together."""
    X, y = data(kind, seed)
    random = np.random.default_rng(seed)
    k, powers = X.shape[1], [-60, -30, 30, 60] if dtype is np.float32 else [-450, -150, 150, 450]
    one = RobustRegressor().fit(X.astype(dtype), y.astype(dtype))
    assert (one.result_.exact_rows > len(y) / 2) == (kind == "exact")
    same = np.eye(k), np.zeros(k), 1.0
    map_y = random.choice([-1.0, 1.0]) * 2.0 ** random.choice(powers), random.integers(-9, 9, size=k), 7.0
    map_x = mixing(k, random), random.integers(-50, 50, size=k), 2.0 ** random.choice(powers)
    for (a, b, c), (A, shift, unit) in [(map_y, same), ((1.0, np.zeros(k), 0.0), map_x), (map_y, map_x)]:
        columns, target = ((X @ A + shift) * unit).astype(dtype), (a * (y + X @ b + c)).astype(dtype)
        other = RobustRegressor().fit(columns, target)
        assert other.result_.exact_rows == one.result_.exact_rows
        coefficients = A @ other.coef_ * unit / a
        intercept = (other.intercept_ + unit * (shift @ other.coef_)) / a
        np.testing.assert_allclose(coefficients, one.coef_ + b, rtol=0, atol=1e-7 * (1 + np.abs(one.coef_ + b).max()))
        assert intercept == pytest.approx(one.intercept_ + c, abs=1e-6)
        if kind != "exact":
            assert other.alpha_ == pytest.approx(one.alpha_, abs=1e-6)
            assert other.scale_ / abs(a) == pytest.approx(one.scale_, rel=1e-6)
            assert other.result_.value - math.log(abs(a)) == pytest.approx(one.result_.value, abs=1e-9)
            np.testing.assert_allclose(other.weights_, one.weights_, atol=1e-5)


@pytest.mark.parametrize("alpha", ["auto", 0.0])
@pytest.mark.parametrize("slope", [0.0, 2.0, -1e6])
def test_the_majority_on_a_line_is_found_also_where_its_residuals_are_exactly_0(slope, alpha):
    x = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 12.0])
    y = np.array([0, 0, 0, 0, 0, 0, -5, 5, 1.0])
    model = RobustRegressor(alpha).fit(x[:, None], y + slope * x + np.sign(slope))
    assert model.coef_[0] == pytest.approx(slope, rel=1e-12, abs=1e-9)
    assert model.intercept_ == pytest.approx(np.sign(slope), abs=1e-8 + 1e-12 * abs(slope))
    assert model.result_.exact_rows == 6


def test_an_exact_majority_is_no_reason_to_collapse_where_the_likelihood_is_bounded():
    """At alpha = 1 the scale is that of the other rows, and whether residuals are exactly 0 does not matter."""
    x = np.array([-4, -3, -2, -1, 0, 1, 2, 3, 12.0])
    y = np.array([0, 0, 0, 0, 0, 0, -5, 5, 1.0])
    one, other = (RobustRegressor(1.0).fit(x[:, None], y + slope * x) for slope in (0.0, 0.7))
    assert one.result_.exact_rows == other.result_.exact_rows == 0
    assert other.scale_ == pytest.approx(one.scale_, rel=1e-7) and one.scale_ > 0.1
    assert other.coef_[0] == pytest.approx(one.coef_[0] + 0.7, abs=1e-7)
