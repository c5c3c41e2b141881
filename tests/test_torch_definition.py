"""A definition from outside of the package, with two data operands and two parameters, on tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from marks import slow

torch = pytest.importorskip("torch")

from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from toy import TOY  # noqa: E402

import fastrobust.torch  # noqa: E402, F401  registers the operators
from fastrobust import _evaluate  # noqa: E402
from fastrobust.torch import _kernels, _routes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own
D = torch.float64
FIELDS = ("value", *TOY.gradients)
SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {  # of x, target, width and tilt
    "alike": ((4, 3), (4, 3), (4, 3), (4, 3)),
    "columns": ((4, 3), (4, 3), (3,), (1, 3)),
    "numbers": ((4, 3), (4, 3), (), ()),
    "data broadcast": ((4, 1), (3,), (3,), ()),
    "parameters are larger": ((3,), (), (4, 3), (4, 1)),
    "one parameter is larger": ((3,), (), (3,), (4, 1)),
    "no axes": ((), (), (), ()),
}
_WHICH = (1,), (0, 3), (0,), (2,), (3,), (0, 1), (2, 3), (0, 1, 2)
_SUBSETS = [tuple(k in some for k in range(4)) for some in _WHICH]
SUBSETS = [*_SUBSETS[:2], *slow(*_SUBSETS[2:])]
every_shape = pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


def operands(shapes: tuple[tuple[int, ...], ...] = SHAPES["columns"], requires_grad: bool = True) -> list[Any]:
    torch.manual_seed(0)
    x, target, width, tilt = (torch.randn(shape, dtype=D) for shape in shapes)
    return [t.requires_grad_(requires_grad) for t in (x, target, width.abs() + 0.5, tilt)]


def elements(*names: str) -> Callable[..., Any]:
    """The outputs of these names as a function of the operands, one after the other."""

    def function(*args: Any) -> Any:
        found = _routes.evaluate(TOY, names, args, {})
        return found if len(names) == 1 else torch.stack(found)

    return function


def total(reduction: str, weights: Any = None, wrt: tuple[str, ...] = ()) -> Callable[..., Any]:
    """The sum or mean, and the gradients in operands, as a function of the operands."""

    def function(*args: Any) -> Any:
        found = _routes.reduce(TOY, wrt, args, reduction, weights, None)
        assert [part is not None for part in found] == [True, *(name in wrt for name in TOY.operands)]
        return tuple(part for part in found if part is not None) if wrt else found[0]

    return function


def composed(reduction: str, weights: Any = None) -> Callable[..., Any]:
    """The same sum or mean in operations of PyTorch, around a formula in which nothing of this library is."""

    def function(x: Any, target: Any, width: Any, tilt: Any) -> Any:
        z = (x - target) / width
        value = width * width * (torch.sqrt(1 + z * z) - 1) + tilt * (x - target)
        factors = torch.ones_like(value) if weights is None else weights.expand(value.shape)
        count = factors.sum() if reduction == "mean" else 1.0
        return (value * factors).sum() / count

    return function


def close(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


# --- each element


@every_shape
def test_values_are_the_formula(shapes: Any) -> None:
    args = operands(shapes, False)
    x, target, width, tilt = args
    z = (x - target) / width
    close([elements("value")(*args)], [width**2 * (torch.sqrt(1 + z * z) - 1) + tilt * (x - target)])
    close([elements("curvature")(*args)], [((1 + z * z) ** -1.5 + 0 * tilt)])


@pytest.mark.parametrize("number", [0.3, 2])
def test_operands_after_the_first_may_be_numbers(number: Any) -> None:
    x = operands()[0]
    for given in itertools.product((False, True), repeat=3):
        args = [number if g else torch.full((4, 3), float(number), dtype=D) for g in given]
        full = [torch.full((4, 3), float(number), dtype=D) for _ in given]
        for function in (elements("value"), total("mean")):
            found, expected = function(x, *args), function(x, *full)
            close([found], [expected])
            close(torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x))


def test_numbers_outside_of_the_domain_are_refused() -> None:
    x = torch.ones(3)
    for function in (elements("value"), total("sum")):
        with pytest.raises(ValueError, match=r"width must be positive, got -1\.0"):
            function(x, x, -1.0, 0.0)


def test_errors_name_the_operands() -> None:
    x = torch.ones(3)
    for error, message, args in (
        (TypeError, "target is a list", (x, [1.0], 1.0, 1.0)),
        (TypeError, "tilt is a tensor of torch.complex64", (x, x, 1.0, x.to(torch.complex64))),
        (ValueError, "target is on meta and x on cpu", (x, x.to("meta"), 1.0, 1.0)),
        (ValueError, r"shapes do not broadcast: x \(3,\), target \(2,\)", (x, torch.ones(2), 1.0, 1.0)),
    ):
        with pytest.raises(error, match=message):
            elements("value")(*args)


@every_shape
def test_gradients(shapes: Any) -> None:
    """First order in both modes, batched too, and second order, over all operands."""
    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    for function in (elements("value"), elements("dx", "dtarget", "dwidth", "dtilt"), elements("curvature")):
        assert torch.autograd.gradcheck(function, operands(shapes), **options)
        assert torch.autograd.gradgradcheck(function, operands(shapes))


@pytest.mark.parametrize("which", SUBSETS, ids=str)
def test_subsets_that_require_gradients(which: tuple[bool, ...]) -> None:
    for function in (elements("value"), total("mean"), elements("value", "dtarget")):
        everything = operands()
        expected = torch.autograd.grad(function(*everything).sum(), everything)
        args = [a.detach().requires_grad_(w) for a, w in zip(operands(), which, strict=True)]
        found = torch.autograd.grad(function(*args).sum(), [a for a in args if a.requires_grad])
        close(found, [e for e, w in zip(expected, which, strict=True) if w])


def test_one_tensor_in_several_operands() -> None:
    for function, other in ((total("sum"), composed("sum")), (total("mean"), composed("mean"))):
        x = operands()[0]
        found, expected = (f(x, 0.5 * x, 1.5, x) for f in (function, other))
        first, second = (torch.autograd.grad(v, x, create_graph=True)[0] for v in (found, expected))
        close([first], [second])
        close(*(torch.autograd.grad(v.square().sum(), x) for v in (first, second)))
        same = [f(x, x, 1.5, 0.2) for f in (function, other)]
        close(*(torch.autograd.grad(v, x, materialize_grads=True) for v in same))


@every_shape
def test_functional_transforms(shapes: Any) -> None:
    args, function, places = operands(shapes, False), elements("value"), (0, 1, 2, 3)
    summed = lambda *a: function(*a).sum()  # noqa: E731
    leaves = operands(shapes)
    close(torch.func.grad(summed, places)(*args), torch.autograd.grad(summed(*leaves), leaves))
    close(torch.func.jacrev(function, places)(*args), torch.func.jacfwd(function, places)(*args))
    found = torch.func.hessian(composed("sum"), places)(*args)
    for one, other in zip(torch.func.hessian(summed, places)(*args), found, strict=True):
        close(one, other)


@pytest.mark.parametrize("dims", [(0, None, None, None), (1, 0, None, 0), (None, 0, 0, None), (0, 1, 0, 0)], ids=str)
def test_vmap(dims: tuple[Any, ...]) -> None:
    args = operands(((3, 3), (3, 3), (3,), (3, 3)), False)
    rows = [[a if d is None else a.select(d, i) for a, d in zip(args, dims, strict=True)] for i in range(3)]
    for function in (elements("value"), elements("curvature"), total("mean")):
        close([torch.func.vmap(function, dims)(*args)], [torch.stack([function(*row) for row in rows])])
        slopes = torch.func.grad(lambda *a: function(*a).sum(), (0, 1, 2, 3))  # noqa: B023
        found = torch.func.vmap(slopes, dims)(*args)
        close(found, [torch.stack(part) for part in zip(*(slopes(*row) for row in rows), strict=True)])


# --- sums and means


def weights(shapes: Any) -> Any:
    """Weights of the whole shape, one of which is 0."""
    shape = torch.broadcast_shapes(*shapes)
    found = torch.rand(shape, dtype=D) + 0.1
    if found.numel() > 1:
        found.view(-1)[1] = 0.0
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@every_shape
def test_reductions_are_the_composed_form(shapes: Any, reduction: str, weighted: bool) -> None:
    own = weights(shapes) if weighted else None
    args = operands(shapes)
    other = composed(reduction, own)(*args)
    expected = torch.autograd.grad(other, args, create_graph=True)
    found = _routes.reduce(TOY, TOY.operands, [a.detach() for a in args], reduction, own, None)
    close(found[:1], [other])
    shape = torch.broadcast_shapes(*shapes)
    for name, part, gradient in zip(TOY.operands, found[1:], expected, strict=True):
        assert part.shape == (shape if name in TOY.data else gradient.shape)
        close([part.sum_to_size(gradient.shape) if part.dim() else part], [gradient])
    value = total(reduction, own)(*args)
    first = torch.autograd.grad(value, args, create_graph=True)
    close([value, *first], [other, *expected])
    second = [torch.autograd.grad(sum(g.square().sum() for g in part), args) for part in (first, expected)]
    close(*second)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@every_shape
def test_reductions_can_be_checked(shapes: Any, reduction: str) -> None:
    own = weights(shapes)
    for function in (total(reduction), total(reduction, own), total(reduction, own, ("target", "width"))):
        assert torch.autograd.gradcheck(function, operands(shapes))
    assert torch.autograd.gradgradcheck(total(reduction, own), operands(shapes))
    positive = own.clamp(min=0.05).requires_grad_()  # a weight of 0 excludes, and so has no derivative
    assert torch.autograd.gradcheck(lambda w: total(reduction, w)(*operands(shapes)), positive)


@pytest.mark.parametrize("wrt", [("x",), ("target",), ("tilt",), ("x", "width"), ("target", "width", "tilt")], ids=str)
def test_only_what_is_asked_for_comes_back(wrt: tuple[str, ...]) -> None:
    x, target, *_ = operands(requires_grad=False)
    for args in ((x, target, 0.7, -0.2), operands(requires_grad=False)):
        everything = dict(zip(FIELDS, _routes.reduce(TOY, TOY.operands, args, "mean", None, None), strict=True))
        found = total("mean", None, wrt)(*args)
        close(found, [everything[name] for name in ("value", *("d" + name for name in wrt))])


def test_an_excluded_element_harms_nothing() -> None:
    """NaN and infinity where the weight is 0 reach neither the value nor a derivative of any order."""
    args, own = operands(SHAPES["alike"], False), weights(SHAPES["alike"])
    harmless = [a.clone().requires_grad_() for a in args]
    for a, bad in zip(args, (float("nan"), float("inf"), -1.0, float("nan")), strict=True):
        a.view(-1)[1] = bad
    leaves = [a.requires_grad_() for a in args]
    for function in (total("mean", own), lambda *a: _routes.weighted(TOY, ("value",), a, own, {}).sum()):
        results = []
        for given in (leaves, harmless):
            value = function(*given)
            first = torch.autograd.grad(value, given, create_graph=True)
            second = torch.autograd.grad(sum(g.square().sum() for g in first), given)
            results.append([value, *first, *second])
        for one, other in zip(*results, strict=True):
            assert torch.isfinite(one).all()
            close([one.reshape(-1)[2:]], [other.reshape(-1)[2:]])


def test_second_derivatives_of_a_mean_need_the_data_again() -> None:
    x, target, width, tilt = operands(((2000,), (2000,), (), ()))
    value = total("mean")(x, target + 0, width, tilt)  # what is large and nobody keeps
    with pytest.raises(RuntimeError, match="needs the residuals and parameters as they were, but one was freed"):
        torch.autograd.grad(value, x, create_graph=True)


def test_out() -> None:
    args = operands(requires_grad=False)
    memory = [torch.empty((), dtype=D), torch.empty(4, 3, dtype=D), None, torch.empty(3, dtype=D), None]
    found = _routes.reduce(TOY, ("x", "target", "width"), args, "mean", None, tuple(memory))
    expected = _routes.reduce(TOY, ("x", "target", "width"), args, "mean", None, None)
    assert all(f is m for f, m in zip(found, memory, strict=True) if m is not None)
    close(found[:4], expected[:4])


def test_cuda_tensors_go_through_cupy(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route of tensors on a GPU, with tensors of the CPU and a stand-in for CuPy."""
    results: list[list[Any]] = [[], []]
    for found in results:
        for shapes in (SHAPES["columns"], SHAPES["data broadcast"], SHAPES["numbers"]):
            args = operands(shapes)
            for function in (elements("value"), total("mean"), total("sum", weights(shapes))):
                value = function(*args)
                found += [value.detach(), *torch.autograd.grad(value.sum(), args)]
            with torch.no_grad():
                found += total("mean", None, ("target", "width"))(*args)
        # The second time.
        monkeypatch.setattr(_kernels, "array_of", lambda tensor: fake_cupy.from_dlpack(tensor.detach()))
        monkeypatch.setattr(_kernels, "rest_of", lambda *args: None)
    close(*results)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_narrow_dtypes(dtype: Any) -> None:
    wide = operands()
    args = [a.detach().to(dtype).requires_grad_() for a in wide]
    again = [a.detach().double().requires_grad_() for a in args]
    for function in (elements("value"), total("mean"), elements("value", "dwidth")):
        found, expected = function(*args), function(*again)
        assert found.dtype == dtype
        slopes = torch.autograd.grad(found.float().sum(), args), torch.autograd.grad(expected.sum(), again)
        for one, other in zip((found, *slopes[0]), (expected, *slopes[1]), strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(
                one.double(), other, rtol=8 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps
            )


# --- the compiler

COMPILED: dict[str, Callable[..., Any]] = {
    "value": elements("value"),
    "curvature": elements("curvature"),
    "slopes": elements("dx", "dwidth"),
    "mean": total("mean"),
    "weighted": total("sum", torch.tensor([[0.5, 0.0, 2.0]], dtype=D)),
    "gradients": lambda *args: torch.cat([p.reshape(-1) for p in total("sum", None, TOY.operands)(*args)]),
}


@pytest.mark.parametrize("backend", ["aot_eager", *slow("eager")])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name: str, backend: str) -> None:
    function = COMPILED[name]
    for shapes in (SHAPES["columns"], SHAPES["data broadcast"]):
        torch._dynamo.reset()
        args = operands(shapes)
        compiled = torch.compile(function, fullgraph=True, backend=backend)
        with torch.no_grad():
            close([compiled(*args)], [function(*args)])
        if name not in ("gradients", "slopes"):  # sums of all first derivatives: a second derivative
            close(*(torch.autograd.grad(f(*args).sum(), args, materialize_grads=True) for f in (compiled, function)))


@pytest.mark.filterwarnings("error")
def test_the_public_way_is_compiled() -> None:
    """By the definition itself, as a user of it calls it: checks, numbers and reductions in one program."""

    def everything(x: Any, target: Any, width: Any) -> tuple[Any, ...]:
        operands = (x, target, width, 0.3)
        mean = _evaluate.value_of(TOY, operands, "mean", None, {})
        return mean, *_evaluate.value_and_grad(TOY, operands, "none", None, ("x", "tilt"), None)

    args = operands()[:3]
    found = torch.compile(everything, fullgraph=True, backend="aot_eager")(*args)
    expected = everything(*args)
    assert [part is None for part in found] == [False, False, False, True, True, False]
    close(*([part for part in parts if part is not None] for parts in (found, expected)))
    close(*(torch.autograd.grad(f(*args)[0], args) for f in (everything, torch.compile(everything, backend="eager"))))


def test_numbers_in_compiled_programs() -> None:
    compiled = torch.compile(elements("value"), fullgraph=True, backend="aot_eager")
    x = operands()[0]
    for step in range(3):
        args = (x, 0.1 * step, 1.0 + step, 0.3 - step)
        close([compiled(*args)], [elements("value")(*args)])


@pytest.mark.parametrize("name", ["mean", *slow("value", "curvature")])
def test_transforms_inside_the_compiler(name: str) -> None:
    args, places = operands(requires_grad=False), (0, 1, 2, 3)
    summed = lambda *a: COMPILED[name](*a).sum()  # noqa: E731

    def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(f, fullgraph=True, backend="aot_eager")

    first = torch.func.grad(summed, places)
    close(compiled(first)(*args), first(*args))
    batched = torch.func.vmap(torch.func.grad(summed, (0, 2)), (0, 0, None, None))
    close(compiled(batched)(*args), batched(*args))
    if name != "curvature":
        for place in (1, 2):
            hessian = torch.func.hessian(summed, place)
            close([compiled(hessian)(*args)], [hessian(*args)])


def test_traced_and_exported() -> None:
    args = operands(requires_grad=False)
    moved = [0.5 * a + 0.1 for a in args]
    for function in (elements("value"), total("mean")):
        for mode in ("real", "symbolic"):
            close([make_fx(function, tracing_mode=mode)(*args)(*moved)], [function(*moved)])

        class Whole(torch.nn.Module):
            def forward(self, *operands: Any) -> Any:
                return function(*operands)  # noqa: B023

        program = torch.export.export(Whole(), tuple(args), strict=False)
        close([program.module()(*moved)], [function(*moved)])


@pytest.mark.parametrize("shapes", [SHAPES["columns"], SHAPES["data broadcast"]], ids=["columns", "data broadcast"])
def test_operators_are_well_formed(shapes: Any) -> None:
    args, ops, name = operands(shapes, False), torch.ops.fastrobust, TOY.name
    for op, given in (
        (ops.elementwise, (args, name, ["value", "dtarget", "curvature"], D)),
        (ops.reduction, (args, None, name, ["x", "target", "tilt"], True, D)),
        (ops.reduction, (args, weights(shapes), name, ["target", "width"], False, D)),
        (ops.hessian, (args, name, D)),
    ):
        assert set(torch.library.opcheck(op, given).values()) == {"SUCCESS"}


def test_the_hessian_has_all_pairs_in_order() -> None:
    args = operands(SHAPES["no axes"], False)
    found = torch.ops.fastrobust.hessian(args, TOY.name, D)
    rows = torch.func.hessian(composed("sum"), (0, 1, 2, 3))(*args)
    close(found, [rows[i][j] for i in range(4) for j in range(i, 4)])
