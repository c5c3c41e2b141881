"""One result for each element: the ufuncs called on arrays of whatever kind, with their options and with weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ... import _arguments as arguments
from ..._types import ArrayLike, DType, NDArray, Options
from ...kernels.loops.panels import PARALLEL
from ...kernels.losses.definition import Definition
from .operands import Operands, Outputs, by_position, numbers, one_shape, overlap, prepared, unchecked
from .pieces import call, run
from .ufuncs import layout, ufunc_for
from .weights import broadcast, weigh

__all__ = ["evaluate", "weighted"]


def evaluate(definition: Definition, names: tuple[str, ...], operands: Operands, options: Options) -> Outputs:
    """The named outputs for each element: an array, or a tuple of them; ``options`` are those of a ufunc call.

    Small plain arrays, and numbers, go straight to the ufunc.  Others are prepared, and then go piece by piece through
    `run`, unless options or classes of their own ask for what only NumPy can do.
    """
    if unchecked(definition, operands) and (x := operands[0]).size < PARALLEL:
        if not options:
            return ufunc_for(definition, names, x.dtype.type, "shared")(*operands)
        if into := _simple(options, x, len(names)):
            return ufunc_for(definition, names, x.dtype.type, "shared")(*operands, *into)
    elif not options and numbers(definition, operands):
        return ufunc_for(definition, names, np.float64, "shared")(*operands)
    elif not options and one_shape(operands) and (x := operands[0]).size < PARALLEL:
        return ufunc_for(definition, names, x.dtype.type, layout(operands[len(definition.data) :]))(*operands)
    dtype, arrays = prepared(definition, operands, options.get("dtype"))
    plain = all(type(a) is np.ndarray or isinstance(a, np.generic) for a in arrays)
    shape = None
    if plain or by_position(arrays):
        shape = arguments.broadcast(definition.operands, arrays)  # before compiling a kernel
    kind = layout(arrays[len(definition.data) :])
    ufunc = ufunc_for(definition, names, arguments.compute_type(dtype), kind)
    given = None if shape is None else arguments.given(options.get("out"), names, dict.fromkeys(names, shape))
    if given is None or not plain or options.keys() - {"out"}:
        return _by_numpy(ufunc, dtype, arrays, options)
    outs = [np.empty_like(arrays[0], dtype, shape=shape) if o is None else o for o in given]
    if any(overlap(o, a) for o in given for a in arrays):
        # NumPy makes the copies that are needed for the whole; threads on parts of it could not.
        call(ufunc, arrays, outs)
    else:
        run(ufunc, definition, arrays, outs)
    results = tuple(o[()] if g is None else o for o, g in zip(outs, given, strict=True))
    return results[0] if len(results) == 1 else results


def weighted(
    definition: Definition, names: tuple[str, ...], operands: Operands, weights: ArrayLike, options: Options
) -> Outputs:
    """`evaluate` on plain arrays, each output multiplied by the weights and then rounded."""
    if unknown := options.keys() - {"out"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken together with weights; multiply the result yourself")
    dtype, arrays = prepared(definition, operands)
    shape = arguments.broadcast(definition.operands, arrays)
    compute = arguments.compute_type(dtype)
    given = arguments.given(options.get("out"), names, dict.fromkeys(names, shape))
    weights = broadcast(weights, shape, compute)
    compute = np.float64 if weights.dtype == np.float64 else compute
    if any(o is not None and np.may_share_memory(o, weights) for o in given):
        weights = weights.copy()
    results: list[NDArray] = [np.empty_like(arrays[0], compute, shape=shape) for _ in names]
    run(ufunc_for(definition, names, compute, layout(arrays[len(definition.data) :])), definition, arrays, results)
    with np.errstate(all="ignore"):
        for i, (result, out) in enumerate(zip(results, given, strict=True)):
            weigh(result, weights)
            if out is None:
                results[i] = result.astype(dtype, copy=False)[()]
            else:
                np.copyto(out, result, casting="same_kind")
                results[i] = out
    return results[0] if len(results) == 1 else tuple(results)


def _simple(options: Options, x: NDArray, count: int) -> tuple[NDArray, ...]:
    """The arrays for so many results, if the options are no more than those and all are as x is; else none."""
    out = options.get("out")
    outs = out if type(out) is tuple else (out,)
    for entry in outs:
        if type(entry) is not np.ndarray or entry.shape != x.shape or entry.dtype != x.dtype:
            return ()
    return outs if len(outs) == count and len(options) == 1 else ()


def _by_numpy(ufunc: np.ufunc, dtype: DType, arrays: Sequence[NDArray], options: Options) -> Outputs:
    """The ufunc where NumPy knows what to do: where=, order=, subclasses, other libraries' __array_ufunc__."""
    compute = arguments.compute_type(dtype)
    if "dtype" in options:
        options = {**options, "dtype": compute}
    with np.errstate(over="ignore", under="ignore"):
        result = ufunc(*arrays, **options)
        if dtype == compute or options.get("out") is not None:
            return result
        return tuple(r.astype(dtype) for r in result) if isinstance(result, tuple) else result.astype(dtype)
