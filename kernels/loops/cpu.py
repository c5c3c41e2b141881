"""CPU kernels: the loops around the scalar functions, compiled to SIMD code on first use.

Every kernel has the signature of a NumPy inner loop, ``void(char **args, intp *dims, intp *steps, void *)``.
Elements go in blocks of `BLOCK` through buffers on the stack: strides, tails and overlapping outputs are the copies'
business, and the arithmetic always runs over contiguous memory that nothing else points to, a multiple of `LANES`
elements long.  Each stage of the arithmetic (see `barron`) runs over the block before the next one.

Kernels come in layouts: "shared" parameters are one number each, prepared once; otherwise there is one for each element
("each") or for each column ("columns"), and what depends on them alone goes through buffers, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..arithmetic.numba_private import alloca_once, get_or_insert_function
from ..arithmetic.primitives import fma, min, scalar
from ..compilers import native
from ..losses import barron
from ..losses.likelihood import FAMILIES, VALUES
from ..losses.partition import log_partition, log_partition_parts
from ..losses.signatures import PARTITION
from .launch import SUMS
from .memory import WORDS, pointer, stack

__all__ = ["BLOCK", "elementwise", "partition", "reduction"]

BLOCK = 256  # elements; 64, 128 and 512 are slower
LANES = 16
STREAM = 1 << 24  # bytes of output from which on they go past the caches

SIGNATURE = types.void(WORDS, WORDS, WORDS)

Floating = type[np.floating[Any]]


@intrinsic(prefer_literal=True)
def _buffers(typing: Any, count: Any, like: Any) -> Any:
    """That many times memory for a block.  Apart, so that what is written to one and never read can be removed."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_value_type(sig.args[1])
        found = []
        for _ in range(count.literal_value):
            memory = alloca_once(builder, ir.ArrayType(element, BLOCK))
            memory.align = 64
            found.append(builder.bitcast(memory, element.as_pointer()))
        return context.make_tuple(builder, sig.return_type, found)

    return types.UniTuple(types.CPointer(like), count.literal_value)(count, like), lower


@intrinsic
def _keep(typing: Any, buffers: Any, i: Any, values: Any) -> Any:
    """Element i of each buffer becomes the value at its place."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for j in range(sig.args[0].count):
            place = builder.gep(builder.extract_value(args[0], j), [args[1]])
            builder.store(builder.extract_value(args[2], j), place)
        return context.get_dummy_value()

    return types.void(buffers, i, values), lower


@intrinsic
def _recall(typing: Any, buffers: Any, i: Any) -> Any:
    """Element i of each buffer."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [builder.gep(builder.extract_value(args[0], j), [args[1]]) for j in range(sig.args[0].count)]
        return context.make_tuple(builder, sig.return_type, [builder.load(place) for place in places])

    return types.UniTuple(buffers.dtype.dtype, buffers.count)(buffers, i), lower


@intrinsic
def _forget_flags(typing: Any) -> Any:
    """Clear the floating-point status: lanes that a select discards may have raised anything.

    NumPy reads it after a ufunc's loop and would warn.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(32)
        function = get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "feclearexcept")
        builder.call(function, [word(_ALL_FLAGS)])
        return context.get_dummy_value()

    return types.void(), lower


# FE_ALL_EXCEPT of <fenv.h>
_ALL_FLAGS = 0x3D if native.host_is_x86() else 0x1F


@intrinsic
def _stream(typing: Any, address: Any, buffer: Any, first: Any) -> Any:
    """Copy `BLOCK` elements from buffer[first:] to an address that is a multiple of 64, past the caches."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        line = ir.VectorType(ir.IntType(32), 16)
        count = BLOCK * sig.args[1].dtype.bitwidth // 8 // 64
        source = builder.bitcast(builder.gep(args[1], [args[2]]), line.as_pointer())
        target = builder.inttoptr(args[0], line.as_pointer())
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        for i in range(count):
            step = [ir.Constant(ir.IntType(64), i)]
            value = builder.load(builder.gep(source, step))
            value.align = 64
            store = builder.store(value, builder.gep(target, step))
            store.align = 64
            store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(address, buffer, first), lower


@intrinsic
def _fence(typing: Any) -> Any:
    """Order the stores of `_stream` before what follows, for other threads to see."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), lower


def _storer(moves: tuple[tuple[int, int], ...]) -> Callable[..., Any]:
    """store(buffer, i, values): for each move (j, k), values[k] goes to buffer[j * BLOCK + i]."""

    @intrinsic
    def store(typing: Any, buffer: Any, i: Any, values: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for j, k in moves:
                place = builder.gep(args[0], [builder.add(args[1], ir.Constant(args[1].type, j * BLOCK))])
                builder.store(builder.extract_value(args[2], k), place)
            return context.get_dummy_value()

        return types.void(buffer, i, values), lower

    return store


def _fetcher(zero: Any) -> Callable[..., Any]:
    """fetch(address, step, m, buffer): m elements as a contiguous pointer, padded to a multiple of `LANES`."""
    size = zero.itemsize

    def fetch(address, step, m, buffer):
        if step == size and m == BLOCK:
            return pointer(address, zero)
        for i in range(m):
            buffer[i] = pointer(address + i * step, zero)[0]
        for i in range(m, (m + LANES - 1) & -LANES):
            buffer[i] = buffer[0]
        return buffer

    return scalar(fetch)


def _deliverer(zero: Any) -> Callable[..., Any]:
    """deliver(address, step, m, buffer): m elements from the buffer to where they belong."""
    size = zero.itemsize

    def deliver(address, step, m, buffer, first):
        if step == size:
            target = pointer(address, zero)
            for i in range(m):
                target[i] = buffer[first + i]
        else:
            for i in range(m):
                pointer(address + i * step, zero)[0] = buffer[first + i]

    return scalar(deliver)


def _preparer(family: str, zero: Any, layout: str) -> Callable[..., Any]:
    """prepare(alpha, scale, n, shapes, widths): what `shape` and `width` make of n parameters, or of the shared ones.

    For the shared ones it is returned, else it is in the buffers.
    """
    if layout not in ("shared", "each", "columns"):
        raise ValueError(f"the layout must be 'shared', 'each' or 'columns', got {layout!r}")
    found = FAMILIES[family]
    shape, width = found.shape, found.width
    table = log_partition if found.tabulated else _no_table

    def shared(alpha, scale, n, shapes, widths):
        log_z, slope = table(alpha[0])
        return shape(alpha[0], log_z, slope), width(scale[0])

    def each(alpha, scale, n, shapes, widths):
        log_z, slope = stack(BLOCK, zero), stack(BLOCK, zero)
        for i in range(n):  # a loop of its own: the look-ups would keep the other from being vectorized
            log_z[i], slope[i] = table(alpha[i])
        for i in range(n):
            _keep(shapes, i, shape(alpha[i], log_z[i], slope[i]))
            _keep(widths, i, width(scale[i]))
        return shapes, widths

    return scalar(shared if layout == "shared" else each)


@scalar
def _no_table(alpha):
    return alpha, alpha


@scalar
def _itself(parameters, i):
    return parameters


def _evaluator(family: str, outputs: tuple[str, ...], zero: Any, layout: str) -> Callable[..., Any]:
    """evaluate(x, n, shapes, widths, out), with what `_preparer` returned: the outputs, one after the other."""
    values, dalpha = FAMILIES[family].values, FAMILIES[family].dalpha
    places = tuple(enumerate(outputs))
    store_values = _storer(tuple((j, VALUES.index(name)) for j, name in places if name != "dalpha"))
    store_dalpha = _storer(tuple((j, 0) for j, name in places if name == "dalpha"))
    with_dalpha = "dalpha" in outputs
    log_size, exp_size = barron.LOG, barron.EXP
    at = _itself if layout == "shared" else _recall

    @scalar
    def stages(x, n, shapes, widths, extreme, close, out):
        logs, exps = _buffers(log_size, zero), _buffers(exp_size, zero)
        for i in range(n):
            s, w = at(shapes, i), at(widths, i)
            _keep(logs, i, barron.logarithm(x[i], s, w, extreme))
        for i in range(n):
            s, w = at(shapes, i), at(widths, i)
            found, exp = values(x[i], _recall(logs, i), s, w, extreme)
            store_values(out, i, found)
            _keep(exps, i, exp)
        if with_dalpha:
            for i in range(n):
                s, w = at(shapes, i), at(widths, i)
                near = barron.close(s) if extreme else close
                slope = dalpha(x[i], _recall(logs, i), _recall(exps, i), s, w, extreme, near)
                store_dalpha(out, i, (slope,))

    # Three copies of the stages, for the three cases of `likelihood.element`.
    def shared(x, n, shapes, widths, out):
        quick, limit = barron.ordinary(shapes, widths)
        outside = 0
        for i in range(n):
            outside |= not (abs(x[i]) <= limit)
        if outside != 0 or not quick:
            stages(x, n, shapes, widths, True, False, out)
        elif with_dalpha and barron.close(shapes):
            stages(x, n, shapes, widths, False, True, out)
        else:
            stages(x, n, shapes, widths, False, False, out)

    def each(x, n, shapes, widths, out):
        outside = 0
        for i in range(n):
            s = at(shapes, i)
            quick, limit = barron.ordinary(s, at(widths, i))
            outside |= not (quick & (not barron.close(s)) & (abs(x[i]) <= limit))
        if outside != 0:
            stages(x, n, shapes, widths, True, False, out)
        else:
            stages(x, n, shapes, widths, False, False, out)

    return scalar(shared if layout == "shared" else each)


def elementwise(family: str, outputs: tuple[str, ...], dtype: Floating, layout: str) -> Callable[..., Any]:
    """Inner loop (x, alpha, scale) -> outputs.

    In the layout "shared" the strides of the parameters should be 0; it is right, but slow, if they are not.
    """
    zero, size = dtype(0), np.dtype(dtype).itemsize
    count, total = len(outputs), BLOCK * len(outputs)
    numbers, others = FAMILIES[family].sizes
    prepare = _preparer(family, zero, layout)
    evaluate = _evaluator(family, outputs, zero, layout)
    fetch, deliver = _fetcher(zero), _deliverer(zero)
    whole = layout == "each"

    def loop(args, dims, steps):
        n = dims[0]
        xs, alphas, scales = stack(BLOCK, zero), stack(BLOCK, zero), stack(BLOCK, zero)
        shapes, widths = _buffers(numbers, zero), _buffers(others, zero)
        out = stack(total, zero)
        same = steps[1] == 0 and steps[2] == 0
        block = BLOCK if whole or same else 1
        # Outputs too large for the caches are written past them, which saves reading them first; that takes whole
        # aligned blocks, so the first block is cut to end on a cache line.
        streaming = n * total * size >= STREAM * BLOCK and block == BLOCK
        start, m = 0, min(n, (-args[3] & 63) // size if streaming else block)
        first = BLOCK if same else 1
        alpha, scale = fetch(args[1], steps[1], first, alphas), fetch(args[2], steps[2], first, scales)
        s, w = prepare(alpha, scale, first, shapes, widths)
        while start < n:
            padded = (m + LANES - 1) & -LANES
            x = fetch(args[0] + start * steps[0], steps[0], m, xs)
            if not same:
                alpha = fetch(args[1] + start * steps[1], steps[1], m, alphas)
                scale = fetch(args[2] + start * steps[2], steps[2], m, scales)
                s, w = prepare(alpha, scale, padded, shapes, widths)
            evaluate(x, padded, s, w, out)
            for j in range(count):
                place = args[3 + j] + start * steps[3 + j]
                if streaming and m == BLOCK and steps[3 + j] == size and place & 63 == 0:
                    _stream(place, out, j * BLOCK)
                else:
                    deliver(place, steps[3 + j], m, out, j * BLOCK)
            start += m
            m = min(block, n - start)
        if streaming:
            _fence()
        _forget_flags()

    return loop


def partition(outputs: tuple[str, ...], dtype: Floating) -> Callable[..., Any]:
    """Inner loop alpha -> log Z and its derivatives, those named."""
    zero = dtype(0)
    count, total = len(outputs), BLOCK * len(outputs)
    store = _storer(tuple((j, PARTITION.index(name)) for j, name in enumerate(outputs)))
    fetch, deliver = _fetcher(zero), _deliverer(zero)

    def loop(args, dims, steps):
        n = dims[0]
        alphas, out = stack(BLOCK, zero), stack(total, zero)
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            alpha = fetch(args[0] + start * steps[0], steps[0], m, alphas)
            for i in range(m):
                store(out, i, log_partition_parts(alpha[i]))
            for j in range(count):
                deliver(args[1 + j] + start * steps[1 + j], steps[1 + j], m, out, j * BLOCK)
        _forget_flags()

    return loop


def reduction(family: str, outputs: tuple[str, ...], dtype: Floating, layout: str) -> Callable[..., Any]:
    """Sums over a panel of rows by columns, in one pass: value, and of the partials those named in ``outputs``.

    ========  ====================================================  ===================================
              args (addresses)                                      steps (bytes)
    ========  ====================================================  ===================================
    0         x, rows of contiguous elements                        from row to row
    1, 2      alpha, scale: one number, or one for each column      from column to column: 0 or itemsize
    3         weights like x, or 0                                  from row to row
    4         dx times weight times factor goes here, or 0          from row to row
    5         three numbers: factor, lift, step (see `scaling`)
    6         float64 sums, zeroed: see below
    ========  ====================================================  ===================================

    dims: rows, columns.  Sums: value, dalpha, dscale; in the layout "columns" value, then dalpha and dscale by column.
    Weights are multiplied by lift; of what is summed, step times it is.
    A weight of 0 excludes an element, whatever its value.  Order of summation: `BLOCK` columns at a time, row by row;
    `LANES` float64 partial sums each, by position in the block, folded by halves; one for each column where they vary.
    """
    if layout not in ("shared", "columns"):
        raise ValueError(f"the layout must be 'shared' or 'columns', got {layout!r}")
    zero, size, columns = dtype(0), np.dtype(dtype).itemsize, layout == "columns"
    total, with_dx = BLOCK * len(outputs), "dx" in outputs
    dx_at = BLOCK * outputs.index("dx") if with_dx else 0
    summed = tuple((k, BLOCK * outputs.index(name)) for k, name in enumerate(SUMS) if name in outputs)
    places = tuple(at for _, at in summed)
    slots = tuple(k for k, _ in summed)
    count, lanes = len(summed), len(SUMS) * LANES
    numbers, others = FAMILIES[family].sizes
    prepare, evaluate = _preparer(family, zero, layout), _evaluator(family, outputs, zero, layout)
    fetch, deliver = _fetcher(zero), _deliverer(zero)
    double = np.float64(0)

    def stepped(found, step, before):
        return fma(np.float64(found), step, before)

    def plainly(found, step, before):  # the step of floats is 1
        return before + np.float64(found)

    added = scalar(stepped if size == 8 else plainly)

    @scalar
    def add(partial, slot, out, at, n, step):
        for i in range(0, n, LANES):
            for j in range(LANES):
                partial[slot * LANES + j] = added(out[at + i + j], step, partial[slot * LANES + j])

    @scalar
    def fold(partial, slot):
        half = LANES // 2
        while half > 0:
            for j in range(half):
                partial[slot * LANES + j] += partial[slot * LANES + j + half]
            half //= 2
        return partial[slot * LANES]

    def panel(args, dims, steps):
        rows, n = dims[0], dims[1]
        xs, ws, out = stack(BLOCK, zero), stack(BLOCK, zero), stack(total, zero)
        alphas, scales = stack(BLOCK, zero), stack(BLOCK, zero)
        shapes, widths = _buffers(numbers, zero), _buffers(others, zero)
        partial = stack(lanes, double)
        for i in range(lanes):
            partial[i] = 0.0
        sums = pointer(args[6], double)
        factors = pointer(args[5], zero)
        factor, lift, step = factors[0], factors[1], np.float64(factors[2])
        alpha, scale = fetch(args[1], steps[1], 1, alphas), fetch(args[2], steps[2], 1, scales)
        s, w = prepare(alpha, scale, 1, shapes, widths)
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            padded = (m + LANES - 1) & -LANES
            if columns:
                alpha = fetch(args[1] + start * steps[1], steps[1], m, alphas)
                scale = fetch(args[2] + start * steps[2], steps[2], m, scales)
                s, w = prepare(alpha, scale, padded, shapes, widths)
            for row in range(rows):
                x = fetch(args[0] + row * steps[0] + start * size, size, m, xs)
                evaluate(x, padded, s, w, out)
                if args[3] != 0:
                    weight = fetch(args[3] + row * steps[3] + start * size, size, m, ws)
                    for at in range(0, total, BLOCK):
                        for i in range(padded):
                            out[at + i] = zero if weight[i] == zero else out[at + i] * (weight[i] * lift)
                if m < padded:
                    for at in range(0, total, BLOCK):
                        for i in range(m, padded):
                            out[at + i] = zero
                if with_dx:
                    for i in range(padded):
                        out[dx_at + i] *= factor
                    deliver(args[4] + row * steps[4] + start * size, size, m, out, dx_at)
                for k in range(count):
                    if columns and slots[k] > 0:
                        first = 1 + (slots[k] - 1) * n + start
                        for i in range(m):
                            sums[first + i] = added(out[places[k] + i], step, sums[first + i])
                    else:
                        add(partial, slots[k], out, places[k], padded, step)
        for k in range(1 if columns else len(SUMS)):
            sums[k] += fold(partial, k)
        _forget_flags()

    return panel
