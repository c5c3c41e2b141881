"""The one private interface of NumPy's that is used: its C function that makes a ufunc, reached without a C compiler.

C extensions find it through a header that NumPy ships, by the same table and the same entry, so it moves only where a
header says so.  There is nothing public to fall back on: where it is gone, an error says what moved, and pyproject.toml
admits no NumPy that has not been tried.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["ENTRY", "ufunc_over"]

# The entry that is PyUFunc_FromFuncAndDataAndSignature(functions, data, types, ntypes, nin, nout, identity, name, doc,
# unused, signature).
ENTRY = 31
_GONE = (
    "NumPy {} has no {}, by which fastrobust makes ufuncs of its kernels: install a NumPy that its requirements admit"
)
_borrowed: list[object] = []  # a ufunc points into these for ever


def ufunc_over(
    address: int, name: str, inputs: Sequence[DTypeLike], outputs: Sequence[DTypeLike], signature: str | None = None,
    data: int = 0,
) -> np.ufunc:  # fmt: skip
    """The ufunc of one inner loop, at that address, of arguments and results of these dtypes.

    With a signature it is a generalized one.  The loop gets ``data`` as its last argument.

    Raises
    ------
    ImportError
        Where NumPy has no table of C functions under the name that it has had since NumPy 2.0.
    """
    create = ctypes.PYFUNCTYPE(
        ctypes.py_object, *[ctypes.c_void_p] * 3, *[ctypes.c_int] * 4, *[ctypes.c_char_p] * 2, ctypes.c_int,
        ctypes.c_char_p,
    )(_table()[ENTRY])  # fmt: skip
    functions, handed = (ctypes.c_void_p * 1)(address), (ctypes.c_void_p * 1)(data)
    types = ctypes.create_string_buffer(bytes([np.dtype(dtype).num for dtype in (*inputs, *outputs)]))
    label = ctypes.create_string_buffer(name.encode())
    doc = ctypes.create_string_buffer(b"See the fastrobust function of that name.")
    made = create(
        ctypes.addressof(functions), ctypes.addressof(handed), ctypes.addressof(types),
        1, len(inputs), len(outputs), -1, ctypes.cast(label, ctypes.c_char_p), ctypes.cast(doc, ctypes.c_char_p), 0,
        None if signature is None else signature.encode(),
    )  # fmt: skip
    _borrowed.append((functions, handed, types, label, doc))
    return made


def _table() -> Any:
    """The table of NumPy's C functions for ufuncs, as an array of their addresses."""
    try:
        from numpy._core._multiarray_umath import _UFUNC_API
    except ImportError:
        where = "numpy._core._multiarray_umath._UFUNC_API"
        raise ImportError(_GONE.format(np.__version__, where)) from None
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    try:
        return ctypes.cast(address(_UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    except ValueError:  # it is no capsule, or one with a name
        raise ImportError(_GONE.format(np.__version__, "table of C functions in _UFUNC_API")) from None
