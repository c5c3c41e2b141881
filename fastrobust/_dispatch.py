"""From an array's type to the backend that handles it, without importing any framework.

A type is looked up once, by the modules in its method resolution order, and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from ._call import Backend
from .kernels.compilers.alone import imported

# First module name of an array type -> what handles it; None: known, and not supported by this release.
_LIBRARIES: dict[str, str | None] = {
    "numpy": "fastrobust._backends.numpy",
    "cupy": "fastrobust._backends.cupy",
    "torch": "fastrobust.torch._routes",
    "jax": "fastrobust.jax._autodiff",
    "jaxlib": "fastrobust.jax._autodiff",
    "dask": None,
}
_CONTAINERS = "fastrobust._containers"  # what means more than its numbers, which are NumPy's
_OVER_NUMPY = (_LIBRARIES["numpy"], _CONTAINERS)


def install(extras: str) -> str:
    """The command that installs these extras. The package is on no index: its name alone would install nothing."""
    return f'pip install ".[{extras}]" in a clone of fastrobust'


INSTALL = {
    "cupy": f"{install('cuda')}, or the CuPy for your CUDA: cupy-cuda12x, cupy-cuda13x",
    "torch": install("torch"),
    "jax": install("jax"),
}
NAMES = {"numpy": "NumPy", "cupy": "CuPy", "torch": "PyTorch", "jax": "JAX", "dask": "Dask"}
SUPPORTED = tuple(library for library in NAMES if _LIBRARIES[library])  # by this release
_NUMBERS = frozenset((float, int, bool))
_PLAIN = _NUMBERS | {list, tuple}  # what needs no library
_known: dict[type, Backend] = {}


def backend(value: object, name: str = "x") -> Backend:
    """The backend for one array, called so in errors."""
    return _known.get(type(value)) or _find(name, value)


def common(names: Sequence[str], operands: Sequence[object], weights: object = None) -> Backend:
    """The backend for the first of these operands, which the others and weights must fit."""
    first = type(operands[0])
    target = _known.get(first)
    if target is None or (weights is not None and type(weights) not in _NUMBERS):
        return _common(names, operands, weights)
    for value in operands:
        kind = type(value)
        if kind is not float and kind is not first and _known.get(kind) is not target and kind not in _NUMBERS:
            return _common(names, operands, weights)
    return target


def _common(names: Sequence[str], operands: Sequence[object], weights: object) -> Backend:
    """The backend of `common`, with each type looked up that is not known yet, and errors for strangers."""
    (leading, *others), (x, *values) = names, operands
    target = backend(x, leading)
    for name, value in zip(others, values, strict=True):
        target = joined(name, value, target, leading, x)
    return target if weights is None else joined("weights", weights, target, leading, x)


def joined(name: str, value: object, target: Backend, leading: str, x: object) -> Backend:
    """The backend for x and one argument more, which is not of another library; float64 scalars are floats."""
    numpy = _module(target) in _OVER_NUMPY
    if isinstance(value, (float, int)) or (type(value) in _PLAIN and not numpy):
        return target
    other = _known.get(type(value)) or _find(name, value)
    if other is target:
        return target
    if numpy and _module(other) in _OVER_NUMPY:
        return target if _module(target) == _CONTAINERS else other
    raise TypeError(f"{name} is a {shown(value)} and {leading} a {shown(x)}: convert one of them, to have one library")


def _module(target: Backend) -> str | None:
    """The name of a backend that is a module."""
    return getattr(target, "__name__", None)


def is_container(target: Backend) -> bool:
    """Tell whether a backend is that of containers, which mean more than their numbers."""
    return _module(target) == _CONTAINERS


def remember(kinds: tuple[type, ...], target: Backend) -> None:
    """Say what handles arrays of these types: a module, or any object that is a `Backend`."""
    _known.update(dict.fromkeys(kinds, target))


def shown(value: object) -> str:
    """The type, for a message."""
    return _shown(type(value))


def _shown(kind: type) -> str:
    """The name of a type with that of its module, where it has one."""
    return f"{kind.__module__}.{kind.__qualname__}" if kind.__module__ else kind.__qualname__


def origins(kind: type) -> list[str]:
    """The libraries that a type and its bases come from; a class made at run time may say none."""
    return [str(base.__module__).partition(".")[0] for base in kind.__mro__]


def _find(name: str, value: object) -> Backend:
    """The backend for a value whose type may not be known yet, and then is.

    A type belongs to the first library in its method resolution order that is listed; else to NumPy where it is a
    number or list of Python's, to the containers where NumPy hands ufuncs over to it, and to CuPy where it is memory of
    a GPU.
    """
    kind = type(value)
    if kind in (list, tuple):
        _check_elements(name, value)
        kind = float  # which is handled alike
    if kind not in _known:
        library = next((origin for origin in origins(kind) if origin in _LIBRARIES), None)
        if library == "numpy" and not _of_numpy(kind):
            library = None
        module = _LIBRARIES[library] if library else None
        if library is None:
            # NumPy hands a ufunc over to whoever has __array_ufunc__, pandas for one; None there is a refusal.
            if kind in _PLAIN:
                module = _LIBRARIES["numpy"]
            elif getattr(kind, "__array_ufunc__", None):
                module = _CONTAINERS
            elif _on_cuda(value):
                library, module = "cupy", _LIBRARIES["cupy"]
        if module is None:
            why = f"support for {library} is not in this release" if library else "its type is not known"
            remedy = "convert it with numpy.asarray()" if library else _remedy(name, value)
            *most, last = (NAMES[supported] for supported in SUPPORTED)
            raise TypeError(
                f"{name} is a {shown(value)}: {why}. Supported: arrays of {', '.join(most)} and {last}, CUDA arrays "
                f"that speak DLPack, numbers, and lists of numbers; {remedy}."
            )
        try:
            _known[kind] = cast(Backend, imported(module))
        except ModuleNotFoundError as error:
            if library is None or error.name != library:
                raise
            raise ImportError(
                f"{name} is a {shown(value)}, for which {library} is missing: {INSTALL[library]}"
            ) from None
    return _known[kind]


def _of_numpy(kind: type) -> bool:
    """Tell whether it is NumPy's own array or scalar type, whose values are numbers and no more."""
    classes = [base.__name__ for base in kind.__mro__ if base.__module__ == "numpy"]
    return "generic" in classes or (kind.__module__ == "numpy" and kind.__name__ in ("ndarray", "memmap"))


def _check_elements(name: str, value: Any) -> None:
    """Refuse lists of what NumPy would strip of its units, labels or gradients to make an array of them."""
    for kind in set(map(type, value)):
        if kind in (list, tuple):
            for part in value:
                if type(part) is kind:
                    _check_elements(name, part)
        elif kind not in _NUMBERS and not _of_numpy(kind) and _is_array(kind):
            raise TypeError(
                f"{name} is a {type(value).__name__} of {_shown(kind)}: make it one array, with "
                "that library's own function, or a list of numbers"
            )


def _is_array(kind: type) -> bool:
    """Tell whether NumPy, or another library by DLPack, would make an array of a value of that type."""
    return any(getattr(kind, name, None) for name in ("__array_ufunc__", "__array__", "__dlpack__"))


def _remedy(name: str, value: object) -> str:
    """The words for how to make an array or a number of a value of an unknown type."""
    if hasattr(value, "toarray"):
        return f"convert it with {name}.toarray(): what is not stored counts as 0"
    if "netCDF4" in origins(type(value)):
        return f"read it with {name}[...], which masks what is missing"
    if isinstance(value, complex):
        return "pass its real part, or its absolute value"
    if isinstance(value, (type, str, bytes, dict)):
        return "pass a number or an array of numbers instead"
    if hasattr(value, "__array__") or _has_buffer(value):
        return "convert it with numpy.asarray()"
    if hasattr(value, "__float__"):
        return "convert it with float()"
    if hasattr(value, "__iter__"):
        return "convert it with list(), if it holds numbers"
    return "pass a number or an array of numbers instead"


def _has_buffer(value: Any) -> bool:
    """Tell whether it offers its memory by Python's buffer protocol, as an `array.array` does."""
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _on_cuda(value: object) -> bool:
    """Tell whether it is memory of an NVIDIA GPU, which CuPy can see without a copy."""
    if hasattr(value, "__cuda_array_interface__"):
        return True
    where = getattr(value, "__dlpack_device__", None)
    return where is not None and where()[0] == 2  # kDLCUDA
