"""The parts of JAX that it does not promise to keep, which no other module touches.

Each is a function, which says what is done where it is gone; types name what these take and give.  Elsewhere only
documented names of JAX are used; a test holds that.  `partitioned`, `is_zero`, `has_no_numbers` and `cut` have nothing
in their place, so JAX has a cap in pyproject.toml, after the newest minor version that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import jax
from jax.sharding import Mesh, NamedSharding

from .._types import DType
from ..kernels.compilers.alone import imported

try:
    from jax.custom_derivatives import SymbolicZero
    from jax.experimental.custom_partitioning import custom_partitioning
except ImportError as error:
    raise ImportError(
        f"JAX {jax.__version__} has moved what fastrobust needs of its interior ({error}): install another version"
    ) from error

__all__ = [
    "Cut",
    "Described",
    "Mesh",
    "Operation",
    "Shardings",
    "buffer_callback",
    "cut",
    "cuts_of",
    "explicit_sharding",
    "has_no_numbers",
    "is_zero",
    "lengths",
    "partitioned",
    "varying",
]


Cut: TypeAlias = str | tuple[str, ...] | None  # the axes of a mesh that cut an axis of an array
Operation: TypeAlias = Callable[..., tuple[jax.Array, ...]]  # of arrays
Described: TypeAlias = Sequence[jax.ShapeDtypeStruct]  # arrays by their shapes, dtypes and shardings
Shardings: TypeAlias = tuple[NamedSharding, ...]


def partitioned(
    call: Operation,
    infer: Callable[[Mesh, Described, Described], Shardings],
    partition: Callable[[Mesh, Described, Described], tuple[Mesh, Operation, Shardings, Shardings]],
    rule: Callable[[Mesh, Sequence[object], Sequence[object]], str],
) -> Operation:
    """The call, for arrays on several devices: by `custom_partitioning`, which is experimental.

    ``infer`` is for GSPMD, ``rule`` for Shardy.  If it is gone, `fastrobust.jax` is not imported.
    """
    operation = custom_partitioning(call)
    operation.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return operation


def lengths(value: object) -> list[int]:
    """The lengths of the axes of what a ``rule`` of `partitioned` is given, an MLIR type; none if it has no shape."""
    return list(getattr(value, "shape", None) or [])


def cuts_of(operand: jax.ShapeDtypeStruct) -> tuple[Cut, ...]:
    """The cuts of an operand in `partitioned`, axis by axis; none where its sharding has no ``spec``."""
    return tuple(getattr(operand.sharding, "spec", None) or ())


def is_zero(tangent: object) -> bool:
    """Tell whether a tangent is zero as JAX sees before it computes, in rules with ``symbolic_zeros=True``.

    By the class `SymbolicZero`.  If it is gone, `fastrobust.jax` is not imported.
    """
    return isinstance(tangent, SymbolicZero)


def has_no_numbers(dtype: DType) -> bool:
    """Tell whether a dtype is one of JAX's own, as of random keys.

    By `jax.dtypes.extended`, which no list of names has.  If it is gone, every call is an AttributeError.
    """
    return bool(jax.numpy.issubdtype(dtype, jax.dtypes.extended))


def explicit_sharding(array: jax.Array) -> NamedSharding | None:
    """The sharding of an array with explicit axes, of which JAX must be told; None for others.

    By the type's ``sharding``; if that is gone: None.
    """
    sharding = getattr(jax.typeof(array), "sharding", None)
    return sharding if sharding is not None and any(sharding.spec) else None


def varying(operand: jax.Array) -> frozenset[str]:
    """The axes of a mesh along which `shard_map` cuts an operand.

    By the type's ``manual_axis_type``, or ``vma`` before JAX 0.10; if both are gone, as outside of `shard_map`: none.
    """
    aval = jax.typeof(operand)
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset(manual.varying) if manual is not None else getattr(aval, "vma", frozenset())


def cut(operand: jax.Array, axes: Iterable[str]) -> jax.Array:
    """An operand cut along these axes, too, as `jax.shard_map` asks for.

    By `jax.lax.pcast`, or `jax.lax.pvary` where that is missing; if both are gone, an AttributeError.
    """
    axes = tuple(axes)
    if not axes:
        return operand
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(operand, axes, to="varying")
    return jax.lax.pvary(operand, axes)


def buffer_callback() -> Callable[..., Callable[..., Sequence[jax.Array]]] | None:
    """The function that has XLA call Python with its memory and stream, from JAX 0.7 on; None if it is gone.

    GPUs run XLA's own operations then.
    """
    try:
        return imported("jax.experimental.buffer_callback").buffer_callback
    except ImportError:
        return None
