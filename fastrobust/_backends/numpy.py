"""NumPy arrays: ufuncs over the CPU kernels, threads for large arrays, reductions in one pass.

A ufunc is made from the kernels' machine code by NumPy's own C function; one for each dtype, so that only what is used
gets compiled.  Shapes, dtypes and memory are handled here; the arithmetic is not.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import _arguments as arguments
from .._threads import in_threads
from .._types import LossGrad
from ..kernels.arithmetic import scaling
from ..kernels.compilers.alone import alone

xp = np  # the library's functions
PARALLEL = 1 << 17  # elements from which on threads pay for their start (about 50 us)
PIECE = 1 << 23  # elements that a thread takes at most at a time, so that Ctrl-C is heeded soon
PANEL = 1 << 16  # elements of a reduction that are summed in one go; fixed, so that sums do not depend on the threads
TILE = 1024  # shorter rows of parameters are repeated up to about this many elements
PANELS_MAX, SUMS_MAX = 64, 1 << 22  # panels of a reduction by columns, and the doubles they may take together

_LARGEST = float(np.finfo(np.float32).max)

# --- ufuncs


@functools.cache
def ufunc_for(name: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> np.ufunc:
    """The ufunc over one kernel, of (x, alpha, scale) or of alpha alone.  Kernels are built here, at the first call."""
    return alone(lambda: _ufunc(name, outputs, dtype, layout))


def _ufunc(name: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> np.ufunc:
    from numpy._core._multiarray_umath import _UFUNC_API

    from ..kernels.loops import compiled

    if name == "log_partition":
        inputs, address = 1, compiled.kernel("partition", outputs, dtype)
    else:
        inputs, address = 3, compiled.kernel("elementwise", name, outputs, dtype, layout)
    capsule = ctypes.pythonapi.PyCapsule_GetPointer
    capsule.restype, capsule.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(capsule(_UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    # Entry 1: PyUFunc_FromFuncAndData(functions, data, types, ntypes, nin, nout, identity, name, doc, unused).
    create = ctypes.PYFUNCTYPE(
        ctypes.py_object, *[ctypes.c_void_p] * 3, *[ctypes.c_int] * 4, *[ctypes.c_char_p] * 2, ctypes.c_int
    )(table[1])
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


def _layout(alpha: Any, scale: Any) -> str:
    """The kernels' layout for these parameters."""
    return "shared" if getattr(alpha, "size", 1) == 1 == getattr(scale, "size", 1) else "each"


# --- dtypes and arguments


def array(name: str, value: Any) -> Any:
    """The value as something that NumPy computes with: itself, or an array of it."""
    if hasattr(value, "__array_ufunc__"):
        return np.asarray(value) if isinstance(value, np.memmap) else value
    try:
        return np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{name}: NumPy makes no array of this {type(value).__name__} ({error})") from None


def _number(value: float, dtype: Any) -> Any:
    """A Python number as 0-d array; what the dtype cannot hold is infinite, which alpha may be."""
    with np.errstate(over="ignore"):
        try:
            return np.asarray(float(value), dtype)
        except OverflowError:
            return np.asarray(math.inf if value > 0 else -math.inf, dtype)


def _arguments(family: str, x: Any, alpha: Any, scale: Any, dtype: Any = None) -> tuple[np.dtype[Any], Any, Any, Any]:
    """Dtype of the result, unless given, and the arguments as arrays that NumPy may cast to it.

    Python numbers, among which NumPy counts its float64 scalars, and integer parameters take the dtype of the rest.
    """
    plain = {type(x), type(alpha), type(scale)} == {np.ndarray} and x.dtype is alpha.dtype is scale.dtype
    if plain and dtype is None and x.dtype.char in "fd" and x.dtype.isnative:
        return x.dtype, x, alpha, scale  # nothing to look at
    arguments.check_numbers(alpha, scale, family)
    arrays = {"x": array("x", x)}
    weak = {}
    for name, value in (("alpha", alpha), ("scale", scale)):
        if isinstance(value, arguments.NUMBERS):
            weak[name] = value
        else:
            arrays[name] = array(name, value)
    found = arguments.result_dtype(arrays, "x")
    dtype = found if dtype is None else arguments.requested(dtype)
    compute = arguments.compute_type(dtype)
    for name in ("alpha", "scale"):
        if name in weak:
            arrays[name] = _number(weak[name], compute)
        elif arrays[name].dtype.kind in "biu":
            arrays[name] = arrays[name].astype(compute)
    return dtype, arrays["x"], arrays["alpha"], arrays["scale"]


def _by_position(arrays: Iterable[Any]) -> bool:
    """Whether all broadcast by the position of their axes; xarray's do by the names of these, pandas's by an index."""
    return all(hasattr(a, "shape") and not (hasattr(a, "dims") or hasattr(a, "index")) for a in arrays)


def _overlap(out: Any, array: Any) -> bool:
    """Whether writing to out spoils array; element by element in place does not."""
    if out is None or array is None or not np.may_share_memory(out, array):
        return False
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return not (same and out.ctypes.data == array.ctypes.data)


# --- one result for each element


def _columns(x: Any, alpha: Any, scale: Any) -> int:
    """How many trailing axes of x hold all that the parameters vary along; they repeat over the axes before."""
    first = [x.ndim - a.ndim + min((i for i, n in enumerate(a.shape) if n > 1), default=a.ndim) for a in (alpha, scale)]
    return int(x.ndim - min(first))


def _tile(parameter: Any, tail: tuple[int, ...], repeat: int) -> Any:
    """A parameter over the trailing block of that shape, flat and repeated; a single number stays one."""
    if parameter.size == 1:
        return parameter.reshape(1)
    inner = parameter.reshape(parameter.shape[max(0, parameter.ndim - len(tail)) :])  # leading axes have length 1
    tile = np.empty((repeat, *tail), parameter.dtype)
    tile[...] = inner
    return tile.reshape(-1)


def _run(ufunc: np.ufunc, arrays: Sequence[Any], outs: Sequence[Any]) -> None:
    """Fill outs, all of the broadcast shape, on all cores if that pays."""
    x, *parameters = arrays
    shape = outs[0].shape
    if x.shape == shape and all(a.flags.c_contiguous for a in (x, *outs)):
        period = math.prod(shape[x.ndim - _columns(x, *parameters) :]) if parameters else 1
        flat = [o.reshape(-1) for o in outs]
        if period == 1 or all(a.shape == shape and a.flags.c_contiguous for a in parameters):
            arrays, outs = [a.reshape(-1) for a in arrays], flat
        elif period < TILE // 2 and x.size > TILE:
            # Short rows would be all loop overhead: repeat the parameters to a tile that the first-level cache holds.
            tiles = [_tile(a, shape[x.ndim - _columns(x, *parameters) :], TILE // period) for a in parameters]
            width = TILE // period * period
            whole = x.size - x.size % width
            rest = [a[: x.size - whole] for a in (x.reshape(-1)[whole:], *tiles)]
            _call(ufunc, rest, [o[whole:] for o in flat])
            arrays = [x.reshape(-1)[:whole].reshape(-1, width), *tiles]
            outs = [o[:whole].reshape(-1, width) for o in flat]
    shape = outs[0].shape
    if math.prod(shape) < PARALLEL:
        _call(ufunc, arrays, outs)
        return
    axis = int(np.argmax(shape))
    views = [np.moveaxis(np.broadcast_to(a, shape), axis, 0) for a in arrays]
    targets = [np.moveaxis(o, axis, 0) for o in outs]

    def part(start: int, stop: int) -> None:
        _call(ufunc, [v[start:stop] for v in views], [o[start:stop] for o in targets])

    in_threads(part, shape[axis], 256 if len(shape) == 1 else 1, PIECE * shape[axis] // math.prod(shape))


def _call(ufunc: np.ufunc, arrays: Sequence[Any], outs: Sequence[Any]) -> None:
    """The ufunc into outs.  A result too large for the type of an output is inf, without a warning."""
    if all(o.dtype.char == ufunc.types[0][-1] for o in outs):
        ufunc(*arrays, out=tuple(outs), casting="same_kind")
    else:
        with np.errstate(over="ignore", under="ignore"):
            ufunc(*arrays, out=tuple(outs), casting="same_kind")


def _apply(ufunc: np.ufunc, names: tuple[str, ...], dtype: Any, arrays: dict[str, Any], options: dict[str, Any]) -> Any:
    """The ufunc on arrays of whatever kind: a result, or a tuple of them."""
    if options.keys() - {"out"} or not all(type(a) is np.ndarray or isinstance(a, np.generic) for a in arrays.values()):
        # where=, order=, subclasses, other libraries' __array_ufunc__: NumPy knows.
        if _by_position(arrays.values()):
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
    if any(_overlap(o, a) for o in given for a in arrays.values()):
        # NumPy makes the copies that are needed for the whole; threads on parts of it could not.
        _call(ufunc, list(arrays.values()), outs)
    else:
        _run(ufunc, list(arrays.values()), outs)
    results = tuple(o[()] if g is None else o for o, g in zip(outs, given, strict=True))
    return results[0] if len(results) == 1 else results


def in_range(family: str, alpha: float, scale: float) -> bool:
    """Whether these numbers need no attention: neither a message nor a rounding to infinity."""
    return -_LARGEST <= alpha <= _LARGEST and 0 < scale <= _LARGEST and (alpha >= 0 or family != "nll")


def _fast(family: str, x: Any, alpha: Any, scale: Any) -> bool:
    """Whether x is a plain array with a kernel and the parameters are numbers that need no attention."""
    return (
        type(x) is np.ndarray
        and x.dtype.char in "fd"
        and x.dtype.isnative
        and (type(alpha) in arguments.NUMBERS or type(alpha) is x.dtype.type)
        and (type(scale) in arguments.NUMBERS or type(scale) is x.dtype.type)
        and in_range(family, alpha, scale)
    )


def _simple(options: dict[str, Any], x: Any) -> bool:
    """Whether the options are no more than out, in arrays of x's shape."""
    out = options.get("out")
    for array in out if type(out) is tuple else (out,):
        if type(array) is not np.ndarray or array.shape != x.shape or array.dtype != x.dtype:
            return False
    return len(options) == 1


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them; ``options`` are those of a ufunc call."""
    if _fast(family, x, alpha, scale) and x.size < PARALLEL and (not options or _simple(options, x)):
        return ufunc_for(family, names, x.dtype.type, "shared")(x, alpha, scale, **options)
    dtype, x, alpha, scale = _arguments(family, x, alpha, scale, options.get("dtype"))
    if _by_position((x, alpha, scale)):
        arguments.broadcast(x=x, alpha=alpha, scale=scale)  # before a kernel is compiled
    ufunc = ufunc_for(family, names, arguments.compute_type(dtype), _layout(alpha, scale))
    return _apply(ufunc, names, dtype, {"x": x, "alpha": alpha, "scale": scale}, options)


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate` on plain arrays, each output multiplied by the weights and then rounded."""
    if unknown := options.keys() - {"out"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken together with weights; multiply the result yourself")
    dtype, x, alpha, scale = _arguments(family, x, alpha, scale)
    shape = arguments.broadcast(x=x, alpha=alpha, scale=scale)
    compute: Any = arguments.compute_type(dtype)
    given = arguments.given(options.get("out"), names, dict.fromkeys(names, shape))
    weights = _weights(weights, shape, compute)
    compute = np.float64 if weights.dtype == np.float64 else compute
    if any(o is not None and np.may_share_memory(o, weights) for o in given):
        weights = weights.copy()
    results = [np.empty_like(x, compute, shape=shape) for _ in names]
    _run(ufunc_for(family, names, compute, _layout(alpha, scale)), [x, alpha, scale], results)
    for i, (result, out) in enumerate(zip(results, given, strict=True)):
        _weigh(result, weights)
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
    alpha = _number(alpha, np.float64)[()] if type(alpha) is int else array("alpha", alpha)
    dtype = arguments.result_dtype({"alpha": alpha}, "alpha")
    if options.get("dtype") is not None:
        dtype = arguments.requested(options["dtype"])
    ufunc = ufunc_for("log_partition", names, arguments.compute_type(dtype), "each")
    return _apply(ufunc, names, dtype, {"alpha": alpha}, options)


# --- sums over all elements, with gradients in the shapes of the parameters


@functools.cache
def _panel(family: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> Callable[..., None]:
    """The reduction kernel of that layout, callable with addresses; releases the GIL."""
    return alone(lambda: _reduction(family, outputs, dtype, layout))


def _reduction(family: str, outputs: tuple[str, ...], dtype: Any, layout: str) -> Callable[..., None]:
    from ..kernels.loops import compiled

    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(compiled.kernel("reduction", family, outputs, dtype, layout))


def _each_panel(part: Callable[[int, int], None], panels: int, size: int) -> None:
    """part(first, last) over all panels, on all cores if there are elements enough."""
    if size < PARALLEL:
        part(0, panels)
    else:
        in_threads(part, panels, 1, PIECE * panels // size)


def _tree(sums: Any) -> Any:
    """Sum over the first axis in a fixed tree: the second half is added to the first, until one is left."""
    while len(sums) > 1:
        half = (len(sums) + 1) // 2
        sums[: len(sums) - half] += sums[half:]
        sums = sums[:half]
    return sums[0]


def _weights(weights: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The weights, broadcast to that shape, as array of that dtype; as they are if that has not the range."""
    weights = np.asarray(array("weights", weights))
    arguments.supported("weights", weights.dtype)
    with contextlib.suppress(FloatingPointError), np.errstate(over="raise", under="raise"):
        weights = weights.astype(dtype, copy=False)
    try:
        return np.broadcast_to(weights, shape)
    except ValueError:
        raise ValueError(
            f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result"
        ) from None


def _weigh(array: Any, weights: Any, lift: float = 1.0, factor: float = 1.0) -> None:
    """array *= weights * lift * factor; a weight of 0 excludes an element, whatever its value."""
    with np.errstate(all="ignore"):
        if weights is not None:
            array *= weights if lift == 1.0 else weights * array.dtype.type(lift)
            np.copyto(array, 0, where=weights == 0)
        if factor != 1.0:
            array *= array.dtype.type(factor)


class _Factors(NamedTuple):
    """What a reduction multiplies by: see `kernels.arithmetic.scaling`."""

    dx: float  # each derivative in x, besides its weight
    lift: float  # the weights
    step: float  # what is summed
    last: float  # its sum


def _factors(reduction: str, size: int, weights: Any, double: bool) -> tuple[_Factors, Any]:
    """Also the weights, which are multiplied here if all are subnormal: no power of two lifts these in one step."""
    step = scaling.step(size, double)
    if reduction == "sum":
        return _Factors(1.0, 1.0, step, 1.0 / step), weights
    lift, total = 1.0, float(size)
    if weights is not None:
        total = float(weights.sum(dtype=np.float64))
        about = np.finfo(weights.dtype)
        if 0 < abs(total) < about.tiny and abs(weights).max() < about.tiny:
            weights = weights * about.dtype.type(2.0**about.nmant)
            total = float(weights.sum(dtype=np.float64))
        apart = float((weights * scaling.APART).sum()) if double and math.isinf(total) else total
        lift, total = scaling.lifted(total, apart, double)
    factor = math.nan if total == 0 else 1.0 / total
    return _Factors(factor, lift, step, factor / step), weights


def _only_dx(out: Any, x: Any) -> bool:
    """Whether out is nothing, or no more than memory for dx as it should be."""
    if out is None:
        return True
    dx = out[1]
    return (
        out[0] is out[2] is out[3] is None
        and type(dx) is np.ndarray
        and dx.dtype == x.dtype
        and dx.shape == x.shape
        and dx.flags.carray
        and (dx is x or not np.may_share_memory(dx, x))
    )


def _reduce_small(
    family: str, wrt: tuple[str, ...], x: Any, alpha: float, scale: float, reduction: str, out: Any
) -> LossGrad:
    """`reduce` of up to one panel with numbers as parameters: the same bits for a third of the overhead."""
    T, size, item = x.dtype.type, x.size, x.itemsize
    C = ctypes.c_float if T is np.float32 else ctypes.c_double
    kernel = _panel(family, arguments.outputs(wrt), T, "shared")
    dx = None if "x" not in wrt else np.empty(x.shape, T) if out is None else out[1]
    factors, _ = _factors(reduction, size, None, T is np.float64)
    numbers, sums = (C * 5)(alpha, scale, factors.dx, 1.0, factors.step), (ctypes.c_double * 3)()
    base, dx_at = ctypes.addressof(numbers), 0 if dx is None else _address(dx)
    addresses = (ctypes.c_ssize_t * 7)(
        _address(x), base, base + item, 0, dx_at, base + 2 * item, ctypes.addressof(sums)
    )
    kernel(addresses, (ctypes.c_ssize_t * 2)(1, size), (ctypes.c_ssize_t * 5)(), None)
    value, dalpha, dscale = (T(C(v * factors.last).value) for v in sums)  # C overflows to infinity without a warning
    dx = dx[()] if out is None and dx is not None else dx  # a scalar if it has no axes
    return LossGrad(value, dx, dalpha if "alpha" in wrt else None, dscale if "scale" in wrt else None)


def _address(array: Any) -> int:
    """Of a contiguous array; ``array.ctypes.data`` takes four times as long."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array)) if array.flags.writeable else int(array.ctypes.data)


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    plain = weights is None and _fast(family, x, alpha, scale)
    if plain and 0 < x.size <= PANEL and x.flags.c_contiguous and _only_dx(out, x):
        return _reduce_small(family, wrt, x, alpha, scale, reduction, out)
    return _reduce(family, wrt, x, alpha, scale, reduction, weights, out)


@np.errstate(all="ignore")  # elements tell of overflow and NaN, not warnings
def _reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """`reduce` in general."""
    dtype, x, alpha, scale = _arguments(family, x, alpha, scale)
    compute = arguments.compute_type(dtype)
    shape = arguments.broadcast(x=x, alpha=alpha, scale=scale)
    if weights is not None:
        weights = np.ascontiguousarray(_weights(weights, shape, compute))
        compute = np.float64 if weights.dtype == np.float64 else compute
    x, alpha, scale = (np.asarray(a, compute) for a in (x, alpha, scale))
    shapes = {"value": (), "dx": shape, "dalpha": alpha.shape, "dscale": scale.shape}
    given = dict(zip(shapes, arguments.given(out, tuple(shapes), shapes), strict=True))
    factors, weights = _factors(reduction, math.prod(shape), weights, compute is np.float64)
    x = np.ascontiguousarray(x if x.shape == shape else np.broadcast_to(x, shape))
    dx = None
    if "x" in wrt:
        dx = given["dx"]
        usable = dx is not None and dx.dtype == compute and dx.flags.c_contiguous
        spoils = any(_overlap(dx, a) for a in (x, alpha, scale)) or (
            weights is not None and np.may_share_memory(dx, weights)
        )
        if not usable or spoils:
            dx = np.empty(shape, compute)

    value, dalpha, dscale = _sums(family, wrt, x, alpha, scale, weights, dx, factors)
    results = {"value": np.asarray(value), "dx": dx}
    results["dalpha"] = np.reshape(dalpha, alpha.shape) if "alpha" in wrt else None
    results["dscale"] = np.reshape(dscale, scale.shape) if "scale" in wrt else None
    for name, result in results.items():
        if result is not None and given[name] is None:
            results[name] = result.astype(dtype, copy=False)[()]
        elif result is not None:
            if result is not given[name]:
                np.copyto(given[name], result, casting="same_kind")
            results[name] = given[name]
    return LossGrad(**results)


def _sums(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, dx: Any, factors: _Factors
) -> tuple[Any, Any, Any]:
    """Sums of the value, and of d/dalpha and d/dscale by parameter; dx is filled in."""
    outputs = arguments.outputs(wrt)
    tail = x.shape[x.ndim - _columns(x, alpha, scale) :]
    size, period = x.size, math.prod(tail)
    if size == 0:
        return np.float64(0) * factors.dx, np.zeros(alpha.size) * factors.dx, np.zeros(scale.size) * factors.dx
    if period == size and size > 1:
        return _sums_each(family, outputs, x, alpha, scale, weights, dx, factors)
    kernel = _panel(family, outputs, x.dtype.type, "shared" if period == 1 else "columns")
    item, start = x.itemsize, x.ctypes.data
    weights_at = 0 if weights is None else weights.ctypes.data
    dx_at = dx.ctypes.data if "dx" in outputs else 0
    if period == 1:
        width, slots, per_panel, tiles = PANEL, 3, 1, [alpha, scale]
        rows = size // width
    else:
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
    at = ((ctypes.c_double if item == 8 else ctypes.c_float) * 3)(factors.dx, factors.lift, factors.step)
    steps = (ctypes.c_ssize_t * 5)(
        width * item, *(item if t.size > 1 else 0 for t in tiles), width * item, width * item
    )

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

    _each_panel(part, len(sums), size)
    if period == 1:
        return tuple(_tree(sums) * factors.last)
    # The last row's sums have `rest` columns each, not `width`.
    if rest:
        last = sums[-1]
        moved = np.zeros((1, slots))
        moved[0, 0] = last[0]
        moved[0, 1 : 1 + rest], moved[0, 1 + width : 1 + width + rest] = (
            last[1 : 1 + rest],
            last[1 + rest : 1 + 2 * rest],
        )
        sums[-1] = moved
    total = _tree(sums)
    gradients = []
    for array, columns in ((alpha, total[1 : 1 + width]), (scale, total[1 + width :])):
        folded = columns.reshape(repeat, period).sum(axis=0)
        gradients.append(arguments.unbroadcast(folded.reshape(tail), array.shape))
    return tuple(part * factors.last for part in (total[0], *gradients))


def _sums_each(
    family: str, outputs: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, dx: Any, factors: _Factors
) -> tuple[Any, Any, Any]:
    """The same where a parameter varies along the first axis."""
    ufunc = ufunc_for(family, outputs, x.dtype.type, "each")
    parameters = {"dalpha": alpha, "dscale": scale}
    stored = {
        name: np.empty(x.shape, x.dtype) for name, a in parameters.items() if name in outputs and a.size == x.size
    }
    if "dx" in outputs:
        stored["dx"] = dx
    if any(1 < a.size < x.size for a in parameters.values()):
        # Neither one number nor one for each element: gradients for each element, then sums over the other axes.
        arrays = {name: stored[name] if name in stored else np.empty(x.shape, x.dtype) for name in outputs}
        _run(ufunc, [x, alpha, scale], list(arrays.values()))
        for name, array in arrays.items():
            _weigh(array, weights, factors.lift, factors.dx if name in stored else factors.step)
        found = {"value": arrays["value"].sum(dtype=np.float64) * factors.last} | stored
        for name in arrays.keys() & parameters.keys() - stored.keys():
            found[name] = arguments.unbroadcast(arrays[name], parameters[name].shape) * factors.last
        return found["value"], found.get("dalpha"), found.get("dscale")
    # Panel by panel, so that weights, factor and sums find their operands in the cache.
    flat = [a.reshape(-1) for a in (x, alpha, scale)]
    flat_weights = None if weights is None else weights.reshape(-1)
    places = {name: array.reshape(-1) for name, array in stored.items()}
    summed = [name for name in outputs if name not in places]
    sums = np.zeros((-(-x.size // PANEL), len(summed)))

    def part(first: int, last: int) -> None:
        buffers = {name: np.empty(min(PANEL, x.size), x.dtype) for name in summed}
        with np.errstate(all="ignore"):
            for panel in range(first, last):
                cut = slice(panel * PANEL, min((panel + 1) * PANEL, x.size))
                outs = {n: places[n][cut] if n in places else buffers[n][: cut.stop - cut.start] for n in outputs}
                _call(ufunc, [a if a.size == 1 else a[cut] for a in flat], list(outs.values()))
                for name, array in outs.items():
                    own = None if flat_weights is None else flat_weights[cut]
                    _weigh(array, own, factors.lift, factors.dx if name in places else factors.step)
                sums[panel] = [outs[name].sum(dtype=np.float64) for name in summed]

    _each_panel(part, len(sums), x.size)
    found = dict(zip(summed, _tree(sums) * factors.last, strict=True)) | stored
    return found["value"], found.get("dalpha"), found.get("dscale")
