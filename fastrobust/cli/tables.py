"""CSV and Parquet into a float64 design matrix, with every complaint naming the column and the data row.

Data rows are counted from 1. The header of a CSV file is not one of them, and neither are empty lines.
"""

from __future__ import annotations

import base64
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from . import columns, csv_text
from .common import UserError, quoted, reason
from .sources import Source

Array = NDArray[np.float64]

# What pandas and R call the names of rows, where a table was written with them.
INDEX = re.compile(r"\s*|Unnamed: \d+|__index_level_\d+__|rownames")


@dataclass
class Data:
    """The target, the features (one contiguous column each), and the data row that each came from."""

    X: Array
    y: Array
    target: str
    features: list[str]
    rows: NDArray[np.int64]
    dropped: int
    notes: list[str] = field(default_factory=list)  # what a reader of the fit has to know about the file


def read(source: Source, target: str, features: Sequence[str] | None, drop_missing: bool) -> Data:
    """The named columns of a file. Without names, every column but the target is a feature, and an index is not.

    The columns are read into the memory that the fit uses, one by one; whatever Arrow says of a file becomes an error
    that names it.
    """
    notes: list[str] = []
    layout = None
    try:
        if source.is_parquet:
            file = pq.ParquetFile(source.seekable(), page_checksum_verification=True)
            available, (indices, categories) = file.schema_arrow.names, _told_apart(file, source)
        else:
            layout = csv_text.layout(source)
            available, indices, categories = layout.names, set(), set()
        chosen = _choose(available, indices, target, features, source, notes)
        wanted = [target, *chosen]
        table = csv_text.read(source, wanted, layout) if layout else file.read(columns=wanted)
        if table.num_rows == 0:
            raise UserError(f"{source.title} has no data rows")
        remedy = "" if features is not None else "; name the columns to use with --features"
        y = np.empty(table.num_rows)
        X = np.empty((table.num_rows, len(chosen)), order="F")
        written: dict[str, columns.Written] = {}
        for name, out in zip(wanted, [y, *X.T], strict=True):
            column, hint = table.column(name), remedy if name != target else ""
            if name in categories:
                raise UserError(
                    f"column {name!r} holds categories, not numbers: make a column of 0 and 1 for each, or store it as "
                    f"plain numbers if they are meant{hint}"
                )
            written[name] = columns.fill(out, column, name, hint)
            if max(np.fmax.reduce(out), -np.fmin.reduce(out)) >= 2.0**53:
                column = csv_text.as_text(source, name, layout) if layout else column
                said = columns.lost_digits(column, out, name)
                notes += [said] if said else []
        del table
    except (pa.ArrowException, OSError) as error:
        raise source.unreadable(reason(error) if isinstance(error, OSError) else str(error)) from None
    except UnicodeDecodeError as error:  # of what begins with a byte order mark; bytes in UTF-8 are Arrow's to look at
        raise source.unreadable(
            f"it begins as text in {error.encoding} and goes on as something else ({error.reason}); save it in UTF-8"
        ) from None
    _check_commas(written, notes, source, layout)
    return _without_missing(X, y, target, chosen, drop_missing, notes)


def _told_apart(file: pq.ParquetFile, source: Source) -> tuple[set[str], set[str]]:
    """The columns of a Parquet file that were the index of a DataFrame, and those that hold categories.

    Of numbers, both look like any others. What they were is in the notes that pandas and Arrow leave in the file.
    """
    schema, notes = file.schema_arrow, file.metadata.metadata or {}
    try:
        pandas = json.loads(notes.get(b"pandas", b"{}"))
        index = {name for name in pandas.get("index_columns", []) if isinstance(name, str)}
        categories = {c["field_name"] for c in pandas.get("columns", []) if c.get("pandas_type") == "categorical"}
        if b"ARROW:schema" in notes:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(notes[b"ARROW:schema"])))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        raise source.unreadable("what pandas and Arrow note in it, in its metadata, is damaged") from None
    return index, categories | {field.name for field in schema if pa.types.is_dictionary(field.type)}


def _choose(
    available: list[str], indices: set[str], target: str, features: Sequence[str] | None, source: Source,
    notes: list[str],
) -> list[str]:  # fmt: skip
    """The names of the features, with notes on what is left out; an error for names that are wrong or not unique."""
    for name in [target, *(features or [])]:
        if name not in available:
            raise UserError(_no_column(name, available, source))
    if features is None:
        others = [name for name in available if name != target]
        chosen = [name for name in others if not INDEX.fullmatch(name) and name not in indices]
        notes += _left_out(available, [name for name in others if name not in chosen])
    else:
        chosen = list(features)
    for name in [target, *chosen]:
        if available.count(name) > 1:
            raise UserError(f"{available.count(name)} columns of {source.title} are named {quoted(name)}; rename them")
        if chosen.count(name) > 1:
            raise UserError(f"feature {name!r} is named twice")
    if target in chosen:
        raise UserError(f"the target {target!r} is also named as a feature")
    if not chosen:
        also = "".join(f"; {note}" for note in notes)
        raise UserError(
            f"{source.title} has no column beside the target {quoted(target)}, so there is nothing to fit it by{also}"
        )
    return chosen


def _no_column(name: str, available: list[str], source: Source) -> str:
    """The message for a column that is not there, with the name that may be meant and those that there are."""

    def plain(name: str) -> str:
        return " ".join(name.split()).casefold()

    alike = [other for other in available if plain(other) == plain(name)]
    near = alike or difflib.get_close_matches(name, available, n=1, cutoff=0.5)
    hint = f"did you mean {quoted(near[0])}? " if near else ""
    shown = ", ".join(map(quoted, available[:12]))
    if len(available) > 1:
        more = f" and {len(available) - 12} more" if len(available) > 12 else ""
        return f"no column {quoted(name)} in {source.title}; {hint}its columns are {shown}{more}"
    tell = "" if source.is_parquet else "; columns are separated by comma, semicolon, tab or |"
    return f"no column {quoted(name)} in {source.title}; {hint}its only column is {shown}{tell}"


def _left_out(available: list[str], names: list[str]) -> list[str]:
    """The notes on columns that are left out: by their names, or by their numbers where they have none."""
    named = [quoted(name) for name in dict.fromkeys(names) if name.strip()]
    nameless = [str(i) for i, name in enumerate(available, 1) if name in names and not name.strip()]
    said = []
    if named:
        verb = "names" if len(named) == 1 else "name"
        said.append(f"left out {', '.join(named)}, which {verb} the rows; --features can name it all the same")
    if nameless:
        s = "" if len(nameless) == 1 else "s"
        said.append(f"left out column{s} {', '.join(nameless)}, which {'have' if s else 'has'} no name")
    return said


def _check_commas(
    written: dict[str, columns.Written], notes: list[str], source: Source, layout: csv_text.Layout | None
) -> None:
    """Refuse a number such as 1,500 where another column shows that commas, or points, are decimal ones.

    A note says which columns have decimal commas.
    """
    commas = [name for name, how in written.items() if how.commas]
    either = [(name, how.either) for name, how in written.items() if how.either]
    if either:
        name, value = either[0]
        cell = csv_text.decimal_comma(source, layout) if layout and not commas else ""
        other = f"column {commas[0]!r} has decimal commas" if commas else f"a column not used holds {cell!r}"
        if commas or cell:
            raise UserError(
                f"column {name!r}: {value!r} may be {value.replace('.', '')} or {value}, since {other}; write both in "
                "one way"
            )
    if commas:
        notes.append(f"decimal commas in {', '.join(map(quoted, commas))}")


def _without_missing(
    X: Array, y: Array, target: str, features: list[str], drop_missing: bool, notes: list[str]
) -> Data:
    """The rows without missing values, if they may be dropped or none is missing; infinite values are refused."""
    missing = np.zeros(len(y), dtype=bool)
    where: list[str] = []
    for name, column in zip([target, *features], [y, *X.T], strict=True):
        infinite = np.isinf(column)
        if infinite.any():
            raise UserError(f"column {name!r} has an infinite value in data row {int(infinite.argmax()) + 1}")
        nan = np.isnan(column)
        if nan.all():
            remedy = "" if name == target else "; leave it out: name the others with --features"
            raise UserError(f"column {name!r} has no value in any row{remedy}")
        if nan.any():
            where.append(f"{quoted(name)} {int(nan.sum())}, first in data row {int(nan.argmax()) + 1}")
            missing |= nan
    dropped = int(missing.sum())
    listed = "; ".join(where[:4]) + (f"; and {len(where) - 4} more columns" if len(where) > 4 else "")
    if dropped == len(y):
        raise UserError(f"every row has a missing value ({listed}): leave columns out, naming the others by --features")
    if dropped and not drop_missing:
        count = f"{dropped} of {len(y)} rows have" if dropped > 1 else f"1 of {len(y)} rows has"
        raise UserError(f"{count} missing values ({listed}); --drop-missing leaves such rows out")
    rows = np.flatnonzero(~missing) + 1
    if dropped:
        # Column by column within the same memory: a second design matrix would double the footprint.
        keep = rows - 1
        for column in X.T:
            column[: len(keep)] = column[keep]
        X, y = X[: len(keep)], y[keep]
    return Data(X, y, target, features, rows, dropped, notes)
