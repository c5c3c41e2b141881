"""Arrays of JAX in and out of the kernels: what XLA calls, on which platform, and batched.  No derivatives.

On CPUs XLA calls the kernels' machine code (`kernels.loops.xla`), on NVIDIA GPUs, if CuPy is there, Python that
launches the CUDA kernels on XLA's stream; elsewhere, and where XLA's interface is not the one that is known, the same
formulas run as XLA's own operations (`kernels.loops.traced`).
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from ..kernels.arithmetic import arrays
from ..kernels.compilers.alone import imported
from ..kernels.loops import traced, xla_frame, xla_table
from ..kernels.losses.catalogue import LOSS
from ..kernels.losses.definition import Definition
from . import _private
from ._devices import partitioned, partitioned_sums, unified
from ._private import Operation
from ._totals import masked, sum_to, total

_TARGET = "fastrobust"
# In the place that XLA keeps of each call, and that JAX shows where it refuses to export one.
_SCOPE = "fastrobust: how to export it says help('fastrobust.jax')"

_Arrays: TypeAlias = tuple[jax.Array, ...]
_Way: TypeAlias = Callable[..., _Arrays]  # of a definition, names, flags, and then this device's part of each operand


@functools.cache
def backend() -> str:
    """The way in which the functions run on CPUs: "ffi" for compiled kernels, "composite" for XLA's own operations.

    The latter on Windows, and if this version of JAX has another foreign function interface than those known.

    Examples
    --------
    >>> import fastrobust.jax as frj
    >>> frj.backend()
    'ffi'
    """
    if sys.platform == "win32" or not hasattr(jax, "ffi"):
        return "composite"
    try:
        _register()
        with jax.ensure_compile_time_eval(), jax.default_device(jax.local_devices(backend="cpu")[0]):
            probe = jnp.asarray([3.0], jnp.float32)
            rho = float(jax.jit(functools.partial(_called, LOSS, ("value",)))(probe, probe, probe)[0][0])
    except jax.errors.JaxRuntimeError:  # the handler's, or XLA's about its version
        return "composite"
    return "ffi" if xla_table.seen() is not None and abs(rho - (2**1.5 - 1) / 3) < 1e-6 else "composite"


@functools.cache
def _register() -> None:
    """Make the handler known to XLA, once in a process: by a capsule of its address, which Python's C API makes."""
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(_TARGET, capsule(xla_table.handler(), None, None), platform="cpu", api_version=1)


def evaluate(definition: Definition, names: Sequence[str], *operands: jax.Array) -> list[jax.Array]:
    """The named outputs for each element; operands that broadcast, all float32 or all float64."""
    rank = max(o.ndim for o in operands)
    aligned = [o.reshape((1,) * (rank - o.ndim) + o.shape) for o in operands]
    order = xla_frame.ordered(definition, names)
    outputs = dict(zip(order, _operation(definition, order)(*aligned), strict=True))
    return [outputs[name] for name in names]


@functools.cache
def _operation(definition: Definition, names: tuple[str, ...]) -> Operation:
    """`evaluate` for operands of one rank, which broadcasting also batches."""

    @custom_vmap
    def operation(*operands: jax.Array) -> _Arrays:
        composite: Operation = functools.partial(_composite, definition, names)
        if backend() == "composite":
            return composite(*operands)
        return _by_platform(operands, composite, {"cpu": _called, "cuda": _launched}, partitioned, definition, names)

    @operation.def_vmap
    def _(size: int, batched: Sequence[bool], *operands: jax.Array) -> tuple[_Arrays, tuple[bool, ...]]:
        moved = [o if b else o[None] for o, b in zip(operands, batched, strict=True)]
        return operation(*moved), (True,) * len(names)

    return operation


def _called(definition: Definition, names: tuple[str, ...], *operands: jax.Array) -> _Arrays:
    """The outputs that the handler computes from this device's part of each operand."""
    like = [functools.reduce(jnp.add, operands)] * len(names)  # in shape, dtype and how it is cut
    return _handled(xla_frame.code_of(definition, names), like, operands)


def _handled(code: int, like: Sequence[jax.Array], operands: Sequence[jax.Array]) -> _Arrays:
    """The results of the handler's call of that code, which are like those in shape, dtype and how they are cut."""
    with jax.named_scope(_SCOPE):
        results = jax.ffi.ffi_call(_TARGET, tuple(map(jax.typeof, like)))(*operands, code=np.int64(code))
    return _typed(results, like)


def _typed(results: Sequence[jax.Array], like: Sequence[jax.Array]) -> _Arrays:
    """The results cut as they should be, of which some calls and versions of JAX know nothing; XLA removes the 1."""
    pairs = zip(results, like, strict=True)
    return tuple(part if jax.typeof(part) == jax.typeof(t) else part * jnp.ones_like(t) for part, t in pairs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _composite(definition: Definition, names: tuple[str, ...], *operands: jax.Array) -> _Arrays:
    """The outputs by XLA's operations, compiled as one program."""
    return traced.evaluate(_LIBRARY, definition, names, *operands)


def _take(column: Sequence[float], i: jax.Array) -> jax.Array:
    """The elements of a table's column at these places, cut among devices as the places are."""
    sharding = _private.explicit_sharding(i)
    if sharding is None:
        return jnp.asarray(column)[i]
    return jnp.asarray(column).at[i].get(out_sharding=sharding)


_LIBRARY = arrays.Library(
    xp=jnp,
    bitcast=jax.lax.bitcast_convert_type,
    fma=jax.jit(functools.partial(arrays.rounded_twice, jnp)),
    take=_take,
    hidden=lambda number: jax.lax.optimization_barrier(jnp.asarray(number)),
)


def _by_platform(
    operands: _Arrays, composite: Operation, ways: dict[str, _Way], on_devices: Callable[..., Operation], *what: object
) -> _Arrays:
    """The results of the platform's way, or of XLA's operations where it has none.

    Each way is made one for several devices, unless `shard_map` has cut the operands already.
    """
    varying = [_private.varying(o) for o in operands]
    if not _has_cuda_kernels():
        del ways["cuda"]
    calls = {
        platform: functools.partial(call, *what) if any(varying) else on_devices(call, *what)
        for platform, call in ways.items()
    }
    return jax.lax.platform_dependent(*unified(operands, varying), default=composite, **calls)


# --- GPUs

_CuPy: TypeAlias = Sequence[Any]  # arrays of CuPy's over XLA's memory


@functools.cache
def _has_cuda_kernels() -> bool:
    """Tell whether XLA can have the CUDA kernels launched: JAX calls Python on its streams, and CuPy is installed."""
    return _private.buffer_callback() is not None and importlib.util.find_spec("cupy") is not None


def _on_stream(
    work: Callable[[Any, _CuPy, _CuPy], None], like: Sequence[jax.Array], operands: Sequence[jax.Array]
) -> _Arrays:
    """The results of work(backend, results, operands) over XLA's memory and on its stream; they are like those."""
    buffer_callback = _private.buffer_callback()
    assert buffer_callback is not None  # else `_has_cuda_kernels` says no

    def run(context: Any, out: Sequence[Any], *args: Any) -> None:
        cupy, backend = imported("cupy"), imported("fastrobust._backends.cupy")
        with backend.stream_at(context.stream):
            work(backend, tuple(map(cupy.asarray, out)), [cupy.asarray(a) for a in args])

    types = tuple(map(jax.typeof, like))
    return _typed(buffer_callback(run, types, command_buffer_compatible=True)(*operands), like)


def _launched(definition: Definition, names: tuple[str, ...], *operands: jax.Array) -> _Arrays:
    """`_called` on a GPU."""

    def work(backend: Any, out: _CuPy, args: _CuPy) -> None:
        backend.evaluate(definition, names, args, {"out": out})

    return _on_stream(work, [functools.reduce(jnp.add, operands)] * len(names), operands)


def _launched_sums(definition: Definition, wrt: tuple[str, ...], mean: bool, *operands: jax.Array) -> _Arrays:
    """`_called_sums` on a GPU."""
    count = len(definition.operands)

    def work(backend: Any, out: _CuPy, args: _CuPy) -> None:
        memory = dict(zip(("value", *wrt), out, strict=True))
        given = tuple(memory.get(name) for name in ("value", *definition.operands))
        weights = args[count] if len(args) > count else None
        backend.reduce(definition, wrt, args[:count], "mean" if mean else "sum", weights, given)

    return _on_stream(work, _like_sums(definition, wrt, operands), operands)


# --- sums


def tail_of(definition: Definition, operands: Sequence[jax.Array]) -> tuple[int, ...] | None:
    """The trailing axes of the common shape that the parameters vary along.

    None where sums need another way: parameters that vary along all axes, and lengths that are not known.
    """
    shape = jnp.broadcast_shapes(*(o.shape for o in operands))
    if not all(isinstance(n, int) for n in shape):
        return None
    varying = [p.shape for p in operands[len(definition.data) :]]
    first = min((len(shape) - len(s) + i for s in varying for i, n in enumerate(s) if n > 1), default=len(shape))
    tail = tuple(shape[first:])
    whole = math.prod(shape)
    return tail if whole and (not tail or math.prod(tail) < whole) else None


def sums(
    definition: Definition,
    wrt: tuple[str, ...],
    mean: bool,
    tail: tuple[int, ...],
    operands: Sequence[jax.Array],
    weights: jax.Array | None,
) -> list[jax.Array]:
    """The sum or mean, then the derivatives in the order of the operands.

    Those in parameters are of their shapes, those in data of the shape that all have in common.
    """
    shape = jnp.broadcast_shapes(*(o.shape for o in operands))
    lead, count = (1,) * (len(shape) - len(tail)), len(definition.data)
    given = [jnp.broadcast_to(data, shape) for data in operands[:count]]
    for parameter in operands[count:]:
        p = _trailing(parameter, tail)
        single = (1,) * len(shape)
        given.append(p.reshape(single) if p.size == 1 else jnp.broadcast_to(p, tail).reshape(lead + tail))
    if weights is not None:
        given.append(jnp.broadcast_to(weights, shape))
    value, *slopes = _sums_operation(definition, wrt, mean, len(tail))(*given)
    shapes = {name: p.shape for name, p in zip(definition.parameters, operands[count:], strict=True)}
    return [value, *(sum_to(s, shapes[name]) if name in shapes else s for name, s in zip(wrt, slopes, strict=True))]


def _trailing(parameter: jax.Array, tail: tuple[int, ...]) -> jax.Array:
    """A parameter without the leading axes of length 1 that are not in the tail."""
    return parameter.reshape(parameter.shape[max(0, parameter.ndim - len(tail)) :])


@functools.cache
def _sums_operation(definition: Definition, wrt: tuple[str, ...], mean: bool, columns: int) -> Operation:
    """`sums` of operands and perhaps weights of one rank, the parameters with axes for the last columns."""
    composite = functools.partial(_composed, definition, wrt, mean)

    @custom_vmap
    def operation(*operands: jax.Array) -> _Arrays:
        if backend() == "composite":
            return composite(*operands)
        ways = {"cpu": _called_sums, "cuda": _launched_sums}
        return _by_platform(operands, composite, ways, partitioned_sums, definition, wrt, mean)

    @operation.def_vmap
    def _(size: int, batched: Sequence[bool], *operands: jax.Array) -> tuple[_Arrays, tuple[bool, ...]]:
        in_axes = tuple(0 if b else None for b in batched)
        return jax.vmap(composite, in_axes, axis_size=size)(*operands), (True,) * (1 + len(wrt))

    return operation


def _called_sums(definition: Definition, wrt: tuple[str, ...], mean: bool, *operands: jax.Array) -> _Arrays:
    """The sums that the handler computes over this device's part of each operand."""
    code = xla_frame.code_of_sums(definition, wrt, mean, len(operands) > len(definition.operands))
    return _handled(code, _like_sums(definition, wrt, operands), operands)


def _like_sums(definition: Definition, wrt: tuple[str, ...], operands: Sequence[jax.Array]) -> list[jax.Array]:
    """Arrays like the results in shape, dtype and how they are cut."""
    named = zip(definition.operands, operands, strict=False)
    return [operands[0].sum(), *(o for name, o in named if name in wrt)]


def _composed(definition: Definition, wrt: tuple[str, ...], mean: bool, *operands: jax.Array) -> _Arrays:
    """Sums of XLA's, over the kernels' outputs for each element; of operands and perhaps weights."""
    count = len(definition.operands)
    operands, weights = operands[:count], operands[count] if len(operands) > count else None
    outputs = evaluate(definition, ("value", *("d" + n for n in wrt)), *masked(definition, operands, weights))
    return total(definition, outputs, wrt, mean, operands, weights)
