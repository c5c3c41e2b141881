"""Tables in Markdown, and numbers in them."""

from __future__ import annotations

from collections.abc import Sequence

Row = dict[str, str]
PARAMETER_LABELS = {"scalar": "numbers", "columns": "per column", "full": "per element"}


def short(value: float, digits: int = 2) -> str:
    """So many significant digits, without exponent, and no fewer than stand before the point."""
    if value != value:
        return "–"
    return f"{value:.{digits}g}" if value < 10**digits else f"{value:,.0f}"


def power(size: int) -> str:
    """A number of elements, as a power of ten if it is one."""
    superscript = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
    exponent = len(str(size)) - 1
    return "10" + str(exponent).translate(superscript) if size == 10**exponent else f"{size:,}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown: words on the left, numbers on the right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Two significant digits, with an exponent from 1,000 on."""
    return short(value) if value < 1000 else f"{value:.0e}".replace("e+", "e")


def source(row: dict[str, str], package: str, file: str) -> str:
    """Machine, version, date, and where the numbers under a table come from."""
    return (
        f"{row['cpu']}, {row['cores']} cores, {package} {row[package]}; {row['date']}, commit {row['commit']}. "
        f"Generated from [benchmarks/results/{file}](benchmarks/results/{file})."
    )
