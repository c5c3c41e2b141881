"""The CuPy backend over a stand-in for CuPy (see fake_cupy); on a GPU the same checks run in test_gpu."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gpu_checks
import numpy as np
import pytest
from marks import slow

import fastrobust as fr

MANY = gpu_checks.every_function_and_dtype, gpu_checks.sums_of_other_dtypes  # kernels to compile
OTHERS = [check for check in gpu_checks.CHECKS if check not in MANY]


@pytest.mark.parametrize("check", [*OTHERS, *slow(*MANY)], ids=lambda check: check.__name__)
def test_backend(check: Any, fake_cupy: Any) -> None:
    check(fake_cupy)


def test_arrays_on_two_devices_are_refused(fake_cupy: Any) -> None:
    x, alpha = fake_cupy.asarray(np.ones(3, np.float32)), fake_cupy.asarray(np.ones(3, np.float32))
    alpha.gpu = 1
    with pytest.raises(ValueError, match="alpha is on GPU 1 and x on GPU 0"):
        fr.loss(x, alpha, 1.0)
    with pytest.raises(ValueError, match="weights is on GPU 1 and x on GPU 0"):
        fr.loss(x, 1.0, 1.0, weights=alpha)
    with pytest.raises(ValueError, match="out for value is on GPU 1 and x on GPU 0"):
        fr.loss(x, 1.0, 1.0, out=alpha)


def test_cuda_memory_of_others_comes_in_without_a_copy(fake_cupy: Any) -> None:
    class Foreign:
        """Like numba's device arrays: of no library that the dispatcher knows."""

        def __init__(self, array: Any) -> None:
            self.array = array
            self.__cuda_array_interface__ = {"version": 3}

        def __dlpack__(self, **kws: Any) -> Any:
            return self.array.__dlpack__(**kws)

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()  # type: ignore[no-any-return]

    x = np.linspace(-3, 3, 100, dtype=np.float32)
    found = fr.loss(Foreign(x), 0.5, 1.5)
    assert type(found) is fake_cupy.ndarray
    np.testing.assert_allclose(found.get(), fr.loss(x, 0.5, 1.5), rtol=1e-6)


def test_without_cupy_the_error_says_what_to_install() -> None:
    """An array that calls itself CuPy's, in a process that cannot import CuPy."""
    code = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "cupy":
            raise ModuleNotFoundError("No module named 'cupy'", name="cupy")
sys.meta_path.insert(0, Missing())
import numpy as np, fastrobust as fr
Array = type("ndarray", (), {"__module__": "cupy"})
try:
    fr.loss(Array(), 1.0, 1.0)
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install" in done.stdout and "cupy-cuda" in done.stdout
