"""Graphs of scalar code: what is traced, what is refused, and the same bits from NumPy's numbers and machine code."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import types

from fastrobust.kernels.arithmetic import arrays, lowerings, nodes, numba_private
from fastrobust.kernels.arithmetic.nodes import Double, Single, Truth, Word32, traced
from fastrobust.kernels.arithmetic.primitives import (
    bits,
    constant,
    fma,
    from_bits,
    max,
    min,
    opposite,
    piecewise,
    polynomial,
    scalar,
    sqrt,
    where,
)
from fastrobust.kernels.loops import compiled
from fastrobust.kernels.losses.definition import Definition, Stage


class Pair(NamedTuple):
    first: Any
    second: Any


def operations(function: Any, *kinds: Any) -> list[str]:
    return [node.operation for node in traced(function, kinds).nodes]


def test_equal_operations_are_one_node() -> None:
    graph = traced(lambda x, y: ((x + y) * (x + y), x + y), [Single, Single])
    assert [node.operation for node in graph.nodes] == ["argument", "argument", "add", "mul"]
    square, total = graph.results
    assert square.arguments == (total, total)


def test_the_size_of_a_number_is_that_of_its_negative() -> None:
    assert operations(lambda x: abs(-x) + abs(x), Double) == ["argument", "abs", "add"]


def test_order_and_type_are_kept_apart() -> None:
    first, second = traced(lambda x, y: (x - y, y - x), [Single, Single]).results
    assert first is not second
    assert operations(lambda x, y: (x * y, Double(x) * Double(y)), Single, Single).count("mul") == 2


def test_what_no_result_needs_is_left_out() -> None:
    def function(x: Any, y: Any) -> Any:
        fma(x, y, y)
        return x / y

    assert operations(function, Double, Double) == ["argument", "argument", "div"]


def test_loops_closures_and_functions_are_gone() -> None:
    def power(x: Any, n: int) -> Any:
        for _ in range(n - 1):
            x = x * x
        return x

    assert operations(lambda x: power(x, 4), Double) == ["argument", "mul", "mul", "mul"]


def test_constants_are_kept_by_their_bits() -> None:
    """Zeros of both signs are two, and a NaN is one."""
    graph = traced(lambda x: (x + 0.0, x + -0.0, x + np.nan, x * np.nan), [Single])
    found = [node.constant for node in graph.nodes if node.operation == "constant"]
    assert [str(value) for value in found] == ["0.0", "-0.0", "nan"]
    assert all(type(value) is np.float32 for value in found)


@pytest.mark.parametrize(("kind", "number"), [(Single, 0.1), (Double, 0.1), (Word32, 7)])
def test_a_literal_has_the_type_of_what_it_is_beside(kind: Any, number: Any) -> None:
    graph = traced(lambda x: (x + number, number + x, kind(number) + x), [kind])
    assert all(type(node) is kind for node in graph.nodes)
    (value,) = (node.constant for node in graph.nodes if node.operation == "constant")
    assert value == kind.dtype(number)


def test_a_number_of_numpys_leaves_the_operation_to_the_node() -> None:
    assert operations(lambda x: np.float32(2) * x - np.float32(1), Single).count("constant") == 2


def test_tuples_are_chosen_part_by_part() -> None:
    def function(x: Any, y: Any) -> Any:
        return where(x < y, Pair(x, (x, y)), Pair(y, (y, y)))

    result = traced(function, [Single, Single]).results
    assert isinstance(result, Pair) and isinstance(result.second, tuple)
    assert [part.operation for part in nodes.leaves(result)] == ["select", "select", "argument"]


def test_named_tuples_come_in_and_go_out() -> None:
    result = traced(lambda pair: Pair(pair.second, pair.first), [Pair(Single, Double)]).results
    assert isinstance(result, Pair) and isinstance(result.first, Double) and isinstance(result.second, Single)


@pytest.mark.parametrize("flag", [False, True])
def test_a_constant_flag_leaves_one_side(flag: bool) -> None:
    def function(x: Any, y: Any) -> Any:
        big = flag & (x > y)
        return where(opposite(flag) | big, x * y, x / y)

    if flag:
        assert operations(function, Single, Single).count("select") == 1
    else:
        assert operations(function, Single, Single) == ["argument", "argument", "mul"]


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x, y: x if x < y else y, "where"),
        (lambda x, y: x < y and y < x, "where"),
        (lambda x, y: max(x, 1.0) if bool(x) else y, "where"),
        (lambda x, y: float(x), "float"),
        (lambda x, y: np.exp(x), "ufunc"),
        (lambda x, y: x + Double(y), "unsupported operand"),
        (lambda x, y: where(x < y, x, Double(y)), "of one type"),
        (lambda x, y: "text", "returns numbers"),
    ],
)
def test_what_cannot_be_traced_is_refused(function: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        traced(function, [Single, Single])


def test_a_trace_that_failed_leaves_nothing_behind() -> None:
    with pytest.raises(TypeError):
        traced(lambda x: "text", [Single])
    with pytest.raises(LookupError):
        Single(1.0)


def test_an_integer_of_a_loop_is_refused_by_name() -> None:
    function = scalar(lambda x: x + x)
    lowerings.register()
    with pytest.raises(Exception, match="not int64"):
        numba_private.lowered(lambda words: function(words[0]), types.int64(types.CPointer(types.int64)))


# --- every operation, in a definition of its own

_table = piecewise([[1.0, 2.0, 3.0], [4.0, 5.0, -6.0]], [[1.0, 2.0, 3.0], [4.0, 5.0, -6.0]])
_series = polynomial((1.0, 0.5, 0.25, 0.125), (1.0, 0.5, 0.25, 0.125, 0.0625))
_third, _low = constant(1 / 3), constant(0xFFFF, 0xFFFFFFFF)
OUTPUTS = ("value", "dx", "dy", "cast", "word", "choice", "looked")


@scalar
def values(x: Any, y: Any, prepared: Any) -> Any:
    """Each operation once at least."""
    T, i = type(x), bits(x)
    U = type(i)
    word = from_bits(U(U(i & _low(x)) | U(U(U(bits(y) >> U(3)) << U(2)) - U(1))))
    other = {Single: Double, Double: Single, np.float32: np.float64, np.float64: np.float32}[T]
    cast = T(other(x) * other(_third(x))) + y
    row = where(opposite(x < y) & ((x > y) | (x != x) | (x >= T(2.0))), U(1), U(0))
    choice = where(x == y, (T(0.5), x), (min(x, y), max(-x, abs(y))))
    return (
        (fma(x, y, T(1.0)), _series(x), x / sqrt(y) - y, cast, word, where(x <= y, *choice), _table(y, min(row, U(1)))),
        (),
    )


EVERY = Definition(
    name="every_operation",
    data=("x", "y"),
    parameters=(),
    others=OUTPUTS[3:],
    stages=(Stage(values, None, OUTPUTS),),
)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_operation_has_the_bits_of_numpys(dtype: Any) -> None:
    used = set(operations(lambda x, y: values(x, y, ())[0], *[Single if dtype is np.float32 else Double] * 2))
    assert used == {"argument", *lowerings._EMIT}
    rng = np.random.default_rng(5)
    x, y = (np.concatenate([rng.normal(size=40), [0, -0.0, np.inf, np.nan, 1, 1, 2]]).astype(dtype) for _ in range(2))
    y = rng.permutation(y)
    out = [np.empty_like(x) for _ in OUTPUTS]
    _run(dtype, [x, y, *out])
    with np.errstate(all="ignore"):
        for i in range(len(x)):
            expected, _ = values(x[i], y[i], ())
            for name, many, one in zip(OUTPUTS, out, expected, strict=True):
                same = many[i].tobytes() == one.tobytes() or (np.isnan(one) and np.isnan(many[i]))
                assert same, f"{name} at {x[i]!r}, {y[i]!r}: {many[i]!r} compiled, {one!r} by NumPy"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_operation_over_arrays(dtype: Any) -> None:
    """Of whole arrays the same, but for the emulated fma, which rounds twice."""
    assert set(arrays._OPERATIONS) == set(lowerings._EMIT)
    kind = Single if dtype is np.float32 else Double
    rng = np.random.default_rng(6)
    x, y = (rng.normal(size=60).astype(dtype) for _ in range(2))
    with np.errstate(all="ignore"):
        many = arrays.evaluated(arrays.NUMPY, traced(lambda x, y: values(x, y, ())[0], [kind, kind]), [x, y])
        one_by_one = zip(*(values(a, b, ())[0] for a, b in zip(x, y, strict=True)), strict=True)
        for name, found, expected in zip(OUTPUTS, many, one_by_one, strict=True):
            np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(dtype).eps, err_msg=name)


def _run(dtype: Any, memory: list[Any]) -> None:
    address = compiled.kernel("elementwise", EVERY, OUTPUTS, dtype, "each")
    words = (ctypes.c_int64 * len(memory))(*(a.ctypes.data for a in memory))
    steps = (ctypes.c_int64 * len(memory))(*(a.itemsize for a in memory))
    dims = (ctypes.c_int64 * 1)(len(memory[0]))
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(address)(
        ctypes.addressof(words), ctypes.addressof(dims), ctypes.addressof(steps), None
    )


def test_a_condition_is_not_a_number() -> None:
    graph = traced(lambda x: (x < x, True), [Single])
    assert [type(result) for result in graph.results] == [Truth, Truth]
