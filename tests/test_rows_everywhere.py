"""Losses of rows and of sums: what is excluded, masked, at ties, half, or does not fit, alike on all libraries."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import logsumexp, norm, sqrt, sum

torch = pytest.importorskip("torch")
jax = pytest.importorskip("jax")

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
T, J = torch.tensor, jax.numpy.asarray
RNG = np.random.default_rng(8)
X = RNG.standard_normal((3, 4))
NAN = float("nan")


def slopes(loss: Callable[[Any, Callable[[Any], Any]], Any], x: Any) -> list[Any]:
    """The derivatives of a sum in x: by autograd, `torch.func` and JAX; the loss gets what makes arrays."""
    tensor = T(np.asarray(x, float), requires_grad=True)
    loss(tensor, T).sum().backward()
    by_func = torch.func.grad(lambda x: loss(x, T).sum())(tensor.detach())
    by_jax = jax.grad(lambda x: loss(x, J).sum())(J(np.asarray(x, "float32")))
    return [tensor.grad, by_func, by_jax]


def alike(loss: Any, x: Any, expected: Any) -> None:
    for found in slopes(loss, x):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_what_is_excluded_leaves_no_nan() -> None:
    """Capped logits, and classes by softmax of which none counts."""
    x, t, w = [[NAN, 1.0], [2.0, 3.0]], [0, 1], [0.0, 1.0]
    expected = losses.cross_entropy.value_and_grad(np.array(x), np.array(t), weights=w, softcap=5.0).dx
    assert (expected[0] == 0).all() and (expected[1] != 0).all()
    alike(lambda x, a: losses.cross_entropy(x, a(t), weights=a(w), softcap=5.0), x, expected)
    logits, weights = RNG.standard_normal((2, 3, 4)), np.ones((2, 1, 4))
    logits[0, :, 1], weights[0, 0, 1] = NAN, 0
    target = np.array([[0, 1, 2, 0], [1, 1, 0, 2]])
    options: dict[str, Any] = {"axis": 2, "softmax_axis": 1}
    found = losses.dice_logits.value_and_grad(logits, target, weights=weights, wrt=("x",), **options).dx
    assert np.isfinite(found).all() and (found[0, :, 1] == 0).all()
    alike(lambda x, a: losses.dice_logits(x, a(target), weights=a(weights), **options), logits, found)
    left_out = np.where(np.arange(4) == 1, 255, target)
    logits[1, :, 1] = NAN
    found = losses.dice_logits.value_and_grad(logits, left_out, ignore_index=255, wrt=("x",), **options).dx
    assert np.isfinite(found).all()


def test_masked_classes() -> None:
    """Logits of minus infinity, up to all but one of an element."""
    x, t = np.array([[1.0, -np.inf], [2.0, -np.inf], [0.0, 1.0]]), [0, 1, 1]
    found = losses.dice_logits.value_and_grad(x, np.array(t), softmax_axis=1)
    p = np.array([[1, 0], [1, 0], np.exp([0, 1]) / (1 + np.e)])
    np.testing.assert_allclose(found.value, losses.dice(p, np.eye(2)[t]), rtol=1e-14)
    np.testing.assert_array_equal(found.dx[:2], 0)
    alike(lambda x, a: losses.dice_logits(x, a(t), softmax_axis=1), x, found.dx)
    alone = losses.dice_logits.value_and_grad(np.ones((3, 1)), np.zeros(3, int), softmax_axis=1)
    assert alone.value == 0 and (alone.dx == 0).all()


def test_vectors_of_zeros_are_constant() -> None:
    a, p = [[0.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [1.0, 1.0]]
    expected = losses.info_nce.value_and_grad(np.array(a), np.array(p), 0.5).danchor
    assert (expected[0] == 0).all()
    alike(lambda x, b: losses.info_nce(x, b(np.array(p, x.dtype if b is J else float)), 0.5), a, expected)
    given = {"distance": "cosine"}
    expected = losses.triplet.value_and_grad(np.array(a), np.array(p), np.array(a), **given).danchor
    assert (expected[0] == 0).all()
    alike(lambda x, b: losses.triplet(x, b(p), b(a), **given), a, expected)


def test_ties_of_classes_are_the_first_ones() -> None:
    expected = losses.multiclass_hinge.value_and_grad(np.array([[0.0, 1, 1]]), np.array([0])).dx
    np.testing.assert_array_equal(expected, [[-1, 1, 0]])
    alike(lambda x, a: losses.multiclass_hinge(x, a([0])), [[0.0, 1, 1]], expected)


@pytest.mark.parametrize("wrong", [-100, 9])
def test_indices_that_are_no_class(wrong: int) -> None:
    """An error where values can be looked at, and NaN where not."""
    target = np.array([0, 1, wrong])
    for make in (np.asarray, T, J):
        with pytest.raises(ValueError, match=f"class {wrong}"):
            losses.multiclass_hinge(make(X), make(target))
        with pytest.raises(ValueError, match=f"class {wrong}"):
            losses.softmax_focal(make(X), make(target))
    for loss in (losses.multiclass_hinge, losses.softmax_focal):
        found = jax.jit(lambda x, t, loss=loss: loss(x, t))(J(X), J(target))
        np.testing.assert_array_equal(np.isnan(found), [False, False, True])


def test_halves_are_computed_in_float32() -> None:
    h = T(RNG.standard_normal((3, 5)) * 200)
    found = losses.info_nce(h.half(), h.half(), 1.0, normalize=False)
    assert found.dtype is torch.float16
    np.testing.assert_allclose(found, losses.info_nce(h.half().float(), h.half().float(), 1.0, normalize=False).half())
    x = T([[60.0, 0, 5]], dtype=torch.bfloat16, requires_grad=True)
    losses.cross_entropy(x, T([1]), softcap=30.0).sum().backward()
    wide = losses.cross_entropy.value_and_grad(np.array([[60.0, 0, 5]]), np.array([1]), softcap=30.0).dx
    np.testing.assert_allclose(x.grad.float(), wide, rtol=4e-3)
    steep = T([[300.0, 0, 5]], requires_grad=True)
    losses.cross_entropy(steep, T([1]), softcap=30.0).sum().backward()
    expected = losses.cross_entropy.value_and_grad(np.array([[300.0, 0, 5]]), np.array([1]), softcap=30.0).dx
    np.testing.assert_allclose(steep.grad, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.norm(fr.loss)(np.array([[6e4, 6e4]], "f2"), 0.0, 1.0), [22.0])
    p, t = RNG.random((3, 4)).astype("f2"), X > 0
    assert losses.dice(p, t).dtype == np.float16
    assert losses.dice(p, t.astype(float)).dtype == np.float64


def test_losses_of_lengths_with_other_names_and_second_derivatives() -> None:
    @fr.define(params="c")
    def mine(residual: Any, c: Any = 1.0) -> Any:
        return sqrt(1 + (residual / c) ** 2) - 1

    flow = np.array([[3.0, 4.0], [1.0, 0.0]])
    found = losses.norm(mine).value_and_grad(flow, 1.0)
    np.testing.assert_allclose(found.dresidual, [[0.6 * 5 / 26**0.5, 0.8 * 5 / 26**0.5], [0.5**0.5, 0]])
    x = T(flow, requires_grad=True)
    for reduction in ("sum", "mean"):
        assert torch.autograd.gradgradcheck(lambda x: losses.norm(losses.huber)(x, 0.7, reduction=reduction), (x,))  # noqa: B023
    weights = torch.ones(2, dtype=torch.float64, requires_grad=True)
    assert losses.norm(losses.huber)(x, 1.0, weights=weights).requires_grad


def test_transformations_of_pytorch() -> None:
    xs, index = torch.randn(2, 4, 3), T([0, 1, 2, 0])
    mapped = torch.func.vmap(lambda x: losses.dice_logits(x, index, softmax_axis=1))(xs)
    for x, found in zip(xs, mapped, strict=True):
        torch.testing.assert_close(found, losses.dice_logits(x, index, softmax_axis=1))
    rows = [T(RNG.standard_normal((3, 4))) for _ in range(3)]
    for margin in (np.array([1.0, 2, 3]), [1.0, 2, 3]):
        by_func = torch.func.grad(lambda a: losses.triplet(a, *rows[1:], margin).sum())(rows[0])  # noqa: B023
        expected = losses.triplet.value_and_grad(*[row.numpy() for row in rows], margin).danchor
        np.testing.assert_allclose(by_func, expected, rtol=1e-12)


def test_rows_of_nothing() -> None:
    for make in (np.asarray, T, J):
        np.testing.assert_array_equal(logsumexp(make(np.zeros((2, 0)))), [-np.inf, -np.inf])
        np.testing.assert_array_equal(norm(make(np.zeros((2, 0)))), [0, 0])
        assert norm(make(np.zeros((0, 3)))).shape == (0,)


@fr.define
def relative(x: Any, target: Any) -> Any:
    return sum((x - target) ** 2) / sum(target**2)


def test_numbers_in_place_of_data() -> None:
    np.testing.assert_allclose(relative(2.0, abs(X), axis=0), ((2 - abs(X)) ** 2).sum(0) / (X**2).sum(0))
    np.testing.assert_allclose(relative(X, 2.0), ((X - 2) ** 2).sum() / 48)


def _norm_in_a_formula(x: Any) -> Any:
    return norm(x)


def _builtin_sum(x: Any) -> Any:
    return builtins.sum(x)


CLASSES = np.array([0, 1, 2])
CASES: list[tuple[Callable[[], Any], type, str]] = [
    (lambda: losses.dice(abs(X), X > 0, np.ones(3), axis=1), ValueError, r"smooth has the shape \(3,\)"),
    (lambda: losses.dice(abs(X), X > 0, np.ones((3, 4))), ValueError, r"broadcast to \(1, 1\)"),
    (lambda: losses.dice(T(abs(X)), T(X > 0), T(np.ones(3)), axis=1), ValueError, "smooth has the shape"),
    (lambda: losses.triplet(J(X), J(X), J(X), np.ones((2, 3))), ValueError, "margin must broadcast to the rows"),
    (lambda: losses.triplet(J(X), J(X), J(X), weights=np.ones(2)), ValueError, "weights must broadcast to the rows"),
    (lambda: losses.norm(losses.huber)(X, np.ones((2, 3))), ValueError, "delta must broadcast to the rows"),
    (lambda: losses.info_nce(T(X), X), TypeError, "positive is a numpy.ndarray and anchor a torch.Tensor"),
    (lambda: losses.info_nce(X[:0], X[:0]), ValueError, "N at least 1"),
    (lambda: losses.info_nce.value_and_grad(X, X, wrt=("negatives",)), ValueError, "there are none"),
    (lambda: losses.dice_logits(X, CLASSES[:, None], ignore_index="a"), TypeError, "ignore_index must be an integer"),
    (lambda: losses.dice_logits(X, X > 0, weights=np.ma.masked_array(X)), TypeError, "MaskedArray: convert it"),
    (lambda: losses.dice_logits(X, X > 0, softmax_axis=(0, 1)), TypeError, "softmax_axis must be an integer"),
    (lambda: losses.dice_logits(X, X > 0, softmax_axis=9), ValueError, "softmax_axis 9 is not one of the 2 axes"),
    (lambda: losses.dice_logits(X, CLASSES), ValueError, "say so with softmax_axis= where the classes are"),
    (lambda: losses.dice_logits(np.ones((4, 1, 5)), np.ones((4, 5))), ValueError, r"say so by target\[:, None\]"),
    (lambda: losses.dice_logits(T(X), T([0, 1, 255]), softmax_axis=1), ValueError, "class 255"),
    (lambda: fr.define(_norm_in_a_formula), TypeError, "norm is of arrays"),
    (lambda: fr.define(_builtin_sum), TypeError, "sum and the like from fastrobust.math"),
    (lambda: losses.dice(abs(X), np.ones(5)), ValueError, r"target has the shape \(5,\), which does not"),
    (lambda: losses.triplet(None, X, X), TypeError, "anchor is a"),
    (lambda: losses.triplet.value_and_grad(X, X, X, wrt=3), ValueError, "wrt must be a tuple"),
    (lambda: losses.multiclass_hinge(T(X), T(X[:, 0] > 0)), TypeError, "indices"),
]


@pytest.mark.parametrize(("call", "kind", "words"), CASES, ids=range(len(CASES)))
def test_what_does_not_fit_is_refused_by_name(call: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        call()


def test_meanings_of_arrays_are_refused_wherever_they_come() -> None:
    """A mask or an index, in any argument but the first, too."""
    pandas = pytest.importorskip("pandas")
    masked, series = np.ma.array([1.0, 1.0, 1e9], mask=[0, 0, 1]), pandas.Series([0, 1, 2], index=[2, 1, 0])
    labels = np.ma.array([0, 1, 2], mask=[0, 0, 1])
    calls: list[tuple[str, Any]] = [
        ("weights", lambda: losses.kl_logits(X, 2 * X, weights=masked)),
        ("target", lambda: losses.cross_entropy(X, labels)),
        ("target", lambda: losses.cross_entropy(X, series)),
        ("class_weights", lambda: losses.cross_entropy(X, np.arange(3), class_weights=np.ma.ones(4))),
        ("margin", lambda: losses.triplet(X, X, X, masked)),
        ("positive", lambda: losses.info_nce(X, pandas.DataFrame(X))),
        ("target", lambda: losses.multiclass_hinge(X, series)),
    ]
    for name, call in calls:
        with pytest.raises(TypeError, match=f"{name} is a .* convert"):
            call()
    for call in (lambda: losses.kl_logits(X, None), lambda: losses.cross_entropy(X, None)):
        with pytest.raises(TypeError, match=r"target is a builtins\.NoneType"):
            call()


def test_an_index_that_is_no_class_is_nan_with_class_weights() -> None:
    """Where values cannot be looked at; an error elsewhere."""
    given, of_class = (J(X.astype("f")), J(np.array([0, 5, 2]))), J(np.ones(4))
    for loss in (losses.cross_entropy, losses.softmax_focal, losses.multiclass_hinge):

        def found(loss: Any = loss, **options: Any) -> Any:
            return jax.jit(lambda x, index: loss(x, index, class_weights=of_class, **options))(*given)

        assert np.isnan(found()).tolist() == [False, True, False], loss
        for options in ({"ignore_index": 5}, {"weights": J([1.0, 0.0, 1.0])}):
            assert found(**options)[1] == 0 and np.isfinite(found(**options)).all(), loss


def test_a_loss_that_is_nan_has_nan_in_all_derivatives() -> None:
    x = np.array([[NAN, 1.0, 2.0], [0.0, 1.0, 2.0]])
    found = losses.softmax_focal.value_and_grad(x, np.array([1, 1]))
    assert np.isnan(found.value).tolist() == np.isnan(found.dgamma).tolist() == [True, False]
