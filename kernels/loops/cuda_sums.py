"""CUDA kernels that sum: a loss with its gradients in one pass, weights, and what other kernels have summed.

A thread's own sums, then those of a warp by shuffles, then `fold` over what is left: always in the same order.  No
shared memory, no barrier, no atomic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arithmetic.elementary import lifted, two_sum
from ..arithmetic.primitives import inlined, min
from ..arithmetic.scaling import APART
from ..losses.definition import Definition, cases, element
from .cuda_elements import outsider, storer_of_four
from .cuda_memory import Storage
from .cuda_threads import thread, threads, warp_sum
from .cuda_words import Made, Words, number
from .launch import summed
from .tuples import each_of, fold_of, picker, repeated, transposed

__all__ = ["fold", "reduction", "total"]


def _adder(zero: Any, count: int, doubles: bool) -> Callable[..., Any]:
    """add(k, total, numbers): a double and the sum of ``count`` numbers; k is there for `each_of`.

    Unless doubles are fast, floats are added among themselves first, in two words and a sixteenth of their size, so
    that nothing overflows: one addition of doubles for all of them.
    """
    down, up = type(zero)(1 / 16), np.float64(16)

    @inlined
    def pair(sums, x):
        high, low = two_sum(sums[0], x * down)
        return high, sums[1] + low

    together = fold_of(pair, count)

    def add_floats(k, total, numbers):
        high, low = together((zero, zero), numbers)
        low = low if low == low else zero  # NaN where the sum is infinite
        return total + (np.float64(high) + np.float64(low)) * up

    one_by_one = fold_of(inlined(lambda total, x: total + np.float64(x)), count)

    def add(k, total, numbers):
        return one_by_one(total, numbers)

    return inlined(add if doubles or count == 1 else add_floats)


@inlined
def _inverse(total):
    """The factor of a mean, NaN where all weights cancel."""
    return 1.0 / total if total != 0.0 else np.nan


def _weigher(found: Sequence[str], sums: Sequence[str], slopes: Sequence[str], zero: Any) -> Callable[..., Any]:
    """weigh(results, weight, factors): the terms of the sums, then derivatives in data, all of them weighted.

    A weight of 0 excludes an element, whatever its results.  The factors are that of the derivatives in data, lift and
    step: see `scaling`.
    """
    one, doubles = type(zero)(1), zero.itemsize == 8
    pick_sums = picker(tuple(found.index(name) for name in sums))
    pick_slopes = picker(tuple(found.index(name) for name in slopes))

    @inlined
    def to_sum(k, x, w, none, step):
        return (zero if none else x * w) * step

    @inlined
    def to_sum_floats(k, x, w, none, step):  # their step is 1
        return zero if none else x * w

    @inlined
    def to_store(k, x, w, none, factor):
        return (zero if none else x * w) * factor

    each_sum = each_of(to_sum if doubles else to_sum_floats, len(sums))
    each_slope = each_of(to_store, len(slopes))

    @inlined
    def weight_of(weight, factors):
        return (one, True) if weight == zero else (weight * factors[1], False)

    def weigh(results, weight, factors):
        w, none = weight_of(weight, factors)
        terms = each_sum((pick_sums(results),), (w, none, factors[2]))
        return terms + each_slope((pick_slopes(results),), (w, none, factors[0]))

    def weigh_without_slopes(results, weight, factors):
        w, none = weight_of(weight, factors)
        return each_sum((pick_sums(results),), (w, none, factors[2]))

    return inlined(weigh if slopes else weigh_without_slopes)


def reduction(definition: Definition, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel that sums a loss and its derivatives in parameters, and writes those in data times weight times factor.

    The layouts are "shared", "columns" and "rows".  Partial sums are doubles, first all of the value, then those of the
    other sums: one for each warp in "shared"; by groups, then columns in the others, where a group is a thread up to
    the stride or a part of a row.  Words: as an elementwise kernel, then the addresses of the weights (of the computing
    type, or 0) and of their `total` or 0, the factor if there is no total, step (see `scaling`), the addresses of the
    partial sums and of the derivatives in data.
    """
    memory = Storage(storage, None if layout == "shared" else 4)
    read = Words(definition, memory, layout)
    zero, count, at = memory.zero, memory.count, read.at
    load, load_one, load_four, prepared = read.elements, read.element, read.four, read.prepared
    sums, stored = summed(definition, outputs), [k for k, name in enumerate(definition.data) if "d" + name in outputs]
    slopes = ["d" + definition.data[k] for k in stored]
    evaluate, weigh = element(read.code), _weigher(read.code.found, sums, slopes, zero)
    ordinary, _, is_close, _ = cases(read.code)
    outside = outsider(read.code, count)
    load_weights, load_weight = read.own.load, read.own.load_one
    sums_count = len(sums)
    moves = [(at.slopes + k, (sums_count + j,)) for j, k in enumerate(stored)]
    store, store_one = memory.storer(moves, count), memory.storer(moves, 1)
    store_four = storer_of_four(store_one)
    doubles = Storage("float64")
    read_total, put_sum = doubles.load_one, doubles.storer([(at.partials, ())], 1)
    same, cast, one, double_zero = repeated(count), type(zero), type(zero)(1), doubles.zero
    pick = picker(tuple(range(sums_count)))
    start = repeated(sums_count)
    size_at, stride_at, period_at, inner_at = at.n, at.stride, at.period, at.inner
    weights_at, total_at, factor_at, step_at = at.weights, at.total, at.factor, at.step

    @inlined
    def quickly(k, data, weight, p, close, factors):
        return weigh(evaluate(data, p, False, close), weight, factors)

    elements = each_of(quickly, count)

    @inlined
    def single(words, i, p, close, factors):
        weight = load_weight(words[weights_at], i) if words[weights_at] != 0 else one
        return (weigh(evaluate(load_one(words, i), p, True, close), weight, factors),)

    doubles_inside = zero.itemsize == 8 or read.code.carries is np.float64
    add_several, add_single = (each_of(_adder(zero, n, doubles_inside), sums_count) for n in (count, 1))
    picks, pick_alone = each_of(inlined(lambda k, result: pick(result)), count), repeated(1)

    @inlined
    def add_all(sums, results):
        return add_several((sums, transposed(picks((results,), ()))), ())

    @inlined
    def add_one(sums, results):
        return add_single((sums, transposed(pick_alone(pick(results[0])))), ())

    @inlined
    def common(words):
        """The factor of derivatives in data, lift and step."""
        factor, lift = number(words[factor_at], double_zero), 1.0
        if words[total_at] != 0:
            lift, total = lifted(read_total(words[total_at], 0), read_total(words[total_at], 1), zero)
            factor = _inverse(total)
        return cast(factor), cast(lift), cast(number(words[step_at], double_zero))

    each_warp_sum = each_of(inlined(lambda k, x: warp_sum(x)), sums_count)
    each_put = each_of(inlined(lambda k, x, words, i, size: put_sum(words, k * size + i, (x,))), sums_count)

    @inlined
    def put(words, i, size, sums):
        each_put((sums,), (words, i, size))

    @inlined
    def strided_weight(k, address, i, stride):
        return load_weight(address, i + k * stride)

    four_weights = each_of(strided_weight, 4)

    def over_all(words):
        """The kernel "shared": ``count`` elements at a time where they are ordinary, else one by one."""
        n, factors = words[size_at], common(words)
        p = prepared(words, 0)
        quick, limit = ordinary(p)
        close = is_close(p)
        sums = start(0.0)
        i = thread() * count
        while i < n:
            rest = i
            if i + count <= n:
                data = load(words, i)
                if quick and not outside(data, limit):
                    weight = load_weights(words[weights_at], i) if words[weights_at] != 0 else same(one)
                    if close:
                        results = elements((data, weight), (p, True, factors))
                    else:
                        results = elements((data, weight), (p, False, factors))
                    store(words, i, results)
                    sums = add_all(sums, results)
                    rest = i + count
            for k in range(rest, min(i + count, n)):
                alone = single(words, k, p, close, factors)
                store_one(words, k, alone)
                sums = add_one(sums, alone)
            i += threads() * count
        sums = each_warp_sum((sums,), ())
        if thread() % 32 == 0:
            put(words, thread() // 32, threads() // 32, sums)

    @inlined
    def strip(words, i, end, stride, column, factors):
        """The sums over elements a stride apart that share their parameters, four at a time."""
        p = prepared(words, column)
        quick, limit = ordinary(p)
        close = is_close(p)
        sums = start(0.0)
        while i < end:
            left = min(4, (end - i + stride - 1) // stride)
            if left == 4 and quick:
                data = load_four(words, i, stride)
                if not outside(data, limit):
                    weight = four_weights((), (words[weights_at], i, stride)) if words[weights_at] != 0 else same(one)
                    if close:
                        results = elements((data, weight), (p, True, factors))
                    else:
                        results = elements((data, weight), (p, False, factors))
                    store_four(words, i, stride, results)
                    sums = add_all(sums, results)
                    left = 0
            for k in range(left):
                alone = single(words, i + k * stride, p, close, factors)
                store_one(words, i + k * stride, alone)
                sums = add_one(sums, alone)
            i += 4 * stride
        return sums

    column_of, parts_of_row, part_of_warp = read.column_of, read.parts_of_row, read.part_of_warp

    def over_columns(words):
        """The kernel "columns": one strip for each thread below the stride, whose sums are a group's."""
        factors, stride, first = common(words), words[stride_at], thread()
        if first < stride:
            period, inner, column = words[period_at], words[inner_at], column_of(words, first)
            sums = strip(words, first, words[size_at], stride, column, factors)
            group = first // (period * inner) * inner + first % inner
            put(words, group * period + column, stride, sums)

    def over_rows(words):
        """The kernel "rows": a warp sums rows, or parts of rows, each with one number for each parameter."""
        factors, period, parts = common(words), words[period_at], parts_of_row(words)
        size = words[size_at] // words[inner_at] * parts
        warp, lane = thread() // 32, thread() % 32
        while warp < size:
            first, end = part_of_warp(words, warp)
            column = column_of(words, first)
            sums = each_warp_sum((strip(words, first + lane, end, 32, column, factors),), ())
            if lane == 0:
                group = warp // parts // period * parts + warp % parts
                put(words, group * period + column, size, sums)
            warp += threads() // 32

    return {"shared": over_all, "columns": over_columns, "rows": over_rows}[layout], at.end


def total(storage: str) -> Made:
    """Kernel that sums weights: words n, their address, that of a double for each warp, and of another for each.

    The others are sums of `APART` times the weights.
    """
    memory, doubles = Storage(storage), Storage("float64")
    load_one, put_sums = memory.load_one, doubles.storer([(2, ())], 1)

    def kernel(words):
        """A thread's weights in both sums, then those of its warp."""
        plain, apart, i = 0.0, 0.0, thread()
        while i < words[0]:
            weight = np.float64(load_one(words[1], i))
            plain += weight
            apart += weight * APART
            i += threads()
        plain, apart = warp_sum(plain), warp_sum(apart)
        if thread() % 32 == 0:
            put_sums(words, thread() // 32, (plain,))
            put_sums(words, (threads() + thread()) // 32, (apart,))

    return kernel, 3


def fold(storage: str) -> Made:
    """Kernel that sums doubles over groups, for each column; a warp takes up to `chunk` groups of one column.

    Words: address, groups, columns, chunk, address of the results (by part, then column), whether these are the last:
    then they are multiplied by the factor, and divided by the total, lifted, if it has an address, and stored as
    ``storage``; address of the total or 0, factor.
    """
    memory, doubles = Storage(storage), Storage("float64")
    load, zero, cast, double_zero = doubles.load_one, memory.zero, type(memory.zero), doubles.zero
    store_double, store_last = doubles.storer([(4, ())], 1), memory.storer([(4, ())], 1)

    def kernel(words):
        """A chunk of a column for each warp; the first lane writes its sum."""
        groups, columns, chunk = words[1], words[2], words[3]
        parts = (groups + chunk - 1) // chunk
        warp, lane = thread() // 32, thread() % 32
        while warp < parts * columns:
            part, column = warp // columns, warp % columns
            partial, g = 0.0, part * chunk + lane
            while g < min(groups, (part + 1) * chunk):
                partial += load(words[0], g * columns + column)
                g += 32
            partial = warp_sum(partial)
            if lane == 0:
                if words[5] != 0:
                    factor = number(words[7], double_zero)
                    if words[6] != 0:
                        factor *= _inverse(lifted(load(words[6], 0), load(words[6], 1), zero)[1])
                    store_last(words, warp, (cast(partial * factor),))
                else:
                    store_double(words, warp, (partial,))
            warp += threads() // 32

    return kernel, 8
