"""The general loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from ...torch import loss
from . import _arguments as arguments

if TYPE_CHECKING:
    from ...torch._types import ArrayLike


def lossfun(
    x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, approximate: bool = False, epsilon: float = 1e-6
) -> Tensor:
    """rho(x, alpha, scale) for each element; see `fastrobust.loss`.

    x may also be an array or a list; a scale that is not positive is an error. ``approximate`` and ``epsilon`` are
    there for old programs: the exact loss is the fast one here.
    """
    alpha, scale = arguments.parameter("alpha", alpha), arguments.parameter("scale", scale)
    losses: Tensor = loss(arguments.tensor("x", x), alpha, arguments.positive("scale", scale))
    return losses
