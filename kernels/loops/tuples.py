"""Tuples of numbers in loops, as intrinsics: each part stays in a register of its own, which has no index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["any_of", "each_of", "fold_of", "picker", "repeated", "transposed"]

_I64 = ir.IntType(64)


def each_of(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """each(owns, others): the tuple of function(k, *(own[k] for own in owns), *others) for k up to the count.

    ``owns`` and ``others`` are tuples; k is a constant in each of the calls.  None, if the function returns that.
    """

    @intrinsic
    def each(typing: Any, owns: Any, others: Any) -> Any:
        """The type of one call, found from those of the parts, is that of all."""
        kind = typing.resolve_value_type(function)
        sig = typing.resolve_function_type(kind, (types.int64, *(own.dtype for own in owns), *others), {})
        empty = sig.return_type == types.none

        def lower(context: Any, builder: Any, whole: Any, args: Any) -> Any:
            """A call for each k, with the parts of the tuples taken out."""
            call = context.get_function(kind, sig)
            rest = [builder.extract_value(args[1], j) for j in range(len(others))]
            results = []
            for k in range(count):
                own = [builder.extract_value(args[0], [j, k]) for j in range(len(owns))]
                results.append(call(builder, [_I64(k), *own, *rest]))
            return context.get_dummy_value() if empty else context.make_tuple(builder, whole.return_type, results)

        return (types.none if empty else types.UniTuple(sig.return_type, count))(owns, others), lower

    return each


def fold_of(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """fold(total, parts): function(...function(function(total, parts[0]), parts[1])..., parts[count - 1])."""

    @intrinsic
    def fold(typing: Any, total: Any, parts: Any) -> Any:
        """The calls in a row; the function must return the type of the total."""
        kind = typing.resolve_value_type(function)
        sig = typing.resolve_function_type(kind, (total, parts.dtype), {})

        def lower(context: Any, builder: Any, whole: Any, args: Any) -> Any:
            call, so_far = context.get_function(kind, sig), args[0]
            for k in range(count):
                so_far = call(builder, [so_far, builder.extract_value(args[1], k)])
            return so_far

        return total(total, parts), lower

    return fold


@intrinsic
def any_of(typing: Any, flags: Any) -> Any:
    """Tell whether one of a tuple of flags is set."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        either = builder.extract_value(args[0], 0)
        for k in range(1, sig.args[0].count):
            either = builder.or_(either, builder.extract_value(args[0], k))
        return either

    return flags.dtype(flags), lower


def repeated(count: int) -> Callable[..., Any]:
    """repeat(value): a tuple with that value so many times."""

    @intrinsic
    def repeat(typing: Any, value: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return context.make_tuple(builder, sig.return_type, [args[0]] * count)

        return types.UniTuple(value, count)(value), lower

    return repeat


def picker(places: tuple[int, ...]) -> Callable[..., Any]:
    """pick(values): the tuple of those at these places."""

    @intrinsic
    def pick(typing: Any, values: Any) -> Any:
        """The parts are of one type, so that any of them make such a tuple."""

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            picked = [builder.extract_value(args[0], place) for place in places]
            return context.make_tuple(builder, sig.return_type, picked)

        return types.UniTuple(values.dtype, len(places))(values), lower

    return pick


@intrinsic
def transposed(typing: Any, rows: Any) -> Any:
    """A tuple of tuples, the other way round: part j of what is returned holds part j of each."""
    height, width = rows.count, rows.dtype.count
    kind = types.UniTuple(rows.dtype.dtype, height)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """A tuple of the parts j of all rows, for each j."""
        columns = [
            context.make_tuple(builder, kind, [builder.extract_value(args[0], [i, j]) for i in range(height)])
            for j in range(width)
        ]
        return context.make_tuple(builder, sig.return_type, columns)

    return types.UniTuple(kind, width)(rows), lower
