"""Weights of classes by how often they occur, for data in which some are rare: NumPy's arrays, no kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["balanced_weights", "effective_number_weights"]


def balanced_weights(counts: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The weight N/(K n) of each of K classes, by which all of them count alike.

    Parameters
    ----------
    counts : array_like of shape (K,)
        How many of the N samples are of each class, or the sums of their weights; of labels 0 to K - 1 these are
        ``np.bincount(labels)``.

    Returns
    -------
    array of shape (K,), float64
        The weights, of which the mean over the samples is 1. A sample's weight is ``weights[label]``.

    Raises
    ------
    ValueError
        If the counts are no row of positive finite numbers.

    Notes
    -----
    scikit-learn's ``class_weight="balanced"``; errors are below 2 units in the last place.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> labels = np.array([0, 0, 0, 1])
    >>> weights = losses.balanced_weights(np.bincount(labels))
    >>> weights[labels]
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    """
    numbers = _counts(counts)
    return numbers.sum() / numbers.size / numbers


def effective_number_weights(counts: ArrayLike, beta: float = 0.999) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Weights of K classes by the inverse of their effective number of samples, (1 - beta^n)/(1 - beta).

    Parameters
    ----------
    counts : array_like of shape (K,)
        How many samples are of each class, as of `balanced_weights`.
    beta : float, 0 to 1
        How little samples of a class say that the others do not: with 0 all classes weigh the same, with 1, the limit,
        they weigh like 1/n.

    Returns
    -------
    array of shape (K,), float64
        The weights, of which the sum is K.

    Raises
    ------
    ValueError
        If the counts are no row of positive finite numbers, or if beta is not in [0, 1].

    Notes
    -----
    Cui, Jia, Lin, Song, Belongie: Class-balanced loss based on effective number of samples, CVPR 2019. 1 - beta^n is
    -expm1(n log beta), which keeps its digits for beta near 1; errors are below 4 units in the last place.

    Examples
    --------
    >>> from fastrobust import losses
    >>> losses.effective_number_weights([1000, 10], beta=0.99)
    array([0.17455299, 1.82544701])
    """
    numbers = _counts(counts)
    if not 0 <= beta <= 1:
        raise ValueError(
            f"beta must be from 0 to 1, got {beta!r}: 0 weighs all classes alike, and 1 weighs them like 1/n"
        )
    if beta in (0, 1):
        weights = np.ones_like(numbers) if beta == 0 else 1 / numbers
    else:
        weights = (1 - beta) / -np.expm1(numbers * math.log(beta))
    return weights * (numbers.size / weights.sum())


def _counts(counts: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The counts as doubles, checked."""
    numbers = np.asarray(counts, np.float64)
    if numbers.ndim != 1 or numbers.size == 0:
        raise ValueError(f"counts must be a row of one number for each class, got the shape {numbers.shape}")
    wrong = ~((numbers > 0) & (numbers < np.inf))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise ValueError(
            f"counts must be positive and finite, got {numbers[place]:g} for class {place}: of labels take "
            "np.bincount, and leave out classes that never occur, whose weight no sample uses"
        )
    return numbers
