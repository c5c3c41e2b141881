"""scikit-learn's private interface that `RobustRegressor` uses, and what is done in its place where it is gone.

No version of scikit-learn has to be excluded for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from numbers import Number

import numpy as np
from sklearn.utils import check_array

from .._types import ArrayLike
from ._problem import Doubles

try:
    from sklearn.utils.validation import _check_sample_weight
except ImportError:
    _check_sample_weight = None

__all__ = ["sample_weights"]


def sample_weights(weights: ArrayLike, X: Doubles) -> Doubles:
    """Weights of the rows of X in float64, finite and not negative; a number is one for all rows.

    scikit-learn's function for it has no public name. Where it is gone, or takes other arguments, the same is checked
    here, by what is public and in the same words.
    """
    options = {"dtype": np.float64, "ensure_non_negative": True}
    if _check_sample_weight is None or not _takes(_check_sample_weight, weights, X, **options):
        return _checked(weights, X)
    checked: Doubles = _check_sample_weight(weights, X, **options)
    return checked


def _takes(function: Callable[..., object], *args: object, **options: object) -> bool:
    """Tell whether a call with these arguments fits the function's signature."""
    try:
        inspect.signature(function).bind(*args, **options)
    except TypeError:
        return False
    return True


def _checked(weights: ArrayLike, X: Doubles) -> Doubles:
    """The weights, refused in scikit-learn's words where they do not fit the rows or make no sense."""
    n = len(X)
    if isinstance(weights, Number):
        each = np.full(n, weights, dtype=np.float64)
    else:
        each = check_array(weights, ensure_2d=False, dtype=np.float64, order="C", input_name="sample_weight")
    if each.ndim != 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got {each.ndim}D array. Expected either a scalar value or a "
            f"1D array of length {n}."
        )
    if each.shape != (n,):
        raise ValueError(f"sample_weight.shape == {each.shape}, expected {(n,)}!")
    if (each == 0).all():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if each.min() < 0:
        raise ValueError("Negative values in data passed to `sample_weight`.")
    return each
