"""Blocks of elements on the stack, as intrinsics: several buffers of one dtype, and calls of what goes over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..arithmetic.lowerings import parts
from ..arithmetic.numba_private import alloca_once, get_or_insert_function
from .panels import BLOCK

__all__ = ["BLOCK", "buffers", "caller"]


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


def caller(name: str) -> Callable[..., Any]:
    """call(pointers, n): a call of the LLVM function of that name, with pointers in nested tuples, and a number.

    It is only declared: what the loop is linked with defines it.
    """

    @intrinsic
    def call(typing: Any, pointers: Any, n: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            given = [*parts(builder, sig.args[0], args[0]), args[1]]
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
            builder.call(get_or_insert_function(builder.module, kind, name), given)
            return context.get_dummy_value()

        return types.void(pointers, types.int64), lower

    return call
