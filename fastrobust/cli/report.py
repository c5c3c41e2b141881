"""A fit as a table for a person and as JSON for a program."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

import fastrobust as fr

from . import streams
from .common import printable
from .fit import Doubles, Fit
from .tables import Data

FEW = 5  # rows for each parameter; with fewer, a heavy-tailed fit may follow some rows and ignore the others
NARROW, WIDE = 80, 160  # columns of a terminal, and of a file
LABEL = 24


def console() -> Console:
    """Standard output for text in styles and tables."""
    out: Any = streams.Output()
    printer = Console(file=out, highlight=False, markup=False, emoji=False)
    # Output that is piped or redirected has no width. A terminal too narrow for the numbers breaks lines itself.
    printer.width = max(NARROW, printer.width) if out.isatty() else WIDE
    return printer


def number(value: float | None, digits: int = 6) -> str:
    """The number with so many digits, and a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def most_down_weighted(fit: Fit, count: int) -> list[int]:
    """The positions of the smallest weights, smallest first; equal weights in the order of the rows."""
    count = min(count, len(fit.weights))
    if count <= 0:
        return []
    # A partial sort keeps this in memory-bound time for a million rows.
    limit = np.partition(fit.weights, count - 1)[count - 1]
    candidates = np.flatnonzero(fit.weights <= limit)
    return [int(i) for i in candidates[np.argsort(fit.weights[candidates], kind="stable")][:count]]


def show(fit: Fit, data: Data, source: str, count: int) -> None:
    """Print the report: the coefficients of both fits, alpha and scale, so many rows weighted down, and doubts."""
    out = console()
    dropped = f", {data.dropped} row{'s' * (data.dropped > 1)} with missing values left out" if data.dropped else ""
    out.print(f"{printable(source)}: {len(data.y):,} rows{dropped}")
    for note in data.notes:
        out.print(f"note: {printable(note)}")
    out.print(f"{printable(data.target)} by least squares and by the adaptive robust {_aim(fit)}", style="bold")
    out.print(coefficients(fit))
    out.print(Text.assemble(("alpha  ", "bold"), number(fit.alpha), _how(fit.alpha_estimated, _bound(fit))))
    out.print(Text.assemble(("scale  ", "bold"), number(fit.scale), _how(fit.scale_estimated, "")))
    if fit.log_likelihood is None:
        out.print(f"mean loss {number(fit.value)}; no log-likelihood: the density has no finite mass for alpha < 0")
    else:
        out.print(
            f"log-likelihood  {number(fit.log_likelihood)} robust, {number(fit.ols_log_likelihood)} least squares;"
            f"  AIC  {number(fit.aic)} robust, {number(fit.ols_aic)} least squares"
        )
    if not fit.converged:
        out.print(f"NOT CONVERGED: the gradient is still {fit.gradient:.1e}", style="bold")
    out.print()
    down_weighted(out, fit, data, count)
    parameters = len(fit.names) + fit.alpha_estimated + fit.scale_estimated
    if len(data.y) < FEW * parameters:
        out.print(f"{len(data.y)} rows are few for {parameters} parameters: alpha and scale are rough.", style="dim")
    for doubt in fit.doubts:
        out.print(f"Take care: {doubt}.", style="bold")
    out.print(
        "Standard errors: robust, by leaving out one row at a time; least squares, the classical ones. "
        f"Intervals of 95 %: t with {number(fit.df)} degrees of freedom.",
        style="dim",
    )


def coefficients(fit: Fit) -> Table:
    """The table of the coefficients with their errors and intervals, robust and by least squares."""
    table = Table(box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    for head in ("robust", "std. error", "95 % +-", "least squares", "std. error", "95 % +-"):
        table.add_column(head, justify="right", no_wrap=True)
    for i, name in enumerate(fit.names):
        robust = fit.coefficients[i], fit.errors[i], fit.margins[i]
        ols = fit.ols_coefficients[i], fit.ols_errors[i], fit.ols_margins[i]
        table.add_row(Text(printable(name)), *(number(value) for value in robust + ols))
    return table


def down_weighted(out: Console, fit: Fit, data: Data, count: int) -> None:
    """Print a table of so many rows with the smallest weights, or why no row has less than its full one."""
    chosen = most_down_weighted(fit, count)
    if not chosen:
        return
    if fit.alpha >= 2:
        why = "every row counts fully" if fit.alpha == 2 else "far rows count more than near ones, none less"
        out.print(f"No row is weighted down: alpha = {number(fit.alpha)}, where {why}.")
        return
    out.print("The rows weighted down most (1 counts fully, 0 not at all)", style="bold")
    table = Table(box=None, pad_edge=False)
    target = printable(data.target)
    target = target if len(target) <= LABEL else f"{target[: LABEL - 3]}..."  # the numbers below need the room
    for head in ("row", target, "fitted", "residual", "weight"):
        table.add_column(Text(head), justify="right", no_wrap=True)
    for i in chosen:
        fitted = data.y[i] - fit.residuals[i]
        row = (data.y[i], fitted, fit.residuals[i])
        table.add_row(str(data.rows[i]), *(number(value) for value in row), number(fit.weights[i], 3))
    out.print(table)


def _aim(fit: Fit) -> str:
    """The word for what the fit optimizes: the likelihood, or the loss itself where no density has it."""
    return "loss" if fit.objective == "loss" else "likelihood"


def _bound(fit: Fit) -> str:
    """The range that alpha was estimated over, and what it means where it ended at a bound."""
    low, high = fit.alpha_range
    sought = f" over [{low:g}, {high:g}]"
    if low > 0:
        sought += " (below, the likelihood of so few rows has no maximum)"
    if fit.alpha_at_bound is None:
        return sought
    heavy = "tails at least as heavy as Cauchy's" if low == 0 else "tails at least as heavy as Laplace's"
    return (
        f"{sought}, and ended at the {f'lower end: {heavy}' if fit.alpha_at_bound == 'lower' else 'upper end: normal'}"
    )


def _how(estimated: bool, more: str) -> str:
    """The words after a parameter for where it is from."""
    return f"  (estimated{more})" if estimated else "  (given)"


def as_json(fit: Fit, data: Data, source: str, count: int) -> bytes:
    """The fit in JSON, with so many rows weighted down.

    The keys are described in ``fastrobust fit --help`` and stay. Undefined numbers are null, never NaN.
    """

    def terms(estimates: Doubles, errors: Doubles, margins: Doubles) -> list[dict[str, object]]:
        return [
            {"name": name, "estimate": _plain(e), "std_error": _plain(s), "interval": [_plain(e - m), _plain(e + m)]}
            for name, e, s, m in zip(fit.names, estimates, errors, margins, strict=True)
        ]

    content = {
        "fastrobust": fr.__version__,
        "file": source,
        "target": data.target,
        "features": data.features,
        "rows": len(data.y),
        "rows_dropped": data.dropped,
        "notes": data.notes,
        "robust": {
            "objective": fit.objective,
            "coefficients": terms(fit.coefficients, fit.errors, fit.margins),
            "alpha": _plain(fit.alpha),
            "alpha_estimated": fit.alpha_estimated,
            "alpha_at_bound": fit.alpha_at_bound,
            "scale": _plain(fit.scale),
            "scale_estimated": fit.scale_estimated,
            "mean_objective": _plain(fit.value),
            "log_likelihood": _plain(fit.log_likelihood),
            "aic": _plain(fit.aic),
            "std_error_from": None if np.isnan(fit.errors).all() else "jackknife",
            "converged": fit.converged,
            "gradient": _plain(fit.gradient),
        },
        "ols": {
            "coefficients": terms(fit.ols_coefficients, fit.ols_errors, fit.ols_margins),
            "sigma": _plain(fit.ols_sigma),
            "log_likelihood": _plain(fit.ols_log_likelihood),
            "aic": _plain(fit.ols_aic),
        },
        "degrees_of_freedom": _plain(fit.df),
        "condition_number": _plain(fit.condition),
        "warnings": list(fit.doubts),
        "down_weighted": [
            {
                "row": int(data.rows[i]),
                "target": _plain(data.y[i]),
                "fitted": _plain(data.y[i] - fit.residuals[i]),
                "residual": _plain(fit.residuals[i]),
                "weight": _plain(fit.weights[i]),
            }
            for i in (most_down_weighted(fit, count) if fit.alpha < 2 else [])
        ],
    }
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    # Bytes in a file's name that are no character: \udcff, as JSON has it.
    return text.encode(errors="backslashreplace")


def _plain(value: float | None) -> float | str | None:
    """A JSON value for any number: JSON has neither NaN nor infinities."""
    if value is None or math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))
