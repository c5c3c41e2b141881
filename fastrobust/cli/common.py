"""The ground of every command: one kind of error, optional packages, text in one line, progress."""

from __future__ import annotations

import importlib
import sys
import threading
from types import TracebackType
from typing import Any

from fastrobust._dispatch import install


class UserError(Exception):
    """An error that the user can put right. ``main`` prints it as one line and ends with status 2."""


def require(*packages: str) -> None:
    """Stop before any work starts when a package of the ``cli`` or ``plot`` extra is missing."""
    missing = []
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(package)
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        extras = "cli,plot" if "matplotlib" in missing else "cli"
        raise UserError(f"{' and '.join(missing)} {verb} not installed: {install(extras)}")


def threads() -> int:
    """The number of threads that share a large call; stop before any work starts when the environment's is none."""
    from fastrobust import _threads

    try:
        return _threads.count()
    except ValueError as error:
        raise UserError(str(error)) from None


def reason(error: OSError) -> str:
    """The system's words for an error, without the file's name, which the message has already."""
    return error.strerror or str(error)


def printable(text: str) -> str:
    """The text with what is no character to look at, such as line breaks and a terminal's commands, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(text: str, limit: int = 40) -> str:
    """The text in quotes, for an error: in one line, and short."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


class Progress:
    """A status line on stderr for work that takes longer than a second; silent when stderr is not a terminal."""

    def __init__(self) -> None:
        self._status: Any = None  # of rich, where there is a terminal
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Progress:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("", spinner="line")  # of ASCII, for every terminal
            self._timer = threading.Timer(1.0, self._status.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def tell(self, text: str) -> None:
        """Say what is being done now."""
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(printable(text)))  # a file's name may look like markup

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._status.stop()
