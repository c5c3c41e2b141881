"""Numbers of other libraries, whose conventions the README translates: computed by them once, on these inputs.

Keras 3.15.1 with JAX, in float32; MONAI 1.6.1, in float64.  Both need more than tests should install.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastrobust import losses

LOGITS = np.array([[8.0, 1.0, 1.0], [0.0, 9.0, 1.0], [2.0, 3.0, 5.0]])
SHARES = np.array([[0.9, 0.05, 0.05], [0.5, 0.89, 0.6], [0.05, 0.01, 0.94]])
CLASSES = np.array([0, 1, 2])
ONE_HOT = np.eye(3)
KERAS: list[tuple[str, Any, Any]] = [
    # CategoricalCrossentropy(from_logits=True), with label_smoothing=0.1, with sample_weight
    ("mean over samples", lambda: losses.cross_entropy(LOGITS, CLASSES, reduction="sum") / 3, 0.05737559124827385),
    (
        "label smoothing",
        lambda: losses.cross_entropy(LOGITS, ONE_HOT, label_smoothing=0.1),
        [0.4684886932373047, 0.5671254396438599, 0.3365127444267273],
    ),
    (
        "sample weights",
        lambda: losses.cross_entropy(LOGITS, CLASSES, weights=np.array([1.2, 3.4, 5.6]), reduction="sum") / 3,
        0.3182946443557739,
    ),
    # SparseCategoricalCrossentropy(from_logits=True, ignore_class=2), each and the mean
    (
        "ignored class",
        lambda: losses.cross_entropy(LOGITS, CLASSES, ignore_index=2),
        [0.0018220028141513467, 0.0004587313160300255, 0.0],
    ),
    (
        "mean without it",
        lambda: losses.cross_entropy(LOGITS, CLASSES, ignore_index=2, reduction="mean"),
        0.001140367123298347,
    ),
    # CategoricalFocalCrossentropy(from_logits=True), with alpha=1, and the mean with alpha=0.25
    (
        "focal",
        lambda: losses.softmax_focal(LOGITS, CLASSES, 2.0),
        [6.038489708259931e-09, 9.654618771115508e-11, 0.004144249949604273],
    ),
    ("focal mean", lambda: 0.25 * losses.softmax_focal(LOGITS, CLASSES, reduction="mean"), 0.0003453546669334173),
    # BinaryFocalCrossentropy and BinaryCrossentropy(from_logits=True), means over the last axis
    (
        "binary focal",
        lambda: losses.focal_logits(LOGITS, ONE_HOT, 2.0).mean(-1),
        [0.4679122567176819, 0.29171839356422424, 1.472119688987732],
    ),
    (
        "binary",
        lambda: losses.bce_logits(LOGITS, ONE_HOT).mean(-1),
        [0.875619649887085, 0.6688441038131714, 1.7274101972579956],
    ),
    # KLDivergence of probabilities
    (
        "divergence",
        lambda: losses.kl_logits(np.log([[0.4, 0.4, 0.2]]), np.log([[0.2, 0.3, 0.5]])),
        [0.23321130871772766],
    ),
    # Dice() and Dice(axis=(1,)); Tversky(alpha=0.3, beta=0.7) likewise, whose beta is the factor of false positives
    ("Dice", lambda: losses.dice(SHARES, ONE_HOT), 0.21888411045074463),
    (
        "Dice by row",
        lambda: losses.dice(SHARES, ONE_HOT, axis=1),
        [0.10000002384185791, 0.4046822786331177, 0.06000000238418579],
    ),
    ("Tversky", lambda: losses.tversky(SHARES, ONE_HOT, 0.7, 0.3), 0.26076364517211914),
    (
        "Tversky by row",
        lambda: losses.tversky(SHARES, ONE_HOT, 0.7, 0.3, axis=1),
        [0.10000014305114746, 0.47430598735809326, 0.06000012159347534],
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), [case[1:] for case in KERAS], ids=[case[0] for case in KERAS])
def test_keras(ours: Any, theirs: Any) -> None:
    """To their errors: 1e-7 of 1 is lost where p is nearly 1, and 1e-7 is added to the sums of regions."""
    np.testing.assert_allclose(ours(), theirs, rtol=2e-6, atol=2e-7)


def test_keras_where_it_keeps_the_digits() -> None:
    """The tails of its focal loss, which the tolerance above would not see."""
    found = losses.softmax_focal(LOGITS, CLASSES, 2.0)
    np.testing.assert_allclose(found, [6.038489708259931e-09, 9.654618771115508e-11, 0.004144249949604273], rtol=2e-3)


PLACES = np.arange(24.0).reshape(1, 2, 3, 4)
IMAGE = 2 * np.sin(1.7 * PLACES)  # logits of two channels
MASK = (np.cos(2.3 * PLACES) > 0) * 1.0
MASK[:, 1] = 1 - MASK[:, 0]
SMOOTH, EACH = 1e-5, (2, 3)  # MONAI's smooth_nr and smooth_dr; each image and channel is a region
MONAI: list[tuple[str, Any, Any]] = [
    # DiceLoss(sigmoid=True, reduction="none"), with batch=True, softmax=True, include_background=False
    ("each", lambda: losses.dice_logits(IMAGE, MASK, SMOOTH, axis=EACH)[0], [0.508636590962, 0.555247355095]),
    ("batch", lambda: losses.dice_logits(IMAGE, MASK, SMOOTH, axis=(0, *EACH), reduction="mean"), 0.531941973028),
    (
        "softmax",
        lambda: losses.dice_logits(IMAGE, MASK, SMOOTH, axis=EACH, softmax_axis=1, reduction="mean"),
        0.569233494017,
    ),
    (
        "without background",
        lambda: losses.dice_logits(IMAGE, MASK, SMOOTH, axis=EACH, softmax_axis=1)[:, 1:].mean(),
        0.551258321142,
    ),
    # squared_pred=True; jaccard=True, which adds the smoothing to twice the union
    ("squares", lambda: losses.squared_dice_logits(IMAGE, MASK, SMOOTH, axis=EACH, reduction="mean"), 0.438975458709),
    ("Jaccard", lambda: losses.jaccard_logits(IMAGE, MASK, SMOOTH / 2, axis=EACH, reduction="mean"), 0.694165307124),
    # TverskyLoss(sigmoid=True, alpha=0.3, beta=0.7)
    (
        "Tversky",
        lambda: losses.tversky_logits(IMAGE, MASK, 0.3, 0.7, SMOOTH, axis=EACH, reduction="mean"),
        0.529741558932,
    ),
    # DiceFocalLoss(sigmoid=True), whose focal loss is float32
    (
        "Dice and focal",
        lambda: (
            losses.dice_logits(IMAGE, MASK, SMOOTH, axis=EACH, reduction="mean")
            + losses.focal_logits(IMAGE, MASK, 2.0, reduction="mean")
        ),
        1.12493243104,
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), [case[1:] for case in MONAI], ids=[case[0] for case in MONAI])
def test_monai(ours: Any, theirs: Any) -> None:
    np.testing.assert_allclose(ours(), theirs, rtol=1e-7 if np.max(theirs) > 1 else 1e-10)


def test_optax() -> None:
    """Its triplet loss, in float32, whose epsilon is 1e-6."""
    found = losses.triplet(LOGITS, ONE_HOT, SHARES)
    np.testing.assert_allclose(found, [0.9154338836669922, 0.9270200729370117, 0.979039192199707], rtol=1e-6)
