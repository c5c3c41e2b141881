"""Scalar functions and primitives as Numba sees them: their types, and the instructions that they become.

A scalar function's graph is written into its caller by LLVM's builder, operation by operation: Numba types and lowers
the loops alone.  Imported where something is compiled, and then told of all that was declared meanwhile; see
`primitives`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from . import primitives
from .nodes import Double, Graph, Node, Number, Single, Truth, Word, Word32, Word64, leaves, traced
from .numba_private import register_inlined, register_type

__all__ = ["LLVM", "instructions", "parts", "register"]

_KINDS: dict[Any, type[Node]] = {
    types.float32: Single,
    types.float64: Double,
    types.uint32: Word32,
    types.uint64: Word64,
    types.boolean: Truth,
}
_TYPES = {kind: numba for numba, kind in _KINDS.items()}
LLVM: dict[type[Node], Any] = {
    Single: ir.FloatType(),
    Double: ir.DoubleType(),
    Word32: ir.IntType(32),
    Word64: ir.IntType(64),
    Truth: ir.IntType(1),
}


def register() -> None:
    """Tell Numba of all that was declared since it was last told."""
    while primitives.declared:
        kind, function = primitives.declared.pop(0)
        _BY_KIND[kind](function)


# --- scalar functions


def _scalar(function: Callable[..., Any]) -> None:
    """A call of a scalar function is its graph, written out, by which it is typed, too."""

    @functools.cache
    def graph(arguments: Any) -> Graph:
        return traced(function, [_kind(argument) for argument in arguments])

    register_type(function, lambda *arguments: _type(graph(arguments).results))

    @lower_builtin(function, types.VarArg(types.Any))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """The arguments taken apart, the instructions of the nodes, and the results put together."""
        given = [part for kind, value in zip(sig.args, args, strict=True) for part in parts(builder, kind, value)]
        return _whole(context, builder, sig.return_type, iter(instructions(builder, graph(sig.args), given)))


def instructions(builder: Any, graph: Graph, given: list[Any]) -> list[Any]:
    """The values of the results of a graph, whose instructions are written."""
    values: dict[int, Any] = {}
    for node in graph.nodes:
        arguments = [values[argument.place] for argument in node.arguments]
        values[node.place] = (
            given[node.content] if node.operation == "argument" else _EMIT[node.operation](builder, node, *arguments)
        )
    return [values[node.place] for node in leaves(graph.results)]


def _kind(kind: Any) -> Any:
    """The type of nodes for a type of Numba's; for tuples a tuple of such types."""
    if isinstance(kind, types.BaseTuple):
        parts = [_kind(part) for part in kind]
        named = getattr(kind, "instance_class", None)
        return tuple(parts) if named is None else named(*parts)
    kind = types.unliteral(kind)
    if kind not in _KINDS:
        raise TypeError(f"a scalar function takes numbers, unsigned words, conditions and tuples of them, not {kind}")
    return _KINDS[kind]


def _type(results: Any) -> Any:
    """The type of Numba's for results."""
    if isinstance(results, tuple):
        named = type(results) if hasattr(results, "_fields") else None
        return types.BaseTuple.from_types([_type(part) for part in results], named)
    return _TYPES[type(results)]


def parts(builder: Any, kind: Any, value: Any) -> Iterator[Any]:
    """LLVM's values of the parts of nested tuples that are no tuples."""
    if isinstance(kind, types.BaseTuple):
        for i, part in enumerate(kind):
            yield from parts(builder, part, builder.extract_value(value, i))
    else:
        yield value


def _whole(context: Any, builder: Any, kind: Any, parts: Iterator[Any]) -> Any:
    """LLVM's value of results, from those of their parts."""
    if not isinstance(kind, types.BaseTuple):
        return next(parts)
    return context.make_tuple(builder, kind, [_whole(context, builder, part, parts) for part in kind])


# --- the operations of nodes as instructions: functions of the builder, the node and the values of its arguments


def _constant(builder: Any, node: Any) -> Any:
    """A constant, which LLVM's library takes as a float or an int."""
    if isinstance(node, Truth):
        return ir.Constant(LLVM[Truth], int(node.content))
    return ir.Constant(LLVM[type(node)], node.constant.item())


def _compared(order: str) -> Callable[..., Any]:
    """A comparison; of numbers one that NaN fails, but for ``!=``."""

    def emit(builder: Any, node: Any, a: Any, b: Any) -> Any:
        if isinstance(node.arguments[0], Word):
            return builder.icmp_unsigned(order, a, b)
        return (builder.fcmp_unordered if order == "!=" else builder.fcmp_ordered)(order, a, b)

    return emit


def _extreme(order: str) -> Callable[..., Any]:
    """The smaller or the larger of two: the second only if it is beyond the first."""

    def emit(builder: Any, node: Any, a: Any, b: Any) -> Any:
        beyond = builder.icmp_unsigned if isinstance(node, Word) else builder.fcmp_ordered
        return builder.select(beyond(order, b, a), b, a)

    return emit


def _converted(builder: Any, node: Any, value: Any) -> Any:
    """A number rounded or widened to the other type, or a word cut or filled with zeros."""
    kind, wide = LLVM[type(node)], node.itemsize == 8
    if isinstance(node, Number) and isinstance(node.arguments[0], Number):
        return builder.fpext(value, kind) if wide else builder.fptrunc(value, kind)
    if isinstance(node, Word) and isinstance(node.arguments[0], Word):
        return builder.zext(value, kind) if wide else builder.trunc(value, kind)
    raise TypeError(f"{node.arguments[0]!r} cannot be made {type(node).__name__}")


def _entry(builder: Any, node: Any, row: Any) -> Any:
    """A load from a constant table, which a module has once, under a name by its content."""
    (table, column), kind = node.content, LLVM[type(node)]
    rows = table.rows
    name = f"table.{rows.dtype}.{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}"
    if name not in builder.module.globals:
        content = ir.Constant(ir.ArrayType(kind, rows.size), [ir.Constant(kind, float(v)) for v in rows.ravel()])
        variable = ir.GlobalVariable(builder.module, content.type, name)
        variable.linkage, variable.global_constant, variable.initializer = "internal", True, content
    memory = builder.bitcast(builder.module.globals[name], kind.as_pointer())
    place = builder.add(builder.mul(row, ir.Constant(row.type, rows.shape[1])), ir.Constant(row.type, column))
    return builder.load(builder.gep(memory, [place]))


def _intrinsic(name: str) -> Callable[..., Any]:
    """A call of LLVM's intrinsic of that name for the type of its argument."""

    def emit(builder: Any, node: Any, value: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic(name, [value.type]), [value])

    return emit


def _by_type(of_numbers: str, of_words: str) -> Callable[..., Any]:
    """The builder's method for numbers, and that for words."""

    def emit(builder: Any, node: Any, a: Any, b: Any) -> Any:
        return getattr(builder, of_words if isinstance(node, Word) else of_numbers)(a, b)

    return emit


_EMIT: dict[str, Callable[..., Any]] = {
    "constant": _constant,
    "add": _by_type("fadd", "add"),
    "sub": _by_type("fsub", "sub"),
    "mul": _by_type("fmul", "mul"),
    "div": lambda builder, node, a, b: builder.fdiv(a, b),
    "fma": lambda builder, node, a, b, c: builder.fma(a, b, c),
    "neg": lambda builder, node, a: builder.fneg(a),
    "abs": _intrinsic("llvm.fabs"),
    "sqrt": _intrinsic("llvm.sqrt"),
    "min": _extreme("<"),
    "max": _extreme(">"),
    "and": lambda builder, node, a, b: builder.and_(a, b),
    "or": lambda builder, node, a, b: builder.or_(a, b),
    "not": lambda builder, node, a: builder.not_(a),
    "shl": lambda builder, node, a, b: builder.shl(a, b),
    "shr": lambda builder, node, a, b: builder.lshr(a, b),
    "bits": lambda builder, node, a: builder.bitcast(a, LLVM[type(node)]),
    "converted": _converted,
    "select": lambda builder, node, condition, yes, no: builder.select(condition, yes, no),
    "entry": _entry,
    **{order: _compared(order) for order in ("<", "<=", ">", ">=", "==", "!=")},
}


# --- primitives that loops use themselves


def _fma(fma: Any) -> None:
    """LLVM's instruction of that name, for three numbers of one floating-point type."""
    numbers = types.float32, types.float64
    type_callable(fma)(lambda context: lambda a, b, c: a if a in numbers and a == b == c else None)
    lower_builtin(fma, types.Float, types.Float, types.Float)(lambda context, builder, sig, args: builder.fma(*args))


def _least_or_most(order: str, extreme: Any) -> None:
    """The smaller or the larger of two.  Numba compiles its own for this processor, with a dispatcher of its own."""
    type_callable(extreme)(lambda context: lambda a, b: context.unify_types(a, b))

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """A comparison of both, in their common type, and a select: the second only if it is beyond the first."""
        kind = sig.return_type
        a, b = (context.cast(builder, number, given, kind) for number, given in zip(args, sig.args, strict=True))
        if isinstance(kind, types.Float):
            return builder.select(builder.fcmp_ordered(order, b, a), b, a)
        compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
        return builder.select(compare(order, b, a), b, a)

    lower_builtin(extreme, types.Number, types.Number)(lower)


_BY_KIND: dict[str, Callable[..., None]] = {
    "scalar": _scalar,
    "inlined": register_inlined,
    "fma": _fma,
    "min": functools.partial(_least_or_most, "<"),
    "max": functools.partial(_least_or_most, ">"),
}
