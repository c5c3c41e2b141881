"""What every command needs: one kind of error, optional packages, output files that are whole or absent, progress."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class UserError(Exception):
    """Something the user can put right. ``main`` prints it as one line and ends with status 2."""


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
        raise UserError(f'{" and ".join(missing)} {verb} not installed: pip install "fastrobust[{extras}]"')


def reason(error: OSError) -> str:
    return error.strerror or str(error)


def check_writable(paths: Iterable[Path]) -> None:
    """Fail now, not after a long fit. Writes a probe beside each path and removes it."""
    for path in paths:
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {str(path)!r}: it is not a regular file")
        if path.exists() and not os.access(path, os.W_OK):
            raise UserError(f"cannot write {str(path)!r}: the file is read-only")
        probe = _beside(path)
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise UserError(f"cannot write {str(path)!r}: {reason(error)}") from None


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write all the files or none: everything goes to temporary names first, and is renamed when all are complete."""
    temporary = {path: _beside(path) for path in contents}
    path = Path()
    try:
        for path, content in contents.items():
            temporary[path].write_bytes(content)
        for path, name in temporary.items():
            # A link is followed, so that the file it names is replaced, not the link.
            os.replace(name, os.path.realpath(path))
    except OSError as error:
        raise UserError(f"cannot write {str(path)!r}: {reason(error)}") from None
    finally:
        for name in temporary.values():
            with contextlib.suppress(OSError):
                name.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # The same directory, because a rename is atomic only within one file system.
    real = Path(os.path.realpath(path))
    return real.with_name(f".fastrobust-{uuid.uuid4().hex}.tmp")


class Progress:
    """A status line on stderr for work that takes longer than a second; silent when stderr is not a terminal."""

    def __init__(self) -> None:
        self._status: Any = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._timer = threading.Timer(1.0, self._status.start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def tell(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            self._status.stop()
