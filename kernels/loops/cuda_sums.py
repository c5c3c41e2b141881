"""CUDA kernels that sum: a loss with its gradients in one pass, weights, and what other kernels have summed.

A thread's own sums, then those of a warp by shuffles, then `fold` over what is left: always in the same order.  No
shared memory, no barrier, no atomic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..arithmetic.elementary import lifted, two_sum
from ..arithmetic.primitives import min, scalar
from ..arithmetic.scaling import APART
from ..losses import barron, likelihood
from .cuda_memory import Storage
from .cuda_threads import thread, threads, warp_sum
from .cuda_vectors import ANY, EACH, FOLD, SAME, is_outside, load_four, store_four
from .cuda_words import Made, Parameters, column_of, number, part_of_warp, parts_of_row
from .launch import (
    ALPHA_STEP,
    DX,
    FACTOR,
    INNER,
    PARTIALS,
    PERIOD,
    SCALE_STEP,
    STEP,
    STRIDE,
    TOTAL_AT,
    WEIGHTS,
    N,
    X,
)

__all__ = ["fold", "reduction", "total"]


def _adder(zero: Any, count: int, part: int) -> Callable[..., Any]:
    """add(total, results): a double and the sum of that part of ``count`` results.

    Floats are added among themselves first, in two words and a sixteenth of their size, so that nothing overflows: one
    addition of doubles for all of them, since many GPUs are slow in double.
    """
    down, up = type(zero)(1 / 16), np.float64(16)

    @scalar
    def pair(sums, x):
        high, low = two_sum(sums[0], x[part] * down)
        return high, sums[1] + low

    together = scalar(FOLD[count](pair))

    @scalar
    def add_floats(total, x):
        high, low = together((zero, zero), x)
        low = low if low == low else zero  # NaN where the sum is infinite
        return total + (np.float64(high) + np.float64(low)) * up

    @scalar
    def one(total, x):
        return total + np.float64(x[part])

    return scalar(FOLD[count](one)) if zero.itemsize == 8 or count == 1 else add_floats


@scalar
def _inverse(total):
    """The factor of a mean, NaN where all weights cancel."""
    return 1.0 / total if total != 0.0 else np.nan


def _weigher(zero: Any) -> Callable[..., Any]:
    """weigh(result, weight, factors): value, d/dx, d/dalpha, d/dscale, weighted; a weight of 0 excludes.

    The factors are that of d/dx, lift and step: see `scaling`.
    """
    one = type(zero)(1)

    def weigh(result, weight, factors):
        (value, dx, dscale, _, _), dalpha = result
        factor, lift, _ = factors
        w, none = (one, True) if weight == zero else (weight * lift, False)
        return (
            zero if none else value * w,
            (zero if none else dx * w) * factor,
            zero if none else dalpha * w,
            zero if none else dscale * w,
        )

    weigh_floats = scalar(weigh)

    def weigh_doubles(result, weight, factors):
        value, dx, dalpha, dscale = weigh_floats(result, weight, factors)
        step = factors[2]
        return value * step, dx, dalpha * step, dscale * step

    return scalar(weigh_doubles) if zero.itemsize == 8 else weigh_floats


def reduction(family: str, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel that sums the loss, d/dalpha and d/dscale, and writes d/dx times weight times factor, in one pass.

    The layouts are "shared", "columns" and "rows".  Partial sums are doubles, first all of the value, then those of
    dalpha and dscale: one for each warp in "shared"; by groups, then columns in the others, where a group is a thread
    up to the stride or a part of a row.  Words: as an elementwise kernel, then the addresses of the weights (of the
    computing type, or 0) and of their `total` or 0, the factor if there is no total, step (see `scaling`), the
    addresses of the partial sums and of dx.
    """
    memory = Storage(storage, None if layout == "shared" else 4)
    zero, count, load, load_one = memory.zero, memory.count, memory.load, memory.load_one
    parameters, element = Parameters(family, memory), likelihood.element(family)
    weigh, prepared = _weigher(zero), parameters.at
    load_weights, load_weight = parameters.own.load, parameters.own.load_one
    to_dx = [(DX, (1,))] if "dx" in outputs else []
    store, store_one = memory.storer(to_dx, count), memory.storer(to_dx, 1)
    doubles = Storage("float64")
    read_total, put_sums = doubles.load_one, doubles.storer([(PARTIALS, ())], 1)
    with_dalpha, with_dscale = "dalpha" in outputs, "dscale" in outputs
    same, cast, one, double_zero = scalar(SAME[count]), type(zero), type(zero)(1), doubles.zero

    @scalar
    def quickly(x, weight, a, p):
        return weigh(element(x, p[0], p[1], False, p[2]), weight, p[3])

    @scalar
    def single(words, i, s, w, close, factor):
        weight = load_weight(words[WEIGHTS], i) if words[WEIGHTS] != 0 else one
        return (weigh(element(load_one(words[X], i), s, w, True, close), weight, factor),)

    (add_value, add_dalpha, add_dscale), (one_value, one_dalpha, one_dscale) = (
        [_adder(zero, n, part) for part in (0, 2, 3)] for n in (count, 1)
    )

    @scalar
    def add_all(sums, r):
        return add_value(sums[0], r), add_dalpha(sums[1], r), add_dscale(sums[2], r)

    @scalar
    def add_one(sums, r):
        return one_value(sums[0], r), one_dalpha(sums[1], r), one_dscale(sums[2], r)

    @scalar
    def common(words):
        """The factor of d/dx, lift and step."""
        factor, lift = number(words[FACTOR], double_zero), 1.0
        if words[TOTAL_AT] != 0:
            lift, total = lifted(read_total(words[TOTAL_AT], 0), read_total(words[TOTAL_AT], 1), zero)
            factor = _inverse(total)
        return cast(factor), cast(lift), cast(number(words[STEP], double_zero))

    outside, elements, any_of = scalar(EACH[count](is_outside)), scalar(EACH[count](quickly)), scalar(ANY[count])

    @scalar
    def put(words, at, size, value, dalpha, dscale):
        put_sums(words, at, (value,))
        if with_dalpha:
            put_sums(words, size + at, (dalpha,))
        if with_dscale:
            put_sums(words, 2 * size + at, (dscale,))

    def over_all(words):
        n, factor = words[N], common(words)
        s, w = prepared(words, 0, 0)
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
        sums = (0.0, 0.0, 0.0)
        i = thread() * count
        while i < n:
            rest = i
            if i + count <= n:
                x = load(words[X], i)
                if quick and not any_of(outside(x, x, x, limit)):
                    weight = load_weights(words[WEIGHTS], i) if words[WEIGHTS] != 0 else same(one)
                    if close:
                        found = elements(x, weight, weight, (s, w, True, factor))
                    else:
                        found = elements(x, weight, weight, (s, w, False, factor))
                    store(words, i, found)
                    sums = add_all(sums, found)
                    rest = i + count
            for k in range(rest, min(i + count, n)):
                found_one = single(words, k, s, w, close, factor)
                store_one(words, k, found_one)
                sums = add_one(sums, found_one)
            i += threads() * count
        value, dalpha, dscale = warp_sum(sums[0]), warp_sum(sums[1]), warp_sum(sums[2])
        if thread() % 32 == 0:
            put(words, thread() // 32, threads() // 32, value, dalpha, dscale)

    @scalar
    def strip(words, i, end, stride, column, factor):
        """The sums over elements a stride apart that share their parameters, four at a time."""
        s, w = prepared(words, column * words[ALPHA_STEP], column * words[SCALE_STEP])
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
        sums = (0.0, 0.0, 0.0)
        while i < end:
            left = min(4, (end - i + stride - 1) // stride)
            if left == 4 and quick:
                x = load_four(load_one, words[X], i, stride)
                if not any_of(outside(x, x, x, limit)):
                    weight = load_four(load_weight, words[WEIGHTS], i, stride) if words[WEIGHTS] != 0 else same(one)
                    if close:
                        found = elements(x, weight, weight, (s, w, True, factor))
                    else:
                        found = elements(x, weight, weight, (s, w, False, factor))
                    store_four(store_one, words, i, stride, found)
                    sums = add_all(sums, found)
                    left = 0
            for k in range(left):
                alone = single(words, i + k * stride, s, w, close, factor)
                store_one(words, i + k * stride, alone)
                sums = add_one(sums, alone)
            i += 4 * stride
        return sums

    def over_columns(words):
        factor, stride, first = common(words), words[STRIDE], thread()
        if first < stride:
            period, inner, column = words[PERIOD], words[INNER], column_of(words, first)
            sums = strip(words, first, words[N], stride, column, factor)
            group = first // (period * inner) * inner + first % inner
            put(words, group * period + column, stride, sums[0], sums[1], sums[2])

    def over_rows(words):
        factor, period, parts = common(words), words[PERIOD], parts_of_row(words)
        size = words[N] // words[INNER] * parts
        warp, lane = thread() // 32, thread() % 32
        while warp < size:
            first, end = part_of_warp(words, warp)
            column = column_of(words, first)
            sums = strip(words, first + lane, end, 32, column, factor)
            value, dalpha, dscale = warp_sum(sums[0]), warp_sum(sums[1]), warp_sum(sums[2])
            if lane == 0:
                group = warp // parts // period * parts + warp % parts
                put(words, group * period + column, size, value, dalpha, dscale)
            warp += threads() // 32

    return {"shared": over_all, "columns": over_columns, "rows": over_rows}[layout], DX + 1


def total(storage: str) -> Made:
    """Kernel that sums weights: words n, their address, that of a double for each warp, and of another for each.

    The others are sums of `APART` times the weights.
    """
    memory, doubles = Storage(storage), Storage("float64")
    load_one, put_sums = memory.load_one, doubles.storer([(2, ())], 1)

    def kernel(words):
        found, apart, i = 0.0, 0.0, thread()
        while i < words[0]:
            weight = np.float64(load_one(words[1], i))
            found += weight
            apart += weight * APART
            i += threads()
        found, apart = warp_sum(found), warp_sum(apart)
        if thread() % 32 == 0:
            put_sums(words, thread() // 32, (found,))
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
        groups, columns, chunk = words[1], words[2], words[3]
        parts = (groups + chunk - 1) // chunk
        warp, lane = thread() // 32, thread() % 32
        while warp < parts * columns:
            part, column = warp // columns, warp % columns
            found, g = 0.0, part * chunk + lane
            while g < min(groups, (part + 1) * chunk):
                found += load(words[0], g * columns + column)
                g += 32
            found = warp_sum(found)
            if lane == 0:
                if words[5] != 0:
                    factor = number(words[7], double_zero)
                    if words[6] != 0:
                        factor *= _inverse(lifted(load(words[6], 0), load(words[6], 1), zero)[1])
                    store_last(words, warp, (cast(found * factor),))
                else:
                    store_double(words, warp, (found,))
            warp += threads() // 32

    return kernel, 8
