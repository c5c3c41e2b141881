"""Cubic Hermite splines over unit-spaced knots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _arguments as arguments

if TYPE_CHECKING:
    from ...torch._types import ArrayLike


def interpolate1d(x: ArrayLike, values: ArrayLike, tangents: ArrayLike) -> Tensor:
    """The spline with these values and tangents at 0, 1, 2, ... at the points x; linear beyond both ends.

    Parameters
    ----------
    x : Tensor, any shape
    values, tangents : Tensor, shape (n,), n >= 2

    Returns
    -------
    Tensor
        Of x's shape, computed in double.
    """
    x, values = arguments.floating("x", x), arguments.floating("values", values)
    tangents = arguments.floating("tangents", tangents)
    if values.dim() != 1 or values.shape != tangents.shape or len(values) < 2:
        raise ValueError(
            "values and tangents must have one axis of the same length, at least 2, "
            f"got {tuple(values.shape)} and {tuple(tangents.shape)}"
        )
    dtype = torch.promote_types(x.dtype, values.dtype)
    x, values, tangents = x.double(), values.double(), tangents.double()
    last = len(values) - 1
    knot = torch.clamp(torch.floor(x.detach()), 0, last - 1).nan_to_num().long()
    t = torch.clamp(x, 0, last) - knot
    p, q, dp, dq = values[knot], values[knot + 1], tangents[knot], tangents[knot + 1]
    # Hermite's polynomial as corrections to the straight line.
    inside = p + t * (q - p) + t * (1 - t) * ((1 - t) * (dp - (q - p)) - t * (dq - (q - p)))
    below, above = (
        values[i] + torch.where(tangents[i] == 0, 0.0, tangents[i] * (x - knot)) for i, knot in ((0, 0), (-1, last))
    )  # a level end stays level up to infinity
    return torch.where(x < 0, below, torch.where(x > last, above, inside)).to(dtype)
