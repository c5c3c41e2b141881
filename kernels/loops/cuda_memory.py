"""The global memory of a GPU, as intrinsics that read and write elements of one dtype.

The halves become float32 when they are read, and are rounded to nearest when they are written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

__all__ = ["Storage", "word_at"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def word_at(typing: Any, address: Any, index: Any) -> Any:
    """The word of 64 bits with that index in global memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = builder.add(args[0], builder.mul(args[1], _I64(8)))
        return builder.load(builder.inttoptr(byte, ir.PointerType(_I64, 1)))

    return int64(int64, int64), lower


class Storage:
    """Memory of one dtype as intrinsics; addresses are words, indices count elements."""

    def __init__(self, name: str, count: int | None = None) -> None:
        self.bits = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}[name]
        self.name, self.count = name, count or 128 // self.bits
        self.zero = np.float64(0) if name == "float64" else np.float32(0)
        compute = types.float64 if name == "float64" else types.float32
        stored = {"float64": ir.DoubleType(), "float32": ir.FloatType(), "float16": ir.HalfType()}.get(
            name, ir.IntType(16)
        )

        def place(builder: Any, address: Any, index: Any) -> Any:
            """The place of an element, said to be in global memory, so that loads need not ask which it is."""
            byte = builder.add(address, builder.mul(index, _I64(self.bits // 8)))
            return builder.inttoptr(byte, ir.PointerType(stored, 1))

        # One access for each element.  Where the first is known to be aligned to 16 bytes, LLVM's back end joins them;
        # vectors written here would be taken apart and put together in worse ways.
        def aligned(k: int) -> int:
            return math.gcd(16, self.count * self.bits // 8, k * self.bits // 8)

        def fetch(builder: Any, address: Any, index: Any, count: int) -> list[Any]:
            """Loads of ``count`` elements from that index on, then their widening."""
            elements = []
            first = place(builder, address, index)
            for k in range(count):
                loaded = builder.load(builder.gep(first, [_I64(k)]))
                loaded.align = aligned(k) if count > 1 else self.bits // 8
                elements.append(loaded)
            return [self.widen(builder, loaded) for loaded in elements]

        def put(builder: Any, address: Any, index: Any, values: list[Any]) -> None:
            first = place(builder, address, index)
            for k, value in enumerate([self.narrow(builder, v) for v in values]):
                store = builder.store(value, builder.gep(first, [_I64(k)]))
                store.align = aligned(k) if len(values) > 1 else self.bits // 8

        @intrinsic
        def load(typing: Any, address: Any, index: Any) -> Any:
            """``count`` elements from an address that is a multiple of their size, and at most of 16."""

            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return context.make_tuple(builder, sig.return_type, fetch(builder, args[0], args[1], self.count))

            return types.UniTuple(compute, self.count)(int64, int64), lower

        @intrinsic
        def load_one(typing: Any, address: Any, index: Any) -> Any:
            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return fetch(builder, args[0], args[1], 1)[0]

            return compute(int64, int64), lower

        self.load, self.load_one, self._put = load, load_one, put

    def widen(self, builder: Any, value: Any) -> Any:
        """A stored number as one that is computed with: the halves as float32, exactly."""
        if self.name == "float16":
            return builder.fpext(value, ir.FloatType())
        if self.name == "bfloat16":
            return builder.bitcast(builder.shl(builder.zext(value, _I32), _I32(16)), ir.FloatType())
        return value

    def narrow(self, builder: Any, value: Any) -> Any:
        """A computed number as it is stored: rounded to nearest, ties to even; for bfloat16, NaN is kept apart."""
        if self.name == "float16":
            return builder.fptrunc(value, ir.HalfType())
        if self.name == "bfloat16":
            bits = builder.bitcast(value, _I32)
            odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
            nearest = builder.add(bits, builder.add(odd, _I32(0x7FFF)))
            quiet = builder.or_(bits, _I32(0x400000))
            kept = builder.select(builder.fcmp_unordered("uno", value, value), quiet, nearest)
            return builder.trunc(builder.lshr(kept, _I32(16)), ir.IntType(16))
        return value

    def storer(self, moves: Sequence[tuple[int, tuple[int, ...]]], count: int) -> Callable[..., Any]:
        """store(words, i, results): write ``count`` elements from i on.

        For each move (word, path), the part of each result at that path goes to the address in words[word].
        """
        put = self._put

        @intrinsic
        def store(typing: Any, words: Any, i: Any, results: Any) -> Any:
            """The stores of all moves, each to memory of its own."""

            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                """The parts of all results at a move's path, written together."""
                for word, path in moves:
                    address = builder.load(builder.gep(args[0], [_I64(word)]))
                    values = [builder.extract_value(args[2], [k, *path]) for k in range(count)]
                    put(builder, address, args[1], values)
                return context.get_dummy_value()

            return types.void(words, i, results), lower

        return store
