"""``fastrobust info``: what is installed and how to get the rest. Imports no framework; reads versions only."""

from __future__ import annotations

import contextlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

import fastrobust
from fastrobust import _dispatch, _threads

# What an array library is called on PyPI where that is not its name: CuPy has a package for each version of CUDA.
PACKAGES = {"cupy": ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x")}
# What a part of fastrobust needs, and the extra that brings it.
NEEDS = {
    "scipy": ("optimize", "fastrobust.optimize, fastrobust.stats, fit, demo"),
    "scikit-learn": ("sklearn", "RobustRegressor, fit, demo"),
    "pyarrow": ("cli", "fit, demo"),
    "rich": ("cli", "fit, demo"),
    "matplotlib": ("plot", "fit --plot, demo"),
}


def text(clear_cache: bool = False) -> str:
    """The whole report, after removing the compiled kernels if asked to."""
    out: list[str] = []
    if clear_cache:
        from fastrobust.kernels.compilers import cache

        try:
            out += [f"{cache.clear()} files removed from the kernel cache", ""]
        except cache.Unsafe:
            out += ["nothing removed from the kernel cache, which is refused, as said below", ""]
    installation = [
        ("fastrobust", _ours()),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"),
        *((name, _version(name) or "missing: pip install " + name) for name in ("numpy", "numba", "llvmlite")),
        ("CPU", _cpu()),
        ("cores", _cores()),
        ("kernel cache", _cache()),
    ]
    out += [f"{name:<14}{value}" for name, value in installation]

    out += ["", "array libraries"]
    for name in _dispatch.NAMES:
        release = next((v for v in map(_version, PACKAGES.get(name, (name,))) if v), None)
        if name not in _dispatch.SUPPORTED:
            line = f"{release or 'missing'}, not supported by this release"
        elif release is None:
            line = f"missing: {_dispatch.INSTALL.get(name, f'pip install {name}')}"
        else:
            line = f"{release}, supported"
        out.append(f"  {name:<14}{line}")

    out += ["", "other packages, and what needs them"]
    for name, (extra, what) in NEEDS.items():
        out.append(f"  {name:<14}{_version(name) or f'missing: {_dispatch.install(extra)}'} ({what})")
    return "\n".join(out) + "\n"


def _version(package: str) -> str | None:
    """The version of an installed package, as its metadata have it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _ours() -> str:
    """The version of this package, with a note where the metadata are of another one."""
    installed = _version("fastrobust")
    note = "" if installed == fastrobust.__version__ else f" (installed metadata says {installed or 'nothing'})"
    return f"{fastrobust.__version__}{note}"


def _cpu() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine() or "unknown"


def _cores() -> str:
    """The number of cores, and of those that this process may use."""
    total, usable = os.cpu_count() or 1, _threads.cores()
    return f"{usable} usable of {total}" if usable != total else str(total)


def _cache() -> str:
    """The directory of the kernel cache and the number of files there, or why there is none."""
    from fastrobust.kernels.compilers import cache

    anew = "kernels are compiled anew in every process"
    count = 0
    try:
        where = cache.directory()
        with contextlib.suppress(OSError):  # it is made when there is something to keep
            count = len(cache.kernels())
    except cache.Unsafe as error:
        return f"refused, {anew}: {error}"
    if where is None:
        why = "FASTROBUST_CACHE_DIR is empty" if "FASTROBUST_CACHE_DIR" in os.environ else "there is no home directory"
        return f"off ({why}): {anew}"
    shown = str(where) if str(where).isprintable() else ascii(str(where))
    existing = next((path for path in (where, *where.parents) if os.path.exists(path)), where)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return f"{shown} cannot be written: {anew}"
    return f"{shown} ({count} files)"
