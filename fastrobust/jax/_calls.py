"""Arrays of JAX in and out of the kernels: what XLA calls, on which platform, batched and sharded.  No derivatives.

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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.sharding import NamedSharding, PartitionSpec

from ..kernels.arithmetic import scaling
from ..kernels.compilers.alone import imported
from ..kernels.loops import traced, xla_frame, xla_table
from ..kernels.losses.signatures import LOSS
from . import _private

_TARGET = "fastrobust"
# In the place that XLA keeps of each call, and that JAX shows where it refuses to export one.
_SCOPE = "fastrobust: how to export it says help('fastrobust.jax')"


@functools.cache
def backend() -> str:
    """How the functions run on CPUs: "ffi", by the compiled kernels, or "composite", by XLA's own operations.

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
            found = float(jax.jit(functools.partial(_called, "loss", ("value",)))(probe, probe, probe)[0][0])
    except jax.errors.JaxRuntimeError:  # the handler's, or XLA's about its version
        return "composite"
    return "ffi" if xla_table.seen() is not None and abs(found - (2**1.5 - 1) / 3) < 1e-6 else "composite"


@functools.cache
def _register() -> None:
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    jax.ffi.register_ffi_target(_TARGET, capsule(xla_table.handler(), None, None), platform="cpu", api_version=1)


def evaluate(family: str, names: Sequence[str], *operands: Any) -> list[Any]:
    """The named outputs for each element; operands that broadcast, all float32 or all float64."""
    rank = max(o.ndim for o in operands)
    aligned = [o.reshape((1,) * (rank - o.ndim) + o.shape) for o in operands]
    order = xla_frame.ordered(family, names)
    found = dict(zip(order, _operation(family, order)(*aligned), strict=True))
    return [found[name] for name in names]


@functools.cache
def _operation(family: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """`evaluate` for operands of one rank, which broadcasting also batches."""

    @custom_vmap
    def operation(*operands: Any) -> Any:
        composite: Callable[..., Any] = functools.partial(_composite, family, names)
        if backend() == "composite":
            return composite(*operands)
        return _by_platform(operands, composite, {"cpu": _called, "cuda": _launched}, _partitioned, family, names)

    @operation.def_vmap
    def _(size: int, batched: Any, *operands: Any) -> Any:
        moved = [o if b else o[None] for o, b in zip(operands, batched, strict=True)]
        return operation(*moved), (True,) * len(names)

    return operation


def _called(family: str, names: tuple[str, ...], *operands: Any) -> tuple[Any, ...]:
    """By the handler; on this device's part of each operand."""
    like = [functools.reduce(jnp.add, operands)] * len(names)  # in shape, dtype and how it is cut
    return _handled(xla_frame.code_of(family, names), like, operands)


def _handled(code: int, like: Sequence[Any], operands: Sequence[Any]) -> tuple[Any, ...]:
    """What the handler finds, which is like those."""
    with jax.named_scope(_SCOPE):
        found = jax.ffi.ffi_call(_TARGET, tuple(map(jax.typeof, like)))(*operands, code=np.int64(code))
    return _typed(found, like)


def _typed(found: Sequence[Any], like: Sequence[Any]) -> tuple[Any, ...]:
    """What was found, cut as it should be, of which some calls and versions of JAX know nothing; XLA removes the 1."""
    pairs = zip(found, like, strict=True)
    return tuple(part if jax.typeof(part) == jax.typeof(t) else part * jnp.ones_like(t) for part, t in pairs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _composite(family: str, names: tuple[str, ...], *operands: Any) -> tuple[Any, ...]:
    """By XLA's operations."""
    return traced.evaluate(jnp, jax.lax, _take, family, names, *operands)


def _take(column: Any, i: Any) -> Any:
    sharding = _private.explicit_sharding(i)
    if sharding is None:
        return jnp.asarray(column)[i]
    return jnp.asarray(column).at[i].get(out_sharding=sharding)


def _by_platform(
    operands: Sequence[Any], composite: Any, ways: dict[str, Any], partitioned: Callable[..., Any], *what: Any
) -> Any:
    """What runs depends on where; each way on several devices, unless `shard_map` has cut the operands already."""
    varying = [_private.varying(o) for o in operands]
    if not _has_cuda_kernels():
        del ways["cuda"]
    calls = {
        platform: functools.partial(call, *what) if any(varying) else partitioned(call, *what)
        for platform, call in ways.items()
    }
    return jax.lax.platform_dependent(*_unified(operands, varying), default=composite, **calls)


# --- GPUs


@functools.cache
def _has_cuda_kernels() -> bool:
    return _private.buffer_callback() is not None and importlib.util.find_spec("cupy") is not None


class _External:
    """A stream of XLA's, for `cupy.cuda.Stream.from_external`."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer  # version of the protocol, and the stream


def _on_stream(work: Callable[..., None], like: Sequence[Any], operands: Sequence[Any]) -> tuple[Any, ...]:
    """work(backend, results, operands) over XLA's memory and on its stream; the results are like those."""
    buffer_callback = _private.buffer_callback()
    assert buffer_callback is not None  # else `_has_cuda_kernels` says no

    def run(context: Any, out: Any, *args: Any) -> None:
        cupy, backend = imported("cupy"), imported("fastrobust._backends.cupy")
        with cupy.cuda.Stream.from_external(_External(context.stream)):
            work(backend, tuple(map(cupy.asarray, out)), [cupy.asarray(a) for a in args])

    types = tuple(map(jax.typeof, like))
    return _typed(buffer_callback(run, types, command_buffer_compatible=True)(*operands), like)


def _launched(family: str, names: tuple[str, ...], *operands: Any) -> tuple[Any, ...]:
    """`_called` on a GPU."""

    def work(backend: Any, out: Any, args: Any) -> None:
        if family == "partition":
            backend.partition(names, *args, {"out": out})
        else:
            backend.evaluate(family, names, *args, {"out": out})

    return _on_stream(work, [functools.reduce(jnp.add, operands)] * len(names), operands)


def _launched_sums(family: str, wrt: tuple[str, ...], mean: bool, *operands: Any) -> tuple[Any, ...]:
    """`_called_sums` on a GPU."""

    def work(backend: Any, out: Any, args: Any) -> None:
        memory = dict(zip(("value", *wrt), out, strict=True))
        given = tuple(memory.get(name) for name in ("value", "x", "alpha", "scale"))
        weights = args[3] if len(args) > 3 else None
        backend.reduce(family, wrt, *args[:3], "mean" if mean else "sum", weights, given)

    return _on_stream(work, _like_sums(wrt, operands), operands)


# --- sums


def tail_of(*shapes: Any) -> tuple[int, ...] | None:
    """The trailing axes of x, of which these are the shapes and those of the parameters, that the latter vary along.

    None where sums need another way: parameters that vary along all axes, and lengths that are not known.
    """
    shape = jnp.broadcast_shapes(*shapes)
    if not all(isinstance(n, int) for n in shape):
        return None
    first = min((len(shape) - len(s) + i for s in shapes[1:] for i, n in enumerate(s) if n > 1), default=len(shape))
    tail = tuple(shape[first:])
    whole = math.prod(shape)
    return tail if whole and (not tail or math.prod(tail) < whole) else None


def sums(
    family: str, wrt: tuple[str, ...], mean: bool, tail: tuple[int, ...], x: Any, alpha: Any, scale: Any, weights: Any
) -> list[Any]:
    """The sum or mean, then the gradients in the order x, alpha, scale, of their shapes; x of that of the result."""
    shape = jnp.broadcast_shapes(x.shape, alpha.shape, scale.shape)
    lead = (1,) * (len(shape) - len(tail))
    columns = [
        p.reshape((1,) * len(shape)) if p.size == 1 else jnp.broadcast_to(p, tail).reshape(lead + tail)
        for p in (_trailing(alpha, tail), _trailing(scale, tail))
    ]
    operands = [jnp.broadcast_to(x, shape), *columns]
    if weights is not None:
        operands.append(jnp.broadcast_to(weights, shape))
    found = list(_sums_operation(family, wrt, mean, len(tail))(*operands))
    for i, name in enumerate(("value", *wrt)):
        if name in ("alpha", "scale"):
            like = alpha if name == "alpha" else scale
            found[i] = sum_to(found[i], like.shape)
    return found


def _trailing(parameter: Any, tail: tuple[int, ...]) -> Any:
    """A parameter without the leading axes of length 1 that are not in the tail."""
    return parameter.reshape(parameter.shape[max(0, parameter.ndim - len(tail)) :])


def sum_to(part: Any, shape: tuple[int, ...]) -> Any:
    """Summed over the axes along which something of that shape was broadcast."""
    lead = part.ndim - len(shape)
    if lead < 0:
        return part.reshape(shape)
    part = part.sum(tuple(range(lead)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 != part.shape[i])
    return part.sum(axes, keepdims=True) if axes else part


@functools.cache
def _sums_operation(family: str, wrt: tuple[str, ...], mean: bool, columns: int) -> Callable[..., Any]:
    """`sums` of x, alpha, scale and perhaps weights of one rank, the parameters with axes for the last columns."""
    composite = functools.partial(composed, family, wrt, mean)

    @custom_vmap
    def operation(*operands: Any) -> Any:
        if backend() == "composite":
            return composite(*operands)
        ways = {"cpu": _called_sums, "cuda": _launched_sums}
        return _by_platform(operands, composite, ways, _partitioned_sums, family, wrt, mean)

    @operation.def_vmap
    def _(size: int, batched: Any, *operands: Any) -> Any:
        in_axes = tuple(0 if b else None for b in batched)
        return jax.vmap(composite, in_axes, axis_size=size)(*operands), (True,) * (1 + len(wrt))

    return operation


def _called_sums(family: str, wrt: tuple[str, ...], mean: bool, *operands: Any) -> tuple[Any, ...]:
    """By the handler; on this device's part of each operand."""
    return _handled(xla_frame.code_of_sums(family, wrt, mean), _like_sums(wrt, operands), operands)


def _like_sums(wrt: tuple[str, ...], operands: Sequence[Any]) -> list[Any]:
    """Arrays like the results in shape, dtype and how they are cut."""
    own = zip(LOSS.operands, operands, strict=False)
    return [operands[0].sum(), *(o for name, o in own if name in wrt)]


def composed(
    family: str, wrt: tuple[str, ...], mean: bool, x: Any, alpha: Any, scale: Any, weights: Any = None
) -> tuple[Any, ...]:
    """Sums of XLA's, over the kernels' outputs for each element."""
    found = evaluate(family, ("value", *("d" + n for n in wrt)), *masked(weights, x, alpha, scale))
    return total(found, wrt, mean, alpha, scale, weights)


def masked(weights: Any, x: Any, alpha: Any, scale: Any) -> tuple[Any, Any, Any]:
    """The arguments, harmless where the weight is 0: later a derivative of NaN there would meet a factor of 0."""
    if weights is None:
        return x, alpha, scale
    none = weights == 0
    alpha, scale = (p if p.size == 1 else jnp.where(none, 1.0, p) for p in (alpha, scale))
    return jnp.where(none, 0.0, x), alpha, scale


def total(
    found: Sequence[Any], wrt: tuple[str, ...], mean: bool, alpha: Any, scale: Any, weights: Any
) -> tuple[Any, ...]:
    """The sum or mean of the first, and what follows weighted, in the shapes of what it belongs to."""
    count: Any = found[0].size if mean else 1.0
    if weights is not None:
        if mean:
            weights = lifted(weights, found[0].shape, found[0].dtype)
            count = jnp.broadcast_to(weights, found[0].shape).sum()
        found = [jnp.where(weights == 0, 0.0, part * weights) for part in found]
    count = jnp.asarray(count, found[0].dtype)
    results = [_summed(found[0], (), count)]
    for name, part in zip(wrt, found[1:], strict=True):
        like = {"x": part, "alpha": alpha, "scale": scale}[name]
        results.append(_summed(part, like.shape, count))
    return tuple(results)


def lifted(weights: Any, shape: Any, dtype: Any) -> Any:
    """Weights of a mean times a power of two, such that they sum to about 1 over that shape: see `scaling`."""
    fixed = jax.lax.stop_gradient(weights)
    first = _inverse_power(abs(fixed).max(initial=0.0))  # so that the sum is in reach
    repeats = math.prod(shape) / max(math.prod(weights.shape), 1)
    second = _inverse_power(abs((fixed * first).sum()) * repeats)
    return (weights * first * second).astype(dtype)


def _inverse_power(size: Any) -> Any:
    """The power of two by which that becomes 1/2 to 1, as far as it is a normal number."""
    usual = (size > 0) & (size < math.inf)
    most = jnp.finfo(size.dtype).maxexp - 2
    return jnp.ldexp(jnp.ones_like(size), -jnp.clip(jnp.frexp(jnp.where(usual, size, 1.0))[1], -most, most))


def _summed(part: Any, shape: tuple[int, ...], count: Any) -> Any:
    """The sum to that shape over the count, NaN if that is 0; taken of smaller terms where it overflows otherwise."""
    plain, apart = (sum_to(p, shape) for p in (part, part * scaling.APART))
    found = scaling.divided(jnp, plain, apart, count)
    return jnp.where(count == 0, math.nan, found).astype(part.dtype)


# --- devices


def _unified(operands: Sequence[Any], varying: Sequence[frozenset[str]]) -> list[Any]:
    """The operands cut along all axes along which one of them is, which `jax.shard_map` asks for."""
    everything = frozenset().union(*varying)
    return [_private.cut(o, everything - v) for o, v in zip(operands, varying, strict=True)]


@functools.cache
def _partitioned(way: Callable[..., Any], family: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """`_called` or the like for arrays on several devices: each computes its part, and nothing is gathered."""

    def call(*operands: Any) -> Any:
        return way(family, names, *operands)

    def shardings(mesh: Any, operands: Any, results: Any) -> tuple[Any, Any]:
        """Of operands and results: the first that cuts an axis decides; axes of length 1 are whole."""
        shape = results[0].shape
        cuts: list[Any] = [None] * len(shape)
        for operand in operands:
            for axis, cut in enumerate(_private.cuts_of(operand)):
                taken = {name for c in cuts if c for name in ((c,) if isinstance(c, str) else c)}
                names_of = set() if cut is None else {cut} if isinstance(cut, str) else set(cut)
                if operand.shape[axis] == shape[axis] and cuts[axis] is None and not names_of & taken:
                    cuts[axis] = cut

        def of(lengths: Any) -> Any:
            whole = zip(cuts, lengths, shape, strict=True)
            return NamedSharding(mesh, PartitionSpec(*(cut if m == n else None for cut, m, n in whole)))

        return tuple(of(o.shape) for o in operands), of(shape)

    def infer(mesh: Any, operands: Any, results: Any) -> Any:
        return (shardings(mesh, operands, results)[1],) * len(names)

    def partition(mesh: Any, operands: Any, results: Any) -> Any:
        of_operands, of_results = shardings(mesh, operands, results)
        return mesh, functools.partial(way, family, names), (of_results,) * len(names), of_operands

    def rule(mesh: Any, operands: Any, results: Any) -> str:
        """Shardy's: an axis is the result's, or of length 1 and nobody else's."""
        shape = _private.lengths(results[0])
        sides = [_factors(k, _private.lengths(o), shape) for k, o in enumerate(operands)]
        return ", ".join(sides) + " -> " + ", ".join([_factors(0, shape, shape)] * len(names))

    return _private.partitioned(call, infer, partition, rule)


def _factors(operand: int, lengths: Sequence[int], shape: Sequence[int]) -> str:
    """The axes of an operand for Shardy: those of the shape, and such as are of length 1 instead."""
    pairs = enumerate(zip(lengths, shape, strict=True))
    return " ".join(f"i{axis}" if m == n else f"u{operand}_{axis}" for axis, (m, n) in pairs)


@functools.cache
def _partitioned_sums(way: Callable[..., Any], family: str, wrt: tuple[str, ...], mean: bool) -> Callable[..., Any]:
    """`_called_sums` or the like for arrays on several devices: each sums its part, and only the sums travel."""

    def call(*operands: Any) -> Any:
        return way(family, wrt, mean, *operands)

    def shardings(mesh: Any, operands: Any) -> tuple[list[Any], list[Any]]:
        """Of operands and results: as x lies; axes of length 1 are whole."""
        x = operands[0]
        spec = _private.cuts_of(x)
        cuts = spec + (None,) * (len(x.shape) - len(spec))
        of = [
            NamedSharding(mesh, PartitionSpec(*(cut if n > 1 else None for cut, n in zip(cuts, o.shape, strict=True))))
            for o in operands
        ]
        own = dict(zip(LOSS.operands, of, strict=False))
        return of, [NamedSharding(mesh, PartitionSpec()), *(own[name] for name in wrt)]

    def infer(mesh: Any, operands: Any, results: Any) -> Any:
        return tuple(shardings(mesh, operands)[1])

    def partition(mesh: Any, operands: Any, results: Any) -> Any:
        of_operands, of_results = shardings(mesh, operands)
        everywhere = _axes_of(of_operands[0])
        count = math.prod(operands[0].shape)

        def over_all(reduce: Callable[..., Any], value: Any) -> Any:
            return reduce(value, everywhere) if everywhere else value

        def part(*local: Any) -> tuple[Any, ...]:
            weighted = len(local) == 4
            divisor: Any = 1.0
            if mean and weighted:
                # Within reach on all devices, and their sum within that of one.
                first = _inverse_power(over_all(jax.lax.pmax, abs(local[3]).max(initial=0.0)))
                second = _inverse_power(abs(over_all(jax.lax.psum, (local[3] * first).sum())))
                local = (*local[:3], local[3] * first * second)
                divisor = over_all(jax.lax.psum, local[3].sum())
            elif mean:
                divisor = count / max(math.prod(local[0].shape), 1)  # the sum of means is finite where sums are not
            found = list(way(family, wrt, mean and not weighted, *local))
            for i, sharding in enumerate(of_results):
                if i == 0 or wrt[i - 1] != "x":
                    over = tuple(name for name in everywhere if name not in _axes_of(sharding))
                    found[i] = jax.lax.psum(found[i], over) if over else found[i]
                if mean:
                    found[i] = found[i] / jnp.where(divisor == 0, math.nan, divisor).astype(found[i].dtype)
            return tuple(found)

        return mesh, part, tuple(of_results), tuple(of_operands)

    def rule(mesh: Any, operands: Any, results: Any) -> str:
        """Shardy's: an axis is that of x, or of length 1 and nobody else's."""
        shape = _private.lengths(operands[0])
        sides = [_factors(k, _private.lengths(o), shape) for k, o in enumerate(operands)]
        own = dict(zip(LOSS.operands, sides, strict=False))
        return ", ".join(sides) + " -> " + ", ".join(["", *(own[name] for name in wrt)])

    return _private.partitioned(call, infer, partition, rule)


def _axes_of(sharding: Any) -> tuple[str, ...]:
    """The axes of the mesh that cut something."""
    return tuple(n for cut in sharding.spec if cut for n in ((cut,) if isinstance(cut, str) else cut))
