"""The outlines of coins in a photograph: cross-entropy, Dice's loss, and that with the focal loss.

Each pixel of scikit-image's photograph of Roman coins is described by its brightness, slope and curvature, blurred by
four pixels, and a logistic model tells whether it is on an outline, as one pixel of 19 is. Fitted to the upper half by
cross-entropy it calls hardly any pixel an outline, since few are and none of them is sure. Dice's loss counts what both
have in common; with the focal loss, which makes little of what is easy, about as many are called outlines as there are.
Both are one loss here, evaluated in one pass. The picture shows the lower half.

    pip install ".[examples]"                # in a clone of the repository
    python examples/segmentation.py        # prints the scores, writes segmentation.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from picture import whole
from scipy import ndimage
from scipy.optimize import minimize
from skimage import data

from fastrobust import losses

matplotlib.use("Agg")
from matplotlib import pyplot

BLUR = 4.0  # pixels


def outlines(image: Any) -> Any:
    """Pixels within one of the edge of a coin; coins are what is brighter than the cloth around, without holes."""
    light = ndimage.gaussian_filter(image, 1)
    around = ndimage.gaussian_filter(image, 60)
    coins = ndimage.binary_fill_holes(ndimage.binary_opening(light > around + 0.04, iterations=2))
    parts, count = ndimage.label(coins)
    sizes = ndimage.sum_labels(coins, parts, range(1, count + 1))
    coins = np.isin(parts, 1 + np.flatnonzero(sizes > 400))
    return ndimage.binary_dilation(coins, iterations=1) & ~ndimage.binary_erosion(coins, iterations=1)


def features(image: Any) -> Any:
    """Blurred brightness, slope and curvature, standardized, and 1."""
    filters = ndimage.gaussian_filter, ndimage.gaussian_gradient_magnitude, ndimage.gaussian_laplace
    columns = np.stack([one(image, BLUR).ravel() for one in filters], -1)
    return np.column_stack([(columns - columns.mean(0)) / columns.std(0), np.ones(image.size)])


def fitted(X: Any, target: Any, loss: Any, start: Any, **options: Any) -> Any:
    """The coefficients of the logistic model by that loss."""

    def objective(coefficients: Any) -> tuple[float, Any]:
        found = loss.value_and_grad(X @ coefficients, target, wrt=("x",), **options)
        return float(found.value), X.T @ found.dx

    return minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x


def score(predicted: Any, target: Any) -> float:
    """Dice's: twice what both have in common over both."""
    return float(2 * np.sum(predicted & target) / (predicted.sum() + target.sum()))


def main(arguments: list[str] | None = None) -> None:
    """Fit twice, judge, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--focal", type=float, default=1.0, help="factor of the focal loss (1)")
    parser.add_argument("--figure", type=Path, default=Path("segmentation.png"), help="picture (segmentation.png)")
    chosen = parser.parse_args(arguments)
    if not chosen.focal >= 0:
        parser.error("--focal must not be negative")

    image = data.coins() / 255
    target, X = outlines(image), features(image)
    half = image.shape[0] // 2 * image.shape[1]
    upper, lower = X[:half], X[half:]
    truth = target.ravel()
    print(f"{truth.mean():.1%} of {truth.size} pixels are on an outline")
    by_entropy = fitted(upper, truth[:half], losses.bce_logits, np.zeros(X.shape[1]), reduction="mean")
    together = losses.dice_logits + chosen.focal * losses.focal_logits
    ways = {
        "cross-entropy": by_entropy,
        "Dice": fitted(upper, truth[:half], losses.dice_logits, by_entropy),
        "Dice and focal": fitted(upper, truth[:half], together, by_entropy),
    }
    figure, places = pyplot.subplots(2, 3, figsize=(12, 3.9), layout="constrained")
    shape = (image.shape[0] - image.shape[0] // 2, image.shape[1])
    pictures = {"photograph": image.ravel()[half:], "outlines": truth[half:]}
    for name, coefficients in ways.items():
        predicted = lower @ coefficients > 0
        found = score(predicted, truth[half:])
        print(f"{name}: {predicted.mean():.1%} predicted, Dice score {found:.3f}")
        pictures[f"{name}: score {found:.2f}"] = predicted
    probabilities = 1 / (1 + np.exp(-(lower @ ways["Dice and focal"])))
    pictures["Dice and focal: probabilities"] = probabilities
    for axes, (name, picture) in zip(places.ravel(), pictures.items(), strict=True):
        axes.imshow(picture.reshape(shape), cmap="gray")
        axes.set(title=name, xticks=[], yticks=[])
    with whole(chosen.figure) as path:
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
