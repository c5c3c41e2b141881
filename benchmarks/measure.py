"""Timing, the memory-copy floor, the check of values, the description of the machine, and CSV files."""

from __future__ import annotations

import argparse
import concurrent.futures
import csv
import functools
import os
import platform
import subprocess
import tempfile
import time
import timeit
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import fastrobust as fr

from .rivals import CORES, Call, Problem

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "numexpr", "mpmath")

# Largest error of an output, relative to its largest element.  Float32 sums of 10^8 elements lose four digits in some
# libraries; computing something else loses all of them.
TOLERANCE = {"float32": 1e-3, "float64": 1e-9}
CHUNK = 1 << 20


# --- values


def check(p: Problem, results: Sequence[Any]) -> float:
    """Largest error of (value, dx, dalpha, dscale) against fastrobust in float64, relative to each's largest element.

    A parameter's gradient may come for each element or summed to the parameter's shape.
    """
    rows = max(1, CHUNK // max(1, p.x[:1].size))
    alpha, scale = p.parameter_arrays()
    shapes = [() if p.reduction == "mean" else p.x.shape, p.x.shape, alpha.shape, scale.shape]
    factor = 1.0 if p.reduction == "none" else 1 / p.size
    worst = [0.0] * len(results)
    largest = [0.0] * len(results)
    sums = [np.zeros(shape) if r.shape != p.x.shape else None for r, shape in zip(results, shapes, strict=False)]
    for first in range(0, len(p.x), rows):
        part = slice(first, first + rows)
        x, a, c = (v[part] if v.shape == p.x.shape else v for v in (p.x, alpha, scale))
        truth = fr.loss_and_grad(*(np.asarray(v, np.float64) for v in (x, a, c)))
        for i, result in enumerate(results):
            if sums[i] is None:
                expected = truth[i] * (1.0 if i == 0 else factor)
                # np.maximum keeps NaN, max would not.
                worst[i] = float(np.maximum(worst[i], abs(result[part] - expected).max()))
                largest[i] = max(largest[i], float(abs(expected).max()))
            else:
                axes = tuple(range(x.ndim - sums[i].ndim))
                sums[i] += truth[i].sum(axis=axes) * factor
    for i, total in enumerate(sums):
        if total is not None:
            if results[i].shape != total.shape:
                raise ValueError(f"output {i} has shape {results[i].shape}, expected {p.x.shape} or {total.shape}")
            worst[i], largest[i] = float(abs(results[i] - total).max()), float(abs(total).max())
    return float(np.max([w / g for w, g in zip(worst, largest, strict=True)]))


# --- times


@functools.cache
def _pool() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(CORES)


def copies(traffic: int) -> dict[str, Call]:
    """Copies that read and write so many bytes together: on one thread, and split over all cores."""
    half = max(1, traffic // 2)
    source, target = np.ones(half, np.uint8), np.zeros(half, np.uint8)
    calls: dict[str, Call] = {"copy 1 thread": lambda: np.copyto(target, source)}
    if CORES > 1 and half >= 1 << 16:
        step = -(-half // CORES)
        parts = [(target[i : i + step], source[i : i + step]) for i in range(0, half, step)]
        calls[f"copy {CORES} threads"] = lambda: list(_pool().map(np.copyto, *zip(*parts, strict=True)))
    return calls


def duration(call: Call) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(
    calls: Mapping[str, Call], known: Mapping[str, float], settle: Mapping[str, float], samples: int, least: float
) -> dict[str, list[float]]:
    """Seconds a call of each, so many samples.  One sample of each in turn, so that a disturbance hits all alike.

    A sample repeats a call until it takes ``least`` seconds, after one call untimed: the others have filled the caches.
    ``known`` seconds of a call that has been made before save the calls that find out.
    """
    repeat = {}
    for name, call in calls.items():
        if known.get(name, 0.0) < least:
            call()
            repeat[name] = max(1, int(np.ceil(least / min(duration(call) for _ in range(3)))))
            time.sleep(settle.get(name, 0))
        else:
            repeat[name] = 1
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(samples):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            if repeat[name] > 1:
                calls[name]()
            times[name].append(timeit.timeit(calls[name], number=repeat[name]) / repeat[name])
            time.sleep(settle.get(name, 0))
    return times


def available_memory() -> int:
    """Bytes that can be used without swapping."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return total_memory() // 2


def total_memory() -> int:
    """Bytes of memory in this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# --- the command line


def options(module: str, description: str, samples: int, file: str, arguments: list[str] | None) -> argparse.Namespace:
    """What the smaller benchmarks take: ``samples`` and ``output``."""
    parser = argparse.ArgumentParser(
        f"python -m benchmarks.{module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=samples, help="samples of each, of which the median counts")
    parser.add_argument("--output", type=Path, default=RESULTS / file, metavar="FILE", help="where rows go")
    return parser.parse_args(arguments)


# --- records


def environment() -> dict[str, Any]:
    """Machine, versions and date: the columns that are the same in every row."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": CORES,
        "memory_gib": round(total_memory() / 2**30, 1),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "fastrobust": fr.__version__,
        "commit": _commit(),
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "fastrobust", "kernels")
        return git("rev-parse", "--short=12", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def quartiles(times: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles as columns."""
    q1, median, q3 = np.quantile(times, (0.25, 0.5, 0.75))
    return {"median_s": f"{median:.6g}", "q1_s": f"{q1:.6g}", "q3_s": f"{q3:.6g}", "samples": len(times)}


def relative_error(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of arrays from those expected, beside the largest number in these."""
    return max(
        float(np.max(np.abs(one - other)) / np.max(np.abs(other))) for one, other in zip(found, expected, strict=True)
    )


def agreeing(
    makers: Mapping[str, Callable[[], tuple[Call, Callable[[Any], list[Any]]]]], expected: Sequence[Any], what: str
) -> tuple[dict[str, Call], dict[str, str]]:
    """The calls of those whose results are near what is expected, and how far; who is not among them is named.

    Each maker returns a call, and what makes arrays of its result.
    """
    calls, errors = {}, {}
    for who, make in makers.items():
        try:
            call, arrays = make()
            error = relative_error(arrays(call()), expected)
        except ImportError as missing:
            print(f"{what}, {who}: not measured: {missing}")
            continue
        if error < 1e-3:
            calls[who], errors[who] = call, f"{error:.1e}"
        else:
            print(f"{what}, {who}: not measured: wrong by {error:.1e}")
    return calls, errors


def compared(
    calls: Mapping[str, Call], floors: Mapping[str, Call], ours: str, samples: int
) -> dict[str, dict[str, Any]]:
    """Columns for each call: its time, how many times that of ours it is, and the time of the quickest floor."""
    times = interleaved({**calls, **floors}, {}, dict.fromkeys(calls, 0.005), samples, 2e-3)
    medians = {name: float(np.median(seconds)) for name, seconds in times.items()}
    floor = min(medians[name] for name in floors)
    return {
        who: {
            **quartiles(times[who]),
            "times_fastrobust": f"{medians[who] / medians[ours]:.3g}",
            "floor_s": f"{floor:.4g}",
        }
        for who in calls
    }


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """All of it or nothing: a file of that name is replaced when the new one is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", newline="", delete=False) as file:
        try:
            writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            file.close()
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a results file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
