"""Parts of formulas that others are made of: a product whose weight may be 0, and a graph over other operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .functions import where
from .real import operand, ordered

__all__ = ["renamed", "replaced", "weighted"]


def weighted(weight: Any, term: Any) -> Any:
    """A product, 0 where the weight is, also if the term is infinite; its derivative in the weight is the term."""
    infinite = (term + term == term) & (term != 0)
    return weight * where((weight == 0) & infinite, 0, term)


def renamed(root: Any, places: Sequence[int]) -> Any:
    """The same graph, with the operands at these places in place of the first, the second and so on."""
    operands = [node for node in ordered([root]) if node.operation == "operand"]
    return replaced(root, {node: operand(places[node.content]) for node in operands})


def replaced(root: Any, others: Mapping[Any, Any]) -> Any:
    """The same graph, with others in place of these nodes."""
    by_id = {id(node): other for node, other in others.items()}
    moved: dict[int, Any] = {}
    nodes = list(ordered([root]))  # held, so that ids last
    for node in nodes:
        if id(node) in by_id:
            moved[id(node)] = by_id[id(node)]
        else:
            arguments = [moved[id(argument)] for argument in node.arguments]
            moved[id(node)] = type(node)(node.operation, *arguments, content=node.content)
    return moved[id(root)]
