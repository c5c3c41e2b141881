"""The triplet loss, and losses of the length of vectors: against mpmath, and on all libraries."""

from __future__ import annotations

import itertools
import pickle
import secrets
from typing import Any

import numpy as np
import oracle
import oracle_rows
import pytest

import fastrobust as fr
from fastrobust import losses
from fastrobust.kernels.losses.distances import DISTANCES
from fastrobust.math import logsumexp, norm

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
RNG = np.random.default_rng(2)
ROWS = RNG.standard_normal((3, 6, 5))
WAYS = list(itertools.product(DISTANCES, (False, True), (False, True)))
MARKED = [pytest.param(*way, marks=[pytest.mark.slow] * (way[0] != "euclidean" and way[2])) for way in WAYS]
NAMES = "anchor", "positive", "negative"
triplet: Any = losses.triplet


def test_reference_numbers() -> None:
    """Where PyTorch has an epsilon in every difference, and a NaN without it."""
    found = triplet.value_and_grad([[1.0, 2]], [[1.0, 2]], [[1.0, 2.1]], 1.0)
    np.testing.assert_allclose(found.value, [0.9], rtol=1e-15)
    np.testing.assert_array_equal(found.danchor, [[0, 1]])
    np.testing.assert_array_equal(found.dpositive, [[0, 0]])
    np.testing.assert_array_equal(found.dnegative, [[0, -1]])
    single = [np.array([[v, 0]], np.float32) for v in (2e20, 0, 3e20)]
    np.testing.assert_allclose(triplet(*single, 0.0), [1e20], rtol=1e-7)
    near = np.array([[np.cos(1e-4), np.sin(1e-4)]]), np.array([[1.0, 0]])
    np.testing.assert_allclose(triplet([[1.0, 0]], *near, 0.0, distance="cosine"), [4.99999999583e-9], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("distance", "swap", "soft"), MARKED)
@pytest.mark.parametrize("n", [5, 300], ids=["short", "long"])
def test_errors_are_within_a_few_units_of_the_distances(
    n: int, distance: str, swap: bool, soft: bool, dtype: Any
) -> None:
    """Value and all derivatives, of fresh rows and sizes; of long rows some."""
    seed = secrets.randbits(32)
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((3, 1, n)) * 10.0 ** rng.uniform(-3, 3)).astype(dtype)
    margin = float(dtype(rng.uniform(0.1, 2) * abs(rows).max()))
    given = {"distance": distance, "swap": swap, "soft": soft}
    found = triplet.value_and_grad(*rows, margin, **given)

    def loss(arguments: Any) -> Any:
        return oracle_rows.triplet(arguments[:-1], arguments[-1], distance, swap, soft)

    at = [*map(float, rows.ravel()), margin]
    places = range(3 * n) if n < 10 else [0, n - 1, n + 7, 2 * n + 11]
    true, h = [loss(at)], oracle_rows.mp.mpf("1e-60")
    for k in (*places, 3 * n):
        moved = [[*at[:k], oracle_rows.mp.mpf(at[k]) + side, *at[k + 1 :]] for side in (h, -h)]
        true.append((loss(moved[0]) - loss(moved[1])) / (2 * h))
    slopes = np.concatenate([part.ravel() for part in found[1:4]])
    got = [found.value[0], *slopes[list(places)], found.dmargin[0]]
    a, b, c = rows[:, 0].astype(float)
    power = 2 if distance == "squared" else 1
    far = 2.0 if distance == "cosine" else sum((abs(u - v) ** power).sum() for u, v in ((a, b), (a, c), (b, c)))
    scale = 1 + far if soft else 1.0  # by what is right to a unit of the distances the exponential is raised
    sizes = [max(abs(v) for v in slopes) * scale] * len(places)
    for one, other, size in zip(got, true, [far + margin, *sizes, scale], strict=True):
        error = oracle.ulp_error(float(one), other, np.dtype(dtype).name)
        assert error <= 6 or abs(one - other) <= 8 * np.finfo(dtype).eps * size, (seed, error, one, other)


@pytest.mark.parametrize(("distance", "swap", "soft"), MARKED)
def test_axes_strides_and_numbers_of_rows_change_no_bit(distance: str, swap: bool, soft: bool) -> None:
    given = {"distance": distance, "swap": swap, "soft": soft}
    rows = RNG.standard_normal((3, 70, 9)).astype(np.float32)
    whole = triplet.value_and_grad(*rows, 0.5, **given)
    for k in (0, 33, 69):
        alone = triplet.value_and_grad(*rows[:, k : k + 1], 0.5, **given)
        for one, other in zip(alone, whole, strict=True):
            np.testing.assert_array_equal(one, other[k : k + 1])
    turned = triplet.value_and_grad(*rows.transpose(0, 2, 1), 0.5, axis=0, **given)
    np.testing.assert_array_equal(turned.value, whole.value)
    np.testing.assert_array_equal(turned.dnegative, whole.dnegative.T)
    strided = triplet(*np.repeat(rows, 2, axis=-1)[..., ::2], 0.5, **given)
    np.testing.assert_array_equal(strided, whole.value)


def test_reductions_weights_and_margins() -> None:
    each = triplet.value_and_grad(*ROWS, 1.0)
    weights = np.array([1.0, 0, 2, 0.5, 1, 1])
    bad = ROWS.copy()
    bad[:, 1] = np.nan
    for reduction in ("none", "sum", "mean"):
        total = weights.sum() if reduction == "mean" else 1.0
        found = triplet.value_and_grad(*bad, 1.0, weights=weights, reduction=reduction)
        value = each.value * weights / total
        np.testing.assert_allclose(found.value, value if reduction == "none" else value.sum(), rtol=1e-14)
        for name in NAMES:
            expected = getattr(each, "d" + name) * (weights / total)[:, None]
            np.testing.assert_allclose(getattr(found, "d" + name), expected, rtol=1e-14)
        np.testing.assert_allclose(np.sum(found.dmargin), (each.dmargin * weights).sum() / total, rtol=1e-14)
    margins = np.linspace(0.1, 2, 6)
    found = triplet.value_and_grad(*ROWS, margins, reduction="sum")
    assert found.dmargin.shape == (6,)
    np.testing.assert_allclose(found.value, sum(triplet(*ROWS[:, k : k + 1], margins[k])[0] for k in range(6)))
    one_anchor = triplet.value_and_grad(ROWS[0, :1], ROWS[1], ROWS[2])
    assert one_anchor.danchor.shape == (6, 5)


def test_distances_of_nothing_and_of_no_number() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    for distance, swap, soft in WAYS[::3]:
        found = triplet.value_and_grad(zero, zero, zero, 0.5, distance=distance, swap=swap, soft=soft)
        assert np.isfinite(found.value).all()
        assert all((getattr(found, "d" + name) == 0).all() for name in NAMES)
        for place in range(3):
            rows = [one, one, one]
            rows[place] = np.array([[1.0, np.nan, 1.0]])
            assert np.isnan(triplet(*rows, distance=distance, swap=swap, soft=soft)).all()
    np.testing.assert_allclose(triplet(zero, one, one, 0.25, distance="cosine"), [0.25])
    huge = np.array([[1e300, 1e300]])
    found = triplet.value_and_grad(huge, -huge, huge / 2, 0.0)
    np.testing.assert_allclose(found.value, [1.5e300 * np.sqrt(2)], rtol=1e-15)
    np.testing.assert_allclose(found.dpositive, [[-np.sqrt(0.5)] * 2], rtol=1e-15)


def test_bad_input_is_refused_by_name() -> None:
    a = np.ones((2, 3))
    cases: list[tuple[Any, type, str]] = [
        (lambda: triplet(a, a, a, distance="l2"), ValueError, "distance must be one of 'euclidean'"),
        (lambda: triplet(a, a, np.ones((2, 4))), ValueError, "do not broadcast"),
        (lambda: triplet(a, a, a, np.ones(3)), ValueError, "margin must broadcast"),
        (lambda: triplet(a, a, a, axis=2), ValueError, "axis 2"),
        (lambda: triplet(a, a, a, weights=np.ones(3)), ValueError, "weights must broadcast"),
        (lambda: triplet(a, a, a, reduction="batch"), ValueError, "reduction"),
        (lambda: triplet.value_and_grad(a, a, a, wrt=("x",)), ValueError, "wrt must be"),
        (lambda: triplet(a, a * 1j, a), TypeError, "positive"),
        (lambda: losses.norm(np.linalg.norm), TypeError, "norm takes one of fastrobust.losses"),
        (lambda: losses.norm(losses.dice), TypeError, "without sums"),
        (lambda: losses.norm(losses.huber)(a, 1.0, 2.0), TypeError, "3 operands"),
        (lambda: losses.norm(fr.loss)(a, 1.0), TypeError, "needs scale"),
        (lambda: losses.norm(losses.huber)(a, d=1.0), TypeError, "does not take d"),
    ]
    for call, kind, words in cases:
        with pytest.raises(kind, match=words):
            call()


def test_tensors_and_arrays_of_jax_have_the_same() -> None:
    torch = pytest.importorskip("torch")
    rows = [torch.tensor(part[:3], requires_grad=True) for part in ROWS]
    margin = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for distance, swap, soft in WAYS[::3]:
        for reduction in ("none", "mean"):

            def loss(*given: Any, way: Any = (distance, swap, soft), reduction: str = reduction) -> Any:
                return triplet(*given, distance=way[0], swap=way[1], soft=way[2], reduction=reduction)

            assert torch.autograd.gradcheck(loss, (*rows, margin))
            if distance != "manhattan" and reduction == "mean":
                assert torch.autograd.gradgradcheck(loss, (*rows, margin))
            by_func = torch.func.grad(lambda a, loss=loss: loss(a, *rows[1:], margin).sum())(rows[0].detach())
            expected = torch.autograd.grad(loss(*rows, margin).sum(), rows[0])[0]
            torch.testing.assert_close(by_func, expected, rtol=1e-10, atol=1e-14)
    half = [part.detach().bfloat16() for part in rows]
    assert triplet(*half).dtype is torch.bfloat16
    jax = pytest.importorskip("jax")
    arrays = [jax.numpy.asarray(part, "float32") for part in ROWS]
    for distance, swap, soft in WAYS[::3]:
        given = {"distance": distance, "swap": swap, "soft": soft}
        expected = triplet.value_and_grad(*ROWS, 0.7, reduction="mean", **given)
        found = jax.jit(lambda *a, given=given: triplet.value_and_grad(*a, 0.7, reduction="mean", **given))(*arrays)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
        slopes = jax.grad(lambda a, given=given: triplet(a, *arrays[1:], 0.7, reduction="mean", **given))(arrays[0])
        np.testing.assert_allclose(slopes, expected.danchor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lengths_are_right_at_all_sizes(dtype: Any) -> None:
    least, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    x = np.array([[3, 4], [3 * least, 4 * least], [most / 2, -most / 2], [1e-30, 1e30], [0, 0]], dtype)
    true = [oracle_rows.mp.sqrt(sum(oracle_rows.mp.mpf(float(v)) ** 2 for v in row)) for row in x]
    for found, expected in zip(norm(x), true, strict=True):
        assert oracle.ulp_error(float(found), expected, np.dtype(dtype).name) <= 1
    slopes = losses.norm(losses.mae).value_and_grad(x).dx
    np.testing.assert_allclose(slopes[:3], [[0.6, 0.8], [0.6, 0.8], [0.5**0.5, -(0.5**0.5)]], rtol=3e-7)
    np.testing.assert_array_equal(slopes[4], [0, 0])
    np.testing.assert_array_equal(logsumexp(np.array([[-np.inf, -np.inf], [np.inf, 0]], dtype)), [-np.inf, np.inf])
    np.testing.assert_allclose(logsumexp(np.array([[1000.0, 1000.0]], dtype)), [1000 + np.log(2)], rtol=1e-7)


def test_losses_of_lengths() -> None:
    """Of every kind, with derivatives in components and parameters."""
    flow = RNG.standard_normal((7, 2, 3))
    flow[0, :, 0] = 0
    lengths = np.linalg.norm(flow, axis=1)
    cases: list[tuple[Any, Any, tuple[float, ...]]] = [
        (losses.huber, losses.huber, (0.8,)),
        (fr.loss, fr.loss, (0.5, 1.3)),
        (fr.loss, fr.loss, (1.0, 1.3)),
        (losses.tukey, losses.tukey, (2.0,)),
    ]
    for loss, plain, parameters in cases:
        found = losses.norm(loss).value_and_grad(flow, *parameters, axis=1, reduction="mean")
        expected = plain(lengths, *parameters, reduction="mean")
        np.testing.assert_allclose(found.value, expected, rtol=1e-14)
        np.testing.assert_allclose(losses.norm(loss)(flow, *parameters, axis=1, reduction="mean"), expected, rtol=1e-14)
        for place in ((1, 0, 1), (6, 1, 2)):
            moved = []
            for side in (1e-6, -1e-6):
                x = flow.copy()
                x[place] += side
                moved.append(losses.norm(loss)(x, *parameters, axis=1, reduction="sum"))
            np.testing.assert_allclose(found.dx[place] * lengths.size, (moved[0] - moved[1]) / 2e-6, rtol=1e-6)
        assert (found.dx[0, :, 0] == 0).all()
    pair = losses.norm(losses.contrastive)
    target, x = np.array([1.0, 0, 0]), np.array([[3.0, 4], [0.3, 0.4], [3, 4]])
    np.testing.assert_allclose(pair(x, target, 1.0), [12.5, 0.125, 0])
    np.testing.assert_allclose(pair.value_and_grad(x, target, 1.0).dx, [[3, 4], [-0.3, -0.4], [0, 0]], atol=1e-15)
    again = pickle.loads(pickle.dumps(pair))
    np.testing.assert_array_equal(again(x, target), pair(x, target, margin=1.0))


def test_lengths_of_tensors() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor(ROWS[0], requires_grad=True)
    alpha = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    robust, weights = losses.norm(fr.loss), torch.tensor([1.0, 0, 2, 1, 1, 1], dtype=torch.float64)
    for reduction in ("none", "mean"):

        def loss(x: Any, a: Any, reduction: str = reduction) -> Any:
            return robust(x, a, 1.5, weights=weights, reduction=reduction)

        assert torch.autograd.gradcheck(loss, (x, alpha))
    assert torch.autograd.gradgradcheck(lambda x, a: robust(x, a, 1.5), (x, alpha))
    with torch.no_grad():
        expected = robust.value_and_grad(ROWS[0], 0.5, 1.5, reduction="mean")
        found = robust.value_and_grad(x, 0.5, 1.5, reduction="mean")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)
    jax = pytest.importorskip("jax")
    slopes = jax.grad(lambda x: robust(x, 0.5, 1.5, reduction="mean"))(jax.numpy.asarray(ROWS[0], "float32"))
    np.testing.assert_allclose(slopes, expected.dx, rtol=1e-5, atol=1e-7)


def test_pytorchs_own_where_it_is_right() -> None:
    """Its epsilon stands in every difference, which shows in the sixth digit."""
    torch = pytest.importorskip("torch")
    own = torch.nn.functional
    rows = [torch.tensor(part) for part in ROWS]
    for swap, reduction in itertools.product((False, True), ("none", "sum", "mean")):
        given = {"margin": 0.7, "swap": swap, "reduction": reduction}
        theirs = own.triplet_margin_loss(*rows, eps=1e-30, **given)
        torch.testing.assert_close(triplet(*rows, **given), theirs, rtol=1e-12, atol=1e-14)
        theirs = own.triplet_margin_loss(*rows, p=1, eps=1e-30, **given)
        torch.testing.assert_close(triplet(*rows, distance="manhattan", **given), theirs, rtol=1e-12, atol=1e-14)
        cosine = own.triplet_margin_with_distance_loss(
            *rows, distance_function=lambda a, b: 1 - own.cosine_similarity(a, b), **given
        )
        torch.testing.assert_close(triplet(*rows, distance="cosine", **given), cosine, rtol=1e-12, atol=1e-14)
