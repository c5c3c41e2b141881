"""The functions on tensors, and which route a call takes.

=============================================  ====================================================================
call                                           route
=============================================  ====================================================================
no gradient wanted                             the kernel alone
plain tensors, ordinary autograd               `_Value`, `_Reduced`: value and partial derivatives in one pass
`torch.func`, forward mode, subclasses         `_Parts`, with rules for vmap and jvp, in tensor operations
the compiler                                   `_Traced`, the same without jvp, which it does not take, over operators
`torch.func` inside the compiler               a Taylor polynomial at the detached arguments: see `_expanded`
=============================================  ====================================================================

What the table names is in `_rules` and `_reductions`.  This module is what `_dispatch` finds for tensors: `evaluate`,
`weighted`, `partition`, `reduce`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._types import LossGrad
from . import _kernels
from ._arguments import FLOATS, common_shape, prepared, tensors, weights_for
from ._context import compiling, general, plain, refuse_jit_trace, requires
from ._reductions import WRT, _Reduced, _ReducedTraced, composed_gradients, masked, weighed
from ._rules import _Value, log_z, named

xp = torch  # the library's functions


def _recorded(x: Tensor, alpha: Any, scale: Any) -> bool:
    """Tell whether autograd follows a call of plain tensors and numbers."""
    return torch.is_grad_enabled() and (
        x.requires_grad
        or (type(alpha) in _kernels.PLAIN and alpha.requires_grad)
        or (type(scale) in _kernels.PLAIN and scale.requires_grad)
    )


def _options(options: dict[str, Any], x: Any) -> Any:
    """x, in the dtype that is wanted; refuses what a ufunc takes and tensors do not."""
    if unknown := options.keys() - {"out", "dtype"}:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for tensors, only out and dtype are")
    if options.get("dtype") is None:
        return x
    if options["dtype"] not in FLOATS:
        raise TypeError(f"dtype must be torch.float16, bfloat16, float32 or float64, got {options['dtype']!r}")
    return x.to(options["dtype"])


def _filled(results: list[Tensor], options: dict[str, Any]) -> list[Tensor]:
    """The results in the memory of ``out``, where there is some."""
    out = options.get("out")
    if out is None:
        return results
    out = out if isinstance(out, tuple) else (out,)
    if len(out) != len(results):
        raise ValueError(f"out must have an entry for each of {len(results)} results, or None there; got {len(out)}")
    for given, result in zip(out, results, strict=True):
        if given is not None:
            if not isinstance(given, Tensor) or given.shape != result.shape:
                raise ValueError(f"out must be a tensor of shape {tuple(result.shape)}, got {given!r:.200}")
            if not torch.can_cast(result.dtype, given.dtype):
                raise TypeError(f"out of dtype {given.dtype} does not take {result.dtype}: pass a wider one")
            if given.requires_grad or result.requires_grad:
                raise RuntimeError("out= records no gradients: leave it out, or call under torch.no_grad()")
            given.copy_(result)
    return [r if g is None else g for g, r in zip(out, results, strict=True)]


def evaluate(family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    """The named outputs for each element: a tensor, or a tuple of them."""
    refuse_jit_trace()
    if not options and not compiling() and not general():
        numbers = _kernels.numbers(family, x, alpha, scale)
        if numbers is not None:
            if not _recorded(x, alpha, scale):
                results = _kernels.quick(family, names, x, *numbers)
                return results[0] if len(names) == 1 else tuple(results)
            if names == ("value",):
                return _Value.apply(x, alpha, scale, family, x.dtype, numbers)
    if options:
        x = _options(options, x)
    dtype, (x, alpha, scale) = prepared(family, x=x, alpha=alpha, scale=scale)
    common_shape(x, alpha, scale)
    results = named(family, names, x, alpha, scale, dtype)
    if options:
        results = _filled([r.to(options.get("dtype") or dtype) for r in results], options)
    return results[0] if len(names) == 1 else tuple(results)


def weighted(
    family: str, names: tuple[str, ...], x: Any, alpha: Any, scale: Any, weights: Any, options: dict[str, Any]
) -> Any:
    """`evaluate`, each output multiplied by the weights; a weight of 0 excludes an element, whatever its value."""
    refuse_jit_trace()
    dtype, (x, alpha, scale) = prepared(family, x=_options(options, x), alpha=alpha, scale=scale)
    weights = weights_for(weights, x, common_shape(x, alpha, scale))
    found = named(family, names, *masked(weights, x, alpha, scale), _kernels.compute_type(dtype))
    results = [weighed(part, weights, "none").to(dtype) for part in found]
    results = _filled(results, options)
    return results[0] if len(names) == 1 else tuple(results)


def partition(names: tuple[str, ...], alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, or log Z and its derivative, for each element."""
    refuse_jit_trace()
    _, (alpha,) = prepared("loss", alpha=_options(options, alpha))
    results = _filled(log_z(names, alpha), options)
    return results[0] if len(names) == 1 else tuple(results)


def reduce(
    family: str, wrt: tuple[str, ...], x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, out: Any
) -> LossGrad:
    """Sum or weighted mean of the loss, dx for each element, the other gradients in their parameters' shapes."""
    refuse_jit_trace()
    if weights is out is None and not compiling() and not general():
        numbers = _kernels.numbers(family, x, alpha, scale)
        if numbers is not None:
            if not _recorded(x, alpha, scale):
                found = _kernels.quick_sums(family, wrt, x, *numbers, reduction == "mean")
                return LossGrad(found[0], *(found[wrt.index(n) + 1] if n in wrt else None for n in WRT))
            if not wrt:
                value = _Reduced.apply(x, alpha, scale, None, family, reduction == "mean", x.dtype)
                return LossGrad(value, None, None, None)
    dtype, args = prepared(family, x=x, alpha=alpha, scale=scale)
    x, alpha, scale = args
    shape = common_shape(x, alpha, scale)
    if weights is not None:
        weights = weights_for(weights, x, shape)
    everything = [*args, weights]
    recording = torch.is_grad_enabled() and any(requires(everything))
    fused = weights is None or not weights.requires_grad
    mean = reduction == "mean"
    if compiling() and not general() and fused and not (recording and wrt):
        names = tuple(n for n, w in zip(WRT, requires(args), strict=True) if w) if recording else wrt
        found = list(_ReducedTraced.apply(*tensors(*args), weights, family, names, mean, dtype))
        results = dict(zip(("value", *("d" + n for n in names)), found, strict=True))
    elif compiling() or general() or not plain(everything) or (recording and (wrt or not fused)):
        results = composed_gradients(family, wrt, args, weights, reduction, dtype)
    elif recording:
        results = {"value": _Reduced.apply(*args, weights, family, mean, dtype)}
    else:
        found = _kernels.reduce(family, wrt, x, alpha, scale, weights, mean, dtype)
        results = dict(zip(("value", *("d" + n for n in wrt)), found, strict=True))
    chosen = ["value", *("d" + n for n in wrt)]
    given = None if out is None else tuple(out[LossGrad._fields.index(n)] for n in chosen)
    filled = _filled([results[n] for n in chosen], {"out": given})
    return LossGrad(**(dict.fromkeys(LossGrad._fields) | dict(zip(chosen, filled, strict=True))))
