"""CPU kernels: the loops around the scalar functions, compiled to SIMD code on first use.

Every kernel has the signature of a NumPy inner loop, ``void(char **args, intp *dims, intp *steps, void *)``.  Elements go
in blocks of `BLOCK` through buffers on the stack: strides, tails and overlapping outputs are the copies' business, and the
arithmetic always runs over contiguous memory that nothing else points to, a multiple of 16 elements long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, float64, intp, types
from numba.core import cgutils
from numba.extending import intrinsic

from .likelihood import FAMILIES, OUTPUTS
from .primitives import scalar

BLOCK = 128  # elements: 7 buffers of doubles are 7 KiB, well inside the first-level cache
LANES = 16

WORDS = types.CPointer(intp)
SIGNATURE = types.void(WORDS, WORDS, WORDS)


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    """The address as a pointer to numbers like ``like``."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like)(address, like), lower


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def _buffer(typing: Any, count: Any, like: Any) -> Any:
    """Memory for ``count`` numbers on the stack, aligned to 64 bytes."""
    if not isinstance(count, types.IntegerLiteral):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = ir.ArrayType(context.get_value_type(sig.return_type.dtype), count.literal_value)
        memory = cgutils.alloca_once(builder, array)
        memory.align = 64
        return builder.bitcast(memory, context.get_value_type(sig.return_type))

    return types.CPointer(like)(count, like), lower


def _storer(chosen: tuple[int, ...]) -> Callable[..., Any]:
    """store(buffer, i, values): values[chosen[j]] goes to buffer[j * BLOCK + i]."""

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing: Any, buffer: Any, i: Any, values: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for j, source in enumerate(chosen):
                place = builder.gep(args[0], [builder.add(args[1], ir.Constant(args[1].type, j * BLOCK))])
                builder.store(builder.extract_value(args[2], source), place)
            return context.get_dummy_value()

        return types.void(buffer, i, values), lower

    return store


def _copier(like: Any) -> Callable[..., Any]:
    """fetch(address, step, m, buffer): m elements as a contiguous pointer; padded to a multiple of `LANES`."""
    size = like.itemsize

    def fetch(address, step, m, buffer):  # type: ignore[no-untyped-def]
        if step == size and m == BLOCK:
            return _pointer(address, like)
        for i in range(m):
            buffer[i] = _pointer(address + i * step, like)[0]
        for i in range(m, (m + LANES - 1) & -LANES):
            buffer[i] = buffer[0]
        return buffer

    return scalar(fetch)


@scalar  # type: ignore[untyped-decorator]
def all_within(x, n, limit):  # type: ignore[no-untyped-def]
    """Whether no |x[i]| exceeds the limit; NaN does."""
    outside = 0
    for i in range(n):
        outside |= not (abs(x[i]) <= limit)
    return outside == 0


def elementwise(family: str, outputs: tuple[str, ...], dtype: type[np.floating[Any]]) -> Callable[..., Any]:
    """Inner loop (x, alpha, scale) -> outputs, with the parameters' part hoisted where both have stride 0."""
    shape, width, ordinary, general, element = FAMILIES[family]
    zero = dtype(0)
    size, count, total = zero.itemsize, len(outputs), BLOCK * len(outputs)
    store = _storer(tuple(OUTPUTS.index(name) for name in outputs))
    fetch = _copier(zero)

    @scalar  # type: ignore[untyped-decorator]
    def deliver(args, steps, start, m, out):  # type: ignore[no-untyped-def]
        for j in range(count):
            place, step = args[3 + j] + start * steps[3 + j], steps[3 + j]
            if step == size:
                target = _pointer(place, zero)
                for i in range(m):
                    target[i] = out[j * BLOCK + i]
            else:
                for i in range(m):
                    _pointer(place + i * step, zero)[0] = out[j * BLOCK + i]

    def loop(args, dims, steps):  # type: ignore[no-untyped-def]
        n = dims[0]
        xs, alphas, scales = _buffer(BLOCK, zero), _buffer(BLOCK, zero), _buffer(BLOCK, zero)
        out = _buffer(total, zero)
        if n > 0 and steps[1] == 0 and steps[2] == 0:
            s, w = shape(_pointer(args[1], zero)[0]), width(_pointer(args[2], zero)[0])
            quick, close, limit = ordinary(s, w)
            for start in range(0, n, BLOCK):
                m = min(BLOCK, n - start)
                padded = (m + LANES - 1) & -LANES
                x = fetch(args[0] + start * steps[0], steps[0], m, xs)
                if quick and all_within(x, padded, limit):
                    if close:
                        for i in range(padded):
                            store(out, i, element(x[i], s, w, (False, True, False)))
                    else:
                        for i in range(padded):
                            store(out, i, element(x[i], s, w, (False, False, False)))
                else:
                    for i in range(padded):
                        store(out, i, element(x[i], s, w, general(s)))
                deliver(args, steps, start, m, out)
        else:
            for start in range(0, n, BLOCK):
                m = min(BLOCK, n - start)
                x = fetch(args[0] + start * steps[0], steps[0], m, xs)
                alpha = fetch(args[1] + start * steps[1], steps[1], m, alphas)
                scale = fetch(args[2] + start * steps[2], steps[2], m, scales)
                for i in range((m + LANES - 1) & -LANES):
                    s = shape(alpha[i])
                    store(out, i, element(x[i], s, width(scale[i]), general(s)))
                deliver(args, steps, start, m, out)

    return loop
