"""Look for the largest errors of fastrobust at fresh random points.

``python tests/attack.py --dtype float32 --n 20000`` prints, for each function, the largest error in ulp with its
witness (hex floats), how many points exceed the bound, and the largest error in each region of alpha.  The exit status
is 1 if a bound is exceeded.  ``--add`` appends each new maximum to worst_cases.csv, which the tests replay.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bounds import BOUNDS
from mpmath import mpf
from oracle import all_at, nll_at, nll_summands, partition_at, ulp_error
from points import WORST_CASES, Array, partition_alphas, points, worst_cases

# What the library computes, from the module and the arrays x, alpha, scale.
COMPUTE: dict[str, Callable[[Any, Array, Array, Array], Array]] = {
    "loss": lambda fr, x, a, c: fr.loss(x, a, c),
    "influence": lambda fr, x, a, c: fr.influence(x, a, c),
    "weight": lambda fr, x, a, c: fr.weight(x, a, c),
    "curvature": lambda fr, x, a, c: fr.curvature(x, a, c),
    "dscale": lambda fr, x, a, c: fr.loss_and_grad(x, a, c).dscale,
    "dalpha": lambda fr, x, a, c: fr.loss_and_grad(x, a, c).dalpha,
    "loss_and_grad.value": lambda fr, x, a, c: fr.loss_and_grad(x, a, c).value,
    "loss_and_grad.dx": lambda fr, x, a, c: fr.loss_and_grad(x, a, c).dx,
    "log_partition": lambda fr, x, a, c: fr.log_partition(a),
    "log_partition_and_grad.value": lambda fr, x, a, c: fr.log_partition_and_grad(a).value,
    "log_partition_dalpha": lambda fr, x, a, c: fr.log_partition_and_grad(a).dalpha,
    "nll": lambda fr, x, a, c: fr.nll(x, a, c),
    "nll_and_grad.value": lambda fr, x, a, c: fr.nll_and_grad(x, a, c).value,
    "nll_and_grad.dx": lambda fr, x, a, c: fr.nll_and_grad(x, a, c).dx,
    "nll_and_grad.dalpha": lambda fr, x, a, c: fr.nll_and_grad(x, a, c).dalpha,
    "nll_and_grad.dscale": lambda fr, x, a, c: fr.nll_and_grad(x, a, c).dscale,
}
# The same quantity by another call has the same bound.  The sums have none of their own.
SAME_AS = {
    "loss_and_grad.value": "loss",
    "loss_and_grad.dx": "influence",
    "log_partition_and_grad.value": "log_partition",
    "nll_and_grad.value": "nll",
    "nll_and_grad.dx": "influence",
    "nll_and_grad.dalpha": "dalpha",
    "nll_and_grad.dscale": "dscale",
}
DEFAULT = "loss,influence,weight,curvature,dscale,dalpha"

# Regions of alpha: [left, right) between consecutive edges, and the special values by themselves.
EDGES = [-math.inf, -1e6, -10.0, -1.0, -1e-3, 0.0, 1e-3, 0.9, 1.1, 1.9, 2.0, 2.1, 10.0, 1e6, math.inf]
SPECIAL = [-math.inf, 0.0, 1.0, 2.0, math.inf]


class Error(NamedTuple):
    """One evaluation, ordered by its error."""

    ulp: float
    x: float
    alpha: float
    scale: float
    got: float
    truth: float


def bound_of(function: str, dtype: str) -> float:
    """The bound in ulp; inf for a sum, which has none."""
    if function.startswith("nll"):
        return math.inf
    return float(BOUNDS[SAME_AS.get(function, function)][dtype])


def truth_of(function: str, x: Any, alpha: Any, scale: Any, dtype: str) -> tuple[mpf, mpf | None]:
    """The reference and, for a function with zeros, the magnitude whose ulp counts."""
    name = SAME_AS.get(function, function)
    if function.startswith("nll"):
        field = function.rpartition(".")[2].replace("value", "nll")
        return getattr(nll_at(x, alpha, scale, dtype), field), getattr(nll_summands(x, alpha, scale, dtype), field)
    if name.startswith("log_partition"):
        return getattr(partition_at(alpha, dtype), name), mpf(1) if name == "log_partition" else None
    at = all_at(x, alpha, scale, dtype)
    return getattr(at, name), at.weight if name == "curvature" else None


def region_of(alpha: float) -> str:
    """The name of the region of alpha."""
    if alpha in SPECIAL:
        return f"{alpha:g}"
    i = int(np.searchsorted(EDGES, alpha, side="right"))
    return f"{EDGES[i - 1]:g} .. {EDGES[i]:g}"


def arguments_of(function: str, dtype: Any, n: int, partition_n: int, seed: int) -> tuple[Array, Array, Array]:
    """The points for a function: what involves log Z has few different alpha, because its reference is an integral."""
    if not function.startswith(("nll", "log_partition")):
        return points(dtype, n, seed)
    pool = partition_alphas(dtype, partition_n, seed)
    if function.startswith("log_partition"):
        return np.zeros(pool.size, dtype), pool, np.ones(pool.size, dtype)
    x, _, scale = points(dtype, n, seed)
    return x, pool[np.random.default_rng(seed).integers(0, pool.size, n)], scale


def resolve(name: str) -> Any:
    """The dtype of that name; bfloat16 needs ml_dtypes."""
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def evaluate(
    library: Any, functions: list[str], dtype: str, n: int, partition_n: int, seed: int, progress: bool = False
) -> dict[str, list[Error]]:
    """The errors of each function, in the order of the points."""
    kind = resolve(dtype)
    args = {f: arguments_of(f, kind, n, partition_n, seed) for f in functions}
    got = {}
    for f in functions:
        with np.errstate(all="ignore"):
            got[f] = np.asarray(COMPUTE[f](library, *args[f]))
        if got[f].dtype != kind:
            raise TypeError(f"{f} of {dtype} arrays came back as {got[f].dtype}")
    errors: dict[str, list[Error]] = {f: [] for f in functions}
    # Point by point, so that all functions of a point share one evaluation of the reference (it is cached).
    for i in _progress(max(a[0].size for a in args.values()), progress):
        for f in functions:
            if i < args[f][0].size:
                x, alpha, scale = (float(v[i]) for v in args[f])
                truth, at_least = truth_of(f, x, alpha, scale, dtype)
                value = float(got[f][i])
                ulp = ulp_error(value, truth, dtype, at_least)
                errors[f].append(Error(ulp, x, alpha, scale, value, float(truth)))
    return errors


def _progress(n: int, show: bool) -> Iterator[int]:
    start = time.monotonic()
    for i in range(n):
        if show and i % 200 == 0:
            print(f"\r{i}/{n} points, {time.monotonic() - start:.0f} s", end="", file=sys.stderr, flush=True)
        yield i
    if show:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def report(function: str, errors: list[Error], bound: float) -> int:
    """Print the findings on one function; the number of points beyond the bound."""
    worst = max(errors)
    beyond = sum(e.ulp > bound for e in errors)
    limit = f"bound {bound:g}" if bound < math.inf else "no bound"
    print(f"\n{function}: max {worst.ulp:.4g} ulp ({limit}, {beyond} of {len(errors)} points beyond)")
    print(f"  {_witness(worst)}")
    print(f"  {'alpha':>16} {'points':>7} {'beyond':>7} {'max ulp':>10}  witness")
    regions: dict[str, list[Error]] = {}
    for e in sorted(errors, key=lambda e: e.alpha):
        regions.setdefault(region_of(e.alpha), []).append(e)
    for name, inside in regions.items():
        count = sum(e.ulp > bound for e in inside)
        print(f"  {name:>16} {len(inside):>7} {count:>7} {max(inside).ulp:>10.4g}  {_witness(max(inside))}")
    return beyond


def _witness(e: Error) -> str:
    return f"x={e.x.hex()} alpha={e.alpha.hex()} scale={e.scale.hex()}: got {e.got!r}, truth {e.truth!r}"


def add(function: str, dtype: str, worst: Error, path: Path = WORST_CASES) -> bool:
    """Append a witness to worst_cases.csv if its error is larger than all recorded ones."""
    known = max((case.ulp for case in worst_cases(function, dtype, path)), default=0.0)
    if float(f"{worst.ulp:.4g}") <= known:
        return False
    row = (function, dtype, worst.x.hex(), worst.alpha.hex(), worst.scale.hex(), f"{worst.ulp:.4g}")
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(row)
    return True


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--dtype", default="float32", choices=list(BOUNDS["loss"]))
    parser.add_argument("--n", type=int, default=20000, help="points of the elementwise functions")
    parser.add_argument("--partition-n", type=int, default=100, help="values of alpha for log Z, about 0.3 s each")
    parser.add_argument("--seed", type=int, help="default: from the clock; it is printed")
    parser.add_argument("--functions", default=DEFAULT, help=f"comma-separated, or 'all'; of {', '.join(COMPUTE)}")
    parser.add_argument("--module", default="fastrobust", help="a module with the same public functions")
    parser.add_argument("--add", action="store_true", help="append new maxima to worst_cases.csv")
    options = parser.parse_args(argv)
    functions = list(COMPUTE) if options.functions == "all" else options.functions.split(",")
    if unknown := [f for f in functions if f not in COMPUTE]:
        parser.error(f"unknown functions {unknown}; choose from {', '.join(COMPUTE)}")
    seed = options.seed if options.seed is not None else time.time_ns() % 10**9
    print(f"{options.module}, {options.dtype}, {options.n} points, seed {seed}")
    library = importlib.import_module(options.module)
    start = time.monotonic()
    errors = evaluate(
        library, functions, options.dtype, options.n, options.partition_n, seed, progress=sys.stderr.isatty()
    )
    beyond = 0
    for function in functions:
        beyond += report(function, errors[function], bound_of(function, options.dtype))
        if options.add and add(SAME_AS.get(function, function), options.dtype, max(errors[function])):
            print("  added to worst_cases.csv")
    print(f"\n{beyond} evaluations beyond their bounds; {time.monotonic() - start:.0f} s")
    return int(beyond > 0)


if __name__ == "__main__":
    sys.exit(main())
