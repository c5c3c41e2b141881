"""Calls on arrays that are cut among several devices: each computes its part, and nothing but sums travels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from ..kernels.losses.definition import Definition
from . import _private
from ._private import Cut, Described, Mesh, Operation, Shardings
from ._totals import inverse_power

_Arrays: TypeAlias = tuple[jax.Array, ...]
_Way: TypeAlias = Callable[..., _Arrays]  # of a definition, names, flags, and then this device's part of each operand


def unified(operands: Sequence[jax.Array], varying: Sequence[frozenset[str]]) -> list[jax.Array]:
    """The operands cut along all axes along which one of them is, which `jax.shard_map` asks for."""
    everything = frozenset().union(*varying)
    return [_private.cut(o, everything - v) for o, v in zip(operands, varying, strict=True)]


@functools.cache
def partitioned(way: _Way, definition: Definition, names: tuple[str, ...]) -> Operation:
    """`_called` or the like for arrays on several devices: each computes its part, and nothing is gathered."""

    def call(*operands: jax.Array) -> _Arrays:
        return way(definition, names, *operands)

    def shardings(mesh: Mesh, operands: Described, results: Described) -> tuple[Shardings, NamedSharding]:
        """The shardings of operands and results: the first that cuts an axis decides; axes of length 1 are whole."""
        shape = results[0].shape
        cuts: list[Cut] = [None] * len(shape)
        for operand in operands:
            for axis, cut in enumerate(_private.cuts_of(operand)):
                taken = {name for c in cuts if c for name in ((c,) if isinstance(c, str) else c)}
                names_of = set() if cut is None else {cut} if isinstance(cut, str) else set(cut)
                if operand.shape[axis] == shape[axis] and cuts[axis] is None and not names_of & taken:
                    cuts[axis] = cut

        def of(lengths: tuple[int, ...]) -> NamedSharding:
            whole = zip(cuts, lengths, shape, strict=True)
            return NamedSharding(mesh, PartitionSpec(*(cut if m == n else None for cut, m, n in whole)))

        return tuple(of(o.shape) for o in operands), of(shape)

    def infer(mesh: Mesh, operands: Described, results: Described) -> Shardings:
        return (shardings(mesh, operands, results)[1],) * len(names)

    def partition(mesh: Mesh, operands: Described, results: Described) -> tuple[Mesh, Operation, Shardings, Shardings]:
        of_operands, of_results = shardings(mesh, operands, results)
        return mesh, functools.partial(way, definition, names), (of_results,) * len(names), of_operands

    def rule(mesh: Mesh, operands: Sequence[object], results: Sequence[object]) -> str:
        """The rule for Shardy: an axis is the result's, or of length 1 and nobody else's."""
        shape = _private.lengths(results[0])
        sides = [_factors(k, _private.lengths(o), shape) for k, o in enumerate(operands)]
        return ", ".join(sides) + " -> " + ", ".join([_factors(0, shape, shape)] * len(names))

    return _private.partitioned(call, infer, partition, rule)


def _factors(operand: int, lengths: Sequence[int], shape: Sequence[int]) -> str:
    """The axes of an operand for Shardy: those of the shape, and such as are of length 1 instead."""
    pairs = enumerate(zip(lengths, shape, strict=True))
    return " ".join(f"i{axis}" if m == n else f"u{operand}_{axis}" for axis, (m, n) in pairs)


@functools.cache
def partitioned_sums(way: _Way, definition: Definition, wrt: tuple[str, ...], mean: bool) -> Operation:
    """`_called_sums` or the like for arrays on several devices: each sums its part, and only the sums travel.

    A mean by weights divides the sums of all devices by that of their weights.  One without weights is that of the
    means of the parts, which are finite where a sum may not be.
    """

    def call(*operands: jax.Array) -> _Arrays:
        return way(definition, wrt, mean, *operands)

    def shardings(mesh: Mesh, operands: Described) -> tuple[list[NamedSharding], list[NamedSharding]]:
        """The shardings of operands and results: as the first data lie that are cut; axes of length 1 are whole."""
        specs = map(_private.cuts_of, operands[: len(definition.data)])
        spec = next((s for s in specs if any(s)), ())
        cuts = spec + (None,) * (len(operands[0].shape) - len(spec))
        of = [
            NamedSharding(mesh, PartitionSpec(*(cut if n > 1 else None for cut, n in zip(cuts, o.shape, strict=True))))
            for o in operands
        ]
        by_name = dict(zip(definition.operands, of, strict=False))
        return of, [NamedSharding(mesh, PartitionSpec()), *(by_name[name] for name in wrt)]

    def infer(mesh: Mesh, operands: Described, results: Described) -> Shardings:
        return tuple(shardings(mesh, operands)[1])

    def partition(mesh: Mesh, operands: Described, results: Described) -> tuple[Mesh, Operation, Shardings, Shardings]:
        """The shardings, and what each device computes: `part`."""
        of_operands, of_results = shardings(mesh, operands)
        everywhere = _axes_of(of_operands[0])
        count = math.prod(operands[0].shape)

        def over_all(reduce: Callable[..., jax.Array], part: jax.Array) -> jax.Array:
            return reduce(part, everywhere) if everywhere else part

        def part(*local: jax.Array) -> _Arrays:
            """The sums or means over all devices, of which this one has a part of each operand."""
            weighted = len(local) > len(definition.operands)
            divisor: jax.Array | float = 1.0
            if mean and weighted:
                # Within reach on all devices, and their sum within that of one.
                *given, weights = local
                first = inverse_power(over_all(jax.lax.pmax, abs(weights).max(initial=0.0)))
                second = inverse_power(abs(over_all(jax.lax.psum, (weights * first).sum())))
                weights = weights * first * second
                local = (*given, weights)
                divisor = over_all(jax.lax.psum, weights.sum())
            elif mean:
                divisor = count / max(math.prod(local[0].shape), 1)  # the sum of means is finite where sums are not
            sums = list(way(definition, wrt, mean and not weighted, *local))
            for i, sharding in enumerate(of_results):
                if i == 0 or wrt[i - 1] not in definition.data:
                    over = tuple(name for name in everywhere if name not in _axes_of(sharding))
                    sums[i] = jax.lax.psum(sums[i], over) if over else sums[i]
                if mean:
                    sums[i] = sums[i] / jnp.where(divisor == 0, math.nan, divisor).astype(sums[i].dtype)
            return tuple(sums)

        return mesh, part, tuple(of_results), tuple(of_operands)

    def rule(mesh: Mesh, operands: Sequence[object], results: Sequence[object]) -> str:
        """The rule for Shardy: an axis is that of the data, or of length 1 and nobody else's."""
        shape = _private.lengths(operands[0])
        sides = [_factors(k, _private.lengths(o), shape) for k, o in enumerate(operands)]
        by_name = dict(zip(definition.operands, sides, strict=False))
        return ", ".join(sides) + " -> " + ", ".join(["", *(by_name[name] for name in wrt)])

    return _private.partitioned(call, infer, partition, rule)


def _axes_of(sharding: NamedSharding) -> tuple[str, ...]:
    """The axes of the mesh that cut something."""
    return tuple(n for cut in sharding.spec if cut for n in ((cut,) if isinstance(cut, str) else cut))
