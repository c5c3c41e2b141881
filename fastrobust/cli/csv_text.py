"""CSV as people have it: which character separates, what the columns are called, and which line is wrong."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from .columns import NULLS
from .common import UserError, quoted
from .sources import Source

SEPARATORS = ",;\t|"
START = 1 << 20
LONGEST = 1 << 26  # characters of a cell that may have line breaks; csv's own limit is 1 << 17
NOT_TEXT = (
    "it is neither Parquet nor CSV in UTF-8; for a table of a Western European Windows: "
    "iconv -f WINDOWS-1252 -t UTF-8 FILE | fastrobust fit - ..."
)
UNENDED = "unexpected end of data"  # as the csv module says that a quote is open
OPEN_QUOTE = "a quote that is opened in {} is never closed"


@dataclass(frozen=True)
class Layout:
    """The names in the header, what separates them, and the lines before it: Excel's ``sep=;``."""

    names: list[str]
    separator: str
    skipped: int


def layout(source: Source) -> Layout:
    """The layout of a CSV file; what separates is that of , ; | and tab which the header has most, outside quotes."""
    stream = source.text()
    start, more = b"", b"first"
    while more and not re.search(rb"\0|[^\r\n][\r\n]", start):
        more = stream.read(START)
        start += more
    text = start.decode("utf-8-sig", errors="surrogateescape")
    told = re.match(r"(?i)sep=(.)[\r\n]+", text)
    if told:
        text = text[told.end() :]
    lines = text.lstrip("\r\n")
    first = re.sub(r'"[^"]*"', "", re.split(r"[\r\n]", lines, maxsplit=1)[0])
    separator = told[1] if told else max(SEPARATORS, key=first.count)
    try:
        names = next(csv.reader(io.StringIO(lines, newline=None), delimiter=separator, strict=True), [])
    except csv.Error as error:
        wrong = OPEN_QUOTE.format("the header") if UNENDED in str(error) else f"header: {error}"
        raise source.unreadable(wrong) from None
    if any(re.search("[\0\udc80-\udcff]", name) for name in names):  # escapes of bytes that are no character
        raise source.unreadable(NOT_TEXT)
    if not names:
        raise UserError(f"{source.title} is empty")
    return Layout(names, separator, 1 if told else 0)


def read(source: Source, wanted: list[str], layout: Layout) -> pa.Table:
    """The wanted columns as an Arrow table: of float64, or of text where that is not what they all hold."""
    # The types are given, never inferred: inference looks at the first block only, and a column that begins with
    # integers and goes on with fractions would then fail.
    try:
        # Where any column has decimal commas it matters how all are written.
        table = _attempt(source, wanted, layout, pa.string() if decimal_comma(source, layout) else pa.float64())
    except pa.ArrowInvalid:
        # Booleans, text, decimal commas, line breaks inside quotes or a row that is too short: read text, to see.
        try:
            table = _attempt(source, wanted, layout, pa.string())
        except pa.ArrowInvalid as error:
            raise source.unreadable(wrong_line(source, layout) or str(error)) from None
    if _doubtful_quotes(source, layout, table.num_rows):
        wrong = wrong_line(source, layout)
        if wrong:
            raise source.unreadable(wrong)
    return table


def decimal_comma(source: Source, layout: Layout) -> str:
    """A number of the file that can only have a decimal comma, in whatever column; "" if none has."""
    number = rb"[+-]?(?:\d*,(?:\d{1,2}|\d{4,})|0?,\d+|\d{1,3}(?:\.\d{3})+,\d+)"
    bare = b"" if layout.separator == "," else b"|(?<=[%b\r\n])(?:%b)(?=[%b\r\n])"
    separator = re.escape(layout.separator.encode())
    pattern = re.compile(b'(?<=")(?:%b)(?=")' % number + (bare and bare % (separator, number, separator)))
    needed = b"," if bare else b'"'  # without it there is none: a look at bytes, many times as fast as the pattern
    stream, last = source.text(), b"\n"
    for block in itertools.chain(iter(lambda: stream.read(START), b""), [b"\n"]):
        text = last + block
        found = pattern.search(text) if needed in text else None
        if found:
            return found[0].decode()
        last = text[-64:]
    return ""


def _doubtful_quotes(source: Source, layout: Layout, rows: int) -> bool:
    """Tell whether quotes may be wrong in a way that Arrow does not mind, so that `wrong_line` should look.

    A quote that is never closed takes the rows that follow into one cell, also of a column that is not wanted, up to
    the next quote or the end; and of ``"1"2`` Arrow makes 12.  This is a look at bytes, many times as fast.
    """
    separator = re.escape(layout.separator.encode())
    inside = re.compile(rb'"(?<=[^%b\r\n]")[^%b\r\n"]' % (separator, separator))  # neither opens nor closes a cell
    lines, quotes, goes_on, last = 0, 0, False, b"\n"
    stream = source.text()
    while block := stream.read(START):
        text = last + block
        codes = np.frombuffer(text, np.uint8)[len(last) - 1 :]
        ends = (codes == ord("\n")) | (codes == ord("\r"))
        lines += int(np.count_nonzero(ends[:-1] > ends[1:]))  # empty ones do not count
        quotes += block.count(b'"')
        goes_on = goes_on or inside.search(text) is not None
        last = text[-2:]
    return quotes > 0 and (quotes % 2 == 1 or goes_on or lines != layout.skipped + 1 + rows)


def as_text(source: Source, name: str, layout: Layout) -> pa.ChunkedArray:
    """One column as it is written, text in each cell."""
    return _attempt(source, [name], layout, pa.string()).column(name)


def _attempt(source: Source, wanted: list[str], layout: Layout, kind: pa.DataType) -> pa.Table:
    """The wanted columns, all of that type; an error of Arrow's where a cell or a row does not allow it."""
    return pacsv.read_csv(
        source.text(),
        read_options=pacsv.ReadOptions(skip_rows=layout.skipped),
        parse_options=pacsv.ParseOptions(
            delimiter=layout.separator, newlines_in_values=pa.types.is_string(kind)
        ),
        convert_options=pacsv.ConvertOptions(
            include_columns=wanted,
            column_types=dict.fromkeys(wanted, kind),
            null_values=NULLS,
            strings_can_be_null=True,
        ),
    )  # fmt: skip


def wrong_line(source: Source, layout: Layout) -> str | None:
    """A sentence on the first line that is wrong: too few or many fields, an open quote, or not UTF-8."""
    row, line, expected = 0, 1 + layout.skipped, len(layout.names)
    lines = io.TextIOWrapper(source.text(), encoding="utf-8-sig", errors="surrogateescape", newline=None)
    for _ in range(layout.skipped):
        lines.readline()
    reader = csv.reader(_in_utf8(lines), delimiter=layout.separator, strict=True)
    limit = csv.field_size_limit(LONGEST)
    try:
        for fields in reader:
            if fields:  # empty lines do not count
                if len(fields) != expected:
                    count = f"{len(fields)} field{'s' * (len(fields) != 1)}"
                    return f"{_place(line, row)} has {count}, but the header {expected}{_why(fields, expected, row)}"
                row += 1
            line = layout.skipped + reader.line_num + 1
    except UnicodeEncodeError:
        return f"{_place(layout.skipped + reader.line_num + 1, row)} is not in UTF-8; {NOT_TEXT.partition('; ')[2]}"
    except csv.Error as error:
        place = _place(line, row)
        if "field limit" in str(error):  # it may end at the end of the file, far away
            return f"{place}: {error}; perhaps a quote there is never closed"
        return OPEN_QUOTE.format(place) if UNENDED in str(error) else f"{place}: {error}"
    finally:
        csv.field_size_limit(limit)
    return None


def _in_utf8(lines: io.TextIOWrapper) -> Iterator[str]:
    """The lines, up to one that is not in UTF-8: an error there."""
    for line in lines:
        line.encode()  # fails for the escapes that stand for bytes of no character
        yield line


def _place(line: int, row: int) -> str:
    """The words for a line, with the number of its data row unless it is the header."""
    return f"line {line} (data row {row})" if row else f"line {line}"


def _why(fields: list[str], expected: int, row: int) -> str:
    """A guess at why a line has too few or too many fields, or what it begins with."""
    if len(fields) == expected + 1 and not fields[-1].strip():
        return ": remove the separator at the end of each row"
    if len(fields) == expected + 1 and row == 1:
        return ": if it begins with the row names of R, write the table by write.csv(..., row.names = FALSE)"
    return f": it begins with {quoted(fields[0])}" if fields[0] else ""
