"""The threads of a CUDA kernel, as intrinsics: their place in the grid, sums over a warp's 32, what registers hold."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from ..arithmetic.primitives import inlined

__all__ = ["exchanged", "kept_here", "thread", "threads", "warp_sum"]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _register(name: str) -> Any:
    """An intrinsic that reads one of PTX's special registers."""

    @intrinsic
    def read(typing: Any) -> Any:
        """The register as a word; its 32 bits are unsigned."""

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = builder.module.declare_intrinsic(
                f"llvm.nvvm.read.ptx.sreg.{name}", (), ir.FunctionType(_I32, ())
            )
            return builder.zext(builder.call(function, ()), _I64)

        return int64(), lower

    return read


_thread_in_block, _block_size, _block, _blocks = (_register(n) for n in ("tid.x", "ntid.x", "ctaid.x", "nctaid.x"))


@inlined
def thread():
    """The index of this thread in the grid."""
    return _block() * _block_size() + _thread_in_block()


@inlined
def threads():
    """The number of threads in the grid."""
    return _blocks() * _block_size()


def _shuffle(how: str, meaning: str) -> Any:
    """An intrinsic that hands a double over to another thread of the warp."""

    @intrinsic
    def shuffled(typing: Any, x: Any, offset: Any) -> Any:
        """The double of another thread, as two halves."""

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """A shuffle of each half, since PTX moves 32 bits at a time."""
            kind = ir.FunctionType(_I32, [_I32] * 4)
            function = builder.module.declare_intrinsic(f"llvm.nvvm.shfl.sync.{how}.i32", (), kind)
            bits, by = builder.bitcast(args[0], _I64), builder.trunc(args[1], _I32)
            halves = [builder.trunc(bits, _I32), builder.trunc(builder.lshr(bits, _I64(32)), _I32)]
            low, high = (builder.zext(builder.call(function, [_I32(-1), half, by, _I32(31)]), _I64) for half in halves)
            return builder.bitcast(builder.or_(low, builder.shl(high, _I64(32))), ir.DoubleType())

        return types.float64(types.float64, int64), lower

    shuffled.__doc__ = meaning
    return shuffled


_shuffle_down = _shuffle("down", "The double of the thread so many lanes further in the warp.")
exchanged = _shuffle("bfly", "The double of the thread whose lane differs in the bits of the offset.")


@inlined
def warp_sum(x):
    """The sum over a warp's 32 threads, in the first of them, by halves."""
    offset = 16
    while offset > 0:
        x += _shuffle_down(x, offset)
        offset //= 2
    return x


@intrinsic
def kept_here(typing: Any, numbers: Any) -> Any:
    """The same tuple of numbers, of which nothing is computed before this.

    What depends on parameters alone is moved out of loops otherwise, and waits in registers for cases that are rare.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Each number through an empty piece of assembler, of which LLVM knows nothing."""
        parts = []
        for i in range(sig.return_type.count):
            number = builder.extract_value(args[0], i)
            register = "=d,0" if number.type == ir.DoubleType() else "=f,0"  # the result is where the number was
            parts.append(builder.asm(ir.FunctionType(number.type, [number.type]), "", register, [number], True))
        return context.make_tuple(builder, sig.return_type, parts)

    return numbers(numbers), lower
