"""The machine under the handler, as intrinsics: calls by address, atomics, the C library, modes of arithmetic."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import intp, types
from numba.extending import intrinsic

from ..arithmetic.numba_private import alloca_once, get_or_insert_function
from ..compilers import native
from .memory import WORDS

__all__ = [
    "PLAIN_MODES",
    "add_at",
    "ask",
    "free",
    "malloc",
    "narrow",
    "ones",
    "run_kernel",
    "sched_yield",
    "swap_modes",
]


@intrinsic
def ones(typing: Any, word: Any) -> Any:
    """The number of a word's bits that are 1."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return intp(word), lower


@intrinsic
def ask(typing: Any, function: Any, argument: Any) -> Any:
    """The word that the C function at that address returns for one word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return intp(intp, intp), lower


@intrinsic
def run_kernel(typing: Any, kernel: Any, args: Any, dims: Any, steps: Any) -> Any:
    """Call a kernel of `cpu`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        memory = ir.IntType(64).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [memory] * 4)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*args[1:], ir.Constant(memory, None)])
        return context.get_dummy_value()

    return types.void(intp, WORDS, WORDS, WORDS), lower


@intrinsic
def add_at(typing: Any, memory: Any, i: Any, amount: Any) -> Any:
    """Add to memory[i] in one step, for all threads to see; returns what was there before."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return intp(WORDS, intp, intp), lower


def _c_function(name: str, arguments: int) -> Any:
    """A function of the C library, from words to a word."""

    def typed(typing: Any, *args: Any) -> Any:
        """A call of the function by its name, which the process has."""

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word] * arguments)
            return builder.call(get_or_insert_function(builder.module, kind, name), args)

        return intp(*[intp] * arguments), lower

    if arguments == 0:
        return intrinsic(lambda typing: typed(typing))
    return intrinsic(lambda typing, argument: typed(typing, argument))


malloc, free, sched_yield = _c_function("malloc", 1), _c_function("free", 1), _c_function("sched_yield", 0)


@intrinsic
def swap_modes(typing: Any, modes: Any) -> Any:
    """Set the modes of floating-point arithmetic and return those before; XLA's threads flush subnormals to 0."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """The register MXCSR on x86, through memory; elsewhere FPCR, of ARM."""
        word, module = ir.IntType(64), builder.module
        if native.host_is_x86():
            half = ir.IntType(32)
            memory = alloca_once(builder, half)
            place = builder.bitcast(memory, ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            builder.call(get_or_insert_function(module, kind, "llvm.x86.sse.stmxcsr"), [place])
            before = builder.zext(builder.load(memory), word)
            builder.store(builder.trunc(args[0], half), memory)
            builder.call(get_or_insert_function(module, kind, "llvm.x86.sse.ldmxcsr"), [place])
            return before
        get, put = ir.FunctionType(word, []), ir.FunctionType(ir.VoidType(), [word])
        before = builder.call(get_or_insert_function(module, get, "llvm.aarch64.get.fpcr"), [])
        builder.call(get_or_insert_function(module, put, "llvm.aarch64.set.fpcr"), [args[0]])
        return before

    return intp(intp), lower


PLAIN_MODES = 0x1F80 if native.host_is_x86() else 0  # round to nearest, no exceptions, subnormals as they are


@intrinsic
def narrow(typing: Any, value: Any, like: Any) -> Any:
    """A double as a number like that; what is too large for it is infinite."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fptrunc(args[0], ir.FloatType()) if sig.args[1] == types.float32 else args[0]

    return like(types.float64, like), lower
