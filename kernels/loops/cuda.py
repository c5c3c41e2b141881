"""CUDA kernels around the scalar functions; `ptx` compiles them, a backend launches them.

A kernel's parameters are 64-bit words: integers, addresses, and numbers as the bits of a double; `launch` has their
order and the layouts.  Blocks have `THREADS` threads along x, the grid any number; a thread strides over the elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from ..arithmetic.elementary import lifted, two_sum
from ..arithmetic.primitives import min, scalar
from ..arithmetic.scaling import APART
from ..losses import barron, likelihood
from ..losses.likelihood import FAMILIES, VALUES
from ..losses.partition import PARTITION, log_partition, log_partition_parts
from .launch import (
    ALPHA,
    ALPHA_AT,
    ALPHA_STEP,
    DIMENSIONS,
    DX,
    EXTENTS,
    FACTOR,
    INNER,
    OUT_AT,
    PARTIALS,
    PERIOD,
    ROW,
    SCALE,
    SCALE_AT,
    SCALE_STEP,
    STEP,
    STRIDE,
    TOTAL_AT,
    WEIGHTS,
    N,
    X,
)  # fmt: skip

__all__ = ["SIGNATURE", "elementwise", "fold", "partition", "reduction", "total"]

SIGNATURE = types.void(types.CPointer(int64))
Made = tuple[Callable[..., Any], int]

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
def _shuffle_down(typing: Any, x: Any, offset: Any) -> Any:
    """The double of the thread so many lanes further in the warp, as two halves."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(_I32, [_I32] * 4)
        function = builder.module.declare_intrinsic("llvm.nvvm.shfl.sync.down.i32", (), kind)
        bits, by = builder.bitcast(args[0], _I64), builder.trunc(args[1], _I32)
        halves = [builder.trunc(bits, _I32), builder.trunc(builder.lshr(bits, _I64(32)), _I32)]
        low, high = (builder.zext(builder.call(function, [_I32(-1), half, by, _I32(31)]), _I64) for half in halves)
        return builder.bitcast(builder.or_(low, builder.shl(high, _I64(32))), ir.DoubleType())

    return types.float64(types.float64, int64), lower


@scalar
def _warp_sum(x):
    """The sum over a warp's 32 threads, in the first of them, by halves."""
    offset = 16
    while offset > 0:
        x += _shuffle_down(x, offset)
        offset //= 2
    return x


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
        self.bits = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 16}[name]
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
                return context.make_tuple(builder, sig.return_type, fetch(builder, args[0], args[1], self.count))

            return types.UniTuple(compute, self.count)(int64, int64), lower

        @intrinsic
        def load_one(typing: Any, address: Any, index: Any) -> Any:
            def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                return fetch(builder, args[0], args[1], 1)[0]

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

    def storer(self, moves: Sequence[tuple[int, tuple[int, ...]]], count: int) -> Callable[..., Any]:
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
    """Where the results of `likelihood.element` go: see `_Storage.storer`."""
    paths = {"dalpha": (1,)} | {name: (0, k) for k, name in enumerate(VALUES)}
    return [(first + j, paths[name]) for j, name in enumerate(outputs)]


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
    made = {
        "shared": _shared, "columns": _columns, "rows": _rows, "each": _with_each, "strided": _strided
    }[layout]  # fmt: skip
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

        def plain(alpha, scale):
            """What `shape` and `width` make of them."""
            return shape(alpha, zero, zero), width(scale)

        def with_table(alpha, scale):
            log_z, slope = log_partition(alpha)
            return shape(alpha, log_z, slope), width(scale)

        prepare = scalar(with_table if found.tabulated else plain)

        @scalar
        def at(words, alpha_index, scale_index):
            """The same of the parameters there."""
            alpha, scale = one(words, ALPHA_AT, ALPHA, alpha_index), one(words, SCALE_AT, SCALE, scale_index)
            return prepare(alpha, scale)

        self.own, self.several, self.prepare, self.at = own, several, prepare, at


@scalar
def _four(load_one, address, i, stride):
    """Four loads that are under way together."""
    return (
        load_one(address, i),
        load_one(address, i + stride),
        load_one(address, i + 2 * stride),
        load_one(address, i + 3 * stride),
    )


@scalar
def _store_four(store_one, words, i, stride, found):
    store_one(words, i, (found[0],))
    store_one(words, i + stride, (found[1],))
    store_one(words, i + 2 * stride, (found[2],))
    store_one(words, i + 3 * stride, (found[3],))


@scalar
def _outside(x, a, c, limit):
    return not (abs(x) <= limit)


def _quickly(element: Callable[..., Any]) -> Callable[..., Any]:
    """The quick case for shared parameters, which p has, and whether alpha is close to 2."""

    def quickly(x, a, c, p):
        return element(x, p[0], p[1], False, p[2])

    return scalar(quickly)


def _shared(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = _Parameters(family, memory), likelihood.element(family)
    store, store_one, prepared = memory.storer(moves, count), memory.storer(moves, 1), parameters.at
    outside, any_of = scalar(_EACH[count](_outside)), scalar(_ANY[count])
    elements = scalar(_EACH[count](_quickly(element)))

    def kernel(words):
        n = words[N]
        s, w = prepared(words, 0, 0)
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
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


@scalar
def _parts(words):
    """How many warps share a row."""
    return (words[INNER] + ROW - 1) // ROW


@scalar
def _part(words, warp):
    """First and end of the elements that a warp takes: a row or a part of it."""
    row, part = warp // _parts(words), warp % _parts(words)
    first, end = row * words[INNER] + part * ROW, (row + 1) * words[INNER]
    return first, min(first + ROW, end)


@scalar
def _column(words, i):
    return i // words[INNER] % words[PERIOD]


def _strip(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    """What "columns" and "rows" do: elements a stride apart that share their parameters, four at a time."""
    load_one = memory.load_one
    parameters, element = _Parameters(family, memory), likelihood.element(family)
    store_one, prepared = memory.storer(moves, 1), parameters.at
    outside, any_of, elements = scalar(_EACH[4](_outside)), scalar(_ANY[4]), scalar(_EACH[4](_quickly(element)))

    @scalar
    def strip(words, i, end, stride, column):
        at = words[X]
        s, w = prepared(words, column * words[ALPHA_STEP], column * words[SCALE_STEP])
        quick, limit = barron.ordinary(s, w)
        close = barron.close(s)
        while i < end:
            m = min(4, (end - i + stride - 1) // stride)
            x = _four(load_one, at, i, stride if m == 4 else 0)
            if m < 4 or not quick or any_of(outside(x, x, x, limit)):
                for k in range(m):
                    j = i + k * stride
                    store_one(words, j, (element(load_one(at, j), s, w, True, close),))
            elif close:
                _store_four(store_one, words, i, stride, elements(x, x, x, (s, w, True)))
            else:
                _store_four(store_one, words, i, stride, elements(x, x, x, (s, w, False)))
            i += 4 * stride

    return strip


def _columns(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    """The stride is a multiple of period times inner, so that a thread keeps its column."""
    strip = _strip(family, moves, memory)

    def kernel(words):
        i = _thread()
        if i < words[STRIDE]:
            strip(words, i, words[N], words[STRIDE], _column(words, i))

    return kernel


def _rows(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    strip = _strip(family, moves, memory)

    def kernel(words):
        warp = _thread() // 32
        while warp < words[N] // words[INNER] * _parts(words):
            first, end = _part(words, warp)
            strip(words, first + _thread() % 32, end, 32, _column(words, first))
            warp += _threads() // 32

    return kernel


def _with_each(family: str, moves: list[Any], memory: _Storage) -> Callable[..., Any]:
    count, load, load_one = memory.count, memory.load, memory.load_one
    parameters, element = _Parameters(family, memory), likelihood.element(family)
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

    specials, elements, any_of = scalar(_EACH[count](special)), scalar(_EACH[count](quickly)), scalar(_ANY[count])

    @scalar
    def alone(words, i):
        s, w = prepared(words, i * words[ALPHA_STEP], i * words[SCALE_STEP])
        store_one(words, i, (element(load_one(words[X], i), s, w, True, barron.close(s)),))

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
    parameters, element = _Parameters(family, memory), likelihood.element(family)
    store_one, prepared = memory.storer(moves, 1), parameters.at

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
            s, w = prepared(words, alpha_at, scale_at)
            store_one(words, i, (element(load_one(words[X], at), s, w, True, barron.close(s)),))
            i += _threads()

    return kernel


# --- sums
#
# A thread's own sums, then those of a warp by shuffles, then `fold` over what is left: always in the same order.  No
# shared memory, no barrier, no atomic.


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

    together = scalar(_FOLD[count](pair))

    @scalar
    def add_floats(total, x):
        high, low = together((zero, zero), x)
        low = low if low == low else zero  # NaN where the sum is infinite
        return total + (np.float64(high) + np.float64(low)) * up

    @scalar
    def one(total, x):
        return total + np.float64(x[part])

    return scalar(_FOLD[count](one)) if zero.itemsize == 8 or count == 1 else add_floats


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


_FOLD: dict[int, Callable[..., Any]] = {
    1: lambda add: lambda t, r: add(t, r[0]),
    2: lambda add: lambda t, r: add(add(t, r[0]), r[1]),
    4: lambda add: lambda t, r: add(add(add(add(t, r[0]), r[1]), r[2]), r[3]),
    8: lambda add: (
        lambda t, r: add(add(add(add(add(add(add(add(t, r[0]), r[1]), r[2]), r[3]), r[4]), r[5]), r[6]), r[7])
    ),
}


def reduction(family: str, outputs: tuple[str, ...], storage: str, layout: str) -> Made:
    """Kernel that sums the loss, d/dalpha and d/dscale, and writes d/dx times weight times factor, in one pass.

    The layouts are "shared", "columns" and "rows".  Partial sums are doubles, first all of the value, then those of
    dalpha and dscale: one for each warp in "shared"; by groups, then columns in the others, where a group is a thread
    up to the stride or a part of a row.  Words: as an elementwise kernel, then the addresses of the weights (of the
    computing type, or 0) and of their `total` or 0, the factor if there is no total, step (see `scaling`), the
    addresses of the partial sums and of dx.
    """
    memory = _Storage(storage, None if layout == "shared" else 4)
    zero, count, load, load_one = memory.zero, memory.count, memory.load, memory.load_one
    parameters, element = _Parameters(family, memory), likelihood.element(family)
    weigh, prepared = _weigher(zero), parameters.at
    load_weights, load_weight = parameters.own.load, parameters.own.load_one
    to_dx = [(DX, (1,))] if "dx" in outputs else []
    store, store_one = memory.storer(to_dx, count), memory.storer(to_dx, 1)
    doubles = _Storage("float64")
    read_total, put_sums = doubles.load_one, doubles.storer([(PARTIALS, ())], 1)
    with_dalpha, with_dscale = "dalpha" in outputs, "dscale" in outputs
    same, cast, one, double_zero = scalar(_SAME[count]), type(zero), type(zero)(1), doubles.zero

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
        factor, lift = _number(words[FACTOR], double_zero), 1.0
        if words[TOTAL_AT] != 0:
            lift, total = lifted(read_total(words[TOTAL_AT], 0), read_total(words[TOTAL_AT], 1), zero)
            factor = _inverse(total)
        return cast(factor), cast(lift), cast(_number(words[STEP], double_zero))

    outside, elements, any_of = scalar(_EACH[count](_outside)), scalar(_EACH[count](quickly)), scalar(_ANY[count])

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
        i = _thread() * count
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
            i += _threads() * count
        value, dalpha, dscale = _warp_sum(sums[0]), _warp_sum(sums[1]), _warp_sum(sums[2])
        if _thread() % 32 == 0:
            put(words, _thread() // 32, _threads() // 32, value, dalpha, dscale)

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
                x = _four(load_one, words[X], i, stride)
                if not any_of(outside(x, x, x, limit)):
                    weight = _four(load_weight, words[WEIGHTS], i, stride) if words[WEIGHTS] != 0 else same(one)
                    if close:
                        found = elements(x, weight, weight, (s, w, True, factor))
                    else:
                        found = elements(x, weight, weight, (s, w, False, factor))
                    _store_four(store_one, words, i, stride, found)
                    sums = add_all(sums, found)
                    left = 0
            for k in range(left):
                alone = single(words, i + k * stride, s, w, close, factor)
                store_one(words, i + k * stride, alone)
                sums = add_one(sums, alone)
            i += 4 * stride
        return sums

    def over_columns(words):
        factor, stride, first = common(words), words[STRIDE], _thread()
        if first < stride:
            period, inner, column = words[PERIOD], words[INNER], _column(words, first)
            sums = strip(words, first, words[N], stride, column, factor)
            group = first // (period * inner) * inner + first % inner
            put(words, group * period + column, stride, sums[0], sums[1], sums[2])

    def over_rows(words):
        factor, period, parts = common(words), words[PERIOD], _parts(words)
        size = words[N] // words[INNER] * parts
        warp, lane = _thread() // 32, _thread() % 32
        while warp < size:
            first, end = _part(words, warp)
            column = _column(words, first)
            sums = strip(words, first + lane, end, 32, column, factor)
            value, dalpha, dscale = _warp_sum(sums[0]), _warp_sum(sums[1]), _warp_sum(sums[2])
            if lane == 0:
                group = warp // parts // period * parts + warp % parts
                put(words, group * period + column, size, value, dalpha, dscale)
            warp += _threads() // 32

    return {"shared": over_all, "columns": over_columns, "rows": over_rows}[layout], DX + 1


def total(storage: str) -> Made:
    """Kernel that sums weights: words n, their address, that of a double for each warp, and of another for each.

    The others are sums of `APART` times the weights.
    """
    memory, doubles = _Storage(storage), _Storage("float64")
    load_one, put_sums = memory.load_one, doubles.storer([(2, ())], 1)

    def kernel(words):
        found, apart, i = 0.0, 0.0, _thread()
        while i < words[0]:
            weight = np.float64(load_one(words[1], i))
            found += weight
            apart += weight * APART
            i += _threads()
        found, apart = _warp_sum(found), _warp_sum(apart)
        if _thread() % 32 == 0:
            put_sums(words, _thread() // 32, (found,))
            put_sums(words, (_threads() + _thread()) // 32, (apart,))

    return kernel, 3


def fold(storage: str) -> Made:
    """Kernel that sums doubles over groups, for each column; a warp takes up to `chunk` groups of one column.

    Words: address, groups, columns, chunk, address of the results (by part, then column), whether these are the last:
    then they are multiplied by the factor, and divided by the total, lifted, if it has an address, and stored as
    ``storage``; address of the total or 0, factor.
    """
    memory, doubles = _Storage(storage), _Storage("float64")
    load, zero, cast, double_zero = doubles.load_one, memory.zero, type(memory.zero), doubles.zero
    store_double, store_last = doubles.storer([(4, ())], 1), memory.storer([(4, ())], 1)

    def kernel(words):
        groups, columns, chunk = words[1], words[2], words[3]
        parts = (groups + chunk - 1) // chunk
        warp, lane = _thread() // 32, _thread() % 32
        while warp < parts * columns:
            part, column = warp // columns, warp % columns
            found, g = 0.0, part * chunk + lane
            while g < min(groups, (part + 1) * chunk):
                found += load(words[0], g * columns + column)
                g += 32
            found = _warp_sum(found)
            if lane == 0:
                if words[5] != 0:
                    factor = _number(words[7], double_zero)
                    if words[6] != 0:
                        factor *= _inverse(lifted(load(words[6], 0), load(words[6], 1), zero)[1])
                    store_last(words, warp, (cast(found * factor),))
                else:
                    store_double(words, warp, (found,))
            warp += _threads() // 32

    return kernel, 8


def partition(outputs: tuple[str, ...], storage: str) -> Made:
    """Kernel alpha -> log Z and its derivatives, those named; words: n, alpha, the outputs."""
    memory = _Storage(storage)
    load_one = memory.load_one
    store_one = memory.storer([(2 + j, (PARTITION.index(name),)) for j, name in enumerate(outputs)], 1)

    def kernel(words):
        i = _thread()
        while i < words[0]:
            store_one(words, i, (log_partition_parts(load_one(words[1], i)),))
            i += _threads()

    return kernel, 2 + len(outputs)
