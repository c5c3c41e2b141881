"""How small the numbers of a formula can be: what holds for all operands, so that special cases need no look."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .real import constant_of

__all__ = ["least"]


def least(nodes: Sequence[Any]) -> dict[int, float]:
    """For each node, by its id, a number that it is not below, unless it is NaN; they come in order, see `ordered`."""
    bounds: dict[int, float] = {}
    for node in nodes:
        value = constant_of(node)
        if value is not None:
            bounds[id(node)] = value
        else:
            rule = _RULES.get(node.operation)
            bound = rule(node, *(bounds[id(argument)] for argument in node.arguments)) if rule else -math.inf
            bounds[id(node)] = bound if bound == bound else -math.inf
    return bounds


def _mul(node: Any, a: float, b: float) -> float:
    if a >= 0 and b >= 0:
        return a * b
    return 0.0 if node.arguments[0] is node.arguments[1] else -math.inf


def _where(node: Any, condition: float, yes: float, no: float) -> float:
    """That of either side; the first is known to be larger if the condition says so."""
    asked, taken = node.arguments[:2]
    if asked.operation in ("<", "<=") and asked.arguments[1] is taken:
        limit = constant_of(asked.arguments[0])
        yes = yes if limit is None else max(yes, limit)
    return min(yes, no)


def _none(node: Any, *bounds: float) -> float:
    """That of what is never negative."""
    return 0.0


def _as_argument(node: Any, a: float) -> float:
    """That of what has the sign of its argument."""
    return 0.0 if a >= 0 else -math.inf


_RULES: dict[str, Callable[..., float]] = {
    "add": lambda node, a, b: a + b,
    "mul": _mul,
    "div": lambda node, a, b: 0.0 if a >= 0 and b >= 0 else -math.inf,
    "sqrt": lambda node, a: math.sqrt(max(a, 0.0)),
    "where": _where,
    "minimum": lambda node, a, b: min(a, b),
    "maximum": lambda node, a, b: max(a, b),
    **dict.fromkeys(("abs", "exp", "expm1mx", "sigmoid", "softplus", "logcosh"), _none),
    **dict.fromkeys(("expm1", "log1p", "log1p_of_fraction", "sqrt1pm1", "tanh", "erf"), _as_argument),
}
