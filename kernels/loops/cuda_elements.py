"""CUDA kernels with a result for each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arithmetic.primitives import inlined, min
from ..losses.definition import Code, Definition, cases, element
from .cuda_memory import Storage
from .cuda_threads import kept_here, thread, threads
from .cuda_words import Made, Words
from .launch import DIMENSIONS
from .tuples import any_of, each_of, picker, repeated

__all__ = ["elementwise", "outsider", "quick_elements", "storer_of_four"]


def elementwise(definition: Definition, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel of the operands -> outputs, and the number of its words."""
    # Eight elements with parameters of their own would not fit into the registers.
    memory = Storage(storage, 4 if layout == "each" and storage.endswith("16") else None)
    words = Words(definition, memory, layout)
    made = {
        "shared": _shared, "columns": _columns, "rows": _rows, "each": _with_each, "strided": _strided
    }[layout]  # fmt: skip
    # Where the results of `element` go: see `Storage.storer`.
    moves = [(words.at.outputs + j, (words.code.found.index(name),)) for j, name in enumerate(outputs)]
    return made(words.code, moves, memory, words), words.at.outputs + len(outputs)


def outsider(code: Code, count: int) -> Callable[..., Any]:
    """outside(data, limit): the flag that one of so many elements needs the extreme case."""
    is_outside = cases(code).outside
    each = each_of(inlined(lambda k, data, limit: is_outside(data, limit)), count)
    return inlined(lambda data, limit: any_of(each((data,), (limit,))))


def quick_elements(code: Code, count: int) -> Callable[..., Any]:
    """quickly(data, prepared, close): the results of so many elements with shared parameters, none of them extreme."""
    evaluate = element(code)
    each = each_of(inlined(lambda k, data, prepared, close: evaluate(data, prepared, False, close)), count)
    return inlined(lambda data, prepared, close: each((data,), (prepared, close)))


def storer_of_four(store_one: Callable[..., Any]) -> Callable[..., Any]:
    """store(words, i, stride, results): write the results of four elements a stride apart."""

    @inlined
    def store(k, result, words, i, stride):
        store_one(words, i + k * stride, (result,))

    each = each_of(store, 4)
    return inlined(lambda words, i, stride, results: each((results,), (words, i, stride)))


def _shared(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The kernel with one number for each parameter: prepared once for a thread."""
    count, load, load_one, prepared = memory.count, words.elements, words.element, words.prepared
    evaluate, quickly, outside = element(code), quick_elements(code, count), outsider(code, count)
    ordinary, _, is_close, _ = cases(code)
    store, store_one, size = memory.storer(moves, count), memory.storer(moves, 1), words.at.n

    def kernel(words):
        """Elements of 16 bytes at a time, then one for each of the first threads."""
        n = words[size]
        p = prepared(words, 0)
        quick, limit = ordinary(p)
        close = is_close(p)
        i = thread() * count
        while i + count <= n:
            data = load(words, i)
            if not quick or outside(data, limit):
                for k in range(i, min(i + count, n)):  # n keeps LLVM from writing this out
                    store_one(words, k, (evaluate(load_one(words, k), kept_here(p), True, close),))
            elif close:
                store(words, i, quickly(data, p, True))
            else:
                store(words, i, quickly(data, p, False))
            i += threads() * count
        i = n - n % count + thread()
        if i < n:
            store_one(words, i, (evaluate(load_one(words, i), kept_here(p), True, close),))

    return kernel


def _strip(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The common part of "columns" and "rows": elements a stride apart that share parameters, four at a time."""
    load_four, load_one, prepared = words.four, words.element, words.prepared
    evaluate, quickly, outside = element(code), quick_elements(code, 4), outsider(code, 4)
    ordinary, _, is_close, _ = cases(code)
    store_one = memory.storer(moves, 1)
    store_four = storer_of_four(store_one)

    @inlined
    def strip(words, i, end, stride, column):
        """The elements i, i + stride, ... below ``end``; where not all four are ordinary, one by one as extreme."""
        p = prepared(words, column)
        quick, limit = ordinary(p)
        close = is_close(p)
        while i < end:
            m = min(4, (end - i + stride - 1) // stride)
            data = load_four(words, i, stride if m == 4 else 0)
            if m < 4 or not quick or outside(data, limit):
                for k in range(m):
                    j = i + k * stride
                    store_one(words, j, (evaluate(load_one(words, j), kept_here(p), True, close),))
            elif close:
                store_four(words, i, stride, quickly(data, kept_here(p), True))
            else:
                store_four(words, i, stride, quickly(data, p, False))
            i += 4 * stride

    return strip


def _columns(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The kernel in which a thread keeps its column: the stride is a multiple of period times inner."""
    strip, column_of, at = _strip(code, moves, memory, words), words.column_of, words.at
    size, stride = at.n, at.stride

    def kernel(words):
        i = thread()
        if i < words[stride]:
            strip(words, i, words[size], words[stride], column_of(words, i))

    return kernel


def _rows(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The kernel in which a warp takes rows, or parts of rows, whose elements share their parameters."""
    strip, at = _strip(code, moves, memory, words), words.at
    column_of, parts_of_row, part_of_warp, size, inner = (
        words.column_of, words.parts_of_row, words.part_of_warp, at.n, at.inner
    )  # fmt: skip

    def kernel(words):
        """One part of a row after the other, a lane every 32nd element."""
        warp = thread() // 32
        while warp < words[size] // words[inner] * parts_of_row(words):
            first, end = part_of_warp(words, warp)
            strip(words, first + thread() % 32, end, 32, column_of(words, first))
            warp += threads() // 32

    return kernel


def _with_each(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The kernel with parameters for each element, which are loaded like the data.

    Elements that are loaded together take the quick case that is not `close` if all of them may; else they are done one
    by one.
    """
    count, load, load_one = memory.count, words.elements, words.element
    several, prepare, prepared, size = words.several, words.prepare, words.prepared, words.at.n
    evaluate = element(code)
    ordinary, outside, is_close, _ = cases(code)
    store, store_one = memory.storer(moves, count), memory.storer(moves, 1)

    @inlined
    def special(k, data, parameters):
        p = prepare(parameters)
        quick, limit = ordinary(p)
        return not (quick & (not is_close(p)) & (not outside(data, limit)))

    @inlined
    def quickly(k, data, parameters):
        return evaluate(data, prepare(parameters), False, False)

    specials, elements = each_of(special, count), each_of(quickly, count)

    @inlined
    def alone(words, i):
        p = prepared(words, i)
        store_one(words, i, (evaluate(load_one(words, i), p, True, is_close(p)),))

    def kernel(words):
        """``count`` elements at a time, and those alone that are special or the last."""
        n = words[size]
        i = thread() * count
        while i < n:
            if i + count <= n:
                data, parameters = load(words, i), several(words, i)
                rest = i + count if any_of(specials((data, parameters), ())) else i
                if rest == i:
                    store(words, i, elements((data, parameters), ()))
            else:
                rest = n
            for k in range(i, rest):
                alone(words, k)
            i += threads() * count

    return kernel


def _strided(code: Code, moves: list[Any], memory: Storage, words: Words) -> Callable[..., Any]:
    """The kernel for any strides: one element at a time, in the extreme case, which is right for all."""
    at, load_one, parameter, prepare = words.at, memory.load_one, words.parameter, words.prepare
    data_count, parameters_count = words.counts
    evaluate, store_one = element(code), memory.storer(moves, 1)
    is_close = cases(code).close
    size, first, extents, strides = at.n, at.data, at.extents, at.strides

    # Operands have offsets of their own, found together: divisions are slow.
    step = each_of(
        inlined(lambda k, offset, words, index, axis: offset + index * words[strides + k * DIMENSIONS + axis]),
        data_count + parameters_count,
    )
    start = repeated(data_count + parameters_count)
    data = each_of(inlined(lambda k, offset, words: load_one(words[first + k], offset)), data_count)
    of_parameters = picker(tuple(range(data_count, data_count + parameters_count)))
    parameters = each_of(inlined(lambda k, offset, words: parameter(words, k, offset)), parameters_count)
    prepared = inlined(
        (lambda words, offsets: prepare(parameters((of_parameters(offsets),), (words,))))
        if parameters_count
        else (lambda words, offsets: prepare(()))
    )

    def kernel(words):
        """The offsets of an element in all operands from its index, axis by axis, then the element."""
        i = thread()
        while i < words[size]:
            rest, offsets = i, start(0)
            for axis in range(DIMENSIONS - 1, -1, -1):
                extent = words[extents + axis - 1] if axis > 0 else rest + 1
                offsets = step((offsets,), (words, rest % extent, axis))
                rest //= extent
            p = prepared(words, offsets)
            store_one(words, i, (evaluate(data((offsets,), (words,)), p, True, is_close(p)),))
            i += threads()

    return kernel
