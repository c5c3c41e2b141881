"""CUDA kernels around the scalar functions; `ptx` compiles them, a backend launches them.

A kernel's parameters are 64-bit words: integers, addresses, and numbers as the bits of a double.  Blocks have
`ptx.THREADS` threads along x, the grid any number; each thread strides over the elements.  Storage is what the memory
holds, one of "float16", "bfloat16", "float32", "float64"; the two halves are computed in float32.

=========  ============================================================  ==========================================
layout     alpha and scale                                               x, contiguous unless "strided"
=========  ============================================================  ==========================================
shared     one number each, by value or by address                       16 bytes at a time
columns    one number or one for each column, prepared once for a        element by element, a thread keeps its
           thread                                                        column; with one column for any alignment
each       one number or one for each element, like x                    16 bytes at a time, 8 of the halves
strided    any strides                                                   any strides
=========  ============================================================  ==========================================
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from . import loss
from .likelihood import FAMILIES, VALUES
from .partition import log_partition
from .primitives import scalar

__all__ = ["DIMENSIONS", "LAYOUTS", "OUT_AT", "SIGNATURE", "elementwise", "elementwise_words", "partition"]

SIGNATURE = types.void(types.CPointer(int64))
Made = tuple[Callable[..., Any], int]

LAYOUTS = ("shared", "columns", "each", "strided")
DIMENSIONS = 4  # of the layout "strided"
# Words of an elementwise kernel: the first are the same in all layouts, the outputs' addresses come last.
N, X, ALPHA_AT, SCALE_AT, ALPHA, SCALE, ALPHA_STEP, SCALE_STEP, PERIOD, STRIDE = range(10)
EXTENTS = STRIDE + 1  # "strided": extents of all axes but the first, then the strides of x, alpha, scale
OUT_AT = {layout: EXTENTS + (4 * DIMENSIONS - 1 if layout == "strided" else 0) for layout in LAYOUTS}


def elementwise_words(
    *,
    n: int,
    x: int,
    parameters: Sequence[tuple[int, float, int]],
    period: int = 1,
    stride: int = 1,
    extents: Sequence[int] | None = None,
    strides: Sequence[Sequence[int]] = (),
) -> list[int]:
    """The words of an elementwise kernel, without those of its outputs.

    ``parameters``: for alpha and scale the address or 0, the number if there is no address, and the step from element
    (column) to element, 0 or 1.  ``stride``: a multiple of ``period``, at most the number of threads.  With ``extents``
    those of the layout "strided"; strides count elements.
    """
    (alpha_at, alpha, alpha_step), (scale_at, scale, scale_step) = parameters
    numbers = [struct.unpack("q", struct.pack("d", number))[0] for number in (alpha, scale)]
    words = [n, x, alpha_at, scale_at, *numbers, alpha_step, scale_step, period, stride]
    if extents is not None:
        lead = DIMENSIONS - len(extents)
        words += ([1] * lead + list(extents))[1:]
        for own in strides:
            words += [0] * lead + list(own)
    return words


_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _register(name: str) -> Any:
    @intrinsic
    def read(typing: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = builder.module.declare_intrinsic(
                f"llvm.nvvm.read.ptx.sreg.{name}", (), ir.FunctionType(_I32, ())
            )
            return builder.zext(builder.call(function, ()), _I64)

        return int64(), lower

    return read


_thread_in_block, _block_size, _block, _blocks = (_register(n) for n in ("tid.x", "ntid.x", "ctaid.x", "nctaid.x"))


@scalar
def _thread():
    """Index of this thread in the grid."""
    return _block() * _block_size() + _thread_in_block()


@scalar
def _threads():
    return _blocks() * _block_size()


@intrinsic
def _number(typing: Any, word: Any, like: Any) -> Any:
    """A number that was passed as the bits of a double, in the type of ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.bitcast(args[0], ir.DoubleType())
        return value if sig.return_type == types.float64 else builder.fptrunc(value, ir.FloatType())

    return like(int64, like), lower


class _Storage:
    """Memory of one dtype as intrinsics; addresses are words, indices count elements."""

    def __init__(self, name: str, count: int | None = None) -> None:
        self.bits = {"float64": 64, "float32": 32}.get(name, 16)
        self.name, self.count = name, count or 128 // self.bits
        self.zero = np.float64(0) if name == "float64" else np.float32(0)
        compute = types.float64 if name == "float64" else types.float32
        stored = {"float64": ir.DoubleType(), "float32": ir.FloatType(), "float16": ir.HalfType()}.get(
            name, ir.IntType(16)
        )

        def place(builder: Any, address: Any, index: Any) -> Any:
            """Global memory, which the compiler is told."""
            byte = builder.add(address, builder.mul(index, _I64(self.bits // 8)))
            return builder.inttoptr(byte, ir.PointerType(stored, 1))

        # One access for each element.  Where the first is known to be aligned to 16 bytes, LLVM's back end joins them;
        # vectors written here would be taken apart and put together in worse ways.
        def aligned(k: int) -> int:
            return math.gcd(16, self.count * self.bits // 8, k * self.bits // 8)

        def fetch(builder: Any, address: Any, index: Any, count: int) -> list[Any]:
            found = []
            first = place(builder, address, index)
            for k in range(count):
                loaded = builder.load(builder.gep(first, [_I64(k)]))
                loaded.align = aligned(k) if count > 1 else self.bits // 8
                found.append(loaded)
            return [self.widen(builder, loaded) for loaded in found]

        def put(builder: Any, address: Any, index: Any, values: list[Any]) -> None:
            first = place(builder, address, index)
            for k, value in enumerate([self.narrow(builder, v) for v in values]):
                store = builder.store(value, builder.gep(first, [_I64(k)]))
                store.align = aligned(k) if len(values) > 1 else self.bits // 8

        @intrinsic
        def load(typing: Any, address: Any, index: Any) -> Any:
            """`count` elements from an address that is a multiple of their size, and at most of 16."""

            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return context.make_tuple(builder, sig.return_type, fetch(builder, *args, self.count))

            return types.UniTuple(compute, self.count)(int64, int64), lower

        @intrinsic
        def load_one(typing: Any, address: Any, index: Any) -> Any:
            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return fetch(builder, *args, 1)[0]

            return compute(int64, int64), lower

        self.load, self.load_one, self._put = load, load_one, put

    def widen(self, builder: Any, value: Any) -> Any:
        if self.name == "float16":
            return builder.fpext(value, ir.FloatType())
        if self.name == "bfloat16":
            return builder.bitcast(builder.shl(builder.zext(value, _I32), _I32(16)), ir.FloatType())
        return value

    def narrow(self, builder: Any, value: Any) -> Any:
        if self.name == "float16":
            return builder.fptrunc(value, ir.HalfType())
        if self.name == "bfloat16":
            bits = builder.bitcast(value, _I32)
            odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
            nearest = builder.add(bits, builder.add(odd, _I32(0x7FFF)))
            quiet = builder.or_(bits, _I32(0x400000))
            kept = builder.select(builder.fcmp_unordered("uno", value, value), quiet, nearest)
            return builder.trunc(builder.lshr(kept, _I32(16)), ir.IntType(16))
        return value

    def storer(self, moves: list[tuple[int, tuple[int, ...]]], count: int) -> Callable[..., Any]:
        """store(args, i, results): ``count`` elements from i on; for each move (word, path), the part of each result
        at that path goes to the address in args[word]."""
        put = self._put

        @intrinsic
        def store(typing: Any, words: Any, i: Any, results: Any) -> Any:
            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                for word, path in moves:
                    address = builder.load(builder.gep(args[0], [_I64(word)]))
                    values = [builder.extract_value(args[2], [k, *path]) for k in range(count)]
                    put(builder, address, args[1], values)
                return context.get_dummy_value()

            return types.void(words, i, results), lower

        return store


def _moves(outputs: tuple[str, ...], first: int) -> list[tuple[int, tuple[int, ...]]]:
    """Where `_element`'s results go: see `_Storage.storer`."""
    paths = {"dalpha": (1,)} | {name: (0, k) for k, name in enumerate(VALUES)}
    return [(first + j, paths[name]) for j, name in enumerate(outputs)]


def _element(family: str) -> Callable[..., Any]:
    """`loss.element` of the family."""
    values, dalpha = FAMILIES[family].values, FAMILIES[family].dalpha

    def element(x, s, w, extreme, close):
        log = loss.logarithm(x, s, w, extreme)
        found, exp = values(x, log, s, w, extreme)
        return found, dalpha(x, log, exp, s, w, extreme, close)

    return scalar(element)


# f at each of 2, 4 or 8 places, written out, since registers have no index; p is for all.
_EACH: dict[int, Callable[..., Any]] = {
    2: lambda f: lambda x, a, c, p: (f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p)),
    4: lambda f: lambda x, a, c, p: (
        f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p), f(x[2], a[2], c[2], p), f(x[3], a[3], c[3], p)
    ),
    8: lambda f: lambda x, a, c, p: (
        f(x[0], a[0], c[0], p), f(x[1], a[1], c[1], p), f(x[2], a[2], c[2], p), f(x[3], a[3], c[3], p),
        f(x[4], a[4], c[4], p), f(x[5], a[5], c[5], p), f(x[6], a[6], c[6], p), f(x[7], a[7], c[7], p)
    ),
}  # fmt: skip
_SAME: dict[int, Callable[..., Any]] = {
    2: lambda v: (v, v),
    4: lambda v: (v, v, v, v),
    8: lambda v: (v, v, v, v, v, v, v, v),
}
_ANY: dict[int, Callable[..., Any]] = {
    2: lambda x: x[0] | x[1],
    4: lambda x: x[0] | x[1] | x[2] | x[3],
    8: lambda x: x[0] | x[1] | x[2] | x[3] | x[4] | x[5] | x[6] | x[7],
}


def elementwise(family: str, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel (x, alpha, scale) -> outputs, and the number of its words."""
    # Eight elements with parameters of their own would not fit into the registers.
    memory = _Storage(storage, 4 if layout == "each" and storage.endswith("16") else None)
    first = OUT_AT[layout]
    made = {"shared": _shared, "columns": _columns, "each": _with_each, "strided": _strided}[layout]
    return made(family, _moves(outputs, first), memory), first + len(outputs)


class _Parameters:
    """alpha and scale, which are always in the type that is computed with."""

    def __init__(self, family: str, memory: _Storage) -> None:
        zero, found = memory.zero, FAMILIES[family]
        own = _Storage("float64" if memory.name == "float64" else "float32", memory.count)
        load, load_one = own.load, own.load_one
        shape, width = found.shape, found.width

        @scalar
        def one(words, at, value, index):
            """A parameter by value if it has no address."""
            return _number(words[value], zero) if words[at] == 0 else load_one(words[at], index)

        same = scalar(_SAME[memory.count])

        @scalar
        def several(words, at, value, step, index):
            """As many as there are elements in 16 bytes, one for each of those or one for all."""
            return load(words[at], index) if words[step] != 0 else same(one(words, at, value, 0))

        @scalar
        def plain(alpha, scale):
            """What `shape` and `width` make of them."""
            return shape(alpha, zero, zero), width(scale)

        @scalar
        def with_table(alpha, scale):
            log_z, slope = log_partition(alpha)
            return shape(alpha, log_z, slope), width(scale)

        self.one, self.several, self.prepare = one, several, with_table if found.tabulated else plain


@scalar
def _outside(x, a, c, limit):
    return not (abs(x) <= limit)


def _shared(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = _Parameters(family, memory), _element(family)
    read, prepare = parameters.one, parameters.prepare
    store, store_one = memory.storer(moves, count), memory.storer(moves, 1)

    @scalar
    def quickly(x, a, c, p):
        return element(x, p[0], p[1], False, p[2])

    outside, elements, any_of = scalar(_EACH[count](_outside)), scalar(_EACH[count](quickly)), scalar(_ANY[count])

    def kernel(words):
        n = words[N]
        s, w = prepare(read(words, ALPHA_AT, ALPHA, 0), read(words, SCALE_AT, SCALE, 0))
        quick, limit = loss.ordinary(s, w)
        close = loss.close(s)
        i = _thread() * count
        while i + count <= n:
            x = load(words[X], i)
            if not quick or any_of(outside(x, x, x, limit)):
                for k in range(i, min(i + count, n)):  # n keeps LLVM from writing this out
                    store_one(words, k, (element(load_one(words[X], k), s, w, True, close),))
            elif close:
                store(words, i, elements(x, x, x, (s, w, True)))
            else:
                store(words, i, elements(x, x, x, (s, w, False)))
            i += _threads() * count
        i = n - n % count + _thread()
        if i < n:
            store_one(words, i, (element(load_one(words[X], i), s, w, True, close),))

    return kernel


def _columns(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    """The stride is a multiple of the period, so that a thread keeps its column; four loads are under way at a time."""
    load_one = memory.load_one
    parameters, element = _Parameters(family, memory), _element(family)
    read, prepare = parameters.one, parameters.prepare
    store_one = memory.storer(moves, 1)

    @scalar
    def quickly(x, a, c, p):
        return element(x, p[0], p[1], False, p[2])

    outside, elements, any_of = scalar(_EACH[4](_outside)), scalar(_EACH[4](quickly)), scalar(_ANY[4])

    @scalar
    def four(words, i, stride, found):
        store_one(words, i, (found[0],))
        store_one(words, i + stride, (found[1],))
        store_one(words, i + 2 * stride, (found[2],))
        store_one(words, i + 3 * stride, (found[3],))

    def kernel(words):
        n, stride, at = words[N], words[STRIDE], words[X]
        i = _thread()
        if i < stride:
            column = i % words[PERIOD]
            alpha = read(words, ALPHA_AT, ALPHA, column * words[ALPHA_STEP])
            s, w = prepare(alpha, read(words, SCALE_AT, SCALE, column * words[SCALE_STEP]))
            quick, limit = loss.ordinary(s, w)
            close = loss.close(s)
            while i < n:
                m = min(4, (n - i + stride - 1) // stride)
                # Of what is missing in the last round, the first element stands in.
                x = (
                    load_one(at, i),
                    load_one(at, i + stride if m > 1 else i),
                    load_one(at, i + 2 * stride if m > 2 else i),
                    load_one(at, i + 3 * stride if m > 3 else i),
                )
                if m < 4 or not quick or any_of(outside(x, x, x, limit)):
                    for k in range(m):
                        j = i + k * stride
                        store_one(words, j, (element(load_one(at, j), s, w, True, close),))
                elif close:
                    four(words, i, stride, elements(x, x, x, (s, w, True)))
                else:
                    four(words, i, stride, elements(x, x, x, (s, w, False)))
                i += 4 * stride

    return kernel


def _with_each(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = _Parameters(family, memory), _element(family)
    read, several, prepare = parameters.one, parameters.several, parameters.prepare
    store, store_one = memory.storer(moves, count), memory.storer(moves, 1)

    @scalar
    def special(x, alpha, scale, p):
        s, w = prepare(alpha, scale)
        quick, limit = loss.ordinary(s, w)
        return not (quick & (not loss.close(s)) & (abs(x) <= limit))

    @scalar
    def quickly(x, alpha, scale, p):
        s, w = prepare(alpha, scale)
        return element(x, s, w, False, False)

    specials, elements, any_of = scalar(_EACH[count](special)), scalar(_EACH[count](quickly)), scalar(_ANY[count])

    @scalar
    def alone(words, i):
        alpha = read(words, ALPHA_AT, ALPHA, i * words[ALPHA_STEP])
        s, w = prepare(alpha, read(words, SCALE_AT, SCALE, i * words[SCALE_STEP]))
        store_one(words, i, (element(load_one(words[X], i), s, w, True, loss.close(s)),))

    def kernel(words):
        n = words[N]
        i = _thread() * count
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
            i += _threads() * count

    return kernel


def _strided(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    load_one = memory.load_one
    parameters, element = _Parameters(family, memory), _element(family)
    read, prepare = parameters.one, parameters.prepare
    store_one = memory.storer(moves, 1)

    def kernel(words):
        i = _thread()
        while i < words[N]:
            rest, at, alpha_at, scale_at = i, 0, 0, 0
            for axis in range(DIMENSIONS - 1, -1, -1):
                extent = words[EXTENTS + axis - 1] if axis > 0 else rest + 1
                k = rest % extent
                rest //= extent
                at += k * words[EXTENTS + DIMENSIONS - 1 + axis]
                alpha_at += k * words[EXTENTS + 2 * DIMENSIONS - 1 + axis]
                scale_at += k * words[EXTENTS + 3 * DIMENSIONS - 1 + axis]
            alpha = read(words, ALPHA_AT, ALPHA, alpha_at)
            s, w = prepare(alpha, read(words, SCALE_AT, SCALE, scale_at))
            store_one(words, i, (element(load_one(words[X], at), s, w, True, loss.close(s)),))
            i += _threads()

    return kernel


def partition(outputs: tuple[str, ...], storage: str) -> Made:
    """Kernel alpha -> log Z, and its derivative if asked for; words: n, alpha, the outputs."""
    memory = _Storage(storage)
    load_one = memory.load_one
    store_one = memory.storer([(2 + j, (j,)) for j in range(len(outputs))], 1)

    def kernel(words):
        i = _thread()
        while i < words[0]:
            store_one(words, i, (log_partition(load_one(words[1], i)),))
            i += _threads()

    return kernel, 2 + len(outputs)
