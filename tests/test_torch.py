"""Derivatives of tensors, of every order and on every route; on a GPU with ``-m gpu``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from marks import slow

torch = pytest.importorskip("torch")

import fastrobust as fr  # noqa: E402
import fastrobust.torch  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
D = torch.float64
WHERE = {"device": "cpu"}  # where a test's tensors are: a default device would be a mode that compilers see
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "loss": fr.loss,
    "influence": fr.influence,
    "weight": fr.weight,
    "curvature": fr.curvature,
    "nll": fr.nll,
    "loss sum": lambda *args: fr.loss(*args, reduction="sum"),
    "nll mean": lambda *args: fr.nll(*args, reduction="mean"),
    "nll weighted": lambda *args: fr.nll(*args, reduction="mean", weights=weights()),
    "loss_and_grad": lambda *args: torch.stack(list(fr.loss_and_grad(*args))),
    "nll_and_grad": lambda *args: torch.stack(list(fr.nll_and_grad(*args))),
    "log_partition": lambda x, alpha, scale: x + fr.log_partition(alpha) * scale,
}


def weights() -> Any:
    return torch.tensor([[0.5, 0.0, 2.0]], dtype=D, **WHERE)


every = pytest.mark.parametrize("name", FUNCTIONS)


@pytest.fixture(autouse=True, params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def _device(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "cuda" and not torch.cuda.is_available():
        message = "PyTorch finds no GPU"
        pytest.fail(message) if request.config.getoption("--require-gpu") else pytest.skip(message)
    torch.manual_seed(0)
    WHERE["device"] = request.param
    yield
    WHERE["device"] = "cpu"
    torch._dynamo.reset()


def arguments(requires_grad: bool = True) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    x = torch.randn(4, 3, dtype=D)
    alpha, scale = torch.tensor([0.3, 1.1, 2.6], dtype=D), torch.tensor(0.7, dtype=D)
    return tuple(t.to(**WHERE).requires_grad_(requires_grad) for t in (x, alpha, scale))


def gradients(name: str) -> tuple[Any, ...]:
    """What ordinary autograd says of the sum, which `test_gradients` checks."""
    args = arguments()
    return torch.autograd.grad(FUNCTIONS[name](*args).sum(), args, materialize_grads=True)


def close(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


# --- derivatives by every route


@every
def test_gradients(name: str) -> None:
    """First order in both modes, batched too, and second order."""
    args, function = arguments(), FUNCTIONS[name]
    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(function, args, **options)
    if name == "nll_and_grad":  # the third derivative of log Z is not there
        args = (args[0], args[1].detach(), args[2])
    assert torch.autograd.gradgradcheck(function, args)


@pytest.mark.parametrize(
    "which", [(True, False, False), (False, True, False), (False, False, True), (True, False, True)]
)
@pytest.mark.parametrize("name", ["loss", "nll mean", "influence", "loss_and_grad"])
def test_subsets_that_require_gradients(name: str, which: tuple[bool, ...]) -> None:
    args = [a.detach().requires_grad_(w) for a, w in zip(arguments(), which, strict=True)]
    wanted = [a for a in args if a.requires_grad]
    found = torch.autograd.grad(FUNCTIONS[name](*args).sum(), wanted)
    close(found, [g for g, w in zip(gradients(name), which, strict=True) if w])
    assert torch.autograd.gradcheck(FUNCTIONS[name], args)


@every
def test_functional_transforms(name: str) -> None:
    args, function = arguments(False), FUNCTIONS[name]
    total = lambda *a: function(*a).sum()  # noqa: E731
    close(torch.func.grad(total, (0, 1, 2))(*args), gradients(name))
    reverse, forward = torch.func.jacrev(function, (0, 1, 2))(*args), torch.func.jacfwd(function, (0, 1, 2))(*args)
    close(reverse, forward)
    if name != "nll_and_grad":  # the third derivative of log Z is not there
        hessian = torch.func.hessian(total, 1)(*args)
        close([hessian], [torch.autograd.functional.hessian(lambda alpha: total(args[0], alpha, args[2]), args[1])])
    value, tangent = torch.func.jvp(lambda x: function(x, *args[1:]), args[:1], (torch.ones_like(args[0]),))
    close([value, tangent.sum()], [function(*args), gradients(name)[0].sum()])


@pytest.mark.parametrize("dims", [(0, None, None), (1, 0, None), (None, 0, None), (0, None, 0), (None, 0, 0)], ids=str)
@pytest.mark.parametrize("name", ["loss", "nll", "curvature", "loss sum"])
def test_vmap(name: str, dims: tuple[Any, ...]) -> None:
    function, size = FUNCTIONS[name], 3
    x, alpha, scale = (torch.rand(s, dtype=D, **WHERE) + 0.5 for s in ((size, size), size, size))
    args = [x, alpha, scale if dims[2] == 0 else scale[0]]
    found = torch.func.vmap(function, dims)(*args)
    rows = [[a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True)] for i in range(size)]
    close([found], [torch.stack([function(*row) for row in rows])])
    slopes = torch.func.vmap(torch.func.grad(lambda *a: function(*a).sum(), 1), dims)(*args)
    close([slopes], [torch.stack([torch.func.grad(lambda *a: function(*a).sum(), 1)(*row) for row in rows])])


@pytest.mark.parametrize("dynamic", [True, *slow(False)], ids=["dynamic", "static"])
@every
def test_compiled(name: str, dynamic: bool) -> None:
    args = arguments()
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, dynamic=dynamic, backend="aot_eager")
    with torch.no_grad():
        close([compiled(*args)], [FUNCTIONS[name](*args)])
    if name not in ("loss_and_grad", "nll_and_grad"):  # sums of all first derivatives: a second derivative
        close(torch.autograd.grad(compiled(*args).sum(), args, materialize_grads=True), gradients(name))
    if dynamic and name != "nll weighted":
        close([compiled(args[0][:3], *args[1:])], [FUNCTIONS[name](args[0][:3], *args[1:])])


@pytest.mark.parametrize("name", ["loss", "nll mean"])
def test_compiled_by_inductor(name: str) -> None:
    args = arguments()
    compiled = torch.compile(lambda *a: FUNCTIONS[name](*a) * 2, fullgraph=True)
    found = torch.autograd.grad(compiled(*args).sum(), args)
    close(found, [2 * g for g in gradients(name)])


def test_compiled_into_graphs() -> None:
    """On a GPU the calls are recorded in the second call, with memory of the graph, and replayed from then on."""
    args = arguments()
    compiled = torch.compile(lambda *a: FUNCTIONS["nll mean"](*a) * 2, fullgraph=True, mode="reduce-overhead")
    for step in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        moved = [(a.detach() * (1 + step)).requires_grad_() for a in args]
        found = torch.autograd.grad(compiled(*moved), moved)
        close(found, [2 * g for g in torch.autograd.grad(FUNCTIONS["nll mean"](*moved), moved)])


@every
def test_nothing(name: str) -> None:
    """No residuals: values and gradients without elements, or those of a sum of nothing."""
    _, alpha, scale = arguments()
    x = torch.zeros(0, 3, dtype=D, **WHERE).requires_grad_()
    found = FUNCTIONS[name](x, alpha, scale)
    dx, *others = torch.autograd.grad(found.sum(), (x, alpha, scale), allow_unused=True, materialize_grads=True)
    assert dx.shape == x.shape and found.device == x.device
    if "mean" not in name and "weighted" not in name:
        assert found.sum() == 0 and all(torch.all(g == 0) for g in others)


@pytest.mark.parametrize(
    "name",
    ["nll weighted", *slow("loss", "nll", "influence", "curvature", "log_partition")],
)
def test_transforms_inside_the_compiler(name: str) -> None:
    args, function = arguments(False), FUNCTIONS[name]
    total = lambda *a: function(*a).sum()  # noqa: E731

    def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(f, fullgraph=True, backend="aot_eager")

    close(compiled(torch.func.grad(total, (0, 1, 2)))(*args), gradients(name))
    ones = (torch.ones_like(args[0]),)
    jvp = compiled(lambda x: torch.func.jvp(lambda x: function(x, *args[1:]), (x,), ones)[1])(args[0])
    close([jvp], [torch.func.jvp(lambda x: function(x, *args[1:]), args[:1], ones)[1]])
    if name in ("loss", "nll", "log_partition"):
        close([compiled(torch.func.hessian(total, 1))(*args)], [torch.func.hessian(total, 1)(*args)])
        batched = torch.func.vmap(torch.func.grad(total), (0, None, None))
        close([compiled(batched)(*args)], [batched(*args)])


class Model(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self.alpha = function, torch.nn.Parameter(arguments()[1].detach())

    def forward(self, x: Any) -> Any:
        return self.function(x, self.alpha, 0.7)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["loss", "nll mean", "curvature"])
def test_exported(name: str, strict: bool) -> None:
    x, alpha, _ = arguments(False)
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(Model(FUNCTIONS[name]), (x,), dynamic_shapes=({0: rows},), strict=strict)
    for n in (4, 2):
        close([program.module()(x[:n])], [FUNCTIONS[name](x[:n], alpha, 0.7)])


def test_operators_are_well_formed() -> None:
    operands = list(arguments(False))
    ops = torch.ops.fastrobust
    for op, args in (
        (ops.elementwise, (operands, "nll", ["value", "dx"], D)),
        (ops.reduction, (operands, weights(), "nll", ["x", "alpha"], True, D)),
        (ops.hessian, (operands, "nll", D)),
        (ops.elementwise, (operands[1:2], "log_partition", ["value", "d2alpha"], D)),
        (ops.hessian, (operands[1:2], "log_partition", D)),
    ):
        assert set(torch.library.opcheck(op, args).values()) == {"SUCCESS"}


def test_third_derivatives() -> None:
    """Those that nobody has are refused, the others right."""
    x, alpha, scale = arguments()
    assert torch.autograd.gradgradcheck(
        lambda *a: torch.autograd.grad(fr.loss(*a).sum(), a[0], create_graph=True)[0], (x, alpha, scale)
    )
    with pytest.raises(NotImplementedError, match="third derivative of log Z"):
        torch.func.grad(torch.func.grad(torch.func.grad(lambda a: fr.log_partition(a))))(torch.tensor(1.0, **WHERE))
