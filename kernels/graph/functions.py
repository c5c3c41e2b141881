"""The functions of formulas, on graphs of real numbers.

As the operators do, they rewrite what would cancel as soon as it stands there: ``log(1 + u)`` is made ``log1p(u)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.families import ORDERS
from .real import FUNCTIONS, Condition, Real, constant_of, is_minus_size, less_one, lifted, ordered

__all__ = [
    "FUNCTIONS",
    "clip",
    "deviance",
    "erf",
    "exp",
    "expm1",
    "gap",
    "log",
    "log1p",
    "logcosh",
    "maximum",
    "mean",
    "minimum",
    "moment",
    "power",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "sum",
    "tanh",
    "where",
]


def exp(x: Any) -> Any:
    """The exponential."""
    x = lifted(x)
    if x.operation == "log":
        return x.arguments[0]
    return lifted(1) if constant_of(x) == 0 else Real("exp", x)


def expm1(x: Any) -> Any:
    """The exponential less 1."""
    return Real("expm1", lifted(x))


def log(x: Any) -> Any:
    """The natural logarithm."""
    x = lifted(x)
    if constant_of(x) == 1:
        return lifted(0)
    if x.operation == "exp":
        return x.arguments[0]
    if x.operation == "sigmoid":
        return -softplus(-x.arguments[0])
    rest = less_one(x)
    return Real("log", x) if rest is None else log1p(rest)


def log1p(u: Any) -> Any:
    """The natural logarithm of 1 + u."""
    u = lifted(u)
    if u.operation == "exp":
        # Where the exponential is of a size with a minus it does not overflow, and may be needed elsewhere.
        return Real("log1p_of_fraction", u) if is_minus_size(u.arguments[0]) else softplus(u.arguments[0])
    if u.operation == "expm1":
        return u.arguments[0]
    if u.operation == "neg" and u.arguments[0].operation == "sigmoid":
        return -softplus(u.arguments[0].arguments[0])
    return Real("log1p", u)


def sqrt(x: Any) -> Any:
    """The square root."""
    return lifted(x) ** 0.5


def power(x: Any, y: Any) -> Any:
    """x to the power of y: products where y is a small whole number, else for x >= 0."""
    return lifted(x) ** y


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return Real("tanh", lifted(x))


def sigmoid(x: Any) -> Any:
    """The logistic function 1/(1 + exp(-x))."""
    return Real("sigmoid", lifted(x))


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return Real("softplus", lifted(x))


def logcosh(x: Any) -> Any:
    """The logarithm of the hyperbolic cosine."""
    return Real("logcosh", lifted(x))


def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) over t in (0, x)."""
    return Real("erf", lifted(x))


def where(condition: Any, yes: Any, no: Any) -> Any:
    """The first of two where the condition holds, else the second; where one is not taken, it does not count."""
    yes, no = lifted(yes), lifted(no)
    if not isinstance(condition, Condition):
        if not isinstance(condition, bool | np.bool_):
            raise TypeError(f"where takes a condition, such as x > 0, got {condition!r:.100}")
        return yes if condition else no
    return yes if yes is no else Real("where", condition, yes, no)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two, the first if they are equal, NaN if either is."""
    a, b = lifted(a), lifted(b)
    return a if a is b else Real("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two, the first if they are equal, NaN if either is."""
    a, b = lifted(a), lifted(b)
    return a if a is b else Real("maximum", a, b)


def clip(x: Any, least: Any, most: Any) -> Any:
    """x, but no less than the least and no more than the most, either of which may be None."""
    x = lifted(x) if least is None else maximum(x, least)
    return x if most is None else minimum(x, most)


def sign(x: Any) -> Any:
    """-1, 0 or 1; NaN of NaN."""
    x = lifted(x)
    return where(x > 0, 1, where(x < 0, -1, where(x == 0, 0, x)))


# --- of all elements that are summed: see `losses.sums`


def sum(x: Any) -> Any:
    """The sum of a term over elements."""
    x = lifted(x)
    if any(node.operation == "sum" for node in ordered([x])):
        raise TypeError("a sum of sums cannot be traced: a term must be made of the elements alone")
    return Real("sum", x)


def mean(x: Any) -> Any:
    """The mean of a term over elements."""
    return sum(x) / sum(1)


# --- families, which are for formulas of this library alone: see `arithmetic.families`


def gap(a: Any, order: int = 0) -> Any:
    """log Gamma(a) - log Gamma(a + 1/2) + log(a)/2 for a > 0, or its derivative of that order."""
    return Real(_member("gap", order), lifted(a))


def moment(z: Any, order: int = 0) -> Any:
    """The integral of t^n exp(z t) over t in (0, 1), n the order: for n = 0 it is expm1(z)/z."""
    return Real(_member("moment", order), lifted(z))


def deviance(u: Any, q: Any, order: int = 0) -> Any:
    """The integral of expm1(s) s^n exp(q s) over s in (0, u), n the order, which is the derivative in q."""
    return Real(_member("deviance", order), lifted(u), lifted(q))


def _member(name: str, order: int) -> str:
    """The operation of that order."""
    if order not in ORDERS:
        raise NotImplementedError(
            f"the derivative of order {order} of {name}, a function in this loss, is not known: derivatives in its "
            f"parameters are up to the order {max(ORDERS)}, of higher ones take differences"
        )
    return f"{name}{order}"


FUNCTIONS.update(
    (function.__name__, function)
    for function in (
        exp, expm1, log, log1p, sqrt, tanh, sigmoid, softplus, logcosh, erf, power, where, minimum, maximum, clip, sign,
        sum, mean,
    )
)  # fmt: skip
FUNCTIONS["abs"] = lambda x: abs(lifted(x))
