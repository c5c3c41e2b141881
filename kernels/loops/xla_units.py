"""The units of a plan's work (see `xla_plan`), each done by calls of a kernel's machine code."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.primitives import inlined, min
from . import xla_frame as f
from .memory import WORD, address_of, pointer, scratch
from .xla_machine import run_kernel
from .xla_plan import (
    AXES,
    AXES_USED,
    COPIES,
    COUNT,
    DATA,
    FACTOR,
    HEIGHT,
    INPUTS,
    ITEM,
    KERNEL,
    LENGTHS,
    LINE,
    MODE,
    OPERANDS,
    PARTIAL,
    PLACES,
    REST,
    ROWS,
    ROWS_ALL,
    SLOPES,
    SLOTS,
    STEPS,
    STRIDES,
    SUMS,
    TILED,
    TILES,
    WEIGHTS,
    WHOLE,
    WIDTH,
)

__all__ = ["span"]

ARRAYS = f.OPERANDS_MAX + f.OUTPUTS_MAX  # of a kernel, at most
SUMMED = 2 * f.OPERANDS_MAX + 3  # words for a kernel that sums, at most


@inlined
def _evaluate(plan, at, n, args, steps):
    """Run the kernel on n elements of operands at these addresses, to the results from the element ``at`` on."""
    dims, first = scratch(1, WORD), plan[INPUTS]
    dims[0] = n
    for j in range(plan[COUNT]):
        args[first + j] = plan[PLACES + j] + at * plan[ITEM]
        steps[first + j] = plan[ITEM]
    run_kernel(plan[KERNEL], args, dims, steps)


@inlined
def _rows(plan, first, last):
    """Do rows of the last axis, or a part of the only one."""
    args, steps, index = scratch(ARRAYS, WORD), scratch(ARRAYS, WORD), scratch(AXES, WORD)
    operands, used, n = plan[INPUTS], plan[AXES_USED], plan[LENGTHS]
    for k in range(operands):
        args[k], steps[k] = plan[OPERANDS + k], plan[STRIDES + k * AXES]
    if plan[MODE] == LINE:
        for k in range(operands):
            args[k] += first * steps[k]
        _evaluate(plan, first, last - first, args, steps)
    else:
        rest = first
        for axis in range(1, used):
            index[axis] = rest % plan[LENGTHS + axis]
            rest //= plan[LENGTHS + axis]
            for k in range(operands):
                args[k] += index[axis] * plan[STRIDES + k * AXES + axis]
        for row in range(first, last):
            _evaluate(plan, row * n, n, args, steps)
            axis = 1
            while axis < used:
                index[axis] += 1
                length = plan[LENGTHS + axis]
                back = 0 if index[axis] < length else length
                for k in range(operands):
                    args[k] += (1 - back) * plan[STRIDES + k * AXES + axis]
                if back == 0:
                    break
                index[axis] = 0
                axis += 1


def _copier(zero: Any) -> Any:
    """Spans of the modes `TILES` and `GATHER` for numbers like ``zero``; copies of the operands are at an address."""
    size = zero.itemsize

    @inlined
    def tiles(plan, first, last, total, copies):
        """Repeat the parameters to the length of a tile, once, and take the data where they are."""
        n, data, operands = plan[LENGTHS], plan[DATA], plan[INPUTS]
        width = plan[TILED] // n * n
        args, steps = scratch(ARRAYS, WORD), scratch(ARRAYS, WORD)
        for k in range(operands):
            steps[k] = size
            if k < data:
                args[k] = plan[OPERANDS + k] + first * width * size
                continue
            args[k] = copies + k * plan[TILED] * size
            source, step, target = plan[OPERANDS + k], plan[STRIDES + k * AXES], pointer(args[k], zero)
            for i in range(0, width, n):
                for j in range(n):
                    target[i + j] = pointer(source + j * step, zero)[0]
        for unit in range(first, last):
            at = unit * width
            _evaluate(plan, at, min(width, total - at), args, steps)
            for k in range(data):
                args[k] += width * size

    @inlined
    def gathered(plan, k, at, m, address, index):
        """Copy m elements of operand k, from the element ``at`` on."""
        used, n, step = plan[AXES_USED], plan[LENGTHS], plan[STRIDES + k * AXES]
        source, rest, target = plan[OPERANDS + k], at, pointer(address, zero)
        for axis in range(used):
            index[axis] = rest % plan[LENGTHS + axis]
            rest //= plan[LENGTHS + axis]
            source += index[axis] * plan[STRIDES + k * AXES + axis]
        i, first = 0, index[0]
        while i < m:
            run = min(n - first, m - i)
            for j in range(run):
                target[i + j] = pointer(source + j * step, zero)[0]
            i += run
            source -= first * step
            first = 0
            axis = 1
            while axis < used:
                index[axis] += 1
                source += plan[STRIDES + k * AXES + axis]
                if index[axis] < plan[LENGTHS + axis]:
                    break
                index[axis] = 0
                source -= plan[LENGTHS + axis] * plan[STRIDES + k * AXES + axis]
                axis += 1

    @inlined
    def contiguous(plan, k):
        """Tell whether an operand has its elements in the order of the results."""
        in_order, dense = True, size
        for axis in range(plan[AXES_USED]):
            in_order = in_order and plan[STRIDES + k * AXES + axis] == dense
            dense *= plan[LENGTHS + axis]
        return in_order

    @inlined
    def constant(plan, k):
        """Tell whether an operand is one number."""
        single = True
        for axis in range(plan[AXES_USED]):
            single = single and plan[STRIDES + k * AXES + axis] == 0
        return single

    @inlined
    def gather(plan, first, last, total, copies):
        """Copy the operands tile by tile, but for those in order; a single number is copied once."""
        args, steps, index = scratch(ARRAYS, WORD), scratch(ARRAYS, WORD), scratch(AXES, WORD)
        operands, tile = plan[INPUTS], plan[TILED]
        for k in range(operands):
            args[k], steps[k] = copies + k * tile * size, size
        for unit in range(first, last):
            at = unit * tile
            m = min(tile, total - at)
            for k in range(operands):
                if plan[STRIDES + k * AXES] == size and contiguous(plan, k):
                    args[k] = plan[OPERANDS + k] + at * size
                elif unit == first or not constant(plan, k):
                    gathered(plan, k, at, m, args[k], index)
            _evaluate(plan, at, m, args, steps)

    @inlined
    def copied(plan, first, last, copies):
        """Do tiles in the mode `TILES` or `GATHER`, as the plan says."""
        total = 1
        for axis in range(plan[AXES_USED]):
            total *= plan[LENGTHS + axis]
        if plan[MODE] == TILES:
            tiles(plan, first, last, total, copies)
        else:
            gather(plan, first, last, total, copies)

    return copied


_copied4, _copied8 = _copier(np.float32(0)), _copier(np.float64(0))


@inlined
def _panels(plan, first, last):
    """Do the sums of panels, the last of which may be the rest of a row."""
    args, dims, steps = scratch(SUMMED, WORD), scratch(3, WORD), scratch(SUMMED, WORD)
    item, width, height, data, operands = plan[ITEM], plan[WIDTH], plan[HEIGHT], plan[DATA], plan[INPUTS]
    slopes, row = operands + 1, width * item
    for k in range(operands):
        args[k], steps[k] = plan[OPERANDS + k], plan[STEPS + k]
    steps[operands] = row
    for k in range(data):
        steps[k], steps[slopes + k] = row, row
    args[slopes + data], dims[2] = plan[FACTOR], height
    for panel in range(first, last):
        start = min(panel * height, plan[ROWS_ALL])
        dims[0], dims[1] = (min(height, plan[ROWS_ALL] - start), width) if panel < plan[WHOLE] else (1, plan[REST])
        offset = start * row
        for k in range(data):
            args[k] = plan[OPERANDS + k] + offset
            args[slopes + k] = plan[SLOPES + k] + offset if plan[SLOPES + k] != 0 else 0
        args[operands] = plan[WEIGHTS] + offset if plan[WEIGHTS] != 0 else 0
        args[slopes + data + 1] = plan[PARTIAL] + 8 * panel * plan[SLOTS]
        run_kernel(plan[KERNEL], args, dims, steps)


@inlined
def span(plan, first, last):
    """Do the units of work from first to last, the end excluded."""
    if plan[MODE] == SUMS:
        _panels(plan, first, last)
    elif plan[MODE] == LINE or plan[MODE] == ROWS:
        _rows(plan, first, last)
    else:
        copies = address_of(scratch(COPIES, np.float64(0)))
        if plan[ITEM] == 4:
            _copied4(plan, first, last, copies)
        else:
            _copied8(plan, first, last, copies)
