"""The CPU's loops of wavelets: inner loops of generalized ufuncs (n),(s) -> (n), from lines, by memory, to lines.

`LANES` lines, of two samples at least, go side by side through memory, a lane for each.  A line is analysed,
from samples to its low band and the high one after it, or synthesized, from bands to samples; each is the other's
inverse.  Their transposed operations, of which derivatives are made, add each sample to its neighbours instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.primitives import inlined, min
from ..losses.wavelets import Wavelet
from .cpu import forget_flags
from .memory import pointer
from .panels import LANES
from .row_parts import Inlined
from .vectors import add_scaled

__all__ = ["loop"]


def loop(wavelet: Wavelet, dtype: type[np.floating[Any]], analysis: bool, transposed: bool) -> Inlined:
    """The loop of one level."""
    zero, size = dtype(0), np.dtype(dtype).itemsize
    # The inverse of a step takes away what the step adds; the scale is its inverse then.
    inverse = analysis == transposed
    low = dtype(1 / wavelet.scale if inverse else wavelet.scale)
    high = dtype(wavelet.scale if inverse else 1 / wavelet.scale)
    one, half = dtype(1), dtype(0.5)
    ordered = tuple(enumerate(wavelet.steps))[:: 1 if analysis else -1]
    parities = tuple(1 - k % 2 for k, _ in ordered)
    factors = tuple(dtype(-factor if inverse else factor) for _, factor in ordered)
    count = len(ordered)

    @inlined
    def place_of(j, n):
        """Where sample j is among the bands."""
        return j // 2 if j % 2 == 0 else (n + 1) // 2 + j // 2

    @inlined
    def scale_of(j):
        return low if j % 2 == 0 else high

    @inlined
    def read(source, line_step, step, m, n, memory):
        """Each line's samples, ``LANES`` apart; those of the last line stand for lines that are not there."""
        if m == LANES and line_step == size:
            for j in range(n):
                there = pointer(source + (j if analysis else place_of(j, n)) * step, zero)
                factor = one if analysis else scale_of(j)
                for lane in range(LANES):
                    memory[j * LANES + lane] = there[lane] * factor
        else:
            for lane in range(LANES):
                line = source + min(lane, m - 1) * line_step
                for j in range(n):
                    sample = pointer(line + (j if analysis else place_of(j, n)) * step, zero)[0]
                    memory[j * LANES + lane] = sample if analysis else sample * scale_of(j)

    @inlined
    def write(target, line_step, step, m, n, memory):
        """The same the other way round."""
        if m == LANES and line_step == size:
            for j in range(n):
                there = pointer(target + (place_of(j, n) if analysis else j) * step, zero)
                factor = scale_of(j) if analysis else one
                for lane in range(LANES):
                    there[lane] = memory[j * LANES + lane] * factor
        else:
            for lane in range(m):
                line = target + lane * line_step
                for j in range(n):
                    sample = memory[j * LANES + lane]
                    place = line + (place_of(j, n) if analysis else j) * step
                    pointer(place, zero)[0] = sample * scale_of(j) if analysis else sample

    @inlined
    def lift(memory, n, first, factor):
        """Add to each sample of a parity the factor times the sum of its neighbours, or do what is transposed to it."""
        for i in range(first, n, 2):
            left = i - 1 if i > 0 else 1
            right = i + 1 if i + 1 < n else n - 2
            if transposed:  # to each neighbour half of the sample and half again, which is the sample
                add_scaled(memory, left * LANES, i * LANES, i * LANES, half * factor)
                add_scaled(memory, right * LANES, i * LANES, i * LANES, half * factor)
            else:
                add_scaled(memory, i * LANES, left * LANES, right * LANES, factor)

    def lines(args, dims, steps):
        """Some lines at a time: read, lifted, written."""
        total, n = dims[0], dims[1]
        memory = pointer(args[1], zero)
        for first in range(0, total, LANES):
            m = min(LANES, total - first)
            read(args[0] + first * steps[0], steps[0], steps[3], m, n, memory)
            for k in range(count):
                lift(memory, n, parities[k], factors[k])
            write(args[2] + first * steps[2], steps[2], steps[5], m, n, memory)
        forget_flags()

    return lines
