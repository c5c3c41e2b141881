"""The plot of times against sizes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..rivals import FASTROBUST
from .speed import Speed

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
