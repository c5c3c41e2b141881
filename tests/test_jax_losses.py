"""Losses of the catalogue and of the user's own under JAX's transformations, by its kernels and by XLA's operations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy

import fastrobust as fr  # noqa: E402
from fastrobust import losses  # noqa: E402
from fastrobust.math import sqrt, where  # noqa: E402


@fr.define(params="c tau")
def asymmetric(x: Any, c: Any, tau: Any = 0.5) -> Any:
    """An asymmetric pseudo-Huber loss."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)


X = np.array([-3.0, -0.4, 0.25, 2.0], np.float32)
LABELS, SPREAD = np.array([0.0, 1.0, 0.25, 1.0], np.float32), np.array([-1.0, 0.0, 0.5, 2.0], np.float32)
SUBJECTS: dict[str, tuple[Any, tuple[Any, ...], tuple[Any, ...]]] = {  # a loss, its data, its parameters
    "residuals": (losses.huber, (X,), (np.float32(0.7),)),
    "classification": (losses.bce_logits, (X, LABELS), (np.float32(2.0), np.float32(0.1))),
    "likelihoods": (losses.gaussian_nll_log, (X, SPREAD), ()),
    "generative": (losses.min_snr_velocity, (X, SPREAD), (np.float32(5.0),)),
    "own": (asymmetric, (X,), (np.float32(0.7), np.float32(0.3))),
}


@pytest.mark.parametrize(
    "subject", [name if name in ("residuals", "classification") else pytest.param(name, marks=pytest.mark.slow)
                for name in SUBJECTS]
)  # fmt: skip
def test_under_every_transformation(subject: str, way: str) -> None:
    """NumPy's numbers, to float32's rounding; second derivatives, too."""
    loss, data, parameters = SUBJECTS[subject]
    operands, close = (*data, *parameters), {"rtol": 2e-6, "atol": 1e-7}
    expected, elements = loss.value_and_grad(*operands, reduction="sum"), loss.value_and_grad(*operands)
    curvature = loss.curvature(*operands)

    def total(*given: Any) -> Any:
        return loss(*given, reduction="sum")

    places = tuple(range(len(operands)))
    for function in (total, jax.checkpoint(total)):
        value, gradients = jax.jit(jax.value_and_grad(function, places))(*operands)
        np.testing.assert_allclose(value, expected.value, **close)
        for found, wanted in zip(gradients, expected[1:], strict=True):
            assert found.shape == wanted.shape and found.dtype == np.float32
            np.testing.assert_allclose(found, wanted, **close)

    operands = tuple(map(jnp.asarray, operands))  # NumPy's own, beside a traced array, are of two libraries
    axes = tuple(0 if place < len(data) else None for place in places)
    one_by_one = jax.jit(jax.vmap(jax.value_and_grad(loss, places), axes))
    value, gradients = one_by_one(*operands)
    np.testing.assert_allclose(value, elements.value, **close)
    for found, wanted in zip(gradients, elements[1:], strict=True):
        np.testing.assert_allclose(found, wanted, **close)

    rest = operands[1:]
    np.testing.assert_allclose(
        jax.jit(jax.jacfwd(lambda x: loss(x, *rest)))(operands[0]), np.diag(elements.dx), **close
    )
    np.testing.assert_allclose(
        jax.jit(jax.hessian(lambda x: total(x, *rest)))(operands[0]), np.diag(curvature), rtol=1e-5, atol=1e-6
    )

    def step(so_far: Any, row: Any) -> Any:
        value, slope = jax.value_and_grad(loss)(*row, *operands[len(data) :])
        return so_far + value, slope

    found, slopes = jax.jit(lambda *rows: jax.lax.scan(step, jnp.float32(0), rows))(*data)
    np.testing.assert_allclose(found, expected.value, **close)
    np.testing.assert_allclose(slopes, elements.dx, **close)


def test_parameters_are_leaves_of_a_pytree(way: str) -> None:
    """A factor in a sum of losses, and a parameter of one of them, learn with the model."""
    total = losses.mse + losses.huber.times("lam", default=0.1)
    params = {"line": jnp.float32(0.5), "loss": {"delta": jnp.float32(0.7), "lam": jnp.float32(0.3)}}
    y = np.array([1.0, 0.0, 3.0, 1.0], np.float32)

    def objective(params: Any) -> Any:
        return total(params["line"] * X - y, **params["loss"], reduction="mean")

    slopes = jax.jit(jax.grad(objective))(params)
    g = total.value_and_grad(np.float32(0.5) * X - y, delta=np.float32(0.7), lam=np.float32(0.3), reduction="mean")
    np.testing.assert_allclose(slopes["line"], (g.dx * X).sum(), rtol=2e-6)
    np.testing.assert_allclose(slopes["loss"]["delta"], g.ddelta, rtol=2e-6)
    np.testing.assert_allclose(slopes["loss"]["lam"], g.dlam, rtol=2e-6)
