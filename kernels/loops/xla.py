"""The handler of XLA's foreign function interface: the CPU kernels as steps of XLA's programs, without Python between.

It gets a call frame (see `xla_frame`): the operands' memory and shapes, and one attribute, the number of a kernel.  It
plans the work, hands it out to XLA's threads where there is much of it, and calls the kernel's machine code, which it
finds in a table by its number; if that is not there yet, a function of Python's puts it there.

A plan says how x, alpha and scale lie along the axes of the results, from the last axis on, those joined that may be:

=======  ==========================================================================  ==========================
mode     when                                                                        a unit of work is
=======  ==========================================================================  ==========================
LINE     one axis                                                                    an element
ROWS     the last axis is long                                                       a row
TILES    x is contiguous, the parameters vary along the last of two axes only        `TILE` elements or so, for
                                                                                     which they are repeated
GATHER   any other: the operands are copied together, element by element             `TILE` elements
SUMS     a reduction, of rows of x with parameters by column                         a panel of rows
=======  ==========================================================================  ==========================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import intp, types
from numba.extending import intrinsic

from ..arithmetic import numba_private as cgutils
from ..arithmetic.elementary import LARGEST, lifted
from ..arithmetic.primitives import max, min, scalar
from ..arithmetic.scaling import APART
from ..compilers import native
from . import xla_frame as f
from .cpu import pointer, stack

__all__ = ["SIGNATURE", "handler"]

_WORDS = types.CPointer(intp)
SIGNATURE = intp(_WORDS, _WORDS)

PARALLEL = 1 << 17  # elements from which on threads pay
TILE = 1024  # elements of a tile, or a few less
LONG = 256  # elements from which on a row is worth a call of its own
PIECES = 4  # of work for each thread, so that none waits long for another
AXES = 32
ARRAYS = 3 + len(f.OUTPUTS)  # of a kernel, at most

PANEL = 1 << 16  # elements of a reduction that are summed in one go; as on NumPy arrays, for the same bits
PANELS_MAX, SUMS_MAX = 64, 1 << 22  # panels of a reduction by columns, and the doubles that they may take together

LINE, ROWS, TILES, GATHER, SUMS = range(5)
# Words of a plan; then, for each axis, its length and the strides of x, alpha and scale in bytes; then the outputs.
KERNEL, MODE, ITEM, INPUTS, COUNT, UNITS, AXES_USED, OPERANDS = range(8)
LENGTHS = OPERANDS + 3
STRIDES = LENGTHS + AXES
PLACES = STRIDES + 3 * AXES
PLAN = PLACES + len(f.OUTPUTS)
# What threads share, behind a plan: the next piece, how many are done, who still looks at it; units of a piece, pieces.
NEXT, DONE, USERS, GRAIN, PARTS = range(PLAN, PLAN + 5)
SHARED = PLAN + 5

# In the mode `SUMS` instead of lengths and strides.
WIDTH, WHOLE, REST, HEIGHT, ROWS_ALL, WEIGHTS, DX, FACTOR, PARTIAL, SLOTS, ALPHA_STEP, SCALE_STEP = range(
    LENGTHS, LENGTHS + 12
)

_word = np.int64(0)
_BAD_VERSION, _BAD_TYPES, _BAD_SHAPES, _NO_KERNEL, _NO_MEMORY = range(5)  # messages


@intrinsic
def _ask(typing: Any, function: Any, argument: Any) -> Any:
    """The word that the C function at that address returns for one word."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), [args[1]])

    return intp(intp, intp), lower


@intrinsic
def _run(typing: Any, kernel: Any, args: Any, dims: Any, steps: Any) -> Any:
    """Call a kernel of `cpu`."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        memory = ir.IntType(64).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [memory] * 4)
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*args[1:], ir.Constant(memory, None)])
        return context.get_dummy_value()

    return types.void(intp, _WORDS, _WORDS, _WORDS), lower


@intrinsic
def _address(typing: Any, memory: Any) -> Any:
    """The address of memory."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return intp(memory), lower


@intrinsic
def _add(typing: Any, memory: Any, i: Any, amount: Any) -> Any:
    """memory[i] += amount in one step, for all threads to see; what was there before."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return intp(_WORDS, intp, intp), lower


def _c_function(name: str, arguments: int) -> Any:
    """A function of the C library, from words to a word."""

    def typed(typing: Any, *args: Any) -> Any:
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word] * arguments)
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

        return intp(*[intp] * arguments), lower

    if arguments == 0:
        return intrinsic(lambda typing: typed(typing))
    return intrinsic(lambda typing, argument: typed(typing, argument))


_malloc, _free, _yield = _c_function("malloc", 1), _c_function("free", 1), _c_function("sched_yield", 0)


@intrinsic
def _swap_modes(typing: Any, modes: Any) -> Any:
    """Set the modes of floating-point arithmetic and return those before; XLA's threads flush subnormals to 0."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, module = ir.IntType(64), builder.module
        if native.host_is_x86():
            narrow = ir.IntType(32)
            memory = cgutils.alloca_once(builder, narrow)
            place = builder.bitcast(memory, ir.IntType(8).as_pointer())
            kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
            builder.call(cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.stmxcsr"), [place])
            before = builder.zext(builder.load(memory), word)
            builder.store(builder.trunc(args[0], narrow), memory)
            builder.call(cgutils.get_or_insert_function(module, kind, "llvm.x86.sse.ldmxcsr"), [place])
            return before
        get, put = ir.FunctionType(word, []), ir.FunctionType(ir.VoidType(), [word])
        before = builder.call(cgutils.get_or_insert_function(module, get, "llvm.aarch64.get.fpcr"), [])
        builder.call(cgutils.get_or_insert_function(module, put, "llvm.aarch64.set.fpcr"), [args[0]])
        return before

    return intp(intp), lower


_PLAIN_MODES = 0x1F80 if native.host_is_x86() else 0  # round to nearest, no exceptions, subnormals as they are


@scalar
def _failed(frame, table, message, code):
    """An error for XLA, if its interface has one as known here."""
    api = pointer(frame[f.FRAME_API], _word)
    args = stack(4, _word)
    args[0], args[1], args[2], args[3] = f.ERROR_CREATE_SIZE, 0, table[f.MESSAGE + message], code
    return _ask(api[f.API_ERROR_CREATE], _address(args))


@scalar
def _described(frame, table):
    """Answer XLA's question for the version: the lower of its own and ours; note its own."""
    extension = pointer(frame[f.FRAME_EXTENSION], _word)
    if extension[1] & 0xFFFFFFFF == f.METADATA:
        theirs = f.API_OLDEST << 32
        if frame[f.FRAME_API] != 0:
            theirs = pointer(frame[f.FRAME_API], _word)[f.API_VERSION]
        table[f.VERSION] = theirs
        metadata = pointer(extension[f.EXTENSION_METADATA], _word)
        metadata[f.METADATA_VERSION] = f.API_MAJOR | min(theirs >> 32, f.API_MINOR) << 32
        pointer(_address(metadata) + 8 * f.METADATA_TRAITS, np.uint32(0))[0] = np.uint32(0)
    return 0


@scalar
def _buffer(frame, vector, i):
    """Operand or result i."""
    return pointer(pointer(frame[vector[1]], _word)[i], _word)


@scalar
def _evaluate(plan, at, x, alpha, scale, n, steps):
    """The kernel on n elements from these addresses on, to the results from the element ``at`` on."""
    args, dims, first = stack(ARRAYS, _word), stack(1, _word), plan[INPUTS]
    args[0], args[1], args[2], dims[0] = x, alpha, scale, n
    for j in range(plan[COUNT]):
        args[first + j] = plan[PLACES + j] + at * plan[ITEM]
        steps[first + j] = plan[ITEM]
    _run(plan[KERNEL], args, dims, steps)


@scalar
def _rows(plan, first, last):
    """Rows of the last axis, or a part of the only one."""
    steps, index = stack(ARRAYS, _word), stack(AXES, _word)
    for k in range(3):
        steps[k] = plan[STRIDES + k * AXES]
    x, alpha, scale = plan[OPERANDS], plan[OPERANDS + 1], plan[OPERANDS + 2]
    if plan[MODE] == LINE:
        _evaluate(
            plan, first, x + first * steps[0], alpha + first * steps[1], scale + first * steps[2], last - first, steps
        )
    else:
        used, n = plan[AXES_USED], plan[LENGTHS]
        rest = first
        for axis in range(1, used):
            index[axis] = rest % plan[LENGTHS + axis]
            rest //= plan[LENGTHS + axis]
        for row in range(first, last):
            a, b, c = x, alpha, scale
            for axis in range(1, used):
                a += index[axis] * plan[STRIDES + axis]
                b += index[axis] * plan[STRIDES + AXES + axis]
                c += index[axis] * plan[STRIDES + 2 * AXES + axis]
            _evaluate(plan, row * n, a, b, c, n, steps)
            axis = 1
            while axis < used:
                index[axis] += 1
                if index[axis] < plan[LENGTHS + axis]:
                    break
                index[axis] = 0
                axis += 1


def _copier(zero: Any) -> Any:
    """Spans of the modes `TILES` and `GATHER` for numbers like ``zero``."""
    size = zero.itemsize

    @scalar
    def tiles(plan, first, last, total):
        n = plan[LENGTHS]
        width = TILE // n * n
        alphas, scales = stack(TILE, zero), stack(TILE, zero)
        for i in range(width):
            alphas[i] = pointer(plan[OPERANDS + 1] + (i % n) * plan[STRIDES + AXES], zero)[0]
            scales[i] = pointer(plan[OPERANDS + 2] + (i % n) * plan[STRIDES + 2 * AXES], zero)[0]
        steps = stack(ARRAYS, _word)
        steps[0], steps[1], steps[2] = size, size, size
        for unit in range(first, last):
            at = unit * width
            _evaluate(
                plan, at, plan[OPERANDS] + at * size, _address(alphas), _address(scales), min(width, total - at), steps
            )

    @scalar
    def gather(plan, first, last, total):
        used = plan[AXES_USED]
        xs, alphas, scales = stack(TILE, zero), stack(TILE, zero), stack(TILE, zero)
        steps, index = stack(ARRAYS, _word), stack(AXES, _word)
        steps[0], steps[1], steps[2] = size, size, size
        a, b, c = plan[OPERANDS], plan[OPERANDS + 1], plan[OPERANDS + 2]
        rest = first * TILE
        for axis in range(used):
            index[axis] = rest % plan[LENGTHS + axis]
            rest //= plan[LENGTHS + axis]
            a += index[axis] * plan[STRIDES + axis]
            b += index[axis] * plan[STRIDES + AXES + axis]
            c += index[axis] * plan[STRIDES + 2 * AXES + axis]
        for unit in range(first, last):
            at = unit * TILE
            m = min(TILE, total - at)
            for i in range(m):
                xs[i], alphas[i], scales[i] = pointer(a, zero)[0], pointer(b, zero)[0], pointer(c, zero)[0]
                axis = 0
                while axis < used:
                    index[axis] += 1
                    a += plan[STRIDES + axis]
                    b += plan[STRIDES + AXES + axis]
                    c += plan[STRIDES + 2 * AXES + axis]
                    if index[axis] < plan[LENGTHS + axis]:
                        break
                    index[axis] = 0
                    a -= plan[LENGTHS + axis] * plan[STRIDES + axis]
                    b -= plan[LENGTHS + axis] * plan[STRIDES + AXES + axis]
                    c -= plan[LENGTHS + axis] * plan[STRIDES + 2 * AXES + axis]
                    axis += 1
            _evaluate(plan, at, _address(xs), _address(alphas), _address(scales), m, steps)

    @scalar
    def copied(plan, first, last):
        total = 1
        for axis in range(plan[AXES_USED]):
            total *= plan[LENGTHS + axis]
        if plan[MODE] == TILES:
            tiles(plan, first, last, total)
        else:
            gather(plan, first, last, total)

    return copied


_copied4, _copied8 = _copier(np.float32(0)), _copier(np.float64(0))


@scalar
def _panels(plan, first, last):
    """Sums of panels, the last of which may be the rest of a row."""
    args, dims, steps = stack(7, _word), stack(2, _word), stack(5, _word)
    item, width, height = plan[ITEM], plan[WIDTH], plan[HEIGHT]
    for panel in range(first, last):
        start = min(panel * height, plan[ROWS_ALL])
        dims[0], dims[1] = (min(height, plan[ROWS_ALL] - start), width) if panel < plan[WHOLE] else (1, plan[REST])
        offset = start * width * item
        args[0], args[1], args[2] = plan[OPERANDS] + offset, plan[OPERANDS + 1], plan[OPERANDS + 2]
        args[3] = plan[WEIGHTS] + offset if plan[WEIGHTS] != 0 else 0
        args[4] = plan[DX] + offset if plan[DX] != 0 else 0
        args[5], args[6] = plan[FACTOR], plan[PARTIAL] + 8 * panel * plan[SLOTS]
        steps[0], steps[3], steps[4] = width * item, width * item, width * item
        steps[1], steps[2] = plan[ALPHA_STEP], plan[SCALE_STEP]
        _run(plan[KERNEL], args, dims, steps)


@scalar
def _span(plan, first, last):
    """Units of work from first to last."""
    if plan[MODE] == SUMS:
        _panels(plan, first, last)
    elif plan[MODE] == LINE or plan[MODE] == ROWS:
        _rows(plan, first, last)
    elif plan[ITEM] == 4:
        _copied4(plan, first, last)
    else:
        _copied8(plan, first, last)


@scalar
def _take_part(plan):
    """Do pieces until there are none left, then forget the plan; whoever is the last frees its memory."""
    while True:
        piece = _add(plan, NEXT, 1)
        if piece >= plan[PARTS]:
            break
        first = piece * plan[GRAIN]
        _span(plan, first, min(first + plan[GRAIN], plan[UNITS]))
        _add(plan, DONE, 1)


@scalar
def _leave(plan):
    if _add(plan, USERS, -1) == 1:
        _free(_address(plan))


@scalar
def _share(frame, table, plan, threads):
    """The plan on several threads; False if there is no memory for it."""
    address = _malloc(8 * SHARED)
    if address == 0:
        return False
    shared = pointer(address, _word)
    for i in range(PLAN):
        shared[i] = plan[i]
    pieces = min(threads * PIECES, plan[UNITS])
    grain = -(-plan[UNITS] // pieces)
    grain = -(-grain // 256) * 256 if plan[MODE] == LINE else grain
    pieces = -(-plan[UNITS] // grain)
    shared[NEXT], shared[DONE], shared[GRAIN], shared[PARTS] = 0, 0, grain, pieces
    shared[USERS] = threads
    api = pointer(frame[f.FRAME_API], _word)
    args = stack(5, _word)
    for _ in range(threads - 1):
        args[0], args[1], args[2], args[3], args[4] = f.SCHEDULE_SIZE, 0, frame[f.FRAME_CONTEXT], table[f.TASK], address
        error = _ask(api[f.API_SCHEDULE], _address(args))
        if error != 0:
            args[0], args[1], args[2] = f.ERROR_DESTROY_SIZE, 0, error
            _ask(api[f.API_ERROR_DESTROY], _address(args))
            _add(shared, USERS, -1)
    _take_part(shared)
    while _add(shared, DONE, 0) < pieces:
        _yield()
    _leave(shared)
    return True


@scalar
def _threads(frame):
    """How many threads XLA has."""
    count, args = stack(1, _word), stack(4, _word)
    api = pointer(frame[f.FRAME_API], _word)
    count[0] = 1
    args[0], args[1], args[2], args[3] = f.THREADS_SIZE, 0, frame[f.FRAME_CONTEXT], _address(count)
    error = _ask(api[f.API_THREADS], _address(args))
    if error != 0:
        args[0], args[1], args[2] = f.ERROR_DESTROY_SIZE, 0, error
        _ask(api[f.API_ERROR_DESTROY], _address(args))
        return 1
    return min(count[0], 64)


@scalar
def _planned(frame, plan, item):
    """How the operands lie along the axes of the results; how many elements, or -1 if they do not fit."""
    operands = frame[f.FRAME_ARGS[0]]
    like = _buffer(frame, f.FRAME_RETS, 0)
    rank, lengths = like[f.BUFFER_RANK], pointer(like[f.BUFFER_DIMS], _word)
    if rank > AXES:
        return -1
    total, used = 1, 0
    own = stack(3, _word)  # the strides of contiguous operands
    for k in range(3):
        own[k] = item
        plan[OPERANDS + k] = _buffer(frame, f.FRAME_ARGS, min(k, operands - 1))[f.BUFFER_DATA]
    for i in range(rank):
        axis = rank - 1 - i
        n = lengths[axis]
        total *= n
        joined = used > 0
        for k in range(3):
            buffer = _buffer(frame, f.FRAME_ARGS, min(k, operands - 1))
            if buffer[f.BUFFER_RANK] != rank:
                return -1
            m = pointer(buffer[f.BUFFER_DIMS], _word)[axis]
            if m != n and m != 1:
                return -1
            place = STRIDES + k * AXES + used
            plan[place] = own[k] if m > 1 else 0
            joined = joined and plan[place] == plan[place - 1] * plan[LENGTHS + used - 1]
            own[k] *= m
        if n != 1:
            if joined:
                plan[LENGTHS + used - 1] *= n
            else:
                plan[LENGTHS + used] = n
                used += 1
    if used == 0:
        plan[LENGTHS] = 1
        for k in range(3):
            plan[STRIDES + k * AXES] = 0
        used = 1
    plan[AXES_USED] = used
    return total


@scalar
def _choose(plan, total, item):
    """The mode of a plan and how many units of work it has."""
    n, used = plan[LENGTHS], plan[AXES_USED]
    if used == 1:
        plan[MODE], plan[UNITS] = LINE, total
    elif n >= LONG:
        plan[MODE], plan[UNITS] = ROWS, total // n
    elif (
        used == 2
        and plan[STRIDES] == item
        and plan[STRIDES + 1] == n * item
        and plan[STRIDES + AXES + 1] == 0
        and plan[STRIDES + 2 * AXES + 1] == 0
    ):
        width = TILE // n * n
        plan[MODE], plan[UNITS] = TILES, (total + width - 1) // width
    else:
        plan[MODE], plan[UNITS] = GATHER, (total + TILE - 1) // TILE


@scalar
def _work(frame, table, plan, elements):
    """All units of a plan, on several threads if there are elements enough."""
    if elements >= PARALLEL and plan[UNITS] > 1:
        threads = _threads(frame)
        if threads > 1 and _share(frame, table, plan, threads):
            return
    _span(plan, 0, plan[UNITS])


@scalar
def _elements(buffer):
    """How many a buffer has."""
    total = 1
    for axis in range(buffer[f.BUFFER_RANK]):
        total *= pointer(buffer[f.BUFFER_DIMS], _word)[axis]
    return total


def _reducer(zero: Any) -> Any:
    """Reductions of numbers like ``zero``, as on NumPy arrays, with the same order of additions."""
    size, double = zero.itemsize, np.float64(0)
    double_sums = size == 8

    @scalar
    def weight_of(address, n, unit):
        """The sum of the weights times unit, a power of two, in 16 parts."""
        parts = stack(16, double)
        for j in range(16):
            parts[j] = 0.0
        weights = pointer(address, zero)
        for i in range(0, n - n % 16, 16):
            for j in range(16):
                parts[j] += np.float64(weights[i + j]) * unit
        for i in range(n - n % 16, n):
            parts[i % 16] += np.float64(weights[i]) * unit
        total = 0.0
        for j in range(16):
            total += parts[j]
        return total

    @scalar
    def fold(sums, panels, slots):
        """The sums of all panels in the first one: the second half is added to the first, until one is left."""
        while panels > 1:
            half = (panels + 1) // 2
            for i in range((panels - half) * slots):
                sums[i] += sums[half * slots + i]
            panels = half

    @scalar
    def deliver(sums, at, plan, period, count, address, factor):
        """Gradients of a parameter, one or as many as columns, from the sums by column of all repetitions."""
        out = pointer(address, zero)
        alone = 0.0
        for p in range(period):
            total = 0.0
            for i in range(at + p, at + plan[WIDTH] if period > 1 else at + 1, period):
                total += sums[i]
            if count > 1:
                out[p] = _narrow(total * factor, zero)
            alone += total
        if count == 1:
            out[0] = _narrow(alone * factor, zero)

    @scalar
    def reduced(frame, table, code):
        x, alpha, scale = (
            _buffer(frame, f.FRAME_ARGS, 0),
            _buffer(frame, f.FRAME_ARGS, 1),
            _buffer(frame, f.FRAME_ARGS, 2),
        )
        n, alphas, scales = _elements(x), _elements(alpha), _elements(scale)
        period = max(alphas, scales)
        weighted = frame[f.FRAME_ARGS[0]] > 3
        bad = n % period != 0 or (alphas != 1 and alphas != period) or (scales != 1 and scales != period)
        if bad or (weighted and _elements(_buffer(frame, f.FRAME_ARGS, 3)) != n):
            return _failed(frame, table, _BAD_SHAPES, f.INVALID_ARGUMENT)
        plan, factors = stack(PLAN, _word), stack(3, zero)
        alpha_tile, scale_tile = stack(TILE, zero), stack(TILE, zero)
        plan[MODE], plan[ITEM] = SUMS, size
        plan[OPERANDS], plan[OPERANDS + 1], plan[OPERANDS + 2] = (
            x[f.BUFFER_DATA],
            alpha[f.BUFFER_DATA],
            scale[f.BUFFER_DATA],
        )
        plan[WEIGHTS] = _buffer(frame, f.FRAME_ARGS, 3)[f.BUFFER_DATA] if weighted else 0
        plan[ALPHA_STEP], plan[SCALE_STEP] = size if alphas > 1 else 0, size if scales > 1 else 0
        if period == 1:
            plan[WIDTH], plan[SLOTS], plan[HEIGHT] = PANEL, 3, 1
        else:
            repeat = max(1, TILE // period)
            if repeat > 1:
                for i in range(period * repeat):
                    alpha_tile[i] = pointer(alpha[f.BUFFER_DATA], zero)[i % period if alphas > 1 else 0]
                    scale_tile[i] = pointer(scale[f.BUFFER_DATA], zero)[i % period if scales > 1 else 0]
                plan[OPERANDS + 1], plan[OPERANDS + 2] = _address(alpha_tile), _address(scale_tile)
            plan[WIDTH] = period * repeat
            plan[SLOTS] = 1 + 2 * plan[WIDTH]
            panels = min(PANELS_MAX, max(2, SUMS_MAX // plan[SLOTS]))
            rows = n // plan[WIDTH]
            plan[HEIGHT] = max(1, max(PANEL // plan[WIDTH], (rows + panels - 1) // panels))
        width = plan[WIDTH]
        plan[ROWS_ALL], plan[REST] = n // width, n % width
        plan[WHOLE] = (plan[ROWS_ALL] + plan[HEIGHT] - 1) // plan[HEIGHT]
        plan[UNITS] = plan[WHOLE] + (1 if plan[REST] > 0 else 0)
        slot = (
            f.KERNELS
            + ((f.SUMS + ((code - f.SUMS) >> 1)) * 2 + (0 if size == 4 else 1)) * 2
            + (0 if period == 1 else 1)
        )
        if table[slot] == 0:
            table[slot] = _ask(table[f.RESOLVE], slot)
        if table[slot] == 0:
            return _failed(frame, table, _NO_KERNEL, f.UNIMPLEMENTED)
        plan[KERNEL] = table[slot]
        words = max(plan[UNITS], 1) * plan[SLOTS]
        memory = _malloc(8 * words)
        if memory == 0:
            return _failed(frame, table, _NO_MEMORY, f.NO_MEMORY)
        sums = pointer(memory, double)
        for i in range(words):
            sums[i] = 0.0
        plan[PARTIAL] = memory
        factor, lift, step = 1.0, 1.0, 1.0  # see `scaling`
        if double_sums:
            while step * np.float64(n) > 1.0:
                step *= 0.5
        if (code - f.SUMS) & 1:
            total = np.float64(n)
            if weighted:
                total = weight_of(plan[WEIGHTS], n, 1.0)
                apart = weight_of(plan[WEIGHTS], n, APART) if double_sums and abs(total) > LARGEST else total
                lift, total = lifted(total, apart, zero)
            factor = 1.0 / total if total != 0.0 else np.nan
        factors[0], factors[1], factors[2] = _narrow(factor, zero), _narrow(lift, zero), _narrow(step, zero)
        plan[FACTOR] = _address(factors)
        factor /= step
        mask = ((code - f.SUMS) >> 1) & 7
        plan[DX] = _buffer(frame, f.FRAME_RETS, 1)[f.BUFFER_DATA] if mask & 1 else 0
        _work(frame, table, plan, n)
        if plan[REST] > 0 and period > 1:
            # The last row's sums have as many columns as it, not all.
            last, rest = pointer(memory + 8 * (plan[UNITS] - 1) * plan[SLOTS], double), plan[REST]
            for i in range(rest):
                last[width + rest - i] = last[2 * rest - i]
            for i in range(1 + rest, 1 + width):
                last[i] = 0.0
            for i in range(1 + width + rest, 1 + 2 * width):
                last[i] = 0.0
        fold(sums, plan[UNITS], plan[SLOTS])
        pointer(_buffer(frame, f.FRAME_RETS, 0)[f.BUFFER_DATA], zero)[0] = _narrow(sums[0] * factor, zero)
        j = 1 + (mask & 1)
        if mask & 2:
            deliver(sums, 1, plan, period, alphas, _buffer(frame, f.FRAME_RETS, j)[f.BUFFER_DATA], factor)
            j += 1
        if mask & 4:
            deliver(
                sums,
                1 + (width if period > 1 else 1),
                plan,
                period,
                scales,
                _buffer(frame, f.FRAME_RETS, j)[f.BUFFER_DATA],
                factor,
            )
        _free(memory)
        return 0

    return reduced


@intrinsic
def _narrow(typing: Any, value: Any, like: Any) -> Any:
    """A double as a number like that; what is too large for it is infinite."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fptrunc(args[0], ir.FloatType()) if sig.args[1] == types.float32 else args[0]

    return like(types.float64, like), lower


_reduced4, _reduced8 = _reducer(np.float32(0)), _reducer(np.float64(0))


@scalar
def _executed(frame, table):
    """Do what the frame says."""
    kind = _buffer(frame, f.FRAME_ARGS, 0)[f.BUFFER_TYPE] & 0xFFFFFFFF
    code = pointer(pointer(pointer(frame[f.FRAME_ATTRS[1]], _word)[0], _word)[f.SCALAR_VALUE], _word)[0]
    if (kind != f.FLOAT and kind != f.DOUBLE) or code < 0 or code >= f.CODES:
        return _failed(frame, table, _BAD_TYPES, f.INVALID_ARGUMENT)
    for vector in (f.FRAME_ARGS, f.FRAME_RETS):
        for i in range(frame[vector[0]]):
            buffer = _buffer(frame, vector, i)
            if buffer[0] < f.BUFFER_SIZE:
                return _failed(frame, table, _BAD_VERSION, f.UNIMPLEMENTED)
            if buffer[f.BUFFER_TYPE] & 0xFFFFFFFF != kind:
                return _failed(frame, table, _BAD_TYPES, f.INVALID_ARGUMENT)
    if code >= f.SUMS:
        return _reduced4(frame, table, code) if kind == f.FLOAT else _reduced8(frame, table, code)
    plan = stack(PLAN, _word)
    item = 4 if kind == f.FLOAT else 8
    total = _planned(frame, plan, item)
    count = frame[f.FRAME_RETS[0]]
    if total < 0 or count > len(f.OUTPUTS):
        return _failed(frame, table, _BAD_SHAPES, f.INVALID_ARGUMENT)
    if total == 0:
        return 0
    plan[ITEM], plan[INPUTS], plan[COUNT] = item, frame[f.FRAME_ARGS[0]], count
    for j in range(count):
        plan[PLACES + j] = _buffer(frame, f.FRAME_RETS, j)[f.BUFFER_DATA]
    _choose(plan, total, item)
    shared = (plan[MODE] == LINE or plan[MODE] == ROWS) and plan[STRIDES + AXES] == 0 == plan[STRIDES + 2 * AXES]
    each = 0 if shared and code < f.PARTITIONS else 1
    slot = f.KERNELS + (code * 2 + (0 if kind == f.FLOAT else 1)) * 2 + each
    if table[slot] == 0:
        table[slot] = _ask(table[f.RESOLVE], slot)
    if table[slot] == 0:
        return _failed(frame, table, _NO_KERNEL, f.UNIMPLEMENTED)
    plan[KERNEL] = table[slot]
    _work(frame, table, plan, total)
    return 0


def handler(frame, table):
    """A call by XLA; or, without a table, by one of its threads, of which ``frame`` is the plan."""
    if _address(table) == 0:
        before = _swap_modes(_PLAIN_MODES)
        _take_part(frame)
        _leave(frame)
        _swap_modes(before)
        return 0
    if frame[f.FRAME_EXTENSION] != 0:
        return _described(frame, table)
    if frame[0] < f.FRAME_SIZE:
        return _failed(frame, table, _BAD_VERSION, f.UNIMPLEMENTED)
    before = _swap_modes(_PLAIN_MODES)
    error = _executed(frame, table)
    _swap_modes(before)
    return error
