"""The tables that people have: what Excel, R, pandas, databases and offices write, and what is wrong in them.

Run within this process, through the command line's own entry.
"""

from __future__ import annotations

import bz2
import decimal
import gzip
import io
import json
import zipfile

import numpy as np
import pytest

REASON = 'the command line needs pip install ".[cli]"'
pa = pytest.importorskip("pyarrow", reason=REASON)
pytest.importorskip("rich", reason=REASON)
pytest.importorskip("sklearn", reason=REASON)

import pyarrow.parquet as pq  # noqa: E402

from fastrobust.cli import columns, csv_text, fit, main, sources, tables  # noqa: E402

X = [0.346, 0.822, 0.33, -1.303, 0.905, 0.446, -0.537, 0.581, 0.365, 0.294, 0.028, 0.547]
Y = [-0.044, 1.481, 0.184, -3.205, 1.85, 0.6, -1.203, 0.41, 1.011, 0.1, 2.25, 0.977]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def cells(separator=",", head=("x", "y"), end="\n", x=X, y=Y, comma=False):
    rows = [[str(a).replace(".", ",") if comma else str(a) for a in row] for row in zip(x, y, strict=True)]
    return "".join(separator.join(row) + end for row in [head, *rows])


def write(content, name="t.csv"):
    with open(name, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    return name


def read(content, target="y", features=None, drop_missing=False, name="t.csv"):
    if isinstance(content, pa.Table):
        pq.write_table(content, name)
    elif content is not None:
        write(content, name)
    return tables.read(sources.Source(name), target, features, drop_missing)


def refusal(content, *words, **options):
    with pytest.raises(tables.UserError) as caught:
        read(content, **options)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1
    assert len(message) < 400, "an error is for a person to read"


def same(data, x=X, y=Y, notes=()):
    np.testing.assert_array_equal(data.X, np.array(x, ndmin=2).T)
    np.testing.assert_array_equal(data.y, y)
    assert data.notes == list(notes)
    assert data.features == ["x"]


# What is read, to the last bit


PLAIN = cells()
QUOTED = "".join('"' + line.replace(",", '","') + '"\n' for line in PLAIN.splitlines())
READ = {
    "plain": PLAIN,
    "Windows line ends": cells(end="\r\n"),
    "line ends of an old Macintosh": cells(end="\r"),
    "no line end at the end": PLAIN.rstrip("\n"),
    "empty lines": "\n\n" + PLAIN.replace("0.33,", "\n0.33,") + "\n\n",
    "a byte order mark": "\ufeff" + PLAIN,
    "Excel's Unicode text": cells("\t", end="\r\n").encode("utf-16"),
    "UTF-16, big-endian": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "gzip": gzip.compress(PLAIN.encode()),
    "gzip in two members": gzip.compress(PLAIN[:40].encode()) + gzip.compress(PLAIN[40:].encode()),
    "bzip2": bz2.compress(PLAIN.encode()),
    "zstd": pa.compress(PLAIN.encode(), "zstd", asbytes=True),
    "semicolons": cells(";"),
    "tabs": cells("\t"),
    "bars": cells("|"),
    "everything in quotes": QUOTED,
    "Excel's line for the separator": "sep=;\r\n" + cells(";", end="\r\n"),
    "the same for one that would not be seen": "sep=:\n" + cells(":"),
    "spaces around": "x,y\n" + cells(" , ").partition("\n")[2],
}


@pytest.mark.parametrize("case", READ)
def test_a_table_is_read_to_the_last_bit(case):
    same(read(READ[case]))


def test_a_separator_in_a_quoted_name_does_not_count():
    data = read(cells(";", head=('"a, b, c"', "y")))
    assert data.features == ["a, b, c"]


def test_a_header_longer_than_what_is_read_at_once_is_whole(monkeypatch):
    monkeypatch.setattr(csv_text, "START", 7)
    names = [f"größe {i}" for i in range(9)]
    rows = "".join(f"{i},1,2,3,4,5,6,7,8\n" for i in range(3))
    data = read(",".join(names) + "\n" + rows, target="größe 0")
    assert data.features == names[1:]
    np.testing.assert_array_equal(data.y, [0, 1, 2])
    np.testing.assert_array_equal(data.X[0], range(1, 9))


def test_a_column_that_turns_to_fractions_or_text_far_down_is_read_whole():
    x = [*range(300_000), 0.5]
    same(read(cells(x=x, y=x)), x, x)
    with_mark = read(cells(x=[*x, "?"], y=[*x, 1]), drop_missing=True)
    same(with_mark, x, x)
    assert with_mark.dropped == 1


# Missing values

MARKS = [
    "", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "NULL", "null", "None", "none", "NONE", "nOnE", r"\N", ".",
    "..", ":", "?", "-", "--", "—", "*", "<NA>", "NaT", "#DIV/0!", "#VALUE!", " NA ", " ? ", '""', '"NA"', "(null)",
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_of_a_missing_value_is_one(mark):
    content = cells(x=[*X[:4], mark, *X[5:]])
    data = read(content, drop_missing=True)
    same(data, X[:4] + X[5:], Y[:4] + Y[5:])
    assert data.dropped == 1
    assert list(data.rows) == [1, 2, 3, 4, *range(6, 13)]
    refusal(content, "1 of 12 rows has missing values", "'x' 1", "data row 5", "--drop-missing")


@pytest.mark.parametrize("mark", ["?", "None", " - "])
def test_a_mark_in_parquet_text_is_missing_too(mark):
    text = [str(value) for value in X]
    text[4] = mark
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        data = read(pa.table({"x": pa.array(text).cast(kind), "y": Y}), drop_missing=True)
        same(data, X[:4] + X[5:], Y[:4] + Y[5:])


@pytest.mark.parametrize("text", ["unknown", "1.2.3", "0x10", "12 kg", "1,234,567", "50%", "--1", "€5"])
def test_other_text_is_no_number_and_not_missing(text):
    content = cells(x=[*X[:4], f'"{text}"', *X[5:]])
    refusal(content, "'x'", "data row 5", repr(text), drop_missing=True)


def test_true_and_false_are_numbers_also_beside_missing_ones():
    x = ["TRUE", "False", "NA", *["true", "FALSE"] * 4, "True"]
    data = read(cells(x=x), drop_missing=True)
    same(data, [1, 0, *[1, 0] * 4, 1], Y[:2] + Y[3:])


def test_no_advice_drops_every_row():
    empty = cells(x=[""] * 12)
    for drop in (False, True):
        refusal(empty, "'x' has no value in any row", drop_missing=drop)
    by_turns = "x,z,y\n" + "".join(f"{x},,{i}\n" if i % 2 else f",1,{i}\n" for i, x in enumerate(X))
    for drop in (False, True):
        refusal(by_turns, "every row", "'x' 6", "'z' 6", "--features", drop_missing=drop)
    refusal(cells(y=["NA"] * 12), "'y' has no value in any row")


# Commas and points


def test_decimal_commas_are_read_and_said():
    said = ["decimal commas in 'y', 'x'"]
    same(read(cells(";", comma=True)), notes=said)
    quoted = "".join(f'"{a}","{b}"\n'.replace(".", ",") for a, b in zip(X, Y, strict=True))
    same(read("x,y\n" + quoted), notes=said)
    same(read(cells("\t", comma=True, x=[1, 2, 3], y=["1e3", "-,5", "+2.5e-1"])), [1, 2, 3], [1000, -0.5, 0.25],
         ["decimal commas in 'y'"])  # fmt: skip


def test_what_may_be_thousands_is_refused():
    refusal("x;y\n1,500;1\n2,250;2\n", "'x'", "'1,500'", "1500", "1.500")
    refusal("x;y\n1.500;1,5\n2.250;2\n", "'x'", "'1.500'", "1500", "'y'")
    refusal("x;y\n1,5;1\n2.5;2\n", "'x'", "'1,5'")  # both in one column
    refusal("x;y\n1.234,5;1\n2;2\n", "'x'", "'1.234,5'")
    same(read("x;y\n1,500;1\n12,25;2\n"), [1.5, 12.25], [1, 2], ["decimal commas in 'x'"])  # 12,25 decides


@pytest.mark.parametrize("cell", ["2,5", "-12,75", "0,125", ",5", "1.234,567", "1,2345"])
@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_columns_that_are_not_used_tell_how_numbers_are_written(cell, separator):
    rows = [["x", "y", "other"], ["1.500", "1", "text"], ["2.250", "2", f'"{cell}"' if separator == "," else cell]]
    text = "".join(separator.join(row) + "\n" for row in rows)
    for content in (text, text[:-1], text.replace("\n", "\r\n")):
        refusal(content, "'x'", "'1.500'", "1500", repr(cell), features=["x"])
    same(read(text.replace("2.250", "2.25"), features=["x"]), [1.5, 2.25], [1, 2])  # which has no thousands


@pytest.mark.parametrize("cell", ["1,500", "-2,250", "1, 5", "a,5", "5,", "1,5 m"])
def test_other_commas_tell_nothing(cell):
    same(read(f"x;y;other\n1.500;1;text\n2.250;2;{cell}\n", features=["x"]), [1.5, 2.25], [1, 2])


# What is wrong with a line


def test_lines_and_data_rows_are_told_apart():
    short = "x,y\n1,2\n\n3\n4,5\n"
    refusal(short, "line 4 (data row 2) has 1 field, but the header 2")
    refusal('"x","y"\n"1\n1",2\n3,4,5\n', "line 4 (data row 2) has 3 fields")
    refusal("sep=;\n" + short.replace(",", ";"), "line 5 (data row 2)")


def test_a_separator_at_the_end_of_each_row():
    trailing = "x,y\n" + "".join(f"{a},{b},\n" for a, b in zip(X, Y, strict=True))
    refusal(trailing, "line 2 (data row 1) has 3 fields, but the header 2", "separator at the end of each row")
    same(read(trailing.replace("x,y", "x,y,")), notes=["left out column 3, which has no name"])
    wide = trailing.replace(",\n", ",,,\n").replace("x,y", "x,y,,,")
    same(read(wide), notes=["left out columns 3, 4, 5, which have no name"])


def test_an_open_quote_is_one_line_however_much_follows(monkeypatch):
    more = "".join(f"{i},{i}\n" for i in range(5000))
    refusal(f'x,y\n1,2\n"3,4\n{more}', "a quote that is opened in line 3 (data row 2) is never closed")
    refusal(f'x,y\n1,2\n3,"4\n{more}', "a quote that is opened in line 3 (data row 2) is never closed")
    refusal(f'"x,y\n1,2\n3,4\n{more}', "a quote that is opened in the header is never closed")
    refusal(f'x,y\n1,2\n3,"4\n{more * 10}', "a quote that is opened in line 3 (data row 2) is never closed")
    monkeypatch.setattr(csv_text, "LONGEST", 10_000)
    refusal(f'x,y\n1,2\n3,"4\n{more}', "line 3 (data row 2)", "perhaps a quote there is never closed")


OPEN = "opened in line 3 (data row 2) is never closed"
QUOTES = {
    "open to the end": ('x,y,n\n1,2,a\n3,4,"b\n5,6,c\n', OPEN),
    "open in the last row": ('y,x\n1,2\n3,"4', OPEN),
    "open to the next quote": ('n,x,y\na,1,2\n"5 inches,3,4\nb,5,6\n"c",7,8\n', "line 3 (data row 2)"),
    "open, with the line ends of an old Macintosh": ('x,y,n\r1,2,a\r3,4,"b\r5,6,c\r', OPEN),
    "digits behind": ('x,y\n3,4\n"1"2,3\n', "line 3 (data row 2)"),
    "digits behind, in UTF-16": ('x;y\n3;4\n"1"2;3\n'.encode("utf-16"), "line 3 (data row 2)"),
    "digits behind, where blocks meet": ("x,y\n" + "0,1\n" * (csv_text.START // 4 - 2) + '0,"1"2\n', "line 26214"),
}


@pytest.mark.parametrize("case", QUOTES)
def test_no_quote_takes_rows_or_digits_in(case):
    content, words = QUOTES[case]
    refusal(content, words, features=["x"])


def test_quotes_that_are_right_are_read():
    text = '"5"" pipe,\n1,2\n"'  # a cell like two rows
    table = "n,x,y\n" + "".join(f"{text},{x},{y}\n" for x, y in zip(X, Y, strict=True))
    same(read(table, features=["x"]))
    same(read(table.replace(text, '5" pipe'), features=["x"]))
    same(read(table.replace("pipe", "pipe\n" * 30_000), features=["x"]))  # longer than the csv module's own limit


def test_text_in_another_encoding_is_said_with_its_remedy():
    refusal("größe,y\n1,2\n".encode("latin-1"), "UTF-8", "iconv")
    lines = b"n,x,y\n" + b"a,1,2\n" * 50_000 + b"gr\xf6\xdfe,3,4\n"
    refusal(lines, "line 50002 (data row 50001) is not in UTF-8", "iconv")
    data = read(lines, features=["x"])  # nothing to read of that column
    assert len(data.y) == 50_001


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("t.csv", content)
    return buffer.getvalue()


WRONG = {
    "a cut UTF-16": (PLAIN.encode("utf-16")[:-1], "utf-16-le and goes on as something else"),
    "a broken UTF-16": (("x,y\n" + "1,2\n" * 300_000).encode("utf-16") + b"\0\xdc", "save it in UTF-8"),
    "nothing": (b"", "is empty"),
    "empty lines only": (b"\n\r\n\n", "is empty"),
    "a header only": (b"x,y\n", "no data rows"),
    "zeros": (bytes(100_000), "neither Parquet nor CSV"),
    "ZIP": (zipped(PLAIN), "ZIP archive or an Excel workbook"),
    "old Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "Excel workbook"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "xz": (b"\xfd7zXZ\x00" + bytes(100), "xz -dc"),
    "Feather": (b"ARROW1\0\0" + bytes(100), "Feather"),
    "a cut gzip": (gzip.compress(PLAIN.encode())[:-9], "Truncated"),
    "gzip with junk behind": (gzip.compress(PLAIN.encode()) + b"junk", "incorrect header"),
    "Parquet's first bytes": (b"PAR1", "cannot read"),
    "spaces between columns": (cells(" "), "separated by comma, semicolon, tab or |"),
    "R's row names": ("x,y\n" + "".join(f"r{i},{i},{i}\n" for i in range(9)), "row.names = FALSE"),
    "a name without end": ("x" * 100_000 + ",z\n1,2\n", "xxx..."),
    "a field without end": ("y,x\n" + "1" * 300_000 + "a,2\n", "111..."),
    "dates": ("x,y\n2020-01-01,1\n2020-01-02,2\n", "'2020-01-01'"),
    "a line break in a name": ('"x\nx",z\n1,2\n', r"'x\nx'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_such_table_is_said_in_a_line(case):
    content, words = WRONG[case]
    refusal(content, words)


def test_names_in_another_case_or_with_spaces_are_suggested():
    refusal(PLAIN, "did you mean 'y'?", target="Y")
    refusal(cells(head=("Größe", "Yield  2020")), "did you mean 'Yield  2020'?", target="yield 2020")
    refusal(cells(head=("x", " y")), "did you mean ' y'?", target="y")
    refusal(cells(head=("GRÖSSE", "y")), "did you mean 'GRÖSSE'?", features=["größe"])


def test_columns_of_one_name_matter_only_where_they_are_used():
    twice = cells(",7,8,", head=("x,z,z,y", "q")).replace("x,z,z,y,7,8,q", "x,z,z,y")
    refusal(twice, "2 columns", "'z'")
    same(read(twice, features=["x"]))


# Names of rows


def with_index(name, first=1):
    rows = "".join(f"{i},{a},{b}\n" for i, (a, b) in enumerate(zip(X, Y, strict=True), first))
    return f"{name},x,y\n{rows}"


@pytest.mark.parametrize("name", ["", '""', " ", "Unnamed: 0", "rownames"])
def test_a_column_that_names_the_rows_is_no_feature(name):
    note = f"left out '{name}', which names the rows; --features can name it all the same"
    same(read(with_index(name)), notes=[note if name.strip(' "') else "left out column 1, which has no name"])


def test_a_column_that_names_the_rows_may_be_asked_for():
    data = read(with_index("Unnamed: 0"), features=["Unnamed: 0"])
    np.testing.assert_array_equal(data.X[:, 0], range(1, 13))
    assert data.notes == []
    refusal("Unnamed: 0,y\n1,2\n2,3\n", "no column beside the target 'y'", "left out 'Unnamed: 0'")


def test_what_pandas_writes():
    pd = pytest.importorskip("pandas", reason="to write as it does")
    frame = pd.DataFrame({"x": X, "y": Y})
    frame.to_csv("t.csv")
    same(read(None), notes=["left out column 1, which has no name"])
    frame.to_csv("t.csv", index=False, sep=";", decimal=",", na_rep="-")
    same(read(None), notes=["decimal commas in 'y', 'x'"])
    frame.to_csv("t.csv", encoding="utf-16", index=False)
    same(read(None))
    frame.to_parquet("t.parquet")
    same(read(None, name="t.parquet"))
    shuffled = [3, 1, 2, *range(4, 13)]
    for index, name in ((shuffled, "__index_level_0__"), (pd.Index(shuffled, name="id"), "id")):
        frame.set_index(pd.Index(index)).to_parquet("t.parquet")
        data = read(None, name="t.parquet")
        same(data, notes=[f"left out '{name}', which names the rows; --features can name it all the same"])
        np.testing.assert_array_equal(read(None, features=[name], name="t.parquet").X[:, 0], shuffled)
    frame.assign(c=pd.Categorical(range(12))).to_parquet("t.parquet")
    refusal(None, "'c' holds categories", "--features", name="t.parquet")


# Parquet's types


ROWS = np.arange(12)
NUMBERS = {
    "bool": (pa.array(ROWS % 2 == 0), ROWS % 2 == 0),
    "uint8": (pa.array(ROWS, pa.uint8()), ROWS),
    "int64 within 2**53": (pa.array(2**53 - ROWS), 2.0**53 - ROWS),
    "float16": (pa.array(ROWS.astype("f2")), ROWS),
    "float32": (pa.array(ROWS.astype("f4")), ROWS),
    "decimal": (pa.array([decimal.Decimal(str(x)) for x in X], pa.decimal128(12, 3)), X),
    "large string": (pa.array(map(str, X), pa.large_string()), X),
    "string view": (pa.array(map(str, X)).cast(pa.string_view()), X),
}
REFUSED = {
    "timestamp": (pa.array(ROWS, pa.timestamp("ns")), "timestamp[ns]"),
    "date": (pa.array(ROWS.astype("i4"), pa.date32()), "date32"),
    "duration": (pa.array(ROWS, pa.duration("s")), "duration"),
    "list": (pa.array([[1.0]] * 12), "list"),
    "struct": (pa.array([{"a": 1.0}] * 12), "struct"),
    "bytes": (pa.array([b"1"] * 12), "binary"),
    "nulls": (pa.nulls(12), "no value in any row"),
    "categories of text": (pa.array(map(str, X)).dictionary_encode(), "holds categories"),
    "categories of integers": (pa.array(ROWS % 3).dictionary_encode(), "holds categories"),
    "categories of numbers": (pa.array(X).dictionary_encode(), "holds categories"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers_of_every_type_are_read(case):
    column, expected = NUMBERS[case]
    same(read(pa.table({"x": column, "y": Y})), expected)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_number_is_refused_by_name_with_a_remedy(case):
    column, words = REFUSED[case]
    refusal(pa.table({"x": column, "z": X, "y": Y}), "'x'", words, "--features")
    assert read(None, features=["z"]).features == ["z"]


def test_a_broken_parquet_file_is_an_error_in_a_line():
    table = pa.table({"x": X, "y": Y})
    pq.write_table(table, "good.parquet", write_page_checksum=True)
    with open("good.parquet", "rb") as file:
        good = file.read()
    for length in (8, 60, len(good) // 2, len(good) - 1):
        refusal(good[:length], "cannot read", name="cut.parquet")
    place = good.index(np.float64(X[3]).tobytes())  # a bit of a number: only the checksum can tell
    refusal(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :], "cannot read", name="flipped.parquet")
    for notes in ("{", "[" * 100_000):
        refusal(table.replace_schema_metadata({"pandas": notes}), "is damaged")


# Whole numbers beyond 2**53


TEXT = {"CSV": "{}", "CSV beside text": "{}", "CSV, zeros before": "0" * 40 + "{}", "CSV, zeros behind": "{}.00"}
ARROW = {
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "decimal": pa.decimal128(25, 0),
    "decimal with places": pa.decimal128(25, 2),
    "string": pa.string(),
    "large string": pa.large_string(),
    "string view": pa.string_view(),
}


@pytest.mark.parametrize("kind", [*ARROW, *TEXT])
def test_whole_numbers_that_a_double_would_merge_are_refused_and_others_are_told(kind):
    def table(x):
        if kind in TEXT:
            return cells(x=map(TEXT[kind].format, x), y=["nAn" if kind == "CSV beside text" else "NA", *Y[1:]])
        made = decimal.Decimal if "decimal" in kind else str if "string" in kind else int
        return pa.table({"x": pa.array(map(made, x), ARROW[kind]), "y": [None, *Y[1:]]})

    def check(x, notes):
        same(read(table(x), drop_missing=True), x[1:], Y[1:], notes)

    refusal(table([2**53 + i for i in range(12)]), "'x'", str(2**53 + 11), "multiples of 2", "subtract")
    note = "column 'x' holds whole numbers beyond 2**53, which are rounded to 16 digits"
    check([1 + i * 10**17 for i in range(12)], [note])
    check([2**53 - i for i in range(12)], [])


def test_large_numbers_that_are_not_whole_are_nothing_to_tell():
    x = [f"{i}.5e20" for i in range(1, 13)]
    same(read(cells(x=x)), [float(v) for v in x])


# Through the command


def test_notes_are_printed_and_in_the_json(capfd):
    write(with_index("Unnamed: 0"))
    assert main(["fit", "t.csv", "--target", "y", "--json", "fit.json"]) == 0
    said = capfd.readouterr()
    note = "left out 'Unnamed: 0', which names the rows; --features can name it all the same"
    assert f"note: {note}\n" in said.out
    assert said.err == ""
    with open("fit.json", encoding="utf-8") as file:
        content = json.load(file)
    assert content["notes"] == [note]
    assert content["features"] == ["x"]


Z = [0.1, 1.2, -0.3, 0.7, -1.1, 0.4, 0.9, -0.6, 0.2, -0.8, 1.5, -0.2]


def fitted(**powers):
    columns = {
        name: np.array([float(f"{value}e{powers.get(name, 0)}") for value in column])
        for name, column in (("x", X), ("z", Z), ("y", Y))
    }
    data = tables.Data(np.array([columns["x"], columns["z"]]).T, columns["y"], "y", ["x", "z"], ROWS + 1, 0)
    return fit.fit(data.X, data.y, data.features), data


@pytest.fixture(scope="module")
def plain():
    return fitted()[0]


@pytest.mark.parametrize("power", [-300, -200, 200, 300])
@pytest.mark.parametrize("column", ["x", "z", "y"])
def test_units_do_not_matter_however_small_or_large(plain, column, power):
    found, _ = fitted(**{column: power})
    unit = 10.0**power
    factors = {"x": [1, 1 / unit, 1], "z": [1, 1, 1 / unit], "y": [unit] * 3}[column]
    for name in ("coefficients", "errors", "ols_coefficients", "ols_errors"):
        np.testing.assert_allclose(getattr(found, name) / factors, getattr(plain, name), rtol=1e-6)


def test_pictures_are_drawn_in_every_unit():
    plots = pytest.importorskip("fastrobust.cli.plots", reason='the pictures need pip install ".[plot]"')
    found, data = fitted(x=-150, y=150)
    assert plots.picture(found, data, "x and z").startswith(b"\x89PNG")
    _, data = fitted(x=300)
    one = tables.Data(data.X[:, :1], data.y, "y", ["x"], data.rows, 0)
    assert plots.picture(fit.fit(one.X, one.y, ["x"]), one, "x").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [(-310, 0, "column 'x'"), (307, 0, "column 'x'"), (0, -310, "the target"), (-200, 200, "1e+400")],
)
def test_units_beyond_a_double_are_one_line(x, y, words, capfd):
    write("x,y\n" + "".join(f"{a}e{x},{b}e{y}\n" for a, b in zip(X, Y, strict=True)))
    assert main(["fit", "t.csv", "--target", "y"]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert words in said.err and "unit" in said.err


def test_the_list_of_marks_covers_what_arrow_takes_for_missing():
    """Else a column would hold other values where one cell makes it text."""
    from pyarrow.csv import ConvertOptions

    assert {mark.lower() for mark in ConvertOptions().null_values} <= set(columns.MISSING)
    assert all(mark == mark.lower() for mark in columns.MISSING)
    assert set(columns.MISSING) <= set(columns.NULLS)


WRITERS = {
    "pandas": {},
    "Excel's Unicode text": {
        "sep": ";",
        "decimal": ",",
        "index": False,
        "encoding": "utf-16",
        "lineterminator": "\r\n",
    },
    "a German Excel": {"sep": ";", "decimal": ",", "index": False, "lineterminator": "\r\n"},
    "R": {"quoting": 2, "na_rep": "NA"},
    "a database": {"sep": "\t", "na_rep": r"\N", "index": False},
}


@pytest.mark.parametrize("name", ["longley", "engel", "star98"])
@pytest.mark.parametrize("writer", WRITERS)
def test_known_data_sets_come_back_to_the_last_bit_from_every_writer(name, writer):
    pytest.importorskip("pandas", reason="to write as it does")
    data_sets = pytest.importorskip("statsmodels.datasets", reason="for its data")
    frame = getattr(data_sets, name).load_pandas().data
    frame.reindex([*range(len(frame)), -1]).to_csv("t.csv", **WRITERS[writer])  # a last row of nothing
    found = read(None, target=frame.columns[0], drop_missing=True)
    np.testing.assert_array_equal(np.column_stack((found.y, found.X)), frame.to_numpy(float))
    assert found.dropped == 1
    assert any("decimal commas" in note for note in found.notes) == ("decimal" in WRITERS[writer])
