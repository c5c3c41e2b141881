"""The accuracy promised, in units in the last place: one table, read by the tests and by the README's generator."""

from __future__ import annotations

FLOAT32_FLOAT64 = {
    "loss": (4, 4),
    "influence": (4, 4),
    "weight": (4, 4),
    "dscale": (4, 4),
    "curvature": (8, 8),
    "dalpha": (8, 8),
    "log_partition": (2, 4),
    "log_partition_dalpha": (8, 32),
}

# The 16-bit formats are computed in float32 and rounded once.
BOUNDS: dict[str, dict[str, int]] = {
    name: {"float16": 1, "bfloat16": 1, "float32": single, "float64": double}
    for name, (single, double) in FLOAT32_FLOAT64.items()
}

# Functions with a zero are measured in the ulp of this magnitude, where it is larger than the value.
RELATIVE_TO: dict[str, str] = {"curvature": "weight", "log_partition": "1"}
