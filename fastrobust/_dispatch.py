"""From an array's type to the backend that handles it, without importing any framework.

A type is looked up once, by the modules in its method resolution order, and remembered.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

# First module name of an array type -> what handles it; None: known, and not supported by this release.
_LIBRARIES: dict[str, str | None] = {
    "numpy": "fastrobust._backends.numpy",
    "cupy": "fastrobust._backends.cupy",
    "torch": "fastrobust.torch._autograd",
    "jax": "fastrobust.jax._autodiff",
    "jaxlib": "fastrobust.jax._autodiff",
    "dask": None,
}


def install(extras: str) -> str:
    """How to get what is optional. The package is on no index, so that its name alone would install nothing."""
    return f'pip install ".[{extras}]" in a clone of fastrobust'


INSTALL = {
    "cupy": f"{install('cuda')}, or the CuPy for your CUDA: cupy-cuda12x, cupy-cuda13x",
    "torch": install("torch"),
    "jax": install("jax"),
}
_PLAIN = frozenset((float, int, bool, list, tuple))  # what needs no library
_known: dict[type, ModuleType] = {}


def backend(x: Any, alpha: Any = 1.0, scale: Any = 1.0, weights: Any = None, leading: str = "x") -> ModuleType:
    """The backend for x (called ``leading`` in errors), which the other arguments must fit."""
    found = _known.get(type(x)) or _find(leading, x)
    kind = type(alpha)
    if kind not in _PLAIN and _known.get(kind) is not found:
        _fits("alpha", alpha, found, leading, x)
    kind = type(scale)
    if kind not in _PLAIN and _known.get(kind) is not found:
        _fits("scale", scale, found, leading, x)
    if weights is not None and type(weights) not in _PLAIN:
        _fits("weights", weights, found, leading, x)
    return found


def _fits(name: str, value: Any, found: ModuleType, leading: str, x: Any) -> None:
    """Refuse a value of another library; NumPy's float64 scalars are floats."""
    if not isinstance(value, (float, int)) and (_known.get(type(value)) or _find(name, value)) is not found:
        raise TypeError(
            f"{name} is a {_name(value)} and {leading} a {_name(x)}: convert one of them, to have one library"
        )


def remember(kinds: tuple[type, ...], module: ModuleType) -> None:
    """Say which module handles arrays of these types."""
    _known.update(dict.fromkeys(kinds, module))


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _find(name: str, value: Any) -> ModuleType:
    kind = type(value)
    if kind not in _known:
        libraries = [base.__module__.partition(".")[0] for base in kind.__mro__]
        library = next((lib for lib in libraries if lib in _LIBRARIES), None)
        # NumPy hands a ufunc over to whoever has __array_ufunc__, pandas for one; None there is a refusal.
        if library is None and (kind in _PLAIN or getattr(kind, "__array_ufunc__", None)):
            library = "numpy"
        if library is None and _on_cuda(value):
            library = "cupy"
        module = _LIBRARIES[library] if library else None
        if module is None:
            why = f"support for {library} is not in this release" if library else "its type is not known"
            raise TypeError(
                f"{name} is a {_name(value)}: {why}. Supported: arrays of NumPy, CuPy and JAX, PyTorch tensors, CUDA "
                "arrays that speak DLPack, numbers, and lists of numbers; convert it with numpy.asarray()."
            )
        try:
            _known[kind] = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if library is None or error.name != library:
                raise
            raise ImportError(
                f"{name} is a {_name(value)}, for which {library} is missing: {INSTALL[library]}"
            ) from None
    return _known[kind]


def _on_cuda(value: Any) -> bool:
    """Whether it is memory of an NVIDIA GPU, which CuPy can see without a copy."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and where()[0] == 2  # kDLCUDA
