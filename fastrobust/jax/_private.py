"""What JAX does not promise to keep: the one module that touches it.

Each thing is a function, which says what is done where it is gone.  Elsewhere only documented names of JAX are used; a
test holds that.  `partitioned`, `is_zero`, `has_no_numbers` and `cut` have nothing in their place, so JAX has a cap in
pyproject.toml, after the newest minor version that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax

from ..kernels.compilers.alone import imported

try:
    from jax.custom_derivatives import SymbolicZero
    from jax.experimental.custom_partitioning import custom_partitioning
except ImportError as error:
    raise ImportError(
        f"JAX {jax.__version__} has moved what fastrobust needs of its interior ({error}): install another version"
    ) from error

__all__ = [
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


def partitioned(
    call: Callable[..., Any], infer: Callable[..., Any], partition: Callable[..., Any], rule: Callable[..., str]
) -> Callable[..., Any]:
    """The call, for arrays on several devices: by `custom_partitioning`, which is experimental.

    ``infer`` is for GSPMD, ``rule`` for Shardy.  If it is gone, `fastrobust.jax` is not imported.
    """
    found = custom_partitioning(call)
    found.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return found


def lengths(value: Any) -> list[int]:
    """The lengths of the axes of what a ``rule`` of `partitioned` is given, an MLIR type; none if it has no shape."""
    return list(getattr(value, "shape", None) or [])


def cuts_of(operand: Any) -> tuple[Any, ...]:
    """How an operand in `partitioned` is cut, axis by axis; as not at all where its sharding has no ``spec``."""
    return tuple(getattr(operand.sharding, "spec", None) or ())


def is_zero(tangent: Any) -> bool:
    """Whether a tangent is zero as JAX sees before it computes, in rules with ``symbolic_zeros=True``.

    By the class `SymbolicZero`.  If it is gone, `fastrobust.jax` is not imported.
    """
    return isinstance(tangent, SymbolicZero)


def has_no_numbers(dtype: Any) -> bool:
    """Whether a dtype is one of JAX's own, as of random keys: by `jax.dtypes.extended`, which no list of names has.

    If it is gone, every call is an AttributeError.
    """
    return bool(jax.numpy.issubdtype(dtype, jax.dtypes.extended))


def explicit_sharding(array: Any) -> Any:
    """The sharding of an array with explicit axes, of which JAX must be told; None for others.

    By the type's ``sharding``; if that is gone: None.
    """
    sharding = getattr(jax.typeof(array), "sharding", None)
    return sharding if sharding is not None and any(sharding.spec) else None


def varying(operand: Any) -> frozenset[str]:
    """The axes of a mesh along which `shard_map` cuts an operand.

    By the type's ``manual_axis_type``, or ``vma`` before JAX 0.10; if both are gone, as outside of `shard_map`: none.
    """
    aval = jax.typeof(operand)
    manual = getattr(aval, "manual_axis_type", None)
    return frozenset(manual.varying) if manual is not None else getattr(aval, "vma", frozenset())


def cut(operand: Any, axes: Iterable[str]) -> Any:
    """An operand cut along these axes, too, as `jax.shard_map` asks for.

    By `jax.lax.pcast`, or `jax.lax.pvary` where that is missing; if both are gone, an AttributeError.
    """
    axes = tuple(axes)
    if not axes:
        return operand
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(operand, axes, to="varying")
    return jax.lax.pvary(operand, axes)


def buffer_callback() -> Callable[..., Any] | None:
    """What has XLA call Python with its memory and stream, from JAX 0.7 on; None if it is gone.

    GPUs run XLA's own operations then.
    """
    try:
        return imported("jax.experimental.buffer_callback").buffer_callback
    except ImportError:
        return None
