"""The units of a plan's work (see `xla_plan`), each done by calls of a kernel's machine code."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.primitives import min, scalar
from . import xla_frame as f
from .memory import WORD, address_of, pointer, stack
from .panels import TILE
from .xla_machine import run_kernel
from .xla_plan import (
    ALPHA_STEP,
    AXES,
    AXES_USED,
    COUNT,
    DX,
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
    SCALE_STEP,
    SLOTS,
    STRIDES,
    SUMS,
    TILES,
    WEIGHTS,
    WHOLE,
    WIDTH,
)

__all__ = ["span"]

ARRAYS = 3 + len(f.OUTPUTS)  # of a kernel, at most


@scalar
def _evaluate(plan, at, x, alpha, scale, n, steps):
    """The kernel on n elements from these addresses on, to the results from the element ``at`` on."""
    args, dims, first = stack(ARRAYS, WORD), stack(1, WORD), plan[INPUTS]
    args[0], args[1], args[2], dims[0] = x, alpha, scale, n
    for j in range(plan[COUNT]):
        args[first + j] = plan[PLACES + j] + at * plan[ITEM]
        steps[first + j] = plan[ITEM]
    run_kernel(plan[KERNEL], args, dims, steps)


@scalar
def _rows(plan, first, last):
    """Rows of the last axis, or a part of the only one."""
    steps, index = stack(ARRAYS, WORD), stack(AXES, WORD)
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
        steps = stack(ARRAYS, WORD)
        steps[0], steps[1], steps[2] = size, size, size
        for unit in range(first, last):
            at = unit * width
            _evaluate(
                plan,
                at,
                plan[OPERANDS] + at * size,
                address_of(alphas),
                address_of(scales),
                min(width, total - at),
                steps,
            )

    @scalar
    def gather(plan, first, last, total):
        used = plan[AXES_USED]
        xs, alphas, scales = stack(TILE, zero), stack(TILE, zero), stack(TILE, zero)
        steps, index = stack(ARRAYS, WORD), stack(AXES, WORD)
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
            _evaluate(plan, at, address_of(xs), address_of(alphas), address_of(scales), m, steps)

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
    args, dims, steps = stack(7, WORD), stack(2, WORD), stack(5, WORD)
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
        run_kernel(plan[KERNEL], args, dims, steps)


@scalar
def span(plan, first, last):
    """Units of work from first to last."""
    if plan[MODE] == SUMS:
        _panels(plan, first, last)
    elif plan[MODE] == LINE or plan[MODE] == ROWS:
        _rows(plan, first, last)
    elif plan[ITEM] == 4:
        _copied4(plan, first, last)
    else:
        _copied8(plan, first, last)
