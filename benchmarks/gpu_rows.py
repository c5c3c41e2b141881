"""Cross-entropy on a GPU, mean and gradient, beside PyTorch's: a part of ``python -m benchmarks.gpu``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastrobust import losses

__all__ = ["CLASSES", "measurements"]

CLASSES = 100, 1000, 32_768
Time = Callable[[Any, list[Callable[[], Any]], int], float]  # of calls that take turns


def measurements(cp: Any, sizes: list[int], samples: int, seconds: Time, rivals: bool) -> Iterator[dict[str, Any]]:
    """One row for each number of classes, dtype, size and rival."""
    for size in sizes:
        for classes in CLASSES:
            for dtype in ("float32", "float64"):
                if size >= 16 * classes:
                    yield from _measured(cp, size // classes, classes, dtype, samples, seconds, rivals)


def _measured(
    cp: Any, count: int, classes: int, dtype: str, samples: int, seconds: Time, rivals: bool
) -> Iterator[dict[str, Any]]:
    """Ours, then PyTorch's, which is checked against the former."""
    rng = np.random.default_rng(7)
    x = cp.asarray(rng.standard_normal((count, classes), np.float32).astype(dtype))
    target = cp.asarray(rng.integers(0, classes, count))
    common = {
        "work": f"cross-entropy {classes} mean", "dtype": dtype, "parameters": "", "size": count * classes,
        "bytes": 2 * x.nbytes + target.nbytes, "samples": samples,
    }  # fmt: skip

    def ours() -> Any:
        return losses.cross_entropy.value_and_grad(x, target, reduction="mean")

    few = slice(0, min(count, 1 + 100_000 // classes))
    host = losses.cross_entropy.value_and_grad(x[few].get().astype(np.float64), target[few].get(), reduction="sum")
    largest = np.abs(host.dx).max()

    def error(dx: Any) -> float:
        return float(np.abs(dx[few].get().astype(np.float64) * count - host.dx).max() / largest)

    yield common | {"rival": "fastrobust", "error": f"{error(ours().dx):.1e}", "median_s": seconds(cp, [ours], samples)}
    if not rivals:
        return
    try:
        import torch
    except ImportError:
        return
    leaf, index = torch.from_dlpack(x).clone().requires_grad_(), torch.from_dlpack(target)

    def step(function: Callable[..., Any]) -> Any:
        leaf.grad = None
        function(leaf, index).backward()
        return leaf.grad

    theirs = torch.nn.functional.cross_entropy
    of_tensors: Any = losses.cross_entropy
    for name, function in (
        ("fastrobust in PyTorch", lambda x, index: of_tensors(x, index, reduction="mean")),
        ("torch eager", theirs),
        ("torch.compile", torch.compile(theirs)),
    ):
        wrong = error(cp.from_dlpack(step(function)))
        time = seconds(cp, [lambda function=function: step(function)], samples)  # type: ignore[misc]
        yield common | {"rival": name, "error": f"{wrong:.1e}", "median_s": time}
