"""The sizes in which the CPU's loops share out and sum up their work: the same for NumPy arrays as for XLA's.

A sum's bits depend on its panels, so whoever drives the kernels takes them from here.  No framework, nor Numba.
"""

from __future__ import annotations

__all__ = ["BLOCK", "LANES", "PANEL", "PANELS_MAX", "PARALLEL", "ROWS", "SHORT", "STREAM", "SUMS_MAX", "TILE"]

PARALLEL = 1 << 17  # elements from which on threads pay for their start (about 50 us)
STREAM = 1 << 24  # bytes of an output from which on it goes past the caches
TILE = 1024  # shorter rows of parameters are repeated up to about this many elements, which the cache holds
PANEL = 1 << 16  # elements of a reduction that are summed in one go; fixed, so that sums do not depend on the threads
LANES = 16  # elements of a vector, whatever the registers hold
BLOCK = 256  # elements that are evaluated at a time; 64, 128 and 512 are slower
ROWS = 16  # rows whose results are evaluated together
SHORT = 64  # elements of a row up to which it pays to turn it, so that each row has a lane of its own
PANELS_MAX, SUMS_MAX = 64, 1 << 22  # panels of a reduction by columns, and the doubles that they may take together
