"""The interface of ``robust_loss_pytorch``: programs written for it run after changing the import."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest

torch = pytest.importorskip("torch")

import fastrobust as fr  # noqa: E402
import fastrobust.compat.robust_loss_pytorch as robust_loss_pytorch  # noqa: E402
from fastrobust.compat.robust_loss_pytorch import adaptive, cubic_spline, distribution, general, util  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")


@pytest.mark.parametrize("keywords", [{}, {"device": "cpu"}, {"device": torch.device("cpu")}], ids=str)
def test_the_example_that_everyone_starts_from(keywords: dict[str, Any]) -> None:
    """The line with outliers of the package's notebook: 2,000 steps of Adam on model and loss."""
    rng = np.random.RandomState(1)
    scale_true, shift_true = 0.7, 0.15
    x = rng.uniform(size=1000)
    y = scale_true * x + shift_true + 0.025 * rng.normal(size=1000)
    flip = rng.uniform(size=1000) > 0.9
    y = np.where(flip, 0.05 + 0.4 * (1.0 - np.sign(rng.uniform(size=1000) - 0.5)), y)
    x, y = torch.Tensor(x), torch.Tensor(y)

    class RegressionModel(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(1, 1)

        def forward(self, x: Any) -> Any:
            return self.linear(x[:, None])[:, 0]

    torch.manual_seed(0)
    regression = RegressionModel()
    loss = robust_loss_pytorch.adaptive.AdaptiveLossFunction(num_dims=1, float_dtype=np.float32, **keywords)
    params = list(regression.parameters()) + list(loss.parameters())
    optimizer = torch.optim.Adam(params, lr=0.01)
    for _ in range(2000):
        optimizer.zero_grad()
        torch.mean(loss.lossfun((y - regression(x))[:, None])).backward()
        optimizer.step()
    assert regression.linear.weight.item() == pytest.approx(0.7, abs=0.02)
    assert regression.linear.bias.item() == pytest.approx(0.15, abs=0.01)
    assert loss.alpha()[0, 0].data < 0.1 and loss.scale()[0, 0].data < 0.05


def test_signatures() -> None:
    x = torch.randn(5, 2)
    assert torch.equal(
        general.lossfun(x, torch.Tensor([1.0]), torch.Tensor([0.5])), fr.loss(x, torch.Tensor([1.0]), 0.5)
    )
    assert torch.equal(general.lossfun(x, alpha=1, scale=2, approximate=True, epsilon=1e-6), fr.loss(x, 1, 2))
    assert robust_loss_pytorch.lossfun is general.lossfun
    module = adaptive.AdaptiveLossFunction(2, torch.float64, alpha_lo=0, alpha_hi=3, alpha_init=0.5, scale_init=0.3)
    assert module.alpha().shape == module.scale().shape == (1, 2)
    assert [n for n, _ in module.named_parameters()] == ["latent_alpha", "latent_scale"]
    assert torch.equal(module.lossfun(x.double()), fr.nll(x.double(), module.alpha()[0], module.scale()[0]))
    assert torch.equal(module(x.double()), module.lossfun(x=x.double()))
    fixed = adaptive.AdaptiveLossFunction(2, np.float32, alpha_lo=2, alpha_hi=2, scale_lo=1, scale_init=1)
    assert list(fixed.parameters()) == [] and fixed.lossfun(torch.zeros(1, 2))[0, 0].item() == pytest.approx(
        0.5 * math.log(2 * math.pi)
    )
    student = adaptive.StudentsTLossFunction(2, np.float32)
    assert student.df().shape == student.scale().shape == (1, 2)
    assert torch.equal(student.lossfun(x), util.students_t_nll(x, student.df(), student.scale()))
    for bad in (
        lambda: adaptive.AdaptiveLossFunction(2, np.float32, alpha_lo=-1),
        lambda: adaptive.AdaptiveLossFunction(2, np.float32, alpha_init=5.0),
        lambda: adaptive.AdaptiveLossFunction(2, np.float32, scale_lo=2.0),
        lambda: adaptive.AdaptiveLossFunction(2, np.int32),
        lambda: module.lossfun(torch.zeros(3, 5)),
        lambda: util.affine_sigmoid(0.0, 1.0, 1.0),
        lambda: util.inv_affine_softplus(2.0, 1.0, 0.0),
        lambda: distribution.analytical_base_partition_function(-1, 2),
        lambda: cubic_spline.interpolate1d(x, x[0], x[:, 0]),
    ):
        with pytest.raises(ValueError, match="must"):
            bad()


def test_distribution() -> None:
    dist = distribution.Distribution()
    alpha = torch.linspace(0, 5, 11, dtype=torch.float64)
    assert torch.equal(dist.log_base_partition_function(alpha), fr.log_partition(alpha))
    assert torch.equal(dist.nllfun(alpha, alpha, torch.tensor(2.0)), fr.nll(alpha, alpha, 2.0))
    for numer, denom in ((0, 1), (1, 1), (1, 3), (7, 2)):
        with mpmath.workdps(25):
            true = float(mpmath.exp(oracle.log_partition(numer / denom)))
        assert distribution.analytical_base_partition_function(numer, denom) == pytest.approx(true, rel=1e-14)
    curve = distribution.partition_spline_curve(torch.linspace(0, 20, 401, dtype=torch.float64))
    assert torch.all(curve.diff() > 0)
    back = distribution.inv_partition_spline_curve(curve)
    torch.testing.assert_close(back, torch.linspace(0, 20, 401, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    points = torch.tensor([0.5, 4.0, 7.0, 9.0], dtype=torch.float64, requires_grad=True)  # alpha = 2 is at 4
    assert torch.autograd.gradcheck(distribution.inv_partition_spline_curve, points)
    assert dist.draw_samples(torch.tensor([1, 2]), torch.tensor(1)).dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.0, 5.0])
def test_samples_have_the_density(alpha: float) -> None:
    """Kolmogorov and Smirnov, against the integral of the density."""
    from scipy import integrate, stats

    torch.manual_seed(3)
    samples = distribution.Distribution().draw_samples(
        torch.full((20000,), alpha, dtype=torch.float64), torch.tensor(0.5)
    )
    grid = 0.5 * np.sinh(np.linspace(-14, 14, 40001))
    cdf = integrate.cumulative_trapezoid(np.exp(-fr.nll(grid, alpha, 0.5)), grid, initial=0)
    assert cdf[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(samples.numpy(), lambda v: np.interp(v, grid, cdf)).pvalue > 1e-3
    with pytest.raises(ValueError, match="alpha"):
        distribution.Distribution().draw_samples(torch.tensor(-1.0), torch.tensor(1.0))


def test_cubic_spline() -> None:
    """A cubic is reproduced inside; beyond the ends it is a line; SciPy agrees."""
    from scipy.interpolate import CubicHermiteSpline

    knots = np.arange(6.0)
    values, tangents = np.random.default_rng(0).standard_normal((2, 6))
    x = torch.linspace(-3, 8, 111, dtype=torch.float64, requires_grad=True)
    found = cubic_spline.interpolate1d(x, torch.tensor(values), torch.tensor(tangents))
    inside = (x >= 0) & (x <= 5)
    expected = CubicHermiteSpline(knots, values, tangents)(x.detach().numpy())
    np.testing.assert_allclose(found[inside].detach().numpy(), expected[inside.numpy()], atol=1e-12)
    np.testing.assert_allclose(found[x < 0].detach().numpy(), values[0] + tangents[0] * x[x < 0].detach().numpy())
    np.testing.assert_allclose(found[x > 5].detach().numpy(), values[5] + tangents[5] * (x[x > 5].detach().numpy() - 5))
    ends = torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
    level = cubic_spline.interpolate1d(ends, torch.tensor([1.0, 2.0]).double(), torch.zeros(2).double())
    assert level.tolist() == [1.0, 2.0]
    assert torch.autograd.gradcheck(
        lambda x: cubic_spline.interpolate1d(x, torch.tensor(values), torch.tensor(tangents)), x
    )


def test_util() -> None:
    from scipy import fft, stats

    y = torch.tensor([1e-4, 0.3, 0.9], dtype=torch.float64)
    for forward, inverse in (
        (lambda v: util.affine_sigmoid(v, -1, 2), lambda v: util.inv_affine_sigmoid(v, -1, 2)),
        (lambda v: util.affine_softplus(v, 1e-5, 0.5), lambda v: util.inv_affine_softplus(v, 1e-5, 0.5)),
        (torch.nn.functional.softplus, util.inv_softplus),
        (torch.sigmoid, util.logit),
    ):
        torch.testing.assert_close(forward(inverse(y)), y, rtol=1e-12, atol=0)
    assert util.affine_softplus(0.0, 1e-5, 0.5).item() == pytest.approx(0.5)
    for function in (util.log_safe, util.log1p_safe, util.exp_safe, util.expm1_safe):
        assert torch.isfinite(function(torch.tensor([1.0, 3e38, np.inf]))).all()
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(util.students_t_nll(torch.tensor(x), 3.0, 0.5), -stats.t.logpdf(x, 3.0, scale=0.5))
    rgb = torch.rand(4, 5, 3, dtype=torch.float64)
    torch.testing.assert_close(util.syuv_to_rgb(util.rgb_to_syuv(rgb)), rgb)
    half = util.rgb_to_syuv(rgb.half())
    assert half.dtype == util.syuv_to_rgb(half).dtype == torch.float16
    pixels = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
    torch.testing.assert_close(util.rgb_to_syuv(pixels), util.rgb_to_syuv(pixels.float()))
    jacobian = util.compute_jacobian(util.rgb_to_syuv, rgb[0, 0])
    assert abs(np.linalg.det(jacobian)) == pytest.approx(1, abs=1e-6), "volumes are kept"
    image = torch.rand(2, 6, 5, dtype=torch.float64)
    np.testing.assert_allclose(util.image_dct(image), fft.dctn(image.numpy(), axes=(1, 2), norm="ortho"), atol=1e-12)
    torch.testing.assert_close(util.image_idct(util.image_dct(image)), image)
