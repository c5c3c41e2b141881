"""The table by which the handler of `xla` finds kernels: filled by Python when a kernel is first called for."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ..losses.signatures import LOSS, PARTITION
from . import compiled
from .xla_frame import (
    FAMILIES,
    KERNELS,
    LAYOUTS,
    MESSAGE,
    MESSAGES,
    OUTPUTS,
    PARTITIONS,
    RESOLVE,
    SUMS,
    TASK,
    VERSION,
    WORDS,
)

__all__ = ["handler", "seen"]


def _build(slot: int) -> int:
    """The address of the kernel that belongs at that place of the table."""
    code, rest = divmod(slot - KERNELS, 4)
    dtype, layout = (np.float32, np.float64)[rest // 2], rest % 2
    if code >= SUMS:
        family, mask = divmod(code - SUMS, 8)
        outputs = ("value", *_names(LOSS.gradients, mask))
        return compiled.kernel("reduction", FAMILIES[family], outputs, dtype, ("shared", "columns")[layout])
    if code >= PARTITIONS:
        return compiled.kernel("partition", _names(PARTITION, code - PARTITIONS), dtype)
    family, mask = divmod(code, 1 << len(OUTPUTS))
    return compiled.kernel("elementwise", FAMILIES[family], _names(OUTPUTS, mask), dtype, LAYOUTS[layout])


def _names(known: tuple[str, ...], mask: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(known) if mask >> i & 1)


_keep: list[Any] = []  # what the table points to


def handler() -> int:
    """The address of the handler, its table filled but for the kernels, which come when they are called for."""
    address, task, table_at = compiled.handler(WORDS)
    table = _table(table_at)
    resolve = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(_build)
    messages = [ctypes.create_string_buffer(text.encode()) for text in MESSAGES]
    _keep.extend([table, resolve, messages])
    table[TASK], table[RESOLVE] = task, ctypes.cast(resolve, ctypes.c_void_p).value
    for i, message in enumerate(messages):
        table[MESSAGE + i] = ctypes.addressof(message)
    return address


def _table(address: int) -> Any:
    return (ctypes.c_int64 * WORDS).from_address(address)


def seen() -> tuple[int, int] | None:
    """The version of the interface that XLA has shown, if a program with the handler was compiled."""
    word = _keep[0][VERSION]
    return (word & 0xFFFFFFFF, word >> 32) if word else None
