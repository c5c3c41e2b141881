"""scikit-learn's private interface that `RobustRegressor` uses, and what is done in its place where it is gone.

No version of scikit-learn has to be excluded for it.
"""

from __future__ import annotations

import inspect
from numbers import Number
from typing import Any

import numpy as np
from sklearn.utils import check_array

from ._problem import Array

try:
    from sklearn.utils.validation import _check_sample_weight
except ImportError:
    _check_sample_weight = None

__all__ = ["sample_weights"]


def sample_weights(weights: Any, X: Array) -> Array:
    """Weights of the rows of X in float64, finite and not negative; a number is one for all rows.

    scikit-learn's function for it has no public name. Where it is gone, or takes other arguments, the same is checked
    here, by what is public and in the same words.
    """
    options = {"dtype": np.float64, "ensure_non_negative": True}
    if _check_sample_weight is None or not _takes(_check_sample_weight, weights, X, **options):
        return _checked(weights, X)
    found: Array = _check_sample_weight(weights, X, **options)
    return found


def _takes(function: Any, *args: Any, **options: Any) -> bool:
    """Whether a call with these arguments fits the function's signature."""
    try:
        inspect.signature(function).bind(*args, **options)
    except TypeError:
        return False
    return True


def _checked(weights: Any, X: Array) -> Array:
    n = len(X)
    if isinstance(weights, Number):
        found = np.full(n, weights, dtype=np.float64)
    else:
        found = check_array(weights, ensure_2d=False, dtype=np.float64, order="C", input_name="sample_weight")
    if found.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {found.ndim}D array. Expected either a scalar value or a "
            f"1D array of length {n}."
        )
    if found.shape != (n,):
        raise ValueError(f"sample_weight.shape == {found.shape}, expected {(n,)}!")
    if (found == 0).all():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if found.min() < 0:
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return found
