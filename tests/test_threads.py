"""Work shared out among threads: each piece once, none left behind, whatever happens to the caller."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fastrobust import _threads
from fastrobust._threads import in_threads


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[concurrent.futures.Executor]:
    with concurrent.futures.ThreadPoolExecutor(3) as found:
        monkeypatch.setattr(_threads, "_pool", lambda: (found.submit, 4))
        yield found


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """No helpers yet, and a list of those that are started, which nobody ends: they wait until the process does."""
    found: list[Any] = []
    start = threading.Thread.start

    def noted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name == "fastrobust":
            found.append(thread)

    monkeypatch.setattr(threading.Thread, "start", noted)
    monkeypatch.setattr(_threads, "_started", [])
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    for name in ("FASTROBUST_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return found


class Counted:
    """How often each number was worked on, and by how many threads right now."""

    def __init__(self, count: int, at_work: Callable[[int], None] = lambda start: None) -> None:
        self.times, self.now, self.lengths, self.at_work = [0] * count, 0, set[int](), at_work
        self.lock = threading.Lock()

    def __call__(self, start: int, stop: int) -> None:
        with self.lock:
            self.now += 1
            self.lengths.add(stop - start)
        try:
            self.at_work(start)
            for i in range(start, stop):
                self.times[i] += 1
        finally:
            with self.lock:
                self.now -= 1


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 100, 1023, 1024, 1025])
@pytest.mark.parametrize(("grain", "most"), [(1, 1 << 20), (256, 1 << 20), (1, 7), (256, 7), (16, 100), (1, 0)])
def test_all_is_done_once_in_pieces_of_the_wanted_lengths(
    count: int, grain: int, most: int, pool: concurrent.futures.Executor
) -> None:
    work = Counted(count)
    in_threads(work, count, grain, most)
    assert work.times == [1] * count and work.now == 0
    assert all(length <= max(most, grain) for length in work.lengths)
    assert sum(length % grain > 0 for length in work.lengths) <= 1, "the last one"


def test_threads_take_part(pool: concurrent.futures.Executor) -> None:
    together = threading.Barrier(4)
    in_threads(Counted(4, lambda start: together.wait(30) and None), 4, 1, 1)


def test_helpers_that_come_late_find_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place, doing it twice would be wrong; and so would be doing it later."""
    asked: list[Callable[[], Any]] = []
    monkeypatch.setattr(_threads, "_pool", lambda: (asked.append, 4))
    work = Counted(100)
    in_threads(work, 100, 1, 10)
    assert work.times == [1] * 100
    for late in asked:
        late()
    assert len(asked) == 3 and work.times == [1] * 100


@pytest.mark.parametrize(
    ("own", "of_openmp", "threads"),
    [(None, None, 4), ("3", None, 3), ("1", "2", 1), (None, "2", 2), (None, "3,2", 3), ("", "2", 2), (None, "many", 4),
     (None, "0", 4), (" 6 ", None, 6)],
)  # fmt: skip
def test_the_environment_says_how_many_threads(
    own: str | None, of_openmp: str | None, threads: int, unstarted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FASTROBUST_NUM_THREADS", own), ("OMP_NUM_THREADS", of_openmp)):
        if value is not None:
            monkeypatch.setenv(name, value)
    work = Counted(100)
    in_threads(work, 100, 1, 10)
    assert work.times == [1] * 100
    assert len(unstarted) + 1 == threads == _threads.count()


@pytest.mark.parametrize("own", ["0", "-1", "2.0", "all"])
def test_no_number_of_threads_is_an_error(own: str, unstarted: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTROBUST_NUM_THREADS", own)
    with pytest.raises(ValueError, match=f"FASTROBUST_NUM_THREADS must be a number of threads, got '{own}': set it to"):
        in_threads(Counted(100), 100, 1, 10)
    monkeypatch.setenv("FASTROBUST_NUM_THREADS", "2")
    in_threads(Counted(100), 100, 1, 10)
    assert len(unstarted) == 1


@pytest.mark.parametrize("possible", [0, 1, 2, 3])
def test_as_many_threads_as_can_be_started(
    possible: int, unstarted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if len(unstarted) == possible:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    for _ in range(3):
        work = Counted(100)
        in_threads(work, 100, 1, 10)
        assert work.times == [1] * 100
    assert len(unstarted) == possible and _threads._started[0][1] == possible + 1


def test_threads_are_started_once(unstarted: list[Any]) -> None:
    together = threading.Barrier(3)

    def call(_: int) -> None:
        together.wait(30)
        in_threads(Counted(100), 100, 1, 10)

    with concurrent.futures.ThreadPoolExecutor(3) as users:
        list(users.map(call, range(3)))
    assert len(unstarted) == 3 and all(thread.daemon for thread in unstarted)


@pytest.mark.parametrize("where", ["the caller", "another thread"])
def test_an_error_is_raised_when_nobody_works_any_more(where: str, pool: concurrent.futures.Executor) -> None:
    caller = threading.get_ident()
    here = {True: threading.Event(), False: threading.Event()}  # the caller, and somebody else

    def at_work(start: int) -> None:
        mine = threading.get_ident() == caller
        here[mine].set()
        assert here[not mine].wait(30)
        if mine == (where == "the caller"):
            raise KeyboardInterrupt(start) if mine else MemoryError(start)
        time.sleep(1e-3)

    work = Counted(1000, at_work)
    with pytest.raises(KeyboardInterrupt if where == "the caller" else MemoryError):
        in_threads(work, 1000, 1, 1)
    assert work.now == 0
    before = list(work.times)
    assert max(before) == 1 and sum(before) < 1000
    list(pool.map(lambda _: None, range(8)))  # whatever was queued has been looked at
    assert work.times == before


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, also where this process is one that a shell has in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_a_second_ctrl_c_does_not_leave_them_working(pool: concurrent.futures.Executor, ctrl_c: None) -> None:
    """The first one stops the caller, which then waits for the others, and the second meets it there."""
    caller, begun, go = threading.get_ident(), threading.Event(), threading.Event()

    def at_work(start: int) -> None:
        if threading.get_ident() == caller:
            begun.wait(30)
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            threading.Timer(0.2, go.set).start()
            signal.raise_signal(signal.SIGINT)
        else:
            begun.set()
            go.wait(30)

    work = Counted(4, at_work)
    with pytest.raises(KeyboardInterrupt) as raised:
        in_threads(work, 4, 1, 1)
    assert go.is_set() and work.now == 0
    assert isinstance(raised.value.__context__, KeyboardInterrupt), "both have come"
