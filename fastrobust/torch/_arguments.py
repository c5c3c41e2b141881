"""Arguments of the functions on tensors: dtypes, devices and shapes checked and brought together; no derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import _arguments as arguments
from . import _kernels, _private
from ._context import compiling

if TYPE_CHECKING:
    from .._types import ArrayLike, Options
    from ._types import Operand, Operands

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PROMOTED = {(a, b): torch.promote_types(a, b) for a in FLOATS for b in FLOATS}


def no_tensor(name: str, value: object) -> TypeError:
    """The error for an argument that is no tensor, with the remedy."""
    if isinstance(value, torch.fx.Proxy):
        return TypeError(
            f"{name} is a Proxy of torch.fx, whose symbolic tracing cannot look into fastrobust: take "
            "torch.export.export, or keep the function that calls it whole with torch.fx.wrap"
        )
    return TypeError(f"{name} is a {type(value).__name__}: make it a tensor with torch.as_tensor()")


def prepared(names: Sequence[str], operands: Operands) -> tuple[torch.dtype, Operands]:
    """The dtype of the result, and the operands of these names: tensors on one device, numbers as they are."""
    for name, operand in zip(names, operands, strict=True):
        if not isinstance(operand, (Tensor, *arguments.NUMBERS)):
            raise no_tensor(name, operand)
        if isinstance(operand, Tensor) and (
            operand.layout is not torch.strided
            or operand.is_complex()
            or (operand.is_floating_point() and operand.dtype not in FLOATS)
            or operand.is_quantized
        ):
            raise TypeError(
                f"{name} is a tensor of {operand.dtype}, {operand.layout}, which fastrobust does not take: make it a "
                "dense tensor of float16, bfloat16, float32 or float64"
            )
    x = operands[0]
    if not x.is_floating_point():
        x = x.double()
    elif x.dtype in (torch.float16, torch.bfloat16) and _private.autocast(x.device.type):
        x = x.float()
    placed = [x]
    for name, operand in zip(names[1:], operands[1:], strict=True):
        if isinstance(operand, Tensor) and operand.device != x.device:
            if operand.dim() or not operand.is_cpu:
                raise ValueError(f"{name} is on {operand.device} and {names[0]} on {x.device}: move one with .to()")
            operand = operand.to(x.device, non_blocking=True)  # else the GPU would be waited for
        placed.append(operand)
    return promoted(placed), placed


def promoted(values: Sequence[Operand]) -> torch.dtype:
    """The dtype of all values, by PyTorch's rule: tensors without axes give way.  Dynamo knows no `result_type`."""
    floats = [v for v in values if isinstance(v, Tensor) and v.is_floating_point()]
    dtypes = [v.dtype for v in floats if v.dim()] or [v.dtype for v in floats]
    common = dtypes[0]
    for dtype in dtypes[1:]:
        common = _PROMOTED[common, dtype]
    return common


def difference(value: Tensor, other: Tensor) -> Tensor:
    """value - other; of integers in double, since small ones wrap around and single precision lacks large ones."""
    if value.is_floating_point() and other.is_floating_point():
        return value - other
    if value.is_complex() or other.is_complex():
        return value - other  # which is refused by name
    floats = [t for t in (value, other) if t.is_floating_point()]
    wide = value.double() - other.double()
    return wide.to(floats[0].dtype) if floats else wide


def common_shape(names: Sequence[str], operands: Sequence[Operand]) -> torch.Size:
    """The common shape of the operands of these names, or an error that names them."""
    if compiling() or _private.modes():  # whose lengths may be symbols
        return _kernels.broadcast(operands)
    shapes = {n: v for n, v in zip(names, operands, strict=True) if isinstance(v, Tensor)}
    return torch.Size(arguments.broadcast(shapes, shapes.values()))


def tensors(operands: Operands) -> list[Tensor]:
    """The operands, with numbers as tensors of the computing type; the first operand is a tensor."""
    x = operands[0]
    return [operand if isinstance(operand, Tensor) else _tensor(operand, x) for operand in operands]


def _tensor(number: float, x: Tensor) -> Tensor:
    """A number as a tensor of the computing type.

    The compiler has numbers as inputs of its program, but only where they meet tensors in arithmetic; elsewhere, as in
    `torch.full`, each is a constant, and each new one another program.
    """
    options: Options = {"dtype": _kernels.compute_type(x.dtype), "device": x.device}
    if compiling():
        return torch.ones((), **options) * arguments.number(number)
    return torch.full((), arguments.number(number), **options)


def weights_for(weights: ArrayLike, name: str, x: Tensor, shape: torch.Size) -> Tensor:
    """The weights as a tensor that broadcasts to the shape of the result; x is the first operand, of that name."""
    if not isinstance(weights, Tensor):
        weights = torch.as_tensor(weights, dtype=_kernels.compute_type(x.dtype), device=x.device)
    if weights.is_complex():
        raise TypeError(f"weights has dtype {weights.dtype}, which fastrobust does not take: make it real")
    if weights.device != x.device:
        raise ValueError(f"weights is on {weights.device} and {name} on {x.device}: move one with .to()")
    if not weights.is_floating_point():
        weights = weights.to(_kernels.compute_type(x.dtype))
    try:
        fits = torch.broadcast_shapes(weights.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not broadcast to the shape {tuple(shape)} of the result"
        )
    return weights
