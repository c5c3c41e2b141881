"""Time and memory of a training step in PyTorch: ``python -m benchmarks.torch_step`` from the repository's root."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import fastrobust as fr
import fastrobust.torch as frt
from fastrobust.compat.robust_loss_pytorch import cubic_spline, distribution, util

from .measure import PACKAGES, environment, interleaved, options, quartiles, write_csv

SIZES = (1, 1000, 1_000_000)
FEATURES = (1, 50)  # one alpha and one scale, or as many as columns
FLOOR = "torch x.mean()"
COLUMNS = [
    *("module", "device", "features", "size", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust", "saved_bytes"),
    *("relative_error", "gpu", "date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
One step of learning: residuals that require a gradient, the mean negative log-likelihood with learned alpha and scale,
backward to all of them; and the bytes that autograd keeps in between.

Against the plain formula with a spline for log Z, that compiled, and, if ROBUST_LOSS_PYTORCH names a checkout of
Barron's package, that. `torch x.mean()` is what PyTorch takes for a step of nearly nothing.
"""


class Plain(torch.nn.Module):
    """The formula as it is usually written, with a cubic spline for log Z."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.latent_alpha = torch.nn.Parameter(torch.zeros(1, features))
        self.latent_scale = torch.nn.Parameter(torch.zeros(1, features))
        knots = torch.arange(0, 12, 1 / 1024, dtype=torch.float64)
        alpha = distribution.inv_partition_spline_curve(knots)
        values, slopes = fr.log_partition_and_grad(alpha)
        step = torch.autograd.functional.jvp(distribution.inv_partition_spline_curve, knots, torch.ones_like(knots))[1]
        tangents = torch.nan_to_num(slopes * step / 1024)
        self.register_buffer("values", values.float(), persistent=False)
        self.register_buffer("tangents", tangents.float(), persistent=False)

    def forward(self, x: Any) -> Any:
        alpha = 0.001 + 1.998 * torch.sigmoid(self.latent_alpha)
        scale = util.affine_softplus(self.latent_scale, 1e-5, 1.0)
        b = (alpha - 2).abs()
        rho = b / alpha * (((x / scale) ** 2 / b + 1) ** (0.5 * alpha) - 1)
        log_z = cubic_spline.interpolate1d(
            1024 * distribution.partition_spline_curve(alpha), self.values, self.tangents
        )
        return (rho + torch.log(scale) + log_z).mean()


class Reference(torch.nn.Module):
    """Barron's package, from the checkout that ROBUST_LOSS_PYTORCH names."""

    def __init__(self, features: int) -> None:
        super().__init__()
        sys.path.insert(0, os.environ["ROBUST_LOSS_PYTORCH"])
        try:
            from robust_loss_pytorch import adaptive
        finally:
            del sys.path[0]
        self.loss = adaptive.AdaptiveLossFunction(features, np.float32, "cpu")

    def forward(self, x: Any) -> Any:
        return self.loss.lossfun(x).mean()


def modules(features: int) -> dict[str, Callable[[], Callable[[Any], Any]]]:
    """Who takes part."""
    found: dict[str, Callable[[], Callable[[Any], Any]]] = {
        "fastrobust": lambda: frt.AdaptiveLoss(features),
        "plain formula": lambda: Plain(features),
        "torch.compile": lambda: torch.compile(Plain(features), dynamic=False),
        FLOOR: lambda: lambda x: x.mean(),
    }
    if "ROBUST_LOSS_PYTORCH" in os.environ:
        found["reference package"] = lambda: Reference(features)
    return found


def parameters(module: Any) -> list[Any]:
    return list(module.parameters()) if isinstance(module, torch.nn.Module) else []


def step(module: Any, x: Any, held: list[Any], device: str) -> None:
    """One step, with gradients in fresh memory, as after zero_grad()."""
    for tensor in held:
        tensor.grad = None
    module(x).backward()
    if device != "cpu":
        torch.cuda.synchronize()


def saved(module: Any, x: Any) -> int:
    """Bytes that autograd keeps between forward and backward, each storage once, parameters aside."""
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in parameters(module)}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(x)
    return sum(kept.values())


def measured(device: str, features: int, size: int, samples: int) -> list[dict[str, Any]]:
    """A row for each module."""
    rows, calls, built = [], {}, {}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(max(1, size // features), features, generator=generator).to(device).requires_grad_()
    truth: Any = None
    for name, make in modules(features).items():
        torch._dynamo.reset()
        module = make()
        if isinstance(module, torch.nn.Module):
            module = module.to(device)
        held = [x, *parameters(module)]
        step(module, x, held, device)
        error = 0.0
        if name != FLOOR:
            if truth is None:
                truth = x.grad.clone()
            error = float((x.grad - truth).abs().max() / truth.abs().max())
            if not error < 1e-3:
                raise SystemExit(f"{name}: gradients differ from fastrobust's by {error:.1e}")
        built[name] = (saved(module, x), error)
        calls[name] = functools.partial(step, module, x, held, device)
    times = interleaved(calls, {}, {}, samples, 2e-3)
    ours = float(np.median(times["fastrobust"]))
    for name, (kept, error) in built.items():
        rows.append(
            {
                "module": name, "device": device, "features": features, "size": x.numel(), **quartiles(times[name]),
                "times_fastrobust": f"{float(np.median(times[name])) / ours:.3g}", "saved_bytes": kept,
                "relative_error": f"{error:.1e}",
            }
        )  # fmt: skip
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    chosen = options("torch_step", DESCRIPTION, 15, "torch.csv", arguments)
    console, rows = Console(), []
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    cases = [(d, f, n) for d in devices for f in FEATURES for n in SIZES if n >= f]
    for device, features, size in track(cases, description="measuring", console=console):
        rows += measured(device, features, size, chosen.samples)
        time.sleep(0.1)
    same = {**environment(), "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else ""}
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    table = Table("device", "features", "residuals", "module", "step", "x fastrobust", "kept bytes")
    for row in rows:
        time_us = f"{float(row['median_s']) * 1e6:,.0f} us"
        labels = row["device"], str(row["features"]), f"{row['size']:,}", row["module"], time_us
        table.add_row(*labels, row["times_fastrobust"], f"{row['saved_bytes']:,}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
