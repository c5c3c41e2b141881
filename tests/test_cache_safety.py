"""The disk cache against those who plant files, and against variables that name no directory.

Machine code from the cache is run as found, so what is asked here is whether anybody but this user can have put it
there.  Nothing is compiled by Numba.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import pytest

from fastrobust.kernels.compilers import cache as disk
from fastrobust.kernels.compilers import native, private, ptx

grp = pytest.importorskip("grp", reason="owners and modes are those of POSIX")
pwd = pytest.importorskip("pwd", reason="owners and modes are those of POSIX")

SOMEBODY = 54321  # whose account is not needed
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one file, `key`."""
    where = tmp_path / "above" / "cache"
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(where))
    monkeypatch.setattr(disk, "_warned", set())
    disk.write("key", b"payload")
    assert disk.read("key") == b"payload"
    return where


def assert_refused(where: Path, why: str) -> None:
    """Neither read nor written nor emptied, and the user is told why and what to do."""
    before = sorted(where.iterdir()) if where.is_dir() else None
    with pytest.warns(RuntimeWarning, match=why) as told:
        assert disk.read("key") is None
    disk.write("other", b"payload")  # where a second warning would be an error
    assert len(told) == 1
    assert str(where) in str(told[0].message) and "FASTROBUST_CACHE_DIR" in str(told[0].message)
    assert "\n" not in str(told[0].message)
    for function in (disk.clear, disk.kernels):
        with pytest.raises(disk.Unsafe, match=why):
            function()
    assert (sorted(where.iterdir()) if where.is_dir() else None) == before


# --- files


def plant_link(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


def plant_socket(file: Path) -> None:
    file.unlink()
    here = os.getcwd()
    os.chdir(file.parent)  # a socket's name may be a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(file.name)
    finally:
        os.chdir(here)


PLANTED: dict[str, Callable[[Path], Any]] = {
    "a link": plant_link,
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
    "a second name": lambda file: os.link(file, file.parent.parent / "second"),
    "a FIFO": lambda file: (file.unlink(), os.mkfifo(file)),
    "a socket": plant_socket,
    "more than fits in memory": lambda file: os.truncate(file, 1 << 43),
    "a link to a device": lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_what_is_not_this_users_own_file_is_not_read_but_replaced(plant: Callable[[Path], Any], cache: Path) -> None:
    file = cache / "key.o"
    plant(file)
    found: list[bytes | None] = []
    reader = threading.Thread(target=lambda: found.append(disk.read("key")), daemon=True)
    reader.start()
    reader.join(30)
    assert found == [None], "it must not wait for somebody to write into it either"
    disk.write("key", b"again")
    assert disk.read("key") == b"again"
    assert stat.S_ISREG(file.lstat().st_mode)
    elsewhere = cache.parent / "elsewhere"
    assert not elsewhere.exists() or elsewhere.read_bytes().endswith(b"payload"), "nothing is written through a link"


def test_a_file_under_another_name_is_not_read(cache: Path) -> None:
    """Its digest is of the name too: a kernel is not taken for another."""
    (cache / "key.o").rename(cache / "other.o")
    assert disk.read("other") is None


def test_a_planted_temporary_name_is_not_written_through(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", bytes)
    victim = cache.parent / "victim"
    victim.write_bytes(b"mine")
    (cache / f"other{bytes(8).hex()}.tmp").symlink_to(victim)
    disk.write("other", b"payload")
    assert victim.read_bytes() == b"mine"
    assert disk.read("other") is None


def test_clear_removes_planted_names_and_not_what_they_point_to(cache: Path) -> None:
    victim = cache.parent / "victim"
    victim.write_bytes(b"mine")
    (cache / f"{'1' * 32}.o").symlink_to(victim)
    os.mkfifo(cache / f"{'2' * 32}.o")
    disk.write("3" * 32, b"payload")
    assert disk.clear() == 3
    assert victim.read_bytes() == b"mine"


# --- directories


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777], ids=oct)
def test_a_directory_that_others_may_write_to_is_refused(mode: int, cache: Path) -> None:
    cache.chmod(mode)
    assert_refused(cache, "others may write")


@pytest.mark.parametrize("mode", [0o777, 0o772], ids=oct)
@pytest.mark.parametrize("levels", [1, 2])
def test_a_directory_that_others_may_replace_is_refused(levels: int, mode: int, cache: Path) -> None:
    above = cache.parents[levels - 1]
    before = above.stat().st_mode
    above.chmod(mode)
    try:
        assert_refused(cache, f"others may write to '{above}' above it")
    finally:
        above.chmod(before)


def test_one_of_those_that_does_not_exist_is_not_made(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.chmod(0o777)
    new = cache.parent / "new"
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(new))
    assert_refused(new, "others may write")
    assert not new.exists()


def test_where_entries_are_their_owners_a_directory_is_safe(cache: Path) -> None:
    cache.parent.chmod(0o1777)
    assert disk.read("key") == b"payload"
    disk.write("key", b"again")
    assert disk.read("key") == b"again"


@pytest.mark.parametrize(
    ("name", "members", "primary", "safe"),
    [
        ("ann", [], True, True),
        ("ann", ["ann"], True, True),
        ("ann", ["bob"], True, False),
        ("users", [], True, False),
        ("ann", [], False, False),
    ],
)
def test_a_group_may_write_above_if_it_is_the_users_alone(
    name: str, members: list[str], primary: bool, safe: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many systems give each user a group, and directories that it may write to."""
    if os.geteuid() == 0:
        os.chown(cache.parent, -1, SOMEBODY)  # root's own group is nobody's alone
    cache.parent.chmod(0o770)
    group = cache.parent.stat().st_gid
    user = types.SimpleNamespace(pw_name="ann", pw_gid=group if primary else group + 1)
    monkeypatch.setattr(pwd, "getpwuid", lambda number: user)
    monkeypatch.setattr(grp, "getgrgid", lambda number: types.SimpleNamespace(gr_name=name, gr_mem=members))
    if safe:
        assert disk.read("key") == b"payload"
        cache.chmod(0o770)
        assert_refused(cache, "others may write")  # the directory itself is this user's alone
    else:
        assert_refused(cache, "others may write")


@only_root
def test_the_group_of_root_may_not_write_above(cache: Path) -> None:
    cache.parent.chmod(0o770)
    assert_refused(cache, "others may write")


def test_a_directory_of_another_user_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    assert_refused(cache, f"and this process runs as {SOMEBODY}")


@only_root
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_a_directory_below_one_of_another_user_is_refused(levels: int, cache: Path) -> None:
    above = (cache, *cache.parents)[levels]
    os.chown(above, SOMEBODY, -1)
    assert_refused(cache, f"'{above}' belongs to user {SOMEBODY}")


def test_links_of_this_user_may_lead_to_the_directory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache.parent / "relative").symlink_to("../above/./cache")
    (cache.parent / "absolute").symlink_to(cache.parent / "relative")
    for name in ("relative", "absolute", "absolute/", "cache/../relative"):
        monkeypatch.setenv("FASTROBUST_CACHE_DIR", f"{cache.parent}/{name}")
        assert disk.read("key") == b"payload"
        disk.write("other", b"payload")
    (cache / "other.o").unlink()
    assert [file.name for file in cache.iterdir()] == ["key.o"]
    cache.chmod(0o777)
    with pytest.warns(RuntimeWarning, match=f"others may write to '{cache}'"):
        assert disk.read("key") is None


@only_root
def test_a_link_of_another_user_is_not_followed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = cache.parent / "link"
    link.symlink_to(cache)
    os.lchown(link, SOMEBODY, -1)
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(link))
    assert_refused(link, f"link '{link}' belongs to user {SOMEBODY}")


def test_what_was_looked_at_is_what_is_used(cache: Path) -> None:
    with private.opened(str(cache), create=False) as found:
        moved = cache.rename(cache.parent / "moved")
        cache.mkdir()
        os.close(os.open(found.name("new"), os.O_CREAT | os.O_WRONLY, dir_fd=found.handle))
        assert sorted(found.entries()) == ["key.o", "new"]
    assert (moved / "new").exists() and not (cache / "new").exists()


def test_all_that_is_made_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(tmp_path / "a" / "b" / "c"))
    previous = os.umask(0)
    try:
        disk.write("key", b"payload")
    finally:
        os.umask(previous)
    assert [stat.S_IMODE((tmp_path / p).stat().st_mode) for p in ("a", "a/b", "a/b/c")] == [0o700] * 3
    assert disk.read("key") == b"payload"


def test_nothing_stays_open(cache: Path) -> None:
    descriptors = Path("/dev/fd")
    if not descriptors.is_dir():
        pytest.skip("no list of open files on this system")
    before = len(os.listdir(descriptors))
    (cache / "directory.o").mkdir()
    for _ in range(3):
        for key in ("key", "missing", "directory"):
            disk.read(key)
            disk.write(key, b"payload")
        disk.kernels()
    cache.chmod(0o777)
    with pytest.warns(RuntimeWarning):
        disk.read("key")
    assert len(os.listdir(descriptors)) == before


def test_an_error_out_of_the_warning_is_raised_each_time(cache: Path) -> None:
    cache.chmod(0o777)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="others may write"):
                disk.read("key")


# --- variables


def test_a_home_of_nobody_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", "~no_such_user/cache")
    monkeypatch.setattr(disk, "_warned", set())
    line = "FASTROBUST_CACHE_DIR is '~no_such_user/cache', for which there is no home directory: set it to an absolute"
    with pytest.warns(RuntimeWarning, match=line) as told:
        assert disk.read("key") is None
    disk.write("key", b"payload")  # where a second warning would be an error
    assert len(told) == 1
    with pytest.raises(disk.Unsafe, match=line):
        disk.directory()


def test_a_relative_directory_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", f"caches/{tmp_path.name}")
    disk.write("key", b"payload")
    monkeypatch.chdir(tmp_path / "second")
    assert disk.read("key") == b"payload"
    assert not list((tmp_path / "second").iterdir())


def test_without_a_current_directory_a_relative_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", f"gone-{tmp_path.name}")
    with pytest.raises(disk.Unsafe, match="there is no current directory"):
        disk.directory()
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(tmp_path / "absolute"))
    disk.write("key", b"payload")
    assert disk.read("key") == b"payload"


@pytest.mark.parametrize("name", ["two\nlines", "b\udcffytes", " ", "~", "%s{why}"], ids=ascii)
def test_odd_names_are_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(tmp_path / name))
    monkeypatch.setattr(disk, "_warned", set())
    disk.write("key", b"payload")
    assert disk.read("key") == b"payload"
    (tmp_path / name).chmod(0o777)
    with pytest.warns(RuntimeWarning) as told:
        assert disk.read("key") is None
    assert str(told[0].message).isprintable(), "one line, whatever the terminal"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the directories of Linux")
@pytest.mark.parametrize("home", ["", "relative", "/nonexistent/home", "/dev/null"])
def test_without_a_home_there_is_no_cache_and_none_is_made(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTROBUST_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "ignored")  # as the specification wants it: it is relative
    monkeypatch.setenv("HOME", str(tmp_path))
    assert disk.directory() == tmp_path / ".cache" / "fastrobust"
    monkeypatch.setenv("HOME", home)
    if home:
        assert disk.directory() is None
        disk.write("key", b"payload")
        assert not list(tmp_path.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert disk.directory() == tmp_path / "fastrobust"


def info(cache: Path | str, *options: str) -> str:
    """What `fastrobust info` says about the cache."""
    command = [sys.executable, "-m", "fastrobust", "info", *options]
    environment = {**os.environ, "FASTROBUST_CACHE_DIR": str(cache)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("kernel cache"))
    return line


def test_info_says_where_the_cache_is_and_why_it_is_refused(cache: Path) -> None:
    disk.write("1" * 32, b"payload")
    assert f"{cache} (1 files)" in info(cache)
    cache.chmod(0o777)
    told = info(cache, "--clear-cache")
    assert "refused" in told and f"others may write to '{cache}'" in told
    assert len(list(cache.iterdir())) == 2
    assert "FASTROBUST_CACHE_DIR is '~no_such_user'" in info("~no_such_user")


# --- whole files that do not hold what they should


def object_of(symbol: str, value: int, triple: str = "") -> bytes:
    """An object with a function of that name that returns this number."""
    machine = native._target()[0]
    if triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        machine = llvm.Target.from_triple(triple).create_target_machine(reloc="pic")
    text = f'target triple = "{triple}"\n' if triple else ""
    return bytes(machine.emit_object(llvm.parse_assembly(f"{text}define i64 @{symbol}() {{ ret i64 {value} }}")))


FOREIGN = "aarch64-unknown-linux-gnu" if native.host_is_x86() else "x86_64-unknown-linux-gnu"
BAD: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda good: b"not machine code\n" * 99,
    "a header": lambda good: good[:64],
    "half": lambda good: good[: len(good) // 2],
    "all but a byte": lambda good: good[:-1],
    "without the symbol": lambda good: object_of("another", 1),
    "for another processor": lambda good: object_of("probe", 1, FOREIGN),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_a_whole_file_with_a_bad_object_is_compiled_anew_once(
    spoil: Callable[[bytes], bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_libraries", {})
    (cache / "key.o").unlink()
    compiled = []

    def answer() -> int:
        def compiles() -> bytes:
            compiled.append(1)
            return object_of("probe", 42)

        native._libraries.clear()  # as in a new process
        (address,) = native.addresses("probe", ("loops.cpu",), ("probe",), compiles)
        return ctypes.CFUNCTYPE(ctypes.c_int64)(address)()

    assert answer() == 42 and len(compiled) == 1
    (file,) = cache.iterdir()
    good = file.read_bytes()[32:]
    disk.write(file.stem, spoil(good))
    assert answer() == 42 and len(compiled) == 2
    assert file.read_bytes()[32:] == good
    assert answer() == 42 and len(compiled) == 2


def test_what_cannot_be_loaded_when_just_made_is_an_error_and_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_libraries", {})
    (cache / "key.o").unlink()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="past the end of the file"):
            native.addresses("probe", ("loops.cpu",), ("probe",), lambda: object_of("probe", 1)[:100])
    assert not list(cache.iterdir())


PTX = f"\n.version 6.3\n.target {ptx.CAPABILITY}\n.visible .entry kernel(\n)\n{{\n\tret;\n}}\n"


@pytest.mark.parametrize(
    "bad", [b"\xff\xfe", b"text", PTX[:-8].encode(), PTX.replace("sm_75", "sm_20").encode()], ids=range(4)
)
def test_a_whole_file_with_bad_ptx_is_compiled_anew_once(bad: bytes, cache: Path) -> None:
    (cache / "key.o").unlink()
    compiled = []

    def make() -> bytes:
        compiled.append(1)
        return PTX.encode()

    def text() -> str:
        return disk.fetch("kernel", ("compilers.ptx", "loops.cuda"), "nvptx", make, ptx._whole)

    assert text() == PTX
    (file,) = cache.iterdir()
    disk.write(file.stem, bad)
    assert text() == text() == PTX
    assert len(compiled) == 2
