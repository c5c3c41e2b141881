"""Blocks of elements in memory on the stack, as intrinsics: several buffers of one dtype, and what lies in them.

An element of several buffers is a tuple of numbers, or a named tuple; operands and stages of any number are written out
in LLVM's code, so that each number stays in a register of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..arithmetic.numba_private import alloca_once
from ..arithmetic.primitives import inlined

__all__ = ["BLOCK", "buffers", "keeper", "recall", "recaller", "recaller_of_all"]

BLOCK = 256  # elements; 64, 128 and 512 are slower


@intrinsic(prefer_literal=True)
def buffers(typing: Any, count: Any, like: Any) -> Any:
    """Memory for ``count`` blocks, each apart, so that what is written to one and never read can be removed."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    if count.literal_value == 0:
        return types.Tuple(())(count, like), lambda context, builder, sig, args: context.make_tuple(
            builder, sig.return_type, []
        )

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Memory on the stack, aligned to 64 bytes and reserved where the function begins."""
        element = context.get_value_type(sig.args[1])
        memories = []
        for _ in range(count.literal_value):
            memory = alloca_once(builder, ir.ArrayType(element, BLOCK))
            memory.align = 64
            memories.append(builder.bitcast(memory, element.as_pointer()))
        return context.make_tuple(builder, sig.return_type, memories)

    return types.UniTuple(types.CPointer(like), count.literal_value)(count, like), lower


def keeper(kind: type[Any]) -> Callable[..., Any]:
    """keep(memory, i, values): element i of each buffer becomes the value at its place in a named tuple of the type."""

    @intrinsic
    def keep(typing: Any, memory: Any, i: Any, values: Any) -> Any:
        """A store for each field; the type is looked at, so that fields cannot end in each other's buffers."""
        if getattr(values, "instance_class", None) is not kind:
            return None  # a stage that returns something else than it says

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for j in range(sig.args[0].count):
                place = builder.gep(builder.extract_value(args[0], j), [args[1]])
                builder.store(builder.extract_value(args[2], j), place)
            return context.get_dummy_value()

        return types.void(memory, i, values), lower

    return keep


def _load(builder: Any, memory: Any, count: int, i: Any) -> list[Any]:
    """Element i of each of ``count`` buffers, as LLVM's values."""
    places = [builder.gep(builder.extract_value(memory, j), [i]) for j in range(count)]
    return [builder.load(place) for place in places]


@intrinsic
def recall(typing: Any, memory: Any, i: Any) -> Any:
    """Element i of each buffer."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_tuple(builder, sig.return_type, _load(builder, args[0], sig.args[0].count, args[1]))

    return types.UniTuple(memory.dtype.dtype, memory.count)(memory, i), lower


def _named(kind: type[Any], memory: Any) -> Any:
    """The type of a named tuple of what lies in the buffers."""
    return types.NamedUniTuple(memory.dtype.dtype, memory.count, kind)


def recaller(kind: type[Any]) -> Callable[..., Any]:
    """recall(memory, i): element i of each buffer, as a named tuple of that type."""

    @intrinsic
    def recall_named(typing: Any, memory: Any, i: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return context.make_tuple(builder, sig.return_type, _load(builder, args[0], sig.args[0].count, args[1]))

        return _named(kind, memory)(memory, i), lower

    return recall_named


def recaller_of_all(kinds: tuple[type[Any], ...]) -> Callable[..., Any]:
    """recall(memories, i): a tuple with what `recaller` finds in each of the memories."""
    if not kinds:
        return inlined(lambda memories, i: ())

    @intrinsic
    def recall_all(typing: Any, memories: Any, i: Any) -> Any:
        """The loads of all memories, each written out as a named tuple of its type."""
        named = [_named(kind, memory) for kind, memory in zip(kinds, memories, strict=True)]

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """A tuple of the tuples, memory by memory."""
            parts = []
            for j, kind in enumerate(named):
                memory = builder.extract_value(args[0], j)
                parts.append(context.make_tuple(builder, kind, _load(builder, memory, kind.count, args[1])))
            return context.make_tuple(builder, sig.return_type, parts)

        return types.BaseTuple.from_types(named)(memories, i), lower

    return recall_all
