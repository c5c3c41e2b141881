"""Losses of rows on arrays of JAX: operations that XLA compiles, under every transformation; see `_row_loss`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .. import _row_loss as rows
from .._row_loss import Call, Task
from .._row_operations import weighed
from ._arrays import array
from ._cross_entropy import OPERATIONS

__all__ = ["derivatives_of", "value_of"]


def value_of(task: Task, data: list[Any], numbers: list[Any], call: Call) -> jax.Array:
    """The loss, in the dtype of the data; the halves are computed in float32."""
    arrays, dtype = _prepared(task, data)
    axis = rows.checked(call.axis, arrays[0].shape)
    shape, inside = arrays[0].shape, arrays[0].dtype
    of_rows = {"weights": call.weights, **dict(zip(task.numbers, numbers, strict=True))}
    given = {name: value if value is None else array(name, value).astype(inside) for name, value in of_rows.items()}
    for name, value in given.items():
        if value is not None:
            rows.check_fits(name, value.shape, shape[:axis] + shape[axis + 1 :])
    weights, *numbers = given.values()
    moved = [jnp.moveaxis(value, axis, -1) for value in arrays]
    if weights is not None:  # so that no NaN comes from what is excluded
        moved = [jnp.where((weights == 0)[..., None], 0.0, value) for value in moved]
    each = task.composed(OPERATIONS, moved, numbers)
    found: jax.Array = weighed(OPERATIONS, each, weights, call.reduction)
    return found.astype(dtype)


def derivatives_of(task: Task, data: list[Any], numbers: list[Any], call: Call, wrt: tuple[str, ...]) -> list[Any]:
    """The loss and its derivatives."""
    arrays, dtype = _prepared(task, data)
    given = [jnp.asarray(number, arrays[0].dtype) for number in numbers]
    if call.reduction == "none":  # of each row: so a number for each
        axis = rows.checked(call.axis, arrays[0].shape)
        shape = arrays[0].shape[:axis] + arrays[0].shape[axis + 1 :]
        given = [jnp.broadcast_to(number, shape) for number in given]

    def value(*operands: Any) -> jax.Array:
        return value_of(task, list(operands[: len(arrays)]), list(operands[len(arrays) :]), call)

    found, pull = jax.vjp(value, *arrays, *given)
    slopes = pull(jnp.ones_like(found))
    names = (*task.data, *task.numbers)
    parts = [slope.astype(dtype) if name in wrt else None for name, slope in zip(names, slopes, strict=True)]
    return [found.astype(dtype), *parts]


def _prepared(task: Task, data: Sequence[Any]) -> tuple[list[jax.Array], Any]:
    """The data as arrays of one shape and of the dtype that is computed with, and that of the result."""
    arrays = [array(name, value) for name, value in zip(task.data, data, strict=True)]
    dtype = functools.reduce(jnp.promote_types, [value.dtype for value in arrays])
    dtype = dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.promote_types(dtype, jnp.float32)
    wide = jnp.promote_types(dtype, jnp.float32)
    return [value.astype(wide) for value in jnp.broadcast_arrays(*arrays)], dtype
