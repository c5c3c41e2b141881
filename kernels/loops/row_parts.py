"""What the loops over rows have in common: their arguments, what is known of some rows, and how those are evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arithmetic.primitives import inlined
from ..losses.rowwise import RowDefinition
from .memory import WORD, pointer
from .panels import ROWS
from .tuples import each_of

__all__ = ["Inlined", "Places", "State", "arguments", "each", "evaluated", "reader", "results", "writer"]

Inlined = Callable[..., Any]


def each(function: Inlined, count: int) -> Inlined:
    """`each_of`, also for a count of 0."""
    return each_of(function, count) if count else inlined(lambda owns, others: ())


class Places:
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
        self.along = self.slopes + (definition.derived if slopes else 0)
        self.along_slopes = self.along + data + 1  # after that of the memory


class State:
    """What is known of rows, `ROWS` numbers one after the other: of each kind where its first ones are."""

    def __init__(self, definition: RowDefinition) -> None:
        numbers, own = len(definition.numbers), definition.derived if definition.apart else 0
        self.weight, self.largest, self.sums = 0, 1, 2
        self.numbers = self.sums + 2 * definition.summed
        self.value = self.numbers + numbers
        self.by_numbers = self.value + 1
        self.own_slopes = self.by_numbers + numbers
        self.kept = self.own_slopes + own
        self.end = self.kept + definition.kept


def reader(first: int, count: int) -> Inlined:
    """read((), (state, g)): so many numbers of row g, as a tuple."""
    return each(inlined(lambda k, state, g: state[(first + k) * ROWS + g]), count)


def writer(first: int, count: int) -> Inlined:
    """write((numbers,), (state, g)): the same the other way."""

    @inlined
    def write(k, number, state, g):
        state[(first + k) * ROWS + g] = number

    return each(write, count)


def evaluated(definition: RowDefinition, of: State) -> Inlined:
    """What evaluates the values of `ROWS` rows, and what their derivatives need."""
    count, summed, numbers_count = len(definition.data), definition.summed, len(definition.numbers)
    largest_of, value_of, value = of.largest * ROWS, of.value * ROWS, definition.value
    sums_of, numbers_of = reader(of.sums, 2 * summed), reader(of.numbers, numbers_count)
    put_numbers, put_kept = writer(of.by_numbers, numbers_count), writer(of.kept, definition.kept)
    put_own = writer(of.own_slopes, definition.derived if definition.apart else 0)
    own_of = each(inlined(lambda k, own, g: own[k * ROWS + g]), count if definition.apart else 0)

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


def arguments(definition: RowDefinition, at: Places, of: State) -> tuple[Inlined, Inlined]:
    """What puts down weight and numbers of row i as number g, returning the weight, and what reads its index."""
    double, count = np.float64(0), len(definition.numbers)
    weight_at, weight_of, index_at, numbers_at = at.weight, of.weight * ROWS, at.index, at.numbers

    @inlined
    def number_at(k, args, steps, i):
        return pointer(args[numbers_at + k] + i * steps[numbers_at + k], double)[0]

    read_numbers, write_numbers = each(number_at, count), writer(of.numbers, count)

    @inlined
    def put_down(args, steps, i, g, state):
        weight = pointer(args[weight_at] + i * steps[weight_at], double)[0]
        state[weight_of + g] = weight
        write_numbers((read_numbers((), (args, steps, i)),), (state, g))
        return weight

    @inlined
    def index_of(args, steps, i):
        return pointer(args[index_at] + i * steps[index_at], WORD)[0]

    return put_down, index_of if definition.apart else inlined(lambda args, steps, i: -1)


def results(definition: RowDefinition, at: Places, of: State) -> Inlined:
    """What puts the value of number g, and its derivatives in the numbers, where they belong: 0 for a weight of 0."""
    double, value_at, by_numbers_at = np.float64(0), at.value, at.by_numbers
    weight_of, value_of, count = of.weight * ROWS, of.value * ROWS, len(definition.numbers)
    by_numbers = reader(of.by_numbers, count)

    @inlined
    def put_number(k, number, args, steps, i, none):
        pointer(args[by_numbers_at + k] + i * steps[by_numbers_at + k], double)[0] = 0.0 if none else number

    put_numbers = each(put_number, count)

    @inlined
    def put_results(args, steps, i, g, state):
        none = state[weight_of + g] == 0.0
        pointer(args[value_at] + i * steps[value_at], double)[0] = 0.0 if none else state[value_of + g]
        put_numbers((by_numbers((), (state, g)),), (args, steps, i, none))

    return put_results
