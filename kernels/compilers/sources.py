"""The sources that compiled code is made from: a module, what it imports of this package, and their tables.

The key of a kernel in the cache holds the digest of these and of no others: an edit makes anew what it can have
changed, wherever in the package the file lies, and nothing else.  They are read once, when this module is imported,
since code that is imported already does not change with its file.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

__all__ = ["digest", "unchanged"]

_ROOT = Path(__file__).parents[1]
_IMPORT = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.M)


class _Source(NamedTuple):
    """A module as far as a kernel's key needs it."""

    content: bytes  # its digest
    imports: tuple[str, ...]  # names of modules, from the root


def read(root: Path) -> dict[str, _Source]:
    """All modules below a folder, by name; tools are no part of the package, and tables belong to who names them."""
    files = {
        _name(file.relative_to(root)): file
        for file in root.rglob("*.py")
        if not {"tools", "__pycache__"} & set(file.relative_to(root).parts)
    }
    sources = {}
    for name, file in files.items():
        content = file.read_bytes()
        tables = sorted(file.parent.glob("*.npy")) if b".npy" in content else []
        digest = hashlib.sha256(content)
        for table in tables:
            digest.update(table.name.encode() + hashlib.sha256(table.read_bytes()).digest())
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        sources[name] = _Source(digest.digest(), _imports(content.decode(), package, files))
    return sources


def _name(file: Path) -> str:
    """The name of the module in a file, from the root; that of a package for its ``__init__``."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(text: str, package: str, known: Iterable[str]) -> tuple[str, ...]:
    """The modules of this package that a module's text imports, at its top or later."""
    imported = set()
    for dots, path, names in _IMPORT.findall(text):
        base = package.split(".") if package else []
        base = base[: len(base) - (len(dots) - 1)] + path.split(".") * bool(path)
        words = [re.split(r"\s+as\s+", word.strip())[0] for word in re.sub(r"#.*|[()]", "", names).split(",")]
        imported |= {".".join(base), *(".".join([*base, word]) for word in words)}
        imported |= {".".join(base[:i]) for i in range(len(base))}  # packages, which run first
    return tuple(sorted(imported & set(known)))


def reached(sources: dict[str, _Source], modules: Iterable[str]) -> list[str]:
    """The names of the modules and of all that they import, sorted."""
    names = list(modules)
    for name in names:
        names += [other for other in sources[name].imports if other not in names]
    return sorted(names)


def _digest(sources: dict[str, _Source], modules: Iterable[str]) -> bytes:
    """The digest of the modules and of all that they import, by name and content."""
    total = hashlib.sha256()
    for name in reached(sources, modules):
        total.update(name.encode() + b"\n" + sources[name].content)
    return total.digest()


_IMPORTED = read(_ROOT)


@functools.cache
def digest(*modules: str) -> bytes:
    """The digest of the sources of what these modules hold and reach, as they were imported."""
    return _digest(_IMPORTED, modules)


def unchanged(*modules: str) -> bool:
    """Tell whether the sources are still what they were; else what was imported since may not be what a key says."""
    return _digest(read(_ROOT), modules) == digest(*modules)
