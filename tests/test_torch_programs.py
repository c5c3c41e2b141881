"""What others make of a call: numbers in compiled programs, and nothing that becomes a constant in a traced one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch._dynamo.testing import CompileCounterWithBackend  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402

import fastrobust as fr  # noqa: E402
import fastrobust.torch as frt  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
D = torch.float64


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    torch._dynamo.reset()


# --- numbers in compiled programs

CALLS: dict[str, Callable[..., Any]] = {
    "loss": lambda x, number: fr.loss(x, number, 0.7 + number),
    "nll mean": lambda x, number: fr.nll(x, number, 1.0 + number, reduction="mean"),
    "weighted": lambda x, number: fr.loss(x, 1.5, 1.0 + number, reduction="sum", weights=torch.ones(5, dtype=x.dtype)),
    "gradient": lambda x, number: fr.loss_and_grad(x, number, 1.0 + number, reduction="sum").dscale,
    "curvature": lambda x, number: fr.curvature(x, number, 1.0 + number),
}


def compiled_as_eager(function: Callable[..., Any], numbers: list[Any], dtype: Any, gradients: bool) -> int:
    """How often it was compiled for these numbers; each time the bits of the value and gradient are those without."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(function, fullgraph=True, backend=counter)
    x = torch.tensor([-3.0, -0.2, 0.0, 1e-3, 40.0], dtype=dtype, requires_grad=gradients)
    for number in numbers:
        found, expected = compiled(x, number), function(x, number)
        assert found.dtype == expected.dtype and torch.equal(found, expected), number
        if gradients:
            slopes = [torch.autograd.grad(value.sum(), x)[0] for value in (found, expected)]
            assert torch.equal(*slopes), number
    return counter.frame_count


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_new_numbers_need_no_new_program(name: str, dtype: Any) -> None:
    """Annealing: 20 numbers, compiled once for the first and once for all others."""
    assert compiled_as_eager(CALLS[name], [0.05 + 0.1 * i for i in range(20)], dtype, name != "gradient") <= 2


def test_integers_and_limits_need_few_programs() -> None:
    call = lambda x, number: fr.loss(x, number, 2)  # noqa: E731
    assert compiled_as_eager(call, list(range(20)), torch.float32, False) <= 2
    torch._dynamo.reset()
    limits = [math.inf, -math.inf, 0.0, 2.0, 1, True, -0.0, 1e-310, 1e300, 0, 2, -3.3]
    assert compiled_as_eager(call, limits, torch.bfloat16, True) <= 6


def test_a_module_whose_number_changes() -> None:
    criterion, x = frt.RobustLoss(2.0, 1.0), torch.tensor([0.5, 3.0])
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(criterion, fullgraph=True, backend=counter)
    for step in range(20):
        criterion.alpha, criterion.scale = 2 - 0.2 * step, 1 + 0.1 * step
        assert torch.equal(compiled(x), fr.loss(x, criterion.alpha, criterion.scale, reduction="mean"))
    assert counter.frame_count <= 2


def test_a_bad_number_is_still_refused_in_a_program_for_all() -> None:
    compiled = torch.compile(lambda x, scale: fr.loss(x, 1.0, scale), backend="aot_eager")
    for scale in (1.5, 2.5):
        compiled(torch.ones(3), scale)
    with pytest.raises(ValueError, match="scale must be positive"):
        compiled(torch.ones(3), 0.0)


# --- traced programs

TRACED: dict[str, Callable[..., Any]] = {
    "loss": lambda x: fr.loss(x, 1.0, 1.0),
    "parameters": lambda x: fr.loss(torch.ones(2), x, x),
    "mean": lambda x: fr.nll(x, 1.0, 1.0, reduction="mean"),
    "weighted": lambda x: fr.loss(x, 1.0, 1.0, weights=torch.tensor([1.0, 2.0])),
    "truncated": lambda x: fr.nll(x, 1.0, 1.0, truncation=4.0),
    "log_partition": lambda x: fr.log_partition(x),
    "gradient": lambda x: fr.loss_and_grad(x, 1.0, 1.0).dx,
    "RobustLoss": frt.RobustLoss(0.5, 1.0),
    "AdaptiveLoss": frt.AdaptiveLoss(2),
    "log_prob": lambda x: frt.Barron(1.7, 0.0, 2.9).log_prob(x),
    "cdf": lambda x: frt.Barron(1.7, 0.0, 2.9).cdf(x),
    "icdf": lambda x: frt.Barron(1.7, 0.0, 2.9).icdf(x / 10),
    "entropy": lambda x: frt.Barron(x, 0.0, 2.9).entropy(),
    "rsample": lambda x: frt.Barron(x, 0.0, 2.9).rsample(),
}
FIRST, SECOND = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", TRACED)
def test_jit_trace_is_refused(name: str, requires_grad: bool) -> None:
    """It recorded the results as constants: traced at 1, 0.4142 at 2, where 1.2361 is right."""
    x = FIRST.clone().requires_grad_(requires_grad)
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace would take .* take torch\.export\.export"):
        torch.jit.trace(TRACED[name], (x,), check_trace=False)


class Whole(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


KERNELS = [name for name in TRACED if name not in ("log_prob", "cdf", "icdf", "entropy", "rsample")]


@pytest.mark.parametrize("name", KERNELS)
def test_the_remedy_works(name: str) -> None:
    program = torch.export.export(Whole(TRACED[name]), (FIRST,), strict=False)
    torch.testing.assert_close(program.module()(SECOND), TRACED[name](SECOND))


@pytest.mark.filterwarnings("ignore")
def test_student_t_is_traced_right() -> None:
    """It is made of PyTorch's operations."""
    traced = torch.jit.trace(frt.StudentTLoss(2), (FIRST,))
    torch.testing.assert_close(traced(SECOND), frt.StudentTLoss(2)(SECOND))


@pytest.mark.parametrize("mode", ["real", "symbolic"])
@pytest.mark.parametrize("name", [n for n in KERNELS if n != "AdaptiveLoss"])
def test_make_fx(name: str, mode: str) -> None:
    """With symbols for lengths, too, on other values and, where the function has no lengths of its own, on more."""
    graph = make_fx(TRACED[name], tracing_mode=mode)(FIRST)
    more = torch.tensor([2.0, 5.0, 0.3])
    for x in (SECOND, more) if mode == "symbolic" and name in ("loss", "mean", "gradient", "RobustLoss") else (SECOND,):
        torch.testing.assert_close(graph(x), TRACED[name](x))


def scripted(x: torch.Tensor) -> torch.Tensor:
    return fr.loss(x, 1.0, 1.0)


@pytest.mark.filterwarnings("ignore")
def test_scripting_and_symbolic_tracing_are_refused() -> None:
    with pytest.raises(torch.jit.frontend.NotSupportedError, match="variable number of arguments"):
        torch.jit.script(scripted)
    for function in (scripted, frt.RobustLoss(0.5, 1.0), frt.AdaptiveLoss()):
        with pytest.raises(TypeError, match=r"Proxy of torch\.fx.* take torch\.export\.export"):
            torch.fx.symbolic_trace(function)


# --- integers


def test_differences_of_integers() -> None:
    """uint8 wrapped around: 3 - 5 was 254; and single precision lacks 2^24 + 1."""
    small = [torch.tensor([v], dtype=torch.uint8) for v in (3, 5)]
    truth = [torch.tensor([v], dtype=D) for v in (3, 5)]
    for criterion in (frt.RobustLoss(1.0, 1.0), frt.AdaptiveLoss(), frt.StudentTLoss()):
        torch.testing.assert_close(criterion(*small), criterion(*truth))
    criterion = frt.RobustLoss(1.0, 1.0)
    assert criterion(torch.tensor([True]), torch.tensor([False])).item() == pytest.approx(math.sqrt(2) - 1)
    large = torch.tensor([2**24 + 1])
    assert criterion(large, torch.tensor([2.0**24])).item() == pytest.approx(math.sqrt(2) - 1)


def test_integer_parameters_of_a_module() -> None:
    """Loading 0.5 into a buffer of integers made it 0."""
    criterion = frt.RobustLoss(torch.tensor(1), torch.tensor([1, 2]))
    x = torch.tensor([1.0, 3.0])
    assert torch.equal(criterion(x), fr.loss(x, 1.0, torch.tensor([1.0, 2.0]), reduction="mean"))
    criterion.load_state_dict({"alpha": torch.tensor(0.5), "scale": torch.tensor([0.5, 0.7])})
    assert criterion.alpha.item() == 0.5 and criterion.scale.tolist() == pytest.approx([0.5, 0.7])
    started = frt.AdaptiveLoss(alpha_range=(torch.tensor(0), 2), alpha_init=torch.tensor(1), scale_init=torch.tensor(2))
    assert started.alpha.item() == 1 and started.scale.item() == pytest.approx(2)
