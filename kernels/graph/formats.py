"""Formats of numbers in which a graph is evaluated: one word, or wide, which is twice the precision.

Wide means double inside for float32, and two words for float64, or for either where a target has no doubles (see
`doubles`); all are rounded once, at the end.  Where two words come to no finite number (a large number was squared, or
the result is infinite), that of one word stands.  Half wide means doubles inside, too, with functions that are right to
fewer bits, for formulas that do not cancel much; for float64 it is the same as wide.

A format takes graphs, operands, and how many of these are data: what depends on parameters alone is often the same for
many elements, and loops compute it once.
"""

from __future__ import annotations

import collections
import contextvars
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arithmetic import families, functions, short, words
from ..arithmetic.nodes import Double, is_node
from ..arithmetic.primitives import fma, opposite, scalar, sqrt, where
from .bounds import least
from .real import constant_of, ordered

__all__ = ["doubles", "half_wide", "wide", "working"]

doubles: contextvars.ContextVar[bool] = contextvars.ContextVar("fastrobust_doubles", default=True)


def working(roots: Sequence[Any], operands: Sequence[Any], data: int) -> tuple[Any, ...]:
    """The roots in the precision of the operands: numbers of NumPy's or nodes."""
    return tuple(_evaluated(_in(_WORD), roots, operands, type(operands[0])))


def half_wide(roots: Sequence[Any], operands: Sequence[Any], data: int) -> tuple[Any, ...]:
    """The roots in twice the precision of the operands, of float32 with functions of 36 bits; rounded to that."""
    return _rounded(_SHORT, roots, operands, data)


def wide(roots: Sequence[Any], operands: Sequence[Any], data: int) -> tuple[Any, ...]:
    """The roots in twice the precision of the operands, rounded to that."""
    return _rounded(_WORD, roots, operands, data)


_Operations = dict[str, Callable[..., Any]]


def _rounded(of_doubles: _Operations, roots: Sequence[Any], operands: Sequence[Any], data: int) -> tuple[Any, ...]:
    """The roots in doubles by these operations, or in two words."""
    T = type(operands[0])
    if operands[0].itemsize == 4 and doubles.get():
        inside = Double if is_node(operands[0]) else np.float64
        widened = [inside(operand) for operand in operands]
        chosen = _InDoubles(of_doubles, roots, data)
        return tuple(T(value) for value in _evaluated(chosen, roots, widened, inside))
    zero = T(0.0)
    pairs = _evaluated(_in(_WORDS), roots, [(operand, zero) for operand in operands], lambda value: (T(value), zero))
    narrow = working(roots, operands, data)
    return tuple(
        where(abs(high + low) < T(np.inf), high + low, one) for (high, low), one in zip(pairs, narrow, strict=True)
    )


def _evaluated(
    chosen: Callable[[Any], tuple[Callable[..., Any], Sequence[Any]]],
    roots: Sequence[Any],
    operands: Sequence[Any],
    constant: Callable[[float], Any],
) -> list[Any]:
    """The roots, each node by the operation that is chosen for it, of the nodes that are chosen with that."""
    values: dict[int, Any] = {}
    for node in ordered(roots):
        value = constant_of(node)
        if node.operation == "operand":
            values[id(node)] = operands[node.content]
        elif value is not None:
            values[id(node)] = constant(value)
        else:
            operation, arguments = chosen(node)
            values[id(node)] = operation(*(values[id(argument)] for argument in arguments))
    return [values[id(root)] for root in roots]


def _in(operations: _Operations) -> Callable[[Any], tuple[Callable[..., Any], Sequence[Any]]]:
    """The choice of a node's operation by its name alone."""
    return lambda node: (operations[node.operation], node.arguments)


class _InDoubles:
    """The choice of operations on doubles that become floats: divisions by inverses, functions without special cases.

    An inverse of what depends on no data is computed once by a loop, and so is one by which several numbers are
    multiplied.  Where a number cannot be small (see `bounds`), its root and its logarithm take functions of `short`
    that hold only there.
    """

    def __init__(self, operations: _Operations, roots: Sequence[Any], data: int) -> None:
        nodes = list(ordered(roots))
        self.operations, self.short, self.least = operations, operations is _SHORT, least(nodes)
        self.varying: set[int] = set()
        for node in nodes:
            of_data = node.operation == "operand" and node.content < data
            if of_data or any(id(argument) in self.varying for argument in node.arguments):
                self.varying.add(id(node))
        self.divisors = collections.Counter(id(node.arguments[1]) for node in nodes if node.operation == "div")

    def __call__(self, node: Any) -> tuple[Callable[..., Any], Sequence[Any]]:
        operation = self.operations[node.operation]
        if node.operation == "div":
            return self.division(*node.arguments)
        if self.short and node.operation in _USUAL:
            least, usual = _USUAL[node.operation]
            operation = usual if self.least[id(node.arguments[0])] >= least else operation
        return operation, node.arguments

    def division(self, number: Any, divisor: Any) -> tuple[Callable[..., Any], Sequence[Any]]:
        """How the number is divided."""
        if id(divisor) not in self.varying:
            return _by_inverse, (number, divisor)
        if self.short and divisor.operation == "sqrt" and self.least[id(divisor.arguments[0])] >= short.LEAST:
            return _by_inverse_root, (number, *divisor.arguments)
        several = self.short and self.divisors[id(divisor)] > 1 and self.least[id(divisor)] >= short.LEAST
        return _by_common_inverse if several else operator.truediv, (number, divisor)


@scalar
def _by_inverse(a: Any, b: Any) -> Any:
    """The quotient a/b by the inverse of b, which a loop has once; with the remainder it is what division gives.

    A division takes four times as long as all of this.
    """
    T = type(a)
    inverse = T(1.0) / b
    quotient = a * inverse
    corrected = fma(fma(-quotient, b, a), inverse, quotient)
    # Where that is 0 or NaN the quotient stays: 0 with its sign, infinity or NaN.
    return where(abs(corrected) > T(0.0), corrected, quotient)


@scalar
def _by_common_inverse(a: Any, b: Any) -> Any:
    """The quotient a/b by the inverse of b, which is no less than `short.LEAST`."""
    return a * (type(b)(1.0) / b)


@scalar
def _by_inverse_root(a: Any, x: Any) -> Any:
    """The quotient of a and the root of x, which is no less than `short.LEAST`."""
    return a * short.inverse_root(x)


@scalar
def _root_less_one(w: Any) -> Any:
    """sqrt(1 + w) - 1, without cancellation, and without a quotient of infinities."""
    T = type(w)
    root = sqrt(T(1.0) + w)
    return where(w > T(1.0), root - T(1.0), w / (T(1.0) + root))


@scalar
def _root_less_one_of_positive(w: Any) -> Any:
    """The same of what is not negative, to 36 bits."""
    T = type(w)
    root = short.root(T(1.0) + w)
    return where(w > T(1.0), root - T(1.0), w / (T(1.0) + root))


@scalar
def _root_less_one_in_words(w: Any) -> Any:
    """The same in two words."""
    T = type(w[0])
    one = T(1.0), T(0.0)
    root = words.root(words.plus(one, w))
    return where(w[0] > T(1.0), words.minus(root, one), words.divided(w, words.plus(one, root)))


_CONDITIONS: _Operations = {"and": operator.and_, "or": operator.or_, "not": opposite, "where": where}

_WORD: _Operations = {
    **_CONDITIONS,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "abs": abs,
    "sqrt": sqrt,
    "sqrt1pm1": _root_less_one,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    **{name: getattr(functions, name) for name in functions.__all__},
    **families.WORD,
}


_SHORT: _Operations = {**_WORD, **{name: getattr(short, name) for name in functions.__all__ if hasattr(short, name)}}

# Operations of what is not below a number.
_USUAL: dict[str, tuple[float, Callable[..., Any]]] = {
    "sqrt": (short.LEAST, short.root),
    "sqrt1pm1": (0.0, _root_less_one_of_positive),
    "log": (short.LEAST, short.log_of_usual),
    "log1p": (0.0, short.log1p_of_positive),
}

_WORDS: _Operations = {
    **_CONDITIONS,
    "add": words.plus,
    "sub": words.minus,
    "mul": words.times,
    "div": words.divided,
    "neg": words.negative,
    "abs": words.absolute,
    "sqrt": words.root,
    "sqrt1pm1": _root_less_one_in_words,
    "<": lambda a, b: (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] < b[1])),
    "<=": lambda a, b: (a[0] < b[0]) | ((a[0] == b[0]) & (a[1] <= b[1])),
    "==": lambda a, b: (a[0] == b[0]) & (a[1] == b[1]),
    "!=": lambda a, b: (a[0] != b[0]) | (a[1] != b[1]),
    **{name: getattr(words, name) for name in functions.__all__},
    **families.WORDS,
}
