"""The handler of XLA's foreign function interface: the CPU kernels as steps of XLA's programs, without Python between.

It gets a call frame (see `xla_frame`): the operands' memory and shapes, and one attribute, the code of what is called.
It plans the work (`xla_plan`, `xla_sums`), hands it out to XLA's threads where there is much of it (`xla_threads`), and
calls the kernel's machine code (`xla_units`), which it finds in a table by its key (`xla_kernels`); if it is not there
yet, a function of Python's puts it there.  The handler knows no definition; how many operands there are says the code.
"""

from __future__ import annotations

import numpy as np
from numba import intp

from ..arithmetic.primitives import inlined
from . import xla_frame as f
from .memory import WORD, WORDS, address_of, pointer, scratch
from .xla_calls import BAD_SHAPES, BAD_TYPES, BAD_VERSION, NO_KERNEL, buffer_of, described, elements_of, failed
from .xla_kernels import kernel_of
from .xla_machine import PLAIN_MODES, ones, swap_modes
from .xla_plan import COUNT, DATA, INPUTS, ITEM, KERNEL, MODE, PLACES, PLAN, SUMS, choose, planned, varying
from .xla_sums import begin4, begin8, end4, end8
from .xla_threads import leave, take_part, work

__all__ = ["SIGNATURE", "handler"]

SIGNATURE = intp(WORDS, WORDS)


@inlined
def _fits(frame, code):
    """Tell whether there are as many operands and results as the code says."""
    weights = code >> f.HAS_WEIGHTS & 1
    count = ones(f.mask_of(code)) + (code >> f.IS_SUM & 1)
    operands = f.operands_of(code)
    return (
        frame[f.FRAME_ARGS[0]] == operands + weights
        and frame[f.FRAME_RETS[0]] == count
        and count > 0
        and f.data_of(code) <= operands
    )


@inlined
def _executed(frame, table):
    """Do what the frame asks for: look at its buffers, plan the work, do it.  Returns an error of XLA's, or 0."""
    code = pointer(pointer(pointer(frame[f.FRAME_ATTRS[1]], WORD)[0], WORD)[f.SCALAR_VALUE], WORD)[0]
    if code < 0:
        return failed(frame, table, BAD_TYPES, f.INVALID_ARGUMENT)
    if not _fits(frame, code):
        return failed(frame, table, BAD_SHAPES, f.INVALID_ARGUMENT)
    kind = buffer_of(frame, f.FRAME_ARGS, 0)[f.BUFFER_TYPE] & 0xFFFFFFFF
    if kind != f.FLOAT and kind != f.DOUBLE:
        return failed(frame, table, BAD_TYPES, f.INVALID_ARGUMENT)
    for vector in (f.FRAME_ARGS, f.FRAME_RETS):
        for i in range(frame[vector[0]]):
            buffer = buffer_of(frame, vector, i)
            if buffer[0] < f.BUFFER_SIZE:
                return failed(frame, table, BAD_VERSION, f.UNIMPLEMENTED)
            if buffer[f.BUFFER_TYPE] & 0xFFFFFFFF != kind:
                return failed(frame, table, BAD_TYPES, f.INVALID_ARGUMENT)
    plan, numbers = scratch(PLAN, WORD), scratch(5, np.float64(0))
    plan[ITEM] = 4 if kind == f.FLOAT else 8
    plan[DATA], plan[INPUTS], plan[COUNT] = f.data_of(code), f.operands_of(code), frame[f.FRAME_RETS[0]]
    if code >> f.IS_SUM & 1:
        total = elements_of(buffer_of(frame, f.FRAME_ARGS, 0))
        if kind == f.FLOAT:
            error = begin4(frame, table, code, plan, numbers)
        else:
            error = begin8(frame, table, code, plan, numbers)
        if error != 0:
            return error
    else:
        total = planned(frame, plan)
        if total < 0:
            return failed(frame, table, BAD_SHAPES, f.INVALID_ARGUMENT)
        if total == 0:
            return 0
        for j in range(plan[COUNT]):
            plan[PLACES + j] = buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA]
        choose(plan, total)
        plan[KERNEL] = kernel_of(table, code, kind == f.DOUBLE, varying(plan))
        if plan[KERNEL] == 0:
            return failed(frame, table, NO_KERNEL, f.UNIMPLEMENTED)
    work(frame, table, plan, total)
    if plan[MODE] == SUMS:
        if kind == f.FLOAT:
            end4(frame, code, plan, numbers)
        else:
            end8(frame, code, plan, numbers)
    return 0


def handler(frame, table):
    """Answer a call by XLA; or, without a table, by one of its threads, which is given a plan as ``frame``."""
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
