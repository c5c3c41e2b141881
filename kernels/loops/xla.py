"""The handler of XLA's foreign function interface: the CPU kernels as steps of XLA's programs, without Python between.

It gets a call frame (see `xla_frame`): the operands' memory and shapes, and one attribute, the number of a kernel.  It
plans the work (`xla_plan`, `xla_sums`), hands it out to XLA's threads where there is much of it (`xla_threads`), and
calls the kernel's machine code (`xla_units`), which it finds in a table by its number; if that is not there yet, a
function of Python's puts it there.
"""

from __future__ import annotations

from numba import intp

from ..arithmetic.primitives import scalar
from . import xla_frame as f
from .memory import WORD, WORDS, address_of, pointer, stack
from .xla_calls import BAD_SHAPES, BAD_TYPES, BAD_VERSION, NO_KERNEL, buffer_of, described, failed
from .xla_machine import PLAIN_MODES, ask, swap_modes
from .xla_plan import (
    AXES,
    COUNT,
    INPUTS,
    ITEM,
    KERNEL,
    LINE,
    MODE,
    PLACES,
    PLAN,
    ROWS,
    STRIDES,
    choose,
    planned,
)
from .xla_sums import reduced4, reduced8
from .xla_threads import leave, take_part, work

__all__ = ["SIGNATURE", "handler"]

SIGNATURE = intp(WORDS, WORDS)


@scalar
def _executed(frame, table):
    """Do what the frame says."""
    kind = buffer_of(frame, f.FRAME_ARGS, 0)[f.BUFFER_TYPE] & 0xFFFFFFFF
    code = pointer(pointer(pointer(frame[f.FRAME_ATTRS[1]], WORD)[0], WORD)[f.SCALAR_VALUE], WORD)[0]
    if (kind != f.FLOAT and kind != f.DOUBLE) or code < 0 or code >= f.CODES:
        return failed(frame, table, BAD_TYPES, f.INVALID_ARGUMENT)
    for vector in (f.FRAME_ARGS, f.FRAME_RETS):
        for i in range(frame[vector[0]]):
            buffer = buffer_of(frame, vector, i)
            if buffer[0] < f.BUFFER_SIZE:
                return failed(frame, table, BAD_VERSION, f.UNIMPLEMENTED)
            if buffer[f.BUFFER_TYPE] & 0xFFFFFFFF != kind:
                return failed(frame, table, BAD_TYPES, f.INVALID_ARGUMENT)
    if code >= f.SUMS:
        return reduced4(frame, table, code) if kind == f.FLOAT else reduced8(frame, table, code)
    plan = stack(PLAN, WORD)
    item = 4 if kind == f.FLOAT else 8
    total = planned(frame, plan, item)
    count = frame[f.FRAME_RETS[0]]
    if total < 0 or count > len(f.OUTPUTS):
        return failed(frame, table, BAD_SHAPES, f.INVALID_ARGUMENT)
    if total == 0:
        return 0
    plan[ITEM], plan[INPUTS], plan[COUNT] = item, frame[f.FRAME_ARGS[0]], count
    for j in range(count):
        plan[PLACES + j] = buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA]
    choose(plan, total, item)
    shared = (plan[MODE] == LINE or plan[MODE] == ROWS) and plan[STRIDES + AXES] == 0 == plan[STRIDES + 2 * AXES]
    each = 0 if shared and code < f.PARTITIONS else 1
    slot = f.KERNELS + (code * 2 + (0 if kind == f.FLOAT else 1)) * 2 + each
    if table[slot] == 0:
        table[slot] = ask(table[f.RESOLVE], slot)
    if table[slot] == 0:
        return failed(frame, table, NO_KERNEL, f.UNIMPLEMENTED)
    plan[KERNEL] = table[slot]
    work(frame, table, plan, total)
    return 0


def handler(frame, table):
    """A call by XLA; or, without a table, by one of its threads, of which ``frame`` is the plan."""
    if address_of(table) == 0:
        before = swap_modes(PLAIN_MODES)
        take_part(frame)
        leave(frame)
        swap_modes(before)
        return 0
    if frame[f.FRAME_EXTENSION] != 0:
        return described(frame, table)
    if frame[0] < f.FRAME_SIZE:
        return failed(frame, table, BAD_VERSION, f.UNIMPLEMENTED)
    before = swap_modes(PLAIN_MODES)
    error = _executed(frame, table)
    swap_modes(before)
    return error
