"""Embeddings by the triplet loss: handwritten digits in a plane, those of one kind together.

A linear map of scikit-learn's digits to two dimensions, fitted so that each digit is nearer to one of its kind than to
one of another, by a margin. The picture shows digits that the map has not seen, by the two largest principal components
and by the map; the share of those whose nearest neighbours in the plane vote for their kind is printed for both.

    pip install ".[sklearn,plot]"             # in a clone of the repository
    python examples/embeddings.py           # prints the shares, writes embeddings.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole
from scipy.optimize import minimize
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from fastrobust import losses

matplotlib.use("Agg")
from matplotlib import pyplot


def triplets(labels: Any, rng: Any, count: int) -> tuple[Any, Any, Any]:
    """For anchors at random one of their kind and one of another, by their numbers."""
    anchors = rng.integers(0, labels.size, count)
    of_kind = [np.flatnonzero(labels == kind) for kind in range(10)]
    others = [np.flatnonzero(labels != kind) for kind in range(10)]
    near = np.array([rng.choice(of_kind[kind]) for kind in labels[anchors]])
    far = np.array([rng.choice(others[kind]) for kind in labels[anchors]])
    return anchors, near, far


def fitted(X: Any, labels: Any, start: Any, margin: float, rng: Any) -> Any:
    """The map: the triplet loss of 20,000 triplets, with the smaller of both distances to the negative."""
    places = triplets(labels, rng, 20_000)

    def objective(flat: Any) -> tuple[float, Any]:
        whole_map = flat.reshape(start.shape)
        rows = [X[place] @ whole_map for place in places]
        found = losses.triplet.value_and_grad(*rows, margin, swap=True, reduction="mean")
        slopes = sum(X[place].T @ part for place, part in zip(places, found[1:4], strict=True))
        return float(found.value) + 5e-4 * float(flat @ flat), np.asarray(slopes).ravel() + 1e-3 * flat

    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    print(f"triplet loss {objective(start.ravel())[0]:.3f} at the principal components, {found.fun:.3f} in the end")
    return found.x.reshape(start.shape)


def main(arguments: list[str] | None = None) -> None:
    """Fit, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--margin", type=float, default=1.0, help="by which others are to be farther away (1)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the triplets (0)")
    parser.add_argument("--figure", type=Path, default=Path("embeddings.png"), help="picture (embeddings.png)")
    chosen = parser.parse_args(arguments)
    if not chosen.margin > 0:
        parser.error("--margin must be positive")

    images, labels = load_digits(return_X_y=True)
    X = (images - images.mean(0)) / 16
    rng = np.random.default_rng(chosen.seed)
    order = rng.permutation(len(X))
    train, test = order[:1200], order[1200:]
    components = np.linalg.svd(X[train], full_matrices=False)[2][:2].T
    maps = {
        "principal components": components,
        "triplet loss": fitted(X[train], labels[train], components, chosen.margin, rng),
    }
    figure, places = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    for axes, (name, whole_map) in zip(places, maps.items(), strict=True):
        neighbours = KNeighborsClassifier(5).fit(X[train] @ whole_map, labels[train])
        share = neighbours.score(X[test] @ whole_map, labels[test])
        print(f"{name}: {share:.3f} of the digits are among their kind")
        plane = X[test] @ whole_map
        axes.scatter(*plane.T, c=labels[test], cmap="tab10", s=6)
        for kind in range(10):
            axes.annotate(str(kind), np.median(plane[labels[test] == kind], axis=0), fontsize=14, weight="bold")
        axes.set(title=f"{name}: {share:.1%}", xticks=[], yticks=[], aspect="equal")
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
