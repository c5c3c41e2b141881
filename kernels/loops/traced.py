"""The scalar code of definitions over whole arrays, for libraries that trace programs and have compilers of their own.

The graph is that of the compiled kernels; it is for where there are none: JAX on platforms without kernels.  Such a
library traces Python anew for each shape of arrays, some 50 us for each of thousands of operations.  So an fma, of
which a loss has hundreds, should be compiled by itself (see `arrays.Library`): it is traced once for operands of a type
and then only called; compilers inline it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..arithmetic.arrays import Library, evaluated
from ..arithmetic.nodes import Double, Graph, Single, traced
from ..graph.formats import doubles
from ..losses.definition import Definition, cases, element, prepare

__all__ = ["evaluate"]


def evaluate(library: Library, definition: Definition, names: Sequence[str], *operands: Any) -> tuple[Any, ...]:
    """The named outputs; the operands are the library's arrays, of one type and broadcastable."""
    graph = _graph(definition, tuple(names), operands[0].dtype.itemsize == 8)
    common = library.xp.broadcast_shapes(*(operand.shape for operand in operands))
    return tuple(library.xp.broadcast_to(result, common) for result in evaluated(library, graph, operands))


@functools.cache
def _graph(definition: Definition, names: tuple[str, ...], double: bool) -> Graph:
    """The graph of the named outputs, in the case that is right for all operands."""
    leading = len(definition.data)

    def outputs(*operands: Any) -> Any:
        prepared = prepare(definition)(operands[leading:])
        results = element(definition)(operands[:leading], prepared, True, cases(definition).close(prepared))
        return tuple(results[definition.found.index(name)] for name in names)

    token = doubles.set(False)  # of single numbers: TPUs have none, and JAX has them only if it is told so
    try:
        return traced(outputs, [Double if double else Single] * len(definition.operands))
    finally:
        doubles.reset(token)
