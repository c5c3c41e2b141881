"""Transforms against PyWavelets and SciPy, their inverses, adjoints and determinants, on all libraries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fastrobust import transforms
from fastrobust.transforms import DCT, YUV, Wavelet

KINDS = {"CDF9/7": ("bior4.4", 2), "LeGall5/3": ("bior2.2", 1)}  # PyWavelets' name, and where its bands begin
SHAPES = [(3, 64, 64), (2, 73, 67), (2, 5, 3), (1, 2, 2), (2, 1, 7), (0, 4, 4)]
RNG = np.random.default_rng(0)


def some(shape: Any, dtype: Any = np.float64) -> Any:
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("length", [16, 17, 64, 73, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_level_is_that_of_pywavelets(kind: str, length: int) -> None:
    """To the 12 digits of its filters; the sign of the high band is another one there."""
    pywt = pytest.importorskip("pywt")
    name, first = KINDS[kind]
    x, low = some((20, length)), (length + 1) // 2
    expected_low, expected_high = pywt.dwt(x, name, mode="reflect", axis=-1)
    found = Wavelet(kind, levels=1, axes=(-1,))(x)
    np.testing.assert_allclose(found[:, :low], expected_low[:, first : first + low], rtol=0, atol=5e-12)
    np.testing.assert_allclose(found[:, low:], -expected_high[:, first : first + length // 2], rtol=0, atol=5e-12)


def by_filters(kind: str, length: int) -> Any:
    """The matrix of a level, by the half filters of the literature and reflection: no lifting."""
    root = 2**0.5
    low, high = {
        "CDF9/7": (
            [0.852698679009, 0.377402855613, -0.110624404418, -0.023849465020, 0.037828455507],
            [0.788485616406, -0.418092273222, -0.040689417609, 0.064538882629],
        ),
        "LeGall5/3": ([0.75 * root, 0.25 * root, -0.125 * root], [1 / root, -0.5 / root]),
    }[kind]
    rows = []
    for half, first in ((low, 0), (high, 1)):
        for centre in range(first, length, 2):
            row = np.zeros(length)
            for k in range(1 - len(half), len(half)):
                place = (centre + k) % (2 * (length - 1))
                row[min(place, 2 * (length - 1) - place)] += half[abs(k)]
            rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("kind", KINDS)
def test_lines_of_any_length_are_reflected(kind: str) -> None:
    for length in (*range(2, 12), 31, 32):
        x = some((length, 40))
        found = Wavelet(kind, levels=1, axes=(0,))(x)
        np.testing.assert_allclose(found, by_filters(kind, length) @ x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_inverse_and_adjoint(kind: str, dtype: Any) -> None:
    """To some units in the last place of the norm, for all sizes and levels; bits do not depend on batches."""
    unit = np.finfo(dtype).eps
    for shape in SHAPES:
        most = max(0, min(shape[1:]) - 1).bit_length()
        for levels in {0, min(1, most), most}:
            wavelet, x, z = Wavelet(kind, levels), some(shape, dtype), some(shape, dtype)
            y = wavelet(x)
            assert y.dtype == dtype and y.shape == shape
            if not x.size:
                continue
            np.testing.assert_allclose(wavelet.inverse(y), x, rtol=0, atol=8 * unit * np.abs(x).max())
            product = np.sum(y.astype(float) * z), np.sum(x.astype(float) * wavelet.adjoint(z))
            assert abs(product[0] - product[1]) <= 8 * unit * np.linalg.norm(x) * np.linalg.norm(z)
            exact = Wavelet(kind, levels)(x.astype(np.float64))
            assert np.linalg.norm(y - exact) <= 4 * unit * np.linalg.norm(exact)
            assert np.linalg.norm(wavelet.inverse(y) - x) <= 4 * unit * np.linalg.norm(x)
            np.testing.assert_array_equal(wavelet(x[:1]), y[:1])
    many = some((40, 64, 64), dtype)  # on all cores
    np.testing.assert_array_equal(Wavelet(kind)(many)[7], Wavelet(kind)(many[7]))


@pytest.mark.parametrize("kind", KINDS)
def test_determinants_and_bands(kind: str) -> None:
    for shape, levels in itertools.product([(6, 8), (5, 6), (7, 5), (1, 3), (3, 4, 5)], [1, 2, None]):
        axes = tuple(range(len(shape)))
        if levels is not None and levels > max(0, min(shape) - 1).bit_length():
            continue
        wavelet = Wavelet(kind, levels, axes)
        size = int(np.prod(shape))
        columns = np.array([wavelet(unit.reshape(shape)).ravel() for unit in np.eye(size)])
        assert np.linalg.slogdet(columns)[1] == pytest.approx(wavelet.log_abs_det(shape), abs=1e-11)
        counted = np.zeros(shape)
        for band in wavelet.bands(shape):
            counted[band] += 1
        assert (counted == 1).all()
    image = np.ones((8, 8))
    first, *others = Wavelet(kind, 2).bands((8, 8))
    found = Wavelet(kind, 2)(image)
    np.testing.assert_allclose(found[first], 4.0, rtol=1e-10)  # the gain of 2 a level
    assert len(others) == 6 and all(np.abs(found[band]).max() < 1e-10 for band in others)
    assert others[-1] == (slice(4, 8), slice(4, 8))


def test_any_axes_and_strides() -> None:
    x = some((4, 9, 3, 7))
    expected = Wavelet(axes=(1, 3))(x)
    for moved in (x[:, :, ::-1][:, :, ::-1], np.asfortranarray(x)):
        np.testing.assert_array_equal(Wavelet(axes=(1, -1))(moved), expected)
    np.testing.assert_array_equal(Wavelet(axes=(0, 1))(x[0, :, 1]), expected[0, :, 1])
    volume = some((6, 8, 10))
    by_hand = volume
    for axis in range(3):
        by_hand = Wavelet(levels=1, axes=(axis,))(by_hand)
    np.testing.assert_allclose(Wavelet(levels=1, axes=(0, 1, 2))(volume), by_hand, rtol=0, atol=1e-14)


def test_cosines_are_those_of_scipy() -> None:
    fft = pytest.importorskip("scipy.fft")
    for shape in ((3, 7, 10), (1, 1, 5), (64, 64), (500, 2)):
        x = some(shape)
        np.testing.assert_allclose(DCT()(x), fft.dctn(x, axes=(-2, -1), norm="ortho"), rtol=0, atol=1e-13)
        np.testing.assert_allclose(DCT().inverse(DCT()(x)), x, rtol=0, atol=1e-13)
    assert DCT().log_abs_det((3, 4)) == 0.0
    x = some((3, 64, 64), np.float32)
    assert np.linalg.norm(DCT().inverse(DCT()(x)) - x) <= 4 * np.finfo(np.float32).eps * np.linalg.norm(x)


def test_colours_keep_volumes() -> None:
    x = some((2, 5, 3))
    yuv = YUV()(x)
    matrix = YUV()(np.eye(3)).T
    assert abs(np.linalg.det(matrix)) == pytest.approx(1.0, abs=1e-11)
    np.testing.assert_allclose(YUV().inverse(yuv), x, rtol=0, atol=1e-14)
    np.testing.assert_allclose(YUV(axis=1)(np.moveaxis(x, -1, 1)), np.moveaxis(yuv, -1, 1), rtol=0, atol=1e-14)
    np.testing.assert_allclose((YUV().adjoint(x) * x).sum(), (x * YUV()(x)).sum(), rtol=1e-12)


EACH = [Wavelet("CDF9/7"), Wavelet("LeGall5/3", 2), DCT(), YUV(axis=0)]


@pytest.mark.parametrize("transform", EACH, ids=repr)
def test_tensors(transform: Any) -> None:
    """Derivatives of two orders, transforms, the compiler; matrix products agree with the kernels."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(some((3, 6, 7))).requires_grad_()
    for function in (transform, transform.inverse, transform.adjoint):
        np.testing.assert_allclose(function(x).detach(), function(x.detach().numpy()), rtol=0, atol=1e-14)
        assert torch.autograd.gradcheck(function, x) and torch.autograd.gradgradcheck(function, x)
    batch = torch.from_numpy(some((2, 3, 6, 7)))
    mapped = torch.func.vmap(transform)(batch)
    np.testing.assert_allclose(mapped[1], transform(batch[1]), rtol=0, atol=1e-13)
    slope = torch.func.grad(lambda x: (transform(x) ** 2).sum())(batch[0])
    np.testing.assert_allclose(slope, 2 * transform.adjoint(transform(batch[0])), rtol=0, atol=1e-12)
    compiled = torch.compile(lambda x: 2 * transform(x), fullgraph=True, backend="aot_eager")
    np.testing.assert_allclose(compiled(x).detach(), 2 * transform(x).detach(), rtol=0, atol=1e-13)
    (found,) = torch.autograd.grad(compiled(x).sum(), x)
    np.testing.assert_allclose(found, 2 * transform.adjoint(torch.ones_like(x).detach()), rtol=0, atol=1e-12)
    half = transform(x.detach().bfloat16())
    assert half.dtype is torch.bfloat16


@pytest.mark.parametrize("transform", EACH, ids=repr)
def test_arrays_of_jax(transform: Any) -> None:
    jax = pytest.importorskip("jax")
    x = some((3, 6, 7), np.float32)
    for function in (transform, transform.inverse, transform.adjoint):
        found = jax.jit(function)(jax.numpy.asarray(x))
        np.testing.assert_allclose(found, function(x), rtol=0, atol=4e-6)
    slope = jax.grad(lambda x: (transform(x) ** 2).sum())(jax.numpy.asarray(x))
    np.testing.assert_allclose(slope, 2 * transform.adjoint(transform(x)), rtol=0, atol=2e-5)
    mapped = jax.vmap(transform)(jax.numpy.asarray(np.stack([x, x])))
    np.testing.assert_allclose(mapped[1], transform(x), rtol=0, atol=4e-6)


@pytest.mark.parametrize("transform", EACH, ids=repr)
def test_arrays_of_cupy(transform: Any, fake_cupy: Any) -> None:
    x = some((3, 6, 7), np.float32)
    for function in (transform, transform.inverse, transform.adjoint):
        found = function(fake_cupy.asarray(x))
        assert type(found) is fake_cupy.ndarray
        np.testing.assert_allclose(found.get(), function(x), rtol=0, atol=4e-6)


def test_other_dtypes() -> None:
    x = np.arange(12).reshape(3, 4)
    for transform in (Wavelet(), DCT()):
        np.testing.assert_array_equal(transform(x), transform(x.astype(np.float64)))
        half = transform(x.astype(np.float16))
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, transform(x), rtol=1e-3, atol=1e-2)


def test_nothing_stays_nothing() -> None:
    for shape in ((0, 4, 4), (4, 0, 4), (2, 0, 0)):
        for transform in (Wavelet(), DCT()):
            assert transform(np.zeros(shape)).shape == shape and transform.inverse(np.zeros(shape)).shape == shape
    assert Wavelet(axes=1)(np.ones((2, 4))).shape == DCT(axes=np.int64(0))(np.ones((2, 4))).shape == (2, 4)
    assert Wavelet(levels=np.int64(1)).levels == 1


def test_errors_name_the_remedy() -> None:
    x = np.zeros((3, 4))
    for call, message in (
        (lambda: Wavelet("db2"), "kind must be one of 'CDF9/7', 'LeGall5/3', got 'db2'"),
        (lambda: Wavelet(levels=-1), "levels must be an integer of at least 0, or None, got -1"),
        (lambda: Wavelet(levels=3)(x), r"levels must be at most 2 for the lengths \(3, 4\), got 3"),
        (lambda: Wavelet(axes=(0, 0))(x), r"axes must name at least one axis, each once, got \(0, 0\)"),
        (lambda: Wavelet(axes=())(x), "axes must name at least one axis"),
        (lambda: Wavelet(axes=(2,))(x), "each of axes 2 is not one of the 2 axes of the array"),
        (lambda: DCT(axes=(1, 1))(x), "axes must name at least one axis, each once"),
        (lambda: YUV()(x), r"axis -1 must have the 3 channels of RGB, got shape \(3, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for wrong in (np.zeros((3, 4), complex), np.zeros((3, 4), np.longdouble), np.full((3, 4), "a"), [[1j, 2], [3, 4]]):
        with pytest.raises(TypeError, match="dtype"):
            Wavelet()(wrong)
    assert transforms.__all__ == ["DCT", "YUV", "Wavelet"]
