"""The disk cache of compiled kernels: never stale, never trusting, never in the way.

What compiles runs in a process of its own, on a copy of the package, since the tests edit sources. That numba was
imported shows that a kernel was compiled rather than read.
"""

from __future__ import annotations

import concurrent.futures
import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastrobust
from fastrobust.kernels.compilers import cache as disk

PACKAGE = Path(fastrobust.__file__).parent
ROOT_USER = getattr(os, "geteuid", lambda: 1)() == 0
posix_only = pytest.mark.skipif(not hasattr(os, "getuid"), reason="modes and owners of files are those of POSIX")
not_root = pytest.mark.skipif(ROOT_USER, reason="root may write to read-only directories")

# The kernels that compile fastest.
LOG_Z = "fr.log_partition(np.linspace(0, 5, 7, dtype=np.float32))"
LOG_Z_TOO = "fr.log_partition_and_grad(np.linspace(0, 5, 7, dtype=np.float32)).value"
WEIGHT = "fr.weight(np.linspace(-5, 5, 7, dtype=np.float32), 0.5, 2.0)"
PROGRAM = """
import json, os, sys
import numpy as np, fastrobust as fr
{before}
result = {expression}
print(json.dumps({{"bits": result.tobytes().hex(), "compiled": "numba" in sys.modules}}))
"""


class Result(NamedTuple):
    """The bits that a process computed in float32, and whether it had to compile."""

    bits: bytes
    compiled: bool

    @property
    def values(self) -> Any:
        return np.frombuffer(self.bits, np.float32)


def run(tree: Path, cache: Path | str, expression: str = LOG_Z, before: str = "", **more: str) -> Result:
    """The expression in a fresh process over that copy of the package and that cache."""
    # No bytecode: it would be stale where a test edits a source and restores its time, which is Python's business.
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", **more}
    environment["FASTROBUST_CACHE_DIR"] = str(cache)
    command = [sys.executable, "-W", "error", "-c", PROGRAM.format(expression=expression, before=before)]
    done = subprocess.run(command, env=environment, cwd=tree, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    return Result(bytes.fromhex(report["bits"]), report["compiled"])


def copy_of_package(directory: Path) -> Path:
    """The package with its kernels as a directory, not a link, below a new directory to import it from."""
    tree = directory / "tree"
    shutil.copytree(PACKAGE, tree / "fastrobust", ignore=shutil.ignore_patterns("__pycache__", ".*", "tools"))
    assert not (tree / "fastrobust" / "kernels").is_symlink()
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_of_package(tmp_path)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where there is no directory yet."""
    return tmp_path / "cache"


class Compiled(NamedTuple):
    """A cache with two kernels and their loops, and the bits that they compute."""

    directory: Path
    log_z: bytes
    weight: bytes


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Compiled from a copy in another place than those of the tests: the key must depend on contents only."""
    where = tmp_path_factory.mktemp("compiled")
    both = run(copy_of_package(where), where / "cache", f"np.concatenate([{LOG_Z}, {WEIGHT}])")
    assert both.compiled
    half = len(both.bits) // 2
    np.testing.assert_allclose(both.values[0], np.log(np.pi * np.sqrt(2)), rtol=3e-7)  # two units
    np.testing.assert_allclose(both.values[len(both.values) // 2 + 3], 0.25, rtol=0)
    return Compiled(where / "cache", both.bits[:half], both.bits[half:])


@pytest.fixture
def warm(compiled: Compiled, cache: Path) -> Compiled:
    """The same in a directory that the test may spoil."""
    shutil.copytree(compiled.directory, cache)
    return compiled._replace(directory=cache)


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def edit(file: Path, old: str, new: str) -> None:
    """Replace text by text as long, and restore the times, so that nothing but the content tells."""
    status, text = file.stat(), file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    assert len(old) == len(new)
    file.write_text(text.replace(old, new), encoding="utf-8")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


# --- warm starts


def test_a_second_process_reads_what_the_first_compiled(tree: Path, warm: Compiled) -> None:
    before = contents(warm.directory)
    assert len(before) == 4
    assert run(tree, warm.directory) == Result(warm.log_z, compiled=False)
    assert run(tree, warm.directory, WEIGHT) == Result(warm.weight, compiled=False)
    assert contents(warm.directory) == before


@posix_only
def test_the_cache_is_private_whatever_the_umask(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache / "deeper"))
    previous = os.umask(0)
    try:
        disk.write("key", b"payload")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((cache / "deeper").stat().st_mode) == 0o700
    assert stat.S_IMODE((cache / "deeper" / "key.o").stat().st_mode) == 0o600
    assert disk.read("key") == b"payload"


# --- never stale


def test_an_edited_source_changes_the_result_at_once_and_back(tree: Path, warm: Compiled) -> None:
    source = tree / "fastrobust" / "kernels" / "losses" / "barron_in_doubles.py"
    old, new = "_NORMAL, _LARGEST = 2.0**-126", "_NORMAL, _LARGEST = 2.0**+126"  # a smaller scale counts as 0
    edit(source, old, new)
    edited = run(tree, warm.directory, WEIGHT)
    assert edited.compiled
    assert np.all(np.isnan(edited.values))
    edit(source, new, old)
    assert run(tree, warm.directory, WEIGHT) == Result(warm.weight, compiled=False), "the first kernel is still there"


def test_an_edited_table_changes_the_result_at_once(tree: Path, warm: Compiled) -> None:
    file = tree / "fastrobust" / "kernels" / "losses" / "partition_table_f4.npy"
    table, status = np.load(file, allow_pickle=False), file.stat()
    table[0, :, 0] += np.float32(0.5)
    np.save(file, table)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    edited = run(tree, warm.directory)
    assert edited.compiled
    difference = edited.values - np.frombuffer(warm.log_z, np.float32)
    np.testing.assert_allclose(difference, 0.5, rtol=0, atol=4 * 2.0**-23)  # four units of values from 1 to 2


@pytest.mark.parametrize(
    "file",
    ["losses/higher.py", "loops/cuda.py", "loops/traced.py", "arithmetic/elementary.py", "losses/partition_layout.py"],
)
def test_an_edited_source_makes_anew_what_it_can_have_changed_and_nothing_else(
    file: str, tree: Path, warm: Compiled
) -> None:
    with open(tree / "fastrobust" / "kernels" / file, "a", encoding="utf-8") as stream:
        stream.write("\n# an edit\n")
    used = file in ("arithmetic/elementary.py", "losses/higher.py")  # a definition holds its rules of differentiation
    assert run(tree, warm.directory, WEIGHT) == Result(warm.weight, compiled=used)


@pytest.mark.parametrize(
    ("expression", "file"),
    [
        ("fr.loss(np.ones(3, np.float32), 1.5, 1.0, reduction='mean')", "loops/whole.py"),
        ("fr.losses.cross_entropy(np.ones((1, 3), np.float32), np.array([0]))", "loops/rows_across.py"),
        ("fr.losses.cross_entropy(np.ones((1, 3), np.float32), np.array([0]))", "losses/cross_entropy.py"),
    ],
)
def test_sums_and_rows_are_made_anew_after_edits_of_what_they_are_made_of(
    expression: str, file: str, tree: Path, cache: Path
) -> None:
    first = run(tree, cache, expression, "import fastrobust.losses")
    assert first.compiled
    assert run(tree, cache, expression, "import fastrobust.losses") == first._replace(compiled=False)
    with open(tree / "fastrobust" / "kernels" / file, "a", encoding="utf-8") as stream:
        stream.write("\n# an edit\n")
    assert run(tree, cache, expression, "import fastrobust.losses") == first


# An edit of log_partition that turns the sign of what the table holds, made by the running process itself.
OLD, NEW = "value = offset + _value(w, piece)", "value = offset - _value(w, piece)"
EDIT = """
from pathlib import Path
from importlib.util import find_spec
file = Path(find_spec("fastrobust").origin).parent / "kernels" / "losses" / "partition.py"
text = file.read_text(encoding="utf-8")
assert text.count({OLD!r}) == 1
file.write_text(text.replace({OLD!r}, {NEW!r}), encoding="utf-8")
""".replace("{OLD!r}", repr(OLD)).replace("{NEW!r}", repr(NEW))


def test_a_kernel_compiled_after_an_edit_is_not_kept_as_that_of_the_source_before(tree: Path, warm: Compiled) -> None:
    """Someone changes branches while a notebook is open that has only read kernels so far, and changes back later."""
    source = tree / "fastrobust" / "kernels" / "losses" / "partition.py"
    original = source.read_text(encoding="utf-8")
    run(tree, warm.directory, LOG_Z_TOO, f"{LOG_Z}\nassert 'numba' not in sys.modules\n{EDIT}")
    assert source.read_text(encoding="utf-8") == original.replace(OLD, NEW)
    source.write_text(original, encoding="utf-8")
    assert run(tree, warm.directory, LOG_Z_TOO).bits == warm.log_z


def test_a_kernel_of_sources_imported_before_an_edit_is_not_kept_as_that_of_the_edited(
    tree: Path, warm: Compiled
) -> None:
    """As in a process that has imported the kernels and first calls one after an edit."""
    run(tree, warm.directory, LOG_Z_TOO, f"from fastrobust.kernels.loops import cpu\n{EDIT}")
    edited = run(tree, warm.directory, LOG_Z_TOO)
    assert not np.any(np.isclose(edited.values, np.frombuffer(warm.log_z, np.float32), rtol=1e-4))


# --- never trusting


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": flip_a_bit,
    "another digest": lambda file: file.write_bytes(bytes(32) + file.read_bytes()[32:]),
    "truncated": lambda file: os.truncate(file, file.stat().st_size - 1),
    "digest alone": lambda file: os.truncate(file, 32),
    "shorter than a digest": lambda file: os.truncate(file, 7),
    "empty": lambda file: os.truncate(file, 0),
    "text": lambda file: file.write_text("not machine code\n" * 99),
    "one byte more": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
}
if hasattr(os, "getuid"):
    DAMAGES |= {
        "group may write": lambda file: file.chmod(0o660),
        "others may write": lambda file: file.chmod(0o602),
        "all may write": lambda file: file.chmod(0o666),
    }


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_read_and_is_replaced(
    damage: Callable[[Path], Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    payload = bytes(range(256)) * 10
    disk.write("key", payload)
    assert disk.read("key") == payload
    damage(cache / "key.o")
    assert disk.read("key") is None
    disk.write("key", payload)
    assert disk.read("key") == payload
    assert list(contents(cache)) == ["key.o"]


def test_a_process_with_a_damaged_cache_compiles_and_repairs_it(tree: Path, warm: Compiled) -> None:
    before = contents(warm.directory)
    for file in warm.directory.iterdir():
        flip_a_bit(file)
    damaged = contents(warm.directory)
    assert run(tree, warm.directory) == Result(warm.log_z, compiled=True)
    after = contents(warm.directory)
    assert after.keys() == before.keys()
    kernels = [name for name in before if b"retptr" not in before[name]]  # and not the loops that they were linked from
    assert sorted((after[name] == before[name], after[name] == damaged[name]) for name in kernels) == [
        (False, True),  # the kernel that nobody asked for
        (True, False),
    ]
    assert sum(after[name] != damaged[name] for name in after) == 2
    assert run(tree, warm.directory) == Result(warm.log_z, compiled=False)


@posix_only
@pytest.mark.skipif(not ROOT_USER, reason="only root may give files away")
def test_a_file_of_another_user_is_not_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    disk.write("key", b"payload")
    os.chown(cache / "key.o", 12345, -1)
    assert disk.read("key") is None


# --- never in the way


def test_a_process_without_a_usable_cache_compiles(tree: Path, tmp_path: Path, compiled: Compiled) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(tree, tmp_path / "file" / "cache") == Result(compiled.log_z, compiled=True)
    assert (tmp_path / "file").read_text() == "in the way"


def unusable(directory: Path) -> dict[str, str]:
    """Cache directories that cannot be, by what is wrong with them."""
    return {
        "a file": str(directory / "file"),
        "below a file": str(directory / "file" / "below" / "it"),
        "a link to itself": str(directory / "loop"),
        "a name too long": str(directory / ("x" * 300)),
        "a device": os.devnull,
    }


@pytest.mark.parametrize("kind", unusable(Path()))
def test_an_unusable_directory_is_like_an_empty_one(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    if kind == "a link to itself":
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.iterdir())
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", unusable(tmp_path)[kind])
    disk.write("key", b"payload")
    assert disk.read("key") is None
    assert disk.clear() == 0
    assert (tmp_path / "file").read_text() == "in the way"
    assert sorted(tmp_path.iterdir()) == before


@posix_only
@not_root
def test_a_read_only_directory_is_read_and_not_written(tree: Path, warm: Compiled) -> None:
    before = contents(warm.directory)
    warm.directory.chmod(0o500)
    try:
        assert run(tree, warm.directory) == Result(warm.log_z, compiled=False)
        assert run(tree, warm.directory, LOG_Z_TOO) == Result(warm.log_z, compiled=True)
        assert contents(warm.directory) == before
    finally:
        warm.directory.chmod(0o700)


@posix_only
@not_root
def test_a_directory_that_may_not_be_searched_is_like_an_empty_one(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    cache.mkdir(mode=0o000)
    try:
        disk.write("key", b"payload")
        assert disk.read("key") is None
    finally:
        cache.chmod(0o700)
    assert not contents(cache)


def test_an_obstacle_in_the_place_of_a_file_leaves_no_rest(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    cache.mkdir(mode=0o700)
    (cache / "key.o").mkdir()
    disk.write("key", b"payload")
    assert disk.read("key") is None
    assert [file.name for file in cache.iterdir()] == ["key.o"]


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_full_disk_leaves_no_rest(step: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full(io.FileIO):
        write = full  # type: ignore[assignment]

    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    cache.mkdir(mode=0o700)
    if step == "write":
        monkeypatch.setattr(disk, "open", lambda handle, mode: Full(handle, mode), raising=False)
    else:
        monkeypatch.setattr(os, "replace", full)
    disk.write("key", b"payload")
    assert cache.is_dir()
    assert not contents(cache)


def test_an_empty_variable_turns_the_cache_off(tree: Path, tmp_path: Path, compiled: Compiled) -> None:
    home = tmp_path / "home"
    home.mkdir()
    before = "from fastrobust.kernels.compilers import cache as disk\nassert disk.directory() is None"
    got = run(tree, "", before=before, HOME=str(home), XDG_CACHE_HOME=str(home), LOCALAPPDATA=str(home))
    assert got == Result(compiled.log_z, compiled=True)
    assert not contents(home)
    assert [file.name for file in tree.iterdir()] == ["fastrobust"], "nothing in the current directory either"


def test_without_a_home_directory_nothing_is_kept_and_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user id without an account: Path.home raises RuntimeError then."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FASTROBUST_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(nowhere))
    assert disk.directory() is None
    disk.write("key", b"payload")
    assert disk.read("key") is None
    assert disk.clear() == 0


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the directories of Linux")
def test_the_variables_that_say_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(tmp_path / "chosen"))
    assert disk.directory() == tmp_path / "chosen"
    monkeypatch.delenv("FASTROBUST_CACHE_DIR")
    assert disk.directory() == tmp_path / "xdg" / "fastrobust"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert disk.directory() == tmp_path / ".cache" / "fastrobust"


# --- several at once


def test_two_processes_on_an_empty_cache_agree_and_leave_no_rest(tree: Path, cache: Path, compiled: Compiled) -> None:
    wait = f"import time\ntime.sleep(max(0, {time.time() + 0.5} - time.time()))"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run(tree, cache, before=wait), range(2)))
    assert {r.bits for r in results} == {compiled.log_z}
    assert [file.suffix for file in cache.iterdir()] == [".o", ".o"]  # a kernel, and its loop
    assert run(tree, cache) == Result(compiled.log_z, compiled=False)


def test_readers_never_see_half_a_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    payload = bytes(range(256)) * 2000
    disk.write("key", payload)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(disk.write, "key", payload) for _ in range(40)]
        seen = [disk.read("key") for _ in range(40)]
    for writer in writers:
        writer.result()
    assert all(s == payload for s in seen)
    assert list(contents(cache)) == ["key.o"]


# --- removal


def test_clear_cache_removes_kernels_and_rests_and_nothing_else(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    assert disk.clear() == 0, "there is no directory yet"
    disk.write("1" * 32, b"payload")
    disk.write("2" * 32, b"payload")
    (cache / f"{'3' * 32}left_over.tmp").write_bytes(b"half of")
    kept = ["README", "notes.txt", "kernel.obj", ".o", "o", "x.o.bak", "main.o", "x.tmp"]
    for name in kept:
        (cache / name).write_text("mine")
    assert disk.clear() == 3
    assert sorted(contents(cache)) == sorted(kept)
    assert disk.clear() == 0


@pytest.mark.parametrize("name", [f"{'4' * 32}.o", "scratch.tmp"])
def test_clear_cache_leaves_directories_alone(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_CACHE_DIR", str(cache))
    disk.write("1" * 32, b"payload")
    (cache / name).mkdir()
    (cache / name / "file").write_text("mine")
    assert disk.clear() == 1
    assert (cache / name / "file").read_text() == "mine"


def test_clear_cache_does_not_disturb_the_process_that_uses_the_kernels(tree: Path, warm: Compiled) -> None:
    before = f"from fastrobust.kernels.compilers import cache as disk\n{LOG_Z}\nassert disk.clear() == 4"
    assert run(tree, warm.directory, before=before) == Result(warm.log_z, compiled=False)
    assert not contents(warm.directory)
