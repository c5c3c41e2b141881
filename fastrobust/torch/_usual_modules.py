"""Losses of the catalogue as modules with the names and arguments of `torch.nn`'s, where they mean the same."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ._formula_module import Loss
from ._modules import Reduction

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "L1Loss",
    "MSELoss",
    "SmoothL1Loss",
]


class _Usual(Loss):
    """One of the losses of the table below."""

    of: ClassVar[str]  # its name in the catalogue

    def __init__(self, *, reduction: Reduction = "mean", **parameters: float | Tensor | None) -> None:
        from .. import losses  # which is imported by a first call: not while this module is

        given = {name: value for name, value in parameters.items() if value is not None}
        super().__init__(getattr(losses, self.of), reduction, **given)

    def forward(  # type: ignore[override]  # with a target, as PyTorch's
        self, input: Tensor, target: Tensor, *others: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """The loss of input and target; weights, or a mask, as in `fastrobust.loss`."""
        return super().forward(input, target, *others, weights=weights)

    def extra_repr(self) -> str:
        """The parameters, for the module's repr, which has the name already."""
        return super().extra_repr().removeprefix(f"{self.of}, ")


_TEXT = """{first}

    It is what `torch.nn.{name}` is with the same arguments, which are given by name here.
    {differs}

    Parameters
    ----------
    reduction : {{"none", "sum", "mean"}}{parameters}

    See Also
    --------
    fastrobust.torch.Loss : The module of any loss; it says what parameters that learn and ``weights`` of a call are.
    """


def _module(name: str, of: str, first: str, differs: str, **parameters: str) -> type[_Usual]:
    """The module of a loss, which pickle finds in the package."""
    lines = "".join(
        f"\n    {key} : float, Tensor or torch.nn.Parameter\n        {says}" for key, says in parameters.items()
    )
    text = _TEXT.format(first=first, name=name, differs=differs, parameters=lines)
    module: type[_Usual] = type(name, (_Usual,), {"of": of, "__doc__": text, "__module__": __package__})
    return module


MSELoss = _module("MSELoss", "mse", "Squared error (input - target)^2.", "Sums are made in double.")
L1Loss = _module("L1Loss", "mae", "Absolute error, whose derivative at 0 is 0.", "Sums are made in double.")
HuberLoss = _module(
    "HuberLoss",
    "huber",
    "Huber's loss: r^2/2 up to |r| = delta, then delta (|r| - delta/2).",
    "There is a derivative in delta, too.",
    delta="Where it begins to be linear; 1 unless given.",
)
SmoothL1Loss = _module(
    "SmoothL1Loss",
    "smooth_l1",
    "Smooth L1: r^2/(2 beta) up to |r| = beta, then |r| - beta/2; for beta = 0 it is |r|.",
    "There is a derivative in beta, too.",
    beta="Where it begins to be linear; 1 unless given.",
)
BCELoss = _module(
    "BCELoss",
    "bce",
    "Binary cross-entropy of probabilities.",
    """PyTorch's has no logarithm below -100; this one is not cut off, and infinite where a certain prediction is
    wrong. The argument ``weight``, by which a mean is not divided, is not there: ``weights`` of a call divide it.""",
)
BCEWithLogitsLoss = _module(
    "BCEWithLogitsLoss",
    "bce_logits",
    "Binary cross-entropy of logits, right in the tails: at 40 for a target of 1 the derivative is -4e-18, and not 0.",
    """The argument ``weight``, by which a mean is not divided, is not there: ``weights`` of a call divide it.""",
    pos_weight="The weight of the positive class, broadcast with the targets; 1 unless given.",
    label_smoothing="How far targets are moved towards 1/2, which PyTorch's has not; 0 unless given.",
)
GaussianNLLLoss = _module(
    "GaussianNLLLoss",
    "gaussian_nll",
    "Negative log-likelihood of a Gaussian, (log var + (input - target)^2/var)/2, called with input, target and var.",
    """PyTorch's takes no variance below ``eps``, 10^-6; this one is not cut off, and NaN where a variance is not
    positive. ``full``, which adds a constant, is not there, nor are variances with one axis less.""",
)
