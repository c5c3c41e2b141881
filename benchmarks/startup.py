"""What a process pays before its first result: the import, and a kernel's first call with and without a disk cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from .measure import ROOT, quartiles

IMPORT = "import time, numpy; t = time.perf_counter(); import fastrobust; print(time.perf_counter() - t)"
FIRST_CALL = """
import time, numpy as np, fastrobust as fr
x = np.linspace(-3, 3, 1000, dtype="{dtype}")
t = time.perf_counter(); {call}; print(time.perf_counter() - t)
"""
CALLS = {
    "loss": "fr.loss(x, 0.7, 1.5)",
    "influence": "fr.influence(x, 0.7, 1.5)",
    "weight": "fr.weight(x, 0.7, 1.5)",
    "curvature": "fr.curvature(x, 0.7, 1.5)",
    "log_partition": "fr.log_partition(abs(x))",
    "loss_and_grad": "fr.loss_and_grad(x, 0.7, 1.5)",
    "loss_and_grad mean": "fr.loss_and_grad(x, 0.7, 1.5, reduction='mean')",
    "nll_and_grad": "fr.nll_and_grad(x, 0.7, 1.5)",
}
KERNELS = [(name, "float32") for name in CALLS]
KERNELS += [("loss_and_grad", "float64")]


def _seconds(code: str, cache: str | None = None) -> float:
    environment = dict(os.environ) if cache is None else {**os.environ, "FASTROBUST_CACHE_DIR": cache}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a fresh process failed:\n{done.stderr}")
    return float(done.stdout)


def measurements(imports: int, cold: int, warm: int) -> Iterator[dict[str, Any]]:
    """Rows for the import, and for the first call of each kernel from an empty and from a filled cache directory."""
    _seconds(IMPORT)  # writes the bytecode
    yield {"work": "import", "rival": "fastrobust", **quartiles([_seconds(IMPORT) for _ in range(imports)])}
    for name, dtype in KERNELS:
        code = FIRST_CALL.format(dtype=dtype, call=CALLS[name])
        times = []
        with tempfile.TemporaryDirectory() as directory:
            for turn in range(cold):
                times.append(_seconds(code, os.path.join(directory, str(turn))))
            yield {"work": f"first call, cold: {name}", "rival": "fastrobust", "dtype": dtype, **quartiles(times)}
            times = [_seconds(code, os.path.join(directory, "0")) for _ in range(warm)]
            yield {"work": f"first call, warm: {name}", "rival": "fastrobust", "dtype": dtype, **quartiles(times)}
