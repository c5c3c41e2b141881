"""Speed on the CPU: ``python -m benchmarks.cpu`` from the root of the repository."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import startup
from .measure import (
    PACKAGES,
    RESULTS,
    TOLERANCE,
    available_memory,
    check,
    copies,
    duration,
    environment,
    interleaved,
    quartiles,
    write_csv,
)
from .rivals import BARE, COLUMNS, RIVALS, Call, Problem, Rival, problem
from .truth import confirm

WORKS = (("loss", "none"), ("loss_and_grad", "none"), ("loss_and_grad", "mean"))
DTYPES = ("float32", "float64")
PARAMETERS = ("scalar", "columns", "full")
SIZES = tuple(10**e for e in range(9))
KIND = ("work", "reduction", "dtype", "parameters")
QUICK_SIZES = (1, 1000, 100_000)
HEADLINE = ("float32", "scalar")  # what the README compares all rivals on: the limit is longer there
HEADLINE_PATIENCE = 10
HEADLINE_ONLY = 10**8  # elements from which on only these are measured: others would not fit, or take too long
SAMPLES = 7

COLUMN_NAMES = [
    *("work", "rival", "dtype", "parameters", "size", "reduction", "median_s", "q1_s", "q3_s", "samples"),
    *("ns_per_element", "bytes", "floor_s", "percent_of_floor", "checked_error", "not_timed", "load"),
    *("date", "cpu", "cores", "memory_gib", "os", "python", *PACKAGES, "fastrobust", "commit"),
]

DESCRIPTION = """\
Time fastrobust and its rivals on the same work, on this machine.

Every rival's values are checked against fastrobust in float64 first; one that fails is reported and not timed. Then all
are timed in turns, one sample of each at a time, with a memory copy of the same number of bytes among them: the floor.
"""
EPILOG = """\
examples:
  python -m benchmarks.cpu                          everything, about 15 minutes; run nothing else meanwhile
  python -m benchmarks.cpu --quick                  small sizes only, about 3 minutes; shows whether all rivals work
  python -m benchmarks.cpu --sizes 1e6 1e7 --only float32 --out now.csv
Then: python -m benchmarks.report
"""


def _size(text: str) -> int:
    size = int(float(text))
    if size < 1 or size != float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of elements, such as 1000 or 1e6")
    return size


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.cpu",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, short samples; no file without --out")
    parser.add_argument("--sizes", type=_size, nargs="+", metavar="N", help="elements, default 1, 10, ... 1e8")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help=f"loss, loss_and_grad, none, mean, {', '.join(DTYPES + PARAMETERS)}: leave others of its kind out",
    )
    parser.add_argument("--rivals", nargs="+", metavar="NAME", help="default all: " + ", ".join(r.name for r in RIVALS))
    parser.add_argument(
        "--limit",
        type=float,
        default=3.0,
        metavar="SECONDS",
        help="a rival whose samples of one case would take longer is left out there (3)",
    )
    parser.add_argument("--no-startup", action="store_true", help="leave out the import and the first calls")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the CSV goes (benchmarks/results/cpu.csv)")
    chosen = parser.parse_args(arguments)
    known = {*itertools.chain(*WORKS), *DTYPES, *PARAMETERS}
    if unknown := set(chosen.only) - known:
        parser.error(f"--only {' '.join(sorted(unknown))}: choose from {', '.join(sorted(known))}")
    if unknown := set(chosen.rivals or ()) - {r.name for r in RIVALS}:
        parser.error(f"--rivals {', '.join(sorted(unknown))}: choose from {', '.join(r.name for r in RIVALS)}")
    if chosen.out is None and not (chosen.quick or chosen.sizes or chosen.only or chosen.rivals or chosen.no_startup):
        chosen.out = RESULTS / "cpu.csv"
    chosen.sizes = sorted(chosen.sizes or (QUICK_SIZES if chosen.quick else SIZES))
    return chosen


def _keep(only: list[str], kind: tuple[str, ...], value: str) -> bool:
    wanted = set(only) & set(kind)
    return not wanted or value in wanted


def cases(sizes: list[int], only: list[str]) -> list[tuple[str, str, str, str, int]]:
    """(work, reduction, dtype, parameters, size) in the order of measurement: sizes rise within one kind of work."""
    return [
        (work, reduction, dtype, parameters, size)
        for (work, reduction), dtype, parameters, size in itertools.product(WORKS, DTYPES, PARAMETERS, sizes)
        if not (size >= HEADLINE_ONLY and (dtype, parameters) != HEADLINE)
        and not (parameters == "columns" and size % COLUMNS)
        and _keep(only, ("loss", "loss_and_grad"), work)
        and _keep(only, ("none", "mean"), reduction)
        and _keep(only, DTYPES, dtype)
        and _keep(only, PARAMETERS, parameters)
    ]


class Bench:
    """The measurements so far, and how long each rival took at the last size."""

    def __init__(self, rivals: list[Rival], limit: float, quick: bool, say: Callable[[str], None]) -> None:
        self.rivals, self.limit, self.say = rivals, limit, say
        self.samples, self.least = (SAMPLES, 2e-4) if quick else (SAMPLES, 2e-3)
        self.rows: list[dict[str, Any]] = []
        self._last: dict[tuple[str, ...], tuple[int, float]] = {}

    @staticmethod
    def _key(p: Problem, name: str) -> tuple[str, ...]:
        return p.work, p.reduction, p.dtype, p.parameters, name

    def prepare(self, p: Problem, rival: Rival) -> tuple[Call | None, str, str]:
        """(call, checked error, ""), or (None, checked error, why it is not timed)."""
        if not rival.installed:
            return None, "", f"{rival.package} is not installed"
        peak = rival.memory * p.x.nbytes
        if peak > 0.8 * available_memory():
            return None, "", f"needs about {peak / 2**30:.0f} GiB beside its inputs"
        key = self._key(p, rival.name)
        size, seconds = self._last.get(key, (p.size, 0.0))
        # Small calls are all overhead: nothing follows from them.
        expected = seconds * p.size / size * (self.samples + 2) if size >= 10**5 else 0.0
        limit = self.limit * (HEADLINE_PATIENCE if (p.dtype, p.parameters) == HEADLINE else 1)
        if expected > limit:
            return None, "", f"would take about {expected:.3g} s, more than {limit:g} s"
        try:
            call = rival.build(p)
            arrays = rival.arrays(call())
            error = check(p, arrays) if arrays else 0.0
            del arrays
            self._last[key] = p.size, min(duration(call) for _ in range(3 if p.size <= 10**6 else 1))
        except Exception as problem:  # a rival that breaks is a result, not the end of the run
            return None, "", f"{type(problem).__name__}: {str(problem).splitlines()[0][:120]}"
        shown = f"{error:.2g}" if rival.name != BARE else ""
        if not error <= TOLERANCE[p.dtype]:
            return None, shown, f"values differ by {shown}, more than {TOLERANCE[p.dtype]:g}"
        return call, shown, ""

    def measure(self, p: Problem) -> None:
        """Check, then time, all rivals on one problem."""
        what = {"work": p.work, "dtype": p.dtype, "parameters": p.parameters, "size": p.size, "reduction": p.reduction}
        what["load"] = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else ""
        calls, errors = {}, {}
        for rival in self.rivals:
            if rival.sizes[0] <= p.size <= rival.sizes[1]:
                call, error, why = self.prepare(p, rival)
                if call is None:
                    self.rows.append({**what, "rival": rival.name, "checked_error": error, "not_timed": why})
                    self.say(f"{' '.join(what[k] for k in KIND)} {p.size:g}: {rival.name} not timed: {why}")
                else:
                    calls[rival.name], errors[rival.name] = call, error
        floors = copies(p.bytes)
        settle = {rival.name: rival.settle for rival in self.rivals}
        known = {name: self._last[self._key(p, name)][1] for name in calls}
        times = interleaved({**floors, **calls}, known, settle, self.samples, self.least)
        floor = min(float(np.median(times[name])) for name in floors)
        for name, seconds in times.items():
            median = float(np.median(seconds))
            self.rows.append(
                {
                    **what,
                    "rival": name,
                    **quartiles(seconds),
                    "ns_per_element": f"{median / p.size * 1e9:.6g}",
                    "bytes": p.bytes,
                    "floor_s": f"{floor:.6g}",
                    "percent_of_floor": f"{100 * floor / median:.1f}",
                    "checked_error": errors.get(name, ""),
                }
            )


def main(arguments: list[str] | None = None) -> int:
    """Run, show progress, write the file."""
    # OpenMP's threads otherwise spin after a call and take the cores from whoever is measured next.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    chosen = parse(arguments)
    warnings.filterwarnings("ignore", module=r"torch\.")  # its compiler's remarks about this machine
    console = Console(stderr=True)
    confirm()
    rivals = [r for r in RIVALS if chosen.rivals is None or r.name in chosen.rivals]
    bench = Bench(rivals, chosen.limit, chosen.quick, lambda line: console.print(line, highlight=False))
    todo = cases(chosen.sizes, chosen.only)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Redrawing takes time of the machine that is measured: once after each case, by hand.
    with Progress(*columns, console=console, auto_refresh=False) as progress:
        starts = 0 if chosen.no_startup else 1 + 2 * len(startup.KERNELS)
        task = progress.add_task("", total=len(todo) + starts)
        if starts:
            for row in startup.measurements(*((3, 1, 1) if chosen.quick else (9, 3, 7))):
                bench.rows.append(row)
                progress.update(task, advance=1, description=f"{row['work']:40}", refresh=True)
        for case in todo:
            progress.update(task, description=f"{' '.join(map(str, case[:4]))} {case[4]:g}".ljust(40), refresh=True)
            with np.errstate(all="ignore"):
                bench.measure(problem(*case))
            progress.update(task, advance=1, refresh=True)
    shared = environment()
    rows = [{**row, **shared} for row in bench.rows]
    if chosen.out:
        write_csv(chosen.out, COLUMN_NAMES, rows)
        console.print(f"{len(rows)} rows in {chosen.out}", highlight=False)
    skipped = sum(bool(row.get("not_timed")) for row in rows)
    console.print(f"{skipped} not timed, for the reasons above", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
