"""Long rows, one after the other: each goes in blocks of elements through buffers, as in `cpu`.

Sums have `LANES` partial sums of doubles, in two words each for float64, by position in the row, folded by halves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.elementary import two_sum
from ..arithmetic.primitives import inlined, max, min
from ..losses.rowwise import RowDefinition
from .blocks import BLOCK, buffers
from .cpu import deliverer, fetcher
from .memory import pointer, stack
from .panels import ROWS
from .row_parts import Inlined, Places, State, arguments, evaluated, reader, results, writer
from .tuples import each_of
from .vectors import LANES, highest, prefetch, summing

__all__ = ["along"]


def along(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Inlined:
    """loop(args, dims, steps) over rows of any length."""
    zero, double = dtype(0), np.float64(0)
    at, of = Places(definition, slopes), State(definition)
    count, summed, apart = len(definition.data), definition.summed, definition.apart
    memory_at, along_at = at.memory, at.along
    state_room, weight_of, largest_of = of.end * ROWS, of.weight * ROWS, of.largest * ROWS
    row_sums, evaluate, put_results = (
        _sums(definition, dtype, at),
        evaluated(definition, of),
        results(definition, at, of),
    )
    put_down, index_of = arguments(definition, at, of)
    numbers_of, put_sums = reader(of.numbers, len(definition.numbers)), writer(of.sums, 2 * summed)
    fetch, lowest, place = fetcher(zero), dtype(-np.inf), definition.largest or 0

    @inlined
    def find_largest(args, steps, i, n, buffer, top):
        """The largest element of the row, that which is apart included; NaN is passed over."""
        for j in range(LANES):
            top[j] = lowest
        along = steps[along_at + place]
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            data = fetch(args[place] + i * steps[place] + start * along, along, m, buffer)
            for j in range(0, (m + LANES - 1) & -LANES, LANES):
                highest(top, data, j)
        for j in range(1, LANES):
            top[0] = max(top[0], top[j])
        return np.float64(top[0])

    find_largest = inlined(lambda args, steps, i, n, buffer, top: 0.0) if definition.largest is None else find_largest

    @inlined
    def own_one(k, args, steps, i, g, index, own):
        own[k * ROWS + g] = pointer(args[k] + i * steps[k] + index * steps[along_at + k], zero)[0]

    put_own = each_of(own_one, count) if apart else inlined(lambda owns, others: ())

    @inlined
    def read_row(args, steps, i, g, n, width, first, of_data, buffer, top, partial, state, own):
        """Weight, largest element, sums and what is apart of the row, put down as number g."""
        if put_down(args, steps, i, g, state) != 0.0:
            index, numbers = index_of(args, steps, i), numbers_of((), (state, g))
            largest = find_largest(args, steps, i, n, buffer, top)
            state[largest_of + g] = largest
            memory = pointer(args[memory_at], double)
            sums = row_sums(args, steps, i, n, index, largest, numbers, width, first, of_data, memory, partial)
            put_sums((sums,), (state, g))
            put_own((), (args, steps, i, g, index, own))

    out_room, own_room, partial_room = count * BLOCK, count * ROWS, 2 * summed * LANES

    @inlined
    def values(args, dims, steps):
        """`ROWS` rows at a time: what they come to."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        of_data, buffer, top = buffers(count, zero), stack(out_room, zero), stack(LANES, zero)
        partial, state, own = stack(partial_room, double), stack(state_room, double), stack(own_room, zero)
        for first in range(0, rows, ROWS):
            together = min(ROWS, rows - first)
            for g in range(together):
                read_row(args, steps, first + g, g, n, width, 0, of_data, buffer, top, partial, state, own)
            evaluate(state, own)
            for g in range(together):
                put_results(args, steps, first + g, g, state)

    if not slopes:
        return values
    put_slopes, clear_slopes = _slopes(definition, dtype, at, of)

    @inlined
    def with_slopes(args, dims, steps):
        """As many rows at a time as the memory has room for: what they come to, then the derivatives."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        padded = (n + LANES - 1) & -LANES
        most = max(1, min(ROWS, width // padded))
        of_data, buffer, top = buffers(count, zero), stack(out_room, zero), stack(LANES, zero)
        partial, state, own = stack(partial_room, double), stack(state_room, double), stack(own_room, zero)
        for first in range(0, rows, most):
            together = min(most, rows - first)
            for g in range(together):
                read_row(args, steps, first + g, g, n, width, g * padded, of_data, buffer, top, partial, state, own)
            evaluate(state, own)
            for g in range(together):
                put_results(args, steps, first + g, g, state)
                if state[weight_of + g] == 0.0:
                    clear_slopes((), (args, steps, first + g, n))
                else:
                    index = index_of(args, steps, first + g)
                    put_slopes(args, steps, first + g, g, n, index, width, g * padded, of_data, buffer, state)

    return with_slopes


def _terms(definition: RowDefinition, dtype: type[np.floating[Any]], at: Places) -> tuple[Inlined, Inlined, Inlined]:
    """What fetches data, what takes an element of them, and what puts the terms of a block into the memory."""
    count, summed, along_at, terms = len(definition.data), definition.summed, at.along, definition.terms
    fetch = fetcher(dtype(0))

    @inlined
    def fetch_one(k, memory, args, steps, i, start, m):
        along = steps[along_at + k]
        return fetch(args[k] + i * steps[k] + start * along, along, m, memory)

    fetch_all = each_of(fetch_one, count)
    elements = each_of(inlined(lambda k, data, j: data[j]), count)

    @inlined
    def store_term(k, term, memory, width, j):
        memory[k * width + j] = term

    store_terms = each_of(store_term, summed)

    @inlined
    def clear_one(k, memory, width, begin, end):
        for j in range(begin, end):
            memory[k * width + j] = 0.0

    clear = each_of(clear_one, summed)

    @inlined
    def put_terms(args, steps, i, start, m, index, largest, numbers, width, to, of_data, memory):
        """The terms of m elements from ``start`` on, and 0 for what is apart or beyond them."""
        padded = (m + LANES - 1) & -LANES
        data = fetch_all((of_data,), (args, steps, i, start, m))
        for j in range(padded):
            store_terms((terms(elements((data,), (j,)), largest, numbers),), (memory, width, to + j))
        clear((), (memory, width, to + m, to + padded))
        if start <= index < start + m:
            clear((), (memory, width, to + index - start, to + index - start + 1))

    return fetch_all, elements, put_terms


def _sums(definition: RowDefinition, dtype: type[np.floating[Any]], at: Places) -> Inlined:
    """What sums the terms of a row: the first words of all, then the second ones."""
    summed, two_words, along_at, size = definition.summed, dtype is np.float64, at.along, np.dtype(dtype).itemsize
    _, _, put_terms = _terms(definition, dtype, at)
    add = summing(two_words)

    @inlined
    def add_one(k, partial, memory, width, j):
        add(partial, k * LANES, (summed + k) * LANES, memory, k * width + j)

    add_all = each_of(add_one, summed)

    @inlined
    def fold(k, partial):
        """A slot's partial sums, the second half added to the first until one is left."""
        if k < summed:
            first, rest, half = k * LANES, (summed + k) * LANES, LANES // 2
            while half > 0:
                for j in range(half):
                    high, low = two_sum(partial[first + j], partial[first + j + half])
                    partial[first + j] = high
                    partial[rest + j] += partial[rest + j + half] + low
                half //= 2
        return partial[k * LANES]

    @inlined
    def fetch_ahead_one(k, args, steps, i, start, m):
        """The same part of the next row, where the processor does not look for it."""
        if steps[along_at + k] == size:
            ahead = args[k] + i * steps[k] + start * size
            for line in range(0, m * size, 64):
                prefetch(ahead + line)

    fetch_ahead = each_of(fetch_ahead_one, len(definition.data))
    folded, partials = each_of(fold, 2 * summed), 2 * summed * LANES

    @inlined
    def row_sums(args, steps, i, n, index, largest, numbers, width, first, of_data, memory, partial):
        """Of the row's terms, which stay in the memory from ``first`` on if it has room for all."""
        for j in range(partials):
            partial[j] = 0.0
        for start in range(0, n, BLOCK):
            m, to = min(BLOCK, n - start), first + start if n <= width else 0
            put_terms(args, steps, i, start, m, index, largest, numbers, width, to, of_data, memory)
            fetch_ahead((), (args, steps, i + 1, start, m))
            for j in range(0, m, LANES):
                add_all((), (partial, memory, width, to + j))
        return folded((), (partial,))

    return row_sums


def _slopes(definition: RowDefinition, dtype: type[np.floating[Any]], at: Places, of: State) -> tuple[Inlined, Inlined]:
    """What puts the derivatives in the data of a row where they belong, and what puts zeros there."""
    zero, derived, slope = dtype(0), definition.derived, definition.slopes
    fetch_all, elements, put_terms = _terms(definition, dtype, at)
    deliver = deliverer(zero)
    slopes_at, along_at, memory_at = at.slopes, at.along_slopes, at.memory
    weight_of, largest_of = of.weight * ROWS, of.largest * ROWS
    numbers_of, kept_of = reader(of.numbers, len(definition.numbers)), reader(of.kept, definition.kept)
    own_of = reader(of.own_slopes, derived if definition.apart else 0)
    terms_at = each_of(inlined(lambda k, memory, width, j: memory[k * width + j]), definition.summed)

    @inlined
    def store_slope(k, slope, out, j, weight):
        out[k * BLOCK + j] = dtype(slope * weight)

    store_slopes = each_of(store_slope, derived)

    @inlined
    def deliver_one(k, out, args, steps, i, start, m):
        along = steps[along_at + k]
        deliver(args[slopes_at + k] + i * steps[slopes_at + k] + start * along, along, m, out, k * BLOCK)

    deliver_all = each_of(deliver_one, derived)

    @inlined
    def put_own(k, slope, args, steps, i, index, weight):
        place = args[slopes_at + k] + i * steps[slopes_at + k] + index * steps[along_at + k]
        pointer(place, zero)[0] = dtype(slope * weight)

    put_owns = each_of(put_own, derived) if definition.apart else inlined(lambda owns, others: None)

    @inlined
    def put_slopes(args, steps, i, g, n, index, width, first, of_data, out, state):
        """In all elements as if none were apart, then in that which is."""
        weight, largest, numbers = state[weight_of + g], state[largest_of + g], numbers_of((), (state, g))
        kept, memory, whole = kept_of((), (state, g)), pointer(args[memory_at], np.float64(0)), n <= width
        for start in range(0, n, BLOCK):
            m, to = min(BLOCK, n - start), first + start if whole else 0
            if not whole:
                put_terms(args, steps, i, start, m, index, largest, numbers, width, to, of_data, memory)
            data = fetch_all((of_data,), (args, steps, i, start, m))
            for j in range((m + LANES - 1) & -LANES):
                found = slope(elements((data,), (j,)), terms_at((), (memory, width, to + j)), largest, numbers, kept)
                store_slopes((found,), (out, j, weight))
            deliver_all((), (out, args, steps, i, start, m))
        put_owns((own_of((), (state, g)),), (args, steps, i, index, weight))

    @inlined
    def clear_one(k, args, steps, i, n):
        for j in range(n):
            pointer(args[slopes_at + k] + i * steps[slopes_at + k] + j * steps[along_at + k], zero)[0] = zero

    return put_slopes, each_of(clear_one, derived)
