"""Smoke test of an installed fastrobust without extras: run from outside the repository with nothing but the wheel."""

import subprocess
import sys
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np

import fastrobust as fr

assert "site-packages" in Path(fr.__file__).parts, f"not the installed package: {fr.__file__}"
assert version("fastrobust") == fr.__version__
x = np.linspace(-5, 5, 1001, dtype=np.float32)
g = fr.nll_and_grad(x, 1.0, np.float32(0.5), reduction="mean")
assert g.dx.dtype == np.float32
np.testing.assert_allclose(
    g.value, (np.sqrt((x / 0.5) ** 2 + 1) - 1).mean() + np.log(0.5 * 3.272306972526517), rtol=1e-6
)
info = subprocess.run([sys.executable, "-m", "fastrobust", "--help"], capture_output=True, text=True)
assert info.returncode == 0, info.stderr
print(f"fastrobust {fr.__version__} works from its wheel; requires {requires('fastrobust')[:2]}")
