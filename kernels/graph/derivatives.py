"""Derivatives of a graph, as graphs: by rules that are closed under differentiation, from the operands to the roots.

The derivative of a choice is the choice of the derivatives: nothing is multiplied by 0, and no NaN comes from the side
that is not taken.  At ties the derivative is that of the side that the function itself takes; that of |x| at 0 is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..arithmetic import coefficients as c
from ..arithmetic.families import ORDERS
from .functions import deviance, exp, expm1, gap, log, moment, power, sigmoid, sign, sqrt, tanh, where
from .real import Condition, lifted, ordered

__all__ = ["derivatives", "divided"]

_ZERO, _ONE = lifted(0), lifted(1)
_TWO_OVER_ROOT_PI = lifted(c.TWO_OVER_ROOT_PI_HIGH[1]) + c.TWO_OVER_ROOT_PI_LOW[1]  # two words of it


def derivatives(roots: Sequence[Any], operand: Any) -> list[Any]:
    """The derivative of each root in an operand."""
    slopes: dict[int, Any] = {}
    nodes = list(ordered(roots))  # held, so that ids last
    for node in nodes:
        if node is operand:
            slopes[id(node)] = _ONE
        elif isinstance(node, Condition):
            slopes[id(node)] = _ZERO
        else:
            of_arguments = [slopes[id(argument)] for argument in node.arguments]
            moving = any(slope is not _ZERO for slope in of_arguments)
            slopes[id(node)] = _RULES[node.operation](node, *node.arguments, *of_arguments) if moving else _ZERO
    return [slopes[id(root)] for root in roots]


def divided(node: Any, x: Any) -> Any:
    """The quotient of a root that is 0 where an operand x is, by that; at x = 0 its limit, the derivative there."""
    without = _without(node, x)
    if without is not None:
        return without
    (slope,) = derivatives([node], x)
    return where(x == 0, slope, node / where(x == 0, 1, x))


def _without(node: Any, x: Any) -> Any:
    """The node without its factor x, or None if it has none."""
    if node is x:
        return _ONE
    match node.operation:
        case "neg":
            rest = _without(node.arguments[0], x)
            return None if rest is None else -rest
        case "mul":
            a, b = node.arguments
            if (rest := _without(a, x)) is not None:
                return rest * b
            return None if (rest := _without(b, x)) is None else a * rest
        case "div":
            rest = _without(node.arguments[0], x)
            return None if rest is None else rest / node.arguments[1]
        case "where":
            condition, yes, no = node.arguments
            first, second = _without(yes, x), _without(no, x)
            return None if first is None or second is None else where(condition, first, second)
        case "add" | "sub":
            first, second = (_without(argument, x) for argument in node.arguments)
            if first is not None and second is not None:
                return first + second if node.operation == "add" else first - second
            return None
    return _ZERO if node is _ZERO else None


def _times(a: Any, slope: Any) -> Any:
    """A product with a slope, which is nothing where that is 0, whatever the other factor is."""
    return _ZERO if slope is _ZERO else a * slope


def _div(node: Any, a: Any, b: Any, da: Any, db: Any) -> Any:
    return da / b if db is _ZERO else (da - _times(node, db)) / b


def _power(node: Any, x: Any, y: Any, dx: Any, dy: Any) -> Any:
    """y x^(y-1) dx + x^y log(x) dy, of which the second is 0 where x^y is."""
    first = _ZERO if dx is _ZERO else y * power(x, y - 1) * dx
    if dy is _ZERO:
        return first
    return first + where(node == 0, 0, node * log(x)) * dy


def _deviance(order: int) -> Callable[..., Any]:
    """The rule of `deviance`: the integrand in u, the next member in q."""

    def rule(node: Any, u: Any, q: Any, du: Any, dq: Any) -> Any:
        slope = _ZERO if du is _ZERO else expm1(u) * power(u, order) * exp(q * u) * du
        return slope if dq is _ZERO else slope + deviance(u, q, order + 1) * dq

    return rule


def _by_argument(slope: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The rule of a function of one argument: ``slope`` of the node and the argument is its derivative."""
    return lambda node, x, dx: slope(node, x) * dx


_RULES: dict[str, Callable[..., Any]] = {
    "add": lambda node, a, b, da, db: da + db,
    "sub": lambda node, a, b, da, db: da - db,
    "mul": lambda node, a, b, da, db: _times(b, da) + _times(a, db),
    "div": _div,
    "neg": lambda node, a, da: -da,
    "abs": _by_argument(lambda node, x: sign(x)),
    "exp": _by_argument(lambda node, x: node),
    "expm1": _by_argument(lambda node, x: exp(x)),
    "expm1mx": _by_argument(lambda node, x: expm1(x)),
    "log": _by_argument(lambda node, x: 1 / x),
    **dict.fromkeys(("log1p", "log1p_of_fraction"), _by_argument(lambda node, u: 1 / (1 + u))),
    "log1pmx": _by_argument(lambda node, u: -u / (1 + u)),
    "sqrt": _by_argument(lambda node, x: 0.5 / node),
    "sqrt1pm1": _by_argument(lambda node, w: 0.5 / sqrt(1 + w)),
    "tanh": _by_argument(lambda node, x: 4 * sigmoid(2 * x) * sigmoid(-2 * x)),
    "sigmoid": _by_argument(lambda node, x: node * sigmoid(-x)),
    "softplus": _by_argument(lambda node, x: sigmoid(x)),
    "erf": _by_argument(lambda node, x: _TWO_OVER_ROOT_PI * exp(-(x * x))),
    "logcosh": _by_argument(lambda node, x: tanh(x)),
    "power": _power,
    "minimum": lambda node, a, b, da, db: where(b < a, db, da),
    "maximum": lambda node, a, b, da, db: where(b > a, db, da),
    "where": lambda node, condition, yes, no, _, dyes, dno: where(condition, dyes, dno),
    **{f"gap{n}": _by_argument(lambda node, a, n=n: gap(a, n + 1)) for n in ORDERS},  # type: ignore[misc]
    **{f"moment{n}": _by_argument(lambda node, z, n=n: moment(z, n + 1)) for n in ORDERS},  # type: ignore[misc]
    **{f"deviance{n}": _deviance(n) for n in ORDERS},
}
