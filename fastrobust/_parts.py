"""The parts of the package that need further libraries, imported when they are first asked for.

`fastrobust.optimize` and the others are attributes of the package, and yet `import fastrobust` brings neither SciPy nor
PyTorch.
"""

from __future__ import annotations

import sys
from types import ModuleType

from ._dispatch import INSTALL, NAMES, install
from .kernels.compilers.alone import imported

_LIBRARIES = {  # what each of them needs
    "activations": "numpy",
    "losses": "numpy",
    "math": "numpy",
    "optimize": "scipy",
    "stats": "scipy",
    "transforms": "numpy",
    "torch": "torch",
    "jax": "jax",
}


def part(name: str) -> ModuleType:
    """The part of that name, imported."""
    library = _LIBRARIES.get(name)
    if library is None:
        raise AttributeError(f"module 'fastrobust' has no attribute {name!r}")
    try:
        return imported(f"fastrobust.{name}")
    except ImportError as error:
        if not (error.name or "").startswith(library):  # of "jax", "jaxlib" is a part
            raise
        what, remedy = NAMES.get(library, "SciPy"), INSTALL.get(library, install("optimize"))
        raise ImportError(f"fastrobust.{name} needs {what}: {remedy}", name=error.name) from error


def installed() -> list[str]:
    """The parts whose library is there, as far as one can tell without importing it."""
    return [name for name, library in _LIBRARIES.items() if _is_there(library)]


def _is_there(library: str) -> bool:
    """Tell whether the library can be imported, or was; it is not imported for that."""
    if library in sys.modules:
        return sys.modules[library] is not None
    from importlib.util import find_spec  # which no other call needs

    return find_spec(library) is not None
