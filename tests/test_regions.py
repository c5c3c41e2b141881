"""Losses of regions: against mpmath, on all libraries, and their conventions."""

from __future__ import annotations

import pickle
import secrets
from typing import Any

import numpy as np
import oracle
import oracle_rows
import pytest

from fastrobust import losses
from fastrobust.kernels.losses import regions

RNG = np.random.default_rng(5)
LOGITS = RNG.standard_normal((4, 3, 6, 5)) * 3
MASKS = RNG.random((4, 3, 6, 5)) < 0.4
CLASSES = RNG.integers(0, 3, (4, 6, 5))


def loss_of(name: str) -> Any:
    return getattr(losses, name)


def test_reference_numbers() -> None:
    p, t = np.array([0.9, 0.1]), np.array([1.0, 0.0])
    np.testing.assert_allclose(losses.dice(p, t), 0.1, rtol=3e-16)
    np.testing.assert_allclose(losses.squared_dice(p, t), 0.010989010989011, rtol=1e-13)
    np.testing.assert_allclose(losses.jaccard(p, t), 0.181818181818182, rtol=1e-14)
    for dtype, bound in ((np.float32, 2e-7), (np.float64, 1e-13)):
        x = np.full(100_000, 25.0, dtype)
        np.testing.assert_allclose(losses.dice_logits(x, np.ones_like(x)), 6.94397193243379e-12, rtol=bound)


def test_a_large_image_in_float32() -> None:
    """Of 16 million pixels one is of the object, and predicted: the score of a sum in float32 is more than 1."""
    x = np.full((4096, 4096), 1e-4, np.float32)
    t = np.zeros((4096, 4096), bool)
    x[1000, 1000], t[1000, 1000] = 1.0, True
    off = (4096 * 4096 - 1) * float(np.float32(1e-4))
    np.testing.assert_allclose(losses.dice(x, t), off / (off + 2), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["hard", "right", "wrong", "soft"])
@pytest.mark.parametrize("name", regions.NAMES)
def test_errors_are_within_a_few_units(name: str, kind: str, dtype: Any) -> None:
    """Value and all derivatives, at fresh logits of sizes from 0.01 to 25."""
    seed, n = secrets.randbits(32), 7
    rng, loss = np.random.default_rng(seed), loss_of(name)
    t = (rng.random(n) if kind == "soft" else np.arange(n) < rng.integers(1, n)).astype(dtype)
    x = rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 1.4)
    if kind in ("right", "wrong"):
        x = abs(x) * np.where(t == (kind == "right"), 1, -1)
    if not name.endswith("_logits"):
        x = np.clip(1 / (1 + np.exp(-x)), 1e-6, 1 - 1e-6)
    x = x.astype(dtype)
    numbers = {"alpha": 0.3, "beta": 0.7, "gamma": 0.8, "smooth": rng.choice([0.0, 0.25])}
    parameters = [float(dtype(numbers[key])) for key in loss.parameters]
    found = loss.value_and_grad(x, t, *parameters)

    def true_loss(arguments: Any) -> Any:
        return oracle_rows.region(name, arguments[:n], [*map(float, t)], arguments[n:])

    at = [*map(float, x), *parameters]
    true = [true_loss(at), *oracle_rows.slopes(true_loss, at)]
    got = [found.value, *found.dx, *(getattr(found, "d" + key) for key in loss.parameters)]
    p = 1 / (1 + np.exp(-x.astype(float))) if name.endswith("_logits") else x.astype(float)
    # Near where p = t terms cancel, of which it is: each is at most twice the inverse of a denominator.
    scale = max(*map(abs, true[1 : 1 + n]), 2 / np.sum(p**2 + t.astype(float) ** 2)) if kind == "soft" else 0
    for one, other in zip(got, true, strict=True):
        error = oracle.ulp_error(float(one), other, dtype.__name__)
        assert error <= 8 or abs(one - other) <= 4 * np.finfo(dtype).eps * scale, (seed, error)


@pytest.mark.parametrize("axis", [None, 1, (2, 3), (0, 2, 3), (-1, 0)])
@pytest.mark.parametrize("name", ["dice_logits", "focal_tversky_logits"])
def test_axes_say_what_is_a_region(name: str, axis: Any) -> None:
    """Of each the loss and the derivatives are those of its elements alone."""
    loss = loss_of(name)
    found = loss(LOGITS, MASKS, axis=axis)
    slopes = loss.value_and_grad(LOGITS, MASKS, axis=axis, wrt=("x", "smooth"))
    axes = tuple(range(4)) if axis is None else tuple(np.atleast_1d(axis) % 4)
    rest = tuple(k for k in range(4) if k not in axes)
    assert found.shape == slopes.value.shape == slopes.dsmooth.shape == tuple(LOGITS.shape[k] for k in rest)
    for place in np.ndindex(found.shape):
        at: Any = [slice(None)] * 4
        for k, index in zip(rest, place, strict=True):
            at[k] = index
        alone = loss.value_and_grad(LOGITS[tuple(at)], MASKS[tuple(at)])
        np.testing.assert_allclose(found[place], alone.value, rtol=1e-14)
        np.testing.assert_allclose(slopes.dx[tuple(at)], alone.dx, rtol=1e-11, atol=1e-18)
        np.testing.assert_allclose(slopes.dsmooth[place], alone.dsmooth, rtol=1e-11)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_reductions(reduction: str) -> None:
    each = losses.tversky_logits.value_and_grad(LOGITS, MASKS, 0.3, 0.7, axis=(2, 3))
    count = each.value.size if reduction == "mean" else 1
    found = losses.tversky_logits.value_and_grad(LOGITS, MASKS, 0.3, 0.7, axis=(2, 3), reduction=reduction)
    for one, other in zip(found, each, strict=True):
        whole = other if np.ndim(other) == 4 else np.sum(other)
        np.testing.assert_allclose(one, whole / count, rtol=1e-12, atol=1e-17)
    value = losses.tversky_logits(LOGITS, MASKS, 0.3, 0.7, axis=(2, 3), reduction=reduction)
    np.testing.assert_array_equal(value, found.value)


def test_parameters_may_be_arrays_over_what_is_left() -> None:
    alpha = np.array([0.1, 0.4, 0.9])[:, None, None]
    found = losses.tversky_logits.value_and_grad(LOGITS, MASKS, alpha, 0.5, axis=(2, 3), reduction="mean")
    assert found.dalpha.shape == alpha.shape
    for k in range(3):
        part = losses.tversky_logits.value_and_grad(
            LOGITS[:, k], MASKS[:, k], float(alpha[k, 0, 0]), 0.5, axis=(1, 2), reduction="mean"
        )
        np.testing.assert_allclose(found.dalpha[k], part.dalpha / 3, rtol=1e-12)


def test_elements_that_are_excluded_count_nothing() -> None:
    x = LOGITS.copy()
    x[..., 2:] = np.nan
    weights = np.where(np.arange(5) < 2, 1.0, 0.0)
    found = losses.jaccard_logits.value_and_grad(x, MASKS, weights=weights, axis=(2, 3), reduction="sum")
    alone = losses.jaccard_logits.value_and_grad(LOGITS[..., :2], MASKS[..., :2], axis=(2, 3), reduction="sum")
    np.testing.assert_allclose(found.value, alone.value, rtol=1e-14)
    np.testing.assert_allclose(found.dx[..., :2], alone.dx, rtol=1e-12)
    assert (found.dx[..., 2:] == 0).all()


def test_regions_without_a_target() -> None:
    """All ways that others have, each with the derivatives that follow from it."""
    x, t = LOGITS, MASKS.copy()
    t[0, 0] = False
    there = np.ones((4, 3), bool)
    there[0, 0] = False
    usual = losses.dice_logits(x, t, axis=(2, 3))
    p = 1 / (1 + np.exp(-x[0, 0]))
    expected = {"one": 1.0, "zero": 0.0, "mean": p.mean(), "skip": 0.0}
    for empty, value in expected.items():
        found = losses.dice_logits.value_and_grad(x, t, axis=(2, 3), empty=empty)
        np.testing.assert_allclose(found.value, np.where(there, usual, value), rtol=1e-14)
        np.testing.assert_allclose(found.dx[0, 0], p * (1 - p) / 30 if empty == "mean" else 0, rtol=1e-13)
        mean = losses.dice_logits.value_and_grad(x, t, axis=(2, 3), empty=empty, reduction="mean")
        count = 11 if empty == "skip" else 12
        np.testing.assert_allclose(mean.value, found.value.sum() / count, rtol=1e-14)
        np.testing.assert_allclose(mean.dx, found.dx / count, rtol=1e-12, atol=1e-18)
    nothing = losses.dice.value_and_grad(np.zeros(3), np.zeros(3))
    assert nothing.value == 0
    assert (nothing.dx == 0).all()


def test_classes_by_softmax() -> None:
    """As of the probabilities, where these have their digits; and with them where they have not."""
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    hot = np.eye(3)[CLASSES].transpose(0, 3, 1, 2)
    options: dict[str, Any] = {"axis": (0, 2, 3)}
    found = losses.dice_logits(LOGITS, CLASSES, softmax_axis=1, **options)
    np.testing.assert_allclose(found, losses.dice(p, hot, **options), rtol=1e-13)
    np.testing.assert_allclose(losses.dice_logits(LOGITS, hot, softmax_axis=1, **options), found, rtol=1e-14)
    slopes = losses.dice_logits.value_and_grad(LOGITS, CLASSES, softmax_axis=1, reduction="mean", **options).dx
    for place in ((0, 0, 0, 0), (2, 1, 3, 4), (3, 2, 5, 0)):
        moved = []
        for side in (1e-6, -1e-6):
            x = LOGITS.copy()
            x[place] += side
            moved.append(losses.dice_logits(x, CLASSES, softmax_axis=1, reduction="mean", **options))
        np.testing.assert_allclose(slopes[place], (moved[0] - moved[1]) / 2e-6, rtol=1e-5, atol=1e-9)
    sure = np.array([[60.0, 0, -5], [-3, 50, 0]])
    rest = np.exp(-60) + np.exp(-65)
    found = losses.dice_logits.value_and_grad(sure[:1], np.array([0]), softmax_axis=1)
    np.testing.assert_allclose(found.value, rest, rtol=1e-13)
    np.testing.assert_allclose(found.dx, [[-rest, np.exp(-60), np.exp(-65)]], rtol=1e-13)


def test_an_index_may_be_left_out() -> None:
    target = CLASSES.copy()
    target[:, 3] = 255
    keep = [0, 1, 2, 4, 5]
    found = losses.jaccard_logits(LOGITS, target, softmax_axis=1, ignore_index=255, axis=(0, 2, 3))
    expected = losses.jaccard_logits(LOGITS[:, :, keep], CLASSES[:, keep], softmax_axis=1, axis=(0, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    binary = losses.dice_logits(np.array([1.0, 2, 3]), np.array([1, 255, 0]), ignore_index=255)
    np.testing.assert_allclose(binary, losses.dice_logits(np.array([1.0, 3]), np.array([1, 0])), rtol=1e-15)


def test_bad_input_is_refused_by_name() -> None:
    x, t = np.ones((2, 3)), np.ones((2, 3))
    cases: list[tuple[Any, type, str]] = [
        (lambda: losses.dice(x, t, axis=2), ValueError, "axis 2"),
        (lambda: losses.dice(x, t, axis=(0, 0)), ValueError, "axis must name"),
        (lambda: losses.dice(x, t, axis=0.5), TypeError, "axis must be an integer"),
        (lambda: losses.dice(x, t, empty="none"), ValueError, "empty must be one of"),
        (lambda: losses.dice(x, t, softmax_axis=1), ValueError, "dice_logits"),
        (lambda: losses.dice_logits(x, np.array([0, 3]), softmax_axis=1), ValueError, "class 3"),
        (lambda: losses.dice_logits(x, t, ignore_index=255), TypeError, "target of integers"),
        (lambda: losses.dice(x, t, smooth=-1.0), ValueError, "smooth"),
        (lambda: losses.dice(x, t, reduction="all"), ValueError, "reduction"),
        (lambda: losses.dice(x), TypeError, "needs target"),
        (lambda: losses.dice(x, t, out=x), TypeError, "does not take out"),
        (lambda: losses.dice.value_and_grad(x, t, wrt=("p",)), ValueError, "wrt"),
        (lambda: losses.dice(np.ma.masked_array(x), t), TypeError, "convert it"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()


def test_one_pass_for_a_sum_of_losses() -> None:
    """Of a loss of elements the mean over the same axes counts; the parts are there."""
    total = losses.dice_logits + 0.5 * losses.bce_logits
    found = total.value_and_grad(LOGITS, MASKS, axis=(2, 3), reduction="sum", wrt=("x", "pos_weight"))
    dice = losses.dice_logits.value_and_grad(LOGITS, MASKS, axis=(2, 3), reduction="sum", wrt=("x",))
    bce = losses.bce_logits.value_and_grad(LOGITS, MASKS, reduction="sum", wrt=("x", "pos_weight"))
    np.testing.assert_allclose(found.value, dice.value + 0.5 * bce.value / 30, rtol=1e-13)
    np.testing.assert_allclose(found.dx, dice.dx + 0.5 * bce.dx / 30, rtol=1e-11, atol=1e-17)
    np.testing.assert_allclose(found.dpos_weight, 0.5 * bce.dpos_weight / 30, rtol=1e-13)
    assert total.parts[0] is losses.dice_logits
    learned = losses.dice_logits.times("lam", 0.5) + losses.bce_logits.times("mu", 2.0)
    found = learned.value_and_grad(LOGITS, MASKS, axis=(2, 3), reduction="sum", wrt=("lam", "mu"))
    np.testing.assert_allclose(found.value, 0.5 * dice.value + 2 * bce.value / 30, rtol=1e-13)
    np.testing.assert_allclose([found.dlam, found.dmu], [dice.value, bce.value / 30], rtol=1e-13)
    for one in (losses.dice_logits, total, learned, 0.25 * losses.jaccard, losses.bce + losses.dice):
        again = pickle.loads(pickle.dumps(one))
        p = 1 / (1 + np.exp(-LOGITS))
        np.testing.assert_array_equal(again(p, MASKS), one(p, MASKS))


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(LOGITS[:2, :, :2, :2], requires_grad=True)
    t, classes = torch.tensor(MASKS[:2, :, :2, :2]), torch.tensor(CLASSES[:2, :2, :2])
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("dice_logits", t, {"axis": (2, 3)}),
        ("focal_tversky_logits", t, {"axis": (0, 2, 3), "reduction": "mean"}),
        ("jaccard_logits", classes, {"axis": (0, 2, 3), "reduction": "sum", "softmax_axis": 1}),
        ("squared_dice_logits", t, {"axis": (2, 3), "reduction": "mean", "empty": "skip"}),
        ("dice_logits", t, {}),
    ]
    for name, target, options in cases:
        loss = loss_of(name)
        assert torch.autograd.gradcheck(lambda x: loss(x, target, **options), (x,))  # noqa: B023
        assert torch.autograd.gradgradcheck(lambda x: loss(x, target, **options), (x,))  # noqa: B023
        expected = loss.value_and_grad(x.detach().numpy(), target.numpy(), wrt=("x",), **options)
        found = loss.value_and_grad(x.detach(), target, wrt=("x",), **options)
        np.testing.assert_allclose(found.value, expected.value, rtol=1e-13)
        np.testing.assert_allclose(found.dx, expected.dx, rtol=1e-11, atol=1e-17)
        by_func = torch.func.grad(lambda x: loss(x, target, **options).sum())(x.detach())  # noqa: B023
        total = found.dx if options.get("reduction", "none") != "none" else expected.dx
        np.testing.assert_allclose(by_func, total, rtol=1e-11, atol=1e-17)
    smooth = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: losses.tversky_logits(x, t, smooth=s, axis=1), (x, smooth))
    half = torch.tensor(LOGITS, dtype=torch.float16)
    found = losses.dice_logits(half, torch.tensor(MASKS), axis=(2, 3))
    assert found.dtype is torch.float16
    torch.testing.assert_close(found, losses.dice_logits(half.float(), torch.tensor(MASKS), axis=(2, 3)).half())


def test_arrays_of_jax() -> None:
    jax = pytest.importorskip("jax")
    x, t, classes = jax.numpy.asarray(LOGITS, "float32"), jax.numpy.asarray(MASKS), jax.numpy.asarray(CLASSES)
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("dice_logits", t, {"axis": (2, 3)}),
        ("focal_tversky_logits", t, {"axis": (0, 2, 3), "reduction": "mean"}),
        ("jaccard_logits", classes, {"axis": (0, 2, 3), "reduction": "sum", "softmax_axis": 1}),
        ("dice_logits", t, {"axis": (2, 3), "reduction": "mean", "empty": "skip"}),
    ]
    for name, target, options in cases:
        loss = loss_of(name)

        def total(x: Any) -> Any:
            return loss(x, target, **options).sum()  # noqa: B023

        expected = loss.value_and_grad(np.asarray(x), np.asarray(target), wrt=("x",), **options)
        np.testing.assert_allclose(jax.jit(total)(x), expected.value.sum(), rtol=1e-5)
        np.testing.assert_allclose(jax.jit(jax.grad(total))(x), expected.dx, rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(jax.jvp(total, (x,), (x,))[1], (expected.dx * LOGITS).sum(), rtol=1e-4)
    mapped = jax.vmap(lambda x, t: losses.dice_logits(x, t, axis=(1, 2)))(x, t)
    np.testing.assert_allclose(mapped, losses.dice_logits(LOGITS, MASKS, axis=(2, 3)), rtol=1e-5)


def test_as_a_module() -> None:
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    x, t = torch.tensor(LOGITS, requires_grad=True), torch.tensor(MASKS)
    beta = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
    module = frt.Loss(losses.tversky_logits, axis=(2, 3), beta=beta, empty="skip")
    assert "axis=(2, 3)" in repr(module)
    module(x, t).backward()
    expected = losses.tversky_logits.value_and_grad(LOGITS, MASKS, 0.5, 0.7, axis=(2, 3), reduction="mean")
    np.testing.assert_allclose(x.grad, expected.dx, rtol=1e-11, atol=1e-17)
    np.testing.assert_allclose(beta.grad, expected.dbeta, rtol=1e-12)
    with pytest.raises(TypeError, match="has no parameter axes: it has smooth, axis, empty"):
        frt.Loss(losses.dice_logits, axes=(2, 3))


def test_what_is_said_of_them() -> None:
    assert "softmax_axis" in losses.dice_logits.__doc__ and "Dice loss of logits" in losses.dice_logits.__doc__
    logits, classes = np.zeros((1, 2, 2, 2)), np.array([[[0, 1], [1, 1]]])
    np.testing.assert_allclose(losses.dice_logits(logits, classes, softmax_axis=1, axis=(0, 2, 3)), [2 / 3, 0.4])
