"""Numba -> LLVM IR -> machine code of this CPU, with a disk cache.

Numba types and lowers a Python function; llvmlite links what it calls, inlines all of it, optimizes and emits an object
file, which is kept on disk and loaded by LLVM's linker.  Why not ``@njit(cache=True)``: its cache looks only at the
decorated function's own file, so that an edited helper gives stale results; and a warm start would import Numba
(0.24 s), which a cached object file does not need.

The cache key is a digest of every source file and table of this package, the versions of Python, NumPy, Numba and
llvmlite, and the CPU with its features.  A cache file begins with a digest of its payload, is written to a temporary
name and renamed, and is ignored unless this user owns it and nobody else may write to it.  A directory that cannot be
written means: compile again in the next process.  ``FASTROBUST_CACHE_DIR`` moves the cache; an empty value turns it
off.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import stat
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm

__all__ = ["cache_directory", "clear_cache", "kernel"]

_JITLINK = sys.platform != "win32"  # LLVM's newer linker; on COFF it is incomplete
_lock = threading.RLock()
_OURS = re.compile(r"[0-9a-f]{32}(\.o|.*\.tmp)")  # names of cache files
_libraries: dict[str, Any] = {}  # owners of loaded code; never unloaded, since ufuncs point into it


def host_is_x86() -> bool:
    """Whether this is an x86 processor."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


def cache_directory() -> Path | None:
    """Where compiled kernels are kept, or None if the cache is off or there is no home directory."""
    chosen = os.environ.get("FASTROBUST_CACHE_DIR")
    if chosen is not None:
        return Path(chosen) if chosen else None
    if sys.platform == "win32":
        variable, default = "LOCALAPPDATA", ("AppData", "Local")
    elif sys.platform == "darwin":
        variable, default = "", ("Library", "Caches")
    else:
        variable, default = "XDG_CACHE_HOME", (".cache",)
    try:
        base = Path(os.environ.get(variable) or Path.home().joinpath(*default))
    except RuntimeError:  # a user id without an account, as in containers
        return None
    return base / "fastrobust"


def clear_cache() -> int:
    """Remove all cached kernels; returns how many files went."""
    directory = cache_directory()
    try:
        found = list(directory.iterdir()) if directory else []
    except OSError:
        found = []
    files = [file for file in found if _OURS.fullmatch(file.name) and file.is_file()]
    for file in files:
        file.unlink(missing_ok=True)
    return len(files)


@functools.cache
def _target() -> tuple[Any, str]:
    """The host's target machine, and a text that identifies it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu = llvm.get_host_cpu_name()
    features = ",".join(sorted(llvm.get_host_cpu_features().flatten().split(",")))  # its order varies by process
    target = llvm.Target.from_default_triple()
    # The small code model needs code and constants within 2 GiB: JITLink keeps them in one mapping, see `_linker`.
    model = "small" if _JITLINK else "jitdefault"
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3, reloc="pic", codemodel=model)
    return machine, f"{llvm.get_default_triple()} {cpu} {features}"


def _sources() -> bytes:
    """Digest of every source file and table of this package."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.iterdir()):
        if file.suffix in (".py", ".npy"):
            content = file.read_bytes()
            digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.digest()


_SOURCES = _sources()  # as imported


@functools.cache
def _fingerprint() -> str:
    """Digest of everything that compiled code depends on, the kernel's name excepted."""
    digest = hashlib.sha256(_target()[1].encode() + _SOURCES)
    for part in (platform.python_version(), *(version(name) for name in ("numpy", "numba", "llvmlite"))):
        digest.update(part.encode() + b"\n")
    return digest.hexdigest()


def kernel(kind: str, *what: Any) -> int:
    """Address of a kernel of `cpu`, compiled or read from the cache at the first call.

    ``kernel("elementwise", "loss", ("value", "dx"), np.float32)`` is ``cpu.elementwise("loss", ...)`` in machine code.
    """
    words = (w if isinstance(w, str) else "-".join(w) if isinstance(w, tuple) else w.__name__ for w in what)
    name = "_".join((kind, *words))
    with _lock:
        if name not in _libraries:
            key = hashlib.sha256(f"{_fingerprint()} {name}".encode()).hexdigest()[:32]
            payload = _read(key)
            if payload is None:
                from . import cpu  # and with it Numba

                payload = _compile(name, getattr(cpu, kind)(*what), cpu.SIGNATURE)
                if _sources() == _SOURCES:  # else what was imported meanwhile may not be what the key says
                    _write(key, payload)
            _libraries[name] = _load(name, payload)
        return int(_libraries[name][name])


def _read(key: str) -> bytes | None:
    directory = cache_directory()
    if directory is None:
        return None
    try:
        with open(directory / f"{key}.o", "rb") as file:
            # Machine code is run as found: only what this user alone can have written is.
            if hasattr(os, "getuid"):
                status = os.fstat(file.fileno())
                if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return None
            data = file.read()
    except OSError:
        return None
    payload = data[32:]
    return payload if hashlib.sha256(payload).digest() == data[:32] and payload else None


def _write(key: str, payload: bytes) -> None:
    directory = cache_directory()
    if directory is None:
        return
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=directory, prefix=key, suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            os.replace(name, directory / f"{key}.o")
        except BaseException:
            os.unlink(name)
            raise
    except OSError:
        return  # read-only or full: the next process compiles again


def _load(name: str, payload: bytes) -> Any:
    builder = llvm.JITLibraryBuilder().add_object_img(payload).add_current_process().export_symbol(name)
    return builder.link(_linker(), name)


@functools.cache
def _linker() -> Any:
    _target()
    return llvm.create_lljit_compiler(use_jit_link=_JITLINK)


def lower(function: Callable[..., Any], signature: Any) -> tuple[list[str], Any]:
    """LLVM IR of a Python function and of all it calls, with Numba's description of it.  Nothing is made executable."""
    from numba.core import compiler, sigutils
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = "numpy"
    flags.nrt = False
    arguments, result = sigutils.normalize_signature(signature)
    with global_compiler_lock:
        typing, context = cpu_target.typing_context, cpu_target.target_context
        compiled = compiler.compile_extra(typing, context, function, arguments, result, flags, {})
    modules, seen, todo = [], set(), [compiled.library]
    while todo:
        library = todo.pop()
        if id(library) not in seen:
            seen.add(id(library))
            modules.append(str(library._final_module))
            todo += library._linking_libraries
    return modules, compiled.fndesc


# A definition up to where its attributes begin, unless it says noinline.
_DEFINITION = re.compile(
    r"^(define (?!.*noinline)[^@\n]*@\"?([\w.$-]+)\"?\(.*\)(?: local_unnamed_addr| unnamed_addr)?)", re.M
)


def _inlined(text: str, entry: str) -> str:
    """The module with every function but one to be inlined.  By text: llvmlite 0.46 marks the return value instead."""
    return _DEFINITION.sub(lambda m: m[1] if m[2] == entry else f"{m[1]} alwaysinline", text)


def link(machine: Any, modules: list[str], entry: str) -> Any:
    """One module for that machine, of which everything but ``entry`` is internal and inlined."""
    head = f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'
    linked = None
    for text in modules:
        text = re.sub(r"^target (datalayout|triple) = .*$", "", _inlined(text, entry), flags=re.M)
        module = llvm.parse_assembly(head + text)
        if linked is None:
            linked = module
        else:
            linked.link_in(module)
    assert linked is not None
    for function in linked.functions:
        if function.name != entry and not function.is_declaration:
            function.linkage = "internal"
    for variable in linked.global_variables:
        if not variable.is_declaration:
            variable.linkage = "internal"
    return linked


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
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    module.verify()
    return module


def _compile(name: str, function: Callable[..., Any], signature: Any) -> bytes:
    return bytes(_target()[0].emit_object(optimized(name, function, signature)))
