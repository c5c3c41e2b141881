"""CPU kernels: the loops around the scalar code of a definition, compiled to SIMD code on first use.

Every kernel has the signature of a NumPy inner loop, ``void(char **args, intp *dims, intp *steps, void *)``.
Elements go in blocks of `BLOCK` through buffers on the stack: strides, tails and overlapping outputs are the copies'
business, and the arithmetic always runs over contiguous memory that nothing else points to, a multiple of `LANES`
elements long.  Each stage of the arithmetic (see `definition`) runs over the block before the next one.

Kernels come in layouts: "shared" parameters are one number each, prepared once; otherwise there is one for each element
("each") or for each column ("columns"), and what depends on them alone goes through buffers, too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..arithmetic.numba_private import get_or_insert_function
from ..arithmetic.primitives import fma, inlined, min
from ..compilers import native
from .blocks import BLOCK, buffers, caller
from .memory import WORDS, pointer, stack
from .panels import STREAM
from .stages import EVALUATE, PREPARE
from .tuples import each_of
from .vectors import LANES, adding, fence, prefetch, store_line, storing

__all__ = [
    "ALL_FLAGS",
    "BLOCK",
    "SIGNATURE",
    "Form",
    "deliverer",
    "elementwise",
    "fetcher",
    "forget_flags",
    "reduction",
]

TOGETHER = 3  # sums in one loop: what registers hold
AHEAD = 4096  # bytes, from where on data are fetched into the caches while a block is worked on

SIGNATURE = types.void(WORDS, WORDS, WORDS)

Floating = type[np.floating[Any]]

# Helpers of one kind are one function, which is lowered once: 0 of a dtype equals that of another, but for its type.
_once = functools.lru_cache(maxsize=None, typed=True)


@intrinsic
def forget_flags(typing: Any) -> Any:
    """Clear the floating-point status: lanes that a select discards may have raised anything.

    NumPy reads it after a ufunc's loop and would warn.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(32)
        function = get_or_insert_function(builder.module, ir.FunctionType(word, [word]), "feclearexcept")
        builder.call(function, [word(ALL_FLAGS)])
        return context.get_dummy_value()

    return types.void(), lower


# FE_ALL_EXCEPT of <fenv.h>
ALL_FLAGS = 0x3D if native.host_is_x86() else 0x1F


@_once
def fetcher(zero: Any) -> Callable[..., Any]:
    """fetch(address, step, m, buffer): m elements as a contiguous pointer, padded to a multiple of `LANES`."""
    size = zero.itemsize

    def fetch(address, step, m, buffer):
        """A whole contiguous block is left where it is; all else is copied to the buffer."""
        if step == size and m == BLOCK:
            return pointer(address, zero)
        for i in range(m):
            buffer[i] = pointer(address + i * step, zero)[0]
        for i in range(m, (m + LANES - 1) & -LANES):
            buffer[i] = buffer[0]
        return buffer

    return inlined(fetch)


@_once
def deliverer(zero: Any) -> Callable[..., Any]:
    """deliver(address, step, m, buffer, first): m elements of buffer[first:] to where they belong."""
    size = zero.itemsize

    def deliver(address, step, m, buffer, first):
        """Contiguous outputs in a loop of their own, which can be vectorized."""
        if step == size:
            target = pointer(address, zero)
            for i in range(m):
                target[i] = buffer[first + i]
        else:
            for i in range(m):
                pointer(address + i * step, zero)[0] = buffer[first + i]

    return inlined(deliver)


@_once
def _streamer(zero: Any) -> Callable[..., Any]:
    """stream(address, m, buffer, first): m elements of buffer[first:] past the caches, to contiguous memory."""
    size = zero.itemsize
    a_line = 64 // size

    def stream(address, m, buffer, first):
        """Whole lines of the cache; what is left at either end as usual."""
        target = pointer(address, zero)
        head = min(m, (-address & 63) // size)
        for i in range(head):
            target[i] = buffer[first + i]
        lines = (m - head) // a_line
        for line in range(lines):
            store_line(address + head * size + 64 * line, buffer, first + head + a_line * line)
        for i in range(head + a_line * lines, m):
            target[i] = buffer[first + i]

    return inlined(stream)


class Form(NamedTuple):
    """All that a loop knows of a definition: it is lowered once for those that are alike."""

    data: int
    parameters: int
    kept: int  # the numbers that are prepared of the parameters
    wide: bool  # whether these are doubles whatever the operands are

    @property
    def name(self) -> str:
        """What the names of loops contain."""
        return f"{self.data}-{self.parameters}-{self.kept}{'-wide' * self.wide}"


def _preparer(form: Form) -> Callable[..., Any]:
    """prepare(parameters, kept, n), of tuples of pointers: see `stages`."""
    if not form.kept:
        return inlined(lambda parameters, kept, n: None)
    call = caller(PREPARE)
    return inlined(lambda parameters, kept, n: call((parameters, kept), n))


_evaluate = caller(EVALUATE)


@_once
def _fetcher_of(first: int, count: int, fetch: Callable[..., Any]) -> Callable[..., Any]:
    """fetch(args, steps, start, m, memory): pointers to m elements of so many operands, from that one on."""
    if count == 0:
        return inlined(lambda args, steps, start, m, memory: ())

    @inlined
    def fetch_one(k, memory, args, steps, start, m):
        return fetch(args[first + k] + start * steps[first + k], steps[first + k], m, memory)

    of_all = each_of(fetch_one, count)
    return inlined(lambda args, steps, start, m, memory: of_all((memory,), (args, steps, start, m)))


def elementwise(form: Form, outputs: tuple[int, ...], dtype: Floating, layout: str) -> Callable[..., Any]:
    """The inner loop of a ufunc: operands -> outputs, of which only their number counts.

    In the layout "shared" the strides of the parameters should be 0; it is right, but slow, if they are not.
    """
    if layout not in ("shared", "each", "columns"):
        raise ValueError(f"the layout must be 'shared', 'each' or 'columns', got {layout!r}")
    zero, size = dtype(0), np.dtype(dtype).itemsize
    leading, operands = form.data, form.data + form.parameters
    parameters_count, kept_count, kept_zero = form.parameters, form.kept, np.float64(0) if form.wide else zero
    count, total = len(outputs), BLOCK * len(outputs)
    prepare = _preparer(form)
    fetch, deliver, stream = fetcher(zero), deliverer(zero), _streamer(zero)
    fetch_data, fetch_parameters = _fetcher_of(0, leading, fetch), _fetcher_of(leading, parameters_count, fetch)
    whole = layout == "each"

    def loop(args, dims, steps):
        """Blocks one after the other: fetched, prepared where parameters vary, evaluated, delivered or streamed."""
        n = dims[0]
        of_data, of_parameters = buffers(leading, zero), buffers(parameters_count, zero)
        kept, out = buffers(kept_count, kept_zero), stack(total, zero)
        same = True
        for k in range(leading, operands):
            same &= steps[k] == 0
        block = BLOCK if whole or same else 1
        # Outputs too large for the caches are written past them, which saves reading them first; that takes whole
        # lines, so the first block is cut to end on one.
        streaming = n * total * size >= STREAM * BLOCK and block == BLOCK
        start, m = 0, min(n, (-args[operands] & 63) // size if streaming else block)
        first = BLOCK if same else 1
        parameters = fetch_parameters(args, steps, 0, first, of_parameters)
        if same:
            prepare(parameters, kept, first)
        while start < n:
            padded = (m + LANES - 1) & -LANES
            if streaming and leading > 1:
                for k in range(leading):
                    if steps[k] == size:
                        ahead = args[k] + start * size + AHEAD
                        for line in range(0, m * size, 64):
                            prefetch(ahead + line)
            data = fetch_data(args, steps, start, m, of_data)
            if not same:
                parameters = fetch_parameters(args, steps, start, m, of_parameters)
                prepare(parameters, kept, padded)
            _evaluate((data, parameters, kept, out), padded)
            for j in range(count):
                place, step = args[operands + j] + start * steps[operands + j], steps[operands + j]
                if streaming and step == size:
                    stream(place, m, out, j * BLOCK)
                else:
                    deliver(place, step, m, out, j * BLOCK)
            start += m
            m = min(block, n - start)
        if streaming:
            fence()
        forget_flags()

    return loop


def reduction(form: Form, outputs: tuple[int, ...], dtype: Floating, layout: str) -> Callable[..., Any]:
    """The loop that sums over panels of rows by columns, in one pass.

    ``outputs`` are places in a row of the value and the derivatives in the data and in the parameters.

    With d data and p parameters:

    ============  ======================================================  ===================================
                  args (addresses)                                        steps (bytes)
    ============  ======================================================  ===================================
    d             data, rows of contiguous elements                       from row to row
    p             parameters: one number, or one for each column          from column to column: 0 or itemsize
    1             weights like the data, or 0                             from row to row
    d             where derivatives in the data go, times weight times    from row to row
                  factor, or 0
    1             four numbers: factor, lift, step (see `scaling`);
                  and 1 if derivatives go past the caches, or 0
    1             float64 sums, zeroed: see below
    ============  ======================================================  ===================================

    dims: rows, columns, rows of a panel (the last may have fewer).  Sums, those of each panel after those of the one
    before: of the value and the derivatives in the parameters; in the layout "columns" the latter by column.
    Weights are multiplied by lift; of what is summed, step times it is.
    A weight of 0 excludes an element, whatever its value.  Order of summation: `BLOCK` columns at a time, row by row;
    `LANES` float64 partial sums each, by position in the block, folded by halves; one for each column where they vary.
    """
    if layout not in ("shared", "columns"):
        raise ValueError(f"the layout must be 'shared' or 'columns', got {layout!r}")
    zero, size, columns = dtype(0), np.dtype(dtype).itemsize, layout == "columns"
    leading, operands, total = form.data, form.data + form.parameters, BLOCK * len(outputs)
    parameters_count, sums_count = form.parameters, 1 + form.parameters
    kept_count, kept_zero = form.kept, np.float64(0) if form.wide else zero
    weights_at, slopes_at, numbers_at = operands, operands + 1, operands + 1 + leading
    sums = (0, *range(1 + leading, 1 + operands))
    summed = tuple((k, BLOCK * outputs.index(place)) for k, place in enumerate(sums) if place in outputs)
    places = tuple(at for _, at in summed)
    slots = tuple(k for k, _ in summed)
    stored = tuple((k, BLOCK * outputs.index(1 + k)) for k in range(leading) if 1 + k in outputs)
    stored_args, stored_places = tuple(slopes_at + k for k, _ in stored), tuple(at for _, at in stored)
    count, stored_count, lanes = len(summed), len(stored), sums_count * LANES
    prepare = _preparer(form)
    fetch = fetcher(zero)
    fetch_parameters = _fetcher_of(leading, parameters_count, fetch)
    double = np.float64(0)

    @inlined
    def row_of(k, memory, args, steps, row, offset, m):
        return fetch(args[k] + row * steps[k] + offset, size, m, memory)

    fetch_data = each_of(row_of, leading)

    def stepped(term, step, before):
        return fma(np.float64(term), step, before)

    def plainly(term, step, before):  # the step of floats is 1
        return before + np.float64(term)

    added = inlined(stepped if size == 8 else plainly)

    in_lanes = tuple(pair for pair in summed if not columns or pair[0] == 0)
    add_some, add_others = adding(in_lanes[:TOGETHER]), adding(in_lanes[TOGETHER:])
    more = len(in_lanes) > TOGETHER

    @inlined
    def add(partial, out, n, step):
        for i in range(0, n, LANES):
            add_some(partial, out, i, step)
        if more:
            for i in range(0, n, LANES):
                add_others(partial, out, i, step)

    @inlined
    def fold(partial, slot):
        """The sum of a slot's partial sums, the second half added to the first until one is left."""
        half = LANES // 2
        while half > 0:
            for j in range(half):
                partial[slot * LANES + j] += partial[slot * LANES + j + half]
            half //= 2
        return partial[slot * LANES]

    store_lanes, store_past = storing(False), storing(True)

    @inlined
    def store(args, steps, row, offset, factor, streaming, m, out):
        """Write the derivatives in the data."""
        whole = m & -LANES
        for k in range(stored_count):
            at, place = stored_places[k], args[stored_args[k]] + row * steps[stored_args[k]] + offset
            if streaming and place & 15 == 0:
                for i in range(0, whole, LANES):
                    store_past(place + i * size, out, at + i, factor)
            else:
                for i in range(0, whole, LANES):
                    store_lanes(place + i * size, out, at + i, factor)
            target = pointer(place, zero)
            for i in range(whole, m):
                target[i] = out[at + i] * factor

    store_nothing = inlined(lambda args, steps, row, offset, factor, streaming, m, out: None)
    store = store if stored else store_nothing

    def panels(args, dims, steps):
        """Blocks of columns, within each row by row: evaluated, weighted, stored, and summed up into the slots."""
        rows, n, height = dims[0], dims[1], dims[2]
        of_data, of_weights, out = buffers(leading, zero), stack(BLOCK, zero), stack(total, zero)
        of_parameters, kept = buffers(parameters_count, zero), buffers(kept_count, kept_zero)
        partial = stack(lanes, double)
        factors = pointer(args[numbers_at], zero)
        factor, lift, step, streaming = factors[0], factors[1], np.float64(factors[2]), factors[3] != zero
        parameters = fetch_parameters(args, steps, 0, 1, of_parameters)
        if not columns:
            prepare(parameters, kept, 1)
        sums_at = args[numbers_at + 1]
        for first_row in range(0, rows, height):
            for i in range(lanes):
                partial[i] = 0.0
            sums = pointer(sums_at, double)
            sums_at += 8 * (1 + (sums_count - 1) * (n if columns else 1))
            for start in range(0, n, BLOCK):
                m = min(BLOCK, n - start)
                padded = (m + LANES - 1) & -LANES
                if columns:
                    parameters = fetch_parameters(args, steps, start, m, of_parameters)
                    prepare(parameters, kept, padded)
                for row in range(first_row, min(first_row + height, rows)):
                    if streaming:
                        for k in range(leading):
                            ahead = args[k] + row * steps[k] + start * size + AHEAD
                            for line in range(0, m * size, 64):
                                prefetch(ahead + line)
                    data = fetch_data((of_data,), (args, steps, row, start * size, m))
                    _evaluate((data, parameters, kept, out), padded)
                    if args[weights_at] != 0:
                        at_row = args[weights_at] + row * steps[weights_at] + start * size
                        weight = fetch(at_row, size, m, of_weights)
                        for at in range(0, total, BLOCK):
                            for i in range(padded):
                                out[at + i] = zero if weight[i] == zero else out[at + i] * (weight[i] * lift)
                    if m < padded:
                        for at in range(0, total, BLOCK):
                            for i in range(m, padded):
                                out[at + i] = zero
                    store(args, steps, row, start * size, factor, streaming, m, out)
                    add(partial, out, padded, step)
                    if columns:
                        for k in range(count):
                            if slots[k] > 0:
                                first = 1 + (slots[k] - 1) * n + start
                                for i in range(m):
                                    sums[first + i] = added(out[places[k] + i], step, sums[first + i])
            for k in range(1 if columns else sums_count):
                sums[k] += fold(partial, k)
        if streaming:
            fence()
        forget_flags()

    return panels
