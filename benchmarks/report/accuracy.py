"""Errors: of the loss and its derivatives, and of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

from .tables import Row, number, table

FUNCTION_LABELS = {
    "loss": "ρ",
    "influence": "∂ρ/∂x",
    "weight": "weight",
    "curvature": "∂²ρ/∂x²",
    "dalpha": "∂ρ/∂α",
    "dscale": "∂ρ/∂c",
    "log_partition": "log Z",
    "log_partition_dalpha": "(log Z)′",
}


def accuracy(rows: list[Row]) -> str:
    """Largest errors over the domain, how often the plain formula is off, and the known defects."""
    found = {(r["set"], r["function"], r["dtype"], r["who"]): r for r in rows}

    def cell(who: str, function: str, dtype: str, key: str, where: Sequence[str] = ("domain", "ordinary")) -> str:
        values = [float(r[key]) for s in where if (r := found.get((s, function, dtype, who)))]
        return number(max(values)) if values else "–"

    lines = []
    for function, label in FUNCTION_LABELS.items():
        bound = [found[("domain", function, d, "fastrobust")]["bound"] for d in ("float32", "float64")]
        line = [label, " / ".join(bound)]
        line += [cell("fastrobust", function, d, "max_ulp") for d in ("float32", "float64")]
        for who in ("numpy", "torch autograd"):
            shares = [cell(who, function, d, "percent_beyond_bound", ("ordinary",)) for d in ("float32", "float64")]
            line.append("–" if shares[0] == "–" else " / ".join(f"{s} %" for s in shares))
        lines.append(line)
    count = int(found[("domain", "loss", "float32", "fastrobust")]["points"])
    header = (
        "max. error in ulp",
        "bound (float32 / float64)",
        "float32",
        "float64",
        "beyond the bound: plain formula, gradients by hand",
        "the same, gradients by autograd",
    )
    defects = []
    for row in rows:
        if row["set"].startswith("defect: ") and row["who"] == "fastrobust":
            others = [
                found.get((row["set"], row["function"], row["dtype"], who)) for who in ("numpy", "torch autograd")
            ]
            values = [f"{float(o['got']):.5g}" if o else "–" for o in others]
            truth, own = (f"{float(row[key]):.5g}" for key in ("truth", "got"))
            if set(values) - {truth, "–"}:
                case = f"{FUNCTION_LABELS[row['function']]}, {row['set'].removeprefix('defect: ')}, {row['dtype']}"
                defects.append([case, truth, own, *values])
    return "\n\n".join(
        [
            table(header, lines),
            f"Per dtype {count:,} points from the whole domain (neighbours of the branch points, random bit patterns, "
            f"the ends of the range) and {count:,} ordinary ones (|x| within a few decades of c, α from −4 to 4); the "
            "shares on the right are of the ordinary points. A NaN or inf that should not be one counts as beyond.",
            table(
                ("known traps (c = 1)", "truth", "fastrobust", "plain formula, by hand", "plain formula, autograd"),
                defects,
            ),
        ]
    )


def catalogue(rows: list[Row]) -> str:
    """A line for each loss: the largest error of its value, and of its derivatives the largest of all, and whose."""
    worst: dict[tuple[str, str, bool], Row] = {}
    for row in rows:
        key = row["loss"], row["dtype"], row["output"] == "value"
        if key not in worst or float(row["max_ulp"]) > float(worst[key]["max_ulp"]):
            worst[key] = row

    def cell(loss: str, dtype: str, value: bool) -> str:
        row = worst[(loss, dtype, value)]
        text = number(float(row["max_ulp"]))
        return text if value or float(row["max_ulp"]) == 0 else f"{text} (`{row['output']}`)"

    kinds = [(dtype, value) for value in (True, False) for dtype in ("float32", "float64")]
    lines = [
        [f"`{loss}`", *(cell(loss, *kind) for kind in kinds)] for loss in dict.fromkeys(row["loss"] for row in rows)
    ]
    header = ["max. error in ulp", "value, float32", "float64", "worst derivative, float32", "float64"]
    first = rows[0]
    return (
        f"{table(header, lines)}\n\n{int(first['points']):,} points of each dtype, seed {first['seed']}, mpmath "
        f"{first['mpmath']}; {first['date']}, commit {first['commit']}. Generated from "
        "[results/accuracy_catalogue.csv](results/accuracy_catalogue.csv)."
    )
