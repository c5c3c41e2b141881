"""CSV and Parquet into a float64 design matrix, with every complaint naming the column and the data row.

Data rows are counted from 1 and the header of a CSV file is not counted.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .common import UserError, reason

Array = NDArray[np.float64]


@dataclass
class Data:
    """The target, the features (one contiguous column each), and the data row that each came from."""

    X: Array
    y: Array
    target: str
    features: list[str]
    rows: NDArray[np.int64]
    dropped: int


def read(path: Path, target: str, features: Sequence[str] | None, drop_missing: bool) -> Data:
    """The named columns of a file. Without names, every column but the target is a feature."""
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        available, delimiter = (pq.read_schema(path).names, "") if parquet else _header(path)
        chosen = _choose(available, target, features, path)
        wanted = [target, *chosen]
        table = pq.read_table(path, columns=wanted) if parquet else _read_csv(path, wanted, delimiter)
    except pa.ArrowException as error:
        raise UserError(f"cannot read {str(path)!r}: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {reason(error).splitlines()[0]}") from None
    if table.num_rows == 0:
        raise UserError(f"{str(path)!r} has no data rows")
    remedy = "" if features is not None else "; name the columns to use with --features"
    y = np.empty(table.num_rows)
    X = np.empty((table.num_rows, len(chosen)), order="F")
    for name, column in zip(wanted, [y, *X.T], strict=True):
        _fill(column, table.column(name), name, remedy if name != target else "")
    del table
    return _without_missing(X, y, target, chosen, drop_missing)


def _choose(available: list[str], target: str, features: Sequence[str] | None, path: Path) -> list[str]:
    for name in [target, *(features or [])]:
        if name not in available:
            near = difflib.get_close_matches(name, available, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            shown = ", ".join(repr(c) for c in available[:12])
            more = f" and {len(available) - 12} more" if len(available) > 12 else ""
            raise UserError(f"no column {name!r} in {str(path)!r}; {hint}its columns are {shown}{more}")
    chosen = [name for name in available if name != target] if features is None else list(features)
    for name in [target, *chosen]:
        if available.count(name) > 1:
            raise UserError(f"{available.count(name)} columns of {str(path)!r} are named {name!r}; rename them")
        if chosen.count(name) > 1:
            raise UserError(f"feature {name!r} is named twice")
    if target in chosen:
        raise UserError(f"the target {target!r} is also named as a feature")
    if not chosen:
        raise UserError(f"{str(path)!r} has no column beside the target {target!r}, so there is nothing to fit it by")
    return chosen


def _header(path: Path) -> tuple[list[str], str]:
    """The column names of a CSV file and its delimiter: the one of , ; and tab that the header has most of."""
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(1 << 20)
    try:
        text = bytes(start).decode("utf-8-sig", errors="strict" if len(start) < 1 << 20 else "ignore")
        lines = text.lstrip("\r\n")
        first = lines.split("\n", 1)[0]
        delimiter = max(",;\t", key=first.count)
        names = next(csv.reader(io.StringIO(lines), delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"cannot read {str(path)!r}: it is neither Parquet nor CSV in UTF-8") from None
    if not names:
        raise UserError(f"{str(path)!r} is empty")
    return names, delimiter


def _read_csv(path: Path, wanted: list[str], delimiter: str) -> Any:
    def attempt(kind: Any, **choices: Any) -> Any:
        return pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(use_threads=choices.get("threads", True)),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=choices.get("newlines", False)),
            convert_options=pacsv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(wanted, kind), strings_can_be_null=True
            ),
        )

    # The types are given, never inferred: inference looks at the first block only, and a column that begins with
    # integers and goes on with fractions would then fail.
    try:
        return attempt(pa.float64())
    except pa.ArrowInvalid:
        # Booleans, text, line breaks inside quotes or a row that is too short: read text, to see what and where.
        # One thread, because only then do Arrow's own errors name the row.
        return attempt(pa.string(), newlines=True, threads=False)


def _fill(out: Array, column: Any, name: str, remedy: str) -> None:
    """Copy a column into place as float64, missing values as NaN."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = _numbers(column, name, remedy)
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UserError(f"column {name!r} is not numeric: its type is {kind}{remedy}")
    start = 0
    for chunk in column.chunks:
        out[start : start + len(chunk)] = chunk.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        start += len(chunk)


def _numbers(column: Any, name: str, remedy: str) -> Any:
    """Text that reads as numbers, or as true and false, in every row."""
    text = pc.utf8_trim_whitespace(column.combine_chunks())
    if isinstance(text, pa.ChunkedArray):  # combine_chunks may return either
        text = pa.concat_arrays(text.chunks)
    lower = pc.utf8_lower(text)
    present = lower.drop_null()
    if len(present) and pc.all(pc.is_in(present, pa.array(["true", "false"]))).as_py():
        return pa.chunked_array([pc.equal(lower, "true").cast(pa.uint8())])
    if _casts(text):
        return pa.chunked_array([text.cast(pa.float64())])
    low, high = 0, len(text)  # text[:low] casts, text[:high] does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _casts(text.slice(low, middle - low)) else (low, middle)
    value = text[high - 1].as_py()
    shown = value if len(value) <= 40 else value[:37] + "..."
    raise UserError(f"column {name!r} is not numeric: data row {high} holds the text {shown!r}{remedy}")


def _casts(text: Any) -> bool:
    try:
        text.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _without_missing(X: Array, y: Array, target: str, features: list[str], drop_missing: bool) -> Data:
    missing = np.zeros(len(y), dtype=bool)
    where: list[str] = []
    for name, column in zip([target, *features], [y, *X.T], strict=True):
        infinite = np.isinf(column)
        if infinite.any():
            raise UserError(f"column {name!r} has an infinite value in data row {int(infinite.argmax()) + 1}")
        nan = np.isnan(column)
        if nan.any():
            where.append(f"{name!r} {int(nan.sum())}, first in data row {int(nan.argmax()) + 1}")
            missing |= nan
    dropped = int(missing.sum())
    if dropped and not drop_missing:
        columns = "; ".join(where[:4]) + (f"; and {len(where) - 4} more columns" if len(where) > 4 else "")
        count = f"{dropped} of {len(y)} rows have" if dropped > 1 else f"1 of {len(y)} rows has"
        raise UserError(f"{count} empty or NaN values ({columns}); --drop-missing leaves such rows out")
    rows = np.flatnonzero(~missing) + 1
    if dropped:
        # Column by column within the same memory: a second design matrix would double the footprint.
        keep = rows - 1
        for column in X.T:
            column[: len(keep)] = column[keep]
        X, y = X[: len(keep)], y[keep]
    return Data(X, y, target, features, rows, dropped)
