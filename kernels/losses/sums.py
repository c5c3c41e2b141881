"""Formulas of sums over elements, such as a quotient of two sums: one value for many elements.

With S_j = sum over i of f_j(x_i), a loss is V(S_1, ..., S_m).  Two formulas of elements stand for it, so that loops,
operators and rules of differentiation of every library serve sums as they are:

    terms(x, a) = a_1 f_1(x) + ... + a_m f_m(x)        value(s) = V(s_1, ..., s_m)

The derivative of the summed terms in a_j is S_j, and where a_j is dV/dS_j, that in x is the derivative of the loss.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph.functions import mean
from ..graph.real import lifted, ordered
from ..graph.terms import replaced
from .combinations import Combination, Factor
from .formula import Formula, Precision, with_operands

__all__ = ["Split", "added", "is_of_sums"]


class Split:
    """A formula with sums, in which the data stand in these alone, and the two formulas of elements for it."""

    def __init__(self, formula: Formula) -> None:
        nodes = list(ordered([formula.value]))
        self.formula = formula
        self.sums = tuple(node for node in nodes if node.operation == "sum")
        without = ordered([replaced(formula.value, dict.fromkeys(self.sums, lifted(0)))])
        leaves = [node.content for node in without if node.operation == "operand"]
        outside = [name for place, name in enumerate(formula.data) if place in leaves]
        if outside:
            raise TypeError(
                f"{formula.title} has {', '.join(outside)} outside of its sums: a loss of sums is one number for all "
                "elements, so that data must stand in sum(...) or mean(...)"
            )
        self.factors = tuple(f"of_sum_{place}" for place in range(len(self.sums)))  # the names of the a_j
        in_terms = [node.content for node in ordered(self.sums) if node.operation == "operand"]
        self.in_terms = tuple(name for name in formula.parameters if formula.operands.index(name) in in_terms)

    @functools.cached_property
    def terms(self) -> Formula:
        """The terms times their factors, which are the last parameters."""
        formula = self.formula

        def terms(*operands: Any) -> Any:
            factors = operands[len(formula.operands) :]
            products = [a * node.arguments[0] for a, node in zip(factors, self.sums, strict=True)]
            return functools.reduce(operator.add, products)

        names = (*formula.operands, *self.factors)
        precision: Precision = "shared" if formula.precision == "auto" else formula.precision
        return self._like(terms, "terms", names, (*formula.parameters, *self.factors), precision)

    @functools.cached_property
    def value(self) -> Formula:
        """The value of the sums, which are data, and the parameters."""
        formula = self.formula
        names = (*(f"sum_{place}" for place in range(len(self.sums))), *formula.parameters)

        def value(*operands: Any) -> Any:
            leaves = [node for node in ordered([formula.value]) if node.operation == "operand"]
            by_name = dict(zip(names, operands, strict=True))
            others = {node: by_name[name] for node in leaves if (name := formula.operands[node.content]) in by_name}
            return replaced(formula.value, {**others, **dict(zip(self.sums, operands, strict=False))})

        return self._like(value, "value", names, formula.parameters, "wide")

    def _like(
        self,
        function: Callable[..., Any],
        name: str,
        operands: Sequence[str],
        parameters: Sequence[str],
        precision: Precision,
    ) -> Formula:
        """A formula of these operands, with the domains and ranges of the whole one."""
        whole = self.formula
        return Formula(
            with_operands(function, f"{whole.title}_{name}", operands, {}),
            parameters,
            precision=precision,
            domains={name: domain for name, domain in whole.domains.items() if name in operands},
            ranges={name: interval for name, interval in whole.ranges.items() if name in operands},
            owner=whole.module,
        )


def is_of_sums(formula: Formula) -> bool:
    """Tell whether there are sums in a formula."""
    return any(node.operation == "sum" for node in ordered([formula.value]))


def added(
    name: str, terms: Sequence[tuple[Factor, Formula]], defaults: Mapping[str, float] | None = None
) -> Combination:
    """Formulas of sums, and the means of formulas of elements, times factors, added up."""
    return Combination(name, tuple((factor, _of_sums(formula)) for factor, formula in terms), defaults)


def _of_sums(formula: Formula) -> Formula:
    """The formula itself, or its mean over elements."""
    if is_of_sums(formula):
        return formula

    def averaged(*operands: Any) -> Any:
        return mean(formula.graph_at(operands))

    return formula.like(averaged, "mean")
