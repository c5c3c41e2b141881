"""Wavelets on tensors: the CPU's kernels with derivatives by their transposed ones, or matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _lifting
from .._matrices import matrix
from . import _kernels
from ._context import ordinary, refuse_jit_trace
from ._kernels import PLAIN

if TYPE_CHECKING:
    from ..kernels.losses.wavelets import Wavelet
    from ._types import Context, Gradients

__all__ = ["constant", "lifted", "product"]


def _matrix(like: Tensor, kind: str, length: int, options: list[str]) -> Tensor:
    """The matrix of that kind as an operator, into which the compiler does not look."""
    return like.new_tensor(matrix(kind, length, *options))


_kernels.register("matrix(Tensor like, str kind, int length, str[] options) -> Tensor", _matrix)


@torch.library.register_fake("fastrobust::matrix")  # type: ignore[untyped-decorator]
def _(like: Tensor, kind: str, length: int, options: list[str]) -> Tensor:
    """A tensor like the result."""
    return like.new_empty((length, length))


def constant(x: Tensor, kind: str, length: int, *options: str) -> Tensor:
    """The matrix of that kind, of the dtype of x and where that is."""
    like = torch.empty(0, dtype=x.dtype, device=x.device)
    found: Tensor = torch.ops.fastrobust.matrix.default(like, kind, length, list(options))
    return found


def product(one: Tensor, other: Tensor) -> Tensor:
    """The product of matrices in their own precision, also under autocast."""
    with torch.autocast(one.device.type, enabled=False):
        return one @ other


def lifted(
    target: Any, wavelet: Wavelet, x: Tensor, levels: int, axes: Sequence[int], analysis: bool, transposed: bool
) -> Tensor:
    """The transform of several levels: by kernels for plain tensors on the CPU; ``target`` is PyTorch's backend."""
    refuse_jit_trace()
    if not ordinary() or type(x) not in PLAIN or not x.is_cpu or x.layout is not torch.strided:
        return _lifting.by_matrices(target, wavelet, x, levels, axes, analysis, transposed)
    if torch.is_grad_enabled() and x.requires_grad:
        found: Tensor = _Lifted.apply(x, target, wavelet, levels, axes, analysis, transposed)
        return found
    array = x.detach().resolve_neg().numpy()
    return torch.from_numpy(_lifting.by_kernels(wavelet, array, levels, axes, analysis, transposed))


class _Lifted(torch.autograd.Function):
    """The transform, whose derivative is the transposed one, of which it is that again."""

    @staticmethod
    def forward(ctx: Context, x: Tensor, *options: Any) -> Tensor:
        """Without a graph here."""
        ctx.options = options
        target, wavelet, *others = options
        return lifted(target, wavelet, x.detach(), *others)

    @staticmethod
    def backward(ctx: Context, *gradients: Tensor) -> Gradients:
        """The other direction, the other way round."""
        target, wavelet, levels, axes, analysis, transposed = ctx.options
        found = lifted(target, wavelet, gradients[0], levels, axes, not analysis, not transposed)
        return found, None, None, None, None, None, None
