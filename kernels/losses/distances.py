"""The length of a row, and the triplet loss: distances of rows, as sums over their elements.

Squares of float32 are summed in double, which none of them leaves.  Those of float64 are summed apart by size, in three
sums as Blue (1978) has them, so that no square overflows or vanishes; see `_squares`.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from ..arithmetic import functions
from ..arithmetic.primitives import double, scalar, sqrt, where
from .rowwise import RowDefinition

__all__ = ["DISTANCES", "Distance", "norm", "triplet"]

Distance = Literal["euclidean", "squared", "manhattan", "cosine"]
DISTANCES: tuple[Distance, ...] = ("euclidean", "squared", "manhattan", "cosine")

_BIG, _SMALL, _UP, _DOWN = 2.0**500, 2.0**-500, 2.0**600, 2.0**-600


@scalar
def _squares(x):
    """The squares of what is large, usual and small, each but one 0; the first and the last scaled."""
    T = type(x)
    zero, size = T(0.0), abs(x)
    is_big, is_small = size > T(_BIG), size < T(_SMALL)
    big, small = where(is_big, x * T(_DOWN), zero), where(is_small, x * T(_UP), zero)
    usual = where(is_big | is_small, zero, x)
    return big * big, usual * usual, small * small


@scalar
def _root(sums):
    """The root of the sum of all squares, of the sums of `_squares`; NaN among them stays."""
    big, usual, small = sums
    T = type(big)
    of_big = T(_UP) * sqrt(big + (usual * T(_DOWN)) * T(_DOWN))
    of_usual = sqrt(usual + (small * T(_DOWN)) * T(_DOWN))
    return where(big > T(0.0), of_big, where(usual == T(0.0), T(_DOWN) * sqrt(small), of_usual))


def _added(sums: Any, count: int) -> tuple[Any, ...]:
    """Sums of both of their words, of which the second is NaN where the first is infinite."""
    firsts, seconds = sums[:count], sums[count:]
    return tuple(where(abs(a) < type(a)(float("inf")), a + b, a) for a, b in zip(firsts, seconds, strict=True))


@functools.cache
def norm(wide: bool) -> RowDefinition:
    """The Euclidean length of a row of float32, or of float64 if it is wide; its derivative at 0 is 0."""
    count = 3 if wide else 1

    @scalar
    def terms(elements, largest, numbers):
        x = double(elements[0])
        return _squares(x) if wide else (x * x,)

    @scalar
    def value(own, sums, largest, numbers):
        added = _added(sums, count)
        length = _root(added) if wide else sqrt(added[0])
        return length, (), (), (length if wide else _inverse(length),)

    @scalar
    def slopes(elements, terms, largest, numbers, kept):
        x, number = double(elements[0]), kept[0]
        zero = type(x)(0.0)
        return (where(number == zero, zero, x / number) if wide else x * number,)

    return RowDefinition(
        name="norm_of_doubles" if wide else "norm",
        module=__name__,
        data=("x",),
        summed=count,
        kept=1,
        terms=terms,
        value=value,
        slopes=slopes,
    )


@scalar
def _inverse(length):
    """The inverse of a length, 0 for one of 0."""
    T = type(length)
    return where(length == T(0.0), T(0.0), T(1.0) / length)


@functools.cache
def triplet(distance: Distance, swap: bool, soft: bool, wide: bool) -> RowDefinition:
    """max(0, D(a, p) - D(a, n) + margin) of an anchor, what is like it and what is not; log(1 + exp(...)) if soft.

    With ``swap`` the smaller one of D(a, n) and D(p, n) counts.  Of cosine distances the numbers are the inverse
    lengths, too, and D is |a/|a| - b/|b||^2/2, which 1 less the cosine would lose; a vector of zeros is at 1 from all
    others.
    """
    by_squares = wide and distance == "euclidean"
    each, pairs = (3 if by_squares else 1), (3 if swap else 2)
    of_pair = ((0, 1), (0, 2), (1, 2))[:pairs]

    def differences(elements: Any, numbers: Any) -> list[Any]:
        rows = [double(x) for x in elements]
        if distance == "cosine":
            rows = [x * inverse for x, inverse in zip(rows, numbers[1:], strict=True)]
        return [rows[i] - rows[j] for i, j in of_pair]

    @scalar
    def terms(elements, largest, numbers):
        found: tuple[Any, ...] = ()
        for e in differences(elements, numbers):
            if by_squares:
                found += tuple(_squares(e))
            elif distance == "manhattan":
                found += (abs(e),)
            else:
                found += (e * e,)
        return found

    def distances(sums: Any, numbers: Any) -> list[Any]:
        added = _added(sums, each * pairs)
        T = type(added[0])
        found = []
        for k, (i, j) in enumerate(of_pair):
            total = _root(added[each * k : each * (k + 1)]) if by_squares else added[k]
            if distance == "euclidean" and not by_squares:
                total = sqrt(total)
            if distance == "cosine":
                half, zero = T(0.5), T(0.0)
                for place in (i, j):
                    total += where(numbers[1 + place] == zero, T(1.0), zero)
                total *= half
            found.append(total)
        return found

    @scalar
    def value(own, sums, largest, numbers):
        near, far, *other = found = distances(sums, numbers)
        T, margin = type(near), numbers[0]
        zero, one = T(0.0), T(1.0)
        is_far = (far <= other[0]) | (other[0] != other[0]) if swap else None
        z = (near - (where(is_far, far, other[0]) if swap else far)) + margin
        if soft:
            loss, active = functions.softplus(z), functions.sigmoid(z)
        else:
            loss, active = where(z <= zero, zero, z), where(z > zero, one, where(z <= zero, zero, z))
        factors = [active, where(is_far, active, zero), where(is_far, zero, active)] if swap else [active, active]
        if distance == "euclidean":
            factors = [factor * _inverse_of_usual(one_of) for factor, one_of in zip(factors, found, strict=True)]
        elif distance == "squared":
            factors = [factor + factor for factor in factors]
        kept = (*factors, *found) if distance == "cosine" else tuple(factors)
        return loss, (active, *[zero] * (len(numbers) - 1)), (), kept

    @scalar
    def slopes(elements, terms, largest, numbers, kept):
        found = differences(elements, numbers)
        T = type(found[0])
        if distance == "manhattan":
            found = [where(e > T(0.0), T(1.0), where(e < T(0.0), T(-1.0), e)) for e in found]
        sums: list[Any] = [None, None, None]
        signs = (1.0, -1.0, -1.0)  # of the distances in the loss
        for k, (i, j) in enumerate(of_pair):
            for place, side in ((i, signs[k]), (j, -signs[k])):
                slope = found[k]
                if distance == "cosine":  # without what would change the length
                    along = (double(elements[place]) * numbers[1 + place]) * kept[pairs + k]
                    slope = slope - along if place == i else slope + along
                part = T(side) * (kept[k] * slope)
                sums[place] = part if sums[place] is None else sums[place] + part
        if distance == "cosine":
            sums = [total * inverse for total, inverse in zip(sums, numbers[1:], strict=True)]
        return tuple(sums)

    words = [distance, *(["swap"] if swap else []), *(["soft"] if soft else []), *(["of_doubles"] if wide else [])]
    return RowDefinition(
        name="_".join(["triplet", *words]),
        module=__name__,
        data=("anchor", "positive", "negative"),
        numbers=("margin", *(("of_anchor", "of_positive", "of_negative") if distance == "cosine" else ())),
        summed=each * pairs,
        kept=pairs * (2 if distance == "cosine" else 1),
        derived=3,
        terms=terms,
        value=value,
        slopes=slopes,
    )


@scalar
def _inverse_of_usual(length):
    """The inverse of a length, 0 for one of 0, or so small that it is not usual."""
    T = type(length)
    return where(length < T(2.0**-1022), T(0.0), T(1.0) / length)
