"""Plans of the work that the handler does for a call, and the words in which they are written.

A plan says how the operands lie along the axes of the results, from the last axis on, those joined that may be:

=======  ==========================================================================  ==========================
mode     when                                                                        a unit of work is
=======  ==========================================================================  ==========================
LINE     one axis                                                                    an element
ROWS     the last axis is long                                                       a row
TILES    data are contiguous, parameters vary along the last of two axes only        a tile of elements or so, for
                                                                                     which they are repeated
GATHER   any other: the operands are copied together, element by element             a tile of elements
SUMS     a reduction, of rows of data with parameters by column                      a panel of rows
=======  ==========================================================================  ==========================

A tile has `TILE` elements, or fewer if there are more than four operands.
"""

from __future__ import annotations

from ..arithmetic.primitives import inlined, min
from . import xla_frame as f
from .memory import WORD, pointer, scratch
from .panels import TILE
from .xla_calls import buffer_of
from .xla_frame import OPERANDS_MAX

__all__ = ["choose", "planned", "varying"]

LONG = 256  # elements from which on a row is worth a call of its own; a tile has as many at least
AXES = 32
COPIES = 4 * TILE  # elements of all operands that are copied for a tile

LINE, ROWS, TILES, GATHER, SUMS = range(5)
# Words of a plan; then the operands' addresses, for each axis its length, the strides of each operand in bytes, and the
# outputs' addresses.
KERNEL, MODE, ITEM, DATA, INPUTS, COUNT, UNITS, AXES_USED, TILED = range(9)
OPERANDS = 9
LENGTHS = OPERANDS + OPERANDS_MAX
STRIDES = LENGTHS + AXES
PLACES = STRIDES + AXES * OPERANDS_MAX
PLAN = PLACES + f.OUTPUTS_MAX

# In the mode `SUMS` instead of lengths and strides: words, then for each operand the steps of parameters in bytes, and
# where derivatives in data go.
WIDTH, WHOLE, REST, HEIGHT, ROWS_ALL, WEIGHTS, FACTOR, PARTIAL, SLOTS, PERIOD = range(LENGTHS, LENGTHS + 10)
STEPS = LENGTHS + 10
SLOPES = STEPS + OPERANDS_MAX


@inlined
def planned(frame, plan):
    """Write into the plan how the operands lie along the axes of the results.

    Returns how many elements the results have, or -1 if the operands do not fit.
    """
    operands, item = plan[INPUTS], plan[ITEM]
    like = buffer_of(frame, f.FRAME_RETS, 0)
    rank, lengths = like[f.BUFFER_RANK], pointer(like[f.BUFFER_DIMS], WORD)
    if rank > AXES:
        return -1
    total, used = 1, 0
    dense = scratch(OPERANDS_MAX, WORD)  # the strides of contiguous operands
    for k in range(operands):
        buffer = buffer_of(frame, f.FRAME_ARGS, k)
        if buffer[f.BUFFER_RANK] != rank:
            return -1
        dense[k] = item
        plan[OPERANDS + k] = buffer[f.BUFFER_DATA]
    for i in range(rank):
        axis = rank - 1 - i
        n = lengths[axis]
        total *= n
        joined = used > 0
        for k in range(operands):
            m = pointer(buffer_of(frame, f.FRAME_ARGS, k)[f.BUFFER_DIMS], WORD)[axis]
            if m != n and m != 1:
                return -1
            place = STRIDES + k * AXES + used
            plan[place] = dense[k] if m > 1 else 0
            joined = joined and plan[place] == plan[place - 1] * plan[LENGTHS + used - 1]
            dense[k] *= m
        if n != 1:
            if joined:
                plan[LENGTHS + used - 1] *= n
            else:
                plan[LENGTHS + used] = n
                used += 1
    if used == 0:
        plan[LENGTHS] = 1
        for k in range(operands):
            plan[STRIDES + k * AXES] = 0
        used = 1
    plan[AXES_USED] = used
    return total


@inlined
def choose(plan, total):
    """Write into the plan its mode and how many units of work it has."""
    n, used, item = plan[LENGTHS], plan[AXES_USED], plan[ITEM]
    plan[TILED] = min(TILE, COPIES // plan[INPUTS])
    if used == 1:
        plan[MODE], plan[UNITS] = LINE, total
    elif n >= LONG:
        plan[MODE], plan[UNITS] = ROWS, total // n
    else:
        repeats = used == 2
        for k in range(plan[INPUTS]):
            inner, outer = plan[STRIDES + k * AXES], plan[STRIDES + k * AXES + 1]
            repeats = repeats and (inner == item and outer == n * item if k < plan[DATA] else outer == 0)
        if repeats:
            width = plan[TILED] // n * n
            plan[MODE], plan[UNITS] = TILES, (total + width - 1) // width
        else:
            plan[MODE], plan[UNITS] = GATHER, (total + plan[TILED] - 1) // plan[TILED]


@inlined
def varying(plan):
    """Tell whether a call of the kernel has parameters for each element, of the modes for results by element."""
    copied = plan[MODE] == TILES or plan[MODE] == GATHER
    varies = False
    for k in range(plan[DATA], plan[INPUTS]):
        varies = varies or copied or plan[STRIDES + k * AXES] != 0
    return varies
