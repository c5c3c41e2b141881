"""Families of functions, of which each member is the derivative of the one before; there are four, 0 to 3.

They are written once, over an arithmetic: of one word, or of two.  A tail that is small beside what it is added to is
of one word in both.

* ``gap``: log Gamma(a) - log Gamma(a + 1/2) + log(a)/2 for a > 0, the integral of exp(-a t) tanh(t/4)/(2t) over t > 0.
* ``moment``: the integral of t^n exp(z t) over t in (0, 1), of which n = 0 is expm1(z)/z.
* ``deviance``: the integral of expm1(s) s^n exp(q s) over s in (0, u); the next one is the derivative in q.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from . import coefficients as c
from . import functions, words
from .primitives import fma, polynomial, scalar, where

__all__ = ["ORDERS", "WORD", "WORDS"]

ORDERS = range(4)


class _Arithmetic(NamedTuple):
    """The operations on numbers of one word or of two."""

    plus: Callable[..., Any]
    minus: Callable[..., Any]
    times: Callable[..., Any]
    divided: Callable[..., Any]
    exp: Callable[..., Any]
    expm1: Callable[..., Any]
    log1p: Callable[..., Any]
    number: Callable[..., Any]  # of a number of one word: the same
    first: Callable[..., Any]  # of a number: its first word


_ONE = _Arithmetic(
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    functions.exp,
    functions.expm1,
    functions.log1p,
    number=lambda x: x,
    first=lambda x: x,
)
_TWO = _Arithmetic(
    words.plus,
    words.minus,
    words.times,
    words.divided,
    words.exp,
    words.expm1,
    words.log1p,
    number=lambda x: (x, type(x)(0.0)),
    first=lambda x: x[0],
)


# --- gap: by steps of 1 to where an expansion in 1/a holds

_STEPS = c.GAP_STEPS
_tails = [polynomial(*table) for table in (c.GAP_TAIL_0, c.GAP_TAIL_1, c.GAP_TAIL_2, c.GAP_TAIL_3)]
_LEADS = 0.125, 0.125, 0.25, 0.75  # of 1/a, 1/a^2, 1/a^3, 1/a^4


def _gap(order: int, ar: _Arithmetic) -> Callable[[Any], Any]:
    """The member of that order: what the steps come to, and the expansion beyond them, all of one sign.

    From a to a + 1 it falls by log(1 + 1/(4a(a + 1)))/2, whose derivative is f = -1/(4a(a + 1/2)(a + 1)); that of f is
    -f s, s the sum of the inverses of the three factors, and that of s is minus the sum of their squares.
    """

    @scalar
    def value(a: Any) -> Any:
        T = type(ar.first(a))

        def number(content: float) -> Any:
            return ar.number(T(content))

        def halved(shift: float) -> Any:
            """1/(2(a + shift))."""
            return ar.divided(number(0.5), ar.plus(a, number(shift)))

        inverse = halved(_STEPS)
        inverse = ar.plus(inverse, inverse)
        y = ar.first(inverse) * ar.first(inverse)
        total = ar.plus(number(_LEADS[order]), ar.number(y * _tails[order](y)))
        for _ in range(order + 1):
            total = ar.times(total, inverse)
        product = number(0.0)
        after = halved(_STEPS)
        for k in reversed(range(_STEPS)):
            before = halved(k)
            if order == 0:
                fall = ar.times(before, after)
                product = ar.plus(product, ar.plus(fall, ar.times(product, fall)))
            else:
                factors = before, halved(k + 0.5), after
                fall = ar.times(number(2.0), ar.times(ar.times(before, after), factors[1]))
                slopes = ar.plus(ar.plus(*factors[1:]), before)
                slopes = ar.plus(slopes, slopes)
                if order == 2:
                    fall = ar.times(fall, slopes)
                elif order == 3:
                    a2, b2, c2 = (ar.times(part, part) for part in factors)
                    squares = ar.times(number(4.0), ar.plus(ar.plus(b2, c2), a2))
                    fall = ar.times(fall, ar.plus(ar.times(slopes, slopes), squares))
                total = ar.plus(total, fall)
            after = before
        if order == 0:
            return ar.plus(total, ar.times(number(0.5), ar.log1p(product)))
        return ar.times(number(-1.0), total) if order % 2 else total

    return value


# --- moments, and deviances, which are differences of such


_NEAR = 2.0  # arguments up to which moments are found downwards
_TOP = 28  # the moment from which on, where any will do: its error is multiplied by 2/28, 2/27 and so on
_LAST_OF_ONE_WORD = 9  # down to which one word does, since the same happens to what that loses


def _downwards(z: Any, exponential: Any, ar: _Arithmetic, take: Callable[[int, Any, _Arithmetic], None]) -> None:
    """Moments for |z| <= 2 from the highest to the first, each to ``take``: n m(n-1) = exp(z) - z m(n)."""
    first, e = ar.first(z), ar.first(exponential)
    T = type(first)
    moment: Any = e / (T(float(_TOP + 1)) + first)
    for n in range(_TOP, _LAST_OF_ONE_WORD, -1):
        moment = fma(-first, moment, e) * T(1.0 / n)
        take(n - 1, moment, _ONE)
    moment = ar.number(moment)
    for n in range(_LAST_OF_ONE_WORD, 0, -1):
        moment = ar.divided(ar.minus(exponential, ar.times(z, moment)), ar.number(T(float(n))))
        take(n - 1, moment, ar)


def _upwards(z: Any, exponential: Any, order: int, ar: _Arithmetic) -> Any:
    """The moment of that order for |z| > 2, from the first."""
    T = type(ar.first(z))
    moment = ar.divided(ar.expm1(z), z)
    for n in range(1, order + 1):
        moment = ar.divided(ar.minus(exponential, ar.times(ar.number(T(float(n))), moment)), z)
    return moment


def _moment(order: int, ar: _Arithmetic) -> Callable[[Any], Any]:
    """The member of that order."""

    @scalar
    def value(z: Any) -> Any:
        first = ar.first(z)
        T = type(first)
        near = abs(first) <= T(_NEAR)
        kept: list[Any] = []

        def take(n: int, moment: Any, _: _Arithmetic) -> None:
            if n == order:
                kept.append(moment)

        inside = where(near, z, ar.number(T(0.0)))
        _downwards(inside, ar.exp(inside), ar, take)
        outside = where(near, ar.number(T(_NEAR)), z)
        return where(near, kept[0], _upwards(outside, ar.exp(outside), order, ar))

    return value


def _deviance(order: int, ar: _Arithmetic) -> Callable[[Any, Any], Any]:
    """The member of that order: u^(n+1) (m(n) of (q + 1) u, less m(n) of q u), which cancels where u is small.

    There it is u^(n+2) times the sum of u^(k-1)/k! m(n+k) of q u, since expm1(s) is the sum of s^k/k!.
    """
    moment = _moment(order, ar)

    @scalar
    def value(u: Any, q: Any) -> Any:
        first = ar.first(u)
        T = type(first)
        z = ar.times(q, u)
        near = (abs(first) <= T(1.0)) & (abs(ar.first(z)) <= T(_NEAR))
        inside = where(near, u, ar.number(T(0.0)))
        argument = where(near, z, ar.number(T(0.0)))
        totals: list[Any] = []

        def take(n: int, found: Any, here: _Arithmetic) -> None:
            """Horner's rule, downwards."""
            k = n - order
            if k < 1:
                return
            if totals:
                total = totals[-1]
                if here is ar and ar is _TWO and not isinstance(total, tuple):
                    total = ar.number(total)
                by = inside if here is ar else ar.first(inside)
                step = here.divided(by, here.number(T(k + 1.0)))
                found = here.plus(found, here.times(step, total))
            totals.append(found)

        _downwards(argument, ar.exp(argument), ar, take)
        series = ar.times(totals[-1], inside)
        far = where(near, ar.number(T(1.0)), u)
        product = where(near, ar.number(T(0.0)), z)
        difference = ar.minus(moment(ar.plus(product, far)), moment(product))
        for _ in range(order + 1):
            series, difference = ar.times(series, inside), ar.times(difference, far)
        return where(near, series, difference)

    return value


_MEMBERS: dict[str, Callable[[int, _Arithmetic], Callable[..., Any]]] = {
    "gap": _gap,
    "moment": _moment,
    "deviance": _deviance,
}


def _members(ar: _Arithmetic) -> dict[str, Callable[..., Any]]:
    """All members of all families by name."""
    return {f"{name}{order}": make(order, ar) for name, make in _MEMBERS.items() for order in ORDERS}


WORD, WORDS = _members(_ONE), _members(_TWO)
