"""Primitives: the few operations that each target lowers natively.

Everything here is a plain Python function over NumPy scalars (exact, slow; what the tests trace), and `lowerings` makes
an instruction for Numba of it.  The same scalar code therefore runs in Python, as SIMD on the CPU and as PTX, with the
same bits.  Numba is not imported until something is compiled: who writes scalar code only says what it is made of.

Rules for code over these primitives: no libm, no fastmath, no contraction (``fma`` is explicit); a number literal is
written ``T(0.5)`` with ``T = type(x)``, a number that depends on the dtype is a `constant`; bit tricks use unsigned
integers, cast after every operation.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "bits",
    "constant",
    "declared",
    "fma",
    "from_bits",
    "homogeneous",
    "max",
    "min",
    "piecewise",
    "polynomial",
    "scalar",
]

declared: list[tuple[Callable[..., Any], str, tuple[Any, ...]]] = []  # functions, of which kind, made of what

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _declare(function: _Function, kind: str, *content: Any) -> _Function:
    """Return the function, and have `lowerings` tell Numba of it when something is compiled."""
    declared.append((function, kind, content))
    return function


def scalar(function: _Function) -> _Function:
    """A scalar function: an ordinary Python function that is also compiled into its callers.

    It is left as it is, and only said to be one.
    """
    return _declare(function, "scalar")


def fma(a: Any, b: Any, c: Any) -> Any:
    """The sum ``a * b + c`` with one rounding."""
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


def bits(x: Any) -> Any:
    """The bit pattern of x as an unsigned integer of its width."""
    return x.view(np.uint32 if x.itemsize == 4 else np.uint64)


def from_bits(u: Any) -> Any:
    """The floating-point number with bit pattern u."""
    return u.view(np.float32 if u.itemsize == 4 else np.float64)


def min(a: Any, b: Any) -> Any:
    """The smaller of two numbers: the second if it is below the first, which counts for NaN and for 0 and -0."""
    return builtins.min(a, b)


def max(a: Any, b: Any) -> Any:
    """The larger of two numbers: the second if it is above the first."""
    return builtins.max(a, b)


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

    return _declare(value, "constant", single, double)


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
    """A polynomial of ``arity`` arguments, which ``evaluate`` sums up from the coefficients of their dtype."""

    def value(*args: Any) -> Any:
        T = type(args[0])
        table = [T(c) for c in (single if args[0].itemsize == 4 else double)]
        return evaluate(*args, table, fma, lambda a, b: a * b)

    value.series = evaluate, single, double  # type: ignore[attr-defined]  # for `traced`
    return _declare(value, "series", arity, evaluate, single, double)


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
    tables = np.asarray(single, np.float32), np.asarray(double, np.float64)

    def horner(w: Any, row: Sequence[Any], fma: Callable[..., Any]) -> Any:
        total = row[-1]
        for coefficient in reversed(row[:-1]):
            total = fma(total, w, coefficient)
        return total

    def value(w: Any, i: Any) -> Any:
        return horner(w, tables[0 if w.itemsize == 4 else 1][i], fma)

    value.tables = horner, *tables  # type: ignore[attr-defined]  # for `traced`
    return _declare(value, "piecewise", horner, *tables)


for _function in (fma, bits, from_bits, min, max):
    _declare(_function, _function.__name__)
