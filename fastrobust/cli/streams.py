"""The standard streams and signals of a command: what is written arrives whole, or is an error in one line."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from .common import UserError, reason


class ReaderLeft(Exception):
    """Standard output is a pipe, and whoever read from it, such as head or less, has ended."""


class Output:
    """Standard output as a file for others to write to, with the errors of `say`."""

    @property
    def encoding(self) -> str:
        """The encoding of standard output, which rich asks for to choose characters."""
        return getattr(sys.stdout, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Tell whether standard output is a terminal."""
        return sys.stdout.isatty()

    def fileno(self) -> int:
        """The descriptor of standard output."""
        return sys.stdout.fileno()

    def write(self, text: str) -> int:
        """Write text at once, by `say`, and return the number of characters."""
        say(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: `say` has flushed."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Streams that take every character, and signals that let temporary files go, for the length of a command."""
    # A closed descriptor would be given to the next file that is opened, and what is meant for a stream would land
    # there. Opening takes the lowest number that is free: this one.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    stream: Any = sys.stdout
    errors = stream.errors if isinstance(stream, io.TextIOWrapper) else None
    # A terminal in ASCII or Latin-1 shows "?" for a name in another script. The C locale's surrogateescape knows none.
    replaces = errors in ("strict", "surrogateescape")
    if replaces:
        stream.reconfigure(errors="replace")
    ending = (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    ours = [number for number in ending if signal.getsignal(number) is signal.SIG_DFL]  # nohup ignores SIGHUP: so do we
    with contextlib.suppress(ValueError):  # only the main thread may set them
        for number in ours:
            signal.signal(number, _end)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            for number in ours:
                signal.signal(number, signal.SIG_DFL)
        if replaces:
            stream.reconfigure(errors=errors)


def _end(number: int, frame: object) -> None:
    """Leave with the status of that signal; should the way out hang, the next signal ends the process at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def say(text: str) -> None:
    """Write text to standard output, at once."""
    if text:
        _write(text, binary=False)


def say_bytes(content: bytes) -> None:
    """Write bytes to standard output as they are, in whatever encoding the terminal is."""
    _write(content, binary=True)


def _write(content: Any, binary: bool) -> None:
    """Write all of it, text or bytes, and flush; a reader that has left is one error, a full disk another."""
    check_open()
    stream = sys.stdout
    try:
        if not binary:
            stream.write(content)
        elif hasattr(stream, "buffer"):
            rest = memoryview(content)
            while rest:  # unbuffered, as PYTHONUNBUFFERED has it, a write may be of a part
                rest = rest[stream.buffer.write(rest) :]
            stream.buffer.flush()
        else:
            stream.write(content.decode())
        stream.flush()
    except BrokenPipeError:
        _silence(stream)
        raise ReaderLeft from None
    except OSError as error:
        _silence(stream)
        raise UserError(f"cannot write to standard output: {reason(error)}") from None


def check_open() -> None:
    """Fail now, not after a long fit, when there is no standard output."""
    if sys.stdout is None:
        raise UserError("standard output is closed: redirect it, to /dev/null if it is not wanted")


def complain(text: str) -> None:
    """Write a line to standard error. Where that fails there is nobody left to tell."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let what is left in the stream's buffer go nowhere: at exit it would fail again, with a status of its own."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
