"""Times on GPUs, in PyTorch, in JAX and of loops."""

from __future__ import annotations

from pathlib import Path

from ..measure import read_csv
from ..rivals import FASTROBUST
from .tables import PARAMETER_LABELS, power, short, source, table


def gpu(path: Path) -> str:
    """Percent of the copy bandwidth on the largest arrays, and the fastest rival."""
    if not path.is_file():
        return "Not measured on a GPU yet: `PYTHONPATH=. python -m benchmarks.gpu` does, where there is one."
    rows = [row for row in read_csv(path) if row["percent_of_copy"]]
    largest = str(max(int(row["size"]) for row in rows))
    chosen = [row for row in rows if row["size"] == largest]
    works = list(dict.fromkeys(row["work"] for row in chosen))
    kinds = list(dict.fromkeys((row["dtype"], row["parameters"]) for row in chosen))

    def cell(work: str, kind: tuple[str, str]) -> str:
        here = [row for row in chosen if (row["work"], row["dtype"], row["parameters"]) == (work, *kind)]
        ours = next((row for row in here if row["rival"] == FASTROBUST), None)
        if ours is None:
            return ""
        text = f"{float(ours['percent_of_copy']):.0f} %"
        rivals = [row for row in here if row is not ours]
        if rivals:
            best = min(rivals, key=lambda row: float(row["median_s"]))
            text += f", {float(best['median_s']) / float(ours['median_s']):.1f}× {best['rival']}"
        return text

    first = chosen[0]
    lines = [
        f"Percent of the speed of a device-to-device copy ({float(first['copy_gb_per_s']):.0f} GB/s), {int(largest):,} "
        "elements, and how many times the fastest rival takes:",
        "",
        f"| | {' | '.join(works)} |",
        "|---|" + "---|" * len(works),
        *(
            f"| {dtype}, α and c {PARAMETER_LABELS[parameters]} | "
            + " | ".join(cell(work, (dtype, parameters)) for work in works) + " |"
            for dtype, parameters in kinds
        ),
        "",
        f"{first['gpu']}, driver {first['driver']}, CuPy {first['cupy']}; {first['date']}, commit {first['commit']}.",
    ]  # fmt: skip
    return "\n".join(lines)


def shapes(path: Path) -> str:
    """Nanoseconds an element where alpha is a number with a closed form, and what the others take."""
    if not path.is_file():
        return "Not measured yet: `python -m benchmarks.shapes` does."
    rows = read_csv(path)
    first = rows[0]
    columns = list(dict.fromkeys((row["work"], row["who"]) for row in rows))
    times: dict[str, dict[tuple[str, str], str]] = {}
    for row in rows:
        alpha = row["alpha"].removesuffix(".0").replace("-", "−").replace("inf", "∞")
        times.setdefault(alpha, {})[row["work"], row["who"]] = short(float(row["ns_per_element"]))
    lines = [[alpha, *(of_alpha.get(column, "–") for column in columns)] for alpha, of_alpha in times.items()]
    header = ["α", *(f"{work}: {who}" for work, who in columns)]
    size = power(int(first["size"]))
    return (
        f"Nanoseconds an element where α is a number with a closed form, float32, {size} elements; the others evaluate "
        f"that form:\n\n{table(header, lines)}\n\n{source(first, 'torch', 'shapes.csv')}"
    )


def rows(path: Path) -> str:
    """Nanoseconds an element of losses of rows and of sums with their gradients, and of a copy of what must move."""
    if not path.is_file():
        return "Not measured yet: `python -m benchmarks.rows` does."
    found = read_csv(path)
    first = found[0]
    who = list(dict.fromkeys(row["who"] for row in found))
    by = {(row["work"], row["who"]): row for row in found}

    def copied(row: dict[str, str]) -> float:
        return float(row["floor_s"]) / float(row["median_s"]) * float(row["ns_per_element"])

    lines = [
        [
            work,
            f"{int(by[work, who[0]]['elements']) / 1e6:.1f}",
            *(short(float(by[work, name]["ns_per_element"])) if (work, name) in by else "–" for name in who),
            short(copied(by[work, who[0]])),
        ]
        for work in dict.fromkeys(row["work"] for row in found)
    ]
    return (
        "Nanoseconds an element (a logit, pixel, number of an anchor) of the mean loss with its gradients, float32, "
        f"and of a copy of the bytes that must move:\n\n{table(['loss', 'million', *who, 'copy'], lines)}\n\n"
        f"{source(first, 'torch', 'rows.csv')}"
    )


def step(path: Path) -> str:
    """Microseconds of a training step, and what autograd keeps, against the others."""
    if not path.is_file():
        return "Not measured yet: `python -m benchmarks.torch_step` does."
    rows = [row for row in read_csv(path) if row["device"] == "cpu"]
    names = list(dict.fromkeys(row["module"] for row in rows))
    cases = list(dict.fromkeys((row["features"], row["size"]) for row in rows))

    def cell(name: str, case: tuple[str, str]) -> str:
        row = next(r for r in rows if (r["module"], r["features"], r["size"]) == (name, *case))
        kept = f", {int(row['saved_bytes']) / 1e6:.1f} MB" if int(case[1]) >= 10**6 else ""
        return f"{float(row['median_s']) * 1e6:,.0f}{kept}"

    first = rows[0]
    lines = [
        "Microseconds of a step with learned α and c (mean negative log-likelihood, forward, backward, float32), and "
        "what autograd keeps in between:",
        "",
        "| residuals, pairs of α and c | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
        *(
            f"| {int(size):,}, {features} | " + " | ".join(cell(name, (features, size)) for name in names) + " |"
            for features, size in cases
        ),
        "",
        source(first, "torch", "torch.csv"),
    ]  # fmt: skip
    return "\n".join(lines)


def in_jax(path: Path) -> str:
    """Microseconds of a call, and the same for the plain formula."""
    if not path.is_file():
        return "Not measured yet: `python -m benchmarks.jax_calls` does."
    rows = [row for row in read_csv(path) if row["device"] == "cpu"]
    works, sizes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("work", "size"))

    def cell(work: str, size: str) -> str:
        ours, other = (
            next(r for r in rows if (r["work"], r["size"], r["who"]) == (work, size, who))
            for who in ("fastrobust", "plain formula")
        )
        return f"{float(ours['median_s']) * 1e6:,.0f} ({float(other['times_fastrobust']):.2g}×)"

    first = rows[0]
    lines = [
        "Microseconds of a call under jit (float32, α and c numbers); how many times as long the plain formula takes:",
        "",
        "| elements | " + " | ".join(works) + " |",
        "|---|" + "---:|" * len(works),
        *(f"| {int(size):,} | " + " | ".join(cell(work, size) for work in works) + " |" for size in sizes),
        "",
        source(first, "jax", "jax.csv"),
    ]
    return "\n".join(lines)


def loops(path: Path) -> str:
    """Seconds of fits and samples, beside one of something known."""
    if not path.is_file():
        return "Not measured yet: `python -m benchmarks.loops` does."
    rows = read_csv(path)
    first = rows[0]
    what = {
        "linear model": "linear model, 10⁶ rows, 10 columns, 10 % outliers",
        "alpha and scale": "α and c of 10⁷ residuals, float32",
        "samples": "10⁷ samples",
    }
    lines = ["| work | by | iterations | seconds | times the first |", "|---|---|---:|---:|---:|"]
    for row in rows:
        name = what[row["work"]] if row["who"] == row["reference"] else ""
        seconds, ratio = f"{float(row['median_s']):.3f}", f"{float(row['times_reference']):.2g}"
        lines.append(f"| {name} | `{row['who']}` | {row['iterations'] or '–'} | {seconds} | {ratio} |")
    lines += [
        "",
        source(first, "numpy", "loops.csv"),
    ]
    return "\n".join(lines)
