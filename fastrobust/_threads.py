"""Threads: one piece of work after the other from a common list, until it is empty.

The caller takes part.  It waits only for pieces that others have begun, and leaves none behind, whatever interrupts it:
they would go on writing into arrays that are somebody else's by then.  What a pool that cannot start threads has queued
finds the list empty.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .kernels.alone import uninterrupted

__all__ = ["in_threads"]


@functools.cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    return uninterrupted(_started)  # not `alone`: forking locks the starting of threads before it waits for that


def _started() -> tuple[ThreadPoolExecutor, int]:
    """A pool and how many threads it has, all started: an interrupted start would leave one that nobody ends."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool, go = ThreadPoolExecutor(count, "fastrobust"), threading.Event()
    with contextlib.suppress(RuntimeError):  # no more threads, or none any more since the interpreter is shutting down
        for _ in range(count):
            pool.submit(go.wait)
    go.set()
    return pool, count


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has the pool, but not its threads


def in_threads(work: Callable[[int, int], None], count: int, grain: int, most: int) -> None:
    """work(start, stop) over range(count), in equal parts for the cores; multiples of grain, of no more than most."""
    pool, threads = _pool()
    step = max(1, min(-(-count // (threads * grain)), most // grain)) * grain
    pieces = [(start, min(start + step, count)) for start in range(0, count, step)]
    begun: set[int] = set()  # by threads of the pool
    done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def help_out(number: int) -> None:
        begun.add(number)  # before the look at the list: who empties it looks here afterwards
        try:
            while piece := _next(pieces):
                try:
                    work(*piece)
                    done.put(None)
                except BaseException as error:
                    done.put(error)
        finally:
            begun.discard(number)

    def finish() -> None:
        pieces.clear()
        while begun:
            time.sleep(1e-3)

    left = len(pieces)
    try:
        with contextlib.suppress(RuntimeError):  # the pool starts no threads: see above
            for number in range(min(threads, left) - 1):
                pool.submit(help_out, number)
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
    try:
        return pieces.pop()
    except IndexError:
        return None
