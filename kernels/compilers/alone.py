"""The imports and the compilation of a first call, which must be done alone and whole.

Two things break a process for good.  A child forked while another thread imports a module never gets that module: the
lock on it is held by a thread that the child lacks.  And an exception out of a signal handler, as of Ctrl-C, in the
middle of an import leaves a package without its parts, or Numba's tables half filled.  So whatever a call imports or
compiles goes through `alone`, and a fork waits for it; a test looks for imports elsewhere.

Signals are put off, rather than the work into a thread of its own, which could wait for ever for what the caller holds:
the lock on a module whose import makes the first call, or that of a logging handler.  The price: Ctrl-C waits for the
kernel that is being compiled, seconds, which is in the cache then.
"""

from __future__ import annotations

# Before a fork, loggers are locked too, and who registered last is asked first.  Numba asks for loggers under our lock.
import importlib
import logging  # noqa: F401
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["alone", "imported", "uninterrupted"]

Result = TypeVar("Result")
_lock = threading.RLock()


def alone(work: Callable[[], Result]) -> Result:
    """Return work(), while no other thread does such work, no child is born, and no signal handler cuts it short."""
    with _lock:
        return uninterrupted(work)


def imported(module: str) -> ModuleType:
    """The module of that name, whole."""
    loaded = sys.modules.get(module)
    if loaded is None or getattr(getattr(loaded, "__spec__", None), "_initializing", False):
        return alone(lambda: importlib.import_module(module))
    return loaded


def uninterrupted(work: Callable[[], Result]) -> Result:
    """Return work(), and handle the signals that arrive meanwhile when it is done: all, since any handler may raise."""
    handlers: dict[int, Any] = {}
    arrived: dict[int, None] = {}

    def note(number: int, frame: Any) -> None:
        arrived[number] = None

    def restore() -> None:
        """Put all handlers back, then have them called for what has arrived, also if one of them raises."""
        try:
            while handlers:
                number = next(reversed(handlers))
                if signal.getsignal(number) is note:  # else somebody has set another one meanwhile
                    signal.signal(number, handlers[number])
                del handlers[number]
            while arrived:
                signal.raise_signal(arrived.popitem()[0])
        finally:
            if handlers or arrived:  # a handler that is in force again has raised
                restore()

    try:
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, note)
    except BaseException as error:
        if isinstance(error, ValueError) and not any(signal.getsignal(n) is note for n in handlers):
            return work()  # not the main thread, which is the only one that handlers run in
        restore()
        raise
    try:
        return work()
    finally:
        restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: uninterrupted(_lock.acquire),  # an exception here would not keep the child from being born
        after_in_parent=_lock.release,
        after_in_child=_lock.release,
    )
