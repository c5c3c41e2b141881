"""Errors in ulp of each loss of the catalogue and its derivatives: ``python -m benchmarks.accuracy_catalogue``.

The truth is tests/oracle_losses.py, which computes textbook formulas in mpmath. The points are of many sizes, or all
over the range of an operand that has one, by a seed that no test has.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from fastrobust import losses
from fastrobust._accuracy import _points, _ulp

from .measure import PACKAGES, RESULTS, environment, write_csv
from .truth import oracle_losses

SEED = 20261127
BOUND = 4.0  # of the tests, in units in the last place
COLUMN_NAMES = [
    *("loss", "output", "dtype", "numbers", "points", "seed", "max_ulp", "median_ulp", "worst", "truth", "got"),
    *("date", "cpu", "python", *PACKAGES, "fastrobust", "commit"),
]


def rows_of(name: str, dtype: Any, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for the value and for each derivative of a loss; at a bend, where there is none, there is no error."""
    loss = getattr(losses, name)
    operands = _points(loss.formula, dtype, count, seed)
    names = loss.formula.operands
    found = [np.broadcast_to(part, (count,)) for part in loss.value_and_grad(*operands)]
    truths = [oracle_losses.value_and_slopes(name, point) for point in zip(*operands, strict=True)]
    order = loss.formula.order((0,) * len(names))
    for place, (output, form) in enumerate(zip(loss.Grad._fields, order.forms(dtype is np.float64), strict=True)):
        errors = [_ulp(oracle_losses.mp, true[place], got) for true, got in zip(truths, found[place], strict=True)]
        i = int(np.argmax(errors))
        yield {
            "loss": name,
            "output": output,
            "dtype": np.dtype(dtype).name,
            "numbers": form.__name__.replace("_", " "),
            "points": count,
            "seed": seed,
            "max_ulp": f"{errors[i]:.4g}",
            "median_ulp": f"{np.median(errors):.3g}",
            "worst": " ".join(
                f"{part}={float(operand[i]).hex()}" for part, operand in zip(names, operands, strict=True)
            ),
            "truth": f"{float(truths[i][place]):.17g}",
            "got": f"{float(found[place][i]):.17g}",
        }


def main(arguments: list[str] | None = None) -> int:
    """Compute all rows and write them; 1 if an error is beyond the bound, and the loss does not say that it may be."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.accuracy_catalogue",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--points", type=int, default=500, metavar="N", help="points of each loss and dtype (500)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"the seed of the points ({SEED})")
    parser.add_argument("--losses", nargs="+", metavar="NAME", help="only these; no file without --out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the CSV goes (results/accuracy_catalogue.csv)")
    chosen = parser.parse_args(arguments)
    names = chosen.losses or [name for name in losses.__all__ if name in oracle_losses.VALUES]
    rows = [
        row
        for name in track(names, "against mpmath")
        for dtype in (np.float32, np.float64)
        for row in rows_of(name, dtype, chosen.points, chosen.seed)
    ]
    shared = {key: value for key, value in environment().items() if key in COLUMN_NAMES}
    if not chosen.losses:
        chosen.out = chosen.out or RESULTS / "accuracy_catalogue.csv"
    if chosen.out:
        write_csv(chosen.out, COLUMN_NAMES, [{**row, **shared} for row in rows])
        print(f"{len(rows)} rows in {chosen.out}")
    beyond = [row for row in rows if float(row["max_ulp"]) > BOUND]
    for row in beyond if chosen.out else rows:
        print(*(f"{key}={row[key]}" for key in COLUMN_NAMES[:11]))
    # These are differences, and as exact as their terms: a test of their own has that bound.
    said = {(name, f"d{operand}") for name in names for operand in getattr(losses, name).formula.of_terms}
    return 1 if any((row["loss"], row["output"]) not in said for row in beyond) else 0


if __name__ == "__main__":
    sys.exit(main())
