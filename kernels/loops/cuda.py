"""The CUDA kernels by kind: each function makes one; `ptx` compiles them, a backend launches them.

A kernel's parameters are words (see `cuda_words`).  Blocks have `launch.THREADS` threads along x, the grid any number;
a thread strides over the elements.
"""

from __future__ import annotations

from .cuda_elements import elementwise as elementwise
from .cuda_rows import rows as rows
from .cuda_sums import fold as fold
from .cuda_sums import reduction as reduction
from .cuda_sums import total as total
from .cuda_words import SIGNATURE as SIGNATURE

__all__ = ["SIGNATURE", "elementwise", "fold", "reduction", "rows", "total"]
