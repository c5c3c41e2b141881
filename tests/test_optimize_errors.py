"""Standard errors of RobustRegressor: against statsmodels, against dense algebra, and by simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

import fastrobust as fr
from fastrobust.optimize import RobustRegressor


def regression(n, features, seed=0, noise="t"):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, features))
    errors = random.standard_t(3, size=n) if noise == "t" else random.normal(size=n)
    return X, 1 + X @ np.arange(1.0, features + 1) + errors


# --- least squares, against statsmodels

DATA = {
    "anes96": None,
    "ccard": None,
    "committee": None,
    "copper": None,
    "cpunish": None,
    "engel": None,
    "fair": None,
    "longley": None,
    "randhie": None,
    "scotland": None,
    "spector": None,
    "stackloss": None,
    "star98": ["LOWINC", "PERASIAN", "PERBLACK", "PERHISP", "PERMINTE", "AVYRSEXP", "AVSALK", "PERSPENK", "PTRATIO"],
}


def dataset(name):
    loaded = getattr(sm.datasets, name).load_pandas()
    y = np.asarray(loaded.endog, float)
    exog = loaded.exog if DATA[name] is None else loaded.exog[DATA[name]]
    X = np.asarray(exog, float)
    return X[:, X.std(axis=0) > 0], y if y.ndim == 1 else y[:, 0]


@pytest.mark.parametrize("name", DATA)
def test_least_squares_is_that_of_statsmodels_on_its_data_sets(name):
    """Coefficients, classical errors, and HC3, which is the jackknife at alpha = 2; many have repeated rows."""
    X, y = dataset(name)
    theirs = sm.OLS(y, sm.add_constant(X, has_constant="add")).fit()
    model = RobustRegressor(2.0).fit(X, y)
    errors = model.standard_errors(X)
    found = model.result_
    np.testing.assert_allclose([found.ols_intercept, *found.ols_coefficients], theirs.params, rtol=1e-7)
    np.testing.assert_allclose([model.intercept_, *model.coef_], theirs.params, rtol=1e-7)
    np.testing.assert_allclose(errors.ols, theirs.bse, rtol=1e-8)
    np.testing.assert_allclose(errors.robust, theirs.get_robustcov_results("HC3").bse, rtol=1e-7)
    np.testing.assert_allclose(errors.margins(errors.ols, 0.9), theirs.bse * _t(theirs.df_resid, 0.9), rtol=1e-8)
    assert errors.df == theirs.df_resid


def _t(df, confidence):
    from scipy.stats import t

    return t.ppf(0.5 + confidence / 2, df)


REPEATED = np.repeat([[1, 2], [2, 3], [3, 5], [3, 4], [4, 6]], [4, 3, 2, 1, 2], axis=0).astype(float)


def test_equal_rows_are_rows():
    """They are merged in the fit; their number is not."""
    model = RobustRegressor(2.0).fit(REPEATED[:, :1], REPEATED[:, 1])
    np.testing.assert_allclose(model.standard_errors(REPEATED[:, :1]).ols, [0.200031, 0.080012], atol=1e-6)


@pytest.mark.parametrize("n", [80, 5000])
@pytest.mark.parametrize("alpha", [2.0, 0.5, "auto"])
def test_a_weight_counts_repetitions(n, alpha):
    X, y = regression(n, 2)
    X, y = np.round(X, 1), np.round(y, 1)
    weights = np.random.default_rng(1).integers(0, 4, size=n)
    weighted = RobustRegressor(alpha).fit(X, y, weights).standard_errors(X, weights)
    many = X.repeat(weights, axis=0)
    repeated = RobustRegressor(alpha).fit(many, y.repeat(weights)).standard_errors(many)
    np.testing.assert_allclose(weighted.robust, repeated.robust, rtol=1e-7)
    np.testing.assert_allclose(weighted.ols, repeated.ols, rtol=1e-10)
    assert weighted.df == repeated.df == weights.sum() - 3
    far = np.where(weights[:, None] > 0, X, 1e30)  # whatever stands in a row that does not count
    other = RobustRegressor(alpha).fit(far, y, weights).standard_errors(far, weights)
    np.testing.assert_allclose(other.robust, weighted.robust, rtol=1e-7)


def test_weights_that_sum_to_one_are_one_row():
    X, y = regression(50, 2)
    weights = np.full(50, 1 / 50)
    model = RobustRegressor().fit(X, y, weights)
    with pytest.raises(ValueError, match=r"sample_weight sums to 1, .* repetitions, so multiply"):
        model.standard_errors(X, weights)
    with pytest.raises(ValueError, match="X has 49 rows, and the fit 50"):
        model.standard_errors(X[1:])


# --- the jackknife, against dense algebra


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("options", [{}, {"scale": 1.0}, {"alpha": 1.0}, {"alpha": 0.0, "scale": 1.0}])
def test_each_row_is_left_out_by_a_newton_step_in_all_that_is_estimated(options, intercept):
    """Hessians row by row, their derivatives by differences of gradients; so many rows move nothing to its bounds."""
    X, y = regression(300, 2)
    y -= 1 - intercept
    model = RobustRegressor(**options, fit_intercept=intercept).fit(X, y)
    A = np.column_stack((np.ones(len(y)), X)) if intercept else X
    beta = np.concatenate(([model.intercept_] * intercept, model.coef_))
    theta = np.concatenate((beta, [model.alpha_, math.log(model.scale_)]))
    free = [*range(len(beta)), *([len(beta)] if "alpha" not in options else [])]
    free += [len(beta) + 1] if "scale" not in options else []

    def gradients(theta):
        scale = math.exp(theta[-1])
        found = fr.nll_and_grad(y - A @ theta[:-2], theta[-2], scale)
        return np.column_stack((-A * found.dx[:, None], found.dalpha, scale * found.dscale))[:, free]

    steps = 1e-5 * np.eye(len(theta))[free]
    hessians = np.stack([(gradients(theta + step) - gradients(theta - step)) / 2e-5 for step in steps], axis=2)
    others = hessians.sum(axis=0) - hessians
    moved = np.linalg.solve(others, gradients(theta)[:, :, None])[:, : len(beta), 0]
    n, k = len(y), len(beta)
    few = _t(model.weights_.sum() - k, 0.95) / _t(n - k, 0.95)
    expected = few * np.sqrt(np.sum(moved**2, axis=0))
    np.testing.assert_allclose(model.standard_errors(X).robust, expected, rtol=1e-5)


def test_a_column_for_one_row_has_an_error():
    """Its residual is 0 whatever happens, which does not make its coefficient exact: the others' size counts."""
    X, y = regression(40, 1)
    X = np.column_stack((X, np.arange(40) == 7))
    for alpha in (2.0, "auto"):
        errors = RobustRegressor(alpha).fit(X, y).standard_errors(X)
        assert 0.3 * errors.ols[2] < errors.robust[2] < 3 * errors.ols[2]


# --- coverage


def errors_of(kind, n, random):
    if kind == "t3":
        return random.standard_t(3, size=n)
    return random.normal(size=n) * (np.where(random.random(n) < 0.1, 7.0, 1.0) if kind == "contaminated" else 1.0)


def coverage(n, features, kind, simulations):
    """The share of intervals of 95 % that hold the truth, which is 0 for all coefficients."""
    held = []
    for seed in range(simulations):
        random = np.random.default_rng([seed, n, features])
        X, y = random.normal(size=(n, features)), errors_of(kind, n, random)
        model = RobustRegressor().fit(X, y)
        errors = model.standard_errors(X)
        held.append(np.abs([model.intercept_, *model.coef_]) <= errors.margins(errors.robust))
    return np.mean(held)


def test_intervals_cover_with_20_rows():
    """Of 240 intervals; by the sandwich 78 % would hold the truth. The slow test has the bounds for 95 %."""
    assert np.mean([coverage(20, 3, kind, 20) for kind in ("normal", "t3", "contaminated")]) >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "t3", "contaminated"])
@pytest.mark.parametrize(("n", "features"), [(20, 2), (20, 3), (51, 5), (100, 5)])
def test_intervals_cover(n, features, kind):
    """The standard error of such a share is 0.5 %."""
    assert 0.92 <= coverage(n, features, kind, 1000) <= 0.97


@pytest.mark.parametrize("n", [500, 3000])
@pytest.mark.parametrize("seed", range(3))
def test_many_normal_rows_have_nearly_the_errors_of_least_squares(n, seed):
    """Also where alpha ends at 1.9993, say, where its own likelihood is far from a parabola."""
    random = np.random.default_rng([seed, n])
    X, y = random.normal(size=(n, 2)), random.normal(size=n)
    model = RobustRegressor().fit(X, y)
    errors = model.standard_errors(X)
    np.testing.assert_allclose(errors.robust, errors.ols, rtol=6 / math.sqrt(n))
    assert model.alpha_ > 1.5


# --- what makes them doubtful


def test_longley_s_errors_are_sensible():
    """Eight of the 16 rows carry the fit with its seven coefficients: it knows no more than least squares."""
    X, y = dataset("longley")
    errors = RobustRegressor().fit(X, y).standard_errors(X)
    assert 0.5 < errors.robust[-1] / errors.ols[-1] < 3
    assert errors.condition == pytest.approx(110.544, abs=1e-3)
    (doubt,) = errors.doubts
    assert doubt.startswith("columns nearly depend on each other (condition number 111): the coefficients of 'X[:, 1]'")


def test_dependent_columns_are_named_and_have_no_error():
    X, y = regression(60, 3)
    more = np.column_stack((X, X[:, 0] - 2 * X[:, 2] + 5))
    model = RobustRegressor().fit(more, y)
    errors = model.standard_errors(more, names=["a", "b", "c", "d"])
    assert np.isnan(errors.robust).tolist() == np.isnan(errors.ols).tolist() == [True, True, False, True, True]
    assert errors.condition == math.inf
    assert "is a linear combination of" in errors.doubts[0] and "'b'" not in errors.doubts[0]
    np.testing.assert_allclose(errors.robust[2], RobustRegressor().fit(X, y).standard_errors(X).robust[2], rtol=1e-7)
    centred = np.column_stack((X, X[:, 0] - 2 * X[:, 2]))  # which leaves the intercept alone
    errors = RobustRegressor().fit(centred, y).standard_errors(centred)
    assert np.isnan(errors.ols).tolist() == [False, True, False, True, True]
    constant = np.column_stack((X, np.full(60, 3.0)))
    errors = RobustRegressor().fit(constant, y).standard_errors(constant)
    assert np.isnan(errors.robust).tolist() == [True, False, False, False, True]  # the intercept is as constant
    assert errors.doubts == ("columns are constant: 'X[:, 3]'; leave them out",)


@pytest.mark.parametrize(("scale", "words"), [(1e-6, "times smaller than"), (1e6, "times larger than")])
def test_a_scale_in_another_unit_is_doubted(scale, words):
    X, y = regression(50, 2)
    errors = RobustRegressor(1.0, scale).fit(X, y).standard_errors(X)
    assert words in errors.doubts[0]
    if scale < 1:  # only the rows that the fit passes through would count
        assert np.isnan(errors.robust).all() and "raise the scale" in errors.doubts[1]
    else:
        np.testing.assert_allclose(errors.robust, RobustRegressor(2.0).fit(X, y).standard_errors(X).robust, rtol=1e-5)
    assert RobustRegressor(1.0, 2.0).fit(X, y).standard_errors(X).doubts == ()
    assert RobustRegressor(2.0, scale).fit(X, y).standard_errors(X).doubts == ()  # least squares needs no scale


@pytest.mark.parametrize("alpha", ["auto", 2.0, 0.0])
@pytest.mark.parametrize("x_unit", [1e-170, 1.0, 1e170])
@pytest.mark.parametrize("y_unit", [1e-130, 1e130])
def test_errors_have_the_units_of_the_coefficients(alpha, x_unit, y_unit):
    X, y = regression(60, 2)
    one = RobustRegressor(alpha).fit(X, y).standard_errors(X)
    units = np.array([x_unit, 1.0])
    other = RobustRegressor(alpha).fit(X * units, y * y_unit).standard_errors(X * units)
    for name in ("robust", "ols"):
        found, expected = getattr(other, name), getattr(one, name)
        np.testing.assert_allclose(found[1:] / y_unit * units, expected[1:], rtol=1e-7)
        assert found[0] / y_unit == pytest.approx(expected[0], rel=1e-7)
    assert other.condition == pytest.approx(one.condition, rel=1e-10)


def test_a_given_scale_of_any_size_leaves_least_squares_its_errors():
    X, y = regression(60, 2)
    one = RobustRegressor(2.0).fit(X, y).standard_errors(X).robust
    for scale in (1e-150, 1e150):
        np.testing.assert_allclose(RobustRegressor(2.0, scale).fit(X, y).standard_errors(X).robust, one, rtol=1e-8)


def test_what_fits_exactly_has_no_error():
    X, y = regression(4, 3)
    errors = RobustRegressor().fit(X, y).standard_errors(X)
    assert np.isnan(errors.robust).all() and np.isnan(errors.ols).all() and errors.df == 0
    assert np.isnan(errors.margins(errors.ols)).all()
    X, _ = regression(30, 2)
    y = 1 + X @ [1.0, 2.0]
    for target in (y, np.where(np.arange(30) < 10, y + 1e3, y)):  # all rows, or all that count
        found = RobustRegressor(-math.inf, 0.1).fit(X, target).standard_errors(X)
        assert np.isnan(found.robust).all() and np.isnan(found.ols).all() == (target is y)
        assert found.doubts[-1] == "no standard errors: the rows that count lie exactly on the fit"
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 95"):
        errors.margins(errors.ols, 95)
