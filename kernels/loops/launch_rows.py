"""The choice of the CUDA kernels of losses of rows, their words and grids; see `launch`, whose device this is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..losses.rowwise import RowDefinition
from .launch import THREADS, Device, number

__all__ = ["PART", "WARP", "RowPlaces", "Rows", "launch_rows"]

PART = 4096  # elements of a row that a warp takes; of longer rows several do
_SHORT = 32  # elements of a row that a thread takes
WARP = 32  # threads of a warp


class RowPlaces:
    """The places of the words that a kernel of rows gets."""

    def __init__(self, definition: RowDefinition) -> None:
        data, numbers = len(definition.data), len(definition.numbers)
        self.rows, self.length, self.after = 0, 1, 2  # the last is also how far apart a row's elements are
        self.data = 3
        self.index = self.data + data  # of the element that is apart, addresses of int64, 0 if none is
        self.addresses = self.index + 1  # of numbers and then the weight, 0 for those by value
        self.values = self.addresses + numbers + 1
        # Of what several warps of a row find: the largest elements, and the sums, those of a kind one after the other.
        self.largest = self.values + numbers + 1
        self.sums, self.value = self.largest + 1, self.largest + 2
        self.by_numbers = self.value + 1
        self.slopes = self.by_numbers + numbers
        self.end = self.slopes + definition.derived


class Rows(NamedTuple):
    """Rows along the second of three axes, and where all that belongs to them is."""

    before: int
    length: int
    after: int
    data: Sequence[int]  # addresses of contiguous arrays
    index_at: int  # address of int64, or 0
    numbers: Sequence[int | float]  # addresses of doubles, one for each row, or numbers
    weight: int | float  # likewise
    value: int  # address of doubles, like those of the derivatives in numbers
    by_numbers: Sequence[int]
    slopes: Sequence[int]  # addresses of memory like the data, or none


def launch_rows(device: Device, definition: RowDefinition, storage: str, given: Rows) -> None:
    """Fill the memory of the results.

    A thread takes a short row, and one of rows that lie side by side, a warp a longer one.  Of what is longer still
    each warp takes a part: one kernel finds the largest elements, one the sums, one what all of them come to.
    """
    rows, length = given.before * given.after, given.length
    if not rows:
        return
    if length <= _SHORT or (given.after >= WARP and length <= PART):
        threads, parts = rows, 1
        ways: tuple[str, ...] = ("thread",)
    else:
        parts = max(1, -(-length // PART))
        threads = rows * parts * WARP
        found = ("sums", "results") if definition.largest is None else ("largest", "sums", "results")
        ways = ("warp",) if parts == 1 else found
    largest = device.scratch(rows * parts) if "largest" in ways else 0
    sums = device.scratch(2 * definition.summed * rows * parts) if "sums" in ways else 0
    by_row = [*given.numbers, given.weight]
    addressed = [value if isinstance(value, int) else 0 for value in by_row]
    values = [0 if isinstance(value, int) else number(value) for value in by_row]
    slopes = given.slopes or [0] * definition.derived
    words = [rows, length, given.after, *given.data, given.index_at, *addressed, *values, largest, sums, given.value]
    words += [*given.by_numbers, *slopes]
    for way in ways:
        what = "rows", definition, storage, way, "slopes" if given.slopes else "values"
        device.launch(what, -(-threads // THREADS), words)
