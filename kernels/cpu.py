"""CPU kernels: the loops around the scalar functions, compiled to SIMD code on first use.

Every kernel has the signature of a NumPy inner loop, ``void(char **args, intp *dims, intp *steps, void *)``.
Elements go in blocks of `BLOCK` through buffers on the stack: strides, tails and overlapping outputs are the copies'
business, and the arithmetic always runs over contiguous memory that nothing else points to, a multiple of `LANES`
elements long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import intp, types
from numba.core import cgutils
from numba.extending import intrinsic

from . import loss, native
from .likelihood import FAMILIES, OUTPUTS
from .partition import log_partition
from .primitives import scalar

__all__ = ["BLOCK", "elementwise", "partition", "reduction"]

BLOCK = 256  # elements: 7 buffers of doubles are 14 KiB, inside the first-level cache
LANES = 16
STREAM = 1 << 24  # bytes of output from which on they go past the caches
SUMS = ("value", "dalpha", "dscale")  # what a reduction accumulates, in this order

_WORDS = types.CPointer(intp)
SIGNATURE = types.void(_WORDS, _WORDS, _WORDS)

Floating = type[np.floating[Any]]


@intrinsic
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """The address as a pointer to numbers like ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like)(address, like), lower


@intrinsic(prefer_literal=True)
def _buffer(typing: Any, count: Any, like: Any) -> Any:
    """Memory for ``count`` numbers on the stack, aligned to 64 bytes."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = ir.ArrayType(context.get_value_type(sig.return_type.dtype), count.literal_value)
        memory = cgutils.alloca_once(builder, array)
        memory.align = 64
        return builder.bitcast(memory, context.get_value_type(sig.return_type))

    return types.CPointer(like)(count, like), lower


@intrinsic
def _forget_flags(typing: Any) -> Any:
    """Clear the floating-point status: lanes that a select discards may have raised anything.

    NumPy reads it after a ufunc's loop and would warn.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "feclearexcept")
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


def _storer(chosen: tuple[int, ...]) -> Callable[..., Any]:
    """store(buffer, i, values): values[chosen[j]] goes to buffer[j * BLOCK + i]."""

    @intrinsic
    def store(typing: Any, buffer: Any, i: Any, values: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for j, source in enumerate(chosen):
                place = builder.gep(args[0], [builder.add(args[1], ir.Constant(args[1].type, j * BLOCK))])
                builder.store(builder.extract_value(args[2], source), place)
            return context.get_dummy_value()

        return types.void(buffer, i, values), lower

    return store


def _fetcher(zero: Any) -> Callable[..., Any]:
    """fetch(address, step, m, buffer): m elements as a contiguous pointer, padded to a multiple of `LANES`."""
    size = zero.itemsize

    def fetch(address, step, m, buffer):
        if step == size and m == BLOCK:
            return _pointer(address, zero)
        for i in range(m):
            buffer[i] = _pointer(address + i * step, zero)[0]
        for i in range(m, (m + LANES - 1) & -LANES):
            buffer[i] = buffer[0]
        return buffer

    return scalar(fetch)


def _deliverer(zero: Any) -> Callable[..., Any]:
    """deliver(address, step, m, buffer): m elements from the buffer to where they belong."""
    size = zero.itemsize

    def deliver(address, step, m, buffer, first):
        if step == size:
            target = _pointer(address, zero)
            for i in range(m):
                target[i] = buffer[first + i]
        else:
            for i in range(m):
                _pointer(address + i * step, zero)[0] = buffer[first + i]

    return scalar(deliver)


@scalar
def _all_within(x, n, limit):
    """Whether no |x[i]| exceeds the limit; NaN does."""
    outside = 0
    for i in range(n):
        outside |= not (abs(x[i]) <= limit)
    return outside == 0


def _evaluators(family: str, outputs: tuple[str, ...], zero: Any) -> tuple[Callable[..., Any], ...]:
    """prepare(alpha, scale), and two ways to evaluate a block: by what it gave, or by parameters for each element."""
    shape, width, element, tabulated = FAMILIES[family]
    store = _storer(tuple(OUTPUTS.index(name) for name in outputs))

    def prepare(alpha, scale):
        log_z, slope = log_partition(alpha)
        return shape(alpha, log_z, slope), width(scale)

    def shared(x, n, parameters, out):
        s, w = parameters
        quick, close, limit = loss.ordinary(s, w)
        if quick and _all_within(x, n, limit):
            if close:
                for i in range(n):
                    store(out, i, element(x[i], s, w, (False, True, False)))
            else:
                for i in range(n):
                    store(out, i, element(x[i], s, w, (False, False, False)))
        else:
            for i in range(n):
                store(out, i, element(x[i], s, w, loss.general(s)))

    def each(x, alpha, scale, n, out):
        log_z, slope = _buffer(BLOCK, zero), _buffer(BLOCK, zero)
        if tabulated:  # a loop of its own: the look-ups would keep the other from being vectorized
            for i in range(n):
                log_z[i], slope[i] = log_partition(alpha[i])
        for i in range(n):
            s = shape(alpha[i], log_z[i], slope[i])
            store(out, i, element(x[i], s, width(scale[i]), loss.general(s)))

    return scalar(prepare), scalar(shared), scalar(each)


def elementwise(family: str, outputs: tuple[str, ...], dtype: Floating) -> Callable[..., Any]:
    """Inner loop (x, alpha, scale) -> outputs; parameters of stride 0 are prepared once."""
    zero, size = dtype(0), np.dtype(dtype).itemsize
    count, total = len(outputs), BLOCK * len(outputs)
    prepare, shared, each = _evaluators(family, outputs, zero)
    fetch, deliver = _fetcher(zero), _deliverer(zero)

    def loop(args, dims, steps):
        n = dims[0]
        xs, alphas, scales = _buffer(BLOCK, zero), _buffer(BLOCK, zero), _buffer(BLOCK, zero)
        out = _buffer(total, zero)
        same = steps[1] == 0 and steps[2] == 0
        parameters = prepare(_pointer(args[1], zero)[0], _pointer(args[2], zero)[0])
        # Outputs too large for the caches are written past them, which saves reading them first; that takes whole
        # aligned blocks, so the first block is cut to end on a cache line.
        streaming = n * total * size >= STREAM * BLOCK
        start = 0
        m = min(n, (-args[3] & 63) // size if streaming else BLOCK)
        while start < n:
            padded = (m + LANES - 1) & -LANES
            x = fetch(args[0] + start * steps[0], steps[0], m, xs)
            if same:
                shared(x, padded, parameters, out)
            else:
                alpha = fetch(args[1] + start * steps[1], steps[1], m, alphas)
                scale = fetch(args[2] + start * steps[2], steps[2], m, scales)
                each(x, alpha, scale, padded, out)
            for j in range(count):
                place = args[3 + j] + start * steps[3 + j]
                if streaming and m == BLOCK and steps[3 + j] == size and place & 63 == 0:
                    _stream(place, out, j * BLOCK)
                else:
                    deliver(place, steps[3 + j], m, out, j * BLOCK)
            start += m
            m = min(BLOCK, n - start)
        if streaming:
            _fence()
        _forget_flags()

    return loop


def partition(outputs: tuple[str, ...], dtype: Floating) -> Callable[..., Any]:
    """Inner loop alpha -> log Z, and its derivative if asked for."""
    zero = dtype(0)
    count, total = len(outputs), BLOCK * len(outputs)
    store = _storer(tuple(range(count)))
    fetch, deliver = _fetcher(zero), _deliverer(zero)

    def loop(args, dims, steps):
        n = dims[0]
        alphas, out = _buffer(BLOCK, zero), _buffer(total, zero)
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            alpha = fetch(args[0] + start * steps[0], steps[0], m, alphas)
            for i in range(m):
                store(out, i, log_partition(alpha[i]))
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
    5         one number: factor
    6         float64 sums, zeroed: see below
    ========  ====================================================  ===================================

    dims: rows, columns.  Sums: value, dalpha, dscale; in the layout "columns" value, then dalpha and dscale by column.
    A weight of 0 excludes an element, whatever its value.  Order of summation: `LANES` float64 partial sums each, over
    the columns by position in the row, folded by halves; by column in the order of the rows.
    """
    zero, size, columns = dtype(0), np.dtype(dtype).itemsize, layout == "columns"
    total, with_dx = BLOCK * len(outputs), "dx" in outputs
    dx_at = BLOCK * outputs.index("dx") if with_dx else 0
    summed = tuple((k, BLOCK * outputs.index(name)) for k, name in enumerate(SUMS) if name in outputs)
    places = tuple(at for _, at in summed)
    slots = tuple(k for k, _ in summed)
    count, lanes = len(summed), len(SUMS) * LANES
    prepare, shared, each = _evaluators(family, outputs, zero)
    fetch, deliver = _fetcher(zero), _deliverer(zero)
    double = np.float64(0)

    @scalar
    def add(partial, slot, out, at, n):
        for i in range(0, n, LANES):
            for j in range(LANES):
                partial[slot * LANES + j] += np.float64(out[at + i + j])

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
        xs, ws, out = _buffer(BLOCK, zero), _buffer(BLOCK, zero), _buffer(total, zero)
        alphas, scales = _buffer(BLOCK, zero), _buffer(BLOCK, zero)
        partial = _buffer(lanes, double)
        for i in range(lanes):
            partial[i] = 0.0
        sums = _pointer(args[6], double)
        factor = _pointer(args[5], zero)[0]
        parameters = prepare(_pointer(args[1], zero)[0], _pointer(args[2], zero)[0])
        for row in range(rows):
            for start in range(0, n, BLOCK):
                m = min(BLOCK, n - start)
                padded = (m + LANES - 1) & -LANES
                x = fetch(args[0] + row * steps[0] + start * size, size, m, xs)
                if columns:
                    alpha = fetch(args[1] + start * steps[1], steps[1], m, alphas)
                    scale = fetch(args[2] + start * steps[2], steps[2], m, scales)
                    each(x, alpha, scale, padded, out)
                else:
                    shared(x, padded, parameters, out)
                if args[3] != 0:
                    weight = fetch(args[3] + row * steps[3] + start * size, size, m, ws)
                    for at in range(0, total, BLOCK):
                        for i in range(padded):
                            out[at + i] = zero if weight[i] == zero else out[at + i] * weight[i]
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
                            sums[first + i] += np.float64(out[places[k] + i])
                    else:
                        add(partial, slots[k], out, places[k], padded)
        for k in range(1 if columns else len(SUMS)):
            sums[k] += fold(partial, k)
        _forget_flags()

    return panel
