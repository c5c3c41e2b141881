"""Cross-entropy: against mpmath, at the points where others lose digits, and with every option."""

from __future__ import annotations

import os
import pickle
import secrets
import subprocess
import sys
from typing import Any

import numpy as np
import oracle
import oracle_rows
import pytest
from marks import slow

from fastrobust import _threads, losses
from fastrobust._backends.numpy import rows

mp = oracle_rows.mp
cross_entropy: Any = losses.cross_entropy
DTYPES = [np.float32, np.float64]
LENGTHS = (1, 2, 3, 10, 15, 16, 17, 255, 256, 257, 300)  # short rows go side by side, up to 256


def truth(x: Any, target: int) -> tuple[Any, list[Any]]:
    """The loss and its derivatives, from what they are."""
    z = [mp.mpf(float(v)) for v in x]
    e = [mp.exp(v - max(z)) for v in z]
    total, others = mp.fsum(e), mp.fsum(v for k, v in enumerate(e) if k != target)
    slopes = [v / total if k != target else -others / total for k, v in enumerate(e)]
    return mp.log(total) + max(z) - z[target], slopes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_errors_are_within_a_few_units(length: int, dtype: Any) -> None:
    """At fresh logits of all sizes; half of the targets are the likeliest class."""
    seed = secrets.randbits(32)
    rng, bound = np.random.default_rng(seed), {np.float32: 1, np.float64: 4}[dtype]
    scales = 10.0 ** rng.uniform(-6, 2.3, (30 if length < 100 else 4, 1))
    x = (rng.standard_normal((len(scales), length)) * scales).astype(dtype)
    target = np.where(rng.random(len(x)) < 0.5, x.argmax(1), rng.integers(0, length, len(x)))
    found = cross_entropy.value_and_grad(x, target)
    assert found.value.dtype == found.dx.dtype == dtype
    for row, t, value, slopes in zip(x, target, found.value, found.dx, strict=True):
        true, true_slopes = truth(row, int(t))
        errors = [oracle.ulp_error(float(value), true, dtype.__name__)]
        errors += [
            oracle.ulp_error(float(one), other, dtype.__name__) for one, other in zip(slopes, true_slopes, strict=True)
        ]
        assert max(errors) <= bound, (seed, np.argmax(errors))


@pytest.mark.parametrize("of", ["index", "probabilities"])
@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("length", [2, 5, *slow(300)])
def test_options_are_those_of_the_textbook(length: int, finite: bool, of: str) -> None:
    """The loss, and its derivatives in the logits and in all options, by differences of many digits."""
    rng = np.random.default_rng(secrets.randbits(32))
    for options in ((1.0, 0.0, 0.0), (2.5, 0.0, 0.0), (1.0, 0.1, 0.0), (0.7, 0.2, 0.03), (1.0, 1.0, 0.0)):
        x = rng.standard_normal(length) * 5
        if finite and length > 2:
            x[-1] = -np.inf
        target: Any = int(rng.integers(0, max(1, length - 1)))
        if of == "probabilities":
            target = rng.random(length)
            target[np.isinf(x)] = 0

        def loss(arguments: Any, target: Any = target) -> Any:
            *z, temperature, smoothing, z_loss = arguments
            given = target if isinstance(target, int) else [float(v) for v in target]
            return oracle_rows.cross_entropy(z, given, temperature, smoothing, z_loss, finite)

        arguments = [*map(float, x), *options]
        names = "temperature", "label_smoothing", "z_loss"
        found = cross_entropy.value_and_grad(
            x[None], np.array([target]), wrt=("x", *names), smooth_over="finite" if finite else "all",
            **dict(zip(names, options, strict=True)),
        )  # fmt: skip
        expected = [loss(arguments), *oracle_rows.slopes(loss, arguments)]
        got = [found.value[0], *found.dx[0], found.dtemperature[0], found.dlabel_smoothing[0], found.dz_loss[0]]
        for one, true in zip(got, expected, strict=True):
            assert abs(float(one) - float(true)) <= 1e-14 * (abs(float(true)) + float(np.ptp(x[np.isfinite(x)])) + 1)


@pytest.mark.parametrize(
    ("x", "target", "options", "value", "slopes"),
    [
        ([40, 0], 0, {}, 4.24835425529159e-18, [-4.24835425529159e-18, 4.24835425529159e-18]),
        ([1, 2, 3], 0, {}, 2.40760596444438, [-0.90996942682962, 0.244728471054798, 0.665240955774822]),
        ([1, 2, 3], 0, {"label_smoothing": 0.125}, 2.28260596444438, None),
        ([1, 2, 3], 0, {"z_loss": 2.0**-10}, 2.41894559179684, None),
        ([1, 2, 3], 0, {"temperature": 2.0}, 1.68026967064173, None),
        ([1000, 0, -1000], 1, {}, 1000.0, [1.0, -1.0, 0.0]),
        ([30, *[0] * 7], 0, {}, 6.550336078185977e-13, None),
        ([1, 2, -np.inf], [0.5, 0.5, 0.0], {}, 0.813261687518223, None),
        ([3], 0, {}, 0.0, [0.0]),
    ],
)
def test_reference_numbers(x: Any, target: Any, options: Any, value: float, slopes: Any) -> None:
    found = cross_entropy.value_and_grad(np.array([x], float), np.array([target]), **options)
    np.testing.assert_allclose(found.value, [value], rtol=3e-15)
    if slopes is not None:
        np.testing.assert_allclose(found.dx, [slopes], rtol=3e-15, atol=1e-300)
        assert not np.signbit(found.dx[found.dx == 0]).any()


def test_the_derivative_in_the_temperature_has_its_reference() -> None:
    found = cross_entropy.value_and_grad(np.array([[1.0, 2, 3]]), np.array([0]), temperature=2.0, wrt=("temperature",))
    assert found.dx is None
    np.testing.assert_allclose(found.dtemperature, [-0.330039166957452], rtol=3e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [10, 300])
def test_any_axis_and_strides(length: int, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 4, length)).astype(dtype)
    target = rng.integers(0, length, (3, 4))
    expected = cross_entropy.value_and_grad(x, target)
    for axis in (0, 1):
        moved = np.moveaxis(x, -1, axis)
        for view in (moved, np.ascontiguousarray(moved), np.repeat(moved, 2, 0)[::2]):
            found = cross_entropy.value_and_grad(view, target, axis=axis)
            np.testing.assert_array_equal(found.value, expected.value)
            np.testing.assert_array_equal(np.moveaxis(found.dx, axis, -1), expected.dx)
    backwards = cross_entropy.value_and_grad(x[..., ::-1], length - 1 - target)
    np.testing.assert_allclose(backwards.value, expected.value, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", LENGTHS)
def test_samples_do_not_know_of_each_other(length: int, dtype: Any) -> None:
    """The bits of a sample are those that it has alone, whatever is beside it; without derivatives, too."""
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((37, length)) * 10).astype(dtype)
    x[5], x[11, 0] = np.nan, np.inf
    target = rng.integers(0, length, 37)
    with np.errstate(all="raise"):
        whole = cross_entropy.value_and_grad(x, target)
        np.testing.assert_array_equal(cross_entropy(x, target), whole.value)
        for k in range(37):
            alone = cross_entropy.value_and_grad(x[k : k + 1], target[k : k + 1])
            np.testing.assert_array_equal(alone.value[0], whole.value[k])
            np.testing.assert_array_equal(alone.dx[0], whole.dx[k])
    assert np.isnan(whole.value[5]) and np.isnan(whole.dx[5]).all()
    finite = [k for k in range(37) if k not in (5, 11)]
    assert np.isfinite(whole.value[finite]).all() and np.isfinite(whole.dx[finite]).all()


@pytest.mark.parametrize("shape", [(3000, 100), (300, 1000), (2, 50, 4000), (5, 70_000), (4, 40, 3000)], ids=str)
def test_threads_change_no_bit(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape, np.float32)
    axis = 1 if len(shape) == 3 else -1
    target = rng.integers(0, x.shape[axis], np.delete(shape, axis))
    some = cross_entropy.value_and_grad(x, target, axis=axis, reduction="mean")
    values = cross_entropy(x, target, axis=axis)
    monkeypatch.setenv("FASTROBUST_NUM_THREADS", "1")
    monkeypatch.setattr(_threads, "_started", [])
    one = cross_entropy.value_and_grad(x, target, axis=axis, reduction="mean")
    np.testing.assert_array_equal(one.dx, some.dx)
    np.testing.assert_array_equal(cross_entropy(x, target, axis=axis), values)
    assert one.value == some.value


def test_longer_rows_than_are_kept_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(4).standard_normal((3, 5000))
    target = np.array([0, 4999, 300])
    kept = cross_entropy.value_and_grad(x, target, label_smoothing=0.1)
    monkeypatch.setattr(rows, "_KEPT", 0)
    again = cross_entropy.value_and_grad(x, target, label_smoothing=0.1)
    np.testing.assert_array_equal(again.value, kept.value)
    np.testing.assert_array_equal(again.dx, kept.dx)


@pytest.mark.parametrize("length", [3, 300])
def test_ignored_samples_and_those_of_weight_0_are_not_there(length: int) -> None:
    """Whatever they hold, and whatever number stands for them."""
    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((40, length)), rng.integers(0, length, 40)
    gone = rng.random(40) < 0.3
    x[gone] = np.nan
    for ignored in (-100, 255, 1 << 40):
        marked = np.where(gone, ignored, target)
        found = cross_entropy.value_and_grad(x, marked, ignore_index=ignored, reduction="mean")
        alone = cross_entropy.value_and_grad(x[~gone], target[~gone], reduction="mean")
        np.testing.assert_allclose(found.value, alone.value, rtol=1e-15)
        np.testing.assert_array_equal(found.dx[~gone], alone.dx)
        assert not found.dx[gone].any()
        assert not cross_entropy(x, marked, ignore_index=ignored)[gone].any()
    weighted = cross_entropy.value_and_grad(x, target, weights=~gone, reduction="mean")
    np.testing.assert_array_equal(weighted.dx, found.dx)
    assert weighted.value == found.value


def test_means_are_by_the_weights_of_samples_and_classes() -> None:
    rng = np.random.default_rng(6)
    x, target = rng.standard_normal((50, 4)), rng.integers(0, 4, 50)
    weights, of_classes = rng.random(50), np.array([1.0, 2.0, 0.0, 0.5])
    each, counted = cross_entropy(x, target), weights * of_classes[target]
    given = {"weights": weights, "class_weights": of_classes}
    np.testing.assert_allclose(cross_entropy(x, target, **given), each * counted, rtol=1e-15)
    np.testing.assert_allclose(cross_entropy(x, target, reduction="sum", **given), (each * counted).sum(), rtol=1e-14)
    mean = cross_entropy.value_and_grad(x, target, reduction="mean", wrt=("x", "temperature"), **given)
    np.testing.assert_allclose(mean.value, (each * counted).sum() / counted.sum(), rtol=1e-14)
    whole = cross_entropy.value_and_grad(x, target, wrt=("x", "temperature"))
    factor = counted / counted.sum()
    np.testing.assert_allclose(mean.dx, whole.dx * factor[:, None], rtol=1e-14)
    np.testing.assert_allclose(mean.dtemperature, (whole.dtemperature * factor).sum(), rtol=1e-13)


def test_a_mean_of_nothing_is_what_was_asked_for() -> None:
    x = np.ones((3, 2))
    for target, given in ((np.full(3, 7), {"ignore_index": 7}), (np.zeros(3, int), {"weights": 0.0})):
        assert np.isnan(cross_entropy(x, target, reduction="mean", **given))
        found = cross_entropy.value_and_grad(x, target, reduction="mean", empty="zero", **given)
        assert found.value == 0 and not found.dx.any()
    assert np.isnan(cross_entropy(np.ones((0, 2)), np.zeros(0, int), reduction="mean"))
    assert cross_entropy(np.ones((0, 2)), np.zeros(0, int), reduction="sum") == 0
    assert cross_entropy(np.ones((0, 2)), np.zeros(0, int)).shape == (0,)


def test_logits_that_are_infinite() -> None:
    """A class that is masked by -inf has the probability 0; it costs infinitely much to be right."""
    x = np.array([[0.0, -np.inf, 0.0]] * 3)
    found = cross_entropy.value_and_grad(x, np.array([0, 1, 2]))
    np.testing.assert_allclose(found.value, [np.log(2), np.inf, np.log(2)], rtol=1e-15)
    np.testing.assert_allclose(found.dx[0], [-0.5, 0, 0.5])
    np.testing.assert_allclose(found.dx[1], [0.5, -1, 0.5])
    assert np.isinf(cross_entropy(x, np.array([0, 1, 2]), label_smoothing=0.1)).all()
    spread = cross_entropy(x, np.array([0, 1, 2]), label_smoothing=0.1, smooth_over="finite")
    np.testing.assert_allclose(spread, [np.log(2), np.inf, np.log(2)], rtol=1e-15)
    assert np.isnan(cross_entropy(np.full((1, 3), -np.inf), np.array([0])))
    assert np.isnan(cross_entropy(np.array([[np.inf, 0.0]]), np.array([1])))


@pytest.mark.parametrize("of", ["uint8", "int8", "int16", "uint32", "int64", "uint64"])
def test_indices_are_of_any_integer_type(of: str) -> None:
    x = np.random.default_rng(7).standard_normal((5, 3))
    target = np.array([0, 1, 2, 1, 0])
    np.testing.assert_array_equal(cross_entropy(x, target.astype(of)), cross_entropy(x, target))


def test_halves_and_integers() -> None:
    x = np.random.default_rng(8).standard_normal((6, 5))
    target = np.array([0, 1, 2, 3, 4, 0])
    found = cross_entropy.value_and_grad(x.astype(np.float16), target, reduction="mean")
    exact = cross_entropy.value_and_grad(x.astype(np.float16).astype(float), target, reduction="mean")
    assert found.value.dtype == found.dx.dtype == np.float16
    np.testing.assert_allclose(found.dx, exact.dx, rtol=2**-11, atol=2**-25)
    assert cross_entropy(np.array([[1, 2]]), np.array([0])).dtype == np.float64


X, T = np.ones((4, 3)), np.zeros(4, int)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X, np.array([0, 1, 3, 2])), {}, ValueError, r"3 at \(2,\), and x has 3 classes, 0 to 2; .*ignore_index"),
        ((X, np.array([0, 1, -1, 2])), {"ignore_index": 5}, ValueError, r"the class -1 at \(2,\)"),
        ((X, np.zeros(3, int)), {}, ValueError, r"target of shape \(3,\) does not fit: x has samples of shape \(4,\)"),
        ((X, np.zeros((4, 2))), {}, ValueError, r"target of shape \(4, 2\) does not fit x of shape \(4, 3\)"),
        ((X, np.zeros(4, bool)), {}, TypeError, "dtype bool"),
        ((X, X), {"ignore_index": 0}, ValueError, "ignore_index goes with class indices"),
        ((X, X), {"class_weights": np.ones(3)}, ValueError, "class_weights goes with class indices"),
        ((X, T), {"axis": 2}, ValueError, "axis 2 is not one of the 2 axes"),
        ((X, T), {"axis": 1.0}, TypeError, "axis must be an integer"),
        ((X, T), {"class_weights": np.ones(4)}, ValueError, "a weight for each of 3 classes"),
        ((X, T), {"weights": np.ones(3)}, ValueError, "weights must broadcast to the samples"),
        ((X, T), {"temperature": 0.0}, ValueError, "temperature must be positive"),
        ((X, T), {"temperature": "1"}, TypeError, "temperature must be a number"),
        ((X, T), {"label_smoothing": 1.5}, ValueError, "from 0 to 1"),
        ((X, T), {"z_loss": np.inf}, ValueError, "z_loss must be finite"),
        ((X, T), {"smooth_over": "some"}, ValueError, "smooth_over"),
        ((X, T), {"reduction": "avg"}, ValueError, "reduction"),
        ((X, T), {"empty": 0}, ValueError, "empty"),
        ((X, T), {"ignore_index": 1.0}, TypeError, "ignore_index must be an integer"),
        ((np.ones((4, 0)), T), {}, ValueError, "no classes"),
        ((np.float64(1), np.int64(0)), {}, ValueError, "no axis"),
        ((X * 1j, T), {}, TypeError, "complex"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(arguments: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        cross_entropy(*arguments, **options)


def test_unknown_derivatives_are_refused() -> None:
    for wrt in ("x", ("y",)):
        with pytest.raises(ValueError, match="wrt must be"):
            cross_entropy.value_and_grad(X, T, wrt=wrt)


def test_pytorch_has_the_same_conventions() -> None:
    """All of its options at ordinary logits, values and derivatives."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(9)
    x, target = rng.standard_normal((6, 5, 7)), rng.integers(0, 5, (6, 7))
    soft = rng.random((6, 5, 7))
    soft /= soft.sum(1, keepdims=True)
    cases: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
        (target, {}, {}),
        (target, {"ignore_index": 3}, {"ignore_index": 3}),
        (target, {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
        (target, {"class_weights": np.arange(5.0)}, {"weight": torch.arange(5.0, dtype=torch.float64)}),
        (soft, {}, {}),
        (soft, {"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    ]
    for given, ours, theirs in cases:
        for reduction in ("mean", "sum"):
            tensor = torch.from_numpy(x).requires_grad_()
            loss = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(given), reduction=reduction, **theirs)
            loss.backward()
            found = cross_entropy.value_and_grad(x, given, axis=1, reduction=reduction, **ours)
            np.testing.assert_allclose(found.value, loss.item(), rtol=1e-13)
            np.testing.assert_allclose(found.dx, tensor.grad.numpy(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("length", [5, 300])
def test_memory_for_the_derivatives(length: int, dtype: Any) -> None:
    """Contiguous or not, and the logits' own."""
    x = np.random.default_rng(10).standard_normal((6, length)).astype(dtype)
    target = np.arange(6) % length
    expected = cross_entropy.value_and_grad(x, target, reduction="mean")
    for memory in (np.empty_like(x), np.empty((6, 2 * length), dtype)[:, ::2], x.copy()):
        given = memory if np.array_equal(memory, x) else x
        found = cross_entropy.value_and_grad(given, target, reduction="mean", out=memory)
        assert found.dx is memory and found.value == expected.value
        np.testing.assert_array_equal(memory, expected.dx)
    room = np.concatenate([x.ravel(), x[0, :1]])  # views of one memory, an element apart
    found = cross_entropy.value_and_grad(
        room[:-1].reshape(x.shape), target, reduction="mean", out=room[1:].reshape(x.shape)
    )
    np.testing.assert_array_equal(found.dx, expected.dx)
    for wrong, wrt in ((np.empty(3), ("x",)), (x.astype(complex), ("x",)), (np.empty_like(x), ("temperature",))):
        with pytest.raises(ValueError, match="out must be"):
            cross_entropy.value_and_grad(x, target, out=wrong, wrt=wrt)


def test_it_is_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(cross_entropy)) is cross_entropy
    assert repr(cross_entropy) == "<loss cross_entropy(x, target)>"


def test_arrays_with_a_meaning_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="arrays of NumPy, CuPy, PyTorch and JAX"):
        cross_entropy(pandas.DataFrame(X), T)


@pytest.mark.parametrize("name", ["x86-64-v2", *slow("haswell", "generic")])
def test_bits_are_those_of_other_processors(name: str) -> None:
    program = (
        "import numpy as np, zlib; from fastrobust import losses; r = np.random.default_rng(0); d = []\n"
        "for n in (10, 300):\n  for t in 'fd':\n    g = losses.cross_entropy.value_and_grad(\n"
        "      (r.standard_normal((40, n)) * 9).astype(t), r.integers(0, n, 40))\n"
        "    d += [zlib.crc32(g.value), zlib.crc32(g.dx)]\n"
        "print(d)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={**os.environ, **extra}
        ).stdout
        for extra in ({}, {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""})
    ]
    assert found[0] == found[1]
