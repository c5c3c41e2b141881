"""NumPy arrays: ufuncs over the CPU kernels, threads for large arrays, reductions in one pass.

A ufunc is made from the kernels' machine code by NumPy's own C function; one for each dtype, so that only what is used
gets compiled.  Shapes, dtypes and memory are handled here; the arithmetic is not.
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._types import LossGrad

PARALLEL = 1 << 16  # elements from which on threads pay for their start (about 30 us)
PANEL = 1 << 16  # elements of a reduction that are summed in one go; fixed, so that sums do not depend on the threads
TILE = 1024  # shorter rows of parameters are repeated up to about this many elements
PANELS_MAX, SUMS_MAX = 64, 1 << 22  # panels of a reduction by columns, and the doubles they may take together

GRADIENTS = {"x": "dx", "alpha": "dalpha", "scale": "dscale"}
_HALF = ("float16", "bfloat16")

# --- ufuncs


@functools.cache
def _ufunc(inputs: int, kind: str, name: str, outputs: tuple[str, ...], dtype: type[np.floating[Any]]) -> np.ufunc:
    """The ufunc over one kernel.  Kernels are built here, at the first call."""
    from ..kernels import native

    what = (name, outputs, dtype) if kind == "elementwise" else (outputs, dtype)
    address = native.kernel(kind, *what)
    capsule = ctypes.pythonapi.PyCapsule_GetPointer
    capsule.restype, capsule.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(capsule(np._core._multiarray_umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    # PyUFunc_FromFuncAndData(functions, data, types, ntypes, nin, nout, identity, name, doc, unused), entry 1 of the API.
    create = ctypes.PYFUNCTYPE(ctypes.py_object, *[ctypes.c_void_p] * 3, *[ctypes.c_int] * 4, *[ctypes.c_char_p] * 2, ctypes.c_int)(table[1])
    count = inputs + len(outputs)
    functions, data = (ctypes.c_void_p * 1)(address), (ctypes.c_void_p * 1)()
    types = ctypes.create_string_buffer(bytes([np.dtype(dtype).num] * count))
    label = ctypes.create_string_buffer(name.encode())
    doc = ctypes.create_string_buffer(b"See the fastrobust function of that name.")
    made = create(
        ctypes.addressof(functions), ctypes.addressof(data), ctypes.addressof(types),
        1, inputs, len(outputs), -1, ctypes.cast(label, ctypes.c_char_p), ctypes.cast(doc, ctypes.c_char_p), 0,
    )  # fmt: skip
    _borrowed.append((functions, data, types, label, doc))
    return made  # type: ignore[no-any-return]


_borrowed: list[Any] = []  # a ufunc points into these for ever


# --- dtypes and arguments


_NUMBERS = (float, int)


def _result_dtype(arrays: dict[str, Any], leading: str = "x") -> np.dtype[Any]:
    """Dtype of the result.  Floating-point arguments are promoted; integers are float64 in x and give way elsewhere."""
    found = []
    for name, array in arrays.items():
        dtype = array.dtype
        if dtype.kind in "biu":
            if name == leading:
                found.append(np.dtype(np.float64))
        elif dtype.char in "efd" or dtype.name in _HALF:
            found.append(dtype)
        else:
            raise TypeError(
                f"{name} has dtype {dtype}, which fastrobust does not take: convert it to float16, bfloat16, float32, "
                "float64 or an integer type with .astype()"
            )
    return np.result_type(*found)


def _compute_type(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """float32 computes for the two half precisions, which are rounded once at the end."""
    return np.float64 if dtype == np.float64 else np.float32


def _check_numbers(alpha: Any, scale: Any, family: str) -> None:
    """Refuse Python-number parameters that have no meaning; bad elements of arrays give NaN instead."""
    if isinstance(scale, _NUMBERS) and scale <= 0:
        raise ValueError(f"scale must be positive, got {scale!r}")
    if family == "nll" and isinstance(alpha, _NUMBERS) and alpha < 0:
        raise ValueError(
            f"alpha must be >= 0 in the likelihood, got {alpha!r}: below 0 the density is not normalizable; use loss"
        )


def _arguments(family: str, x: Any, alpha: Any, scale: Any) -> tuple[np.dtype[Any], Any, Any, Any]:
    """Dtype of the result, and the arguments as arrays that NumPy may cast to it."""
    _check_numbers(alpha, scale, family)
    arrays = {"x": x, "alpha": alpha, "scale": scale}
    numbers = {name for name, value in arrays.items() if name != "x" and isinstance(value, _NUMBERS)}
    arrays = {
        name: value if name in numbers or hasattr(value, "__array_ufunc__") else np.asarray(value)
        for name, value in arrays.items()
    }
    dtype = _result_dtype({name: value for name, value in arrays.items() if name not in numbers})
    compute = _compute_type(dtype)
    for name in ("alpha", "scale"):
        if name in numbers or arrays[name].dtype.kind in "biu":
            with np.errstate(over="ignore"):  # 1e39 is inf in float32, which alpha may be
                arrays[name] = np.asarray(arrays[name], compute)
    return dtype, arrays["x"], arrays["alpha"], arrays["scale"]


def _shape(*arrays: Any) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*(a.shape for a in arrays))
    except ValueError:
        names = ", ".join(f"{n} {a.shape}" for n, a in zip(("x", "alpha", "scale", "weights"), arrays, strict=False))
        raise ValueError(f"shapes do not broadcast: {names}. Compare them from the last axis: each pair must be equal or 1.") from None


# --- threads


@functools.cache
def _pool() -> tuple[concurrent.futures.ThreadPoolExecutor, int]:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return concurrent.futures.ThreadPoolExecutor(count, "fastrobust"), count


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has the pool, but not its threads


def _in_threads(work: Callable[[int, int], None], count: int, grain: int) -> None:
    """work(start, stop) over range(count), in as many equal parts as there are cores; a multiple of grain each."""
    pool, threads = _pool()
    step = -(-count // (threads * grain)) * grain
    if threads == 1 or step >= count:
        work(0, count)
    else:
        parts = [pool.submit(work, start, min(start + step, count)) for start in range(step, count, step)]
        try:
            work(0, step)
        finally:
            concurrent.futures.wait(parts)
        for part in parts:
            part.result()


# --- one result for each element


def _columns(x: Any, alpha: Any, scale: Any) -> int:
    """Length of the trailing block of x along which the parameters vary; they repeat over the axes before it."""
    varying = [x.ndim - a.ndim + min((i for i, n in enumerate(a.shape) if n > 1), default=a.ndim) for a in (alpha, scale)]
    return math.prod(x.shape[min(varying) :])


def _run(ufunc: np.ufunc, x: Any, alpha: Any, scale: Any, outs: Sequence[Any]) -> None:
    """Fill outs, all of the broadcast shape, on all cores if that pays."""
    shape = outs[0].shape
    flat = all(a.flags.c_contiguous for a in (x, *outs)) and x.shape == shape
    arrays = [x, alpha, scale]
    if flat:
        period = _columns(x, alpha, scale)
        if period == 1 or alpha.shape == shape == scale.shape and alpha.flags.c_contiguous and scale.flags.c_contiguous:
            arrays = [a.reshape(-1) for a in arrays]
            outs = [o.reshape(-1) for o in outs]
        elif period < TILE // 2 and x.size > TILE:
            # Short rows would be all loop overhead: repeat the parameters to a tile that stays in the first-level cache.
            tail = shape[x.ndim - _axes(x, period) :]
            repeat = TILE // period
            tiles = [_tile(a, tail, repeat) for a in (alpha, scale)]
            width = period * repeat
            whole = x.size - x.size % width
            flats = [x.reshape(-1), *(o.reshape(-1) for o in outs)]
            if whole < x.size:
                rest = [t if t.size == 1 else t[: x.size - whole] for t in tiles]
                ufunc(flats[0][whole:], *(t.reshape(-1) for t in rest), out=tuple(o[whole:] for o in flats[1:]), casting="same_kind")
            arrays = [flats[0][:whole].reshape(-1, width), *tiles]
            outs = [o[:whole].reshape(-1, width) for o in flats[1:]]
    shape = outs[0].shape
    if math.prod(shape) < PARALLEL:
        ufunc(*arrays, out=tuple(outs), casting="same_kind")
        return
    axis = int(np.argmax(shape))
    views = [np.moveaxis(np.broadcast_to(a, shape), axis, 0) for a in arrays]
    targets = [np.moveaxis(o, axis, 0) for o in outs]

    def part(start: int, stop: int) -> None:
        ufunc(*(v[start:stop] for v in views), out=tuple(o[start:stop] for o in targets), casting="same_kind")

    _in_threads(part, shape[axis], 256 if len(shape) == 1 else 1)


def _axes(x: Any, period: int) -> int:
    """How many trailing axes of x make up the period."""
    count, size = 0, 1
    while size < period:
        count += 1
        size *= x.shape[-count]
    return count


def _tile(parameter: Any, tail: tuple[int, ...], repeat: int) -> Any:
    """A parameter over the trailing block of that shape, flat and repeated; a single number stays one."""
    if parameter.size == 1:
        return parameter
    inner = parameter.reshape(parameter.shape[max(0, parameter.ndim - len(tail)) :])  # leading axes have length 1
    return np.tile(np.broadcast_to(inner, tail).reshape(-1), repeat)


def evaluate(family: str, outputs: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them; ``options`` are those of a ufunc call."""
    if type(x) is np.ndarray and x.dtype.char in "fd" and x.size < PARALLEL and type(alpha) in _NUMBERS and type(scale) in _NUMBERS:
        _check_numbers(alpha, scale, family)
        return _ufunc(3, "elementwise", family, outputs, x.dtype.type)(x, alpha, scale, **options)
    dtype, x, alpha, scale = _arguments(family, x, alpha, scale)
    if "dtype" in options:
        dtype = np.dtype(options["dtype"])
        options = {"casting": "same_kind", **{k: v for k, v in options.items() if k != "dtype"}}
    ufunc = _ufunc(3, "elementwise", family, outputs, _compute_type(dtype))
    if options.keys() - {"out"} or not all(type(a) is np.ndarray or isinstance(a, np.generic) for a in (x, alpha, scale)):
        # where=, order=, subclasses, other libraries' __array_ufunc__: NumPy knows.
        result = ufunc(x, alpha, scale, **options)
        if dtype == _compute_type(dtype) or "out" in options:
            return result
        return tuple(r.astype(dtype) for r in result) if isinstance(result, tuple) else result.astype(dtype)
    shape = _shape(x, alpha, scale)
    given = options.get("out") or (None,) * len(outputs)
    given = given if isinstance(given, tuple) else (given,)
    for out in given:
        if out is not None and (not isinstance(out, np.ndarray) or out.shape != shape):
            raise ValueError(f"out must be an array of shape {shape}, got {getattr(out, 'shape', out)!r}")
    outs = [np.empty_like(x, dtype, shape=shape) if out is None else out for out in given]
    if any(np.may_share_memory(o, a) for o in given if o is not None for a in (x, alpha, scale)):
        # NumPy makes the copies that are needed for the whole; threads on parts of it could not.
        ufunc(x, alpha, scale, out=tuple(outs), casting="same_kind")
    else:
        _run(ufunc, x, alpha, scale, outs)
    results = tuple(o[()] if given is None else o for o, given in zip(outs, given, strict=True))
    return results[0] if len(results) == 1 else results


def partition(outputs: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    _check_numbers(alpha, 1.0, "nll")
    alpha = alpha if hasattr(alpha, "__array_ufunc__") else np.asarray(alpha)
    dtype = _result_dtype({"alpha": alpha}, leading="alpha")
    result = _ufunc(1, "partition", "log_partition", outputs, _compute_type(dtype))(alpha, casting="same_kind", **options)
    if dtype == _compute_type(dtype) or "out" in options:
        return result
    return tuple(r.astype(dtype) for r in result) if isinstance(result, tuple) else result.astype(dtype)


# --- sums over all elements, with gradients in the shapes of the parameters


@functools.cache
def _panel(family: str, outputs: tuple[str, ...], dtype: type[np.floating[Any]], layout: str) -> Callable[..., None]:
    """The reduction kernel of that layout, callable with addresses; releases the GIL."""
    from ..kernels import native

    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(native.kernel("reduction", family, outputs, dtype, layout))


def _tree(sums: Any) -> Any:
    """Sum over the first axis in a fixed tree: the second half is added to the first, until one is left."""
    while len(sums) > 1:
        half = (len(sums) + 1) // 2
        sums[: len(sums) - half] += sums[half:]
        sums = sums[:half]
    return sums[0]


def _weigh(array: Any, weights: Any, factor: float) -> None:
    """array *= weights * factor; a weight of 0 excludes an element, whatever its value."""
    if weights is not None:
        array *= weights
        np.copyto(array, 0, where=weights == 0)
    if factor != 1.0:
        array *= array.dtype.type(factor)


def reduce(
    family: str,
    wrt: tuple[str, ...],
    x: Any,
    alpha: Any,
    scale: Any,
    reduction: str,
    weights: Any,
    out: Sequence[Any] | None,
) -> LossGrad:
    """Sum or weighted mean of the loss, with dx for each element and the other gradients in their parameters' shapes."""
    dtype, x, alpha, scale = _arguments(family, x, alpha, scale)
    compute = _compute_type(dtype)
    x, alpha, scale = (np.asarray(a, compute) for a in (x, alpha, scale))
    shape = _shape(x, alpha, scale)
    if weights is not None:
        weights = np.asarray(weights)
        _shape(x, alpha, scale, weights)
        weights = np.ascontiguousarray(np.broadcast_to(weights.astype(compute, copy=False), shape))
    total = math.prod(shape) if weights is None else float(weights.sum(dtype=np.float64))
    factor = 1.0 if reduction == "sum" else math.nan if total == 0 else 1.0 / total
    given = dict(zip(LossGrad._fields, out or (None,) * 4, strict=True))
    dx = given["dx"]
    direct = isinstance(dx, np.ndarray) and dx.dtype == compute and dx.shape == shape and dx.flags.c_contiguous
    if "x" in wrt and (not direct or np.may_share_memory(dx, x)):
        dx = np.empty(shape, compute)

    sums = _sums(family, wrt, np.ascontiguousarray(np.broadcast_to(x, shape)), alpha, scale, weights, dx, factor)
    results: dict[str, Any] = {"value": sums[0] * factor, "dx": dx if "x" in wrt else None}
    for name, array, gradient in (("alpha", alpha, sums[1]), ("scale", scale, sums[2])):
        results["d" + name] = (gradient * factor).reshape(array.shape) if name in wrt else None
    for name, result in results.items():
        if result is not None:
            result = np.asarray(result).astype(dtype, copy=False)
            if given[name] is None:
                result = result[()]
            elif result is not given[name]:
                np.copyto(given[name], result, casting="same_kind")
                result = given[name]
            results[name] = result
    return LossGrad(**results)


def _sums(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, dx: Any, factor: float
) -> tuple[Any, Any, Any]:
    """Sums in float64 of the value, and of d/dalpha and d/dscale by parameter; dx is filled in."""
    outputs = ("value", *(GRADIENTS[name] for name in wrt))
    size, period = x.size, _columns(x, alpha, scale)
    if size == 0:
        return np.float64(0), np.zeros(alpha.size), np.zeros(scale.size)
    if period == size and size > 1:
        return _sums_each(family, outputs, x, alpha, scale, weights, dx, factor)
    kernel = _panel(family, outputs, x.dtype.type, "shared" if period == 1 else "columns")
    item, start = x.itemsize, x.ctypes.data
    weights_at = 0 if weights is None else weights.ctypes.data
    dx_at = dx.ctypes.data if "dx" in outputs else 0
    if period == 1:
        width, slots, per_panel, tiles = PANEL, 3, 1, [alpha, scale]
        rows = size // width
    else:
        tail = x.shape[x.ndim - _axes(x, period) :]
        repeat = max(1, TILE // period)
        tiles = [_tile(a, tail, repeat) for a in (alpha, scale)]
        width = period * repeat
        slots, rows = 1 + 2 * width, size // width
        panels = min(PANELS_MAX, max(2, SUMS_MAX // slots))
        per_panel = max(1, PANEL // width, -(-rows // panels))
    # Panels of whole rows, then what is left of the last row.
    whole = -(-rows // per_panel)
    rest = size - rows * width
    sums = np.zeros((whole + (rest > 0), slots))
    at = ctypes.c_double(factor) if item == 8 else ctypes.c_float(factor)
    steps = (ctypes.c_ssize_t * 5)(width * item, *(item if t.size > 1 else 0 for t in tiles), width * item, width * item)

    def part(first: int, last: int) -> None:
        for panel in range(first, last):
            begin = panel * per_panel * width if panel < whole else rows * width
            dims = (ctypes.c_ssize_t * 2)(min(per_panel, rows - panel * per_panel), width)
            if panel == whole:
                dims = (ctypes.c_ssize_t * 2)(1, rest)
            offset = begin * item
            addresses = (ctypes.c_ssize_t * 7)(
                start + offset,
                *(t.ctypes.data for t in tiles),
                weights_at and weights_at + offset,
                dx_at and dx_at + offset,
                ctypes.addressof(at),
                sums[panel].ctypes.data,
            )
            kernel(addresses, dims, steps, None)

    if size < PARALLEL:
        part(0, len(sums))
    else:
        _in_threads(part, len(sums), 1)
    if period == 1:
        return tuple(_tree(sums))
    # The last row's sums have `rest` columns each, not `width`.
    if rest:
        last = sums[-1]
        moved = np.zeros((1, slots))
        moved[0, 0] = last[0]
        moved[0, 1 : 1 + rest], moved[0, 1 + width : 1 + width + rest] = last[1 : 1 + rest], last[1 + rest : 1 + 2 * rest]
        sums[-1] = moved
    total = _tree(sums)
    gradients = []
    for array, columns in ((alpha, total[1 : 1 + width]), (scale, total[1 + width :])):
        folded = columns.reshape(repeat, period).sum(axis=0)
        gradients.append(_unbroadcast(folded.reshape(tail), array.shape))
    return total[0], gradients[0], gradients[1]


def _unbroadcast(gradient: Any, shape: tuple[int, ...]) -> Any:
    """Sum over the axes along which a parameter of that shape was broadcast."""
    lead = gradient.ndim - len(shape)
    while lead < 0:  # leading axes of length 1
        shape, lead = shape[1:], lead + 1
    axes = tuple(i for i in range(gradient.ndim) if i < lead or shape[i - lead] == 1 != gradient.shape[i])
    return gradient.sum(axis=axes, dtype=np.float64) if axes else gradient


def _sums_each(
    family: str, outputs: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, dx: Any, factor: float
) -> tuple[Any, Any, Any]:
    """The same where a parameter varies along the first axis: gradients for each element, then summed as needed."""
    arrays = {name: dx if name == "dx" else np.empty(x.shape, x.dtype) for name in outputs}
    ufunc = _ufunc(3, "elementwise", family, outputs, x.dtype.type)
    _run(ufunc, x, alpha, scale, list(arrays.values()))
    for name, array in arrays.items():
        _weigh(array, weights, factor if name == "dx" else 1.0)
    empty = np.zeros(())
    return (
        arrays["value"].sum(dtype=np.float64),
        _unbroadcast(arrays["dalpha"], alpha.shape) if "dalpha" in arrays else empty,
        _unbroadcast(arrays["dscale"], scale.shape) if "dscale" in arrays else empty,
    )


def weighted(
    family: str, outputs: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights."""
    weights = np.asarray(weights)
    if np.broadcast_shapes(shape := _shape(*map(np.asarray, (x, alpha, scale))), weights.shape) != shape:
        raise ValueError(f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result")
    results = evaluate(family, outputs, x, alpha, scale, options)
    results = tuple(np.asarray(r) for r in (results if isinstance(results, tuple) else (results,)))
    for result in results:
        _weigh(result, weights.astype(result.dtype, copy=False), 1.0)
    return results if len(results) > 1 else results[0]
