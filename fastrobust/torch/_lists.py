"""Lists and numbers as tensors: the public functions, with what is no array made one of PyTorch's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from .. import _arguments as arguments
from ..kernels.losses.catalogue import LOG_PARTITION

_Function = TypeVar("_Function", bound=Callable[..., object])
_ARRAYS = frozenset(("x", "alpha", "scale", "weights"))
_LISTS = frozenset((list, tuple))
_NUMBERS = (float, int, np.floating, np.integer, np.bool_)


def for_tensors(function: _Function, module: str) -> _Function:
    """The function with lists made tensors, and its leading number, too; in that module, where pickle finds it."""
    names = [name for name in inspect.signature(function).parameters if name in _ARRAYS]
    positional = [name for name in names if name != "weights"]

    @functools.wraps(function)
    def converted(*args: object, **options: object) -> object:
        plain = args and isinstance(args[0], Tensor) and _LISTS.isdisjoint(map(type, args))
        if not plain or not _ARRAYS.isdisjoint(options):
            args, options = _converted(positional, args, options)
        return function(*args, **options)

    converted.__module__ = module
    return cast(_Function, converted)


def _converted(
    names: list[str], args: tuple[object, ...], options: dict[str, object]
) -> tuple[tuple[object, ...], dict[str, object]]:
    """The arguments, with tensors for numbers and lists; as they are if there is anything else among them."""
    arrays = {name: value for name, value in options.items() if name in _ARRAYS and value is not None}
    arrays |= dict(zip(names, args, strict=False))
    if not all(isinstance(value, (Tensor, *_NUMBERS)) or _of_numbers(value) for value in arrays.values()):
        return args, options
    leading = arrays.get(names[0])
    if names[0] == "alpha" and options.get("truncation") is None:
        arguments.check_numbers(LOG_PARTITION, (leading,))  # as a number: in a tensor it would be infinite
    dtype, device = torch.get_default_dtype(), None
    if isinstance(leading, Tensor):
        dtype, device = leading.dtype if leading.is_floating_point() else torch.float64, leading.device
    else:
        device = next((value.device for value in arrays.values() if isinstance(value, Tensor)), None)

    def tensor(name: str, value: Any) -> object:
        """A tensor for the list, or for the leading number; anything else as it is."""
        if type(value) in _LISTS and name in arrays:
            number = value
        elif name == names[0] and not isinstance(value, Tensor):
            number = arguments.number(value)
        else:
            return value
        try:
            return torch.tensor(number, dtype=dtype, device=device)
        except (ValueError, OverflowError, RuntimeError) as error:
            raise TypeError(f"{name}: PyTorch makes no tensor of this {type(value).__name__} ({error})") from None

    placed = tuple(tensor(name, value) for name, value in zip(names, args, strict=False))
    return (*placed, *args[len(names) :]), {name: tensor(name, value) for name, value in options.items()}


def _of_numbers(value: Any) -> bool:
    """Tell whether it is a list of numbers, or of such lists."""
    return type(value) in _LISTS and all(isinstance(part, _NUMBERS) or _of_numbers(part) for part in value)
