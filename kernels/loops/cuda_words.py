"""The words that a CUDA kernel gets, as the kernel sees them: numbers, parameters, rows and columns.

They are 64 bits each: integers, addresses, and numbers as the bits of a double; `launch` has their order and the
layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from ..arithmetic.primitives import min, scalar
from ..losses.likelihood import FAMILIES
from ..losses.partition import log_partition
from .cuda_memory import Storage
from .cuda_vectors import SAME
from .launch import ALPHA, ALPHA_AT, INNER, PERIOD, ROW, SCALE, SCALE_AT

__all__ = ["SIGNATURE", "Made", "Parameters", "column_of", "number", "part_of_warp", "parts_of_row"]

SIGNATURE = types.void(types.CPointer(int64))
Made = tuple[Callable[..., Any], int]  # a kernel, and the number of its words


@intrinsic
def number(typing: Any, word: Any, like: Any) -> Any:
    """A number that was passed as the bits of a double, in the type of ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.bitcast(args[0], ir.DoubleType())
        return value if sig.return_type == types.float64 else builder.fptrunc(value, ir.FloatType())

    return like(int64, like), lower


class Parameters:
    """alpha and scale, which are always in the type that is computed with."""

    def __init__(self, family: str, memory: Storage) -> None:
        zero, found = memory.zero, FAMILIES[family]
        own = Storage("float64" if memory.name == "float64" else "float32", memory.count)
        load, load_one = own.load, own.load_one
        shape, width = found.shape, found.width

        @scalar
        def one(words, at, value, index):
            """A parameter by value if it has no address."""
            return number(words[value], zero) if words[at] == 0 else load_one(words[at], index)

        same = scalar(SAME[memory.count])

        @scalar
        def several(words, at, value, step, index):
            """As many as there are elements in 16 bytes, one for each of those or one for all."""
            return load(words[at], index) if words[step] != 0 else same(one(words, at, value, 0))

        def plain(alpha, scale):
            """What `shape` and `width` make of them."""
            return shape(alpha, zero, zero), width(scale)

        def with_table(alpha, scale):
            log_z, slope = log_partition(alpha)
            return shape(alpha, log_z, slope), width(scale)

        prepare = scalar(with_table if found.tabulated else plain)

        @scalar
        def at(words, alpha_index, scale_index):
            """The same of the parameters there."""
            alpha, scale = one(words, ALPHA_AT, ALPHA, alpha_index), one(words, SCALE_AT, SCALE, scale_index)
            return prepare(alpha, scale)

        self.own, self.several, self.prepare, self.at = own, several, prepare, at


@scalar
def parts_of_row(words):
    """How many warps share a row."""
    return (words[INNER] + ROW - 1) // ROW


@scalar
def part_of_warp(words, warp):
    """First and end of the elements that a warp takes: a row or a part of it."""
    row, part = warp // parts_of_row(words), warp % parts_of_row(words)
    first, end = row * words[INNER] + part * ROW, (row + 1) * words[INNER]
    return first, min(first + ROW, end)


@scalar
def column_of(words, i):
    """Which of the parameters along an axis belong to element i."""
    return i // words[INNER] % words[PERIOD]
