"""Divergence by logits, the hinge loss of several classes, InfoNCE, capped logits: against another formula."""

from __future__ import annotations

import itertools
import pickle
import secrets
from typing import Any

import numpy as np
import oracle
import oracle_rows
import pytest

from fastrobust import losses

RNG = np.random.default_rng(4)
X, T = RNG.standard_normal((2, 4, 5, 3))
TARGET = RNG.integers(0, 5, (4, 3))
mp = oracle_rows.mp
hinge: Any = losses.multiclass_hinge
kl: Any = losses.kl_logits
info_nce: Any = losses.info_nce


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_divergences_keep_their_digits(dtype: Any) -> None:
    """However near the distributions are: the loss, and the derivatives against the largest of them."""
    seed = secrets.randbits(32)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        t = (rng.standard_normal(6) * 10 ** rng.uniform(-1, 1.5)).astype(dtype)
        x = (t + rng.standard_normal(6) * 10 ** rng.uniform(-6, 2)).astype(dtype)
        found = kl.value_and_grad(x, t)

        def loss(arguments: Any) -> Any:
            return oracle_rows.divergence(arguments[:6], arguments[6:])

        at = [*map(float, x), *map(float, t)]
        value, slopes = loss(at), oracle_rows.slopes(loss, at)
        size = max(abs(t.astype(float) - np.logaddexp.reduce(t.astype(float))))  # of which exp shows each unit
        apart = max(abs(x.astype(float) - t))  # of which a unit shows in double
        bound = 1 if dtype is np.float32 else 4 + 2 * size + 4 * apart / float(value)
        assert oracle.ulp_error(float(found.value), value, np.dtype(dtype).name) <= bound, seed
        eps = 2.0**-52
        for one, other in zip([*found.dx, *found.dtarget], slopes, strict=True):
            assert abs(one - other) <= 2 * np.finfo(dtype).eps * abs(other) + 4 * eps * apart, seed


def test_divergences_at_the_ends() -> None:
    x = np.array([[0, -np.inf, 1], [0, 0, -np.inf], [-1000.0, 0, 0], [np.nan, 0, 0]])
    t = np.array([[0, -np.inf, 1], [0, 0, 1.0], [0, -1000, -1000], [0, 0, 0]])
    np.testing.assert_allclose(kl(x, t), [0, np.inf, 1000 + np.log(2), np.nan])
    found = kl.value_and_grad(x[[0, 2]], t[[0, 2]], reduction="sum")
    np.testing.assert_allclose(found.dx, [[0, 0, 0], [-1, 0.5, 0.5]], atol=1e-300)
    weighted = kl.value_and_grad(x, t, weights=np.array([1.0, 0, 1, 0]), reduction="mean")
    np.testing.assert_allclose(weighted.value, (1000 + np.log(2)) / 2)
    assert np.isfinite(weighted.dx).all()


def test_divergences_on_all_libraries() -> None:
    torch = pytest.importorskip("torch")
    x, t = (torch.tensor(a, requires_grad=True) for a in (X, T))
    for reduction in ("none", "mean"):
        assert torch.autograd.gradcheck(lambda x, t: kl(x, t, axis=1, reduction=reduction), (x, t))  # noqa: B023
    assert torch.autograd.gradgradcheck(lambda x, t: kl(x, t, axis=1), (x, t))
    near = T + 1e-6 * X
    expected = kl.value_and_grad(near, T, axis=1, reduction="sum")
    by_func = torch.func.grad(lambda x: kl(x, t.detach(), axis=1, reduction="sum"))(torch.tensor(near))
    np.testing.assert_allclose(by_func, expected.dx, rtol=1e-8, atol=1e-18)
    jax = pytest.importorskip("jax")
    value, slope = jax.value_and_grad(lambda x: kl(x, jax.numpy.asarray(T, "float32"), axis=1, reduction="mean"))(
        jax.numpy.asarray(X, "float32")
    )
    expected = kl.value_and_grad(X, T, axis=1, reduction="mean")
    np.testing.assert_allclose(value, expected.value, rtol=1e-5)
    np.testing.assert_allclose(slope, expected.dx, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("kind", "power"), list(itertools.product(("crammer_singer", "weston_watkins"), (1, 2))))
def test_hinge_of_classes(kind: Any, power: Any) -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    class_weights = np.arange(1.0, 6.0)
    for reduction in ("none", "sum", "mean"):
        given: dict[str, Any] = {"kind": kind, "power": power, "axis": 1, "ignore_index": 2, "reduction": reduction}
        found = hinge.value_and_grad(X, TARGET, 0.7, class_weights=class_weights, **given)
        own = np.take_along_axis(X, TARGET[:, None], 1)
        gaps = np.maximum(0, 0.7 + X - own)
        np.put_along_axis(gaps, TARGET[:, None], 0, 1)
        each = gaps.max(1) ** power if kind == "crammer_singer" else (gaps**power).sum(1) / 5
        counted = np.where(TARGET == 2, 0, class_weights[TARGET])
        total = counted.sum() if reduction == "mean" else 1
        value = each * counted / total
        np.testing.assert_allclose(found.value, value if reduction == "none" else value.sum(), rtol=1e-13)
        x = torch.tensor(X, requires_grad=True)
        margin = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        theirs = hinge(x, torch.tensor(TARGET), margin, class_weights=torch.tensor(class_weights), **given)
        np.testing.assert_allclose(theirs.detach(), found.value, rtol=1e-13)
        slopes = torch.autograd.grad(theirs.sum(), (x, margin))
        np.testing.assert_allclose(slopes[0], found.dx, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(slopes[1], np.sum(found.dmargin), rtol=1e-12)
        arrays = jax.numpy.asarray(X, "float32"), jax.numpy.asarray(TARGET)
        weights = jax.numpy.asarray(class_weights)
        ours = jax.jit(lambda x, t: hinge(x, t, 0.7, class_weights=weights, **given))(*arrays)  # noqa: B023
        np.testing.assert_allclose(ours, found.value, rtol=1e-5, atol=1e-6)


def test_hinge_of_classes_is_pytorchs_and_excludes() -> None:
    torch = pytest.importorskip("torch")
    x, t = torch.tensor(X[:, :, 0]), torch.tensor(TARGET[:, 0])
    for power in (1, 2):
        ours = hinge(x, t, kind="weston_watkins", power=power, reduction="mean")
        torch.testing.assert_close(ours, torch.nn.functional.multi_margin_loss(x, t, p=power), rtol=1e-13, atol=0)
    bad = X.copy()
    bad[0] = np.nan
    found = hinge.value_and_grad(bad, TARGET, axis=1, weights=np.array([0.0, 1, 1, 1])[:, None], reduction="mean")
    assert np.isfinite(found.dx).all()
    assert np.isnan(hinge(bad, TARGET, axis=1)[0]).all()
    for call, kind, words in (
        (lambda: hinge(X, TARGET, axis=1, kind="ovo"), ValueError, "kind must be one of"),
        (lambda: hinge(X, TARGET, axis=1, power=3), ValueError, "power must be 1 or 2"),
        (lambda: hinge(X, TARGET + 5, axis=1), ValueError, "classes"),
        (lambda: hinge(X, T, axis=1), TypeError, "class indices"),
        (lambda: hinge(X, TARGET, "1", axis=1), TypeError, "margin must be a number"),
    ):
        with pytest.raises(kind, match=words):
            call()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"negatives": RNG.standard_normal((3, 5))},
    {"symmetric": True},
    {"normalize": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "negatives", "symmetric", "products"])
def test_info_nce(options: dict[str, Any]) -> None:
    torch, jax = pytest.importorskip("torch"), pytest.importorskip("jax")
    anchor, positive = X[..., 0], T[..., 0]
    a, p = (
        v / np.linalg.norm(v, axis=1, keepdims=True) if "normalize" not in options else v for v in (anchor, positive)
    )
    keys = p
    if "negatives" in options:
        n = options["negatives"]
        keys = np.concatenate([p, n / np.linalg.norm(n, axis=1, keepdims=True)])
    similar = a @ keys.T / 0.3
    expected = losses.cross_entropy(similar, np.arange(4))
    if "symmetric" in options:
        expected = 0.5 * (expected + losses.cross_entropy(similar.T, np.arange(4)))
    np.testing.assert_allclose(info_nce(anchor, positive, 0.3, **options), expected, rtol=1e-12)
    wrt = ("anchor", "positive", "temperature", *(["negatives"] if "negatives" in options else []))
    found = info_nce.value_and_grad(anchor, positive, 0.3, reduction="mean", wrt=wrt, **options)
    tensors = {
        name: torch.tensor(v, requires_grad=True) if isinstance(v, np.ndarray) else v for name, v in options.items()
    }
    given = [torch.tensor(v, requires_grad=True) for v in (anchor, positive, np.float64(0.3))]
    value = info_nce(*given, reduction="mean", **tensors)
    np.testing.assert_allclose(value.detach(), found.value, rtol=1e-12)
    others = [v for v in tensors.values() if isinstance(v, torch.Tensor)]
    slopes = torch.autograd.grad(value, [*given, *others])
    names = ("danchor", "dpositive", "dtemperature", *["dnegatives"] * len(others))
    for name, slope in zip(names, slopes, strict=True):
        np.testing.assert_allclose(slope, getattr(found, name), rtol=1e-10, atol=1e-14)
    arrays = {name: jax.numpy.asarray(v) if isinstance(v, np.ndarray) else v for name, v in options.items()}
    ours = info_nce(jax.numpy.asarray(anchor), jax.numpy.asarray(positive), 0.3, reduction="mean", **arrays)
    np.testing.assert_allclose(ours, found.value, rtol=1e-5)


def test_info_nce_at_the_ends_and_refusals() -> None:
    anchor = np.array([[1.0, 0], [0, 0]])
    found = info_nce.value_and_grad(anchor, anchor, 0.1, reduction="sum")
    assert np.isfinite(found.value)
    np.testing.assert_array_equal(found.danchor[1], 0)
    apart = np.eye(2) * 1e200
    np.testing.assert_allclose(info_nce(apart, apart, 0.01), [np.exp(-100)] * 2, rtol=1e-13)
    for call, kind, words in (
        (lambda: info_nce(anchor, anchor[:1]), ValueError, "one shape"),
        (lambda: info_nce(anchor, anchor, negatives=np.ones((3, 5))), ValueError, "negatives must have shape"),
        (lambda: info_nce(anchor, anchor, negatives=anchor, symmetric=True), ValueError, "leave out symmetric"),
        (lambda: info_nce(anchor, anchor, 0.0), ValueError, "temperature must be positive"),
        (lambda: info_nce.value_and_grad(anchor, anchor, wrt=("x",)), ValueError, "wrt"),
    ):
        with pytest.raises(kind, match=words):
            call()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_capped_logits(dtype: Any) -> None:
    x = (10 * X).astype(dtype)
    found = losses.cross_entropy.value_and_grad(x, TARGET, axis=1, softcap=20.0, reduction="mean")
    assert found.value.dtype == found.dx.dtype == dtype
    wide = x.astype(float)
    plain = losses.cross_entropy.value_and_grad(20 * np.tanh(wide / 20), TARGET, axis=1, reduction="mean")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found.value, plain.value, rtol=4 * eps)
    np.testing.assert_allclose(found.dx, plain.dx / np.cosh(wide / 20) ** 2, rtol=8 * eps)
    memory = np.empty_like(x)
    again = losses.cross_entropy.value_and_grad(x, TARGET, axis=1, softcap=20.0, reduction="mean", out=memory)
    np.testing.assert_array_equal(memory, found.dx)
    assert again.dx is memory
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(x, requires_grad=True)
    losses.cross_entropy(tensor, torch.tensor(TARGET), axis=1, softcap=20.0, reduction="mean").backward()
    np.testing.assert_allclose(tensor.grad, found.dx, rtol=64 * eps, atol=eps)
    for cap, kind in ((0.0, ValueError), (np.inf, ValueError), ("2", TypeError)):
        with pytest.raises(kind, match="softcap"):
            losses.cross_entropy(x, TARGET, axis=1, softcap=cap)


def test_they_are_pickled_by_name() -> None:
    for loss in (kl, hinge, info_nce, losses.triplet):
        assert pickle.loads(pickle.dumps(loss)) is loss
        assert loss.__name__ in repr(loss)


def test_the_peers_own_where_they_are_right() -> None:
    torch, optax, jax = (pytest.importorskip(name) for name in ("torch", "optax", "jax"))
    own, x, t = torch.nn.functional, torch.tensor(X), torch.tensor(T)
    for reduction, name in (("none", "none"), ("sum", "sum"), ("mean", "batchmean")):
        rows = [part.movedim(1, -1).reshape(-1, 5) for part in (x, t)]
        theirs = own.kl_div(*(part.log_softmax(1) for part in rows), reduction=name, log_target=True)
        theirs = theirs.sum(1) if reduction == "none" else theirs
        torch.testing.assert_close(kl(*rows, reduction=reduction), theirs, rtol=1e-12, atol=1e-14)
    single = [jax.numpy.asarray(part[..., 0], "float32") for part in (X, T)]
    theirs = optax.losses.kl_divergence(jax.nn.log_softmax(single[0]), jax.nn.softmax(single[1]))
    np.testing.assert_allclose(kl(*single), theirs, rtol=1e-4, atol=1e-6)
    labels = jax.numpy.asarray(TARGET[:, 0])
    theirs = optax.losses.multiclass_hinge_loss(single[0], labels)
    np.testing.assert_allclose(hinge(single[0], labels), theirs, rtol=1e-5, atol=1e-6)
