"""``--require-gpu``: a machine that should have a GPU fails where another one skips.  CuPy, and a stand-in for it.

``-n auto`` takes a process for each core, up to eight: each of them may load PyTorch and JAX.

Programs that the tests start are to be ended by Ctrl-C, which shells have the commands ignore that they start in the
background, and what these start in turn.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # which share the cores, where more threads would wait, and the GPU
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("FASTROBUST_NUM_THREADS", "2")  # so that what is written for several is tried
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of the GPU's memory

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail, instead of skip, tests that find no GPU")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Leave the tests of a file to one process as far as it goes: they share fixtures, and what they compile."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="session")
def cp(request: pytest.FixtureRequest) -> Any:
    """The module cupy, with a GPU behind it."""
    try:
        import cupy

        missing = "" if cupy.is_available() else "CuPy finds no GPU"
    except ImportError as error:
        missing = f"CuPy cannot be imported: {error}"
    if missing and request.config.getoption("--require-gpu"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return cupy


@pytest.fixture
def fake_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in of that name in place of CuPy, and the backend over it."""
    import fake_cupy

    from fastrobust import _dispatch

    found = fake_cupy.module()
    monkeypatch.setitem(sys.modules, "cupy", found)
    _forget_backend()
    monkeypatch.setattr(_dispatch, "_known", dict(_dispatch._known))
    importlib.import_module("fastrobust._backends.cupy")
    yield found
    _forget_backend()


def _forget_backend() -> None:
    """Drop the backend's modules, each of which has looked for CuPy."""
    for name in [name for name in sys.modules if name.startswith("fastrobust._backends.cupy")]:
        del sys.modules[name]


@pytest.fixture(params=["ffi", "composite"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways of JAX on CPUs: by the compiled kernels, and by XLA's operations."""
    import jax

    from fastrobust.jax import _calls

    if request.param == "composite":
        monkeypatch.setattr(_calls, "backend", lambda: "composite")
        jax.clear_caches()
    yield request.param
    if request.param == "composite":
        jax.clear_caches()
