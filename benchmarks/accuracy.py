"""Errors in ulp of fastrobust and of the plain formula: ``python -m benchmarks.accuracy`` from the repository's root.

The truth is tests/oracle.py, which computes from the definitions in mpmath; the points are those of tests/points.py.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

import fastrobust as fr

from .measure import PACKAGES, RESULTS, environment, write_csv
from .rivals import numpy_plain, plain
from .truth import GRADIENTS, bounds, oracle, points

FUNCTIONS = ("loss", "influence", "weight", "curvature", "dalpha", "dscale")
PARTITION = ("log_partition", "log_partition_dalpha")
SEED = 20190616

COLUMN_NAMES = [
    *("set", "function", "dtype", "who", "points", "max_ulp", "median_ulp", "percent_beyond_bound", "bound"),
    *("x", "alpha", "scale", "truth", "got", "date", "cpu", "python", *PACKAGES, "fastrobust", "commit"),
]

Arrays = dict[str, Any]


# --- who computes what


def _fastrobust(x: Any, alpha: Any, scale: Any) -> Arrays:
    grads = fr.loss_and_grad(x, alpha, scale)
    found = dict(zip(GRADIENTS, grads, strict=True))
    return {**found, "weight": fr.weight(x, alpha, scale), "curvature": fr.curvature(x, alpha, scale)}


def _numpy(x: Any, alpha: Any, scale: Any) -> Arrays:
    with np.errstate(all="ignore"):
        return dict(zip(GRADIENTS, numpy_plain(x, alpha, scale), strict=True))


def _torch(x: Any, alpha: Any, scale: Any) -> Arrays:
    import torch

    inputs = [torch.tensor(v, requires_grad=True) for v in (x, alpha, scale)]
    value = plain(torch, *inputs)
    results = value, *torch.autograd.grad(value.sum(), inputs)
    return {name: r.detach().numpy() for name, r in zip(GRADIENTS, results, strict=True)}


def who() -> dict[str, Callable[..., Arrays]]:
    """fastrobust, the plain formula with gradients by hand, and with autograd if PyTorch is installed."""
    found = {"fastrobust": _fastrobust, "numpy": _numpy}
    return {**found, "torch autograd": _torch} if find_spec("torch") else found


# --- errors


def _errors(function: str, dtype: str, got: Any, truths: list[Any]) -> np.ndarray:
    relative = bounds.RELATIVE_TO.get(function)
    return np.array(
        [
            oracle.ulp_error(g, getattr(t, function), dtype, getattr(t, relative) if relative == "weight" else relative)
            for g, t in zip(got, truths, strict=True)
        ]
    )


def _row(function: str, dtype: str, name: str, where: tuple[Any, ...], got: Any, truths: list[Any]) -> dict[str, Any]:
    errors = _errors(function, dtype, got, truths)
    worst = int(np.argmax(errors))
    bound = bounds.BOUNDS[function][dtype]
    return {
        "function": function,
        "dtype": dtype,
        "who": name,
        "points": len(errors),
        "max_ulp": f"{errors[worst]:.4g}",
        "median_ulp": f"{np.median(errors):.3g}",
        "percent_beyond_bound": f"{100 * np.mean(errors > bound):.3g}",
        "bound": bound,
        **{key: float(v[worst]).hex() for key, v in zip(("x", "alpha", "scale"), where, strict=False)},
        "truth": _short(getattr(truths[worst], function)),
        "got": _short(got[worst]),
    }


def _short(v: Any) -> str:
    return f"{float(v):.9g}"


def points_rows(count: int, advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """All over the domain, and on what users have: residuals within a few decades of c, alpha in [-4, 4]."""
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(SEED)
        sets = {"domain": points.points(dtype, count, SEED), "ordinary": points.ordinary(rng, count, dtype)}
        for name, triple in sets.items():
            truths = []
            for x, alpha, scale in zip(*triple, strict=True):
                truths.append(oracle.all_at(x, alpha, scale, dtype))
                advance(1)
            for label, compute in who().items():
                found = compute(*triple)
                for function in FUNCTIONS:
                    if function in found:
                        yield {"set": name, **_row(function, dtype, label, triple, found[function], truths)}


def partition_rows(count: int, advance: Callable[[int], None]) -> Iterator[dict[str, Any]]:
    """log Z and its derivative; the plain formula has none."""
    for dtype in ("float32", "float64"):
        alpha = points.partition_alphas(dtype, count, SEED)
        truths = []
        for a in alpha:
            truths.append(oracle.partition_at(a, dtype))
            advance(1)
        for function, got in zip(PARTITION, fr.log_partition_and_grad(alpha), strict=True):
            where = np.zeros_like(alpha), alpha, np.ones_like(alpha)
            yield {"set": "domain", **_row(function, dtype, "fastrobust", where, got, truths)}


# Where the existing implementations were found wrong: (name, function, dtype, x, alpha).
DEFECTS = [
    ("small residual", "loss", "float32", 1e-4, 1.0),
    ("alpha = 1e-8", "loss", "float64", 3.0, 1e-8),
    ("alpha = 1e-8", "loss", "float32", 3.0, 1e-8),
    ("alpha = 0", "dalpha", "float64", 3.0, 0.0),
    ("alpha = 0", "dalpha", "float32", 3.0, 0.0),
    *(
        (f"alpha = {a:g}", f, "float32", 1.0, a)
        for a in (math.inf, -math.inf)
        for f in ("influence", "dalpha", "dscale")
    ),
    *(("x/c = 1e20", function, "float32", 1e20, 1.0) for function in ("loss", "influence", "dalpha")),
    ("x = 300", "loss", "float16", 300.0, 1.0),
]
PARTITION_DEFECTS = [
    *(("alpha close to 2", "log_partition", "float64", 2 + d) for d in (-5e-6, 5e-6)),
    *(("alpha close to 2", "log_partition_dalpha", "float64", 2 + d) for d in (-1e-4, 1e-4)),
    ("alpha = 0", "log_partition_dalpha", "float64", 0.0),
]


def defect_rows() -> Iterator[dict[str, Any]]:
    """Each known defect as a row for each who."""
    for name, function, dtype, *where in DEFECTS:
        triple = tuple(np.array([v], dtype) for v in (*where, 1.0))
        truths = [oracle.all_at(*(v[0] for v in triple), dtype)]
        for label, compute in who().items():
            yield {"set": f"defect: {name}", **_row(function, dtype, label, triple, compute(*triple)[function], truths)}
    for name, function, dtype, a in PARTITION_DEFECTS:
        alpha = np.array([a], dtype)
        got = fr.log_partition_and_grad(alpha)[PARTITION.index(function)]
        where = np.zeros(1), alpha, np.ones(1)
        row = _row(function, dtype, "fastrobust", where, got, [oracle.partition_at(alpha[0], dtype)])
        yield {"set": f"defect: {name}", **row}
    # The mean of d rho/d alpha over residuals that are small against c: three orders cancel in each term.
    x = (0.05 * np.random.default_rng(SEED).standard_normal(10_000)).astype(np.float32)
    alpha, scale = np.full_like(x, 1e-4), np.ones_like(x)
    truth = oracle.mp.fsum(oracle.dalpha(v, alpha[0], 1.0, "float32") for v in x) / x.size
    for label, compute in who().items():
        if label == "fastrobust":
            got = fr.loss_and_grad(x, alpha[:1], scale[:1], reduction="mean").dalpha[0]
        else:
            got = compute(x, alpha, scale)["dalpha"].mean(dtype=np.float64)
        error = oracle.ulp_error(got, truth, "float32")
        yield {
            "set": "defect: mean over 10,000 residuals of 0.05 c",
            "function": "dalpha",
            "dtype": "float32",
            "who": label,
            "points": 1,
            "max_ulp": f"{error:.4g}",
            "alpha": float(alpha[0]).hex(),
            "scale": (1.0).hex(),
            "truth": _short(truth),
            "got": _short(got),
        }


def main(arguments: list[str] | None = None) -> int:
    """Compute all rows and write them."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=20_000, metavar="N", help="points of each set and dtype (20000)")
    parser.add_argument(
        "--partition", type=int, default=100, metavar="N", help="values of alpha for log Z, each dtype (100)"
    )
    parser.add_argument("--quick", action="store_true", help="500 points, 10 values of alpha; no file without --out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the CSV goes (benchmarks/results/accuracy.csv)")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.points, chosen.partition = 500, 10
    else:
        chosen.out = chosen.out or RESULTS / "accuracy.csv"
    with Progress() as progress:
        task = progress.add_task("against mpmath", total=4 * chosen.points + 2 * chosen.partition)

        def advance(count: int) -> None:
            progress.update(task, advance=count)

        rows = [*defect_rows(), *partition_rows(chosen.partition, advance), *points_rows(chosen.points, advance)]
    shared = {key: value for key, value in environment().items() if key in COLUMN_NAMES}
    if chosen.out:
        write_csv(chosen.out, COLUMN_NAMES, [{**row, **shared} for row in rows])
        print(f"{len(rows)} rows in {chosen.out}")
    beyond = [r for r in rows if r["who"] == "fastrobust" and float(r["max_ulp"]) > r.get("bound", 8)]
    for r in beyond:
        print("beyond the bound:", *(f"{key}={r.get(key, '')}" for key in COLUMN_NAMES[:14]))
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main())
