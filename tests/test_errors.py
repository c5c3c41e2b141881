"""Errors: each names the argument, its value and the remedy; bad calls fail in no other way."""

from __future__ import annotations

import array
import collections
import ctypes
import datetime
import decimal
import fractions
import math
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastrobust as fr
from fastrobust import _dispatch

Call = Callable[..., Any]
X = np.array([0.5, -1.0, 2.0])
READ_ONLY = np.zeros(3)
READ_ONLY.flags.writeable = False
OPTIONS = ("casting", "dtype", "order", "out", "subok", "where")

WITH_REDUCTION: dict[str, Call] = {name: getattr(fr, name) for name in ("loss", "nll", "loss_and_grad", "nll_and_grad")}
WITH_OPTIONS: dict[str, Call] = {
    name: getattr(fr, name) for name in ("loss", "influence", "weight", "curvature", "nll", "log_partition")
}
ALL: dict[str, Call] = {
    **WITH_REDUCTION,
    **{name: getattr(fr, name) for name in ("influence", "weight", "curvature")},
}
GRAD: dict[str, Call] = {name: WITH_REDUCTION[name] for name in ("loss_and_grad", "nll_and_grad")}

# Every way through the code that checks arguments on its own.
PATHS: dict[str, Call] = {
    **ALL,
    "loss, sum": lambda **a: fr.loss(reduction="sum", **a),
    "nll_and_grad, mean": lambda **a: fr.nll_and_grad(reduction="mean", **a),
    "loss_and_grad, wrt": lambda **a: fr.loss_and_grad(wrt=["x", "alpha", "scale"], **a),
    "loss_and_grad, out": lambda **a: fr.loss_and_grad(out=(np.zeros(3), None, None, None), **a),
    "loss, where": lambda **a: fr.loss(where=True, **a),
}
WEIGHTED: dict[str, Call] = {
    **WITH_REDUCTION,
    **{name: PATHS[name] for name in ("loss, sum", "nll_and_grad, mean", "loss_and_grad, wrt")},
}
PARTITION: dict[str, Call] = {"log_partition": fr.log_partition, "log_partition_and_grad": fr.log_partition_and_grad}


def unaddressed(value: Any) -> str:
    """A name for a test that is the same in every process."""
    return re.sub(r" at 0x\w+", "", str(value))


each_path = pytest.mark.parametrize("call", PATHS.values(), ids=PATHS)
each_partition = pytest.mark.parametrize("partition", PARTITION.values(), ids=PARTITION)
each_with_weights = pytest.mark.parametrize("call", WEIGHTED.values(), ids=WEIGHTED)
each_with_reduction = pytest.mark.parametrize("name", WITH_REDUCTION)
argument = pytest.mark.parametrize("name", ["x", "alpha", "scale"])
any_argument = pytest.mark.parametrize("name", ["x", "alpha", "scale", "weights"])


def refusal(kind: type[Exception], call: Call, *arguments: Any, **keywords: Any) -> str:
    """The message of the error of that kind that the call must give."""
    with pytest.raises(kind) as caught:
        call(*arguments, **keywords)
    return str(caught.value)


def arguments_with(**changed: Any) -> dict[str, Any]:
    return {"x": X, "alpha": 1.0, "scale": 1.0, **changed}


def calls_with(name: str, value: Any) -> Iterator[tuple[Call, dict[str, Any]]]:
    """Every call that takes an argument of that name, with that value for it."""
    for call in (WEIGHTED if name == "weights" else PATHS).values():
        yield call, arguments_with(**{name: value})
    if name == "alpha":
        for call in PARTITION.values():
            yield call, {"alpha": value}


def repr_or_type(value: Any) -> str:
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)


def assert_names(message: str, *words: str) -> None:
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in the message: {message}"


def array_class(module: str, name: str = "Array", **members: Any) -> type:
    """A class that says it comes from that module."""
    return type(name, (), {"__module__": module, **members})


def forward(self: Any, ufunc: Any, method: str, *inputs: Any, **options: Any) -> str:
    return f"{ufunc.__name__} of {len(inputs)}"


# --- libraries

LIBRARIES = ["dask"]


@pytest.mark.parametrize("library", LIBRARIES)
@any_argument
def test_a_library_of_a_later_release_is_named_with_the_argument_and_the_remedy(name: str, library: str) -> None:
    value = array_class(f"{library}.core")()
    for call, arguments in calls_with(name, value):
        message = refusal(TypeError, call, **arguments)
        assert_names(message, f"{name} is a {library}.core.Array", f"{library} is not in this release", "numpy.asarray")


@pytest.mark.parametrize("members", [{}, {"__array_ufunc__": forward}, {"__array__": lambda self: X}], ids=" ".join)
def test_a_known_library_is_not_computed_by_numpy_behind_its_back(members: dict[str, Any]) -> None:
    """Dask has __array_ufunc__, which would break its laziness silently."""
    value = array_class("dask.array.core", **members)()
    assert_names(refusal(TypeError, fr.loss, value, 1.0, 1.0), "is not in this release")


def test_a_subclass_of_an_array_of_a_known_library_is_recognized() -> None:
    parameter = type("Parameter", (array_class("dask", "Array"),), {"__module__": "my_model"})
    assert_names(refusal(TypeError, fr.loss, parameter(), 1.0, 1.0), "x is a my_model.Parameter", "support for dask")


def test_a_module_that_only_begins_like_a_library_is_not_that_library() -> None:
    value = array_class("torchlike.core")()
    assert_names(refusal(TypeError, fr.loss, value, 1.0, 1.0), "torchlike.core.Array", "its type is not known")


@pytest.fixture
def cupy_like(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An array of a second library that has a backend, for the length of a test."""
    monkeypatch.setattr(_dispatch, "_known", {})
    monkeypatch.setitem(_dispatch._LIBRARIES, "cupy", "fastrobust._backends")
    return array_class("cupy", "ndarray")()


@pytest.mark.parametrize("name", ["alpha", "scale"])
@each_path
def test_mixed_libraries_are_named_both(call: Call, name: str, cupy_like: Any) -> None:
    message = refusal(TypeError, call, **arguments_with(**{name: cupy_like}))
    assert_names(message, f"{name} is a cupy.ndarray", "x a numpy.ndarray", "convert one of them")
    message = refusal(TypeError, call, **arguments_with(**{name: X, "x": cupy_like}))
    assert_names(message, f"{name} is a numpy.ndarray", "x a cupy.ndarray", "convert one of them")


@each_with_weights
def test_weights_of_another_library_are_named(call: Call, cupy_like: Any) -> None:
    message = refusal(TypeError, call, **arguments_with(weights=cupy_like))
    assert_names(message, "weights is a cupy.ndarray", "x a numpy.ndarray", "convert one of them")


def test_numpy_scalars_are_of_the_numpy_library(cupy_like: Any) -> None:
    assert_names(refusal(TypeError, fr.loss, cupy_like, np.float32(1), 1.0), "alpha is a numpy.float32")


# --- unknown types

NUMBER, LIST = "pass a number", "convert it with list()"
STRANGERS = {
    "object": object(),
    "str": "auto",
    "bytes": b"12",
    "dict": {0: 1.0},
    "set": {1.0},
    "generator": (i for i in (1.0, 2.0)),
    "complex": 1j,
    "Decimal": decimal.Decimal("1.5"),
    "Fraction": fractions.Fraction(1, 2),
    "date": datetime.date(2026, 1, 1),
    "class": float,
    "function": math.sqrt,
    "module": math,
    "ellipsis": ...,
    "slice": slice(3),
    "namespace": types.SimpleNamespace(dtype=np.dtype("f8"), shape=(3,)),
    "namedtuple": collections.namedtuple("Pair", "a b")(1.0, 2.0),
    "has only __array__": array_class("other", __array__=lambda self, *a, **k: X)(),
    "refuses ufuncs": array_class("other", __array_ufunc__=None)(),
}
REMEDIES = {
    "set": LIST,
    "generator": LIST,
    "namedtuple": LIST,
    "complex": "pass its real part",
    "Decimal": "convert it with float()",
    "Fraction": "convert it with float()",
    "has only __array__": "convert it with numpy.asarray()",
}
each_stranger = pytest.mark.parametrize(
    ("value", "remedy"), [(value, REMEDIES.get(name, NUMBER)) for name, value in STRANGERS.items()], ids=STRANGERS
)


def type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


@each_stranger
@any_argument
def test_an_unknown_type_is_named_with_the_argument_and_a_remedy(name: str, value: Any, remedy: str) -> None:
    for call, arguments in calls_with(name, value):
        message = refusal(TypeError, call, **arguments)
        assert_names(message, f"{name} is a {type_name(value)}", "Supported: arrays of NumPy, CuPy, PyTorch and JAX")
        assert message.endswith(f"; {remedy}.") or f"; {remedy}" in message


def test_remedies_for_unknown_types_work() -> None:
    for value in (decimal.Decimal("0.5"), fractions.Fraction(1, 2)):
        assert fr.loss(X, float(value), 1.0).tolist() == fr.loss(X, 0.5, 1.0).tolist()
    for value in ({1.0}, (i for i in (1.0, 2.0)), collections.namedtuple("Pair", "a b")(1.0, 2.0), {1.0: 2}.keys()):
        assert_names(refusal(TypeError, fr.loss, value, 1.0, 1.0), LIST)
        assert np.isfinite(fr.loss(list(value), 1.0, 1.0)).all()
    for value in (memoryview(X), array.array("d", X), (ctypes.c_double * 3)(*X), np.ctypeslib.as_ctypes(X.copy())):
        assert_names(refusal(TypeError, fr.loss, value, 1.0, 1.0), "its type is not known", "numpy.asarray()")
        assert_names(refusal(TypeError, fr.loss, X, 1.0, 1.0, weights=value), "weights is a", "numpy.asarray()")
        assert np.array_equal(fr.loss(np.asarray(value), 1.0, 1.0), fr.loss(X, 1.0, 1.0))


def test_the_list_of_libraries_is_that_of_the_dispatcher() -> None:
    assert _dispatch.SUPPORTED == ("numpy", "cupy", "torch", "jax")
    assert {k for k, v in _dispatch._LIBRARIES.items() if v} == {*_dispatch.SUPPORTED, "jaxlib"}


@pytest.mark.parametrize("library", ["pint", "torch"])
@any_argument
def test_lists_of_other_libraries_scalars_are_not_stripped(name: str, library: str) -> None:
    """NumPy makes floats of them: without units, and without gradients."""
    module = pytest.importorskip(library, reason=f"needs pip install {library}")
    one = module.UnitRegistry().Quantity(1.0, "km") if library == "pint" else module.tensor(1.0, requires_grad=True)
    for value in ([one, one, one], [[one, 1.0, 1.0]], (1.0, one, 1.0)):
        for call, arguments in calls_with(name, value):
            assert_names(refusal(TypeError, call, **arguments), f"{name} is a", " of ", library, "one array")


@argument
def test_none_is_refused_as_none(name: str) -> None:
    for call, arguments in calls_with(name, None):
        assert_names(refusal(TypeError, call, **arguments), f"{name} is ", "None")


def test_an_array_without_a_numpy_dtype_is_named() -> None:
    value = array_class("other", __array_ufunc__=forward)()
    for name in ("x", "alpha", "scale"):
        message = refusal(TypeError, fr.loss, **arguments_with(**{name: value}))
        assert_names(message, f"{name} is a Array without a NumPy dtype", "numpy.asarray()")


# --- dtypes

UNSUPPORTED = {
    "complex64": "c8",
    "complex128": "c16",
    "object": "O",
    "S3": "S3",
    "U3": "U3",
    "datetime64": "M8[s]",
    "timedelta64": "m8[s]",
    "V8": "V8",
    "'a'": [("a", "f4")],
}
if np.dtype("g") != np.dtype("d"):  # where long double has more bits than double
    UNSUPPORTED[str(np.dtype("g"))] = "g"
each_dtype = pytest.mark.parametrize(("word", "dtype"), UNSUPPORTED.items(), ids=UNSUPPORTED)


@pytest.mark.parametrize("shape", [(3,), ()], ids=str)
@each_dtype
@any_argument
def test_an_unsupported_dtype_is_named_with_the_argument_and_the_remedy(
    name: str, word: str, dtype: Any, shape: Any
) -> None:
    for call, arguments in calls_with(name, np.zeros(shape, dtype)):
        message = refusal(TypeError, call, **arguments)
        assert_names(message, f"{name} has dtype", word, "float64", ".astype()")
        assert ("its real part or its absolute value" in message) is ("complex" in word)


@pytest.mark.parametrize("value", [["a"], [None], [object()], [1j], [{}], [[1.0, "a"]]], ids=repr_or_type)
@any_argument
def test_a_list_of_what_is_no_real_number_is_refused_by_name(name: str, value: Any) -> None:
    for call, arguments in calls_with(name, value):
        assert_names(refusal(TypeError, call, **arguments), f"{name} has dtype", ".astype()")


RAGGED = [[1.0], [1.0, 2.0]]


@any_argument
def test_a_ragged_list_is_named(name: str) -> None:
    for call, arguments in calls_with(name, RAGGED):
        message = refusal(TypeError, call, **arguments)
        assert_names(message, f"{name}: NumPy makes no array of this list", "inhomogeneous")


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("name", ["alpha", "scale"])
def test_float16_with_bfloat16_is_refused_with_both_named(name: str, reduction: Any) -> None:
    bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 needs pip install ml_dtypes").bfloat16
    for first, second in ((np.float16, bfloat16), (bfloat16, np.float16)):
        arguments = arguments_with(**{name: np.ones(3, second), "x": np.ones(3, first)})
        message = refusal(TypeError, fr.loss_and_grad, **arguments, reduction=reduction)
        assert_names(message, f"x and {name}", "float16, ", "bfloat16", "common type", "convert one")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "int4"])
def test_other_small_formats_are_refused_by_name(dtype: str) -> None:
    small = getattr(pytest.importorskip("ml_dtypes", reason="the formats are those of ml_dtypes"), dtype)
    assert_names(refusal(TypeError, fr.loss, np.ones(3, small), 1.0, 1.0), "x has dtype", dtype, ".astype()")


@pytest.mark.parametrize("dtype", [np.int64, np.complex64, np.longdouble, bool, "O", "U5"], ids=str)
@pytest.mark.parametrize("call", WITH_OPTIONS.values(), ids=WITH_OPTIONS)
def test_a_dtype_option_without_a_kernel_is_named(call: Call, dtype: Any) -> None:
    arguments = {"alpha": X} if call is fr.log_partition else arguments_with()
    message = refusal(TypeError, call, **arguments, dtype=dtype)
    assert_names(message, "dtype must be float16, bfloat16, float32 or float64", str(np.dtype(dtype)))


# --- shapes


@each_path
def test_shapes_that_do_not_broadcast_are_named_with_their_arguments(call: Call) -> None:
    message = refusal(ValueError, call, x=X, alpha=np.ones((2, 4)), scale=np.ones(1))
    assert_names(message, "x (3,)", "alpha (2, 4)", "scale (1,)", "equal or 1")
    message = refusal(ValueError, call, x=X, alpha=1.0, scale=np.ones((3, 2), np.float32))
    assert_names(message, "x (3,)", "alpha ()", "scale (3, 2)", "equal or 1")


@pytest.mark.parametrize("weights", [np.ones(2), np.ones((2, 3)), np.ones((1, 3)), np.ones((3, 1)), [], [1.0, 2.0]])
@each_with_weights
def test_weights_broadcast_to_the_result_and_never_extend_it(call: Call, weights: Any) -> None:
    message = refusal(ValueError, call, **arguments_with(weights=weights))
    assert_names(message, f"weights of shape {np.shape(weights)}", "shape (3,) of the result")


def test_weights_that_would_extend_a_single_number_are_refused() -> None:
    for reduction in ("none", "sum", "mean"):
        message = refusal(ValueError, fr.loss, 2.0, 1.0, 1.0, weights=np.ones(3), reduction=reduction)
        assert_names(message, "weights of shape (3,)", "shape () of the result")


def test_wrong_shapes_are_reported_before_wrong_weights() -> None:
    for call in WEIGHTED.values():
        message = refusal(ValueError, call, x=X, alpha=np.ones(4), scale=1.0, weights=np.ones(9))
        assert_names(message, "x (3,), alpha (4,)")


def test_shapes_of_subclasses_that_do_not_broadcast_are_named_too() -> None:
    pd = pytest.importorskip("pandas", reason="needs pip install pandas")
    for x in (pd.Series(X), np.ma.masked_array(X)):
        assert_names(refusal(ValueError, fr.loss, x, np.ones(4), 1.0), "x (3,)", "alpha (4,)")


# --- reduction

REDUCTIONS = ["max", "SUM", "", "mean ", "none\n", None, 0, 1.0, True, b"sum", ["sum"], ("sum",), {}, {"sum"}, math.nan]


@each_with_reduction
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=repr)
def test_an_unknown_reduction_is_named_with_the_known_ones(name: str, reduction: Any) -> None:
    for more in ({}, {"weights": X}, {"out": None}):
        message = refusal(ValueError, WITH_REDUCTION[name], X, 1.0, 1.0, reduction=reduction, **more)
        assert_names(message, "reduction must be 'none', 'sum' or 'mean'", repr(reduction))


@each_with_reduction
@pytest.mark.parametrize(
    "reduction",
    [np.array("sum"), np.array(["sum", "mean"]), np.zeros(3), np.zeros(0)],
    ids=["0-d", "1-d", "x", "empty"],
)
def test_an_array_as_reduction_is_named_like_any_other(name: str, reduction: Any) -> None:
    for more in ({}, {"weights": X}):
        message = refusal(ValueError, WITH_REDUCTION[name], X, 1.0, 1.0, reduction=reduction, **more)
        assert_names(message, "reduction must be 'none', 'sum' or 'mean'", repr(reduction))


# --- wrt

WRT = [
    None,
    5,
    "x",
    "alpha",
    b"x",
    ("x", "x"),
    ["alpha", "alpha"],
    ("x", "alpha", "scale", "x"),
    ("y",),
    ("dx",),
    ("value",),
    ("X",),
    (None,),
    (0,),
    (["x"],),
    (["x"], ["x"]),
    ({"x": 1},),
    {"x"},
    {"x": 1},
    (n for n in "x"),
    np.array(["x"]),
]


@pytest.mark.parametrize("wrt", WRT, ids=lambda v: "generator" if isinstance(v, types.GeneratorType) else repr(v))
@pytest.mark.parametrize("name", GRAD)
def test_a_bad_wrt_is_named_with_what_it_may_hold(name: str, wrt: Any) -> None:
    for more in ({}, {"reduction": "sum"}, {"weights": X}, {"out": (None,) * 4}):
        message = refusal(ValueError, GRAD[name], X, 1.0, 1.0, wrt=wrt, **more)
        assert_names(message, "wrt must be a tuple of distinct names", "('x', 'alpha', 'scale')", repr(wrt))


@pytest.mark.parametrize("wrt", [(X,), ("x", X), (np.array(["x", "alpha"]),)], ids=["x", "second", "names"])
@pytest.mark.parametrize("name", GRAD)
def test_an_array_in_wrt_is_named_like_anything_else(name: str, wrt: Any) -> None:
    """Someone who passes the variable for its name."""
    for more in ({}, {"reduction": "sum"}):
        assert_names(refusal(ValueError, GRAD[name], X, 1.0, 1.0, wrt=wrt, **more), "wrt must be a tuple", "'alpha'")


# --- out

NO_ARRAYS = {"list": [0.0, 0.0, 0.0], "number": 5, "str": "abc", "object": object(), "type": float, "dict": {}}
# Wrong for a result of shape (3,), though NumPy would broadcast a result into the second to fourth.
WRONG_SHAPES: list[tuple[int, ...]] = [(4,), (2, 3), (1, 3), (3, 3), (), (3, 1), (0,)]


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
@pytest.mark.parametrize("call", WITH_OPTIONS.values(), ids=WITH_OPTIONS)
def test_out_of_a_wrong_shape_is_refused_even_where_it_would_broadcast(call: Call, shape: Any) -> None:
    out = np.full(shape, 7.0)
    for alpha in (1.0, [1.0]) if call is not fr.log_partition else (X,):
        arguments = {"alpha": np.abs(X)} if call is fr.log_partition else arguments_with(alpha=alpha)
        for given in (out, (out,)):
            message = refusal(ValueError, call, **arguments, out=given)
            assert_names(message, "out for ", "shape (3,)", f"got shape {shape}")
    assert np.all(out == 7)


# Each of these goes a way of its own to the ufunc.
OUT_PATHS: dict[str, dict[str, Any]] = {
    "numbers": {},
    "arrays": {"alpha": [1.0]},
    "where": {"where": True},
    "order": {"order": "C"},
    "weights": {"weights": X},
    "masked": {"x": np.ma.masked_array(X)},
    "Series": {"x": "pandas"},
}
each_out_path = pytest.mark.parametrize("path", OUT_PATHS)


def arguments_on(path: str) -> dict[str, Any]:
    arguments = arguments_with(**OUT_PATHS[path])
    if path == "Series":
        arguments["x"] = pytest.importorskip("pandas", reason="needs pip install pandas").Series(X)
    return arguments


@pytest.mark.parametrize("shape", WRONG_SHAPES, ids=str)
@each_out_path
def test_out_of_a_wrong_shape_is_refused_on_every_path(path: str, shape: Any) -> None:
    out = np.full(shape, 7.0)
    assert_names(refusal(ValueError, fr.loss, **arguments_on(path), out=out), "out", "(3,)", str(shape))
    assert np.all(out == 7)


@pytest.mark.parametrize("out", NO_ARRAYS.values(), ids=NO_ARRAYS)
@each_out_path
def test_out_that_is_no_array_is_refused_on_every_path(path: str, out: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"\bout\b.*" + type(out).__name__):
        fr.loss(**arguments_on(path), out=out)


@pytest.mark.parametrize("out", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_out_of_a_sum_is_an_array(out: Any) -> None:
    with pytest.raises(ValueError, match=r"\bout for value\b.*" + type(out).__name__):
        fr.loss(X, 1.0, 1.0, reduction="sum", out=out)


@pytest.mark.parametrize("count", [0, 2, 4])
@pytest.mark.parametrize("call", WITH_OPTIONS.values(), ids=WITH_OPTIONS)
def test_out_for_one_result_takes_one_array(call: Call, count: int) -> None:
    arguments = {"alpha": np.abs(X)} if call is fr.log_partition else arguments_with()
    assert_names(refusal(ValueError, call, **arguments, out=(np.zeros(3),) * count), "out", "entry")


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("name", ["loss", "nll"])
@pytest.mark.parametrize("count", [0, 2, 4])
def test_out_of_a_sum_takes_one_0_d_array(name: str, reduction: Any, count: int) -> None:
    call = WITH_REDUCTION[name]
    message = refusal(ValueError, call, X, 1.0, 1.0, reduction=reduction, out=(np.zeros(()),) * count)
    assert_names(message, "out", "value", f"got {count}")
    assert "dalpha" not in message, f"{name} has no such result: {message}"


@pytest.mark.parametrize("shape", [(3,), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("name", ["loss", "nll"])
def test_out_of_a_sum_has_no_axes(name: str, shape: Any) -> None:
    for out in (np.zeros(shape), (np.zeros(shape),)):
        message = refusal(ValueError, WITH_REDUCTION[name], X, 1.0, 1.0, reduction="sum", out=out)
        assert_names(message, "out for value", "shape ()", f"got shape {shape}")


@pytest.mark.parametrize(
    "out", [np.zeros(3), np.zeros((4, 3)), *NO_ARRAYS.values(), (), [None] * 3, (np.zeros(3),) * 5], ids=unaddressed
)
@pytest.mark.parametrize("name", GRAD)
def test_out_for_gradients_is_a_tuple_of_four(name: str, out: Any) -> None:
    for more in ({}, {"reduction": "sum"}, {"weights": X}, {"wrt": ("x",)}):
        message = refusal(ValueError, GRAD[name], X, 1.0, 1.0, out=out, **more)
        assert_names(message, "out must be a LossGrad or tuple of four", "(value, dx, dalpha, dscale)", repr(out))


@pytest.mark.parametrize("place", fr.LossGrad._fields)
@pytest.mark.parametrize("entry", [np.zeros(4), np.zeros((1, 3)), [0.0] * 3, 5], ids=["(4,)", "(1, 3)", "list", "int"])
@pytest.mark.parametrize("more", [{}, {"weights": X}, {"reduction": "mean"}], ids=str)
def test_a_bad_entry_of_out_is_named_by_its_gradient(place: str, entry: Any, more: dict[str, Any]) -> None:
    out = fr.LossGrad(**{name: entry if name == place else None for name in fr.LossGrad._fields})
    shape = (3,) if not more.get("reduction") or place == "dx" else ()
    message = refusal(ValueError, fr.loss_and_grad, X, 1.0, 1.0, out=out, **more)
    got = f"shape {entry.shape}" if isinstance(entry, np.ndarray) else type(entry).__name__
    assert_names(message, f"out for {place}", f"shape {shape}", got)


@pytest.mark.parametrize("parameters", [(), (1,), (2, 3)], ids=str)
def test_out_of_a_parameter_gradient_has_the_shape_of_the_parameter(parameters: Any) -> None:
    alpha = np.ones(parameters)
    for wrong in ((3,), (6,), (1, 3)):
        out = (None, None, np.zeros(wrong), None)
        message = refusal(ValueError, fr.loss_and_grad, np.ones((2, 3)), alpha, 1.0, reduction="sum", out=out)
        assert_names(message, "out for dalpha", f"shape {parameters}", f"got shape {wrong}")


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weights", [None, X], ids=["", "weights"])
@pytest.mark.parametrize("place", fr.LossGrad._fields)
def test_memory_that_is_read_only_is_never_written(place: str, weights: Any, reduction: Any) -> None:
    """A file mapped read-only would end the process."""
    target = np.zeros(3 if reduction == "none" or place == "dx" else ())
    target.flags.writeable = False
    out = fr.LossGrad(**{name: target if name == place else None for name in fr.LossGrad._fields})
    message = refusal(ValueError, fr.loss_and_grad, X, 1.0, 1.0, reduction=reduction, weights=weights, out=out)
    assert_names(message, "read-only")
    assert np.all(target == 0)


def test_read_only_out_of_one_result_is_never_written() -> None:
    for more in ({}, {"weights": X}, {"where": True}):
        assert_names(refusal(ValueError, fr.loss, X, 1.0, 1.0, out=READ_ONLY, **more), "read-only")
    assert np.all(READ_ONLY == 0)


@pytest.mark.parametrize("dtype", [int, bool, np.uint8], ids=lambda d: d.__name__)
@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("weights", [None, X], ids=["", "weights"])
def test_out_of_integers_is_refused_with_both_dtypes_named(dtype: Any, reduction: Any, weights: Any) -> None:
    out = np.ones(3 if reduction == "none" else (), dtype)
    message = refusal(TypeError, fr.loss, X, 1.0, 1.0, reduction=reduction, weights=weights, out=out)
    assert_names(message, "float64", str(np.dtype(dtype)), "same_kind")
    assert np.all(out == 1)


# --- Python numbers without a meaning


SCALARS = [np.float16, np.float32, np.float64, np.int8, np.int64]


@pytest.mark.parametrize(
    "scale",
    [0, 0.0, -0.0, -1, -2.5, -math.inf, False, -(10**400), *(T(-3) for T in SCALARS), np.float32(0), np.bool_(False)],
    ids=repr,
)
@each_path
def test_a_number_as_scale_is_positive(call: Call, scale: Any) -> None:
    message = refusal(ValueError, call, **arguments_with(scale=scale))
    assert_names(message, "scale must be positive", f"got {scale!r}")


@pytest.mark.parametrize("alpha", [-1, -0.5, -1e-300, -math.inf, -(10**400), *(T(-2) for T in SCALARS)], ids=repr)
@pytest.mark.parametrize("call", [fr.nll, fr.nll_and_grad, PATHS["nll_and_grad, mean"]], ids=["nll", "grad", "mean"])
def test_a_number_as_alpha_of_the_likelihood_is_not_negative(call: Call, alpha: Any) -> None:
    message = refusal(ValueError, call, **arguments_with(alpha=alpha))
    assert_names(message, "alpha must be >= 0", f"got {alpha!r}", "use loss", "truncation=")
    assert np.isfinite(fr.nll(X, alpha, 1.0, truncation=20.0)).all()


@pytest.mark.parametrize("alpha", [-1, -1e-300, -math.inf, -(10**400), *(T(-2) for T in SCALARS)], ids=repr)
@each_partition
def test_a_number_as_alpha_of_the_partition_function_is_not_negative(partition: Call, alpha: Any) -> None:
    assert_names(refusal(ValueError, partition, alpha), "alpha must be >= 0", f"got {alpha!r}", "truncation=")


@pytest.mark.parametrize("scale", [0, np.float32(0), np.int8(-1), np.float64(-0.5)], ids=repr)
def test_a_number_as_scale_is_positive_with_a_truncation_too(scale: Any) -> None:
    for call in (fr.nll, fr.nll_and_grad):
        for weights in (None, np.zeros(3)):
            message = refusal(ValueError, call, X, 1.0, scale, truncation=20.0, weights=weights)
            assert_names(message, "scale must be positive", f"got {scale!r}")


def test_numbers_as_parameters_are_the_same_to_every_library() -> None:
    """A number of Python's or a scalar of NumPy's is an error, an element of an array, with axes or without, is NaN."""
    pytest.importorskip("jax", reason='needs pip install "fastrobust[jax]"')
    import fastrobust.jax as frj

    assert np.all(np.isnan(fr.loss(X, 1.0, np.array(0.0)))) and np.all(np.isnan(fr.loss(X, 1.0, np.zeros(3))))
    assert np.all(np.isinf(fr.nll(X, np.array(-1.0), 1.0)))
    assert np.all(np.isnan(frj.loss(X, 1.0, np.array(0.0))))
    for scale in (0, np.float32(0), np.float64(-1)):
        assert_names(refusal(ValueError, frj.loss, X, 1.0, scale), "scale must be positive", f"got {scale!r}")
    for alpha in (-2, np.float32(-2)):
        assert_names(refusal(ValueError, frj.nll, X, alpha, 1.0), "alpha must be >= 0", "truncation=")
        assert_names(refusal(ValueError, frj.log_partition, alpha), "alpha must be >= 0", "truncation=")
        got = frj.log_partition(alpha, truncation=3.0)
        np.testing.assert_allclose(got, fr.log_partition(-2.0, truncation=3.0), rtol=1e-6)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_shapes_are_checked_with_a_truncation_too(library: str) -> None:
    """Weights that would extend the result were counted more than once."""
    module = pytest.importorskip("jax.numpy" if library == "jax" else library, reason=f"needs pip install {library}")
    ones = module.ones
    for weights in (ones((3, 1)), ones((2, 3)), ones(2), ones((1, 3))):
        for reduction in ("none", "sum", "mean"):
            options: dict[str, Any] = {"weights": weights, "reduction": reduction, "truncation": 9.0}
            for call in (fr.nll, fr.nll_and_grad) if library == "numpy" else (fr.nll,):
                message = refusal(ValueError, call, ones(3), 1.0, 1.0, **options)
                assert_names(message, f"weights of shape {tuple(weights.shape)}", "(3,)", "of the result")
    if library != "jax":
        assert_names(
            refusal(ValueError, fr.nll, ones(3), ones(2), 1.0, truncation=9.0), "x ", "alpha ", "(2", "equal or 1"
        )


@pytest.mark.parametrize("dtype", ["O", "c16", "M8[s]", "U3"])
@any_argument
def test_an_unsupported_dtype_is_named_with_a_truncation_too(name: str, dtype: str) -> None:
    for call in (fr.nll, fr.nll_and_grad):
        message = refusal(TypeError, call, **arguments_with(**{name: np.zeros(3, dtype)}), truncation=20.0)
        assert_names(message, f"{name} has dtype", ".astype()")


def test_a_number_too_long_to_print_is_refused_by_name() -> None:
    """Python prints no integer of more than 4300 digits."""
    assert_names(refusal(ValueError, fr.loss, X, 1.0, -(10**5000)), "scale must be positive")
    assert_names(refusal(ValueError, fr.nll, X, -(10**5000), 1.0), "alpha must be >= 0")


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("nll", "nll_and_grad")])
def test_a_negative_alpha_is_welcome_outside_the_likelihood(name: str) -> None:
    got = ALL[name](X, -2, 1)
    assert np.all(np.isfinite(np.stack([v for v in (got if isinstance(got, tuple) else (got,)) if v is not None])))


@pytest.mark.parametrize("reduction", ["none", "sum"])
@pytest.mark.parametrize("alpha", [-2.0, 0.5])
def test_bad_elements_of_arrays_are_nan_and_not_an_error(alpha: float, reduction: Any) -> None:
    for scale in (np.array([1.0, 0.0, -1.0]), np.array([1.0, math.nan, -math.inf])):
        got = fr.loss(X, alpha, scale, reduction=reduction)
        assert np.array_equal(np.isnan(got), [False, True, True] if reduction == "none" else True)
    assert np.all(np.isnan(fr.loss(X, alpha, math.nan)))
    assert np.all(np.isnan(fr.loss(X, alpha, np.array(0.0))))


@pytest.mark.parametrize("family", [fr.loss, fr.nll], ids=["loss", "nll"])
@pytest.mark.parametrize("reduction", ["none", "sum"])
def test_an_integer_beyond_every_float_is_infinite(family: Call, reduction: Any) -> None:
    got = family(X, 10**400, 1.0, reduction=reduction)
    assert np.array_equal(got, family(X, math.inf, 1.0, reduction=reduction))
    assert np.all(np.isfinite(got))
    assert np.array_equal(fr.loss(X, -(10**400), 1.0), fr.loss(X, -math.inf, 1.0))
    assert np.array_equal(family(X, 1.0, 10**400), family(X, 1.0, math.inf))


def test_the_partition_of_an_integer_beyond_every_float_is_that_of_infinity() -> None:
    assert fr.log_partition(10**400) == fr.log_partition(math.inf)
    assert fr.log_partition_and_grad(10**400) == fr.log_partition_and_grad(math.inf)


# --- options


@pytest.mark.parametrize("option", ["axis", "keepdims", "wrt", "signature", "sig", "extobj", "Where"])
@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_an_unknown_option_is_named_with_the_public_function_and_the_known_ones(name: str, option: str) -> None:
    arguments = {"alpha": np.abs(X)} if name == "log_partition" else arguments_with()
    message = refusal(TypeError, WITH_OPTIONS[name], **arguments, **{option: 1})
    assert_names(message, f"{name} does not take {option}", *OPTIONS)


@pytest.mark.parametrize("option", ["reduction", "weights"])
@pytest.mark.parametrize("name", ["influence", "weight", "curvature", "log_partition"])
def test_functions_without_reduction_say_so(name: str, option: str) -> None:
    arguments = {"alpha": np.abs(X)} if name == "log_partition" else arguments_with()
    assert_names(
        refusal(TypeError, WITH_OPTIONS[name], **arguments, **{option: "sum"}), f"{name} does not take {option}"
    )


@pytest.mark.parametrize(
    ("name", "option", "meant"),
    [("loss", "weight", "weights"), ("nll", "truncate", "truncation"), ("loss", "reduce", "reduction"),
     ("influence", "wheres", "where"), ("log_partition", "truncated", "truncation"), ("nll", "Weights", "weights")],
)  # fmt: skip
def test_a_slip_in_an_option_is_shown_what_was_meant(name: str, option: str, meant: str) -> None:
    arguments = {"alpha": np.abs(X)} if name == "log_partition" else arguments_with()
    message = refusal(TypeError, WITH_OPTIONS[name], **arguments, **{option: X})
    assert_names(message, f"{name} does not take {option} (did you mean {meant}?)", "it takes ")
    taken = set(message.partition("it takes ")[2].split(", "))
    own = {"loss": {"reduction", "weights"}, "nll": {"reduction", "weights", "truncation"}}
    assert taken == {*OPTIONS, *own.get(name, {"truncation"} if name == "log_partition" else ())}


@pytest.mark.parametrize("option", [*OPTIONS, "axis"])
@pytest.mark.parametrize("name", [*GRAD, "log_partition_and_grad"])
def test_gradient_functions_take_no_options_of_a_ufunc(name: str, option: str) -> None:
    if option == "out" and name in GRAD:
        pytest.skip("out is a parameter of its own there")
    arguments = {"alpha": np.abs(X)} if name not in GRAD else arguments_with()
    assert_names(refusal(TypeError, getattr(fr, name), **arguments, **{option: None}), f"{name}()", f"'{option}'")


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("option", [o for o in OPTIONS if o != "out"])
@pytest.mark.parametrize("name", ["loss", "nll"])
def test_options_of_a_ufunc_are_refused_together_with_a_reduction(name: str, option: str, reduction: Any) -> None:
    for weights in (None, X):
        keywords: dict[str, Any] = {option: True, "reduction": reduction, "weights": weights}
        message = refusal(TypeError, WITH_REDUCTION[name], X, 1.0, 1.0, **keywords)
        assert_names(message, f"{name} does not take {option}", f"reduction={reduction!r}", "it takes out")


@pytest.mark.parametrize("option", [o for o in OPTIONS if o != "out"])
@pytest.mark.parametrize("name", ["loss", "nll"])
def test_options_of_a_ufunc_are_refused_together_with_weights(name: str, option: str) -> None:
    keywords: dict[str, Any] = {option: True, "weights": X}
    message = refusal(TypeError, WITH_REDUCTION[name], X, 1.0, 1.0, **keywords)
    assert_names(message, option, "weights", "multiply the result")


@pytest.mark.parametrize("name", ALL)
def test_a_missing_argument_is_named_with_the_function(name: str) -> None:
    assert_names(refusal(TypeError, ALL[name], X, 1.0), f"{name}()", "'scale'")
    assert_names(refusal(TypeError, ALL[name], X, scale=1.0), f"{name}()", "'alpha'")


# --- masked arrays and pandas

MASKED = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("which", ["x", "alpha", "scale", "weights"])
@each_with_reduction
def test_a_masked_array_is_refused_in_sums_by_name_and_with_the_remedy(name: str, which: str, reduction: Any) -> None:
    message = refusal(TypeError, WITH_REDUCTION[name], **arguments_with(**{which: MASKED}), reduction=reduction)
    assert_names(message, f"{which} is a masked array", "its data", "weights of 0 under the mask")


def test_the_remedy_for_masked_arrays_in_sums_works() -> None:
    got = fr.loss(MASKED.data, 1.0, 1.0, weights=~MASKED.mask, reduction="mean")
    assert got == fr.loss(MASKED.compressed(), 1.0, 1.0, reduction="mean")


@pytest.mark.parametrize("which", ["x", "alpha", "scale", "weights"])
@each_with_reduction
def test_with_weights_a_mask_is_refused_rather_than_lost(name: str, which: str) -> None:
    arguments = {"weights": np.ones(3), **arguments_with(**{which: MASKED})}
    assert_names(refusal(TypeError, WITH_REDUCTION[name], **arguments), f"{which} is a", "asked")  # masked, MaskedArray


@pytest.fixture
def pd() -> Any:
    return pytest.importorskip("pandas", reason="needs pip install pandas")


@each_path
@argument
def test_a_data_frame_is_named_with_a_remedy_that_works(name: str, call: Call, pd: Any) -> None:
    frame = pd.DataFrame({"a": [0.5], "b": [1.0], "c": [2.0]})
    message = refusal(TypeError, call, **arguments_with(**{name: frame}))
    assert_names(message, f"{name} is a DataFrame without a NumPy dtype", "numpy.asarray()")
    got = fr.loss(**arguments_with(**{name: np.asarray(frame)}))
    assert np.array_equal(got, fr.loss(**arguments_with(**{name: np.array([[0.5, 1.0, 2.0]])})))


def test_data_frames_as_weights_and_in_the_partition_function_are_named(pd: Any) -> None:
    frame = pd.DataFrame({"a": [0.5], "b": [1.0], "c": [2.0]})
    for call in WEIGHTED.values():
        assert_names(
            refusal(TypeError, call, **arguments_with(weights=frame)), "weights is a DataFrame", "numpy.asarray"
        )
    for partition in PARTITION.values():
        assert_names(refusal(TypeError, partition, frame), "alpha is a DataFrame", "numpy.asarray")


EXTENSIONS = ["Float64", "Float32", "Int64", "boolean", "category", "string", "Sparse[float64]"]


@pytest.mark.parametrize("dtype", EXTENSIONS)
@argument
def test_extension_dtypes_of_pandas_are_refused_by_name(name: str, dtype: str, pd: Any) -> None:
    series = pd.Series([1, 0, 1]).astype(dtype)
    for value, kind in ((series, "Series"), (series.array, type(series.array).__name__), (pd.Index(series), "Index")):
        for call in (fr.loss, PATHS["loss, sum"], PATHS["nll_and_grad, mean"]):
            message = refusal(TypeError, call, **arguments_with(**{name: value}))
            assert_names(message, f"{name} is a", kind, "without a NumPy dtype", ".astype('float64')")


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "boolean", "category", "Sparse[float64]"])
def test_the_remedy_for_extension_dtypes_works(dtype: str, pd: Any) -> None:
    series = pd.Series([1, 0, 1], index=[5, 6, 7]).astype(dtype)
    got = fr.loss(series.astype("float64"), 1.0, 1.0)
    assert got.index.equals(series.index) and np.array_equal(got, fr.loss([1, 0, 1], 1.0, 1.0))


def test_text_dates_and_missing_values_of_pandas_are_refused_by_name(pd: Any) -> None:
    cases = {
        "datetime64": pd.to_datetime(pd.Series(["2026-01-01"])),
        "object": pd.Series([1.0, pd.NA], dtype=object),
        "without a NumPy dtype": pd.array([1.0, None], dtype="Float64"),
        "NAType": pd.NA,
    }
    for word, value in cases.items():
        assert_names(refusal(TypeError, fr.loss, value, 1.0, 1.0), "x ", word)
    assert_names(refusal(TypeError, fr.loss, pd.NA, 1.0, 1.0), "float('nan')")


# --- whatever is passed


JUNK = [
    *STRANGERS.values(),
    *NO_ARRAYS.values(),
    None,
    RAGGED,
    [[]],
    (),
    np.add,
    np.dtype("f4"),
    np.random.default_rng(),
    np.void(b"abc"),
    np.str_("sum"),
    np.polynomial.Polynomial([1.0, 2.0]),
    np.zeros((0, 3)),
    np.zeros(3, [("a", "f8")]),
    np.array([None, 1.0, "a"]),
    array_class("other", __array_ufunc__=forward)(),
    array_class("other", "HasDtype", dtype="float32", shape=(3,))(),
    array_class("numpy.fake", "NoArray")(),
]


@pytest.mark.parametrize("value", JUNK, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("name", ["x", "alpha", "scale", "weights", "reduction", "wrt", "out"])
def test_junk_is_refused_in_words_and_never_by_accident(name: str, value: Any) -> None:
    """Computed, or a TypeError or ValueError that names the parameter; a KeyError would tell of the inside."""
    for function in [*ALL.values(), fr.log_partition]:
        for more in ({}, {"reduction": "mean"}, {"weights": np.ones(3)}):
            arguments = {"alpha": np.abs(X)} if function is fr.log_partition else {**arguments_with(), **more}
            try:
                function(**{**arguments, name: value})
            except (TypeError, ValueError) as error:
                named = re.search(
                    rf"\b{name}\b" + "|output|cast" * (name == "out"), str(error)
                )  # NumPy's words for out
                other = re.search(r"does not take (reduction|weights)|^weights of shape", str(error))
                assert named or other, f"{function.__name__}(..., {name}=...): {error}"  # noqa: PT017
