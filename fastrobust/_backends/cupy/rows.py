"""Losses of rows on CuPy's arrays: the CUDA kernels of rows, on the current stream of the arrays' device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import cupy
import numpy as np

from ..._types import DType, RowResults
from ...kernels.loops.launch_rows import Rows, launch_rows
from ...kernels.losses.rowwise import RowDefinition
from .device import Run, converted, here, on

__all__ = ["array", "of_rows", "place", "stored", "xp"]

xp = cupy


def array(name: str, value: Any) -> cupy.ndarray:
    """The value as an array of CuPy's; an array of another library is an error."""
    if isinstance(value, float | int):
        return cupy.asarray(value, np.int64 if isinstance(value, int) else np.float64)
    return converted(name, value)


def place(value: Any) -> AbstractContextManager[None]:
    """The device of an array, made current."""
    return on(converted("x", value).device.id)


def stored(dtype: DType) -> DType:
    """The dtype in which the kernels take data: any of the four."""
    return dtype


def of_rows(
    definition: RowDefinition,
    data: Sequence[cupy.ndarray],
    index: cupy.ndarray | None,
    numbers: Sequence[Any],
    weights: Any,
    slopes: Sequence[cupy.ndarray] | None,
) -> RowResults:
    """What rows along the second axis of three come to: see that of NumPy's arrays, which has the same arguments."""
    before, length, after = data[0].shape
    number, rows = data[0].device.id, (before, after)
    others = [*data[1:], index, *numbers, weights]
    for array in others:
        if isinstance(array, cupy.ndarray):
            here("an operand", array, "the first one", number)
    results = RowResults(cupy.empty(rows, np.float64), tuple(cupy.empty(rows, np.float64) for _ in numbers))
    kept: list[cupy.ndarray] = []

    def given(value: Any) -> int | float:
        """A number, or the address of one for each row."""
        if isinstance(value, float):
            return value
        kept.append(cupy.ascontiguousarray(cupy.broadcast_to(value, rows), np.float64))
        return address(kept[-1])

    run = Run(number)
    each = Rows(
        before, length, after,
        [address(a) for a in data],
        0 if index is None else address(index),
        [given(value) for value in numbers],
        given(weights),
        address(results.value),
        [address(a) for a in results.by_numbers],
        [address(a) for a in slopes or ()],
    )  # fmt: skip
    launch_rows(run.device, definition, data[0].dtype.name, each)
    return results


def address(array: cupy.ndarray) -> int:
    """Where the array's memory begins."""
    return int(array.data.ptr)
