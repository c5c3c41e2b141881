"""What is active around a call: the compiler, a transform, forward mode, a tracer; and what its tensors are.

Which route a call takes depends on it, and so does what is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _kernels, _private

compiling = torch.compiler.is_compiling


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def jit_traced() -> bool:
    """Tell whether torch.jit.trace looks on, which it does not through a compiler."""
    return _private.jit_tracing()


def refuse_jit_trace() -> None:
    """Refuse torch.jit.trace, which does not see the kernels and takes their results for constants."""
    if jit_traced():
        raise RuntimeError(
            "torch.jit.trace would take the results of fastrobust for constants, whatever the next arguments: take "
            "torch.export.export or torch.compile, or leave the loss out of what is traced"
        )


def plain(values: Sequence[Any]) -> bool:
    """Tell whether what is not a number is a tensor with memory of its own."""
    return all((type(v) in _kernels.PLAIN and (v.is_cpu or v.is_cuda)) or not isinstance(v, Tensor) for v in values)


def visible(value: Tensor) -> bool:
    """Tell whether the elements can be looked at, without a compiler, a transform or a tracer between."""
    return not compiling() and not general() and not jit_traced() and plain((value,))


def general() -> bool:
    """Tell whether a transform, forward mode or a tracer is active, for which plain tensors are not all there is."""
    if _private.transforms_active() or _private.forward_mode():
        return True
    return not compiling() and bool(_private.modes())


def ordinary() -> bool:
    """Tell whether there is neither that nor a compiler: `not compiling() and not general()` in less time."""
    return not (compiling() or _private.transforms_active() or _private.forward_mode() or _private.modes())


def requires(values: Sequence[object]) -> tuple[bool, ...]:
    """A flag for each value: it is a tensor that asks for a gradient."""
    return tuple(isinstance(v, Tensor) and v.requires_grad for v in values)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def levels() -> tuple[int, int]:
    """The numbers of levels of `torch.func` that differentiate in reverse, and forward."""
    kinds = _private.interpreters()
    return kinds.count("Grad"), kinds.count("Jvp")


def one_forward() -> None:
    """Refuse forward mode within forward mode, through which PyTorch takes a `Function` for a constant."""
    if _private.transforms_active() and levels()[1] > 1:
        raise NotImplementedError("forward mode within forward mode: take jacfwd(jacrev(f)) or torch.func.hessian")


def few_levels(most: int) -> None:
    """Refuse more derivatives than `_rules._expanded` has: they would be 0."""
    if sum(levels()) > most:
        raise NotImplementedError(
            f"inside torch.compile, torch.func differentiates this {most} times at most: apply torch.func outside"
        )
