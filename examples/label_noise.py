"""Digits of which some are labelled wrongly: cross-entropy, and a robust loss of it.

A classifier with 600 random features of scikit-learn's handwritten digits, enough to learn wrong labels by heart, is
fitted to labels of which a share was replaced by others at random, and judged by other digits, rightly labelled.
Cross-entropy gives wrong labels the most to say, since their loss is largest; in Geman-McClure's loss of it they count
less. The picture shows the share of right answers over the share of wrong labels, and the weights that labels end with.

    pip install ".[sklearn,plot]"              # in a clone of the repository
    python examples/label_noise.py           # prints the shares, writes label_noise.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole
from scipy.optimize import minimize
from sklearn.datasets import load_digits

import fastrobust as fr
from fastrobust import losses

matplotlib.use("Agg")
from matplotlib import pyplot

CLASSES, FEATURES, RIDGE = 10, 600, 0.1
ALPHA, SCALE = -2.0, 4.0  # Geman and McClure's shape, and the cross-entropy from which on votes fade
Loss = Callable[[Any, Any], tuple[float, Any]]  # of logits and labels: the sum over samples, and its gradient


def entropy(logits: Any, labels: Any) -> tuple[float, Any]:
    """Cross-entropy."""
    found = losses.cross_entropy.value_and_grad(logits, labels, reduction="sum")
    return float(found.value), found.dx


def robust(logits: Any, labels: Any) -> tuple[float, Any]:
    """The robust loss of the cross-entropy: its derivative is the factor of each sample's gradient."""
    of_rows = losses.cross_entropy(logits, labels)
    outer = fr.loss_and_grad(of_rows, ALPHA, SCALE, wrt=("x",))
    inner = losses.cross_entropy.value_and_grad(logits, labels, weights=outer.dx)
    return float(outer.value.sum()), inner.dx


WAYS: dict[str, Loss] = {"cross-entropy": entropy, "robust": robust}


def fitted(X: Any, labels: Any, loss: Loss) -> Any:
    """The coefficients of the classifier, with a small ridge penalty."""

    def objective(flat: Any) -> tuple[float, Any]:
        coefficients = flat.reshape(X.shape[1], CLASSES)
        value, slopes = loss(X @ coefficients, labels)
        return value + 0.5 * RIDGE * float(flat @ flat), (X.T @ slopes).ravel() + RIDGE * flat

    start = np.zeros(X.shape[1] * CLASSES)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 150})
    return found.x.reshape(X.shape[1], CLASSES)


def main(arguments: list[str] | None = None) -> None:
    """Spoil labels, fit, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=float, default=0.6, help="largest share of wrong labels, below 0.9 (0.6)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the wrong labels (0)")
    parser.add_argument("--figure", type=Path, default=Path("label_noise.png"), help="picture (label_noise.png)")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.most < 0.9:
        parser.error("--most must be above 0 and below 0.9, where labels say nothing")

    images, right = load_digits(return_X_y=True)
    rng = np.random.default_rng(chosen.seed)
    pixels = (images - images.mean(0)) / 16
    hidden = np.maximum(pixels @ rng.standard_normal((64, FEATURES)) + rng.standard_normal(FEATURES), 0) / 10
    X = np.column_stack([hidden, np.ones(len(hidden))])
    order = rng.permutation(len(X))
    train, test = order[:1200], order[1200:]
    other = (right + rng.integers(1, CLASSES, right.size)) % CLASSES
    draw = rng.random(right.size)
    shares = np.linspace(0, chosen.most, 4)
    scores: dict[str, list[float]] = {name: [] for name in WAYS}
    for share in shares:
        labels = np.where(draw < share, other, right)
        for name, loss in WAYS.items():
            coefficients = fitted(X[train], labels[train], loss)
            scores[name].append(float(np.mean((X[test] @ coefficients).argmax(1) == right[test])))
        told = ", ".join(f"{name} {values[-1]:.3f}" for name, values in scores.items())
        print(f"{share:.0%} wrong labels: right answers by {told}")
    weights = fr.weight(losses.cross_entropy(X[train] @ coefficients, labels[train]), ALPHA, SCALE) * SCALE**2
    wrong = labels[train] != right[train]
    print(f"mean weight of right labels {weights[~wrong].mean():.3f}, of wrong ones {weights[wrong].mean():.3f}")

    figure, (left, side) = pyplot.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
    for name, values in scores.items():
        left.plot(shares, values, "o-", label=name)
    left.set(xlabel="share of wrong labels", ylabel="share of right answers", ylim=(None, 1))
    left.legend()
    side.hist([weights[~wrong], weights[wrong]], bins=20, label=["right label", "wrong label"])
    side.set(xlabel=f"weight of a label, {shares[-1]:.0%} of them wrong", ylabel="labels")
    side.legend()
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
