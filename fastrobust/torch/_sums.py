"""Sums of losses of sums on tensors: those of plain ones by the kernels in one pass, their derivatives by another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _evaluate
from .._samples import checked_index
from ..kernels.losses.sums import Split
from ._context import compiling, general, ordinary, requires
from ._kernels import PLAIN
from ._reductions import masked, weighed
from ._rules import named

if TYPE_CHECKING:
    from ..kernels.losses.definition import Definition
    from ._types import Context, Gradients

__all__ = ["check_index", "reduced", "summed"]


def summed(split: Split, operands: tuple[Any, ...], weights: Any) -> list[Tensor]:
    """The sums, of the shapes of the factors, which are the last operands."""
    values = [value for value in (*operands, weights) if isinstance(value, Tensor)]
    plain = all([type(value) in PLAIN for value in values])  # noqa: C419 - the compiler takes no generators
    usual = (plain and ordinary()) or (compiling() and not general())
    if usual and torch.is_grad_enabled() and any(requires(operands)) and not any(requires([weights])):
        return list(_Summed.apply(split, weights, *operands))
    found = _evaluate.slopes_of(split.terms.definition, operands, weights, split.factors)
    return [found[name] for name in split.factors]


def check_index(target: Tensor, count: int, ignore_index: int | None) -> None:
    """Refuse indices that are no class, where values are there to be looked at, for nothing."""
    if ordinary() and type(target) in PLAIN and target.is_cpu:
        checked_index(target.numpy(), count, ignore_index)


def reduced(value: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    """The sum or weighted mean of values."""
    return weighed(value, weights, reduction)


class _Summed(torch.autograd.Function):
    """Sums, which keep nothing but their operands: derivatives are those of the terms times what comes for each."""

    @staticmethod
    def forward(ctx: Context, split: Split, weights: Any, *operands: Any) -> tuple[Tensor, ...]:
        """The sums."""
        ctx.split, ctx.weights = split, weights
        ctx.numbers = [None if isinstance(value, Tensor) else value for value in operands]
        ctx.save_for_backward(*[value for value in operands if isinstance(value, Tensor)])
        found = _evaluate.slopes_of(split.terms.definition, operands, weights, split.factors)
        return tuple(found[name] for name in split.factors)

    @staticmethod
    def backward(ctx: Context, *gradients: Tensor) -> Gradients:
        """The derivatives of the terms, whose factors are what comes for the sums."""
        split, count = ctx.split, len(ctx.split.sums)
        saved = iter(ctx.saved_tensors)
        operands = [next(saved) if number is None else number for number in ctx.numbers]
        names = split.terms.operands
        wanted = tuple(name for name, need in zip(names, ctx.needs_input_grad[2:], strict=True) if need)
        of_terms = _in_operations if compiling() else _evaluate.slopes_of
        found = of_terms(split.terms.definition, (*operands[:-count], *gradients), ctx.weights, wanted)
        results = []
        for name, operand in zip(names, operands, strict=True):
            shape = operand.shape if isinstance(operand, Tensor) else ()
            results.append(found[name].sum_to_size(shape).to(operand.dtype) if name in wanted else None)
        return None, None, *results


def _in_operations(
    definition: Definition, operands: tuple[Any, ...], weights: Any, wrt: Sequence[str]
) -> dict[str, Tensor]:
    """The derivatives of the summed terms for each element, by what the compiler takes in what it differentiates by."""
    if weights is not None and not isinstance(weights, Tensor):
        weights = torch.as_tensor(weights, dtype=operands[0].dtype, device=operands[0].device)
    given = masked(definition, operands, weights)
    outputs = named(definition, tuple(["d" + name for name in wrt]), given, operands[0].dtype)
    return {name: weighed(part, weights, "none") for name, part in zip(wrt, outputs, strict=True)}
