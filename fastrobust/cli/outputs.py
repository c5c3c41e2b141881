"""Output files, which appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterable, Mapping

from .common import UserError, reason

STDOUT = "-"


def destination(name: str) -> str:
    """The name, or ``-`` where it is a name of standard output, such as ``/dev/stdout``.

    Opened by its name, a file that standard output goes to as well would be written twice from its beginning.
    """
    return STDOUT if name == STDOUT or is_descriptor(name, 1) else name


def is_descriptor(name: str, number: int) -> bool:
    """Tell whether the name is of the file, pipe or terminal that this descriptor is open on."""
    try:
        return os.path.samestat(os.stat(name), os.fstat(number)) and not os.path.samefile(name, os.devnull)
    except OSError:
        return False


def same(one: str, other: str) -> bool:
    """Tell whether two names are of one file, which need not exist yet."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def check_writable(names: Iterable[str]) -> None:
    """Fail now, not after a long fit. Writes a probe beside each file and removes it."""
    for name in names:
        try:
            if _is_direct(name):
                continue
            if os.path.exists(name) and not os.access(name, os.W_OK):
                raise UserError(f"cannot write {name!r}: the file is read-only")
            probe = _beside(name)
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            os.unlink(probe)
        except OSError as error:
            raise UserError(f"cannot write {name!r}: {reason(error)}") from None


def write_files(contents: Mapping[str, bytes]) -> None:
    """Write all the files or none: everything goes to temporary names first, and is renamed when all are complete.

    Pipes and devices cannot be renamed to. They are written directly, once the temporary files are complete.
    """
    name = ""
    temporary: dict[str, str] = {}
    try:
        direct = {name for name in contents if _is_direct(name)}
        for name in sorted(contents, key=direct.__contains__):
            if name not in direct:
                temporary[name] = _beside(name)
            with open(temporary.get(name, name), "wb") as file:
                file.write(contents[name])
            with contextlib.suppress(FileNotFoundError):  # a file that is there keeps its permissions
                if name in temporary:
                    os.chmod(temporary[name], stat.S_IMODE(os.stat(name).st_mode))
        for name, ready in temporary.items():
            # A link is followed, so that the file it names is replaced, not the link.
            os.replace(ready, os.path.realpath(name))
    except OSError as error:
        raise UserError(f"cannot write {name!r}: {reason(error)}") from None
    finally:
        for leftover in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(leftover)


def _is_direct(name: str) -> bool:
    """Tell whether it is a pipe, a terminal or where complaints go; an error for what is no place for a file."""
    if not name or name.endswith(os.sep):
        raise UserError(f"cannot write {name!r}: it names no file")
    try:
        kind = os.stat(name).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(kind):
        return is_descriptor(name, 2)
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        return True
    what = "it is a directory" if stat.S_ISDIR(kind) else "it is neither a file, nor a pipe, nor a terminal"
    raise UserError(f"cannot write {name!r}: {what}")


def _beside(name: str) -> str:
    """A name for a temporary file in the same directory: a rename is atomic only within one file system."""
    return os.path.join(os.path.dirname(os.path.realpath(name)), f".fastrobust-{uuid.uuid4().hex}.tmp")
