"""Machine code for this CPU: compiled, kept on disk, loaded.

Why not ``@njit(cache=True)``: its cache looks only at the decorated function's own file, so that an edited helper gives
stale results; and a warm start would import Numba (0.24 s), which a cached object file does not need.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from . import cache
from .lowering import link, lower, optimize

__all__ = ["kernel"]

_JITLINK = sys.platform != "win32"  # LLVM's newer linker; on COFF it is incomplete
_libraries: dict[str, Any] = {}  # owners of loaded code; never unloaded, since ufuncs point into it


def host_is_x86() -> bool:
    """Whether this is an x86 processor."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


@functools.cache
def _target() -> tuple[Any, str]:
    """The host's target machine, and a text that identifies it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = llvm.get_host_cpu_name()
    features = ",".join(sorted(llvm.get_host_cpu_features().flatten().split(",")))  # its order varies by process
    target = llvm.Target.from_default_triple()
    # The small code model needs code and constants within 2 GiB: JITLink keeps them in one mapping.
    model = "small" if _JITLINK else "jitdefault"
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel=model)
    return machine, f"{llvm.get_default_triple()} {cpu} {features}"


def kernel(kind: str, *what: Any) -> int:
    """Address of a kernel of `cpu`, compiled or read from the cache at the first call.

    ``kernel("partition", ("value",), np.float32)`` is ``cpu.partition(("value",), np.float32)`` in machine code.
    """
    name = cache.name_of(kind, what)

    def compiled() -> bytes:
        from . import cpu  # and with it Numba

        return bytes(_target()[0].emit_object(optimized(name, getattr(cpu, kind)(*what), cpu.SIGNATURE)))

    with cache.lock:
        if name not in _libraries:
            _libraries[name] = _load(name, cache.fetch(name, _target()[1], compiled))
        return int(_libraries[name][name])


def _load(name: str, payload: bytes) -> Any:
    builder = llvm.JITLibraryBuilder().add_object_img(payload).add_current_process().export_symbol(name)
    return builder.link(_linker(), name)


@functools.cache
def _linker() -> Any:
    _target()
    return llvm.create_lljit_compiler(use_jit_link=_JITLINK)


def optimized(name: str, function: Callable[..., Any], signature: Any) -> Any:
    """The optimized LLVM module of a kernel ``void name(intp*, intp*, intp*, void*)`` for this CPU."""
    modules, description = lower(function, signature)
    inner = description.llvm_func_name
    # The entry has NumPy's signature of an inner loop.  LLVM would stop at 256 bits on some CPUs that have 512.
    entry = f"""
declare i32 @"{inner}"(ptr, ptr, ptr, ptr, ptr)
define void @"{name}"(ptr %args, ptr %dims, ptr %steps, ptr %data) #0 {{
  %result = alloca ptr
  %error = alloca ptr
  %status = call i32 @"{inner}"(ptr %result, ptr %error, ptr %args, ptr %dims, ptr %steps)
  ret void
}}
attributes #0 = {{ nounwind "prefer-vector-width"="512" }}
"""
    machine, _ = _target()
    module = link(machine, [entry, *modules], name)
    optimize(machine, module, vectorize=True)
    return module
