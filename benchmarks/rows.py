"""Losses of rows and of sums, value and gradient, against PyTorch and JAX: ``python -m benchmarks.rows``."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

from fastrobust import losses

from .measure import PACKAGES, RESULTS, agreeing, compared, copies, environment, write_csv
from .rivals import CORES

OURS = "fastrobust"
COLUMNS = [
    *("work", "elements", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust"),
    *("ns_per_element", "bytes", "floor_s", "relative_error", "date", "cpu", "cores", "memory_gib", "os", "python"),
    *(*PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
The mean of a loss with its gradient, float32, on all cores: ours on NumPy arrays and on tensors, PyTorch's own, or what
a user writes where it has none, torch.compile of that, and jax.jit of value_and_grad of what a user writes.
Cross-entropy of class indices, and Dice's loss of the logits of an image and its mask, ours on arrays into memory that
is used again; the triplet loss of embeddings of 256 numbers.  Beside each the time that a copy takes of the bytes that
must move: data read, gradients written.
"""
Call = Callable[[], Any]
Made = tuple[Call, Callable[[Any], list[Any]]]  # a call, and the value and the gradients in what it returns
Loss = Callable[..., Any]


class Work(NamedTuple):
    """A loss of some data: by us and by others, of which each has the value and the derivatives in the first data."""

    name: str
    data: tuple[Any, ...]
    derived: int  # in how many of the data derivatives are wanted
    ours: Loss  # of arrays: with all derivatives that are wanted
    in_library: Loss  # ours, of tensors
    in_torch: Loss
    in_jax: Loss

    @property
    def elements(self) -> int:
        """Of the first of the data."""
        return int(self.data[0].size)

    @property
    def traffic(self) -> int:
        """The bytes that must move."""
        return int(sum(a.nbytes for a in self.data) + sum(a.nbytes for a in self.data[: self.derived]))


def _entropy(classes: int, size: int) -> Work:
    """Cross-entropy of class indices."""
    rng, rows = np.random.default_rng(6), size // classes
    x = 3 * rng.standard_normal((rows, classes), np.float32)
    memory = np.zeros_like(x)

    def ours(x: Any, target: Any) -> Any:
        out = memory if x.dtype == memory.dtype else None
        return losses.cross_entropy.value_and_grad(x, target, reduction="mean", out=out)[:2]

    def in_torch(x: Any, target: Any) -> Any:
        import torch

        return torch.nn.functional.cross_entropy(x, target)

    def in_jax(x: Any, target: Any) -> Any:
        import jax
        import jax.numpy as jnp

        return -jnp.take_along_axis(jax.nn.log_softmax(x), target[:, None], 1).mean()

    target = rng.integers(0, classes, rows)
    by_us = functools.partial(losses.cross_entropy, reduction="mean")
    return Work(f"cross-entropy, {classes} classes", (x, target), 1, ours, by_us, in_torch, in_jax)


def _dice(size: int) -> Work:
    """Dice's loss of logits."""
    rng, side = np.random.default_rng(7), int(np.sqrt(size))
    x = 3 * rng.standard_normal((side, side), np.float32)
    mask = (rng.random((side, side)) < 0.3).astype(np.float32)

    def by_hand(sigmoid: Callable[[Any], Any], x: Any, mask: Any) -> Any:
        p = sigmoid(x)
        return 1 - 2 * (p * mask).sum() / (p.sum() + mask.sum())

    def in_torch(x: Any, mask: Any) -> Any:
        return by_hand(lambda x: x.sigmoid(), x, mask)

    def in_jax(x: Any, mask: Any) -> Any:
        import jax

        return by_hand(jax.nn.sigmoid, x, mask)

    memory = np.zeros_like(x)

    def ours(x: Any, mask: Any) -> Any:
        out = memory if x.dtype == memory.dtype else None
        return losses.dice_logits.value_and_grad(x, mask, wrt=("x",), out=out)[:2]

    return Work(f"Dice, {side} x {side}", (x, mask), 1, ours, losses.dice_logits, in_torch, in_jax)


def _triplet(size: int) -> Work:
    """The triplet loss of Euclidean distances."""
    data = tuple(np.random.default_rng(8).standard_normal((3, size // 256, 256), np.float32))

    def ours(*rows: Any) -> Any:
        return losses.triplet.value_and_grad(*rows, reduction="mean", wrt=("anchor", "positive", "negative"))[:4]

    def in_torch(*rows: Any) -> Any:
        import torch

        return torch.nn.functional.triplet_margin_loss(*rows)

    def in_jax(anchor: Any, positive: Any, negative: Any) -> Any:
        import jax.numpy as jnp

        near, far = (jnp.linalg.norm(anchor - other, axis=1) for other in (positive, negative))
        return jnp.maximum(near - far + 1, 0).mean()

    by_us = functools.partial(losses.triplet, reduction="mean")
    return Work("triplet, 256 numbers", data, 3, ours, by_us, in_torch, in_jax)


def _by_us(work: Work) -> Made:
    return lambda: work.ours(*work.data), list


def _in_torch(loss: Loss, work: Work) -> Made:
    import torch

    torch.set_num_threads(CORES)
    tensors = [torch.from_numpy(array).clone() for array in work.data]
    wanted = [tensor.requires_grad_() for tensor in tensors[: work.derived]]

    def call() -> Any:
        value = loss(*tensors)
        return value, *torch.autograd.grad(value, wanted)

    return call, lambda result: [part.detach().numpy() for part in result]


def _compiled(work: Work) -> Made:
    import torch

    torch._dynamo.reset()
    loss = work.in_torch
    return _in_torch(torch.compile(lambda *tensors: loss(*tensors), dynamic=False), work)


def _jax(work: Work) -> Made:
    import jax

    function = jax.jit(jax.value_and_grad(work.in_jax, argnums=tuple(range(work.derived))))
    given = [jax.device_put(array) for array in work.data]

    def arrays(result: Any) -> list[Any]:
        value, slopes = result
        return [np.asarray(value), *map(np.asarray, slopes)]

    return lambda: jax.block_until_ready(function(*given)), arrays


WHO: dict[str, Callable[[Work], Made]] = {
    OURS: _by_us,
    "fastrobust in PyTorch": lambda work: _in_torch(work.in_library, work),
    "PyTorch": lambda work: _in_torch(work.in_torch, work),
    "torch.compile": _compiled,
    "jax.jit": _jax,
}


def measured(work: Work, samples: int) -> list[dict[str, Any]]:
    """A row for each who computes it."""
    wide = [array.astype(np.float64) if array.dtype == np.float32 else array for array in work.data]
    truth = [np.asarray(part) for part in work.ours(*wide)]
    makers = {who: functools.partial(make, work) for who, make in WHO.items()}
    calls, errors = agreeing(makers, truth, work.name)
    return [
        {
            "work": work.name, "elements": work.elements, "who": who, **columns, "bytes": work.traffic,
            "ns_per_element": f"{float(columns['median_s']) / work.elements * 1e9:.3g}",
            "relative_error": errors[who],
        }
        for who, columns in compared(calls, copies(work.traffic), OURS, samples).items()
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.rows", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=1 << 22, help="elements, four times for Dice (default: %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=9, help="of each time, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / "rows.csv", metavar="FILE", help="where rows go")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # one library's idle threads take no core from the next
    makers: list[Callable[[], Work]] = [
        *(functools.partial(_entropy, classes, chosen.size) for classes in (10, 100, 1024, 32_768)),
        functools.partial(_dice, 4 * chosen.size),
        functools.partial(_triplet, 4 * chosen.size),
    ]
    console, rows = Console(width=110), []
    for make in track(makers, description="measuring", console=console):
        for row in measured(make(), chosen.samples):
            floor = float(row["median_s"]) / float(row["floor_s"])
            beside = f"{row['ns_per_element']:>6} ns, {row['times_fastrobust']:>5} of ours, {floor:5.2f} of a copy"
            console.print(f"{row['work']:28} {row['who']:22} {beside}")
            rows.append(row)
    same = environment()
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
