"""Losses of the user's own: `fastrobust.define`, and what a loss offers."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import exp, sqrt, where

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
ROOT = Path(__file__).parents[1]
X = np.array([-3.0, -1e-6, 0.0, 0.5, 2.0])


@fr.define(params="c tau")
def asymmetric(x: Any, c: Any, tau: Any = 0.5) -> Any:
    """An asymmetric pseudo-Huber loss."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)


@fr.define
def plain(x, y):  # type: ignore[no-untyped-def]
    return (x - y) ** 2


def test_a_function_becomes_a_loss() -> None:
    z = X / 1.5
    expected = np.where(X > 0, 0.3, 0.7) * 2.25 * (z * z / (1 + np.sqrt(1 + z * z)))
    np.testing.assert_allclose(asymmetric(X, 1.5, 0.3), expected, rtol=1e-14)
    np.testing.assert_array_equal(asymmetric(X, c=1.5, tau=0.3), asymmetric(X, 1.5, 0.3))
    np.testing.assert_array_equal(asymmetric(X, 1.5), asymmetric(X, 1.5, 0.5))
    assert asymmetric(2.0, 1.0) == pytest.approx((np.sqrt(5) - 1) / 2)
    assert plain(X, 1.0).tolist() == ((X - 1) ** 2).tolist()


def test_what_help_shows() -> None:
    assert repr(asymmetric).startswith("<loss asymmetric(x, c, tau=0.5, *, reduction='none'")
    assert asymmetric.__doc__ == "An asymmetric pseudo-Huber loss."
    assert list(inspect.signature(asymmetric).parameters)[:3] == ["x", "c", "tau"]
    assert (asymmetric.data, asymmetric.parameters) == (("x",), ("c", "tau"))
    assert (plain.data, plain.parameters) == (("x", "y"), ())


def test_gradients_in_one_pass_have_names_and_shapes() -> None:
    x, c = np.random.default_rng(0).normal(size=(7, 3)), np.array([0.5, 1.0, 2.0])
    g = asymmetric.value_and_grad(x, c, 0.3, reduction="mean")
    assert type(g).__name__ == "AsymmetricGrad" and g._fields == ("value", "dx", "dc", "dtau")
    assert g.value.shape == () and g.dx.shape == (7, 3) and g.dc.shape == (3,) and g.dtau.shape == ()
    only = asymmetric.value_and_grad(x, c, 0.3, reduction="mean", wrt=("c",))
    assert only.dx is None and only.dtau is None and np.array_equal(only.dc, g.dc)
    elements = asymmetric.value_and_grad(x, c, 0.3)
    np.testing.assert_allclose(g.dc, elements.dc.mean(0) / 3, rtol=1e-13)
    memory = np.empty((7, 3))
    assert asymmetric.value_and_grad(x, c, 0.3, out=(memory, None, None, None)).value is memory
    assert np.array_equal(memory, elements.value)


def test_a_function_form() -> None:
    loss = fr.define(lambda_free, params=["a"])
    assert loss(2.0, 3.0) == 6


def lambda_free(x: Any, a: Any) -> Any:
    return a * x


@pytest.mark.parametrize(
    ("make", "error", "told"),
    [
        (lambda: fr.define(lambda x: x), ValueError, "write its function with def"),
        (lambda: fr.define(lambda_free, params="b"), ValueError, "has no argument b: params must be some of x, a"),
        (lambda: fr.define(lambda_free, params="x a"), ValueError, "needs at least one argument"),
        (lambda: fr.define(lambda_free, params="x"), ValueError, "must come after the data"),
        (lambda: fr.define(3), TypeError, "define takes a function"),
        (lambda: fr.define(lambda_free, precision="double"), ValueError, "precision must be 'auto'"),
        (lambda: fr.define(lambda_free, ranges={"b": (0, 1)}), ValueError, "no argument b, for which ranges"),
        (lambda: fr.define(lambda_free, dx=1.0), TypeError, "dx must be a function of the same operands, got 1.0"),
        (
            lambda: fr.define(lambda_free, params="a", dx=lambda x, a: x),
            ValueError,
            "of lambda_free in x by hand is wr",
        ),
        (lambda: fr.define(lambda_free, params="a", dx=lambda x: x), TypeError, "takes 1 positional argument but 2"),
        (lambda: fr.define(with_star), TypeError, "must be an operand with a name"),
        (lambda: fr.define(with_if), TypeError, r"where\(condition, a, b\)"),
        (lambda: fr.define(with_text_default), TypeError, "the default of mode must be a number"),
        (lambda: asymmetric(), TypeError, "asymmetric needs x: it takes x, c, tau"),
        (lambda: asymmetric(1.0), TypeError, "asymmetric needs c: it takes x, c, tau"),
        (lambda: asymmetric(1.0, 2.0, 3.0, 4.0), TypeError, "takes 3 operands, x, c, tau; got 4"),
        (lambda: asymmetric(1.0, 2.0, c=3.0), TypeError, "got c twice"),
        (lambda: asymmetric(1.0, 2.0, reduction="average"), ValueError, "reduction must be"),
        (lambda: asymmetric(1.0, 2.0, delta=1.0), TypeError, "does not take delta"),
        (lambda: asymmetric.value_and_grad(1.0, 2.0, delta=1.0), TypeError, "does not take delta"),
        (lambda: asymmetric.value_and_grad(1.0, 2.0, wrt=("d",)), ValueError, "wrt must be a tuple of distinct names"),
        (lambda: asymmetric(np.array(["a"]), 1.0), TypeError, "x"),
        (lambda: asymmetric.derivative("d"), ValueError, "has no operand 'd': it has x, c, tau"),
        (lambda: plain.weight(1.0, 2.0), TypeError, "has no weights: they are of losses of a residual alone"),
        (lambda: losses.no_such_loss, AttributeError, "has no loss 'no_such_loss': it has balanced_focal_logits, "),
        (lambda: asymmetric + 1, TypeError, "unsupported operand"),
        (lambda: asymmetric * asymmetric, TypeError, "unsupported operand"),
        (lambda: asymmetric * "lam", TypeError, "can't multiply|unsupported operand"),
        (lambda: asymmetric.times(0.1), TypeError, r"must be a str, got 0.1: for a number write loss \* number"),
        (lambda: asymmetric.times("c"), ValueError, "has an operand 'c' already: give the factor another name"),
        (lambda: asymmetric.times("two words"), ValueError, "not a valid parameter name"),
        (lambda: asymmetric.times("weights"), ValueError, "an operand 'weights', which is an option of each call"),
        (lambda: asymmetric.times("lam", "small"), TypeError, "the default of lam must be a number, got 'small'"),
        (lambda: losses.mse.times("x"), ValueError, "has an operand 'x' already"),
        (lambda: losses.mse + losses.mae.times("target") + losses.bce_logits, ValueError, "target is data of one"),
    ],
)
def test_errors_say_what_to_do(make: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        make()


def with_star(*x: Any) -> Any:
    return x[0]


def with_if(x: Any) -> Any:
    return x if x > 0 else -x


def with_text_default(x: Any, mode: Any = "a") -> Any:
    return x


def test_sums_of_losses_are_one_loss() -> None:
    total = losses.mse + 0.1 * losses.mae + losses.huber * 2
    assert total.data == ("x",) and total.parameters == ("delta",)
    expected = X**2 + 0.1 * abs(X) + 2 * losses.huber(X, 0.7)
    np.testing.assert_allclose(total(X, 0.7), expected, rtol=1e-15)
    assert [part.__name__ for part in total.parts] == ["mse", "mae_times_0_1", "huber_times_2"]
    np.testing.assert_allclose(sum(part(X, *[0.7] * bool(part.parameters)) for part in total.parts), expected)
    np.testing.assert_allclose((3 * total)(X, 0.7), 3 * expected, rtol=1e-15)
    assert total(X).shape == X.shape  # delta has huber's default
    g = total.value_and_grad(X, 0.7, reduction="sum")
    assert g.value == pytest.approx(expected.sum()) and g._fields == ("value", "dx", "ddelta")
    again = pickle.loads(pickle.dumps(total))
    np.testing.assert_array_equal(again(X, 0.7), total(X, 0.7))


def test_a_factor_may_be_a_parameter() -> None:
    """It has a gradient, which is the loss that it multiplies; equal names are one factor."""
    total = losses.mse + losses.mae.times("lam", default=0.1) + 3 * losses.pseudo_huber.times("mu").times("lam")
    assert total.data == ("x",) and total.parameters == ("lam", "delta", "mu")
    assert repr(total).startswith(
        "<loss mse_plus_mae_times_lam_plus_pseudo_huber_times_mu_times_lam_times_3(x, lam=0.1, delta=1.0, mu, *"
    )
    lam, delta, mu = 0.3, 0.7, 2.0
    part = losses.pseudo_huber(X, delta)
    np.testing.assert_allclose(total(X, lam, delta, mu), X**2 + lam * abs(X) + 3 * lam * mu * part, rtol=1e-15)
    np.testing.assert_array_equal(total(X, mu=mu), total(X, 0.1, 1.0, mu))
    g = total.value_and_grad(X, lam, delta, mu, reduction="sum")
    assert g._fields == ("value", "dx", "dlam", "ddelta", "dmu")
    assert g.dlam == pytest.approx((abs(X) + 3 * mu * part).sum(), rel=1e-14)
    assert g.dmu == pytest.approx((3 * lam * part).sum(), rel=1e-14)
    assert [one.parameters for one in total.parts] == [(), ("lam",), ("delta", "mu", "lam")]
    terms = [one(X, *[{"lam": lam, "delta": delta, "mu": mu}[name] for name in one.parameters]) for one in total.parts]
    np.testing.assert_allclose(sum(terms), total(X, lam, delta, mu), rtol=1e-15)
    again = pickle.loads(pickle.dumps(total))
    np.testing.assert_array_equal(again(X, lam, delta, mu), total(X, lam, delta, mu))
    assert again.formula.digest == total.formula.digest
    whole = (losses.mse + losses.mae).times("lam")
    assert [one.__name__ for one in whole.parts] == ["mse_times_lam", "mae_times_lam"]


def test_a_factor_of_zero_leaves_nothing() -> None:
    """Not even of what is infinite, but all of what is not a number."""
    loss = losses.bce.times("lam")
    g = loss.value_and_grad(np.array([0.0, 0.25, np.nan]), np.array([1.0, 1.0, 1.0]), 0.0)
    np.testing.assert_array_equal(g.value, [0, 0, np.nan])
    np.testing.assert_array_equal(g.dx, [0, 0, np.nan])
    np.testing.assert_allclose(g.dlam, [np.inf, np.log(4), np.nan], rtol=1e-15)


def test_factors_learn_on_frameworks() -> None:
    """Derivatives of first and second order in it, and in what it multiplies."""
    total = losses.half_squared_error + losses.pseudo_huber.times("lam")
    torch = pytest.importorskip("torch")
    x, delta, lam = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (X + 0.1, 0.8, 0.3))
    assert torch.autograd.gradcheck(lambda *a: total(*a, reduction="mean"), (x, delta, lam))
    assert torch.autograd.gradgradcheck(lambda *a: total(*a, reduction="mean"), (x, delta, lam))
    jax = pytest.importorskip("jax")
    found = jax.grad(lambda lam: total(jax.numpy.asarray(X), 0.8, lam, reduction="sum"))(0.3)
    assert float(found) == pytest.approx(float(losses.pseudo_huber(X, 0.8, reduction="sum")), rel=1e-6)


@pytest.mark.parametrize("ratio", [1e-1, 1e-4, 1e-7])
def test_sums_and_multiples_keep_derivatives_by_hand(ratio: float) -> None:
    """Of the first and the second order, where automatic ones have lost all digits: d/ddelta of a pseudo-Huber loss."""
    mpmath = pytest.importorskip("mpmath")
    mp = mpmath.mp.clone()
    mp.dps = 80
    x, delta = np.float64(1.5 * ratio), np.float64(1.5)
    z = mp.mpf(float(x)) / mp.mpf(float(delta))
    s = mp.sqrt(1 + z * z)
    slope = mp.mpf(1.5) * (s - 1) ** 2 / s
    mixed = z * (1 - 1 / s**2) / s  # the derivative of that in x: z (s^2 - 1)/s^3
    tiny, eps = losses.pseudo_huber.times("lam"), 4 * np.finfo(np.float64).eps
    for loss, factor, given in (
        (2 * losses.pseudo_huber, 2, (x, delta)),
        (tiny, 0.5, (x, delta, 0.5)),
        (0.1 * (losses.mae + tiny * 3), mp.mpf(0.1) * 3 / 2, (x, delta, 0.5)),
        (losses.pseudo_huber + losses.pseudo_huber, 2, (x, delta)),
    ):
        assert float(abs(loss.value_and_grad(*given).ddelta / (factor * slope) - 1)) < eps, loss
        orders = tuple(int(name in ("x", "delta")) for name in loss.formula.operands)
        from fastrobust._evaluate import value_of

        found = value_of(loss.formula.order(orders).definition, given, "none", None, {})
        assert float(abs(found / (factor * mixed) - 1)) < 4 * eps, loss


def test_each_part_of_a_sum_begins_with_its_own_derivative_by_hand() -> None:
    """Here that in x, there that in c: the mixed derivative of the sum is the sum of theirs, node by node."""
    one = fr.define(lambda_free, params="a", dx=lambda x, a: a)
    two = fr.define(lambda_other, params="a")
    two.derivative("a")(lambda x, a: 2 * (a * x**3))
    total = 3.0 * (one + two)
    for orders in ((1, 0), (0, 1), (1, 1), (2, 1)):
        assert total.formula.root(orders) is 3.0 * (one.formula.root(orders) + two.formula.root(orders))
    assert total.formula.root((1, 1)) is not 3.0 * (
        one.formula.root((1, 1)) + fr.define(lambda_other, params="a").formula.root((1, 1))
    )
    digests = {fr.define(lambda_other, params="a").formula.digest, two.formula.digest}
    assert len(digests) == 2 and len({total.formula.digest, (3.0 * (one + one)).formula.digest}) == 2
    plain_sum = 3.0 * (fr.define(lambda_free, params="a") + fr.define(lambda_other, params="a"))
    assert plain_sum.formula.value is total.formula.value and plain_sum.formula.digest != total.formula.digest


def lambda_other(x: Any, a: Any) -> Any:
    return (a * a) * x**3


def test_a_sum_may_have_a_derivative_by_hand_of_its_own() -> None:
    """It then counts in what is made of the sum, and nothing forgets it by being pickled."""
    total = losses.mse + fr.define(charbonnier, params="c", precision="working")
    total.derivative("c")(lambda x, c: c * (sqrt(1 + (x / c) ** 2) - 1) ** 2 / sqrt(1 + (x / c) ** 2))
    x, c = np.float64(1e-3), np.float64(100.0)
    exact = 1e-3**4 / (4 * 100.0**3)
    for loss, factor in ((total, 1), (2 * total, 2), (total + losses.mae, 1)):
        assert loss.value_and_grad(x, c).dc == pytest.approx(factor * exact, rel=1e-9, abs=0)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(loss)


def test_a_sum_is_in_the_domains_of_all() -> None:
    """Huber's loss may have delta = 0, the pseudo-Huber loss not; in either order."""
    for total in (losses.huber + losses.pseudo_huber, losses.pseudo_huber + losses.huber):
        with pytest.raises(ValueError, match="delta must be positive, got 0"):
            total(X, 0.0)
    narrow = (
        fr.define(lambda_free, params="a", ranges={"a": (2, 5)}),
        fr.define(lambda_free, params="a", ranges={"a": (0, 3)}),
    )
    assert (narrow[0] + narrow[1]).formula.ranges == {"a": (2, 3)}


def test_a_name_that_is_data_here_and_a_parameter_there() -> None:
    with pytest.raises(ValueError, match="x is data of one loss and a parameter of the other"):
        losses.mse + fr.define(backwards, params="x")


def backwards(y: Any, x: Any) -> Any:
    return x * y


def test_a_derivative_by_hand_is_taken_and_a_wrong_one_refused() -> None:
    loss = fr.define(charbonnier, params="c")

    @loss.derivative("c")
    def slope(x: Any, c: Any) -> Any:
        rest = sqrt(1 + (x / c) ** 2) - 1
        return c * rest * (rest / (1 + rest))

    assert slope is loss
    x, c = np.float64(1e-3), np.float64(100.0)
    exact = 1e-3**4 / (4 * 100.0**3)  # c (s - 1)^2/s = z^4 c/4 for small z
    assert loss.value_and_grad(x, c).dc == pytest.approx(exact, rel=1e-9, abs=0)
    assert "working" in str(loss.accuracy(20))
    with pytest.raises(ValueError, match=r"of charbonnier in x by hand is wrong: at x = .*, c = .* it is"):

        @loss.derivative("x")
        def wrong(x: Any, c: Any) -> Any:
            return 2 * x


def charbonnier(x: Any, c: Any) -> Any:
    z = x / c
    return c * c * (sqrt(1 + z * z) - 1)


def test_a_derivative_by_hand_at_definition() -> None:
    """Where the automatic one has lost digits: of log cosh, written with exponentials, whose slope is a difference."""

    def slope(r: Any, c: Any = 1.0) -> Any:
        return c * fr.math.tanh(r / c)

    @fr.define(params="c", precision="working", dx=slope)
    def as_written(r: Any, c: Any = 1.0) -> Any:
        return c * c * fr.math.log(0.5 * (exp(r / c) + exp(-r / c)))

    plainly = fr.define(as_written.formula.function, params="c", precision="working")
    assert (as_written.__name__, as_written.data) == ("as_written", ("r",))
    r = np.float64(1e-9)
    assert as_written.influence(r) == pytest.approx(1e-9, rel=1e-15, abs=0)
    assert plainly.influence(r) != pytest.approx(1e-9, rel=1e-9, abs=0)
    assert as_written.curvature(r, 2.0) == pytest.approx(1.0, rel=1e-15)  # of what is by hand


def test_accuracy_is_a_table() -> None:
    table = asymmetric.accuracy(60)
    rows = {(row.output, row.dtype): row for row in table}
    assert set(rows) == {(o, d) for o in ("value", "dx", "dc", "dtau") for d in ("float32", "float64")}
    assert all(row.ulp < 4.5 for key, row in rows.items() if key != ("dc", "float32"))
    assert rows["dc", "float64"].numbers == "wide" and rows["dc", "float64"].ulp < 0.51
    assert rows["value", "float32"].numbers == "working"
    lines = str(table).splitlines()
    assert lines[0].split() == ["output", "dtype", "max", "ulp", "numbers", "worst", "at"] and len(lines) == 9


def test_precision_can_be_chosen() -> None:
    """In one word d/dc of a Charbonnier loss loses all digits where z is small; wide numbers keep them in float64."""
    names = {}
    for precision in ("working", "wide"):
        loss = fr.define(charbonnier, params="c", precision=precision)
        names[precision] = float(loss.value_and_grad(np.float64(0.01), np.float64(1.0)).dc)
    truth = 2.49975002343531e-9
    assert names["wide"] == pytest.approx(truth, rel=1e-12, abs=0) and names["working"] != names["wide"]


def test_traces_are_made_anew_where_a_name_is_defined_again() -> None:
    """As in a notebook: the later one counts, and kernels of the earlier one are not taken for it."""

    def make(factor: float) -> Any:
        def again(x: Any) -> Any:
            return factor * x

        return fr.define(again)

    first, second = make(2.0), make(3.0)
    assert (first(1.0), second(1.0), first(2.0)) == (2, 3, 4)
    torch = pytest.importorskip("torch")
    x = torch.ones(2, requires_grad=True)
    assert first(x).tolist() == [2, 2] and second(x).tolist() == [3, 3]
    (first(x) + second(x)).sum().backward()
    assert x.grad.tolist() == [5, 5]


def test_data_and_parameters_have_kernels_of_their_own() -> None:
    """One graph, whose second operand is a parameter here and data there."""
    with_parameter = fr.define(lambda_free, params="a")
    alone = fr.define(lambda_free)
    x, a = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0])
    for loss in (with_parameter, alone, with_parameter):
        np.testing.assert_array_equal(loss(x, a), x * a)
        g = loss.value_and_grad(x, a, reduction="sum")
        np.testing.assert_array_equal(g.da, x.sum(0) if loss is with_parameter else x)


def test_weights_follow_a_derivative_by_hand() -> None:
    loss = fr.define(charbonnier, params="c", precision="working")
    before = loss.weight(2.0, 1.0)
    loss.derivative("x")(lambda x, c: x / sqrt(1 + (x / c) ** 2))
    assert loss.weight(2.0, 1.0) == pytest.approx(before, rel=1e-15) and loss.curvature(0.0, 1.0) == 1


def test_two_modules_may_have_losses_of_one_name() -> None:
    """And one that is called like one of ours."""

    def huber(x: Any, delta: Any) -> Any:
        return delta * abs(x)

    own = fr.define(huber, params="delta")
    assert own(3.0, 2.0) == 6 and losses.huber(3.0, 2.0) == 4
    assert own.formula.name != losses.huber.formula.name == "huber"
    with pytest.raises(TypeError, match=r"^huber does not take delt"):
        own(3.0, 2.0, delt=1.0)


def test_a_loss_of_a_module_is_pickled_by_its_name() -> None:
    with pytest.raises(TypeError, match=r"cannot be pickled: it is not .*; define it in a module"):
        pickle.dumps(fr.define(lambda_free))
    assert pickle.loads(pickle.dumps(losses.huber)) is losses.huber


def test_a_warm_process_needs_no_numba(tmp_path: Path) -> None:
    """Kernels of a user's loss are kept by the digest of its graph; another formula has others."""
    program = """
import sys, numpy as np, fastrobust as fr
from fastrobust.math import exp
@fr.define(params="c")
def mine(x, c):
    return {formula}
print(float(mine(np.array([0.5]), 2.0)[0]), "numba" in sys.modules)
"""
    environment = {"PYTHONPATH": str(ROOT), "FASTROBUST_CACHE_DIR": str(tmp_path), "PATH": ""}

    def run(formula: str) -> list[str]:
        text = program.replace("{formula}", formula)
        done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert run("c * x * x") == ["0.5", "True"]
    assert run("c * x * x") == ["0.5", "False"]
    assert run("c * x * x * x") == ["0.25", "True"]


def test_frameworks_take_a_users_loss() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, requires_grad=True)
    c = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: asymmetric(*a, reduction="mean"), (x + 0.01, c, tau))
    assert torch.autograd.gradgradcheck(lambda *a: asymmetric(*a, reduction="sum"), (x + 0.01, c, tau))
    hessian = torch.func.hessian(lambda c: asymmetric(x, c, tau, reduction="sum"))(c)
    assert hessian.shape == ()
    jax = pytest.importorskip("jax")
    from jax.test_util import check_grads

    with jax.experimental.enable_x64() if hasattr(jax.experimental, "enable_x64") else jax.enable_x64():
        check_grads(lambda *a: asymmetric(*a, reduction="sum"), (X + 0.01, 0.8, 0.3), order=2)


def test_numbers_that_only_numpy_has() -> None:
    """Halves are computed in float32, integers in float64, lists become arrays."""
    assert asymmetric(np.float16(2.0), 1.0).dtype == np.float16
    assert asymmetric(np.array([1, 2]), 1.0).dtype == np.float64
    assert asymmetric([1.0, 2.0], 1.0).shape == (2,)
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    assert np.ma.is_masked(asymmetric(masked, 1.0))


def test_functions_and_loops_over_constants() -> None:
    """What a formula may be made of."""

    def mixture(x: Any, s: Any) -> Any:
        return -fr.math.log(sum(w * exp(-((x / (s * k)) ** 2)) for k, w in ((1, 0.75), (3, 0.25))))

    loss = fr.define(mixture, params="s")
    expected = -np.log(0.75 * np.exp(-(X**2)) + 0.25 * np.exp(-((X / 3) ** 2)))
    np.testing.assert_allclose(loss(X, 1.0), expected, rtol=1e-13, atol=1e-15)


def test_a_loss_is_a_module_of_pytorch() -> None:
    """With parameters that learn or not; one of residuals takes input and target, as PyTorch's own."""
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    input, target = torch.randn(8, 3), torch.randn(8, 3)
    criterion = frt.Loss(losses.huber, delta=torch.nn.Parameter(torch.tensor(0.7)))
    expected = torch.nn.functional.huber_loss(input, target, delta=0.7)
    torch.testing.assert_close(criterion(input, target), expected)
    assert [name for name, _ in criterion.named_parameters()] == ["delta"] and "delta" in criterion.state_dict()
    criterion(input, target).backward()
    delta = torch.tensor(0.7, requires_grad=True)
    losses.huber(input - target, delta, reduction="mean").backward()
    torch.testing.assert_close(criterion.delta.grad, delta.grad)
    assert str(criterion) == "Loss(huber, delta=0.7, reduction='mean')"
    labels = (target > 0).float()
    plain = frt.Loss(losses.bce_logits, reduction="sum", pos_weight=2.0)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        input, labels, pos_weight=torch.tensor(2.0), reduction="sum"
    )
    torch.testing.assert_close(plain(input, labels), wanted)
    mask = torch.tensor([True] * 7 + [False])[:, None]
    torch.testing.assert_close(plain(input, labels, weights=mask), plain(input[:7], labels[:7]))
    buffered = frt.Loss(losses.huber, delta=torch.tensor(2.0))
    assert "delta" in buffered.state_dict() and not list(buffered.parameters())
    for make, error, told in (
        (lambda: frt.Loss(abs), TypeError, "loss must be one of fastrobust.losses"),
        (lambda: frt.Loss(losses.huber, beta=1.0), TypeError, "huber has no parameter beta: it has delta"),
        (lambda: frt.Loss(asymmetric, tau=0.3), TypeError, "asymmetric needs c: it takes c, tau"),
        (lambda: frt.Loss(losses.huber, reduction="average"), ValueError, "reduction must be"),
        (lambda: plain(input), TypeError, "bce_logits takes x, target; got 1 tensors"),
    ):
        with pytest.raises(error, match=told):
            make()


def test_a_loss_under_pytorchs_compiler_and_transforms() -> None:
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    criterion = frt.Loss(asymmetric, c=torch.nn.Parameter(torch.tensor(0.7)), tau=0.3)
    x = torch.randn(50)
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), criterion(x))
    compiled(x).backward()
    found = criterion.c.grad.clone()
    criterion.c.grad = None
    criterion(x).backward()
    torch.testing.assert_close(found, criterion.c.grad)
    each = torch.func.vmap(torch.func.grad(lambda x: asymmetric(x, 0.7, 0.3)))(x)
    torch.testing.assert_close(each, asymmetric.influence(x, 0.7, 0.3))
