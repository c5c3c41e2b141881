"""One result for each element: the ufuncs called on arrays of whatever kind, with their options and with weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _arguments as arguments
from ...kernels.loops.panels import PARALLEL
from .operands import array, by_position, number, overlap, prepared, unchecked
from .pieces import call, run
from .ufuncs import layout, ufunc_for
from .weights import broadcast, weigh

__all__ = ["evaluate", "partition", "weighted"]


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them; ``options`` are those of a ufunc call."""
    if unchecked(family, x, alpha, scale) and x.size < PARALLEL and (not options or _simple(options, x)):
        return ufunc_for(family, names, x.dtype.type, "shared")(x, alpha, scale, **options)
    dtype, x, alpha, scale = prepared(family, x, alpha, scale, options.get("dtype"))
    if by_position((x, alpha, scale)):
        arguments.broadcast(x=x, alpha=alpha, scale=scale)  # before a kernel is compiled
    ufunc = ufunc_for(family, names, arguments.compute_type(dtype), layout(alpha, scale))
    return _apply(ufunc, names, dtype, {"x": x, "alpha": alpha, "scale": scale}, options)


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate` on plain arrays, each output multiplied by the weights and then rounded."""
    if unknown := options.keys() - {"out"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken together with weights; multiply the result yourself")
    dtype, x, alpha, scale = prepared(family, x, alpha, scale)
    shape = arguments.broadcast(x=x, alpha=alpha, scale=scale)
    compute: Any = arguments.compute_type(dtype)
    given = arguments.given(options.get("out"), names, dict.fromkeys(names, shape))
    weights = broadcast(weights, shape, compute)
    compute = np.float64 if weights.dtype == np.float64 else compute
    if any(o is not None and np.may_share_memory(o, weights) for o in given):
        weights = weights.copy()
    results = [np.empty_like(x, compute, shape=shape) for _ in names]
    run(ufunc_for(family, names, compute, layout(alpha, scale)), [x, alpha, scale], results)
    for i, (result, out) in enumerate(zip(results, given, strict=True)):
        weigh(result, weights)
        with np.errstate(over="ignore", under="ignore"):
            if out is None:
                results[i] = result.astype(dtype, copy=False)[()]
            else:
                np.copyto(out, result, casting="same_kind")
                results[i] = out
    return results[0] if len(results) == 1 else tuple(results)


def partition(names: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    arguments.check_numbers(alpha, 1.0, "nll")
    alpha = number(alpha, np.float64)[()] if type(alpha) is int else array("alpha", alpha)
    dtype = arguments.result_dtype({"alpha": alpha}, "alpha")
    if options.get("dtype") is not None:
        dtype = arguments.requested(options["dtype"])
    ufunc = ufunc_for("log_partition", names, arguments.compute_type(dtype), "each")
    return _apply(ufunc, names, dtype, {"alpha": alpha}, options)


def _simple(options: dict[str, Any], x: Any) -> bool:
    """Whether the options are no more than out, in arrays of x's shape."""
    out = options.get("out")
    for one in out if type(out) is tuple else (out,):
        if type(one) is not np.ndarray or one.shape != x.shape or one.dtype != x.dtype:
            return False
    return len(options) == 1


def _apply(ufunc: np.ufunc, names: tuple[str, ...], dtype: Any, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    """The ufunc on arrays of whatever kind: a result, or a tuple of them."""
    if options.keys() - {"out"} or not all(type(a) is np.ndarray or isinstance(a, np.generic) for a in arrays.values()):
        # where=, order=, subclasses, other libraries' __array_ufunc__: NumPy knows.
        if by_position(arrays.values()):
            arguments.given(options.get("out"), names, dict.fromkeys(names, arguments.broadcast(**arrays)))
        compute = arguments.compute_type(dtype)
        if "dtype" in options:
            options = {**options, "dtype": compute}
        with np.errstate(over="ignore", under="ignore"):
            result = ufunc(*arrays.values(), **options)
            if dtype == compute or options.get("out") is not None:
                return result
            return tuple(r.astype(dtype) for r in result) if isinstance(result, tuple) else result.astype(dtype)
    shape = arguments.broadcast(**arrays)
    given = arguments.given(options.get("out"), names, dict.fromkeys(names, shape))
    like = next(iter(arrays.values()))
    outs = [np.empty_like(like, dtype, shape=shape) if o is None else o for o in given]
    if any(overlap(o, a) for o in given for a in arrays.values()):
        # NumPy makes the copies that are needed for the whole; threads on parts of it could not.
        call(ufunc, list(arrays.values()), outs)
    else:
        run(ufunc, list(arrays.values()), outs)
    results = tuple(o[()] if g is None else o for o, g in zip(outs, given, strict=True))
    return results[0] if len(results) == 1 else results
