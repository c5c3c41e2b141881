"""The focal loss of several classes: against mpmath, and on all libraries."""

from __future__ import annotations

import pickle
import secrets
from typing import Any

import numpy as np
import oracle
import oracle_rows
import pytest

from fastrobust import losses

softmax_focal: Any = losses.softmax_focal
mp = oracle_rows.mp


def test_reference_numbers() -> None:
    found = softmax_focal.value_and_grad(np.array([[1.0, 2, 3]]), np.array([0]), 0.5)
    np.testing.assert_allclose(found.value, [2.29667112957232], rtol=3e-15)
    np.testing.assert_allclose(found.dx, [[-0.971426235327891, 0.261256752485186, 0.710169482842705]], rtol=3e-15)
    np.testing.assert_allclose(found.dgamma, [-0.216677777056682], rtol=3e-15)
    sure = softmax_focal.value_and_grad(np.array([[20.0, 0]]), np.array([0]), 0.5)
    np.testing.assert_allclose(sure.dx, [[-1.40364344243291e-13, 1.40364344243291e-13]], rtol=1e-8)
    np.testing.assert_allclose(
        softmax_focal(np.array([[20.0, 0]]), np.array([0]), 2.0), [8.75651075564802e-27], rtol=1e-8
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_errors_are_within_a_few_units(gamma: float, dtype: Any) -> None:
    """Value, derivatives in all logits and in gamma, at fresh logits; half of the targets are the likeliest class."""
    seed = secrets.randbits(32)
    rng, bound = np.random.default_rng(seed), {np.float32: 1, np.float64: max(8, 3 * (1 + gamma))}[dtype]
    x = (rng.standard_normal((12, 5)) * 10.0 ** rng.uniform(-3, 1.3, (12, 1))).astype(dtype)
    target = np.where(rng.random(12) < 0.5, x.argmax(1), rng.integers(0, 5, 12))
    found = softmax_focal.value_and_grad(x, target, gamma)
    for k in range(12):

        def loss(arguments: Any, t: int = int(target[k])) -> Any:
            return oracle_rows.softmax_focal(arguments[:-1], t, arguments[-1])

        at = [*map(float, x[k]), gamma + 0 * mp.mpf(1)]
        true = [loss(at), *oracle_rows.slopes(loss, at)]
        got = [found.value[k], *found.dx[k], found.dgamma[k]]
        errors = [oracle.ulp_error(float(a), b, dtype.__name__) for a, b in zip(got, true, strict=True)]
        errors[-1] -= float(losses.cross_entropy(x[k : k + 1].astype(float), target[k : k + 1])[0])  # see its docstring
        assert max(errors) <= bound, (seed, k, np.argmax(errors))


def test_gamma_0_is_the_cross_entropy_and_no_nan_comes_from_certainty() -> None:
    x = np.array([[1000.0, 0, 0], [0, 1000.0, 0], [0, -np.inf, 0], [1, 2, 3]])
    target = np.array([0, 0, 1, 2])
    plain = losses.cross_entropy.value_and_grad(x, target)
    for gamma in (0.0, 0.3, 2.0):
        found = softmax_focal.value_and_grad(x, target, gamma)
        assert not np.isnan(found.value).any() and not np.isnan(found.dx).any()
        assert found.value[0] == 0 and found.value[1] == 1000 and np.isinf(found.value[2])
        np.testing.assert_array_equal(found.dx[1:3], plain.dx[1:3])
        if gamma == 0:
            np.testing.assert_allclose(found.value, plain.value, rtol=1e-15)
            np.testing.assert_allclose(found.dx, plain.dx, rtol=1e-15)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"ignore_index": 2},
    {"weights": np.array([1.0, 0.0, 2.0, 0.5]), "class_weights": np.array([1.0, 2.0, 0.5])},
]


@pytest.mark.parametrize("options", OPTIONS, ids=range(len(OPTIONS)))
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_all_libraries_agree(reduction: str, options: dict[str, Any]) -> None:
    torch, jnp = pytest.importorskip("torch"), pytest.importorskip("jax.numpy")
    import jax

    x = np.random.default_rng(1).standard_normal((4, 3))
    if "weights" in options:
        x[1] = np.nan  # which counts nothing
    target = np.array([0, 1, 2, 2])
    expected = softmax_focal.value_and_grad(x, target, 1.5, reduction=reduction, **options)
    counted = np.ones(4) if reduction == "none" else 1.0
    tensor, gamma = torch.from_numpy(x).requires_grad_(), torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    given = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    value = softmax_focal(tensor, torch.from_numpy(target), gamma, reduction=reduction, **given)
    dx, dgamma = torch.autograd.grad(value, (tensor, gamma), torch.as_tensor(counted).expand(value.shape))
    np.testing.assert_allclose(value.detach(), expected.value, rtol=1e-13)
    np.testing.assert_allclose(dx, expected.dx, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(dgamma, np.sum(expected.dgamma), rtol=1e-12)

    def total(x: Any, gamma: Any) -> Any:
        return softmax_focal(x, jnp.asarray(target), gamma, reduction=reduction, **options).sum()

    slopes = jax.grad(total, (0, 1))(jnp.asarray(x, jnp.float32), jnp.float32(1.5))
    np.testing.assert_allclose(slopes[0], expected.dx, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(slopes[1], np.sum(expected.dgamma), rtol=2e-5)


def test_second_derivatives_on_tensors() -> None:
    torch = pytest.importorskip("torch")
    x, gamma = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.tensor(1.5, dtype=torch.float64)
    gamma.requires_grad_()
    target = torch.tensor([0, 3, 1])

    def loss(x: Any, gamma: Any) -> Any:
        return softmax_focal(x, target, gamma, reduction="mean")

    assert torch.autograd.gradcheck(loss, (x, gamma)) and torch.autograd.gradgradcheck(loss, (x, gamma))
    half = softmax_focal(x.bfloat16(), target, reduction="mean")
    assert half.dtype is torch.bfloat16


def test_errors() -> None:
    x, target = np.ones((2, 3)), np.zeros(2, int)
    for arguments, options, error, message in (
        ((x, target, -1.0), {}, ValueError, "gamma must be >= 0"),
        ((x, target, "2"), {}, TypeError, "gamma must be a number"),
        ((x, target, np.ones(2)), {}, TypeError, "gamma must be a number"),
        ((x, x), {}, TypeError, "class indices"),
        ((x, target + 3), {}, ValueError, "the class 3"),
        ((x, target), {"reduction": "avg"}, ValueError, "reduction"),
    ):
        with pytest.raises(error, match=message):
            softmax_focal(*arguments, **options)
    with pytest.raises(ValueError, match="wrt must be"):
        softmax_focal.value_and_grad(x, target, wrt=("y",))
    assert pickle.loads(pickle.dumps(softmax_focal)) is softmax_focal
    assert repr(softmax_focal) == "<loss softmax_focal(x, target, gamma)>"
