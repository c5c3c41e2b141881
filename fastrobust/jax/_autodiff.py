"""The functions on arrays of JAX: arguments, and the rules of differentiation.

One rule, `jax.custom_jvp` around the kernels' outputs: their derivatives are again outputs, or follow from them by the
definition's `slopes`, so that every order is right, forward and in reverse.  A value that is differentiated comes from
the same pass as its derivatives.  The module is what `_dispatch` finds: a `Backend`, see `_call`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .. import _arguments as arguments
from .._types import ArrayLike, DType, Namespace, Options
from ..kernels.losses.definition import Definition
from . import _calls, _cross_entropy, _private, _rows, _totals
from ._arrays import array

xp = jnp  # the library's functions
closed_forms = True
cross_entropy = _cross_entropy  # the loss of rows, see `fastrobust._cross_entropy`
row_losses = _rows  # see `fastrobust._row_loss`
product = functools.partial(jnp.matmul, precision="highest")  # of matrices, see `fastrobust.transforms`

_Arrays: TypeAlias = tuple[jax.Array, ...]  # tangents among them may be symbolic zeros
_Weighted: TypeAlias = tuple[_Arrays, Any]  # operands, and weights or None


# --- arguments


def _prepared(definition: Definition, operands: Sequence[ArrayLike]) -> tuple[DType, list[jax.Array]]:
    """The dtype of the result, and the operands as arrays of the computing type, which Python numbers take as well."""
    arguments.check_numbers(definition, operands)
    return _converted(definition.operands, operands)


def _converted(names: Sequence[str], operands: Sequence[ArrayLike]) -> tuple[DType, list[jax.Array]]:
    """`_prepared` of operands with these names, without a look at their values."""
    leading = names[0]
    arrays: dict[str, Any] = {  # arrays of JAX, and numbers as they are
        n: v if n != leading and isinstance(v, arguments.NUMBERS) else array(n, v)
        for n, v in zip(names, operands, strict=True)
    }
    floats = [a for a in arrays.values() if not isinstance(a, arguments.NUMBERS) and a.dtype.kind not in "biu"]
    x = arrays[leading]
    if x.dtype.kind in "biu":
        floats.append(x.astype(float))  # float64 where there is that
    dtype = np.dtype(jnp.result_type(*floats))
    compute = arguments.compute_type(dtype)
    return dtype, [
        jnp.full((), arguments.number(a), compute) if isinstance(a, arguments.NUMBERS) else a.astype(compute)
        for a in arrays.values()
    ]


def _in_dtype(options: Options, operands: Sequence[ArrayLike]) -> Sequence[ArrayLike]:
    """The operands, the first in the dtype that is wanted; refuses what a ufunc takes besides."""
    if unknown := options.keys() - {"dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for arrays of JAX, only dtype is")
    if options.get("dtype") is None:
        return operands
    first, *others = operands
    return jnp.asarray(first).astype(arguments.requested(options["dtype"])), *others


def _shape(names: Sequence[str], args: Sequence[jax.Array]) -> tuple[int, ...]:
    """The common shape, some of whose lengths may be symbols, or an error that names the operands."""
    try:
        return tuple(jnp.broadcast_shapes(*(a.shape for a in args)))
    except ValueError:
        return arguments.broadcast(names, args)


# --- derivatives


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _parts(definition: Definition, names: tuple[str, ...], *operands: jax.Array) -> _Arrays:
    """The named outputs, differentiable, of arrays of one computing type."""
    return tuple(_calls.evaluate(definition, names, *operands))


def _parts_jvp(
    definition: Definition, names: tuple[str, ...], args: _Arrays, tangents: _Arrays
) -> tuple[_Arrays, _Arrays]:
    """The rule of `_parts`: the outputs, from one pass with the derivatives that they need, and their tangents."""
    wanted = [not _private.is_zero(t) for t in tangents]
    first = zip(definition.gradients, wanted, strict=True)
    more = tuple(n for n, w in first if w and "value" in names and n not in names)
    outputs = dict(zip(names + more, _parts(definition, names + more, *args), strict=True))
    slopes = [_slopes(definition, name, args, outputs, wanted) for name in names]
    return tuple(outputs[n] for n in names), tuple(
        _product(outputs[name], row, tangents) for name, row in zip(names, slopes, strict=True)
    )


_parts.defjvp(_parts_jvp, symbolic_zeros=True)


class _Library:
    """JAX, as a definition's rules of differentiation need it."""

    xp: Namespace = jnp

    def __init__(self, definition: Definition, operands: Sequence[jax.Array], have: dict[str, jax.Array]) -> None:
        self._definition, self._operands = definition, operands
        self._have = have  # outputs at hand

    def get(self, *names: str) -> list[jax.Array]:
        """Return outputs of this definition for these operands."""
        missing = tuple(n for n in names if n not in self._have)
        if missing:
            self._have.update(zip(missing, _parts(self._definition, missing, *self._operands), strict=True))
        return [self._have[n] for n in names]

    def evaluate(self, definition: Definition, names: Sequence[str], *operands: jax.Array) -> list[jax.Array]:
        """Return outputs of another definition."""
        return list(_parts(definition, tuple(names), *operands))

    def fold(self, step: Callable[..., jax.Array], total: jax.Array, rows: Sequence[tuple[float, ...]]) -> jax.Array:
        """Return step(total, *row) after the last of the rows."""
        columns = tuple(jnp.asarray(column, total.dtype) for column in zip(*rows, strict=True))
        # Zeros of the whole shape, and cut like the result.
        zeros = functools.reduce(jnp.add, (jnp.where(o == o, 0 * total, 0 * total) for o in self._operands))
        return jax.lax.scan(lambda total, row: (step(total, *row), None), total + zeros, columns)[0]


def _slopes(
    definition: Definition,
    name: str,
    args: Sequence[jax.Array],
    have: dict[str, jax.Array],
    wanted: Sequence[bool],
) -> list[jax.Array | None]:
    """Derivatives of one output in the operands, those wanted; ``have`` are outputs at hand."""
    library = _Library(definition, args, have)
    if name == "value":
        slopes = iter(library.get(*(n for n, w in zip(definition.gradients, wanted, strict=True) if w)))
        return [next(slopes) if w else None for w in wanted]
    if definition.slopes is None:
        raise NotImplementedError(
            f"a derivative of {name} was asked for: the definition of {definition.title} has none"
        )
    costly = [w and (name, n) in definition.costly for n, w in zip(definition.operands, wanted, strict=True)]
    plain = [w and not c for w, c in zip(wanted, costly, strict=True)]
    rows = definition.slopes(library, name, args, plain) if any(plain) else [None] * len(wanted)
    return [
        _costly(definition, name, i, *args) if costly[i] else row if plain[i] else None for i, row in enumerate(rows)
    ]


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _costly(definition: Definition, name: str, at: int, *operands: jax.Array) -> jax.Array:
    """One derivative that takes hundreds of operations: compiled once, where they would be run one by one."""
    assert definition.slopes is not None  # `_slopes` has looked
    wanted = [i == at for i in range(len(operands))]
    return definition.slopes(_Library(definition, operands, {}), name, operands, wanted)[at]


def _product(like: jax.Array, slopes: Sequence[jax.Array | None], tangents: Sequence[jax.Array]) -> jax.Array:
    """The tangent of an output: its slopes, as far as there are any, times the operands' tangents."""
    terms = [slope * t for slope, t in zip(slopes, tangents, strict=True) if slope is not None]
    return jnp.broadcast_to(sum(terms[1:], terms[0]), like.shape).astype(like.dtype) if terms else jnp.zeros_like(like)


# --- what the dispatcher calls


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _evaluated(definition: Definition, names: tuple[str, ...], dtype: DType, *operands: jax.Array) -> _Arrays:
    """The named outputs for each element, in the dtype of the result."""
    return tuple(part.astype(dtype) for part in _parts(definition, names, *operands))


def evaluate(
    definition: Definition, names: tuple[str, ...], operands: Sequence[ArrayLike], options: Options
) -> jax.Array | _Arrays:
    """The named outputs for each element: an array, or a tuple of them."""
    dtype, args = _prepared(definition, _in_dtype(options, operands))
    _shape(definition.operands, args)
    outputs = _evaluated(definition, names, dtype, *args)
    return outputs[0] if len(names) == 1 else outputs


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _weighted(
    definition: Definition, names: tuple[str, ...], dtype: DType, args: _Arrays, weights: jax.Array
) -> _Arrays:
    """The outputs for each element, weighted."""
    outputs = _parts(definition, names, *_totals.masked(definition, args, weights))
    return tuple(jnp.where(weights == 0, 0.0, part * weights).astype(dtype) for part in outputs)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def _summed(
    definition: Definition,
    wrt: tuple[str, ...],
    mean: bool,
    dtype: DType,
    args: _Arrays,
    weights: jax.Array | None,
) -> _Arrays:
    """The sum or mean and the gradients of it."""
    tail = _calls.tail_of(definition, args)
    if tail is None:
        sums = _composed(definition, wrt, mean, args, weights)
    else:
        sums = _sums(definition, wrt, mean, tail, args, weights)
    return tuple(part.astype(dtype) for part in sums)


def _composed(
    definition: Definition,
    wrt: tuple[str, ...],
    mean: bool,
    operands: Sequence[jax.Array],
    weights: jax.Array | None,
) -> _Arrays:
    """Sums of XLA's over the outputs for each element; differentiable in everything."""
    outputs = _parts(definition, arguments.outputs(wrt), *_totals.masked(definition, operands, weights))
    return _totals.total(definition, outputs, wrt, mean, operands, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _sums(
    definition: Definition,
    wrt: tuple[str, ...],
    mean: bool,
    tail: tuple[int, ...],
    operands: _Arrays,
    weights: jax.Array | None,
) -> _Arrays:
    """Sums in one pass.  Differentiated, the value comes with its gradients; only those in data are as large."""
    return tuple(_calls.sums(definition, wrt, mean, tail, operands, weights))


def _sums_jvp(
    definition: Definition,
    wrt: tuple[str, ...],
    mean: bool,
    tail: tuple[int, ...],
    args: _Weighted,
    tangents: _Weighted,
) -> tuple[_Arrays, _Arrays]:
    """The rule of `_sums`, whose value comes from one pass with the gradients that its tangent takes.

    Tangents of gradients and along weights are those of XLA's sums, since the pass gives no derivatives for them.
    """
    given, along = (*args[0], args[1]), (*tangents[0], tangents[1])  # the operands, and weights or None
    wanted = [t is not None and not _private.is_zero(t) for t in along]
    if wrt or wanted[-1]:
        places = [i for i, w in enumerate(wanted) if w]  # a tangent of zeros would be computed with

        def composed(*chosen: jax.Array) -> _Arrays:
            *operands, weights = (dict(enumerate(given)) | dict(zip(places, chosen, strict=True))).values()
            return _composed(definition, wrt, mean, operands, weights)

        chosen, tangents_of = ([values[i] for i in places] for values in (given, along))
        return _sums(definition, wrt, mean, tail, *args), jax.jvp(composed, chosen, tangents_of)[1]
    names = tuple(name for name, w in zip(definition.operands, wanted, strict=False) if w)
    value, *slopes = _sums(definition, names, mean, tail, *args)
    terms = [(s * t).sum() for s, t in zip(slopes, (t for t, w in zip(along, wanted, strict=True) if w), strict=True)]
    return (value,), (sum(terms[1:], terms[0]).astype(value.dtype),)


_sums.defjvp(_sums_jvp, symbolic_zeros=True)


def _weights(names: Sequence[str], weights: ArrayLike, args: Sequence[jax.Array], relative: bool = False) -> jax.Array:
    """The weights as an array of the computing type that broadcasts to the shape of the result.

    Doubles become floats; times a power of two before, so that they are in reach, where only their ratios matter.
    """
    shape = _shape(names, args)
    weights = array("weights", weights)
    if relative and weights.dtype == np.float64 != args[0].dtype:
        weights = _totals.lifted(weights, weights.shape, np.float64)
    weights = weights.astype(args[0].dtype)
    try:
        fits = jnp.broadcast_shapes(weights.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result")
    return weights


def weighted(
    definition: Definition,
    names: tuple[str, ...],
    operands: Sequence[ArrayLike],
    weights: ArrayLike,
    options: Options,
) -> jax.Array | _Arrays:
    """`evaluate`, each output multiplied by the weights; a weight of 0 excludes an element, whatever its value."""
    dtype, args = _prepared(definition, _in_dtype(options, operands))
    outputs = _weighted(definition, names, dtype, tuple(args), _weights(definition.operands, weights, args))
    return outputs[0] if len(names) == 1 else outputs


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Sequence[ArrayLike],
    reduction: str,
    weights: ArrayLike | None,
    out: tuple[object, ...] | None,
) -> tuple[jax.Array | None, ...]:
    """Sum or weighted mean, derivatives in data for each element, the other gradients in their parameters' shapes."""
    if out is not None and any(entry is not None for entry in out):
        raise TypeError("out: not taken for arrays of JAX, which cannot be written to")
    dtype, args = _prepared(definition, operands)
    _shape(definition.operands, args)
    weights = None if weights is None else _weights(definition.operands, weights, args, reduction == "mean")
    sums = _summed(definition, wrt, reduction == "mean", dtype, tuple(args), weights)
    by_name = dict(zip(arguments.outputs(wrt), sums, strict=True))
    return tuple(by_name.get(name) for name in ("value", *definition.gradients))
