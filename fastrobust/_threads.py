"""Threads: one piece of work after the other from a common list, until it is empty.

The caller takes part.  It waits only for pieces that others have begun, and leaves none behind, whatever interrupts it:
they would go on writing into arrays that are somebody else's by then.

Not `concurrent.futures`: whose thread could not be started has its work queued nevertheless, so that it is done twice,
or later; it cannot be imported any more when the main thread has ended; and it registers a lock for forks, which first
calls then have to do with.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable

from .kernels.compilers.alone import alone, uninterrupted

__all__ = ["cores", "count", "in_threads"]

_started: list[tuple[queue.SimpleQueue[Callable[[], object]], int]] = []  # what the helpers are asked by; all threads
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_started.clear)  # a child lacks the threads


def count() -> int:
    """The number of threads that share a large call, the caller among them.

    That is the environment's FASTROBUST_NUM_THREADS, else OMP_NUM_THREADS, else the cores that this process may use.

    Raises
    ------
    ValueError
        If FASTROBUST_NUM_THREADS is no number of threads. What others read in OMP_NUM_THREADS is left to them to judge.
    """
    own = os.environ.get("FASTROBUST_NUM_THREADS", "").strip()
    if own:
        if not own.isdecimal() or int(own) == 0:
            raise ValueError(
                f"FASTROBUST_NUM_THREADS must be a number of threads, got {own!r}: set it to 1, 2, ... or unset it"
            )
        return int(own)
    of_openmp = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # of the first of nested levels
    if of_openmp.isdecimal() and int(of_openmp) > 0:
        return int(of_openmp)
    return cores()


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pool() -> tuple[Callable[[Callable[[], object]], object], int]:
    """The way to ask a helper, and the number of threads with the caller; they are started at the first call."""
    if not _started:
        alone(_start)
    tasks, threads = _started[0]
    return tasks.put, threads


def _start() -> None:
    """Start the threads, one less than `count`, as far as the process gets them."""
    if not _started:
        wanted = count()
        tasks, threads = queue.SimpleQueue[Callable[[], object]](), 1
        with contextlib.suppress(RuntimeError):  # no more for this process, or none since the interpreter shuts down
            for _ in range(wanted - 1):
                threading.Thread(target=_serve, args=(tasks,), name="fastrobust", daemon=True).start()
                threads += 1
        _started.append((tasks, threads))


def _serve(tasks: queue.SimpleQueue[Callable[[], object]]) -> None:
    """Do one task after the other, for as long as the process lives: what a thread runs."""
    while True:
        tasks.get()()  # whose work is not kept until the next one


def in_threads(work: Callable[[int, int], None], total: int, grain: int, most: int) -> None:
    """work(start, stop) over range(total), in equal parts for the threads; multiples of grain, of no more than most.

    The threads are asked to help once each, and the caller works through the same list meanwhile.  It counts what was
    done, and ends when all was; on an error or a signal it empties the list and waits for who is still at a piece.
    """
    ask, threads = _pool()
    step = max(1, min(-(-total // (threads * grain)), most // grain)) * grain
    pieces = [(start, min(start + step, total)) for start in range(0, total, step)]
    begun: list[None] = []  # an entry for each helper at it
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def help_out() -> None:
        """Work through the list beside the caller, and hand an error over to it: what a thread is asked to do."""
        begun.append(None)  # before the look at the list: who empties it looks here afterwards
        try:
            while piece := _next(pieces):
                try:
                    work(*piece)
                    done.put(None)
                except BaseException as error:
                    done.put(error)
        finally:
            begun.pop()

    def finish() -> None:
        pieces.clear()
        while begun:
            time.sleep(1e-3)

    left = len(pieces)
    try:
        for _ in range(min(threads, left) - 1):
            ask(help_out)
        while piece := _next(pieces):
            work(*piece)
            left -= 1
        for _ in range(left):
            if error := done.get():
                raise error
    except BaseException:
        uninterrupted(finish)
        raise


def _next(pieces: list[tuple[int, int]]) -> tuple[int, int] | None:
    """A piece taken from the list, None when it is empty; no two threads take the same one."""
    try:
        return pieces.pop()
    except IndexError:
        return None
