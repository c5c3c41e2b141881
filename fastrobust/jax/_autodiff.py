"""The functions on arrays of JAX: arguments, and the rules of differentiation.

One rule, `jax.custom_jvp` around the kernels' outputs: their derivatives are again outputs, or follow from them by
`kernels.losses.higher`, so that every order is right, forward and in reverse.  A value that is differentiated comes
from the same pass as its derivatives.  The module is what `_dispatch` finds: `evaluate`, `weighted`, `partition`,
`reduce`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _arguments as arguments
from .._meaning import check_plain
from .._types import LossGrad
from ..kernels.losses import higher
from ..kernels.losses.signatures import LOSS, PARTITION
from . import _calls, _private

xp = jnp  # the library's functions
_WRT, _FIRST = LOSS.operands, LOSS.gradients


# --- arguments


def array(name: str, value: Any) -> Any:
    """As an array of JAX that has a kernel."""
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


def _prepared(family: str, **values: Any) -> tuple[Any, list[Any]]:
    """Dtype of the result, and the arguments as arrays of the computing type.  Python numbers take that of the rest."""
    arguments.check_numbers(values.get("alpha", 1.0), values.get("scale", 1.0), family)
    leading = next(iter(values))
    arrays: dict[str, Any] = {
        n: v if n != leading and isinstance(v, arguments.NUMBERS) else array(n, v) for n, v in values.items()
    }
    found = [a for n, a in arrays.items() if not isinstance(a, arguments.NUMBERS) and a.dtype.kind not in "biu"]
    x = arrays[leading]
    if x.dtype.kind in "biu":
        found.append(x.astype(float))  # float64 where there is that
    dtype = np.dtype(jnp.result_type(*found))
    compute = arguments.compute_type(dtype)
    return dtype, [
        jnp.full((), arguments.number(a), compute) if isinstance(a, arguments.NUMBERS) else a.astype(compute)
        for a in arrays.values()
    ]


def _options(options: dict[str, Any], x: Any) -> Any:
    """x, in the dtype that is wanted; refuses what a ufunc takes and arrays that cannot be written to do not."""
    if unknown := options.keys() - {"dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for arrays of JAX, only dtype is")
    return x if options.get("dtype") is None else jnp.asarray(x).astype(arguments.requested(options["dtype"]))


def _shape(args: Sequence[Any], names: Sequence[str] = _WRT) -> tuple[int, ...]:
    """The common shape, some of whose lengths may be symbols, or an error that names the arguments."""
    try:
        return tuple(jnp.broadcast_shapes(*(a.shape for a in args)))
    except ValueError:
        return arguments.broadcast(**dict(zip(names, args, strict=True)))


# --- derivatives


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _parts(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any) -> tuple[Any, ...]:
    """The named outputs, differentiable, of arrays of one computing type."""
    return tuple(_calls.evaluate(family, names, x, alpha, scale))


def _parts_jvp(family: str, names: tuple[str, ...], args: Any, tangents: Any) -> tuple[Any, Any]:
    wanted = [not _private.is_zero(t) for t in tangents]
    more = tuple(n for n, w in zip(_FIRST, wanted, strict=True) if w and "value" in names and n not in names)
    found = dict(zip(names + more, _parts(family, names + more, *args), strict=True))
    slopes = [_slopes(family, name, args, found, wanted) for name in names]
    return tuple(found[n] for n in names), tuple(
        _product(found[name], row, tangents) for name, row in zip(names, slopes, strict=True)
    )


_parts.defjvp(_parts_jvp, symbolic_zeros=True)


def _slopes(family: str, name: str, args: Any, have: dict[str, Any], wanted: Sequence[bool]) -> list[Any]:
    """Derivatives of one output in x, alpha and scale, those wanted; ``have`` are outputs at hand."""

    def get(*names: str) -> list[Any]:
        missing = tuple(n for n in names if n not in have)
        if missing:
            have.update(zip(missing, _parts(family, missing, *args), strict=True))
        return [have[n] for n in names]

    if name == "value":
        found = iter(get(*(n for n, w in zip(_FIRST, wanted, strict=True) if w)))
        return [next(found) if w else None for w in wanted]

    def twice() -> Any:
        if not wanted[1]:
            return None
        bend = _dalpha_twice(*args)
        return bend + _log_z(("d2alpha",), args[1])[0] if family == "nll" else bend

    rows = higher.slopes(jnp, name, family, args, get, twice)
    return [row if w else None for row, w in zip(rows, wanted, strict=True)]


@jax.jit
def _dalpha_twice(x: Any, alpha: Any, scale: Any) -> Any:
    def fold(step: Any, total: Any, rows: Any) -> Any:
        columns = tuple(jnp.asarray(column, total.dtype) for column in zip(*rows, strict=True))
        start = total + 0 * alpha * scale  # of the whole shape, and cut like the result
        return jax.lax.scan(lambda total, row: (step(total, *row), None), start, columns)[0]

    return higher.dalpha_twice(jnp, x, alpha, scale, fold)


def _product(like: Any, slopes: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The tangent of an output."""
    terms = [slope * t for slope, t in zip(slopes, tangents, strict=True) if slope is not None]
    return jnp.broadcast_to(sum(terms[1:], terms[0]), like.shape).astype(like.dtype) if terms else jnp.zeros_like(like)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_z(names: tuple[str, ...], alpha: Any) -> tuple[Any, ...]:
    """log Z and its derivatives, those named."""
    return tuple(_calls.evaluate("partition", names, alpha))


@_log_z.defjvp
def _(names: tuple[str, ...], args: Any, tangents: Any) -> tuple[Any, Any]:
    order = PARTITION
    if "d2alpha" in names:
        raise NotImplementedError("a third derivative of log Z in alpha was asked for: two are available")
    following = [order[order.index(n) + 1] for n in names]
    everything = tuple(dict.fromkeys((*names, *following)))
    found = dict(zip(everything, _log_z(everything, *args), strict=True))
    return tuple(found[n] for n in names), tuple(found[n] * tangents[0] for n in following)


# --- what the dispatcher calls


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _evaluated(family: str, names: tuple[str, ...], dtype: Any, x: Any, alpha: Any, scale: Any) -> tuple[Any, ...]:
    return tuple(part.astype(dtype) for part in _parts(family, names, x, alpha, scale))


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them."""
    dtype, args = _prepared(family, x=_options(options, x), alpha=alpha, scale=scale)
    _shape(args)
    results = _evaluated(family, names, dtype, *args)
    return results[0] if len(names) == 1 else results


@functools.partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _weighted(family: str, names: tuple[str, ...], dtype: Any, args: Any, weights: Any) -> Any:
    """The outputs for each element, weighted."""
    found = _parts(family, names, *_calls.masked(weights, *args))
    return tuple(jnp.where(weights == 0, 0.0, part * weights).astype(dtype) for part in found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), inline=True)
def _summed(family: str, wrt: tuple[str, ...], mean: bool, dtype: Any, args: Any, weights: Any) -> tuple[Any, ...]:
    """The sum or mean and the gradients of it."""
    x, alpha, scale = args
    tail = _calls.tail_of(*(a.shape for a in args))
    if tail is None:
        found: Any = _composed(family, wrt, mean, x, alpha, scale, weights)
    else:
        found = _sums(family, wrt, mean, tail, x, alpha, scale, weights)
    return tuple(part.astype(dtype) for part in found)


def _composed(family: str, wrt: tuple[str, ...], mean: bool, x: Any, alpha: Any, scale: Any, weights: Any) -> Any:
    """Sums of XLA's over the outputs for each element; differentiable in everything."""
    found = _parts(family, arguments.outputs(wrt), *_calls.masked(weights, x, alpha, scale))
    return _calls.total(found, wrt, mean, alpha, scale, weights)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2, 3))
def _sums(
    family: str, wrt: tuple[str, ...], mean: bool, tail: tuple[int, ...], x: Any, alpha: Any, scale: Any, weights: Any
) -> tuple[Any, ...]:
    """The same in one pass.  Differentiated, the value comes with its gradients; only d/dx is as large as x."""
    return tuple(_calls.sums(family, wrt, mean, tail, x, alpha, scale, weights))


def _sums_jvp(
    family: str, wrt: tuple[str, ...], mean: bool, tail: tuple[int, ...], args: Any, tangents: Any
) -> tuple[Any, Any]:
    wanted = [t is not None and not _private.is_zero(t) for t in tangents]
    if wrt or wanted[3]:
        places = [i for i, w in enumerate(wanted) if w]  # a tangent of zeros would be computed with

        def composed(*chosen: Any) -> Any:
            values = dict(enumerate(args)) | dict(zip(places, chosen, strict=True))
            return _composed(family, wrt, mean, values[0], values[1], values[2], values[3])

        chosen, along = ([values[i] for i in places] for values in (args, tangents))
        return _sums(family, wrt, mean, tail, *args), jax.jvp(composed, chosen, along)[1]
    names = tuple(name for name, w in zip(_WRT, wanted, strict=False) if w)
    value, *slopes = _sums(family, names, mean, tail, *args)
    terms = [
        (s * t).sum() for s, t in zip(slopes, (t for t, w in zip(tangents, wanted, strict=True) if w), strict=True)
    ]
    return (value,), (sum(terms[1:], terms[0]).astype(value.dtype),)


_sums.defjvp(_sums_jvp, symbolic_zeros=True)


def _weights(weights: Any, args: Sequence[Any], relative: bool = False) -> Any:
    """The weights as an array of the computing type that broadcasts to the shape of the result.

    Doubles become floats; times a power of two before, so that they are in reach, where only their ratios matter.
    """
    shape = _shape(args)
    weights = array("weights", weights)
    if relative and weights.dtype == np.float64 != args[0].dtype:
        weights = _calls.lifted(weights, weights.shape, np.float64)
    weights = weights.astype(args[0].dtype)
    try:
        fits = jnp.broadcast_shapes(weights.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result")
    return weights


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights; a weight of 0 excludes an element, whatever its value."""
    dtype, args = _prepared(family, x=_options(options, x), alpha=alpha, scale=scale)
    results = _weighted(family, names, dtype, tuple(args), _weights(weights, args))
    return results[0] if len(names) == 1 else results


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    if out is not None and any(entry is not None for entry in out):
        raise TypeError("out: not taken for arrays of JAX, which cannot be written to")
    dtype, args = _prepared(family, x=x, alpha=alpha, scale=scale)
    _shape(args)
    weights = None if weights is None else _weights(weights, args, reduction == "mean")
    found = _summed(family, wrt, reduction == "mean", dtype, tuple(args), weights)
    results = dict(zip(arguments.outputs(wrt), found, strict=True))
    return LossGrad(*(results.get(name) for name in LossGrad._fields))


def partition(names: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    dtype, (alpha,) = _prepared("loss", alpha=_options(options, alpha))
    results = tuple(part.astype(dtype) for part in _log_z(names, alpha))
    return results[0] if len(names) == 1 else results
