"""Numba -> LLVM IR, for any target: a Python function and all that it calls, in one module, inlined.

Numba's own way optimizes what it is given for the processor that compiles (see `arithmetic.numba_private`, which goes
round it); here that is the business of `optimize`, for the processor that runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

if TYPE_CHECKING:
    from ..arithmetic.numba_private import Lowered

__all__ = ["link", "lower", "optimize"]


def lower(function: Callable[..., Any], signature: Any) -> Lowered:
    """A Python function and all it calls, in LLVM IR.  Nothing is made executable.

    Numba is imported here, and not where a kernel comes from the cache.
    """
    from ..arithmetic.numba_private import lowered

    return lowered(function, signature)


def link(machine: Any, modules: list[str], entry: str) -> Any:
    """One module for that machine, of which everything is internal and inlined but what begins with ``entry``."""
    head = f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'
    linked = None
    for text in modules:
        text = re.sub(r"^target (datalayout|triple) = .*$", "", text, flags=re.M)
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
    """LLVM's usual passes over the module, for that machine.

    First over each function on its own: inlined as they are written, they leave longer loops, by a sixth where each
    element has its own parameters.
    """
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = vectorize
    passes = llvm.create_pass_builder(machine, options)
    each = passes.getFunctionPassManager()
    for function in module.functions:
        each.run(function, passes)
    passes.getModulePassManager().run(module, passes)
    module.verify()
