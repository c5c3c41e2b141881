"""CuPy arrays on a GPU, beside a device-to-device copy and what is written in CuPy, PyTorch and JAX instead.

From the root of a source checkout, nothing installed: ``PYTHONPATH=. python -m benchmarks.gpu``.  Values are checked
before anything is timed; a rival that is not installed is left out.  Times are medians between CUDA events, over
buffers that rotate through more memory than the second-level cache holds.  Writes results/gpu.csv.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import fastrobust as fr

from . import gpu_rows
from .measure import RESULTS, environment, write_csv

ALPHA, SCALE = 1.2, 0.8
COLUMNS = 8
WORKS = {
    # work -> elements read and written, of x's dtype, for each element of x; parameters by element add two
    "loss": 2,
    "loss_and_grad": 5,
    "loss_and_grad mean": 2,
}
FIELDS = (
    "work", "rival", "dtype", "parameters", "size", "median_s", "samples", "bytes", "gb_per_s", "copy_gb_per_s",
    "percent_of_copy", "error", "gpu", "driver", "cuda", "cupy",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--sizes", default="1000,1000000,100000000", help="elements, by commas (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=25, help="of each time (default: %(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=8, help="start nothing new after so many (default: %(default)s)"
    )
    parser.add_argument("--no-rivals", action="store_true", help="only fastrobust and the copy")
    options = parser.parse_args()
    try:
        import cupy
    except ImportError as error:
        sys.exit(f"benchmarks.gpu: CuPy is missing ({error}): pip install cupy-cuda12x")
    if not cupy.is_available():
        sys.exit("benchmarks.gpu: CuPy finds no GPU")
    end = time.monotonic() + 60 * options.minutes
    rows: list[dict[str, Any]] = []
    common = machine(cupy)
    copy = copy_speed(cupy, options.samples)
    print(f"{common['gpu']}: copy {copy / 1e9:.0f} GB/s")
    sizes = [int(s) for s in options.sizes.split(",")]
    of_rows = gpu_rows.measurements(cupy, sizes, options.samples, seconds, not options.no_rivals)
    for row in itertools.chain(of_rows, measurements(cupy, sizes, options, end)):
        row |= {
            "copy_gb_per_s": f"{copy / 1e9:.1f}",
            "percent_of_copy": f"{100 * row['bytes'] / row['median_s'] / copy:.1f}",
            "gb_per_s": f"{row['bytes'] / row['median_s'] / 1e9:.1f}",
        }
        print(
            f"{row['work']:20} {row['rival']:14} {row['dtype']:8} {row['parameters']:8} {row['size']:>10} "
            f"{row['median_s'] * 1e6:12.1f} us {row['percent_of_copy']:>6} % of copy, error {row['error']}",
            flush=True,
        )
        rows.append(row | common | environment())
    rows += [row | common | environment() for row in launches(cupy)]
    write_csv(RESULTS / "gpu.csv", (*FIELDS, *environment()), rows)
    print(f"{len(rows)} rows in {RESULTS / 'gpu.csv'}")


def machine(cp: Any) -> dict[str, Any]:
    """GPU, driver and versions."""
    runtime = cp.cuda.runtime
    return {
        "gpu": runtime.getDeviceProperties(0)["name"].decode(),
        "driver": runtime.driverGetVersion(),
        "cuda": runtime.runtimeGetVersion(),
        "cupy": cp.__version__,
    }


def seconds(cp: Any, calls: list[Callable[[], Any]], samples: int) -> float:
    """Median seconds of a call between events, the calls taking turns, launches hidden where they can be.

    JAX has a stream of its own: its calls wait for their results, and the wait counts.
    """
    for call in calls:
        call()
    times = []
    for k in range(samples):
        start, stop = cp.cuda.Event(), cp.cuda.Event()
        start.record()
        for j in range(len(calls)):
            calls[(k + j) % len(calls)]()
        stop.record()
        stop.synchronize()
        times.append(cp.cuda.get_elapsed_time(start, stop) / 1e3 / len(calls))
    return statistics.median(times)


def rotations(cp: Any, traffic: int) -> int:
    """How many sets of buffers exceed the second-level cache twice."""
    cache = cp.cuda.Device().attributes["L2CacheSize"]
    return int(max(1, min(64, -(-2 * cache // traffic))))


def copy_speed(cp: Any, samples: int) -> float:
    """Bytes a second, read and written, of copying a GiB on the device."""
    source, target = cp.zeros(1 << 30, np.uint8), cp.empty(1 << 30, np.uint8)
    return 2 * source.nbytes / seconds(cp, [lambda: cp.cuda.runtime.memcpy(
        target.data.ptr, source.data.ptr, source.nbytes, cp.cuda.runtime.memcpyDeviceToDevice)], samples)  # fmt: skip


def measurements(cp: Any, sizes: list[int], options: Any, end: float) -> Iterator[dict[str, Any]]:
    """One row for each work, dtype, layout, size and rival."""
    for size in sizes:
        for dtype in ("float32", "float16", "float64"):
            for parameters in ("scalar", "columns", "full"):
                for work in WORKS:
                    # Parameters for columns or elements are float32, and so are then the results; d/dx of a mean
                    # over many elements is 0 in float16.
                    if dtype == "float16" and (parameters != "scalar" or "mean" in work):
                        continue
                    if time.monotonic() > end:
                        print("out of time: what is left is not measured")
                        return
                    yield from measured(cp, work, dtype, parameters, size, options)


def measured(cp: Any, work: str, dtype: str, parameters: str, size: int, options: Any) -> Iterator[dict[str, Any]]:
    item = np.dtype(dtype).itemsize
    full = parameters == "full"
    count = WORKS[work] + (2 if full else 0) + (2 if full and "mean" in work else 0)
    traffic = count * size * item
    sets = rotations(cp, traffic)
    rng = cp.random.default_rng(7)
    shape = (size // COLUMNS, COLUMNS) if parameters == "columns" else (size,)
    compute = np.float64 if dtype == "float64" else np.float32
    data = []
    for _ in range(sets):
        x = (2 * rng.standard_normal(shape, dtype=compute)).astype(dtype)
        alpha: Any = ALPHA
        scale: Any = SCALE
        if parameters != "scalar":
            extent = shape if full else shape[-1:]
            alpha, scale = (cp.full(extent, v, compute) for v in (ALPHA, SCALE))
        outs = [cp.empty(shape, dtype) for _ in range(4 if work == "loss_and_grad" else 1)]
        data.append((x, alpha, scale, outs))
    x, alpha, scale, _ = data[0]
    host = [a.get().astype(np.float64) if isinstance(a, cp.ndarray) else a for a in (x, alpha, scale)]
    part = slice(0, 100_000 // (shape[1] if len(shape) > 1 else 1))
    few = [h[part] if np.ndim(h) == len(shape) else h for h in host]
    truth = fr.loss_and_grad(*few)
    whole = float(fr.loss(*host, reduction="mean")) if "mean" in work else 0.0
    rivals = {"fastrobust": ours} | ({} if options.no_rivals else RIVALS)
    for name, make in rivals.items():
        try:
            calls, result = make(cp, work, data)
            value, dx = (np.asarray(r, np.float64) for r in result())
        except ImportError:
            continue
        except Exception as error:
            print(f"{work} {name} {dtype} {parameters} {size}: not timed: {type(error).__name__}: {str(error)[:200]}")
            continue
        if "mean" in work:
            wrong = abs(value - whole) / whole
        else:
            wrong = np.abs(value.reshape(shape)[part] - truth.value).max() / truth.value.max()
        if work != "loss":
            factor = 1 / size if "mean" in work else 1.0
            wrong = max(wrong, np.abs(dx.reshape(shape)[part] / factor - truth.dx).max() / np.abs(truth.dx).max())
        if not wrong < {2: 2e-2, 4: 1e-3, 8: 1e-9}[item] * (50 if name != "fastrobust" and item == 2 else 1):
            print(f"{work} {name} {dtype} {parameters} {size}: not timed: error {wrong:.2g}")
            continue
        yield {
            "work": work, "rival": name, "dtype": dtype, "parameters": parameters, "size": size, "bytes": traffic,
            "median_s": seconds(cp, calls, options.samples), "samples": options.samples, "error": f"{wrong:.1e}",
        }  # fmt: skip


Made = tuple[list[Callable[[], Any]], Callable[[], Any]]


def ours(cp: Any, work: str, data: Any) -> Made:
    if work == "loss":
        calls = [functools.partial(fr.loss, x, a, c, out=o[0]) for x, a, c, o in data]
        return calls, lambda: (calls[0]().get(), 0.0)
    if work == "loss_and_grad":
        calls = [functools.partial(fr.loss_and_grad, x, a, c, out=tuple(o)) for x, a, c, o in data]
    else:
        calls = [
            functools.partial(fr.loss_and_grad, x, a, c, reduction="mean", out=(None, o[0], None, None))
            for x, a, c, o in data
        ]
    return calls, lambda: (lambda r: (r.value.get(), r.dx.get()))(calls[0]())


# --- rivals: the formula as it is written today


def _plain(xp: Any, x: Any, alpha: Any, scale: Any) -> tuple[Any, ...]:
    """Value and gradients by hand."""
    z = x / scale
    b = abs(alpha - 2)
    u = z * z / b + 1
    power = u ** (alpha / 2)
    value = b / alpha * (power - 1)
    dx = z / scale * power / u
    side = (2 - alpha) / b
    inner = xp.log(u) / 2 + alpha / 2 * side * (u - 1) / (b * u)
    dalpha = b / alpha * power * inner - (side / alpha + b / alpha**2) * (power - 1)
    return value, dx, dalpha, -z * dx


def _cupy(cp: Any, work: str, data: Any) -> Made:
    def value(x: Any, a: Any, c: Any) -> Any:
        b = abs(a - 2)
        return b / a * (((x / c) ** 2 / b + 1) ** (a / 2) - 1)

    def both(x: Any, a: Any, c: Any) -> Any:
        found = _plain(cp, x, a, c)
        if "mean" in work:
            return found[0].mean(), found[1] / x.size, found[2].mean(), found[3].mean()
        return found

    function = value if work == "loss" else both
    calls = [functools.partial(function, x, a, c) for x, a, c, _ in data]
    return calls, lambda: _pair(calls[0](), lambda r: r.get())


def _fuse(cp: Any, work: str, data: Any) -> Made:
    if work != "loss":
        raise ImportError("cupy.fuse: values only")

    @cp.fuse()
    def value(x: Any, a: Any, c: Any) -> Any:
        b = cp.abs(a - 2)  # what is fused knows no abs() of Python's
        return b / a * (((x / c) ** 2 / b + 1) ** (a / 2) - 1)

    calls = [functools.partial(value, x, a, c) for x, a, c, _ in data]
    return calls, lambda: _pair(calls[0](), lambda r: r.get())


def _pair(result: Any, host: Callable[[Any], Any]) -> tuple[Any, Any]:
    return (host(result[0]), host(result[1])) if isinstance(result, tuple) else (host(result), 0.0)


def _torch(cp: Any, work: str, data: Any, compiled: bool) -> Made:
    import torch

    def value(x: Any, a: Any, c: Any) -> Any:
        b = abs(a - 2)
        return b / a * (((x / c) ** 2 / b + 1) ** (a / 2) - 1)

    function = torch.compile(value) if compiled else value

    def tensors(x: Any, a: Any, c: Any) -> list[Any]:
        found = [torch.from_dlpack(x)]
        for p in (a, c):
            found.append(
                torch.from_dlpack(p)
                if isinstance(p, cp.ndarray)
                else torch.tensor(p, device="cuda", dtype=found[0].dtype)
            )
        return [t.detach().clone().requires_grad_(work != "loss") for t in found]

    def step(inputs: list[Any]) -> Any:
        # On PyTorch's default stream, which is CuPy's.
        if work == "loss":
            with torch.no_grad():
                return function(*inputs)
        for t in inputs:
            t.grad = None
        found = function(*inputs)
        if "mean" in work:
            found = found.mean()
            found.backward()
        else:
            found.backward(torch.ones_like(found))
        return found.detach(), inputs[0].grad

    calls = [functools.partial(step, tensors(x, a, c)) for x, a, c, _ in data]
    return calls, lambda: _pair(
        calls[0](), lambda r: r.float().cpu().numpy() if r.dtype is torch.float16 else r.cpu().numpy()
    )


def _jax(cp: Any, work: str, data: Any) -> Made:
    import jax
    import jax.numpy as jnp

    if jax.default_backend() != "gpu":
        raise ImportError("JAX without a GPU")
    jax.config.update("jax_enable_x64", data[0][0].dtype == np.float64)

    def value(x: Any, a: Any, c: Any) -> Any:
        b = abs(a - 2)
        return b / a * (((x / c) ** 2 / b + 1) ** (a / 2) - 1)

    if work == "loss":
        function = jax.jit(value)
    elif "mean" in work:
        function = jax.jit(jax.value_and_grad(lambda *v: value(*v).mean(), (0, 1, 2)))
    else:

        def all_of(x: Any, a: Any, c: Any) -> Any:
            found, back = jax.vjp(value, x, a, c)
            return found, back(jnp.ones_like(found))

        function = jax.jit(all_of)
    inputs = [
        [jnp.asarray(v.get()) if isinstance(v, cp.ndarray) else jnp.asarray(v, x.dtype) for v in (x, a, c)]
        for x, a, c, _ in data
    ]  # fmt: skip
    calls = [functools.partial(lambda v: jax.block_until_ready(function(*v)), v) for v in inputs]

    def result() -> Any:
        found = calls[0]()
        return (np.asarray(found), 0.0) if work == "loss" else (np.asarray(found[0]), np.asarray(found[1][0]))

    return calls, result


RIVALS: dict[str, Callable[..., Made]] = {
    "CuPy": _cupy,
    "cupy.fuse": _fuse,
    "torch eager": functools.partial(_torch, compiled=False),
    "torch.compile": functools.partial(_torch, compiled=True),
    "jax.jit": _jax,
}


def launches(cp: Any) -> list[dict[str, Any]]:
    """Seconds that Python needs for a call on ten elements, without waiting for the GPU."""
    x = cp.linspace(-3, 3, 10, dtype=np.float32)
    out = tuple(cp.empty_like(x) for _ in range(4))
    calls = {
        "call: cupy.add": lambda: cp.add(x, x, out=out[0]),
        "call: loss": lambda: fr.loss(x, ALPHA, SCALE, out=out[0]),
        "call: loss_and_grad": lambda: fr.loss_and_grad(x, ALPHA, SCALE, out=out),
        "call: loss_and_grad mean": lambda: fr.loss_and_grad(x, ALPHA, SCALE, reduction="mean"),
    }
    rows = []
    for work, call in calls.items():
        for _ in range(100):
            call()
        times = []
        for _ in range(20):
            cp.cuda.Device().synchronize()
            start = time.perf_counter()
            for _ in range(100):
                call()
            times.append((time.perf_counter() - start) / 100)
        print(f"{work}: {statistics.median(times) * 1e6:.1f} us")
        rows.append({"work": work, "rival": "fastrobust", "size": 10, "median_s": statistics.median(times)})
    return rows


if __name__ == "__main__":
    main()
