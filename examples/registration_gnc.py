"""Register two views of a terrain although 80 % of the correspondences are wrong, by graduated non-convexity.

The points are a real elevation model (Jacksboro fault, Tennessee; Matplotlib ships it). The second view is turned,
shifted and noisy, and four fifths of its points are somewhere else altogether. Least squares averages over everything,
one step of reweighting starts from there and is as lost; gnc goes from a nearly convex problem to the robust one and
ends at the right pose. It needs nothing but a solver of the weighted problem (here SciPy's, in closed form) and a
function for the residuals.

    pip install ".[optimize,plot]"             # in a clone of the repository
    python examples/registration_gnc.py                  # prints the errors, writes registration_gnc.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole
from scipy.spatial.transform import Rotation

import fastrobust as fr
from fastrobust.optimize import gnc_custom

matplotlib.use("Agg")
from matplotlib import cbook, pyplot

NOISE = 0.01  # in units of the terrain's width
Pose = tuple[Rotation, Any]


def terrain(count: int, rng: np.random.Generator) -> Any:
    """Points of the terrain, in units of its width, the heights stretched threefold."""
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as model:
        heights = np.asarray(model["elevation"], float)
    rows, columns = (rng.integers(0, size, count) for size in heights.shape)
    z = (heights - heights.mean()) / np.ptp(heights)
    return np.c_[columns / heights.shape[1] - 0.5, rows / heights.shape[0] - 0.5, 0.3 * z[rows, columns]]


def solver(source: Any, target: Any) -> Any:
    """The pose that makes the weighted sum of squared distances least."""

    def solve(weights: Any) -> Pose:
        w = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
        a, b = w @ source, w @ target
        turn = Rotation.align_vectors(target - b, source - a, weights=w)[0]
        return turn, b - turn.apply(a)

    return solve


def main(arguments: list[str] | None = None) -> None:
    """Simulate, register three ways, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="points (1000)")
    parser.add_argument("--outliers", type=float, default=0.8, help="share of wrong correspondences (0.8)")
    parser.add_argument("--alpha", type=float, default=-2.0, help="shape to end with (-2, Geman-McClure)")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the outliers (0)")
    parser.add_argument("--figure", type=Path, default=Path("registration_gnc.png"), help="picture to write")
    chosen = parser.parse_args(arguments)
    if chosen.count < 10 or not 0 <= chosen.outliers < 1:
        parser.error("--count must be at least 10, and --outliers at least 0 and less than 1")

    rng = np.random.default_rng(chosen.seed)
    source = terrain(chosen.count, rng)
    true: Pose = Rotation.from_rotvec([0.4, -0.3, 1.2]), np.array([0.5, -0.2, 0.1])
    target = true[0].apply(source) + true[1] + NOISE * rng.standard_normal(source.shape)
    wrong = np.arange(chosen.count) < chosen.outliers * chosen.count
    target[wrong] = rng.uniform((-0.5, -1.0, -0.5), (2.5, 1.5, 1.5), (int(wrong.sum()), 3))

    def residuals(pose: Pose) -> Any:
        return np.linalg.norm(pose[0].apply(source) + pose[1] - target, axis=1)

    solve, scale = solver(source, target), 3 * NOISE
    squares = solve(None)
    once = solve(fr.weight(residuals(squares), chosen.alpha, scale))
    robust = gnc_custom(solve, residuals, chosen.alpha, scale)
    print(f"gnc: {robust.message} after {robust.nit} stages")

    figure, panels = pyplot.subplots(1, 3, figsize=(11, 4), layout="constrained", subplot_kw={"projection": "3d"})
    poses = {"least squares": squares, "reweighted once": once, "gnc": robust.x}
    for axes, (name, (turn, shift)) in zip(panels, poses.items(), strict=True):
        angle = np.degrees((turn * true[0].inv()).magnitude())
        print(f"{name:>16}: off by {angle:6.2f} degrees and {np.linalg.norm(shift - true[1]):.4f} widths")
        moved = turn.apply(source) + shift
        axes.scatter(*target[~wrong].T, s=4, color="0.3", label="second view, right")
        axes.scatter(*target[wrong].T, s=3, color="tab:orange", alpha=0.6, label="second view, wrong")
        axes.scatter(*moved[~wrong].T, s=4, color="tab:blue", label="first view, registered")
        axes.set(title=f"{name}: {angle:.2f} degrees off", xticklabels=[], yticklabels=[], zticklabels=[])
    panels[0].legend(loc="lower left", fontsize="small")
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
