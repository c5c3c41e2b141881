"""What kind of loss one is, `Loss.traits`, and other numbers for its parameters, `Loss.with_defaults`."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import exp, logcosh, softplus, sqrt, where

# Even, convex, bounded influence, redescending, falling weights: by hand, from the formulas.
TRAITS = {
    "mse": (True, True, False, False, True),
    "half_squared_error": (True, True, False, False, True),
    "mae": (True, True, True, False, False),  # the weight at 0 is infinite
    "huber": (True, True, True, False, True),
    "smooth_l1": (True, True, True, False, True),
    "pseudo_huber": (True, True, True, False, True),
    "cauchy": (True, False, True, True, True),
    "geman_mcclure": (True, False, True, True, True),
    "welsch": (True, False, True, True, True),
    "tukey": (True, False, True, True, True),
    "log_cosh": (True, True, True, False, True),
    "epsilon_insensitive": (True, True, True, False, False),  # 0 within epsilon, 1/|x| beyond
    "squared_epsilon_insensitive": (True, True, False, False, False),
}


@fr.define(params="c tau")
def lopsided(x: Any, c: Any, tau: Any = 0.5) -> Any:
    """An asymmetric pseudo-Huber loss."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)


@fr.define
def linex(x: Any) -> Any:
    return exp(x) - 1 - x


@fr.define
def jumping(x: Any) -> Any:
    return where(abs(x) < 1, x * x, 5 + x * x)


@fr.define
def between(x: Any) -> Any:
    """|x|^1.5, whose weight at 0 is infinite."""
    return abs(x) * sqrt(abs(x))


@fr.define
def entropy(x: Any) -> Any:
    """An influence that grows like a logarithm."""
    a = abs(x)
    return (1 + a) * fr.math.log(1 + a) - a


@fr.define
def smooth_entropy(x: Any) -> Any:
    """Of the same growth, by a graph that has all derivatives at 0."""
    return fr.math.log(1 + x * x) * sqrt(1 + x * x)


@fr.define
def raised(x: Any) -> Any:
    """Convex, on top of a constant that leaves no digits for small residuals."""
    return logcosh(x) + 100


@fr.define
def descending(x: Any) -> Any:
    """Concave: its minimum is not at 0."""
    return -softplus(x)


@pytest.mark.parametrize("name", TRAITS)
def test_the_traits_of_the_catalogue(name: str) -> None:
    assert tuple(getattr(losses, name).traits()) == TRAITS[name]


def test_the_table_has_all_losses_of_a_residual() -> None:
    """Of one operand that is data, and a residual: hinge and GAN losses are of scores, and are no such losses."""
    from fastrobust.kernels.losses import residuals

    alone = {name.lower() for name in residuals.__all__ if len(getattr(losses, name.lower()).data) == 1}
    assert alone == set(TRAITS)


@pytest.mark.parametrize(
    ("loss", "parameters", "expected"),
    [
        (lopsided, {"c": 1.5}, (True, True, True, False, True)),  # tau = 1/2
        (lopsided, {"c": 1.5, "tau": 0.3}, (False, True, True, False, False)),
        (lopsided, {"c": 1.0, "tau": 0.5001}, (False, True, True, False, False)),
        (linex, {}, (False, True, False, False, False)),
        (jumping, {}, (True, False, False, False, True)),
        (between, {}, (True, False, False, False, False)),  # the graph's influence at 0 is NaN, which is nothing
        (entropy, {}, (True, True, False, False, False)),  # the graph's weight at 0 is 0, by the derivative of |x|
        (smooth_entropy, {}, (True, True, False, False, True)),
        (raised, {}, (True, True, True, False, True)),
        (descending, {}, (False, False, True, False, False)),
        (losses.mse + 0.1 * losses.mae, {}, (True, True, False, False, False)),
        (losses.huber + losses.tukey, {}, (True, False, True, False, True)),
        (losses.huber, {"delta": 0}, (True, True, True, False, True)),  # the loss is 0
        (losses.welsch, {"scale": 1e-20}, (True, False, True, True, True)),
        (losses.welsch, {"scale": 1e20}, (True, False, True, True, True)),
    ],
)
def test_the_traits_of_others(loss: losses.Loss, parameters: dict[str, float], expected: tuple[bool, ...]) -> None:
    assert tuple(loss.traits(**parameters)) == expected


def test_traits_are_of_losses_of_a_residual() -> None:
    with pytest.raises(TypeError, match=r"quantile has no such traits: .* this one has the data x, target"):
        losses.quantile.traits()
    with pytest.raises(TypeError, match="lopsided needs c: it has c, tau"):
        lopsided.traits(tau=0.3)
    with pytest.raises(TypeError, match="huber has no parameter c: it has delta"):
        losses.huber.traits(c=1.0)
    with pytest.raises(ValueError, match="delta must not be negative, got -1"):
        losses.huber.traits(delta=-1)


def test_traits_compile_nothing_and_are_imported_late() -> None:
    code = (
        "import sys; from fastrobust import losses; losses.huber; assert 'fastrobust._traits' not in sys.modules;"
        "losses.tukey.traits(); assert 'llvmlite' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- defaults


def test_defaults_are_what_a_call_leaves_out() -> None:
    x = np.array([-3.0, 0.5, 2.0])
    loss = lopsided.with_defaults(c=1.5, tau=0.3)
    np.testing.assert_array_equal(loss(x), lopsided(x, 1.5, 0.3))
    np.testing.assert_array_equal(loss(x, 2.0), lopsided(x, 2.0, 0.3))
    np.testing.assert_array_equal(loss.weight(x), lopsided.weight(x, 1.5, 0.3))
    np.testing.assert_array_equal(loss.curvature(x), lopsided.curvature(x, 1.5, 0.3))
    np.testing.assert_array_equal(loss.value_and_grad(x).dtau, lopsided.value_and_grad(x, 1.5, 0.3).dtau)
    assert loss.traits() == lopsided.traits(c=1.5, tau=0.3)
    assert lopsided.formula.defaults == {"tau": 0.5}  # as it was
    assert loss.with_defaults(tau=0.1).formula.defaults == {"tau": 0.1, "c": 1.5}


def test_a_default_may_stand_before_a_parameter_without_one() -> None:
    loss = fr.define(_two, params="a b").with_defaults(a=2.0)
    assert repr(loss).startswith("<loss _two(x, a=2.0, b, *, reduction")
    assert loss(1.0, b=3.0) == 5
    with pytest.raises(TypeError, match="_two needs b"):
        loss(1.0)


def _two(x: Any, a: Any, b: Any) -> Any:
    return a * x + b


def test_definitions_and_kernels_are_shared() -> None:
    loss = losses.huber.with_defaults(delta=0.1)
    assert loss.formula.definition is losses.huber.formula.definition
    assert loss.formula.weight is losses.huber.formula.weight
    assert loss.formula.order((2, 0)) is losses.huber.formula.order((2, 0))
    assert loss.__name__ == "huber" and loss.__doc__ == losses.huber.__doc__


def test_repr_and_pickle() -> None:
    loss = losses.huber.with_defaults(delta=np.float32(0.25))
    assert repr(loss) == "<loss huber(x, delta=0.25, *, reduction='none', weights=None, **options)>"
    again = pickle.loads(pickle.dumps(loss))
    assert repr(again) == repr(loss) and again(2.0) == loss(2.0) == losses.huber(2.0, 0.25)
    twice = pickle.loads(pickle.dumps(loss.with_defaults(delta=2)))
    assert twice.formula.defaults == {"delta": 2.0}


def test_a_sum_gives_its_parts_their_defaults() -> None:
    total = (losses.huber + 0.5 * losses.tukey).with_defaults(delta=0.5, c=3.0)
    x = np.array([-1.0, 0.2, 4.0])
    expected = losses.huber(x, 0.5) + 0.5 * losses.tukey(x, 3.0)
    for made in (total, pickle.loads(pickle.dumps(total)), total.parts[0] + total.parts[1]):
        np.testing.assert_allclose(made(x), expected, rtol=1e-15)
    np.testing.assert_allclose((2 * total)(x), 2 * expected, rtol=1e-15)


@pytest.mark.parametrize(
    ("parameters", "error", "told"),
    [
        ({"c": 1.0}, TypeError, "huber has no parameter c: it has delta"),
        ({"x": 1.0}, TypeError, "huber has no parameter x"),
        ({"delta": "1"}, TypeError, "delta must be a number, got '1'"),
        ({"delta": True}, TypeError, "delta must be a number, got True"),
        ({"delta": np.ones(2)}, TypeError, "delta must be a number, got array"),
        ({"delta": float("nan")}, ValueError, "delta must be a number, got nan"),
        ({"delta": -0.5}, ValueError, "delta must not be negative, got -0.5"),
    ],
)
def test_defaults_are_checked(parameters: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        losses.huber.with_defaults(**parameters)
