"""Cross-entropy on tensors: derivatives of all orders, PyTorch's transformations and its own module's arguments."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from fake_cupy import launched

from fastrobust import losses

torch = pytest.importorskip("torch")

import fastrobust.torch as frt  # noqa: E402
from fastrobust.torch import _kernels  # noqa: E402

cross_entropy: Any = losses.cross_entropy
pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
OPTIONS = "temperature", "label_smoothing", "z_loss"


@pytest.fixture
def logits() -> Any:
    torch.manual_seed(0)
    return torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def target() -> Any:
    return torch.tensor([[0, 1, 2], [4, 3, 2], [1, 1, 0], [2, 3, 4]])


def numbers() -> list[Any]:
    return [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (1.3, 0.2, 0.03)]


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("of", ["index", "probabilities"])
def test_derivatives_of_two_orders(reduction: str, of: str, logits: Any, target: Any) -> None:
    """In the logits and in the options that are tensors, against differences."""
    given: dict[str, Any] = {"axis": 1, "reduction": reduction, "weights": torch.rand(4, 3, dtype=torch.float64)}
    if of == "probabilities":
        target = torch.rand(4, 5, 3, dtype=torch.float64)
    else:
        given |= {"class_weights": torch.arange(1.0, 6.0, dtype=torch.float64), "ignore_index": 3}

    def loss(x: Any, *options: Any) -> Any:
        return cross_entropy(x, target, **dict(zip(OPTIONS, options, strict=True)), **given)

    assert torch.autograd.gradcheck(loss, (logits, *numbers()))
    assert torch.autograd.gradgradcheck(loss, (logits, *numbers()))


@pytest.mark.parametrize("smooth_over", ["all", "finite"])
@pytest.mark.parametrize("of", ["index", "probabilities"])
def test_operations_and_kernels_agree(of: str, smooth_over: str, logits: Any, target: Any) -> None:
    """`torch.func` goes through the former, autograd through the latter."""
    if of == "probabilities":
        target = torch.rand(4, 5, 3, dtype=torch.float64)
    given = {"axis": 1, "label_smoothing": 0.2, "temperature": 0.8, "z_loss": 0.01, "smooth_over": smooth_over}

    def loss(x: Any) -> Any:
        return cross_entropy(x, target, reduction="mean", **given)

    (by_kernel,) = torch.autograd.grad(loss(logits), logits)
    by_operations, value = torch.func.grad_and_value(loss)(logits.detach())
    torch.testing.assert_close(by_kernel, by_operations, rtol=1e-13, atol=1e-16)
    torch.testing.assert_close(loss(logits), value, rtol=1e-14, atol=0)


def test_the_tail_of_a_right_answer_is_kept_in_all_ways() -> None:
    """Value, first and second derivatives, of which PyTorch's own are 0."""
    x, target = torch.tensor([[40.0, 0.0]], dtype=torch.float64, requires_grad=True), torch.tensor([0])
    true = 4.24835425529159e-18
    value = cross_entropy(x, target).sum()
    (slope,) = torch.autograd.grad(value, x, create_graph=True)
    (bend,) = torch.autograd.grad(slope[0, 0], x)
    for found, expected in ((value, true), (slope, [[-true, true]]), (bend, [[true, -true]])):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-14)
    by_func = torch.func.grad(lambda x: cross_entropy(x, target).sum())(x.detach())
    np.testing.assert_allclose(by_func.numpy(), [[-true, true]], rtol=1e-14)
    of_one = torch.tensor([[2.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(cross_entropy(of_one, target).sum(), of_one, create_graph=True)
    assert slope.item() == 0


def test_vmap_forward_mode_and_the_compiler(logits: Any, target: Any) -> None:
    expected = cross_entropy(logits, target, axis=1)
    mapped = torch.func.vmap(lambda x, t: cross_entropy(x, t, axis=0))(logits, target)
    torch.testing.assert_close(mapped, expected)

    def mean(x: Any, t: Any) -> Any:
        return cross_entropy(x, t, axis=1, reduction="mean")

    compiled = torch.compile(mean, fullgraph=True, backend="aot_eager")
    (one,) = torch.autograd.grad(compiled(logits, target), logits)
    (other,) = torch.autograd.grad(expected.mean(), logits)
    torch.testing.assert_close(one, other)
    jacobian = torch.func.jacfwd(mean)(logits.detach(), target)
    torch.testing.assert_close(jacobian, other)


def test_a_second_backward_computes_again(logits: Any, target: Any) -> None:
    value = cross_entropy(logits, target, axis=1, reduction="sum")
    value.backward(retain_graph=True)
    first = logits.grad.clone()
    (2 * value).backward()
    torch.testing.assert_close(logits.grad, 3 * first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype: Any) -> None:
    x = torch.randn(6, 8, dtype=dtype, requires_grad=True)
    target = torch.tensor([1, 2, 3, -100, 5, 0])
    loss = frt.CrossEntropyLoss()(x, target)
    loss.backward()
    wide = x.detach().double().requires_grad_()
    exact = torch.nn.functional.cross_entropy(wide, target)
    exact.backward()
    assert loss.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), exact, rtol=2**-7, atol=0)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=2**-7, atol=2**-20)


@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"weight": torch.arange(5.0)}, {"reduction": "none"}],
    ids=str,
)
@pytest.mark.parametrize("shape", [(7, 5), (5,), (4, 5, 3, 2)], ids=str)
def test_the_module_has_the_arguments_of_pytorchs(shape: tuple[int, ...], options: Any) -> None:
    """But for the weights of the parts of a smoothed loss."""
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    axis = min(1, len(shape) - 1)
    target = torch.randint(0, 5, shape[:axis] + shape[axis + 1 :])
    if "weight" in options:
        options = {"weight": options["weight"].double()}
    ours, theirs = frt.CrossEntropyLoss(**options), torch.nn.CrossEntropyLoss(**options)
    values = [module(x, target) for module in (ours, theirs)]
    torch.testing.assert_close(*values, equal_nan=True)
    slopes = [torch.autograd.grad(value.sum(), x)[0] for value in values]
    torch.testing.assert_close(*slopes, equal_nan=True)
    assert type(pickle.loads(pickle.dumps(ours))) is frt.CrossEntropyLoss
    probabilities = torch.rand(shape, dtype=torch.float64)
    if "weight" not in options and "ignore_index" not in options:
        torch.testing.assert_close(ours(x, probabilities), theirs(x, probabilities))


def test_a_temperature_learns() -> None:
    module = frt.CrossEntropyLoss(temperature=torch.nn.Parameter(torch.tensor(1.0)))
    module(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([1, 1])).backward()
    assert module.temperature.grad.item() < 0  # higher is better: the first answer is wrong, and sure of itself


def test_nothing_comes_from_samples_that_are_left_out(logits: Any, target: Any) -> None:
    x = logits.detach().clone()
    x[0, :, 0] = torch.nan
    target = target.clone()
    target[0, 0] = -100
    for function in (torch.func.grad, _by_autograd):
        slope = function(lambda x: cross_entropy(x, target, axis=1, ignore_index=-100, reduction="mean"))(x)
        assert not slope[0, :, 0].any() and torch.isfinite(slope).all()


def _by_autograd(function: Any) -> Any:
    def grad(x: Any) -> Any:
        x = x.clone().requires_grad_()
        return torch.autograd.grad(function(x), x)[0]

    return grad


def test_derivatives_in_one_pass(logits: Any, target: Any) -> None:
    found = cross_entropy.value_and_grad(logits, target, axis=1, reduction="mean", wrt=("x", "temperature"))
    value = cross_entropy(logits, target, axis=1, reduction="mean")
    torch.testing.assert_close(found.dx, torch.autograd.grad(value, logits)[0], rtol=0, atol=0)
    assert not found.dx.requires_grad and found.dtemperature.dtype is torch.float64
    with pytest.raises(TypeError, match="let autograd"):
        torch.func.vmap(lambda x, t: cross_entropy.value_and_grad(x, t, axis=0).dx)(logits, target)


def test_errors_are_those_of_arrays(logits: Any, target: Any) -> None:
    with pytest.raises(ValueError, match=r"the class 9 at \(0, 0\), and x has 5 classes"):
        cross_entropy(logits, target + 9, axis=1)
    with pytest.raises(TypeError, match="x and target must be tensors"):
        cross_entropy(logits, target.numpy(), axis=1)
    with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1"):
        torch.func.vmap(lambda x, t: cross_entropy(x, t, axis=0, label_smoothing=2.0))(logits, target)
    with pytest.raises(TypeError, match="let the library"):
        losses.softmax_focal.value_and_grad(logits, target, axis=1)
    with pytest.raises(ValueError, match="reduction"):
        frt.CrossEntropyLoss(reduction="avg")  # type: ignore[arg-type]


def test_cuda_tensors_go_through_cupy(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route of tensors on a GPU, with tensors of the CPU and a stand-in for CuPy."""
    torch.manual_seed(0)
    x, y, temperature = torch.randn(6, 40, 3), torch.randn(6, 40, 3), torch.tensor(1.3)
    index = torch.randint(0, 40, (6, 3), dtype=torch.int32)
    calls: list[Any] = [
        lambda x, y, t: cross_entropy(x, index, axis=1),
        lambda x, y, t: cross_entropy(x, index, axis=1, temperature=t, label_smoothing=0.1, reduction="mean"),
        lambda x, y, t: cross_entropy(x.bfloat16(), y.softmax(1), axis=1, reduction="sum"),
        lambda x, y, t: losses.softmax_focal(x, index, axis=1),
        lambda x, y, t: losses.kl_logits(x, y, axis=1, weights=torch.arange(3.0)),
        lambda x, y, t: losses.triplet(x, y, y.flip(0), t, distance="cosine", axis=1, reduction="mean"),
        lambda x, y, t: losses.norm(losses.huber)(x, 1.0, axis=1, weights=2.0),
    ]
    results: list[list[Any]] = [[], []]
    before = len(launched)
    for found in results:
        for call in calls:
            leaves = [leaf.clone().requires_grad_() for leaf in (x, y, temperature)]
            value = call(*leaves)
            slopes = torch.autograd.grad(value.sum(), leaves, allow_unused=True)
            found += [value.detach(), *(slope for slope in slopes if slope is not None)]
        # The second time.
        monkeypatch.setattr(_kernels, "array_of", lambda tensor: fake_cupy.from_dlpack(tensor.detach()))
    assert len(launched) > before and len(results[0]) == len(results[1]) == 19
    for one, other in zip(*results, strict=True):
        assert one.dtype is other.dtype
        torch.testing.assert_close(one, other, rtol=2e-6 if one.dtype is not torch.bfloat16 else 1e-2, atol=1e-7)
