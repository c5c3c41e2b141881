"""First calls while a process forks, while threads make them at once, and while signals arrive.

Each in a process of its own.  What a thread is at when it is disturbed is not left to the clock where it can be told:
the interpreter tells of each import, and a program here stops there, forks or sends itself a signal.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from marks import slow

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
needs_signals = pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")

BEGIN = """
import faulthandler, os, signal, sys, threading, time, warnings
import numpy as np
import fastrobust as fr
warnings.simplefilter("ignore")  # that a process with threads forks
faulthandler.dump_traceback_later(280, exit=True)

def right():
    return abs(float(fr.log_partition(2.0)) - 0.9189385332046727) < 1e-12  # log(2 pi) / 2

def right_too():
    return abs(float(fr.loss(np.ones(3), 1.0, 1.0)[0]) - (2**0.5 - 1)) < 1e-12

class Watch:  # tells of each module that is about to be looked for
    def __init__(self, tell):
        self.tell = tell
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        self.tell(name)

def outcome(child):  # of a process that must not take long
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it hangs"
"""


def run(program: str, cache: Path | str, *arguments: Any, exits: int = 0) -> str:
    """What the program prints that begins as above."""
    environment = {**os.environ, "FASTROBUST_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", BEGIN + program, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == exits, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the kernels that are called here."""
    where = tmp_path_factory.mktemp("first") / "cache"
    run("assert right() and right_too() and fr.loss_and_grad(np.ones(9), 1., 1., reduction='sum')", where)
    return where


COLD = ""  # no cache: with Numba, and what a kernel takes to compile

# --- all that is imported is imported under the lock

IMPORTS = """
from fastrobust.kernels.compilers.alone import _lock
outside, watching = [], False
Watch(lambda name: outside.append(name) if watching and not _lock._is_owned() else None)

def call(function):
    global watching
    watching = True
    try:
        function()
    finally:
        watching = False
"""
NUMPY = """
x = np.linspace(-3, 3, 200_000)
call(right)
call(right_too)
call(lambda: fr.loss(x, 1.0, 1.0))
call(lambda: fr.loss_and_grad(x, 1.0, 1.0, reduction="sum"))
call(lambda: fr.loss_and_grad(x[:9], 1.0, 1.0, reduction="sum", weights=np.ones(9)))
call(lambda: fr.log_partition(1.0, truncation=3.0))
"""
SCIPY = """
import fastrobust.stats
from fastrobust import optimize
random = np.random.default_rng(0)
X, y = random.normal(size=(50, 2)), random.normal(size=50)
call(lambda: optimize.RobustRegressor().fit(X, y).predict(X))
call(lambda: optimize.irls(X, y, 1.0, 1.0))
call(lambda: optimize.fit_shape(y))
call(lambda: fastrobust.stats.barron.cdf(1.0, 1.0))
call(lambda: fastrobust.stats.barron.rvs(1.0, size=9, random_state=0))
"""


def test_what_a_call_imports_it_imports_under_the_lock(warm: Path) -> None:
    assert run(f"{IMPORTS}{NUMPY}print(outside)", warm) == "[]\n"


@pytest.mark.slow
def test_what_a_loop_imports_it_imports_under_the_lock(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the loops need SciPy and scikit-learn")
    assert run(f"{IMPORTS}{SCIPY}print(outside)", tmp_path / "cache") == "[]\n"


def test_an_import_elsewhere_is_seen(warm: Path) -> None:
    assert run(f"{IMPORTS}call(lambda: __import__('colorsys'))\nprint(outside)", warm) == "['colorsys']\n"


@pytest.mark.parametrize(
    "modules",
    [
        "_backends.numpy stats optimize optimize._regressor cli.fit "
        "kernels.compilers.ptx kernels.loops.cpu kernels.loops.xla kernels.loops.traced",
        *slow("torch compat.robust_loss_pytorch jax"),
    ],
)
def test_no_module_makes_a_first_call_when_it_is_imported(modules: str) -> None:
    """It would wait for the lock with its import lock in hand, for which another first call may wait."""
    program = """
import importlib
from fastrobust.kernels.compilers import alone
def forbidden(work):
    raise AssertionError("a first call")
alone.alone = forbidden
for name in sys.argv[1].split():
    try:
        importlib.import_module("fastrobust." + name)
    except ModuleNotFoundError as error:
        assert not error.name.startswith("fastrobust"), error
"""
    run(program, COLD, modules)


# --- forks

FORK = """
reached = threading.Event()

def tell(name):
    if name == sys.argv[1]:
        reached.set()
        time.sleep(0.1)  # the fork comes now, or waits

Watch(tell)
thread = threading.Thread(target=right)
thread.start()
assert reached.wait(60)
child = os.fork()
if not child:
    os._exit(0 if right() else 1)
print(outcome(child))
thread.join()
assert right()
"""
WHERE = ["fastrobust._backends.numpy", "fastrobust.kernels.compilers.native", "llvmlite.binding.executionengine"]


@needs_fork
@pytest.mark.parametrize("module", WHERE)
def test_a_child_born_while_another_thread_imports_computes(module: str, warm: Path) -> None:
    assert run(FORK, warm, module) == "0\n"


@needs_fork
@pytest.mark.parametrize("module", ["numba.core.types", *slow("fastrobust.kernels.loops.cpu")])
def test_a_child_born_while_another_thread_imports_numba_computes(module: str) -> None:
    assert run(FORK, COLD, module) == "0\n"


DELAYED_FORK = """
thread = threading.Thread(target=right_too)
thread.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if not child:
    os._exit(0 if right_too() else 1)
print(outcome(child))
"""


@needs_fork
@pytest.mark.slow
def test_a_child_born_at_any_time_computes(warm: Path) -> None:
    for hundredths in range(0, 50, 4):
        assert run(DELAYED_FORK, warm, hundredths / 100) == "0\n", hundredths
    for tenths in range(0, 30, 5):
        assert run(DELAYED_FORK, COLD, tenths / 10) == "0\n", tenths


@needs_fork
def test_a_fork_that_waits_does_not_hold_what_a_first_call_needs() -> None:
    """Forking locks loggers, and Numba asks for some."""
    program = """
import logging
from fastrobust.kernels.compilers.alone import alone
inside = threading.Event()
def work():
    inside.set()
    time.sleep(0.3)  # until the other thread wants to fork
    logging.getLogger("new")
thread = threading.Thread(target=alone, args=(work,))
thread.start()
inside.wait()
child = os.fork()
if not child:
    os._exit(0 if alone(lambda: True) else 1)
print(outcome(child))
"""
    assert run(program, COLD) == "0\n"


@needs_fork
def test_children_born_during_large_calls_compute(warm: Path) -> None:
    """They have the pool of their parent, and none of its threads."""
    program = """
x = np.ones(1 << 20)
want = fr.loss(x, 1.0, 1.0)
go = True
def calls():
    while go:
        assert np.array_equal(fr.loss(x, 1.0, 1.0), want)
threads = [threading.Thread(target=calls) for _ in range(2)]
for thread in threads:
    thread.start()
found = []
for _ in range(10):
    child = os.fork()
    if not child:
        os._exit(0 if np.array_equal(fr.loss(x, 1.0, 1.0), want) else 1)
    found.append(outcome(child))
go = False
print(found)
"""
    assert run(program, warm) == f"{[0] * 10}\n"


@needs_fork
def test_children_born_while_the_pool_starts_compute(warm: Path) -> None:
    """Forking locks the starting of threads, too."""
    program = """
from fastrobust import _threads
x = np.ones(1 << 18)
right_too()
found = []
for i in range(30):
    _threads._started.clear()
    thread = threading.Thread(target=fr.loss, args=(x, 1.0, 1.0))
    thread.start()
    time.sleep(i % 10 * 5e-5)
    child = os.fork()
    if not child:
        os._exit(0 if np.all(np.abs(fr.loss(x, 1.0, 1.0) - (2**0.5 - 1)) < 1e-12) else 1)
    found.append(outcome(child))
    thread.join()
print(found)
"""
    assert run(program, warm) == f"{[0] * 30}\n"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_multiprocessing_compute(method: str, warm: Path, tmp_path: Path) -> None:
    """While a thread of the parent's makes its first call."""
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    file = tmp_path / "workers.py"
    file.write_text(
        """
import concurrent.futures, multiprocessing, sys, threading
import numpy as np
import fastrobust as fr

def work(n):
    return float(fr.loss(np.ones(n), 1.0, 1.0)[-1])

if __name__ == "__main__":
    thread = threading.Thread(target=work, args=(3,))
    thread.start()
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(work, [3, 200_000], timeout=60))
    thread.join()
    print(found == [work(3)] * 2)
"""
    )
    command = [sys.executable, "-W", "ignore", str(file), method]
    environment = {**os.environ, "FASTROBUST_CACHE_DIR": str(warm)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == "True\n", done.stderr


# --- threads


@pytest.mark.parametrize(("state", "kernels"), [("warm", 2), ("cold", 1)])
def test_threads_that_make_their_first_calls_at_once_compute(state: str, kernels: int, warm: Path) -> None:
    program = """
barrier, found = threading.Barrier(8), []
def first(function):
    barrier.wait()
    found.append(function())
threads = [threading.Thread(target=first, args=((right, right_too)[i % int(sys.argv[1])],)) for i in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(found)
"""
    assert run(program, warm if state == "warm" else COLD, kernels) == f"{[True] * 8}\n"


# --- signals

SIGNALS = """
class Interrupt(BaseException):
    pass

armed, interrupted = False, 0

def handler(number, frame):  # raises in the call only, not where this program counts
    global armed
    if armed:
        armed = False
        raise Interrupt

number = getattr(signal, sys.argv[1])
signal.signal(number, handler)

def until_done(function):
    global armed, interrupted
    while True:
        try:
            armed = True
            found = function()
            armed = False
            return found
        except Interrupt:
            interrupted += 1
"""
# The signal comes when one of these modules is imported.
WATCHED = """
modules = set(sys.argv[2].split())

def tell(name):
    if name in modules:
        modules.discard(name)
        os.kill(os.getpid(), number)

Watch(tell)
"""
AT_IMPORTS = """
assert until_done(right) and until_done(right)
assert interrupted and not modules, (interrupted, modules)
assert signal.getsignal(number) is handler
"""
IN_WARM = "fastrobust._backends.numpy fastrobust.kernels.compilers.native llvmlite.binding.executionengine"
IN_COLD = "numba.core.config numba.core.types numba.np.ufunc fastrobust.kernels.losses.partition"


@needs_signals
@pytest.mark.parametrize("name", ["SIGINT", "SIGALRM"])
def test_an_exception_from_a_signal_in_the_middle_of_an_import_breaks_nothing(name: str, warm: Path) -> None:
    run(SIGNALS + WATCHED + AT_IMPORTS, warm, name, IN_WARM)


@needs_signals
def test_an_exception_from_a_signal_in_the_middle_of_numba_breaks_nothing() -> None:
    run(SIGNALS + WATCHED + AT_IMPORTS, COLD, "SIGINT", f"{IN_WARM} {IN_COLD}")


THE_USERS_OWN = """
import importlib
importlib.import_module(sys.argv[3])
"""
OF_A_PART = """
until_done(lambda: importlib.import_module("fastrobust." + sys.argv[3]))
assert until_done(right)
assert interrupted and not modules, (interrupted, modules)
"""


@needs_signals
@pytest.mark.parametrize(
    ("framework", "modules"),
    [
        ("torch", "sympy.functions fastrobust.torch._modules"),
        ("jax", "fastrobust.kernels.losses.partition fastrobust.jax._calls"),
    ],
)
def test_an_exception_from_a_signal_in_the_middle_of_a_part_leaves_it_importable(
    framework: str, modules: str, warm: Path
) -> None:
    pytest.importorskip(framework, reason=f"needs {framework}")
    run(SIGNALS + THE_USERS_OWN + WATCHED + OF_A_PART, warm, "SIGINT", modules, framework)


HAIL = """
go = True

def hail():
    while go:
        os.kill(os.getpid(), number)
        time.sleep(0.01)

thread = threading.Thread(target=hail)
thread.start()
found = until_done(right) and until_done(right)
armed = go = False
thread.join()
assert found and interrupted
"""


@needs_signals
def test_signals_every_hundredth_second_break_nothing() -> None:
    run(SIGNALS + HAIL, COLD, "SIGINT")


@needs_signals
@pytest.mark.slow
@pytest.mark.parametrize("state", ["warm", "cold"])
def test_ctrl_c_at_any_time_breaks_nothing(state: str, warm: Path) -> None:
    program = """
threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    right()
    right_too()
    time.sleep(60)
except KeyboardInterrupt:
    assert right() and right_too()
    print("right")
"""
    delays = range(1, 60, 6) if state == "warm" else range(1, 400, 60)
    for hundredths in delays:
        assert run(program, warm if state == "warm" else COLD, hundredths / 100) == "right\n", hundredths


@needs_signals
def test_a_program_that_ctrl_c_ends_in_its_first_call_ends(warm: Path) -> None:
    program = """
Watch(lambda name: os.kill(os.getpid(), signal.SIGINT) if name == "llvmlite.binding" else None)
right()
print("not reached")
"""
    assert run(program, warm, exits=-signal.SIGINT) == ""


# --- signals in large calls


@needs_signals
def test_ctrl_c_in_a_large_call_leaves_nobody_writing(warm: Path) -> None:
    """What was being computed would go into an array that is used for something else by then."""
    program = """
x, out, interrupted = np.ones(1 << 21), np.empty(1 << 21), 0
want = fr.loss(x, 1.0, 1.0)
while interrupted < 15:
    armed = True
    try:
        threading.Timer(0.002, os.kill, (os.getpid(), number)).start()
        while armed:
            fr.loss(x, 1.0, 1.0, out=out)
    except Interrupt:
        interrupted += 1
        out[:] = -1
        time.sleep(0.02)
        assert np.all(out == -1)
assert np.array_equal(fr.loss(x, 1.0, 1.0), want)
"""
    run(SIGNALS + program, warm, "SIGINT")
