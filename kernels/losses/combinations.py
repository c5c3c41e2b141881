"""Sums of formulas, and formulas times a factor: their derivatives are made of those of the formulas.

So a derivative by hand counts in a sum and in a multiple as it does alone, in derivatives of every order.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..graph.real import lifted, operand
from ..graph.terms import renamed, weighted
from .definition import Domain
from .formula import Formula, Precision, with_operands

__all__ = ["Combination", "Factor"]

Factor = float | str  # a number, or the name of a parameter


class Combination(Formula):
    """Formulas times factors, added up.

    Operands of one name are one operand, and so are the factors of one name, which are parameters. It is in the domains
    and ranges of all the formulas, and evaluated in wide numbers if one of them is.
    """

    def __init__(
        self,
        name: str,
        terms: tuple[tuple[Factor, Formula], ...],
        defaults: Mapping[str, float] | None = None,
        slopes: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.terms = terms
        formulas = [formula for _, formula in terms]
        factors = [factor for factor, _ in terms if isinstance(factor, str)]
        data = _once(name for formula in formulas for name in formula.data)
        parameters = _once([*(name for formula in formulas for name in formula.parameters), *factors])
        if mixed := set(data) & set(parameters):
            raise ValueError(f"{', '.join(sorted(mixed))} is data of one loss and a parameter of the other")
        names = (*data, *parameters)
        known = {key: value for formula in reversed(formulas) for key, value in formula.defaults.items()}
        known.update(defaults or {})

        def total(*operands: Any) -> Any:
            by_name = dict(zip(names, operands, strict=True))
            return _added(
                _multiplied(
                    by_name[factor] if isinstance(factor, str) else factor,
                    formula.graph_at([by_name[part] for part in formula.operands]),
                )
                for factor, formula in terms
            )

        precisions: set[Precision] = {formula.precision for formula in formulas}
        super().__init__(
            with_operands(total, name, names, known),
            parameters,
            precision=next(one for one in ("wide", "half wide", "shared", "auto", "working") if one in precisions),
            domains=_strictest(formulas),
            ranges=_narrowest(formulas),
            slopes=slopes,
            owner=formulas[0].module,
        )

    @property
    def made_of(self) -> tuple[Any, ...]:
        """What the graph of the value does not tell of the derivatives."""
        return tuple((factor, formula.operands, formula.digest) for factor, formula in self.terms)

    def with_slopes(self, slopes: Mapping[str, Callable[..., Any]]) -> Formula:
        """This combination, with these derivatives by hand."""
        return Combination(self.function.__name__, self.terms, self.defaults, {**self.slopes, **slopes})

    def root(self, orders: tuple[int, ...]) -> Any:
        """The graph of the derivative of these orders: that of the formulas, unless one is by hand here."""
        wanted = {name: order for name, order in zip(self.operands, orders, strict=True) if order}
        if any(name in self.slopes for name in wanted):
            return super().root(orders)
        return _added(self._of_term(factor, formula, wanted) for factor, formula in self.terms)

    def _of_term(self, factor: Factor, formula: Formula, orders: Mapping[str, int]) -> Any:
        """The derivative of a factor times a formula."""
        in_factor = orders.get(factor, 0) if isinstance(factor, str) else 0
        rest = {name: order for name, order in orders.items() if name != factor}
        if in_factor > 1 or not set(rest) <= set(formula.operands):
            return lifted(0)
        root = formula.root(tuple(rest.get(name, 0) for name in formula.operands))
        moved = renamed(root, [self.operands.index(name) for name in formula.operands])
        if in_factor:
            return moved
        return _multiplied(operand(self.operands.index(factor)) if isinstance(factor, str) else factor, moved)


def _added(graphs: Iterable[Any]) -> Any:
    return functools.reduce(operator.add, graphs)


def _multiplied(factor: Any, graph: Any) -> Any:
    """A product; one of a factor that is an operand is 0 where that is, whatever the graph is."""
    return factor * graph if isinstance(factor, float) else weighted(factor, graph)


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _strictest(formulas: list[Formula]) -> dict[str, Domain]:
    """For each operand the domain that is inside of all others."""
    found: dict[str, Domain] = {}
    for formula in formulas:
        for name, domain in formula.domains.items():
            known = found.setdefault(name, domain)
            found[name] = max(known, domain, key=lambda one: (one.least, one.open))
    return found


def _narrowest(formulas: list[Formula]) -> dict[str, tuple[float, float]]:
    """For each operand the range in which all formulas expect it; the last one's where they have none in common."""
    found: dict[str, tuple[float, float]] = {}
    for formula in formulas:
        for name, (least, most) in formula.ranges.items():
            known = found.get(name, (least, most))
            both = max(least, known[0]), min(most, known[1])
            found[name] = both if both[0] <= both[1] else (least, most)
    return found
