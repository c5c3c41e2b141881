"""CuPy's interface, as much as fastrobust uses, over NumPy memory; kernels run by `ptx_on_cpu`.

For the backend's logic where there is no GPU: layouts, dtypes, copies, out, errors.  Streams and devices are not in it.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import ptx_on_cpu


class ndarray(np.ndarray):
    """A NumPy array that answers as CuPy's would."""

    gpu = 0

    @property
    def data(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self) -> Any:  # type: ignore[override]
        return types.SimpleNamespace(id=self.gpu)

    def __getitem__(self, key: Any) -> Any:
        return _own(super().__getitem__(key))  # an array, of one element as well

    def __array__(self, *args: Any, **kws: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def get(self) -> Any:
        return self.view(np.ndarray).copy()


ndarray.__module__ = "cupy"


def _own(array: Any) -> Any:
    return np.asarray(array).view(ndarray) if not isinstance(array, ndarray) else array


class Device:
    def __init__(self, number: int) -> None:
        self.id = number

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *args: Any) -> None:
        pass


class Module:
    def load(self, text: bytes) -> None:
        self.kernel = ptx_on_cpu.load(text.decode())

    def get_function(self, name: str) -> Any:
        assert name == "kernel"

        def start(grid: Any, block: Any, words: Any) -> None:
            assert all(type(word) is np.int64 for word in words)
            launched.append((grid, block))
            self.kernel(*grid, *block, [int(word) for word in words])

        return start


launched: list[Any] = []


def _made(name: str) -> Any:
    def make(*args: Any, **kws: Any) -> Any:
        return _own(getattr(np, name)(*args, **kws))

    return make


_CREATION = ("arange", "asarray", "empty", "eye", "full", "ones", "zeros")
_LIKE = ("empty_like", "full_like", "ones_like", "zeros_like")
_SHAPES = ("atleast_1d", "broadcast_to", "concatenate", "diag", "moveaxis", "stack", "swapaxes")
_OTHERS = ("amax", "argmax", "argsort", "matmul", "median", "searchsorted", "sort", "sum", "where")
_EXPONENTS = ("cosh", "exp", "exp2", "expm1", "ldexp", "log", "log1p", "log2", "tanh")
_ELEMENTWISE = ("abs", "clip", "floor", "isfinite", "isinf", "maximum", "minimum", "sqrt")


def module() -> types.ModuleType:
    """A fresh module ``cupy``."""
    found: Any = types.ModuleType("cupy")
    found.ndarray, found.__version__ = ndarray, "0"
    for name in (*_CREATION, *_LIKE, *_SHAPES, *_OTHERS, *_EXPONENTS, *_ELEMENTWISE):
        setattr(found, name, _made(name))
    found.frexp = lambda a: tuple(map(_own, np.frexp(a)))
    found.result_type, found.linalg = np.result_type, np.linalg
    found.ascontiguousarray = lambda a, dtype=None: _own(np.ascontiguousarray(a, dtype))  # one axis at least, as CuPy's
    found.from_dlpack = lambda a: _own(np.from_dlpack(a))
    tricks = types.SimpleNamespace(as_strided=lambda a, *args: np.lib.stride_tricks.as_strided(a, *args, subok=True))
    found.lib = types.SimpleNamespace(stride_tricks=tricks)
    found.cuda = types.SimpleNamespace(
        Device=Device,
        function=types.SimpleNamespace(Module=Module),
        runtime=types.SimpleNamespace(
            cudaDevAttrMultiProcessorCount=16,
            cudaDevAttrComputeCapabilityMajor=75,
            cudaDevAttrComputeCapabilityMinor=76,
            deviceGetAttribute=lambda what, device: {16: 2, 75: 9, 76: 0}[what],
        ),
        get_current_stream=lambda: types.SimpleNamespace(is_capturing=lambda: False),
    )
    return found  # type: ignore[no-any-return]
