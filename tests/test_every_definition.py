"""What every loss made from a formula has in common: the catalogue's and the user's own, on arrays of every library.

One loss of each subject, and three of the user's own, in the ordinary run; the others are slow.  The kernels of a
loss are compiled once for all tests here, which therefore use few layouts of parameters.
"""

from __future__ import annotations

import concurrent.futures
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import _threads, losses
from fastrobust.kernels.loops import compiled
from fastrobust.math import power, sqrt, where

pytestmark = pytest.mark.filterwarnings("ignore:::torch")  # deprecations of its own


def _slope_in_c(x: Any, c: Any, tau: Any = 0.5) -> Any:
    rest = sqrt(1 + (x / c) ** 2) - 1
    return where(x > 0, tau, 1 - tau) * c * (rest * (rest / (1 + rest)))


@fr.define(params="c tau", ranges={"tau": (0, 1)})
def asymmetric(x: Any, c: Any, tau: Any = 0.5) -> Any:
    """A pseudo-Huber loss with two sides, and a derivative by hand."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)


asymmetric.derivative("c")(_slope_in_c)


@fr.define(params="delta")
def relative(x: Any, target: Any, delta: Any = 1.0) -> Any:
    """Two data, and a choice: Huber's loss of an error that counts less where the target is large."""
    e = (x - target) / sqrt(1 + target * target)
    return where(abs(e) < delta, 0.5 * e * e, delta * (abs(e) - 0.5 * delta))


@fr.define(params="p c", ranges={"p": (0.25, 3)})
def powers(x: Any, p: Any, c: Any = 1.0) -> Any:
    """A power that is a parameter."""
    return power(1 + (x / c) ** 2, p) - 1


CATALOGUE = [name for name in losses.__all__ if isinstance(getattr(losses, name), losses.Loss)]
LOSSES = {name: getattr(losses, name) for name in CATALOGUE}
LOSSES |= {loss.__name__: loss for loss in (asymmetric, relative, powers)}
ORDINARY = {"pseudo_huber", "bce_logits", "gaussian_nll_log", "min_snr_noise", "asymmetric", "relative", "powers"}
BENT = {  # with a bend in a first or a second derivative
    "epsilon_insensitive", "expectile", "gan_hinge", "hinge", "huber", "mae", "min_snr_data", "min_snr_noise",
    "min_snr_velocity", "quantile", "relative", "smooth_l1", "smoothed_hinge", "squared_epsilon_insensitive",
    "squared_hinge", "tukey",
}  # fmt: skip
every = pytest.mark.parametrize(
    "name", [name if name in ORDINARY else pytest.param(name, marks=pytest.mark.slow) for name in LOSSES]
)
SHAPE = (6, 5)


def operands_of(loss: Any, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> list[Any]:
    """Operands of that shape, of ordinary size, inside of domains and ranges."""
    random, found = np.random.default_rng(seed), []
    for operand in loss.formula.operands:
        if operand in loss.formula.ranges:
            least, most = loss.formula.ranges[operand]
            least, most = max(least, -2.0), min(most, 3.0)
            margin = (most - least) / 20
            found.append(random.uniform(least + margin, most - margin, shape))
        elif operand in loss.formula.domains or operand in loss.parameters:
            domain = loss.formula.domains.get(operand)
            found.append((domain.least if domain else 0.0) + random.uniform(0.4, 2.0, shape))
        else:
            found.append(random.uniform(-2.0, 2.0, shape))
    return found


def split(loss: Any, shape: tuple[int, ...] = SHAPE) -> tuple[list[Any], list[float], list[Any], list[Any]]:
    """The data, then the parameters as numbers, as columns, and one for each element."""
    operands = operands_of(loss, shape)
    data, parameters = operands[: len(loss.data)], operands[len(loss.data) :]
    return data, [float(p.flat[0]) for p in parameters], [p[:1] for p in parameters], parameters


def same(found: Any, wanted: Any) -> None:
    """The same dtype, shape and bits, NaN among them, for an array or for each of several."""
    for one, other in zip(found, wanted, strict=True) if isinstance(wanted, tuple) else [(found, wanted)]:
        assert type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)


LAYOUTS = {
    "columns first": np.asfortranarray,
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "every other": lambda a: np.repeat(a, 2, 1)[:, ::2],
    "read-only": lambda a: np.frombuffer(a.tobytes()).reshape(a.shape),
}


@every
def test_elements(name: str) -> None:
    """Parameters of any shape, out, memory of any layout, a number, nothing at all: the bits of one element each."""
    loss = LOSSES[name]
    data, numbers, columns, each = split(loss)
    g = loss.value_and_grad(*data, *numbers)
    for given in (numbers, columns, each):
        repeated = [np.broadcast_to(p, SHAPE).copy() for p in given]
        got = loss.value_and_grad(*data, *given)
        same(got, loss.value_and_grad(*data, *repeated))
        assert all(part.shape == SHAPE and part.dtype == np.float64 for part in got)
    value = loss(*data, *numbers)
    same(value, g.value)
    same(loss(*data, **dict(zip(loss.parameters, numbers, strict=True))), value)
    same(loss.influence(*data, *numbers), g.dx)
    one = loss.value_and_grad(*[float(operand[2, 3]) for operand in data], *numbers)
    same(one, tuple(part[2, 3] for part in g))

    memory = tuple(np.full(SHAPE, np.nan) for _ in g)
    got = loss.value_and_grad(*data, *numbers, out=memory)
    assert all(part is array for part, array in zip(got, memory, strict=True))
    same(memory, tuple(g))
    assert loss(*data, *numbers, out=memory[-1]) is memory[-1]
    same(memory[-1], value)
    for layout, lay in LAYOUTS.items():
        moved = [lay(operand) for operand in data]
        assert layout != "read-only" or not moved[0].flags.writeable
        same(tuple(np.ascontiguousarray(part) for part in loss.value_and_grad(*moved, *numbers)), tuple(g))
    first = data[0][:, :1]
    same(loss(first, *data[1:], *numbers), loss(np.broadcast_to(first, data[-1].shape if data[1:] else (6, 1)).copy(),
                                               *data[1:], *numbers))  # fmt: skip

    nothing = [operand[:0] for operand in data]
    assert all(part.shape == (0, 5) for part in loss.value_and_grad(*nothing, *numbers))
    assert loss(*nothing, *numbers, reduction="sum") == 0 and np.isnan(loss(*nothing, *numbers, reduction="mean"))


@every
def test_dtypes(name: str) -> None:
    """Integers are computed in float64, halves in float32, rounded once; lists are arrays."""
    loss = LOSSES[name]
    data, numbers, _, _ = split(loss)
    whole = [np.round(operand).astype(np.int64) for operand in data]
    same(loss(*whole, *numbers), loss(*[operand.astype(float) for operand in whole], *numbers))
    same(loss(*[operand.tolist() for operand in data], *numbers), loss(*data, *numbers))
    halves = [operand.astype(np.float16) for operand in data]
    singles = loss.value_and_grad(*[operand.astype(np.float32) for operand in halves], *numbers)
    assert all(part.dtype == np.float32 for part in singles)
    same(tuple(loss.value_and_grad(*halves, *numbers)), tuple(part.astype(np.float16) for part in singles))


@every
def test_sums(name: str) -> None:
    """Those of the elements, with gradients of the parameters' shapes; a weight of 0 leaves an element out."""
    loss = LOSSES[name]
    data, numbers, columns, each = split(loss)
    weights = np.random.default_rng(1).uniform(0.5, 1.5, SHAPE)
    weights[0, 0] = weights[4, 1] = 0
    mask = weights != 0
    missing = [operand.copy() for operand in data]
    missing[0][0, 0] = np.nan
    for given in (numbers, columns, each):
        elements = loss.value_and_grad(*data, *given)
        for used, divisor, options in (
            (np.ones(SHAPE), 1.0, {"reduction": "sum"}),
            (weights, 1.0, {"reduction": "sum", "weights": weights}),
            (weights, weights.sum(), {"reduction": "mean", "weights": weights}),
            (mask, mask.sum(), {"reduction": "mean", "weights": mask}),
        ):
            found = loss.value_and_grad(*(data if used.all() else missing), *given, **options)
            if given is numbers:
                same(found.value, loss(*data, *given, **options))
            terms = elements.value * used / divisor
            np.testing.assert_allclose(found.value, terms.sum(), rtol=1e-13, atol=1e-15 * abs(terms).sum())
            for part, element, operand in zip(found[1:], elements[1:], [*data, *given], strict=True):
                terms = element * used / divisor
                wanted = terms if np.shape(operand) == SHAPE else terms.sum(0, keepdims=True)
                wanted = wanted.sum() if np.shape(operand) == () else wanted
                assert part.shape == np.shape(operand)
                np.testing.assert_allclose(part, wanted, rtol=1e-13, atol=1e-14 * abs(terms).max())
    assert loss(*data, *numbers, reduction="mean") == pytest.approx(loss(*data, *numbers).mean(), rel=1e-13)


@every
def test_threads_and_containers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits do not depend on the number of threads; labels and masks are kept."""
    loss = LOSSES[name]
    data, numbers, columns, _ = split(loss, (30_001, 5))  # more elements than one thread takes
    weights = np.random.default_rng(1).uniform(0.5, 1.5, data[0].shape)
    results = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for count in (1, 2):
            monkeypatch.setattr(_threads, "_pool", lambda count=count: (pool.submit, count))
            of_columns = loss.value_and_grad(*data, *columns, reduction="sum", weights=weights)
            results.append((*of_columns, *loss.value_and_grad(*data, *numbers), loss(*data, *numbers, reduction="sum")))
    same(*results)

    pandas = pytest.importorskip("pandas")
    data, numbers, _, _ = split(loss, (6,))
    expected = loss(*data, *numbers)
    labelled = loss(*[pandas.Series(operand, list("abcdef")) for operand in data], *numbers)
    assert list(labelled.index) == list("abcdef")
    np.testing.assert_array_equal(labelled.to_numpy(), expected)
    masked = loss(np.ma.masked_array(data[0], [False, True] * 3), *data[1:], *numbers)
    assert masked.mask.tolist() == [False, True] * 3
    np.testing.assert_array_equal(masked.compressed(), expected[::2])
    with pytest.raises(TypeError, match="mask"):
        loss(np.ma.masked_array(data[0], [False, True] * 3), *data[1:], *numbers, reduction="sum")


@every
def test_pytorch(name: str) -> None:
    """NumPy's bits, and gradients of the first order, of smooth losses of the second, too."""
    torch = pytest.importorskip("torch")
    loss = LOSSES[name]
    data, numbers, columns, _ = split(loss, (2, 2))
    tensors = [torch.tensor(operand, requires_grad=True) for operand in (*data, *columns)]
    same(loss(*tensors).detach().numpy(), loss(*data, *columns))

    def total(*operands: Any) -> Any:
        return loss(*operands, reduction="mean")

    assert torch.autograd.gradcheck(total, tensors, rtol=1e-4)
    if name not in BENT:
        assert torch.autograd.gradgradcheck(total, tensors, rtol=1e-4)


@every
def test_jax(name: str) -> None:
    """NumPy's gradients, of the parameters' shapes."""
    jax = pytest.importorskip("jax")
    loss = LOSSES[name]
    data, numbers, columns, _ = split(loss)
    for parameters in (numbers, columns):
        operands = [np.asarray(operand, np.float32) for operand in (*data, *parameters)]
        expected = loss.value_and_grad(*operands, reduction="sum")
        places = tuple(range(len(operands)))
        value, slopes = jax.value_and_grad(lambda *a: loss(*a, reduction="sum"), places)(
            *map(jax.numpy.asarray, operands)
        )
        np.testing.assert_allclose(value, expected.value, rtol=1e-6)
        for found, wanted in zip(slopes, expected[1:], strict=True):
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7 * abs(wanted).max())


@every
def test_cuda(name: str, fake_cupy: Any) -> None:
    """PTX without calls, which run on this CPU gives NumPy's bits, and its sums."""
    loss = LOSSES[name]
    definition = loss.formula.definition
    for kind, outputs, layout in (
        ("elementwise", definition.outputs, "shared"),
        ("reduction", definition.outputs, "shared"),
    ):
        text = compiled.ptx(kind, definition, outputs, "float32", layout)
        assert ".visible .entry kernel" in text and "call" not in text
    data, numbers, _, _ = split(loss)
    singles = [operand.astype(np.float32) for operand in data]
    on_device = [fake_cupy.asarray(operand) for operand in singles]
    found, wanted = (loss.value_and_grad(*given, *numbers) for given in (on_device, singles))
    same(tuple(part.get() for part in found), tuple(wanted))
    found, wanted = (loss.value_and_grad(*given, *numbers, reduction="sum") for given in (on_device, singles))
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(part.get(), other, rtol=1e-6, atol=1e-7 * abs(other).max())


def test_the_checks_are_of_every_loss_and_see_a_wrong_one() -> None:
    """A loss whose derivative is another function, which the definition itself would refuse."""
    assert set(LOSSES) >= BENT | ORDINARY
    torch = pytest.importorskip("torch")
    wrong = fr.define(lambda_free, params="c")
    wrong.formula = wrong.formula.with_slopes({"x": lambda x, c: c})
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(lambda x: wrong(x, 1.5), x)


def lambda_free(x: Any, c: Any) -> Any:
    return c * x * x
