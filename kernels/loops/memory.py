"""Memory of the CPU, as intrinsics: numbers at an address, numbers on the stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import intp, types
from numba.extending import intrinsic

from ..arithmetic.numba_private import alloca_once

__all__ = ["WORD", "WORDS", "address_of", "pointer", "scratch", "stack"]

WORD = np.int64(0)  # what `pointer` and `stack` take for words
WORDS = types.CPointer(intp)


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """The address as a pointer to numbers like ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like)(address, like), lower


def _on_the_stack(reserve: Callable[[Any, Any], Any]) -> Any:
    """The intrinsic for ``count`` numbers on the stack, aligned to 64 bytes, for which ``reserve`` makes room."""

    @intrinsic(prefer_literal=True)
    def memory(typing: Any, count: Any, like: Any) -> Any:
        """Memory for ``count`` numbers on the stack."""
        if not isinstance(count, types.IntegerLiteral):
            return None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """Memory reserved where the function begins, once, also in a loop."""
            room = reserve(builder, ir.ArrayType(context.get_value_type(sig.return_type.dtype), count.literal_value))
            room.align = 64
            return builder.bitcast(room, context.get_value_type(sig.return_type))

        return types.CPointer(like)(count, like), lower

    return memory


def _unfilled(builder: Any, array: Any) -> Any:
    """Room on the stack, not filled with zeros as that of `alloca_once` may be."""
    with builder.goto_entry_block():
        return builder.alloca(array)


stack = _on_the_stack(alloca_once)
scratch = _on_the_stack(_unfilled)


@intrinsic
def address_of(typing: Any, memory: Any) -> Any:
    """The address of memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return intp(memory), lower
