"""Graphs of scalar code over whole arrays, for array libraries.

Each node is an operation on arrays.  A product with its rounding error takes seventeen of them instead of an fma, so
this is slow beside compiled kernels, and nearly as accurate: the emulated fma rounds twice, and a library may flush
subnormal numbers to 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .nodes import Graph, Number, Truth, leaves

__all__ = ["NUMPY", "Library", "evaluated", "rounded_twice"]


class Library(NamedTuple):
    """What is needed of an array library."""

    xp: Any  # numpy, jax.numpy
    bitcast: Callable[..., Any]  # of an array and a dtype of the same width: the array's bits as that
    fma: Callable[..., Any]  # `rounded_twice`, compiled where the library has a compiler
    take: Callable[..., Any]  # of a column of a table and an array of indices: the elements there
    hidden: Callable[..., Any]  # of a constant: the same, of which the library's compiler knows nothing


def evaluated(library: Library, graph: Graph, operands: Sequence[Any]) -> list[Any]:
    """The results of a graph, in a row, for arrays that broadcast; a result that is a constant has no shape."""
    values: dict[int, Any] = {}
    for node in graph.nodes:
        if node.operation == "argument":
            values[node.place] = operands[node.content]
        else:
            arguments = [values[argument.place] for argument in node.arguments]
            values[node.place] = _OPERATIONS[node.operation](library, node, *arguments)
    return [values[node.place] for node in leaves(graph.results)]


# --- the operations of nodes: functions of the library, the node and the values of its arguments


def _constant(library: Library, node: Any) -> Any:
    """A constant of the node's type, and of no shape.

    A number is hidden: XLA makes u of (1 + u) - 1, which is there for what the sum has lost.
    """
    if isinstance(node, Truth):
        return np.bool_(node.content)
    return library.hidden(node.constant) if isinstance(node, Number) else node.constant


def _entry(library: Library, node: Any, row: Any) -> Any:
    """The elements of a table's column."""
    table, column = node.content
    return library.take(table.rows[:, column], row)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of Python's that arrays have."""
    return lambda library, node, *arguments: function(*arguments)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "constant": _constant,
    "add": _plain(operator.add),
    "sub": _plain(operator.sub),
    "mul": _plain(operator.mul),
    "div": _plain(operator.truediv),
    "fma": lambda library, node, a, b, c: library.fma(a, b, c),
    "neg": _plain(operator.neg),
    "abs": _plain(abs),
    "sqrt": lambda library, node, a: library.xp.sqrt(a),
    "min": lambda library, node, a, b: library.xp.minimum(a, b),
    "max": lambda library, node, a, b: library.xp.maximum(a, b),
    "and": _plain(operator.and_),
    "or": _plain(operator.or_),
    "not": _plain(operator.invert),
    "shl": _plain(operator.lshift),
    "shr": _plain(operator.rshift),
    "bits": lambda library, node, a: library.bitcast(a, np.dtype(node.dtype)),
    "converted": lambda library, node, a: a.astype(node.dtype),
    "select": lambda library, node, condition, yes, no: library.xp.where(condition, yes, no),
    "entry": _entry,
    "<": _plain(operator.lt),
    "<=": _plain(operator.le),
    ">": _plain(operator.gt),
    ">=": _plain(operator.ge),
    "==": _plain(operator.eq),
    "!=": _plain(operator.ne),
}


def rounded_twice(xp: Any, a: Any, b: Any, c: Any) -> Any:
    """The sum a b + c of arrays or numbers of one type, of which the product is exact (Dekker), the sum rounded twice.

    ``xp`` is the array library.
    """
    factor = a.dtype.type(4097.0 if a.dtype.itemsize == 4 else 134217729.0)

    def halves(number: Any) -> tuple[Any, Any]:
        """The number as a sum of two with half as many digits (Veltkamp)."""
        big = factor * number
        high = big - (big - number)
        return high, number - high

    plain = a * b
    (ah, al), (bh, bl) = halves(a), halves(b)
    error = ((ah * bh - plain) + ah * bl + al * bh) + al * bl
    total = plain + c
    back = total - plain
    rest = (plain - (total - back)) + (c - back)
    corrected = total + (rest + error)
    return xp.where(abs(corrected) < np.inf, corrected, total)


NUMPY = Library(
    xp=np,
    bitcast=lambda a, dtype: a.view(dtype),
    fma=lambda a, b, c: rounded_twice(np, a, b, c),
    take=lambda column, i: column[i],
    hidden=lambda number: number,
)
