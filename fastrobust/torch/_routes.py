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

What the table names is in `_rules` and `_reductions`.  This module is what `_dispatch` finds for tensors: a
`Backend`, see `_call`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .. import _arguments as arguments
from .._evaluate import definitions
from .._shapes import NUMBERS, SHAPES
from ..kernels.losses.catalogue import LOSS
from ..kernels.losses.definition import Definition
from . import _cross_entropy, _kernels, _rows, _sums, _transforms
from ._arguments import FLOATS, common_shape, prepared, tensors, weights_for
from ._context import compiling, general, ordinary, plain, refuse_jit_trace, requires
from ._reductions import _Reduced, _ReducedTraced, composed_gradients, masked, weighed
from ._rules import _Value, named

if TYPE_CHECKING:
    from .._types import ArrayLike, Options, Shaped
    from ._types import Operands

xp = torch  # the library's functions
cross_entropy = _cross_entropy  # the loss of rows, see `fastrobust._cross_entropy`
row_losses = _rows  # see `fastrobust._row_loss`
own_sums = _sums  # those of losses of sums, see `fastrobust._sums`
lifted, constant, product = _transforms.lifted, _transforms.constant, _transforms.product  # of `transforms`
closed_forms = False  # they are chosen here, see `_closed`: it depends on what is active


def _closed(definition: Definition, operands: Operands, names: tuple[str, ...]) -> Definition:
    """The definition of a closed form, if there is one and names have no derivative in alpha.

    Not for the compiler, whose programs serve all numbers.
    """
    if definition is LOSS and not compiling() and type(alpha := operands[1]) in NUMBERS and alpha in SHAPES:
        return definition if "dalpha" in names else definitions[SHAPES[alpha]][0]
    return definition


def _recorded(operands: Operands) -> bool:
    """Tell whether autograd follows a call of plain tensors and numbers."""
    if torch.is_grad_enabled():
        for operand in operands:
            kind = type(operand)
            if kind is not float and kind is not int and operand.requires_grad:
                return True
    return False


def _prepared(
    definition: Definition, operands: Operands, options: Options | None = None
) -> tuple[torch.dtype, Operands]:
    """The dtype of the result, and the operands: tensors on one device, numbers as they are."""
    if options:
        operands = _options(options, operands[0]), *operands[1:]
    arguments.check_numbers(definition, operands)
    return prepared(definition.operands, operands)


def _options(options: Options, x: Tensor) -> Tensor:
    """The first operand, x, in the dtype that is wanted; refuses what a ufunc takes and tensors do not."""
    if unknown := [option for option in options if option not in ("out", "dtype")]:
        raise TypeError(f"{', '.join(sorted(unknown))}: not taken for tensors, only out and dtype are")
    if options.get("dtype") is None:
        return x
    if options["dtype"] not in FLOATS:
        raise TypeError(f"dtype must be torch.float16, bfloat16, float32 or float64, got {options['dtype']!r}")
    return x.to(options["dtype"])


def _filled(results: list[Tensor], options: Options) -> list[Tensor]:
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


def evaluate(
    definition: Definition, names: tuple[str, ...], operands: Operands, options: Options
) -> Tensor | tuple[Tensor, ...]:
    """The named outputs for each element: a tensor, or a tuple of them."""
    refuse_jit_trace()
    if not options and ordinary():
        # `_closed`, in less time
        if definition is LOSS and type(alpha := operands[1]) in NUMBERS and alpha in SHAPES and "dalpha" not in names:
            definition = definitions[SHAPES[alpha]][0]
        rest = _kernels.rest_of(definition, operands)
        if rest is not None:
            if not _recorded(operands):
                results = _kernels.quick(definition, names, operands[0], rest)
                return results[0] if len(names) == 1 else tuple(results)
            if names == ("value",):
                return _Value.apply(definition, operands[0].dtype, rest, *operands)
    definition = _closed(definition, operands, names)
    dtype, operands = _prepared(definition, operands, options)
    common_shape(definition.operands, operands)
    results = named(definition, names, operands, dtype)
    if options:
        results = _filled([r.to(options.get("dtype") or dtype) for r in results], options)
    return results[0] if len(names) == 1 else tuple(results)


def weighted(
    definition: Definition, names: tuple[str, ...], operands: Operands, weights: ArrayLike, options: Options
) -> Tensor | tuple[Tensor, ...]:
    """The named outputs, each multiplied by the weights; a weight of 0 excludes an element, whatever its value."""
    refuse_jit_trace()
    definition = _closed(definition, operands, names)
    dtype, operands = _prepared(definition, operands, options)
    shape = common_shape(definition.operands, operands)
    weights = weights_for(weights, definition.operands[0], operands[0], shape)
    outputs = named(definition, names, masked(definition, operands, weights), _kernels.compute_type(dtype))
    results = [weighed(part, weights, "none").to(dtype) for part in outputs]
    results = _filled(results, options)
    return results[0] if len(names) == 1 else tuple(results)


def reduce(
    definition: Definition,
    wrt: tuple[str, ...],
    operands: Operands,
    reduction: str,
    weights: ArrayLike | None,
    out: tuple[Shaped | None, ...] | None,
) -> tuple[Tensor | None, ...]:
    """The sum or weighted mean; derivatives in data for each element, other gradients in their parameters' shapes."""
    refuse_jit_trace()
    definition = definition if "alpha" in wrt else _closed(definition, operands, ())
    mean, every = reduction == "mean", definition.operands
    if weights is out is None and ordinary():
        rest = _kernels.rest_of(definition, operands)
        if rest is not None:
            if not _recorded(operands):
                value, *parts = _kernels.quick_sums(definition, wrt, operands[0], rest, mean)
                left = iter(parts)
                return (value, *[next(left) if name in wrt else None for name in every])
            if not wrt:
                value = _Reduced.apply(definition, mean, operands[0].dtype, None, *operands)
                return (value, *[None] * len(every))
    dtype, operands = _prepared(definition, operands)
    shape = common_shape(every, operands)
    if weights is not None:
        weights = weights_for(weights, every[0], operands[0], shape)
    everything = [*operands, weights]
    recording = torch.is_grad_enabled() and any(requires(everything))
    fused = weights is None or not weights.requires_grad
    fields, chosen = ("value", *definition.gradients), ("value", *("d" + name for name in wrt))
    if compiling() and not general() and fused and not (recording and wrt):
        names = tuple(n for n, w in zip(every, requires(operands), strict=True) if w) if recording else wrt
        args = tensors(operands)
        if recording:
            reduced = _ReducedTraced.apply(definition, names, mean, dtype, weights, *args)
        else:  # see `_rules._parts`
            reduced = _kernels.reduction(args, weights, definition.name, list(names), mean, dtype)
        results = dict(zip(("value", *("d" + name for name in names)), reduced, strict=True))
    elif compiling() or general() or not plain(everything) or (recording and (wrt or not fused)):
        results = composed_gradients(definition, wrt, operands, weights, reduction, dtype)
    elif recording:
        results = {"value": _Reduced.apply(definition, mean, dtype, weights, *operands)}
    else:
        reduced = _kernels.reduce(definition, wrt, operands, weights, mean, dtype)
        results = dict(zip(chosen, reduced, strict=True))
    given = None if out is None else tuple(out[fields.index(name)] for name in chosen)
    filled = dict(zip(chosen, _filled([results[name] for name in chosen], {"out": given}), strict=True))
    return tuple(filled.get(name) for name in fields)
