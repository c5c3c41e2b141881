"""The adaptive loss of images: shapes, shared parameters, derivatives, what it costs to be of other sizes, state."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust.transforms import DCT, YUV, Wavelet

torch = pytest.importorskip("torch")

import fastrobust.torch as frt  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
CASES: list[dict[str, Any]] = [
    {},
    {"share": "band"},
    {"share": "all", "wavelet": "LeGall5/3", "levels": 2},
    {"representation": "dct", "share": "band"},
    {"representation": "pixels", "yuv": False},
    {"channels_last": True, "share": "band"},
    {"channels": 1, "density": "student_t"},
    {"density": "student_t", "share": "band", "channels": 5},
    {"representation": torch.tanh, "share": "all", "channels": 2},
]

NAMES = ["-".join(f"{name}={getattr(value, '__name__', value)}" for name, value in case.items()) for case in CASES]


def images(options: dict[str, Any], count: int = 4, dtype: Any = None) -> Any:
    """Some of that kind, 17 by 12."""
    torch.manual_seed(0)
    x = 0.3 * torch.randn(count, options.get("channels", 3), 17, 12, dtype=dtype)
    return x.movedim(1, -1).contiguous() if options.get("channels_last") else x


@pytest.mark.parametrize("options", CASES, ids=NAMES)
def test_the_loss_is_that_of_coefficients(options: dict[str, Any]) -> None:
    """By the public functions: the transform, the density with each coefficient's parameters, the determinant."""
    criterion = frt.AdaptiveImageLoss((17, 12), dtype=torch.float64, reduction="none", **options)
    x = images(options, dtype=torch.float64)
    criterion.init_from(x)
    with torch.no_grad():
        for parameter in criterion.parameters():
            parameter += torch.randn(parameter.shape, dtype=parameter.dtype)
    first = x.movedim(-1, 1) if options.get("channels_last") else x
    first = first.numpy()
    if first.shape[1] == 3 and options.get("yuv", True):
        first = YUV(axis=1)(first)
    of = options.get("representation", "wavelets")
    wavelet = Wavelet(options.get("wavelet", "CDF9/7"), options.get("levels"))
    y = {"wavelets": wavelet, "dct": DCT(), "pixels": lambda x: x}.get(of, np.tanh)(first)
    bands = wavelet.bands((17, 12)) if of == "wavelets" else [(slice(0, 17), slice(0, 12))]
    inner = criterion.adaptive
    names = ("df" if options.get("density") else "alpha", "scale")
    maps = []
    for name in names:
        values, where = getattr(inner, name).detach().numpy(), np.empty(y.shape[1:])
        if options.get("share") == "band":
            for number, band in enumerate(bands):
                where[(slice(None), *band)] = values[number][:, None, None]
        else:
            where[...] = values
        maps.append(where)
    if options.get("density"):
        expected = torch.distributions.StudentT(torch.from_numpy(maps[0]), 0.0, torch.from_numpy(maps[1]))
        each = -expected.log_prob(torch.from_numpy(y)).numpy()
    else:
        each = fr.nll(y, *maps)
    if of == "wavelets":
        each = each - wavelet.log_abs_det((17, 12)) / (17 * 12)
    each = np.moveaxis(each, 1, -1) if options.get("channels_last") else each
    np.testing.assert_allclose(criterion(x).detach(), each, rtol=1e-10, atol=1e-10)
    for reduction, total in (("sum", each.sum()), ("mean", each.mean())):
        again = frt.AdaptiveImageLoss((17, 12), dtype=torch.float64, reduction=reduction, **options)
        again.load_state_dict(criterion.state_dict())
        assert again(x).item() == pytest.approx(total, rel=1e-10)
        assert again(2 * x, x).item() == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("options", CASES, ids=NAMES)
def test_derivatives_of_two_orders(options: dict[str, Any]) -> None:
    criterion = frt.AdaptiveImageLoss((17, 12), dtype=torch.float64, **options)
    x = images(options, 1, torch.float64)[:, ..., :]
    direction = torch.randn_like(x)

    def along(t: Any) -> Any:
        return criterion(x + t * direction)

    t = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(along, t) and torch.autograd.gradgradcheck(along, t)
    small = frt.AdaptiveImageLoss((5, 4), channels=1, dtype=torch.float64, share="band")
    y = torch.randn(2, 1, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(small, y) and torch.autograd.gradgradcheck(small, y)
    criterion(x).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in criterion.parameters())


@pytest.mark.parametrize("size", [(3, 2), (5, 7), (4, 8)])
def test_odd_sizes_have_the_likelihood_of_pixels(size: tuple[int, int]) -> None:
    """With alpha = 2 pixels are normal, by a precision that the transform's matrix gives: at 0 the density is known."""
    options: dict[str, Any] = {"channels": 1, "alpha_range": (2, 2), "scale_init": 0.5, "scale_min": 0.5}
    criterion = frt.AdaptiveImageLoss(size, dtype=torch.float64, reduction="sum", **options)
    count = math.prod(size)
    matrix = np.array([Wavelet()(unit.reshape(size)).ravel() for unit in np.eye(count)]).T / 0.5
    expected = 0.5 * count * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(matrix.T @ matrix)[1]
    assert criterion(torch.zeros(1, 1, *size)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("density", ["barron", "student_t"])
@pytest.mark.parametrize("share", ["coefficient", "band", "all"])
def test_an_excluded_image_counts_for_nothing(share: str, density: str) -> None:
    """Whatever it holds, in the derivatives, too."""
    criterion = frt.AdaptiveImageLoss((17, 12), share=share, density=density)
    x = images({})
    x[0] = math.nan
    x.requires_grad_()
    wanted = [x, *criterion.parameters()]
    slopes = torch.autograd.grad(criterion(x, weights=torch.tensor([0.0, 1.0, 2.0, 1.0])), wanted)
    assert all(slope.isfinite().all() for slope in slopes) and (slopes[0][0] == 0).all()
    for wrong in (torch.ones(4, 1, 17, 12), torch.ones(3), 2.0):
        with pytest.raises(ValueError, match=r"weights must be a factor for each image, of shape \(4,\), got"):
            criterion(x, weights=wrong)


def test_halves_and_autocast_are_computed_in_single() -> None:
    x = images({}).half()
    criterion = frt.AdaptiveImageLoss((17, 12), share="band")
    assert criterion(x).dtype is torch.float16
    torch.testing.assert_close(criterion(x).float(), criterion(x.float()), rtol=1e-3, atol=1e-3)
    large = torch.full((1, 3, 256, 256), 50.0, dtype=torch.float16)  # whose low band is beyond halves
    assert frt.AdaptiveImageLoss((256, 256), share="all")(large).isfinite()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for transform in (DCT(), YUV(axis=1), Wavelet(axes=(1, 2, 3))):
            assert transform(x.float()).dtype is torch.float32
        torch.testing.assert_close(criterion(x.float()), frt.AdaptiveImageLoss((17, 12), share="band")(x.float()))


def test_representations_of_the_users_own() -> None:
    x = images({})
    given = frt.AdaptiveImageLoss((17, 12), representation=Wavelet(axes=(2, 3)), share="band")
    torch.testing.assert_close(given(x), frt.AdaptiveImageLoss((17, 12), share="band")(x))
    for wrong, message in (
        (Wavelet(axes=(-1, -2)), r"representation must have the axes \(-2, -1\) of images"),
        (Wavelet(axes=(-1,)), "representation must have the axes"),
        (Wavelet, "'pixels' or callable, got"),
    ):
        with pytest.raises(ValueError, match=message):
            frt.AdaptiveImageLoss((17, 12), representation=wrong)
    for function in (lambda x: x[..., ::2], lambda x: x.mean((2, 3), keepdim=True), lambda x: None):
        for share in ("band", "all", "coefficient"):
            with pytest.raises(ValueError, match="representation must give a tensor of the shape of residuals"):
                frt.AdaptiveImageLoss((17, 12), representation=function, share=share)(x)


def test_made_without_memory() -> None:
    """On the meta device, and filled from a state."""
    whole = frt.AdaptiveImageLoss((17, 12), share="band")
    with torch.device("meta"):
        empty = frt.AdaptiveImageLoss((17, 12), share="band")
    empty.load_state_dict(whole.state_dict(), assign=True)
    assert torch.equal(empty.adaptive.scale, whole.adaptive.scale)


def test_weights_of_images() -> None:
    x = images({})
    weights = torch.tensor([0.0, 1.0, 2.0, 0.0])
    bad = x.clone()
    bad[0] = math.nan
    for reduction in ("none", "sum", "mean"):
        criterion = frt.AdaptiveImageLoss((17, 12), share="band", reduction=reduction)
        each = frt.AdaptiveImageLoss((17, 12), share="band", reduction="none")(x)
        expected = each * weights[:, None, None, None]
        if reduction != "none":
            expected = expected.sum() / (1.0 if reduction == "sum" else weights.sum() * each[0].numel())
        torch.testing.assert_close(criterion(bad, weights=weights), expected, rtol=1e-5, atol=1e-5)


def test_scales_start_where_the_data_are() -> None:
    x = images({}, 50)
    whole = frt.AdaptiveImageLoss((17, 12)).init_from(x)
    y = whole.coefficients(x)
    torch.testing.assert_close(whole.adaptive.scale, y.square().mean(0).sqrt(), rtol=1e-4, atol=1e-6)
    bands = frt.AdaptiveImageLoss((17, 12), share="band").init_from(x)
    for number, band in enumerate(bands.transform.bands((17, 12))):
        expected = y[(slice(None), slice(None), *band)].square().mean((0, 2, 3)).sqrt()
        torch.testing.assert_close(bands.adaptive.scale[number], expected, rtol=1e-4, atol=1e-6)
    one = frt.AdaptiveImageLoss((17, 12), share="all").init_from(2 * x, x)
    torch.testing.assert_close(one.adaptive.scale.reshape(()), y.square().mean().sqrt(), rtol=1e-4, atol=1e-6)
    start = torch.tensor([1.0, 0.1, 0.01])
    features = frt.AdaptiveLoss(3, scale_init=start)
    torch.testing.assert_close(features.scale[0], start)
    features.init_from(torch.tensor([[3.0, 0.0, 1.0], [3.0, 0.0, 1.0]]))  # zeros: a thousandth of all
    torch.testing.assert_close(features.scale[0], torch.tensor([3.0, 1e-3 * math.sqrt(10 / 3), 1.0]))
    for wrong in (math.nan, math.inf, 0.0):
        with pytest.raises(ValueError, match="residuals must be finite, and not all 0"):
            features.init_from(torch.full((2, 3), wrong))
        with pytest.raises(ValueError, match="residuals must be finite, and not all 0"):
            bands.init_from(torch.full_like(x, wrong))
    with pytest.raises(ValueError, match="residuals must be finite"):
        whole.init_from(x[:0])
    state = features.state_dict()
    loaded = frt.AdaptiveLoss(3)
    loaded.load_state_dict(state)
    torch.testing.assert_close(loaded.scale, features.scale)
    assert list(frt.AdaptiveLoss(3).state_dict()) == ["latent_alpha", "latent_scale"]
    loaded.load_state_dict(frt.AdaptiveLoss(3).state_dict())  # back to a number
    torch.testing.assert_close(loaded.scale, torch.ones(1, 3))
    with torch.inference_mode():
        loaded.init_from(torch.ones(2, 3))
    loaded.load_state_dict(state)
    assert frt.AdaptiveLoss(2, scale_init=[0.1, 0.2]).scale.shape == (1, 2)
    residual = torch.randn(10, 3)
    torch.testing.assert_close(features(residual), fr.nll(residual, features.alpha, features.scale, reduction="mean"))
    for call, message in (
        (
            lambda: frt.AdaptiveLoss(3, scale_init=torch.zeros(3)),
            "scale_init must lie above scale_min, 1e-05, and be finite",
        ),
        (lambda: frt.AdaptiveLoss(3, scale_init=torch.ones(2)), r"the scales must broadcast to \(1, 3\), got \(2,\)"),
        (
            lambda: frt.AdaptiveLoss(scale_min=1.0).init_from(residual),
            "the scale is fixed by scale_init equal to scale_min",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("options", CASES[:-1], ids=NAMES[:-1])
def test_copies_and_pickles_are_of_their_own(options: dict[str, Any]) -> None:
    criterion = frt.AdaptiveImageLoss((17, 12), **options).init_from(images(options))
    x = images(options)
    for other in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
        assert torch.equal(other(x), criterion(x))
        with torch.no_grad():
            other.adaptive.latent_scale += 1.0
        assert not torch.equal(other(x), criterion(x))
    double = copy.deepcopy(criterion).to(torch.float64)
    torch.testing.assert_close(double(x.double()).float(), criterion(x), rtol=1e-4, atol=1e-4)


def test_volumes() -> None:
    criterion = frt.AdaptiveImageLoss((6, 5, 4), channels=1, share="band")
    x = torch.randn(2, 1, 6, 5, 4)
    assert criterion.adaptive.scale.shape == (1 + 2 * 7, 1)
    assert criterion(x).isfinite()
    torch.testing.assert_close(
        criterion.coefficients(x)[0, 0].numpy(), Wavelet(axes=(0, 1, 2))(x[0, 0].numpy()), rtol=0, atol=1e-5
    )


def test_the_compiler_takes_it() -> None:
    criterion = frt.AdaptiveImageLoss((16, 16), share="band")
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    for axes in ((-2, -1), (-3, -2)):  # two in one process, with lengths that vary
        wavelet, volume = Wavelet(axes=axes), torch.randn(2, 4, 8, 8)
        for dynamic in (None, True):
            found = torch.compile(wavelet, backend="aot_eager", dynamic=dynamic)(volume)
            torch.testing.assert_close(found, wavelet(volume), rtol=1e-5, atol=1e-5)
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), criterion(x))
    (found,) = torch.autograd.grad(compiled(x), x)
    torch.testing.assert_close(found, torch.autograd.grad(criterion(x), x)[0], rtol=1e-4, atol=1e-8)


def test_errors_name_the_remedy() -> None:
    criterion = frt.AdaptiveImageLoss((16, 12))
    for call, message in (
        (
            lambda: criterion(torch.zeros(2, 16, 12, 3)),
            r"\(batch, 3, 16, 12\), got \(2, 16, 12, 3\); .* channels_last=True",
        ),
        (
            lambda: frt.AdaptiveImageLoss((3, 640, 192))(torch.zeros(1, 3, 640, 192)),
            r"of images it is \(height, width\), got \(3, 640, 192\)",
        ),
        (lambda: frt.AdaptiveImageLoss((0, 4)), r"size must be \(height, width\)"),
        (lambda: frt.AdaptiveImageLoss((4, 4), channels=0), "channels must be a positive integer, got 0"),
        (lambda: frt.AdaptiveImageLoss((4, 4), 1, yuv=True), "yuv=True is for 3 channels, got 1"),
        (lambda: frt.AdaptiveImageLoss((4, 4), share="pixel"), "share must be one of 'coefficient', 'band', 'all'"),
        (lambda: frt.AdaptiveImageLoss((4, 4), density="normal"), "density must be one of 'barron', 'student_t'"),
        (lambda: frt.AdaptiveImageLoss((4, 4), representation="fft"), "'pixels' or callable, got 'fft'"),
        (lambda: frt.AdaptiveImageLoss((4, 4), levels=3), "levels must be at most 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
