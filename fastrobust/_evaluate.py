"""One evaluation: options and reductions checked, and the backend called that the arrays belong to.

What the public functions of `_api` have in common, and what the truncated density of `_truncated` is made of.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ._dispatch import common, joined
from ._types import LossGrad
from .kernels.compilers.alone import imported

if TYPE_CHECKING:
    from .kernels.losses.definition import Definition

WRT = tuple(name.removeprefix("d") for name in LossGrad._fields[1:])
_OPTIONS = frozenset(("out", "where", "casting", "order", "dtype", "subok"))  # of a ufunc call
_OWN = {  # what functions with such options take besides
    "loss": frozenset(("reduction", "weights")),
    "nll": frozenset(("reduction", "weights", "truncation")),
    "log_partition": frozenset(("truncation",)),
}


def check_reduction(reduction: Any) -> None:
    if type(reduction) is not str or reduction not in ("none", "sum", "mean"):
        raise ValueError(f"reduction must be 'none', 'sum' or 'mean', got {reduction!r}")


def check_options(name: str, options: dict[str, Any], taken: frozenset[str] = _OPTIONS, why: str = "") -> None:
    if unknown := options.keys() - taken:
        from difflib import get_close_matches  # a millisecond that no other call needs

        if not why:
            taken |= _OWN.get(name, frozenset())
        hints = [f" (did you mean {near[0]}?)" if (near := get_close_matches(n, taken, 1)) else "" for n in unknown]
        given = ", ".join(sorted(map("".join, zip(unknown, hints, strict=True))))
        raise TypeError(f"{name} does not take {given}{why}; it takes {', '.join(sorted(taken))}")


@functools.cache
def definition_of(name: str) -> Definition:
    """The definition of that name, imported where it is needed: it needs NumPy."""
    found: Definition = imported("fastrobust.kernels.losses.catalogue").named(name)
    return found


@functools.cache
def _named(wrt: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the value and of the derivatives in these operands."""
    return ("value", *("d" + name for name in wrt))


def _with_options(
    target: ModuleType, function: str, definition: Definition, operands: tuple[Any, ...], options: dict[str, Any]
) -> ModuleType:
    """The backend where options are given, a mask among them."""
    check_options(function, options)
    if "where" in options:
        return joined("where", options["where"], target, definition.operands[0], operands[0])
    return target


def output_of(function: str, family: str, output: str, operands: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """The output for each element, for the public function of that name."""
    definition = definition_of(family)
    target = common(definition.operands, operands)
    if options:
        target = _with_options(target, function, definition, operands, options)
    return target.evaluate(definition, (output,), operands, options)


def value_of(family: str, operands: tuple[Any, ...], reduction: str, weights: Any, options: dict[str, Any]) -> Any:
    """The value for each element, weighted, or its sum or mean."""
    definition = definition_of(family)
    target = common(definition.operands, operands, weights)
    if options:
        target = _with_options(target, family, definition, operands, options)
    check_reduction(reduction)
    if weights is None and reduction == "none":
        return target.evaluate(definition, ("value",), operands, options)
    if reduction == "none":
        return target.weighted(definition, ("value",), operands, weights, options)
    check_options(family, options, frozenset(("out",)), f" together with reduction={reduction!r}")
    out = options.get("out")
    if out is not None:
        if isinstance(out, tuple):
            if len(out) != 1:
                raise ValueError(f"out must have one entry, for the value of {family}; got {len(out)}")
            out = out[0]
        out = (out, *(None for _ in operands))
    return target.reduce(definition, (), operands, reduction, weights, out)[0]


_COUNTS = "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"


def value_and_grad(
    family: str, operands: tuple[Any, ...], reduction: str, weights: Any, wrt: Sequence[str], out: Any
) -> Sequence[Any]:
    """The value and the derivatives in all operands, None where not wanted; for each element, or of sums."""
    definition = definition_of(family)
    target = common(definition.operands, operands, weights)
    every = ordered = definition.operands
    if wrt != every:
        known = isinstance(wrt, (tuple, list)) and all(type(name) is str and name in every for name in wrt)
        if not known or len(set(wrt)) != len(wrt):
            raise ValueError(f"wrt must be a tuple of distinct names out of {every}, got {wrt!r}")
        ordered = tuple(name for name in every if name in wrt)
    if out is not None and (not isinstance(out, (tuple, list)) or len(out) != 1 + len(every)):
        raise ValueError(
            f"out must be a LossGrad or tuple of {_COUNTS[1 + len(every)]}, ({', '.join(_named(every))}), any of them "
            f"None; got {out!r}"
        )
    check_reduction(reduction)
    if reduction != "none":
        out = None if out is None else tuple(out)
        return target.reduce(definition, ordered, operands, reduction, weights, out)  # type: ignore[no-any-return]
    names = _named(ordered)
    options = {}
    if out is not None:
        options["out"] = tuple(array for name, array in zip(_named(every), out, strict=True) if name in names)
    if weights is None:
        results = target.evaluate(definition, names, operands, options)
    else:
        results = target.weighted(definition, names, operands, weights, options)
    if ordered is every:
        return results  # type: ignore[no-any-return]
    found = dict(zip(names, results if len(names) > 1 else (results,), strict=True))
    return [found.get(name) for name in _named(every)]
