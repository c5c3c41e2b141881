"""On a GPU: ``PYTHONPATH=. python -m pytest -m gpu --require-gpu`` from a source checkout, nothing installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gpu_checks
import numpy as np
import points
import pytest

import fastrobust as fr
from fastrobust import _evaluate, losses
from fastrobust._accuracy import _points
from fastrobust.kernels.loops import launch
from fastrobust.kernels.losses.catalogue import LOSS, NLL

pytestmark = pytest.mark.gpu
GRADIENTS = gpu_checks.GRADIENTS


@pytest.mark.parametrize("check", gpu_checks.CHECKS, ids=lambda check: check.__name__)
def test_backend(check: Any, cp: Any) -> None:
    check(cp)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", ["loss_and_grad", "nll_and_grad"])
def test_bits_of_the_cpu(name: str, dtype: Any, cp: Any) -> None:
    """Four million fresh points, with parameters for each element, in the layouts of the kernels."""
    function, seed = getattr(fr, name), int(np.random.SeedSequence().generate_state(1)[0])
    definition = LOSS if name == "loss_and_grad" else NLL
    if divmod(int(cp.cuda.Device().compute_capability), 10) not in launch.DOUBLES:
        definition = definition.in_words
    x, alpha, scale = (np.ascontiguousarray(a) for a in points.points(dtype, 4_000_000, seed))
    for a, c in ((alpha, scale), (dtype(1.3), dtype(0.7)), (alpha[:1000], scale[:1000])):
        seen = x if np.ndim(a) == 0 or a.size == x.size else x.reshape(-1, a.size)
        found = function(cp.asarray(seen), *(cp.asarray(p) if np.ndim(p) else float(p) for p in (a, c)))
        expected = _evaluate.value_and_grad(definition, (seen, a, c), "none", None, definition.operands, None)
        for output in GRADIENTS:
            one, other = getattr(found, output).get(), getattr(expected, output)
            kind = f"u{dtype(0).itemsize}"
            different = (one.view(kind) != other.view(kind)) & ~(np.isnan(one) & np.isnan(other))
            assert not different.any(), f"{output}, seed {seed}: {different.sum()} differ"


LOSSES = [name for name in losses.__all__ if isinstance(getattr(losses, name), losses.Loss)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_the_catalogue_have_the_bits_of_the_cpu(name: str, dtype: Any, cp: Any) -> None:
    """Values and all gradients, parameters for each element and for all; fresh points, then a mean."""
    loss, seed = getattr(losses, name), int(np.random.SeedSequence().generate_state(1)[0])
    operands = _points(loss.formula, dtype, 100_003, seed)
    data, parameters = operands[: len(loss.data)], operands[len(loss.data) :]
    for given in (parameters, [parameter[0] for parameter in parameters]):
        on_gpu = [cp.asarray(part) for part in (*data, *given)]
        expected = loss.value_and_grad(*data, *given)
        for field, one, other in zip(expected._fields, loss.value_and_grad(*on_gpu), expected, strict=True):
            found, true = np.broadcast_arrays(one.get(), other)
            different = (found != true) & ~(np.isnan(found) & np.isnan(true))
            assert not different.any(), f"{field}, seed {seed}: {different.sum()} differ"
    with np.errstate(over="ignore", invalid="ignore"):
        some = [np.clip(part[:1000], -4, 4) for part in operands]
        expected = loss.value_and_grad(*some, reduction="mean")
    for one, other in zip(loss.value_and_grad(*map(cp.asarray, some), reduction="mean"), expected, strict=True):
        if np.isfinite(other).all():
            scale = float(np.max(np.abs(other)))
            gpu_checks.close(one / (scale or 1.0), np.asarray(other) / (scale or 1.0))


@pytest.mark.parametrize("name", ["huber", "bce_logits", "focal_logits", "gaussian_kl"])
def test_losses_of_the_catalogue_learn_on_tensors_and_in_jax(name: str, torch: Any) -> None:
    """First and second derivatives, in both frameworks, are those of the CPU."""
    jax = pytest.importorskip("jax")
    loss = getattr(losses, name)
    operands = [part.astype("f") for part in _points(loss.formula, np.float32, 1000, 5)]
    operands = [np.clip(part, -9, 9) for part in operands]

    def slopes(device: str) -> list[Any]:
        tensors = [torch.from_numpy(part).to(device).requires_grad_() for part in operands]
        first = torch.autograd.grad(loss(*tensors).sum(), tensors, create_graph=True)
        second = torch.autograd.grad(first[0].sum(), tensors, allow_unused=True)
        return [part.detach().cpu() for part in (*first, *second) if part is not None]

    for one, other in zip(slopes("cuda"), slopes("cpu"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-30, equal_nan=True)
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    assert gpus, "JAX finds no GPU"
    found = jax.jit(jax.grad(lambda *given: loss(*given).sum(), tuple(range(len(operands)))))(
        *(jax.device_put(part, gpus[0]) for part in operands)
    )
    for one, other in zip(found, slopes("cpu"), strict=False):
        np.testing.assert_allclose(np.asarray(one), other.numpy(), rtol=1e-5, atol=1e-30)


def test_the_current_stream_is_used(cp: Any) -> None:
    """A producer that is late, on a stream that does not wait for the default one."""
    stream = cp.cuda.Stream(non_blocking=True)
    big = cp.ones((6000, 6000), np.float32)
    x = cp.zeros(1_000_000, np.float32)
    expected = fr.loss_and_grad(np.full(1_000_000, 3, np.float32), 0.5, 1.5)
    for timed, reduction in ((False, "none"), (False, "mean"), (True, "none"), (True, "mean")):  # loaded first
        x.fill(0)
        cp.cuda.Device().synchronize()
        with stream:
            for _ in range(20):
                big = big @ big * np.float32(1e-4)
            x += 3 + 0 * big[0, 0].clip(0, 0)
            found = fr.loss_and_grad(x, 0.5, 1.5, reduction=reduction)
        assert not (timed and stream.done), "the producer was not late"
        stream.synchronize()
        if reduction == "none":
            gpu_checks.same(found.value, expected.value)
        else:
            gpu_checks.close(found.value, expected.value[0])


def test_a_reduction_in_place(cp: Any) -> None:
    """dx over x, which the stand-in on the CPU cannot show."""
    x = np.random.default_rng(4).standard_normal(100_003).astype(np.float32)
    gpu = cp.asarray(x)
    expected = fr.loss_and_grad(x, 0.5, 1.5, reduction="mean")
    found = fr.loss_and_grad(gpu, 0.5, 1.5, reduction="mean", out=(None, gpu, None, None))
    gpu_checks.same(gpu, expected.dx)
    gpu_checks.close(found.value, expected.value)


def test_calls_are_captured_in_a_graph(cp: Any) -> None:
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.linspace(-3, 3, 100_000, dtype=np.float32)
        out = fr.loss_and_grad(x, 0.5, 1.5)
        stream.begin_capture()
        fr.loss_and_grad(x, 0.5, 1.5, out=out)
        graph = stream.end_capture()
        x *= 2
        graph.launch(stream)
        stream.synchronize()
        host = x.get()
    for name, expected in zip(GRADIENTS, fr.loss_and_grad(host, 0.5, 1.5), strict=True):
        gpu_checks.same(getattr(out, name), expected, name)


def test_a_captured_reduction_keeps_its_memory(cp: Any) -> None:
    """What is allocated after the capture is not where the graph writes."""
    stream = cp.cuda.Stream(non_blocking=True)
    with stream:
        x = cp.linspace(-3, 3, 100_000, dtype=np.float32)
        fr.loss_and_grad(x, 0.5, 1.5, reduction="mean")
        stream.begin_capture()
        found = fr.loss_and_grad(x, 0.5, 1.5, reduction="mean")
        graph = stream.end_capture()
        others = [cp.zeros(n, np.float64) for n in (1, 10, 1000, 10_000, 100_000)]
        graph.launch(stream)
        stream.synchronize()
        assert not any(bool(other.any()) for other in others)
        gpu_checks.close(found.value, fr.loss(x.get(), 0.5, 1.5, reduction="mean"))


def test_too_little_memory_is_said_and_survived(cp: Any) -> None:
    x = cp.broadcast_to(cp.ones(1, np.float32), (1 << 30, 1 << 12))
    with pytest.raises(cp.cuda.memory.OutOfMemoryError):
        fr.loss(x, 1.0, 1.0)
    small = np.linspace(-1, 1, 10, dtype=np.float32)
    gpu_checks.same(fr.loss(cp.asarray(small), 1.0, 1.0), fr.loss(small, 1.0, 1.0))


def test_more_elements_than_an_int32_counts(cp: Any) -> None:
    n = (1 << 31) + 5
    if cp.cuda.Device().mem_info[0] < 20 << 30:
        pytest.skip("needs 20 GiB of GPU memory")
    x = cp.zeros(n, np.float16)
    x[-3:] = cp.asarray(np.array([1, -2, 3], np.float16))
    found = fr.influence(x, 0.5, 1.5)
    gpu_checks.same(found[-5:], fr.influence(np.array([0, 0, 1, -2, 3], np.float16), 0.5, 1.5))
    assert not cp.any(found[:-3])
    del found
    total = fr.loss(x, 0.5, 1.5, reduction="sum")
    gpu_checks.close(total, fr.loss(np.array([1, -2, 3], np.float16), 0.5, 1.5, reduction="sum"))


def test_the_arrays_device_is_used_and_the_current_one_kept(cp: Any) -> None:
    if cp.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    with cp.cuda.Device(1):
        x = cp.linspace(-3, 3, 1000, dtype=np.float32)
    with cp.cuda.Device(0):
        found = fr.loss(x, 0.5, 1.5)
        assert cp.cuda.Device().id == 0
    assert found.device.id == 1
    gpu_checks.same(found, fr.loss(x.get(), 0.5, 1.5))


@pytest.fixture
def torch(cp: Any, request: pytest.FixtureRequest) -> Any:
    found = pytest.importorskip("torch")
    if not found.cuda.is_available():
        message = "PyTorch finds no GPU"
        pytest.fail(message) if request.config.getoption("--require-gpu") else pytest.skip(message)
    return found


def test_tensors_have_the_numbers_of_the_cpu(torch: Any) -> None:
    x = torch.randn(1000, 7)
    for alpha, scale in ((0.5, 1.5), (torch.rand(7), torch.rand(7) + 0.5), (torch.rand(1000, 7), torch.tensor(0.7))):
        on_gpu = [v.cuda() if isinstance(v, torch.Tensor) else v for v in (x, alpha, scale)]
        for name, one, other in zip(GRADIENTS, fr.nll_and_grad(*on_gpu), fr.nll_and_grad(x, alpha, scale), strict=True):
            assert one.is_cuda
            torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=1e-6, msg=name)
        found, expected = fr.nll_and_grad(*on_gpu, reduction="mean"), fr.nll_and_grad(x, alpha, scale, reduction="mean")
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_losses_of_rows_on_tensors(torch: Any) -> None:
    """Values and both derivatives, of rows for a thread, a warp and several of them."""
    torch.manual_seed(0)
    for n in (10, 1000, 20_000):
        x, target = torch.randn(7, n), torch.randint(0, n, (7,))

        def found(device: str, x: Any = x, target: Any = target) -> list[Any]:
            leaf = x.to(device).requires_grad_()
            made = []
            for loss, other in ((losses.cross_entropy, target), (losses.kl_logits, x.flip(0))):
                value = loss(leaf, other.to(device), reduction="mean")
                (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
                (second,) = torch.autograd.grad((slope * x.flip(1).to(device)).sum(), leaf)
                made += [value.detach(), slope.detach(), second]
            return [part.cpu() for part in made]

        for one, other in zip(found("cuda"), found("cpu"), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_tensors_on_another_stream_and_no_waiting(torch: Any) -> None:
    """A late producer on PyTorch's current stream; a training step does not wait for the GPU."""
    import fastrobust.torch as frt

    criterion, classes = frt.AdaptiveLoss(device="cuda"), torch.arange(1000, device="cuda")
    x = torch.zeros(1_000_000, device="cuda", requires_grad=True)
    big, stream = torch.ones(6000, 6000, device="cuda"), torch.cuda.Stream()

    def step(products: int) -> Any:
        """A loss of what is there after so many products."""
        made = big
        with torch.cuda.stream(stream):
            for _ in range(products):
                made = made @ big * 1e-4
            late = x.detach() + 3 + 0 * made[0, 0].clamp(0, 0)
            late.requires_grad_()
            found = fr.loss(late, 0.5, 1.5)
            criterion(late).backward()
            losses.cross_entropy(late.reshape(1000, 1000), classes, reduction="mean").backward()
        return found

    step(1)  # all kernels are loaded, PyTorch's own too: for each, the first time, it waits for the GPU
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        found = step(150)  # a second or so, in which a busy host gets through a step
        assert not stream.query(), "the producer was not late"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream.synchronize()
    torch.testing.assert_close(found.cpu(), fr.loss(torch.full((1_000_000,), 3.0), 0.5, 1.5), rtol=1e-6, atol=0.0)


def test_tensors_in_a_cuda_graph(torch: Any) -> None:
    x = torch.randn(100_000, device="cuda")
    fr.loss(x, 0.5, 1.5)
    torch.cuda.synchronize()
    graph, static = torch.cuda.CUDAGraph(), x.clone()
    with torch.cuda.graph(graph):
        found = fr.loss(static, 0.5, 1.5)
    static.copy_(2 * x)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(found.cpu(), fr.loss(2 * x.cpu(), 0.5, 1.5), rtol=1e-6, atol=1e-9)


def test_compute_sanitizer_finds_nothing(cp: Any, tmp_path: Path) -> None:
    program = shutil.which("compute-sanitizer")
    if program is None:
        pytest.skip("compute-sanitizer is not installed")
    script = tmp_path / "script.py"
    script.write_text("""
import cupy as cp, fastrobust as fr
for n in (1, 3, 1000, 4097):
    x = cp.linspace(-3, 3, n + 1, dtype="f")
    for first in (0, 1):
        part = x[first:]
        for alpha in (0.5, part * 0 + 1):
            for reduction in ("none", "mean"):
                fr.nll_and_grad(part, alpha, 1.5, reduction=reduction)
    fr.loss_and_grad(cp.ones((n, 5), "f"), cp.ones(5, "f"), 1.0, reduction="mean")
""")
    done = subprocess.run(
        [program, "--error-exitcode", "7", sys.executable, str(script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
