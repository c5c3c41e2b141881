"""The drop-in's wavelets and loss of images, by what the tests of Barron's package check."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastrobust.compat import robust_loss_pytorch  # noqa: E402
from fastrobust.compat.robust_loss_pytorch import (  # noqa: E402
    adaptive,
    cubic_spline,
    distribution,
    util,
    wavelet,
)
from fastrobust.transforms import DCT, Wavelet  # noqa: E402

KINDS = wavelet.generate_filters()
SIZES = [(3, 83, 71), (1, 16, 16), (2, 1, 9), (1, 7, 2), (0, 8, 8)]


def image(shape: Any, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_filters_keep_constants_and_each_other(kind: str) -> None:
    """Lows of analysis and synthesis are dual, highs vanish on constants."""
    filters = wavelet.generate_filters(kind)
    assert filters.analysis_lo.sum() == pytest.approx(2**0.5, rel=1e-10)
    assert filters.synthesis_lo.sum() == pytest.approx(2**0.5, rel=1e-10)
    assert abs(filters.analysis_hi.sum()) < 1e-10 and abs(filters.synthesis_hi.sum()) < 1e-10
    for one, other in ((filters.analysis_lo, filters.synthesis_lo), (filters.analysis_hi, filters.synthesis_hi)):
        product = np.convolve(one, other)
        assert product[len(product) // 2] == pytest.approx(1.0, abs=1e-9)
        np.testing.assert_allclose(product[len(product) // 2 + 2 :: 2], 0.0, atol=1e-9)


@pytest.mark.parametrize("below", [0, 1, 5, 23])
@pytest.mark.parametrize("above", [0, 2, 17])
def test_padding_reflects_as_often_as_needed(below: int, above: int) -> None:
    for length, axis in ((1, 1), (2, 1), (5, 2)):
        shape = [2, 3, 4]
        shape[axis] = length
        x = image(shape)
        widths = [(0, 0)] * 3
        widths[axis] = (below, above)
        expected = np.pad(x.numpy(), widths, mode="reflect" if length > 1 else "edge")
        np.testing.assert_array_equal(wavelet.pad_reflecting(x, below, above, axis), expected)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("direction", [0, 1])
def test_downsampling_filters_and_decimates(length: int, shift: int, direction: int) -> None:
    x, f = image((2, 9, 8)), np.random.default_rng(1).standard_normal(length)
    padded = wavelet.pad_reflecting(x, (length - 1) // 2, length // 2, 1 + direction).numpy()
    lines = np.moveaxis(padded, 1 + direction, -1)
    expected = np.apply_along_axis(lambda line: np.correlate(line, f, "valid")[shift::2], -1, lines)
    found = wavelet._downsample(x, f, direction, shift)
    np.testing.assert_allclose(np.moveaxis(found.numpy(), 1 + direction, -1), expected, rtol=0, atol=1e-14)
    ones = wavelet._upsample(torch.ones_like(found), x.shape, np.ones(1), direction, shift)
    assert ones.sum() == found.numel() and ones.shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
def test_pyramids_collapse_to_their_image(kind: str) -> None:
    for shape in SIZES:
        most = wavelet.get_max_num_levels(shape)
        for levels in range(most + 1):
            x = image(shape)
            pyramid = wavelet.construct(x, levels, kind)
            assert isinstance(pyramid, tuple) and len(pyramid) == levels + 1
            np.testing.assert_allclose(wavelet.collapse(pyramid, kind), x, rtol=0, atol=1e-9)
            flat = wavelet.flatten(pyramid)
            assert flat.shape == x.shape
            np.testing.assert_allclose(flat, Wavelet(kind, levels)(x), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="num_levels must be from 0 to 4"):
        wavelet.construct(image((1, 16, 16)), 5, kind)


def test_bands_are_arrays_that_can_be_written() -> None:
    """A pyramid of zeros with a one in a band collapses to a wavelet."""
    pyramid = wavelet.construct(torch.zeros(1, 32, 32), 3, "CDF9/7")
    for level, bands in enumerate(pyramid[:-1]):
        for band in range(3):
            bands[band][0, 1, 1] = 1.0
            found = wavelet.collapse(pyramid, "CDF9/7")
            assert 0.5 < float((found**2).sum()) < 2.0, (level, band)
            bands[band][0, 1, 1] = 0.0


def test_rescaled_levels() -> None:
    x = image((2, 20, 13))
    pyramid = wavelet.construct(x, 3, "LeGall5/3")
    found = wavelet.rescale(pyramid, 0.5)
    assert isinstance(found, list)
    for level, (bands, others) in enumerate(zip(found[:-1], pyramid[:-1], strict=True)):
        for one, other in zip(bands, others, strict=True):
            torch.testing.assert_close(one, other * 0.5**level)
    torch.testing.assert_close(found[-1], pyramid[-1] / 8)
    ones = wavelet.rescale(wavelet.construct(torch.ones(1, 16, 16), 3, "CDF9/7"), 0.5)
    torch.testing.assert_close(ones[-1], torch.ones(1, 2, 2), rtol=1e-5, atol=1e-5)  # the gain is 2 a level


def test_pictures() -> None:
    x = image((3, 20, 12)).float()
    pyramid = wavelet.construct(x, 2, "CDF9/7")
    for percentile in (0, 50, 99, 100):
        shown = wavelet.visualize(pyramid, percentile)
        assert shown.dtype == np.uint8 and shown.shape == (20, 12, 3)
    shown = wavelet.visualize(pyramid)
    assert shown[:5, :3].min() == 0 and shown[:5, :3].max() == 255  # the residual
    zeros = wavelet.visualize(wavelet.construct(torch.zeros(1, 8, 8), 2, "CDF9/7"))
    assert (zeros[4:] == 128).all()


@pytest.mark.parametrize("students", [False, True])
@pytest.mark.parametrize("representation", ["CDF9/7", "LeGall5/3", "DCT", "PIXEL"])
@pytest.mark.parametrize("colours", ["RGB", "YUV"])
def test_the_loss_of_images_is_that_of_its_coefficients(colours: str, representation: str, students: bool) -> None:
    """Each coefficient under the density of its place, channels fastest; with arrays of NumPy, too."""
    size = (17, 12, 3)
    options: dict[str, Any] = {"wavelet_num_levels": 3, "wavelet_scale_base": 0.5, "scale_init": 0.7}
    loss = adaptive.AdaptiveImageLossFunction(
        size, np.float64, "cpu", colours, representation, use_students_t=students, **options
    )
    inner = loss.adaptive_lossfun
    names = ("log_df", "latent_scale") if students else ("latent_alpha", "latent_scale")
    assert [tuple(getattr(inner, name).shape) for name in names] == [(1, 17 * 12 * 3)] * 2
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter += torch.randn_like(parameter)
    x = image((2, *size))
    y = util.rgb_to_syuv(x) if colours == "YUV" else x
    first = y.permute(0, 3, 1, 2)
    if representation == "DCT":
        first = DCT()(first)
    elif representation != "PIXEL":
        merged = first.reshape(6, 17, 12)
        pyramid = wavelet.rescale(wavelet.construct(merged, 3, representation), 0.5)
        first = wavelet.flatten(pyramid).reshape(2, 3, 17, 12)
    flat = first.permute(0, 2, 3, 1).reshape(2, -1)
    expected = inner.lossfun(flat).reshape(x.shape)
    torch.testing.assert_close(loss.lossfun(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(loss.lossfun(x.numpy()), expected, rtol=1e-9, atol=1e-9)
    assert loss.scale().shape == size
    torch.testing.assert_close(loss.scale().reshape(-1), inner.scale().reshape(-1))
    shape = loss.df() if students else loss.alpha()
    assert shape.shape == size
    with pytest.raises(AttributeError, match="df\\(\\)" if students else "alpha\\(\\)"):
        loss.alpha() if students else loss.df()
    loss.lossfun(x).sum().backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_what_was_wrong_there_is_right() -> None:
    """Fixed scales with Student's t, copies that are of their own, pickles, all percentiles."""
    fixed = adaptive.AdaptiveImageLossFunction(
        (16, 16, 3), "float32", wavelet_num_levels=2, use_students_t=True, scale_lo=1.0, scale_init=1.0
    )
    assert fixed.lossfun(torch.zeros(1, 16, 16, 3)).isfinite().all() and (fixed.scale() == 1).all()
    loss = robust_loss_pytorch.AdaptiveImageLossFunction(
        (16, 16, 1), torch.float32, color_space="RGB", wavelet_num_levels=4
    )
    x = image((2, 16, 16, 1)).float()
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        with torch.no_grad():
            other.adaptive_lossfun.latent_alpha += 1.0
        assert not torch.equal(other.alpha(), loss.alpha())
        assert not torch.equal(other.lossfun(x), loss.lossfun(x))
    with pytest.raises(ValueError, match=r"x must have the shape \(batch, \*\(16, 16, 1\)\), got \(2, 1, 16, 16\)"):
        loss.lossfun(x.permute(0, 3, 1, 2))


def test_colours_are_rounded_once() -> None:
    """Also where they cancel: grey has no colour."""
    rgb = torch.from_numpy(np.random.default_rng(3).random((1000, 3)).astype(np.float32))
    exact = util.rgb_to_syuv(rgb.double())
    assert torch.equal(util.rgb_to_syuv(rgb), exact.float())
    assert torch.equal(util.syuv_to_rgb(exact.float()), util.syuv_to_rgb(exact.float().double()).float())
    unscaled = exact / util._VOLUME_PRESERVING_YUV_SCALE
    torch.testing.assert_close(unscaled[:, 0], rgb.double() @ torch.tensor([0.299, 0.587, 0.114]).double())


def test_curves_and_splines_are_rounded_once() -> None:
    alpha = torch.cat([torch.linspace(0, 12, 5001), torch.logspace(1, 6, 500)])
    curve = distribution.partition_spline_curve(alpha)
    assert torch.equal(curve, distribution.partition_spline_curve(alpha.double()).float())
    wide = distribution.inv_partition_spline_curve(distribution.partition_spline_curve(alpha.double()))
    torch.testing.assert_close(wide, alpha.double(), rtol=1e-13, atol=1e-15)
    values, tangents = torch.randn(2, 32_768)
    places = torch.arange(32_768.0)
    assert torch.equal(cubic_spline.interpolate1d(places, values, tangents), values)
    middle = cubic_spline.interpolate1d(places[:-1] + 0.5, values, torch.zeros(32_768))
    assert torch.equal(middle, (0.5 * (values[:-1].double() + values[1:].double())).float())
