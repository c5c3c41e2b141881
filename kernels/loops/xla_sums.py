"""The handler's reductions: their plan, the weights' sum, and the sums of panels folded into results."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.elementary import LARGEST, lifted
from ..arithmetic.primitives import inlined, max, min
from ..arithmetic.scaling import APART
from . import xla_frame as f
from .memory import address_of, pointer, scratch
from .panels import PANEL, PANELS_MAX, STREAM, SUMS_MAX, TILE
from .xla_calls import BAD_SHAPES, NO_KERNEL, NO_MEMORY, buffer_of, elements_of, failed
from .xla_kernels import kernel_of
from .xla_machine import free, malloc, narrow
from .xla_plan import (
    DATA,
    FACTOR,
    HEIGHT,
    INPUTS,
    KERNEL,
    MODE,
    OPERANDS,
    PARTIAL,
    PERIOD,
    REST,
    ROWS_ALL,
    SLOPES,
    SLOTS,
    STEPS,
    SUMS,
    UNITS,
    WEIGHTS,
    WHOLE,
    WIDTH,
)

__all__ = ["begin4", "begin8", "end4", "end8"]


def _reducer(zero: Any) -> Any:
    """Reductions of numbers like ``zero``, as on NumPy arrays, with the same order of additions: begin, end.

    Between, the plan's work is done.
    """
    size, double = zero.itemsize, np.float64(0)
    double_sums = size == 8

    @inlined
    def weight_of(address, n, unit):
        """The sum of the weights times unit, a power of two, in 16 parts."""
        parts = scratch(16, double)
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

    @inlined
    def fold(sums, panels, slots):
        """Fold the sums of all panels into the first: the second half is added to the first, until one is left."""
        while panels > 1:
            half = (panels + 1) // 2
            for i in range((panels - half) * slots):
                sums[i] += sums[half * slots + i]
            panels = half

    @inlined
    def deliver(sums, at, plan, period, count, address, factor):
        """Write the gradients of a parameter, one or as many as columns, from the sums by column of all repetitions."""
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

    @inlined
    def spread(sums, parameters, width, rest):
        """Put the sums of a last row with only ``rest`` columns where those of a whole row are."""
        for p in range(parameters):
            k = parameters - 1 - p
            for i in range(rest):
                sums[k * width + rest - i] = sums[(k + 1) * rest - i]
        for k in range(parameters):
            for i in range(1 + k * width + rest, 1 + (k + 1) * width):
                sums[i] = 0.0

    @inlined
    def repeated(plan, period, memory):
        """Have the parameters by column as long as a row of the plan, in that memory."""
        for k in range(plan[DATA], plan[INPUTS]):
            source, step, target = plan[OPERANDS + k], plan[STEPS + k], pointer(memory, zero)
            for i in range(0, plan[WIDTH], period):
                for j in range(period):
                    target[i + j] = pointer(source + j * step, zero)[0]
            plan[OPERANDS + k] = memory
            memory += size * TILE

    @inlined
    def begin(frame, table, code, plan, numbers):
        """Fill the plan, and ``numbers``: the factor of all sums, then what a kernel is given; an error or 0."""
        data, operands, weighted = plan[DATA], plan[INPUTS], code >> f.HAS_WEIGHTS & 1
        parameters = operands - data
        n, period = elements_of(buffer_of(frame, f.FRAME_ARGS, 0)), 1
        for k in range(data, operands):
            period = max(period, elements_of(buffer_of(frame, f.FRAME_ARGS, k)))
        bad = n % period != 0
        for k in range(operands + weighted):
            buffer = buffer_of(frame, f.FRAME_ARGS, k)
            count = elements_of(buffer)
            parameter = data <= k < operands
            bad = bad or not ((parameter and count == 1) or count == (period if parameter else n))
            if k < operands:
                plan[OPERANDS + k] = buffer[f.BUFFER_DATA]
                plan[STEPS + k] = size if count > 1 else 0
        if bad:
            return failed(frame, table, BAD_SHAPES, f.INVALID_ARGUMENT)
        plan[MODE], plan[PERIOD] = SUMS, period
        plan[WEIGHTS] = buffer_of(frame, f.FRAME_ARGS, operands)[f.BUFFER_DATA] if weighted else 0
        repeat = 1
        if period == 1:
            plan[WIDTH], plan[SLOTS], plan[HEIGHT] = PANEL, 1 + parameters, 1
        else:
            repeat = max(1, TILE // period)
            plan[WIDTH] = period * repeat
            plan[SLOTS] = 1 + parameters * plan[WIDTH]
            panels = min(PANELS_MAX, max(2, SUMS_MAX // plan[SLOTS]))
            rows = n // plan[WIDTH]
            plan[HEIGHT] = max(1, max(PANEL // plan[WIDTH], (rows + panels - 1) // panels))
        width = plan[WIDTH]
        plan[ROWS_ALL], plan[REST] = n // width, n % width
        plan[WHOLE] = (plan[ROWS_ALL] + plan[HEIGHT] - 1) // plan[HEIGHT]
        plan[UNITS] = plan[WHOLE] + (1 if plan[REST] > 0 else 0)
        plan[KERNEL] = kernel_of(table, code, double_sums, period > 1)
        if plan[KERNEL] == 0:
            return failed(frame, table, NO_KERNEL, f.UNIMPLEMENTED)
        words = max(plan[UNITS], 1) * plan[SLOTS]
        memory = malloc(8 * (words + (parameters * TILE if repeat > 1 else 0)))
        if memory == 0:
            return failed(frame, table, NO_MEMORY, f.NO_MEMORY)
        sums = pointer(memory, double)
        for i in range(words):
            sums[i] = 0.0
        plan[PARTIAL] = memory
        if repeat > 1:
            repeated(plan, period, memory + 8 * words)
        factor, lift, step = 1.0, 1.0, 1.0  # see `scaling`
        if double_sums:
            while step * np.float64(n) > 1.0:
                step *= 0.5
        if code >> f.IS_MEAN & 1:
            total = np.float64(n)
            if weighted:
                total = weight_of(plan[WEIGHTS], n, 1.0)
                apart = weight_of(plan[WEIGHTS], n, APART) if double_sums and abs(total) > LARGEST else total
                lift, total = lifted(total, apart, zero)
            factor = 1.0 / total if total != 0.0 else np.nan
        plan[FACTOR] = address_of(numbers) + 8
        factors = pointer(plan[FACTOR], zero)
        factors[0], factors[1], factors[2] = narrow(factor, zero), narrow(lift, zero), narrow(step, zero)
        factors[3] = narrow(1.0 if n * size >= STREAM else 0.0, zero)
        numbers[0] = factor / step
        j = 1
        for k in range(data):
            wanted = code >> k & 1
            plan[SLOPES + k] = buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA] if wanted else 0
            j += wanted
        return 0

    @inlined
    def end(frame, code, plan, numbers):
        """Put the sums where they belong."""
        data, operands, width, period, factor = plan[DATA], plan[INPUTS], plan[WIDTH], plan[PERIOD], numbers[0]
        memory = plan[PARTIAL]
        sums = pointer(memory, double)
        if plan[REST] > 0 and period > 1:
            spread(pointer(memory + 8 * (plan[UNITS] - 1) * plan[SLOTS], double), operands - data, width, plan[REST])
        fold(sums, plan[UNITS], plan[SLOTS])
        pointer(buffer_of(frame, f.FRAME_RETS, 0)[f.BUFFER_DATA], zero)[0] = narrow(sums[0] * factor, zero)
        j = 1
        for k in range(data):
            j += code >> k & 1
        for k in range(data, operands):
            if code >> k & 1:
                at = 1 + (k - data) * (width if period > 1 else 1)
                count = elements_of(buffer_of(frame, f.FRAME_ARGS, k))
                deliver(sums, at, plan, period, count, buffer_of(frame, f.FRAME_RETS, j)[f.BUFFER_DATA], factor)
                j += 1
        free(memory)

    return begin, end


(begin4, end4), (begin8, end8) = _reducer(np.float32(0)), _reducer(np.float64(0))
