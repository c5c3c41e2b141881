"""The general loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...torch import loss
from . import _arguments as arguments


def lossfun(x: Any, alpha: Any, scale: Any, approximate: bool = False, epsilon: float = 1e-6) -> Tensor:
    """rho(x, alpha, scale) for each element; see `fastrobust.loss`.

    x may also be an array or a list; a scale that is not positive is an error. ``approximate`` and ``epsilon`` are
    there for old programs: the exact loss is the fast one here.
    """
    alpha, scale = arguments.parameter("alpha", alpha), arguments.parameter("scale", scale)
    found: Tensor = loss(arguments.tensor("x", x), alpha, arguments.positive("scale", scale))
    return found
