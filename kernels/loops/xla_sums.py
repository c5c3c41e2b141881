"""The handler's reductions: their plan, the weights' sum, and the sums of panels folded into results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.elementary import LARGEST, lifted
from ..arithmetic.primitives import max, min, scalar
from ..arithmetic.scaling import APART
from . import xla_frame as f
from .memory import WORD, address_of, pointer, stack
from .panels import PANEL, PANELS_MAX, SUMS_MAX, TILE
from .xla_calls import BAD_SHAPES, NO_KERNEL, NO_MEMORY, buffer_of, elements_of, failed
from .xla_machine import ask, free, malloc, narrow
from .xla_plan import (
    ALPHA_STEP,
    DX,
    FACTOR,
    HEIGHT,
    ITEM,
    KERNEL,
    MODE,
    OPERANDS,
    PARTIAL,
    PLAN,
    REST,
    ROWS_ALL,
    SCALE_STEP,
    SLOTS,
    SUMS,
    UNITS,
    WEIGHTS,
    WHOLE,
    WIDTH,
)
from .xla_threads import work

__all__ = ["reduced4", "reduced8"]


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
                out[p] = narrow(total * factor, zero)
            alone += total
        if count == 1:
            out[0] = narrow(alone * factor, zero)

    @scalar
    def reduced(frame, table, code):
        x, alpha, scale = (
            buffer_of(frame, f.FRAME_ARGS, 0),
            buffer_of(frame, f.FRAME_ARGS, 1),
            buffer_of(frame, f.FRAME_ARGS, 2),
        )
        n, alphas, scales = elements_of(x), elements_of(alpha), elements_of(scale)
        period = max(alphas, scales)
        weighted = frame[f.FRAME_ARGS[0]] > 3
        bad = n % period != 0 or (alphas != 1 and alphas != period) or (scales != 1 and scales != period)
        if bad or (weighted and elements_of(buffer_of(frame, f.FRAME_ARGS, 3)) != n):
            return failed(frame, table, BAD_SHAPES, f.INVALID_ARGUMENT)
        plan, factors = stack(PLAN, WORD), stack(3, zero)
        alpha_tile, scale_tile = stack(TILE, zero), stack(TILE, zero)
        plan[MODE], plan[ITEM] = SUMS, size
        plan[OPERANDS], plan[OPERANDS + 1], plan[OPERANDS + 2] = (
            x[f.BUFFER_DATA],
            alpha[f.BUFFER_DATA],
            scale[f.BUFFER_DATA],
        )
        plan[WEIGHTS] = buffer_of(frame, f.FRAME_ARGS, 3)[f.BUFFER_DATA] if weighted else 0
        plan[ALPHA_STEP], plan[SCALE_STEP] = size if alphas > 1 else 0, size if scales > 1 else 0
        if period == 1:
            plan[WIDTH], plan[SLOTS], plan[HEIGHT] = PANEL, 3, 1
        else:
            repeat = max(1, TILE // period)
            if repeat > 1:
                for i in range(period * repeat):
                    alpha_tile[i] = pointer(alpha[f.BUFFER_DATA], zero)[i % period if alphas > 1 else 0]
                    scale_tile[i] = pointer(scale[f.BUFFER_DATA], zero)[i % period if scales > 1 else 0]
                plan[OPERANDS + 1], plan[OPERANDS + 2] = address_of(alpha_tile), address_of(scale_tile)
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
            table[slot] = ask(table[f.RESOLVE], slot)
        if table[slot] == 0:
            return failed(frame, table, NO_KERNEL, f.UNIMPLEMENTED)
        plan[KERNEL] = table[slot]
        words = max(plan[UNITS], 1) * plan[SLOTS]
        memory = malloc(8 * words)
        if memory == 0:
            return failed(frame, table, NO_MEMORY, f.NO_MEMORY)
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
        factors[0], factors[1], factors[2] = narrow(factor, zero), narrow(lift, zero), narrow(step, zero)
        plan[FACTOR] = address_of(factors)
        factor /= step
        mask = ((code - f.SUMS) >> 1) & 7
        plan[DX] = buffer_of(frame, f.FRAME_RETS, 1)[f.BUFFER_DATA] if mask & 1 else 0
        work(frame, table, plan, n)
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
        pointer(buffer_of(frame, f.FRAME_RETS, 0)[f.BUFFER_DATA], zero)[0] = narrow(sums[0] * factor, zero)
        j = 1 + (mask & 1)
        if mask & 2:
            deliver(sums, 1, plan, period, alphas, buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA], factor)
            j += 1
        if mask & 4:
            deliver(
                sums,
                1 + (width if period > 1 else 1),
                plan,
                period,
                scales,
                buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA],
                factor,
            )
        free(memory)
        return 0

    return reduced


reduced4, reduced8 = _reducer(np.float32(0)), _reducer(np.float64(0))
