"""`jax.numpy` as `fastrobust._density` takes it: with loops that XLA compiles once, and no unrolled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp

clip, where, full_like, zeros_like, isnan = jnp.clip, jnp.where, jnp.full_like, jnp.zeros_like, jnp.isnan
exp, expm1, log, log1p, sqrt = jnp.exp, jnp.expm1, jnp.log, jnp.log1p, jnp.sqrt
fixed = jax.lax.stop_gradient

_Values = TypeVar("_Values")  # an array, or a tuple of them


def total(term: Callable[..., jax.Array], columns: Sequence[Sequence[float]]) -> jax.Array:
    """The sum of term(*row) over the rows of the columns."""
    # The first term outside of the loop is of the dtype and shape of the sum, and cut among devices as it is.
    first = term(*(column[0] for column in columns))
    rest = tuple(jnp.asarray(column[1:], first.dtype) for column in columns)
    return jax.lax.scan(lambda sum_, row: (sum_ + term(*row), None), first, rest)[0]


def settled(step: Callable[[jax.Array], tuple[jax.Array, jax.Array]], value: jax.Array, most: int) -> jax.Array:
    """The value after steps, which also say where another one is wanted; at most that many."""

    def wanted(state: tuple[jax.Array, jax.Array, int]) -> jax.Array:
        _, moving, count = state
        return moving & (count < most)

    def further(state: tuple[jax.Array, jax.Array, int]) -> tuple[jax.Array, jax.Array, int]:
        value, moving = step(state[0])
        return value, moving.any(), state[2] + 1

    moving = (value == value).any()  # NaN stays NaN; and cut among devices as it will be
    return jax.lax.while_loop(wanted, further, (value, moving, 0))[0]


def repeated(step: Callable[[_Values], _Values], values: _Values, times: int) -> _Values:
    """The values after that many steps."""
    # The first step outside of the loop, for the same reason as in `total`.
    return jax.lax.fori_loop(1, times, lambda _, values: step(values), step(values))
