"""The general loss."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...torch import loss


def lossfun(x: Tensor, alpha: Any, scale: Any, approximate: bool = False, epsilon: float = 1e-6) -> Tensor:
    """rho(x, alpha, scale) for each element; see `fastrobust.loss`.

    ``approximate`` and ``epsilon`` are there for old programs: the exact loss is the fast one here.
    """
    return loss(x, alpha, scale)
