"""Primitives: the few operations that scalar code is made of, and each target lowers natively.

Everything here is a plain Python function over NumPy scalars (exact, slow; what the tests trace) and over the nodes of
a graph (see `nodes`), which is what targets get: LLVM's builder writes it for CPUs and GPUs, arrays evaluate it.  The
same scalar code therefore runs in Python, as SIMD on the CPU and as PTX, with the same bits.  Numba, which compiles the
loops around it, is not imported until something is compiled.

Rules for code over these primitives: no libm, no fastmath, no contraction (``fma`` is explicit); a number literal is
written ``T(0.5)`` with ``T = type(x)``, a number that depends on the dtype is a `constant`; bit tricks use unsigned
integers; a choice between numbers is a `where`, and never ``if``.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

from .nodes import Double, Single, Truth, is_node, made, selected

__all__ = [
    "bits",
    "constant",
    "declared",
    "double",
    "fma",
    "from_bits",
    "homogeneous",
    "horner",
    "inlined",
    "max",
    "min",
    "opposite",
    "piecewise",
    "polynomial",
    "scalar",
    "single",
    "sqrt",
    "where",
]

declared: list[tuple[str, Callable[..., Any]]] = []  # of which kind, and the functions of which Numba is to be told

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _declare(kind: str, function: _Function) -> _Function:
    """Return the function, and have `lowerings` tell Numba of it when something is compiled."""
    declared.append((kind, function))
    return function


def scalar(function: _Function) -> _Function:
    """A scalar function: formulas, of numbers, conditions and tuples of them.

    It is left as it is, and only said to be one: where a loop calls it, its graph is written out.
    """
    return _declare("scalar", function)


def inlined(function: _Function) -> _Function:
    """A helper of loops: an ordinary function, with loops, memory and indices, that Numba compiles into its callers.

    It is left as it is, too.
    """
    return _declare("inlined", function)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """The first of two by a condition, else the second: numbers, conditions, or tuples of them, part by part."""
    if isinstance(condition, Truth):
        return selected(condition, yes, no)
    return yes if condition else no


def opposite(condition: Any) -> Any:
    """The condition that holds where this one does not."""
    return ~condition if isinstance(condition, Truth) else not condition


def fma(a: Any, b: Any, c: Any) -> Any:
    """The sum ``a * b + c`` with one rounding."""
    T = type(a)
    if is_node(a):
        return made(T, "fma", a, T(b), T(c))
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


def sqrt(x: Any) -> Any:
    """The square root, rounded once; NaN of what is below 0."""
    return made(type(x), "sqrt", x) if is_node(x) else np.sqrt(x)


def bits(x: Any) -> Any:
    """The bit pattern of x as an unsigned integer of its width."""
    if is_node(x):
        return made(x.word, "bits", x)
    return x.view(np.uint32 if x.itemsize == 4 else np.uint64)


def from_bits(u: Any) -> Any:
    """The floating-point number with bit pattern u."""
    if is_node(u):
        return made(u.number, "bits", u)
    return u.view(np.float32 if u.itemsize == 4 else np.float64)


def double(x: Any) -> Any:
    """The number as a double."""
    return Double(x) if is_node(x) else np.float64(x)


def single(x: Any) -> Any:
    """The number rounded to a float."""
    if is_node(x):
        return Single(x)
    with np.errstate(over="ignore"):
        return np.float32(x)


def min(a: Any, b: Any) -> Any:
    """The smaller of two numbers: the second if it is below the first, which counts for NaN and for 0 and -0."""
    return made(type(a), "min", a, type(a)(b)) if is_node(a) else builtins.min(a, b)


def max(a: Any, b: Any) -> Any:
    """The larger of two numbers: the second if it is above the first."""
    return made(type(a), "max", a, type(a)(b)) if is_node(a) else builtins.max(a, b)


def constant(single: Any, double: Any = None) -> Callable[[Any], Any]:
    """A number that depends on the dtype: ``NAME = constant(f4, f8)``, used as ``NAME(x)`` for an x of that dtype.

    Integers become the unsigned type of the same width.
    """
    double = single if double is None else double
    whole = isinstance(single, int)

    def value(x: Any) -> Any:
        narrow = x.itemsize == 4
        if is_node(x):
            return (x.word if whole else type(x))(single if narrow else double)
        if whole:
            return np.uint32(single) if narrow else np.uint64(double)
        return np.float32(single) if narrow else np.float64(double)

    return value


def polynomial(single: Sequence[float], double: Sequence[float]) -> Callable[[Any], Any]:
    """The polynomial with these coefficients, lowest degree first, in the dtype of its argument.

    It is summed up pairwise (Estrin): the chain of dependent operations is log2 of the degree, not the degree.
    """

    def value(x: Any) -> Any:
        T = type(x)
        level = [T(c) for c in (single if x.itemsize == 4 else double)]
        while len(level) > 1:
            paired = [fma(level[i + 1], x, level[i]) for i in range(0, len(level) - 1, 2)]
            level = paired + level[len(level) - len(level) % 2 :]
            x = x * x if len(level) > 1 else x
        return level[0]

    return value


def horner(coefficients: Sequence[float]) -> Callable[[Any], Any]:
    """The polynomial with these coefficients, lowest degree first: one operation each, in a chain."""

    def value(x: Any) -> Any:
        T = type(x)
        total = T(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = fma(total, x, T(coefficient))
        return total

    return value


def homogeneous(single: Sequence[float], double: Sequence[float]) -> Callable[[Any, Any], Any]:
    """``sum c[n] h_n(p, q)``, h_n = p h_(n-1) + q h_(n-2): complete homogeneous polynomials for p = a + b, q = -a b.

    By Clenshaw, from the last coefficient down: explicit powers of a small argument would be subnormal.
    """

    def value(p: Any, q: Any) -> Any:
        T = type(p)
        c = [T(v) for v in (single if p.itemsize == 4 else double)]
        newer, older = fma(p, c[-1], c[-2]), c[-1]
        for coefficient in reversed(c[:-2]):
            newer, older = fma(p, newer, fma(q, older, coefficient)), newer
        return newer

    return value


def piecewise(single: Any, double: Any) -> Callable[[Any, Any], Any]:
    """Polynomials from a constant table by dtype, one a row: ``NAME(w, i)`` is row i, in the table, at w."""
    tables = Table(np.asarray(single, np.float32)), Table(np.asarray(double, np.float64))

    def value(w: Any, i: Any) -> Any:
        table = tables[0 if w.itemsize == 4 else 1]
        total, *others = reversed([_entry(table, i, column, type(w)) for column in range(table.rows.shape[1])])
        for coefficient in others:
            total = fma(total, w, coefficient)
        return total

    return value


class Table:
    """Numbers by row and column that scalar code looks up."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows


def _entry(table: Table, row: Any, column: int, kind: Any) -> Any:
    """The number in that row and column."""
    if is_node(row):
        return made(kind, "entry", row, content=(table, column))
    return table.rows[row, column]


for _function in (fma, min, max):
    _declare(_function.__name__, _function)
