"""CUDA kernels of losses of rows: a thread or a warp takes a row, or several warps parts of a long one.

What the threads of a warp have found they exchange until each has all of it: so each evaluates the row, and has what
its derivatives need.  Sums are of doubles, in two words each for float64, always in the same order.  No shared memory,
no barrier, no atomic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arithmetic.elementary import two_sum
from ..arithmetic.primitives import inlined, min
from ..losses.rowwise import RowDefinition
from .cuda_memory import Storage, word_at
from .cuda_threads import exchanged, thread
from .cuda_words import Made, number
from .launch_rows import PART, WARP, RowPlaces
from .row_parts import each
from .tuples import each_of, fold_of, repeated, transposed

__all__ = ["rows"]

Inlined = Callable[..., Any]
_AT_ONCE = 4  # elements that are asked for before the first of them is there


def rows(definition: RowDefinition, storage: str, way: str, results: str) -> Made:
    """Kernel that evaluates rows, and writes derivatives in the data if the results are "slopes" and not "values".

    The way is "thread" or "warp" for whole rows, or one after the other of "largest", "sums" and "results" for parts.
    """
    at, lanes = RowPlaces(definition), 1 if way == "thread" else WARP
    arguments = _Arguments(definition, at)
    find_largest, add_up = _largest(definition, storage, at, lanes), _sums(definition, storage, at, lanes)
    write = _writer(definition, storage, at, lanes, results == "slopes")
    weight_of, numbers_of, index_of = arguments.weight, arguments.numbers, arguments.index
    rows_at, length_at, after_at = at.rows, at.length, at.after
    largest_of_parts, sums_of_parts, put_largest, put_sums = _of_parts(definition, at)
    nothing = repeated(2 * definition.summed)

    @inlined
    def place_of(words, row):
        """The place of a row's first element."""
        after = words[after_at]
        return row // after * words[length_at] * after + row % after

    def whole(words):
        """A row for each thread, or each warp."""
        row, lane, length = thread() // lanes, thread() % lanes, words[length_at]
        if row < words[rows_at]:
            place, weight, index = place_of(words, row), weight_of(words, row), index_of(words, row)
            largest, sums, numbers = 0.0, nothing(0.0), numbers_of(words, row)
            if weight != 0.0:
                largest = find_largest(words, place, lane, length)
                sums = add_up(words, place, lane, length, index, largest, numbers)
            write(words, row, place, lane, length, index, weight, largest, sums, numbers)

    @inlined
    def part_of(words):
        """The row, its number of parts, and of that of this warp the first element of this thread and the end."""
        warp, length = thread() // WARP, words[length_at]
        parts = (length + PART - 1) // PART
        first = warp % parts * PART
        return warp // parts, parts, first + thread() % WARP, min(first + PART, length)

    def largest(words):
        """The largest element of a part for each warp."""
        row, parts, first, end = part_of(words)
        if row < words[rows_at] and weight_of(words, row) != 0.0:
            found = find_largest(words, place_of(words, row), first, end)
            if first % WARP == 0:
                put_largest(words, thread() // WARP, (found,))

    def sums(words):
        """The sums of a part for each warp."""
        row, parts, first, end = part_of(words)
        if row < words[rows_at] and weight_of(words, row) != 0.0:
            index, numbers = index_of(words, row), numbers_of(words, row)
            found = largest_of_parts(words, row, parts)
            added = add_up(words, place_of(words, row), first, end, index, found, numbers)
            if first % WARP == 0:
                put_sums((added,), (words, thread() // WARP, words[rows_at] * parts))

    def results_of_parts(words):
        """What a part comes to for each warp."""
        row, parts, first, end = part_of(words)
        if row < words[rows_at]:
            weight, index, numbers = weight_of(words, row), index_of(words, row), numbers_of(words, row)
            found, added = 0.0, nothing(0.0)
            if weight != 0.0:
                found = largest_of_parts(words, row, parts)
                added = sums_of_parts(words, row, parts)
            write(words, row, place_of(words, row), first, end, index, weight, found, added, numbers)

    of_parts = {"largest": largest, "sums": sums, "results": results_of_parts}
    return of_parts.get(way, whole), at.end


class _Arguments:
    """What is given for a row: its weight, its numbers, the index of what is apart or -1."""

    def __init__(self, definition: RowDefinition, at: RowPlaces) -> None:
        count, doubles = len(definition.numbers), Storage("float64")
        addresses, values, index_at, load, zero = at.addresses, at.values, at.index, doubles.load_one, doubles.zero

        @inlined
        def number_of(k, words, row):
            address = words[addresses + k]
            return number(words[values + k], zero) if address == 0 else load(address, row)

        all_numbers = each(number_of, count)
        self.weight = inlined(lambda words, row: number_of(count, words, row))
        self.numbers = inlined(lambda words, row: all_numbers((), (words, row)))
        self.index = inlined(
            (lambda words, row: word_at(words[index_at], row)) if definition.apart else (lambda words, row: -1)
        )


def _elements(definition: RowDefinition, storage: str, at: RowPlaces) -> Inlined:
    """elements((), (words, place)): one of each of the data."""
    load, data_at = Storage(storage).load_one, at.data
    return each_of(inlined(lambda k, words, place: load(words[data_at + k], place)), len(definition.data))


@inlined
def _larger(x, y):
    """The larger one, NaN passed over."""
    return y if y > x else x


@inlined
def _largest_of_warp(x):
    """The largest one of a warp's threads, in all of them."""
    offset = WARP // 2
    while offset > 0:
        x = _larger(x, exchanged(x, offset))
        offset //= 2
    return x


@inlined
def _joined(high, low, other_high, other_low):
    """The sum of two words each, the same whichever comes first."""
    total, error = two_sum(high, other_high)
    return total, (low + other_low) + error


@inlined
def _sum_of_warp(k, high, low):
    """The sum in two words of a warp's threads, in all of them; k is there for `each_of`."""
    offset = WARP // 2
    while offset > 0:
        high, low = _joined(high, low, exchanged(high, offset), exchanged(low, offset))
        offset //= 2
    return high, low


def _largest(definition: RowDefinition, storage: str, at: RowPlaces, lanes: int) -> Inlined:
    """largest(words, place, first, end): that of some elements of a row, the one that is apart included."""
    if definition.largest is None:
        return inlined(lambda words, place, first, end: 0.0)
    memory, data_at, after_at = Storage(storage), at.data + definition.largest, at.after
    load, lowest = memory.load_one, type(memory.zero)(-np.inf)
    some = each_of(inlined(lambda k, words, place, apart: load(words[data_at], place + k * apart)), _AT_ONCE)
    largest_of, whole_warp = fold_of(_larger, _AT_ONCE), lanes > 1

    @inlined
    def largest(words, place, first, end):
        after, found, j = words[after_at], lowest, first
        while j < end:
            if j + (_AT_ONCE - 1) * lanes < end:
                found = largest_of(found, some((), (words, place + j * after, lanes * after)))
                j += _AT_ONCE * lanes
            else:
                found = _larger(found, load(words[data_at], place + j * after))
                j += lanes
        return _largest_of_warp(np.float64(found)) if whole_warp else np.float64(found)

    return largest


def _sums(definition: RowDefinition, storage: str, at: RowPlaces, lanes: int) -> Inlined:
    """sums(words, place, first, end, index, largest, numbers): the first words of some elements' sums, then the second.

    What is apart is left out.
    """
    summed, two_words, after_at = definition.summed, storage == "float64", at.after
    elements, terms, whole_warp = _elements(definition, storage, at), definition.terms, lanes > 1
    kept = each_of(inlined(lambda k, term, is_apart: 0.0 if is_apart else term), summed)

    @inlined
    def terms_at(k, words, place, j, index, largest, numbers):
        """Those of one element, which is so many turns further."""
        j += k * lanes
        found = terms(elements((), (words, place + j * words[after_at])), largest, numbers)
        return kept((found,), (j == index,))

    some = each_of(terms_at, _AT_ONCE)

    @inlined
    def add_two_words(k, high, low, term):
        high, error = two_sum(high, term)
        return high, low + error

    @inlined
    def add_one_word(k, high, low, term):
        return high + term, low

    add_each = each_of(add_two_words if two_words else add_one_word, summed)
    add = inlined(lambda sums, of_element: transposed(add_each((sums[0], sums[1], of_element), ())))
    add_some, of_warp, zeros = fold_of(add, _AT_ONCE), each_of(_sum_of_warp, summed), repeated(summed)

    @inlined
    def sums(words, place, first, end, index, largest, numbers):
        found, j = (zeros(0.0), zeros(0.0)), first
        while j < end:
            if j + (_AT_ONCE - 1) * lanes < end:
                found = add_some(found, some((), (words, place, j, index, largest, numbers)))
                j += _AT_ONCE * lanes
            else:
                found = add(found, terms_at(0, words, place, j, index, largest, numbers))
                j += lanes
        if whole_warp:
            found = transposed(of_warp((found[0], found[1]), ()))
        return found[0] + found[1]

    return sums


def _of_parts(definition: RowDefinition, at: RowPlaces) -> tuple[Inlined, Inlined, Inlined, Inlined]:
    """What reads the largest element and the sums of all parts of a row, and what writes those of one."""
    doubles, summed = Storage("float64"), definition.summed
    load, largest_at, sums_at, rows_at = doubles.load_one, at.largest, at.sums, at.rows
    put_largest, put_sum = (doubles.storer([(place, ())], 1) for place in (largest_at, sums_at))

    @inlined
    def largest_of_parts(words, row, parts):
        found, part = -np.inf, thread() % WARP
        while part < parts:
            found = _larger(found, load(words[largest_at], row * parts + part))
            part += WARP
        return _largest_of_warp(found)

    @inlined
    def sum_of_parts(k, words, row, parts):
        """That of one kind, in two words."""
        size = words[rows_at] * parts
        high, low, part = 0.0, 0.0, thread() % WARP
        while part < parts:
            place = k * size + row * parts + part
            high, low = _joined(high, low, load(words[sums_at], place), load(words[sums_at], place + summed * size))
            part += WARP
        return _sum_of_warp(0, high, low)

    each_sum = each_of(sum_of_parts, summed)

    @inlined
    def sums_of_parts(words, row, parts):
        found = transposed(each_sum((), (words, row, parts)))
        return found[0] + found[1]

    put_each = inlined(lambda k, x, words, part, size: put_sum(words, k * size + part, (x,)))
    no_largest = inlined(lambda words, row, parts: 0.0)
    found_largest = no_largest if definition.largest is None else largest_of_parts
    return found_largest, sums_of_parts, put_largest, each_of(put_each, 2 * summed)


def _writer(definition: RowDefinition, storage: str, at: RowPlaces, lanes: int, slopes: bool) -> Inlined:
    """What evaluates a row and writes its results, by its first thread, and the derivatives in some elements.

    All are 0 for a weight of 0, and NaN where no element is at the index of what is apart, for which the weight
    becomes NaN.
    """
    count, apart = len(definition.numbers), definition.apart
    length_at, after_at, value, elements = at.length, at.after, definition.value, _elements(definition, storage, at)
    own_of = elements if apart else inlined(lambda owns, others: ())
    numbers = each(inlined(lambda k, x, none, missing: 0.0 if none else np.nan if missing else x), count)
    put = Storage("float64").storer([(at.value, (0,)), *((at.by_numbers + k, (1, k)) for k in range(count))], 1)
    no_slopes = inlined(lambda words, place, first, end, index, weight, largest, numbers, kept, own: None)
    put_slopes = _slopes(definition, storage, at, lanes) if slopes else no_slopes

    @inlined
    def write(words, row, place, first, end, index, weight, largest, sums, given):
        none, missing = weight == 0.0, apart and not 0 <= index < words[length_at]
        own = own_of((), (words, place + (0 if missing else index) * words[after_at]))
        result, by_numbers, own_slopes, kept = value(own, sums, largest, given)
        if first == 0:
            result = 0.0 if none else np.nan if missing else result
            put(words, row, ((result, numbers((by_numbers,), (none, missing))),))
        weight = np.nan if missing and not none else weight
        put_slopes(words, place, first, end, index, weight, largest, given, kept, own_slopes)

    return write


def _slopes(definition: RowDefinition, storage: str, at: RowPlaces, lanes: int) -> Inlined:
    """What writes the derivatives in some elements of a row, times its weight."""
    memory, derived, apart, after_at = Storage(storage), definition.derived, definition.apart, at.after
    elements, terms, slopes, cast = (
        _elements(definition, storage, at),
        definition.terms,
        definition.slopes,
        type(memory.zero),
    )
    chosen = each_of(inlined(lambda k, x, own, is_own: own if is_own else x), derived)
    chosen = chosen if apart else inlined(lambda owns, others: owns[0])
    weighted = each_of(inlined(lambda k, x, weight: cast(0.0 if weight == 0.0 else x * weight)), derived)
    store = memory.storer([(at.slopes + k, (k,)) for k in range(derived)], 1)

    @inlined
    def slopes_at(k, words, place, j, index, weight, largest, numbers, kept, own):
        """Those in one element, which is so many turns further."""
        j += k * lanes
        data = elements((), (words, place + j * words[after_at]))
        found = slopes(data, terms(data, largest, numbers), largest, numbers, kept)
        return weighted((chosen((found, own), (j == index,)),), (weight,))

    @inlined
    def store_at(k, found, words, place, apart_by):
        store(words, place + k * apart_by, (found,))

    some, store_some = each_of(slopes_at, _AT_ONCE), each_of(store_at, _AT_ONCE)

    @inlined
    def put_slopes(words, place, first, end, index, weight, largest, numbers, kept, own):
        after, j = words[after_at], first
        while j < end:
            if j + (_AT_ONCE - 1) * lanes < end:
                found = some((), (words, place, j, index, weight, largest, numbers, kept, own))
                store_some((found,), (words, place + j * after, lanes * after))
                j += _AT_ONCE * lanes
            else:
                one = slopes_at(0, words, place, j, index, weight, largest, numbers, kept, own)
                store(words, place + j * after, (one,))
                j += lanes

    return put_slopes
