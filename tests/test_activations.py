"""Activations that alpha bends: against their definition, and alike on all libraries."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest

from fastrobust.activations import elu, elu_and_grad, symmetric, symmetric_and_grad

INF = float("inf")
# Of elu at -1 and -3, from the formula.
KNOWN = {
    1.5: (-0.781233841627, -1.94877501401),
    1.0: (-0.732050807569, -1.64575131106),
    0.0: (-0.693147180560, -1.38629436112),
    -2.0: (-0.666666666667, -1.2),
    -8.0: (-0.647183641975, -1.05926513672),
    -INF: (-0.632120558829, -0.950212931632),
}
SLOPES = {1.0: -0.41658796093699, 0.0: -0.16230583333826, -2.0: -0.053483707250338}  # in alpha, at -3


def exact(y: float, alpha: float) -> tuple[Any, Any, Any]:
    """The power transform of y >= 0 and its derivatives in y and alpha < 2, in 80 digits, with m = (2 - alpha)/2."""
    with mpmath.workdps(80):
        m = (2 - mpmath.mpf(alpha)) / 2
        u = mpmath.mpf(y) / m
        log, share, k = mpmath.log1p(u), u / (1 + u), 1 - m
        e = k * log
        value = m * log if k == 0 else m / k * mpmath.expm1(e)
        moment = mpmath.mpf(1) / 2 if e == 0 else (e * mpmath.exp(e) - mpmath.expm1(e)) / e**2
        by_m = mpmath.exp(e) * (log - share) - log**2 * moment
        return value, mpmath.exp(-m * log), -by_m / 2


@pytest.mark.parametrize("alpha", KNOWN)
def test_known_values(alpha: float) -> None:
    np.testing.assert_allclose(elu(np.array([-1.0, -3.0, 0.0, 2.0]), alpha), (*KNOWN[alpha], 0, 2), rtol=1e-11)
    np.testing.assert_allclose(symmetric(np.array([1.0, -3.0]), alpha), np.abs(KNOWN[alpha]) * (1, -1), rtol=1e-11)
    if alpha in SLOPES:
        assert elu_and_grad(np.array([-3.0]), alpha).dalpha[0] == pytest.approx(SLOPES[alpha], rel=1e-9)


@pytest.mark.parametrize(("dtype", "units"), [(np.float32, 3), (np.float64, 6)])
def test_errors_in_units_of_the_last_place(dtype: Any, units: float) -> None:
    rng = np.random.default_rng()
    y = np.exp(rng.uniform(-25, 4, 150)).astype(dtype)
    alpha = np.r_[rng.uniform(-6, 1.9, 146), 1.0, 0.0, -2.0, 1.0].astype(dtype)
    for function, sign in ((elu_and_grad, -1), (symmetric_and_grad, -1), (symmetric_and_grad, 1)):
        found = function(sign * y, alpha)
        signs = (sign, 1, sign)
        for k in range(len(y)):
            truth = exact(float(y[k]), float(alpha[k]))
            bend = 2 - float(alpha[k])  # the slope goes with this power of the root, which is rounded
            for part, true, s, more in zip(found, truth, signs, (0, bend, 4 + bend), strict=True):
                unit = float(np.spacing(dtype(abs(float(true)))))
                assert abs(mpmath.mpf(float(part[k])) - s * true) <= (units + more) * unit, (y[k], alpha[k])


def test_special_values() -> None:
    x = np.array([-INF, -0.0, 0.0, 1e-300, -1e-300, INF, np.nan])
    for alpha in (2.0, 1.0, 0.0, -2.0, -INF):
        found = elu(x, alpha)
        assert found[1] == found[2] == 0 and found[3] == 1e-300
        assert found[4] == pytest.approx(-1e-300, rel=1e-15, abs=0.0)
        assert found[5] == INF and np.isnan(found[6])
        assert found[0] == (-INF if alpha >= 0 else pytest.approx(elu(np.array([-1e300]), alpha)[0]))
        np.testing.assert_array_equal(symmetric(x[1:5], alpha), x[1:5])
        for grad in (elu_and_grad(x, alpha), symmetric_and_grad(x, alpha)):
            assert (grad.dx[1:5] == 1).all() and np.isnan(grad.value[6]) and (grad.dalpha[1:5] == 0).all()
    np.testing.assert_allclose(elu(x[:6], 2.0), x[:6], rtol=5e-16)


def test_other_dtypes_and_shapes() -> None:
    assert elu(np.arange(-3, 3), 1.0).dtype == np.float64
    half = np.linspace(-3, 3, 7, dtype=np.float16)
    assert elu(half, 1.0).dtype == symmetric_and_grad(half, 1.0).dalpha.dtype == np.float16
    found = elu_and_grad(np.ones((2, 1)) * [[-1.0], [1.0]], np.array([1.0, 0.0, -2.0]))
    assert all(part.shape == (2, 3) for part in found)
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="activations take arrays of NumPy, CuPy, PyTorch and JAX"):
        elu(pandas.Series([1.0]), 1.0)


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([-3.0, -0.5, -1e-20, 0.0, 0.7, 4.0], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for function, other in ((elu, elu_and_grad), (symmetric, symmetric_and_grad)):
        expected = other(x.detach().numpy(), 0.5)
        value = function(x, alpha)
        slopes = torch.autograd.grad(value.sum(), (x, alpha))
        np.testing.assert_allclose(value.detach(), expected.value, rtol=1e-14)
        np.testing.assert_allclose(slopes[0], expected.dx, rtol=1e-13)
        np.testing.assert_allclose(slopes[1], expected.dalpha.sum(), rtol=1e-13)
        usual = torch.tensor([-2.0, 0.3, 1.7], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(function, (usual, alpha)) and torch.autograd.gradgradcheck(
            function, (usual, alpha)
        )
        half = function(x.detach().bfloat16(), 0.5)
        assert half.dtype is torch.bfloat16


def test_arrays_of_cupy(fake_cupy: Any) -> None:
    x = np.array([-3.0, -0.5, 0.0, 0.7, 4.0], np.float32)
    for other in (elu_and_grad, symmetric_and_grad):
        found = other(fake_cupy.asarray(x), 0.5)
        for one, expected in zip(found, other(x, 0.5), strict=True):
            assert type(one) is fake_cupy.ndarray
            np.testing.assert_allclose(one.get(), expected, rtol=1e-6)


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    x = np.array([-3.0, -0.5, 0.0, 0.7, 4.0], np.float32)
    for function, other in ((elu, elu_and_grad), (symmetric, symmetric_and_grad)):
        slopes = jax.jit(jax.grad(lambda x, a, function=function: function(x, a).sum(), (0, 1)))(
            jax.numpy.asarray(x), 0.5
        )
        np.testing.assert_allclose(slopes[0], other(x, 0.5).dx, rtol=1e-5)
        np.testing.assert_allclose(slopes[1], other(x, 0.5).dalpha.sum(), rtol=1e-5)


def test_the_module_takes_the_alpha_of_the_criterion() -> None:
    torch = pytest.importorskip("torch")
    frt = pytest.importorskip("fastrobust.torch")
    torch.manual_seed(0)
    criterion = frt.AdaptiveLoss()
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), frt.ShapeActivation(criterion), torch.nn.Linear(8, 1))
    assert len(list(model.parameters())) == 4
    x, y = torch.randn(50, 3), torch.randn(50, 1)
    criterion(model(x), y).backward()
    both = criterion.latent_alpha.grad.clone()
    criterion.latent_alpha.grad = None
    criterion(model(x).detach(), y).backward()
    assert not torch.equal(both, criterion.latent_alpha.grad), "the activation has its part in the derivative"
    optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()], lr=0.02)
    first = criterion(model(x), y).item()
    for _ in range(100):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    assert criterion(model(x), y).item() < first
    learned = frt.ShapeActivation(torch.nn.Parameter(torch.tensor(1.0)), "symmetric")
    assert [name for name, _ in learned.named_parameters()] == ["alpha"]
    np.testing.assert_allclose(
        frt.ShapeActivation(-2.0, "influence")(torch.tensor([1.0, 3.0])), (0.64, 0.284023668639), rtol=1e-6
    )
    for wrong, message in (("a", "alpha must be a number, a tensor or an AdaptiveLoss"),):
        with pytest.raises(TypeError, match=message):
            frt.ShapeActivation(wrong)
    with pytest.raises(ValueError, match="kind must be 'elu', 'symmetric' or 'influence', got 'relu'"):
        frt.ShapeActivation(1.0, "relu")
    with pytest.raises(ValueError, match="the criterion must have one alpha"):
        frt.ShapeActivation(frt.AdaptiveLoss(3))
