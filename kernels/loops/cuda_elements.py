"""CUDA kernels with a result for each element: the losses' values and derivatives, and log Z."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arithmetic.primitives import min, scalar
from ..losses import barron, likelihood
from ..losses.likelihood import VALUES
from ..losses.partition import log_partition_parts
from ..losses.signatures import PARTITION
from .cuda_memory import Storage
from .cuda_threads import thread, threads
from .cuda_vectors import ANY, EACH, is_outside, load_four, store_four
from .cuda_words import Made, Parameters, column_of, part_of_warp, parts_of_row
from .launch import (
    ALPHA,
    ALPHA_AT,
    ALPHA_STEP,
    DIMENSIONS,
    EXTENTS,
    INNER,
    OUT_AT,
    SCALE,
    SCALE_AT,
    SCALE_STEP,
    STRIDE,
    N,
    X,
)

__all__ = ["elementwise", "partition"]


def elementwise(family: str, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel (x, alpha, scale) -> outputs, and the number of its words."""
    # Eight elements with parameters of their own would not fit into the registers.
    memory = Storage(storage, 4 if layout == "each" and storage.endswith("16") else None)
    first = OUT_AT[layout]
    made = {
        "shared": _shared, "columns": _columns, "rows": _rows, "each": _with_each, "strided": _strided
    }[layout]  # fmt: skip
    return made(family, _moves(outputs, first), memory), first + len(outputs)


def _moves(outputs: tuple[str, ...], first: int) -> list[tuple[int, tuple[int, ...]]]:
    """Where the results of `likelihood.element` go: see `Storage.storer`."""
    paths = {"dalpha": (1,)} | {name: (0, k) for k, name in enumerate(VALUES)}
    return [(first + j, paths[name]) for j, name in enumerate(outputs)]


def _quickly(element: Callable[..., Any]) -> Callable[..., Any]:
    """The quick case for shared parameters, which p has, and whether alpha is close to 2."""

    def quickly(x, a, c, p):
        return element(x, p[0], p[1], False, p[2])

    return scalar(quickly)


def _shared(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = Parameters(family, memory), likelihood.element(family)
    store, store_one, prepared = memory.storer(moves, count), memory.storer(moves, 1), parameters.at
    outside, any_of = scalar(EACH[count](is_outside)), scalar(ANY[count])
    elements = scalar(EACH[count](_quickly(element)))

    def kernel(words):
        n = words[N]
        s, w = prepared(words, 0, 0)
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
        i = thread() * count
        while i + count <= n:
            x = load(words[X], i)
            if not quick or any_of(outside(x, x, x, limit)):
                for k in range(i, min(i + count, n)):  # n keeps LLVM from writing this out
                    store_one(words, k, (element(load_one(words[X], k), s, w, True, close),))
            elif close:
                store(words, i, elements(x, x, x, (s, w, True)))
            else:
                store(words, i, elements(x, x, x, (s, w, False)))
            i += threads() * count
        i = n - n % count + thread()
        if i < n:
            store_one(words, i, (element(load_one(words[X], i), s, w, True, close),))

    return kernel


def _strip(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    """What "columns" and "rows" do: elements a stride apart that share their parameters, four at a time."""
    load_one = memory.load_one
    parameters, element = Parameters(family, memory), likelihood.element(family)
    store_one, prepared = memory.storer(moves, 1), parameters.at
    outside, any_of, elements = scalar(EACH[4](is_outside)), scalar(ANY[4]), scalar(EACH[4](_quickly(element)))

    @scalar
    def strip(words, i, end, stride, column):
        at = words[X]
        s, w = prepared(words, column * words[ALPHA_STEP], column * words[SCALE_STEP])
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
        while i < end:
            m = min(4, (end - i + stride - 1) // stride)
            x = load_four(load_one, at, i, stride if m == 4 else 0)
            if m < 4 or not quick or any_of(outside(x, x, x, limit)):
                for k in range(m):
                    j = i + k * stride
                    store_one(words, j, (element(load_one(at, j), s, w, True, close),))
            elif close:
                store_four(store_one, words, i, stride, elements(x, x, x, (s, w, True)))
            else:
                store_four(store_one, words, i, stride, elements(x, x, x, (s, w, False)))
            i += 4 * stride

    return strip


def _columns(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    """The stride is a multiple of period times inner, so that a thread keeps its column."""
    strip = _strip(family, moves, memory)

    def kernel(words):
        i = thread()
        if i < words[STRIDE]:
            strip(words, i, words[N], words[STRIDE], column_of(words, i))

    return kernel


def _rows(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    strip = _strip(family, moves, memory)

    def kernel(words):
        warp = thread() // 32
        while warp < words[N] // words[INNER] * parts_of_row(words):
            first, end = part_of_warp(words, warp)
            strip(words, first + thread() % 32, end, 32, column_of(words, first))
            warp += threads() // 32

    return kernel


def _with_each(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = Parameters(family, memory), likelihood.element(family)
    several, prepare, prepared = parameters.several, parameters.prepare, parameters.at
    store, store_one = memory.storer(moves, count), memory.storer(moves, 1)

    @scalar
    def special(x, alpha, scale, p):
        s, w = prepare(alpha, scale)
        quick, limit = barron.ordinary(s, w)
        return not (quick & (not barron.close(s)) & (abs(x) <= limit))

    @scalar
    def quickly(x, alpha, scale, p):
        s, w = prepare(alpha, scale)
        return element(x, s, w, False, False)

    specials, elements, any_of = scalar(EACH[count](special)), scalar(EACH[count](quickly)), scalar(ANY[count])

    @scalar
    def alone(words, i):
        s, w = prepared(words, i * words[ALPHA_STEP], i * words[SCALE_STEP])
        store_one(words, i, (element(load_one(words[X], i), s, w, True, barron.close(s)),))

    def kernel(words):
        n = words[N]
        i = thread() * count
        while i < n:
            if i + count <= n:
                x = load(words[X], i)
                alpha = several(words, ALPHA_AT, ALPHA, ALPHA_STEP, i)
                scale = several(words, SCALE_AT, SCALE, SCALE_STEP, i)
                rest = i + count if any_of(specials(x, alpha, scale, 0)) else i
                if rest == i:
                    store(words, i, elements(x, alpha, scale, 0))
            else:
                rest = n
            for k in range(i, rest):
                alone(words, k)
            i += threads() * count

    return kernel


def _strided(family: str, moves: list[Any], memory: Storage) -> Callable[..., Any]:
    load_one = memory.load_one
    parameters, element = Parameters(family, memory), likelihood.element(family)
    store_one, prepared = memory.storer(moves, 1), parameters.at

    def kernel(words):
        i = thread()
        while i < words[N]:
            rest, at, alpha_at, scale_at = i, 0, 0, 0
            for axis in range(DIMENSIONS - 1, -1, -1):
                extent = words[EXTENTS + axis - 1] if axis > 0 else rest + 1
                k = rest % extent
                rest //= extent
                at += k * words[EXTENTS + DIMENSIONS - 1 + axis]
                alpha_at += k * words[EXTENTS + 2 * DIMENSIONS - 1 + axis]
                scale_at += k * words[EXTENTS + 3 * DIMENSIONS - 1 + axis]
            s, w = prepared(words, alpha_at, scale_at)
            store_one(words, i, (element(load_one(words[X], at), s, w, True, barron.close(s)),))
            i += threads()

    return kernel


def partition(outputs: tuple[str, ...], storage: str) -> Made:
    """Kernel alpha -> log Z and its derivatives, those named; words: n, alpha, the outputs."""
    memory = Storage(storage)
    load_one = memory.load_one
    store_one = memory.storer([(2 + j, (PARTITION.index(name),)) for j, name in enumerate(outputs)], 1)

    def kernel(words):
        i = thread()
        while i < words[0]:
            store_one(words, i, (log_partition_parts(load_one(words[1], i)),))
            i += threads()

    return kernel, 2 + len(outputs)
