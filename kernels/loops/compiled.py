"""Compiled kernels by name: machine code for this processor, and PTX.

What makes them needs Numba, and is imported only where a kernel is not in the cache.
"""

from __future__ import annotations

from typing import Any

from ..compilers import cache, native
from ..compilers import ptx as ptx_compiler
from ..compilers.lowering import lower
from ..losses.definition import Definition
from ..losses.rowwise import RowDefinition
from ..losses.wavelets import Wavelet
from .launch import REGISTERS, THREADS

__all__ = ["LOOP", "handler", "kernel", "lifting", "ptx", "rows", "whole"]

# The entries call ``INNER`` by Numba's calling convention, which `Lowered.called_by` checks.

# The entry has NumPy's signature of an inner loop.  LLVM would stop at 256 bits on some CPUs that have 512.
LOOP = """
declare i32 @"INNER"(ptr, ptr, ptr, ptr, ptr)
define void @"NAME"(ptr %args, ptr %dims, ptr %steps, ptr %data) #0 {
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %args, ptr %dims, ptr %steps)
  ret void
}
attributes #0 = { nounwind "prefer-vector-width"="512" }
"""

# The entries have XLA's signatures of a handler and of a task; the latter goes without the table.
_HANDLER = """
@"NAME_table" = global [WORDS x i64] zeroinitializer, align 64
declare i32 @"INNER"(ptr, ptr, ptr, ptr)
define ptr @"NAME"(ptr %frame) #0 {
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %frame, ptr @"NAME_table")
  %answer = load ptr, ptr %result
  ret ptr %answer
}
define void @"NAME_task"(ptr %data) #0 {
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %data, ptr null)
  ret void
}
attributes #0 = { nounwind }
"""


def kernel(kind: str, definition: Definition, outputs: tuple[str, ...], dtype: Any, layout: str) -> int:
    """The address of a kernel of `cpu`, compiled or read from the cache at the first call.

    ``kernel("elementwise", LOSS, ("value",), np.float32, "shared")`` is ``cpu.elementwise(LOSS, ...)`` in machine code.
    """
    return _addresses(kind, definition, outputs, dtype, layout)[0]


def whole(definition: Definition, outputs: tuple[str, ...], dtype: Any) -> int:
    """The address of the inner loop that `loops.whole` makes of a reduction with numbers as parameters."""
    return _addresses("reduction", definition, outputs, dtype, "shared")[1]


def rows(definition: RowDefinition, dtype: Any, slopes: bool) -> int:
    """The address of a loop of `loops.rows`, compiled or read from the cache at the first call."""
    what = definition, dtype, "slopes" if slopes else "values"
    name = cache.name_of("rows", what)

    def compiled() -> bytes:
        from . import cpu
        from . import rows as loops

        return native.compiled(name, lower(loops.loop(definition, dtype, slopes), cpu.SIGNATURE), LOOP)

    return native.addresses(name, _sources(("loops.rows",), what), (name,), compiled)[0]


def lifting(wavelet: Wavelet, dtype: Any, analysis: bool, transposed: bool) -> int:
    """The address of a loop of `loops.lifting`, compiled or read from the cache at the first call."""
    what = wavelet, dtype, "analysis" if analysis else "synthesis", "transposed" if transposed else "plain"
    name = cache.name_of("lifting", what)

    def compiled() -> bytes:
        from . import cpu
        from . import lifting as loops

        return native.compiled(name, lower(loops.loop(wavelet, dtype, analysis, transposed), cpu.SIGNATURE), LOOP)

    return native.addresses(name, ("loops.lifting",), (name,), compiled)[0]


def _addresses(kind: str, definition: Definition, outputs: tuple[str, ...], dtype: Any, layout: str) -> list[int]:
    """The addresses of a kernel and, where there is one, of the loop around it."""
    definition = definition.for_dtype(dtype)
    what = definition, outputs, dtype, layout
    name = cache.name_of(kind, what)
    around = f"{name}_whole" if (kind, layout) == ("reduction", "shared") else None

    def compiled() -> bytes:
        from . import forms

        made = forms.lowered(kind, *what)
        if around is not None:
            from .whole import written

            stored, summed = (
                [f"d{operand}" in outputs for operand in group] for group in (definition.data, definition.parameters)
            )
            made = made._replace(modules=[*made.modules, written(around, name, stored, summed, dtype)])
        return native.compiled(name, made, LOOP)

    symbols = (name,) if around is None else (name, around)
    made_of = ("loops.forms",) if around is None else ("loops.forms", "loops.whole")
    return native.addresses(name, _sources(made_of, what), symbols, compiled)


def _sources(loops: tuple[str, ...], what: tuple[Any, ...]) -> tuple[str, ...] | None:
    """The modules of this package that a kernel is made from; None if a definition is from elsewhere.

    What that imports is not known, so that its kernels are not kept, unless the definition has a digest of its own.
    """
    root = __name__.rpartition("loops.")[0]
    modules = [
        definition.module
        if definition.module.startswith(root) or isinstance(definition, RowDefinition) or not definition.digest
        else f"{root}losses.formula"
        for definition in what
        if isinstance(definition, Definition | RowDefinition)
    ]
    if not all(module.startswith(root) for module in modules):
        return None
    return (*loops, *(module.removeprefix(root) for module in modules))


def handler(words: int) -> tuple[int, int, int]:
    """The addresses of the handler of `xla`, of what its threads run, and of its table of so many words."""
    name = cache.name_of("xla", ("handler",))

    def compiled() -> bytes:
        from . import xla

        return native.compiled(name, lower(xla.handler, xla.SIGNATURE), _HANDLER.replace("WORDS", str(words)))

    symbols = native.addresses(name, ("loops.xla",), (name, f"{name}_task", f"{name}_table"), compiled)
    return symbols[0], symbols[1], symbols[2]


def ptx(kind: str, *what: Any) -> str:
    """The PTX of a kernel of `cuda`, compiled or read from the cache at the first call; its entry is ``kernel``."""

    def compiled() -> str:
        from . import cuda

        function, words = getattr(cuda, kind)(*what)
        blocks = REGISTERS["float64" if "float64" in what else "float32"]
        return ptx_compiler.compiled(function, cuda.SIGNATURE, words, THREADS, blocks)

    return ptx_compiler.text(cache.name_of(kind, what), _sources(("loops.cuda",), what), compiled)
