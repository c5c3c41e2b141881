"""Ufuncs over the CPU kernels: one for each dtype, so that only what is used gets compiled."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ... import _arguments as arguments
from ...kernels.compilers.alone import alone
from ...kernels.losses.definition import Definition
from .c_api import ufunc_over

__all__ = ["layout", "ufunc_for", "whole_for"]


@functools.cache
def ufunc_for(definition: Definition, outputs: tuple[str, ...], dtype: type, layout: str) -> np.ufunc:
    """The ufunc of the operands over one kernel.  Kernels are built here, at the first call."""
    return alone(lambda: _ufunc(definition, outputs, dtype, layout))


def _ufunc(definition: Definition, outputs: tuple[str, ...], dtype: type, layout: str) -> np.ufunc:
    """`ufunc_for` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.kernel("elementwise", definition, outputs, dtype, layout)
    return ufunc_over(address, definition.name, [dtype] * len(definition.operands), [dtype] * len(outputs))


@functools.cache
def whole_for(definition: Definition, wrt: tuple[str, ...], dtype: type, mean: bool) -> np.ufunc:
    """The generalized ufunc that sums over one axis, or takes the mean: see `kernels.loops.whole`."""
    return alone(lambda: _whole(definition, wrt, dtype, mean))


def _whole(definition: Definition, wrt: tuple[str, ...], dtype: type, mean: bool) -> np.ufunc:
    """`whole_for` without its memory."""
    from ...kernels.loops import compiled

    address = compiled.whole(definition, arguments.outputs(wrt), dtype)
    takes = ["(n)"] * len(definition.data) + ["()"] * len(definition.parameters)
    gives = ["()"] + [shape for shape, name in zip(takes, definition.operands, strict=True) if name in wrt]
    signature = ",".join(takes) + "->" + ",".join(gives)
    return ufunc_over(address, definition.name, [dtype] * len(takes), [dtype] * len(gives), signature, int(mean))


def layout(parameters: Sequence[object]) -> str:
    """The kernels' layout for these parameters: "shared" where each is one number."""
    for parameter in parameters:
        if getattr(parameter, "size", 1) != 1:
            return "each"
    return "shared"
