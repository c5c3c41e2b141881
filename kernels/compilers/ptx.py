"""PTX for NVIDIA GPUs: Numba -> LLVM IR -> LLVM's own NVPTX back end, which llvmlite carries.

No CUDA toolkit, no libdevice, no driver.  One text for every GPU from compute capability 7.5 on: the driver compiles
PTX for the GPU at hand.  Every floating-point operation comes out rounded (``.rn``), so that nobody contracts it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm

from . import cache
from .alone import alone
from .lowering import link, lower, optimize

__all__ = ["CAPABILITY", "compiled", "text"]

CAPABILITY = "sm_75"
_TRIPLE = "nvptx64-nvidia-cuda"
_texts: dict[str, str] = {}


@functools.cache
def _machine() -> Any:
    """LLVM's target machine for the oldest GPU that runs the kernels."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(_TRIPLE).create_target_machine(cpu=CAPABILITY, opt=3)


def text(name: str, modules: tuple[str, ...] | None, compiled: Callable[[], str]) -> str:
    """The PTX of that name, which those modules make; from the cache, if it is there."""

    def loaded() -> str:
        if name not in _texts:
            used = None if modules is None else ("compilers.ptx", *modules)
            _texts[name] = cache.fetch(name, used, _TRIPLE + CAPABILITY, lambda: compiled().encode(), _whole)
        return _texts[name]

    return alone(loaded)


def _whole(payload: bytes) -> str:
    """The text, if it looks like a kernel's for that GPU, to its end."""
    text = payload.decode()
    if f".target {CAPABILITY}" not in text or ".entry kernel(" not in text or not text.rstrip().endswith("}"):
        raise ValueError("not the PTX of a kernel")
    return text


def compiled(function: Callable[..., Any], signature: Any, count: int, threads: int, blocks: int) -> str:
    """The PTX of a Python function of a pointer to int64, whose kernel takes so many words.

    It is launched in blocks of so many threads, of which so many share a multiprocessor's registers at least.
    """
    inner = lower(function, signature)
    parameters = ", ".join(f"i64 %w{i}" for i in range(count))
    stores = "\n".join(
        f"  %p{i} = getelementptr i64, ptr %words, i64 {i}\n  store i64 %w{i}, ptr %p{i}" for i in range(count)
    )
    entry = f"""
declare i32 @"INNER"(ptr, ptr, ptr)
define ptx_kernel void @kernel({parameters}) {{
  %result = alloca ptr
  %error = alloca ptr
  %words = alloca [{count} x i64]
{stores}
  %status = call i32 @"INNER"(ptr %result, ptr %error, ptr %words)
  ret void
}}
!nvvm.annotations = !{{!0}}
!0 = !{{ptr @kernel, !"maxntidx", i32 {threads}, !"minctasm", i32 {blocks}}}
"""
    module = link(_machine(), [inner.called_by(entry), *inner.modules], "kernel")
    optimize(_machine(), module, vectorize=False)
    return re.sub(r"^//.*\n", "", str(_machine().emit_assembly(module)), flags=re.M)
