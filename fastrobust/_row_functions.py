"""Functions of rows on arrays of any library: the Euclidean norm, and the logarithm of a sum of exponentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._row_loss import Call, Task, value_of
from ._row_operations import length
from .kernels.graph.real import Real
from .kernels.losses import distances
from .kernels.losses.cross_entropy import LOG_SUM_EXP

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["NORM", "is_wide", "logsumexp", "norm"]


def is_wide(data: list[Any]) -> bool:
    """Tell whether data are float64, whose squares are summed by size."""
    return data[0].dtype == np.float64


NORM = Task(
    "norm",
    ("x",),
    (),
    lambda kernels, data: (distances.norm(is_wide(data)), []),
    lambda library, data, numbers: length(library, data[0]),
)
_LOG_SUM = Task(
    "logsumexp",
    ("x",),
    (),
    lambda kernels, data: (LOG_SUM_EXP, []),
    lambda library, data, numbers: library.logsumexp(data[0], -1),
)


def norm(x: ArrayLike, axis: int = -1) -> Any:
    """The Euclidean norm along an axis, whose derivative at 0 is 0; of arrays alone."""
    _refuse_formulas("norm", x)
    return value_of(NORM, (x,), (), Call(axis, None, "none"))


def logsumexp(x: ArrayLike, axis: int = -1) -> Any:
    """The logarithm of the sum of exponentials along an axis; of arrays alone."""
    _refuse_formulas("logsumexp", x)
    return value_of(_LOG_SUM, (x,), (), Call(axis, None, "none"))


def _refuse_formulas(name: str, x: object) -> None:
    """Refuse numbers of a formula, which have no axes."""
    if isinstance(x, Real):
        raise TypeError(f"{name} is of arrays, and has no place in a formula: write it by sum of fastrobust.math")
