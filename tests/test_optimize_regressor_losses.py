"""RobustRegressor with losses of the catalogue and of the user's own."""

from __future__ import annotations

import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from own_losses import lopsided
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastrobust as fr
from fastrobust import losses
from fastrobust.optimize import RobustRegressor, irls

RANDOM = np.random.default_rng(5)
N = 150
X = RANDOM.normal(size=(N, 2))
Y = X @ [1.0, 2.0] + 3 + 0.1 * RANDOM.standard_t(2, size=N)
Y[:40] += 20 + 5 * X[:40, 0]
WEIGHTS = RANDOM.integers(0, 3, N).astype(float)
SCALE = 0.3
BARRON = {"cauchy": 0.0, "geman_mcclure": -2.0, "welsch": -math.inf, "pseudo_huber": 1.0, "half_squared_error": 2.0}
QUICK = [name if name == "geman_mcclure" else pytest.param(name, marks=pytest.mark.slow) for name in BARRON]


@fr.define
def of_residuals(r: Any) -> Any:
    """Cauchy's loss, with an operand of another name."""
    return fr.math.log(1 + r * r / 2)


@parametrize_with_checks([RobustRegressor(loss=losses.tukey, scale=1.0)])
def test_scikit_learn_s_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("name", QUICK)
def test_the_catalogue_is_barrons_loss_where_that_is_the_same(name: str) -> None:
    ours = RobustRegressor(loss=getattr(losses, name), scale=SCALE).fit(X, Y, WEIGHTS)
    theirs = RobustRegressor(BARRON[name], SCALE).fit(X, Y, WEIGHTS)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-10)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-10)
    np.testing.assert_allclose(ours.weights_, theirs.weights_, atol=1e-9)
    mine, yours = ours.standard_errors(X, WEIGHTS), theirs.standard_errors(X, WEIGHTS)
    np.testing.assert_allclose(mine.robust, yours.robust, rtol=1e-8)
    np.testing.assert_allclose(mine.ols, yours.ols, rtol=1e-12)
    expected = fr.loss(ours.result_.residuals, BARRON[name], SCALE, reduction="mean", weights=WEIGHTS)
    assert ours.result_.value == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
def test_a_factor_of_the_loss_changes_nothing() -> None:
    plain = RobustRegressor(loss=losses.tukey, scale=SCALE).fit(X, Y)
    small = RobustRegressor(loss=1e-9 * losses.tukey, scale=SCALE).fit(X, Y)
    np.testing.assert_allclose(small.coef_, plain.coef_, rtol=1e-10)
    np.testing.assert_allclose(small.weights_, plain.weights_, atol=1e-9)
    np.testing.assert_allclose(small.standard_errors(X).robust, plain.standard_errors(X).robust, rtol=1e-7)
    assert small.result_.value == pytest.approx(1e-9 * plain.result_.value)


def test_units_and_names_of_operands_change_nothing() -> None:
    plain = RobustRegressor(loss=losses.tukey, scale=SCALE).fit(X, Y)
    unit = RobustRegressor(loss=losses.tukey, scale=SCALE * 2.0**-300).fit(X * 2.0**200, Y * 2.0**-300)
    np.testing.assert_allclose(unit.coef_ * 2.0**500, plain.coef_, rtol=1e-10)
    own = RobustRegressor(loss=of_residuals, scale=SCALE).fit(X, Y)
    np.testing.assert_allclose(own.coef_, RobustRegressor(loss=losses.cauchy, scale=SCALE).fit(X, Y).coef_, rtol=1e-10)


@pytest.mark.parametrize("name", ["HuberT", "TukeyBiweight"])
def test_statsmodels_finds_the_same(name: str) -> None:
    norm = getattr(sm.robust.norms, name)()
    loss = losses.huber.with_defaults(delta=norm.t) if name == "HuberT" else losses.tukey.with_defaults(c=norm.c)
    theirs = sm.RLM(Y, sm.add_constant(X), M=norm).fit(update_scale=False, maxiter=2000, tol=1e-13)
    ours = RobustRegressor(loss=loss, scale=theirs.scale).fit(X, Y)
    np.testing.assert_allclose([ours.intercept_, *ours.coef_], theirs.params, atol=1e-7)
    np.testing.assert_allclose(ours.weights_, theirs.weights, atol=1e-7)


def test_a_loss_of_the_user_s_own() -> None:
    model = RobustRegressor(loss=lopsided, scale=SCALE).fit(X, Y, WEIGHTS)

    def mean(b: Any) -> float:
        z = (Y - X @ b[1:] - b[0]) / SCALE
        return float(np.average(np.where(z > 0, 0.3, 0.7) * (np.hypot(1, z) - 1), weights=WEIGHTS))

    found = np.array([model.intercept_, *model.coef_])
    options = {"xatol": 1e-11, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000}
    there = minimize(mean, found + 0.1, method="Nelder-Mead", options=options).x
    np.testing.assert_allclose(found, minimize(mean, there, method="Nelder-Mead", options=options).x, atol=1e-6)
    assert model.result_.value == pytest.approx(mean(found), rel=1e-12)
    again = irls(np.c_[np.ones(N), X], Y, loss=lopsided, scale=SCALE, weights=WEIGHTS, tol=1e-10)
    np.testing.assert_allclose(found, again.x, atol=1e-7)
    np.testing.assert_allclose(model.weights_, again.weights, atol=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_the_majority_is_found(seed: int) -> None:
    """45 % of coherent outliers, with leverage: least squares and all reweighting from it are lost to them."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, 2))
    y = rows @ [1.0, -1.0] + 0.1 * random.normal(size=200)
    rows[:90, 0] += 8
    y[:90] = 30 + random.normal(size=90)
    model = RobustRegressor(loss=losses.tukey, scale=0.1).fit(rows, y)
    np.testing.assert_allclose([*model.coef_, model.intercept_], [1, -1, 0], atol=0.1)
    assert (model.weights_[:90] == 0).all()


def test_large_and_weightless_data() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(6000, 2))
    y = rows @ [1.0, 2.0] + 0.1 * random.normal(size=6000)
    y[::5] += 30
    model = RobustRegressor(loss=losses.tukey, scale=0.1).fit(rows, y)
    expected = irls(np.c_[rows, np.ones(6000)], y, loss=losses.tukey, scale=0.1, x0=[1.0, 2.0, 0.0], tol=1e-11)
    np.testing.assert_allclose([*model.coef_, model.intercept_], expected.x, atol=1e-9)
    level = losses.squared_epsilon_insensitive.with_defaults(epsilon=1e6)
    np.testing.assert_array_equal(RobustRegressor(loss=level, scale=1.0).fit(X, Y).weights_, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        exact = RobustRegressor(loss=losses.tukey, scale=1.0).fit(X, X @ [1.0, 2.0] + 3)
    np.testing.assert_allclose([*exact.coef_, exact.intercept_], [1, 2, 3], atol=1e-12)


def test_it_is_an_estimator() -> None:
    model = RobustRegressor(loss=losses.tukey.with_defaults(c=3.0), scale=SCALE)
    assert clone(model).get_params()["loss"].formula.defaults == {"c": 3.0}
    model.fit(X, Y)
    assert not hasattr(model, "alpha_") and model.scale_ == SCALE
    np.testing.assert_array_equal(clone(model).set_params(alpha=0.3).fit(X, Y).coef_, model.coef_)  # alpha is not used
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    np.testing.assert_array_equal(again.standard_errors(X).robust, model.standard_errors(X).robust)
    assert hasattr(model.set_params(loss=None, scale="auto").fit(X, Y), "alpha_")
    assert not hasattr(model.set_params(loss=losses.huber, scale=SCALE).fit(X, Y), "alpha_")


def _bare(x: Any, c: Any) -> Any:
    return (x / c) ** 2


BAD = {
    "no scale": ({"loss": losses.huber}, ValueError, ["scale", "number", "likelihood", 'scale="auto"']),
    "a word": ({"loss": "huber", "scale": 1.0}, TypeError, ["fastrobust.losses", "'huber'"]),
    "two data": ({"loss": losses.quantile, "scale": 1.0}, TypeError, ["residual alone", "target"]),
    "infinite weights": ({"loss": losses.mae, "scale": 1.0}, ValueError, ["mae", "finite", "huber"]),
    "no default": ({"loss": fr.define(_bare, params="c"), "scale": 1.0}, TypeError, ["_bare", "c", "with_defaults"]),
    "a scale of 0": ({"loss": losses.huber, "scale": 0}, ValueError, ["scale", "0", "positive"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_named_with_value_and_remedy(case: str) -> None:
    options, kind, words = BAD[case]
    with pytest.raises(kind) as caught:
        RobustRegressor(**options).fit(X, Y)
    assert all(word in str(caught.value) for word in words), caught.value


def test_errors_that_say_nothing_are_none() -> None:
    level = losses.squared_epsilon_insensitive.with_defaults(epsilon=0.1)
    model = RobustRegressor(loss=level, scale=SCALE).fit(X, Y)
    with pytest.raises(ValueError, match=r"no standard errors for squared_epsilon_insensitive\(epsilon=0.1\): they"):
        model.standard_errors(X)


@pytest.mark.slow
def test_standard_errors_are_those_of_repeated_samples() -> None:
    """With normal errors, against the spread of the slopes of Tukey's estimator over 300 samples."""
    random, slopes, errors = np.random.default_rng(1), [], []
    for _ in range(300):
        rows = random.normal(size=(60, 1))
        model = RobustRegressor(loss=losses.tukey, scale=1.0).fit(rows, rows[:, 0] + random.normal(size=60))
        slopes.append(model.coef_[0])
        errors.append(model.standard_errors(rows).robust[1])
    assert np.mean(errors) == pytest.approx(np.std(slopes), rel=0.12)
