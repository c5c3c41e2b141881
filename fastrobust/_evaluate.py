"""One evaluation: options and reductions checked, and the backend called that the arrays belong to.

What the public functions of `_api` have in common, and what the truncated density of `_truncated` is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ._call import WRT, Backend, check_options, check_out, check_reduction, check_wrt
from ._dispatch import common, joined
from ._shapes import NUMBERS, SHAPES
from ._types import ArrayLike, Options
from .kernels.compilers.alone import imported

if TYPE_CHECKING:
    from .kernels.losses.definition import Definition

_DEFINITIONS = "fastrobust.kernels.losses.catalogue"  # which needs NumPy, so it is imported at the first call


_Described = tuple["Definition", tuple[str, ...], tuple[str, ...]]


class _Definitions(dict[str, _Described]):
    """Definitions by name, each with its operands and the names of the value and of the derivatives in them.

    A dictionary, since the compiler of PyTorch would warn of a `functools.cache`; and of names alone, since it takes
    the keys apart.
    """

    def __missing__(self, name: str) -> _Described:
        self[name] = _described(imported(_DEFINITIONS).named(name))
        return self[name]


def _described(definition: Definition) -> _Described:
    """The definition with its operands, `WRT` itself where they equal it, and what is the value and its derivatives."""
    operands = WRT if definition.operands == WRT else definition.operands
    return definition, operands, ("value", *definition.gradients)


definitions = _Definitions()


def _with_options(target: Backend, function: str, leading: str, x: ArrayLike, options: Options) -> Backend:
    """The backend where options are given, a mask among them."""
    if len(options) == 1 and "out" in options:
        return target
    check_options(function, options)
    return joined("where", options["where"], target, leading, x) if "where" in options else target


def output_of(
    function: str, family: str | Definition, output: str, operands: tuple[ArrayLike, ...], options: Options
) -> Any:
    """The output for each element, for the public function of that name."""
    definition, taken, _ = definitions[family] if type(family) is str else _described(family)  # type: ignore[arg-type]
    target = common(taken, operands)
    if family == "loss" and target.closed_forms and type(alpha := operands[1]) in NUMBERS and alpha in SHAPES:
        definition = definitions[SHAPES[alpha]][0]
    if options:
        target = _with_options(target, function, taken[0], operands[0], options)
    return target.evaluate(definition, (output,), operands, options)


def slopes_of(
    definition: Definition,
    operands: tuple[ArrayLike, ...],
    weights: ArrayLike | None,
    wrt: Sequence[str],
    out: Any = None,
) -> dict[str, Any]:
    """The derivatives, by operand, of the sum of a value that is not asked for itself.

    ``out`` is memory for those in the first of the data, or None.
    """
    target = common(definition.operands, operands, weights)
    memory = {definition.data[0]: out}
    if set(wrt) <= set(definition.data):  # which need no sum
        names = tuple("d" + name for name in wrt)
        options: Options = {} if out is None else {"out": tuple(memory.get(name) for name in wrt)}
        if weights is None:
            outputs: Any = target.evaluate(definition, names, operands, options)
        else:
            outputs = target.weighted(definition, names, operands, weights, options)
        return dict(zip(wrt, outputs if len(names) > 1 else (outputs,), strict=True))
    entries = None if out is None else (None, *(memory.get(name) for name in definition.operands))
    found = target.reduce(definition, tuple(wrt), operands, "sum", weights, entries)[1:]
    return {name: part for name, part in zip(definition.operands, found, strict=True) if part is not None}


def value_of(
    family: str | Definition,
    operands: tuple[ArrayLike, ...],
    reduction: str,
    weights: ArrayLike | None,
    options: Options,
) -> Any:
    """The value for each element, weighted, or its sum or mean."""
    definition, taken, _ = definitions[family] if type(family) is str else _described(family)  # type: ignore[arg-type]
    target = common(taken, operands, weights)
    if family == "loss" and target.closed_forms and type(alpha := operands[1]) in NUMBERS and alpha in SHAPES:
        definition = definitions[SHAPES[alpha]][0]
    if options:
        target = _with_options(target, definition.title, taken[0], operands[0], options)
    if type(reduction) is str and reduction == "none":
        if weights is None:
            return target.evaluate(definition, ("value",), operands, options)
        return target.weighted(definition, ("value",), operands, weights, options)
    check_reduction(reduction)
    out = None
    if options:
        check_options(definition.title, options, frozenset(("out",)), f" together with reduction={reduction!r}")
        out = options.get("out")
    if out is not None:
        if isinstance(out, tuple):
            if len(out) != 1:
                raise ValueError(f"out must have one entry, for the value of {definition.title}; got {len(out)}")
            out = out[0]
        out = (out, *(None for _ in operands))
    return target.reduce(definition, (), operands, reduction, weights, out)[0]


def value_and_grad(
    family: str | Definition,
    operands: tuple[ArrayLike, ...],
    reduction: str,
    weights: ArrayLike | None,
    wrt: Sequence[str],
    out: object,
) -> Sequence[Any]:
    """The value and the derivatives in all operands, None where not wanted; for each element, or of sums."""
    definition, taken, every = definitions[family] if type(family) is str else _described(family)  # type: ignore[arg-type]
    target = common(taken, operands, weights)
    ordered, names = taken, every
    if wrt is not taken:
        ordered = check_wrt(wrt, taken)
        names = ("value", *["d" + name for name in ordered])
        if "alpha" not in ordered and family == "loss" and target.closed_forms:
            alpha = operands[1]
            definition = definitions[SHAPES[alpha]][0] if type(alpha) in NUMBERS and alpha in SHAPES else definition
    if out is not None:
        out = check_out(out, every)
    if type(reduction) is not str or reduction != "none":
        check_reduction(reduction)
        return target.reduce(definition, ordered, operands, reduction, weights, out)
    options = {}
    if out is not None:
        options["out"] = tuple(array for name, array in zip(every, out, strict=True) if name in names)
    if weights is None:
        outputs: Any = target.evaluate(definition, names, operands, options)  # a tuple, if there are several names
    else:
        outputs = target.weighted(definition, names, operands, weights, options)
    if names is every:
        return outputs
    by_name = dict(zip(names, outputs if len(names) > 1 else (outputs,), strict=True))
    return [by_name.get(name) for name in every]
