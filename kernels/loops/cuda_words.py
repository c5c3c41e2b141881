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

from ..arithmetic.primitives import inlined, min
from ..losses.definition import Definition, prepare
from .cuda_memory import Storage
from .launch import ROW, Places
from .tuples import each_of, repeated, transposed

__all__ = ["SIGNATURE", "Made", "Words", "number"]

SIGNATURE = types.void(types.CPointer(int64))
Made = tuple[Callable[..., Any], int]  # a kernel, and the number of its words


@intrinsic
def number(typing: Any, word: Any, like: Any) -> Any:
    """A number that was passed as the bits of a double, in the type of ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.bitcast(args[0], ir.DoubleType())
        return value if sig.return_type == types.float64 else builder.fptrunc(value, ir.FloatType())

    return like(int64, like), lower


class Words:
    """The words of a kernel with these operands, read by scalar functions; parameters are in the computing type."""

    def __init__(self, definition: Definition, memory: Storage, layout: str) -> None:
        zero, at, count = memory.zero, Places(definition, layout), memory.count
        data_count, parameters_count = len(definition.data), len(definition.parameters)
        own = Storage("float64" if memory.name == "float64" else "float32", count)
        load, load_one, load_data, load_datum = own.load, own.load_one, memory.load, memory.load_one
        # Places as numbers, which compilers see.
        data_at, addresses, values, steps = at.data, at.addresses, at.values, at.steps
        period, inner = at.period, at.inner
        self.code, self.counts = definition.code(type(zero)), (data_count, parameters_count)
        self.at, self.own, self.prepare = at, own, prepare(self.code)
        prepare_all = self.prepare

        @inlined
        def datum(k, words, i):
            return load_datum(words[data_at + k], i)

        each_datum = each_of(datum, data_count)
        self.element = inlined(lambda words, i: each_datum((), (words, i)))  # the data of an element

        @inlined
        def vector(k, words, i):
            return load_data(words[data_at + k], i)

        each_vector = each_of(vector, data_count)
        self.elements = inlined(lambda words, i: transposed(each_vector((), (words, i))))  # of as many as in 16 bytes

        element = self.element

        @inlined
        def strided(k, words, i, stride):
            return element(words, i + k * stride)

        four = each_of(strided, 4)
        self.four = inlined(lambda words, i, stride: four((), (words, i, stride)))  # of four a stride apart

        @inlined
        def parameter(words, k, index):
            """The element of parameter k at that index, or the number itself if it has no address."""
            address = words[addresses + k]
            return number(words[values + k], zero) if address == 0 else load_one(address, index)

        self.parameter = parameter

        @inlined
        def stepped(k, words, i):
            return parameter(words, k, i * words[steps + k])

        same = repeated(count)

        @inlined
        def several(k, words, i):
            """Parameter k for as many elements as are in 16 bytes: one number for each of those or one for all."""
            return load(words[addresses + k], i) if words[steps + k] != 0 else same(parameter(words, k, 0))

        if parameters_count:
            each_stepped, each_several = each_of(stepped, parameters_count), each_of(several, parameters_count)
            self.parameters = inlined(lambda words, i: each_stepped((), (words, i)))  # of an element or column
            self.several = inlined(lambda words, i: transposed(each_several((), (words, i))))
        else:
            repeat = repeated(count)
            self.parameters = inlined(lambda words, i: ())
            self.several = inlined(lambda words, i: repeat(()))
        parameters = self.parameters
        self.prepared = inlined(lambda words, i: prepare_all(parameters(words, i)))

        @inlined
        def parts_of_row(words):
            """The number of warps that share a row."""
            return (words[inner] + ROW - 1) // ROW

        @inlined
        def part_of_warp(words, warp):
            """The first and the end of the elements that a warp takes: a row or a part of it."""
            row, part = warp // parts_of_row(words), warp % parts_of_row(words)
            first, end = row * words[inner] + part * ROW, (row + 1) * words[inner]
            return first, min(first + ROW, end)

        @inlined
        def column_of(words, i):
            """The place along the parameters' axis to which element i belongs."""
            return i // words[inner] % words[period]

        self.parts_of_row, self.part_of_warp, self.column_of = parts_of_row, part_of_warp, column_of
