"""XLA's interface from the handler's side: a frame's buffers, errors, the version, the number of threads."""

from __future__ import annotations

import numpy as np

from ..arithmetic.primitives import inlined, min
from . import xla_frame as f
from .memory import WORD, address_of, pointer, scratch
from .xla_machine import ask

__all__ = [
    "BAD_SHAPES",
    "BAD_TYPES",
    "BAD_VERSION",
    "NO_KERNEL",
    "NO_MEMORY",
    "buffer_of",
    "described",
    "elements_of",
    "failed",
    "threads_of",
]

BAD_VERSION, BAD_TYPES, BAD_SHAPES, NO_KERNEL, NO_MEMORY = range(5)  # messages


@inlined
def failed(frame, table, message, code):
    """An error for XLA, if its interface has one as known here."""
    api = pointer(frame[f.FRAME_API], WORD)
    args = scratch(4, WORD)
    args[0], args[1], args[2], args[3] = f.ERROR_CREATE_SIZE, 0, table[f.MESSAGE + message], code
    return ask(api[f.API_ERROR_CREATE], address_of(args))


@inlined
def described(frame, table):
    """Answer XLA's question for the version: the lower of its own and ours; note its own."""
    extension = pointer(frame[f.FRAME_EXTENSION], WORD)
    if extension[1] & 0xFFFFFFFF == f.METADATA:
        theirs = f.API_OLDEST << 32
        if frame[f.FRAME_API] != 0:
            theirs = pointer(frame[f.FRAME_API], WORD)[f.API_VERSION]
        table[f.VERSION] = theirs
        metadata = pointer(extension[f.EXTENSION_METADATA], WORD)
        metadata[f.METADATA_VERSION] = f.API_MAJOR | min(theirs >> 32, f.API_MINOR) << 32
        pointer(address_of(metadata) + 8 * f.METADATA_TRAITS, np.uint32(0))[0] = np.uint32(0)
    return 0


@inlined
def buffer_of(frame, vector, i):
    """The buffer of operand or result i; ``vector`` says where the frame has the list."""
    return pointer(pointer(frame[vector[1]], WORD)[i], WORD)


@inlined
def elements_of(buffer):
    """The number of elements in a buffer."""
    total = 1
    for axis in range(buffer[f.BUFFER_RANK]):
        total *= pointer(buffer[f.BUFFER_DIMS], WORD)[axis]
    return total


@inlined
def threads_of(frame):
    """The number of XLA's threads, at most 64; 1 if it does not say."""
    count, args = scratch(1, WORD), scratch(4, WORD)
    api = pointer(frame[f.FRAME_API], WORD)
    count[0] = 1
    args[0], args[1], args[2], args[3] = f.THREADS_SIZE, 0, frame[f.FRAME_CONTEXT], address_of(count)
    error = ask(api[f.API_THREADS], address_of(args))
    if error != 0:
        args[0], args[1], args[2] = f.ERROR_DESTROY_SIZE, 0, error
        ask(api[f.API_ERROR_DESTROY], address_of(args))
        return 1
    return min(count[0], 64)
