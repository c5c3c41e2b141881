"""The GPU as a call needs it: made current, with its kernels and the memory of the call; and arrays on it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import cupy
import numpy as np

from ...kernels.loops import compiled, launch

__all__ = ["Run", "converted", "here", "on", "stream_at"]

Kernel: TypeAlias = tuple[Any, ...]  # what `compiled.ptx` takes: the kind of kernel, then what that kind needs
Loaded: TypeAlias = "dict[Kernel, cupy.cuda.function.Function]"  # the kernels on a device
Known: TypeAlias = tuple[int, bool, Loaded]  # a device's multiprocessors, whether it is fast in doubles, its kernels


@functools.cache
def _device(number: int) -> Known:
    """What is known of a device, and the kernels that were loaded there."""
    runtime = cupy.cuda.runtime
    asked = "MultiProcessorCount", "ComputeCapabilityMajor", "ComputeCapabilityMinor"
    count, *capability = (runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttr{name}"), number) for name in asked)
    return count, tuple(capability) in launch.DOUBLES, {}


class _Stream:
    """Another library's stream, as CuPy asks for one."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer  # version of the protocol, and the stream


def stream_at(pointer: int) -> cupy.cuda.Stream:
    """The stream of another library that lies at that address."""
    return cupy.cuda.Stream.from_external(_Stream(pointer))


_captured: list[cupy.cuda.MemoryPointer] = []


@contextlib.contextmanager
def on(number: int) -> Iterator[None]:
    """The device of that number, made current.

    Memory of a call that is captured in a graph is kept: every replay writes to it again.  Not that of
    another library's allocator, as PyTorch's, which has memory for each graph and counts what lives in it.
    """
    with cupy.cuda.Device(number):
        if not cupy.cuda.get_current_stream().is_capturing():
            yield
            return
        allocate = cupy.cuda.get_allocator()
        if isinstance(getattr(allocate, "__self__", None), cupy.cuda.PythonFunctionAllocator):
            yield
            return

        def keep(size: int) -> cupy.cuda.MemoryPointer:
            _captured.append(allocate(size))
            return _captured[-1]

        with cupy.cuda.using_allocator(keep):
            yield


def _start(number: int, loaded: Loaded, what: Kernel, blocks: int, words: Sequence[int]) -> None:
    """Launch a kernel on the current stream, loaded first if it was not used on this device before."""
    kernel = loaded.get(what)
    if kernel is None:
        module = cupy.cuda.function.Module()
        module.load(compiled.ptx(*what).encode())
        kernel = loaded[what] = module.get_function("kernel")
    kernel((blocks,), (launch.THREADS,), tuple(map(np.int64, words)))


class Run:
    """The device as one call needs it, with the scratch memory of that call."""

    def __init__(self, number: int) -> None:
        count, doubles, loaded = _device(number)
        self.kept: list[cupy.ndarray] = []
        self.device = launch.Device(count, doubles, functools.partial(_start, number, loaded), self._scratch)

    def _scratch(self, count: int) -> int:
        """The address of memory for so many doubles, which lives as long as the call."""
        self.kept.append(cupy.empty(count, np.float64))
        return int(self.kept[-1].data.ptr)


def converted(name: str, value: object) -> cupy.ndarray:
    """A CuPy array: itself, or a view of other CUDA memory."""
    if isinstance(value, cupy.ndarray):
        return value
    if hasattr(value, "__dlpack__"):
        return cupy.from_dlpack(value)
    if hasattr(value, "__cuda_array_interface__"):
        return cupy.asarray(value)
    raise TypeError(f"{name} is a {type(value).__name__}: make it a CuPy array with cupy.asarray()")


def here(name: str, array: cupy.ndarray, leading: str, number: int) -> None:
    """Refuse an array on another GPU than that of the call."""
    if array.device.id != number:
        raise ValueError(
            f"{name} is on GPU {array.device.id} and {leading} on GPU {number}: move one, with cupy.asarray under "
            f"cupy.cuda.Device({number})"
        )
