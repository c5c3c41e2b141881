"""JAX: the kernels' values under every transformation, derivatives, sharding, and XLA's interface."""

from __future__ import annotations

import contextlib
import doctest
import functools
import itertools
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest
from marks import slow

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
jax = pytest.importorskip("jax")

import jax.export  # noqa: E402, F811
import jax.numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import fastrobust as fr  # noqa: E402
import fastrobust.jax as frj  # noqa: E402
from fastrobust.jax import _calls  # noqa: E402
from fastrobust.kernels.loops import xla_frame, xla_table  # noqa: E402
from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL  # noqa: E402

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "loss": frj.loss,
    "influence": frj.influence,
    "weight": frj.weight,
    "curvature": frj.curvature,
    "nll": frj.nll,
    "loss sum": lambda *args: frj.loss(*args, reduction="sum"),
    "nll mean": lambda *args: frj.nll(*args, reduction="mean"),
    "nll weighted": lambda *args: frj.nll(*args, reduction="mean", weights=np.array([0.5, 0.0, 2.0])),
    "loss_and_grad": lambda *args: jnp.stack(frj.loss_and_grad(*args)),
    "log_partition": lambda x, alpha, scale: x + frj.log_partition(alpha) * scale,
}
every = pytest.mark.parametrize("name", FUNCTIONS)
FEW = "curvature", "nll weighted", "log_partition"  # which go through all that the others go through
few = pytest.mark.parametrize("name", [*FEW, *slow(*(name for name in FUNCTIONS if name not in FEW))])


@contextlib.contextmanager
def double() -> Iterator[None]:
    """With float64, which JAX does not have by default."""
    jax.config.update("jax_enable_x64", True)  # for all threads: XLA's partitioner asks from another one
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def arguments() -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)), np.array([0.3, 1.1, 2.6]), np.array(0.7)


def close(found: Any, expected: Any, rtol: float = 1e-12) -> None:
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


# --- values


@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        *slow("float64"),
        *slow("float16", "bfloat16"),
    ],
)
def test_values_are_the_kernels(dtype: str) -> None:
    """Bit for bit those of NumPy arrays: all functions, broadcasting every way that the handler knows, or some."""
    rng = np.random.default_rng(0)
    kind = jnp.dtype(dtype)
    shapes = [
        ((), (), ()), ((7,), (), ()), ((0, 3), (3,), ()), ((5, 4), (4,), (5, 1)), ((1, 3), (4, 1), ()),
        ((3000, 3), (3,), (1,)), ((20, 600), (600,), (20, 1)), ((2, 3, 4, 5), (3, 1, 5), (2, 1, 4, 1)),
        ((5000,), (5000,), ()),         ((140_000,), (), ()), ((70, 2, 1000), (2, 1), ()), ((300_000, 2), (2,), (2,)),
    ]  # fmt: skip
    functions = (fr.loss, fr.influence, fr.weight, fr.curvature, fr.nll, fr.loss_and_grad, fr.nll_and_grad)

    def everything(*args: Any) -> Any:
        return tuple(function(*args) for function in functions)

    with double():
        for of_x, of_alpha, of_scale in shapes if dtype == "float32" else shapes[::3]:
            x = np.asarray(rng.normal(size=of_x) * 10 ** rng.uniform(-6, 4, of_x)).astype(kind)
            alpha = np.asarray(rng.uniform(0, 4, of_alpha)).astype(kind)
            scale = np.asarray(10 ** rng.uniform(-2, 2, of_scale)).astype(kind)
            args = [jnp.asarray(a) for a in (x, alpha, scale)]
            found, expected = jax.jit(everything)(*args), everything(x, alpha, scale)  # XLA compiles slowly
            for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
                assert a.dtype == kind and a.shape == np.shape(b)
                np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))
            for a, b in zip(fr.log_partition_and_grad(args[1]), fr.log_partition_and_grad(alpha), strict=True):
                np.testing.assert_array_equal(np.asarray(a, np.float64), np.asarray(b, np.float64))


def test_sums_are_the_kernels() -> None:
    """In the same order of additions, whatever the threads; gradients in the shapes of the parameters."""
    rng = np.random.default_rng(1)
    for of_x, of_alpha, of_scale in (
        ((5,), (), ()), ((65_537,), (), ()), ((1_000_003,), (1,), ()), ((100_000, 3), (3,), ()),
        ((3, 1500), (1500,), ()), ((40, 30), (40, 1), ()), ((900,), (900,), (900,)), ((1, 4), (3, 1), ()),
        ((1000, 7, 3), (7, 1), (1, 3)),
    ):  # fmt: skip
        x, alpha = rng.normal(size=of_x).astype("f"), rng.uniform(0, 3, of_alpha).astype("f")
        scale = rng.uniform(0.5, 2, of_scale).astype("f")
        weights = rng.integers(0, 3, np.broadcast_shapes(of_x, of_alpha, of_scale)).astype("f")
        for reduction, w in itertools.product(("sum", "mean"), (None, weights)):
            found = frj.nll_and_grad(x, alpha, scale, reduction=reduction, weights=w)
            expected = fr.nll_and_grad(x, alpha, scale, reduction=reduction, weights=w)
            for name, a, b in zip(found._fields, found, expected, strict=True):
                assert a.shape == b.shape, name
                # dx in units of the largest: a factor is rounded once more where XLA sums.
                np.testing.assert_allclose(a, b, rtol=3e-6, atol=2e-7 * float(np.max(np.abs(b))), err_msg=name)
    x = rng.normal(size=1_000_003).astype("f")
    for name in ("value", "dalpha", "dscale"):
        one, other = (getattr(f(x, 0.5, 1.5, reduction="mean"), name) for f in (frj.loss_and_grad, fr.loss_and_grad))
        assert one == other, name


def test_dtypes_and_inputs() -> None:
    assert frj.loss([1.0, 2.0], 1, 1).dtype == jnp.float32 and frj.loss(np.arange(3), 0.5, 1.0).dtype == jnp.float32
    assert frj.loss(2.0, 1.0, 1.0).shape == () and isinstance(frj.log_partition(0.5), jax.Array)
    half = jnp.ones(3, jnp.bfloat16)
    assert fr.loss(half, 1.0, 1.0).dtype == jnp.bfloat16 and fr.loss(half, jnp.float32(1), 1.0).dtype == jnp.float32
    assert fr.loss(half, jnp.arange(3), 1.0).dtype == jnp.bfloat16 and fr.loss(half, 10**400, 1.0)[0] > 0
    assert fr.loss(half, 1.0, 1.0, dtype=np.float32).dtype == jnp.float32
    with double():
        assert frj.loss(np.arange(3), 0.5, 1.0).dtype == jnp.float64
        assert frj.loss(np.ones(3, "f"), np.float64(0.5), 1.0).dtype == jnp.float32, "a number"


def test_subnormal_results() -> None:
    """XLA's threads flush subnormal numbers to 0; the kernels do not."""
    x = np.full(300_000, 1e-20, "f")
    found = frj.loss(x, 1.0, 1.0)
    assert 0 < float(np.asarray(found)[0]) < 1.2e-38
    np.testing.assert_array_equal(found, fr.loss(x, 1.0, 1.0))


@pytest.mark.parametrize(
    "alpha",
    [0.0, 2.0, np.inf, *slow(1.0, -2.0, -np.inf, 1e-9, 1.9999)],
)
def test_numbers_where_others_fail(alpha: float, way: str) -> None:
    """In float32, by automatic differentiation, against the oracle: tiny residuals, and the limits of alpha."""
    x = np.array([1e-6, 3e-3, 0.1, 1.0, 30.0, -4e3, 1e12], "f")
    with np.errstate(over="ignore"):
        args = jnp.asarray(x), jnp.float32(alpha), jnp.float32(0.7)
    for value, name in ((fr.loss, "loss"), (fr.nll, "nll")):
        if name == "nll" and alpha < 0:
            continue
        slopes = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2)), (0, None, None)))(*args)
        for i, residual in enumerate(x):
            if name == "loss":
                true = oracle.all_at(residual, np.float32(alpha), np.float32(0.7), "float32")
                expected: Any = true.influence, true.dalpha, true.dscale
            else:
                true = oracle.nll_at(residual, np.float32(alpha), np.float32(0.7), "float32")
                terms = oracle.nll_summands(residual, np.float32(alpha), np.float32(0.7), "float32")
                expected = true.dx, true.dalpha, true.dscale
            for j, (slope, e) in enumerate(zip(slopes, expected, strict=True)):
                largest = None if name == "loss" else (terms.dx, terms.dalpha, terms.dscale)[j]
                if abs(e) > 1e-36 and (np.isfinite(slope[i]) or abs(e) < 3e38):  # XLA may flush what is smaller
                    error = oracle.ulp_error(np.asarray(slope[i])[()], e, "float32", largest)
                    assert error <= (8 if way == "ffi" else 64), (residual, j, slope[i], e)
                elif abs(e) <= 1e-36:
                    assert abs(slope[i]) <= 2e-36


def test_the_composite_within_the_bounds() -> None:
    """XLA's operations from the same formulas, without compiled kernels."""
    rng = np.random.default_rng(0)
    n = 400
    x = (rng.standard_normal(n) * 10 ** rng.uniform(-4, 6, n)).astype("f")
    alpha = np.where(
        rng.random(n) < 0.3, rng.choice([0, 1, 2, -2, 1.9999, np.inf, -np.inf], n), rng.uniform(-10, 10, n)
    )
    alpha, scale = alpha.astype("f"), (10 ** rng.uniform(-3, 3, n)).astype("f")
    names = ("value", "dx", "dalpha", "dscale", "weight")
    found = jax.jit(functools.partial(_calls._composite, LOSS, names))(x, alpha, scale)
    worst = dict.fromkeys(names, 0.0)
    for i in range(n):
        true = oracle.all_at(x[i], alpha[i], scale[i], "float32")
        pairs = zip(names, (true.loss, true.influence, true.dalpha, true.dscale, true.weight), strict=True)
        for (name, expected), part in zip(pairs, found, strict=True):
            if 1e-36 < abs(expected) < 3e38:
                worst[name] = max(worst[name], oracle.ulp_error(np.asarray(part[i])[()], expected, "float32"))
    assert all(worst[name] <= (64 if name == "dalpha" else 6) for name in names), worst


# --- transformations


@few
def test_derivatives(name: str) -> None:
    """Twice, forward and in reverse, against differences."""
    with double():
        check_grads(
            jax.jit(FUNCTIONS[name]), arguments(), order=2 if name != "loss_and_grad" else 1, rtol=1e-5, atol=1e-5
        )


def test_derivatives_both_ways(way: str) -> None:
    with double():
        args, function = arguments(), FUNCTIONS["nll weighted"]
        slope = jax.jit(jax.grad(lambda *a: function(*a).sum(), (0, 1, 2)))
        results = [function(*args), slope(*args), jax.jvp(slope, args, tuple(map(np.ones_like, args)))[1]]
        _both.setdefault("first", results)
        close(results, _both["first"], 1e-9)


_both: dict[str, Any] = {}


def test_second_derivatives_far_out_and_at_infinite_alpha() -> None:
    """Where z^2 overflows; the oracle by differences.  In alpha twice at infinity: 0."""
    found = np.asarray(jnp.array(jax.hessian(frj.loss, (0, 1))(1e20, 1.0, 1.0)))
    with mpmath.workdps(60):
        mixed = mpmath.diff(lambda a: oracle.influence(mpmath.mpf(1e20), a, 1), 1, h=mpmath.mpf(10) ** -20)
        twice = mpmath.diff(lambda a: oracle.dalpha(mpmath.mpf(1e20), a, 1), 1, h=mpmath.mpf(10) ** -20)
    mixed, twice = float(mixed), float(twice)
    np.testing.assert_allclose(found, [[0, mixed], [mixed, twice]], rtol=1e-5)
    for alpha in (np.inf, -np.inf):
        found = np.asarray(jnp.array(jax.hessian(frj.loss, (0, 1, 2))(1.0, alpha, 1.0)))
        assert np.isfinite(found).all() and np.all(np.abs(found[1]) < 1e-12)


@pytest.mark.slow
def test_third_derivatives_in_all_arguments() -> None:
    with double():
        check_grads(jax.jit(frj.loss), arguments(), order=3, rtol=1e-4, atol=1e-4)


def test_third_derivatives() -> None:
    with double():
        third = jax.grad(jax.grad(jax.grad(frj.nll)))(1.3, 0.5, 0.7)
        with mpmath.workdps(40):
            true = mpmath.diff(lambda v: oracle.loss(v, 0.5, 0.7), mpmath.mpf(1.3), 3)
        assert float(third) == pytest.approx(float(true), rel=1e-10)
        with pytest.raises(NotImplementedError, match="third derivative of log Z"):
            jax.grad(jax.grad(jax.grad(frj.log_partition)))(1.0)


@few
def test_jit_and_hessian(name: str) -> None:
    with double():
        args, total = arguments(), lambda *a: FUNCTIONS[name](*a).sum()
        close(jax.jit(FUNCTIONS[name])(*args), FUNCTIONS[name](*args))
        slopes = jax.grad(total, (0, 1, 2))(*args)
        close(jax.jit(jax.value_and_grad(total, (0, 1, 2)))(*args)[1], slopes)
        tangents = tuple(map(np.ones_like, args))
        close(jax.jvp(total, args, tangents)[1], sum(s.sum() for s in slopes))
        if name != "loss_and_grad":
            close(jax.hessian(total, 1)(*args), jax.jacfwd(jax.grad(total, 1), 1)(*args))
            close(jax.jacrev(jax.grad(total, 0), 2)(*args), jax.jacfwd(jax.grad(total, 2), 0)(*args))


@pytest.mark.parametrize("axes", [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)], ids=str)
@few
def test_vmap(name: str, axes: tuple[Any, ...]) -> None:
    """Over any of the arguments, and over their gradients; twice."""
    with double():
        function, args = FUNCTIONS[name], arguments()
        batches = [np.stack([a, a + 0.1, a + 0.3]) if n == 0 else a for a, n in zip(args, axes, strict=True)]
        rows = [[b[i] if n == 0 else b for b, n in zip(batches, axes, strict=True)] for i in range(3)]
        close(jax.vmap(function, axes)(*batches), jnp.stack([function(*row) for row in rows]))
        slope = jax.grad(lambda *a: function(*a).sum(), 1)
        close(jax.jit(jax.vmap(slope, axes))(*batches), jnp.stack([slope(*row) for row in rows]))
        last = [np.moveaxis(b, 0, -1) if n == 0 else b for b, n in zip(batches, axes, strict=True)]
        moved = tuple(None if n is None else -1 for n in axes)
        close(jax.vmap(function, moved)(*last), jnp.stack([function(*row) for row in rows]))
        if axes == (0, 0, 0):
            twice = jax.vmap(jax.vmap(function, (0, None, None)), (None, 0, 0))(*batches)
            close(twice[2, 1], function(batches[0][1], batches[1][2], batches[2][2]))


def test_scan_and_checkpoint() -> None:
    with double():
        x, alpha, scale = arguments()

        def fit(location: Any) -> Any:
            def step(value: Any, row: Any) -> Any:
                slope = jax.grad(lambda v: frj.loss(row - v, alpha, scale, reduction="mean"))(value)
                return value - 0.1 * slope, frj.nll(row - value, alpha, scale).sum()

            return jax.lax.scan(step, location, x)

        close(jax.jit(fit)(0.5), fit(0.5))
        check_grads(lambda v: fit(v)[1].sum(), (0.5,), order=1, rtol=1e-5)
        remade = jax.checkpoint(lambda *a: frj.nll(*a, reduction="mean"))
        close(jax.grad(remade, (0, 1, 2))(x, alpha, scale), frj.nll_and_grad(x, alpha, scale, reduction="mean")[1:])
        close(jax.linearize(frj.loss, x, alpha, scale)[0], frj.loss(x, alpha, scale))


def test_sums_keep_one_array_of_the_size_of_x() -> None:
    x = jnp.zeros(1 << 20, jnp.float32)
    residuals = jax.vjp(lambda x, a, c: frj.nll(x, a, c, reduction="mean"), x, jnp.float32(0.5), jnp.float32(1))[1]
    sizes = sorted(leaf.nbytes for leaf in jax.tree.leaves(residuals))
    assert sizes[-1] == x.nbytes and sum(sizes[:-1]) < 100
    compiled = jax.jit(jax.value_and_grad(lambda x: frj.nll(x, 0.5, 1.0, reduction="mean"))).lower(x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= x.nbytes + 4096


def test_weights() -> None:
    """A weight of 0 excludes an element, NaN included; sums are differentiable in the weights."""
    x, weights = np.array([1.0, np.nan, 3.0], "f"), np.array([1, 0, 2], "f")
    for reduction in ("none", "sum", "mean"):
        found = frj.nll(x, 0.5, 1.5, weights=weights, reduction=reduction)
        np.testing.assert_allclose(found, fr.nll(x, 0.5, 1.5, weights=weights, reduction=reduction), rtol=1e-6)
        slope = jax.grad(lambda x: frj.nll(x, 0.5, 1.5, weights=weights, reduction=reduction).sum())(x)  # noqa: B023
        assert slope[1] == 0 and np.isfinite(slope).all()
    with double():
        mean = lambda w: frj.loss(np.arange(3.0), 0.5, 1.5, weights=w, reduction="mean")  # noqa: E731
        check_grads(mean, (np.array([1.0, 0.5, 2.0]),), order=2, rtol=1e-5)
        close(mean(np.array([True, False, True])), mean(np.array([1.0, 0.0, 1.0])))
    mask = np.array([0, 1, 1], "f")
    for reduction in ("none", "sum"):  # a scale of 0 or an alpha of NaN in the padding
        total = lambda x, a, c: frj.loss(x, a, c, weights=mask, reduction=reduction).sum()  # noqa: B023, E731
        slopes = jax.grad(total, (0, 1, 2))(x, np.array([np.nan, 1, 1], "f"), mask)
        assert all(np.isfinite(s[jnp.array([0, 2])]).all() and s[0] == 0 for s in slopes)
    assert np.isnan(frj.loss(x, 1.0, 1.0, weights=np.zeros(3, "f"), reduction="mean"))
    assert np.isnan(frj.loss(np.zeros(0, "f"), 1.0, 1.0, reduction="mean"))
    assert frj.loss(np.zeros(0, "f"), 1.0, 1.0, reduction="sum") == 0
    empty = frj.loss_and_grad(np.zeros((3, 0)), np.ones((1, 0)), 1.0, reduction="sum")
    assert empty.value == 0 and empty.dalpha.shape == (1, 0)


def test_threads_call_at_once() -> None:
    x = np.random.default_rng(0).normal(size=400_000).astype("f")
    function = jax.jit(lambda x, a: (fr.loss(x, a, 1.0), fr.loss_and_grad(x, a, 1.0, reduction="mean").dalpha))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: function(jnp.asarray(x), jnp.float32(i % 5)), range(40)))
    for i, (values, slope) in enumerate(results):
        expected = results[i % 5]
        assert np.array_equal(values, expected[0]) and slope == expected[1]


# --- devices


def mesh(kind: str) -> Any:
    return jax.make_mesh((4,), ("d",), axis_types=(getattr(jax.sharding.AxisType, kind),))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("cut", [("d", None), (None, "d")], ids=["rows", "columns"])
def test_sharded_arrays_stay_where_they_are(cut: tuple[Any, ...], kind: str) -> None:
    """Under plain jit each device computes its part: nothing is gathered, and only sums travel."""
    devices = mesh(kind)
    rng = np.random.default_rng(0)
    with double():
        x, alpha = rng.normal(size=(400, 8)), rng.uniform(0, 3, 8)
        placed = jax.device_put(x, NamedSharding(devices, PartitionSpec(*cut)))
        column = jax.device_put(alpha, NamedSharding(devices, PartitionSpec(cut[1])))
        for reduction in ("none", "sum", "mean"):
            function = jax.jit(
                jax.value_and_grad(lambda x, a: frj.nll(x, a, 0.7, reduction=reduction).sum(), (0, 1))  # noqa: B023
            )
            program = function.lower(placed, column).compile().as_text()
            assert "all-gather" not in program and "all-to-all" not in program
            assert "fastrobust" in program
            value, (dx, dalpha) = function(placed, column)
            expected = fr.nll_and_grad(x, alpha, 0.7, reduction="mean" if reduction == "mean" else "sum")
            close((value, dx, dalpha), expected[:3])
            assert (
                len({s.data.shape for s in dx.addressable_shards}) == 1
                and dx.addressable_shards[0].data.size == x.size // 4
            )
        close(jax.jit(frj.loss)(placed, column, 0.7), fr.loss(x, alpha, 0.7))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_shard_map(kind: str) -> None:
    devices, (x, alpha, scale) = mesh(kind), arguments()
    with double():
        placed = jax.device_put(x, NamedSharding(devices, PartitionSpec("d")))

        shard_map = jax.shard_map if hasattr(jax, "shard_map") else jax.experimental.shard_map.shard_map

        @functools.partial(
            shard_map, mesh=devices, in_specs=(PartitionSpec("d"), PartitionSpec()),
            out_specs=(PartitionSpec("d"), PartitionSpec()),
        )  # fmt: skip
        def parts(x: Any, alpha: Any) -> Any:
            each = frj.loss(x, alpha, scale)
            return each, jax.lax.psum(frj.nll(x, alpha, scale, reduction="sum"), "d")

        values, total = jax.jit(parts)(placed, alpha)
        close(values, fr.loss(x, alpha, scale))
        expected = fr.nll_and_grad(x, alpha, scale, reduction="sum")
        close(total, expected.value)
        close(jax.jit(jax.grad(lambda *a: parts(*a)[1], (0, 1)))(placed, alpha), expected[1:3])


def test_exported(tmp_path: Path) -> None:
    """To another process, and to platforms that have no kernels."""
    checks = [jax.export.DisabledSafetyCheck.custom_call("fastrobust")]
    x = np.linspace(-3, 3, 12, dtype="f")
    rows = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n"), jnp.float32)
    function = jax.jit(lambda x: (frj.loss(x, 0.5, 1.5), jax.grad(lambda x: frj.nll(x, 0.5, 1.5).sum())(x)))
    exported = jax.export.export(function, disabled_checks=checks)(rows)
    (tmp_path / "program").write_bytes(exported.serialize())
    close(exported.call(x), function(x), 1e-6)
    script = f"""
        import jax.export, numpy as np, fastrobust as fr, fastrobust.jax as frj
        frj.backend()
        program = jax.export.deserialize(bytearray(open({str(tmp_path / "program")!r}, "rb").read()))
        x = np.linspace(-2, 2, 7, dtype="f")
        value, slope = program.call(x)
        np.testing.assert_array_equal(value, fr.loss(x, 0.5, 1.5))
        np.testing.assert_array_equal(slope, fr.nll_and_grad(x, 0.5, 1.5).dx)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=300)
    for platform in ("tpu", "rocm") if _calls._has_cuda_kernels() else ("tpu", "cuda"):
        text = jax.export.export(function, platforms=[platform])(x).mlir_module()
        assert "fastrobust" not in re.findall(r"custom_call @(\w+)", text)


def test_gpu_kernels_on_a_stand_in_for_cupy(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What XLA calls on a GPU, here with the memory of a CPU: elementwise, log Z, sums with weights."""
    pytest.importorskip("jax.experimental.buffer_callback")
    streams = []
    fake_cupy.asarray = lambda buffer: np.asarray(buffer).view(fake_cupy.ndarray)
    stream = type("Stream", (), {"from_external": lambda s: streams.append(s) or contextlib.nullcontext()})
    monkeypatch.setattr(fake_cupy.cuda, "Stream", stream, raising=False)
    monkeypatch.setattr("fastrobust._backends.cupy.device._Stream", lambda pointer: pointer)
    monkeypatch.setattr(jax.experimental.buffer_callback.ExecutionContext, "stream", 7, raising=False)
    rng = np.random.default_rng(0)
    x, alpha, scale = rng.normal(size=(40, 3)).astype("f"), np.float32([[0.5, 1, 2]]), np.float32([[0.7]])
    weights = rng.integers(0, 3, x.shape).astype("f")
    names = ("value", "dx", "dalpha")
    found = jax.jit(functools.partial(_calls._launched, NLL, names))(x, alpha, scale)
    expected = fr.nll_and_grad(x, alpha, scale)
    close(found, expected[:3], 5e-6)  # the stand-in computes floats without doubles
    log_partition = functools.partial(_calls._launched, LOG_PARTITION, ("value",))
    close(jax.jit(log_partition)(alpha), [fr.log_partition(alpha)], 1e-6)
    for mean, more in ((True, ()), (False, (weights,))):
        sums = functools.partial(_calls._launched_sums, LOSS, ("x", "alpha"), mean)
        true = fr.loss_and_grad(
            x, alpha, scale, reduction="mean" if mean else "sum", weights=more[0] if more else None, wrt=("x", "alpha")
        )
        close(jax.jit(sums)(x, alpha, scale, *more), [v for v in true if v is not None], 1e-5)
    assert set(streams) == {7}


@pytest.mark.gpu
def test_gpu() -> None:
    """On a GPU: the values and gradients of the CPU, by the kernels where CuPy is there, else by XLA's operations."""
    gpus = [d for d in jax.devices() if d.platform == "gpu"]
    assert gpus, "JAX finds no GPU: pip install jax[cuda12]"
    rng = np.random.default_rng(0)
    x, alpha = rng.normal(size=(100_000, 3)).astype("f"), np.float32([0.5, 1, 2])
    function = jax.jit(jax.value_and_grad(lambda x, a: frj.nll(x, a, 0.7, reduction="mean"), (0, 1)))
    placed = [jax.device_put(v, gpus[0]) for v in (x, alpha)]
    for _ in range(3):  # once recorded, then replayed
        value, slopes = function(*placed)
    expected = fr.nll_and_grad(x, alpha, 0.7, reduction="mean")
    close((value, *slopes), expected[:3], 1e-4)
    close(jax.jit(frj.loss)(*placed, 0.7), fr.loss(x, alpha, 0.7), 1e-5)


# --- XLA's interface


def test_the_interface_is_the_one_that_is_known() -> None:
    """If this fails, XLA has moved: compare `xla_frame` with c_api.h."""
    header = (Path(jax.ffi.include_dir()) / "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    version = [int(re.search(rf"define XLA_FFI_API_{n} (\d+)", header)[1]) for n in ("MAJOR", "MINOR")]
    assert version[0] == xla_frame.API_MAJOR and version[1] <= xla_frame.API_MINOR, "a newer interface: look at it"
    words = {"int": 4, "XLA_FFI_Error_Code": 4, "XLA_FFI_DataType": 4, "XLA_FFI_ExecutionStage": 4, "int64_t": 8}
    words |= {"size_t": 8, "XLA_FFI_Handler_Traits": 4, "int32_t": 4}
    sizes: dict[str, int] = {}

    def places(name: str) -> dict[str, int]:
        """Bytes of each field from the start of a structure."""
        body = re.search(rf"struct {name} {{\n(.*?)\n}}", header, re.S)[1]
        body = re.sub(r"//.*", "", body)
        at, found = 0, {}
        for field in re.findall(r"([^;{}]+);", body):
            field = field.strip()
            if macro := re.match(r"_XLA_FFI_API_STRUCT_FIELD\((\w+)\)", field):
                kind, label = "*", macro[1]
            else:
                kind, label = re.fullmatch(r"(?:const )?(.+?)\s*(\w+)", field, re.S).groups()
            size = 8 if "*" in kind else words.get(kind) or sizes.get(kind) or sizes.setdefault(kind, size_of(kind))
            at = -(-at // min(size, 8)) * min(size, 8)
            found[label], at = at, at + size
        found["end"] = at
        return found

    def size_of(name: str) -> int:
        return -(-places(name)["end"] // 8) * 8

    frame, buffer, api = places("XLA_FFI_CallFrame"), places("XLA_FFI_Buffer"), places("XLA_FFI_Api")
    args, attrs = places("XLA_FFI_Args"), places("XLA_FFI_Attrs")
    f = xla_frame
    assert [8 * n for n in (f.FRAME_EXTENSION, f.FRAME_API, f.FRAME_CONTEXT)] == [
        frame[n] for n in ("extension_start", "api", "ctx")
    ]
    for known, name, fields in ((f.FRAME_ARGS, "args", args), (f.FRAME_RETS, "rets", places("XLA_FFI_Rets"))):
        assert [8 * n for n in known] == [frame[name] + fields["size"], frame[name] + fields[name]]
    assert [8 * n for n in f.FRAME_ATTRS] == [frame["attrs"] + attrs["size"], frame["attrs"] + attrs["attrs"]]
    assert frame["attrs"] + attrs["end"] == f.FRAME_SIZE and buffer["end"] == f.BUFFER_SIZE
    assert [8 * n for n in (f.BUFFER_TYPE, f.BUFFER_DATA, f.BUFFER_RANK, f.BUFFER_DIMS)] == [
        buffer[n] for n in ("dtype", "data", "rank", "dims")
    ]
    assert [8 * n for n in (f.API_ERROR_CREATE, f.API_ERROR_DESTROY, f.API_SCHEDULE, f.API_THREADS)] == [
        api[f"XLA_FFI_{n}"] for n in ("Error_Create", "Error_Destroy", "ThreadPool_Schedule", "ThreadPool_NumThreads")
    ]
    assert api["api_version"] + places("XLA_FFI_Api_Version")["major_version"] == 8 * f.API_VERSION
    metadata = places("XLA_FFI_Metadata")
    assert metadata["api_version"] + places("XLA_FFI_Api_Version")["major_version"] == 8 * f.METADATA_VERSION
    assert metadata["traits"] == 8 * f.METADATA_TRAITS
    for size, name in (
        (f.ERROR_CREATE_SIZE, "Error_Create"), (f.ERROR_DESTROY_SIZE, "Error_Destroy"),
        (f.SCHEDULE_SIZE, "ThreadPool_Schedule"), (f.THREADS_SIZE, "ThreadPool_NumThreads"),
    ):  # fmt: skip
        assert size == places(f"XLA_FFI_{name}_Args")["end"], name
    enum = dict(re.findall(r"XLA_FFI_(\w+) = (\d+)", header))
    assert [int(enum[f"DataType_{n}"]) for n in ("F32", "F64")] == [f.FLOAT, f.DOUBLE]
    codes = [int(enum[f"Error_Code_{n}"]) for n in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED")]
    assert codes == [f.INVALID_ARGUMENT, f.NO_MEMORY, f.UNIMPLEMENTED]
    assert frj.backend() == "ffi" and xla_table.seen() == tuple(version)


def test_the_handler_refuses_what_it_does_not_know(capfd: pytest.CaptureFixture[str]) -> None:
    frj.backend()

    def call(result: Any, *operands: Any, code: int) -> Any:
        return jax.ffi.ffi_call("fastrobust", (result,))(*operands, code=np.int64(code))[0]

    x, shape = np.ones(3, "f"), jax.ShapeDtypeStruct
    code, mean = xla_frame.code_of(LOSS, ("value",)), xla_frame.code_of_sums(LOSS, (), True, False)
    unknown = code ^ 1 << xla_frame.AT_DIGEST
    for message, args, number in (
        ("all float32 or all float64", (shape((3,), "i"), *[np.ones(3, "i")] * 3), code),
        ("all float32 or all float64", (shape((3,), "f"), x, np.ones(3, "i"), x), code),
        ("of one rank", (shape((4,), "f"), x, x, x), code),
        ("of one rank", (shape((3,), "f"), x, x[None], x), code),
        ("of one rank", (shape((), "f"), x, np.ones(2, "f"), x), mean),
        ("of one rank", (shape((3,), "f"), x, x), code),
        ("of one rank", (shape((3,), "f"), x, x, x, x), code),
        ("of one rank", (shape((3,), "f"), x, x, x), code | 2),  # two results
        ("of one rank", (shape((3,), "f"), x, x, x), 0),
        ("of one rank", (shape((3,), "f"), x, x, x), 1),  # a code of fastrobust 0.1
        ("of one rank", (shape((), "f"), x, x, x), mean | 1 << xla_frame.HAS_WEIGHTS),
        ("float", (shape((3,), "f"), x, x, x), -1),
        ("could not be built", (shape((3,), "f"), x, x, x), unknown),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match=message):
            call(*args, code=number).block_until_ready()
    assert capfd.readouterr().err.count("import the module that defines it") == 1


# --- errors, the adaptive loss


def test_errors() -> None:
    x = jnp.ones(3)
    for error, message, call in (
        (TypeError, "x has dtype complex64", lambda: fr.loss(x.astype(complex), 1.0, 1.0)),
        (TypeError, "float8", lambda: fr.loss(x.astype(jnp.float8_e4m3fn), 1.0, 1.0)),
        (TypeError, "key", lambda: fr.loss(jax.random.key(0), 1.0, 1.0)),
        (TypeError, "convert one of them", lambda: fr.loss(x, np.ones(3), 1.0)),
        (ValueError, "shapes do not broadcast: x", lambda: frj.loss(x, np.ones(4), 1.0)),
        (ValueError, "scale must be positive", lambda: jax.jit(lambda x: fr.loss(x, 1.0, 0.0))(x)),
        (ValueError, "alpha must be >= 0", lambda: frj.nll(x, -1.0, 1.0)),
        (ValueError, "reduction must be", lambda: frj.loss(x, 1.0, 1.0, reduction="max")),
        (ValueError, "weights of shape", lambda: frj.loss(x, 1.0, 1.0, weights=np.ones(4), reduction="sum")),
        (TypeError, "out: not taken", lambda: fr.loss(x, 1.0, 1.0, out=x)),
        (
            TypeError,
            "out: not taken",
            lambda: fr.loss_and_grad(x, 1.0, 1.0, out=(x, None, None, None), reduction="sum"),
        ),
        (TypeError, "missing a required argument", lambda: frj.loss(x)),
        (TypeError, "x: JAX makes no array of this str", lambda: frj.loss("none", 1.0, 1.0)),
        (TypeError, "alpha: JAX makes no array", lambda: frj.loss(x, [[1, 2], [3]], 1.0)),
        (ValueError, "alpha must be >= 0", lambda: frj.log_partition(-1.0)),
        (ValueError, "alpha_range must be two", lambda: frj.AdaptiveLoss((0, 1, 2))),
        (TypeError, "dtype must be", lambda: frj.AdaptiveLoss().init((), jnp.int32)),
        (ValueError, "params must be those of init", lambda: frj.AdaptiveLoss().apply({}, x)),
        (ValueError, "alpha_range", lambda: frj.AdaptiveLoss(alpha_range=(2.0, 1.0))),
        (ValueError, "alpha_init", lambda: frj.AdaptiveLoss(alpha_init=7.0)),
        (ValueError, "scale_min", lambda: frj.AdaptiveLoss(scale_min=2.0)),
    ):
        with pytest.raises(error, match=message):
            call()
    assert np.isnan(fr.loss(x, 1.0, jnp.float32(-1))).all() and np.isinf(fr.nll(x, jnp.float32(-1), 1.0)).all()


def test_the_adaptive_loss_fits_a_line_with_optax() -> None:
    optax = pytest.importorskip("optax")
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 200).astype("f")
    y = (0.7 * x + 0.15 + 0.025 * rng.standard_normal(200)).astype("f")
    y[:20] = rng.uniform(0, 3, 20)
    criterion = frj.AdaptiveLoss()
    params = {"line": jnp.zeros(2), "loss": criterion.init()}
    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        objective = lambda p: criterion.apply(p["loss"], p["line"][0] * x + p["line"][1] - y)  # noqa: E731
        value, slopes = jax.value_and_grad(objective)(params)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for _ in range(800):
        params, state, value = step(params, state)
    np.testing.assert_allclose(params["line"], [0.7, 0.15], atol=0.02)
    assert float(criterion.alpha(params["loss"])) < 1 and 0 < float(criterion.scale(params["loss"])) < 0.1


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_learned_shapes_at_the_ends_of_their_range_have_finite_gradients(dtype: str) -> None:
    """A sigmoid of +-1000 is 0 or 1: alpha is 0 and 2 exactly, where log Z and rho have their limits."""
    x = jnp.asarray([0.0, 1e-3, 0.5, -3.0, 30.0], dtype)
    for reduction in ("mean", "none"):
        criterion = frj.AdaptiveLoss(reduction=reduction)
        assert criterion.alpha_range == (0.0, 2.0)
        total = jax.jit(jax.value_and_grad(lambda p, x, c=criterion: c.apply(p, x).sum(), (0, 1)))
        for latent, alpha in ((-1e3, 0.0), (1e3, 2.0)):
            params = {**criterion.init((), dtype), "alpha": jnp.asarray(latent, dtype)}
            assert float(criterion.alpha(params)) == alpha
            value, (slopes, dx) = total(params, x)
            expected = fr.nll(np.asarray(x, "f8"), alpha, 1.0)
            assert float(value) == pytest.approx(
                getattr(expected, "mean" if reduction == "mean" else "sum")(), rel=2e-2
            )
            assert np.isfinite(np.asarray(dx, "f8")).all()
            assert float(slopes["alpha"]) == 0 and np.isfinite(float(slopes["scale"])) and float(slopes["scale"]) != 0


def test_the_adaptive_loss_of_images_and_what_is_fixed() -> None:
    criterion = frj.AdaptiveLoss(alpha_range=(0.0, 3.0), alpha_init=1.0, scale_init=0.5, reduction="none")
    params = criterion.init((3, 1, 1))
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("f")
    np.testing.assert_allclose(criterion.apply(params, x), fr.nll(x, 1.0, 0.5), rtol=2e-6)
    mask = np.random.default_rng(1).random(x.shape) < 0.5
    masked = frj.AdaptiveLoss(alpha_range=(2, 2), scale_min=1.0)
    assert not any(p.weak_type for p in params.values()) and hash(frj.AdaptiveLoss([0.0, 1.0]))
    assert masked.init() == {} and masked == frj.AdaptiveLoss(alpha_range=(2, 2), scale_min=1.0) and hash(masked)
    np.testing.assert_allclose(
        masked.apply({}, x, weights=mask), fr.nll(x[mask], 2.0, 1.0, reduction="mean"), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["_adaptive", "_calls"])
def test_the_examples_run_and_print_what_they_say(name: str) -> None:
    found = doctest.testmod(sys.modules[f"fastrobust.jax.{name}"])
    assert found.attempted and not found.failed
