"""NumPy arrays: ufuncs over the CPU kernels, threads for large arrays, reductions in one pass.

What the dispatcher asks of a backend is here: `evaluate`, `weighted`, `reduce`, `closed_forms`, and ``xp``, the
library's functions.
The other names serve those who hand NumPy arrays on: the containers, and the tensors on the CPU.  Shapes, dtypes and
memory are handled here; the arithmetic is not.
"""

from __future__ import annotations

import numpy as xp

from ...kernels.loops.panels import PARALLEL as PARALLEL
from .elementwise import evaluate as evaluate
from .elementwise import weighted as weighted
from .operands import LARGEST as LARGEST
from .operands import array as array
from .operands import limits as limits
from .sums import reduce as reduce
from .ufuncs import ufunc_for as ufunc_for

closed_forms = True
row_kernels = "fastrobust._backends.numpy.rows"

__all__ = [
    "LARGEST",
    "PARALLEL",
    "array",
    "closed_forms",
    "evaluate",
    "limits",
    "reduce",
    "row_kernels",
    "ufunc_for",
    "weighted",
    "xp",
]
