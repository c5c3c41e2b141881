"""The bytes of FILE: a file on disk is read in place, a pipe or standard input whole, compressed or not."""

from __future__ import annotations

import os
import stat
import sys

import pyarrow as pa

from .common import UserError, quoted, reason

STDIN = "-"
# The first bytes say it, not the name: a pipe has none. bzip2's are text, so the number of blocks is checked too.
COMPRESSED = {
    b"\x1f\x8b": "gzip",
    **{b"BZh%d" % n: "bz2" for n in range(1, 10)},
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook: save the sheet as CSV",
    b"ARROW1": "an Arrow (Feather) file: save it as Parquet or CSV",
    b"\xfd7zXZ": "compressed by xz: unpack it, as in xz -dc FILE | fastrobust fit - ...",
    b"\x89HDF": "an HDF5 or NetCDF file: save the table as Parquet or CSV",
    b"CDF\x01": "a NetCDF file: save the table as Parquet or CSV",
    b"SQLite format 3": "a SQLite database: save the table as CSV",
}
UNICODE = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
PARQUET = b"PAR1"


class Source:
    """The file or stream that a table is read from, as often as is needed."""

    def __init__(self, name: str) -> None:
        self.title = "standard input" if name == STDIN else repr(name)
        self.label = "standard input" if name == STDIN else os.path.basename(name)
        self._name = name
        try:
            self._content = _content(name)
            start = self._raw().read(16)
            self._codec = next((codec for magic, codec in COMPRESSED.items() if start.startswith(magic)), None)
            start = self._unpacked().read(16)
        except OSError as error:
            raise self.unreadable(reason(error)) from None
        self.is_parquet = start.startswith(PARQUET)
        self._encoding = next((name for mark, name in UNICODE.items() if start.startswith(mark)), None)
        other = next((what for magic, what in OTHERS.items() if start.startswith(magic)), None)
        if other:
            raise self.unreadable(f"it is {other}")

    def unreadable(self, why: str) -> UserError:
        """The error to raise; ``why`` is cut to one line of a length that can be read."""
        line = next(iter(why.splitlines()), "")
        return UserError(f"cannot read {self.title}: {line if len(line) <= 200 else line[:197] + '...'}")

    def text(self) -> pa.NativeFile:
        """A stream of the text, in UTF-8, from the beginning."""
        stream = self._unpacked()
        return pa.transcoding_input_stream(stream, self._encoding, "utf-8") if self._encoding else stream

    def seekable(self) -> pa.NativeFile:
        """The bytes with random access, for Parquet."""
        return self._raw() if self._codec is None else pa.BufferReader(self._unpacked().read())

    def _unpacked(self) -> pa.NativeFile:
        """The bytes from the beginning, decompressed."""
        return self._raw() if self._codec is None else pa.CompressedInputStream(self._raw(), self._codec)

    def _raw(self) -> pa.NativeFile:
        """The bytes from the beginning, as they are stored."""
        return pa.OSFile(os.fsencode(self._name)) if self._content is None else pa.BufferReader(self._content)


def _content(name: str) -> bytes | None:
    """The content of a pipe or of standard input, to its end; None for a file on disk.

    Read by Python, whose waiting a signal ends: for a pipe's writer, for one.
    """
    if name == STDIN:
        if sys.stdin is None:
            raise UserError("cannot read standard input: it is closed")
        content: bytes = sys.stdin.buffer.read()
        return content
    with open(name, "rb") as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(kind):
            return None
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind) or file.isatty():
            return file.read()
    raise UserError(f"cannot read {quoted(name, 200)}: it is a device, not a file")
