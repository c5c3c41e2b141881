"""The CPU's loops over rows: inner loops of generalized ufuncs, a few rows at a time.

With d data, an index where one element is apart, and p numbers a row, the ufunc is

    (n),... ,(),... ,(),(s) -> (),... ,(n),...

from the data, the index (int64), the numbers and a weight (doubles), and memory for doubles, to the value and the
derivatives in the numbers, doubles that are not weighted, and, where they are wanted, the derivatives in the data times
the weight.  A row of weight 0 is not read, and all its results are 0.

Elements go in blocks of `BLOCK` through buffers on the stack, as in `cpu`: strides and tails are the copies' business.
Sums have `LANES` partial sums of doubles, in two words each for float64, by position in the row, folded by halves: the
order, and so each bit, is the same on all processors.  What several rows have come to is evaluated together, in
vectors.  The memory, which is written to, keeps the terms of these rows for the derivatives; of a row for which it has
less room, but that for a block of each term, they are computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arithmetic.elementary import two_sum
from ..arithmetic.primitives import inlined, max, min
from ..losses.rowwise import RowDefinition
from .blocks import BLOCK, buffers
from .cpu import deliverer, fetcher, forget_flags
from .memory import WORD, pointer, stack
from .panels import ROWS
from .tuples import each_of
from .vectors import LANES, highest, summing

__all__ = ["loop"]

Inlined = Callable[..., Any]


def _each(function: Inlined, count: int) -> Inlined:
    """`each_of`, also for a count of 0."""
    return each_of(function, count) if count else inlined(lambda owns, others: ())


class _Places:
    """Where the arguments of a loop are, and the strides along the rows after those from row to row."""

    def __init__(self, definition: RowDefinition, slopes: bool) -> None:
        data, numbers = len(definition.data), len(definition.numbers)
        self.index = data
        self.numbers = data + definition.apart
        self.weight = self.numbers + numbers
        self.memory = self.weight + 1
        self.value = self.memory + 1
        self.by_numbers = self.value + 1
        self.slopes = self.by_numbers + numbers
        self.along = self.slopes + (data if slopes else 0)
        self.along_slopes = self.along + data + 1  # after that of the memory


class _State:
    """What is known of rows, `ROWS` numbers one after the other: of each kind where its first ones are."""

    def __init__(self, definition: RowDefinition) -> None:
        numbers, own = len(definition.numbers), len(definition.data) if definition.apart else 0
        self.weight, self.largest, self.sums = 0, 1, 2
        self.numbers = self.sums + 2 * definition.summed
        self.value = self.numbers + numbers
        self.by_numbers = self.value + 1
        self.own_slopes = self.by_numbers + numbers
        self.kept = self.own_slopes + own
        self.end = self.kept + definition.kept


def _reader(first: int, count: int) -> Inlined:
    """read((), (state, g)): so many numbers of row g, as a tuple."""
    return _each(inlined(lambda k, state, g: state[(first + k) * ROWS + g]), count)


def _writer(first: int, count: int) -> Inlined:
    """write((numbers,), (state, g)): the same the other way."""

    @inlined
    def write(k, number, state, g):
        state[(first + k) * ROWS + g] = number

    return _each(write, count)


def loop(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Inlined:
    """The loop, with or without derivatives in the data."""
    zero, double = dtype(0), np.float64(0)
    at, of = _Places(definition, slopes), _State(definition)
    count, apart, numbers_count = len(definition.data), definition.apart, len(definition.numbers)
    index_at, numbers_at, weight_at, memory_at, along_at = at.index, at.numbers, at.weight, at.memory, at.along
    state_room, weight_of, largest_of, value_of = of.end * ROWS, of.weight * ROWS, of.largest * ROWS, of.value * ROWS
    row_sums, summed = _sums(definition, dtype, at), definition.summed
    evaluate = _evaluated(definition, of)
    put_slopes, clear_slopes = _slopes(definition, dtype, at, of) if slopes else (None, None)
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
    def number_at(k, args, steps, i):
        return pointer(args[numbers_at + k] + i * steps[numbers_at + k], double)[0]

    read_numbers, write_numbers = _each(number_at, numbers_count), _writer(of.numbers, numbers_count)

    @inlined
    def own_one(k, args, steps, i, g, index, own):
        own[k * ROWS + g] = pointer(args[k] + i * steps[k] + index * steps[along_at + k], zero)[0]

    put_own = each_of(own_one, count) if apart else inlined(lambda owns, others: ())

    @inlined
    def index_of(args, steps, i):
        return pointer(args[index_at] + i * steps[index_at], WORD)[0]

    index_of = index_of if apart else inlined(lambda args, steps, i: -1)
    put_sums = _writer(of.sums, 2 * summed)

    @inlined
    def read_row(args, steps, i, g, n, width, first, of_data, buffer, top, partial, state, own):
        """Weight, largest element, sums and what is apart of the row, put down as number g."""
        weight = pointer(args[weight_at] + i * steps[weight_at], double)[0]
        state[weight_of + g] = weight
        if weight != 0.0:
            index, numbers = index_of(args, steps, i), read_numbers((), (args, steps, i))
            largest = find_largest(args, steps, i, n, buffer, top)
            state[largest_of + g] = largest
            write_numbers((numbers,), (state, g))
            memory = pointer(args[memory_at], double)
            put_sums(
                (row_sums(args, steps, i, n, index, largest, numbers, width, first, of_data, memory, partial),),
                (state, g),
            )
            put_own((), (args, steps, i, g, index, own))

    value_at, by_numbers_at = at.value, at.by_numbers
    by_numbers = _reader(of.by_numbers, numbers_count)

    @inlined
    def put_number(k, number, args, steps, i, none):
        pointer(args[by_numbers_at + k] + i * steps[by_numbers_at + k], double)[0] = 0.0 if none else number

    put_numbers = _each(put_number, numbers_count)

    @inlined
    def put_results(args, steps, i, g, state):
        none = state[weight_of + g] == 0.0
        pointer(args[value_at] + i * steps[value_at], double)[0] = 0.0 if none else state[value_of + g]
        put_numbers((by_numbers((), (state, g)),), (args, steps, i, none))

    buffer_room, own_room, partial_room = BLOCK, count * ROWS, 2 * summed * LANES

    def values(args, dims, steps):
        """`ROWS` rows at a time: what they come to."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        of_data, buffer, top = buffers(count, zero), stack(buffer_room, zero), stack(LANES, zero)
        partial, state, own = stack(partial_room, double), stack(state_room, double), stack(own_room, zero)
        for j in range(state_room):
            state[j] = 0.0
        for first in range(0, rows, ROWS):
            together = min(ROWS, rows - first)
            for g in range(together):
                read_row(args, steps, first + g, g, n, width, 0, of_data, buffer, top, partial, state, own)
            evaluate(state, own)
            for g in range(together):
                put_results(args, steps, first + g, g, state)
        forget_flags()

    if not slopes:
        return values
    out_room = count * BLOCK

    def with_slopes(args, dims, steps):
        """As many rows at a time as the memory has room for: what they come to, then the derivatives."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        padded = (n + LANES - 1) & -LANES
        most = max(1, min(ROWS, width // padded))
        of_data, buffer, top = buffers(count, zero), stack(out_room, zero), stack(LANES, zero)
        partial, state, own = stack(partial_room, double), stack(state_room, double), stack(own_room, zero)
        for j in range(state_room):
            state[j] = 0.0
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
        forget_flags()

    return with_slopes


def _terms(definition: RowDefinition, dtype: type[np.floating[Any]], at: _Places) -> tuple[Inlined, Inlined, Inlined]:
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


def _sums(definition: RowDefinition, dtype: type[np.floating[Any]], at: _Places) -> Inlined:
    """What sums the terms of a row: the first words of all, then the second ones."""
    summed, two_words = definition.summed, dtype is np.float64
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

    folded, partials = each_of(fold, 2 * summed), 2 * summed * LANES

    @inlined
    def row_sums(args, steps, i, n, index, largest, numbers, width, first, of_data, memory, partial):
        """Of the row's terms, which stay in the memory from ``first`` on if it has room for all."""
        for j in range(partials):
            partial[j] = 0.0
        for start in range(0, n, BLOCK):
            m, to = min(BLOCK, n - start), first + start if n <= width else 0
            put_terms(args, steps, i, start, m, index, largest, numbers, width, to, of_data, memory)
            for j in range(0, m, LANES):
                add_all((), (partial, memory, width, to + j))
        return folded((), (partial,))

    return row_sums


def _evaluated(definition: RowDefinition, of: _State) -> Inlined:
    """What evaluates the values of `ROWS` rows, and what their derivatives need."""
    count, summed, numbers_count = len(definition.data), definition.summed, len(definition.numbers)
    largest_of, value_of, value = of.largest * ROWS, of.value * ROWS, definition.value
    sums_of, numbers_of = _reader(of.sums, 2 * summed), _reader(of.numbers, numbers_count)
    put_numbers, put_kept = _writer(of.by_numbers, numbers_count), _writer(of.kept, definition.kept)
    put_own = _writer(of.own_slopes, count if definition.apart else 0)
    own_of = _each(inlined(lambda k, own, g: own[k * ROWS + g]), count if definition.apart else 0)

    @inlined
    def evaluate(state, own):
        for g in range(ROWS):
            given = own_of((), (own, g)), sums_of((), (state, g)), state[largest_of + g], numbers_of((), (state, g))
            result, others, own_slopes, kept = value(given[0], given[1], given[2], given[3])
            state[value_of + g] = result
            put_numbers((others,), (state, g))
            put_own((own_slopes,), (state, g))
            put_kept((kept,), (state, g))

    return evaluate


def _slopes(
    definition: RowDefinition, dtype: type[np.floating[Any]], at: _Places, of: _State
) -> tuple[Inlined, Inlined]:
    """What puts the derivatives in the data of a row where they belong, and what puts zeros there."""
    zero, count, slope = dtype(0), len(definition.data), definition.slopes
    fetch_all, elements, put_terms = _terms(definition, dtype, at)
    deliver = deliverer(zero)
    slopes_at, along_at, memory_at = at.slopes, at.along_slopes, at.memory
    weight_of, largest_of = of.weight * ROWS, of.largest * ROWS
    numbers_of, kept_of = _reader(of.numbers, len(definition.numbers)), _reader(of.kept, definition.kept)
    own_of = _reader(of.own_slopes, count if definition.apart else 0)
    terms_at = each_of(inlined(lambda k, memory, width, j: memory[k * width + j]), definition.summed)

    @inlined
    def store_slope(k, slope, out, j, weight):
        out[k * BLOCK + j] = dtype(slope * weight)

    store_slopes = each_of(store_slope, count)

    @inlined
    def deliver_one(k, out, args, steps, i, start, m):
        along = steps[along_at + k]
        deliver(args[slopes_at + k] + i * steps[slopes_at + k] + start * along, along, m, out, k * BLOCK)

    deliver_all = each_of(deliver_one, count)

    @inlined
    def put_own(k, slope, args, steps, i, index, weight):
        place = args[slopes_at + k] + i * steps[slopes_at + k] + index * steps[along_at + k]
        pointer(place, zero)[0] = dtype(slope * weight)

    put_owns = each_of(put_own, count) if definition.apart else inlined(lambda owns, others: None)

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

    return put_slopes, each_of(clear_one, count)
