"""Means and sums that fit are found, though weights, their sum, products or partial sums do not: in every library.

The truth is taken in rational numbers, of the results for each element, which must be finite themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import oracle
import pytest
from marks import slow
from test_names import Library

import fastrobust as fr
from fastrobust.kernels.losses import higher

F4, F8 = np.float32, np.float64
Found = tuple[Any, Any, Any, Any]


class Case(NamedTuple):
    x: Any
    weights: Any
    alpha: float = 1.5
    scale: float = 1.0


ONES, SOME = np.ones(6), np.array([1.0, -2.0, 3.0, 0.5, -4.0, 2.0])
CASES = {
    "the sum is too large": Case(np.full(1000, 1e153), None, 2.0),
    "the sum of the weights is": Case(SOME, 1e308 * ONES),
    "the weights are tiny": Case(SOME, 5e-324 * ONES),
    "the products are": Case(1e-60 * SOME, 1e-200 * ONES),
    "the products are too large": Case(1e100 * SOME, 1e200 * np.arange(1.0, 7)),
    "the weights and the losses are tiny": Case(1e-153 * SOME, 5e-324 * ONES),
    "some weights are huge": Case(SOME, np.array([1e-200, 1e200, 1.0, 0.0, 1e199, 1e200])),
    "signs": Case(1e150 * SOME, np.array([1e17, -0.5e17, 1e17, 1e17, -1e17, 2e17]), 2.0),
    "float32, tiny": Case(F4(SOME), F4(1e-45 * ONES)),
    "float32, huge": Case(F4(SOME), F4(3e38 * ONES)),
    "float32, tiny products": Case(F4(1e-10 * SOME), F4(1e-30 * ONES)),
    "float32, huge sum": Case(np.full(1000, 1e18, F4), None, 2.0),
    "float32, huge slopes": Case(np.full(100, 1e-10, F4), np.full(100, 100, F4), 2.0, 1e-24),
    "doubles beyond float32": Case(F4(SOME), np.array([1e-50, 1e40, 1e40, 1e30, 0.0, 2e40])),
    "doubles below float32": Case(F4(SOME), 1e-50 * ONES),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Where a program is made before it sees the weights, they are multiplied once: see `kernels.arithmetic.scaling`.
SEEN = {"the weights and the losses are tiny"}
UNSEEN = {name: case for name, case in CASES.items() if name not in SEEN}
unseen = pytest.mark.parametrize("case", UNSEEN.values(), ids=UNSEEN)
# XLA's own operations take subnormal numbers for 0.
normal = pytest.mark.parametrize("case", [
    pytest.param(case, id=name, marks=[pytest.mark.slow] * bool(number % 3))
    for number, (name, case) in enumerate(
        (n, c) for n, c in CASES.items()
        if c.weights is None or not (0 < abs(c.weights).min() < np.finfo(c.weights.dtype).tiny)
    )
])  # fmt: skip


def number(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def truth(each: Any, weights: Any, parameters: tuple[Any, Any], mean: bool) -> Found:
    """The exact sums of elements, in the shapes of x and the parameters; inf where an element is."""
    shape = each.value.shape
    used = [Fraction(float(w)) for w in np.broadcast_to(1.0 if weights is None else weights, shape).flat]
    divisor = sum(used) if mean else Fraction(1)

    def summed(part: Any, target: tuple[int, ...]) -> Any:
        places = np.broadcast_to(np.arange(math.prod(target)).reshape(target), shape).flat
        sums = [Fraction(0)] * math.prod(target)
        infinite = [0.0] * len(sums)
        for value, weight, place in zip(part.flat, used, places, strict=True):
            if weight and not np.isfinite(value):
                infinite[place] += float(value) * float(np.sign(weight))
            elif weight:
                sums[place] += Fraction(float(value)) * weight
        found = [i if i else number(s / divisor) for s, i in zip(sums, infinite, strict=True)]
        return np.array(found).reshape(target)

    return (
        summed(each.value, ()),
        summed(each.dx, shape),
        *(summed(part, np.shape(p)) for part, p in zip((each.dalpha, each.dscale), parameters, strict=True)),
    )


def laid_out(case: Case, layout: str) -> tuple[Any, Any, Any, Any]:
    """x, the parameters and weights of a case: one parameter, or one for each column, row or element."""
    dtype = case.x.dtype
    x = np.stack([case.x, case.x[::-1]], axis=1)
    weights = None if case.weights is None else np.stack([case.weights] * 2, axis=1)
    shape: tuple[int, ...] = {"number": (), "columns": (2,), "rows": (len(x), 1), "each": x.shape}[layout]
    return x, np.full(shape, case.alpha, dtype), np.full(shape, case.scale, dtype), weights


def check(case: Case, layout: str, mean: bool, reduce: Callable[..., Found], family: str = "loss") -> None:
    x, alpha, scale, weights = laid_out(case, layout)
    with np.errstate(all="ignore"):
        each = getattr(fr, f"{family}_and_grad")(x, alpha, scale)
        # The other libraries and other ways of adding differ from the kernels' elements by an ulp or two.
        found = reduce(family, x, alpha, scale, weights, mean)
        want = truth(each, weights, (alpha, scale), mean)
        tolerance, least = (1e-5, 2.0**-149) if x.dtype == F4 else (1e-13, 2.0**-1074)
        for name, got, exact, part in zip(fr.LossGrad._fields, found, want, each, strict=True):
            assert np.shape(got) == exact.shape, name
            if not mean and weights is not None and not np.isfinite(part * weights).all():
                assert not np.isfinite(got).all()  # a term that does not fit makes a sum infinite, or nothing
                continue
            terms = 1 if mean else x.size  # each is rounded
            np.testing.assert_allclose(
                np.asarray(got), exact.astype(x.dtype), rtol=tolerance, atol=4 * terms * least, err_msg=name
            )


def of_numpy(family: str, x: Any, alpha: Any, scale: Any, weights: Any, mean: bool) -> Found:
    return tuple(
        getattr(fr, f"{family}_and_grad")(x, alpha, scale, weights=weights, reduction="mean" if mean else "sum")
    )


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("layout", ["number", "columns", "rows", "each"])
@every
def test_numpy(case: Case, layout: str, mean: bool) -> None:
    check(case, layout, mean, of_numpy)


@every
def test_the_likelihood(case: Case) -> None:
    check(case, "number", True, of_numpy, "nll")


@every
def test_a_number_for_each_parameter_and_the_value_alone(case: Case) -> None:
    """The short way of small arrays without weights, and calls without gradients."""
    whole = of_numpy("loss", case.x, case.alpha, case.scale, case.weights, True)
    alone = fr.loss(case.x, case.alpha, case.scale, weights=case.weights, reduction="mean")
    assert alone == whole[0] and np.isfinite(alone)


@pytest.mark.parametrize("layout", ["number", "columns", "rows", "each"])
def test_signs_that_cancel_in_a_sum(layout: str) -> None:
    """All terms fit, the whole does, partial sums do not."""
    case = Case(np.full(199, 1.2e154), np.repeat([1.0, -1.0], [100, 99]), 2.0)
    assert np.isinf(fr.loss(case.x[:16], 2.0, 1.0, reduction="sum"))
    check(case, layout, False, of_numpy)


def test_what_does_not_fit_is_infinite() -> None:
    assert fr.loss(np.full(1000, 1e153), 2.0, 1.0, reduction="sum") == np.inf
    assert fr.loss(np.full(1000, 1e154), 2.0, 1.0, reduction="sum") == np.inf
    assert fr.loss(np.full(3, 1e19, F4), 2.0, 1.0, reduction="sum", weights=np.full(3, 10, F4)) == np.inf
    assert fr.loss(np.array([1e200, 1.0]), 2.0, 1.0, reduction="mean") == np.inf  # an element does not


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    x = SOME.astype(kind)
    for weights in (F4(1e-45 * ONES), F4(3e38 * ONES), 1e-50 * ONES, 1e300 * ONES):
        found = fr.loss_and_grad(x, 1.5, 1.0, reduction="mean", weights=weights)
        same = fr.loss_and_grad(x, 1.5, 1.0, reduction="mean")
        for got, want in zip(found, same, strict=True):
            assert got.dtype == kind
            np.testing.assert_allclose(got.astype(F4), want.astype(F4), rtol=1e-2)


def test_weights_without_a_reduction_are_not_rounded_to_nothing() -> None:
    x, weights = np.array([1e15, 1e-10], F4), np.array([1e-50, 1e50])
    found = fr.loss(x, 2.0, 1.0, weights=weights)
    assert found.dtype == F4
    np.testing.assert_allclose(found, [5e-21, 5e29], rtol=1e-6)


@pytest.mark.parametrize("power", [-40, -3, 30])
@pytest.mark.parametrize("dtype", [F4, F8])
def test_powers_of_two_in_the_weights_change_no_bit(dtype: Any, power: int) -> None:
    rng = np.random.default_rng(8)
    x, weights = rng.standard_t(2, (5000, 3)).astype(dtype), rng.uniform(0.5, 2, (5000, 3)).astype(dtype)
    for alpha in (dtype(0.7), np.array([0.0, 1.0, 1.5], dtype), np.full((5000, 1), 1.0, dtype)):
        found = fr.loss_and_grad(x, alpha, 1.0, reduction="mean", weights=weights * dtype(2.0**power))
        expected = fr.loss_and_grad(x, alpha, 1.0, reduction="mean", weights=weights)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_array_equal(got, want)


# --- other libraries


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("layout", ["each", *slow("number", "columns")])
@unseen
def test_cupy(case: Case, layout: str, mean: bool, fake_cupy: Any) -> None:
    if not mean and case.weights is not None and case.weights.dtype != case.x.dtype:
        pytest.skip("sums on a GPU take the weights in the precision of x: nobody waits there to look at them")

    def reduce(family: str, x: Any, alpha: Any, scale: Any, weights: Any, mean: bool) -> Found:
        arrays = [None if a is None else fake_cupy.asarray(a) for a in (x, alpha, scale, weights)]
        return tuple(part.get() for part in of_numpy(family, *arrays, mean))

    check(case, layout, mean, reduce)


@pytest.mark.parametrize("way", ["plain", "recorded", "vmap"])
@every
def test_torch(case: Case, way: str) -> None:
    torch = pytest.importorskip("torch")
    import fastrobust.torch as frt

    def reduce(family: str, x: Any, alpha: Any, scale: Any, weights: Any, mean: bool) -> Found:
        args = [torch.from_numpy(a) for a in (x, alpha, scale)]
        options = {"reduction": "mean", "weights": None if weights is None else torch.from_numpy(weights)}
        if way == "recorded":
            for arg in args:
                arg.requires_grad_()
            value = frt.loss(*args, **options)
            return (value.detach(), *torch.autograd.grad(value, args))
        if way == "vmap":
            function = torch.func.vmap(lambda x: tuple(frt.loss_and_grad(x, *args[1:], **options)))
            return tuple(part[0] for part in function(args[0][None]))
        return tuple(frt.loss_and_grad(*args, **options))

    check(case, "columns", True, reduce)


@pytest.fixture
def composite(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """JAX without the compiled kernels."""
    jax = pytest.importorskip("jax")
    from fastrobust.jax import _calls

    def forget() -> None:
        _calls._operation.cache_clear()
        _calls._sums_operation.cache_clear()
        jax.clear_caches()

    monkeypatch.setattr(_calls, "backend", lambda: "composite")
    forget()
    yield
    forget()


def of_jax(family: str, x: Any, alpha: Any, scale: Any, weights: Any, mean: bool) -> Found:
    import jax

    import fastrobust.jax as frj

    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        arrays = [None if a is None else jax.numpy.asarray(a) for a in (x, alpha, scale, weights)]
        found = frj.loss_and_grad(*arrays[:3], weights=arrays[3], reduction="mean" if mean else "sum")
        return tuple(np.asarray(part) for part in found)


@pytest.mark.parametrize("mean", [True, False], ids=["mean", "sum"])
@pytest.mark.parametrize("layout", ["number", "columns"])
@unseen
def test_jax(case: Case, layout: str, mean: bool) -> None:
    pytest.importorskip("jax")
    if not mean and case.weights is not None and case.weights.dtype != case.x.dtype:
        pytest.skip("sums in JAX take the weights in the precision of x: a program is traced before it sees them")
    check(case, layout, mean, of_jax)


@normal
def test_the_operations_of_xla(case: Case, composite: None) -> None:
    check(case, "columns", True, of_jax)


# --- cut off


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("case", [c for c in CASES.values() if c.weights is not None and c.alpha < 2])
def test_truncated(case: Case, library: str) -> None:
    x = np.resize(SOME, case.x.size).astype(case.x.dtype)
    each = fr.nll(x, -1.0, 1.0, truncation=20)
    exact = number(
        sum(Fraction(float(v)) * Fraction(float(w)) for v, w in zip(each, case.weights, strict=True))
        / sum(Fraction(float(w)) for w in case.weights)
    )
    if library == "numpy":
        found: Any = fr.nll(x, -1.0, 1.0, truncation=20, weights=case.weights, reduction="mean")
        gradients = fr.nll_and_grad(x, -1.0, 1.0, truncation=20, weights=case.weights, reduction="mean")
        assert all(np.isfinite(part).all() for part in gradients)
        assert gradients.value == found
    elif library == "torch":
        torch = pytest.importorskip("torch")
        tensors = [torch.from_numpy(a) for a in (x, case.weights)]
        found = fr.nll(tensors[0], -1.0, 1.0, truncation=20, weights=tensors[1], reduction="mean")
    else:
        jax = pytest.importorskip("jax")
        if 0 < abs(case.weights).min() < np.finfo(case.weights.dtype).tiny:
            pytest.skip("XLA takes subnormal numbers for 0")
        with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
            found = fr.nll(*map(jax.numpy.asarray, (x,)), -1.0, 1.0, truncation=20,
                           weights=jax.numpy.asarray(case.weights), reduction="mean")  # fmt: skip
    assert float(found) == pytest.approx(exact, rel=1e-6 if x.dtype == F4 else 1e-13)


# --- scales of any size


@pytest.mark.parametrize(("dtype", "powers"), [
    (np.float32, (-118, -70, -61, -60, -51, 60, 61, 64, 100, 125)),
    (np.float64, (-1010, -600, -501, -500, 500, 501, 514, 700, 1020)),
])  # fmt: skip
def test_powers_of_two_in_the_scale_are_powers_of_two_in_the_derivatives(dtype: Any, powers: tuple[int, ...]) -> None:
    # rho(kx, alpha, kc) = rho(x, alpha, c): derivatives in x and c are divided by k, the second ones by k^2, also where
    # 1/c^2 is no normal number.
    random, info = np.random.default_rng(0), np.finfo(dtype)
    scale = random.uniform(1, 2, 3000).astype(dtype)
    x = (scale * random.choice([-1, 1], 3000) * 10 ** random.uniform(-3, 3, 3000)).astype(dtype)
    alpha = random.choice([-np.inf, -2, 0, 0.5, 1, 1.5, 1.95, 2, 3, np.inf], 3000).astype(dtype)

    def normal(*arrays: Any) -> Any:
        return np.all([(abs(a) >= info.tiny) & (abs(a) < np.inf) for a in arrays], axis=0)

    def found(*arguments: Any) -> list[tuple[int, Any]]:
        slopes = fr.loss_and_grad(*arguments)
        first = [(0, slopes.value), (0, slopes.dalpha), (1, slopes.dx), (1, slopes.dscale)]
        return [*first, (1, fr.influence(*arguments)), (2, fr.weight(*arguments))]

    with np.errstate(over="ignore", under="ignore"):
        for power in powers:
            for a, c in ((alpha, scale), (1.0, dtype(1.25))):
                moved = np.ldexp(x, power)
                for (order, got), (_, plain) in zip(found(moved, a, np.ldexp(c, power)), found(x, a, c), strict=True):
                    want = np.ldexp(plain, -order * power)
                    fits = normal(moved, plain, want)
                    assert fits.sum() > 100 or order == 2
                    np.testing.assert_allclose(got[fits], want[fits], rtol=4 * info.eps)


@pytest.mark.parametrize(("dtype", "x", "alpha", "scale"), [
    (np.float32, 1e-20, 1.0, 1e-20), (np.float32, 1e20, 1.0, 1e20), (np.float32, 1.0, 1.5, 1e-15),
    (np.float64, 1e-170, 1.0, 1e-170), (np.float64, 1e160, 1.0, 1e160),
])  # fmt: skip
def test_no_square_of_a_scale_leaves_the_range(dtype: Any, x: float, alpha: float, scale: float) -> None:
    arguments = [dtype(x), dtype(alpha), dtype(scale)]
    truth, slopes = oracle.all_at(*arguments, dtype), fr.loss_and_grad(*arguments)
    assert oracle.ulp_error(slopes.dx, truth.influence, dtype) <= 4
    assert oracle.ulp_error(slopes.dscale, truth.dscale, dtype) <= 4
    assert oracle.ulp_error(fr.weight(*arguments), truth.weight, dtype) <= 4
    assert oracle.ulp_error(fr.curvature(*arguments), truth.curvature, dtype, truth.weight) <= 8


@pytest.mark.parametrize("name", ["dx", "dalpha", "dscale", "weight", "curvature"])
@pytest.mark.parametrize(("dtype", "power", "far"), [(F4, -70, 30), (F4, 80, 10), (F8, -530, 200), (F8, 600, 30)])
def test_second_derivatives_too(name: str, dtype: Any, power: int, far: int) -> None:
    """By x and c times 2^power they are divided by powers of it, though 1/c^2 does not fit."""
    orders = {"dx": [2, 1, 2], "dalpha": [1, 0, 1], "dscale": [2, 1, 2], "weight": [3, 2, 3], "curvature": [3, 2, 3]}
    alpha, x = dtype([-2.0, -1.5, -0.5]), np.ldexp(dtype([1.25, -1.5, 1.75]), far)

    def found(shift: int) -> list[Any]:
        args = np.ldexp(x, shift), alpha, np.ldexp(np.full(3, 1.125, dtype), shift)
        rows = higher.slopes(Library(args), name, args, (True, False, True))  # type: ignore[arg-type]
        return [alpha if name == "dalpha" and i == 1 else row for i, row in enumerate(rows)]

    with np.errstate(over="ignore", under="ignore"):
        for order, got, plain in zip(orders[name], found(power), found(0), strict=True):
            want = np.ldexp(plain, -order * power)
            fits = (abs(want) > np.finfo(dtype).tiny) & (abs(want) < np.inf)
            np.testing.assert_allclose(got[fits], want[fits], rtol=20 * np.finfo(dtype).eps)
            assert np.isfinite(got[np.isfinite(want)]).all()
