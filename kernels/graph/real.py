"""A formula as a graph of real numbers: what a function of Python's leaves when it is called with these.

Nodes are made by operators and by `functions`, which rewrite what would cancel as soon as it stands there, before
anything is differentiated: ``exp(x) - 1`` is made ``expm1(x)``.  Equal nodes are one node.  A number stands for a real
number here; which precision it gets is decided by `formats`.
"""

from __future__ import annotations

import math
import numbers
import weakref
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

__all__ = ["FUNCTIONS", "Condition", "Real", "constant_of", "is_minus_size", "less_one", "lifted", "operand", "ordered"]

_known: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


class _Node:
    """An operation on other nodes, or a leaf: an operand by its place, a constant by its value."""

    __slots__ = "__weakref__", "arguments", "content", "operation"

    operation: str
    arguments: tuple[Any, ...]
    content: Any

    def __new__(cls, operation: str, *arguments: Any, content: Any = None) -> Any:
        """The node of that operation: the one there is, if there is one."""
        key = cls, operation, content, *map(id, arguments)  # which live as long as the node
        node = _known.get(key)
        if node is None:
            node = object.__new__(cls)
            node.operation, node.arguments, node.content = operation, arguments, content
            _known[key] = node
        return node

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula is traced once for all elements, so that `if`, `and`, `or` and `not` cannot ask about one: "
            "write where(condition, a, b) from fastrobust.math, and &, | and ~ between conditions"
        )

    def _no_number(self, *_: Any) -> Any:
        raise TypeError(
            "a traced number has no value yet: float(), int() and the functions of the module math cannot be used on "
            "it, nor Python's sum and max; take exp, log, sqrt, sum and the like from fastrobust.math"
        )

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's elementwise functions by their names, where there is one of ours."""
        if method != "__call__" or options:
            raise TypeError(f"numpy.{ufunc.__name__} with {', '.join(options) or method} cannot be traced")
        return _by_name(ufunc)(*(value.item() if isinstance(value, np.generic) else value for value in inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's other functions by their names."""
        if kwargs:
            raise TypeError(
                f"numpy.{function.__name__} with {', '.join(kwargs)} cannot be traced: axes are arguments of a loss's "
                "calls, and other options are to be written out"
            )
        return _by_name(function)(*args)

    __float__ = __int__ = __index__ = __complex__ = __round__ = __len__ = __iter__ = _no_number


class Condition(_Node):
    """A condition of a formula: a comparison, or several of them joined by &, | and ~."""

    __slots__ = ()

    def __and__(self, other: Any) -> Any:
        if isinstance(other, Condition):
            return Condition("and", self, other)
        return self if other else False

    def __or__(self, other: Any) -> Any:
        if isinstance(other, Condition):
            return Condition("or", self, other)
        return True if other else self

    __rand__, __ror__ = __and__, __or__

    def __invert__(self) -> Any:
        return Condition("not", self)


class Real(_Node):
    """A number of a formula."""

    __slots__ = ()

    def __add__(self, other: Any) -> Any:
        return _lifting(_add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _lifting(_add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _lifting(_sub, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _lifting(_sub, other, self)

    def __mul__(self, other: Any) -> Any:
        return _lifting(_mul, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _lifting(_mul, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _lifting(_div, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _lifting(_div, other, self)

    def __pow__(self, other: Any) -> Any:
        return _lifting(_power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _lifting(_power, other, self)

    def __neg__(self) -> Any:
        return _neg(self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return _abs(self)

    def __lt__(self, other: Any) -> Any:
        return _compared("<", self, other)

    def __gt__(self, other: Any) -> Any:
        return _compared("<", other, self)

    def __le__(self, other: Any) -> Any:
        return _compared("<=", self, other)

    def __ge__(self, other: Any) -> Any:
        return _compared("<=", other, self)

    def __eq__(self, other: Any) -> Any:
        return _compared("==", self, other)

    def __ne__(self, other: Any) -> Any:
        return _compared("!=", self, other)

    __hash__ = object.__hash__


def operand(place: int) -> Real:
    """The operand at that place."""
    made: Real = Real("operand", content=place)
    return made


def _number(value: float) -> Any:
    """The node of a constant, which is kept by its bits."""
    return Real("constant", content=float(value).hex())


def constant_of(node: Any) -> float | None:
    """The value of a constant, or None."""
    return float.fromhex(node.content) if node.operation == "constant" else None


def lifted(value: Any) -> Any:
    """The node of a number, or the node that is given."""
    if isinstance(value, Real):
        return value
    if isinstance(value, numbers.Real | np.floating | np.integer) and not isinstance(value, bool):
        return _number(float(value))
    if isinstance(value, Condition | bool):
        raise TypeError("a condition is no number: write where(condition, 1.0, 0.0)")
    raise TypeError(
        f"a formula is made of numbers, got {value!r:.100} of type {type(value).__name__}: give arrays as operands"
    )


def _lifting(function: Callable[..., Any], *values: Any) -> Any:
    return function(*map(lifted, values))


def _exactly(operation: Callable[[Fraction, Fraction], Fraction], a: Any, b: Any) -> Any:
    """The constant that an operation on two constants comes to, if that is a double without rounding; else None."""
    x, y = constant_of(a), constant_of(b)
    if x is None or y is None or not (math.isfinite(x) and math.isfinite(y)):
        return None
    try:
        exact = operation(Fraction(x), Fraction(y))
        value = float(exact)
    except (ZeroDivisionError, OverflowError):
        return None
    return _number(value) if Fraction(value) == exact else None


def _is(node: Any, value: float) -> bool:
    return constant_of(node) == value


def _add(a: Any, b: Any) -> Any:
    if (exact := _exactly(lambda x, y: x + y, a, b)) is not None:
        return exact
    if _is(a, 0):
        return b
    if _is(b, 0):
        return a
    for one, other in ((a, b), (b, a)):
        if one.operation in _LESS and one.arguments[0] is _neg(other):
            return Real(_LESS[one.operation], one.arguments[0])
        if one.operation == "sqrt1pm1" and _is(other, 1):
            return Real("sqrt", _add(other, one.arguments[0]))
    if b.operation == "neg":
        return _sub(a, b.arguments[0])
    if a.operation == "neg":
        return _sub(b, a.arguments[0])
    return Real("add", a, b)


_LESS = {"expm1": "expm1mx", "log1p": "log1pmx"}  # functions f(x), and f(x) - x


def _sub(a: Any, b: Any) -> Any:
    if (exact := _exactly(lambda x, y: x - y, a, b)) is not None:
        return exact
    if _is(b, 0):
        return a
    if _is(a, 0):
        return _neg(b)
    if a.operation in _LESS and a.arguments[0] is b:
        return Real(_LESS[a.operation], b)
    if b.operation in _LESS and b.arguments[0] is a:
        return _neg(Real(_LESS[b.operation], a))
    if b.operation == "neg":
        return _add(a, b.arguments[0])
    if _is(b, 1):
        if a.operation == "exp":
            return Real("expm1", a.arguments[0])
        if a.operation == "sqrt" and (rest := less_one(a.arguments[0])) is not None:
            return Real("sqrt1pm1", rest)
    if _is(a, 1):
        if b.operation == "exp":
            return _neg(Real("expm1", b.arguments[0]))
        if b.operation == "sqrt" and (rest := less_one(b.arguments[0])) is not None:
            return _neg(Real("sqrt1pm1", rest))
        if b.operation == "sigmoid":
            return Real("sigmoid", _neg(b.arguments[0]))
    return Real("sub", a, b)


def less_one(node: Any) -> Any:
    """The w of a node that is 1 + w, or None."""
    if node.operation == "add":
        first, second = node.arguments
        return second if _is(first, 1) else first if _is(second, 1) else None
    if node.operation == "sub" and _is(node.arguments[0], 1):
        return _neg(node.arguments[1])
    return None


def is_minus_size(node: Any) -> bool:
    """Tell whether a node is -|x|, or written as that: minus the x or -x of a choice by x >= 0."""
    if node.operation != "neg":
        return False
    (size,) = node.arguments
    if size.operation != "where":
        return bool(size.operation == "abs")
    condition, yes, no = size.arguments
    return condition is Condition("<=", _number(0), yes) and no is _neg(yes)


def _mul(a: Any, b: Any) -> Any:
    if (exact := _exactly(lambda x, y: x * y, a, b)) is not None:
        return exact
    for one, other in ((a, b), (b, a)):
        if _is(one, 0):  # a factor of 0 is meant to be nothing, whatever the other is
            return one
        if _is(one, 1):
            return other
        if _is(one, -1):
            return _neg(other)
    if a.operation == "neg":
        return _neg(_mul(a.arguments[0], b))
    if b.operation == "neg":
        return _neg(_mul(a, b.arguments[0]))
    return Real("mul", b, a) if b.operation == "constant" else Real("mul", a, b)


def _div(a: Any, b: Any) -> Any:
    if (exact := _exactly(lambda x, y: x / y, a, b)) is not None:
        return exact
    if _is(b, 1) or (_is(a, 0) and not _is(b, 0)):
        return a
    if _is(b, -1):
        return _neg(a)
    value = constant_of(b)
    if value and abs(math.frexp(value)[0]) == 0.5 and 2.0**-1000 < abs(value) < 2.0**1000:
        return _mul(a, _number(1 / value))
    if a.operation == "neg":
        return _neg(_div(a.arguments[0], b))
    if b.operation == "neg":
        return _neg(_div(a, b.arguments[0]))
    if _is(a, 1) and (rest := less_one(b)) is not None and rest.operation == "exp":
        exponent = rest.arguments[0]
        return Real("div", a, b) if is_minus_size(exponent) else Real("sigmoid", _neg(exponent))
    return Real("div", a, b)


def _neg(a: Any) -> Any:
    value = constant_of(a)
    if value is not None:
        return _number(-value)
    if a.operation == "neg":
        return a.arguments[0]
    if a.operation == "sub":
        return Real("sub", *reversed(a.arguments))
    return Real("neg", a)


def _abs(a: Any) -> Any:
    value = constant_of(a)
    if value is not None:
        return _number(abs(value))
    if a.operation in ("neg", "abs"):
        return _abs(a.arguments[0])
    return a if a.operation in ("exp", "sqrt", "sigmoid", "softplus") else Real("abs", a)


def _sqrt(x: Any) -> Any:
    return x if _is(x, 0) or _is(x, 1) else Real("sqrt", x)


_POWERS = 64  # exponents up to which a whole power is made of products


def _power(x: Any, y: Any) -> Any:
    """x to the power of y: products where y is a small whole number, else for x >= 0."""
    exponent = constant_of(y)
    if exponent is not None and abs(exponent) <= _POWERS and exponent == int(exponent):
        return _whole_power(x, int(exponent))
    if exponent is not None and exponent in (0.5, -0.5):
        return _sqrt(x) if exponent > 0 else _div(_number(1), _sqrt(x))
    return Real("power", x, y)


def _whole_power(x: Any, n: int) -> Any:
    """By repeated squaring."""
    result, base, left = _number(1), x, abs(n)
    while left:
        if left & 1:
            result = _mul(result, base)
        left >>= 1
        if left:
            base = _mul(base, base)
    return result if n >= 0 else _div(_number(1), result)


def _compared(order: str, a: Any, b: Any) -> Any:
    """A comparison: at once, if both are constants."""
    a, b = lifted(a), lifted(b)
    x, y = constant_of(a), constant_of(b)
    if x is not None and y is not None:
        return {"<": x < y, "<=": x <= y, "==": x == y, "!=": x != y}[order]
    return Condition(order, a, b)


# Those of formulas by their names, which `functions` enters here.
FUNCTIONS: dict[str, Callable[..., Any]] = {}

# What operators do, by the names that it has in NumPy.
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "absolute": lambda a: _lifting(_abs, a),
    "fabs": lambda a: _lifting(_abs, a),
    "power": lambda a, b: _lifting(_power, a, b),
    "float_power": lambda a, b: _lifting(_power, a, b),
    "square": lambda a: _lifting(_power, a, 2),
    "reciprocal": lambda a: _lifting(_div, 1, a),
    "add": lambda a, b: _lifting(_add, a, b),
    "subtract": lambda a, b: _lifting(_sub, a, b),
    "multiply": lambda a, b: _lifting(_mul, a, b),
    "divide": lambda a, b: _lifting(_div, a, b),
    "logaddexp": lambda a, b: a + Real("softplus", lifted(b - a)),
    "negative": lambda a: _lifting(_neg, a),
    "less": lambda a, b: _compared("<", a, b),
    "less_equal": lambda a, b: _compared("<=", a, b),
    "greater": lambda a, b: _compared("<", b, a),
    "greater_equal": lambda a, b: _compared("<=", b, a),
    "equal": lambda a, b: _compared("==", a, b),
    "not_equal": lambda a, b: _compared("!=", a, b),
    **dict.fromkeys(("logical_and", "bitwise_and"), lambda a, b: a & b),
    **dict.fromkeys(("logical_or", "bitwise_or"), lambda a, b: a | b),
    **dict.fromkeys(("logical_not", "invert"), lambda a: ~a),
}


def _by_name(function: Any) -> Callable[..., Any]:
    """What stands for a function of NumPy's or SciPy's."""
    name = function.__name__
    ours = FUNCTIONS.get(name) or _OPERATIONS.get(name)
    if ours is None:
        raise TypeError(
            f"numpy.{name} cannot be traced: a formula has the functions {', '.join(sorted(FUNCTIONS))} of "
            "fastrobust.math"
        )
    return ours


def ordered(roots: Sequence[Any]) -> Iterator[Any]:
    """All nodes that the roots are made of, each once and after what it is made of."""
    seen: set[int] = set()
    todo = [(root, False) for root in reversed(roots)]
    while todo:
        node, arguments_done = todo.pop()
        if arguments_done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            todo.append((node, True))
            todo += [(argument, False) for argument in reversed(node.arguments)]
