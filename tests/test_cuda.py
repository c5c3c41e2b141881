"""The CUDA kernels where there is no GPU: what their PTX says, and what it does when run on this CPU.

On a GPU: tests/test_gpu.py.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from typing import Any

import numpy as np
import nvidia
import points
import ptx_on_cpu
import pytest
from marks import slow
from toy import TOY

import fastrobust as fr
from fastrobust import _evaluate
from fastrobust._dispatch import backend
from fastrobust._shapes import SHAPES
from fastrobust.kernels.loops import compiled, launch
from fastrobust.kernels.losses import distances
from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL, named
from fastrobust.kernels.losses.cross_entropy import CROSS_ENTROPY, LOG_SUM_EXP, OF_PROBABILITIES, WITH_OPTIONS
from fastrobust.kernels.losses.definition import Definition
from fastrobust.kernels.losses.divergence import DIVERGENCE
from fastrobust.kernels.losses.rowwise import RowDefinition

ml_dtypes = pytest.importorskip("ml_dtypes")  # not on every machine with a GPU
GRADIENTS = ("value", "dx", "dalpha", "dscale")
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
# Floats have two kinds of code: in doubles, and in two words for GPUs that are slow in double.
CODES = [(definition, storage) for definition in (LOSS, NLL) for storage in DTYPES]
CODES += [(definition.in_words, storage) for definition, storage in CODES if storage != "float64"]
FULL = [
    ("elementwise", *code, layout)
    for code, layout in itertools.product([(d, GRADIENTS, storage) for d, storage in CODES], launch.LAYOUTS)
]
ONE = [
    ("elementwise", definition, (output,), storage, "shared")
    for output in ("value", "dx", "weight", "curvature")
    for definition, storage in ((LOSS, "float32"), (LOSS.in_words, "float32"), (LOSS, "float64"))
]
CLOSED = [
    ("elementwise", closed, ("value", "dx", "dscale"), "float32", layout)
    for closed, layout in itertools.product(map(named, SHAPES.values()), ("shared", "each"))
]
LOG_Z = ("value", "dalpha", "d2alpha")
PARTITION = [("elementwise", LOG_PARTITION, LOG_Z, storage, "shared") for storage in DTYPES]
REDUCTIONS = [
    ("reduction", definition, GRADIENTS, storage, layout)
    for (definition, storage), layout in itertools.product(CODES, ("shared", "columns", "rows"))
]
SMALL = [*(("fold", storage) for storage in DTYPES), ("total", "float32"), ("total", "float64")]
KERNELS = FULL + ONE + CLOSED + PARTITION + REDUCTIONS
OF_ROWS = [
    (definition, storage)
    for storage, wide in (("float32", False), ("float64", True))
    for definition in (
        *(CROSS_ENTROPY, WITH_OPTIONS, OF_PROBABILITIES, LOG_SUM_EXP, DIVERGENCE, distances.norm(wide)),
        *(distances.triplet("cosine", True, False, wide), distances.triplet("euclidean", True, False, wide)),
    )
]
ROWS = [
    ("rows", definition, storage, way, "slopes")
    for definition, storage in [*OF_ROWS, (CROSS_ENTROPY, "float16"), (CROSS_ENTROPY, "bfloat16")]
    for way in ("thread", "warp", "largest", "sums", "results")
    if way != "largest" or definition.largest is not None
]


def name_of(what: Any) -> str:
    parts = [w.name if isinstance(w, Definition | RowDefinition) else w for w in what]
    return "-".join(part if isinstance(part, str) else "+".join(part) for part in parts)


def doubles_inside(what: Any) -> bool:
    """Tell whether the kernel computes floats in doubles."""
    in_doubles = any(isinstance(w, Definition) and w.in_doubles is not None for w in what)
    return "float64" not in what and (in_doubles or what[0] == "rows")


def each_kernel(kernels: list[Any]) -> Any:
    """Those of float32, and of the other types what differs most, in the ordinary run: each takes a second."""

    def usual(what: Any) -> bool:
        light = what[0] not in ("reduction", "rows") and not {"bfloat16", NLL, NLL.in_words, LOSS.in_words} & set(what)
        return "float32" in what or light

    chosen = [what if usual(what) else pytest.param(what, marks=pytest.mark.slow) for what in kernels]
    return pytest.mark.parametrize("what", chosen, ids=name_of)


# bfloat16 is float16 with another conversion.
each_storage = pytest.mark.parametrize("storage", [*slow("bfloat16"), "float16", "float32", "float64"])


def in_doubles(definition: Definition) -> Definition:
    """The definition whose code GPUs run that are fast in double."""
    return definition


def in_words(definition: Definition) -> Definition:
    """The definition whose code the others run."""
    return definition.in_words


LONGER = ("bfloat16", in_doubles), ("bfloat16", in_words), ("float16", in_words)
each_code = pytest.mark.parametrize(
    ("storage", "code"),
    [
        *itertools.product(("float16", "float32", "float64"), [in_doubles]),
        ("float32", in_words),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in LONGER),
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)


@each_kernel(KERNELS + SMALL + ROWS)
def test_ptx_has_only_operations_with_one_meaning(what: Any) -> None:
    """No fused or flushed arithmetic, no calls, no memory but global: then the bits cannot differ from the CPU's."""
    text = compiled.ptx(*what)
    operations = re.findall(r"^\s+(?:@!?%p\d+ )?((?:add|sub|mul|div|fma|sqrt|rcp)\.\S*f(?:16|32|64)\S*)", text, re.M)
    assert all(".rn." in operation for operation in operations), Counter(operations)
    assert not re.search(r"\.ftz|\.approx|\bcall\b|\.local|\.shared|\bex2\b|\blg2\b|atom\.|red\.", text)
    if what[0] == "elementwise":
        assert len(operations) > (5 if what in CLOSED else 20)
        arithmetic = {operation.rsplit(".", 1)[1] for operation in operations}
        assert "float64" in what or ("f64" in arithmetic) == doubles_inside(what), "float32 stays float32 in words"


def at_a_time(what: Any) -> int:
    """Bytes of x and of the outputs in one access."""
    return 8 if what[4] == "each" and what[3].endswith("16") else 16


@each_kernel([w for w in FULL + ONE if w[-1] in ("shared", "each")])
def test_memory_is_read_and_written_16_bytes_at_a_time(what: Any) -> None:
    text = compiled.ptx(*what)
    wide = (
        r"\.v2\.b64" if what[3] == "float64" else r"(?:\.v2\.b32|\.v4\.b16)" if at_a_time(what) == 8 else r"\.v4\.b32"
    )
    assert re.search(rf"ld\.global{wide}", text)
    assert len(re.findall(rf"st\.global{wide}", text)) >= len(what[2])


def assembled(what: Any, arch: str) -> tuple[str, str]:
    """The listing of the machine code, and what ptxas says of it."""
    try:
        return nvidia.assembled(compiled.ptx(*what), arch)
    except nvidia.Missing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"])
@pytest.mark.parametrize("definition", [LOSS, NLL], ids=lambda d: d.name)
def test_every_generation_from_7_5_on_runs_what_suits_it(definition: Definition, arch: str) -> None:
    """Doubles inside where the hardware has many units for them, and nothing spilled to memory."""
    capability = divmod(int(arch.removeprefix("sm_")), 10)
    launched: list[Any] = []
    device = launch.Device(2, capability in launch.DOUBLES, lambda what, *_: launched.append(what), lambda _: 0)
    given = launch.operands(device, [launch.Array(0, (8,), (1,))], [0.5, 1.0])
    launch.elementwise(device, definition, GRADIENTS, "float32", given, [0] * len(GRADIENTS))
    assert doubles_inside(launched[0]) == (arch in ("sm_80", "sm_90", "sm_100"))
    _, report = assembled(launched[0], arch)
    assert "0 bytes spill stores, 0 bytes spill loads" in report, report


def test_what_a_device_runs_is_compiled_once() -> None:
    """Float64 has one kind of code, whatever the device; closed forms are for floats in doubles."""

    def chosen(definition: Definition, storage: str, doubles: bool) -> Any:
        launched: list[Any] = []
        device = launch.Device(2, doubles, lambda what, *_: launched.append(what[1]), lambda _: 0)
        given = launch.operands(device, [launch.Array(0, (8,), (1,))], [0.5, 1.0])
        launch.elementwise(device, definition, ("value",), storage, given, [0])
        launch.reduction(device, definition, ("value",), storage, given, 0, 0, 1.0, {})
        assert launched[0] is launched[1]
        return launched[0]

    closed = named("loss_cauchy")
    for storage, doubles in itertools.product(DTYPES, (False, True)):
        general = LOSS if doubles or storage == "float64" else LOSS.in_words
        assert chosen(LOSS, storage, doubles) is general
        assert chosen(closed, storage, doubles) is (closed if doubles and storage != "float64" else general)


@each_kernel([w for w in FULL + REDUCTIONS if w[1] in (NLL, NLL.in_words)] + ONE + CLOSED + PARTITION + SMALL + ROWS)
def test_registers_suffice(what: Any) -> None:
    """Nothing is spilled to memory, and as many blocks as are asked for fit into the 65,536 registers."""
    _, report = assembled(what, "sm_90")
    assert "0 bytes spill stores, 0 bytes spill loads" in report, report
    (used,) = map(int, re.findall(r"Used (\d+) registers", report))
    most = 72 if what in ONE else 168 if doubles_inside(what) and what not in CLOSED else 128
    assert used <= (255 if "float64" in what else most), report


@pytest.mark.parametrize(
    "what", [w for w in FULL if w[1] in (LOSS, LOSS.in_words) and w[-1] in ("shared", "each")], ids=name_of
)
def test_machine_code_moves_16_bytes_at_a_time(what: Any) -> None:
    listing, _ = assembled(what, "sm_90")
    width = 8 * at_a_time(what)
    assert re.search(rf"LDG\.E\.{width}", listing)
    assert len(re.findall(rf"STG\.E\.{width}", listing)) >= len(GRADIENTS)
    assert not re.search(r"\b(LDL|STL)\b", listing)


_launchers: dict[Any, Any] = {}


def launcher(what: Any) -> Any:
    if what not in _launchers:
        _launchers[what] = ptx_on_cpu.load(compiled.ptx(*what))
    return _launchers[what]


class Simulated:
    """A device on the CPU, with two multiprocessors; ``launched`` tells what ran."""

    def __init__(self, multiprocessors: int = 2, doubles: bool = True) -> None:
        self.launched: list[Any] = []
        self.memory: list[Any] = []
        self.device = launch.Device(multiprocessors, doubles, self.launch, self.scratch)

    def launch(self, what: Any, blocks: int, words: Any) -> None:
        self.launched.append(what)
        launcher(what)(blocks, launch.THREADS, words)

    def scratch(self, count: int) -> int:
        self.memory.append(np.full(count, np.nan))
        return int(self.memory[-1].ctypes.data)


class Guarded:
    """Memory with a pattern on both sides that must stay."""

    MARGIN = 64

    def __init__(self, size: int, dtype: np.dtype[Any], offset: int = 0) -> None:
        item = dtype.itemsize
        self.whole = np.full(size * item + 2 * self.MARGIN + 32, 0xA5, np.uint8)
        start = -self.whole.ctypes.data % 16 + self.MARGIN + offset * item
        self.array = self.whole[start : start + size * item].view(dtype)
        self.inside = slice(start, start + size * item)

    def intact(self) -> bool:
        outside = self.whole.copy()
        outside[self.inside] = 0xA5
        return bool(np.all(outside == 0xA5))


def aligned(array: Any) -> Any:
    """A copy at an address that is a multiple of 16."""
    memory = Guarded(array.size, array.dtype)
    memory.array[:] = array
    return memory.array


def array(a: Any) -> launch.Array:
    return launch.Array(a.ctypes.data, a.shape, tuple(s // a.itemsize for s in a.strides))


def run(what: Any, x: Any, alpha: Any, scale: Any, *, offset: int = 0) -> list[Any]:
    """The outputs, in memory that begins so many elements past an aligned address; the layout is a demand."""
    _, definition, outputs, storage, layout = what
    parameters = [array(p) if isinstance(p, np.ndarray) else float(p) for p in (alpha, scale)]
    shape = np.broadcast_shapes(x.shape, np.shape(alpha), np.shape(scale))
    seen = np.broadcast_to(x, shape)
    outs = [Guarded(seen.size, DTYPES[storage], offset * (j + 1) % 5) for j in range(len(outputs))]
    simulated = Simulated()
    addresses = [o.array.ctypes.data for o in outs]
    given = launch.operands(simulated.device, [array(seen)], parameters)
    launch.elementwise(simulated.device, definition, outputs, storage, given, addresses)
    assert simulated.launched == ([what] if seen.size else []), "another layout"
    assert all(o.intact() for o in outs), "written outside of the output"
    return [o.array for o in outs]


def reference(definition: Definition, x: Any, alpha: Any, scale: Any) -> list[Any]:
    """From the CPU, in x's dtype; the halves are computed in float32 and rounded once."""
    dtype = x.dtype
    compute = np.float64 if dtype == np.float64 else np.float32
    found = on_cpu(definition, x.astype(compute), alpha, scale)
    with np.errstate(over="ignore", under="ignore"):
        return [np.asarray(result).astype(dtype) for result in found]


def on_cpu(definition: Definition, *operands: Any, reduction: str = "none", weights: Any = None) -> Any:
    """The value and all gradients."""
    wrt = definition.operands
    return fr.LossGrad(*_evaluate.value_and_grad(definition, operands, reduction, weights, wrt, None))


def assert_same_bits(found: Any, expected: Any, what: str) -> None:
    kind = f"u{expected.itemsize}"
    different = (found.view(kind) != np.ascontiguousarray(expected).view(kind)) & ~(
        np.isnan(found) & np.isnan(expected)
    )
    first = np.flatnonzero(different)[:1]
    assert not different.any(), f"{what}: {different.sum()} differ, first at {first}: {found[first]}, {expected[first]}"


def drawn(storage: str, n: int, seed: int) -> tuple[Any, Any, Any]:
    """Points of the accuracy tests, and parameters in the computing type."""
    dtype = DTYPES[storage]
    compute = np.float64 if storage == "float64" else np.float32
    x, alpha, scale = points.points(compute, n, seed)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(x.astype(dtype)), np.ascontiguousarray(alpha), np.ascontiguousarray(scale)


@each_code
@pytest.mark.parametrize("definition", [LOSS, NLL], ids=lambda d: d.name)
def test_arithmetic_has_the_bits_of_the_cpu(definition: Definition, storage: str, code: Any) -> None:
    """Half a million points for each function and dtype, newly drawn at each run, with their seed in the failure."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    x, alpha, scale = drawn(storage, 500_000, seed)
    outputs = (*GRADIENTS, *definition.others)
    definition = code(definition)
    what = ("elementwise", definition, outputs, storage, "each")
    found = run(what, aligned(x), aligned(alpha), aligned(scale))
    expected = reference(definition, x, alpha, scale)
    if definition.others:
        compute = np.float64 if storage == "float64" else np.float32
        operands = x.astype(compute), alpha, scale
        more = backend(x).evaluate(definition, definition.others, operands, {})
        with np.errstate(over="ignore", under="ignore"):
            expected += [result.astype(DTYPES[storage]) for result in more]
    for name, one, other in zip(outputs, found, expected, strict=True):
        assert_same_bits(one, other, f"{name}, seed {seed}")


SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 255, 256, 257, 1023, 1024, 4095, 4100, 20000)


@each_code
@pytest.mark.parametrize("alpha", [-8.0, 0.3, 1.97, 2.0, 2.5, np.inf], ids=str)
def test_every_size_of_shared_parameters(alpha: float, storage: str, code: Any) -> None:
    """Also by address, by the layout for any alignment, and x beyond the quick case here and there."""
    compute = np.float64 if storage == "float64" else np.float32
    x, _, _ = drawn(storage, SIZES[-1] + 1, 5)
    x[::2] = np.linspace(-3, 3, x[::2].size).astype(DTYPES[storage])
    x[2048:4096] = 1
    number = compute(0.7)
    expected = reference(code(LOSS), x, compute(alpha), number)
    address = [np.array([alpha], compute), np.array(number, compute)]
    for n in SIZES:
        for layout, parameters in (("shared", (alpha, number)), ("shared", address), ("columns", (alpha, number))):
            what = ("elementwise", code(LOSS), GRADIENTS, storage, layout)
            offset = 1 if layout == "columns" else 0
            where = x[offset:][:n] if offset else aligned(x[:n])
            found = run(what, where, *parameters, offset=offset)
            for name, one, other in zip(GRADIENTS, found, expected, strict=True):
                assert_same_bits(one, other[offset:][:n], f"{name}, {n} elements, {layout}")


@each_code
@pytest.mark.parametrize("period", [2, 3, 5, 16, 60, 96, 300, 3000])
def test_columns(period: int, storage: str, code: Any) -> None:
    """Threads that are no multiple of the period; either parameter may be a number."""
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", code(NLL), GRADIENTS, storage, "columns")
    x = np.random.default_rng(period).standard_normal((37, period)).astype(DTYPES[storage])
    alpha = np.linspace(0, 3, period).astype(compute)
    scale = np.linspace(2, 0.5, period).astype(compute)
    for a, c in ((alpha, scale), (alpha, 0.7), (1.5, scale)):
        found = run(what, x, a, c, offset=1)
        expected = reference(code(NLL), x, compute(a), compute(c))
        for name, one, other in zip(GRADIENTS, found, expected, strict=True):
            assert_same_bits(one, other.reshape(-1), f"{name}")


@each_code
@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ("columns", (5, 3, 70)),
        ("columns", (3, 200)),
        ("columns", (2, 1000, 3)),
        ("rows", (3, 2, 2500)),
        ("rows", (7, 5000)),
    ],
    ids=str,
)
def test_parameters_along_another_axis(layout: str, shape: tuple[int, ...], storage: str, code: Any) -> None:
    """Channels before pixels, rows with a parameter each; any stride between the parameters."""
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", code(NLL), GRADIENTS, storage, layout)
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(DTYPES[storage])
    period = shape[-2]
    alpha = np.linspace(3, 0, 2 * period).astype(compute)[::-2, np.newaxis]
    scale = np.linspace(2, 0.5, period).astype(compute)[:, np.newaxis]
    for a, c in ((alpha, scale), (alpha, 0.7), (1.5, scale)):
        found = run(what, x, a, c, offset=1)
        expected = reference(code(NLL), x, compute(a), compute(c))
        for name, one, other in zip(GRADIENTS, found, expected, strict=True):
            assert_same_bits(one, other.reshape(-1), f"{name}")


@each_code
def test_a_parameter_for_each_element(storage: str, code: Any) -> None:
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", code(NLL), GRADIENTS, storage, "each")
    x, alpha, scale = drawn(storage, SIZES[-1], 6)
    alpha[100:3000], scale[100:3000], x[100:3000] = 1, 1, np.linspace(-3, 3, 2900).astype(DTYPES[storage])
    for n in SIZES[2:]:
        for a, c in ((alpha, scale), (alpha, 0.7), (1.5, scale)):
            a, c = (aligned(p[:n]) if isinstance(p, np.ndarray) else p for p in (a, c))
            found = run(what, aligned(x[:n]), a, c)
            expected = reference(code(NLL), x[:n], compute(a), compute(c))
            for name, one, other in zip(GRADIENTS, found, expected, strict=True):
                assert_same_bits(one, other, f"{name}, {n} elements")


@each_code
def test_any_strides(storage: str, code: Any) -> None:
    """Views of four axes, reversed, transposed and broadcast, read where they are."""
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", code(LOSS), GRADIENTS, storage, "strided")
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 6, 5, 7)).astype(DTYPES[storage]).transpose(2, 0, 3, 1)[::-1, :, ::2]
    alpha = rng.uniform(-3, 3, (4, 1, 6)).astype(compute)
    scale = rng.uniform(0.5, 2, (5, 1, 1, 1)).astype(compute)[::-1]
    for views in (
        (x, alpha, scale),
        (x[0, 0, 0, ::2], 0.5, scale[0, 0, 0, 0]),
        (x[:, :1], alpha, 2.0),
        (x[0, 0], alpha[:, 0, :1], 1.0),
        (np.ascontiguousarray(x)[:, :, 0], 1.5, scale[:, :, 0]),
    ):
        with np.errstate(invalid="ignore"):
            expected = reference(
                code(LOSS), *(v.astype(compute) if k and np.ndim(v) else v for k, v in enumerate(views))
            )
        for name, out, other in zip(GRADIENTS, run(what, *views, offset=1), expected, strict=True):
            assert_same_bits(out, np.ascontiguousarray(other).reshape(-1), name)


def test_more_axes_than_a_kernel_has_are_refused() -> None:
    x = np.ones((3,) * 5, np.float32)[::2, ::2, ::2, ::2, ::2]
    with pytest.raises(ValueError, match="5 axes, more than 4"):
        run(("elementwise", LOSS, ("value",), "float32", "strided"), x, 1.0, 1.0)


def test_an_output_may_be_x_itself() -> None:
    x = np.linspace(-4, 4, 1003, dtype=np.float32)
    expected = on_cpu(LOSS, x, 0.5, 1.5)
    for offset in (0, 1):
        memory = Guarded(x.size, x.dtype, offset)
        memory.array[:] = x
        where = memory.array.ctypes.data
        device = Simulated().device
        given = launch.operands(device, [array(memory.array)], [0.5, 1.5])
        launch.elementwise(device, LOSS, ("dx",), "float32", given, [where])
        assert memory.intact()
        assert_same_bits(memory.array, expected.dx, f"offset {offset}")


@each_storage
def test_log_partition(storage: str) -> None:
    compute = np.float64 if storage == "float64" else np.float32
    fresh = np.random.default_rng().exponential(3, 2_000_000).astype(compute)
    with np.errstate(over="ignore"):
        alpha = np.concatenate([points.alphas(compute), fresh]).astype(DTYPES[storage])
    outs = [Guarded(alpha.size, DTYPES[storage]) for _ in LOG_Z]
    addresses = [o.array.ctypes.data for o in outs]
    device = Simulated().device
    given = launch.operands(device, [array(alpha)], [])
    launch.elementwise(device, LOG_PARTITION, LOG_Z, storage, given, addresses)
    expected = backend(alpha).evaluate(LOG_PARTITION, LOG_Z, (alpha,), {})
    for name, out, other in zip(LOG_Z, outs, expected, strict=True):
        assert out.intact()
        assert_same_bits(out.array, other, name)


def reduced(
    definition: Definition,
    storage: str,
    x: Any,
    alpha: Any,
    scale: Any,
    weights: Any,
    mean: bool,
    multiprocessors: int = 2,
) -> tuple[Any, ...]:
    """value, dx, dalpha, dscale of a reduction."""
    dtype, simulated = DTYPES[storage], Simulated(multiprocessors)
    parameters = [array(p) if isinstance(p, np.ndarray) else float(p) for p in (alpha, scale)]
    targets = {"value": Guarded(1, dtype), "dx": Guarded(x.size, dtype)}
    targets |= {"dalpha": Guarded(np.size(alpha), dtype), "dscale": Guarded(np.size(scale), dtype)}
    total_at, weights_at = np.zeros(2), 0
    if weights is not None:
        weights_at = weights.ctypes.data
        compute = "float64" if storage == "float64" else "float32"
        launch.total(simulated.device, compute, weights.size, weights_at, total_at.ctypes.data)
    given = launch.operands(simulated.device, [array(x)], parameters)
    assert given.reducible
    launch.reduction(
        simulated.device, definition, GRADIENTS, storage, given, weights_at,
        total_at.ctypes.data if mean and weights is not None else 0, 1 / x.size if mean else 1.0,
        {name: g.array.ctypes.data for name, g in targets.items()},
    )  # fmt: skip
    assert all(g.intact() for g in targets.values())
    return tuple(targets[name].array for name in GRADIENTS)


@each_code
@pytest.mark.parametrize("axis", [-1, *slow(-2)])
@pytest.mark.parametrize(
    "shape", [(1,), (3,), (37, 5), (300, 11), (5, 2000), (70001,), (4, 3, 70), (3, 4, 2500)], ids=str
)
def test_sums(shape: tuple[int, ...], axis: int, storage: str, code: Any) -> None:
    """dx has the CPU's bits; sums, which the CPU takes in another order, agree to the last place but one."""
    compute = np.float64 if storage == "float64" else np.float32
    rng = np.random.default_rng(len(shape) + shape[0])
    x = aligned(rng.standard_t(2, np.prod(shape)).astype(DTYPES[storage])).reshape(shape)
    weights = aligned(rng.integers(0, 3, np.prod(shape)).astype(compute)).reshape(shape)
    weights.reshape(-1)[0] = 1
    if len(shape) > 1:
        own = (shape[axis], *[1] * (-1 - axis))
        alpha = np.linspace(0.5, 2.5, shape[axis]).astype(compute).reshape(own)
        scale = np.linspace(0.5, 2, shape[axis]).astype(compute).reshape(own)
    else:
        alpha, scale = np.array([1.3], compute), 0.7
    tolerance = {"float64": 1e-13, "float32": 3e-7, "float16": 2e-3, "bfloat16": 1e-2}[storage]
    for a, c, w, mean in (
        (alpha, scale, None, True),
        (alpha, scale, weights, True),
        (alpha, 0.7, weights, False),
        (1.3, scale, None, True),
    ):
        found = reduced(code(NLL), storage, x, a, c, w, mean)
        operands = x.astype(compute), *(compute(p) if np.ndim(p) == 0 else p for p in (a, c))
        expected = on_cpu(code(NLL), *operands, reduction="mean" if mean else "sum", weights=w)
        with np.errstate(over="ignore", under="ignore"):
            assert_same_bits(found[1], expected.dx.astype(DTYPES[storage]).reshape(-1), "dx")
        for name, one in zip(("value", "dalpha", "dscale"), (found[0], found[2], found[3]), strict=True):
            with np.errstate(over="ignore"):
                other = np.ravel(getattr(expected, name)).astype(DTYPES[storage]).astype(np.float64)
            np.testing.assert_allclose(
                one.astype(np.float64), other, rtol=tolerance, atol=tolerance * 1e-2, err_msg=name
            )


@pytest.mark.parametrize("offset", [0, 1])
def test_sums_on_a_large_gpu_take_two_rounds(offset: int) -> None:
    """As many warps, and misaligned threads, as 132 multiprocessors run."""
    x = np.random.default_rng(8).standard_normal(1_500_001, np.float32)[1 - offset :]
    x = x[(x.ctypes.data // 4 - offset) % 4 and 4 - (x.ctypes.data // 4 - offset) % 4 :]
    assert x.ctypes.data % 16 == 4 * offset
    found = reduced(LOSS, "float32", x, 0.5, 1.5, None, True, multiprocessors=132)
    expected = on_cpu(LOSS, x, np.float32(0.5), np.float32(1.5), reduction="mean")
    for name, one in zip(("value", "dalpha", "dscale"), (found[0], found[2], found[3]), strict=True):
        np.testing.assert_allclose(one[0], getattr(expected, name), rtol=3e-7)
    assert_same_bits(found[1], expected.dx, "dx")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan, 2e19])
@pytest.mark.parametrize("storage", ["float32", "float64"])
def test_sums_of_huge_infinite_and_missing_elements(storage: str, bad: float) -> None:
    """A mean that fits is found though the sum in float32 does not fit."""
    dtype = DTYPES[storage]
    for n in (1, 3, 64, 1000):
        x = aligned(np.full(n, bad, dtype))
        for alpha in (1.0, 2.0, -2.0):
            found = reduced(LOSS, storage, x, alpha, 1.0, None, True)
            expected = on_cpu(LOSS, x, dtype.type(alpha), dtype.type(1), reduction="mean")
            assert_same_bits(found[1], expected.dx, "dx")
            for name, one in zip(("value", "dalpha", "dscale"), (found[0], found[2], found[3]), strict=True):
                np.testing.assert_allclose(one[0], getattr(expected, name), rtol=3e-7, err_msg=f"{name} {alpha} {n}")


def test_weights_that_cancel_have_no_mean() -> None:
    x, weights = aligned(np.ones(8, np.float32)), aligned(np.array([1, -1] * 4, np.float32))
    found = reduced(LOSS, "float32", x, 1.0, 1.0, weights, True)
    assert all(np.isnan(one).all() for one in found)
    assert np.isnan(fr.loss(x, 1.0, 1.0, reduction="mean", weights=weights))


def test_the_checks_see_a_kernel_that_is_wrong() -> None:
    """A fused operation is refused, a changed one gives other bits, a store beside the output breaks the guard."""
    what = ("elementwise", LOSS.in_words, ("value",), "float32", "columns")
    text = compiled.ptx(*what)
    with pytest.raises(ptx_on_cpu.Unknown, match="not exact"):
        ptx_on_cpu.load(text.replace("mul.rn.f32", "mul.f32", 1))
    x = np.linspace(-3, 3, 100, dtype=np.float32)[1:]
    expected = on_cpu(LOSS.in_words, x, 0.5, 1.5).value
    fused = re.search(r"fma\.rn\.f32 \t(%r\d+), (%r\d+), (%r\d+), (%r\d+)", text)
    assert fused is not None
    try:
        other = f"add.rn.f32 \t{fused[1]}, {fused[2]}, {fused[4]}"
        _launchers[what] = ptx_on_cpu.load(text.replace(fused[0], other))
        assert np.any(run(what, x, 0.5, 1.5, offset=1)[0] != expected)
        _launchers[what] = ptx_on_cpu.load(re.sub(r"(st\.global\.b32 \t\[%rd\d+)\]", r"\1+4]", text))
        with pytest.raises(AssertionError, match="outside"):
            run(what, x, 0.5, 1.5, offset=1)
    finally:
        del _launchers[what]


def test_a_misaligned_vector_faults_as_on_a_gpu() -> None:
    x = np.ones(64, np.float32)
    words = [64, x.ctypes.data | 4, 0, 0, launch.number(1.0), launch.number(1.0), 0, 0, 1, 1, 1, x.ctypes.data]
    with pytest.raises(MemoryError, match="misaligned"):
        launcher(("elementwise", LOSS, ("value",), "float32", "shared"))(1, 32, words)


@pytest.mark.parametrize("layout", launch.LAYOUTS)
def test_a_definition_of_somebody_elses_has_the_bits_of_the_cpu(layout: str) -> None:
    """Two data operands and two parameters, of a definition that is one file outside of the package."""
    rng = np.random.default_rng(5)
    shape = {"rows": (3, 5000), "strided": (40, 60)}.get(layout, (200, 12))
    x, target = (aligned(rng.standard_normal(math.prod(shape))).reshape(shape) for _ in range(2))
    sizes: tuple[int, ...] = {"columns": shape[-1:], "rows": (3, 1), "each": shape, "strided": (40, 1)}.get(layout, ())
    width = aligned(rng.uniform(0.5, 2, math.prod(sizes))).reshape(sizes)
    tilt = aligned(rng.standard_normal(math.prod(sizes))).reshape(sizes)
    if layout == "strided":
        x, target = x[:, ::2], target[:, ::-2]
    outs = [Guarded(x.size, x.dtype) for _ in TOY.outputs]
    simulated = Simulated()
    given = launch.operands(simulated.device, [array(x), array(target)], [array(width), array(tilt)])
    addresses = [out.array.ctypes.data for out in outs]
    launch.elementwise(simulated.device, TOY, TOY.outputs, "float64", given, addresses)
    assert simulated.launched[0][-1] == layout
    expected = backend(x).evaluate(TOY, TOY.outputs, (x, target, width, tilt), {})
    for name, out, other in zip(TOY.outputs, outs, expected, strict=True):
        assert out.intact()
        assert_same_bits(out.array, np.ascontiguousarray(other).reshape(-1), name)
    if not given.reducible:
        return
    names = ("value", *TOY.gradients)
    targets = {name: Guarded(x.size, x.dtype) for name in ("dx", "dtarget")}
    targets |= {"value": Guarded(1, x.dtype)} | {name: Guarded(width.size, x.dtype) for name in ("dwidth", "dtilt")}
    places = {name: target.array.ctypes.data for name, target in targets.items()}
    launch.reduction(simulated.device, TOY, names, "float64", given, 0, 0, 1 / x.size, places)
    sums = backend(x).reduce(TOY, TOY.operands, (x, target, width, tilt), "mean", None, None)
    for name, other in zip(names, sums, strict=True):
        assert targets[name].intact()
        np.testing.assert_allclose(targets[name].array, np.reshape(other, -1), rtol=1e-13, atol=1e-15, err_msg=name)
