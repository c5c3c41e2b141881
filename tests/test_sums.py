"""Losses of sums of the user's own: formulas with `sum` and `mean` in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import exp, mean, sqrt, sum

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
RNG = np.random.default_rng(3)
X, TARGET = RNG.standard_normal((4, 50)), RNG.standard_normal((4, 50))


@fr.define(params="power")
def relative(x: Any, target: Any, power: Any = 2.0) -> Any:
    """A sum of powers over the size of the target."""
    return sum(abs(x - target) ** power) / sum(target**2)


@fr.define
def correlation(x: Any, target: Any) -> Any:
    """1 less the cosine of two rows."""
    return 1 - sum(x * target) / sqrt(sum(x * x) * sum(target * target))


@fr.define(params="t")
def tilted(x: Any, t: Any = 1.0) -> Any:
    """A tilted mean, as in tilted empirical risk minimization."""
    return mean(x * exp(t * x)) / mean(exp(t * x))


def differences(function: Any, x: Any, step: float = 1e-6) -> Any:
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        sides = []
        for side in (step, -step):
            moved = x.copy()
            moved[place] += side
            sides.append(function(moved))
        found[place] = (sides[0] - sides[1]) / (2 * step)
    return found


def test_values() -> None:
    off = abs(X - TARGET)
    np.testing.assert_allclose(relative(X, TARGET, 3.0), (off**3).sum() / (TARGET**2).sum(), rtol=1e-14)
    expected = (off**1.5).sum(1) / (TARGET**2).sum(1)
    np.testing.assert_allclose(relative(X, TARGET, power=1.5, axis=1), expected, rtol=1e-14)
    np.testing.assert_allclose(relative(X, TARGET, 1.5, axis=-1, reduction="mean"), expected.mean(), rtol=1e-14)
    cosines = [np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(X, TARGET, strict=True)]
    np.testing.assert_allclose(correlation(X, TARGET, axis=1), 1 - np.array(cosines), rtol=1e-13)
    weights = np.exp(0.7 * X)
    np.testing.assert_allclose(tilted(X, 0.7, axis=0), (X * weights).sum(0) / weights.sum(0), rtol=1e-13)


@pytest.mark.parametrize("loss", [relative, correlation], ids=["relative", "correlation"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_derivatives_in_the_data(loss: Any, axis: Any) -> None:
    found = loss.value_and_grad(X, TARGET, axis=axis, reduction="sum")
    for name, at in (("dx", X), ("dtarget", TARGET)):

        def moved(value: Any, name: str = name) -> Any:
            pair = (value, TARGET) if name == "dx" else (X, value)
            return loss(*pair, axis=axis, reduction="sum")

        np.testing.assert_allclose(getattr(found, name), differences(moved, at), rtol=1e-5, atol=1e-8)


def test_derivatives_in_a_parameter_that_stands_in_terms_and_beside_them() -> None:
    @fr.define(params="a")
    def both(x: Any, a: Any) -> Any:
        return a * a * sum(x**2 + a * x) / (1 + sum(x**2))

    found = both.value_and_grad(X, 0.3, axis=1)
    squares, plain = (X**2).sum(1), X.sum(1)
    np.testing.assert_allclose(found.da, (0.6 * (squares + 0.3 * plain) + 0.09 * plain) / (1 + squares), rtol=1e-12)
    assert found.dx.shape == X.shape
    total = both.value_and_grad(X, 0.3, axis=1, reduction="sum")
    np.testing.assert_allclose(total.da, found.da.sum(), rtol=1e-13)


def test_second_derivatives_of_tensors_and_arrays_of_jax() -> None:
    torch = pytest.importorskip("torch")
    x, target = (torch.tensor(a[:2, :3], requires_grad=True) for a in (X, TARGET))
    power = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    for axis in (None, 1):
        assert torch.autograd.gradgradcheck(lambda *a: relative(*a, axis=axis), (x, target, power))  # noqa: B023
    compiled = torch.compile(lambda x, t: relative(x, t, axis=1, reduction="mean"), fullgraph=True)
    value = compiled(x, target)
    expected = relative.value_and_grad(X[:2, :3], TARGET[:2, :3], axis=1, reduction="mean")
    np.testing.assert_allclose(value.detach(), expected.value, rtol=1e-13)
    for found, true in zip(torch.autograd.grad(value, (x, target)), (expected.dx, expected.dtarget), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-11)
    jax = pytest.importorskip("jax")
    given = jax.numpy.asarray(X[:2, :3], "float32"), jax.numpy.asarray(TARGET[:2, :3], "float32")
    bend = jax.hessian(lambda x: correlation(x, given[1], axis=1).sum())(given[0])
    expected = torch.autograd.functional.hessian(lambda x: correlation(x, target.detach(), axis=1).sum(), x)
    np.testing.assert_allclose(bend, expected, rtol=1e-3, atol=1e-5)


def test_with_a_loss_of_elements() -> None:
    """Of that the mean counts, in one pass."""
    total = correlation + 0.1 * losses.huber
    huber = losses.huber(X, 1.0, reduction="mean")
    with pytest.raises(TypeError, match="does not take gamma: its options are axis, reduction, weights"):
        total(X, TARGET, gamma=1.0)
    np.testing.assert_allclose(total(X, TARGET, delta=1.0), correlation(X, TARGET) + 0.1 * huber, rtol=1e-13)


def test_what_cannot_be_a_loss_of_sums_is_refused() -> None:
    with pytest.raises(TypeError, match="has x outside of its sums"):

        @fr.define
        def outside(x: Any) -> Any:
            return x / sum(x)

    with pytest.raises(TypeError, match="sum of sums"):

        @fr.define
        def nested(x: Any) -> Any:
            return sum(x - mean(x))

    with pytest.raises(TypeError, match="dx cannot be given"):

        @fr.define(dx=lambda x: 1.0)
        def by_hand(x: Any) -> Any:
            return sum(x)

    with pytest.raises(ValueError, match="axis"):

        @fr.define(params="axis")
        def taken(x: Any, axis: Any) -> Any:
            return sum(x) * axis


def test_numpys_own_names_and_arrays() -> None:
    @fr.define
    def by_numpy(x: Any) -> Any:
        return np.sum(np.square(x)) / np.mean(np.exp(x))

    np.testing.assert_allclose(by_numpy(X), (X**2).sum() / np.exp(X).mean(), rtol=1e-14)
    assert sum(X) == X.sum()
    assert mean(X) == X.mean()


def test_empty_and_integers() -> None:
    assert np.isnan(relative(np.zeros(0), np.zeros(0)))
    assert relative(np.zeros((3, 0)), np.zeros((3, 0)), axis=1).shape == (3,)
    assert relative(np.zeros((0, 3)), np.zeros((0, 3)), axis=1).shape == (0,)
    assert relative(np.array([1, 2, 3]), np.array([1, 2, 4])) == 1 / 21
    assert relative([1.0, 2.0], [1.0, 4.0]) == 4 / 17
    assert relative(np.float32([1, 2]), np.float32([1, 4])).dtype == np.float32


def test_accuracy_is_of_terms_and_of_sums() -> None:
    found = correlation.accuracy(points=20)
    told = {row.output for row in found}
    assert {"terms: value", "terms: dx", "of sums: value", "of sums: dsum_0"} <= told
    assert max(row.ulp for row in found) <= 8  # of points that "auto" has not tried
    assert "of sums: value" in str(found)
    assert np.isfinite(losses.uncertainty_weighted.accuracy(points=20)[0].ulp)


def test_memory_for_derivatives_in_the_first_of_the_data() -> None:
    rng = np.random.default_rng(3)
    x, target = rng.standard_normal((3, 4, 50)).astype(np.float32), rng.random((3, 4, 50)) < 0.3
    dice: Any = losses.dice_logits
    for dtype in (np.float32, np.float16):
        for options in ({}, {"wrt": ("x",)}, {"wrt": ("x",), "softmax_axis": 1}, {"weights": target + 0.5}):
            memory = np.zeros(x.shape, dtype)
            expected = dice.value_and_grad(x.astype(dtype), target, axis=2, **options)
            found = dice.value_and_grad(x.astype(dtype), target, axis=2, out=memory, **options)
            assert found.dx is memory and (memory == expected.dx).all() and memory.any()
    in_place = x.copy()
    dice.value_and_grad(in_place, target, axis=2, wrt=("x",), out=in_place)
    np.testing.assert_array_equal(in_place, dice.value_and_grad(x, target, axis=2).dx)
    for wrong in (np.zeros((3, 4), np.float32), [1.0]):
        for options in ({}, {"softmax_axis": 1}):
            with pytest.raises(ValueError, match=r"out for dx must be an array of shape \(3, 4, 50\), got"):
                dice.value_and_grad(x, target, axis=2, wrt=("x",), out=wrong, **options)
    for dtype, options in ((np.float16, {}), (np.float32, {"softmax_axis": 1})):
        with pytest.raises(TypeError, match="out of dtype int64 does not take"):
            dice.value_and_grad(x.astype(dtype), target, wrt=("x",), out=np.zeros(x.shape, int), **options)
        fixed = np.broadcast_to(dtype(0), x.shape)
        with pytest.raises(ValueError, match="out for dx is read-only"):
            dice.value_and_grad(x.astype(dtype), target, wrt=("x",), out=fixed, **options)
    with pytest.raises(ValueError, match="out is memory for dx, and wrt has no x"):
        dice.value_and_grad(x, target, wrt=("target",), out=x)


def test_memory_for_derivatives_on_tensors() -> None:
    torch = pytest.importorskip("torch")
    x, target = torch.randn(3, 40), torch.rand(3, 40) < 0.3
    dice: Any = losses.dice_logits
    for dtype in (torch.float32, torch.bfloat16):
        memory = torch.zeros(3, 40, dtype=dtype)
        found = dice.value_and_grad(x.to(dtype), target, axis=1, wrt=("x",), out=memory)
        assert found.dx is memory and torch.equal(memory, dice.value_and_grad(x.to(dtype), target, axis=1).dx)
