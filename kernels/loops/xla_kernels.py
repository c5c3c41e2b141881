"""The kernel of a call, found by its key in the table that Python fills (see `xla_table`)."""

from __future__ import annotations

from ..arithmetic.primitives import inlined
from . import xla_frame as f
from .xla_machine import ask

__all__ = ["kernel_of"]


@inlined
def kernel_of(table, code, doubles, varies):
    """The address of the kernel for such numbers and parameters; 0 if there is none."""
    key = code & ~(1 << f.IS_MEAN | 1 << f.HAS_WEIGHTS)
    key |= (1 << f.IS_DOUBLE if doubles else 0) | (1 << f.VARIES if varies else 0)
    for probe in range(f.PROBES):
        place = f.place_of(key, probe)
        if table[place] == key and table[place + 1] != 0:
            return table[place + 1]
        if table[place] == 0:
            break
    return ask(table[f.RESOLVE], key)
