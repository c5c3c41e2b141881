"""Several elements at once, written out: a thread keeps them in registers, which have no index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arithmetic.primitives import scalar

__all__ = ["ANY", "EACH", "FOLD", "SAME", "is_outside", "load_four", "store_four"]

# f at each of 2, 4 or 8 places; p is for all.
EACH: dict[int, Callable[..., Any]] = {
    2: lambda f: lambda x, a, c, p: (f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p)),
    4: lambda f: lambda x, a, c, p: (
        f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p), f(x[2], a[2], c[2], p), f(x[3], a[3], c[3], p)
    ),
    8: lambda f: lambda x, a, c, p: (
        f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p), f(x[2], a[2], c[2], p), f(x[3], a[3], c[3], p),
        f(x[4], a[4], c[4], p), f(x[5], a[5], c[5], p), f(x[6], a[6], c[6], p), f(x[7], a[7], c[7], p)
    ),
}  # fmt: skip
SAME: dict[int, Callable[..., Any]] = {
    2: lambda v: (v, v),
    4: lambda v: (v, v, v, v),
    8: lambda v: (v, v, v, v, v, v, v, v),
}
ANY: dict[int, Callable[..., Any]] = {
    2: lambda x: x[0] | x[1],
    4: lambda x: x[0] | x[1] | x[2] | x[3],
    8: lambda x: x[0] | x[1] | x[2] | x[3] | x[4] | x[5] | x[6] | x[7],
}
FOLD: dict[int, Callable[..., Any]] = {
    1: lambda add: lambda t, r: add(t, r[0]),
    2: lambda add: lambda t, r: add(add(t, r[0]), r[1]),
    4: lambda add: lambda t, r: add(add(add(add(t, r[0]), r[1]), r[2]), r[3]),
    8: lambda add: (
        lambda t, r: add(add(add(add(add(add(add(add(t, r[0]), r[1]), r[2]), r[3]), r[4]), r[5]), r[6]), r[7])
    ),
}


@scalar
def load_four(load_one, address, i, stride):
    """Four loads that are under way together."""
    return (
        load_one(address, i),
        load_one(address, i + stride),
        load_one(address, i + 2 * stride),
        load_one(address, i + 3 * stride),
    )


@scalar
def store_four(store_one, words, i, stride, found):
    """What was found for the elements of `load_four`, stored where they lie."""
    store_one(words, i, (found[0],))
    store_one(words, i + stride, (found[1],))
    store_one(words, i + 2 * stride, (found[2],))
    store_one(words, i + 3 * stride, (found[3],))


@scalar
def is_outside(x, a, c, limit):
    """Whether x needs the extreme case; a and c are there for `EACH`."""
    return not (abs(x) <= limit)
