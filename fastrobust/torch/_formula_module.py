"""A loss of the catalogue, or of the user's own, as a module."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .._call import check_reduction
from .._loss import Loss as Function
from .._sums import SumsLoss
from ._modules import Reduction, _shown
from ._scaled import residual_of


class Loss(nn.Module):
    """A loss of elements or of sums, of `fastrobust.losses` or made by `fastrobust.define`, as a module.

    Losses of rows are called as functions; cross-entropy has `CrossEntropyLoss`.

    Parameters
    ----------
    loss : fastrobust.losses.Loss or SumsLoss
    reduction : {"none", "sum", "mean"}
    **parameters : float, Tensor or torch.nn.Parameter
        Those of the loss, by name; its defaults stand for others. A Parameter learns, if the optimizer gets it; other
        tensors become buffers. Of a loss of sums also the options of its calls, such as ``axis``.

    Raises
    ------
    TypeError
        For what is no loss, for parameters that it does not have, and for missing ones.

    Examples
    --------
    >>> import torch
    >>> import fastrobust.torch as frt
    >>> from fastrobust import losses
    >>> criterion = frt.Loss(losses.huber, delta=torch.nn.Parameter(torch.tensor(1.0)))
    >>> criterion(torch.tensor([0.5, 3.0]), torch.tensor([0.0, 0.0])).backward()
    >>> criterion.delta.grad
    tensor(1.)
    >>> frt.Loss(losses.dice_logits, axis=(2, 3), smooth=1.0)
    Loss(dice_logits, smooth=1.0, reduction='mean', axis=(2, 3))
    """

    def __init__(self, loss: Function | SumsLoss, reduction: Reduction = "mean", **parameters: Any) -> None:
        super().__init__()
        if not isinstance(loss, Function | SumsLoss):
            raise TypeError(
                "loss must be one of fastrobust.losses, or made by fastrobust.define, of elements or of sums, got "
                f"{loss!r:.100}: call losses of rows as functions"
            )
        check_reduction(reduction)
        self.loss, self.reduction = loss, reduction
        for name in loss.parameters:
            if name not in parameters and name not in loss.formula.defaults:
                raise TypeError(f"{loss.__name__} needs {name}: it takes {', '.join(loss.parameters)}")
            value = parameters.pop(name, loss.formula.defaults.get(name))
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        taken = set(loss.options) - {"reduction", "weights"}
        self.options = {name: parameters.pop(name) for name in sorted(taken) if name in parameters}
        if parameters:
            known = ", ".join([*loss.parameters, *sorted(taken)]) or "no parameters"
            raise TypeError(f"{loss.__name__} has no parameter {', '.join(parameters)}: it has {known}")
        # Made now, and not while a compiler looks on.
        formulas = [loss.split.terms, loss.split.value] if isinstance(loss, SumsLoss) else [loss.formula]
        _ = [formula.definition for formula in formulas]

    def forward(self, input: Tensor, *others: Tensor, weights: Tensor | None = None) -> Tensor:
        """The loss of its data; one of residuals takes ``input - target`` if there is a target, which is second then.

        Weights, or a mask, as in `fastrobust.loss`.
        """
        data = (input, *others)
        if "target" not in self.loss.data and len(data) == len(self.loss.data) + 1:
            data = (residual_of(*data[:2]), *data[2:])
        if len(data) != len(self.loss.data):
            raise TypeError(f"{self.loss.__name__} takes {', '.join(self.loss.data)}; got {len(data)} tensors")
        parameters = [getattr(self, name) for name in self.loss.parameters]
        value: Tensor = self.loss(*data, *parameters, reduction=self.reduction, weights=weights, **self.options)
        return value

    def extra_repr(self) -> str:
        """The loss, its parameters and options, for the module's repr."""
        parameters = [f"{name}={_shown(getattr(self, name))}" for name in self.loss.parameters]
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        return ", ".join([self.loss.__name__, *parameters, f"reduction={self.reduction!r}", *options])
