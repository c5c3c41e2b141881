"""``fastrobust demo``: two fits with pictures, then the speed of the loss with all its gradients."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from itertools import pairwise

import numpy as np
from rich.console import Console

import fastrobust as fr

from .common import Progress, UserError, printable, reason
from .fit import Fit, fit
from .outputs import check_writable, write_files
from .plots import picture
from .report import coefficients, console, down_weighted, most_down_weighted, number
from .sources import Source
from .tables import Data, read

TEXTBOOK = (1, 3, 4, 21)  # the outliers that the literature on the stack-loss data agrees on
SLOPE, INTERCEPT, NOISE = 0.7, 0.15, 0.025
RUNS = 7
BYTES = 20  # for each float32 residual: read x, write the value and three gradients


def run(outdir: str, size: int, threads: int) -> None:
    """Show two fits, each with its picture in that directory, then time so many residuals on so many threads.

    The directory is made and tried before anything is computed.  Each part is printed when it is done.
    """
    try:
        os.makedirs(outdir, exist_ok=True)
    except FileExistsError:
        raise UserError(f"--outdir {outdir!r} is not a directory") from None
    except OSError as error:
        raise UserError(f"cannot make the directory {outdir!r}: {reason(error)}") from None
    stackloss, line = (os.path.join(outdir, f"fastrobust-{name}.png") for name in ("stackloss", "line"))
    check_writable([stackloss, line])
    out = console()

    out.print("1. Brownlee's stack-loss data (1965)", style="bold")
    out.print("21 days of a plant that makes nitric acid: stack_loss is the ammonia that escapes, in tenths of a %.")
    with Progress() as progress:
        progress.tell("fitting the stack-loss data; the first call compiles the kernels")
        with as_file(files("fastrobust.cli") / "data" / "stackloss.csv") as path:
            data = read(Source(str(path)), "stack_loss", None, drop_missing=False)
        fitted = fit(data.X, data.y, data.features, tell=progress.tell)
        first = picture(fitted, data, "Stack loss: fit by the adaptive robust likelihood")
    _show(out, fitted, data, 6)
    out.print(_stackloss_words(fitted))
    write_files({stackloss: first})
    out.print(f"wrote {printable(stackloss)}\n")

    out.print(f"2. The line y = {SLOPE} x + {INTERCEPT}, a tenth of its points replaced by outliers", style="bold")
    data = line_with_outliers()
    with Progress() as progress:
        fitted = fit(data.X, data.y, data.features, tell=progress.tell)
        second = picture(fitted, data, "A line with outliers: fit by the adaptive robust likelihood")
    _show(out, fitted, data, 0)
    out.print(_line_words(fitted))
    write_files({line: second})
    out.print(f"wrote {printable(line)}\n")

    out.print(f"3. {size:,} float32 residuals: the loss and its gradients in x, alpha and scale", style="bold")
    with Progress() as progress:
        progress.tell("timing")
        ours, copy = throughput(size, threads)
    out.print(_speed_words(size, ours, copy, threads))


def line_with_outliers(n: int = 500, seed: int = 0) -> Data:
    """Points on a line with a little noise. The outliers lie on the far side of the middle, so they tilt a fit."""
    random = np.random.default_rng(seed)
    x = np.sort(random.random(n))
    y = SLOPE * x + INTERCEPT + random.normal(0.0, NOISE, n)
    outlier = random.permutation(n) < n // 10
    y[outlier] = np.where(y[outlier] < 0.5, 0.85, 0.05) + random.normal(0.0, NOISE, n // 10)
    return Data(x[:, None].copy(order="F"), y, "y", ["x"], np.arange(1, n + 1), 0)


def _show(out: Console, fitted: Fit, data: Data, count: int) -> None:
    """Print a fit: its coefficients, alpha and scale, and so many of the rows weighted down."""
    out.print(coefficients(fitted))
    ends = f" (the {fitted.alpha_at_bound} end of its range)" if fitted.alpha_at_bound else ""
    out.print(
        f"alpha {number(fitted.alpha, 4)}{ends}, scale {number(fitted.scale, 4)}; log-likelihood "
        f"{number(fitted.log_likelihood)}, least squares {number(fitted.ols_log_likelihood)}"
    )
    down_weighted(out, fitted, data, count)


def _stackloss_words(fitted: Fit) -> str:
    """The sentences on whether the fit weighs the outliers of the textbooks down most."""
    order = [i + 1 for i in most_down_weighted(fitted, len(fitted.weights))]
    weights = ", ".join(f"{row}: {fitted.weights[row - 1]:.3f}" for row in TEXTBOOK)
    lowest = set(order[: len(TEXTBOOK)])
    if lowest == set(TEXTBOOK):
        following = order[len(TEXTBOOK)]
        verdict = (
            f"The fit finds the same four without being told: they have the four smallest weights, and the next is row "
            f"{following} with {fitted.weights[following - 1]:.3f}."
        )
    else:
        verdict = f"The fit does not agree entirely: its four smallest weights are those of rows {sorted(lowest)}."
    return (
        f"The textbook outliers are observations 1, 3, 4 and 21; their weights here are {weights}.\n{verdict} "
        "There is no cut: each row counts by its weight, and with 21 rows alpha and the scale are rough."
    )


def _line_words(fitted: Fit) -> str:
    """The sentence that puts both fitted lines beside the true one."""
    slope, intercept = fitted.coefficients[1], fitted.coefficients[0]
    ols_slope, ols_intercept = fitted.ols_coefficients[1], fitted.ols_coefficients[0]
    return (
        f"Robust: y = {slope:.3f} x + {intercept:.3f}; least squares, pulled away: y = {ols_slope:.3f} x + "
        f"{ols_intercept:.3f}; the truth: y = {SLOPE} x + {INTERCEPT}."
    )


def throughput(size: int, threads: int) -> tuple[float, float]:
    """Median seconds of ``loss_and_grad`` on ``size`` residuals, and of a copy that moves as many bytes.

    The two take turns, so that whatever else the machine does falls on both. The memory is reused from run to run.
    """
    x = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    outputs = fr.loss_and_grad(x, 1.0, 0.5)
    # Reading half of the bytes and writing the other half.
    source = np.ones(max(1, size * BYTES // 2), dtype=np.uint8)
    target = np.zeros_like(source)
    bounds = [len(source) * i // threads for i in range(threads + 1)]
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    ours, copies = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(RUNS):
            ours.append(_seconds(lambda: fr.loss_and_grad(x, 1.0, 0.5, out=outputs)))
            copies.append(_seconds(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))))
    return statistics.median(ours), statistics.median(copies)


def _seconds(work: Callable[[], object]) -> float:
    """The seconds that work() takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _speed_words(size: int, ours: float, copy: float, threads: int) -> str:
    """The figures of both, and what the share of the copy's speed means."""
    share = copy / ours
    cores = f"{threads} core{'s' * (threads > 1)}"
    if size < 1_000_000:
        meaning = "which says little here: so few residuals stay in the processor's cache; use --size 10000000"
    elif share >= 0.8:
        meaning = "the memory sets the pace, and the arithmetic of the loss and of all its gradients is nearly free"
    else:
        meaning = f"the arithmetic takes {1 / share:.1f} times as long as merely moving the numbers would"
    rate = BYTES * size / 1e9
    return (
        f"loss_and_grad  {ours * 1e9 / size:6.2f} ns per residual  {rate / ours:6.1f} GB/s  "
        f"(read 4 bytes, write 16; median of {RUNS} runs)\n"
        f"memory copy    {copy * 1e9 / size:6.2f} ns per residual  {rate / copy:6.1f} GB/s  "
        f"(the same {BYTES} bytes per residual: {BYTES // 2} read, {BYTES // 2} written; {cores})\n"
        f"At {math.floor(100 * share)} % of the speed of a copy, {meaning}."
    )
