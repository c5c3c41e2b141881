"""The definition of a loss of rows: one value for the elements along an axis, by sums over them.

A row is read once for its largest element, if that is asked for, once for its sums, and once more where derivatives in
its elements are wanted.  What happens to an element, and to what the row has come to, is scalar code, as that of
`definition`; an element may be apart from the others, such as the logit of the right class, and is left out of the
sums then.
"""

from __future__ import annotations

from dataclasses import dataclass

from .definition import Scalar

__all__ = ["RowDefinition"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RowDefinition:
    """A function of a row's elements.

    Its scalar code takes tuples: ``elements``, one of each of the data at a place in the row; ``sums``, those of the
    terms, then what these lack in a second word; ``numbers``, those that were given for the row.  All but elements are
    doubles, and so is ``largest``, the largest element of the row, or 0 where that is not asked for.
    """

    name: str  # a word; all definitions of a process have different ones
    module: str
    data: tuple[str, ...]  # operands with an element for each place in the row
    numbers: tuple[str, ...] = ()  # operands with a number for each row
    apart: bool = False  # whether an index is given for each row, of an element that is apart
    largest: int | None = None  # the data of which the largest element is to be found
    summed: int = 1  # how many terms there are
    kept: int = 0  # how many numbers the value keeps for the derivatives
    derived: int = 1  # of how many data, the first ones, there are derivatives
    # terms(elements, largest, numbers): a tuple of what is to be summed
    terms: Scalar
    # value(own, sums, largest, numbers): the value, the derivatives in the numbers, those in what is apart, and numbers
    # that are kept for the slopes; ``own`` is a tuple of what is apart in each of the data, and like the derivatives in
    # that empty if nothing is
    value: Scalar
    # slopes(elements, terms, largest, numbers, kept): the derivatives in the elements, of which those are the terms;
    # doubles
    slopes: Scalar

    @property
    def __name__(self) -> str:
        """The name that kernels' names contain."""
        return self.name
