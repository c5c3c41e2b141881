"""README tables, the plot and the list of goals from the results: ``python -m benchmarks.report``."""

# ruff: noqa: RUF001  Greek letters and real minus signs are meant: a reader sees them.

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from .measure import RESULTS, ROOT, read_csv
from .rivals import BARE, FASTROBUST, NEW

Row = dict[str, str]

BENCHMARKS = Path(__file__).with_name("README.md")
HEADLINE = 10**7  # elements of the tables on large arrays
SMALL = (1, 10, 100, 1000)
PLAIN = ("numpy", "numexpr", "torch eager", "torch.compile", "jax.jit")
LABELS = {
    "numpy": "NumPy",
    "numexpr": "numexpr",
    "torch eager": "PyTorch, eager",
    "torch.compile": "`torch.compile`",
    "jax.jit": "`jax.jit`",
    FASTROBUST: "**fastrobust**",
    NEW: "fastrobust, memory for the results not reused",
}
WORKS = (("loss", "none"), ("loss_and_grad", "none"), ("loss_and_grad", "mean"))
WORK_LABELS = ("`loss`", "`loss_and_grad`", '`loss_and_grad(reduction="mean")`')
PARAMETER_LABELS = {"scalar": "numbers", "columns": "per column", "full": "per element"}
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

# --- lookups


class Speed:
    """The rows of cpu.csv."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        sizes = {int(row["size"]) for row in rows if row["size"]}
        self.large = max((n for n in sizes if n <= HEADLINE), default=0)
        self.sizes = sorted(sizes)
        self._by_key = {self._key(row): row for row in rows if row["median_s"]}

    @staticmethod
    def _key(row: Row) -> tuple[str, ...]:
        return tuple(row[k] for k in ("work", "reduction", "dtype", "parameters", "size", "rival"))

    def row(
        self, work: tuple[str, str], rival: str, size: int, dtype: str = "float32", parameters: str = "scalar"
    ) -> Row:
        """That measurement, or an empty row if it was not made."""
        return self._by_key.get((*work, dtype, parameters, str(size), rival), {})

    def seconds(
        self, work: tuple[str, str], rival: str, size: int, dtype: str = "float32", parameters: str = "scalar"
    ) -> float:
        """Median seconds, NaN if not timed."""
        return float(self.row(work, rival, size, dtype, parameters).get("median_s", "nan"))

    def startup(self, prefix: str) -> list[float]:
        """Median seconds of all rows whose work begins like that."""
        return [float(row["median_s"]) for row in self.rows if row["work"].startswith(prefix)]

    def fastest(
        self, work: tuple[str, str], rivals: Sequence[str], size: int, dtype: str, parameters: str
    ) -> tuple[float, str]:
        """Seconds and name of the fastest of these rivals."""
        found = [(self.seconds(work, name, size, dtype, parameters), name) for name in rivals]
        return min((f for f in found if f[0] == f[0]), default=(float("nan"), ""))


def _short(value: float, digits: int = 2) -> str:
    """So many significant digits, without exponent, and no fewer than stand before the point."""
    if value != value:
        return "–"
    return f"{value:.{digits}g}" if value < 10**digits else f"{value:,.0f}"


def _power(size: int) -> str:
    superscript = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    exponent = len(str(size)) - 1
    return "10" + str(exponent).translate(superscript) if size == 10**exponent else f"{size:,}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# --- README: accuracy


def accuracy(rows: list[Row]) -> str:
    """Largest errors over the domain, how often the plain formula is off, and the known defects."""
    found = {(r["set"], r["function"], r["dtype"], r["who"]): r for r in rows}

    def cell(who: str, function: str, dtype: str, key: str, where: Sequence[str] = ("domain", "ordinary")) -> str:
        values = [float(r[key]) for s in where if (r := found.get((s, function, dtype, who)))]
        return _number(max(values)) if values else "–"

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
            _table(header, lines),
            f"Per dtype {count:,} points from the whole domain (neighbours of the branch points, random bit patterns, "
            f"the ends of the range) and {count:,} ordinary ones (|x| within a few decades of c, α from −4 to 4); the "
            "shares on the right are of the ordinary points. A NaN or inf that should not be one counts as beyond.",
            _table(
                ("known traps (c = 1)", "truth", "fastrobust", "plain formula, by hand", "plain formula, autograd"),
                defects,
            ),
        ]
    )


def _number(value: float) -> str:
    return _short(value) if value < 1000 else f"{value:.0e}".replace("e+", "e")


# --- README: speed


def speed(data: Speed) -> str:
    """Large arrays against the rivals, all kinds of parameters, small calls, start."""
    n = data.large
    parts = [_large(data), _kinds(data), _small(data)]
    first = data.rows[0]
    versions = ", ".join(f"{k} {first[k]}" for k in ("numpy", "numba", "torch", "jax", "numexpr") if first[k])
    where = (
        f"{first['cpu']}, {first['cores']} cores, {first['os']}, Python {first['python']}, {versions}; "
        f"{first['date']}, commit {first['commit']}. Generated by `python -m benchmarks.report` from "
        "[benchmarks/results/cpu.csv](benchmarks/results/cpu.csv); how it is measured: "
        "[benchmarks/README.md](benchmarks/README.md)."
    )
    imports, warm, cold = (data.startup(p) for p in ("import", "first call, warm", "first call, cold"))
    if imports and warm and cold:
        parts.append(
            f"`import fastrobust` takes {_short(1e3 * max(imports))} ms beyond NumPy. The first call in a process "
            f"takes up to {_short(1e3 * max(warm))} ms if its kernel is in the disk cache and {_short(min(cold))} to "
            f"{_short(max(cold))} s if it has to be compiled."
        )
    plot = f"![Nanoseconds an element against size]({(RESULTS / 'speed.svg').relative_to(ROOT).as_posix()})"
    return "\n\n".join(
        [f"Nanoseconds an element, float32, α and c as numbers, {_power(n)} elements:", *parts, plot, where]
    )


def _large(data: Speed) -> str:
    lines = []
    base = [data.seconds(work, FASTROBUST, data.large) for work in WORKS]
    floors = [float(data.row(work, FASTROBUST, data.large).get("floor_s", "nan")) for work in WORKS]
    lines.append(["memory copy of the same bytes", *(_short(1e9 * f / data.large) for f in floors)])
    for name in (FASTROBUST, NEW, *reversed(PLAIN)):
        line = [LABELS[name]]
        for work, own in zip(WORKS, base, strict=True):
            seconds = data.seconds(work, name, data.large)
            factor = "" if name in (FASTROBUST, NEW) or seconds != seconds else f" ({_short(seconds / own)}×)"
            line.append(_short(1e9 * seconds / data.large) + factor)
        lines.append(line)
    return _table(("", *WORK_LABELS), lines)


def _kinds(data: Speed) -> str:
    lines = []
    for dtype in ("float32", "float64"):
        for parameters, label in PARAMETER_LABELS.items():
            line = [f"{dtype}, α and c {label}"]
            for work in WORKS:
                row = data.row(work, FASTROBUST, data.large, dtype, parameters)
                if not row:
                    line.append("–")
                    continue
                seconds, name = data.fastest(work, PLAIN, data.large, dtype, parameters)
                text = f"{_short(float(row['ns_per_element']))} ns, {_short(float(row['percent_of_floor']))} %"
                if name:
                    text += f", {_short(seconds / float(row['median_s']))}× {LABELS[name]}"
                line.append(text)
            lines.append(line)
    intro = "Time an element, percent of the speed of a memory copy, and how many times the fastest rival takes:"
    return intro + "\n\n" + _table(("", *WORK_LABELS), lines)


def _small(data: Speed) -> str:
    sizes = [n for n in SMALL if n in data.sizes]
    lines = []
    rows = [("bare NumPy ufunc (`np.add`)", ("loss", "none"), BARE)]
    rows += [(f"fastrobust {label}", work, FASTROBUST) for label, work in zip(WORK_LABELS, WORKS, strict=True)]
    rows += [(f"{LABELS[name]}, value and gradients", ("loss_and_grad", "none"), name) for name in PLAIN]
    for label, work, name in rows:
        lines.append([label, *(_short(1e6 * data.seconds(work, name, n)) for n in sizes)])
    header = ("", *(f"{n:,} element{'s' * (n > 1)}" for n in sizes))
    return "Microseconds a call on small float32 arrays:\n\n" + _table(header, lines)


# --- goals


class Goal(NamedTuple):
    """A ratio of design.md."""

    what: str
    value: float
    limit: float
    at_least: bool
    unit: str

    @property
    def reached(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def goals(data: Speed) -> Iterator[Goal]:
    """The goals that were set for the speed, with what was measured."""
    n, at = data.large, f"float32, {_power(data.large)} elements"
    grad, mean = ("loss_and_grad", "none"), ("loss_and_grad", "mean")
    own = data.seconds(grad, FASTROBUST, n)
    percent = float(data.row(grad, FASTROBUST, n).get("percent_of_floor", "nan"))
    yield Goal(f"loss_and_grad, {at}: speed of a memory copy", percent, 80, True, "%")
    yield Goal("  times torch.compile", data.seconds(grad, "torch.compile", n) / own, 5, True, "x")
    # The reference package is the plain formula in eager PyTorch, with a few more selects.
    eager = data.seconds(grad, "torch eager", n)
    yield Goal("  times eager torch (stands for the reference package)", eager / own, 25, True, "x")
    for parameters in PARAMETER_LABELS:
        seconds, name = data.fastest(mean, ("torch.compile", "jax.jit"), n, "float32", parameters)
        own = data.seconds(mean, FASTROBUST, n, "float32", parameters)
        yield Goal(f"mean and gradients, {at}, {parameters}: times {name}", seconds / own, 5, True, "x")
    for work in WORKS:
        for size in (size for size in SMALL if size in data.sizes):
            beyond = 1e6 * (data.seconds(work, FASTROBUST, size) - data.seconds(work, BARE, size))
            what = f"{' '.join(w for w in work if w != 'none')}, {size} elements: beyond a bare ufunc"
            yield Goal(what, beyond, 2, False, "us")
    for prefix, limit in (("import", 0.01), ("first call, warm", 0.7), ("first call, cold", 3.0)):
        yield Goal(
            f"{prefix}: slowest", 1e3 * max(data.startup(prefix), default=float("nan")), 1e3 * limit, False, "ms"
        )


def print_goals(data: Speed) -> None:
    """One line each."""
    for goal in goals(data):
        verdict = "not measured" if goal.value != goal.value else "reached" if goal.reached else "NOT REACHED"
        sign = ">=" if goal.at_least else "<="
        print(f"{verdict:12} {goal.value:9.3g} {goal.unit:2} {sign} {goal.limit:6g}   {goal.what}")


# --- plot

# Okabe and Ito's colours, with markers: neither has to be told from the other by colour alone.
STYLES = {
    FASTROBUST: ("#000000", "o", "fastrobust"),
    "jax.jit": ("#009E73", "s", "jax.jit(value_and_grad)"),
    "torch.compile": ("#D55E00", "^", "torch.compile, forward + backward"),
    "torch eager": ("#E69F00", "v", "PyTorch eager, forward + backward"),
    "numpy": ("#0072B2", "D", "NumPy"),
    "numexpr": ("#CC79A7", "P", "numexpr"),
}


def plot(data: Speed, path: Path) -> None:
    """Nanoseconds an element against size; the same bytes from the same results, whatever the day."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "fastrobust", "font.size": 10, "font.family": "DejaVu Sans"})
    work = ("loss_and_grad", "none")
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, (color, marker, label) in reversed(STYLES.items()):
        line = [(n, 1e9 * t / n) for n in data.sizes if (t := data.seconds(work, name, n)) == t]
        width = 2.5 if name == FASTROBUST else 1.5
        axes.plot(*zip(*line, strict=True), color=color, marker=marker, markersize=5, linewidth=width, label=label)
    floor = [
        (n, 1e9 * float(row["floor_s"]) / n)
        for n in data.sizes
        if (row := data.row(work, FASTROBUST, n)).get("floor_s")
    ]
    axes.plot(*zip(*floor, strict=True), color="#666666", linestyle="--", label="memory copy of the same bytes")
    axes.set(xscale="log", yscale="log", xlabel="elements", ylabel="nanoseconds an element")
    axes.set_title("Value and all gradients, float32, α and c as numbers")
    axes.grid(which="major", color="#dddddd")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        temporary = Path(directory) / path.name
        figure.savefig(temporary, metadata={"Date": None, "Creator": None})
        os.replace(temporary, path)
    pyplot.close(figure)


# --- benchmarks/README: the catalogue


def catalogue(rows: list[Row]) -> str:
    """A line for each loss: the largest error of its value, and of its derivatives the largest of all, and whose."""
    worst: dict[tuple[str, str, bool], Row] = {}
    for row in rows:
        key = row["loss"], row["dtype"], row["output"] == "value"
        if key not in worst or float(row["max_ulp"]) > float(worst[key]["max_ulp"]):
            worst[key] = row

    def cell(loss: str, dtype: str, value: bool) -> str:
        row = worst[(loss, dtype, value)]
        text = _number(float(row["max_ulp"]))
        return text if value or float(row["max_ulp"]) == 0 else f"{text} (`{row['output']}`)"

    kinds = [(dtype, value) for value in (True, False) for dtype in ("float32", "float64")]
    lines = [
        [f"`{loss}`", *(cell(loss, *kind) for kind in kinds)] for loss in dict.fromkeys(row["loss"] for row in rows)
    ]
    header = ["max. error in ulp", "value, float32", "float64", "worst derivative, float32", "float64"]
    first = rows[0]
    return (
        f"{_table(header, lines)}\n\n{int(first['points']):,} points of each dtype, seed {first['seed']}, mpmath "
        f"{first['mpmath']}; {first['date']}, commit {first['commit']}. Generated from "
        "[results/accuracy_catalogue.csv](results/accuracy_catalogue.csv)."
    )


# --- README: GPU


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


# --- README: a step in PyTorch


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


def source(row: dict[str, str], package: str, file: str) -> str:
    """Machine, version, date, and where the numbers under a table come from."""
    return (
        f"{row['cpu']}, {row['cores']} cores, {package} {row[package]}; {row['date']}, commit {row['commit']}. "
        f"Generated from [benchmarks/results/{file}](benchmarks/results/{file})."
    )


# --- README: calls in JAX


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


# --- README: loops


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


# --- README


def replaced(text: str, name: str, content: str) -> str:
    """The text with what stands between the markers of that name replaced."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise SystemExit(f"README: expected {begin} and after it {end}, each once")
    return text[: text.index(begin) + len(begin)] + "\n" + content + "\n" + text[text.index(end) :]


def main(arguments: list[str] | None = None) -> int:
    """Regenerate, or with --check compare."""
    parser = argparse.ArgumentParser("python -m benchmarks.report", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the README's tables are stale")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="DIR", help="where cpu.csv and accuracy.csv are"
    )
    parser.add_argument(
        "--readme", type=Path, default=ROOT / "README.md", metavar="FILE", help="the file with the markers"
    )
    chosen = parser.parse_args(arguments)
    modules = "cpu", "accuracy", "accuracy_catalogue"
    files = [chosen.results / f"{module}.csv" for module in modules]
    for file, module in zip(files, modules, strict=True):
        if not file.is_file():
            print(f"{file} is missing: run python -m benchmarks.{module} first", file=sys.stderr)
            return 1
    data = Speed(read_csv(files[0]))
    documents = {}  # what stands in them, and what ought to
    old = BENCHMARKS.read_text(encoding="utf-8")
    documents[BENCHMARKS] = old, replaced(old, "catalogue", catalogue(read_csv(files[2])))
    old = chosen.readme.read_text(encoding="utf-8")
    new = replaced(replaced(old, "accuracy", accuracy(read_csv(files[1]))), "speed", speed(data))
    new = replaced(new, "gpu", gpu(chosen.results / "gpu.csv"))
    new = replaced(new, "torch", step(chosen.results / "torch.csv"))
    new = replaced(new, "jax", in_jax(chosen.results / "jax.csv"))
    new = replaced(new, "loops", loops(chosen.results / "loops.csv"))
    documents[chosen.readme] = old, new
    stale = [path for path, (is_there, ought) in documents.items() if is_there != ought]
    if chosen.check:
        for path in stale:
            print(f"{path} is stale: run python -m benchmarks.report", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.write_text(documents[path][1], encoding="utf-8")
    plot(data, chosen.results / "speed.svg")
    print_goals(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
