"""What a graph comes to in mpmath, of any precision: the truth by which kernels are judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..arithmetic.families import ORDERS
from .real import constant_of, ordered

__all__ = ["evaluated"]


def evaluated(mp: Any, roots: Sequence[Any], operands: Sequence[float]) -> list[Any]:
    """The roots at operands, in the precision of the mpmath context that is given."""
    known: dict[int, Any] = {}
    nodes = list(ordered(roots))

    def value(node: Any) -> Any:
        """A node's value; of a choice only the side that is taken is computed."""
        if id(node) not in known:
            known[id(node)] = _value(node)
        return known[id(node)]

    def _value(node: Any) -> Any:
        if node.operation == "operand":
            given = operands[node.content]
            return given if isinstance(given, mp.mpf) else mp.mpf(float(given))
        constant = constant_of(node)
        if constant is not None:
            return mp.mpf(constant)
        if node.operation == "where":
            condition, yes, no = node.arguments
            return value(yes if value(condition) else no)
        return _OPERATIONS[node.operation](mp, *map(value, node.arguments))

    for node in nodes:  # from the leaves up, so that recursion is not deep; the sides of choices are left to them
        if node.operation != "where" and all(id(argument) in known for argument in node.arguments):
            value(node)
    return [value(root) for root in roots]


def _div(mp: Any, a: Any, b: Any) -> Any:
    if b == 0:
        return mp.nan if a == 0 or mp.isnan(a) else mp.inf * mp.sign(a)
    return a / b


def _log(mp: Any, x: Any) -> Any:
    return mp.log(x) if x > 0 else -mp.inf if x == 0 else mp.nan


def _power(mp: Any, x: Any, y: Any) -> Any:
    if x == 0:
        return mp.mpf(1) if y == 0 else mp.mpf(0) if y > 0 else mp.inf
    return mp.power(x, y) if x > 0 else mp.nan


def _gap(mp: Any, order: int, a: Any) -> Any:
    """By the functions of mpmath, with as many digits more as their differences lose."""
    if not 0 < a < mp.inf:
        return mp.inf if a == 0 else mp.mpf(0) if a > 0 else mp.nan
    with mp.extraprec(40 + 2 * abs(mp.frexp(a)[1])):
        if order == 0:
            return mp.loggamma(a) - mp.loggamma(a + 0.5) + mp.log(a) / 2
        rest = (-1) ** (order - 1) * mp.factorial(order - 1) / (2 * a**order)
        return mp.psi(order - 1, a) - mp.psi(order - 1, a + 0.5) + rest


def _moment(mp: Any, order: int, z: Any) -> Any:
    return mp.hyp1f1(order + 1, order + 2, z) / (order + 1)


def _deviance(mp: Any, order: int, u: Any, q: Any) -> Any:
    """By a difference of moments, with as many digits more as that loses."""
    if not mp.isfinite(u) or not mp.isfinite(q):
        return mp.nan
    with mp.extraprec(40 + 2 * max(0, -mp.frexp(u)[1]) + 4 * max(0, mp.frexp(q)[1])):
        return u ** (order + 1) * (_moment(mp, order, (q + 1) * u) - _moment(mp, order, q * u))


def _least(mp: Any, a: Any, b: Any) -> Any:
    return b if b < a or mp.isnan(b) else a


def _most(mp: Any, a: Any, b: Any) -> Any:
    return b if b > a or mp.isnan(b) else a


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda mp, a, b: a + b,
    "sub": lambda mp, a, b: a - b,
    "mul": lambda mp, a, b: a * b,
    "div": _div,
    "neg": lambda mp, a: -a,
    "abs": lambda mp, a: abs(a),
    "exp": lambda mp, x: mp.exp(x),
    "expm1": lambda mp, x: mp.expm1(x),
    "expm1mx": lambda mp, x: _rest_of_exp(mp, x),
    "log": _log,
    **dict.fromkeys(("log1p", "log1p_of_fraction"), lambda mp, u: mp.log1p(u) if u > -1 else _log(mp, 1 + u)),
    "log1pmx": lambda mp, u: _rest_of_log(mp, u),
    "sqrt": lambda mp, x: mp.sqrt(x) if x >= 0 else mp.nan,
    "sqrt1pm1": lambda mp, w: w / (1 + mp.sqrt(1 + w)) if w >= -1 else mp.nan,
    "tanh": lambda mp, x: mp.tanh(x),
    "sigmoid": lambda mp, x: 1 / (1 + mp.exp(-x)),
    "softplus": lambda mp, x: (x if x > 0 else 0) + mp.log1p(mp.exp(-abs(x))),
    "logcosh": lambda mp, x: _log_cosh(mp, x),
    "erf": lambda mp, x: mp.erf(x),
    "power": _power,
    "minimum": _least,
    "maximum": _most,
    "<": lambda mp, a, b: a < b,
    "<=": lambda mp, a, b: a <= b,
    "==": lambda mp, a, b: a == b,
    "!=": lambda mp, a, b: a != b,
    "and": lambda mp, a, b: a and b,
    "or": lambda mp, a, b: a or b,
    "not": lambda mp, a: not a,
    **{f"gap{n}": lambda mp, a, n=n: _gap(mp, n, a) for n in ORDERS},
    **{f"moment{n}": lambda mp, z, n=n: _moment(mp, n, z) for n in ORDERS},
    **{f"deviance{n}": lambda mp, u, q, n=n: _deviance(mp, n, u, q) for n in ORDERS},
}


def _rest_of_exp(mp: Any, x: Any) -> Any:
    """The difference expm1(x) - x, by its series where that cancels."""
    if abs(x) > 0.5:
        return mp.expm1(x) - x
    total, term, n = mp.mpf(0), x * x / 2, 2
    while abs(term) > mp.eps * abs(total) or n == 2:
        total, n = total + term, n + 1
        term = term * x / n
        if term == 0:
            break
    return total


def _rest_of_log(mp: Any, u: Any) -> Any:
    """The difference log(1 + u) - u, with as many digits more as that loses."""
    if not u > -1 or u == mp.inf:
        return -mp.inf if u == -1 or u == mp.inf else mp.nan
    with mp.extraprec(40 + 2 * max(0, -mp.frexp(u)[1])):
        return mp.log1p(u) - u


def _log_cosh(mp: Any, x: Any) -> Any:
    """Without cancellation for small x, and without overflow for large."""
    half = mp.expm1(abs(x))
    return mp.log1p(half * half / (2 * (1 + half)))
