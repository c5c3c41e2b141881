"""Numba -> LLVM IR, for any target: a Python function and all that it calls, in one module, inlined.

Here and in `primitives.scalar` Numba's internals are used: `compile_extra`, and the modules of its code libraries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

__all__ = ["link", "lower", "optimize"]


def lower(function: Callable[..., Any], signature: Any) -> tuple[list[str], Any]:
    """LLVM IR of a Python function and of all it calls, with Numba's description of it.  Nothing is made executable."""
    from numba.core import sigutils
    from numba.core.compiler_lock import global_compiler_lock

    from .primitives import callees, lower_function

    with global_compiler_lock:
        compiled = lower_function(function, *sigutils.normalize_signature(signature))
    modules, seen, todo = [], set(), [compiled.library]
    while todo:
        library = todo.pop()
        if id(library) not in seen:
            seen.add(id(library))
            modules.append(str(library._final_module))
            todo += [*library._linking_libraries, *callees.get(library, ())]
    return modules, compiled.fndesc


# A definition up to where its attributes begin, unless it says noinline.
_DEFINITION = re.compile(
    r"^(define (?!.*noinline)[^@\n]*@\"?([\w.$-]+)\"?\(.*\)(?: local_unnamed_addr| unnamed_addr)?)", re.M
)


def _inlined(text: str, entry: str) -> str:
    """The module, all but the entries to be inlined.  By text: llvmlite 0.46 marks the return value instead."""
    return _DEFINITION.sub(lambda m: m[1] if m[2].startswith(entry) else f"{m[1]} alwaysinline", text)


def link(machine: Any, modules: list[str], entry: str) -> Any:
    """One module for that machine, of which everything is internal and inlined but what begins with ``entry``."""
    head = f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'
    linked = None
    for text in modules:
        text = re.sub(r"^target (datalayout|triple) = .*$", "", _inlined(text, entry), flags=re.M)
        module = llvm.parse_assembly(head + text)
        if linked is None:
            linked = module
        else:
            linked.link_in(module)
    assert linked is not None
    for function in linked.functions:
        if not function.name.startswith(entry) and not function.is_declaration:
            function.linkage = "internal"
    for variable in linked.global_variables:
        if not variable.name.startswith(entry) and not variable.is_declaration:
            variable.linkage = "internal"
    return linked


def optimize(machine: Any, module: Any, vectorize: bool) -> None:
    """LLVM's usual passes over the module, for that machine."""
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = vectorize
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    module.verify()
