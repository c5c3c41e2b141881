"""The CPU's loops over rows: inner loops of generalized ufuncs, one row after the other.

With d data, an index where one element is apart, and p numbers a row, the ufunc is

    (n),... ,(),... ,(),(s) -> (),... ,(n),...

from the data, the index (int64), the numbers and a weight (doubles), and memory for doubles, to the value and the
derivatives in the numbers, doubles that are not weighted, and, where they are wanted, the derivatives in the data times
the weight.  A row of weight 0 is not read, and all its results are 0.  The memory, which is written to, keeps the terms
of a row for the derivatives; if it has less room, but that for a block of each term, they are computed again.

Elements go in blocks of `BLOCK` through buffers on the stack, as in `cpu`: strides and tails are the copies' business.
Sums have `LANES` partial sums of doubles, in two words each for float64, by position in the row, folded by halves: the
order, and so each bit, is the same on all processors.
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
from .tuples import each_of, repeated
from .vectors import LANES, highest, summing

__all__ = ["loop"]


def _each(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    """`each_of`, also for a count of 0."""
    return each_of(function, count) if count else inlined(lambda owns, others: ())


def loop(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Callable[..., Any]:
    """The loop, with or without derivatives in the data."""
    zero, double = dtype(0), np.float64(0)
    count, summed, apart, numbers_count = (
        len(definition.data), definition.summed, definition.apart, len(definition.numbers)
    )  # fmt: skip
    numbers_at = count + apart
    weight_at = numbers_at + numbers_count
    scratch_at = weight_at + 1
    value_at = scratch_at + 1
    slopes_at = value_at + 1 + numbers_count
    along_at = slopes_at + (count if slopes else 0)  # the strides along rows: of the data, the memory, the slopes
    slopes_along = along_at + count + 1
    fetch, deliver = fetcher(zero), deliverer(zero)
    terms, value, slope = definition.terms, definition.value, definition.slopes
    two_words = dtype is np.float64
    room, partials = count * BLOCK, summed * LANES * (1 + two_words)
    add = summing(two_words)
    lowest = dtype(-np.inf)
    zeros = repeated(numbers_count) if numbers_count else inlined(lambda number: ())

    @inlined
    def fetch_one(k, memory, args, steps, i, start, m):
        along = steps[along_at + k]
        return fetch(args[k] + i * steps[k] + start * along, along, m, memory)

    fetch_all = each_of(fetch_one, count)
    elements = each_of(inlined(lambda k, data, j: data[j]), count)

    @inlined
    def own_one(k, args, steps, i, index):
        return pointer(args[k] + i * steps[k] + index * steps[along_at + k], zero)[0]

    own_elements = each_of(own_one, count) if apart else inlined(lambda owns, others: ())

    @inlined
    def read(args, steps, i, at):
        return pointer(args[at] + i * steps[at], double)[0]

    @inlined
    def write(args, steps, i, at, number):
        pointer(args[at] + i * steps[at], double)[0] = number

    numbers_of = _each(inlined(lambda k, args, steps, i: read(args, steps, i, numbers_at + k)), numbers_count)
    write_numbers = _each(
        inlined(lambda k, number, args, steps, i: write(args, steps, i, value_at + 1 + k, number)), numbers_count
    )

    @inlined
    def index_of(args, steps, i):
        return pointer(args[count] + i * steps[count], WORD)[0] if apart else -1

    @inlined
    def store_term(k, term, buffer, width, j):
        buffer[k * width + j] = term

    store_terms = each_of(store_term, summed)

    @inlined
    def fold_words(k, partial):
        """The sum of a slot's partial sums in two words, the second half added to the first until one is left."""
        first, rest, half = k * LANES, (summed + k) * LANES, LANES // 2
        while half > 0:
            for j in range(half):
                partial[first + j], low = two_sum(partial[first + j], partial[first + j + half])
                partial[rest + j] += partial[rest + j + half] + low
            half //= 2
        return partial[first], partial[rest]

    @inlined
    def fold_plain(k, partial):
        """The same in one word."""
        first, half = k * LANES, LANES // 2
        while half > 0:
            for j in range(half):
                partial[first + j] += partial[first + j + half]
            half //= 2
        return partial[first], 0.0

    folded = each_of(fold_words if two_words else fold_plain, summed)

    @inlined
    def clear_one(k, buffer, width, begin, end):
        for j in range(begin, end):
            buffer[k * width + j] = 0.0

    clear_all = each_of(clear_one, summed)

    @inlined
    def clear(buffer, width, begin, end):
        clear_all((), (buffer, width, begin, end))

    @inlined
    def evaluate(args, steps, i, start, m, at, index, largest, numbers, of_data, buffer, width):
        """The terms of so many elements from ``start`` on, 0 for what is apart, at that place in the buffer."""
        padded = (m + LANES - 1) & -LANES
        data = fetch_all((of_data,), (args, steps, i, start, m))
        for j in range(padded):
            store_terms((terms(elements((data,), (j,)), largest, numbers),), (buffer, width, at + j))
        clear(buffer, width, at + m, at + padded)
        if start <= index < start + m:
            clear(buffer, width, at + index - start, at + index - start + 1)

    @inlined
    def add_one(k, partial, buffer, width, j):
        add(partial, k * LANES, (summed + k) * LANES, buffer, k * width + j)

    add_all = each_of(add_one, summed)

    @inlined
    def sums_of(args, steps, i, n, index, largest, numbers, of_data, buffer, width, partial):
        """The sums of the terms over the row."""
        for j in range(partials):
            partial[j] = 0.0
        for start in range(0, n, BLOCK):
            m, at = min(BLOCK, n - start), start if n <= width else 0
            evaluate(args, steps, i, start, m, at, index, largest, numbers, of_data, buffer, width)
            for j in range(0, m, LANES):
                add_all((), (partial, buffer, width, at + j))
        return folded((), (partial,))

    place = definition.largest or 0

    @inlined
    def largest_of(args, steps, i, n, buffer, top):
        """The largest element of the row, that which is apart included."""
        for j in range(LANES):
            top[j] = lowest
        for start in range(0, n, BLOCK):
            m = min(BLOCK, n - start)
            data = fetch_one(place, buffer, args, steps, i, start, m)
            for j in range(0, (m + LANES - 1) & -LANES, LANES):
                highest(top, data, j)
        for j in range(1, LANES):
            top[0] = max(top[0], top[j])
        return np.float64(top[0])

    no_largest = inlined(lambda args, steps, i, n, buffer, top: 0.0)
    largest_of = no_largest if definition.largest is None else largest_of

    @inlined
    def store_slope(k, slope, out, j, weight):
        out[k * BLOCK + j] = dtype(slope * weight)

    store_slopes = each_of(store_slope, count)

    @inlined
    def deliver_one(k, out, args, steps, i, start, m):
        along, at = steps[slopes_along + k], slopes_at + k
        deliver(args[at] + i * steps[at] + start * along, along, m, out, k * BLOCK)

    deliver_all = each_of(deliver_one, count)

    @inlined
    def own_slope(k, slope, args, steps, i, index, weight):
        along, at = steps[slopes_along + k], slopes_at + k
        pointer(args[at] + i * steps[at] + index * along, zero)[0] = dtype(slope * weight)

    own_slopes = each_of(own_slope, count) if apart else inlined(lambda owns, others: None)

    terms_at = each_of(inlined(lambda k, buffer, width, j: buffer[k * width + j]), summed)

    @inlined
    def slopes_of(args, steps, i, n, index, largest, numbers, kept, weight, of_data, buffer, width, out):
        """The derivatives in all elements as if none were apart; terms of longer rows are computed again."""
        for start in range(0, n, BLOCK):
            m, at = min(BLOCK, n - start), start if n <= width else 0
            if n > width:
                evaluate(args, steps, i, start, m, at, index, largest, numbers, of_data, buffer, width)
            data = fetch_all((of_data,), (args, steps, i, start, m))
            for j in range((m + LANES - 1) & -LANES):
                found = slope(elements((data,), (j,)), terms_at((), (buffer, width, at + j)), largest, numbers, kept)
                store_slopes((found,), (out, j, weight))
            deliver_all((), (out, args, steps, i, start, m))

    @inlined
    def no_slopes(k, args, steps, i, n):
        along, at = steps[slopes_along + k], slopes_at + k
        for j in range(n):
            pointer(args[at] + i * steps[at] + j * along, zero)[0] = zero

    clear_slopes = each_of(no_slopes, count)

    def with_slopes(args, dims, steps):
        """Row by row: the largest, the sums, the value, the derivatives."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        of_data, out, top = buffers(count, zero), stack(room, zero), stack(LANES, zero)
        buffer, partial = pointer(args[scratch_at], double), stack(partials, double)
        for i in range(rows):
            weight = read(args, steps, i, weight_at)
            if weight == 0.0:
                write(args, steps, i, value_at, 0.0)
                write_numbers((zeros(0.0),), (args, steps, i))
                clear_slopes((), (args, steps, i, n))
            else:
                index, given = index_of(args, steps, i), numbers_of((), (args, steps, i))
                largest = largest_of(args, steps, i, n, out, top)
                sums = sums_of(args, steps, i, n, index, largest, given, of_data, buffer, width, partial)
                own = own_elements((), (args, steps, i, index))
                result, others, apart_slopes, kept = value(own, sums, largest, given)
                write(args, steps, i, value_at, result)
                write_numbers((others,), (args, steps, i))
                slopes_of(args, steps, i, n, index, largest, given, kept, weight, of_data, buffer, width, out)
                own_slopes((apart_slopes,), (args, steps, i, index, weight))
        forget_flags()

    def values(args, dims, steps):
        """The same without derivatives in the data."""
        rows, n, width = dims[0], dims[1], dims[2] // summed
        of_data, out, top = buffers(count, zero), stack(room, zero), stack(LANES, zero)
        buffer, partial = pointer(args[scratch_at], double), stack(partials, double)
        for i in range(rows):
            if read(args, steps, i, weight_at) == 0.0:
                write(args, steps, i, value_at, 0.0)
                write_numbers((zeros(0.0),), (args, steps, i))
            else:
                index, given = index_of(args, steps, i), numbers_of((), (args, steps, i))
                largest = largest_of(args, steps, i, n, out, top)
                sums = sums_of(args, steps, i, n, index, largest, given, of_data, buffer, width, partial)
                own = own_elements((), (args, steps, i, index))
                result, others, _, _ = value(own, sums, largest, given)
                write(args, steps, i, value_at, result)
                write_numbers((others,), (args, steps, i))
        forget_flags()

    return with_slopes if slopes else values
