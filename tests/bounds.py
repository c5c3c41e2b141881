"""The accuracy promised, in units in the last place, by public name: the definitions' bounds, for tests and README."""

from __future__ import annotations

from fastrobust.kernels.losses.catalogue import LOG_PARTITION, LOSS
from fastrobust.kernels.losses.definition import Bound

_OWN: dict[str, Bound] = {
    "loss": LOSS.bounds["value"],
    "influence": LOSS.bounds["dx"],
    "weight": LOSS.bounds["weight"],
    "dscale": LOSS.bounds["dscale"],
    "curvature": LOSS.bounds["curvature"],
    "dalpha": LOSS.bounds["dalpha"],
    "log_partition": LOG_PARTITION.bounds["value"],
    "log_partition_dalpha": LOG_PARTITION.bounds["dalpha"],
}
FLOAT32_FLOAT64 = {name: (bound.single, bound.double) for name, bound in _OWN.items()}

# The 16-bit formats are computed in float32 and rounded once.
BOUNDS: dict[str, dict[str, float]] = {
    name: {"float16": 1, "bfloat16": 1, "float32": single, "float64": double}
    for name, (single, double) in FLOAT32_FLOAT64.items()
}

# Of float32 by the code without doubles, which GPUs run that are slow in double.
IN_WORDS = {name: bound.words for name, bound in _OWN.items() if bound.words}

# Functions with a zero are measured in the ulp of this magnitude, where it is larger than the value.
RELATIVE_TO: dict[str, str] = {name: bound.relative_to for name, bound in _OWN.items() if bound.relative_to}

# Inputs where the error is about the largest found, by public name, in float32 and in float64.
WITNESSES = {name: bound.witnesses for name, bound in _OWN.items()}
