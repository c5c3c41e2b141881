"""CPU loops in LLVM IR: those of definitions of one form are lowered once, and linked with the code of each.

Numba takes three quarters of the time in which a kernel is made, for the loop around the formula.  Of a definition with
one stage, such as a formula has, the loop knows no more than how many operands and outputs there are: it is lowered
with a call of a function that is only declared, which the formula's graph is linked to it as.  What Numba makes of a
loop is kept on disk like kernels are.
"""

from __future__ import annotations

import functools
import json
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from ..arithmetic.lowerings import body
from ..arithmetic.nodes import Double, Single
from ..arithmetic.numba_private import Lowered
from ..arithmetic.primitives import linked
from ..compilers import cache
from ..compilers.lowering import lower
from ..losses.definition import Definition, Stage
from . import cpu

__all__ = ["lowered"]


def lowered(kind: str, definition: Definition, outputs: tuple[str, ...], dtype: Any, layout: str) -> Lowered:
    """The loop of that kind in `cpu` for these outputs of a definition."""
    plain = (
        len(definition.stages) == 1 and not definition.prepares and not definition.cases and not definition.in_doubles
    )
    if not plain or definition.found != definition.outputs or definition.others:
        return lower(getattr(cpu, kind)(definition, outputs, dtype, layout), cpu.SIGNATURE)
    form = _form(len(definition.data), len(definition.parameters))
    names = tuple(form.found[definition.found.index(name)] for name in outputs)
    loop = _loop(kind, form, names, dtype, layout)
    number: Any = Double if dtype is np.float64 else Single
    parameters = definition.prepared(*[number] * len(definition.parameters)) if definition.parameters else ()
    stage = definition.stages[0].function
    code = body(form.stages[0].function.__name__, stage, [*[number] * len(definition.data), parameters])
    return loop._replace(modules=[*loop.modules, code])


@functools.cache
def _loop(kind: str, form: Definition, outputs: tuple[str, ...], dtype: Any, layout: str) -> Lowered:
    """The loop of a form, with the call of what is linked to it."""

    def made() -> bytes:
        return json.dumps(lower(getattr(cpu, kind)(form, outputs, dtype, layout), cpu.SIGNATURE)).encode()

    name = cache.name_of(kind, (form, outputs, dtype, layout))
    return cache.fetch(name, ("loops.forms",), llvm.get_default_triple(), made, _read)


def _read(payload: bytes) -> Lowered:
    """The loop that a file of the cache holds."""
    modules, name, kind = json.loads(payload)
    return Lowered(modules, name, [(of, named) for of, named in kind])


@functools.cache
def _form(data: int, parameters: int) -> Definition:
    """The definition that stands for those of so many operands."""
    count = 1 + data + parameters

    def stage(*given: Any) -> Any:
        return (type(given[0])(0.0),) * count, ()

    name = f"form_of_{data}_and_{parameters}"
    stage.__name__ = f"fastrobust.{name}"
    of_data, of_parameters = (tuple(f"{word}{i}" for i in range(n)) for word, n in (("x", data), ("p", parameters)))
    outputs = ("value", *("d" + operand for operand in of_data + of_parameters))
    stages = (Stage(linked(stage), None, outputs),)
    return Definition(name=name, data=of_data, parameters=of_parameters, stages=stages, module=__name__)
