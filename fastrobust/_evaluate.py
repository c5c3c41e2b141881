"""One evaluation: options and reductions checked, and the backend called that the arrays belong to.

What the public functions of `_api` have in common, and what the truncated density of `_truncated` is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ._dispatch import backend, joined
from ._types import LossGrad, PartitionGrad
from .kernels.losses.signatures import LOSS

WRT = LOSS.operands
_ALL = LossGrad._fields
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


def _with_options(target: ModuleType, leading: str, x: Any, options: dict[str, Any]) -> ModuleType:
    """The backend where a mask, too, is given."""
    return joined("where", options["where"], target, leading, x) if "where" in options else target


def output_of(name: str, output: str, x: Any, alpha: Any, scale: Any, options: dict[str, Any]) -> Any:
    target = backend(x, alpha, scale)
    if options:
        check_options(name, options)
        target = _with_options(target, "x", x, options)
    return target.evaluate("loss", (output,), x, alpha, scale, options)


def value_of(family: str, x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, options: dict[str, Any]) -> Any:
    target = backend(x, alpha, scale, weights)
    if options:
        check_options(family, options)
        target = _with_options(target, "x", x, options)
    check_reduction(reduction)
    if weights is None and reduction == "none":
        return target.evaluate(family, ("value",), x, alpha, scale, options)
    if reduction == "none":
        return target.weighted(family, ("value",), x, alpha, scale, weights, options)
    check_options(family, options, frozenset(("out",)), f" together with reduction={reduction!r}")
    out = options.get("out")
    if out is not None:
        if isinstance(out, tuple):
            if len(out) != 1:
                raise ValueError(f"out must have one entry, for the value of {family}; got {len(out)}")
            out = out[0]
        out = (out, None, None, None)
    return target.reduce(family, (), x, alpha, scale, reduction, weights, out).value


def value_and_grad(
    family: str, x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, wrt: Sequence[str], out: Any
) -> LossGrad:
    target = backend(x, alpha, scale, weights)
    names: tuple[str, ...] = _ALL
    if wrt is not WRT:
        known = isinstance(wrt, (tuple, list)) and all(type(name) is str and name in WRT for name in wrt)
        if not known or len(set(wrt)) != len(wrt):
            raise ValueError(f"wrt must be a tuple of distinct names out of {WRT}, got {wrt!r}")
        names = ("value", *("d" + name for name in WRT if name in wrt))
    if out is not None and (not isinstance(out, (tuple, list)) or len(out) != 4):
        raise ValueError(
            f"out must be a LossGrad or tuple of four, (value, dx, dalpha, dscale), any of them None; got {out!r}"
        )
    check_reduction(reduction)
    if reduction != "none":
        ordered = tuple(name for name in WRT if name in wrt)
        out = None if out is None else tuple(out)
        return target.reduce(family, ordered, x, alpha, scale, reduction, weights, out)  # type: ignore[no-any-return]
    options = {}
    if out is not None:
        options["out"] = tuple(out if names is _ALL else (a for n, a in zip(_ALL, out, strict=True) if n in names))
    if weights is None:
        results = target.evaluate(family, names, x, alpha, scale, options)
    else:
        results = target.weighted(family, names, x, alpha, scale, weights, options)
    if names is _ALL:
        return LossGrad(*results)
    found = dict(zip(names, results if len(names) > 1 else (results,), strict=True))
    return LossGrad(*map(found.get, _ALL))


def partition(alpha: Any, options: dict[str, Any]) -> Any:
    """log Z, for each element."""
    target = backend(alpha, leading="alpha")
    if options:
        check_options("log_partition", options)
        target = _with_options(target, "alpha", alpha, options)
    return target.partition(("value",), alpha, options)


def partition_and_grad(alpha: Any) -> PartitionGrad:
    """log Z and its derivative, for each element."""
    return PartitionGrad(*backend(alpha, leading="alpha").partition(("value", "dalpha"), alpha, {}))
