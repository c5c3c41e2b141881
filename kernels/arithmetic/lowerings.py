"""The primitives and scalar functions as Numba sees them: their types, and the instructions that they become.

Imported where something is compiled, and then told of all that was declared meanwhile; see `primitives`.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from . import primitives
from .numba_private import register_scalar

__all__ = ["register"]

_UINT = {types.float32: types.uint32, types.float64: types.uint64}
_FLOAT = {u: f for f, u in _UINT.items()}


def register() -> None:
    """Tell Numba of all that was declared since it was last told."""
    while primitives.declared:
        function, kind, content = primitives.declared.pop(0)
        _BY_KIND[kind](function, *content)


def _fma(fma: Any) -> None:
    """LLVM's instruction of that name, for three numbers of one floating-point type."""
    type_callable(fma)(lambda context: lambda a, b, c: a if a in _UINT and a == b == c else None)
    lower_builtin(fma, types.Float, types.Float, types.Float)(lambda context, builder, sig, args: builder.fma(*args))


def _bits(bits: Any) -> None:
    """A bit cast from a floating-point type to the unsigned one of its width."""
    type_callable(bits)(lambda context: _UINT.get)
    lower_builtin(bits, types.Float)(_bitcast)


def _from_bits(from_bits: Any) -> None:
    """A bit cast from an unsigned type to the floating-point one of its width."""
    type_callable(from_bits)(lambda context: _FLOAT.get)
    lower_builtin(from_bits, types.Integer)(_bitcast)


def _bitcast(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The argument's bits, taken as a number of the type that is returned."""
    return builder.bitcast(args[0], context.get_value_type(sig.return_type))


def _extreme(order: str, extreme: Any) -> None:
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


def _constant(function: Any, single: Any, double: Any) -> None:
    """A call of a `primitives.constant` is LLVM's constant for the dtype of its argument."""
    whole = isinstance(single, int)
    type_callable(function)(lambda context: lambda x: (_UINT[x] if whole else x) if x in _UINT else None)

    @lower_builtin(function, types.Float)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = single if sig.args[0] == types.float32 else double
        if not whole:
            number = float(np.float32(number)) if sig.args[0] == types.float32 else float(number)
        return ir.Constant(context.get_value_type(sig.return_type), number)


def _series(
    function: Any, arity: int, evaluate: Callable[..., Any], single: Sequence[float], double: Sequence[float]
) -> None:
    """A polynomial, written out: ``evaluate`` gets LLVM's constants and instructions instead of numbers."""

    @type_callable(function)
    def typer(context: Any) -> Any:
        return (
            (lambda x: x if x in _UINT else None) if arity == 1 else (lambda p, q: p if p in _UINT and p == q else None)
        )

    @lower_builtin(function, *[types.Float] * arity)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(sig.return_type)
        table = [ir.Constant(kind, float(c)) for c in (single if sig.args[0] == types.float32 else double)]
        return evaluate(*args, table, builder.fma, builder.fmul)


def _piecewise(function: Any, horner: Callable[..., Any], single: Any, double: Any) -> None:
    """A polynomial whose coefficients are loaded from a constant table, one for each dtype in a module."""
    type_callable(function)(lambda context: lambda w, i: w if w in _UINT and isinstance(i, types.Integer) else None)

    @lower_builtin(function, types.Float, types.Integer)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """The table, under a name by its content, a load for each coefficient of the row, and Horner's scheme."""
        kind = context.get_value_type(sig.return_type)
        rows = single if sig.return_type == types.float32 else double
        content = ir.Constant(ir.ArrayType(kind, rows.size), [ir.Constant(kind, float(v)) for v in rows.ravel()])
        name = f"table.{sig.return_type}.{hashlib.sha256(rows.tobytes()).hexdigest()[:16]}"
        if name not in builder.module.globals:
            variable = ir.GlobalVariable(builder.module, content.type, name)
            variable.linkage, variable.global_constant, variable.initializer = "internal", True, content
        memory = builder.bitcast(builder.module.globals[name], kind.as_pointer())
        index, width = args[1], rows.shape[1]
        start = builder.mul(index, ir.Constant(index.type, width))
        places = [builder.add(start, ir.Constant(index.type, j)) for j in range(width)]
        return horner(args[0], [builder.load(builder.gep(memory, [place])) for place in places], builder.fma)


_BY_KIND: dict[str, Callable[..., None]] = {
    "scalar": register_scalar,
    "fma": _fma,
    "bits": _bits,
    "from_bits": _from_bits,
    "min": functools.partial(_extreme, "<"),
    "max": functools.partial(_extreme, ">"),
    "constant": _constant,
    "series": _series,
    "piecewise": _piecewise,
}
