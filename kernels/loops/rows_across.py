"""Short rows side by side: `ROWS` of them at a time, turned so that each has a lane of its own in all vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.elementary import two_sum
from ..arithmetic.primitives import inlined, max, min
from ..losses.rowwise import RowDefinition
from .blocks import BLOCK
from .memory import pointer, scratch, stack
from .panels import LANES, ROWS, SHORT
from .row_parts import Inlined, Places, State, arguments, evaluated, reader, results
from .tuples import each_of

__all__ = ["across"]


def across(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Inlined:
    """loop(args, dims, steps) over rows of up to `BLOCK` elements; those beyond `SHORT` with the sums of long ones."""
    zero, double, size = dtype(0), np.float64(0), np.dtype(dtype).itemsize
    at, of = Places(definition, slopes), State(definition)
    count, summed, apart = len(definition.data), definition.summed, definition.apart
    memory_at, along_at = at.memory, at.along
    weight_of, largest_of, largest = of.weight * ROWS, of.largest * ROWS, definition.largest
    put_down, index_of = arguments(definition, at, of)
    evaluate, put_results = evaluated(definition, of), results(definition, at, of)
    turned, own_room, state_room = count * BLOCK * ROWS, count * ROWS, of.end * ROWS
    partial_room = 2 * LANES * ROWS

    @inlined
    def turn_one(k, args, steps, i, g, n, data):
        """Put the elements of row i, which is number g, ``ROWS`` apart."""
        place, step = args[k] + i * steps[k], steps[along_at + k]
        for j in range(n):
            data[(k * BLOCK + j) * ROWS + g] = pointer(place + j * step, zero)[0]

    @inlined
    def turn_whole(k, args, steps, i, n, data):
        """The same of `ROWS` rows whose elements at each place lie side by side."""
        place, step = args[k] + i * steps[k], steps[along_at + k]
        for j in range(n):
            there = pointer(place + j * step, zero)
            for g in range(ROWS):
                data[(k * BLOCK + j) * ROWS + g] = there[g]

    @inlined
    def clear_one(k, g, n, data):
        for j in range(n):
            data[(k * BLOCK + j) * ROWS + g] = zero

    turn, turn_all, clear = each_of(turn_one, count), each_of(turn_whole, count), each_of(clear_one, count)

    @inlined
    def beside(args, steps):
        """Tell whether the elements of neighbouring rows at each place lie side by side."""
        together = True
        for k in range(count):
            together &= steps[k] == size
        return together

    @inlined
    def read(args, steps, first, together, n, data, state):
        """The rows from ``first`` on, turned; zeros for those of weight 0 and those that are not there."""
        all_there = together == ROWS
        for g in range(together):
            all_there &= put_down(args, steps, first + g, g, state) != 0.0
        if all_there and beside(args, steps):
            turn_all((), (args, steps, first, n, data))
        else:
            for g in range(ROWS):
                if g < together and state[weight_of + g] != 0.0:
                    turn((), (args, steps, first + g, g, n, data))
                else:
                    clear((), (g, n, data))

    place, lowest = (largest or 0) * BLOCK, dtype(-np.inf)

    @inlined
    def find_largest(n, data, top, state):
        """The largest element of each row, that which is apart included; NaN is passed over."""
        for g in range(ROWS):
            top[g] = lowest
        for j in range(n):
            for g in range(ROWS):
                top[g] = max(top[g], data[(place + j) * ROWS + g])
        for g in range(ROWS):
            state[largest_of + g] = np.float64(top[g])

    find_largest = inlined(lambda n, data, top, state: None) if largest is None else find_largest
    elements = each_of(inlined(lambda k, data, j, g: data[(k * BLOCK + j) * ROWS + g]), count)
    numbers_of, terms = reader(of.numbers, len(definition.numbers)), definition.terms

    @inlined
    def store_term(k, term, memory, n, j, g):
        memory[(k * n + j) * ROWS + g] = term

    store_terms = each_of(store_term, summed)

    @inlined
    def put_terms(n, data, memory, state):
        for j in range(n):
            for g in range(ROWS):
                given = state[largest_of + g], numbers_of((), (state, g))
                store_terms((terms(elements((), (data, j, g)), given[0], given[1]),), (memory, n, j, g))

    @inlined
    def clear_term(k, memory, n, index, g):
        memory[(k * n + index) * ROWS + g] = 0.0

    clear_terms = each_of(clear_term, summed)

    @inlined
    def own_one(k, data, index, g, own):
        own[k * ROWS + g] = data[(k * BLOCK + index) * ROWS + g]

    put_own = each_of(own_one, count)

    @inlined
    def take_apart(args, steps, first, together, n, data, memory, state, own):
        """The elements that are apart, out of the sums."""
        for g in range(together):
            if state[weight_of + g] != 0.0:
                index = index_of(args, steps, first + g)
                put_own((), (data, index, g, own))
                clear_terms((), (memory, n, index, g))

    nothing_apart = inlined(lambda args, steps, first, together, n, data, memory, state, own: None)
    take_apart = take_apart if apart else nothing_apart
    sums_of, two_words = of.sums * ROWS, dtype is np.float64

    @inlined
    def sum_words(k, n, memory, state):
        high, low = sums_of + k * ROWS, sums_of + (summed + k) * ROWS
        for g in range(ROWS):
            state[high + g], state[low + g] = 0.0, 0.0
        for j in range(n):
            for g in range(ROWS):
                total, rest = two_sum(state[high + g], memory[(k * n + j) * ROWS + g])
                state[high + g] = total
                state[low + g] += rest

    @inlined
    def sum_plainly(k, n, memory, state):
        high = sums_of + k * ROWS
        for g in range(ROWS):
            state[high + g] = 0.0
        for j in range(n):
            for g in range(ROWS):
                state[high + g] += memory[(k * n + j) * ROWS + g]

    sum_short, lanes = each_of(sum_words if two_words else sum_plainly, summed), LANES * ROWS

    @inlined
    def sum_in_lanes(k, n, memory, state, partial):
        """As `rows_along` does: in `LANES` partial sums of each row, folded by halves."""
        for lane in range(LANES):
            at, rest = lane * ROWS, lanes + lane * ROWS
            for g in range(ROWS):
                partial[at + g], partial[rest + g] = 0.0, 0.0
            for j in range(lane, n, LANES):
                for g in range(ROWS):
                    total, lacking = two_sum(partial[at + g], memory[(k * n + j) * ROWS + g])
                    partial[at + g] = total
                    if two_words:
                        partial[rest + g] += lacking
        half = lanes // 2
        while half >= ROWS:
            for j in range(half):
                high, low = two_sum(partial[j], partial[j + half])
                partial[j] = high
                partial[lanes + j] += partial[lanes + j + half] + low
            half //= 2
        for g in range(ROWS):
            state[sums_of + k * ROWS + g] = partial[g]
            state[sums_of + (summed + k) * ROWS + g] = partial[lanes + g]

    sum_long = each_of(sum_in_lanes, summed)

    @inlined
    def come_to(args, steps, first, together, n, data, memory, top, state, own, partial):
        """All that the rows come to."""
        read(args, steps, first, together, n, data, state)
        find_largest(n, data, top, state)
        put_terms(n, data, memory, state)
        take_apart(args, steps, first, together, n, data, memory, state, own)
        if n <= SHORT:
            sum_short((), (n, memory, state))
        else:
            sum_long((), (n, memory, state, partial))
        evaluate(state, own)
        for g in range(together):
            put_results(args, steps, first + g, g, state)

    no_slopes = inlined(lambda args, steps, first, together, n, data, memory, state: None)
    put_slopes = _slopes(definition, dtype, at, of, elements, index_of) if slopes else no_slopes

    @inlined
    def rows_across(args, dims, steps):
        """`ROWS` rows at a time: what they come to, then the derivatives."""
        rows, n, memory = dims[0], dims[1], pointer(args[memory_at], double)
        data, top = scratch(turned, zero), stack(ROWS, zero)
        state, own, partial = stack(state_room, double), stack(own_room, zero), stack(partial_room, double)
        for first in range(0, rows, ROWS):
            together = min(ROWS, rows - first)
            come_to(args, steps, first, together, n, data, memory, top, state, own, partial)
            put_slopes(args, steps, first, together, n, data, memory, state)

    return rows_across


def _slopes(
    definition: RowDefinition,
    dtype: type[np.floating[Any]],
    at: Places,
    of: State,
    elements: Inlined,
    index_of: Inlined,
) -> Inlined:
    """What puts the derivatives in the data of some rows where they belong; they are computed in the data's place."""
    zero, size, derived, summed = dtype(0), np.dtype(dtype).itemsize, definition.derived, definition.summed
    slope, apart, slopes_at, along_at = definition.slopes, definition.apart, at.slopes, at.along_slopes
    weight_of, largest_of = of.weight * ROWS, of.largest * ROWS
    numbers_of, kept_of = reader(of.numbers, len(definition.numbers)), reader(of.kept, definition.kept)
    own_of = reader(of.own_slopes, derived if apart else 0)
    terms_at = each_of(inlined(lambda k, memory, n, j, g: memory[(k * n + j) * ROWS + g]), summed)

    @inlined
    def store_slope(k, slope, data, j, g, weight):
        """A weight of 0 leaves nothing, whatever the derivative is."""
        data[(k * BLOCK + j) * ROWS + g] = zero if weight == 0.0 else dtype(slope * weight)

    store_slopes = each_of(store_slope, derived)

    @inlined
    def store_own(k, slope, data, index, g, weight):
        data[(k * BLOCK + index) * ROWS + g] = dtype(slope * weight)

    store_owns = each_of(store_own, derived)

    @inlined
    def put_owns(args, steps, first, together, data, state):
        for g in range(together):
            weight = state[weight_of + g]
            if weight != 0.0:
                index = index_of(args, steps, first + g)
                store_owns((own_of((), (state, g)),), (data, index, g, weight))

    put_owns = put_owns if apart else inlined(lambda args, steps, first, together, data, state: None)

    @inlined
    def turn_back(k, args, steps, i, g, n, data):
        place, step = args[slopes_at + k] + i * steps[slopes_at + k], steps[along_at + k]
        for j in range(n):
            pointer(place + j * step, zero)[0] = data[(k * BLOCK + j) * ROWS + g]

    @inlined
    def turn_whole(k, args, steps, i, n, data):
        place, step = args[slopes_at + k] + i * steps[slopes_at + k], steps[along_at + k]
        for j in range(n):
            there = pointer(place + j * step, zero)
            for g in range(ROWS):
                there[g] = data[(k * BLOCK + j) * ROWS + g]

    deliver, deliver_whole = each_of(turn_back, derived), each_of(turn_whole, derived)

    @inlined
    def put_slopes(args, steps, first, together, n, data, memory, state):
        for j in range(n):
            for g in range(ROWS):
                given, kept = (state[largest_of + g], numbers_of((), (state, g))), kept_of((), (state, g))
                own, found = elements((), (data, j, g)), terms_at((), (memory, n, j, g))
                store_slopes((slope(own, found, given[0], given[1], kept),), (data, j, g, state[weight_of + g]))
        put_owns(args, steps, first, together, data, state)
        beside = together == ROWS
        for k in range(derived):
            beside &= steps[slopes_at + k] == size
        if beside:
            deliver_whole((), (args, steps, first, n, data))
        else:
            for g in range(together):
                deliver((), (args, steps, first + g, g, n, data))

    return put_slopes
