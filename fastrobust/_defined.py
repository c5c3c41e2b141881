"""What `fastrobust.define` makes of a function: a loss of elements, or one of sums over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ._loss import Loss
from ._sums import SumsLoss
from .kernels.losses.formula import Formula, Precision
from .kernels.losses.sums import is_of_sums

__all__ = ["defined"]


def defined(
    function: Callable[..., Any],
    parameters: Sequence[str],
    precision: Precision,
    ranges: Mapping[str, tuple[float, float]] | None,
    dx: Callable[..., Any] | None,
) -> Loss | SumsLoss:
    """The loss of a function, which is traced now, so that what cannot be traced is an error here."""
    formula = Formula(function, parameters, precision=precision, ranges=ranges)
    if not is_of_sums(formula):
        loss = Loss(formula)
        return loss if dx is None else loss.derivative(loss.data[0])(dx)
    if dx is not None:
        raise TypeError("dx cannot be given for a loss of sums: its derivatives are made of those of its terms")
    return SumsLoss(formula)
