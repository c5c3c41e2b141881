"""Barron's loss at numbers alpha with a closed form: ``python -m benchmarks.shapes`` from the repository's root."""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import fastrobust as fr

from .measure import PACKAGES, RESULTS, agreeing, compared, copies, environment, write_csv
from .rivals import CORES

OURS = "fastrobust"
SCALE = 0.9
WORKS = ("value", "value and d/dx")
COLUMNS = [
    *("alpha", "work", "size", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust", "ns_per_element"),
    *("bytes", "floor_s", "relative_error", "date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES),
    *("fastrobust", "commit"),
]
DESCRIPTION = """\
The loss at a number alpha with a closed form, float32, for each element: ours, into memory that is used again, and the
closed form as one writes it, in PyTorch (torch.compile; the value also into memory that is used again), JAX (jit) and
numexpr.  Beside each the time that a copy of the bytes takes that must move.
"""

Call = Callable[[], Any]
# The formulas of z as one writes them, of a module's functions; numexpr has them as text.
FORMS: dict[float, Callable[[Any, Any], Any]] = {
    2.0: lambda xp, z: 0.5 * z**2,
    1.0: lambda xp, z: xp.sqrt(z**2 + 1) - 1,
    0.0: lambda xp, z: xp.log1p(0.5 * z**2),
    -2.0: lambda xp, z: 2 * z**2 / (z**2 + 4),
    -math.inf: lambda xp, z: 1 - xp.exp(-0.5 * z**2),
}
TEXTS = {
    2.0: "(x*x/(c*c))/2",
    1.0: "sqrt(x*x/(c*c)+1)-1",
    0.0: "log1p(x*x/(c*c)/2)",
    -2.0: "2*(x*x/(c*c))/(x*x/(c*c)+4)",
    -math.inf: "1-exp(-(x*x/(c*c))/2)",
}


def _ours(alpha: float, work: str, x: Any) -> tuple[Call, Callable[[Any], list[Any]]]:
    value, slope = np.zeros_like(x), np.zeros_like(x)
    if work == "value":
        return lambda: fr.loss(x, alpha, SCALE, out=value), lambda result: [result]
    out = (value, slope, None, None)
    return lambda: fr.loss_and_grad(x, alpha, SCALE, wrt=("x",), out=out), lambda result: [result.value, result.dx]


def _torch(alpha: float, work: str, x: Any) -> tuple[Call, Callable[[Any], list[Any]]]:
    import torch

    torch._dynamo.reset()
    torch.set_num_threads(CORES)
    tensor = torch.from_numpy(x)
    function = torch.compile(lambda x: FORMS[alpha](torch, x / SCALE), dynamic=False)
    if work == "value":
        return lambda: function(tensor), lambda result: [result.numpy()]
    tensor, ones = tensor.clone().requires_grad_(), torch.ones_like(tensor)

    def call() -> Any:
        value = function(tensor)
        return value, *torch.autograd.grad(value, tensor, ones)

    return call, lambda result: [part.detach().numpy() for part in result]


def _torch_into(alpha: float, work: str, x: Any) -> tuple[Call, Callable[[Any], list[Any]]]:
    import torch

    torch.set_num_threads(CORES)
    tensor, out = torch.from_numpy(x), torch.zeros(x.shape)
    function = torch.compile(lambda x, out: out.copy_(FORMS[alpha](torch, x / SCALE)), dynamic=False)
    return lambda: function(tensor, out), lambda result: [result.numpy()]


def _jax(alpha: float, work: str, x: Any) -> tuple[Call, Callable[[Any], list[Any]]]:
    import jax
    import jax.numpy as jnp

    given = jax.device_put(x)

    def both(x: Any) -> Any:
        value, back = jax.vjp(lambda x: FORMS[alpha](jnp, x / np.float32(SCALE)), x)
        return value, *back(jnp.ones_like(x))

    function = jax.jit(both if work != "value" else lambda x: (FORMS[alpha](jnp, x / np.float32(SCALE)),))
    return lambda: jax.block_until_ready(function(given)), lambda result: [np.asarray(part) for part in result]


def _numexpr(alpha: float, work: str, x: Any) -> tuple[Call, Callable[[Any], list[Any]]]:
    import numexpr

    numexpr.set_num_threads(CORES)
    given, out = {"x": x, "c": np.float32(SCALE)}, np.zeros_like(x)
    return lambda: numexpr.evaluate(TEXTS[alpha], given, out=out, casting="same_kind"), lambda result: [result]


VALUE_ONLY = "torch.compile, memory reused", "numexpr"
WHO: dict[str, Callable[[float, str, Any], Any]] = {
    OURS: _ours,
    "torch.compile": _torch,
    "torch.compile, memory reused": _torch_into,
    "jax.jit": _jax,
    "numexpr": _numexpr,
}


def measured(alpha: float, work: str, size: int, samples: int) -> list[dict[str, Any]]:
    """A row for each who computes it."""
    x = 2 * np.random.default_rng(5).standard_normal(size, np.float32)
    traffic = 4 * size * (2 + (work != "value"))
    truth = fr.loss_and_grad(x.astype(np.float64), alpha, SCALE, wrt=("x",))
    makers = {
        who: functools.partial(make, alpha, work, x)
        for who, make in WHO.items()
        if work == "value" or who not in VALUE_ONLY
    }
    calls, errors = agreeing(makers, truth[:1] if work == "value" else truth[:2], f"alpha {alpha}")
    same = {"alpha": alpha, "work": work, "size": size, "bytes": traffic}
    return [
        {
            **same, "who": who, **columns, "ns_per_element": f"{float(columns['median_s']) / size * 1e9:.3g}",
            "relative_error": errors[who],
        }
        for who, columns in compared(calls, copies(traffic), OURS, samples).items()
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.shapes", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=10**7, help="elements (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=9, help="of each, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / "shapes.csv", metavar="FILE", help="where rows go")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # one library's idle threads take no core from the next
    console, rows = Console(width=110), []
    cases = [(alpha, work) for work in WORKS for alpha in FORMS]
    for alpha, work in track(cases, description="measuring", console=console):
        for row in measured(alpha, work, chosen.size, chosen.samples):
            beside = f"{row['ns_per_element']:>6} ns, {row['times_fastrobust']:>5} of ours"
            floor = float(row["median_s"]) / float(row["floor_s"])
            console.print(f"alpha {alpha:4} {work:15} {row['who']:28} {beside}, {floor:6.2f} of a copy")
            rows.append(row)
    same = environment()
    write_csv(chosen.output, COLUMNS, [row | same for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
