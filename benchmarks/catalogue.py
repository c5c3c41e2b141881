"""Losses of the catalogue, and one of a user's: ``python -m benchmarks.catalogue`` from the repository's root."""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track

import fastrobust as fr
from fastrobust import losses
from fastrobust.math import sqrt, where

from .measure import PACKAGES, RESULTS, agreeing, compared, copies, environment, write_csv

OURS = "fastrobust"
COLUMNS = [
    *("loss", "device", "size", "who", "median_s", "q1_s", "q3_s", "samples", "times_fastrobust", "bytes", "floor_s"),
    *("relative_error", "gpu", "date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES, "fastrobust", "commit"),
]
DESCRIPTION = """\
The mean of a loss over float32 numbers with its derivatives in x and in the parameters, which are numbers: ours in one
pass, and the formula as it is written in PyTorch (torch.compile, forward and backward) and JAX (jit of
value_and_grad).  Beside each the time that a copy of the bytes takes that must move: data read once, d/dx written once.
"""


@fr.define(params=("c", "tau"))
def asymmetric(x: Any, c: Any = 1.0, tau: Any = 0.5) -> Any:
    """Pseudo-Huber with sides that count differently, as a user writes it."""
    z = x / c
    return where(x > 0, tau, 1 - tau) * c * c * (sqrt(1 + z * z) - 1)


@asymmetric.derivative("c")
def _asymmetric_slope(x: Any, c: Any, tau: Any) -> Any:
    z = x / c
    rest = sqrt(1 + z * z) - 1
    return where(x > 0, tau, 1 - tau) * c * (rest * (rest / (1 + rest)))


class Case(NamedTuple):
    """A loss, and how one writes it in an array library."""

    loss: losses.Loss
    formula: Callable[..., Any]  # of the library's module, the data, the parameters
    parameters: dict[str, float]
    target: str = ""  # of what kind the second operand is: "label", "number", or none


def _huber(xp: Any, x: Any, delta: Any) -> Any:
    size = abs(x)
    return xp.where(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))


def _entropy(xp: Any, x: Any, t: Any, weight: Any) -> Any:
    rest = xp.log1p(xp.exp(-abs(x)))
    return weight * t * (xp.clip(-x, 0) + rest) + (1 - t) * (xp.clip(x, 0) + rest)


def _focal(xp: Any, x: Any, t: Any, gamma: Any) -> Any:
    p = 1 / (1 + xp.exp(-x))
    return (1 - (p * t + (1 - p) * (1 - t))) ** gamma * _entropy(xp, x, t, 1.0)


def _quantile(xp: Any, x: Any, t: Any, q: Any) -> Any:
    e = t - x
    return xp.maximum(q * e, (q - 1) * e)


def _asymmetric(xp: Any, x: Any, c: Any, tau: Any) -> Any:
    z = x / c
    return xp.where(x > 0, tau, 1 - tau) * c * c * (xp.sqrt(1 + z * z) - 1)


def _student(xp: Any, x: Any, nu: Any, sigma: Any) -> Any:
    z = x / sigma
    if hasattr(xp, "lgamma"):
        log_gamma = xp.lgamma
    else:
        from jax.scipy.special import gammaln as log_gamma
    normalization = log_gamma(nu / 2) - log_gamma((nu + 1) / 2) + xp.log(nu * math.pi) / 2
    return (nu + 1) / 2 * xp.log1p(z * z / nu) + xp.log(sigma) + normalization


CASES = {
    "mse": Case(losses.mse, lambda xp, x: x * x, {}),
    "huber": Case(losses.huber, _huber, {"delta": 1.3}),
    "quantile": Case(losses.quantile, _quantile, {"q": 0.3}, "number"),
    "bce_logits": Case(losses.bce_logits, _entropy, {"pos_weight": 2.0}, "label"),
    "focal_logits": Case(losses.focal_logits, _focal, {"gamma": 2.0}, "label"),
    "student_t": Case(losses.student_t, _student, {"nu": 4.0, "sigma": 1.3}),
    "a user's": Case(asymmetric, _asymmetric, {"c": 1.3, "tau": 0.3}),
}

Called = tuple[Callable[[], Any], Callable[[Any], list[Any]]]  # a call, and its results as NumPy arrays


def _ours(case: Case, data: list[Any], device: str) -> Called:
    if device != "cpu":
        import torch

        data = [torch.from_numpy(part).to(device) for part in data]
    wrt = ("x", *case.parameters)
    names = ["value", *("d" + name for name in wrt)]

    def call() -> Any:
        return case.loss.value_and_grad(*data, **case.parameters, wrt=wrt, reduction="mean", **out)

    def arrays(result: Any) -> list[Any]:
        found = [getattr(result, name) for name in names]
        return [np.asarray(part.cpu() if hasattr(part, "cpu") else part) for part in found]

    out = {}
    if device == "cpu":  # memory that is used again, as a loop does; PyTorch keeps its own
        out = {"out": tuple(np.zeros_like(data[0]) if name == "dx" else None for name in case.loss.Grad._fields)}
    return call, arrays


def _torch(case: Case, data: list[Any], device: str) -> Called:
    import torch

    torch._dynamo.reset()
    given = [torch.from_numpy(part).to(device) for part in data]
    numbers = [torch.tensor(number, device=device, requires_grad=True) for number in case.parameters.values()]
    given[0].requires_grad_()
    function = torch.compile(lambda *operands: case.formula(torch, *operands).mean(), dynamic=False)

    def call() -> Any:
        value = function(*given, *numbers)
        return value, *torch.autograd.grad(value, [given[0], *numbers])

    return call, lambda result: [part.detach().cpu().numpy() for part in result]


def _jax(case: Case, data: list[Any], device: str) -> Called:
    import jax
    import jax.numpy as jnp

    if device != "cpu" and jax.default_backend() != "gpu":
        raise ImportError("JAX finds no GPU")
    where_it_is = jax.devices("cpu" if device == "cpu" else "gpu")[0]
    numbers = [np.float32(number) for number in case.parameters.values()]
    given = [jax.device_put(part, where_it_is) for part in (*data, *numbers)]
    wanted = (0, *range(len(data), len(given)))
    function = jax.jit(jax.value_and_grad(lambda *operands: case.formula(jnp, *operands).mean(), wanted))

    def arrays(result: Any) -> list[Any]:
        return [np.asarray(part) for part in (result[0], *result[1])]

    return lambda: jax.block_until_ready(function(*given)), arrays


WHO: dict[str, Callable[[Case, list[Any], str], Called]] = {OURS: _ours, "torch.compile": _torch, "jax.jit": _jax}


def _data(case: Case, size: int) -> list[Any]:
    rng = np.random.default_rng(5)
    x = 2 * rng.standard_normal(size, np.float32)
    x[x == 0] = 1  # where the derivatives of abs and clip, of which the formulas are made, are wrong
    if not case.target:
        return [x]
    return [x, (rng.random(size, np.float32) < 0.3).astype("f") if case.target == "label" else rng.random(size, "f")]


def _waiting(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The call, with the wait for its end."""
    if device == "cpu":
        return call
    import torch

    def both() -> None:
        call()
        torch.cuda.synchronize()

    return both


def _copy(traffic: int, device: str) -> dict[str, Callable[[], Any]]:
    """Copies that move so many bytes."""
    if device == "cpu":
        return dict(copies(traffic))
    import torch

    source = torch.zeros(traffic // 2, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return {"copy": _waiting(lambda: target.copy_(source), device)}


def measured(name: str, size: int, device: str, samples: int) -> list[dict[str, Any]]:
    """A row for each who computes it."""
    case = CASES[name]
    data = _data(case, size)
    traffic = 4 * size * (len(data) + 1)
    truth = case.loss.value_and_grad(
        *(part.astype(np.float64) for part in data), **case.parameters, wrt=("x", *case.parameters), reduction="mean"
    )
    expected = [part for part in truth if part is not None]
    makers = {who: functools.partial(make, case, data, device) for who, make in WHO.items()}
    agreed, errors = agreeing(makers, expected, name)
    calls = {who: _waiting(call, device) for who, call in agreed.items()}
    same = {"loss": name, "device": device, "size": size, "bytes": traffic}
    return [
        {**same, "who": who, **columns, "relative_error": errors[who]}
        for who, columns in compared(calls, _copy(traffic, device), OURS, samples).items()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.catalogue",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where (default: %(default)s)")
    parser.add_argument("--size", type=int, default=10**7, help="elements (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=9, help="of each, of which the median counts")
    parser.add_argument("--losses", nargs="*", choices=tuple(CASES), default=tuple(CASES), help="which of them")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where rows go; results/catalogue.csv, or -cuda")
    chosen = parser.parse_args(arguments)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # one library's idle threads take no core from the next
    console, rows = Console(), []
    for name in track(chosen.losses, description="measuring", console=console):
        for row in measured(name, chosen.size, chosen.device, chosen.samples):
            seconds = float(row["median_s"])
            beside = f"{row['times_fastrobust']:>6} of ours, {seconds / float(row['floor_s']):6.2f} of a copy"
            console.print(f"{name:14} {row['who']:14} {seconds * 1e3:9.2f} ms, {beside}, error {row['relative_error']}")
            rows.append(row)
        time.sleep(0.1)
    gpu = ""
    if chosen.device == "cuda":
        import torch

        gpu = torch.cuda.get_device_name()
    same = {**environment(), "gpu": gpu}
    default = RESULTS / f"catalogue{'-cuda' if gpu else ''}.csv"
    write_csv(chosen.output or default, COLUMNS, [row | same for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
