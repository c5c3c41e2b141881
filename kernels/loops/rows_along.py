"""Long rows, one after the other: each goes in blocks of elements through buffers, as in `cpu`.

Sums have `LANES` partial sums of doubles, in two words each for float64, by position in the row, folded by halves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arithmetic.elementary import two_sum
from ..arithmetic.primitives import inlined, max, min
from ..losses.rowwise import RowDefinition
from .blocks import BLOCK, buffers
from .cpu import deliverer, fetcher
from .memory import pointer, stack
from .panels import LANES, ROWS
from .row_parts import Inlined, Places, State, arguments, evaluated, reader, results, writer
from .tuples import each_of
from .vectors import highest, prefetch, summing

__all__ = ["along"]


def along(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Inlined:
    """loop(args, dims, steps) over rows of any length."""
    zero, double = dtype(0), np.float64(0)
    at, of = Places(definition, slopes), State(definition)
    count, summed, apart = len(definition.data), definition.summed, definition.apart
    memory_at, along_at = at.memory, at.along
    state_room, largest_of = of.end * ROWS, of.largest * ROWS
    pieces = _pieces(definition, dtype, at)
    row_sums, evaluate, put_results = (
        _sums(definition, dtype, at, pieces.put_terms),
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
    no_slopes = inlined(lambda args, steps, i, g, n, width, first, of_data, out, state: None)
    put_slopes = _slopes(definition, dtype, at, of, pieces, index_of) if slopes else no_slopes

    @inlined
    def apart_and_most(n, width):
        """How far one row's terms are from the next one's, and of how many rows the memory keeps them."""
        padded = (n + LANES - 1) & -LANES
        return padded, max(1, min(ROWS, width // padded))

    apart_and_most = apart_and_most if slopes else inlined(lambda n, width: (0, ROWS))

    @inlined
    def rows_along(args, dims, steps):
        """Some rows at a time: what they come to, then the derivatives."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        apart_by, most = apart_and_most(n, width)
        of_data, buffer, top = buffers(count, zero), stack(out_room, zero), stack(LANES, zero)
        partial, state, own = stack(partial_room, double), stack(state_room, double), stack(own_room, zero)
        for first in range(0, rows, most):
            together = min(most, rows - first)
            for g in range(together):
                read_row(args, steps, first + g, g, n, width, g * apart_by, of_data, buffer, top, partial, state, own)
            evaluate(state, own)
            for g in range(together):
                put_results(args, steps, first + g, g, state)
                put_slopes(args, steps, first + g, g, n, width, g * apart_by, of_data, buffer, state)

    return rows_along


class _Pieces(NamedTuple):
    """What the sums and the derivatives have in common."""

    fetch_all: Inlined  # data of a block
    elements: Inlined  # one of each of them
    put_terms: Inlined  # the terms of a block into the memory


def _pieces(definition: RowDefinition, dtype: type[np.floating[Any]], at: Places) -> _Pieces:
    """These pieces, made once."""
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

    return _Pieces(fetch_all, elements, put_terms)


def _sums(definition: RowDefinition, dtype: type[np.floating[Any]], at: Places, put_terms: Inlined) -> Inlined:
    """What sums the terms of a row: the first words of all, then the second ones."""
    summed, two_words, along_at, size = definition.summed, dtype is np.float64, at.along, np.dtype(dtype).itemsize
    add = summing(two_words)

    @inlined
    def add_one(k, partial, memory, width, j):
        add(partial, k * LANES, (summed + k) * LANES, memory, k * width + j)

    add_all = each_of(add_one, summed)

    @inlined
    def fold(k, partial):
        """Add up a slot's partial sums, the second half to the first until one is left."""
        first, rest, half = k * LANES, (summed + k) * LANES, LANES // 2
        while half > 0:
            for j in range(half):
                high, low = two_sum(partial[first + j], partial[first + j + half])
                partial[first + j] = high
                partial[rest + j] += partial[rest + j + half] + low
            half //= 2

    @inlined
    def fetch_ahead_one(k, args, steps, i, start, m):
        """The same part of the next row, where the processor does not look for it."""
        if steps[along_at + k] == size:
            ahead = args[k] + i * steps[k] + start * size
            for line in range(0, m * size, 64):
                prefetch(ahead + line)

    fetch_ahead = each_of(fetch_ahead_one, len(definition.data))
    fold_all, partials = each_of(fold, summed), 2 * summed * LANES
    folded = each_of(inlined(lambda k, partial: partial[k * LANES]), 2 * summed)

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
        fold_all((), (partial,))
        return folded((), (partial,))

    return row_sums


def _slopes(
    definition: RowDefinition,
    dtype: type[np.floating[Any]],
    at: Places,
    of: State,
    pieces: _Pieces,
    index_of: Inlined,
) -> Inlined:
    """What puts the derivatives in the data of a row where they belong, zeros if its weight is 0."""
    zero, derived, slope = dtype(0), definition.derived, definition.slopes
    fetch_all, elements, put_terms = pieces
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
    def clear_one(k, args, steps, i, n):
        for j in range(n):
            pointer(args[slopes_at + k] + i * steps[slopes_at + k] + j * steps[along_at + k], zero)[0] = zero

    clear = each_of(clear_one, derived)

    @inlined
    def put_slopes(args, steps, i, g, n, width, first, of_data, out, state):
        """In all elements as if none were apart, then in that which is."""
        weight = state[weight_of + g]
        if weight == 0.0:
            clear((), (args, steps, i, n))
        else:
            index, largest, numbers = index_of(args, steps, i), state[largest_of + g], numbers_of((), (state, g))
            kept, memory, whole = kept_of((), (state, g)), pointer(args[memory_at], np.float64(0)), n <= width
            for start in range(0, n, BLOCK):
                m, to = min(BLOCK, n - start), first + start if whole else 0
                if not whole:
                    put_terms(args, steps, i, start, m, index, largest, numbers, width, to, of_data, memory)
                data = fetch_all((of_data,), (args, steps, i, start, m))
                for j in range((m + LANES - 1) & -LANES):
                    of_term = terms_at((), (memory, width, to + j))
                    found = slope(elements((data,), (j,)), of_term, largest, numbers, kept)
                    store_slopes((found,), (out, j, weight))
                deliver_all((), (out, args, steps, i, start, m))
            put_owns((own_of((), (state, g)),), (args, steps, i, index, weight))

    return put_slopes
