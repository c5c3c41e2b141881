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
from .vectors import add_scaled, load_lanes, storing, turn_in, turn_out

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
    count, store_lanes = len(ordered), storing(False)

    @inlined
    def read_run(source, line_step, step, m, count, memory, row, apart, factor):
        """Some elements of each line, times the factor, to rows of memory that are so far apart.

        Those of the last line stand for lines that are not there.
        """
        done = 0
        if m == LANES and line_step == size:
            for k in range(count):
                load_lanes(memory, (row + k * apart) * LANES, source + k * step, factor)
            done = count
        elif m == LANES and step == size:
            while done + LANES <= count:
                turn_in(memory, (row + done * apart) * LANES, apart * LANES, source + done * size, line_step, factor)
                done += LANES
        for k in range(done, count):
            for lane in range(LANES):
                element = pointer(source + min(lane, m - 1) * line_step + k * step, zero)[0]
                memory[(row + k * apart) * LANES + lane] = element * factor

    @inlined
    def write_run(target, line_step, step, m, count, memory, row, apart, factor):
        """The same the other way round."""
        done = 0
        if m == LANES and line_step == size:
            for k in range(count):
                store_lanes(target + k * step, memory, (row + k * apart) * LANES, factor)
            done = count
        elif m == LANES and step == size:
            while done + LANES <= count:
                turn_out(memory, (row + done * apart) * LANES, apart * LANES, target + done * size, line_step, factor)
                done += LANES
        for k in range(done, count):
            for lane in range(m):
                element = memory[(row + k * apart) * LANES + lane]
                pointer(target + lane * line_step + k * step, zero)[0] = element * factor

    def of_lines(run):
        """run over samples, and over bands: the low one, of even rows, and the high one after it."""

        @inlined
        def samples(place, line_step, step, m, n, memory):
            run(place, line_step, step, m, n, memory, 0, 1, one)

        @inlined
        def bands(place, line_step, step, m, n, memory):
            half = (n + 1) // 2
            run(place, line_step, step, m, half, memory, 0, 2, low)
            run(place + half * step, line_step, step, m, n - half, memory, 1, 2, high)

        return samples, bands

    read, write = of_lines(read_run)[not analysis], of_lines(write_run)[analysis]

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
