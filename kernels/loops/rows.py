"""The CPU's loops over rows: inner loops of generalized ufuncs.

With d data, an index where one element is apart, and p numbers a row, the ufunc is

    (n),... ,(),... ,(),(s) -> (),... ,(n),...

from the data, the index (int64), the numbers and a weight (doubles), and memory for doubles, to the value and the
derivatives in the numbers, doubles that are not weighted, and, where they are wanted, the derivatives in the data times
the weight.  A row of weight 0 is not read, and all its results are 0.

Rows of up to `SHORT` elements go side by side, a lane for each row (`rows_across`), longer ones one after the other
(`rows_along`), unless those of up to `BLOCK` lie side by side, as classes of pixels do; and what some of them have come
to is evaluated together, in vectors.  Sums are of doubles, in two words
for float64, in an order that is the same on all processors, and so is each bit.

The memory, which is written to, keeps terms for the derivatives: `panels.ROWS` times those of a row of up to `BLOCK`;
of a longer one for which it has less room, but that for a block of each term, they are computed again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arithmetic.primitives import inlined
from ..losses.rowwise import RowDefinition
from .blocks import BLOCK
from .cpu import forget_flags
from .panels import SHORT
from .row_parts import Inlined
from .rows_across import across
from .rows_along import along

__all__ = ["loop"]


def loop(definition: RowDefinition, dtype: type[np.floating[Any]], slopes: bool) -> Inlined:
    """The loop, with or without derivatives in the data."""
    short, long = across(definition, dtype, slopes), along(definition, dtype, slopes)
    count, size = len(definition.data), np.dtype(dtype).itemsize

    @inlined
    def is_across(dims, steps):
        """Tell whether rows go side by side."""
        beside = dims[1] <= BLOCK
        for k in range(count):
            beside &= steps[k] == size
        return dims[1] <= SHORT or beside

    def rows(args, dims, steps):
        if is_across(dims, steps):
            short(args, dims, steps)
        else:
            long(args, dims, steps)
        forget_flags()

    return rows
