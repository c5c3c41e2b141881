"""What a new library needs, shown with a toy backend, and what a new loss needs, with the toy definition on NumPy."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mpmath
import numpy as np
import pytest
from marks import slow
from toy import TOY

import fastrobust as fr
from fastrobust import _arguments, _call, _dispatch, _evaluate, _threads
from fastrobust._backends import numpy as backend
from fastrobust.kernels.losses.definition import Definition, cases, element, prepare

GRADIENTS = ("value", "dx", "dtarget", "dwidth", "dtilt")

# --- a backend: an array class of its own, over lists, and the scalar code run by Python


class Row:
    """An array of one axis."""

    def __init__(self, values: Sequence[float]) -> None:
        self.values = [np.float64(value) for value in values]
        self.shape = (len(self.values),)


class ByHand:
    """A backend for rows, with parameters that are numbers."""

    xp = np

    closed_forms = False

    def evaluate(self, definition: Definition, names: Any, operands: Any, options: dict[str, Any]) -> Any:
        if options:
            raise TypeError(f"{', '.join(options)}: not taken for rows")
        _arguments.check_numbers(definition, operands)
        parameters = tuple(np.float64(value) for value in operands[len(definition.data) :])
        with np.errstate(all="ignore"):
            prepared = prepare(definition)(parameters)
            flags = True, cases(definition).close(prepared)
            found = [
                dict(zip(definition.found, element(definition)(data, prepared, *flags), strict=True))
                for data in zip(*(row.values for row in operands[: len(definition.data)]), strict=True)
            ]
        results = tuple(Row([one[name] for one in found]) for name in names)
        return results if len(names) > 1 else results[0]

    def weighted(self, definition: Definition, names: Any, operands: Any, weights: Row, options: Any) -> Any:
        found = self.evaluate(definition, (*names, "value"), operands, options)[:-1]
        rows = [Row([w * v if w else 0.0 for w, v in zip(weights.values, row.values, strict=True)]) for row in found]
        return tuple(rows) if len(rows) > 1 else rows[0]

    def reduce(self, definition: Definition, wrt: Any, operands: Any, reduction: str, weights: Any, out: Any) -> Any:
        weights = Row([1.0] * operands[0].shape[0]) if weights is None else weights
        names = ("value", *definition.gradients)
        rows = dict(zip(names, self.weighted(definition, names, operands, weights, {}), strict=True))
        count = sum(weights.values) if reduction == "mean" else 1.0
        result = [sum(rows["value"].values) / count]
        for name in definition.operands:
            row = [value / count for value in rows["d" + name].values]
            result.append(None if name not in wrt else Row(row) if name in definition.data else sum(row))
        return tuple(result)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dispatch, "_known", dict(_dispatch._known))
    _dispatch.remember((Row,), ByHand())


X, WEIGHTS = (-3.0, -0.25, 0.0, 0.5, 40.0), (1.0, 0.5, 2.0, 0.0, 0.25)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("alpha", [0.0, 1.9, 2.0])
def test_the_public_functions_take_the_arrays_of_a_new_library(alpha: float) -> None:
    row, x = Row(X), np.array(X)
    for function in (fr.loss, fr.influence, fr.weight, fr.curvature, fr.nll):
        np.testing.assert_array_equal(function(row, alpha, 1.5).values, function(x, alpha, 1.5))
    for function in (fr.loss_and_grad, fr.nll_and_grad):
        for one, many in zip(function(row, alpha, 1.5), function(x, alpha, 1.5), strict=True):
            np.testing.assert_array_equal(one.values, many)
    np.testing.assert_array_equal(fr.log_partition(Row((0.0, 1.0, 2.5))).values, fr.log_partition([0.0, 1.0, 2.5]))
    found = fr.log_partition_and_grad(Row((0.5,)))
    assert isinstance(found, fr.PartitionGrad) and found.dalpha.values == [fr.log_partition_and_grad(0.5).dalpha]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_sums_of_a_new_library(reduction: Any, weighted: bool) -> None:
    given = fr.loss_and_grad(
        Row(X), 0.5, 1.5, reduction=reduction, weights=Row(WEIGHTS) if weighted else None, wrt=("scale", "x")
    )
    expected = fr.loss_and_grad(np.array(X), 0.5, 1.5, reduction=reduction, weights=WEIGHTS if weighted else None)
    assert isinstance(given, fr.LossGrad) and given.dalpha is None
    np.testing.assert_allclose(given.dx.values, expected.dx, rtol=1e-15)
    np.testing.assert_allclose([given.value, given.dscale], [expected.value, expected.dscale], rtol=1e-14)
    value = fr.loss(Row(X), 0.5, 1.5, reduction=reduction, weights=Row(WEIGHTS) if weighted else None)
    assert value == given.value


@pytest.mark.usefixtures("rows")
def test_what_a_backend_need_not_check() -> None:
    row = Row(X)
    for error, message, call in (
        (ValueError, "scale must be positive, got 0", lambda: fr.loss(row, 1.0, 0)),
        (ValueError, "reduction must be", lambda: fr.loss(row, 1.0, 1.0, reduction="max")),
        (ValueError, "wrt must be a tuple of distinct names", lambda: fr.loss_and_grad(row, 1.0, 1.0, wrt=("y",))),
        (ValueError, "out must be a LossGrad or tuple of four", lambda: fr.loss_and_grad(row, 1.0, 1.0, out=(row,))),
        (TypeError, "alpha is a numpy.ndarray and x a .*Row", lambda: fr.loss(row, np.ones(5), 1.0)),
        (TypeError, "weights is a numpy.ndarray and x a", lambda: fr.loss(row, 1.0, 1.0, weights=np.ones(5))),
        (TypeError, "scale is a .*Row and x a numpy.ndarray", lambda: fr.loss(np.ones(5), 1.0, row)),
        (TypeError, "loss does not take wieghts", lambda: fr.loss(row, 1.0, 1.0, wieghts=row)),
        (TypeError, "order: not taken for rows", lambda: fr.loss(row, 1.0, 1.0, order="C")),
    ):
        with pytest.raises(error, match=message):
            call()


def of_protocol() -> dict[str, int]:
    """The functions of the contract, and how many arguments each takes."""
    functions = inspect.getmembers(_call.Backend, inspect.isfunction)
    return {n: len(inspect.signature(f).parameters) - 1 for n, f in functions if not n.startswith("_")}


@pytest.mark.parametrize("module", sorted({*filter(None, _dispatch._LIBRARIES.values()), _dispatch._CONTAINERS}))
def test_our_backends_keep_the_contract(module: str, request: pytest.FixtureRequest) -> None:
    library = next((name for name, target in _dispatch._LIBRARIES.items() if target == module), "numpy")
    if library == "cupy":
        request.getfixturevalue("fake_cupy")
    else:
        pytest.importorskip(library)
    found = importlib.import_module(module)
    assert of_protocol() == {"evaluate": 4, "weighted": 5, "reduce": 6}
    for name, count in of_protocol().items():
        parameters = inspect.signature(getattr(found, name)).parameters
        assert len(parameters) == count, f"{module}.{name} takes {', '.join(parameters)}"
    assert hasattr(found.xp, "where") and type(found.closed_forms) is bool


# --- a definition: the toy on NumPy arrays


def exactly(x: float, target: float, width: float, tilt: float) -> tuple[dict[str, Any], Any]:
    """The outputs, and the sizes of the terms that their errors are measured by."""
    with mpmath.workdps(40):
        x, target, width, tilt = map(mpmath.mpf, map(float, (x, target, width, tilt)))
        r = x - target
        z = r / width
        root = mpmath.sqrt(1 + z * z)
        found = {
            "value": width**2 * (root - 1) + tilt * r, "dx": r / root + tilt, "dtarget": -(r / root + tilt),
            "dwidth": width * (2 * (root - 1) - z * z / root), "dtilt": r, "curvature": root**-3,
        }  # fmt: skip
        sizes = {
            "value": width**2 * (root - 1) + abs(tilt * r), "dx": abs(r / root) + abs(tilt),
            "dtarget": abs(r / root) + abs(tilt), "dwidth": width * (2 * (root - 1) + z * z / root),
            "dtilt": abs(r), "curvature": root**-3,
        }  # fmt: skip
    return found, sizes


def data(shape: Any, dtype: Any = np.float64, seed: int = 5) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=shape)).astype(dtype), rng.normal(size=shape).astype(dtype)


def parameter(shape: Any, dtype: Any = np.float64, seed: int = 6) -> Any:
    return np.exp(np.random.default_rng(seed).normal(size=shape)).astype(dtype)


@pytest.mark.parametrize("shape", [(), (200,)], ids=["shared", "each"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_gradients_are_within_8_ulp(dtype: Any, shape: Any) -> None:
    """In units of the terms that a result is the sum of."""
    operands = (*data(200, dtype), parameter(shape, dtype), parameter(shape, dtype, seed=7))
    found = dict(zip(TOY.outputs, backend.evaluate(TOY, TOY.outputs, operands, {}), strict=True))
    assert all(array.dtype == dtype for array in found.values())
    for i, row in enumerate(zip(*np.broadcast_arrays(*operands), strict=True)):
        exact, sizes = exactly(*row)
        for name, array in found.items():
            assert abs(mpmath.mpf(float(array[i])) - exact[name]) <= 8 * np.finfo(dtype).eps * sizes[name], (name, row)


def test_a_definition_goes_through_what_the_public_functions_go_through() -> None:
    x, target = data((20, 3))
    value, dx, dtarget, dwidth, dtilt = _evaluate.value_and_grad(
        TOY, (x, target, 0.7, 0.1), "none", None, TOY.operands, None
    )
    np.testing.assert_array_equal(_evaluate.value_of(TOY, (x, target, 0.7, 0.1), "none", None, {}), value)
    np.testing.assert_array_equal(dtarget, -dx)
    found = _evaluate.value_and_grad(TOY, (x, target, 0.7, 0.1), "sum", None, ("tilt", "target"), None)
    assert found[1] is found[3] is None
    np.testing.assert_array_equal(found[2], dtarget)
    np.testing.assert_allclose([found[0], found[4]], [value.sum(), dtilt.sum()], rtol=1e-13)
    with pytest.raises(ValueError, match="width must be positive, got -1"):
        _evaluate.value_of(TOY, (x, target, -1, 0.1), "none", None, {})
    with pytest.raises(ValueError, match=r"wrt must be .* \('x', 'target', 'width', 'tilt'\), got \('alpha',\)"):
        _evaluate.value_and_grad(TOY, (x, target, 1.0, 0.1), "none", None, ("alpha",), None)
    with pytest.raises(ValueError, match=r"tuple of five, \(value, dx, dtarget, dwidth, dtilt\)"):
        _evaluate.value_and_grad(TOY, (x, target, 1.0, 0.1), "none", None, TOY.operands, (None,))
    with pytest.raises(ValueError, match=r"shapes do not broadcast: x \(20, 3\), target \(20,\)"):
        _evaluate.value_of(TOY, (x, target[:, 0], 1.0, 0.1), "none", None, {})
    with pytest.raises(TypeError, match="toy does not take reduction"):
        _evaluate.value_of(TOY, (x, target, 1.0, 0.1), "none", None, {"reduction": 1})


def elementwise(operands: Any, weights: Any, mean: bool) -> list[Any]:
    """A reduction from what each element has."""
    arrays = [np.asarray(operand) for operand in operands]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    each = backend.evaluate(TOY, GRADIENTS, [np.array(np.broadcast_to(a, shape)) for a in arrays], {})
    factor = np.ones(shape) if weights is None else np.broadcast_to(weights, shape)
    each = [np.where(factor == 0, 0, e.astype(np.float64) * factor) for e in each]
    count = factor.sum() if mean else 1.0
    found = [each[0].sum() / count, each[1] / count, each[2] / count]
    for part, a in zip(each[3:], arrays[2:], strict=True):
        found.append(np.reshape(_arguments.unbroadcast(part, a.shape), a.shape) / count)
    return found


SHAPES = {
    "shared": ((), ()),
    "by column": ((7,), ()),
    "both by column": ((7,), (7,)),
    "by axis": ((300, 1), (1, 7)),
    "by element": ((300, 7), ()),
    "both by element": ((300, 7), (300, 7)),
}


@pytest.mark.parametrize(
    ("weighted", "mean"), [(False, False), (True, False), (True, True)], ids=["sum", "wsum", "wmean"]
)
@pytest.mark.parametrize("dtype", [np.float64, *slow(np.float32)])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_reductions_are_the_sums_of_what_each_element_has(shapes: Any, dtype: Any, weighted: bool, mean: bool) -> None:
    x, target = data((300, 7), dtype)
    weights = None
    if weighted:
        weights = parameter((300, 7), dtype, seed=8)
        weights[::3] = 0
        x[0, 0] = np.nan  # which a weight of 0 excludes
    reduction = "mean" if mean else "sum"
    width, tilt = parameter(shapes[0], dtype), parameter(shapes[1], dtype, seed=7)
    for second in (target, target[0], target[:, :1]):  # data broadcast against each other
        operands = x, second, width, tilt
        found, expected = (
            backend.reduce(TOY, TOY.operands, operands, reduction, weights, None),
            elementwise(operands, weights, mean),
        )
        for name, one, other in zip(GRADIENTS, found, expected, strict=True):
            assert one.dtype == dtype and one.shape == np.shape(other), name
            np.testing.assert_allclose(one, other, rtol=0, atol=32 * np.finfo(dtype).eps * np.abs(other).max())
    for wrt in (("target",), ("x", "tilt")):
        some = backend.reduce(TOY, wrt, operands, reduction, weights, None)
        for name, one, other in zip(("", *TOY.operands), some, found, strict=True):
            assert (one is None) is (name not in ("", *wrt))
            if one is not None:
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_the_number_of_threads_does_not_change_a_bit(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, target = data((40_000, 7), np.float32)
    shapes = [tuple(40_000 if n == 300 else n for n in shape) for shape in shapes]
    operands = x, target, parameter(shapes[0], np.float32), parameter(shapes[1], np.float32, seed=7)
    seen = set()
    with ThreadPoolExecutor(8) as pool:
        for count in (1, 2, 5, 8):
            monkeypatch.setattr(_threads, "_pool", lambda count=count: (pool.submit, count))
            found = backend.evaluate(TOY, GRADIENTS, operands, {})
            sums = backend.reduce(TOY, TOY.operands, operands, "mean", parameter((40_000, 7), np.float32, 8), None)
            seen.add(b"".join(np.ascontiguousarray(part).tobytes() for part in (*found, *sums)))
    assert len(seen) == 1


@pytest.mark.parametrize("size", [10, 200_000])
def test_results_go_where_they_are_to_go(size: int) -> None:
    x, target = data(size)
    for operands in ((x, target, 0.7, 0.1), (x, target, parameter(size), 0.1)):
        plain = backend.evaluate(TOY, ("value", "dtarget"), operands, {})
        memory = np.empty(size), np.empty(size)
        found = backend.evaluate(TOY, ("value", "dtarget"), operands, {"out": memory})
        assert found[0] is memory[0] and found[1] is memory[1]
        for one, other in zip(found, plain, strict=True):
            np.testing.assert_array_equal(one, other)
        expected = backend.reduce(TOY, ("target",), operands, "sum", None, None)
        out = (np.empty(()), None, np.empty(size), None, None)
        found = backend.reduce(TOY, ("target",), operands, "sum", None, out)
        assert found[0] is out[0] and found[2] is out[2]
        np.testing.assert_array_equal(found[2], expected[2])
        assert found[0] == expected[0]
    copies = x.copy(), target.copy()  # both overwritten by the derivatives in them
    expected = backend.reduce(TOY, ("x", "target"), (x, target, 0.7, 0.1), "mean", None, None)
    found = backend.reduce(TOY, ("x", "target"), (*copies, 0.7, 0.1), "mean", None, (None, *copies, None, None))
    assert found[1] is copies[0] and found[2] is copies[1]
    for one, other in zip(found[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_arrays_without_axes() -> None:
    """One element, in every way that a sum can take."""
    x, target = np.array(1.75), np.array(0.5)
    each = backend.evaluate(TOY, GRADIENTS, (x, target, 0.7, 0.1), {})
    for width, weights in itertools.product((0.7, np.array(0.7)), (None, 1.0)):
        memory = np.empty(())
        for out in (None, (None, memory, None, None, None)):
            found = backend.reduce(TOY, TOY.operands, (x, target, width, 0.1), "mean", weights, out)
            np.testing.assert_array_equal(found, each)
            assert all(isinstance(part, np.float64) for part in (found[0], *found[2:]))
            assert isinstance(found[1], np.float64) if out is None else found[1] is memory


def test_memory_that_overlaps_another_operand_is_not_read_after_it_was_written() -> None:
    memory = np.linspace(-3, 3, 1001)
    x, target = memory[:-1], memory[1:]
    expected = backend.reduce(TOY, ("x",), (x.copy(), target.copy(), 0.7, 0.1), "sum", None, None)
    found = backend.reduce(TOY, ("x",), (x, target, 0.7, 0.1), "sum", None, (None, x, None, None, None))
    assert found[1] is x
    np.testing.assert_array_equal(found[1], expected[1])
    assert found[0] == expected[0]


def test_half_precision_is_that_of_float32_rounded_once() -> None:
    x, target = data(500, np.float16)
    half = x, target, 0.7, 0.1
    single = x.astype(np.float32), target.astype(np.float32), 0.7, 0.1
    for run in (
        lambda operands: backend.evaluate(TOY, GRADIENTS, operands, {}),
        lambda operands: backend.reduce(TOY, TOY.operands, operands, "mean", None, None),
    ):
        for one, other in zip(run(half), run(single), strict=True):
            assert one.dtype == np.float16
            np.testing.assert_array_equal(one, other.astype(np.float16))


@pytest.mark.parametrize(
    "operands",
    [
        (np.float32([1, 2, 3]), 0.5, 0.7, 0.1),
        (np.float32([1, 2, 3]), np.array([1, 0, 1]), np.float32(0.7), np.array([1, 2, 3])),
        ([1, 2, 3], 0, 1, 2),
    ],
    ids=["a number as second data", "integers beside floats", "integers alone"],
)
def test_after_the_first_operand_numbers_and_integers_give_way(operands: Any) -> None:
    dtype = getattr(operands[0], "dtype", np.dtype(np.float64))
    arrays = [np.array(np.broadcast_to(operand, (3,)), dtype) for operand in operands]
    for run in (lambda given: backend.evaluate(TOY, GRADIENTS, given, {}), _summed):
        for one, other in zip(run(operands), run(arrays), strict=True):
            assert one.dtype == dtype
            if one.shape == other.shape:
                np.testing.assert_array_equal(one, other)


def _summed(operands: Any) -> Any:
    return backend.reduce(TOY, ("x", "target"), operands, "sum", None, None)[:3]


def test_labelled_arrays_keep_their_labels() -> None:
    pd = pytest.importorskip("pandas")
    x = pd.Series([1.0, 2.0, 3.0], index=list("abc"))
    target = pd.Series([3.0, 2.0, 1.0], index=list("cba"))
    width = pd.Series([2.0, 1.0, 0.5], index=list("bca"))
    found = _evaluate.value_and_grad(TOY, (x, target, width, 0.1), "sum", None, TOY.operands, None)
    plain = backend.reduce(
        TOY, TOY.operands, (x.to_numpy(), x.to_numpy(), np.array([0.5, 2.0, 1.0]), 0.1), "sum", None, None
    )
    assert found[0] == plain[0] and found[4] == plain[4]
    assert [list(part.index) for part in found[1:4]] == [list("abc"), list("abc"), list("bca")]
    for one, other in zip(found[1:4], plain[1:4], strict=True):
        np.testing.assert_array_equal(one.loc[list("abc")], other)


def test_log_z_is_a_definition_like_any_other() -> None:
    """Its sums, which no public function asks for."""
    from fastrobust.kernels.losses.catalogue import LOG_PARTITION

    alpha = np.linspace(0, 4, 2001)
    each: Callable[..., Any] = fr.log_partition_and_grad
    for reduction, count in (("sum", 1), ("mean", alpha.size)):
        value, slope = backend.reduce(LOG_PARTITION, ("alpha",), (alpha,), reduction, None, None)
        np.testing.assert_allclose(value, each(alpha).value.sum() / count, rtol=1e-14)
        np.testing.assert_allclose(slope, each(alpha).dalpha / count, rtol=1e-15)
