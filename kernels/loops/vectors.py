"""Vectors of elements, and lines of memory, as intrinsics: what LLVM would not make of a loop, or not as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..arithmetic.numba_private import get_or_insert_function
from .panels import LANES

__all__ = [
    "LANES",
    "add_scaled",
    "adding",
    "fence",
    "highest",
    "load_lanes",
    "prefetch",
    "store_line",
    "storing",
    "summing",
    "turn_in",
    "turn_out",
]

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def adding(pairs: Sequence[tuple[int, int]]) -> Any:
    """add(partial, buffer, first, step): sums by lanes, of a slot and a place in the buffer for each pair.

    `LANES` elements of buffer[place + first:], times step, are added to as many doubles of partial, those of the slot.
    Floats have no step.
    """

    @intrinsic
    def add(typing: Any, partial: Any, buffer: Any, first: Any, step: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """In vectors, which LLVM would make of this with two elements each."""
            memory, buffer, first, step = args
            doubles, size = ir.VectorType(ir.DoubleType(), LANES), sig.args[1].dtype.bitwidth // 8
            for slot, place in pairs:
                term = _loaded(builder, buffer, builder.add(first, first.type(place)), size)
                sums = builder.bitcast(builder.gep(memory, [first.type(slot * LANES)]), doubles.as_pointer())
                before = builder.load(sums)
                before.align = 64
                if size == 4:
                    after = builder.fadd(before, builder.fpext(term, doubles))
                else:
                    kind = ir.FunctionType(doubles, [doubles] * 3)
                    fused = get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f64")
                    after = builder.call(fused, [term, _repeated(builder, step), before])
                builder.store(after, sums).align = 64
            return context.get_dummy_value()

        return types.void(partial, buffer, first, step), lower

    return add


def summing(exactly: bool) -> Any:
    """add(partial, at, rest, buffer, first): as `adding`, of doubles without a step, to partial[at:].

    Exactly: what the sums lack is added to partial[rest:].
    """

    @intrinsic
    def add(typing: Any, partial: Any, at: Any, rest: Any, buffer: Any, first: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """A sum of two vectors, and what it lacks (Knuth's two-sum)."""
            memory, at, rest, buffer, first = args
            term = _loaded(builder, buffer, first, 8)

            def loaded(place: Any) -> tuple[Any, Any]:
                where = builder.bitcast(builder.gep(memory, [place]), term.type.as_pointer())
                content = builder.load(where)
                content.align = 64
                return where, content

            place, before = loaded(at)
            after = builder.fadd(before, term)
            builder.store(after, place).align = 64
            if exactly:
                place, lacking = loaded(rest)
                added = builder.fsub(after, before)
                low = builder.fadd(builder.fsub(before, builder.fsub(after, added)), builder.fsub(term, added))
                builder.store(builder.fadd(lacking, low), place).align = 64
            return context.get_dummy_value()

        return types.void(partial, at, rest, buffer, first), lower

    return add


@intrinsic
def highest(typing: Any, top: Any, buffer: Any, first: Any) -> Any:
    """By lanes, the larger of top and of `LANES` elements of buffer[first:]; NaN is passed over."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """A comparison and a choice, in vectors."""
        memory, buffer, first = args
        term = _loaded(builder, buffer, first, sig.args[1].dtype.bitwidth // 8)
        place = builder.bitcast(memory, term.type.as_pointer())
        before = builder.load(place)
        before.align = 64
        higher = builder.fcmp_ordered(">", term, before)
        builder.store(builder.select(higher, term, before), place).align = 64
        return context.get_dummy_value()

    return types.void(top, buffer, first), lower


@intrinsic
def add_scaled(typing: Any, memory: Any, at: Any, first: Any, second: Any, factor: Any) -> Any:
    """Add to `LANES` elements of memory[at:] the factor times the sum of those of memory[first:] and memory[second:].

    The sum is rounded, and its product with what it is added to once.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Loads, a sum, and a fused product, in vectors."""
        memory, at, first, second, factor = args
        size = sig.args[0].dtype.bitwidth // 8
        before, one, other = (_loaded(builder, memory, place, size) for place in (at, first, second))
        kind = ir.FunctionType(before.type, [before.type] * 3)
        fused = get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f{8 * size}")
        after = builder.call(fused, [_repeated(builder, factor), builder.fadd(one, other), before])
        _stored(builder, after, memory, at, size)
        return context.get_dummy_value()

    return types.void(memory, at, first, second, factor), lower


@intrinsic
def load_lanes(typing: Any, memory: Any, at: Any, address: Any, factor: Any) -> Any:
    """Put `LANES` elements from an address, times the factor, to memory[at:]."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """A load, a product, and a store."""
        memory, at, address, factor = args
        size = sig.args[0].dtype.bitwidth // 8
        content = _loaded(builder, builder.inttoptr(address, memory.type), _I64(0), size)
        _stored(builder, builder.fmul(content, _repeated(builder, factor)), memory, at, size)
        return context.get_dummy_value()

    return types.void(memory, at, address, factor), lower


@intrinsic
def turn_in(typing: Any, memory: Any, at: Any, apart: Any, address: Any, line_step: Any, factor: Any) -> Any:
    """Put `LANES` elements of each of as many lines to memory, times the factor: of all lines those at one place.

    The first go to memory[at:], the next ones so many elements apart.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Lines are loaded, turned, multiplied and stored."""
        memory, at, apart, address, line_step, factor = args
        size, by = sig.args[0].dtype.bitwidth // 8, _repeated(builder, factor)
        places = [builder.add(address, builder.mul(line_step, _I64(k))) for k in range(LANES)]
        lines = [_loaded(builder, builder.inttoptr(place, memory.type), _I64(0), size) for place in places]
        for k, row in enumerate(_turned(builder, lines)):
            place = builder.add(at, builder.mul(apart, _I64(k)))
            _stored(builder, builder.fmul(row, by), memory, place, size)
        return context.get_dummy_value()

    return types.void(memory, at, apart, address, line_step, factor), lower


@intrinsic
def turn_out(typing: Any, memory: Any, at: Any, apart: Any, address: Any, line_step: Any, factor: Any) -> Any:
    """The same the other way round, from memory to lines."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """Rows are loaded, multiplied, turned and stored."""
        memory, at, apart, address, line_step, factor = args
        size, by = sig.args[0].dtype.bitwidth // 8, _repeated(builder, factor)
        places = [builder.add(at, builder.mul(apart, _I64(k))) for k in range(LANES)]
        rows = [builder.fmul(_loaded(builder, memory, place, size), by) for place in places]
        for k, line in enumerate(_turned(builder, rows)):
            place = builder.add(address, builder.mul(line_step, _I64(k)))
            _stored(builder, line, builder.inttoptr(place, memory.type), _I64(0), size)
        return context.get_dummy_value()

    return types.void(memory, at, apart, address, line_step, factor), lower


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """A square of elements the other way round: element j of what is returned at i is element i of row j.

    Blocks off the diagonal are exchanged, of one element, of two, and so on.
    """
    distance = 1
    while distance < LANES:
        kept, moved = [], []
        for p in range(LANES):
            kept.append(p if not p & distance else LANES + p - distance)
            moved.append(p + distance if not p & distance else LANES + p)
        for first in range(LANES):
            if not first & distance:
                one, other = rows[first], rows[first + distance]
                rows[first], rows[first + distance] = (
                    builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_I32, LANES), mask))
                    for mask in (kept, moved)
                )
        distance *= 2
    return rows


def storing(past: bool) -> Any:
    """store(address, buffer, first, factor): `LANES` elements of buffer[first:] times factor, past the caches or not.

    Past them the address must be a multiple of 16; parts of a line that come one after the other are put together.
    """

    @intrinsic
    def store(typing: Any, address: Any, buffer: Any, first: Any, factor: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            """A load, a product, and a store."""
            address, buffer, first, factor = args
            size = sig.args[1].dtype.bitwidth // 8
            content = builder.fmul(_loaded(builder, buffer, first, size), _repeated(builder, factor))
            written = builder.store(content, builder.inttoptr(address, content.type.as_pointer()))
            written.align = 16 if past else size
            if past:
                _past_the_caches(builder, written)
            return context.get_dummy_value()

        return types.void(address, buffer, first, factor), lower

    return store


@intrinsic
def store_line(typing: Any, address: Any, buffer: Any, first: Any) -> Any:
    """Copy a line, 64 bytes, from buffer[first:] to an address that is a multiple of 64, past the caches."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """A load, and a store."""
        line = ir.VectorType(_I32, 16)
        content = builder.load(builder.bitcast(builder.gep(args[1], [args[2]]), line.as_pointer()))
        content.align = sig.args[1].dtype.bitwidth // 8
        written = builder.store(content, builder.inttoptr(args[0], line.as_pointer()))
        written.align = 64
        _past_the_caches(builder, written)
        return context.get_dummy_value()

    return types.void(address, buffer, first), lower


@intrinsic
def fence(typing: Any) -> Any:
    """Order the stores past the caches before what follows, for other threads to see."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), lower


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Have a line of memory fetched into the caches; it may lie beyond all that is there, then nothing happens."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        """For reading, into all caches, as data."""
        place = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, *[_I32] * 3])
        function = get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(address), lower


def _loaded(builder: Any, buffer: Any, first: Any, size: int) -> Any:
    """`LANES` elements of buffer[first:], of so many bytes each."""
    lanes = ir.VectorType(buffer.type.pointee, LANES)
    content = builder.load(builder.bitcast(builder.gep(buffer, [first]), lanes.as_pointer()))
    content.align = size
    return content


def _stored(builder: Any, content: Any, buffer: Any, first: Any, size: int) -> None:
    """Write a vector to buffer[first:], of so many bytes an element."""
    builder.store(content, builder.bitcast(builder.gep(buffer, [first]), content.type.as_pointer())).align = size


def _repeated(builder: Any, number: Any) -> Any:
    """A vector of the number alone."""
    first = builder.insert_element(ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined), number, _I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, LANES), None))


def _past_the_caches(builder: Any, store: Any) -> None:
    """Have a store write past the caches."""
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_I32, 1)]))
