"""Machine code for this CPU: compiled, kept on disk, loaded.

Why not ``@njit(cache=True)``: its cache looks only at the decorated function's own file, so that an edited helper gives
stale results; and a warm start would import Numba (0.24 s), which a cached object file does not need.
"""

from __future__ import annotations

import functools
import itertools
import os
import platform
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm

from . import cache
from .alone import alone
from .lowering import link, optimize

if TYPE_CHECKING:
    from ..arithmetic.numba_private import Lowered

__all__ = ["addresses", "compiled", "host_is_x86"]

_JITLINK = sys.platform != "win32"  # LLVM's newer linker; on COFF it is incomplete
_libraries: dict[str, Any] = {}  # owners of loaded code; never unloaded, since ufuncs point into it


def host_is_x86() -> bool:
    """Tell whether this is an x86 processor."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


@functools.cache
def _target() -> tuple[Any, str]:
    """The host's target machine, and a text that identifies it.

    Numba's users tell it by ``NUMBA_CPU_NAME`` and ``NUMBA_CPU_FEATURES`` what to compile for; they mean the same here.
    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = os.environ.get("NUMBA_CPU_NAME", llvm.get_host_cpu_name())
    host = sorted(llvm.get_host_cpu_features().flatten().split(","))  # its order varies by process
    features = os.environ.get("NUMBA_CPU_FEATURES", "" if cpu.lower() == "generic" else ",".join(host))
    target = llvm.Target.from_default_triple()
    # The small code model needs code and constants within 2 GiB: JITLink keeps them in one mapping.
    model = "small" if _JITLINK else "jitdefault"
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel=model)
    return machine, f"{llvm.get_default_triple()} {cpu} {features}"


def addresses(
    name: str, modules: tuple[str, ...] | None, symbols: tuple[str, ...], compiled: Callable[[], bytes]
) -> list[int]:
    """The addresses of symbols in the object of that name, which those modules make; loaded once."""

    def load(payload: bytes) -> Any:
        """The object as a library of this process."""
        # LLVM loads a processor's code on any other's, and takes the name of a library even if that fails.
        if payload[:_HEADER] != _header():
            raise ValueError("an object for another processor")
        builder = llvm.JITLibraryBuilder().add_object_img(payload).add_current_process()
        for symbol in symbols:
            builder.export_symbol(symbol)
        return builder.link(_linker(), f"{name} {next(_loads)}")

    def loaded() -> Any:
        if name not in _libraries:
            used = None if modules is None else ("compilers.native", *modules)
            _libraries[name] = cache.fetch(name, used, _target()[1], compiled, load)
        return _libraries[name]

    library = alone(loaded)
    return [int(library[symbol]) for symbol in symbols]


_loads = itertools.count()
_HEADER = {"win32": 2, "darwin": 12}.get(sys.platform, 20)  # bytes up to where an object says what it is for


@functools.cache
def _header() -> bytes:
    """The bytes with which every object for this processor begins."""
    return bytes(_target()[0].emit_object(llvm.parse_assembly("")))[:_HEADER]


@functools.cache
def _linker() -> Any:
    """LLVM's linker, which loads all kernels of the process."""
    _target()
    return llvm.create_lljit_compiler(use_jit_link=_JITLINK)


def compiled(name: str, inner: Lowered, entry: str) -> bytes:
    """The object file of a function for this CPU: see `optimized`."""
    return bytes(_target()[0].emit_object(optimized(name, inner, entry)))


def optimized(name: str, inner: Lowered, entry: str) -> Any:
    """The optimized LLVM module of a function that is lowered, for this CPU.

    ``entry`` is LLVM IR of what calls it, in which ``INNER`` stands for its name, and ``NAME`` begins the names of what
    is visible.
    """
    machine, _ = _target()
    module = link(machine, [inner.called_by(entry).replace("NAME", name), *inner.modules], name)
    optimize(machine, module, vectorize=True)
    return module
