"""A definition from elsewhere on JAX: the toy's four operands under every transformation, and how kernels are found."""

from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from marks import slow

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
jax = pytest.importorskip("jax")

import jax.export  # noqa: E402, F811
import jax.numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec  # noqa: E402
from jax.test_util import check_grads  # noqa: E402
from test_jax import double  # noqa: E402

import fastrobust as fr  # noqa: E402
from fastrobust._backends import numpy as on_numpy  # noqa: E402
from fastrobust.jax import _autodiff, _calls  # noqa: E402
from fastrobust.kernels.arithmetic.primitives import scalar  # noqa: E402
from fastrobust.kernels.loops import xla_frame, xla_table  # noqa: E402
from fastrobust.kernels.losses.catalogue import LOSS, NLL  # noqa: E402
from fastrobust.kernels.losses.definition import Definition, Stage  # noqa: E402

TOY = toy.TOY
ALL = TOY.operands
compiled = pytest.mark.skipif(_calls.backend() != "ffi", reason="XLA calls no compiled kernels here")


def operands(*shapes: tuple[int, ...], seed: int = 0, dtype: Any = "f8") -> list[Any]:
    """Numbers for the four operands."""
    rng = np.random.default_rng(seed)
    found = [rng.normal(size=s) for s in shapes[:2]]
    return [a.astype(dtype) for a in (*found, rng.uniform(0.5, 2, shapes[2]), rng.normal(size=shapes[3]))]


def value(*args: Any) -> Any:
    return _autodiff.evaluate(TOY, ("value",), args, {})


def outputs(*args: Any) -> Any:
    return jnp.stack(_autodiff.evaluate(TOY, TOY.outputs, args, {}))


def mean(*args: Any, weights: Any = None, wrt: tuple[str, ...] = (), reduction: str = "mean") -> Any:
    found = _autodiff.reduce(TOY, wrt, args, reduction, weights, None)
    return found[0] if not wrt else [part for part in found if part is not None]


# --- values and sums


SHAPES = [
    ((), (), (), ()), ((7,), (7,), (), ()), ((5, 4), (4,), (4,), (5, 1)), ((3000, 3), (3000, 3), (3,), (1,)),
    ((4, 600), (600,), (600,), (4, 1)), ((4, 1), (1, 5), (2, 1, 1), ()), ((2, 3, 4, 5), (3, 1, 5), (2, 1, 4, 1), (5,)),
    ((140_000,), (), (), ()), ((70_000, 2), (70_000, 2), (2,), ()), ((2, 1500), (2, 1500), (1500,), (1500,)),
]  # fmt: skip


@compiled
@pytest.mark.parametrize("dtype", ["float32", *slow("float64")])
def test_values_are_numpys(dtype: str) -> None:
    """Bit for bit: all outputs, broadcasting data and parameters every way that the handler knows."""
    with double():
        for shapes in SHAPES:
            args = operands(*shapes, dtype=dtype)
            found = jax.jit(outputs)(*map(jnp.asarray, args))
            for name, a, b in zip(TOY.outputs, found, on_numpy.evaluate(TOY, TOY.outputs, args, {}), strict=True):
                assert a.dtype == dtype and a.shape == np.shape(b)
                np.testing.assert_array_equal(a, b, err_msg=f"{name} {shapes}")


@compiled
def test_sums_are_numpys() -> None:
    """The value and the parameters' gradients have NumPy's bits, unless XLA sums; in parameters of several shapes."""
    for shapes in (
        ((5,), (5,), (), ()), ((65_537,), (), (), (1,)), ((100_000, 3), (100_000, 3), (3,), ()),
        ((3, 1500), (1500,), (1500,), (1,)), ((1000, 7, 3), (7, 3), (7, 1), (1, 3)), ((40, 30), (30,), (40, 1), ()),
    ):  # fmt: skip
        args = operands(*shapes, dtype="f")
        weights = np.random.default_rng(1).integers(0, 3, np.broadcast_shapes(*shapes)).astype("f")
        exact = shapes[2] != (40, 1) and shapes[2] != (7, 1)  # XLA adds up what the kernel has summed by column
        for reduction, w in itertools.product(("sum", "mean"), (None, weights)):
            found = _autodiff.reduce(TOY, ALL, [jnp.asarray(a) for a in args], reduction, w, None)
            expected = on_numpy.reduce(TOY, ALL, args, reduction, w, None)
            for name, a, b in zip(("value", *TOY.gradients), found, expected, strict=True):
                assert a.shape == np.shape(b), name
                rtol = 0 if exact and name in TOY.sums else 3e-6
                np.testing.assert_allclose(
                    a,
                    b,
                    rtol=rtol,
                    atol=0 if rtol == 0 else 3e-7 * float(np.max(np.abs(b))),
                    err_msg=f"{name} {shapes}",
                )


def test_what_is_not_wanted_is_none() -> None:
    args = [jnp.asarray(a) for a in operands((6,), (6,), (), (), dtype="f")]
    found = _autodiff.reduce(TOY, ("target", "tilt"), args, "sum", None, None)
    assert [part is None for part in found] == [False, True, False, True, False]
    assert found[2].shape == (6,) and found[4].shape == ()
    with pytest.raises(ValueError, match="width must be positive, got -1"):
        value(*args[:2], -1, 0.0)
    with pytest.raises(ValueError, match=r"shapes do not broadcast: x \(6,\), target \(5,\)"):
        value(args[0], args[1][:5], 1.0, 0.0)


def test_numbers_and_dtypes() -> None:
    x = jnp.arange(5)
    assert value(x, 1, 2, 0).dtype == jnp.float32 and value(x.astype(jnp.bfloat16), 0.5, 2, 0).dtype == jnp.bfloat16
    np.testing.assert_array_equal(value(x, 1, 2, 0), value(x, jnp.float32(1), jnp.float32(2), 0.0))


def test_the_composite_gives_the_values_of_the_kernels() -> None:
    args = [jnp.asarray(a) for a in operands((50, 4), (4,), (4,), (), dtype="f")]
    found = jax.jit(functools.partial(_calls._composite, TOY, TOY.outputs))(*args)
    for a, b in zip(found, on_numpy.evaluate(TOY, TOY.outputs, [np.asarray(a) for a in args], {}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


# --- transformations


@pytest.mark.parametrize("name", ["value", "weighted", *slow("mean")])
def test_derivatives(name: str, way: str) -> None:
    """Twice in all four operands, forward and in reverse, against differences."""
    weights = np.array([[0.5], [0.0], [2.0]])
    functions = {
        "value": value,
        "mean": mean,
        "weighted": functools.partial(mean, weights=weights, reduction="sum"),
    }
    with double():
        args = operands((3, 2), (2,), (2,), ())
        check_grads(jax.jit(functions[name]), args, order=2, rtol=1e-5, atol=1e-5)


def test_derivatives_of_all_outputs() -> None:
    with double():
        check_grads(jax.jit(outputs), operands((3, 2), (3, 2), (), (2,)), order=1, rtol=1e-5, atol=1e-5)


def test_gradients_in_one_pass_are_those_of_automatic_differentiation() -> None:
    with double():
        args = operands((5, 3), (3,), (3,), (1,))
        slopes = jax.grad(mean, range(4))(*args)
        _, *found = mean(*args, wrt=ALL)
        for name, slope, own, arg in zip(ALL, slopes, found, args, strict=True):
            own = own.sum(0) if name == "target" else own  # which varies along fewer axes than the results
            assert slope.shape == arg.shape
            np.testing.assert_allclose(own, slope, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("at", [1, 2, *slow(0, 3)])
@pytest.mark.parametrize("function", [value, mean])
def test_vmap_over_each_operand(function: Any, at: int, way: str) -> None:
    with double():
        args = operands((4, 3), (3,), (3,), ())
        batch = np.stack([args[at], args[at] + 0.1, args[at] + 0.3])
        axes = tuple(0 if i == at else None for i in range(4))
        rows = [[row if i == at else a for i, a in enumerate(args)] for row in batch]
        batched = [batch if i == at else a for i, a in enumerate(args)]
        np.testing.assert_allclose(
            jax.jit(jax.vmap(function, axes))(*batched), jnp.stack([function(*r) for r in rows]), rtol=1e-12
        )
        slope = jax.grad(lambda *a: function(*a).sum(), at)
        np.testing.assert_allclose(
            jax.vmap(slope, axes)(*batched), jnp.stack([slope(*r) for r in rows]), rtol=1e-11, atol=1e-13
        )


# --- devices and processes


@compiled
@pytest.mark.parametrize("cut", [("d", None), (None, "d")], ids=["rows", "columns"])
def test_sharded_arrays_stay_where_they_are(cut: tuple[Any, ...]) -> None:
    """On two devices each computes its part: nothing is gathered, and only sums travel."""
    devices = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("d",))
    with double():
        args = operands((400, 8), (400, 8), (8,), ())
        whole, column = (NamedSharding(devices, PartitionSpec(*c)) for c in (cut, (cut[1],)))
        placed = [jax.device_put(a, s) for a, s in zip(args, (whole, whole, column), strict=False)]
        for reduction in ("none", "sum", "mean"):

            def total(*given: Any, reduction: str = reduction) -> Any:
                found = value(*given) if reduction == "none" else mean(*given, reduction=reduction)
                return found.sum()

            function = jax.jit(jax.value_and_grad(total, range(3)))
            program = function.lower(*placed, args[3]).compile().as_text()
            assert "all-gather" not in program and "all-to-all" not in program and "fastrobust" in program
            found, slopes = function(*placed, args[3])
            expected = on_numpy.reduce(TOY, ALL[:3], args, "mean" if reduction == "mean" else "sum", None, None)
            for a, b in zip((found, *slopes), expected[:4], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
            assert slopes[1].addressable_shards[0].data.size == args[1].size // 2


@compiled
def test_exported_to_a_process_that_imports_the_definition(tmp_path: Path) -> None:
    consent = [jax.export.DisabledSafetyCheck.custom_call("fastrobust")]
    x, target = operands((12,), (12,), (), (), dtype="f")[:2]
    function = jax.jit(lambda x, t: (value(x, t, 0.7, 0.1), mean(x, t, 0.7, 0.1, wrt=("target",))[1]))
    (tmp_path / "program").write_bytes(jax.export.export(function, disabled_checks=consent)(x, target).serialize())
    np.savez(tmp_path / "arrays.npz", x=x, target=target, value=function(x, target)[0], slope=function(x, target)[1])
    script = f"""
        import sys, jax.export, numpy as np, fastrobust.jax as frj
        assert frj.backend() == "ffi"
        if "toy" in sys.argv:
            import toy
        program = jax.export.deserialize(bytearray(open({str(tmp_path / "program")!r}, "rb").read()))
        arrays = np.load({str(tmp_path / "arrays.npz")!r})
        value, slope = program.call(arrays["x"], arrays["target"])
        np.testing.assert_array_equal(value, arrays["value"])
        np.testing.assert_array_equal(slope, arrays["slope"])
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    tree = os.pathsep.join(map(str, (Path(fr.__file__).parent.parent, Path(toy.__file__).parent)))
    environment = {**os.environ, "PYTHONPATH": tree}
    subprocess.run([*command, "toy"], check=True, timeout=300, env=environment)
    without = subprocess.run(command, timeout=300, env=environment, capture_output=True, text=True)
    assert without.returncode == 1 and "import the module that defines it" in without.stderr
    assert "a kernel could not be built" in without.stderr


# --- codes, keys, and the table


@scalar
def twice(x, prepared):
    T = type(x)
    return (x * T(2.0), T(2.0) + x * T(0.0)), ()


@scalar
def thrice(x, prepared):
    T = type(x)
    return (x * T(3.0), T(3.0) + x * T(0.0)), ()


def line(name: str, function: Any = twice, data: int = 1, others: int = 0) -> Definition:
    """A multiple of x.  With more data or outputs, a definition that nobody can run."""
    names = ("x", *(f"x{i}" for i in range(1, data)))
    more = tuple(f"other{i}" for i in range(others))
    stages = (Stage(function, None, ("value", *("d" + n for n in names), *more)),)
    return Definition(name=name, data=names, parameters=(), stages=stages, others=more)


def test_codes_say_the_same_of_every_definition() -> None:
    code = xla_frame.code_of_sums(TOY, ("x", "width"), True, True)
    assert (xla_frame.mask_of(code), xla_frame.data_of(code), xla_frame.operands_of(code)) == (0b101, 2, 4)
    assert xla_frame.definition_of(code) is xla_frame.definition_of(xla_frame.code_of(TOY, ("value",))) is TOY
    assert xla_frame.mask_of(xla_frame.code_of(TOY, ("curvature", "value"))) == 0b100001
    again = [line("jax_line"), line("jax_line")]
    codes = [xla_frame.code_of(one, ("value",)) for one in again]
    assert codes[0] != codes[1] and [xla_frame.definition_of(c) for c in codes] == again


def test_what_has_too_much_for_a_code_is_refused() -> None:
    with pytest.raises(
        ValueError, match="jax_many has 17 operands and 18 outputs; on CPUs, JAX can call kernels of up"
    ):
        xla_frame.code_of(line("jax_many", data=17), ("value",))
    with pytest.raises(ValueError, match="jax_more has 1 operands and 21 outputs"):
        xla_frame.code_of_sums(line("jax_more", others=19), (), False, False)


def test_names_that_codes_cannot_tell_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xla_frame, "_digest_of", lambda definition: 7)
    monkeypatch.setattr(xla_frame, "_coded", {})
    first, second = line("jax_one"), line("jax_two")
    code = xla_frame.code_of(first, ("value",))
    with pytest.raises(ValueError, match="cannot tell jax_two from jax_one: rename one of them"):
        xla_frame.code_of(second, ("value",))
    with pytest.raises(LookupError, match="not known here"):
        xla_frame.definition_of(code)


def test_a_kernel_is_entered_once_and_beside_others() -> None:
    """The first free entry of those where a key is looked for; none if there is none."""
    table = [0] * xla_frame.WORDS
    key = xla_frame.code_of(TOY, ("value",))
    places = [xla_frame.place_of(key, probe) for probe in range(xla_frame.PROBES)]
    assert len(set(places)) == xla_frame.PROBES
    assert all(xla_frame.KERNELS <= p < xla_frame.WORDS and p % 2 == 0 for p in places)
    for place in places[:3]:
        table[place], table[place + 1] = 1, 11
    for _ in range(2):
        xla_table._enter(table, key, 5)
    assert (table[places[3]], table[places[3] + 1]) == (key, 5) and sum(map(bool, table)) == 8
    full = [1] * xla_frame.WORDS
    xla_table._enter(full, key, 5)
    assert full == [1] * xla_frame.WORDS


def test_keys_of_many_kernels_find_entries() -> None:
    """All outputs of two, of both dtypes and layouts, of each definition at hand: every kernel but a few."""
    table = [0] * xla_frame.WORDS
    keys = []
    for one in (LOSS, NLL, TOY, line("jax_a", data=3), line("jax_b", data=4)):
        for names in itertools.combinations(one.outputs, 2):
            for wide, each in itertools.product((0, 1), repeat=2):
                code = xla_frame.code_of(one, names)
                keys.append(code | wide << xla_frame.IS_DOUBLE | each << xla_frame.VARIES)
                xla_table._enter(table, keys[-1], 1)
    assert len(set(keys)) == len(keys) > 200
    assert sum(key in table for key in keys) >= len(keys) - 2


@compiled
def test_a_full_table_means_asking_every_time() -> None:
    table = xla_table._keep[0]
    before = list(table)
    once = line("jax_full")
    function = jax.jit(lambda x: _autodiff.evaluate(once, ("value",), (x,), {}))
    try:
        for place in range(xla_frame.KERNELS, xla_frame.WORDS, 2):
            table[place] = table[place] or 1
        for _ in range(3):
            np.testing.assert_array_equal(function(jnp.arange(5.0)), 2 * np.arange(5))
        assert not any(xla_frame.mask_of(k) and xla_frame.definition_of(k) is once for k in table[16::2] if k > 1)
    finally:
        for place in range(xla_frame.KERNELS, xla_frame.WORDS):
            table[place] = before[place]


@compiled
def test_a_definition_of_an_old_name_has_kernels_of_its_own() -> None:
    """As where a cell of a notebook runs again: programs of the first one keep theirs."""
    first = line("jax_cell")
    function = jax.jit(lambda x: _autodiff.evaluate(first, ("value",), (x,), {}))
    x = jnp.arange(5.0)
    np.testing.assert_array_equal(function(x), 2 * np.arange(5))
    second = line("jax_cell", thrice)
    np.testing.assert_array_equal(_autodiff.evaluate(second, ("value",), (x,), {}), 3 * np.arange(5))
    np.testing.assert_array_equal(function(x), 2 * np.arange(5))
    np.testing.assert_array_equal(_autodiff.evaluate(first, ("dx",), (x,), {}), np.full(5, 2.0))


def test_without_rules_second_derivatives_are_refused() -> None:
    one = line("jax_flat")
    total = lambda x: _autodiff.evaluate(one, ("value",), (x,), {}).sum()  # noqa: E731
    np.testing.assert_array_equal(jax.grad(total)(jnp.arange(3.0)), np.full(3, 2.0))
    with pytest.raises(
        NotImplementedError, match="derivative of dx was asked for: the definition of jax_flat has none"
    ):
        jax.grad(lambda x: jax.grad(total)(x).sum())(jnp.arange(3.0))
