"""CPU loops in LLVM IR: each is lowered once for all definitions of one form, and linked with the code of a definition.

Numba takes most of the time in which a kernel is made, for the loop around the stages.  That loop knows no more of a
definition than its `cpu.Form`: it calls functions that are only declared, as which the stages are linked to it, see
`stages`.  What Numba makes of a loop is kept on disk like kernels are.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import llvmlite.binding as llvm

from ..arithmetic.numba_private import Lowered
from ..compilers import cache
from ..compilers.lowering import lower
from ..losses.definition import Definition
from . import cpu, stages

__all__ = ["lowered"]


def lowered(kind: str, definition: Definition, outputs: tuple[str, ...], dtype: Any, layout: str) -> Lowered:
    """The loop of that kind in `cpu` for these outputs of a definition, and its stages."""
    code, data = definition.code(dtype), len(definition.data)
    form = cpu.Form(data, len(code.parameters), code.kept, code.carries is not None)
    places = tuple(definition.outputs.index(name) for name in outputs)
    places = tuple(range(len(outputs))) if kind == "elementwise" else places  # of which that loop knows the number
    loop = _loop(kind, form, places, dtype, layout)
    return loop._replace(modules=[*loop.modules, stages.written(code, data, outputs, dtype, layout)])


@functools.cache
def _loop(kind: str, form: cpu.Form, places: tuple[int, ...], dtype: Any, layout: str) -> Lowered:
    """The loop of a form, with the calls of what is linked to it."""

    def made() -> bytes:
        return json.dumps(lower(getattr(cpu, kind)(form, places, dtype, layout), cpu.SIGNATURE)).encode()

    name = cache.name_of(kind, (form.name, tuple(map(str, places)), dtype, layout))
    return cache.fetch(name, ("loops.cpu",), llvm.get_default_triple(), made, _read)


def _read(payload: bytes) -> Lowered:
    """The loop that a file of the cache holds."""
    modules, name, kind = json.loads(payload)
    return Lowered(modules, name, [(of, named) for of, named in kind])
