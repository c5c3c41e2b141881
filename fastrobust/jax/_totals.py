"""Sums and means of arrays of JAX, with weights, in XLA's own operations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from .._types import DType
from ..kernels.arithmetic import scaling
from ..kernels.losses.definition import Definition


def masked(definition: Definition, operands: Sequence[jax.Array], weights: jax.Array | None) -> tuple[jax.Array, ...]:
    """The operands, harmless where the weight is 0: later a derivative of NaN there would meet a factor of 0."""
    if weights is None:
        return tuple(operands)
    none = weights == 0
    return tuple(
        o if name in definition.parameters and o.size == 1 else jnp.where(none, definition.harmless(name), o)
        for name, o in zip(definition.operands, operands, strict=True)
    )


def total(
    definition: Definition,
    outputs: Sequence[jax.Array],
    wrt: tuple[str, ...],
    mean: bool,
    operands: Sequence[jax.Array],
    weights: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """The sum or mean of the first output, and the others weighted, in the shapes of the operands they belong to."""
    count: jax.Array | float = outputs[0].size if mean else 1.0
    if weights is not None:
        if mean:
            weights = lifted(weights, outputs[0].shape, outputs[0].dtype)
            count = jnp.broadcast_to(weights, outputs[0].shape).sum()
        outputs = [jnp.where(weights == 0, 0.0, part * weights) for part in outputs]
    count = jnp.asarray(count, outputs[0].dtype)
    shapes = {name: o.shape for name, o in zip(definition.operands, operands, strict=True)}
    sums = [_summed(outputs[0], (), count)]
    for name, part in zip(wrt, outputs[1:], strict=True):
        sums.append(_summed(part, part.shape if name in definition.data else shapes[name], count))
    return tuple(sums)


def lifted(weights: jax.Array, shape: tuple[int, ...], dtype: DType | type) -> jax.Array:
    """Weights of a mean times a power of two, such that they sum to about 1 over that shape: see `scaling`."""
    fixed = jax.lax.stop_gradient(weights)
    first = inverse_power(abs(fixed).max(initial=0.0))  # so that the sum is in reach
    repeats = math.prod(shape) / max(math.prod(weights.shape), 1)
    second = inverse_power(abs((fixed * first).sum()) * repeats)
    return (weights * first * second).astype(dtype)


def inverse_power(size: jax.Array) -> jax.Array:
    """The power of two by which that becomes 1/2 to 1, as far as it is a normal number."""
    usual = (size > 0) & (size < math.inf)
    most = jnp.finfo(size.dtype).maxexp - 2
    return jnp.ldexp(jnp.ones_like(size), -jnp.clip(jnp.frexp(jnp.where(usual, size, 1.0))[1], -most, most))


def _summed(part: jax.Array, shape: tuple[int, ...], count: jax.Array) -> jax.Array:
    """The sum to that shape over the count, NaN if that is 0; taken of smaller terms where it overflows otherwise."""
    plain, apart = (sum_to(p, shape) for p in (part, part * scaling.APART))
    quotient = scaling.divided(jnp, plain, apart, count)
    return jnp.where(count == 0, math.nan, quotient).astype(part.dtype)


def sum_to(part: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """The sum over the axes along which something of that shape was broadcast."""
    lead = part.ndim - len(shape)
    if lead < 0:
        return part.reshape(shape)
    part = part.sum(tuple(range(lead)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 != part.shape[i])
    return part.sum(axes, keepdims=True) if axes else part
