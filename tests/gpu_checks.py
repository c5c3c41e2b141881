"""What CuPy arrays must show, with a GPU (test_gpu) or a stand-in (test_cupy): ``check(cp)`` with the module cupy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import LossGrad, losses

GRADIENTS = ("value", "dx", "dalpha", "dscale")
SINGLE = ("loss", "influence", "weight", "curvature", "nll")
HALVES = (np.float16,)


def same(found: Any, expected: Any, what: str = "") -> None:
    """The same kind of result, and the same bits; as floats the same but for the bounds of both.

    CPUs compute floats in doubles, GPUs in two words, which have the bits of the CPU by the same code: see `test_cuda`.
    """
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    found, size = found.get(), {2: 1e-3, 4: 1e-6, 8: 0.0}[expected.dtype.itemsize]
    np.testing.assert_allclose(found, expected, rtol=size, atol=size, err_msg=what)


def close(found: Any, expected: Any, what: str = "") -> None:
    """Sums, which the GPU takes in another order."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape, what
    tolerance = {8: 1e-13, 4: 1e-6, 2: 4e-3}[expected.dtype.itemsize]
    np.testing.assert_allclose(
        found.get().astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=tolerance, err_msg=what
    )


def data(dtype: Any = np.float32, shape: Any = (64, 6)) -> tuple[Any, Any, Any]:
    """x, and alpha and scale by column."""
    rng = np.random.default_rng(11)
    x = rng.standard_t(2, shape).astype(dtype)
    return x, np.linspace(0, 3, shape[-1]).astype(dtype), np.linspace(0.5, 2, shape[-1]).astype(dtype)


def every_function_and_dtype(cp: Any) -> None:
    for dtype in (np.float32, np.float64, np.float16):
        x, alpha, scale = data(dtype)
        for name in SINGLE:
            function = getattr(fr, name)
            for a, c in ((0.7, 1.3), (alpha, scale), (alpha, 1.3), (x * 0 + 1, scale)):
                same(function(*map(cp.asarray, (x,)), *on(cp, a, c)), function(x, a, c), f"{name} {dtype}")
        same(fr.log_partition(cp.asarray(alpha)), fr.log_partition(alpha), f"log_partition {dtype}")
        for found, expected in zip(
            fr.log_partition_and_grad(cp.asarray(alpha)), fr.log_partition_and_grad(alpha), strict=True
        ):
            same(found, expected)


def on(cp: Any, *values: Any) -> list[Any]:
    """Arrays on the GPU, numbers as they are."""
    return [cp.asarray(v) if isinstance(v, np.ndarray) else v for v in values]


def values_and_gradients(cp: Any) -> None:
    for function in (fr.loss_and_grad, fr.nll_and_grad):
        for shape in ((64, 6), (1001,), (1,), (0,), ()):
            x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
            found, expected = function(cp.asarray(x), 1.2, 0.8), function(x, 1.2, 0.8)
            assert isinstance(found, LossGrad)
            for name in GRADIENTS:
                same(getattr(found, name), getattr(expected, name), f"{name} {shape}")


def shapes_and_strides(cp: Any) -> None:
    x, alpha, scale = data(np.float32, (8, 6, 4, 6))
    for view, a, c in (
        (x[::2, 1:, ::-1], alpha, 1.0),
        (x.transpose(3, 1, 0, 2), 0.5, scale[:, None, None, None]),
        (x[0], alpha[:, None, None], scale[:, None, None] * 2),
        (x[:, :, :, :1], alpha, 2.0),
        (x[0, 0, 0, 1:], 1.5, 1.0),
        (np.broadcast_to(x[:1], x.shape), alpha, scale),
    ):
        # The same view of the memory on the GPU.
        offset = (view.__array_interface__["data"][0] - x.__array_interface__["data"][0]) // x.itemsize
        gpu = cp.lib.stride_tricks.as_strided(cp.asarray(x).reshape(-1)[offset:], view.shape, view.strides)
        found, expected = fr.loss_and_grad(gpu, *on(cp, a, c)), fr.loss_and_grad(view, a, c)
        for name in GRADIENTS:
            same(getattr(found, name), getattr(expected, name), name)


def mixed_dtypes(cp: Any) -> None:
    x = np.arange(-5, 6)
    same(fr.loss(cp.asarray(x), 1.0, 2.0), fr.loss(x, 1.0, 2.0), "integers")
    x32, alpha64 = x.astype(np.float32), np.linspace(0, 1, 11)
    same(fr.loss(cp.asarray(x32), cp.asarray(alpha64), 2.0), fr.loss(x32, alpha64, 2.0), "promotion")
    same(fr.loss(cp.asarray(x32), 1.0, 2.0, dtype=np.float64), fr.loss(x32.astype(np.float64), 1.0, 2.0), "dtype=")
    half, alpha32 = x.astype(np.float16), np.float32(np.linspace(0, 1, 11))
    same(fr.loss(cp.asarray(half), cp.asarray(alpha32), 2.0), fr.loss(half, alpha32, 2.0), "half and single")


def out_is_filled(cp: Any) -> None:
    x = np.random.default_rng(5).standard_normal((50, 3)).astype(np.float32)
    expected = fr.loss_and_grad(x, 0.5, 1.5)
    gpu = cp.asarray(x)
    memory = cp.empty(x.shape, np.float32)
    assert fr.loss(gpu, 0.5, 1.5, out=memory) is memory
    same(memory, expected.value)
    strided = cp.zeros((50, 6), np.float32)[:, ::2]
    double = cp.zeros((50, 3), np.float64)
    found = fr.loss_and_grad(gpu, 0.5, 1.5, out=LossGrad(strided, double, None, None))
    assert found.value is strided and found.dx is double
    same(found.value, expected.value)
    same(found.dx.astype(np.float32), expected.dx)
    same(found.dalpha, expected.dalpha)
    place = cp.asarray(x.copy())
    assert fr.influence(place, 0.5, 1.5, out=place) is place
    same(place, expected.dx, "in place")
    whole = cp.asarray(np.concatenate([x.reshape(-1), x.reshape(-1)]))
    shifted = fr.influence(whole[:150], 0.5, 1.5, out=whole[1:151])
    same(shifted, expected.dx.reshape(-1), "overlapping")
    with pytest.raises(TypeError, match="out of dtype int32 does not take float32"):
        fr.loss(gpu, 0.5, 1.5, out=cp.zeros(x.shape, np.int32))
    with pytest.raises(ValueError, match="out for value must be an array of shape"):
        fr.loss(gpu, 0.5, 1.5, out=cp.empty(3, np.float32))


def sums(cp: Any) -> None:
    _sums(cp, np.float32)


def sums_of_other_dtypes(cp: Any) -> None:
    for dtype in (np.float64, np.float16):
        _sums(cp, dtype)


def _sums(cp: Any, dtype: Any) -> None:
    x, alpha, scale = data(dtype, (300, 6))
    weights = (np.random.default_rng(2).random((300, 6)) > 0.3).astype(dtype)
    rows = np.linspace(0.5, 2, 300).astype(dtype)[:, None]
    for a, c in (
        (1.2, 0.7),
        (alpha, scale),
        (alpha, 0.7),
        (1.2, scale),
        (rows, 0.7),
        (x * 0 + 1, scale),
        (rows, scale),
    ):
        for reduction in ("sum", "mean"):
            for w in (None, weights, weights[:1]):
                if dtype is np.float16 and reduction == "sum":
                    continue
                found = fr.nll_and_grad(
                    cp.asarray(x), *on(cp, a, c), reduction=reduction, weights=w if w is None else cp.asarray(w)
                )
                expected = fr.nll_and_grad(x, a, c, reduction=reduction, weights=w)
                what = f"{dtype} {np.shape(a)} {np.shape(c)} {reduction}"
                close(found.value, expected.value, what)
                close(found.dx, expected.dx, what)
                close(found.dalpha, expected.dalpha, what)
                close(found.dscale, expected.dscale, what)
                close(
                    fr.nll(cp.asarray(x), *on(cp, a, c), reduction=reduction),
                    fr.nll(x, a, c, reduction=reduction),
                    what,
                )


def sums_along_other_axes(cp: Any) -> None:
    """Channels before pixels, and parameters that are views of fewer elements than they show."""
    x, _, _ = data(np.float32, (20, 3, 40, 50))
    alpha, scale = np.float32([0.5, 1, 2])[:, None, None], np.linspace(0.5, 2, 40, dtype=np.float32)[::2, None]
    for a in (alpha, np.broadcast_to(np.float32(1.5), (50,)), np.broadcast_to(alpha, (3, 40, 50))):
        view = cp.broadcast_to(cp.asarray(np.ascontiguousarray(a[..., :1] if a.ndim == 3 else a[:1])), a.shape)
        expected = fr.nll_and_grad(x, a, 0.7, reduction="mean")
        found = fr.nll_and_grad(cp.asarray(x), view, 0.7, reduction="mean")
        for name in GRADIENTS:
            close(getattr(found, name), getattr(expected, name), f"{name} {a.shape}")
    x = x.reshape(20, -1)
    expected = fr.loss_and_grad(x, 0.5, scale, reduction="sum")
    found = fr.loss_and_grad(cp.asarray(x), 0.5, cp.asarray(scale), reduction="sum")
    close(found.dscale, expected.dscale, "rows")


def sums_of_nothing_and_without_gradients(cp: Any) -> None:
    empty = np.empty((0, 3), np.float32)
    found = fr.loss_and_grad(cp.asarray(empty), 1.0, 1.0, reduction="sum")
    assert float(found.value.get()) == 0.0 and found.dx.shape == (0, 3)
    assert np.isnan(fr.loss(cp.asarray(empty), 1.0, 1.0, reduction="mean").get())
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    found = fr.loss_and_grad(cp.asarray(x), 0.5, 1.5, reduction="mean", wrt=("alpha",))
    expected = fr.loss_and_grad(x, 0.5, 1.5, reduction="mean", wrt=("alpha",))
    assert found.dx is None and found.dscale is None
    close(found.value, expected.value)
    close(found.dalpha, expected.dalpha)


def weights_without_reduction(cp: Any) -> None:
    x, alpha, scale = data()
    weights = np.linspace(0, 2, 6).astype(np.float32)
    x[:, 0] = np.nan
    found = fr.loss_and_grad(*map(cp.asarray, (x, alpha, scale)), weights=cp.asarray(weights))
    expected = fr.loss_and_grad(x, alpha, scale, weights=weights)
    for name in GRADIENTS:
        same(getattr(found, name), getattr(expected, name), name)


def arrays_without_axes(cp: Any) -> None:
    x, alpha, weight = (np.array(v, np.float32) for v in (2.0, 0.5, 3.0))
    gpu = cp.asarray(x)
    same(fr.log_partition(cp.asarray(alpha)), fr.log_partition(alpha))
    same(fr.loss(gpu, cp.asarray(alpha), 1.0, weights=cp.asarray(weight)), fr.loss(x, alpha, 1.0, weights=weight))
    out = cp.empty((), np.float32)
    assert fr.log_partition(cp.asarray(alpha), out=out) is out
    for a in (0.5, cp.asarray(alpha), np.float64(0.5)):
        close(fr.loss_and_grad(gpu, a, 1.0, reduction="sum").dx, fr.loss_and_grad(x, 0.5, 1.0).dx)


def memory_for_dx_may_be_the_weights(cp: Any) -> None:
    x, rows = np.float32([[1, -2, 3], [0.5, 4, -1]]), np.float32([[0.5], [1.5]])
    weights = np.float32([[1, 2, 0], [3, 1, 2]])
    expected = fr.loss_and_grad(x, rows, 1.0, reduction="mean", weights=weights)
    memory = cp.asarray(weights.copy())
    out = (None, memory, None, None)
    found = fr.loss_and_grad(cp.asarray(x), cp.asarray(rows), 1.0, reduction="mean", weights=memory, out=out)
    assert found.dx is memory
    for name in GRADIENTS:
        close(getattr(found, name), getattr(expected, name), name)


def a_narrower_dtype_is_rounded_once(cp: Any) -> None:
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    same(fr.loss(cp.asarray(x), 0.5, 1.0, dtype=np.float16), fr.loss(x, 0.5, 1.0, dtype=np.float16))


def many_axes_and_nothing_in_them(cp: Any) -> None:
    x, alpha = np.zeros((7, 5, 5, 3, 0), np.float32), np.ones((5, 1, 3, 1), np.float32)
    close(fr.loss(cp.asarray(x), cp.asarray(alpha), 1.0, reduction="sum"), np.float32(0))
    x = np.random.default_rng(1).standard_normal((3, 3, 3, 3, 3)).astype(np.float32)
    gpu = cp.asarray(x)[::2, ::2, ::2, ::2, ::2]
    same(fr.loss(gpu, 0.5, 1.0), fr.loss(x[::2, ::2, ::2, ::2, ::2], 0.5, 1.0))


def sums_repeat_their_bits(cp: Any) -> None:
    x, alpha, scale = (cp.asarray(a) for a in data(np.float32, (1000, 6)))
    first = fr.nll_and_grad(x, alpha, scale, reduction="mean")
    for _ in range(3):
        again = fr.nll_and_grad(x, alpha, scale, reduction="mean")
        for name in GRADIENTS:
            np.testing.assert_array_equal(getattr(again, name).get(), getattr(first, name).get())


def bad_arguments(cp: Any) -> None:
    x = cp.asarray(np.ones(3, np.float32))
    for error, message, call in (
        (ValueError, "scale must be positive", lambda: fr.loss(x, 1.0, 0.0)),
        (ValueError, "alpha must be >= 0", lambda: fr.nll(x, -1.0, 1.0)),
        (TypeError, "alpha is a numpy.ndarray", lambda: fr.loss(x, np.ones(3), 1.0)),
        (TypeError, "weights is a numpy.ndarray", lambda: fr.loss(x, 1.0, 1.0, weights=np.ones(3))),
        (TypeError, "x has dtype complex64", lambda: fr.loss(cp.asarray(np.ones(3, np.complex64)), 1.0, 1.0)),
        (ValueError, "shapes do not broadcast", lambda: fr.loss(x, cp.asarray(np.ones(4, np.float32)), 1.0)),
        (TypeError, "where: not taken for CuPy", lambda: fr.loss(x, 1.0, 1.0, where=x > 0)),
        (ValueError, "do not broadcast to the shape", lambda: fr.loss(x, 1.0, 1.0, weights=cp.asarray(np.ones(4)))),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


def loops_stay_on_the_device(cp: Any) -> None:
    """Not one array of n comes back to the host: the stand-in refuses it, and so does CuPy."""
    from fastrobust.optimize import fit_shape, gauss_newton, gnc, irls, triggs_factors

    rng = np.random.default_rng(0)
    X = np.c_[rng.uniform(-2, 2, 40), np.ones(40)]
    y = X @ (0.7, 0.15) + 0.05 * rng.standard_normal(40)
    y[::5] += 3
    weights = np.r_[0.0, np.ones(39)]
    gX, gy, gw = map(cp.asarray, (X, y, weights))

    def agree(found: Any, expected: Any) -> None:
        for name in ("x", "residuals", "weights"):
            assert type(found[name]) is cp.ndarray, name
            np.testing.assert_allclose(found[name].get(), expected[name], rtol=1e-8, atol=1e-10, err_msg=name)
        assert found.nit == expected.nit and found.success

    agree(irls(gX, gy, 0.0, 0.1, weights=gw), irls(X, y, 0.0, 0.1, weights=weights))
    agree(irls(gX, gy, 0.0, 0.1, x0=cp.asarray([0.5, 0.0])), irls(X, y, 0.0, 0.1, x0=[0.5, 0.0]))
    for schedule, alpha in (("alpha", -2.0), ("truncated", None)):
        agree(gnc(gX, gy, alpha, 0.2, schedule=schedule), gnc(X, y, alpha, 0.2, schedule=schedule))
    agree(
        gauss_newton(lambda b: gX @ b - gy, cp.asarray([0.0, 0.0]), lambda b: gX, 1.0, 0.1, weights=gw),
        gauss_newton(lambda b: X @ b - y, [0.0, 0.0], lambda b: X, 1.0, 0.1, weights=weights),
    )
    for found, expected in zip(triggs_factors(gy, 0.0, 0.1), triggs_factors(y, 0.0, 0.1), strict=True):
        same(found, expected)
    for tau, given in ((None, None), (4.0, None), (4.0, weights)):
        on_host = fit_shape(y, weights=given, truncation=tau)
        on_device = fit_shape(gy, weights=None if given is None else gw, truncation=tau)
        assert on_device.alpha == pytest.approx(on_host.alpha, rel=1e-7, abs=1e-9)
        assert on_device.scale == pytest.approx(on_host.scale, rel=1e-7)
    truncated = fr.nll_and_grad(gy, cp.asarray(np.array([-1.0])), 1.0, truncation=3.0, reduction="mean", weights=gw)
    expected = fr.nll_and_grad(y, np.array([-1.0]), 1.0, truncation=3.0, reduction="mean", weights=weights)
    for part, other in zip(truncated, expected, strict=True):
        np.testing.assert_allclose(part.get(), other, rtol=1e-12, atol=1e-12)


def losses_of_sums(cp: Any) -> None:
    """Dice's kind, of two classes or by softmax, a formula of the user's own, and a sum with a loss of elements."""
    from fastrobust.math import sum

    @fr.define(params="power")
    def relative(x: Any, target: Any, power: Any = 2.0) -> Any:
        return sum(abs(x - target) ** power) / sum(target**2)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 50)).astype(np.float32)
    mask, classes = rng.random((3, 4, 50)) < 0.3, rng.integers(0, 4, (3, 50))
    both = losses.tversky_logits + 0.5 * losses.bce_logits
    cases: list[tuple[Any, Any, dict[str, Any]]] = [
        (losses.dice_logits, mask, {"axis": 2}),
        (losses.jaccard_logits, mask, {"axis": (0, 2), "reduction": "mean", "empty": "skip"}),
        (losses.focal_tversky_logits, mask, {"reduction": "sum"}),
        (losses.squared_dice_logits, classes, {"axis": (0, 2), "softmax_axis": 1, "reduction": "mean"}),
        (both, mask, {"axis": 2, "reduction": "mean"}),
        (relative, x[::-1].copy(), {"axis": 1, "reduction": "sum"}),
    ]
    for loss, target, options in cases:
        expected = loss.value_and_grad(x, target, **options)
        found = loss.value_and_grad(cp.asarray(x), cp.asarray(target), **options)
        value = loss(cp.asarray(x), cp.asarray(target), **options)
        for one, other in ((value, expected.value), (found.value, expected.value), (found.dx, expected.dx)):
            assert type(one) is cp.ndarray
            np.testing.assert_allclose(one.get(), other, rtol=1e-4, atol=1e-6, err_msg=loss.__name__)


def _alike(cp: Any, loss: Any, operands: Any, **options: Any) -> None:
    """Values and derivatives on the GPU and on the CPU, which sums in another order."""

    def there(value: Any) -> Any:
        return cp.asarray(value) if isinstance(value, np.ndarray) else value

    wrt = {"wrt": options.pop("wrt")} if "wrt" in options else {}
    on_gpu = {name: there(value) for name, value in options.items()}
    expected = loss.value_and_grad(*operands, **options, **wrt)
    with np.errstate(divide="ignore"):  # of which the stand-in would warn
        found = loss.value_and_grad(*map(there, operands), **on_gpu, **wrt)
        pairs = [*zip(found, expected, strict=True), (loss(*map(there, operands), **on_gpu), expected.value)]
    for name, (one, other) in zip((*expected._fields, "alone"), pairs, strict=True):
        if other is None:
            assert one is None
            continue
        what = f"{loss} {name} {operands[0].shape} {operands[0].dtype} {options}"
        assert type(one) is cp.ndarray and one.dtype == np.asarray(other).dtype and one.shape == np.shape(other), what
        seen, true = one.get().astype(np.float64), np.asarray(other, np.float64)
        some = np.abs(true[np.isfinite(true)])
        unit = {8: 1e-15, 4: 2e-7, 2: 2e-3}[one.dtype.itemsize]
        np.testing.assert_allclose(seen, true, rtol=8 * unit, atol=unit * some.max(initial=0.0), err_msg=what)


def losses_of_rows(cp: Any) -> None:
    """Rows for threads, for warps and for several of these; side by side or not; all losses, options and dtypes."""
    rng = np.random.default_rng(1)
    shapes = [(5, 1), (4, 7), (3, 33), (2, 4096), (2, 4100), (1, 9001), (2, 3, 5), (2, 40, 3), (1, 40, 33), (0, 4)]
    for shape in shapes:
        axis, rows = 1, (shape[0], *shape[2:])
        x, other = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
        x[:1, :1] = 40.0 if shape[1] < 100 else x[:1, :1]
        target = rng.integers(0, shape[1], rows)
        weights = rng.random(rows) * (rng.random(rows) < 0.7)
        shares = rng.dirichlet(np.ones(shape[1]), rows)
        shares = np.moveaxis(shares, -1, axis).astype(np.float32)
        for dtype in (np.float32, np.float64, np.float16):
            z = x.astype(dtype)
            _alike(cp, losses.cross_entropy, (z, target), axis=axis, reduction="mean")
            _alike(cp, losses.norm(losses.huber), (z, 1.0), axis=axis, weights=weights, reduction="mean")
        options = {"temperature": 1.3, "label_smoothing": 0.1, "z_loss": 0.01, "reduction": "mean"}
        wrt = "x", "temperature", "label_smoothing", "z_loss"
        for taken in (target, shares.astype(x.dtype)):
            _alike(cp, losses.cross_entropy, (x, taken), axis=axis, weights=weights, wrt=wrt, **options)
        of_class = {"class_weights": rng.random(shape[1]), "ignore_index": int(target.max(initial=0))}
        _alike(
            cp, losses.cross_entropy, (x, target), axis=axis, softcap=30.0, empty="zero", reduction="mean", **of_class
        )
        _alike(cp, losses.softmax_focal, (x, target, 2.0), axis=axis, weights=weights, reduction="sum")
        for kind in ("crammer_singer", "weston_watkins"):
            _alike(cp, losses.multiclass_hinge, (x, target), axis=axis, kind=kind, power=2, **of_class)
        _alike(cp, losses.kl_logits, (x, other), axis=axis, weights=weights)
        for distance in ("euclidean", "cosine", "manhattan"):
            given = x, other, other[::-1].copy(), rng.random(rows)
            _alike(cp, losses.triplet, given, axis=axis, distance=distance, swap=True, reduction="mean")
    anchors, keys = rng.standard_normal((2, 6, 16)).astype(np.float32)
    _alike(cp, losses.info_nce, (anchors, keys, 0.2), symmetric=True, wrt=("anchor", "positive", "temperature"))
    _alike(cp, losses.info_nce, (anchors, keys), negatives=anchors * 2 - keys, reduction="mean")
    found = losses.cross_entropy.value_and_grad(cp.asarray(anchors), cp.asarray(np.array([0, 16, -1, 3, 1, 2])))
    wrong = np.array([False, True, True, False, False, False])
    assert (np.isnan(found.value.get()) == wrong).all() and (np.isnan(found.dx.get()).all(-1) == wrong).all()
    index, of_class = cp.asarray(np.array([0, 16, -1, 3, 17, 2])), cp.asarray(np.r_[0.0, np.ones(14), 0.0])
    kept = cp.asarray(np.array([1.0, 1, 1, 1, 0, 1]))
    for loss in (losses.cross_entropy, losses.softmax_focal, losses.multiclass_hinge):
        found = loss.value_and_grad(cp.asarray(anchors), index, class_weights=of_class, weights=kept)
        assert np.isnan(found.value.get()).tolist() == [False, True, True, False, False, False]
        assert np.isnan(found.dx.get()).all(-1).tolist() == [False, True, True, False, False, False]
        assert not found.dx.get()[[0, 4]].any()
    assert losses.cross_entropy(cp.asarray(anchors[0]), 3).shape == ()
    assert losses.norm(losses.huber)(cp.asarray(anchors), 1.0, weights=2.0).shape == (6,)
    with pytest.raises(TypeError, match=r"ignore_index must be an integer, got 1\.5"):
        losses.cross_entropy(cp.asarray(anchors), index, ignore_index=1.5)
    with pytest.raises(TypeError, match=r"target is a numpy.ndarray and x a .*cupy"):
        losses.cross_entropy(cp.asarray(anchors), np.zeros(6, np.int64))
    with pytest.raises(ValueError, match="x has no classes"):
        losses.cross_entropy(cp.zeros((2, 0)), cp.zeros(2, np.int64))


CHECKS = (
    every_function_and_dtype,
    values_and_gradients,
    shapes_and_strides,
    mixed_dtypes,
    out_is_filled,
    sums,
    sums_of_other_dtypes,
    sums_along_other_axes,
    sums_of_nothing_and_without_gradients,
    weights_without_reduction,
    arrays_without_axes,
    memory_for_dx_may_be_the_weights,
    a_narrower_dtype_is_rounded_once,
    many_axes_and_nothing_in_them,
    sums_repeat_their_bits,
    bad_arguments,
    loops_stay_on_the_device,
    losses_of_sums,
    losses_of_rows,
)
