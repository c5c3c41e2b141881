"""Numba's interior: the one module that touches what Numba does not promise to keep.

Elsewhere only Numba's and llvmlite's public parts are used: the types, ``numba.extending``, ``llvmlite.ir`` and
``llvmlite.binding``; a test holds that.  Numba's range in pyproject.toml ends with the newest minor version that this
module was tested with, and `tests/test_private_compilers.py` says for each interface below what has moved.  None has a
fallback: a version without one of them is refused when this module is imported.

============================  =========================================================================================
what                          what for
============================  =========================================================================================
`compile_extra`, `Flags`      typing and lowering of a function, and no more than that
`cpu_target`, `subtarget`     Numba's tables of types and of lowerings for this processor
`CPUCodeLibrary`, `rtsys`     where Numba puts what it lowers; its functions for Python's objects, which come with all
`AbstractTemplate`,           the type of what a function returns: a helper's is found by lowering it
`infer_global`
`active_code_library`,        a call of a helper, and who makes it
`call_internal`
`global_compiler_lock`        one compilation at a time
its calling convention        how the kernels' entries, which are written as text, call them; see `Lowered.called_by`
============================  =========================================================================================
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin

try:
    from numba.core import compiler
    from numba.core.codegen import CPUCodeLibrary
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target
    from numba.core.runtime import rtsys
    from numba.core.typing.templates import AbstractTemplate, infer_global
except ImportError as error:
    raise ImportError(
        f"Numba {numba.__version__} has moved what fastrobust needs of its interior ({error}): install another version"
    ) from error

__all__ = ["Lowered", "alloca_once", "get_or_insert_function", "inline", "lowered", "register_inlined", "register_type"]

# Numba's calling convention for CPUs: a status is returned; two addresses come before the arguments, that of the memory
# for the result and that of the memory for a pointer to an exception.  What calls a kernel is written as text for it.
_STATUS, _BEFORE = "i32", [("ptr", "retptr"), ("ptr", "excinfo")]


class _Library(CPUCodeLibrary):  # type: ignore[misc]
    """The LLVM IR that Numba lowers a function to, as it is written, and the functions it calls.

    Numba's own libraries optimize it for this processor at once, and PTX would depend on that.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(_context().codegen(), function.__qualname__)
        self.text = ""
        self.kinds: dict[str, list[tuple[str, str]]] = {}  # by function: types and names of result and parameters
        self.callees: dict[_Library, None] = {}  # a set in a fixed order, on which LLVM's result depends

    def add_ir_module(self, module: Any) -> None:
        """Keep the module as text, with its functions' types, and have them inlined where Numba does not forbid it."""
        for function in module.functions:
            if function.is_declaration:
                continue
            if "noinline" not in function.attributes:
                inline(function)
            returned = _kind(function.ftype.return_type), ""
            self.kinds[function.name] = [returned, *((_kind(part.type), part.name) for part in function.args)]
        self.text = str(module).encode().decode("latin1")  # which is how llvmlite hands text to LLVM

    def add_linking_library(self, library: Any) -> None:
        """Refuse a call of what Numba has compiled by itself."""
        # Numba's functions for Python's objects come with all that it lowers; nothing here calls them.
        if library is not rtsys.library:
            problem = f"{self.name} calls {library.name}, which Numba compiles for this processor"
            raise NotImplementedError(f"{problem}; write what it does as a primitive or an inlined function")


def inline(function: Any) -> None:
    """Have a function of llvmlite's inlined wherever it is called."""
    function.attributes.add("alwaysinline")


def _kind(kind: Any) -> str:
    """A type as LLVM writes it, to which all pointers are one."""
    return "ptr" if isinstance(kind, ir.PointerType) else str(kind)


def register_type(function: Callable[..., Any], type_of: Callable[..., Any]) -> None:
    """Have calls of a Python function typed: type_of(*types of the arguments) is the type of what it returns."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        """The type of a call."""

        key = function

        def generic(self, args: Any, kws: Any) -> Any:
            plain = tuple(map(types.unliteral, args))
            return type_of(*plain)(*plain)

    infer_global(function, types.Function(Template))


def register_inlined(function: Callable[..., Any]) -> None:
    """Have a Python function lowered into its callers: see `primitives.inlined`.

    This is ``numba.extending.register_jitable`` without machine code for each function on its own, which took a third
    of a kernel's compilation, and does not exist for what only a GPU has.
    """
    known: dict[Any, Any] = {}

    def find(args: Any) -> Any:
        if args not in known:
            known[args] = _lower(function, args, None)
        return known[args]

    register_type(function, lambda *args: find(args).signature.return_type)

    @lower_builtin(function, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        callee = find(sig.args)
        context.active_code_library.callees[callee.library] = None
        return context.call_internal(builder, callee.fndesc, sig, args)


@functools.cache
def _context() -> Any:
    """Numba's context for this processor, without the output that ``NUMBA_DEBUG_JIT`` would write into the code.

    That is kept for other processes, and also goes to GPUs.
    """
    return cpu_target.target_context.subtarget(debug_print=lambda builder, text: None)


def _lower(function: Callable[..., Any], arguments: Any, result: Any) -> Any:
    """Numba's result of lowering a function to LLVM IR; nothing is made executable."""
    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    library = _Library(function)
    return compiler.compile_extra(
        cpu_target.typing_context, _context(), function, arguments, result, flags, {}, library
    )


class Lowered(NamedTuple):
    """A function and all that it calls, in LLVM IR."""

    modules: list[str]
    name: str  # of the function in it
    kind: list[tuple[str, str]]  # types and names of what it returns and takes, as it is defined there

    def called_by(self, text: str) -> str:
        """The LLVM IR of what calls the function, with its name for ``INNER`` there.

        Raises
        ------
        RuntimeError
            If the function is not called as Numba has defined it, or Numba's calling convention is not the known one.
        """
        (status, _), *parameters = self.kind
        where = f"Numba {numba.__version__}'s calling convention"
        if status != _STATUS or parameters[: len(_BEFORE)] != _BEFORE:
            known, told = (", ".join(map(" ".join, those)) for those in (_BEFORE, parameters))
            raise RuntimeError(f"{where} has moved: {_STATUS} ({known}, ...) is {status} ({told}) now")
        wanted = [kind for kind, _ in self.kind]
        uses = re.findall(r'\b(?:declare|call) (\w+) @"INNER"\(([^)]*)\)', text)
        for returned, given in uses:
            called = [returned, *(part.split()[0] for part in given.split(","))]
            if called != wanted:
                raise RuntimeError(f"{where}: the text calls {self.name} with {called}, and its types are {wanted}")
        if len(uses) < 2:
            raise RuntimeError(f"the text that calls {self.name} does not declare and call INNER")
        return text.replace("INNER", self.name)


def lowered(function: Callable[..., Any], signature: Any) -> Lowered:
    """A Python function of that signature, lowered to LLVM IR.  Nothing is made executable."""
    with global_compiler_lock:
        compiled = _lower(function, signature.args, signature.return_type)
    libraries = [compiled.library]
    for library in libraries:
        libraries += [callee for callee in library.callees if callee not in libraries]
    name = compiled.fndesc.llvm_func_name
    return Lowered([library.text for library in libraries], name, compiled.library.kinds[name])


# --- of Numba's `cgutils`, in llvmlite's own operations: for loops that allocate memory and call C


def alloca_once(builder: Any, kind: Any) -> Any:
    """Memory for that type on the stack, set to 0 where the function begins: once, also in a loop."""
    with builder.goto_entry_block():
        memory = builder.alloca(kind)
        builder.store(kind(None), memory)
    return memory


def get_or_insert_function(module: Any, kind: Any, name: str) -> Any:
    """The function of that name, declared in the module if it is not there."""
    return module.globals.get(name) or ir.Function(module, kind, name)
