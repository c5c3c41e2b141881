"""The CUDA kernels where there is no GPU: what their PTX says, and what it does when run on this CPU.

On a GPU: tests/test_gpu.py.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import points
import ptx_on_cpu
import pytest

import fastrobust as fr
from fastrobust.kernels import cuda, ptx

GRADIENTS = ("value", "dx", "dalpha", "dscale")
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
}
FULL = [
    ("elementwise", family, GRADIENTS, storage, layout)
    for family, storage, layout in itertools.product(("loss", "nll"), DTYPES, cuda.LAYOUTS)
]
ONE = [
    ("elementwise", "loss", (output,), storage, "shared")
    for output, storage in itertools.product(("value", "dx", "weight", "curvature"), ("float32", "float64"))
]
PARTITION = [("partition", ("value", "dalpha"), storage) for storage in DTYPES]
KERNELS = FULL + ONE + PARTITION


def name_of(what: Any) -> str:
    return "-".join(w if isinstance(w, str) else "+".join(w) for w in what)


@pytest.mark.parametrize("what", KERNELS, ids=name_of)
def test_ptx_has_only_operations_with_one_meaning(what: Any) -> None:
    """No fused or flushed arithmetic, no calls, no memory but global: then the bits cannot differ from the CPU's."""
    text = ptx.kernel(*what)
    operations = re.findall(r"^\s+(?:@!?%p\d+ )?((?:add|sub|mul|div|fma|sqrt|rcp)\.\S*f(?:16|32|64)\S*)", text, re.M)
    assert all(".rn." in operation for operation in operations), Counter(operations)
    assert not re.search(r"\.ftz|\.approx|\bcall\b|\.local|\bex2\b|\blg2\b|atom\.|red\.", text)
    if what[0] == "elementwise":
        assert len(operations) > 20
    arithmetic = {operation.rsplit(".", 1)[1] for operation in operations}
    assert "float64" in what or not arithmetic & {"f64"}, "float32 stays float32"


def at_a_time(what: Any) -> int:
    """Bytes of x and of the outputs in one access."""
    return 8 if what[4] == "each" and what[3].endswith("16") else 16


@pytest.mark.parametrize("what", [w for w in KERNELS if w[-1] in ("shared", "each")], ids=name_of)
def test_memory_is_read_and_written_16_bytes_at_a_time(what: Any) -> None:
    text = ptx.kernel(*what)
    wide = r"\.v2\.b64" if what[3] == "float64" else r"(?:\.v2\.b32|\.v4\.b16)" if at_a_time(what) == 8 else r"\.v4\.b32"
    assert re.search(rf"ld\.global{wide}", text)
    assert len(re.findall(rf"st\.global{wide}", text)) >= len(what[2])


def tool(name: str) -> str:
    """A program of NVIDIA's toolkit: installed by the extra "test" where NVIDIA has it on PyPI, or on the path."""
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{'nvcc' if name == 'ptxas' else name}") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((str(f.locate()) for f in files if f.name == name), None) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def assembled(what: Any, arch: str, folder: Path) -> tuple[Path, str]:
    """The machine code, and what ptxas says of it."""
    source, target = folder / "kernel.ptx", folder / "kernel.cubin"
    source.write_text(ptx.kernel(*what))
    done = subprocess.run(
        [tool("ptxas"), f"-arch={arch}", "-v", str(source), "-o", str(target)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target, done.stderr


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_120"])
def test_every_generation_from_7_5_on_takes_the_ptx(arch: str, tmp_path: Path) -> None:
    assembled(("elementwise", "nll", GRADIENTS, "float32", "shared"), arch, tmp_path)


@pytest.mark.parametrize("what", [w for w in FULL if w[1] == "nll"] + ONE, ids=name_of)
def test_registers_suffice(what: Any, tmp_path: Path) -> None:
    """Nothing is spilled to memory, and at least a block and a half fits: 65,536 registers for 256 threads each."""
    _, report = assembled(what, "sm_90", tmp_path)
    assert "0 bytes spill stores, 0 bytes spill loads" in report, report
    (used,) = map(int, re.findall(r"Used (\d+) registers", report))
    assert used <= (72 if "float64" not in what and len(what[2]) == 1 else 170), report


@pytest.mark.parametrize("what", [w for w in FULL if w[1] == "loss" and w[-1] in ("shared", "each")], ids=name_of)
def test_machine_code_moves_16_bytes_at_a_time(what: Any, tmp_path: Path) -> None:
    cubin, _ = assembled(what, "sm_90", tmp_path)
    listing = subprocess.run([tool("nvdisasm"), str(cubin)], capture_output=True, text=True, check=True).stdout
    width = 8 * at_a_time(what)
    assert re.search(rf"LDG\.E\.{width}", listing)
    assert len(re.findall(rf"STG\.E\.{width}", listing)) >= len(GRADIENTS)
    assert not re.search(r"\b(LDL|STL)\b", listing)


def launcher(what: Any) -> Any:
    key = name_of(what)
    if key not in _launchers:
        _launchers[key] = ptx_on_cpu.load(ptx.kernel(*what))
    return _launchers[key]


_launchers: dict[str, Any] = {}


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


def run(
    what: Any, x: Any, alpha: Any, scale: Any, *, blocks: int = 3, threads: int = 32, period: int = 1, offset: int = 0
) -> list[Any]:
    """The outputs of an elementwise kernel; parameters are numbers, or arrays of the computing type."""
    _, _, outputs, storage, _ = what
    outs = [Guarded(x.size, DTYPES[storage], offset * (j + 1) % 5) for j in range(len(outputs))]
    words = cuda.elementwise_words(
        n=x.size,
        x=x.ctypes.data,
        parameters=[
            (p.ctypes.data, 0.0, int(p.size > 1)) if isinstance(p, np.ndarray) else (0, p, 0) for p in (alpha, scale)
        ],
        period=period,
        stride=max(1, blocks * threads // period) * period,
    )
    launcher(what)(blocks, threads, [*words, *(o.array.ctypes.data for o in outs)])
    assert all(o.intact() for o in outs), "written outside of the output"
    return [o.array for o in outs]


def reference(family: str, x: Any, alpha: Any, scale: Any) -> list[Any]:
    """From the CPU, in x's dtype; the halves are computed in float32 and rounded once."""
    dtype = x.dtype
    compute = np.float64 if dtype == np.float64 else np.float32
    found = (fr.nll_and_grad if family == "nll" else fr.loss_and_grad)(x.astype(compute), alpha, scale)
    with np.errstate(over="ignore", under="ignore"):
        return [np.asarray(result).astype(dtype) for result in found]


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


@pytest.mark.parametrize("storage", DTYPES)
@pytest.mark.parametrize("family", ["loss", "nll"])
def test_arithmetic_has_the_bits_of_the_cpu(family: str, storage: str) -> None:
    """A million points a function and dtype, newly drawn at each run, with their seed in the failure."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    x, alpha, scale = drawn(storage, 1_000_000, seed)
    what = ("elementwise", family, GRADIENTS, storage, "each")
    found = run(what, x, alpha, scale, blocks=4, threads=256)
    expected = reference(family, x, alpha, scale)
    for name, one, other in zip(GRADIENTS, found, expected, strict=True):
        assert_same_bits(one, other, f"{name}, seed {seed}")


SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 127, 128, 129, 383, 384, 385, 1000)


@pytest.mark.parametrize("storage", DTYPES)
@pytest.mark.parametrize("alpha", [-8.0, 0.3, 1.97, 2.0, 2.5, np.inf], ids=str)
def test_every_size_of_shared_parameters(alpha: float, storage: str) -> None:
    """Also by address, by the layout for any alignment, and x beyond the quick case here and there."""
    compute = np.float64 if storage == "float64" else np.float32
    x, _, _ = drawn(storage, 1000, 5)
    x[::7] = np.linspace(-3, 3, x[::7].size).astype(DTYPES[storage])
    number = compute(0.7)
    expected = reference("loss", x, compute(alpha), number)
    address = [np.array([alpha], compute), np.array([number], compute)]
    for n in SIZES:
        for layout, parameters in (("shared", (alpha, number)), ("shared", address), ("columns", (alpha, number))):
            what = ("elementwise", "loss", GRADIENTS, storage, layout)
            offset = 1 if layout == "columns" else 0
            where = x[offset:][:n] if offset else aligned(x[:n])
            found = run(what, where, *parameters, offset=offset, blocks=1 + n % 3)
            for name, one, other in zip(GRADIENTS, found, expected, strict=True):
                assert_same_bits(one, other[offset:][:n], f"{name}, {n} elements, {layout}")


@pytest.mark.parametrize("storage", DTYPES)
@pytest.mark.parametrize("period", [1, 2, 3, 5, 16, 60, 96])
def test_columns(period: int, storage: str) -> None:
    """Threads that are no multiple of the period; either parameter may be a number."""
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", "nll", GRADIENTS, storage, "columns")
    x = np.random.default_rng(period).standard_normal((37, period)).astype(DTYPES[storage])
    alpha = np.linspace(0, 3, period).astype(compute)
    scale = np.linspace(2, 0.5, period).astype(compute)
    for a, c in ((alpha, scale), (alpha, 0.7), (1.5, scale)):
        found = run(what, x.reshape(-1), a, c, blocks=3, threads=33, period=period, offset=1)
        expected = reference("nll", x, compute(a), compute(c))
        for name, one, other in zip(GRADIENTS, found, expected, strict=True):
            assert_same_bits(one, other.reshape(-1), f"{name}")


@pytest.mark.parametrize("storage", DTYPES)
def test_a_parameter_for_each_element(storage: str) -> None:
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", "nll", GRADIENTS, storage, "each")
    x, alpha, scale = drawn(storage, 1000, 6)
    alpha[100:300], scale[100:300], x[100:300] = 1, 1, np.linspace(-3, 3, 200).astype(DTYPES[storage])
    for n in SIZES:
        for a, c in ((aligned(alpha[:n]), aligned(scale[:n])), (aligned(alpha[:n]), 0.7), (1.5, aligned(scale[:n]))):
            found = run(what, aligned(x[:n]), a, c)
            expected = reference("nll", x[:n], compute(a), compute(c))
            for name, one, other in zip(GRADIENTS, found, expected, strict=True):
                assert_same_bits(one, other, f"{name}, {n} elements")


@pytest.mark.parametrize("storage", DTYPES)
def test_any_strides(storage: str) -> None:
    """Views of four axes, reversed, transposed and broadcast, read where they are."""
    compute = np.float64 if storage == "float64" else np.float32
    what = ("elementwise", "loss", GRADIENTS, storage, "strided")
    rng = np.random.default_rng(7)
    x = rng.standard_normal((4, 6, 5, 7)).astype(DTYPES[storage]).transpose(2, 0, 3, 1)[::-1, :, ::2]
    alpha = rng.uniform(-3, 3, (4, 1, 6)).astype(compute)
    scale = rng.uniform(0.5, 2, (5, 1, 1, 1)).astype(compute)[::-1]
    shape = np.broadcast_shapes(x.shape, alpha.shape, scale.shape)
    views = [np.broadcast_to(a, shape) for a in (x, alpha, scale)]
    outs = [Guarded(x.size, DTYPES[storage], 1) for _ in GRADIENTS]
    words = cuda.elementwise_words(
        n=x.size,
        x=views[0].ctypes.data,
        parameters=[(v.ctypes.data, 0.0, 1) for v in views[1:]],
        extents=shape,
        strides=[[s // v.itemsize for s in v.strides] for v in views],
    )
    launcher(what)(2, 48, [*words, *(o.array.ctypes.data for o in outs)])
    assert all(o.intact() for o in outs)
    for name, out, other in zip(GRADIENTS, outs, reference("loss", x, alpha, scale), strict=True):
        assert_same_bits(out.array, np.ascontiguousarray(other).reshape(-1), name)


def test_an_output_may_be_x_itself() -> None:
    x = np.linspace(-4, 4, 1003, dtype=np.float32)
    expected = fr.loss_and_grad(x, 0.5, 1.5)
    for layout in ("shared", "columns"):
        memory = Guarded(x.size, x.dtype)
        memory.array[:] = x
        words = cuda.elementwise_words(
            n=x.size, x=memory.array.ctypes.data, parameters=[(0, 0.5, 0), (0, 1.5, 0)], stride=64
        )
        launcher(("elementwise", "loss", ("dx",), "float32", layout))(2, 32, [*words, memory.array.ctypes.data])
        assert memory.intact()
        assert_same_bits(memory.array, expected.dx, layout)


@pytest.mark.parametrize("storage", DTYPES)
def test_log_partition(storage: str) -> None:
    compute = np.float64 if storage == "float64" else np.float32
    with np.errstate(over="ignore"):
        alpha = points.alphas(compute).astype(DTYPES[storage])
    outs = [Guarded(alpha.size, DTYPES[storage]) for _ in range(2)]
    launch = launcher(("partition", ("value", "dalpha"), storage))
    launch(2, 32, [alpha.size, alpha.ctypes.data, *(o.array.ctypes.data for o in outs)])
    expected = fr.log_partition_and_grad(alpha)
    for name, out, other in zip(("value", "dalpha"), outs, expected, strict=True):
        assert out.intact()
        assert_same_bits(out.array, other, name)


def test_the_checks_see_a_kernel_that_is_wrong() -> None:
    """A fused operation is refused, a changed one gives other bits, a store beside the output breaks the guard."""
    what = ("elementwise", "loss", ("value",), "float32", "columns")
    text = ptx.kernel(*what)
    with pytest.raises(ptx_on_cpu.Unknown, match="not exact"):
        ptx_on_cpu.load(text.replace("mul.rn.f32", "mul.f32", 1))
    x = np.linspace(-3, 3, 100, dtype=np.float32)
    expected = fr.loss(x, 0.5, 1.5)
    first_fma = re.search(r"fma\.rn\.f32 \t(%r\d+), (%r\d+), (%r\d+), (%r\d+)", text)
    assert first_fma is not None
    _launchers[name_of(what)] = ptx_on_cpu.load(
        text.replace("fma.rn.f32 \t", "fma.rn.f32 \t", 1).replace(
            first_fma[0], f"add.rn.f32 \t{first_fma[1]}, {first_fma[2]}, {first_fma[4]}"
        )
    )
    try:
        (found,) = run(what, x, 0.5, 1.5)
        assert np.any(found != expected)
        _launchers[name_of(what)] = ptx_on_cpu.load(re.sub(r"(st\.global\.b32 \t\[%rd\d+)\]", r"\1+4]", text))
        with pytest.raises(AssertionError, match="outside"):
            run(what, x, 0.5, 1.5)
    finally:
        _launchers.pop(name_of(what))
