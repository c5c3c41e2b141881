"""``fastrobust info``: what is installed and how to get the rest. Imports no framework; reads versions only."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import fastrobust

# What each array library is called on PyPI, and whether this release takes its arrays. CuPy has a package for each
# version of CUDA.
BACKENDS = (
    ("numpy", ("numpy",), "pip install numpy", True),
    ("cupy", ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x"), "pip install cupy-cuda12x", True),
    ("torch", ("torch",), "pip install torch", False),
    ("jax", ("jax",), "pip install jax", False),
    ("dask", ("dask",), 'pip install "dask[array]"', False),
)
EXTRAS = {"scipy": "cli", "pyarrow": "cli", "rich": "cli", "matplotlib": "plot"}


def show(clear_cache: bool = False) -> None:
    """Print it all, after removing the compiled kernels if asked to."""
    if clear_cache:
        from fastrobust.kernels import cache

        try:
            print(f"{cache.clear()} files removed from the kernel cache\n")
        except cache.Unsafe:
            print("nothing removed from the kernel cache, which is refused, as said below\n")
    lines = [
        ("fastrobust", _ours()),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"),
        *((name, _version(name) or "missing: pip install " + name) for name in ("numpy", "numba", "llvmlite")),
        ("CPU", _cpu()),
        ("cores", _cores()),
        ("kernel cache", _cache()),
    ]
    for name, text in lines:
        print(f"{name:<14}{text}")

    print("\narray libraries")
    for name, packages, install, supported in BACKENDS:
        found = next((v for v in map(_version, packages) if v), None)
        if not supported:
            print(f"  {name:<12}{found or 'missing'}, not supported by this release yet")
        elif found is None:
            print(f"  {name:<12}missing: {install}")
        else:
            print(f"  {name:<12}{found}, supported")

    print("\nfor the command line (fit, demo)")
    for name, extra in EXTRAS.items():
        print(f"  {name:<12}" + (_version(name) or f'missing: pip install "fastrobust[{extra}]"'))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ours() -> str:
    installed = _version("fastrobust")
    note = "" if installed == fastrobust.__version__ else f" (installed metadata says {installed or 'nothing'})"
    return f"{fastrobust.__version__}{note}"


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> str:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    return f"{usable} usable of {total}" if usable != total else str(total)


def _cache() -> str:
    from fastrobust.kernels import cache

    anew = "kernels are compiled anew in every process"
    found = 0
    try:
        where = cache.directory()
        with contextlib.suppress(OSError):  # it is made when there is something to keep
            found = len(cache.kernels())
    except cache.Unsafe as error:
        return f"refused, {anew}: {error}"
    if where is None:
        why = "FASTROBUST_CACHE_DIR is empty" if "FASTROBUST_CACHE_DIR" in os.environ else "there is no home directory"
        return f"off ({why}): {anew}"
    shown = str(where) if str(where).isprintable() else ascii(str(where))
    existing = next((path for path in (where, *where.parents) if os.path.exists(path)), where)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return f"{shown} cannot be written: {anew}"
    return f"{shown} ({found} kernels)"
