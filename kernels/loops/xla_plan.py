"""Plans of the work that the handler does for a call, and the words in which they are written.

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

from ..arithmetic.primitives import min, scalar
from . import xla_frame as f
from .memory import WORD, pointer, stack
from .panels import TILE
from .xla_calls import buffer_of

__all__ = ["choose", "planned"]

LONG = 256  # elements from which on a row is worth a call of its own
AXES = 32

LINE, ROWS, TILES, GATHER, SUMS = range(5)
# Words of a plan; then, for each axis, its length and the strides of x, alpha and scale in bytes; then the outputs.
KERNEL, MODE, ITEM, INPUTS, COUNT, UNITS, AXES_USED, OPERANDS = range(8)
LENGTHS = OPERANDS + 3
STRIDES = LENGTHS + AXES
PLACES = STRIDES + 3 * AXES
PLAN = PLACES + len(f.OUTPUTS)

# In the mode `SUMS` instead of lengths and strides.
WIDTH, WHOLE, REST, HEIGHT, ROWS_ALL, WEIGHTS, DX, FACTOR, PARTIAL, SLOTS, ALPHA_STEP, SCALE_STEP = range(
    LENGTHS, LENGTHS + 12
)


@scalar
def planned(frame, plan, item):
    """How the operands lie along the axes of the results; how many elements, or -1 if they do not fit."""
    operands = frame[f.FRAME_ARGS[0]]
    like = buffer_of(frame, f.FRAME_RETS, 0)
    rank, lengths = like[f.BUFFER_RANK], pointer(like[f.BUFFER_DIMS], WORD)
    if rank > AXES:
        return -1
    total, used = 1, 0
    own = stack(3, WORD)  # the strides of contiguous operands
    for k in range(3):
        own[k] = item
        plan[OPERANDS + k] = buffer_of(frame, f.FRAME_ARGS, min(k, operands - 1))[f.BUFFER_DATA]
    for i in range(rank):
        axis = rank - 1 - i
        n = lengths[axis]
        total *= n
        joined = used > 0
        for k in range(3):
            buffer = buffer_of(frame, f.FRAME_ARGS, min(k, operands - 1))
            if buffer[f.BUFFER_RANK] != rank:
                return -1
            m = pointer(buffer[f.BUFFER_DIMS], WORD)[axis]
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
def choose(plan, total, item):
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
