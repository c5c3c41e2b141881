"""JAX: the losses with a fixed shape and of Student's t, and Barron's distribution."""

from __future__ import annotations

import contextlib
import doctest
import functools
import math
import os
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest
from marks import slow

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax.sharding import PartitionSpec  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from test_jax import double  # noqa: E402

import fastrobust as fr  # noqa: E402
import fastrobust.jax as frj  # noqa: E402
from fastrobust.jax import Barron, RobustLoss, StudentTLoss  # noqa: E402

INF, NAN = math.inf, math.nan
REDUCTIONS = ("none", "sum", "mean")


@functools.cache
def residuals() -> tuple[Any, Any]:
    """Residuals, and weights among which there are zeros."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 3)), rng.integers(0, 3, (5, 3)) / 2


# --- a fixed shape and scale


def test_a_fixed_loss_is_the_function() -> None:
    x, w = residuals()
    single = x.astype("f")
    for reduction in REDUCTIONS:
        for weights in (None, w.astype("f"), w > 0):
            found = RobustLoss(0.5, 2.0, reduction)(single, weights=weights)
            expected = fr.loss(single, 0.5, 2.0, reduction=reduction, weights=weights)
            assert isinstance(found, jax.Array) and found.dtype == jnp.float32
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert RobustLoss(1.0, 1.0, "none")([0.0, 3.0])[1].item() == pytest.approx(float(oracle.loss(3, 1, 1)), rel=1e-6)
    assert RobustLoss()(jnp.ones(3, jnp.bfloat16)).dtype == jnp.bfloat16
    masked = jnp.array([1.0, NAN])
    assert RobustLoss()(masked, weights=jnp.array([1.0, 0.0])) == RobustLoss()(masked[:1])


def test_the_losses_are_those_of_torch() -> None:
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    x, w = residuals()
    alpha, latent = [0.0, 1.0, 2.5], {"df": [-1.0, 2.0, 8.0], "scale": [0.3, -1.0, 0.0]}
    params = {name: np.array(values) for name, values in latent.items()}
    with double():
        for reduction, weights in (("none", w), ("sum", None), ("mean", w)):
            theirs = frt.StudentTLoss(3, reduction=reduction, dtype=torch.float64)
            with torch.no_grad():
                for parameter, values in zip(theirs.parameters(), latent.values(), strict=True):
                    parameter.copy_(torch.tensor([values], dtype=torch.float64))
            at, given = torch.tensor(x, requires_grad=True), None if weights is None else torch.tensor(weights)
            value = theirs(at, weights=given)
            slopes = torch.autograd.grad(value.sum(), (at, *theirs.parameters()))
            ours = StudentTLoss(reduction=reduction)
            np.testing.assert_allclose(ours.apply(params, x, weights=weights), value.detach(), rtol=1e-13)
            total = lambda p, x, w=weights, c=ours: c.apply(p, x, weights=w).sum()  # noqa: E731
            of_params, of_x = jax.jit(jax.grad(total, (0, 1)))(params, x)
            for one, other in zip((of_x, of_params["df"], of_params["scale"]), slopes, strict=True):
                np.testing.assert_allclose(one, other.reshape(one.shape), rtol=1e-10, atol=1e-14)
            fixed = frt.RobustLoss(torch.tensor(alpha, dtype=torch.float64), 0.7, reduction)
            found = RobustLoss(alpha, 0.7, reduction)(x, weights=weights)
            np.testing.assert_allclose(found, fixed(at, weights=given).detach(), rtol=1e-14)


def test_a_fixed_loss_is_a_static_argument() -> None:
    x = jnp.asarray(residuals()[0], "f")
    each = RobustLoss(np.float32([0.0, 1.0, 2.0]), jnp.float32(0.5), "none")
    assert each == RobustLoss([0.0, 1.0, 2.0], 0.5, "none") and hash(each) == hash(
        RobustLoss((0.0, 1.0, 2.0), 0.5, "none")
    )
    assert each.alpha == (0.0, 1.0, 2.0) and each.scale == 0.5 and RobustLoss(np.ones((2, 1))).alpha == ((1.0,), (1.0,))
    inside = jax.jit(lambda x: RobustLoss(np.array([0.0, 1.0, 2.0]), [[0.5]])(x))  # made in a program
    np.testing.assert_allclose(inside(x), RobustLoss([0.0, 1.0, 2.0], 0.5)(x), rtol=1e-6)
    assert RobustLoss(np.array([0.1])).alpha == (0.1,)
    called = jax.jit(lambda criterion, x: criterion(x), static_argnums=0)
    np.testing.assert_allclose(called(each, x), fr.loss(x, jnp.array([0.0, 1.0, 2.0]), 0.5), rtol=1e-6)
    mean = RobustLoss(0.0, 0.5)
    np.testing.assert_allclose(jax.grad(mean)(x), frj.influence(x, 0.0, 0.5) / x.size, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(mean)(x), [mean(row) for row in x], rtol=1e-6)
    total = jax.lax.scan(lambda total, row: (total + mean(row), None), 0.0, x)[0]
    np.testing.assert_allclose(total / 5, mean(x), rtol=1e-6)


# --- Student's t


def true_student(x: float, df: float) -> Any:
    with mpmath.workdps(50):
        df = mpmath.mpf(df)
        log = mpmath.log1p(mpmath.mpf(x) ** 2 / df)
        half = mpmath.mpf(1) / 2
        start = mpmath.loggamma(df / 2) - mpmath.loggamma(df / 2 + half) + mpmath.log(df * mpmath.pi) / 2
        return float(start + (df + 1) / 2 * log)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_student_t_against_its_formula(dtype: str) -> None:
    """From a fiftieth of a degree of freedom to 10^8, where the gamma functions cancel; residuals to 10^30."""
    with double() if dtype == "float64" else contextlib.nullcontext():
        criterion = StudentTLoss(reduction="none")
        x = np.array([0.0, 1e-4, 0.5, -2.0, 300.0, 1e20, 1e30], dtype)
        value = jax.jit(lambda latent: criterion.apply({**criterion.init((), dtype), "df": latent}, x))
        for log_df in (-4.0, -1.0, 0.0, 1.0, 2.5, 4.0, 9.0, 18.0):
            latent = jnp.asarray(log_df, dtype)
            df = float(jnp.exp(latent))
            truth = [true_student(float(r), df) for r in x]
            # (df + 1)/2 log(1 + z^2/df) has the rounding errors of z^2/df, times (df + 1)/2 at most.
            np.testing.assert_allclose(value(latent), truth, rtol=4e-7 if dtype == "float32" else 2e-15)


def test_the_degrees_of_freedom_are_differentiated_right() -> None:
    with double():
        criterion, at = StudentTLoss(), {"x": jnp.array([0.0, 1.5]), "df": jnp.array(0.0), "scale": jnp.array(0.5)}
        function = jax.jit(lambda p: criterion.apply(p, p["x"]))
        for log_df in (-2.0, 7.0):
            moved = at | {"df": jnp.array(log_df)}
            check_grads(function, (moved,), 2, rtol=1e-4, atol=1e-7)
        bend = jax.jit(jax.hessian(lambda x: criterion.apply(criterion.init(), x)))(0.0)
        assert float(bend) == pytest.approx(2.0, rel=1e-14)  # (df + 1)/df


def test_student_t_learns_a_line_in_one_program() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200).astype("f")
    y = (0.7 * x + 0.15 + 0.025 * rng.standard_normal(200)).astype("f")
    y[:20] += 3

    @functools.partial(jax.jit, static_argnums=0)
    def fitted(criterion: Any, weights: Any) -> Any:
        def step(params: Any, _: None) -> Any:
            def objective(p: Any) -> Any:
                return criterion.apply(p["loss"], p["line"][0] * x + p["line"][1] - y, weights=weights)

            slopes = jax.grad(objective)(params)
            return jax.tree.map(lambda p, g: p - 0.02 * jnp.clip(g, -1, 1), params, slopes), None

        return jax.lax.scan(step, {"line": jnp.zeros(2), "loss": criterion.init()}, length=1500)[0]

    criterion = StudentTLoss()
    params = fitted(criterion, jnp.ones(200))
    np.testing.assert_allclose(params["line"], [0.7, 0.15], atol=0.02)
    assert criterion.df(params["loss"]) < 3 and criterion.scale(params["loss"]) < 0.06
    pair = jax.vmap(fitted, (None, 0))(criterion, jnp.stack([jnp.ones(200), jnp.arange(200) >= 20]))
    np.testing.assert_allclose(pair["line"][0], params["line"], rtol=1e-4)
    assert criterion.df(jax.tree.map(lambda p: p[1], pair["loss"])) > 5  # without the outliers


def test_parameters_and_weights_of_student_t() -> None:
    x, w = residuals()
    criterion = StudentTLoss(scale_init=0.5, reduction="none")
    params = criterion.init((3, 1), jnp.bfloat16)
    assert {p.dtype for p in params.values()} == {jnp.dtype("bfloat16")} and params["df"].shape == (3, 1)
    fixed = StudentTLoss(1.0, 1.0)
    assert list(fixed.init()) == ["df"] and fixed.scale({}) == 1.0 and hash(fixed) == hash(StudentTLoss(1.0))
    broken = np.where(w == 0, NAN, x).astype("f")
    found, masked = fixed.apply(fixed.init(), broken, weights=w > 0), fixed.apply(fixed.init(), x[w > 0])
    np.testing.assert_allclose(found, masked, rtol=1e-6)
    slope = jax.grad(lambda x: fixed.apply(fixed.init(), x, weights=w))(broken)
    assert np.array_equal(slope == 0, w == 0)
    half = fixed.apply(fixed.init((), jnp.float16), jnp.full(100_000, 300.0, jnp.float16))
    assert half.dtype == jnp.float16 and float(half) == pytest.approx(true_student(300.0, 1.0), rel=1e-3)
    assert fixed.apply(fixed.init(), [1, 2]).dtype == jnp.float32


def test_errors() -> None:
    x, two, key, at = jnp.ones(3), jnp.ones(2), jax.random.key(0), getattr
    student, adaptive = StudentTLoss(), frj.AdaptiveLoss().init()
    for error, message, call in (
        (ValueError, "reduction must be", lambda: RobustLoss(reduction="max")),
        (ValueError, "scale must be positive", lambda: RobustLoss(1.0, 0.0)),
        (TypeError, "alpha: JAX makes no array of this str", lambda: RobustLoss("1")),
        (TypeError, "alpha is traced, and not fixed", lambda: jax.jit(lambda a: RobustLoss(a)(x))(1.0)),
        (TypeError, "positional", lambda: RobustLoss()(x, x)),
        (TypeError, "labels would be lost", lambda: RobustLoss()(pytest.importorskip("pandas").Series([1.0]))),
        (ValueError, "weights of shape", lambda: RobustLoss()(x, weights=jnp.ones(4))),
        (ValueError, "reduction must be", lambda: StudentTLoss(reduction="max")),
        (ValueError, "scale_min", lambda: StudentTLoss(2.0)),
        (TypeError, "dtype must be", lambda: student.init((), jnp.int32)),
        (ValueError, r"params must be those of init\(\), a dict with \['df', 'scale'\]", lambda: student.apply({}, x)),
        (ValueError, r"do not broadcast: x \(3,\), df \(2,\)", lambda: student.apply(student.init(2), x)),
        (ValueError, "weights of shape", lambda: student.apply(student.init(), x, weights=jnp.ones((2, 3)))),
        (ValueError, "alpha must be >= 0", lambda: Barron(-1.0)),
        (ValueError, "scale must be positive", lambda: Barron(1.0, scale=np.float32(0))),
        (ValueError, r"do not broadcast: alpha \(3,\), loc \(2,\)", lambda: Barron(x, jnp.ones(2))),
        (TypeError, "loc has dtype complex64", lambda: Barron(1.0, jnp.ones(2, complex))),
        (ValueError, r"batch_shape \(3,\) does not expand to \(\)", lambda: Barron(x).expand(())),
        (TypeError, "value has dtype complex64", lambda: Barron(1.0).log_prob(1j * x)),
        (TypeError, "alpha: JAX makes no array of this NoneType", lambda: Barron(None)),
        *(
            (
                ValueError,
                r"value of shape \(3,\) does not broadcast with batch_shape \(2,\)",
                lambda n=n: at(Barron(two), n)(x),
            )
            for n in ("log_prob", "cdf", "icdf")
        ),
        (ValueError, r"batch_shape \(3,\) does not expand to \(2,\)", lambda: Barron(x).expand((2,))),
        (TypeError, r"batch_shape must be a tuple of lengths, as \(3,\) or \(\), got 3", lambda: Barron(x).expand(3)),
        (TypeError, "sample_shape must be a tuple of lengths.* got 3$", lambda: Barron(1.0).sample(key, 3)),
        (TypeError, r"sample_shape must be a tuple of lengths.* got \(-1,\)", lambda: Barron(1.0).sample(key, (-1,))),
        (TypeError, r"key must be a random key, as jax.random.key\(0\), got 0$", lambda: Barron(1.0).sample(0)),
        (TypeError, r"got an array of shape \(2,\): vmap", lambda: Barron(1.0).sample(jax.random.split(key))),
        (TypeError, "dtype must be .* got foo", lambda: student.init((), "foo")),
        (TypeError, "shape must be a length or a tuple of lengths, got '1'", lambda: student.init("1")),
        (TypeError, "^x: JAX makes no array of this str", lambda: frj.AdaptiveLoss().apply(adaptive, "1")),
        (TypeError, r"params\['df'\]: JAX makes no array", lambda: student.apply({"df": "1", "scale": 0.0}, x)),
        (TypeError, "positional", lambda: student.apply(student.init(), x, x)),
        (TypeError, "positional", lambda: frj.AdaptiveLoss().apply(adaptive, x, x)),
        (TypeError, r"^loss\(\): too many positional", lambda: frj.loss(x, 1.0, 1.0, x)),
    ):
        with pytest.raises(error, match=message):
            call()


# --- the distribution: its numbers

SHAPES = np.array([0.0, 0.3, 1.0, 2.0, 4.0, 50.0, INF])


def test_the_density_and_its_slopes_against_the_oracle() -> None:
    with double():
        for x, alpha, scale in ((0.4, 0.0, 0.7), (-3.0, 1.3, 2.0), (40.0, 0.5, 0.1), (2.0, 4.0, 1.0)):
            value, slopes = jax.value_and_grad(lambda d, x=x: d.log_prob(x))(Barron(alpha, 0.25, scale))
            truth = oracle.nll_at(x - 0.25, alpha, scale)
            expected = [-truth.nll, -truth.dalpha, truth.dx, -truth.dscale]
            found = [value, slopes.alpha, slopes.loc, slopes.scale]
            np.testing.assert_allclose(found, [float(v) for v in expected], rtol=1e-12)


def test_a_tail_against_the_oracle() -> None:
    with double(), mpmath.workdps(20):
        for x, alpha in ((1.3, 0.5), (4.0, 1.0), (0.2, 3.0)):
            density = lambda v, a=alpha: mpmath.exp(-oracle.loss(v, a, 1))  # noqa: E731
            tail = mpmath.quad(density, [x, 2 * x, 8, 64, 1024, mpmath.inf]) / mpmath.exp(oracle.log_partition(alpha))
            assert Barron(alpha, 1.0, 0.5).cdf(1.0 - 0.5 * x).item() == pytest.approx(float(tail), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integrals_are_those_of_the_distribution_for_scipy(dtype: str) -> None:
    """By the same rule in NumPy's doubles, whose errors other tests judge."""
    from fastrobust.stats import barron

    single = dtype == "float32"
    with contextlib.nullcontext() if single else double():
        ours, known = Barron(SHAPES.astype(dtype), 0.25, 0.5), barron(SHAPES, 0.25, 0.5)
        x = np.array([-40.0, -3.0, 0.0, 0.25, 2.0, 5.0, INF, -INF])[:, None]
        p = np.array([1e-9, 0.01, 0.25, 0.5, 0.75, 0.99, 0.0, 1.0])[:, None]
        found = ours.cdf(x.astype(dtype)), ours.icdf(p.astype(dtype)), ours.entropy(), ours.variance
        truth = known.cdf(x), known.ppf(p.astype(dtype)), known.entropy(), known.var()
        for one, other in zip(found, truth, strict=True):
            assert one.dtype == jnp.dtype(dtype) and one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=2e-5 if single else 1e-12, atol=1e-38)
        np.testing.assert_allclose(ours.stddev, known.std(), rtol=2e-5 if single else 1e-12)
        assert ours.mode.tolist() == [0.25] * SHAPES.size and ours.mode.dtype == jnp.dtype(dtype)
        assert np.array_equal(ours.mean, np.where(SHAPES > 0, 0.25, NAN), equal_nan=True)
        small = np.array([5e-3, 0.02, 0.1], dtype)
        np.testing.assert_allclose(Barron(small).variance, barron.var(small), rtol=5e-5 if single else 1e-12)


def test_single_precision_is_as_good_as_its_documentation_says() -> None:
    """Against the distribution for SciPy in double, at the same points."""
    from fastrobust.stats import barron

    rng, n = np.random.default_rng(7), 1200
    alpha = np.where(rng.random(n) < 0.5, rng.uniform(0, 4, n), 10 ** rng.uniform(-3, 3, n)).astype("f")
    x = (rng.choice([-1, 1], n) * 10 ** rng.uniform(-3, 2.5, n)).astype("f")
    p = np.where(rng.random(n) < 0.5, 10 ** rng.uniform(-30, -0.3, n), 0.5 + rng.uniform(-0.1, 0.1, n)).astype("f")
    wide, ours = alpha.astype("d"), Barron(alpha)
    rho = np.where(x < 0, np.minimum(fr.loss(x.astype("d"), wide, 1.0), 1e6), 0.0)
    for found, truth, bound in (
        (ours.cdf(x), barron.cdf(x.astype("d"), wide), lambda t: 5e-7 * (1 + rho) * t + 1e-37),
        (ours.icdf(p), barron.ppf(p.astype("d"), wide), lambda t: np.maximum(3e-5 * abs(t), 1e-6)),
        (ours.entropy(), barron.entropy(wide), lambda t: 5e-7 * abs(t)),
        (ours.variance, barron.var(wide), lambda t: np.where(alpha < 0.1, 1e-4, 2e-6) * t),
    ):
        seen = abs(truth) < 3e38
        assert seen.sum() > 0.9 * n
        assert np.all(abs(np.asarray(found, "d") - truth)[seen] <= bound(truth)[seen])


def test_where_there_is_no_distribution_nothing_is_a_number() -> None:
    ours = Barron(jnp.array([-1.0, NAN, 1.0, 1.0, 1.0]), 0.3, jnp.array([1.0, 1.0, 0.0, -1.0, 2.0]))
    results = ours.cdf(0.5), ours.icdf(0.5), ours.mean, ours.variance, ours.entropy(), ours.sample(jax.random.key(0))
    for found in results:
        assert jnp.isnan(found).tolist() == [True, True, True, True, False]
    assert jnp.isnan(Barron(1.0).icdf([NAN, -0.1, 1.1])).all()
    assert jnp.isnan(Barron(1.0).cdf(NAN))


@pytest.mark.slow
def test_the_distribution_by_the_operations_of_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on TPUs, and on GPUs without CuPy: the same numbers, samples too."""
    from fastrobust.jax import _calls

    def everything() -> list[Any]:
        ours, key = Barron(jnp.array([0.0, 0.3, 2.0, 4.0]), 0.2, 0.7), jax.random.key(0)
        slopes = jax.grad(lambda d: d.sample(key).sum() + d.cdf(0.3).sum())(ours)
        return [
            ours.cdf(0.9),
            ours.icdf(0.3),
            ours.variance,
            ours.entropy(),
            ours.log_prob(2.0),
            *jax.tree.leaves(slopes),
        ]

    expected = everything()
    monkeypatch.setattr(_calls, "backend", lambda: "composite")
    jax.clear_caches()
    try:
        for one, other in zip(everything(), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5)
    finally:
        jax.clear_caches()


# --- derivatives


@pytest.mark.parametrize("order", [1, *slow(2)])
@pytest.mark.parametrize("name", ["cdf", "icdf"])
def test_derivatives_of_the_distribution_function_and_its_inverse(name: str, order: int) -> None:
    """In all arguments, forward and in reverse."""
    with double():
        at = jnp.array([0.1, 0.5, 0.9]) if name == "icdf" else jnp.array([-3.0, 0.5, 1.0])
        function = jax.jit(lambda at, *args: getattr(Barron(*args), name)(at))
        args = at, jnp.array([0.1, 1.3, 4.0]), jnp.array(0.3), jnp.array(0.7)
        check_grads(function, args, order, rtol=1e-4, atol=1e-6)


def test_derivatives_of_entropy_and_variance() -> None:
    with double():
        both = jax.jit(lambda alpha, scale: (Barron(alpha, 0.0, scale).entropy(), Barron(alpha, 0.0, scale).variance))
        check_grads(both, (jnp.array([0.5, 1.3, 3.0]), jnp.array(0.7)), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ["cdf", "entropy", "variance", "sample"])
def test_derivatives_at_the_ends_of_the_range_are_finite(name: str) -> None:
    """In float32."""
    functions: dict[str, Callable[[Any], Any]] = {
        "cdf": lambda d: d.cdf(0.5),
        "entropy": lambda d: d.entropy(),
        "variance": lambda d: d.variance,
        "sample": lambda d: d.sample(jax.random.key(1)),
    }
    alpha = jnp.array([0.02, 0.1, 2.0, 15.0, 50.0, 1e3, 1e30, INF])
    found = jax.jit(jax.vmap(jax.grad(lambda alpha: functions[name](Barron(alpha)))))(alpha)
    assert jnp.isfinite(found).all() and jnp.all(found[:4] != 0)


# --- samples


def test_samples_have_the_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    from fastrobust.stats import barron

    alphas = np.array([0.0, 0.8, 2.0, 6.0, INF])
    samples = np.asarray(jax.jit(lambda d, k: d.sample(k, (5000,)))(Barron(alphas, 0.3, 0.7), jax.random.key(0)))
    for alpha, column in zip(alphas, samples.T, strict=True):
        assert stats.kstest(column, barron(alpha, 0.3, 0.7).cdf).pvalue > 1e-3
    bulk = Barron(jnp.bfloat16(0)).sample(jax.random.key(0), (400_000,))
    assert bulk.dtype == jnp.bfloat16
    for sign in (-1, 1):  # the tail of Cauchy's distribution with scale sqrt 2
        assert np.mean(sign * np.asarray(bulk, "d") > 1000) == pytest.approx(4.5e-4, rel=0.3)


def test_samples_move_with_the_parameters() -> None:
    """As quantiles of fixed probabilities do, and so that moments have their derivatives; twice."""
    key = jax.random.key(3)
    with double():
        alpha = jnp.array([0.2, 1.5, 3.0])
        drawn = Barron(alpha, 0.3, 0.7).sample(key)
        p = Barron(alpha, 0.3, 0.7).cdf(drawn)
        sample = lambda a: Barron(a, 0.3, 0.7).sample(key).sum()  # noqa: E731
        quantile = lambda a: Barron(a, 0.3, 0.7).icdf(p).sum()  # noqa: E731
        for order in (jax.grad, jax.hessian):
            found, expected = (jax.jit(order(function))(alpha) for function in (sample, quantile))
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    def second(d: Any) -> Any:
        return ((d.sample(key, (100_000,)) - 0.3) ** 2).mean()

    found = jax.grad(second)(Barron(1.5, 0.3, 0.7))
    expected = jax.grad(lambda d: d.variance)(Barron(1.5, 0.3, 0.7))
    assert abs(found.loc) < 0.02
    np.testing.assert_allclose([found.alpha, found.scale], [expected.alpha, expected.scale], rtol=0.05)


def test_samples_under_transformations() -> None:
    ours, key = Barron(jnp.array([0.5, 2.0])), jax.random.PRNGKey(0)  # of the old kind, which NumPyro makes
    keys = jax.random.split(key, 3)
    found = jax.vmap(lambda k: ours.sample(k, (4,)))(keys)
    np.testing.assert_allclose(found[1], ours.sample(keys[1], (4,)), rtol=1e-6)
    assert np.unique(found).size == found.size
    slopes = jax.grad(lambda d: d.sample(key).sum())(ours)
    assert slopes.alpha.shape == (2,) and slopes.loc == 2
    walk = jax.lax.scan(lambda place, k: (place + Barron(1.0).sample(k), place), 0.0, keys)[1]
    assert walk.shape == (3,) and jnp.isfinite(walk).all()


@pytest.mark.slow
def test_inside_shard_map() -> None:
    mesh = jax.make_mesh((4,), ("axis",), (jax.sharding.AxisType.Auto,))
    alpha, cut = jnp.linspace(0.3, 3, 8), PartitionSpec("axis")
    wrapped = lambda f: jax.jit(jax.shard_map(f, mesh=mesh, in_specs=cut, out_specs=cut))  # noqa: E731
    for function in (
        lambda a: Barron(a).cdf(0.3),
        lambda a: Barron(a).icdf(0.9),
        lambda a: Barron(a).variance + Barron(a).entropy(),
        jax.grad(lambda a: Barron(a).cdf(0.3).sum()),
    ):
        np.testing.assert_allclose(wrapped(function)(alpha), function(alpha), rtol=1e-5)
    keys = jax.random.split(jax.random.key(0), 4)
    drawn = wrapped(lambda k: Barron(1.0).sample(k[0], (2,)))(keys)
    np.testing.assert_allclose(drawn, jnp.concatenate([Barron(1.0).sample(k, (2,)) for k in keys]), rtol=1e-6)
    assert jnp.isfinite(wrapped(jax.grad(lambda a: Barron(a).sample(jax.random.key(0)).sum()))(alpha)).all()


# --- the interface


def test_shapes_and_dtypes() -> None:
    def everything(d: Any) -> list[Any]:
        key = jax.random.key(0)
        return [d.mean, d.variance, d.entropy(), d.cdf(1.0), d.log_prob(np.float32(1)), d.icdf(0.5), d.sample(key)]

    ours = Barron(jnp.array([0.5, 1.0]), jnp.zeros((3, 1)), 2.0)
    assert ours.batch_shape == (3, 2) and ours.event_shape == () and ours.event_dim == 0
    assert ours.shape((4,)) == (4, 3, 2) == jax.eval_shape(lambda d: d.sample(jax.random.key(0), (4,)), ours).shape
    assert {(f.shape, str(f.dtype)) for f in jax.eval_shape(everything, ours)} == {((3, 2), "float32")}
    assert ours.log_prob(jnp.zeros((5, 1, 1))).shape == (5, 3, 2)
    wide = ours.expand((4, 3, 2))
    assert wide.batch_shape == (4, 3, 2) and wide.alpha.shape == (2,)
    np.testing.assert_array_equal(wide.log_prob(0.3)[1], ours.log_prob(0.3))
    assert Barron(1, 2, 3).alpha.dtype == jnp.float32 and Barron(10**400).alpha == INF
    half = Barron(jnp.float16(1.0), 2, 0.5)
    assert {p.dtype for p in jax.tree.leaves(half)} == {jnp.dtype("float16")}
    assert str(jax.eval_shape(lambda d: d.cdf(1.0), half).dtype) == "float16"
    assert repr(Barron(1.0)) == "Barron(alpha=1.0, loc=0.0, scale=1.0)"
    with double():
        for given, dtype in ((1.0, "float64"), (jnp.float32(1), "float32")):
            found = jax.eval_shape(everything, Barron(given))
            assert {str(f.dtype) for f in found if f is not found[4]} == {dtype}


def test_a_distribution_is_a_pytree() -> None:
    ours = Barron(jnp.array([0.5, 1.0, 2.0]), 0.3)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(ours)]
    assert paths == [".alpha", ".loc", ".scale"]
    np.testing.assert_array_equal(jax.jit(lambda d: d.log_prob(1.0))(ours), ours.log_prob(1.0))
    each = jax.vmap(lambda a: Barron(a, 0.3))(ours.alpha)
    assert each.batch_shape == (3,) and each.scale.shape == (3,)
    found = jax.jit(jax.vmap(lambda d, x: d.cdf(x)))(each, jnp.zeros((3, 2)))
    np.testing.assert_allclose(found, jnp.stack([Barron(a, 0.3).cdf(jnp.zeros(2)) for a in ours.alpha]), rtol=1e-6)
    placed = jax.tree.map(lambda _: None, ours)
    assert isinstance(placed, Barron) and placed.alpha is None
    total = jax.lax.scan(lambda total, d: (total + d.log_prob(0.0), None), 0.0, each)[0]
    np.testing.assert_allclose(total, ours.log_prob(0.0).sum(), rtol=1e-6)


def test_what_numpyro_asks_of_a_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, key = Barron(1.0), jax.random.key(0)
    assert ours(rng_key=key, sample_shape=(2,)).shape == (2,) == ours.rsample(key, (2,)).shape
    assert ours(rng_key=key, sample_intermediates=True) == (ours.sample(key), [])
    assert ours.has_rsample and not ours.is_discrete and not ours.has_enumerate_support
    assert list(ours.arg_constraints) == ours.reparametrized_params == ["alpha", "loc", "scale"]
    monkeypatch.delitem(sys.modules, "numpyro.distributions.constraints", raising=False)
    assert ours.support(jnp.array([0.0, INF])).tolist() == [True, False] and not ours.support.is_discrete
    nonnegative, _, positive = ours.arg_constraints.values()
    assert nonnegative(jnp.array([-1.0, 0.0])).tolist() == [False, True] and repr(positive) == "positive"
    assert positive(jnp.array([0.0, 1.0])).tolist() == [False, True]
    theirs = type(sys)("constraints")
    theirs.real = object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpyro.distributions.constraints", theirs)
    assert ours.support is theirs.real  # type: ignore[attr-defined]


def test_numpyro_samples_it() -> None:
    numpyro = pytest.importorskip("numpyro", reason="NumPyro is not installed")
    from numpyro import handlers
    from numpyro.infer import MCMC, NUTS

    data = Barron(1.0, 3.0, 0.5).sample(jax.random.key(0), (200,))

    def model(data: Any) -> None:
        loc = numpyro.sample("loc", Barron(2.0, 0.0, 10.0))
        with numpyro.plate("rows", 200):
            numpyro.sample("data", Barron(1.0, loc, 0.5), obs=data)

    trace = handlers.trace(handlers.seed(model, jax.random.PRNGKey(0))).get_trace(data)
    assert trace["data"]["fn"].batch_shape == (200,)
    chains = MCMC(NUTS(model), num_warmup=100, num_samples=100, progress_bar=False)
    chains.run(jax.random.PRNGKey(1), data)
    assert chains.get_samples()["loc"].mean() == pytest.approx(3.0, abs=0.2)


# --- documents


@pytest.mark.parametrize("name", ["_distribution", "_robust", "_student", "_adaptive"])
def test_the_examples_run_and_print_what_they_say(name: str) -> None:
    found = doctest.testmod(sys.modules[f"fastrobust.jax.{name}"])
    assert found.attempted and not found.failed


def test_the_public_names() -> None:
    assert {"AdaptiveLoss", "Barron", "RobustLoss", "StudentTLoss"} <= set(frj.__all__)
    assert all(hasattr(frj, name) for name in frj.__all__) and frj.__all__ == sorted(frj.__all__)
