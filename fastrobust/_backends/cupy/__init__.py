"""CuPy arrays, and other CUDA arrays by way of them: the CUDA kernels on the current stream of the arrays' device.

Nothing here waits for the GPU; CuPy does for memory that names a stream in its `__cuda_array_interface__`.  Memory
comes from CuPy's pool; what a call needs besides its results is given back to it when the call returns, which is right
on one stream.  Read where they are: data of the result's dtype with any strides that come down to four axes, parameters
of the computing type likewise.  Anything else is copied once: data of another dtype, parameters of another dtype, more
axes, weights that are not contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import cupy
import numpy as np

from ... import _arguments as arguments
from ..._types import ArrayLike, DType, Options
from ...kernels.arithmetic import scaling
from ...kernels.loops import launch
from ...kernels.losses.definition import Definition
from .device import Run, converted, here, on
from .device import stream_at as stream_at

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

xp = cupy  # the library's functions
closed_forms = True
row_kernels = "fastrobust._backends.cupy.rows"

Operands: TypeAlias = dict[str, Any]  # by name: data as arrays, parameters as arrays or floats
Out: TypeAlias = Any  # memory for results as it was given: an array, a tuple of arrays and None, or None
Entries: TypeAlias = "tuple[cupy.ndarray | None, ...]"  # the same, looked at: an entry for each result
Outputs: TypeAlias = "cupy.ndarray | tuple[cupy.ndarray, ...]"  # a tuple for several names


def _arguments(
    definition: Definition, wanted: DTypeLike | None, operands: Sequence[ArrayLike]
) -> tuple[DType, DType, Operands, int]:
    """The dtype of the result; that of the memory, wider if less is wanted; the operands; the device.

    Data have the dtype of the memory, and what was a number is an array without axes.  Parameters are floats or arrays
    in the computing type.
    """
    arguments.check_numbers(definition, operands)
    leading = definition.operands[0]
    named = {
        name: value if isinstance(value, arguments.NUMBERS) and name != leading else converted(name, value)
        for name, value in zip(definition.operands, operands, strict=True)
    }
    arrays = {name: value for name, value in named.items() if isinstance(value, cupy.ndarray)}
    storage = arguments.result_dtype(arrays, leading)
    result = storage if wanted is None else arguments.requested(wanted)
    storage = np.promote_types(storage, result)
    compute = arguments.compute_type(storage)
    number = arrays[leading].device.id
    for name, array in arrays.items():
        here(name, array, leading, number)
    with on(number):
        for name, value in named.items():
            if isinstance(value, cupy.ndarray):
                named[name] = value.astype(storage if name in definition.data else compute, copy=False)
            else:
                plain = arguments.number(value)
                named[name] = cupy.full((), plain, storage) if name in definition.data else plain
    return result, storage, named, number


def _shape(named: Operands) -> tuple[int, ...]:
    """The common shape of the operands that are arrays."""
    arrays = {name: value for name, value in named.items() if isinstance(value, cupy.ndarray)}
    return arguments.broadcast(arrays, arrays.values())


def _contiguous(array: cupy.ndarray) -> cupy.ndarray:
    """The array in one piece; CuPy's own function gives an array without axes one."""
    return array if array.flags.c_contiguous else cupy.ascontiguousarray(array)


def _view(array: cupy.ndarray) -> launch.Array:
    """The array as the kernels are told of it: strides in elements, not bytes."""
    return launch.Array(array.data.ptr, array.shape, tuple(s // array.itemsize for s in array.strides))


def _operands(
    run: Run, definition: Definition, named: Operands, shape: tuple[int, ...]
) -> tuple[launch.Operands, list[cupy.ndarray | float]]:
    """The operands as the kernels take them, and the arrays to keep meanwhile: copies, if of too many axes."""
    count = len(definition.data)
    values = list(named.values())
    kept = [*(cupy.broadcast_to(a, shape) for a in values[:count]), *values[count:]]
    seen = _seen(run, kept, count)
    if not seen.plannable:
        kept = [*map(_contiguous, kept[:count]), *(_like(p, shape) for p in kept[count:])]
        seen = _seen(run, kept, count)
    return seen, kept


def _seen(run: Run, arrays: Sequence[cupy.ndarray | float], data: int) -> launch.Operands:
    """The operands, of which the first ``data`` are data, and how they lie in memory."""
    views: list[Any] = [_view(a) if isinstance(a, cupy.ndarray) else a for a in arrays]
    return launch.operands(run.device, views[:data], views[data:])


def _like(parameter: cupy.ndarray | float, shape: tuple[int, ...]) -> cupy.ndarray | float:
    """The parameter with a number for each element; one that is a single number stays that."""
    many = isinstance(parameter, cupy.ndarray) and parameter.size > 1
    return _contiguous(cupy.broadcast_to(parameter, shape)) if many else parameter


def _given(out: Out, names: tuple[str, ...], shapes: dict[str, tuple[int, ...]], dtype: DType, number: int) -> Entries:
    """The entries of ``out``, checked: their shapes, their device, and whether they take that dtype."""
    given = arguments.given(out, names, shapes, cupy.ndarray)
    for name, array in zip(names, given, strict=True):
        if array is not None:
            here(f"out for {name}", array, "x", number)
            if not np.can_cast(dtype, array.dtype, "same_kind"):
                raise TypeError(f"out of dtype {array.dtype} does not take {dtype}: pass a floating-point array")
    return given


def _results(
    out: Out,
    names: tuple[str, ...],
    shapes: dict[str, tuple[int, ...]],
    dtype: DType,
    inputs: Sequence[object],
    number: int,
) -> tuple[Entries, list[cupy.ndarray]]:
    """The entries of ``out``, and for each name contiguous memory that the kernels may write."""
    given = _given(out, names, shapes, dtype, number)
    memory = []
    for name, array in zip(names, given, strict=True):
        usable = array is not None and array.dtype == dtype and array.flags.c_contiguous
        spoils = usable and any(_overlaps(array, other) for other in inputs)
        memory.append(array if usable and not spoils else cupy.empty(shapes[name], dtype))
    return given, memory


def _overlaps(out: cupy.ndarray, array: object) -> bool:
    """Tell whether writing to out spoils array; element by element in place does not.

    By addresses: CuPy's own function takes views of other libraries' memory for memory of their own.
    """
    if not isinstance(array, cupy.ndarray):
        return False
    (first, last), (begin, end) = _bounds(out), _bounds(array)
    same = out.shape == array.shape and out.strides == array.strides and out.dtype == array.dtype
    return first < end and begin < last and not (same and out.data.ptr == array.data.ptr)


def _bounds(array: cupy.ndarray) -> tuple[int, int]:
    """The addresses between which its elements lie."""
    if array.size == 0:
        return 0, 0
    ends = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    low, high = sum(min(e, 0) for e in ends), sum(max(e, 0) for e in ends)
    return array.data.ptr + low, array.data.ptr + high + array.itemsize


def _handed(given: Sequence[cupy.ndarray | None], memory: Sequence[cupy.ndarray]) -> list[cupy.ndarray]:
    """The results: what was given, filled, or the memory itself."""
    for array, result in zip(given, memory, strict=True):
        if array is not None and array is not result:
            array[...] = result
    return [result if array is None else array for array, result in zip(given, memory, strict=True)]


def _check_options(options: Options) -> None:
    """Refuse the options of a ufunc that nothing here follows."""
    if unknown := options.keys() - {"out", "dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for CuPy arrays, only out and dtype are")


# --- what the dispatcher calls


def evaluate(
    definition: Definition, names: tuple[str, ...], operands: Sequence[ArrayLike], options: Options
) -> Outputs:
    """The named outputs for each element: an array, or a tuple of them."""
    _check_options(options)
    dtype, storage, named, number = _arguments(definition, options.get("dtype"), operands)
    with on(number):
        outputs = _evaluated(definition, names, storage, named, options.get("out"), number)
        return _chosen(outputs, dtype, options)


def _chosen(outputs: list[cupy.ndarray], dtype: DType, options: Options) -> Outputs:
    """One array or a tuple of them; of that dtype, unless memory was given."""
    if options.get("out") is None:
        outputs = [output.astype(dtype, copy=False) for output in outputs]
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _evaluated(
    definition: Definition, names: tuple[str, ...], dtype: DType, named: Operands, out: Out, number: int
) -> list[cupy.ndarray]:
    """The named outputs for each element, in memory of that dtype or in what was given."""
    shape = _shape(named)
    given, memory = _results(out, names, dict.fromkeys(names, shape), dtype, list(named.values()), number)
    run = Run(number)
    seen, _kept = _operands(run, definition, named, shape)
    launch.elementwise(run.device, definition, names, dtype.name, seen, [m.data.ptr for m in memory])
    return _handed(given, memory)


def weighted(
    definition: Definition,
    names: tuple[str, ...],
    operands: Sequence[ArrayLike],
    weights: ArrayLike,
    options: Options,
) -> Outputs:
    """`evaluate`, each output multiplied by the weights and then rounded."""
    _check_options(options)
    dtype, storage, named, number = _arguments(definition, options.get("dtype"), operands)
    compute = np.dtype(arguments.compute_type(storage))
    with on(number):
        shape = _shape(named)
        given = _given(options.get("out"), names, dict.fromkeys(names, shape), compute, number)
        factors = _weights(weights, shape, compute, number)
        outputs = _evaluated(definition, names, compute, _widened(definition, named, compute), None, number)
        outputs = _handed(given, [_weighed(output, factors) for output in outputs])
        return _chosen(outputs, dtype, options)


def _widened(definition: Definition, named: Operands, compute: DType) -> Operands:
    """The operands with data in the computing type."""
    return named | {name: named[name].astype(compute, copy=False) for name in definition.data}


def _weights(
    weights: ArrayLike, shape: tuple[int, ...], compute: DType, number: int, relative: bool = False
) -> cupy.ndarray:
    """The weights, contiguous, of the result's shape and the computing type.

    Where only their ratios matter, doubles that become floats are multiplied by one power of two, into floats' range.
    """
    if isinstance(weights, arguments.NUMBERS):
        return cupy.full(shape, weights, compute)
    array = converted("weights", weights)
    here("weights", array, "x", number)
    arguments.supported("weights", array.dtype)
    if relative and array.dtype == np.float64 != compute and array.size:
        exponent = cupy.clip(cupy.frexp(abs(array).max())[1], -1000, 1000)  # the largest about 1, as floats are
        array = array * cupy.ldexp(cupy.ones((), np.float64), -exponent)
    try:
        return _contiguous(cupy.broadcast_to(array.astype(compute, copy=False), shape))
    except ValueError:
        raise ValueError(
            f"weights of shape {array.shape} do not broadcast to the shape {shape} of the result"
        ) from None


def _lifted(total: cupy.ndarray, compute: DType) -> tuple[cupy.ndarray, cupy.ndarray]:
    """The factor of the weights, and their sum after it, on the device: what `scaling.lifted` does."""
    over = cupy.isinf(total[0]) & cupy.isfinite(total[1])
    finite = cupy.where(over, total[1], total[0])
    exponent = cupy.clip(cupy.frexp(finite)[1], *scaling.EXPONENTS[compute == np.float64])
    lift = cupy.ldexp(cupy.ones((), np.float64), -exponent)
    return cupy.where(over, lift * scaling.APART, lift).astype(compute), finite * lift


def _weighed(array: cupy.ndarray, weights: cupy.ndarray | None) -> cupy.ndarray:
    """The array times the weights; a weight of 0 excludes an element, whatever its value."""
    return array if weights is None else cupy.where(weights == 0, array.dtype.type(0), array * weights)


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Sequence[ArrayLike],
    reduction: str,
    weights: ArrayLike | None,
    out: Out,
) -> Entries:
    """Sum or weighted mean, derivatives in data for each element, the other gradients in their parameters' shapes."""
    dtype, _, named, number = _arguments(definition, None, operands)
    with on(number):
        return _reduced(definition, wrt, dtype, named, reduction, weights, out, number)


def _reduced(
    definition: Definition,
    wrt: tuple[str, ...],
    dtype: DType,
    named: Operands,
    reduction: str,
    weights: Any,
    out: Out,
    number: int,
) -> Entries:
    """`reduce` with operands made ready, on the device that is current.

    One pass of a kernel where there is one: parameters that are numbers, or vary along one axis.  Elsewhere the outputs
    for each element, and CuPy's sums of them.
    """
    compute = np.dtype(arguments.compute_type(dtype))
    shape = _shape(named)
    size, names = math.prod(shape), arguments.outputs(wrt)
    slopes = {"d" + name for name in definition.data}
    shapes: dict[str, tuple[int, ...]] = {"value": ()}
    shapes |= {"d" + name: shape if name in definition.data else np.shape(value) for name, value in named.items()}
    run = Run(number)
    total = None
    if weights is not None:
        weights = _weights(weights, shape, compute, number, relative=reduction == "mean")
        if reduction == "mean":
            total = cupy.zeros(2, np.float64)
            launch.total(run.device, compute.name, size, weights.data.ptr, total.data.ptr)
    factor = 1.0 if reduction == "sum" or total is not None else math.nan if size == 0 else 1.0 / size
    chosen = tuple(n for n in shapes if n in names)
    given = dict(zip(shapes, arguments.given(out, tuple(shapes), shapes, cupy.ndarray), strict=True))
    inputs = [*named.values(), weights]
    _, memory = _results(tuple(given[n] for n in chosen), chosen, {n: shapes[n] for n in chosen}, dtype, inputs, number)
    results = dict(zip(chosen, memory, strict=True))
    seen, _kept = _operands(run, definition, named, shape)
    if seen.reducible:
        launch.reduction(
            run.device, definition, names, dtype.name, seen,
            0 if weights is None else weights.data.ptr, 0 if total is None else total.data.ptr, factor,
            {name: memory.data.ptr for name, memory in results.items()},
        )  # fmt: skip
    else:
        # Parameters that vary otherwise: gradients for each element, then sums over the axes they are repeated along.
        wide = _widened(definition, named, compute)
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
            lowered = 1.0 if part.shape == shapes[name] else step
            summed = arguments.unbroadcast(part * compute.type(lowered), shapes[name]).reshape(shapes[name])
            parts[name] = summed.astype(np.float64, copy=False) * (common / lowered)
        for name, result in results.items():
            result[...] = parts[name]
    handed = dict(zip(chosen, _handed([given[n] for n in chosen], [results[n] for n in chosen]), strict=True))
    return tuple(handed.get(name) for name in shapes)
