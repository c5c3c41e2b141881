"""Tensors: the same bits as NumPy's, what autograd keeps, errors, and the modules."""

from __future__ import annotations

import copy
import doctest
import functools
import io
import itertools
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import oracle
import pytest
from marks import slow

torch = pytest.importorskip("torch")

from test_torch import D, arguments, close, gradients  # noqa: E402

import fastrobust as fr  # noqa: E402
import fastrobust.torch as frt  # noqa: E402
from fastrobust.torch import _kernels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    torch._dynamo.reset()


# --- values


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_values_are_the_kernels(dtype: str) -> None:
    """Bit for bit, of numbers and tensors, whatever the layout; the halves rounded once."""
    kind = getattr(torch, dtype)
    wide = np.float64 if dtype == "float64" else np.float32
    x = torch.randn(6, 5, dtype=torch.float64).to(kind)
    alpha, scale = torch.linspace(0, 3, 5).to(kind), torch.tensor(0.7).to(kind)

    def own(t: Any) -> Any:
        return t.to(torch.float64).numpy().astype(wide) if isinstance(t, torch.Tensor) else t

    for view in (
        x,
        x.T,
        x[::2, 1:4],
        x[:, :1].expand(6, 5),
        x[0, 0],
        x[:0],
        x.reshape(1, 2, 3, 5).to(memory_format=torch.channels_last),
    ):
        for a, c in ((0.5, 1.5), (alpha[2], scale), (alpha if view.shape[-1:] == (5,) else 1.0, 2)):
            for function in (fr.loss, fr.nll, fr.influence, fr.weight, fr.curvature):
                found, expected = function(view, a, c), function(own(view), own(a), own(c))
                assert found.dtype == kind and found.shape == np.shape(expected)
                same = torch.from_numpy(np.atleast_1d(expected)).to(kind).reshape(found.shape)
                assert torch.equal(found, same), (function, view.shape)
    y = x.reshape(1, 2, 3, 5).to(memory_format=torch.channels_last)
    assert fr.loss(y, 1.0, 1.0).stride() == y.stride()


def test_dtypes_are_promoted_as_pytorch_does() -> None:
    for shapes in itertools.product(((), (3,)), repeat=3):
        for dtypes in itertools.product((torch.float16, torch.float32, torch.float64), repeat=3):
            args = [torch.ones(shape, dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
            assert fr.loss(*args).dtype == (args[0] * args[1] * args[2]).dtype or any(shapes)
            full = [a.dtype for a in args if a.dim()] or dtypes
            assert fr.loss(*args).dtype == functools.reduce(torch.promote_types, full)
    single, double = torch.ones(3), torch.ones(3, dtype=D)
    assert fr.loss(single, double, 1.0).dtype == D
    assert fr.loss(single, torch.tensor(1.0, dtype=D), 1.0).dtype == torch.float32
    assert fr.loss(torch.tensor(1.0), double, 1.0).dtype == D
    assert fr.loss(torch.arange(3), 1.0, 1.0).dtype == D
    assert fr.loss(single.half(), single.bfloat16(), 1.0).dtype == torch.float32
    assert fr.loss(single, torch.arange(3), 1.0).dtype == torch.float32
    assert fr.loss(single, 1.0, 1.0, dtype=D).dtype == D
    x = single.half().requires_grad_()
    fr.loss(x, double.requires_grad_(), 1.0).sum().backward()
    assert x.grad.dtype == torch.float16 and double.grad.dtype == D


def test_autocast_computes_in_single_precision() -> None:
    x = torch.tensor([300.0], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fr.loss(x, 1.0, 1.0)
    assert y.dtype == torch.float32
    y.backward()
    assert x.grad.dtype == torch.bfloat16


SPECIAL = [-np.inf, -2.0, 0.0, 1e-8, 1.0, 2.0, 2.0 + 1e-6, 4.0, np.inf]


@pytest.mark.parametrize("alpha", SPECIAL, ids=str)
def test_numbers_where_others_fail(alpha: float) -> None:
    """Gradients by autograd in float32 at alpha = 0, 2, +-inf, of tiny and huge residuals: those of the oracle."""
    residuals = np.float32([1e-20, 1e-4, 0.05, 1.0, 3.0, 50.0])
    x = torch.tensor(residuals, requires_grad=True)
    a = torch.full((6,), alpha, requires_grad=True)
    c = torch.full((6,), 0.5, requires_grad=True)
    found = torch.autograd.grad(fr.loss(x, a, c).sum(), (x, a, c))
    expected = fr.loss_and_grad(residuals, a.detach().numpy(), c.detach().numpy())
    for one, other in zip(found, expected[1:], strict=True):
        assert np.array_equal(one.numpy(), other)
    for slope, r in zip(found[1], residuals, strict=True):
        assert slope.item() == pytest.approx(
            float(oracle.dalpha(r, np.float32(alpha), 0.5, "float32")), rel=1e-5, abs=1e-37
        )


@pytest.mark.parametrize("alpha", [-60.0, -3.0, -1e-3, 1e-6, 0.9, 1.99, 2.01, 3.7])
def test_second_derivatives_against_the_oracle(alpha: float) -> None:
    """To 1e-8; the oracle's by differences in 60 digits."""
    names = ("x", "alpha", "scale")
    for x in (1e-3, 0.3, 2.0, 40.0, -700.0):
        point = [torch.tensor(v, dtype=D) for v in (x, alpha, 0.8)]
        found = torch.func.hessian(lambda *p: fr.loss(*p), (0, 1, 2))(*point)
        with mpmath.workdps(60):
            for i, j in itertools.combinations_with_replacement(range(3), 2):
                orders = tuple((k == i) + (k == j) for k in range(3))
                true = mpmath.diff(lambda *p: oracle.loss(*p), (x, alpha, 0.8), orders, h=mpmath.mpf(10) ** -16)
                assert found[i][j].item() == pytest.approx(float(true), rel=1e-8), (names[i], names[j], x)


def test_the_second_derivative_of_log_z_against_the_oracle() -> None:
    for alpha in (1e-3, 0.02, 0.6, 1.0, 1.7, 1.999, 2.001, 3.0, 6.0, 50.0, 80.0):
        found = torch.func.grad(torch.func.grad(fr.log_partition))(torch.tensor(alpha, dtype=D)).item()
        with mpmath.workdps(40):
            step = mpmath.mpf(10) ** -8
            ends = [oracle.log_partition_dalpha(mpmath.mpf(alpha) + s) for s in (-step, step)]
            true = (ends[1] - ends[0]) / (2 * step)
        assert found == pytest.approx(float(true), rel=1e-9), alpha


# --- memory


def saved(function: Callable[[], Any]) -> int:
    """Bytes that autograd keeps, each storage once."""
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function()
    return sum(kept.values())


def test_what_is_kept_for_the_backward_pass() -> None:
    n = 10_000
    x = torch.randn(n, requires_grad=True)
    alpha, scale = torch.tensor(0.5, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    assert saved(lambda: fr.nll(x, alpha, scale, reduction="mean")) == 4 * n + 8
    assert saved(lambda: fr.nll(x, 0.5, 0.7, reduction="mean")) == 4 * n
    assert saved(lambda: fr.loss(x, alpha, scale)) == 4 * 4 * n + 8
    assert saved(lambda: fr.loss(x, 0.5, 0.7)) == 2 * 4 * n
    assert saved(lambda: fr.loss(x.detach(), 0.5, 0.7)) == 0


def test_a_second_derivative_of_a_sum_whose_residuals_are_gone_is_refused() -> None:
    """An error, not zeros: for functions and modules."""
    for function in (lambda r: fr.loss(r, 1.0, 1.0, reduction="mean"), frt.AdaptiveLoss()):
        w = torch.ones(3, requires_grad=True)
        with pytest.raises(RuntimeError, match="reduction='none'"):
            torch.autograd.grad(function(w * 2), w, create_graph=True)
        x = w * 2
        (slope,) = torch.autograd.grad(function(x), w, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), w)
        single = torch.ones((), requires_grad=True)
        expected = torch.func.hessian(lambda v, f=function: f((v * 2)[None]))(single.detach())
        torch.testing.assert_close(bend, (expected / 3).expand(3), rtol=1e-5, atol=1e-8)
        value = function(x)
        x.detach().add_(1)
        with pytest.raises(RuntimeError, match="changed in place"):
            torch.autograd.grad(value, w, create_graph=True)


def test_arguments_that_depend_on_each_other() -> None:
    """With create_graph=True too, each counts once; hooks run once."""
    x = torch.randn(5, dtype=D, requires_grad=True)
    for function in (
        lambda x, r: fr.loss(x, 1.0, x.std(), reduction=r),
        lambda x, r: fr.loss(x, x.abs(), 1.0, reduction=r),
    ):
        (expected,) = torch.autograd.grad(function(x, "none").sum(), x, create_graph=True)
        (found,) = torch.autograd.grad(function(x, "sum"), x, create_graph=True)
        close([found], [expected])
        close(torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x))
    y = x * 1
    y.register_hook(lambda g: 10 * g)
    close(
        torch.autograd.grad(fr.loss(y, 1.0, 1.0, reduction="sum"), x, create_graph=True),
        [10 * fr.influence(x, 1.0, 1.0)],
    )


def test_what_no_route_can_differentiate_is_refused() -> None:
    x = torch.tensor(3.0, dtype=D)
    grad, compiled = torch.func.grad, lambda f: torch.compile(f, fullgraph=True, backend="aot_eager")
    for function in (lambda t: fr.loss(t, 1.0, 2.0), fr.log_partition):
        with pytest.raises(NotImplementedError, match="forward mode within forward mode"):
            torch.func.jacfwd(torch.func.jacfwd(function))(x)
        with pytest.raises(Exception, match="differentiates this 2 times at most"):
            compiled(grad(grad(grad(function))))(x)
    with pytest.raises(Exception, match="differentiates this 1 times at most"):
        compiled(grad(grad(lambda t: fr.influence(t, 1.0, 2.0))))(x)


def test_transforms_inside_the_compiler_at_infinity() -> None:
    x = torch.tensor([0.0, 1.0, 1e300, np.inf, np.nan], dtype=D)
    for alpha in (np.inf, 1.0, 2.0, -np.inf):
        args = (x, torch.tensor(alpha, dtype=D))
        for function in (lambda x, a: fr.loss(x, a, 1.0), lambda x, a: fr.influence(x, a, 1.0)):
            batched = torch.func.vmap(function, (0, None))
            found = torch.compile(batched, fullgraph=True, backend="aot_eager")(*args)
            torch.testing.assert_close(found, batched(*args), rtol=0, atol=0, equal_nan=True)
            torch._dynamo.reset()
    batched = torch.func.vmap(fr.log_partition)
    a = torch.tensor([np.inf, -1.0, np.nan, 0.0, 2.0], dtype=D)
    found = torch.compile(batched, fullgraph=True, backend="aot_eager")(a)
    torch.testing.assert_close(found, batched(a), rtol=0, atol=0, equal_nan=True)


def test_halves_on_the_composed_routes() -> None:
    """Counts, sums and products of 100,000 elements are those of float32."""
    x, w = torch.ones(100_000, dtype=torch.float16), torch.ones(100_000, dtype=torch.float16)
    mean = lambda x, w: fr.loss(x, 1.0, 1.0, reduction="mean", weights=w)  # noqa: E731
    expected = mean(x, w)
    assert expected.item() == pytest.approx(math.sqrt(2) - 1, rel=1e-3)
    assert torch.func.grad_and_value(mean)(x, w)[1] == expected
    assert mean(x, w.clone().requires_grad_()) == expected
    leaf = x.clone().requires_grad_()
    (graph,) = torch.autograd.grad(mean(leaf, w), leaf, create_graph=True)
    torch.testing.assert_close(graph.detach(), torch.autograd.grad(mean(leaf, w), leaf)[0])
    assert fr.loss_and_grad(leaf, 1.0, 1.0, reduction="mean").dscale.item() == pytest.approx(-math.sqrt(0.5), rel=1e-3)
    student = frt.StudentTLoss(dtype=torch.float16)
    assert student(x, weights=w) == student(x)


def test_a_weight_of_0_excludes_parameters_that_are_nan_on_every_route() -> None:
    x, w = torch.ones(2), torch.tensor([0.0, 1.0])
    scale, learned = torch.tensor([math.nan, 1.0], requires_grad=True), w.clone().requires_grad_()
    for total in (
        lambda c: fr.loss(x, 1.0, c, weights=w, reduction="mean"),
        lambda c: fr.loss(x, 1.0, c, weights=w).sum(),
        lambda c: fr.loss(x, 1.0, c, weights=learned, reduction="mean"),
    ):
        expected = torch.tensor([0.0, -math.sqrt(0.5)])
        torch.testing.assert_close(torch.autograd.grad(total(scale), scale)[0], expected)
        torch.testing.assert_close(torch.func.grad(total)(scale.detach()), expected)


def test_tracers_record_operators() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    x, y = torch.randn(3), torch.tensor([1.0, 2.0, 3.0])
    functions = (
        lambda x: fr.loss(x, 1.0, 1.0),
        lambda x: fr.nll(x, 1.0, 1.0, reduction="mean"),
        lambda x: fr.log_partition(x),  # itself has a keyword of its own, which make_fx would count
    )
    for function in functions:
        torch.testing.assert_close(make_fx(function)(x)(y), function(y))


def test_results_stay_on_the_device_of_x() -> None:
    x, criterion = torch.randn(5, requires_grad=True), frt.AdaptiveLoss()
    with torch.device("meta"):
        for reduction in ("none", "mean"):
            assert fr.loss(x.detach(), 1.0, 1.0, reduction=reduction).is_cpu
        criterion(x).backward()
    assert x.grad is not None and criterion.latent_alpha.grad.is_cpu


def test_large_arguments_of_a_sum_are_not_kept_alive() -> None:
    import weakref

    x, w = torch.randn(100_000, requires_grad=True), torch.rand(100_000)
    value, seen = frt.AdaptiveLoss()(x, weights=w), weakref.ref(w)
    del w
    assert seen() is None
    value.backward()


def test_weights() -> None:
    """A weight of 0 excludes an element and its gradient, NaN included; a mask is a weight."""
    x = torch.tensor([1.0, np.nan, -2.0], requires_grad=True)
    mask = torch.tensor([True, False, True])
    for weights in (mask, mask.float(), mask.float().requires_grad_()):
        for reduction in ("mean", "sum", "none"):
            value = fr.loss(x, 1.0, 1.0, reduction=reduction, weights=weights)
            expected = fr.loss(x[mask], 1.0, 1.0, reduction=reduction)
            close([value.sum()], [expected.sum()])
            (slope,) = torch.autograd.grad(value.sum(), x)
            (other,) = torch.autograd.grad(expected.sum(), x)
            close([slope], [torch.where(mask, other, 0.0)])
    assert torch.isnan(fr.loss(x.detach()[:1], 1.0, 1.0, reduction="mean", weights=torch.zeros(1)))
    w = torch.rand(4, 3, dtype=D, requires_grad=True)
    args = (*arguments(), w)
    for reduction in ("mean", "sum", "none"):
        function = lambda x, a, c, w, r=reduction: fr.nll(x, a, c, weights=w, reduction=r)  # noqa: E731
        assert torch.autograd.gradcheck(function, args) and torch.autograd.gradgradcheck(function, args)


def test_out() -> None:
    x, memory = torch.randn(5), torch.empty(5)
    assert fr.loss(x, 1.0, 1.0, out=memory) is memory
    close([memory], [fr.loss(x, 1.0, 1.0)])
    found = fr.loss_and_grad(x, 1.0, 1.0, out=(None, memory, None, None))
    assert found.dx is memory
    with pytest.raises(RuntimeError, match="out= records no gradients"):
        fr.loss(x.requires_grad_(), 1.0, 1.0, out=memory)
    with pytest.raises(TypeError, match=r"out of dtype torch.int64 does not take"):
        fr.loss(x.detach(), 1.0, 1.0, out=torch.empty(5, dtype=torch.int64))
    assert fr.loss(x.detach(), torch.ones(5, dtype=D), 1.0, dtype=torch.float32).dtype == torch.float32
    with pytest.raises(ValueError, match="out must be a tensor of shape"):
        fr.loss(x.detach(), 1.0, 1.0, out=torch.empty(4))


# --- other tensors


def test_tensors_without_memory() -> None:
    from torch._subclasses import FakeTensorMode

    meta = fr.nll(torch.empty(3, 4, device="meta"), torch.empty(4, device="meta"), 0.5)
    assert meta.is_meta and meta.shape == (3, 4)
    assert fr.loss(torch.empty(3, device="meta"), 1.0, 1.0, reduction="mean").shape == ()
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(torch.ones(3, requires_grad=True))
        assert fr.loss(fake, 1.0, 1.0).shape == (3,)
        fr.loss(fake, 1.0, 1.0, reduction="sum").backward()


def test_a_subclass_of_tensor() -> None:
    class Own(torch.Tensor):
        pass

    x = torch.randn(4).as_subclass(Own)
    found = fr.loss(x, 1.0, 1.0)
    assert type(found) is Own
    close([found.as_subclass(torch.Tensor)], [fr.loss(x.as_subclass(torch.Tensor), 1.0, 1.0)])


def test_inference_mode_checkpointing_and_conjugates() -> None:
    from torch.utils.checkpoint import checkpoint

    x, alpha, scale = arguments()
    with torch.inference_mode():
        close([fr.loss(x, alpha, scale)], [fr.loss(x.detach(), alpha.detach(), scale.detach())])
    value = checkpoint(fr.loss, x, alpha, scale, use_reentrant=False)
    close(torch.autograd.grad(value.sum(), (x, alpha, scale)), gradients("loss"))
    z = torch.randn(3, dtype=torch.complex128)
    close([fr.loss(torch.conj(z).imag, 1.0, 1.0)], [fr.loss(-z.imag, 1.0, 1.0)])


def test_cuda_tensors_go_through_cupy(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The route of tensors on a GPU, with tensors of the CPU and a stand-in for CuPy."""
    cases = [(*arguments(False)[:2], 0.7), (torch.randn(50), 0.5, 1.5), (torch.randn(6, 3).half(), torch.rand(3), 1.0)]
    results: list[list[Any]] = [[], []]
    for found in results:
        for args in cases:
            args = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
            leaves = [a for a in args if isinstance(a, torch.Tensor)]
            for reduction in ("none", "mean"):
                value = fr.nll(*args, reduction=reduction)
                found += [value.detach(), *torch.autograd.grad(value.sum(), leaves)]
            found.append(fr.log_partition(leaves[-1].detach()))
        # The second time.
        monkeypatch.setattr(_kernels, "array_of", lambda tensor: fake_cupy.from_dlpack(tensor.detach()))
        monkeypatch.setattr(_kernels, "rest_of", lambda *args: None)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6 if one.dtype != torch.float16 else 1e-3, atol=1e-7)
    assert fake_cupy.cuda.function.Module and len(results[1]) == len(results[0])


def test_cuda_tensors_without_cupy_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"CuPy, which is missing: pip install"):
        _kernels._cupy()


# --- errors


def test_errors() -> None:
    x = torch.ones(3)
    for error, message, call in (
        (TypeError, "x is a tensor of torch.complex64", lambda: fr.loss(x.to(torch.complex64), 1.0, 1.0)),
        (TypeError, "x is a tensor of torch.float32, torch.sparse_coo", lambda: fr.loss(x.to_sparse(), 1.0, 1.0)),
        (TypeError, "float8", lambda: fr.loss(x, x.to(torch.float8_e4m3fn), 1.0)),
        (ValueError, "weights of shape", lambda: frt.StudentTLoss()(x, weights=torch.ones(2, 3))),
        (TypeError, "convert one of them", lambda: fr.loss(x, np.ones(3), 1.0)),
        (ValueError, "shapes do not broadcast: x", lambda: fr.loss(x, torch.ones(4), 1.0)),
        (ValueError, "scale must be positive", lambda: fr.loss(x, 1.0, 0.0)),
        (ValueError, "alpha must be >= 0", lambda: fr.nll(x, -1.0, 1.0)),
        (ValueError, "reduction must be", lambda: fr.loss(x, 1.0, 1.0, reduction="max")),
        (ValueError, "alpha is on meta and x on cpu", lambda: fr.loss(x, torch.ones(3, device="meta"), 1.0)),
        (ValueError, "weights of shape", lambda: fr.loss(x, 1.0, 1.0, weights=torch.ones(4), reduction="sum")),
        (TypeError, "where: not taken", lambda: fr.loss(x, 1.0, 1.0, where=x > 0)),
        (TypeError, "dtype must be", lambda: fr.loss(x, 1.0, 1.0, dtype=torch.int32)),
        (TypeError, "shape must be", lambda: frt.AdaptiveLoss(3.0)),
        (TypeError, "dim an integer", lambda: frt.AdaptiveLoss(3, dim=1.5)),
        (ValueError, "alpha_range must be two", lambda: frt.AdaptiveLoss(alpha_range=(0, 1, 2))),
        (TypeError, "dtype must be", lambda: frt.StudentTLoss(dtype=torch.complex64)),
        (TypeError, "input is a list", lambda: frt.AdaptiveLoss()([1.0, 2.0])),
        (TypeError, "target is a ndarray", lambda: frt.RobustLoss()(x, np.ones(3))),
        (TypeError, "alpha must be a number or a tensor", lambda: frt.RobustLoss("1", 1.0)),
        (TypeError, "complex", lambda: frt.StudentTLoss()(x.to(torch.complex64))),
    ):
        with pytest.raises(error, match=message):
            call()
    with pytest.warns(UserWarning, match="every element meet every other"):
        frt.RobustLoss()(x[:, None], x)
    assert torch.isnan(fr.loss(x, 1.0, torch.tensor(-1.0))).all()
    assert torch.isinf(fr.nll(x, torch.tensor(-1.0), 1.0)).all()


# --- modules


def fitted(criterion: Any, steps: int = 300) -> tuple[float, float, float]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 200).astype(np.float32)
    y = 0.7 * x + 0.15 + 0.025 * rng.standard_normal(200)
    y[:20] = rng.uniform(0, 3, 20)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam([*model.parameters(), *criterion.parameters()], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = criterion(model(torch.tensor(x)[:, None]), torch.tensor(y, dtype=torch.float32)[:, None])
        loss.backward()
        optimizer.step()
    return model.weight.item(), model.bias.item(), loss.item()


@pytest.mark.parametrize("criterion", [frt.AdaptiveLoss(), frt.StudentTLoss(), frt.RobustLoss(0.0, 0.05)], ids=repr)
def test_modules_fit_a_line_with_outliers(criterion: Any) -> None:
    slope, offset, _ = fitted(criterion)
    assert abs(slope - 0.7) < 0.05 and abs(offset - 0.15) < 0.03
    if isinstance(criterion, frt.AdaptiveLoss):
        assert criterion.alpha.item() < 0.3 and criterion.scale.item() < 0.2


def test_axes_of_the_parameters() -> None:
    x = torch.randn(2, 3, 4, 5)
    for dim, features in ((1, 3), (-1, 5), (0, 2), (2, 4)):
        criterion = frt.AdaptiveLoss(features, dim=dim, alpha_init=1.2, reduction="none")
        with torch.no_grad():
            criterion.latent_alpha.copy_(torch.linspace(-1, 1, features))
        alpha = criterion.alpha.reshape(features, *[1] * (3 - dim % 4))
        close([criterion(x)], [fr.nll(x, alpha, 1.0)])
    pixels = frt.AdaptiveLoss((3, 4, 5), reduction="sum")
    close([pixels(x)], [fr.nll(x, pixels.alpha, pixels.scale, reduction="sum")])
    for bad in (lambda: frt.AdaptiveLoss(7)(x), lambda: frt.AdaptiveLoss(3, dim=4)(x), lambda: frt.StudentTLoss(2)(x)):
        with pytest.raises(ValueError, match="axis dim="):
            bad()


def test_masks_and_targets() -> None:
    x, y = torch.randn(6, 2), torch.randn(6, 2)
    mask = torch.rand(6, 2) > 0.5
    for criterion in (frt.AdaptiveLoss(2), frt.StudentTLoss(2), frt.RobustLoss(0.5, 2.0)):
        close([criterion(x, y)], [criterion(x - y)])
        full = type(criterion).forward(criterion, torch.where(mask, x, np.nan), y, weights=mask)
        criterion.reduction = "none"
        close([full], [criterion(x, y)[mask].mean()])


def test_ranges_initial_values_and_what_is_fixed() -> None:
    criterion = frt.AdaptiveLoss(2, alpha_range=(0, 3), alpha_init=0.5, scale_min=1e-3, scale_init=0.2)
    close([criterion.alpha, criterion.scale], [torch.full((1, 2), 0.5), torch.full((1, 2), 0.2)])
    fixed = frt.AdaptiveLoss(2, alpha_range=(1.5, 1.5), scale_min=0.3, scale_init=0.3, dtype=D)
    assert list(fixed.parameters()) == [] and fixed.state_dict() == {}
    close([fixed.alpha, fixed.scale], [torch.full((1, 2), 1.5, dtype=D), torch.full((1, 2), 0.3, dtype=D)])
    assert fixed.float().alpha.dtype == torch.float32
    for options in (
        {"alpha_range": (-1, 1)}, {"alpha_range": (2, 1)}, {"alpha_init": 2.0}, {"scale_min": 0.0},
        {"scale_init": 1e-9}, {"shape": 0}, {"reduction": "max"}, {"alpha_range": (1.0, np.inf)},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"must"):
            frt.AdaptiveLoss(**options)
    assert "alpha_range=(0, 3)" in repr(criterion) and "alpha=0.5" in repr(frt.RobustLoss(0.5, 1.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, D], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_learned_shapes_at_the_ends_of_their_range_have_finite_gradients(dtype: Any, reduction: Any) -> None:
    """A sigmoid of +-1000 is 0 or 1: alpha is 0 and 2 exactly, where log Z and rho have their limits."""
    x = torch.tensor([[0.0, 0.0], [1e-3, 1e-3], [0.5, -0.5], [-3.0, 30.0]], dtype=dtype, requires_grad=True)
    for latents in ([-1e3, 1e3], [-1e3], [1e3], [-200.0, 200.0]):
        criterion = frt.AdaptiveLoss(len(latents), reduction=reduction, dtype=dtype)
        assert criterion.alpha_range == (0.0, 2.0)
        with torch.no_grad():
            criterion.latent_alpha.copy_(torch.tensor([latents]))  # type: ignore[union-attr]
        assert criterion.alpha.flatten().tolist() == pytest.approx(
            [1 + np.sign(latent) for latent in latents], abs=1e-80
        )
        assert latents[0] == -200 or set(criterion.alpha.flatten().tolist()) <= {0.0, 2.0}
        leaves = [x, *criterion.parameters()]
        value = criterion(x)
        expected = fr.nll(x.detach().double(), criterion.alpha.detach().double(), 1.0, reduction=reduction)
        torch.testing.assert_close(value.detach().double(), expected, rtol=2e-2, atol=2e-2)
        slopes = torch.autograd.grad(value.sum(), leaves, create_graph=dtype in (torch.float32, D))
        assert all(torch.isfinite(slope).all() for slope in slopes)
        assert (slopes[1].double().abs() < 1e-80).all() and (slopes[2] != 0).all()
        if dtype in (torch.float32, D):
            total = sum(slope.sum() for slope in slopes)
            assert all(torch.isfinite(bend).all() for bend in torch.autograd.grad(total, leaves))  # type: ignore[arg-type]
        fixed = {name: parameter.detach() for name, parameter in criterion.named_parameters()}
        functional = lambda p, c=criterion: torch.func.functional_call(c, p, (x.detach(),)).sum()  # noqa: E731
        assert all(torch.isfinite(slope).all() for slope in torch.func.grad(functional)(fixed).values())


def test_fixed_and_given_parameters() -> None:
    fixed = frt.AdaptiveLoss(np.int64(3), alpha_range=(1.0, 1.0), scale_init=1e-5, dtype=D)
    for requires_grad in (False, True):
        assert fixed(torch.randn(6, 3, requires_grad=requires_grad)).dtype == D
    assert [n for n, _ in frt.RobustLoss(torch.nn.Parameter(torch.tensor(0.5)), 1.0).named_parameters()] == ["alpha"]


def test_student_t_in_single_precision() -> None:
    """Many degrees of freedom, huge residuals, halves: as in double."""
    for log_df in (-3.0, 0.0, 8.0, 14.0, 20.0):
        results = []
        for dtype in (torch.float32, D):
            x = torch.tensor([0.5, 1.0, -2.0, 300.0, 1e20], dtype=dtype, requires_grad=True)
            criterion = frt.StudentTLoss(dtype=dtype, reduction="none")
            with torch.no_grad():
                criterion.log_df.fill_(log_df)
            value = criterion(x)
            results.append([value, *torch.autograd.grad(value[:3].mean() + value[4] * 0, (x, criterion.log_df))])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other.to(one.dtype), rtol=2e-5, atol=1e-6)
    for log_df in (3.0, 4.2, 20.0, 40.0):  # towards the normal, by the expansion of the gamma function from 60 on
        criterion = frt.StudentTLoss(dtype=torch.float64, reduction="none")
        with torch.no_grad():
            criterion.log_df.fill_(log_df)
        found = criterion(torch.tensor([1.5], dtype=torch.float64))
        with mpmath.workdps(40):
            a, z = mpmath.exp(mpmath.mpf(log_df)) / 2, mpmath.mpf(1.5) ** 2
            true = mpmath.loggamma(a) - mpmath.loggamma(a + 0.5) + mpmath.log(2 * mpmath.pi * a) / 2
            true += (a + 0.5) * mpmath.log1p(z / (2 * a))
        assert found.item() == pytest.approx(float(true), rel=1e-13)
    whole = torch.tensor([0, 1, 5])
    torch.testing.assert_close(frt.StudentTLoss()(whole), frt.StudentTLoss()(whole.double()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert frt.StudentTLoss()(torch.ones(3, dtype=torch.bfloat16)).dtype == torch.float32
    assert torch.isfinite(frt.StudentTLoss(dtype=torch.float16)(torch.tensor([300.0]).half()))


def test_copies_pickles_and_checkpoints() -> None:
    for criterion in (frt.AdaptiveLoss(2), frt.StudentTLoss(2), frt.RobustLoss(torch.tensor(0.5), 2.0)):
        x = torch.randn(4, 2)
        copied = copy.deepcopy(criterion)
        for other in (copied, pickle.loads(pickle.dumps(criterion))):
            close([other(x)], [criterion(x)])
        file = io.BytesIO()
        torch.save(criterion, file)
        file.seek(0)
        close([torch.load(file, weights_only=False)(x)], [criterion(x)])
        if list(copied.parameters()):
            copied(x).backward()
            assert all(p.grad is not None for p in copied.parameters())
            assert all(p.grad is None for p in criterion.parameters())
    old = {"latent_alpha": torch.tensor([[0.3, -1.0]]), "latent_scale": torch.tensor([[-2.0, 0.5]])}
    criterion = frt.AdaptiveLoss(2)
    criterion.load_state_dict(old)
    close([criterion.alpha], [2 * torch.sigmoid(old["latent_alpha"])])
    assert set(frt.StudentTLoss().state_dict()) == {"log_df", "latent_scale"}


def test_modules_compile_and_export() -> None:
    x = torch.randn(5, 2)
    for criterion in (frt.AdaptiveLoss(2), frt.StudentTLoss(2), frt.RobustLoss(torch.tensor(0.5), 2.0)):
        compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
        close([compiled(x)], [criterion(x)])
        if list(criterion.parameters()):
            expected = torch.autograd.grad(criterion(x), list(criterion.parameters()))
            close(torch.autograd.grad(compiled(x), list(criterion.parameters())), expected)
        close([torch.export.export(criterion, (x,)).module()(x)], [criterion(x)])
    params = {n: p.detach() for n, p in criterion.named_parameters()}
    close([torch.func.functional_call(criterion, params, (x,))], [criterion(x)])


@pytest.mark.parametrize("name", ["RobustLoss", "AdaptiveLoss", "StudentTLoss", "Barron"])
def test_the_examples_run_and_print_what_they_say(name: str) -> None:
    runner, told = doctest.DocTestRunner(verbose=False), []
    for test in doctest.DocTestFinder(recurse=False).find(getattr(frt, name), name, globs={}):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).attempted >= 3 and not runner.summarize(verbose=False).failed, "".join(told)


@pytest.mark.parametrize("figure", ["fit.png", *slow("fit.gif")])
def test_the_example_runs(figure: str, tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "examples" / "line_torch.py"
    command = [sys.executable, str(script), "--steps", "40", "--count", "100", "--figure", figure]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "adaptive loss  y = " in done.stdout and [p.name for p in tmp_path.iterdir()] == [figure]
    refused = subprocess.run([*command, "--steps", "0"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2 and "--steps must be" in refused.stderr


# --- several processes


def test_two_processes_train_together() -> None:
    """DDP, FSDP2 and DTensor."""
    script = Path(__file__).with_name("distributed.py")
    done = subprocess.run([sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "fine" in done.stdout, done.stderr[-3000:]


# --- the distribution

SHAPES = [0.0, 0.3, 1.0, 2.0, 4.0, 50.0, np.inf]


def barron(alpha: Any, **options: Any) -> Any:
    return frt.Barron(
        torch.as_tensor(alpha, dtype=D), torch.tensor(0.3, dtype=D), torch.tensor(0.7, dtype=D), **options
    )


def test_the_normal_and_cauchy_among_them() -> None:
    from scipy import stats

    for alpha, known in ((2.0, stats.norm(0.3, 0.7)), (0.0, stats.cauchy(0.3, 0.7 * np.sqrt(2)))):
        ours, x = barron(alpha), np.array([-40.0, -3.0, 0.0, 0.3, 2.0, 5.0])
        at = torch.tensor(x)
        np.testing.assert_allclose(ours.log_prob(at), known.logpdf(x), rtol=1e-13)
        np.testing.assert_allclose(ours.cdf(at), known.cdf(x), rtol=1e-13)
        p = np.array([1e-9, 0.01, 0.5, 0.7, 1 - 1e-6])
        np.testing.assert_allclose(ours.icdf(torch.tensor(p)), known.ppf(p), rtol=1e-12)
        assert ours.entropy().item() == pytest.approx(known.entropy(), rel=1e-12)
    assert barron(2.0).variance.item() == pytest.approx(0.49, rel=1e-12)
    # At 0.003 from mpmath, 30 digits; the integrand peaks at 10^59.
    for alpha, variance in (
        (0.005, 2.6917555709561399e20),
        (0.003, 1.1779088081086911e33),
        (0.0015, 3.52967665946964e64),
    ):
        wide = frt.Barron(torch.tensor(alpha, dtype=torch.float64), 0.0, 1.0)
        assert wide.variance.item() == pytest.approx(variance, rel=1e-12)
    assert torch.isinf(barron(0.0).variance) and torch.isnan(barron(0.0).mean) and barron(0.5).mean.item() == 0.3


def test_quantiles_invert_the_distribution_function() -> None:
    p = torch.tensor([1e-12, 1e-3, 0.2, 0.5, 0.8, 0.999, 0.0, 1.0], dtype=D)[:, None]
    ours = barron(SHAPES)
    found = ours.icdf(p)
    torch.testing.assert_close(ours.cdf(found), p.expand(found.shape), rtol=1e-11, atol=0)
    assert torch.isnan(ours.icdf(torch.tensor(1.5))).all()
    assert torch.all(found[:6].diff(dim=0) > 0) and torch.all(found[-1] == np.inf) and torch.all(found[-2] == -np.inf)


@pytest.mark.parametrize("alpha", SHAPES[1:], ids=str)
def test_moments_and_entropy_against_quadrature(alpha: float) -> None:
    from scipy import integrate

    ours = barron(alpha)

    def integral(g: Callable[[float], float]) -> float:
        density = lambda z: np.exp(-fr.nll(z, alpha, 1.0))  # noqa: E731
        function = lambda z: g(z) * density(z)  # noqa: E731
        parts = [integrate.quad(function, *ends, epsabs=0, limit=200)[0] for ends in itertools.pairwise(ENDS)]
        return 2 * sum(parts)

    assert ours.variance.item() == pytest.approx(0.49 * integral(lambda z: z * z), rel=1e-7)
    surprise = lambda z: min(fr.nll(z, alpha, 1.0), 1e4)  # noqa: E731
    assert ours.entropy().item() == pytest.approx(np.log(0.7) + integral(surprise), rel=1e-7)


ENDS = [0.0, 0.5, 1.0, 2.0, 4.0, 10.0, 100.0, 1e3, 1e4, 1e6]


def test_derivatives_of_the_distribution() -> None:
    leaves = [torch.tensor(v, dtype=D, requires_grad=True) for v in ([0.1, 0.5, 1.3, 2.5, 4.0], 0.3, 0.7)]
    x = torch.linspace(-3, 3, 5, dtype=D, requires_grad=True)
    p = torch.tensor([0.1, 0.2, 0.5, 0.9, 0.99], dtype=D, requires_grad=True)
    for name, at in (("cdf", x), ("log_prob", x), ("icdf", p)):
        assert torch.autograd.gradcheck(lambda at, *a, n=name: getattr(frt.Barron(*a), n)(at), (at, *leaves))
    assert torch.autograd.gradcheck(lambda a, c: frt.Barron(a, 0.0, c).entropy(), leaves[::2])
    ends = torch.tensor([0.0, 0.5, 1.0], dtype=D, requires_grad=True)
    assert frt.Barron(leaves[0][0], 0.0, 1.0).icdf(ends).tolist() == [-np.inf, 0.0, np.inf]
    moved = frt.Barron(leaves[0], 0.0, 1.0).rsample().sum()
    with pytest.raises(NotImplementedError, match="differentiable once"):
        torch.autograd.grad(moved, leaves[0], create_graph=True)
    heavy = torch.tensor([15.0, 20.0, 50.0, 1e3, np.inf], dtype=D, requires_grad=True)
    light = frt.Barron(heavy, 0.0, 1.0)
    for value in (light.cdf(torch.tensor(0.5)), light.entropy(), light.variance, light.rsample()):
        (slope,) = torch.autograd.grad(value.sum(), heavy)
        assert torch.isfinite(slope).all()
    step = torch.tensor([49.9, 50.1], dtype=D)
    expected = frt.Barron(step, 0.0, 1.0).entropy().diff() / 0.2
    (slope,) = torch.autograd.grad(light.entropy()[2], heavy)
    assert slope[2].item() == pytest.approx(expected.item(), rel=1e-3)


def test_samples() -> None:
    """Their distribution, and their derivatives, which move moments as they should."""
    from scipy import stats

    for alpha in (0.0, 0.8, 2.0, 6.0):
        ours = barron(alpha)
        samples = ours.sample((5000,))
        assert stats.kstest(samples.numpy(), lambda v, d=ours: d.cdf(torch.tensor(v)).numpy()).pvalue > 1e-3
    loc, alpha, scale = (torch.tensor(v, dtype=D, requires_grad=True) for v in (0.3, 1.5, 0.7))
    moment = ((frt.Barron(alpha, loc, scale).rsample((100_000,)) - 0.3) ** 2).mean()
    found = torch.autograd.grad(moment, (loc, alpha, scale))
    odd = frt.Barron(torch.tensor([np.nan, -1.0, 1.0]), 0.0, 1.0, validate_args=False)
    assert torch.isnan(odd.sample()).tolist() == [True, True, False]
    expected = torch.autograd.grad(frt.Barron(alpha, loc, scale).variance, (alpha, scale))
    assert found[0].abs() < 0.02
    np.testing.assert_allclose(found[1:], expected, rtol=0.05)


def test_samples_in_half_precision_and_forward_mode() -> None:
    torch.manual_seed(0)
    zero, one = torch.tensor(0.0, dtype=torch.bfloat16), torch.tensor(1.0, dtype=torch.bfloat16)
    samples = frt.Barron(zero, zero, one).sample((400_000,))
    assert samples.dtype == torch.bfloat16
    for sign in (-1, 1):  # the tail of Cauchy's distribution with scale sqrt 2
        assert (sign * samples > 1000).double().mean().item() == pytest.approx(4.5e-4, rel=0.3)
    alpha = torch.tensor(1.0, dtype=torch.float64)

    def sample(alpha: Any) -> Any:
        torch.manual_seed(0)
        return frt.Barron(alpha, torch.zeros((), dtype=torch.float64), 1.0, validate_args=False).rsample()

    (expected,) = torch.autograd.grad(sample(alpha.requires_grad_()), alpha)
    alpha = alpha.detach()
    assert expected != 0
    torch.testing.assert_close(torch.func.jvp(sample, (alpha,), (torch.ones_like(alpha),))[1], expected)
    torch.testing.assert_close(torch.func.grad(sample)(alpha), expected)
    with pytest.raises(NotImplementedError, match="vmap over samples"):
        torch.func.vmap(sample, randomness="different")(alpha.expand(3))
    wide = frt.Barron(2.0, 0.0, 1.0).icdf(torch.tensor(1 - 1e-9, dtype=torch.float64))
    assert wide.item() == pytest.approx(5.997807, rel=1e-6)


def test_the_interface_of_distributions() -> None:
    ours = frt.Barron(1.0, torch.zeros(3), 2.0)
    assert ours.batch_shape == (3,) and ours.event_shape == () and ours.has_rsample
    wide = ours.expand((2, 3))
    assert (
        wide.batch_shape == (2, 3)
        and wide.sample((4,)).shape == (4, 2, 3)
        and wide.log_prob(torch.zeros(3)).shape == (2, 3)
    )
    assert torch.equal(ours.mode, torch.zeros(3)) and "Barron" in repr(ours)
    independent = torch.distributions.Independent(ours, 1)
    assert independent.log_prob(torch.zeros(3)).shape == ()
    for bad in ((-1.0, 0.0, 1.0), (1.0, 0.0, 0.0), (1.0, np.nan, 1.0)):
        with pytest.raises(ValueError, match="Expected parameter"):
            frt.Barron(*bad, validate_args=True)
