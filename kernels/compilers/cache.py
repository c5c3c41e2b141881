"""The disk cache of compiled kernels.

The key is a digest of the sources that the kernel is made from (see `sources`), the versions of Python, NumPy, Numba
and llvmlite, the target, and the kernel's name.  A cache file begins with a digest of its key and payload, is written
to a temporary name and renamed.  Its machine code is run as found: it must be a regular file of this user's, in a
directory that is `private`; a directory that is not is refused with a warning.  One that cannot be written means:
compile again in the next process.  ``FASTROBUST_CACHE_DIR`` moves the cache; an empty value turns it off.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from . import sources
from .private import Opened, Unsafe, opened

__all__ = ["Unsafe", "clear", "directory", "fetch", "kernels", "name_of"]

Loaded = TypeVar("Loaded")


def _flags(*names: str) -> int:
    """The flags of these names that this system has, together."""
    return sum(getattr(os, name, 0) for name in names)


LARGEST = 1 << 26  # bytes of a file that is read: a hundred times a kernel's
_OURS = re.compile(r"[0-9a-f]{32}(\.o|.*\.tmp)")  # names of cache files
# A link is not followed, a FIFO not waited for, and Windows changes no line ends.
_READ = os.O_RDONLY | _flags("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flags("O_CLOEXEC", "O_BINARY")


def directory() -> Path | None:
    """The directory where compiled kernels are kept, or None if the cache is off or there is no home directory.

    Raises
    ------
    Unsafe
        If ``FASTROBUST_CACHE_DIR`` names no directory.
    """
    chosen = os.environ.get("FASTROBUST_CACHE_DIR")
    if chosen is not None:
        return _absolute(chosen) if chosen else None
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", ("AppData", "Local")
    elif sys.platform == "darwin":
        variable, default = "", ("Library", "Caches")
    else:
        variable, default = "XDG_CACHE_HOME", (".cache",)
    base = Path(os.environ.get(variable) or "")
    if not base.is_absolute():  # a relative one is to be ignored, says the specification
        try:
            home = Path.home()
        except RuntimeError:  # a user id without an account, as in containers
            return None
        if not home.is_absolute() or not os.path.isdir(home):  # as of accounts of services, which nobody wants made
            return None
        base = home.joinpath(*default)
    return base / "fastrobust"


@functools.cache
def _absolute(chosen: str) -> Path:
    """The directory that the variable names; a relative one stays where it was at first, if the process moves."""
    try:
        path = Path(chosen).expanduser()
        return path if path.is_absolute() else Path.cwd() / path
    except RuntimeError:
        what = "for which there is no home directory"
    except OSError:
        what = "and there is no current directory"
    raise Unsafe(f"FASTROBUST_CACHE_DIR is {chosen!r}, {what}: set it to an absolute path")


@contextlib.contextmanager
def _opened(create: bool = False) -> Iterator[Opened | None]:
    """The cache's directory, or None if there is none that may be used, with a warning if it is not safe."""
    with contextlib.ExitStack() as stack:
        folder = None
        try:
            if (where := directory()) is not None:
                folder = stack.enter_context(opened(str(where), create))
        except Unsafe as why:
            _warn(str(why))
        except OSError:
            pass  # missing, read-only, not a directory
        yield folder


_warned: set[str] = set()


def _warn(why: str) -> None:
    """Say once why no kernels are kept: each process compiles them anew, for seconds."""
    if why not in _warned:
        warnings.warn(f"fastrobust compiles its kernels anew in every process: {why}", RuntimeWarning, stacklevel=2)
        _warned.add(why)  # not if it was made an error


def kernels() -> list[str]:
    """The files of compiled kernels that are there.

    Raises
    ------
    Unsafe
        If the directory is refused.
    OSError
        If it is missing or cannot be read.
    """
    where = directory()
    if where is None:
        return []
    with opened(str(where), create=False) as folder:
        return [name for name in folder.entries() if _OURS.fullmatch(name) and name.endswith(".o")]


def clear() -> int:
    """Remove all cached kernels, and what is planted under their names; returns how many files went.

    Raises
    ------
    Unsafe
        If the directory is refused.
    """
    removed = 0
    where = directory()
    if where is not None:
        with contextlib.suppress(OSError), opened(str(where), create=False) as folder:
            for name in filter(_OURS.fullmatch, folder.entries()):
                with contextlib.suppress(OSError):  # a directory, or somebody else has been faster
                    os.unlink(folder.name(name), dir_fd=folder.handle)
                    removed += 1
    return removed


@functools.cache
def _versions() -> str:
    """The versions that compiled code depends on besides the sources: of who compiles, and of what runs it."""
    return " ".join([platform.python_version(), *(f"{n} {version(n)}" for n in ("numpy", "numba", "llvmlite"))])


def name_of(kind: str, what: tuple[Any, ...]) -> str:
    """The name of a kernel: its kind, then what chooses it: words, tuples of words, and what has a name, as dtypes."""
    words = (w if isinstance(w, str) else "-".join(w) if isinstance(w, tuple) else w.__name__ for w in what)
    return "_".join((kind, *words))


def fetch(
    name: str, modules: tuple[str, ...] | None, target: str, make: Callable[[], bytes], load: Callable[[bytes], Loaded]
) -> Loaded:
    """The kernel of that name for that target, loaded from the cache, or made and put there.

    ``make`` returns its payload, and `load` makes of one what is returned.

    ``modules`` are those of this package that `make` uses, and what they import; None: others too, and it is not kept.
    """
    if modules is None:
        return load(make())
    parts = [sources.digest(*modules), _versions().encode(), target.encode(), name.encode()]
    key = hashlib.sha256(b"\n".join(parts)).hexdigest()[:32]
    payload = read(key)
    if payload is not None:
        try:
            return load(payload)
        except Exception:  # whole, yet not what it should be: it is made anew, and what that raises is not hidden
            pass
    payload = make()
    loaded = load(payload)
    if sources.unchanged(*modules):
        write(key, payload)
    return loaded


def read(key: str) -> bytes | None:
    """The payload kept under that key, if it is whole and this user's own."""
    with _opened() as folder:
        if folder is None:
            return None
        try:
            file = os.open(folder.name(f"{key}.o"), _READ, dir_fd=folder.handle)
        except OSError:
            return None
        try:
            data = _content(file) if _own(os.fstat(file)) else b""
        except OSError:
            return None
        finally:
            os.close(file)
    payload = data[32:]
    return payload if payload and _digest(key, payload) == data[:32] else None


def _content(file: int) -> bytes:
    """All bytes of a file, which stays open."""
    with open(file, "rb", closefd=False) as stream:
        return stream.read()


def _own(status: os.stat_result) -> bool:
    """Tell whether it is this user's alone: a regular file with no other name, and not too large for a kernel."""
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or status.st_size > LARGEST:
        return False
    return not hasattr(os, "geteuid") or (
        status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _digest(key: str, payload: bytes) -> bytes:
    """The digest that a file begins with: of its key too, so that it is not taken for another kernel's."""
    return hashlib.sha256(key.encode() + payload).digest()


def write(key: str, payload: bytes) -> None:
    """Keep the payload under that key, if the directory can be written."""
    with _opened(create=True) as folder:
        if folder is None:
            return
        at = folder.handle
        temporary = folder.name(f"{key}{os.urandom(8).hex()}.tmp")
        try:
            handle = os.open(temporary, _WRITE, 0o600, dir_fd=at)
            try:
                with open(handle, "wb") as file:
                    file.write(_digest(key, payload) + payload)
                os.replace(temporary, folder.name(f"{key}.o"), src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                os.unlink(temporary, dir_fd=at)
                raise
        except OSError:
            return  # read-only or full: the next process compiles again
