"""A column of a file as float64: what counts as missing, as a number and as neither."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .common import UserError, quoted

Array = NDArray[np.float64]

# What stands for a missing value, in any case: in R, pandas, SQL (\N in dumps), Excel and its errors, SAS, Weka,
# Eurostat, the World Bank and tables for people.
MISSING = (
    "", "na", "n/a", "n.a.", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "-nan", "nat", "null", "(null)", "[null]",
    "none", "nil", r"\n", ".", "..", "...", ":", "?", "-", "--", "\N{EN DASH}", "\N{EM DASH}", "*", "missing",
    "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!",
)  # fmt: skip
# In the usual cases, for Arrow, which compares exactly. In any other case a column is read as text.
NULLS = sorted({form for mark in MISSING for form in (mark, mark.upper(), mark.capitalize(), mark.title())} | {"NaN"})

# What may be a thousand or a fraction: 1,500 and 1.500.
EITHER_COMMA, EITHER_POINT = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$", r"^[+-]?[1-9][0-9]{0,2}\.[0-9]{3}$"


class Written(NamedTuple):
    """The way the numbers of a column are written: with decimal commas, or ``either``, of which this is an example."""

    commas: bool = False
    either: str = ""


def fill(out: Array, column: pa.ChunkedArray, name: str, remedy: str) -> Written:
    """Copy a column into place, missing values as NaN, and say how its numbers are written."""
    kind = column.type
    written = Written()
    if _is_text(kind):
        column, written = _numbers(column.cast(pa.large_string()), name, remedy)
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise UserError(f"column {name!r} is not numeric: its type is {kind}{remedy}")
    start = 0
    for chunk in column.chunks:
        if pa.types.is_decimal(kind):
            chunk = chunk.cast(pa.string())  # Arrow rounds text to the nearest double, and decimals not always
        out[start : start + len(chunk)] = chunk.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        start += len(chunk)
    return written


def _is_text(kind: pa.DataType) -> bool:
    """Tell whether it is one of Arrow's three types of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _numbers(text: pa.ChunkedArray, name: str, remedy: str) -> tuple[pa.ChunkedArray, Written]:
    """The numbers of a column of text that reads as numbers, or as true and false, in every row that is not missing.

    Read with decimal points if all of it can be, else with decimal commas; an error names the first row that is
    neither, or a value that could be both.
    """
    text = pc.utf8_trim_whitespace(text)
    marks = pa.array(MISSING, pa.large_string())
    text = pc.if_else(pc.is_in(pc.utf8_lower(text), marks), pa.scalar(None, pa.large_string()), text)
    lower = pc.utf8_lower(text)
    present = lower.drop_null()
    if len(present) and pc.all(pc.is_in(present, pa.array(["true", "false"], pa.large_string()))).as_py():
        return pc.equal(lower, "true").cast(pa.uint8()), Written()
    if _casts(text):
        points = text.filter(pc.match_substring(text, "."))
        either = len(points) and pc.all(pc.match_substring_regex(points, EITHER_POINT)).as_py()
        return text.cast(pa.float64()), Written(either=points[0].as_py() if either else "")
    pointed = pc.replace_substring(text, ",", ".")
    if _casts(pointed) and not pc.any(pc.match_substring(text, ".")).as_py():
        commas = text.filter(pc.match_substring(text, ","))
        if pc.all(pc.match_substring_regex(commas, EITHER_COMMA)).as_py():
            value = commas[0].as_py()
            raise UserError(
                f"column {name!r}: {value!r} may be {value.replace(',', '')} or {value.replace(',', '.')}; write it "
                f"in one of these two ways{remedy}"
            )
        return pointed.cast(pa.float64()), Written(commas=True)
    low, high = 0, len(text)  # text[:low] casts, text[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _casts(text.slice(low, middle - low)) else (low, middle)
    value = text[high - 1].as_py()
    raise UserError(f"column {name!r} is not numeric: data row {high} holds the text {quoted(value)}{remedy}")


def _casts(text: pa.ChunkedArray) -> bool:
    """Tell whether Arrow reads all of it as numbers."""
    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def lost_digits(column: pa.ChunkedArray, doubles: Array, name: str) -> str | None:
    """A note on whole numbers beyond 2**53, which a double rounds; an error where they vary by little more.

    ``column`` is of integers, of decimals or of text; and ``doubles`` is what became of it.
    """
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    if _is_text(column.type):
        whole = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
        whole = pc.replace_substring_regex(whole, r"^([+-]?)0*([0-9]{16,76})(?:[.,]0*)?$", r"\1\2")
        column = whole.filter(pc.match_substring_regex(whole, "^[+-]?[0-9]{16,76}$")).cast(pa.decimal256(76, 0))
    elif not pa.types.is_integer(column.type):
        return None
    ends = pc.min_max(column).as_py()
    if ends["min"] is None:
        return None
    low, high = int(ends["min"]), int(ends["max"])
    size = max(high, -low)
    if size <= 2**53:
        return None
    step = math.ulp(float(size))
    if high > low and step > 1e-9 * float(np.fmax.reduce(doubles) - np.fmin.reduce(doubles)):
        raise UserError(
            f"column {name!r} holds whole numbers up to {size}, of which a double keeps multiples of {step:g}, too "
            "few for what they vary by: subtract a constant from them"
        )
    return f"column {quoted(name)} holds whole numbers beyond 2**53, which are rounded to 16 digits"
