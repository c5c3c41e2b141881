"""Primitives: the few operations that each target lowers natively.

Everything here is at once a plain Python function over NumPy scalars (exact, slow; what the tests trace) and an
instruction for Numba, registered below with ``type_callable`` and ``lower_builtin``.  The same scalar code therefore
runs in Python, as SIMD on the CPU and as PTX, with the same bits.

Rules for code over these primitives: no libm, no fastmath, no contraction (``fma`` is explicit); a number literal is
written ``T(0.5)`` with ``T = type(x)``, a number that depends on the dtype is a `constant`; bit tricks use unsigned
integers, cast after every operation.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin, type_callable

from .numba_private import scalar

__all__ = ["bits", "constant", "fma", "from_bits", "homogeneous", "max", "min", "piecewise", "polynomial", "scalar"]

_UINT = {types.float32: types.uint32, types.float64: types.uint64}
_FLOAT = {u: f for f, u in _UINT.items()}


def fma(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` with one rounding."""
    T = type(a)
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)):
        return T(a * b + c)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return T(a * b + c)
    try:
        nearest = float(exact)
    except OverflowError:
        return T(math.inf if exact > 0 else -math.inf)
    if T is np.float32 and (rest := exact - Fraction(nearest)) != 0:
        # Rounding twice (to double, then to single) is right if the first rounding goes to an odd last bit.
        toward = np.nextafter(nearest, np.inf if rest > 0 else -np.inf)
        nearest = nearest if np.float64(nearest).view(np.uint64) & np.uint64(1) else toward
    with np.errstate(over="ignore"):
        return T(nearest)


@type_callable(fma)
def _type_fma(context: Any) -> Any:
    return lambda a, b, c: a if a in _UINT and a == b == c else None


@lower_builtin(fma, types.Float, types.Float, types.Float)
def _lower_fma(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fma(*args)


def bits(x: Any) -> Any:
    """The bit pattern of x as an unsigned integer of its width."""
    return x.view(np.uint32 if x.itemsize == 4 else np.uint64)


def from_bits(u: Any) -> Any:
    """The floating-point number with bit pattern u."""
    return u.view(np.float32 if u.itemsize == 4 else np.float64)


@type_callable(bits)
def _type_bits(context: Any) -> Any:
    return _UINT.get


@type_callable(from_bits)
def _type_from_bits(context: Any) -> Any:
    return _FLOAT.get


@lower_builtin(bits, types.Float)
@lower_builtin(from_bits, types.Integer)
def _lower_bitcast(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(sig.return_type))


def min(a: Any, b: Any) -> Any:
    """The builtin, of two numbers.  Numba compiles its own for this processor, with a dispatcher of its own."""
    return builtins.min(a, b)


def max(a: Any, b: Any) -> Any:
    """The builtin, of two numbers."""
    return builtins.max(a, b)


@type_callable(min)
@type_callable(max)
def _type_extreme(context: Any) -> Any:
    return lambda a, b: context.unify_types(a, b)


def _lower_extreme(order: str, context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The second if it is beyond the first, as in Python: what that gives for NaN and for 0 and -0 counts."""
    kind = sig.return_type
    a, b = (context.cast(builder, value, given, kind) for value, given in zip(args, sig.args, strict=True))
    if isinstance(kind, types.Float):
        return builder.select(builder.fcmp_ordered(order, b, a), b, a)
    compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
    return builder.select(compare(order, b, a), b, a)


lower_builtin(min, types.Number, types.Number)(functools.partial(_lower_extreme, "<"))
lower_builtin(max, types.Number, types.Number)(functools.partial(_lower_extreme, ">"))


def constant(single: Any, double: Any = None) -> Callable[[Any], Any]:
    """A number that depends on the dtype: ``NAME = constant(f4, f8)``, used as ``NAME(x)`` for an x of that dtype.

    Integers become the unsigned type of the same width.
    """
    double = single if double is None else double
    whole = isinstance(single, int)

    def value(x: Any) -> Any:
        narrow = x.itemsize == 4
        if whole:
            return np.uint32(single) if narrow else np.uint64(double)
        return np.float32(single) if narrow else np.float64(double)

    @type_callable(value)
    def typer(context: Any) -> Any:
        return lambda x: (_UINT[x] if whole else x) if x in _UINT else None

    @lower_builtin(value, types.Float)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        number = single if sig.args[0] == types.float32 else double
        if not whole:
            number = float(np.float32(number)) if sig.args[0] == types.float32 else float(number)
        return ir.Constant(context.get_value_type(sig.return_type), number)

    return value


def _estrin(x: Any, c: Sequence[Any], fma: Callable[..., Any], mul: Callable[..., Any]) -> Any:
    """Sum of ``c[i] x**i``, pairwise: the chain of dependent operations is log2 of the degree, not the degree."""
    level = list(c)
    while len(level) > 1:
        paired = [fma(level[i + 1], x, level[i]) for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(level) - len(level) % 2 :]
        x = mul(x, x) if len(level) > 1 else x
    return level[0]


def _clenshaw(p: Any, q: Any, c: Sequence[Any], fma: Callable[..., Any], mul: Callable[..., Any]) -> Any:
    """Sum of ``c[n] h_n`` where ``h_n = p h_(n-1) + q h_(n-2)``, h_0 = 1, h_(-1) = 0."""
    newer, older = fma(p, c[-1], c[-2]), c[-1]
    for coefficient in reversed(c[:-2]):
        newer, older = fma(p, newer, fma(q, older, coefficient)), newer
    return newer


def _series(
    arity: int, evaluate: Callable[..., Any], single: Sequence[float], double: Sequence[float]
) -> Callable[..., Any]:
    def value(*args: Any) -> Any:
        T = type(args[0])
        table = [T(c) for c in (single if args[0].itemsize == 4 else double)]
        return evaluate(*args, table, fma, lambda a, b: a * b)

    value.series = evaluate, single, double  # type: ignore[attr-defined]  # for `traced`

    @type_callable(value)
    def typer(context: Any) -> Any:
        return (
            (lambda x: x if x in _UINT else None) if arity == 1 else (lambda p, q: p if p in _UINT and p == q else None)
        )

    @lower_builtin(value, *[types.Float] * arity)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(sig.return_type)
        table = [ir.Constant(kind, float(c)) for c in (single if sig.args[0] == types.float32 else double)]
        return evaluate(*args, table, builder.fma, builder.fmul)

    return value


def polynomial(single: Sequence[float], double: Sequence[float]) -> Callable[[Any], Any]:
    """The polynomial with these coefficients, lowest degree first, in the dtype of its argument."""
    return _series(1, _estrin, single, double)


def homogeneous(single: Sequence[float], double: Sequence[float]) -> Callable[[Any, Any], Any]:
    """``sum c[n] h_n(p, q)``, h_n = p h_(n-1) + q h_(n-2): complete homogeneous polynomials for p = a + b, q = -a b.

    By Clenshaw, from the last coefficient down: explicit powers of a small argument would be subnormal.
    """
    return _series(2, _clenshaw, single, double)


def piecewise(single: Any, double: Any) -> Callable[[Any, Any], Any]:
    """Polynomials from a constant table by dtype, one a row: ``NAME(w, i)`` is row i, in the table, at w."""
    tables: dict[Any, Any] = {
        types.float32: np.asarray(single, np.float32),
        types.float64: np.asarray(double, np.float64),
    }

    def horner(w: Any, row: Sequence[Any], fma: Callable[..., Any]) -> Any:
        total = row[-1]
        for coefficient in reversed(row[:-1]):
            total = fma(total, w, coefficient)
        return total

    def value(w: Any, i: Any) -> Any:
        return horner(w, tables[types.float32 if w.itemsize == 4 else types.float64][i], fma)

    value.tables = horner, *tables.values()  # type: ignore[attr-defined]  # for `traced`

    @type_callable(value)
    def typer(context: Any) -> Any:
        return lambda w, i: w if w in _UINT and isinstance(i, types.Integer) else None

    @lower_builtin(value, types.Float, types.Integer)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, rows = context.get_value_type(sig.return_type), tables[sig.return_type]
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

    return value
