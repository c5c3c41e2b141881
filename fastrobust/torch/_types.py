"""The types that annotations in this room are made of, beside tensors; imported by type checkers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor

from .._types import ArrayLike as ArrayLike  # for `compat`, which stands on this room alone
from .._types import NDArray as NDArray

Device: TypeAlias = torch.device | str | int | None  # what PyTorch takes as one; None is its default
Operand: TypeAlias = Tensor | float
Operands: TypeAlias = Sequence[Any]  # a definition's: a tensor first, then tensors and numbers
Gradients: TypeAlias = tuple[Tensor | None, ...]  # one for each argument of a `Function`; None for what has none
Value = TypeVar("Value")


class Context(Protocol):
    """The object by which the passes of a `Function` hand on tensors, and anything else by names of their own.

    PyTorch annotates it as `Any`.
    """

    @property
    def saved_tensors(self) -> Sequence[Tensor]:
        """The tensors that `save_for_backward` was given; where that was None, None."""

    @property
    def needs_input_grad(self) -> tuple[bool, ...]:
        """A flag for each argument, in the backward pass for those of the forward pass: it wants a gradient."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for the backward pass, where changes in place are noticed."""

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `jvp`."""

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say that these results have no gradients."""

    def set_materialize_grads(self, value: bool) -> None:
        """Say whether the backward pass gets zeros in place of None."""

    def __getattr__(self, name: str, /) -> Any: ...
    def __setattr__(self, name: str, value: Any, /) -> None: ...
