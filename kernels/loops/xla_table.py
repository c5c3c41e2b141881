"""The table by which the handler of `xla` finds kernels: filled by Python when a kernel is first called for."""

from __future__ import annotations

import ctypes
import traceback
from typing import Any

import numpy as np

from ..compilers.alone import alone
from ..losses import catalogue  # noqa: F401 - so that ours are known
from . import compiled
from . import xla_frame as f

__all__ = ["handler", "seen"]


def _build(key: int) -> int:
    """The address of the kernel with that key, which from now on is in the table."""
    definition, mask = f.definition_of(key), f.mask_of(key)
    counts = len(definition.data), len(definition.operands)
    assert counts == (f.data_of(key), f.operands_of(key))  # which the digest implies
    dtype = np.float64 if key >> f.IS_DOUBLE & 1 else np.float32
    varies = key >> f.VARIES & 1
    if key >> f.IS_SUM & 1:
        names = ("value", *_chosen(definition.gradients, mask))
        address = compiled.kernel("reduction", definition, names, dtype, "columns" if varies else "shared")
    else:
        names = _chosen(definition.outputs, mask)
        address = compiled.kernel("elementwise", definition, names, dtype, "each" if varies else "shared")
    alone(lambda: _enter(_keep[0], key, address))
    return address


def _asked(key: int) -> int:
    """`_build` for the handler: 0 where there is no kernel; an exception would leave the result undefined."""
    try:
        return _build(key)
    except BaseException:
        traceback.print_exc()
        return 0


def _chosen(known: tuple[str, ...], mask: int) -> tuple[str, ...]:
    """The names whose bits are set in the mask."""
    return tuple(name for i, name in enumerate(known) if mask >> i & 1)


def _enter(table: Any, key: int, address: int) -> None:
    """Put a kernel into the table, if there is room: the key last, so that whoever finds it finds an address or 0."""
    for probe in range(f.PROBES):
        place = f.place_of(key, probe)
        if table[place] == 0:
            table[place + 1] = address
            table[place] = key
        if table[place] == key:
            return


_keep: list[Any] = []  # what the table points to


def handler() -> int:
    """The address of the handler, its table filled but for the kernels, which come when they are called for."""
    address, task, table_at = compiled.handler(f.WORDS)
    table = _table(table_at)
    resolve = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(_asked)
    messages = [ctypes.create_string_buffer(text.encode()) for text in f.MESSAGES]
    _keep.extend([table, resolve, messages])
    table[f.TASK], table[f.RESOLVE] = task, ctypes.cast(resolve, ctypes.c_void_p).value
    for i, message in enumerate(messages):
        table[f.MESSAGE + i] = ctypes.addressof(message)
    return address


def _table(address: int) -> Any:
    """The handler's table at that address, as words that Python reads and writes in place."""
    return (ctypes.c_int64 * f.WORDS).from_address(address)


def seen() -> tuple[int, int] | None:
    """The version of the interface that XLA has shown, if a program with the handler was compiled."""
    word = _keep[0][f.VERSION]
    return (word & 0xFFFFFFFF, word >> 32) if word else None
