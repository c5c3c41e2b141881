"""Modules under the names of `torch.nn`'s: the same numbers and gradients, where those are right."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import fastrobust.torch as frt  # noqa: E402
from fastrobust import losses  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own


def _data(name: str, dtype: Any) -> list[Any]:
    """Input, target and what else PyTorch's module is called with: of many sizes, with ties and bends."""
    generator = torch.Generator().manual_seed(3)
    input, target = (3 * torch.randn(40, 5, generator=generator, dtype=dtype) for _ in range(2))
    input[0] = target[0]
    input[1] = target[1] + 0.5  # where the parameters below bend
    if name.startswith("BCE"):
        target = torch.rand(40, 5, generator=generator, dtype=dtype)
        target[:20] = target[:20].round()
        input = input.sigmoid() if name == "BCELoss" else input
    more = [0.1 + input.detach().abs()] if name == "GaussianNLLLoss" else []
    return [input, target, *more]


CASES: list[tuple[str, dict[str, Any]]] = [
    ("MSELoss", {}),
    ("L1Loss", {}),
    ("HuberLoss", {}),
    ("HuberLoss", {"delta": 0.5}),
    ("SmoothL1Loss", {}),
    ("SmoothL1Loss", {"beta": 0.5}),
    ("SmoothL1Loss", {"beta": 0.0}),
    ("BCELoss", {}),
    ("BCEWithLogitsLoss", {}),
    ("BCEWithLogitsLoss", {"pos_weight": None}),
    ("BCEWithLogitsLoss", {"pos_weight": torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])}),
    ("GaussianNLLLoss", {}),
]
USUAL = sorted({name for name, _ in CASES})


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_the_same_numbers_as_pytorchs(name: str, arguments: dict[str, Any], reduction: str) -> None:
    """Values and gradients in all that it is called with, to a few roundings of PyTorch's own."""
    ours, theirs = (getattr(module, name)(reduction=reduction, **arguments) for module in (frt, torch.nn))
    results = []
    for module in (ours, theirs):
        tensors = [tensor.requires_grad_() for tensor in _data(name, torch.float64)]
        value = module(*tensors)
        direction = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape)
        value.backward(direction if reduction == "none" else None)
        results.append([value.detach(), *(tensor.grad for tensor in tensors)])
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_each_differs_where_it_says_so() -> None:
    """PyTorch cuts off probabilities, logits and variances."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    tiny = torch.tensor([1e-300], dtype=torch.float64)
    assert torch.nn.BCELoss()(tiny, one) == 100
    assert frt.BCELoss()(tiny, one).item() == pytest.approx(690.775527898214, rel=1e-14)
    assert frt.BCELoss()(zero, one).item() == float("inf")
    logit = torch.tensor([40.0], dtype=torch.float64, requires_grad=True)
    frt.BCEWithLogitsLoss()(logit, one).backward()
    assert logit.grad.item() == pytest.approx(-4.24835425529159e-18, rel=1e-14, abs=0)
    small = torch.full((1,), 1e-12, dtype=torch.float64)
    assert frt.GaussianNLLLoss()(zero, zero, small).item() == pytest.approx(-13.8155105579643, rel=1e-14)
    assert torch.nn.GaussianNLLLoss()(zero, zero, small).item() == pytest.approx(-6.90775527898214, rel=1e-14)
    assert frt.BCEWithLogitsLoss(label_smoothing=0.1)(logit, one).item() == pytest.approx(2.0, rel=1e-14)


@pytest.mark.parametrize("name", USUAL)
def test_each_is_described_and_shown(name: str) -> None:
    kind = getattr(frt, name)
    module = kind(reduction="sum")
    assert issubclass(kind, frt.Loss) and name in frt.__all__ and kind.__module__ == "fastrobust.torch"
    first = kind.__doc__.splitlines()[0]
    assert first[0].isupper() and first.endswith(".") and f"torch.nn.{name}" in kind.__doc__
    assert all(len(line) <= 120 for line in kind.__doc__.splitlines())
    shown = [f"{key}={value:.4g}" for key, value in module.loss.formula.defaults.items()]
    assert repr(module) == f"{name}({', '.join([*shown, 'reduction=' + repr('sum')])})"
    assert all(parameter in kind.__doc__ for parameter in module.loss.parameters)
    assert list(inspect.signature(kind).parameters) == ["reduction", "parameters"]
    with pytest.raises(TypeError, match="has no parameter size"):
        kind(size=1.0)
    with pytest.raises(TypeError, match="required positional argument: 'target'"):
        module(torch.ones(2))
    with pytest.raises(TypeError, match="positional argument"):
        kind("sum")


def test_a_parameter_learns_and_goes_through_all_that_keeps_modules() -> None:
    criterion = frt.HuberLoss(delta=torch.nn.Parameter(torch.tensor(0.7)))
    input, target = (tensor.float() for tensor in _data("HuberLoss", torch.float64))
    value = criterion(input=input, target=target)
    value.backward()
    wanted = losses.huber.value_and_grad(input - target, torch.tensor(0.7), reduction="mean").ddelta
    torch.testing.assert_close(criterion.delta.grad, wanted)
    assert repr(criterion) == "HuberLoss(delta=0.7, reduction='mean')"
    memory = io.BytesIO()
    torch.save(criterion, memory)
    memory.seek(0)
    for other in (
        copy.deepcopy(criterion),
        pickle.loads(pickle.dumps(criterion)),
        torch.load(memory, weights_only=False),
    ):
        assert type(other) is frt.HuberLoss and other.loss is losses.huber
        assert other.delta is not criterion.delta and torch.equal(other(input, target), value)
    fresh = frt.HuberLoss(delta=torch.nn.Parameter(torch.tensor(2.0)))
    assert not torch.equal(fresh(input, target), value)
    fresh.load_state_dict(criterion.state_dict())
    assert torch.equal(fresh(input, target), value)
    step = torch.optim.SGD(criterion.parameters(), lr=0.5)
    step.step()
    assert criterion.delta.item() == pytest.approx(0.7 - 0.5 * wanted.item(), rel=1e-6)
    assert frt.HuberLoss(delta=torch.tensor(2.0)).double().delta.dtype == torch.float64  # a buffer


def test_one_is_compiled_and_exported() -> None:
    criterion = frt.BCEWithLogitsLoss(pos_weight=torch.nn.Parameter(torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0])))
    logits, labels = (tensor.float() for tensor in _data("BCEWithLogitsLoss", torch.float64))
    criterion(logits, labels).backward()
    wanted, criterion.pos_weight.grad = criterion.pos_weight.grad, None
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, labels), criterion(logits, labels))
    compiled(logits, labels).backward()
    torch.testing.assert_close(criterion.pos_weight.grad, wanted)
    program = torch.export.export(criterion, (logits, labels))
    assert [name for name, _ in program.named_parameters()] == ["pos_weight"]
    torch.testing.assert_close(program.module()(logits, labels), criterion(logits, labels))
    torch._dynamo.reset()


def test_a_loss_of_several_data_takes_a_target_too() -> None:
    """Residuals are made where the loss has no target: those of the noise, beside the signal-to-noise ratio."""
    noise, other, log_snr = torch.randn(6), torch.randn(6), torch.linspace(-3, 3, 6)
    module = frt.Loss(losses.min_snr_noise, reduction="none", gamma=2.0)
    torch.testing.assert_close(module(noise, other, log_snr), losses.min_snr_noise(noise - other, log_snr, 2.0))
    torch.testing.assert_close(module(noise - other, log_snr), losses.min_snr_noise(noise - other, log_snr, 2.0))
    with pytest.raises(TypeError, match="min_snr_noise takes x, log_snr; got 1 tensors"):
        module(noise)
