"""Arrays of JAX, made of what the user gave."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .. import _arguments as arguments
from .._meaning import check_plain
from .._types import ArrayLike
from . import _private

__all__ = ["array"]


def array(name: str, value: ArrayLike) -> jax.Array:
    """An array of JAX of what the user gave by that name; refuses what has no kernel."""
    if not isinstance(value, jax.Array):
        check_plain(name, value)
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: JAX makes no array of this {type(value).__name__} ({error})") from None
    if _private.has_no_numbers(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, which fastrobust does not take: pass numbers")
    arguments.supported(name, array.dtype)
    return array
