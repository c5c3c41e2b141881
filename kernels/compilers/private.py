"""A directory into which nobody but this user can have put anything.

Machine code is run as found, so it is read from such a directory only.  The path is walked from the root, each step
relative to the directory before, which is open: what was looked at is what is used.

==================================  ===================================================================================
the directory itself                is owned by this user, and nobody else may write to it
every directory above               is owned by this user or root, and nobody else may write to it, unless entries of it
                                    are their owners' (the sticky bit, as of /tmp); a group may that has no other member
every symbolic link on the way      is owned by this user or root
==================================  ===================================================================================

Root stands for whoever owns /, too: in a user namespace that may be another number.  Windows has neither owners nor
modes in this sense; there a user's directories are his own by the access lists that they inherit, and nothing is looked
at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NoReturn

__all__ = ["Opened", "Unsafe", "opened"]

_POSIX = hasattr(os, "geteuid")
# Search permission is enough for O_PATH, which is Linux's; without O_DIRECTORY, opening a FIFO would wait for a writer.
_STEP = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_LINKS = 40  # on one way, as many as Linux follows


class Unsafe(Exception):
    """Why a directory is not used, and what to do about it; one line."""


class Opened:
    """A directory that is open, for functions of `os` with ``dir_fd``."""

    def __init__(self, path: str, handle: int | None) -> None:
        self.path, self.handle = path, handle

    def name(self, entry: str) -> str:
        """The path of an entry: relative to the handle, or in full where there are no handles."""
        return os.path.join(self.path, entry) if self.handle is None else entry

    def entries(self) -> list[str]:
        """The names of all entries."""
        if self.handle is None:
            return os.listdir(self.path)
        readable = os.open(".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.handle)  # which the handle need not be
        try:
            return os.listdir(readable)
        finally:
            os.close(readable)


@contextlib.contextmanager
def opened(path: str, create: bool) -> Iterator[Opened]:
    """The directory at that absolute path, made for this user alone if that is wanted and it is missing.

    Raises
    ------
    Unsafe
        If others can have written to it.
    OSError
        If it is missing, or cannot be opened or made.
    """
    if not _POSIX:
        if create:
            os.makedirs(path, mode=0o700, exist_ok=True)
        yield Opened(path, None)
        return
    handle = _walk(path, create)
    try:
        yield Opened(path, handle)
    finally:
        os.close(handle)


def _walk(path: str, create: bool) -> int:
    """The file descriptor of the directory; every step to it from the root has been checked."""
    rest, links, shown = _parts(path), 0, "/"
    handle = os.open("/", _STEP)
    try:
        _check(path, shown, os.fstat(handle), last=not rest)
        while rest:
            name = rest.pop()
            status = _status(handle, name, create)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                if status.st_uid not in _trusted():
                    link = os.path.join(shown, name)
                    _refuse(path, f"the link {link!r} belongs to user {status.st_uid}", "remove it")
                target = os.readlink(name, dir_fd=handle)
                rest += _parts(target)
                if not target.startswith("/"):
                    continue
                name = "/"
            entered = os.open(name, _STEP | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle, shown = entered, os.path.normpath(os.path.join(shown, name))
            _check(path, shown, os.fstat(handle), last=not rest)
        return handle
    except BaseException:
        os.close(handle)
        raise


def _parts(path: str) -> list[str]:
    """The names in a path, the last one first."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _status(handle: int, name: str, create: bool) -> os.stat_result:
    """The status of an entry, not of what it links to; a directory is made if it is missing and ``create``."""
    try:
        return os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        if not create:
            raise
    with contextlib.suppress(FileExistsError):  # another process has been faster
        os.mkdir(name, 0o700, dir_fd=handle)
    return os.stat(name, dir_fd=handle, follow_symlinks=False)


def _trusted() -> tuple[int, ...]:
    """The numbers of this user and of those who may do anything anyway."""
    return os.geteuid(), 0, os.stat("/").st_uid


def _check(path: str, at: str, status: os.stat_result, last: bool) -> None:
    """Refuse the path if others can put what they like where it has come to."""
    me = os.geteuid()
    if status.st_uid != me and (last or status.st_uid not in _trusted()):
        _refuse(path, f"{at!r} belongs to user {status.st_uid}, and this process runs as {me}")
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if last and others:
        _refuse(path, f"others may write to {at!r}", "remove it with all that is in it")
    if others and not status.st_mode & stat.S_ISVTX and not (others == stat.S_IWGRP and _alone_in(status.st_gid)):
        _refuse(path, f"others may write to {at!r} above it, and so replace it", f"run chmod go-w {at!r}")


def _refuse(path: str, why: str, remedy: str = "") -> NoReturn:
    """Raise the error that says why a directory is not used, and what to do about it."""
    another = "set FASTROBUST_CACHE_DIR to a directory that is private"
    raise Unsafe(f"the directory {path!r} is not safe, since {why}: {remedy and remedy + ', or '}{another}")


def _alone_in(group: int) -> bool:
    """Tell whether this is the user's private group, which many systems give each user and let write by default.

    Root's is not: containers run unknown users in it.
    """
    import grp
    import pwd

    try:
        user, record = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:
        return False
    private = group != 0 and group == user.pw_gid and record.gr_name == user.pw_name
    return private and set(record.gr_mem) <= {user.pw_name}
