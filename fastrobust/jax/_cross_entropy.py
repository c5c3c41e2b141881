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
from .._row_operations import Given, Operations, composed, of_samples, reduced
from ._arrays import array

__all__ = ["loss", "loss_and_grad", "transformed"]

_OPERATIONS = Operations(jnp, jnp.moveaxis, logsumexp)


def loss(x: Any, call: Given, options: tuple[Any, ...]) -> jax.Array:
    """The loss, in x's dtype; the halves are computed in float32."""
    rows.checked_options(options, (jax.Array, np.ndarray))
    x, target = array("x", x), array("target", call.target)
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.promote_types(x.dtype, jnp.float32)
    wide = jnp.promote_types(dtype, jnp.float32)
    by_index = jnp.issubdtype(target.dtype, jnp.integer)
    kind = "b" if target.dtype == bool else "i" if by_index else "f"
    axis = rows.checked_axis(x.shape, target.shape, kind, call)
    if by_index:
        with contextlib.suppress(jax.errors.TracerArrayConversionError):  # where it is not there to be looked at
            rows.checked_index(np.asarray(target), x.shape[axis], call.ignore_index)

    of_each, of_classes = _like(call.weights, wide), _like(call.class_weights, wide)
    given = Given(target if by_index else target.astype(wide), call.axis, of_each, of_classes, *call[4:])
    places = jnp.arange(x.shape[axis])
    found: jax.Array = composed(_OPERATIONS, x.astype(wide), places, given, bool(by_index), options)
    return found.astype(dtype)


def transformed(x: Any, call: Given, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """A function of the cross-entropy of each sample, weighted, or its sum or mean."""
    x, target = array("x", x), array("target", call.target)
    if not jnp.issubdtype(target.dtype, jnp.integer):
        raise TypeError("target must hold class indices, integers")
    dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.promote_types(x.dtype, jnp.float32)
    wide = jnp.promote_types(dtype, jnp.float32)
    axis = rows.checked_axis(x.shape, target.shape, "i", call)
    given = Given(target, axis, _like(call.weights, wide), _like(call.class_weights, wide), *call[4:])
    weights = of_samples(jnp, jnp.zeros((), wide), target.shape, jnp.arange(x.shape[axis]), given, True)
    plain = Given(target, axis, (weights != 0).astype(wide), None, call.ignore_index, "all", "none", "nan")
    found: jax.Array = reduced(jnp, function(loss(x.astype(wide), plain, (1.0, 0.0, 0.0))), weights, given)
    return found.astype(dtype)


def _like(weights: Any, dtype: Any) -> Any:
    return None if weights is None else array("weights", weights).astype(dtype)


def loss_and_grad(x: Any, call: Given, options: tuple[Any, ...], wrt: tuple[str, ...]) -> rows.CrossEntropyGrad:
    """The loss and its derivatives."""
    names = ("x", *rows.OPTIONS)
    x = array("x", x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        x = x.astype(jnp.float32)
    numbers = [jnp.asarray(option, jnp.promote_types(x.dtype, jnp.float32)) for option in options]
    samples = x.shape[: call.axis % x.ndim] + x.shape[call.axis % x.ndim + 1 :]
    each = call.reduction == "none"
    # Of each sample where nothing is summed up: so an option for each.
    spread = [jnp.broadcast_to(number, samples) for number in numbers] if each else numbers

    def value(x: Any, *options: Any) -> jax.Array:
        return loss(x, call, options)

    found, pull = jax.vjp(value, x, *(spread if each else numbers))
    slopes = dict(zip(names, pull(jnp.ones_like(found)), strict=True))
    return rows.CrossEntropyGrad(found, *[slopes[name] if name in wrt else None for name in names])
