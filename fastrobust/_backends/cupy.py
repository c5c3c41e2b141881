"""CuPy arrays, and other CUDA arrays by way of them: the CUDA kernels on the current stream of the arrays' device.

Nothing here waits for the GPU; CuPy does for memory that names a stream in its `__cuda_array_interface__`.  Memory
comes from CuPy's pool; what a call needs besides its results is given back to it when the call returns, which is right
on one stream.  Read where they are: x of the result's dtype with any strides
that come down to four axes, parameters of the computing type likewise.  Anything else is copied once: x of another
dtype, parameters of another dtype, more axes, weights that are not contiguous.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import cupy
import numpy as np

from .. import _arguments as arguments
from .._types import LossGrad
from ..kernels.arithmetic import scaling
from ..kernels.loops import compiled, launch

xp = cupy  # the library's functions

# --- the device


@functools.cache
def _device(number: int) -> tuple[int, dict[tuple[Any, ...], Any]]:
    """Its multiprocessors, and the kernels that were loaded there."""
    runtime = cupy.cuda.runtime
    return runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, number), {}


_captured: list[Any] = []


@contextlib.contextmanager
def _on(number: int) -> Iterator[None]:
    """The device.  Memory of a call that is captured in a graph is kept: every replay writes to it again."""
    with cupy.cuda.Device(number):
        if not cupy.cuda.get_current_stream().is_capturing():
            yield
            return
        allocate = cupy.cuda.get_allocator()

        def keep(size: int) -> Any:
            _captured.append(allocate(size))
            return _captured[-1]

        with cupy.cuda.using_allocator(keep):
            yield


def _start(number: int, loaded: dict[tuple[Any, ...], Any], what: tuple[Any, ...], blocks: int, words: Any) -> None:
    """Launch a kernel on the current stream."""
    kernel = loaded.get(what)
    if kernel is None:
        module = cupy.cuda.function.Module()
        module.load(compiled.ptx(*what).encode())
        kernel = loaded[what] = module.get_function("kernel")
    kernel((blocks,), (launch.THREADS,), tuple(map(np.int64, words)))


class _Run:
    """What a call needs of the device; keeps its scratch memory."""

    def __init__(self, number: int) -> None:
        count, loaded = _device(number)
        self.kept: list[Any] = []
        self.device = launch.Device(count, functools.partial(_start, number, loaded), self._scratch)

    def _scratch(self, count: int) -> int:
        self.kept.append(cupy.empty(count, np.float64))
        return int(self.kept[-1].data.ptr)


# --- arguments


def _array(name: str, value: Any) -> Any:
    """A CuPy array: itself, or a view of other CUDA memory."""
    if isinstance(value, cupy.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return cupy.from_dlpack(value)
    if hasattr(value, "__cuda_array_interface__"):
        return cupy.asarray(value)
    raise TypeError(f"{name} is a {type(value).__name__}: make it a CuPy array with cupy.asarray()")


def _here(name: str, array: Any, leading: str, number: int) -> None:
    """Refuse an array on another GPU than that of the call."""
    if array.device.id != number:
        raise ValueError(
            f"{name} is on GPU {array.device.id} and {leading} on GPU {number}: move one, with cupy.asarray under "
            f"cupy.cuda.Device({number})"
        )


def _arguments(family: str, wanted: Any, **values: Any) -> tuple[np.dtype[Any], np.dtype[Any], dict[str, Any], int]:
    """Dtype of the result; that of the memory, wider if less is wanted; x in it, and the parameters; the device.

    Parameters are floats or in the computing type.
    """
    arguments.check_numbers(values.get("alpha", 1.0), values.get("scale", 1.0), family)
    leading = next(iter(values))
    found = {
        name: value if isinstance(value, arguments.NUMBERS) and name != leading else _array(name, value)
        for name, value in values.items()
    }
    arrays = {name: value for name, value in found.items() if isinstance(value, cupy.ndarray)}
    storage = arguments.result_dtype(arrays, leading)
    result = storage if wanted is None else arguments.requested(wanted)
    storage = np.promote_types(storage, result)
    compute = arguments.compute_type(storage)
    number = arrays[leading].device.id
    for name, array in arrays.items():
        _here(name, array, leading, number)
    with _on(number):
        for name, value in found.items():
            if isinstance(value, cupy.ndarray):
                found[name] = value.astype(storage if name == leading else compute, copy=False)
            else:
                found[name] = arguments.number(value)
    return result, storage, found, number


def _shape(found: dict[str, Any]) -> tuple[int, ...]:
    """The common shape of what are arrays."""
    return arguments.broadcast(**{name: value for name, value in found.items() if isinstance(value, cupy.ndarray)})


def _contiguous(array: Any) -> Any:
    """CuPy's own function gives an array without axes one."""
    return array if array.flags.c_contiguous else cupy.ascontiguousarray(array)


def _view(array: Any) -> launch.Array:
    return launch.Array(array.data.ptr, array.shape, tuple(s // array.itemsize for s in array.strides))


def _operands(run: _Run, found: dict[str, Any], shape: tuple[int, ...]) -> tuple[launch.Operands, list[Any]]:
    """x and the parameters as the kernels take them, and the arrays to keep meanwhile: copies, if of too many axes."""
    kept = [cupy.broadcast_to(found["x"], shape), found["alpha"], found["scale"]]
    seen = _seen(run, kept)
    if not seen.plannable:
        kept = [_contiguous(kept[0]), *(_like(p, shape) for p in kept[1:])]
        seen = _seen(run, kept)
    return seen, kept


def _seen(run: _Run, arrays: Sequence[Any]) -> launch.Operands:
    x, alpha, scale = (_view(a) if isinstance(a, cupy.ndarray) else a for a in arrays)
    return launch.operands(run.device, x, alpha, scale)


def _like(parameter: Any, shape: tuple[int, ...]) -> Any:
    many = isinstance(parameter, cupy.ndarray) and parameter.size > 1
    return _contiguous(cupy.broadcast_to(parameter, shape)) if many else parameter


def _given(
    out: Any, names: tuple[str, ...], shapes: dict[str, tuple[int, ...]], dtype: Any, number: int
) -> tuple[Any, ...]:
    """The entries of ``out``, checked."""
    given = arguments.given(out, names, shapes, cupy.ndarray)
    for name, array in zip(names, given, strict=True):
        if array is not None:
            _here(f"out for {name}", array, "x", number)
            if not np.can_cast(dtype, array.dtype, "same_kind"):
                raise TypeError(f"out of dtype {array.dtype} does not take {dtype}: pass a floating-point array")
    return given


def _results(
    out: Any,
    names: tuple[str, ...],
    shapes: dict[str, tuple[int, ...]],
    dtype: Any,
    inputs: Sequence[Any],
    number: int,
) -> tuple[tuple[Any, ...], list[Any]]:
    """The entries of ``out``, and for each name contiguous memory that the kernels may write."""
    given = _given(out, names, shapes, dtype, number)
    memory = []
    for name, array in zip(names, given, strict=True):
        usable = array is not None and array.dtype == dtype and array.flags.c_contiguous
        spoils = usable and any(_overlaps(array, other) for other in inputs)
        memory.append(array if usable and not spoils else cupy.empty(shapes[name], dtype))
    return given, memory


def _overlaps(out: Any, array: Any) -> bool:
    """Whether writing to out spoils array; element by element in place does not.

    By addresses: CuPy's own function takes views of other libraries' memory for memory of their own.
    """
    if not isinstance(array, cupy.ndarray):
        return False
    (first, last), (begin, end) = _bounds(out), _bounds(array)
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return first < end and begin < last and not (same and out.data.ptr == array.data.ptr)


def _bounds(array: Any) -> tuple[int, int]:
    """The addresses between which its elements lie."""
    if array.size == 0:
        return 0, 0
    ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    return array.data.ptr + low, array.data.ptr + high + array.itemsize


def _handed(given: Sequence[Any], memory: Sequence[Any]) -> list[Any]:
    """The results: what was given, filled, or the memory itself."""
    for array, result in zip(given, memory, strict=True):
        if array is not None and array is not result:
            array[...] = result
    return [result if array is None else array for array, result in zip(given, memory, strict=True)]


def _check_options(options: dict[str, Any]) -> None:
    if unknown := options.keys() - {"out", "dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for CuPy arrays, only out and dtype are")


# --- what the dispatcher calls


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them."""
    _check_options(options)
    result, storage, found, number = _arguments(family, options.get("dtype"), x=x, alpha=alpha, scale=scale)
    with _on(number):
        results = _evaluated(family, names, storage, found, options.get("out"), number)
        return _chosen(results, result, options)


def _chosen(results: list[Any], dtype: Any, options: dict[str, Any]) -> Any:
    """One array or a tuple of them; of that dtype, unless memory was given."""
    if options.get("out") is None:
        results = [result.astype(dtype, copy=False) for result in results]
    return results[0] if len(results) == 1 else tuple(results)


def _evaluated(
    family: str, names: tuple[str, ...], dtype: Any, found: dict[str, Any], out: Any, number: int
) -> list[Any]:
    shape = _shape(found)
    given, memory = _results(out, names, dict.fromkeys(names, shape), dtype, list(found.values()), number)
    run = _Run(number)
    seen, _kept = _operands(run, found, shape)
    launch.elementwise(run.device, family, names, dtype.name, seen, [m.data.ptr for m in memory])
    return _handed(given, memory)


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights and then rounded."""
    _check_options(options)
    result, storage, found, number = _arguments(family, options.get("dtype"), x=x, alpha=alpha, scale=scale)
    compute = np.dtype(arguments.compute_type(storage))
    with _on(number):
        shape = _shape(found)
        given = _given(options.get("out"), names, dict.fromkeys(names, shape), compute, number)
        weights = _weights(weights, shape, compute, number)
        found["x"] = found["x"].astype(compute, copy=False)
        results = _evaluated(family, names, compute, found, None, number)
        results = _handed(given, [_weighed(part, weights) for part in results])
        return _chosen(results, result, options)


def partition(names: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    _check_options(options)
    result, storage, found, number = _arguments("loss", options.get("dtype"), alpha=alpha)
    with _on(number):
        alpha = _contiguous(found["alpha"])
        shapes = dict.fromkeys(names, alpha.shape)
        given, memory = _results(options.get("out"), names, shapes, storage, [alpha], number)
        pointers = [m.data.ptr for m in memory]
        launch.partition(_Run(number).device, names, storage.name, alpha.size, alpha.data.ptr, pointers)
        return _chosen(_handed(given, memory), result, options)


def _weights(weights: Any, shape: tuple[int, ...], compute: Any, number: int, relative: bool = False) -> Any:
    """Contiguous, of the result's shape and the computing type; all times one power of two if only ratios matter."""
    if isinstance(weights, arguments.NUMBERS):
        return cupy.full(shape, weights, compute)
    weights = _array("weights", weights)
    _here("weights", weights, "x", number)
    arguments.supported("weights", weights.dtype)
    if relative and weights.dtype == np.float64 != compute and weights.size:
        exponent = cupy.clip(cupy.frexp(abs(weights).max())[1], -1000, 1000)  # the largest about 1, as floats are
        weights = weights * cupy.ldexp(cupy.ones((), np.float64), -exponent)
    try:
        return _contiguous(cupy.broadcast_to(weights.astype(compute, copy=False), shape))
    except ValueError:
        raise ValueError(
            f"weights of shape {weights.shape} do not broadcast to the shape {shape} of the result"
        ) from None


def _lifted(total: Any, compute: Any) -> tuple[Any, Any]:
    """The factor of the weights, and their sum after it, on the device: what `scaling.lifted` does."""
    over = cupy.isinf(total[0]) & cupy.isfinite(total[1])
    found = cupy.where(over, total[1], total[0])
    exponent = cupy.clip(cupy.frexp(found)[1], *scaling.EXPONENTS[compute == np.float64])
    lift = cupy.ldexp(cupy.ones((), np.float64), -exponent)
    return cupy.where(over, lift * scaling.APART, lift).astype(compute), found * lift


def _weighed(array: Any, weights: Any) -> Any:
    """array times weights; a weight of 0 excludes an element, whatever its value."""
    return array if weights is None else cupy.where(weights == 0, array.dtype.type(0), array * weights)


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    dtype, _, found, number = _arguments(family, None, x=x, alpha=alpha, scale=scale)
    with _on(number):
        return _reduced(family, wrt, dtype, found, reduction, weights, out, number)


def _reduced(
    family: str,
    wrt: tuple[str, ...],
    dtype: Any,
    found: dict[str, Any],
    reduction: str,
    weights: Any,
    out: Any,
    number: int,
) -> LossGrad:
    compute = np.dtype(arguments.compute_type(dtype))
    shape = _shape(found)
    size, names = math.prod(shape), arguments.outputs(wrt)
    shapes = {"value": (), "dx": shape, "dalpha": np.shape(found["alpha"]), "dscale": np.shape(found["scale"])}
    run = _Run(number)
    total = None
    if weights is not None:
        weights = _weights(weights, shape, compute, number, relative=reduction == "mean")
        if reduction == "mean":
            total = cupy.zeros(2, np.float64)
            launch.total(run.device, compute.name, size, weights.data.ptr, total.data.ptr)
    factor = 1.0 if reduction == "sum" or total is not None else math.nan if size == 0 else 1.0 / size
    chosen = tuple(n for n in shapes if n in names)
    given = dict(zip(shapes, arguments.given(out, tuple(shapes), shapes, cupy.ndarray), strict=True))
    inputs = [*found.values(), weights]
    _, memory = _results(tuple(given[n] for n in chosen), chosen, {n: shapes[n] for n in chosen}, dtype, inputs, number)
    results = dict(zip(chosen, memory, strict=True))
    seen, _kept = _operands(run, found, shape)
    if seen.reducible:
        launch.reduction(
            run.device, family, names, dtype.name, seen,
            0 if weights is None else weights.data.ptr, 0 if total is None else total.data.ptr, factor,
            results["dx"].data.ptr if "dx" in results else 0,
            {name: memory.data.ptr for name, memory in results.items() if name != "dx"},
        )  # fmt: skip
    else:
        # Parameters that vary otherwise: gradients for each element, then sums over the axes they are repeated along.
        found["x"] = found["x"].astype(compute, copy=False)
        each = dict(zip(names, _evaluated(family, names, compute, found, None, number), strict=True))
        common: Any = factor
        if total is not None:
            lift, total = _lifted(total, compute)
            weights = cupy.where(weights == 0, 0, weights * lift)
            common = cupy.where(total == 0, math.nan, 1.0 / total)
        step = scaling.step(size, compute == np.float64)
        parts = {}
        for name in results:  # all before any is written: memory given for one may be the weights
            part = _weighed(each[name], weights)
            if name == "dx":
                parts[name] = part * (compute.type(common) if total is None else common.astype(compute))
                continue
            own = 1.0 if part.shape == shapes[name] else step
            summed = arguments.unbroadcast(part * compute.type(own), shapes[name]).reshape(shapes[name])
            parts[name] = summed.astype(np.float64, copy=False) * (common / own)
        for name, result in results.items():
            result[...] = parts[name]
    handed = _handed([given[n] for n in chosen], [results[n] for n in chosen])
    return LossGrad(**(dict.fromkeys(shapes) | dict(zip(chosen, handed, strict=True))))
