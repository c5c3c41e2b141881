"""Fit a line to points with outliers in PyTorch, learning how robust to be, and draw how the fit went.

The example that everybody starts from: y = 0.7 x + 0.15 with noise 0.025, a tenth of the points replaced by outliers.
Least squares is pulled away; the adaptive loss finds that alpha near 0 (heavy tails) explains the residuals best.

    pip install ".[torch,plot]"             # in a clone of the repository
    python examples/line_torch.py                       # prints the fits, writes line_torch.png
    python examples/line_torch.py --figure fit.gif      # the same as an animation
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from picture import whole

from fastrobust.torch import AdaptiveLoss

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.animation import FuncAnimation, PillowWriter

TRUE = 0.7, 0.15
FRAMES = 60


def points(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, y, and which are outliers."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=count)
    y = TRUE[0] * x + TRUE[1] + 0.025 * rng.standard_normal(count)
    outlier = rng.uniform(size=count) > 0.9
    y = np.where(outlier, 0.05 + 0.8 * (rng.uniform(size=count) < 0.5), y)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), torch.tensor(outlier)


def fit(x: torch.Tensor, y: torch.Tensor, criterion: torch.nn.Module, steps: int) -> tuple[np.ndarray[Any, Any], float]:
    """Slope, offset, alpha and scale after each step; and the seconds a step took."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    # The loss has parameters of its own: without them here, nothing adapts.
    optimizer = torch.optim.Adam(list(model.parameters()) + list(criterion.parameters()), lr=0.01)
    history = np.full((steps, 4), np.nan)
    start = time.perf_counter()
    for step in range(steps):
        optimizer.zero_grad()
        criterion(model(x[:, None]), y[:, None]).backward()
        optimizer.step()
        history[step, :2] = model.weight.item(), model.bias.item()
        if isinstance(criterion, AdaptiveLoss):
            with torch.no_grad():
                history[step, 2:] = criterion.alpha.item(), criterion.scale.item()
    return history, (time.perf_counter() - start) / steps


def draw(x: torch.Tensor, y: torch.Tensor, outlier: torch.Tensor, fits: dict[str, Any], path: Path) -> None:
    """Points and lines, and how alpha and scale came about; as an animation if the name ends in .gif."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    ends = np.array([0.0, 1.0])
    left.plot(x[~outlier], y[~outlier], ".", color="0.6", markersize=3)
    left.plot(x[outlier], y[outlier], ".", color="tab:orange", markersize=3, label="outliers")
    left.plot(ends, TRUE[0] * ends + TRUE[1], "k--", linewidth=1, label="true line")
    lines = {name: left.plot(ends, ends, label=name)[0] for name in fits}
    left.set(xlabel="x", ylabel="y", ylim=(-0.1, 1.2))
    left.legend(loc="upper left")
    steps = len(next(iter(fits.values())))
    adaptive = fits["adaptive loss"]
    alpha = right.plot([], [], label=r"shape $\alpha$")[0]
    scale = right.plot([], [], label="scale c")[0]
    right.set(xlabel="step", xlim=(0, steps), ylim=(5e-3, 2.5), yscale="log")
    right.legend()

    def frame(step: int) -> None:
        for name, line in lines.items():
            line.set_ydata(fits[name][step, 0] * ends + fits[name][step, 1])
        alpha.set_data(np.arange(step + 1), adaptive[: step + 1, 2])
        scale.set_data(np.arange(step + 1), adaptive[: step + 1, 3])
        figure.suptitle(f"step {step + 1}")

    with whole(path) as part:
        if path.suffix == ".gif":
            shown = np.unique(np.geomspace(1, steps, FRAMES).astype(int)) - 1
            FuncAnimation(figure, frame, frames=shown).save(part, PillowWriter(fps=12), dpi=80)
        else:
            frame(steps - 1)
            figure.savefig(part, dpi=120)
    pyplot.close(figure)


def main(arguments: list[str] | None = None) -> None:
    """Fit by least squares and by the adaptive loss, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="steps of Adam (2000)")
    parser.add_argument("--count", type=int, default=1000, help="points (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the points (0)")
    parser.add_argument(
        "--figure", type=Path, default=Path("line_torch.png"), help="picture, or animation if .gif (line_torch.png)"
    )
    chosen = parser.parse_args(arguments)
    if chosen.steps < 1 or chosen.count < 2:
        parser.error("--steps must be at least 1 and --count at least 2")
    x, y, outlier = points(chosen.count, chosen.seed)
    fits = {}
    for name, criterion in (("least squares", torch.nn.MSELoss()), ("adaptive loss", AdaptiveLoss())):
        fits[name], seconds = fit(x, y, criterion, chosen.steps)
        slope, offset, alpha, scale = fits[name][-1]
        learned = "" if np.isnan(alpha) else f", alpha {alpha:.3f}, scale {scale:.4f}"
        print(f"{name:14} y = {slope:.3f} x + {offset:.3f}{learned}; {seconds * 1e6:.0f} us a step")
    print(f"{'truth':14} y = {TRUE[0]} x + {TRUE[1]}")
    draw(x, y, outlier, fits, chosen.figure)


if __name__ == "__main__":
    main()
