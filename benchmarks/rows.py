"""Cross-entropy, value and gradient, against PyTorch and JAX: ``python -m benchmarks.rows``."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from fastrobust import losses

from .measure import PACKAGES, RESULTS, agreeing, compared, copies, environment, write_csv
from .rivals import CORES

OURS = "fastrobust"
CLASSES = (10, 100, 1024, 32_768)
COLUMNS = [
    *("classes", "samples_of_data", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust"),
    *("ns_per_element", "bytes", "floor_s", "relative_error", "date", "cpu", "cores", "memory_gib", "os", "python"),
    *(*PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
The mean cross-entropy of logits and class indices with its gradient, float32, on all cores: ours on NumPy arrays, into
memory that is used again, and on tensors; PyTorch's, torch.compile of that, and JAX's (jit of value_and_grad of
log_softmax).  Beside each the time that a copy takes of the bytes that must move: logits read, a gradient written.
"""
Call = Callable[[], Any]
Made = tuple[Call, Callable[[Any], list[Any]]]  # a call, and the value and the gradient in what it returns


def _ours(x: Any, target: Any) -> Made:
    memory = np.zeros_like(x)
    return (
        lambda: losses.cross_entropy.value_and_grad(x, target, reduction="mean", out=memory),
        lambda result: [result.value, result.dx],
    )


def _in_torch(loss: Callable[[Any, Any], Any], x: Any, target: Any) -> Made:
    import torch

    torch.set_num_threads(CORES)
    logits, classes = torch.from_numpy(x).clone().requires_grad_(), torch.from_numpy(target)

    def call() -> Any:
        value = loss(logits, classes)
        return value, *torch.autograd.grad(value, logits)

    return call, lambda result: [part.detach().numpy() for part in result]


def _ours_in_torch(x: Any, target: Any) -> Made:
    return _in_torch(lambda x, t: losses.cross_entropy(x, t, reduction="mean"), x, target)


def _torch(x: Any, target: Any) -> Made:
    import torch

    return _in_torch(torch.nn.functional.cross_entropy, x, target)


def _compiled(x: Any, target: Any) -> Made:
    import torch

    torch._dynamo.reset()
    loss = torch.nn.functional.cross_entropy
    return _in_torch(torch.compile(lambda x, t: loss(x, t), dynamic=False), x, target)


def _jax(x: Any, target: Any) -> Made:
    import jax
    import jax.numpy as jnp

    def loss(x: Any, t: Any) -> Any:
        return -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()

    function, given = jax.jit(jax.value_and_grad(loss)), (jax.device_put(x), jax.device_put(target))
    return lambda: jax.block_until_ready(function(*given)), lambda result: [np.asarray(part) for part in result]


WHO: dict[str, Callable[[Any, Any], Made]] = {
    OURS: _ours,
    "fastrobust in PyTorch": _ours_in_torch,
    "PyTorch": _torch,
    "torch.compile": _compiled,
    "jax.jit": _jax,
}


def measured(classes: int, size: int, samples: int) -> list[dict[str, Any]]:
    """A row for each who computes it."""
    rng, rows = np.random.default_rng(6), size // classes
    x = 3 * rng.standard_normal((rows, classes), np.float32)
    target = rng.integers(0, classes, rows)
    truth = losses.cross_entropy.value_and_grad(x.astype(np.float64), target, reduction="mean")
    makers = {who: functools.partial(make, x, target) for who, make in WHO.items()}
    calls, errors = agreeing(makers, [truth.value, truth.dx], f"{classes} classes")
    traffic = 8 * x.size
    return [
        {
            "classes": classes, "samples_of_data": rows, "who": who, **columns, "bytes": traffic,
            "ns_per_element": f"{float(columns['median_s']) / x.size * 1e9:.3g}",
            "relative_error": errors[who],
        }
        for who, columns in compared(calls, copies(traffic), OURS, samples).items()
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rows", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1 << 22, help="logits (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=9, help="of each time, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / "rows.csv", metavar="FILE", help="where rows go")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # one library's idle threads take no core from the next
    console, rows = Console(width=110), []
    for classes in track(CLASSES, description="measuring", console=console):
        for row in measured(classes, chosen.size, chosen.samples):
            floor = float(row["median_s"]) / float(row["floor_s"])
            beside = f"{row['ns_per_element']:>6} ns, {row['times_fastrobust']:>5} of ours, {floor:5.2f} of a copy"
            console.print(f"{classes:6} classes  {row['who']:22} {beside}")
            rows.append(row)
    same = environment()
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
