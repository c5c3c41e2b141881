"""``fastrobust info``: what is installed and how to get the rest. Imports no framework; reads versions only."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import fastrobust
from fastrobust import _dispatch

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
    """All of it, after removing the compiled kernels if asked to."""
    out: list[str] = []
    if clear_cache:
        from fastrobust.kernels import cache

        out += [f"{cache.clear()} files removed from the kernel cache", ""]
    own = [
        ("fastrobust", _ours()),
        ("python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"),
        *((name, _version(name) or "missing: pip install " + name) for name in ("numpy", "numba", "llvmlite")),
        ("CPU", _cpu()),
        ("cores", _cores()),
        ("kernel cache", _cache()),
    ]
    out += [f"{name:<14}{value}" for name, value in own]

    out += ["", "array libraries"]
    for name, supported in _libraries().items():
        found = next((v for v in map(_version, PACKAGES.get(name, (name,))) if v), None)
        if not supported:
            line = f"{found or 'missing'}, not supported by this release"
        elif found is None:
            line = f"missing: {_dispatch.INSTALL.get(name, f'pip install {name}')}"
        else:
            line = f"{found}, supported"
        out.append(f"  {name:<14}{line}")

    out += ["", "other packages, and what needs them"]
    for name, (extra, what) in NEEDS.items():
        out.append(f"  {name:<14}{_version(name) or f'missing: {_dispatch.install(extra)}'} ({what})")
    return "\n".join(out) + "\n"


def _libraries() -> dict[str, bool]:
    """The array libraries that the dispatcher knows, and whether it takes their arrays.

    Two that one module handles are one library: jaxlib holds the arrays of JAX.
    """
    first: dict[str, str] = {}
    for name, module in _dispatch._LIBRARIES.items():
        first.setdefault(module or name, name)
    return {name: _dispatch._LIBRARIES[name] is not None for name in first.values()}


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

    where = cache.directory()
    if where is None:
        why = "FASTROBUST_CACHE_DIR is empty" if "FASTROBUST_CACHE_DIR" in os.environ else "there is no home directory"
        return f"off ({why}): kernels are compiled anew in every process"
    existing = next((p for p in (where, *where.parents) if p.exists()), where)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return f"{where} cannot be written: kernels are compiled anew in every process"
    files = [entry for entry in os.scandir(where) if entry.name.endswith(".o")] if where.exists() else []
    return f"{where} ({len(files)} kernels)"
