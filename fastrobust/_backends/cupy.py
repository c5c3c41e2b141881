"""CuPy arrays, and other CUDA arrays by way of them: the CUDA kernels on the current stream of the arrays' device.

Nothing here waits for the GPU; CuPy does for memory that names a stream in its `__cuda_array_interface__`.  Memory
comes from CuPy's pool; what a call needs besides its results is given back to it when the call returns, which is right
on one stream.  Read where they are: data of the result's dtype with any strides that come down to four axes, parameters
of the computing type likewise.  Anything else is copied once: data of another dtype, parameters of another dtype, more
axes, weights that are not contiguous.
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
from ..kernels.arithmetic import scaling
from ..kernels.loops import compiled, launch
from ..kernels.losses.definition import Definition

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
    """The device.  Memory of a call that is captured in a graph is kept: every replay writes to it again.

    Not that of another library's allocator, as PyTorch's, which has memory for each graph and counts what lives in it.
    """
    with cupy.cuda.Device(number):
        if not cupy.cuda.get_current_stream().is_capturing():
            yield
            return
        allocate = cupy.cuda.get_allocator()
        if isinstance(getattr(allocate, "__self__", None), cupy.cuda.PythonFunctionAllocator):
            yield
            return

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


def _arguments(
    definition: Definition, wanted: Any, operands: Sequence[Any]
) -> tuple[np.dtype[Any], np.dtype[Any], dict[str, Any], int]:
    """Dtype of the result; that of the memory, wider if less is wanted; data in it, and the parameters; the device.

    Parameters are floats or in the computing type; so are data that are numbers, but for the first.
    """
    arguments.check_numbers(definition, operands)
    leading = definition.operands[0]
    found = {
        name: value if isinstance(value, arguments.NUMBERS) and name != leading else _array(name, value)
        for name, value in zip(definition.operands, operands, strict=True)
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
                found[name] = value.astype(storage if name in definition.data else compute, copy=False)
            else:
                plain = arguments.number(value)
                found[name] = cupy.full((), plain, storage) if name in definition.data else plain
    return result, storage, found, number


def _shape(found: dict[str, Any]) -> tuple[int, ...]:
    """The common shape of what are arrays."""
    arrays = {name: value for name, value in found.items() if isinstance(value, cupy.ndarray)}
    return arguments.broadcast(arrays, arrays.values())


def _contiguous(array: Any) -> Any:
    """CuPy's own function gives an array without axes one."""
    return array if array.flags.c_contiguous else cupy.ascontiguousarray(array)


def _view(array: Any) -> launch.Array:
    return launch.Array(array.data.ptr, array.shape, tuple(s // array.itemsize for s in array.strides))


def _operands(
    run: _Run, definition: Definition, found: dict[str, Any], shape: tuple[int, ...]
) -> tuple[launch.Operands, list[Any]]:
    """The operands as the kernels take them, and the arrays to keep meanwhile: copies, if of too many axes."""
    count = len(definition.data)
    values = list(found.values())
    kept = [*(cupy.broadcast_to(a, shape) for a in values[:count]), *values[count:]]
    seen = _seen(run, kept, count)
    if not seen.plannable:
        kept = [*map(_contiguous, kept[:count]), *(_like(p, shape) for p in kept[count:])]
        seen = _seen(run, kept, count)
    return seen, kept


def _seen(run: _Run, arrays: Sequence[Any], data: int) -> launch.Operands:
    views = [_view(a) if isinstance(a, cupy.ndarray) else a for a in arrays]
    return launch.operands(run.device, views[:data], views[data:])


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


def evaluate(definition: Definition, names: tuple[str, ...], operands: Sequence[Any], options: dict[str, Any]) -> Any:
    """The named outputs for each element: an array, or a tuple of them."""
    _check_options(options)
    result, storage, found, number = _arguments(definition, options.get("dtype"), operands)
    with _on(number):
        results = _evaluated(definition, names, storage, found, options.get("out"), number)
        return _chosen(results, result, options)


def _chosen(results: list[Any], dtype: Any, options: dict[str, Any]) -> Any:
    """One array or a tuple of them; of that dtype, unless memory was given."""
    if options.get("out") is None:
        results = [result.astype(dtype, copy=False) for result in results]
    return results[0] if len(results) == 1 else tuple(results)


def _evaluated(
    definition: Definition, names: tuple[str, ...], dtype: Any, found: dict[str, Any], out: Any, number: int
) -> list[Any]:
    shape = _shape(found)
    given, memory = _results(out, names, dict.fromkeys(names, shape), dtype, list(found.values()), number)
    run = _Run(number)
    seen, _kept = _operands(run, definition, found, shape)
    launch.elementwise(run.device, definition, names, dtype.name, seen, [m.data.ptr for m in memory])
    return _handed(given, memory)


def weighted(
    definition: Definition, names: tuple[str, ...], operands: Sequence[Any], weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights and then rounded."""
    _check_options(options)
    result, storage, found, number = _arguments(definition, options.get("dtype"), operands)
    compute = np.dtype(arguments.compute_type(storage))
    with _on(number):
        shape = _shape(found)
        given = _given(options.get("out"), names, dict.fromkeys(names, shape), compute, number)
        weights = _weights(weights, shape, compute, number)
        results = _evaluated(definition, names, compute, _widened(definition, found, compute), None, number)
        results = _handed(given, [_weighed(part, weights) for part in results])
        return _chosen(results, result, options)


def _widened(definition: Definition, found: dict[str, Any], compute: Any) -> dict[str, Any]:
    """The operands with data in the computing type."""
    return found | {name: found[name].astype(compute, copy=False) for name in definition.data}


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
    definition: Definition, wrt: tuple[str, ...], operands: Sequence[Any], reduction: str, weights: Any, out: Any
) -> tuple[Any, ...]:
    """Sum or weighted mean, derivatives in data for each element, the other gradients in their parameters' shapes."""
    dtype, _, found, number = _arguments(definition, None, operands)
    with _on(number):
        return _reduced(definition, wrt, dtype, found, reduction, weights, out, number)


def _reduced(
    definition: Definition,
    wrt: tuple[str, ...],
    dtype: Any,
    found: dict[str, Any],
    reduction: str,
    weights: Any,
    out: Any,
    number: int,
) -> tuple[Any, ...]:
    compute = np.dtype(arguments.compute_type(dtype))
    shape = _shape(found)
    size, names = math.prod(shape), arguments.outputs(wrt)
    slopes = {"d" + name for name in definition.data}
    shapes: dict[str, tuple[int, ...]] = {"value": ()}
    shapes |= {"d" + name: shape if name in definition.data else np.shape(value) for name, value in found.items()}
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
    seen, _kept = _operands(run, definition, found, shape)
    if seen.reducible:
        launch.reduction(
            run.device, definition, names, dtype.name, seen,
            0 if weights is None else weights.data.ptr, 0 if total is None else total.data.ptr, factor,
            {name: memory.data.ptr for name, memory in results.items()},
        )  # fmt: skip
    else:
        # Parameters that vary otherwise: gradients for each element, then sums over the axes they are repeated along.
        wide = _widened(definition, found, compute)
        each = dict(zip(names, _evaluated(definition, names, compute, wide, None, number), strict=True))
        common: Any = factor
        if total is not None:
            lift, total = _lifted(total, compute)
            weights = cupy.where(weights == 0, 0, weights * lift)
            common = cupy.where(total == 0, math.nan, 1.0 / total)
        step = scaling.step(size, compute == np.float64)
        parts = {}
        for name in results:  # all before any is written: memory given for one may be the weights
            part = _weighed(each[name], weights)
            if name in slopes:
                parts[name] = part * (compute.type(common) if total is None else common.astype(compute))
                continue
            own = 1.0 if part.shape == shapes[name] else step
            summed = arguments.unbroadcast(part * compute.type(own), shapes[name]).reshape(shapes[name])
            parts[name] = summed.astype(np.float64, copy=False) * (common / own)
        for name, result in results.items():
            result[...] = parts[name]
    handed = dict(zip(chosen, _handed([given[n] for n in chosen], [results[n] for n in chosen]), strict=True))
    return tuple(handed.get(name) for name in shapes)
