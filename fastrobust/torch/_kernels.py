"""Tensors in and out of the kernels: memory, dtypes and devices, and the registered operators.  No derivatives here.

A plain tensor goes to the backend of its device as an array over the same memory.  The operators exist for what is
not plain: compilers, FakeTensor, DTensor and other subclasses see them as one step with shapes and a dtype.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import _arguments as arguments
from .. import _dispatch
from .._backends import numpy as _numpy
from ..kernels.compilers.alone import imported
from . import _private

PLAIN = (Tensor, torch.nn.Parameter)
_HALVES = (torch.float16, torch.bfloat16)
WIDE = (torch.float32, torch.float64)


def compute_type(dtype: torch.dtype) -> torch.dtype:
    """float32 computes for the two half precisions, which are rounded once at the end."""
    return torch.float32 if dtype in _HALVES else dtype


def _array(tensor: Tensor) -> Any:
    """The same memory as an array of NumPy or CuPy."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.is_neg():
        tensor = tensor.resolve_neg()  # which DLPack does not
    if tensor.is_cpu:
        return tensor.numpy()
    return _cupy().from_dlpack(tensor)


def _cupy() -> Any:
    try:
        return imported("cupy")
    except ImportError:
        raise ImportError(f"CUDA tensors go through CuPy, which is missing: {_dispatch.INSTALL['cupy']}") from None


class _External:
    """A stream of PyTorch, for `cupy.cuda.Stream.from_external`."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer  # version of the protocol, and the stream


@functools.cache
def _allocator() -> Any:
    """PyTorch's memory for CuPy's arrays: one pool for both, which knows streams and the capture of graphs."""

    def allocate(size: int, device: int) -> int:
        return torch.cuda.caching_allocator_alloc(size, device, torch.cuda.current_stream(device))

    return _cupy().cuda.PythonFunctionAllocator(
        allocate, lambda pointer, device: torch.cuda.caching_allocator_delete(pointer)
    )


@contextlib.contextmanager
def _on(x: Tensor) -> Iterator[None]:
    """The device, the stream and the memory for the kernels for x; refuses devices without kernels."""
    if x.is_cpu:
        yield
        return
    if not x.is_cuda:
        raise TypeError(f"x is on {x.device}, for which fastrobust has no kernels: move it with .cpu() or .cuda()")
    cuda = _cupy().cuda
    stream = cuda.Stream.from_external(_External(torch.cuda.current_stream(x.device).cuda_stream))
    with cuda.Device(x.device.index), stream, cuda.using_allocator(_allocator().malloc):
        yield


def _argument(value: Any, dtype: torch.dtype) -> Any:
    """A parameter for the backend: a number if it is one, else an array of the computing type."""
    if not isinstance(value, Tensor):
        return value
    return _array(value if value.dtype == dtype else value.to(dtype))


def numbers(family: str, x: Any, alpha: Any, scale: Any) -> tuple[float, float] | None:
    """The parameters as numbers if a short way to the CPU's kernels is open: `quick` and `quick_sums`."""
    if type(x) not in PLAIN or not x.is_cpu or x.dtype not in WIDE or not x.dim() or x.layout is not torch.strided:
        return None
    if type(alpha) in PLAIN and not alpha.dim() and alpha.dtype is x.dtype and alpha.is_cpu:
        alpha = alpha.item()
    if type(scale) in PLAIN and not scale.dim() and scale.dtype is x.dtype and scale.is_cpu:
        scale = scale.item()
    usual = type(alpha) in arguments.NUMBERS and type(scale) in arguments.NUMBERS
    return (alpha, scale) if usual and _numpy.in_range(family, alpha, scale) else None


def quick(family: str, names: tuple[str, ...], x: Tensor, alpha: float, scale: float) -> list[Tensor]:
    """`evaluate` where `numbers` found some."""
    array = _array(x)
    if array.size < _numpy.PARALLEL:
        found = _numpy.ufunc_for(family, names, array.dtype.type, "shared")(array, alpha, scale)
    else:
        found = _numpy.evaluate(family, names, array, alpha, scale, {})
    return [torch.from_numpy(found)] if len(names) == 1 else [torch.from_numpy(f) for f in found]


def quick_sums(family: str, wrt: tuple[str, ...], x: Tensor, alpha: float, scale: float, mean: bool) -> list[Tensor]:
    """`reduce` where `numbers` found some, without weights."""
    found = _numpy.reduce(family, wrt, _array(x), alpha, scale, "mean" if mean else "sum", None, None)
    results = [_private.scalar_tensor(found.value, dtype=x.dtype, device="cpu")]  # not on the default device
    for name in wrt:
        part: Any = getattr(found, "d" + name)
        results.append(
            torch.from_numpy(part) if name == "x" else _private.scalar_tensor(part, dtype=x.dtype, device="cpu")
        )
    return results


def sums(
    family: str, wrt: tuple[str, ...], x: Tensor, alpha: Any, scale: Any, weights: Any, mean: bool, dtype: torch.dtype
) -> list[Tensor]:
    """`reduce`, by the short way if it is open."""
    found = numbers(family, x, alpha, scale) if weights is None else None
    if found is not None:
        return quick_sums(family, wrt, x, *found, mean)
    return reduce(family, wrt, x, alpha, scale, weights, mean, dtype)


def evaluate(family: str, names: Sequence[str], x: Tensor, alpha: Any, scale: Any, dtype: torch.dtype) -> list[Tensor]:
    """The named outputs for each element, of that dtype, from plain tensors; alpha and scale may be numbers."""
    compute = compute_type(dtype)
    with _on(x):
        array = _array(x if x.dtype == compute else x.to(compute))
        parameters = [_argument(p, compute) for p in (alpha, scale)]
        target = _dispatch.backend(array)
        if target is _numpy:
            single = x.dim() == 0
            found = target.evaluate(family, tuple(names), array.reshape(1) if single else array, *parameters, {})
            results = [torch.from_numpy(f) for f in (found if type(found) is tuple else (found,))]
            if single and all(np.ndim(p) == 0 for p in parameters):
                results = [r.reshape(()) for r in results]
        else:
            # In PyTorch's own storages, which know the streams that use them.
            shape = broadcast(x, alpha, scale)
            results = [torch.empty(shape, dtype=compute, device=x.device) for _ in names]
            if results[0].numel():
                target.evaluate(family, tuple(names), array, *parameters, {"out": tuple(map(_array, results))})
    return results if dtype == compute else [r.to(dtype) for r in results]


def broadcast(x: Tensor, alpha: Any, scale: Any) -> torch.Size:
    """The common shape of what are tensors."""
    return torch.broadcast_shapes(*(t.shape for t in (x, alpha, scale) if isinstance(t, Tensor)))


def reduce(
    family: str, wrt: tuple[str, ...], x: Tensor, alpha: Any, scale: Any, weights: Any, mean: bool, dtype: torch.dtype
) -> list[Tensor]:
    """The sum or mean, then the gradients in the order of ``wrt``, from plain tensors."""
    compute = compute_type(dtype)
    reduction = "mean" if mean else "sum"
    own = {"alpha": alpha, "scale": scale}
    shapes = {name: p.shape if isinstance(p, Tensor) else torch.Size() for name, p in own.items()}
    with _on(x):
        array = _array(x if x.dtype == compute else x.to(compute))
        parameters = [_argument(p, compute) for p in (alpha, scale)]
        if isinstance(weights, Tensor):  # doubles as they are: the backend looks whether they are in reach of floats
            weights = _array(weights if weights.dtype == torch.float64 else weights.to(compute))
        target = _dispatch.backend(array)
        if target is _numpy:
            found = target.reduce(family, wrt, array, *parameters, reduction, weights, None)
            arrays = [found.value, *(getattr(found, "d" + name) for name in wrt)]
            # NumPy makes numbers of results without axes.
            results = [
                torch.from_numpy(a)
                if hasattr(a, "strides") and a.ndim
                else _private.scalar_tensor(float(a), dtype=compute, device="cpu")
                for a in arrays
            ]
            results[1:] = [r.reshape(shapes.get(name, r.shape)) for name, r in zip(wrt, results[1:], strict=True)]
        else:
            shapes["x"] = broadcast(x, alpha, scale)
            results = [torch.empty(shapes[n] if n else (), dtype=compute, device=x.device) for n in ("", *wrt)]
            if shapes["x"].numel():
                memory = dict(zip(("", *wrt), map(_array, results), strict=True))
                out = tuple(memory.get(name) for name in ("", "x", "alpha", "scale"))
                target.reduce(family, wrt, array, *parameters, reduction, weights, out)
            else:
                results = [r.fill_(math.nan if mean else 0.0) for r in results]
    return results if dtype == compute else [r.to(dtype) for r in results]


def partition(names: Sequence[str], alpha: Tensor) -> list[Tensor]:
    """log Z and its derivatives, those named."""
    compute = compute_type(alpha.dtype)
    with _on(alpha):
        array = _array((alpha if alpha.dtype == compute else alpha.to(compute)).reshape(-1))
        target = _dispatch.backend(array)
        if target is _numpy:
            found = target.partition(tuple(names), array, {})
            results = [torch.from_numpy(f).reshape(alpha.shape) for f in (found if type(found) is tuple else (found,))]
        else:
            results = [torch.empty(alpha.shape, dtype=compute, device=alpha.device) for _ in names]
            if alpha.numel():
                target.partition(tuple(names), array, {"out": tuple(_array(r.reshape(-1)) for r in results)})
    return results if alpha.dtype == compute else [r.to(alpha.dtype) for r in results]


# --- operators

_library = torch.library.Library("fastrobust", "DEF")


def register(schema: str, function: Any) -> None:
    """An operator of that schema for dense tensors on the CPU and on CUDA devices."""
    _library.define(schema)
    for key in ("CPU", "CUDA"):
        _library.impl(schema.partition("(")[0], function, key)


def _elementwise(
    x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: list[str], dtype: torch.dtype
) -> list[Tensor]:
    return evaluate(family, names, x.contiguous(), alpha, scale, dtype)  # so that the results are contiguous too


def _reduction(
    x: Tensor, alpha: Tensor, scale: Tensor, weights: Tensor | None, family: str, wrt: list[str], mean: bool,
    dtype: torch.dtype,
) -> list[Tensor]:  # fmt: skip
    return reduce(family, tuple(wrt), x, alpha, scale, weights, mean, dtype)


def _log_partition(alpha: Tensor, names: list[str]) -> list[Tensor]:
    return partition(names, alpha)


register(
    "elementwise(Tensor x, Tensor alpha, Tensor scale, str family, str[] names, ScalarType dtype) -> Tensor[]",
    _elementwise,
)
register(
    "reduction(Tensor x, Tensor alpha, Tensor scale, Tensor? weights, str family, str[] wrt, bool mean, "
    "ScalarType dtype) -> Tensor[]",
    _reduction,
)
register("log_partition(Tensor alpha, str[] names) -> Tensor[]", _log_partition)
elementwise = torch.ops.fastrobust.elementwise.default
reduction = torch.ops.fastrobust.reduction.default
log_partition = torch.ops.fastrobust.log_partition.default


@torch.library.register_fake("fastrobust::elementwise")  # type: ignore[untyped-decorator]
def _(x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: list[str], dtype: torch.dtype) -> list[Tensor]:
    shape = torch.broadcast_shapes(x.shape, alpha.shape, scale.shape)
    return [x.new_empty(shape, dtype=dtype) for _ in names]


@torch.library.register_fake("fastrobust::reduction")  # type: ignore[untyped-decorator]
def _(
    x: Tensor, alpha: Tensor, scale: Tensor, weights: Tensor | None, family: str, wrt: list[str], mean: bool,
    dtype: torch.dtype,
) -> list[Tensor]:  # fmt: skip
    shapes = {
        "x": torch.broadcast_shapes(x.shape, alpha.shape, scale.shape),
        "alpha": alpha.shape,
        "scale": scale.shape,
    }
    return [x.new_empty((), dtype=dtype), *(x.new_empty(shapes[name], dtype=dtype) for name in wrt)]


@torch.library.register_fake("fastrobust::log_partition")  # type: ignore[untyped-decorator]
def _(alpha: Tensor, names: list[str]) -> list[Tensor]:
    return [alpha.new_empty(alpha.shape) for _ in names]


def aligned(in_dims: Sequence[int | None], tensors: Sequence[Tensor]) -> Any:
    """The batch axis in front and the ranks equal behind it, so that broadcasting does the batching."""
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
    info: Any, in_dims: Any, x: Tensor, alpha: Tensor, scale: Tensor, family: str, names: list[str], dtype: torch.dtype
) -> tuple[list[Tensor], list[int]]:
    return elementwise(*aligned(in_dims[:3], (x, alpha, scale)), family, names, dtype), [0] * len(names)


@torch.library.register_vmap("fastrobust::log_partition")  # type: ignore[untyped-decorator]
def _(info: Any, in_dims: Any, alpha: Tensor, names: list[str]) -> tuple[list[Tensor], list[int]]:
    return log_partition(alpha, names), [in_dims[0]] * len(names)


def sharded(
    family: str, names: Sequence[str], x: Any, alpha: Any, scale: Any, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """The operator on DTensors: each process on its part of x, the parameters cut alike or whole."""
    from torch.distributed.tensor import Replicate, Shard  # where DTensors are from

    shape = torch.broadcast_shapes(*(t.shape for t in (x, alpha, scale)))
    leading = next(t for t in (x, alpha, scale) if hasattr(t, "placements"))
    lead = len(shape) - leading.dim()
    # The axes of the result that are cut, by axis of the mesh; an axis of length 1 is not.
    cuts = [
        p.dim % leading.dim() + lead if isinstance(p, Shard) and leading.shape[p.dim] == shape[p.dim + lead] else None
        for p in leading.placements
    ]

    def placed(tensor: Any) -> Any:
        if not hasattr(tensor, "placements"):
            return None
        own = [None if cut is None else cut - (len(shape) - tensor.dim()) for cut in cuts]
        return tuple(
            Replicate() if o is None or o < 0 or tensor.shape[o] != shape[c] else Shard(o)
            for o, c in zip(own, cuts, strict=True)
        )

    results = tuple(Replicate() if cut is None else Shard(cut) for cut in cuts)
    whole = _private.local_map(
        lambda *args: tuple(elementwise(*args, family, list(names), dtype)),
        (results,) * len(names),
        tuple(map(placed, (x, alpha, scale))),
        leading.device_mesh,
    )
    return whole(x, alpha, scale)
