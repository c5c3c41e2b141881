"""Checks of what the functions and modules take: more than Barron's package, and errors where that one asserts."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...torch._context import visible

if TYPE_CHECKING:
    from ...torch._types import ArrayLike, Operand


def tensor(name: str, value: ArrayLike) -> Tensor:
    """The value as a tensor; arrays and lists keep their dtype, as far as PyTorch does."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TypeError(
            f"{name} is {value!r:.100}, of which PyTorch makes no tensor ({error}): pass a tensor, an array or numbers"
        ) from None


def floating(name: str, value: ArrayLike) -> Tensor:
    """The value as a tensor of floating-point numbers: integers in PyTorch's default dtype."""
    given = tensor(name, value)
    if given.is_complex():
        raise TypeError(f"{name} is a tensor of {given.dtype}: make it real")
    return given if given.is_floating_point() else given.to(torch.get_default_dtype())


def parameter(name: str, value: ArrayLike) -> Operand:
    """A number, which takes the precision of the rest, or a tensor."""
    if isinstance(value, int):
        return value  # of any size
    if isinstance(value, (float, np.floating, np.integer)):
        return float(value)
    return tensor(name, value)


def positive(name: str, value: Operand, zero: bool = False) -> Operand:
    """Refuse what is not > 0, or not >= 0 where ``zero`` may be, as far as the elements can be seen."""
    if isinstance(value, Tensor):
        if not visible(value) or not value.numel():
            return value
        least = value.min().item()
    else:
        least = value
    if not (least > 0 or (zero and least == 0)):
        raise ValueError(f"{name} must be {'>= 0' if zero else 'positive'} everywhere, got {least!r}: clamp or mask it")
    return value


def number(name: str, value: float) -> float:
    """The value as a float."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name} must be a number, got {value!r:.100}") from None


def dimensions(value: int) -> int:
    """The value of num_dims, an integer of at least 1."""
    try:
        dims = operator.index(value)
    except TypeError:
        raise TypeError(f"num_dims must be an integer, got {value!r:.100}: the length of the last axis of x") from None
    if dims < 1:
        raise ValueError(f"num_dims must be a positive number, got {value!r}: the length of the last axis of x")
    return dims


def dtype(float_dtype: Any) -> torch.dtype:
    """A NumPy or PyTorch dtype as PyTorch's."""
    kinds = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
    if float_dtype in kinds.values():
        known: torch.dtype = float_dtype
        return known
    try:
        return kinds["" if float_dtype is None else np.dtype(float_dtype).name]  # None would be float64
    except (KeyError, TypeError):
        raise ValueError(
            f"float_dtype must be float16, bfloat16, float32 or float64, of NumPy or PyTorch, got {float_dtype!r:.100}"
        ) from None


def scales(scale_lo: float, scale_init: float) -> tuple[float, float]:
    """The lower bound of the scale, and where it starts."""
    low, start = number("scale_lo", scale_lo), number("scale_init", scale_init)
    if not 0 < low <= start < float("inf"):
        raise ValueError(
            f"scale_lo and scale_init must be 0 < lo <= init < inf, got {scale_lo!r} and {scale_init!r}: "
            "equal ones fix the scale"
        )
    return low, start


def alphas(alpha_lo: float, alpha_hi: float, alpha_init: float | None) -> tuple[float, float, float | None]:
    """The bounds of alpha, and where it starts."""
    low, high = number("alpha_lo", alpha_lo), number("alpha_hi", alpha_hi)
    if not 0 <= low <= high < float("inf"):
        raise ValueError(
            f"alpha_lo and alpha_hi must be 0 <= lo <= hi < inf, got {alpha_lo!r} and {alpha_hi!r}: equal ones fix "
            "alpha; a learned one needs finite bounds, and from 100 on the loss hardly changes"
        )
    start = None if alpha_init is None else number("alpha_init", alpha_init)
    if start is not None and not (low < start < high or low == start == high):
        raise ValueError(
            f"alpha_init must lie between alpha_lo={alpha_lo!r} and alpha_hi={alpha_hi!r}, not at an end, got "
            f"{alpha_init!r}; None is the middle"
        )
    return low, high, start
