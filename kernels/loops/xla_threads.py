"""Several of XLA's threads on one plan: its units in pieces, handed out by a counter that the threads share."""

from __future__ import annotations

from ..arithmetic.primitives import inlined, min
from . import xla_frame as f
from .memory import WORD, address_of, pointer, scratch
from .panels import PARALLEL
from .xla_calls import threads_of
from .xla_machine import add_at, ask, free, malloc, sched_yield
from .xla_plan import LINE, MODE, PLAN, UNITS
from .xla_units import span

__all__ = ["leave", "take_part", "work"]

PIECES = 4  # of work for each thread, so that none waits long for another

# What threads share, behind a plan: the next piece, how many are done, who still looks at it; units of a piece, pieces.
NEXT, DONE, USERS, GRAIN, PARTS = range(PLAN, PLAN + 5)
SHARED = PLAN + 5


@inlined
def take_part(plan):
    """Do pieces until there are none left, then forget the plan; whoever is the last frees its memory."""
    while True:
        piece = add_at(plan, NEXT, 1)
        if piece >= plan[PARTS]:
            break
        first = piece * plan[GRAIN]
        span(plan, first, min(first + plan[GRAIN], plan[UNITS]))
        add_at(plan, DONE, 1)


@inlined
def leave(plan):
    """Forget a shared plan; the last of its users frees the memory."""
    if add_at(plan, USERS, -1) == 1:
        free(address_of(plan))


@inlined
def _share(frame, table, plan, threads):
    """Do the plan's work on several threads; False if there is no memory for it."""
    address = malloc(8 * SHARED)
    if address == 0:
        return False
    shared = pointer(address, WORD)
    for i in range(PLAN):
        shared[i] = plan[i]
    pieces = min(threads * PIECES, plan[UNITS])
    grain = -(-plan[UNITS] // pieces)
    grain = -(-grain // 256) * 256 if plan[MODE] == LINE else grain
    pieces = -(-plan[UNITS] // grain)
    shared[NEXT], shared[DONE], shared[GRAIN], shared[PARTS] = 0, 0, grain, pieces
    shared[USERS] = threads
    api = pointer(frame[f.FRAME_API], WORD)
    args = scratch(5, WORD)
    for _ in range(threads - 1):
        args[0], args[1], args[2], args[3], args[4] = f.SCHEDULE_SIZE, 0, frame[f.FRAME_CONTEXT], table[f.TASK], address
        error = ask(api[f.API_SCHEDULE], address_of(args))
        if error != 0:
            args[0], args[1], args[2] = f.ERROR_DESTROY_SIZE, 0, error
            ask(api[f.API_ERROR_DESTROY], address_of(args))
            add_at(shared, USERS, -1)
    take_part(shared)
    while add_at(shared, DONE, 0) < pieces:
        sched_yield()
    leave(shared)
    return True


@inlined
def work(frame, table, plan, elements):
    """Do all units of a plan, on several threads if there are elements enough."""
    if elements >= PARALLEL and plan[UNITS] > 1:
        threads = threads_of(frame)
        if threads > 1 and _share(frame, table, plan, threads):
            return
    span(plan, 0, plan[UNITS])
