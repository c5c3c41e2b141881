"""Tensors in and out of the kernels: memory, dtypes and devices, and the registered operators.  No derivatives here.

A plain tensor goes to the backend of its device as an array over the same memory.  The operators exist for what is
not plain: compilers, FakeTensor, DTensor and other subclasses see them as one step with shapes and a dtype.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import _dispatch
from .._backends import numpy as _numpy
from ..kernels.compilers.alone import imported
from ..kernels.losses.catalogue import named
from ..kernels.losses.definition import Definition
from . import _private

if TYPE_CHECKING:
    from types import ModuleType

    from torch.distributed.tensor import Placement

    from .._types import Array
    from ._types import Operand, Operands

PLAIN = (Tensor, torch.nn.Parameter)
_HALVES = (torch.float16, torch.bfloat16)
WIDE = (torch.float32, torch.float64)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """float32 computes for the two half precisions, which are rounded once at the end."""
    return torch.float32 if dtype in _HALVES else dtype


def array_of(tensor: Tensor) -> Array:
    """The tensor as an array of NumPy or CuPy over the same memory."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()  # which DLPack does not
    if tensor.is_cpu:
        return tensor.numpy()
    return _cupy().from_dlpack(tensor)


def _cupy() -> ModuleType:
    """CuPy, or an error that says how to install it."""
    try:
        return imported("cupy")
    except ImportError:
        raise ImportError(f"CUDA tensors go through CuPy, which is missing: {_dispatch.INSTALL['cupy']}") from None


@functools.cache
def _allocator() -> Any:
    """PyTorch's memory for CuPy's arrays: one pool for both, which knows streams and the capture of graphs."""

    def allocate(size: int, device: int) -> int:
        return torch.cuda.caching_allocator_alloc(size, device, torch.cuda.current_stream(device))

    return _cupy().cuda.PythonFunctionAllocator(
        allocate, lambda pointer, device: torch.cuda.caching_allocator_delete(pointer)
    )


@contextlib.contextmanager
def on(x: Tensor, name: str) -> Iterator[None]:
    """The device, the stream and the memory for the kernels for x, the first operand; refuses those without kernels."""
    if x.is_cpu:
        yield
        return
    if not x.is_cuda:
        raise TypeError(f"{name} is on {x.device}, for which fastrobust has no kernels: move it with .cpu() or .cuda()")
    cuda = _cupy().cuda
    stream = imported("fastrobust._backends.cupy").stream_at(torch.cuda.current_stream(x.device).cuda_stream)
    with cuda.Device(x.device.index), stream, cuda.using_allocator(_allocator().malloc):
        yield


def _argument(value: Operand, dtype: torch.dtype) -> Array | float:
    """An operand for the backend: a number if it is one, else an array of the computing type."""
    if not isinstance(value, Tensor):
        return value
    return array_of(value if value.dtype == dtype else value.to(dtype))


@functools.cache
def _limits(definition: Definition) -> tuple[float | None, ...]:
    """The `limits` of the operands after the first."""
    return _numpy.limits[definition][1:]


def rest_of(definition: Definition, operands: Operands) -> list[Array | float] | None:
    """The operands after the first, data as arrays and parameters as numbers, for `quick` and `quick_sums`.

    None if that short way to the CPU's kernels is not open.
    """
    x = operands[0]
    if type(x) not in PLAIN or not x.is_cpu or x.dtype not in WIDE or not x.dim() or x.layout is not torch.strided:
        return None
    rest: list[Array | float] = []
    for low, operand in zip(_limits(definition), operands[1:]):  # noqa: B905 - strict takes time
        kind = type(operand)
        if low is None:
            if (
                kind not in PLAIN
                or not operand.is_cpu
                or operand.dtype is not x.dtype
                or operand.layout is not torch.strided
            ):
                return None
            if operand.shape != x.shape:
                return None
            rest.append(array_of(operand))
            continue
        if kind is not float and kind is not int:
            if kind not in PLAIN or operand.dim() or operand.dtype is not x.dtype or not operand.is_cpu:
                return None
            operand = operand.item()
        if not low < operand <= _numpy.LARGEST:
            return None
        rest.append(operand)
    return rest


def quick(definition: Definition, names: tuple[str, ...], x: Tensor, rest: list[Array | float]) -> list[Tensor]:
    """`evaluate` for operands of which `rest_of` found the rest: nothing is left to look at."""
    array = array_of(x)
    if array.size < _numpy.PARALLEL:
        outputs = _numpy.ufunc_for(definition, names, array.dtype.type, "shared")(array, *rest)
    else:
        outputs = _numpy.evaluate(definition, names, (array, *rest), {})
    return [torch.from_numpy(outputs)] if len(names) == 1 else [torch.from_numpy(output) for output in outputs]


def quick_sums(
    definition: Definition, wrt: tuple[str, ...], x: Tensor, rest: list[Array | float], mean: bool
) -> list[Tensor]:
    """`reduce` for operands of which `rest_of` found the rest, without weights."""
    reduced = _numpy.reduce(definition, wrt, (array_of(x), *rest), "mean" if mean else "sum", None, None)
    dtype = x.dtype
    results = [_private.scalar_tensor(reduced[0], dtype=dtype, device="cpu")]  # not on the default device
    if wrt:
        count = len(definition.data)
        for k, part in enumerate(reduced[1:]):
            if part is not None:
                results.append(
                    torch.from_numpy(part) if k < count else _private.scalar_tensor(part, dtype=dtype, device="cpu")
                )
    return results


def sums(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    weights: Tensor | None,
    mean: bool,
    dtype: torch.dtype,
) -> list[Tensor]:
    """`reduce`, by the short way if it is open."""
    rest = rest_of(definition, operands) if weights is None else None
    if rest is not None:
        return quick_sums(definition, wrt, operands[0], rest, mean)
    return reduce(definition, wrt, operands, weights, mean, dtype)


def evaluate(definition: Definition, names: Sequence[str], operands: Operands, dtype: torch.dtype) -> list[Tensor]:
    """The named outputs for each element, of that dtype, from plain tensors; all operands but one may be numbers."""
    compute, x = compute_type(dtype), operands[0]
    with on(x, definition.operands[0]):
        arrays: list[Any] = [_argument(operand, compute) for operand in operands]
        target = _dispatch.backend(arrays[0])
        if target is _numpy:
            single = x.dim() == 0
            if single:  # NumPy makes numbers of results without axes
                arrays[0] = arrays[0].reshape(1)
            outputs = target.evaluate(definition, tuple(names), arrays, {})
            results = [torch.from_numpy(a) for a in (outputs if type(outputs) is tuple else (outputs,))]
            if single and all(np.ndim(a) == 0 for a in arrays[1:]):
                results = [r.reshape(()) for r in results]
        else:
            # In PyTorch's own storages, which know the streams that use them.
            shape = broadcast(operands)
            results = [torch.empty(shape, dtype=compute, device=x.device) for _ in names]
            if results[0].numel():
                target.evaluate(definition, tuple(names), arrays, {"out": tuple(map(array_of, results))})
    return results if dtype == compute else [r.to(dtype) for r in results]


def broadcast(operands: Sequence[object]) -> torch.Size:
    """The common shape of those operands that are tensors."""
    return torch.broadcast_shapes(*(t.shape for t in operands if isinstance(t, Tensor)))


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    weights: Tensor | Array | None,
    mean: bool,
    dtype: torch.dtype,
) -> list[Tensor]:
    """The sum or mean, then the gradients in the order of ``wrt``, from plain tensors."""
    compute, x = compute_type(dtype), operands[0]
    reduction = "mean" if mean else "sum"
    shapes = {
        name: operand.shape if isinstance(operand, Tensor) else torch.Size()
        for name, operand in zip(definition.operands, operands, strict=True)
        if name in definition.parameters
    }
    with on(x, definition.operands[0]):
        arrays = [_argument(operand, compute) for operand in operands]
        if isinstance(weights, Tensor):  # doubles as they are: the backend looks whether they are in reach of floats
            weights = array_of(weights if weights.dtype == torch.float64 else weights.to(compute))
        target = _dispatch.backend(arrays[0])
        if target is _numpy:
            reduced = target.reduce(definition, wrt, arrays, reduction, weights, None)
            # NumPy makes numbers of results without axes.
            results = [
                torch.from_numpy(a)
                if hasattr(a, "strides") and a.ndim
                else _private.scalar_tensor(float(a), dtype=compute, device="cpu")
                for a in reduced
                if a is not None
            ]
            results[1:] = [r.reshape(shapes.get(name, r.shape)) for name, r in zip(wrt, results[1:], strict=True)]
        else:
            shape = broadcast(operands)
            sizes = [torch.Size(), *(shapes.get(name, shape) for name in wrt)]
            results = [torch.empty(size, dtype=compute, device=x.device) for size in sizes]
            if shape.numel():
                memory = dict(zip(("", *wrt), map(array_of, results), strict=True))
                out = tuple(memory.get(name) for name in ("", *definition.operands))
                target.reduce(definition, wrt, arrays, reduction, weights, out)
            else:
                results = [r.fill_(math.nan if mean else 0.0) for r in results]
    return results if dtype == compute else [r.to(dtype) for r in results]


# --- operators

_library = torch.library.Library("fastrobust", "DEF")


def register(schema: str, function: Callable[..., Any]) -> None:
    """Make an operator of that schema for dense tensors on the CPU and on CUDA devices."""
    _library.define(schema)
    for key in ("CPU", "CUDA"):
        _library.impl(schema.partition("(")[0], function, key)


def _elementwise(operands: list[Tensor], definition: str, names: list[str], dtype: torch.dtype) -> list[Tensor]:
    """`evaluate` as an operator, whose schema knows definitions by their names."""
    meant = named(definition)
    count = len(meant.data)
    data = [operand.contiguous() for operand in operands[:count]]  # so that the results are contiguous too
    return evaluate(meant, names, data + operands[count:], dtype)


def _reduction(
    operands: list[Tensor], weights: Tensor | None, definition: str, wrt: list[str], mean: bool, dtype: torch.dtype
) -> list[Tensor]:
    """`reduce` as an operator, whose schema knows definitions by their names."""
    return reduce(named(definition), tuple(wrt), operands, weights, mean, dtype)


register(
    "elementwise(Tensor[] operands, str definition, str[] names, ScalarType dtype) -> Tensor[]",
    _elementwise,
)
register(
    "reduction(Tensor[] operands, Tensor? weights, str definition, str[] wrt, bool mean, ScalarType dtype) -> Tensor[]",
    _reduction,
)
elementwise = torch.ops.fastrobust.elementwise.default
reduction = torch.ops.fastrobust.reduction.default


@torch.library.register_fake("fastrobust::elementwise")  # type: ignore[untyped-decorator]
def _(operands: list[Tensor], definition: str, names: list[str], dtype: torch.dtype) -> list[Tensor]:
    """Tensors like the results, for what follows shapes and dtypes alone."""
    shape = broadcast(operands)
    return [operands[0].new_empty(shape, dtype=dtype) for _ in names]


@torch.library.register_fake("fastrobust::reduction")  # type: ignore[untyped-decorator]
def _(
    operands: list[Tensor], weights: Tensor | None, definition: str, wrt: list[str], mean: bool, dtype: torch.dtype
) -> list[Tensor]:
    """Tensors like the results: gradients in data have the common shape, those in parameters their parameters'."""
    x, meant, shape = operands[0], named(definition), broadcast(operands)
    by_name = dict(zip(meant.operands, operands, strict=True))
    shapes = [shape if name in meant.data else by_name[name].shape for name in wrt]
    return [x.new_empty((), dtype=dtype), *(x.new_empty(shape, dtype=dtype) for shape in shapes)]


def aligned(in_dims: Sequence[int | None], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors with the batch axis in front and equal ranks behind it, so that broadcasting does the batching."""
    rank = max(t.dim() - (d is not None) for t, d in zip(tensors, in_dims, strict=True))
    moved = []
    for tensor, dim in zip(tensors, in_dims, strict=True):
        if dim is not None:
            tensor = tensor.movedim(dim, 0)
            tensor = tensor.reshape(tensor.shape[0], *[1] * (rank - tensor.dim() + 1), *tensor.shape[1:])
        moved.append(tensor)
    return moved


@torch.library.register_vmap("fastrobust::elementwise")  # type: ignore[untyped-decorator]
def _(
    info: object,
    in_dims: Sequence[Sequence[int | None]],
    operands: list[Tensor],
    definition: str,
    names: list[str],
    dtype: torch.dtype,
) -> tuple[list[Tensor], list[int]]:
    """The operator under vmap: once, on operands that broadcast."""
    return elementwise(aligned(in_dims[0], operands), definition, names, dtype), [0] * len(names)


def sharded(definition: Definition, names: Sequence[str], operands: Operands, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The operator on DTensors: each process on its part of the first that is one, the others cut alike or whole."""
    from torch.distributed.tensor import Replicate, Shard  # where DTensors are from

    shape: Any = broadcast(operands)
    leading = next(t for t in operands if hasattr(t, "placements"))
    lead = len(shape) - leading.dim()
    # The axes of the result that are cut, by axis of the mesh; an axis of length 1 is not.
    cuts = [
        p.dim % leading.dim() + lead if isinstance(p, Shard) and leading.shape[p.dim] == shape[p.dim + lead] else None
        for p in leading.placements
    ]

    def placed(tensor: Any) -> tuple[Placement, ...] | None:
        """The placements of a DTensor, cut where the result is if it has that axis in full; None for other operands."""
        if not hasattr(tensor, "placements"):
            return None
        axes = [None if cut is None else cut - (len(shape) - tensor.dim()) for cut in cuts]
        return tuple(
            Replicate() if axis is None or axis < 0 or tensor.shape[axis] != shape[cut] else Shard(axis)
            for axis, cut in zip(axes, cuts, strict=True)
        )

    placements = tuple(Replicate() if cut is None else Shard(cut) for cut in cuts)
    whole = _private.local_map(
        lambda *parts: tuple(elementwise(list(parts), definition.name, list(names), dtype)),
        (placements,) * len(names),
        tuple(map(placed, operands)),
        leading.device_mesh,
    )
    return whole(*operands)
