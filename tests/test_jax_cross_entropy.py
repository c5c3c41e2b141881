"""Cross-entropy on arrays of JAX: the values of NumPy's, and every transformation."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")

import numpy as np
import pytest

from fastrobust import losses

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402

cross_entropy: Any = losses.cross_entropy
RNG = np.random.default_rng(0)
X = RNG.standard_normal((4, 5, 3)).astype(np.float32)
TARGET = RNG.integers(0, 5, (4, 3))
SOFT = RNG.random((4, 5, 3)).astype(np.float32)
CASES: list[tuple[Any, dict[str, Any]]] = [
    (TARGET, {}),
    (TARGET, {"ignore_index": 2, "weights": RNG.random((4, 3)), "class_weights": np.arange(5.0)}),
    (TARGET, {"label_smoothing": 0.2, "temperature": 0.7, "z_loss": 0.02}),
    (TARGET, {"label_smoothing": 0.2, "smooth_over": "finite"}),
    (SOFT, {"label_smoothing": 0.1}),
]


@pytest.mark.parametrize(("target", "options"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_values_and_derivatives_are_those_of_numpy(target: Any, options: Any, reduction: str) -> None:
    given = {"axis": 1, "reduction": reduction, "wrt": ("x", "temperature", "label_smoothing", "z_loss"), **options}
    expected = cross_entropy.value_and_grad(X, target, **given)
    arrays = {name: jnp.asarray(v) if isinstance(v, np.ndarray) else v for name, v in given.items()}
    found = cross_entropy.value_and_grad(jnp.asarray(X), jnp.asarray(target), **arrays)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, jax.Array)
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_transformations() -> None:
    x, target = jnp.asarray(X), jnp.asarray(TARGET)

    def mean(x: Any) -> Any:
        return cross_entropy(x, target, axis=1, reduction="mean")

    expected = cross_entropy.value_and_grad(X, TARGET, axis=1, reduction="mean")
    np.testing.assert_allclose(jax.jit(mean)(x), expected.value, rtol=1e-6)
    for grad in (jax.grad(mean), jax.jit(jax.jacfwd(mean))):
        np.testing.assert_allclose(grad(x), expected.dx, rtol=1e-5, atol=1e-8)
    mapped = jax.vmap(lambda x, t: cross_entropy(x, t, axis=0))(x, target)
    np.testing.assert_allclose(mapped, cross_entropy(X, TARGET, axis=1), rtol=1e-6)
    bend = jax.hessian(lambda z: cross_entropy(z[None], jnp.array([0]))[0])(x[0, :, 0])
    p = np.exp(X[0, :, 0]) / np.exp(X[0, :, 0]).sum()
    np.testing.assert_allclose(bend, np.diag(p) - np.outer(p, p), rtol=1e-4, atol=1e-6)


def test_the_tail_of_a_right_answer_is_kept() -> None:
    x = jnp.array([[40.0, 0.0]])
    value, slope = jax.value_and_grad(lambda x: cross_entropy(x, jnp.array([0])).sum())(x)
    np.testing.assert_allclose(value, 4.24835425529159e-18, rtol=1e-6)
    np.testing.assert_allclose(slope, [[-4.24835425529159e-18, 4.24835425529159e-18]], rtol=1e-6)


def test_an_index_that_is_no_class() -> None:
    """An error where values can be looked at, NaN where not."""
    x, target = jnp.zeros((2, 3)), jnp.array([0, 3])
    with pytest.raises(ValueError, match=r"the class 3 at \(1,\)"):
        cross_entropy(x, target)
    np.testing.assert_array_equal(np.isnan(jax.jit(cross_entropy)(x, target)), [False, True])
    ignored = jax.jit(lambda x, t: cross_entropy(x, t, ignore_index=3))(x, target)
    np.testing.assert_allclose(ignored, [np.log(3), 0], rtol=1e-6)


def test_nothing_comes_from_samples_that_are_left_out() -> None:
    x, target = jnp.asarray(X).at[0, :, 0].set(jnp.nan), jnp.asarray(TARGET).at[0, 0].set(255)
    slope = jax.grad(lambda x: cross_entropy(x, target, axis=1, ignore_index=255, reduction="mean"))(x)
    assert not slope[0, :, 0].any() and np.isfinite(slope).all()


def test_errors_are_those_of_arrays_with_derivatives_too() -> None:
    for function in (cross_entropy, cross_entropy.value_and_grad):
        with pytest.raises(ValueError, match="x has no axis for the classes"):
            function(jnp.float32(1), jnp.array(0))
        with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1"):
            function(jnp.ones((2, 3)), jnp.array([0, 1]), label_smoothing=2.0)


def test_dtypes() -> None:
    target = jnp.array([0, 1])
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        assert cross_entropy(jnp.ones((2, 3), dtype), target).dtype == dtype
    assert cross_entropy(jnp.ones((2, 3), int), target).dtype == jnp.float32
    with pytest.raises(TypeError, match="dtype bool"):
        cross_entropy(jnp.ones((2, 3)), jnp.array([True, False]))


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs XLA_FLAGS=--xla_force_host_platform_device_count=4")
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_batches_on_several_devices_stay_there(reduction: str) -> None:
    """Of rows and of sums by region: each device has its part of the batch, and only sums travel."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))
    cut = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    rng = np.random.default_rng(2)
    x, other = rng.standard_normal((2, 8, 6, 5)).astype(np.float32)
    index, mask = rng.integers(0, 6, (8, 5)), (rng.random((8, 6, 5)) < 0.3).astype(np.float32)
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        (cross_entropy, index, {"axis": 1, "label_smoothing": 0.1}),
        (losses.softmax_focal, index, {"axis": 1}),
        (losses.multiclass_hinge, index, {"axis": 1}),
        (losses.kl_logits, other, {"axis": 1}),
        (losses.dice_logits, mask, {"axis": (1, 2)}),
    ]
    for loss, target, options in cases:

        def total(x: Any, target: Any, loss: Any = loss, options: Any = options) -> Any:
            return loss(x, target, reduction=reduction, **options).sum()

        function = jax.jit(jax.value_and_grad(total))
        placed = [jax.device_put(a, cut) for a in (x, target)]
        program = function.lower(*placed).compile().as_text()
        assert "all-gather" not in program and "all-to-all" not in program, loss
        value, slope = function(*placed)
        assert slope.sharding.is_equivalent_to(cut, slope.ndim), loss
        expected = loss.value_and_grad(x, target, reduction=reduction, wrt=("x",), **options)
        np.testing.assert_allclose(value, np.sum(expected.value), rtol=1e-5, err_msg=str(loss))
        np.testing.assert_allclose(slope, expected.dx, rtol=1e-4, atol=1e-6, err_msg=str(loss))
