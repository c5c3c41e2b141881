"""Cross-entropy on arrays of JAX: operations that XLA compiles, under every transformation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from .. import _cross_entropy as rows
from .. import _row_operations as row_operations
from .._row_operations import Given, Operations, composed
from .._samples import OPTIONS, checked_axis, checked_index, checked_options
from ._arrays import array

__all__ = ["OPERATIONS", "by_class", "loss", "loss_and_grad", "transformed"]

OPERATIONS = Operations(jnp, jnp.moveaxis, logsumexp, jax.lax.stop_gradient)


def loss(x: Any, call: Given, options: tuple[Any, ...]) -> jax.Array:
    """The loss, in x's dtype; the halves are computed in float32."""
    checked_options(options, (jax.Array, np.ndarray))
    x, target, by_index, axis, dtype, wide = _looked_at(x, call)
    if by_index:
        with contextlib.suppress(jax.errors.TracerArrayConversionError):  # where it is not there to be looked at
            checked_index(np.asarray(target), x.shape[axis], call.ignore_index)
    of_each, of_classes = _like(call.weights, wide), _like(call.class_weights, wide)
    given = Given(target if by_index else target.astype(wide), call.axis, of_each, of_classes, *call[4:])
    places = jnp.arange(x.shape[axis])
    found: jax.Array = composed(OPERATIONS, x.astype(wide), places, given, by_index, options)
    return found.astype(dtype)


def transformed(x: Any, call: Given, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A function of the cross-entropy of each sample, weighted, or its sum or mean."""
    return _of_samples(x, call, lambda x, plain: function(loss(x, plain, (1.0, 0.0, 0.0))))


def by_class(x: Any, call: Given, function: Callable[..., jax.Array]) -> jax.Array:
    """A function of scores along the last axis and of where the right class is; weighted and reduced.

    It gets the library, the scores, that, and the numbers of the classes.
    """

    def each(x: jax.Array, plain: Given) -> jax.Array:
        z = jnp.where(plain.weights[..., None], jnp.moveaxis(x, plain.axis, -1), 0.0)
        places = jnp.arange(z.shape[-1])
        right = places == plain.target[..., None]
        return jnp.where(right.any(-1), function(jnp, z, right, places), jnp.nan)

    return _of_samples(x, call, each)


def _of_samples(x: Any, call: Given, function: Callable[[jax.Array, Given], jax.Array]) -> jax.Array:
    """A function of each sample, weighted, or its sum or mean; of indices of classes."""
    if not jnp.issubdtype(array("target", call.target).dtype, jnp.integer):
        raise TypeError("target must hold class indices, integers")
    x, target, _, axis, dtype, wide = _looked_at(x, call)
    with contextlib.suppress(jax.errors.TracerArrayConversionError):  # where it is not there to be looked at
        checked_index(np.asarray(target), x.shape[axis], call.ignore_index)
    given = Given(target, axis, _like(call.weights, wide), _like(call.class_weights, wide), *call[4:])
    zero, places = jnp.zeros((), wide), jnp.arange(x.shape[axis])
    found: jax.Array = row_operations.transformed(
        jnp, zero, places, given, lambda plain: function(x.astype(wide), plain)
    )
    return found.astype(dtype)


def _looked_at(x: Any, call: Given) -> tuple[jax.Array, jax.Array, bool, int, Any, Any]:
    """Logits, target, whether it holds indices, the axis, and the dtypes of the result and of what is computed with."""
    x, target = array("x", x), array("target", call.target)
    by_index = bool(jnp.issubdtype(target.dtype, jnp.integer))
    axis = checked_axis(x.shape, target.shape, "b" if target.dtype == bool else "i" if by_index else "f", call)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.promote_types(x.dtype, jnp.float32)
    return x, target, by_index, axis, dtype, jnp.promote_types(dtype, jnp.float32)


def _like(weights: Any, dtype: Any) -> Any:
    return None if weights is None else array("weights", weights).astype(dtype)


def loss_and_grad(x: Any, call: Given, options: tuple[Any, ...], wrt: tuple[str, ...]) -> rows.CrossEntropyGrad:
    """The loss and its derivatives."""
    checked_options(options, (jax.Array, np.ndarray))  # before they are arrays
    names = ("x", *OPTIONS)
    x, _, _, axis, dtype, wide = _looked_at(x, call)
    x, numbers = x.astype(dtype), [jnp.asarray(option, wide) for option in options]
    if call.reduction == "none":  # of each sample: so an option for each
        samples = x.shape[:axis] + x.shape[axis + 1 :]
        numbers = [jnp.broadcast_to(number, samples) for number in numbers]

    def value(x: Any, *options: Any) -> jax.Array:
        return loss(x, call, options)

    found, pull = jax.vjp(value, x, *numbers)
    slopes = dict(zip(names, pull(jnp.ones_like(found)), strict=True))
    return rows.CrossEntropyGrad(found, *[slopes[name] if name in wrt else None for name in names])
