"""Time of calls in JAX, under jit: ``python -m benchmarks.jax_calls`` from the repository's root."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastrobust.jax as frj

from .measure import PACKAGES, copies, environment, interleaved, options, quartiles, write_csv
from .rivals import plain

SIZES = (10, 1000, 100_000, 1_000_000, 10_000_000)
# What moves, in bytes an element of float32: inputs read once, results written once.
TRAFFIC = {"value": 8, "value_and_grad of the mean": 8, "hessian-vector product": 12}
OURS, PLAIN = "fastrobust", "plain formula"
COLUMNS = [
    *("work", "device", "size", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust", "floor_s"),
    *("relative_error", "gpu", "date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
The loss under jax.jit, float32, alpha and scale one number each: the value of each element; value_and_grad of the mean
in x, alpha and scale; and the product of the mean's Hessian in x with a vector. Against the plain formula (eq. 8, the
special cases by where), which XLA compiles, and beside the time that a copy of the same bytes takes.
"""


def works(loss: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """What is measured, of (x, v, alpha, scale)."""

    def mean(x: Any, alpha: Any, scale: Any) -> Any:
        return loss(x, alpha, scale, reduction="mean")

    def product(x: Any, v: Any, alpha: Any, scale: Any) -> Any:
        return jax.jvp(lambda x: jax.grad(mean)(x, alpha, scale), (x,), (v,))[1]

    def value(x: Any, v: Any, alpha: Any, scale: Any) -> Any:
        return loss(x, alpha, scale)

    def gradient(x: Any, v: Any, alpha: Any, scale: Any) -> Any:
        return jax.value_and_grad(mean, (0, 1, 2))(x, alpha, scale)

    return dict(zip(TRAFFIC, (value, gradient, product), strict=True))


def plain_loss(x: Any, alpha: Any, scale: Any, reduction: str = "none") -> Any:
    """The plain formula with the signature of ours."""
    value = plain(jnp, x, alpha, scale)
    return value.mean() if reduction == "mean" else value


def measured(device: Any, work: str, size: int, samples: int) -> list[dict[str, Any]]:
    """A row for each who computes it."""
    rng = np.random.default_rng(0)
    put = functools.partial(jax.device_put, device=device)
    x, v = (put(rng.standard_normal(size).astype(np.float32)) for _ in range(2))
    args = x, v, put(np.float32(0.7)), put(np.float32(1.3))
    functions = {OURS: jax.jit(works(frj.loss)[work]), PLAIN: jax.jit(works(plain_loss)[work])}
    found = {name: jax.tree.leaves(function(*args)) for name, function in functions.items()}
    error = max(
        float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b))) for a, b in zip(*found.values(), strict=True)
    )
    if not error < 1e-3:
        raise SystemExit(f"{work}, {size} elements: the two differ by {error:.1e}")
    calls: dict[str, Callable[[], Any]] = {
        name: lambda function=function: jax.block_until_ready(function(*args))  # type: ignore[misc]
        for name, function in functions.items()
    }
    floors = copies(TRAFFIC[work] * size) if device.platform == "cpu" else {}
    times = interleaved(calls | floors, {}, {}, samples, 2e-3)
    ours = float(np.median(times[OURS]))
    floor = f"{min(float(np.median(times[f])) for f in floors):.4g}" if floors else ""
    return [
        {
            "work": work, "device": device.platform, "size": size, "who": name, **quartiles(times[name]),
            "times_fastrobust": f"{float(np.median(times[name])) / ours:.3g}", "floor_s": floor,
            "relative_error": f"{error:.1e}",
        }
        for name in calls
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    chosen = options("jax_calls", DESCRIPTION, 15, "jax.csv", arguments)
    console, rows = Console(), []
    if frj.backend() != "ffi":
        console.print("The kernels are not in use here, only XLA's operations: jax.ffi has changed, or is missing.")
    gpus = [d for d in jax.devices() if d.platform != "cpu"][:1]
    cases = [(d, work, n) for d in (jax.devices("cpu")[0], *gpus) for work in TRAFFIC for n in SIZES]
    for device, work, size in track(cases, description="measuring", console=console):
        rows += measured(device, work, size, chosen.samples)
        time.sleep(0.1)
    same = {**environment(), "gpu": gpus[0].device_kind if gpus else ""}
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    table = Table("work", "device", "elements", "who", "time", "x fastrobust", "floor")
    for row in rows:
        floor = f"{float(row['floor_s']) * 1e6:,.1f} us" if row["floor_s"] else ""
        labels = row["work"], row["device"], f"{row['size']:,}", row["who"], f"{float(row['median_s']) * 1e6:,.1f} us"
        table.add_row(*labels, row["times_fastrobust"], floor)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
