"""The disk cache of compiled kernels.

The key is a digest of every source file and table of this package, the versions of Python, NumPy, Numba and llvmlite,
the target, and the kernel's name.  A cache file begins with a digest of its payload, is written to a temporary name and
renamed, and is ignored unless this user owns it and nobody else may write to it.  A directory that cannot be written
means: compile again in the next process.  ``FASTROBUST_CACHE_DIR`` moves the cache; an empty value turns it off.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["clear", "directory", "fetch", "lock", "name_of"]

lock = threading.RLock()  # held while a kernel is compiled or loaded, whatever for
if hasattr(os, "register_at_fork"):  # a child must not be born while another thread, which it lacks, holds it
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)

_OURS = re.compile(r"[0-9a-f]{32}(\.o|.*\.tmp)")  # names of cache files


def directory() -> Path | None:
    """Where compiled kernels are kept, or None if the cache is off or there is no home directory."""
    chosen = os.environ.get("FASTROBUST_CACHE_DIR")
    if chosen is not None:
        return Path(chosen).expanduser() if chosen else None
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", ("AppData", "Local")
    elif sys.platform == "darwin":
        variable, default = "", ("Library", "Caches")
    else:
        variable, default = "XDG_CACHE_HOME", (".cache",)
    try:
        base = Path(os.environ.get(variable) or Path.home().joinpath(*default))
    except RuntimeError:  # a user id without an account, as in containers
        return None
    return base / "fastrobust"


def clear() -> int:
    """Remove all cached kernels; returns how many files went."""
    where = directory()
    try:
        found = list(where.iterdir()) if where else []
    except OSError:
        found = []
    files = [file for file in found if _OURS.fullmatch(file.name) and file.is_file()]
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


def _sources() -> bytes:
    """Digest of every source file and table of this package."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.iterdir()):
        if file.suffix in (".py", ".npy"):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.digest()


_SOURCES = _sources()  # as imported


@functools.cache
def _versions() -> str:
    """What compiled code depends on besides the sources: whoever compiles, and for whom it was written."""
    return " ".join([platform.python_version(), *(f"{n} {version(n)}" for n in ("numpy", "numba", "llvmlite"))])


def name_of(kind: str, what: tuple[Any, ...]) -> str:
    """The name of a kernel: its kind, then the words, tuples of words and dtypes that choose it."""
    words = (w if isinstance(w, str) else "-".join(w) if isinstance(w, tuple) else w.__name__ for w in what)
    return "_".join((kind, *words))


def fetch(name: str, target: str, make: Callable[[], bytes]) -> bytes:
    """The payload of that name for that target: from the cache, or made and put there."""
    key = hashlib.sha256(b"\n".join([_SOURCES, _versions().encode(), target.encode(), name.encode()])).hexdigest()[:32]
    payload = read(key)
    if payload is None:
        payload = make()
        if _sources() == _SOURCES:  # else what was imported meanwhile may not be what the key says
            write(key, payload)
    return payload


def read(key: str) -> bytes | None:
    """The payload kept under that key, if it is whole and this user's own."""
    where = directory()
    if where is None:
        return None
    try:
        with open(where / f"{key}.o", "rb") as file:
            # Machine code is run as found: only what this user alone can have written is.
            if hasattr(os, "getuid"):
                status = os.fstat(file.fileno())
                if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return None
            data = file.read()
    except OSError:
        return None
    payload = data[32:]
    return payload if hashlib.sha256(payload).digest() == data[:32] and payload else None


def write(key: str, payload: bytes) -> None:
    """Keep the payload, if the directory lets."""
    where = directory()
    if where is None:
        return
    try:
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=where, prefix=key, suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(name, where / f"{key}.o")
        except BaseException:
            os.unlink(name)
            raise
    except OSError:
        return  # read-only or full: the next process compiles again
