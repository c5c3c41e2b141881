"""Barron's loss at numbers alpha with a name: closed forms in float32, and the general formula elsewhere."""

from __future__ import annotations

import math
import secrets
from typing import Any

import attack
import numpy as np
import oracle
import points
import pytest

import fastrobust as fr
from fastrobust._backends import numpy as numpy_backend
from fastrobust._shapes import SHAPES
from fastrobust.kernels.loops import compiled
from fastrobust.kernels.losses.catalogue import LOSS, named

ALPHAS = tuple(SHAPES)
FUNCTIONS = ("loss", "influence", "weight", "curvature", "dscale")
ENDS = np.array([0.0, -0.0, 1e-45, -1e-38, 1.0, 1e19, -3e38, np.inf, -np.inf, np.nan], np.float32)


def found(function: str, x: Any, alpha: Any, scale: Any, **options: Any) -> Any:
    """A function of the loss, with a derivative in alpha nowhere."""
    if function == "dscale":
        return fr.loss_and_grad(x, alpha, scale, wrt=("scale",), **options).dscale
    return getattr(fr, function)(x, alpha, scale, **options)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_closed_forms_are_right_to_the_last_place(function: str, alpha: float) -> None:
    """At fresh points of all sizes; of the curvature, which has zeros, the unit is that of the weight."""
    seed = secrets.randbits(32)
    x, _, scale = points.points(np.float32, 250, seed)
    values = found(function, x, alpha, scale)
    assert values.dtype == np.float32
    for value, at, c in zip(values, x, scale, strict=True):
        truth, at_least = attack.truth_of(function, float(at), alpha, float(c), "float32")
        error = oracle.ulp_error(float(value), truth, "float32", at_least)
        assert error <= 0.51, (seed, float(at).hex(), float(c).hex())


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("scale", [1.0, 0.3, 1e-30, 1e30, 1e-40, math.inf])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_ends_are_those_of_the_general_formula(function: str, scale: float, alpha: float) -> None:
    """With alpha as an array, which goes through that."""
    x = np.append(ENDS, np.random.default_rng(2).normal(size=300).astype(np.float32) * 10)
    one, other = (found(function, x, a, scale) for a in (alpha, np.float32([alpha])))
    with np.errstate(all="ignore"):
        unit = np.spacing(np.abs(other if function != "curvature" else fr.weight(x, alpha, scale)))
        same = (one == other) | (np.isnan(one) & np.isnan(other)) | (np.abs(one - other) <= unit)
    assert same.all(), x[~same]
    if function != "curvature":
        some = ~np.isnan(other)
        np.testing.assert_array_equal(np.signbit(one)[some], np.signbit(other)[some])


@pytest.mark.parametrize("alpha", ALPHAS)
def test_who_wants_the_derivative_in_alpha_gets_it(alpha: float) -> None:
    x = np.linspace(-3, 3, 7, dtype=np.float32)
    for reduction in ("none", "mean"):
        one, other = (fr.loss_and_grad(x, a, 1.0, reduction=reduction) for a in (alpha, np.float32(alpha)))
        for part, expected in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, expected)
        assert np.isfinite(one.dalpha).all()
        assert fr.loss_and_grad(x, alpha, 1.0, wrt=("x",), reduction=reduction).dalpha is None


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("shape", [(5,), (3, 1000), (40, 30_000)])
def test_sums_and_layouts_agree(shape: tuple[int, ...], alpha: float) -> None:
    """Elements by numbers, columns and elements of c have the same bits, and sums are of those."""
    x = np.random.default_rng(7).normal(size=shape).astype(np.float32) * 3
    whole = fr.loss_and_grad(x, alpha, 0.7, wrt=("x", "scale"))
    for scale in (np.full(shape[-1:], 0.7, np.float32), np.full(shape, 0.7, np.float32)):
        for part, expected in zip(fr.loss_and_grad(x, alpha, scale, wrt=("x", "scale")), whole, strict=True):
            if expected is not None:
                np.testing.assert_array_equal(part, expected)
        total = fr.loss_and_grad(x, alpha, scale, wrt=("x", "scale"), reduction="sum")
        np.testing.assert_allclose(total.value, whole.value.sum(dtype=np.float64), rtol=1e-6)
        np.testing.assert_allclose(total.dscale.sum(dtype=np.float64), whole.dscale.sum(dtype=np.float64), rtol=1e-5)
        np.testing.assert_array_equal(total.dx, whole.dx)
    total = fr.loss_and_grad(x, alpha, 0.7, wrt=("x", "scale"), reduction="sum")
    np.testing.assert_allclose(total.dscale, whole.dscale.sum(dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("alpha", [*ALPHAS, 2, 1, 0, -2])
def test_numbers_have_closed_forms_and_arrays_have_not(alpha: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.float32([0.5])
    chosen: list[Any] = []

    def evaluate(definition: Any, *rest: Any) -> Any:
        chosen.append(definition)

    monkeypatch.setattr(numpy_backend, "evaluate", evaluate)
    fr.loss(x, alpha, 1.0)
    assert chosen.pop() is named(SHAPES[float(alpha)]) is not LOSS
    for other in (np.array(alpha), 1.5, math.nan):
        fr.loss(x, other, 1.0)
        assert chosen.pop() is LOSS


@pytest.mark.parametrize("alpha", ALPHAS)
def test_other_kernels_are_those_of_the_general_formula(alpha: float) -> None:
    """So float64 has the same bits by a number as by an array, and nothing is compiled twice."""
    closed, what = named(SHAPES[alpha]), (("value",), np.float64, "shared")
    assert compiled.kernel("elementwise", closed, *what) == compiled.kernel("elementwise", LOSS, *what)
    assert closed.in_words is LOSS.in_words
    x = np.random.default_rng(1).normal(size=50)
    np.testing.assert_array_equal(fr.loss(x, alpha, 0.3), fr.loss(x, np.array([alpha]), 0.3))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_pytorch_and_jax_take_them_too(alpha: float) -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    import fastrobust.jax as frj
    import fastrobust.torch as frt

    x = np.random.default_rng(3).normal(size=1000).astype(np.float32) * 4
    expected = fr.loss_and_grad(x, alpha, 0.7, wrt=("x",))
    tensor = torch.tensor(x, requires_grad=True)
    value = frt.loss(tensor, alpha, 0.7)
    (slope,) = torch.autograd.grad(value.sum(), tensor, create_graph=True)
    np.testing.assert_array_equal(value.detach(), expected.value)
    np.testing.assert_array_equal(slope.detach(), expected.dx)
    (twice,) = torch.autograd.grad(slope.sum(), tensor)
    np.testing.assert_allclose(twice, fr.curvature(x, alpha, 0.7), rtol=2e-6, atol=1e-7)
    value, slope = jax.vmap(jax.value_and_grad(lambda x: frj.loss(x, alpha, 0.7)))(x)
    np.testing.assert_array_equal(value, expected.value)
    np.testing.assert_allclose(slope, expected.dx, rtol=0, atol=2e-38)  # XLA flushes what is smaller
    twice = jax.vmap(jax.grad(jax.grad(lambda x: frj.loss(x, alpha, 0.7))))(x)
    np.testing.assert_allclose(twice, fr.curvature(x, alpha, 0.7), rtol=2e-6, atol=1e-7)
