"""The compiled kernels: the same bits as the Python they are written in, vectorized, only exact operations."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import operator
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import points
import pytest
from marks import slow

import fastrobust as fr
from fastrobust.kernels.arithmetic import nodes, primitives
from fastrobust.kernels.compilers import native
from fastrobust.kernels.compilers.lowering import lower
from fastrobust.kernels.loops import compiled, cpu, forms
from fastrobust.kernels.loops.stages import written as stages_written
from fastrobust.kernels.losses import partition
from fastrobust.kernels.losses.barron import Log
from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL
from fastrobust.kernels.losses.definition import Code, Definition, cases, element, prepare

GRADIENTS = ("value", "dx", "dalpha", "dscale")
DTYPES = (np.float32, np.float64)
HOT = [
    (LOSS, GRADIENTS, "shared"),
    (NLL, GRADIENTS, "shared"),
    (LOSS, GRADIENTS, "each"),
    (LOSS, ("weight",), "shared"),
]


def called(value: Any) -> str:
    """Its name in that of a test."""
    return "-".join(value) if isinstance(value, tuple) else getattr(value, "name", value)


@pytest.fixture(scope="module", params=DTYPES, ids=lambda d: d.__name__)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["haswell", *slow("skylake-avx512")] if native.host_is_x86() else ["host"])
def vectors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compile for one that has vectors and fma, whichever runs the tests: without fma LLVM makes no vectors of it."""
    if request.param != "host":
        monkeypatch.setenv("NUMBA_CPU_NAME", request.param)
        monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    native._target.cache_clear()
    yield
    native._target.cache_clear()


def optimized(kind: str, *what: Any) -> str:
    return str(native.optimized("kernel_under_test", forms.lowered(kind, *what), compiled.LOOP))


def loops_with_vectors(ir: str, kind: str, least: int) -> int:
    """How many basic blocks hold at least so many fused multiply-adds on vectors."""
    blocks = re.split(r"\n(?=[\w.$\"-]+:)", ir)
    return sum(len(re.findall(rf"call <\d+ x {kind}> @llvm\.fma", block)) >= least for block in blocks)


def stages(outputs: tuple[str, ...]) -> int:
    return 3 if "dalpha" in outputs else 2


def numbers_of(definition: Definition, dtype: Any) -> tuple[str, int]:
    """The numbers that a stage computes with, and how many fused multiply-adds of them it has at least."""
    code = definition.code(dtype)
    return ("double", 6) if code is not definition else ("float" if dtype is np.float32 else "double", 13)


HOT_CODE = [*HOT, (LOSS.in_words, GRADIENTS, "shared"), (NLL.in_words, GRADIENTS, "each")]


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize(("definition", "outputs", "layout"), HOT_CODE, ids=called)
def test_hot_loops_are_vectorized(definition: Definition, outputs: tuple[str, ...], layout: str, dtype: Any) -> None:
    """Each stage of each case of `element`."""
    count = 3 if layout == "shared" and "dalpha" in outputs else 2
    ir = optimized("elementwise", definition, outputs, dtype, layout)
    found = loops_with_vectors(ir, *numbers_of(definition, dtype))
    assert found >= count * stages(outputs)


@pytest.mark.usefixtures("vectors")
@pytest.mark.parametrize("layout", ["shared", "columns"])
def test_reductions_are_vectorized(layout: str, dtype: Any) -> None:
    ir = optimized("reduction", LOSS, GRADIENTS, dtype, layout)
    assert loops_with_vectors(ir, *numbers_of(LOSS, dtype)) >= 3 * (3 if layout == "shared" else 2)
    kind = "float" if dtype is np.float32 else "double"
    accumulations = re.findall(r"fadd <\d+ x double>", ir)
    assert len(accumulations) >= 3, f"the float64 sums of {kind} values are not vectorized"


@pytest.mark.parametrize("layout", ["shared", "each"])
def test_what_a_stage_carries_is_what_it_says(layout: str) -> None:
    """Otherwise the numbers of one stage could be read by the names of another."""
    other = collections.namedtuple("Other", Log._fields)
    first = LOSS.stages[0]

    def stage(*given: Any) -> Any:
        values, left = first.function(*given)
        return values, other(*left)

    code = dataclasses.replace(
        LOSS, name="loss_that_carries_another", stages=(first._replace(function=stage), *LOSS.stages[1:])
    )
    with pytest.raises(TypeError, match=r"stage carries .*Log.*, and leaves .*Other"):
        stages_written(code, 1, ("value",), np.float64, layout)


def test_the_vectorization_check_sees_a_loop_that_is_not_vectorized() -> None:
    def serial(args: Any, dims: Any, steps: Any) -> None:
        total = np.float32(0)
        for i in range(dims[0]):
            total = primitives.fma(total, total, np.float32(args[i]))  # each step waits for the last
        args[0] = np.int64(total)

    ir = str(native.optimized("serial", lower(serial, cpu.SIGNATURE), compiled.LOOP))
    assert "@llvm.fma.f32" in ir
    assert loops_with_vectors(ir, "float", 1) == 0


@pytest.mark.parametrize(("definition", "outputs", "layout"), HOT[1:], ids=called)
def test_kernels_use_only_exact_operations(
    definition: Definition, outputs: tuple[str, ...], layout: str, dtype: Any
) -> None:
    for kind in ("elementwise", "reduction") if "value" in outputs else ("elementwise",):
        columns = "columns" if kind == "reduction" and layout == "each" else layout
        assert_exact(optimized(kind, definition, outputs, dtype, columns))


def test_the_partition_kernel_uses_only_exact_operations(dtype: Any) -> None:
    assert_exact(optimized("elementwise", LOG_PARTITION, ("value", "dalpha"), dtype, "shared"))


def assert_exact(ir: str) -> None:
    called = {name.strip('"') for name in re.findall(r"call [^@\n]*@([\w.\"-]+)\(", ir)}
    numbers, memory = "fma|fabs|[us]max|[us]min|vector|experimental", "memcpy|memset|lifetime|assume|masked|prefetch"
    allowed = rf"llvm\.({numbers}|{memory})\b.*|feclearexcept"
    assert not {name for name in called if not re.fullmatch(allowed, name)}, "a libm call, or something unknown"
    assert not re.search(r"\bf(add|sub|mul|div|neg|cmp) (\w+ )*(fast|reassoc|contract|nnan|ninf|nsz|arcp|afn)\b", ir)


def test_float32_stays_float32_without_doubles() -> None:
    ir = optimized("elementwise", NLL.in_words, GRADIENTS, np.float32, "shared")
    assert not re.search(r"\b(fpext|fptrunc|fadd|fsub|fmul|fdiv)\b[^\n]*double", ir)


def test_python_and_machine_code_give_the_same_bits(dtype: Any) -> None:
    """The definition, run by Python on NumPy scalars with exact fma, against the SIMD loops."""
    n = 400
    x, alpha, scale = points.points(dtype, n, 20261122)
    nll = fr.nll_and_grad(x, alpha, scale)
    compiled = nll._asdict() | {"weight": fr.weight(x, alpha, scale), "curvature": fr.curvature(x, alpha, scale)}
    with np.errstate(all="ignore"):
        for i in range(n):
            code = NLL.code(dtype)
            prepared = prepare(code)((alpha[i], scale[i]))
            traced = element(code)((x[i],), prepared, True, cases(code).close(prepared))
            for name, one in zip(code.found, traced, strict=True):
                many = compiled[name]
                same = one.tobytes() == many[i].tobytes() or (np.isnan(one) and np.isnan(many[i]))
                assert same, f"{name} at {x[i]!r}, {alpha[i]!r}, {scale[i]!r}: {one!r} in Python, {many[i]!r} compiled"


def test_log_partition_gives_the_same_bits_in_python(dtype: Any) -> None:
    alpha = points.alphas(dtype)
    value, slope = fr.log_partition_and_grad(alpha)
    with np.errstate(all="ignore"):
        for i, a in enumerate(alpha):
            one = partition.log_partition(a)
            np.testing.assert_array_equal([value[i], slope[i]], np.array(one), err_msg=f"alpha = {a!r}")


@pytest.mark.parametrize("with_doubles", [True, False])
def test_quick_cases_have_the_bits_of_the_general_one(with_doubles: bool, dtype: Any) -> None:
    """The two flags of `element` change the speed only."""
    rng, code = np.random.default_rng(3), LOSS.code(dtype) if with_doubles else LOSS
    checked = 0
    with np.errstate(all="ignore"):
        for alpha in map(dtype, (-4, -1.5, 0, 1e-30, 0.3, 1, 1.86, 1.9, 1.999999, 2, 2.05, 2.2, 4)):
            prepared = prepare(code)((alpha, dtype(0.7)))
            quick, limit = cases(code).ordinary(prepared)
            assert quick == (alpha != 2)
            for x in np.concatenate([10 ** rng.uniform(-8, 8, 8), [0.0, limit]]).astype(dtype):
                if quick and abs(x) <= limit:
                    checked += 1
                    ordinary = element(code)((x,), prepared, False, cases(code).close(prepared))
                    general = element(code)((x,), prepared, True, cases(code).close(prepared))
                    assert np.hstack(ordinary).tobytes() == np.hstack(general).tobytes(), (alpha, x)
    assert checked > 80


_NODES: dict[str, Any] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "fma": primitives.fma,
    "abs": abs,
    "min": min,
    "max": max,
    "shl": operator.lshift,
    "shr": operator.rshift,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "and": operator.and_,
    "or": operator.or_,
    "not": operator.not_,
}


def computed(graph: nodes.Graph, *operands: Any) -> tuple[dict[int, Any], list[Any]]:
    """What the nodes of a graph are, by place, of which of a choice only the side that is taken, and the results."""
    values: dict[int, Any] = {}

    def value(node: Any) -> Any:
        if node.place not in values:
            values[node.place] = evaluated(node)
        return values[node.place]

    def evaluated(node: Any) -> Any:
        match node.operation:
            case "argument":
                return operands[node.content]
            case "constant":
                return node.constant
            case "select":
                condition, yes, no = node.arguments
                return value(yes if value(condition) else no)
            case "converted":
                return node.dtype(value(node.arguments[0]))
        of = [value(argument) for argument in node.arguments]
        return of[0].view(node.dtype) if node.operation == "bits" else _NODES[node.operation](*of)

    return values, [value(result) for result in nodes.leaves(graph.results)]


@functools.cache
def graph_of(code: Code, extreme: bool, close: bool) -> nodes.Graph:
    """An element of the loss, with constant flags."""

    def outputs(x: Any, alpha: Any, scale: Any) -> Any:
        return element(code)((x,), prepare(code)((alpha, scale)), extreme, close)

    return nodes.traced(outputs, [nodes.Single] * 3)


def subnormals(code: Code, z: float, alpha: float) -> Counter[str]:
    """Subnormal partial results at x = z c, unless a result is subnormal itself."""
    x, *parameters = np.float32(z * 1.3), np.float32(alpha), np.float32(1.3)
    prepared = prepare(code)(tuple(parameters))
    quick, limit = cases(code).ordinary(prepared)
    graph = graph_of(code, not (quick and x <= limit), bool(cases(code).close(prepared)))
    values, results = computed(graph, x, *parameters)
    if any(is_subnormal(r) for r in results):
        return Counter()
    return Counter(repr(node) for node in graph.nodes if is_subnormal(values.get(node.place)))


def is_subnormal(value: Any) -> bool:
    return isinstance(value, np.floating) and 0 < abs(value) < np.finfo(value.dtype).tiny


@pytest.mark.parametrize("code", [LOSS, LOSS.code(np.float32)], ids=["words", "doubles"])
def test_ordinary_data_gives_no_subnormal_partial_results(code: Code) -> None:
    """A subnormal costs about a hundred cycles; see numerics on x from 1e-6 c to 1e6 c."""
    found: Counter[str] = Counter()
    with np.errstate(all="ignore"):
        for alpha in (-8, -4, -2, -1, -0.1, 0, 1e-3, 0.5, 1, 1.5, 1.9, 1.99, 2, 2.01, 2.5, 4, 8):
            for z in np.logspace(-6, 6, 37):
                found += subnormals(code, z, alpha)
    assert not found


def test_the_subnormal_check_sees_one() -> None:
    graph = nodes.traced(lambda x, y: (x * y) * type(x)(1e30), [nodes.Single] * 2)
    values, (result,) = computed(graph, np.float32(1e-30), np.float32(1e-10))
    assert sum(map(is_subnormal, values.values())) == 1 and result == pytest.approx(1e-10, rel=1e-3, abs=0)


def test_fma_rounds_once() -> None:
    """In Python, against exact rational arithmetic by way of a decision that needs every bit."""
    a = np.float32(1 + 2.0**-12)
    assert primitives.fma(a, a, np.float32(-1)) == np.float32(2.0**-11 + 2.0**-24)
    b = np.float64(1 + 2.0**-27)
    assert primitives.fma(b, b, np.float64(-1)) == 2.0**-26 + 2.0**-54
    # Rounding to double first would make this a tie and go to even.
    assert primitives.fma(np.float32(1), np.float32(1 + 2.0**-23), np.float32(2.0**-24 + 2.0**-60)) == np.float32(
        1 + 2.0**-22
    )
    assert math.isinf(primitives.fma(np.float32(3e38), np.float32(3e38), np.float32(0)))
