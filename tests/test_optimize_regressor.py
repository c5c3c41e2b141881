"""RobustRegressor: scikit-learn's contract, and fits against facts, statsmodels, least squares and symmetries."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import rlm
import statsmodels.api as sm
from scipy.optimize import OptimizeResult
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrobust as fr
from fastrobust.optimize import RobustRegressor, _regression

BETA = np.array([2.0, -0.5, 1.0])


def regression(n=400, outliers=0.0, seed=0, noise=0.1):
    """Rows on 1 + X BETA, with normal noise; the first ones, a share of them, are shifted and tilted."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 3))
    y = 1 + X @ BETA + noise * random.normal(size=n)
    far = int(outliers * n)
    y[:far] += 10 + 5 * X[:far, 0] + random.normal(size=far)
    return X, y


def heavy(n=400, seed=0):
    X, y = regression(n, seed=seed)
    return X, y + 0.1 * np.random.default_rng(seed + 1).standard_t(2, size=n)


def gap(one, other):
    """The largest difference of two fits, relative to 1 or the number."""
    pairs = zip(*([*m.coef_, m.intercept_, m.alpha_, m.scale_] for m in (one, other)), strict=True)
    return max(abs(a - b) / max(1, abs(b)) for a, b in pairs)


@parametrize_with_checks(
    [
        RobustRegressor(),
        RobustRegressor(alpha=1.0, fit_intercept=False),
        RobustRegressor(alpha=-2.0, scale=1.0),
    ]
)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


# --- against facts


@pytest.mark.parametrize("n", [60, 400, 20_000])
@pytest.mark.parametrize("alpha", ["auto", 0.0])
def test_a_line_is_found_under_thirty_percent_of_outliers(n, alpha):
    """To four of the standard errors of least squares on the good rows (0.1/sqrt(0.7 n)), widened by efficiency."""
    model = RobustRegressor(alpha).fit(*regression(n, 0.3))
    bound = 4 * 1.5 * 0.1 / math.sqrt(0.7 * n)
    assert np.abs(model.coef_ - BETA).max() < bound
    assert abs(model.intercept_ - 1) < bound
    assert model.weights_[: int(0.3 * n)].mean() < 0.05 < 0.5 < model.weights_[int(0.3 * n) :].mean()


def test_a_negative_alpha_ignores_outliers_altogether():
    X, y = regression(400, 0.45)
    model = RobustRegressor(-math.inf, 0.3).fit(X, y)
    assert np.abs(model.coef_ - BETA).max() < 0.05
    assert model.weights_[np.abs(y - 1 - X @ BETA) > 3].max() < 1e-9


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5}, {"scale": 0.2}, {"alpha": 1.0, "scale": 0.2}])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_fit_is_a_minimum(options, fit_intercept):
    """Steps of 1e-3 in any direction raise the mean; at the minimum they would by 1e-8 and more."""
    X, y = heavy()
    model = RobustRegressor(**options, fit_intercept=fit_intercept).fit(X, y)
    point = np.array([model.intercept_, *model.coef_, model.alpha_, model.scale_])
    free = np.array([fit_intercept, 1, 1, 1, "alpha" not in options, "scale" not in options], float)

    def mean(p):
        return float(fr.nll(y - X @ p[1:4] - p[0], np.clip(p[4], 0, 2), p[5], reduction="mean"))

    assert mean(point) == pytest.approx(model.result_.value, rel=1e-12)
    assert model.result_.gradient < 1e-10
    steps = 1e-3 * free * np.random.default_rng(0).normal(size=(40, 6))
    assert all(mean(point + sign * step) > mean(point) for step in steps for sign in (-1, 1))
    assert options.items() <= {"alpha": model.alpha_, "scale": model.scale_}.items() or not options


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_alpha_2_is_least_squares(fit_intercept):
    X, y = heavy()
    model = RobustRegressor(2.0, fit_intercept=fit_intercept).fit(X, y)
    A = np.column_stack((np.full(len(y), float(fit_intercept)), X))
    expected = np.linalg.lstsq(A, y, rcond=None)[0]
    np.testing.assert_allclose([model.intercept_, *model.coef_], expected, rtol=1e-11, atol=1e-12)
    assert model.scale_ == pytest.approx(np.sqrt(np.mean((y - A @ expected) ** 2)), rel=1e-11)
    assert (model.weights_ == 1).all()
    assert model.score(X, y) == pytest.approx(1 - np.mean((y - A @ expected) ** 2) / y.var(), rel=1e-11)


@pytest.mark.parametrize("alpha", [1.5, 1.0, 0.0, -2.0])
def test_statsmodels_finds_the_same_with_the_same_norm(alpha):
    """RLM by its own iteration, on a norm of our functions; to 1e-7, since it creeps up and stops at steps of 1e-10."""
    X, y = heavy()
    A, c = np.column_stack((np.ones(len(y)), X)), 0.2
    model = RobustRegressor(alpha, c).fit(X, y)
    start = np.linalg.lstsq(A, y, rcond=None)[0]
    theirs = sm.RLM(y, A, M=rlm.Norm(alpha)).fit(
        start_params=start, start_scale=c, update_scale=False, maxiter=500, tol=1e-10, conv="coefs"
    )
    np.testing.assert_allclose([model.intercept_, *model.coef_], theirs.params, rtol=0, atol=1e-7)


# --- symmetries


@pytest.mark.parametrize("n", [200, 6000])
def test_units_and_shifts_do_not_matter(n):
    X, y = heavy(n)
    one = RobustRegressor().fit(X, y)
    units, shift = np.array([1e-150, 1e3, 1e150]), np.array([0.0, 5.0, -3.0])
    other = RobustRegressor().fit((X + shift) * units, 1e6 * (y + 7 + X @ [1.0, 0, -4]))
    coefficients = one.coef_ + np.array([1.0, 0, -4])
    np.testing.assert_allclose(other.coef_ * units / 1e6, coefficients, rtol=1e-8)
    expected = one.intercept_ + 7 - shift @ coefficients
    assert other.intercept_ / 1e6 == pytest.approx(expected, rel=1e-8)
    assert other.alpha_ == pytest.approx(one.alpha_, abs=1e-8)
    assert other.scale_ / 1e6 == pytest.approx(one.scale_, rel=1e-8)
    np.testing.assert_allclose(other.weights_, one.weights_, rtol=1e-6)


def test_a_column_far_from_zero_keeps_its_digits():
    X, y = heavy()
    assert np.abs(RobustRegressor().fit(X + 1e8, y).coef_ - RobustRegressor().fit(X, y).coef_).max() < 1e-6


@pytest.mark.parametrize(("n", "bound"), [(200, 1e-14), (6000, 1e-9)])
def test_a_weight_is_a_repetition_and_zero_is_no_row(n, bound):
    X, y = heavy(n)
    weights = np.random.default_rng(3).integers(0, 4, size=n)
    weighted = RobustRegressor().fit(X, y, weights)
    repeated = RobustRegressor().fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert gap(weighted, repeated) <= bound
    assert weighted.weights_.shape == (n,)
    np.testing.assert_allclose(weighted.weights_.repeat(weights), repeated.weights_, rtol=1e-6)
    assert gap(RobustRegressor().fit(X, y, 1e-200 * weights), weighted) <= 1e-9
    kept = weights > 0
    other = np.where(kept, y, 1e30)  # whatever stands in a row without weight
    assert gap(RobustRegressor().fit(X, other, weights), weighted) <= bound


@pytest.mark.parametrize(("n", "bound"), [(200, 1e-14), (6000, 1e-9)])
def test_the_order_of_rows_does_not_matter(n, bound):
    X, y = regression(n, 0.2)
    order = np.random.default_rng(0).permutation(n)
    assert gap(RobustRegressor().fit(X[order], y[order]), RobustRegressor().fit(X, y)) <= bound


def test_layout_and_dtype_of_x_do_not_matter_and_x_is_left_alone():
    X, y = heavy(6000)
    X32 = X.astype(np.float32)
    kept = X32.copy(), y.copy()
    one = RobustRegressor().fit(X32, y)
    assert one.coef_.dtype == np.float64
    assert gap(RobustRegressor().fit(X32.astype(np.float64), y), one) <= 1e-12
    assert gap(RobustRegressor().fit(np.asfortranarray(X32), y), one) <= 1e-12
    assert all((now == then).all() for now, then in zip((X32, y), kept, strict=True))
    locked = X.copy()
    locked.flags.writeable = False
    RobustRegressor().fit(locked, y)


# --- what determines no fit


def test_collinear_and_constant_columns_share_or_get_nothing():
    X, y = heavy()
    one = RobustRegressor().fit(X, y)
    more = RobustRegressor().fit(np.column_stack((X, 3 * X[:, 0], np.full(len(y), 7.0))), y)
    np.testing.assert_allclose(more.coef_, [one.coef_[0] / 2, *one.coef_[1:], one.coef_[0] / 6, 0], rtol=1e-9)
    assert more.intercept_ == pytest.approx(one.intercept_, rel=1e-9)
    assert more.scale_ == pytest.approx(one.scale_, rel=1e-9)
    nothing = RobustRegressor(fit_intercept=False).fit(np.zeros((50, 2)), y[:50])
    assert (nothing.coef_ == 0).all() and nothing.intercept_ == 0


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
def test_as_many_coefficients_as_rows_reproduce_them(rows):
    X, y = regression(rows)
    model = RobustRegressor().fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, rtol=1e-12, atol=1e-12)
    assert model.result_.exact_rows == rows
    assert 0 < model.scale_ < 1e-8


@pytest.mark.parametrize("rows", [5, 6, 7, 8])
def test_alpha_is_not_sought_where_an_exact_fit_would_always_win(rows):
    model = RobustRegressor().fit(*regression(rows))
    assert model.result_.alpha_range == (1.0, 2.0)
    assert model.alpha_ >= 1
    assert model.scale_ > 1e-3
    assert RobustRegressor().fit(*regression(9)).result_.alpha_range == (0.0, 2.0)


def test_exact_fits_are_least_squares_or_the_majority():
    X, _ = regression()
    y = 1 + X @ BETA
    model = RobustRegressor().fit(X, y)
    np.testing.assert_allclose(model.coef_, BETA, rtol=1e-12)
    assert (model.result_.exact_rows, model.result_.ols_rms) == (400, 0.0)
    y[:150] = np.random.default_rng(0).normal(size=150)
    model = RobustRegressor().fit(X, y)
    np.testing.assert_allclose(model.coef_, BETA, rtol=1e-9)
    assert model.result_.exact_rows == 250
    model = RobustRegressor().fit(X, np.full(400, 4.0))
    assert (model.coef_ == 0).all() and model.intercept_ == 4


def test_rows_without_weight_are_not_counted_as_exact():
    X, _ = regression(40)
    y = 1 + X @ BETA
    y[:10] += np.arange(10.0) + 1
    weights = np.where(np.arange(40) < 35, 1.0, 0.0)
    assert RobustRegressor().fit(X, y, weights).result_.exact_rows == 25


def test_a_far_row_sets_no_unit():
    X, y = heavy()
    near = RobustRegressor(0.0).fit(X, np.where(np.arange(400) < 20, 1e6, y))
    far = RobustRegressor(0.0).fit(X, np.where(np.arange(400) < 20, 1e90, y))
    assert gap(near, far) < 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_42_percent_of_coherent_outliers_are_no_reason_for_least_squares(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(400, 2))
    y = X @ [1.0, 2.0] + 3 + 0.1 * rng.normal(size=400)
    y[:168] += 20
    auto, fixed = RobustRegressor().fit(X, y), RobustRegressor(alpha=0.0).fit(X, y)
    assert auto.result_.value <= fixed.result_.value + 1e-9
    np.testing.assert_allclose(auto.coef_, [1, 2], atol=0.05)


# Hawkins, Bradu and Kass (1984), Technometrics 26: X1, X2, X3 and y of 75 rows. The first ten are outliers, far out in
# X, the next four are far out in X and right.
HBK = """
10.1 19.6 28.3 9.7 | 9.5 20.5 28.9 10.1 | 10.7 20.2 31.0 10.3 | 9.9 21.5 31.7 9.5 | 10.3 21.1 31.1 10.0 |
10.8 20.4 29.2 10.0 | 10.5 20.9 29.1 10.8 | 9.9 19.6 28.8 10.3 | 9.7 20.7 31.0 9.6 | 9.3 19.7 30.3 9.9 |
11.0 24.0 35.0 -0.2 | 12.0 23.0 37.0 -0.4 | 12.0 26.0 34.0 0.7 | 11.0 34.0 34.0 0.1 | 3.4 2.9 2.1 -0.4 |
3.1 2.2 0.3 0.6 | 0.0 1.6 0.2 -0.2 | 2.3 1.6 2.0 0.0 | 0.8 2.9 1.6 0.1 | 3.1 3.4 2.2 0.4 | 2.6 2.2 1.9 0.9 |
0.4 3.2 1.9 0.3 | 2.0 2.3 0.8 -0.8 | 1.3 2.3 0.5 0.7 | 1.0 0.0 0.4 -0.3 | 0.9 3.3 2.5 -0.8 | 3.3 2.5 2.9 -0.7 |
1.8 0.8 2.0 0.3 | 1.2 0.9 0.8 0.3 | 1.2 0.7 3.4 -0.3 | 3.1 1.4 1.0 0.0 | 0.5 2.4 0.3 -0.4 | 1.5 3.1 1.5 -0.6 |
0.4 0.0 0.7 -0.7 | 3.1 2.4 3.0 0.3 | 1.1 2.2 2.7 -1.0 | 0.1 3.0 2.6 -0.6 | 1.5 1.2 0.2 0.9 | 2.1 0.0 1.2 -0.7 |
0.5 2.0 1.2 -0.5 | 3.4 1.6 2.9 -0.1 | 0.3 1.0 2.7 -0.7 | 0.1 3.3 0.9 0.6 | 1.8 0.5 3.2 -0.7 |
1.9 0.1 0.6 -0.5 | 1.8 0.5 3.0 -0.4 | 3.0 0.1 0.8 -0.9 | 3.1 1.6 3.0 0.1 | 3.1 2.5 1.9 0.9 | 2.1 2.8 2.9 -0.4 |
2.3 1.5 0.4 0.7 | 3.3 0.6 1.2 -0.5 | 0.3 0.4 3.3 0.7 | 1.1 3.0 0.3 0.7 | 0.5 2.4 0.9 0.0 | 1.8 3.2 0.9 0.1 |
1.8 0.7 0.7 0.7 | 2.4 3.4 1.5 -0.1 | 1.6 2.1 3.0 -0.3 | 0.3 1.5 3.3 -0.9 | 0.4 3.4 3.0 -0.3 | 0.9 0.1 0.3 0.6 |
1.1 2.7 0.2 -0.3 | 2.8 3.0 2.9 -0.5 | 2.0 0.7 2.7 0.6 | 0.2 1.8 0.8 -0.9 | 1.6 2.0 1.2 -0.7 | 0.1 0.0 1.1 0.6 |
2.0 0.6 0.3 0.2 | 1.0 2.2 2.9 0.7 | 2.2 2.5 2.3 0.2 | 0.6 2.0 1.5 -0.2 | 0.3 1.7 2.2 0.4 | 0.0 2.2 1.6 -0.9 |
0.3 0.4 2.6 0.2
"""


def test_the_lowest_of_near_minima_is_found():
    """38.809 for all rows; a start from the three subsets of least median residual ends at 38.975."""
    X, y = np.split(np.array([row.split() for row in HBK.split("|")], float), [3], axis=1)
    ols = sm.OLS(y, sm.add_constant(X)).fit().params
    np.testing.assert_allclose(
        ols, [-0.3875, 0.2392, -0.3345, 0.3833], atol=5e-5
    )  # the literature's: the data are right
    model = RobustRegressor(alpha=-math.inf, scale=0.4).fit(X, y[:, 0])
    assert 75 * model.result_.value == pytest.approx(38.80898818725862, abs=1e-6)
    assert (model.weights_[:10] < 1e-6).all()
    order = np.random.default_rng(0).permutation(75)
    assert gap(RobustRegressor(alpha=-math.inf, scale=0.4).fit(X[order], y[order, 0]), model) < 1e-9


def test_what_no_fit_can_do_is_said():
    X, y = heavy()
    with pytest.raises(ValueError, match=r"the loss is infinite at alpha = inf, scale = 0\.001"):
        RobustRegressor(np.inf, 1e-3).fit(X, y)
    with pytest.raises(TypeError, match="fit_intercept must be True or False"):
        RobustRegressor(fit_intercept="no").fit(X, y)
    with pytest.raises(TypeError, match="y is a masked array"):
        RobustRegressor().fit(X, np.ma.masked_array(y, y > 0))
    assert np.isfinite(RobustRegressor(0.0, 1e-200).fit(X, y).coef_).all()


def test_what_has_not_converged_warns(monkeypatch):
    def lazy(self, start, *others):
        return self.measured(start, 0)[0]

    for name in ("polish", "newton", "descend"):
        monkeypatch.setattr(_regression.Problem, name, lazy)
    with pytest.warns(ConvergenceWarning, match="not converged"):
        RobustRegressor().fit(*heavy())


# --- the estimator


BAD = {
    "a word for alpha": ({"alpha": "Cauchy"}, TypeError, ["alpha", "'Cauchy'", '"auto"']),
    "NaN for alpha": ({"alpha": math.nan}, ValueError, ["alpha", "nan", "[-inf, inf]"]),
    "True for scale": ({"scale": True}, TypeError, ["scale", "True"]),
    "a scale of 0": ({"scale": 0}, ValueError, ["scale", "0", "positive"]),
    "an infinite scale": ({"scale": math.inf}, ValueError, ["scale", "inf", "finite"]),
    "alpha below 0, no scale": ({"alpha": -1}, ValueError, ["alpha=-1", "scale", "number"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_named_with_value_and_remedy(case):
    options, kind, words = BAD[case]
    with pytest.raises(kind) as caught:
        RobustRegressor(**options).fit(*heavy(20))
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("weights", "words"),
    [(np.zeros(20), ["zero"]), (-np.ones(20), ["egative"]), (np.ones(3), ["(3,)"])],
)
def test_bad_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match="weight") as caught:
        RobustRegressor().fit(*heavy(20), weights)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_a_double_cannot_hold_is_refused():
    X = np.arange(12.0)[:, None]
    y = 2 * X[:, 0] + np.sin(X[:, 0])
    with pytest.raises(ValueError, match="a coefficient is beyond a double's range: give the columns in other units"):
        RobustRegressor().fit(X * 1e-200, y * 1e200)
    with pytest.raises(ValueError, match=r"sample_weight sums to infinity: .* divide the weights"):
        RobustRegressor().fit(X, y, np.full(12, 1e308))
    far = np.zeros((12, 1))
    far[:2, 0] = -1.7e308, 1.7e308
    with pytest.raises(ValueError, match="has a length beyond a double's range: give it in another unit"):
        RobustRegressor(alpha=1.0, scale=1.0).fit(far, y).standard_errors(far)


@pytest.mark.parametrize("options", [{}, {"alpha": -2.0, "scale": 1.0}, {"alpha": 2.0}])
def test_a_fill_value_is_named_where_nothing_is_left_of_the_others_beside_it(options):
    X = np.arange(20.0)[:, None]
    y = 2 * X[:, 0] + np.sin(X[:, 0])
    for factor in (9.96921e36, -1.7e308):
        far = X.copy()
        far[3] = factor
        with pytest.raises(ValueError, match=r"X\[:, 0\] holds .*e\+.*missing value, leave the row out"):
            RobustRegressor(**options).fit(far, y)
    y[3] = 1.7e308
    with pytest.raises(ValueError, match=r"y holds 1.7e\+308, and half .* missing value, leave the row out"):
        RobustRegressor(**options).fit(X, y)
    weights = np.ones(20)
    weights[3] = 0
    assert RobustRegressor(**options).fit(far, y, weights).coef_[0] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("far", [1e6, 9.96921e36, 1e90])
def test_a_fill_value_in_y_is_an_outlier_like_any_other(far):
    X = np.arange(20.0)[:, None]
    y = 2 * X[:, 0] + np.sin(X[:, 0])
    y[3] = far
    assert RobustRegressor().fit(X, y).coef_[0] == pytest.approx(2, abs=0.05)


def test_dates_and_indicators_are_not_far():
    t = 1_700_000_000_000_000_000 + 1_000_000_000 * np.arange(40.0)  # nanoseconds
    on = np.where(np.arange(40) % 10 == 0, 1e6, 0.0)
    y = 3e-9 * (t - t[0]) + 2 * on + np.sin(np.arange(40.0))
    assert RobustRegressor().fit(np.column_stack((t, on)), y).coef_ == pytest.approx([3e-9, 2], rel=0.02, abs=0)


def test_nan_is_refused_also_where_the_weight_is_zero():
    X, y = heavy(20)
    X[3, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        RobustRegressor().fit(X, y, np.arange(20) != 3)


def test_it_pickles_and_clones_and_has_to_be_fitted():
    X, y = heavy(50)
    model = RobustRegressor(alpha=0.5).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    assert clone(model).get_params() == {"alpha": 0.5, "scale": "auto", "fit_intercept": True, "loss": None}
    with pytest.raises(NotFittedError):
        clone(model).predict(X)


def test_it_tells_how_far_it_is():
    told = []
    X, y = regression(6000, 0.2)
    model = RobustRegressor().fit(X, 1000 * y, callback=told.append)
    assert [one.message for one in told[:2]] == ["checking the columns", "least squares"]
    assert all(type(one) is OptimizeResult and isinstance(one.message, str) for one in told)
    steps = [one for one in told if "nit" in one]
    assert all(one.message.endswith(f": iteration {one.nit}, mean {one.fun:.9g}") for one in steps)
    last = steps[-1]
    assert "fitting 6,000 rows: iteration" in last.message and last.nit == model.n_iter_
    assert last.fun == pytest.approx(model.result_.value, rel=1e-9)  # in the units of the data


def test_the_callback_is_called_as_scipy_calls_it():
    X, y = regression(200, 0.2)
    seen = []

    def by_name(*, intermediate_result):
        seen.append(intermediate_result.message)
        intermediate_result.message = intermediate_result.fun = None  # its own copy

    found = RobustRegressor().fit(X, y, callback=by_name)
    assert seen and np.array_equal(found.coef_, RobustRegressor().fit(X, y).coef_)
    with pytest.raises(TypeError, match="callback must be callable, got 'x'"):
        RobustRegressor().fit(X, y, callback="x")
    with pytest.raises(KeyError, match="mine"):
        RobustRegressor().fit(X, y, callback=lambda known: {}["mine"])


@pytest.mark.parametrize("alpha", ["auto", -2.0, 0.5])
@pytest.mark.parametrize("where", ["checking the columns", "first fit", "start 2", "fitting 6,000 rows"])
def test_the_callback_can_end_the_fit(where, alpha):
    """With what was shown last, on all rows; and without another call."""
    X, y = regression(6000, 0.2)
    y[:2000] += 100 * X[:2000, 0]
    told = []

    def stop(known):
        told.append(known)
        if known.message.startswith(where):
            raise StopIteration

    model = RobustRegressor(alpha, "auto" if alpha != -2 else 0.3)
    if where == "fitting 6,000 rows" and alpha == -2.0:  # converged by then
        model.fit(X, y, callback=stop)
    else:
        with pytest.warns(ConvergenceWarning, match="has not converged.*the callback stopped it"):
            model.fit(X, y, callback=stop)
    assert sum(one.message.startswith(where) for one in told) == 1
    on_all_rows = [one.nit for one in told if one.message.startswith("fitting")]
    assert model.n_iter_ == (on_all_rows[-1] if on_all_rows else 0)
    assert model.alpha_ == alpha or alpha == "auto"
    objective = fr.nll if alpha == "auto" or alpha >= 0 else fr.loss
    value = objective(y - model.predict(X), model.alpha_, model.scale_, reduction="mean")
    assert model.result_.value == pytest.approx(float(value), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "prints"),
    [
        ("efficiency_scale", "function"),
        ("RobustRegressor", 'pip install ".[sklearn]"'),
        ("nothing", "no attr"),
    ],
)
def test_only_the_estimator_needs_scikit_learn(name, prints):
    program = f"""
import sys
sys.modules["sklearn"] = None
import fastrobust.optimize
assert {{"RobustRegressor", "efficiency_scale"}} <= set(dir(fastrobust.optimize))
try:
    print(type(fastrobust.optimize.{name}))
except (ImportError, AttributeError) as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert prints in done.stdout
