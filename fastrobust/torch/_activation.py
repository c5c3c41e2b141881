"""Activations that a shape alpha bends, as a module."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .. import _api
from .._arguments import NUMBERS
from ..activations import elu, symmetric
from ._modules import AdaptiveLoss

__all__ = ["ShapeActivation"]

Kind = Literal["elu", "symmetric", "influence"]


class ShapeActivation(nn.Module):
    """An activation whose bend is Barron's alpha: fixed, learned, or that of the criterion itself.

    Parameters
    ----------
    alpha : float, Tensor, Parameter or AdaptiveLoss
        The shape, which broadcasts with what is activated. A Parameter learns, and is the module's; with a criterion
        its alpha is taken at each call, and learned through both, so that where the loss becomes more convex the
        network becomes more linear. The criterion's parameters stay its own: give them to the optimizer once.
    kind : {"elu", "symmetric", "influence"}
        `fastrobust.activations.elu` or `symmetric`, or psi(x, alpha, 1), which comes back to 0 for alpha < 1.

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import AdaptiveLoss, ShapeActivation
    >>> ShapeActivation(0.0)(torch.tensor([-3.0, 2.0]))
    tensor([-1.3863,  2.0000])
    >>> criterion = AdaptiveLoss()
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 8), ShapeActivation(criterion), torch.nn.Linear(8, 1))
    >>> len(list(model.parameters()))  # those of the layers
    4
    """

    alpha: float | Tensor

    def __init__(self, alpha: float | Tensor | AdaptiveLoss, kind: Kind = "elu") -> None:
        super().__init__()
        if kind not in ("elu", "symmetric", "influence"):
            raise ValueError(f"kind must be 'elu', 'symmetric' or 'influence', got {kind!r}")
        self.kind = kind
        if isinstance(alpha, AdaptiveLoss):
            if alpha.axes.features != 1:
                raise ValueError(f"the criterion must have one alpha, got {alpha.axes.shape}: give its alpha yourself")
            self.held = (alpha,)  # in a tuple, lest its parameters become those of the model
        elif isinstance(alpha, nn.Parameter):
            self.alpha = alpha
        elif isinstance(alpha, Tensor):
            self.register_buffer("alpha", alpha)
        elif isinstance(alpha, NUMBERS):
            self.alpha = float(alpha)
        else:
            raise TypeError(f"alpha must be a number, a tensor or an AdaptiveLoss, got {alpha!r:.100}")

    def forward(self, input: Tensor) -> Tensor:
        """The activation of each element."""
        alpha = self.held[0].alpha.reshape(()) if hasattr(self, "held") else self.alpha
        if self.kind == "influence":
            found: Tensor = _api.influence(input, alpha, 1.0)
            return found
        bent: Tensor = (elu if self.kind == "elu" else symmetric)(input, alpha)
        return bent

    def extra_repr(self) -> str:
        """The arguments, for the module's repr."""
        if hasattr(self, "held"):
            return f"the criterion's alpha, kind={self.kind!r}"
        shown = tuple(self.alpha.shape) if isinstance(self.alpha, torch.Tensor) else self.alpha
        return f"{shown}, kind={self.kind!r}"
