"""README's tables, the plot and the list of goals from the results: ``python -m benchmarks.report``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..measure import RESULTS, ROOT, read_csv
from .accuracy import accuracy, catalogue
from .adapters import gpu, in_jax, loops, rows, shapes, step
from .goals import print_goals
from .plot import plot
from .speed import Speed, speed

BENCHMARKS = Path(__file__).parents[1] / "README.md"


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
    new = replaced(new, "shapes", shapes(chosen.results / "shapes.csv"))
    new = replaced(new, "rows", rows(chosen.results / "rows.csv"))
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
