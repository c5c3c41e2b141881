"""The rooms of the project and who imports whom, read from the sources; run it to draw the arrows.

python tests/rooms.py              # which room imports which, as a diagram in Mermaid's language
python tests/rooms.py kernels      # the modules of one room, or of a room in a room: optimize, kernels.loops
python tests/rooms.py --update     # the diagram in CONTRIBUTING.md
"""

from __future__ import annotations

import argparse
import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "CONTRIBUTING.md"
_TYPES_ONLY = "TYPE_CHECKING", "typing.TYPE_CHECKING"
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.S)


class Import(NamedTuple):
    """A name that a file imports, in full; whether the file says so relative to itself; and whether for types only."""

    name: str
    relative: bool
    line: int
    typing: bool = False

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]


@functools.cache
def imports(source: str, module: str, is_package: bool = False) -> tuple[Import, ...]:
    """What the source of that module imports, inside functions too, and by name through importlib."""
    return tuple(_imports(source, module, is_package))


def _imports(source: str, module: str, is_package: bool) -> Iterator[Import]:
    tree = ast.parse(source)
    checked = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) in _TYPES_ONLY]
    typing = {id(below) for n in checked for statement in n.body for below in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, False, node.lineno, id(node) in typing)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            parts = parts[: len(parts) - node.level + is_package] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{base}.{alias.name}", node.level > 0, node.lineno, id(node) in typing)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "imported", "__import__", "find_spec"):
                yield Import(str(node.args[0].value), False, node.lineno)


def sources(directory: Path, package: str) -> dict[str, tuple[str, bool]]:
    """Dotted module name -> source and whether it is a package, for all files below; links are not followed."""
    found = {}
    for path in sorted(directory.rglob("*.py")):
        below = path.relative_to(directory)
        if any(part.startswith(".") or (directory / part).is_symlink() for part in below.parts):
            continue
        is_package = path.name == "__init__.py"
        parts = (*below.parts[:-1], *([] if is_package else [path.stem]))
        found[".".join([package, *parts])] = (path.read_text(encoding="utf-8"), is_package)
    return found


def edges(modules: dict[str, tuple[str, bool]]) -> dict[str, set[str]]:
    """Each module -> the others that it imports, wherever in its text; a package is not imported by its own parts."""
    return {
        module: {
            name
            for found in imports(source, module, is_package)
            for name in (found.name, found.name.rpartition(".")[0])
            if name in modules and name != module and not module.startswith(name + ".")
        }
        for module, (source, is_package) in modules.items()
    }


def circles(modules: dict[str, tuple[str, bool]]) -> list[str]:
    """The modules that import themselves by way of others."""
    known = edges(modules)

    def reached(start: str) -> set[str]:
        found, todo = set[str](), [start]
        while todo:
            new = known[todo.pop()] - found
            found |= new
            todo += new
        return found

    return sorted(module for module in modules if module in reached(module))


def package() -> dict[str, tuple[str, bool]]:
    """All modules that are installed."""
    kernels = sources(ROOT / "kernels", "fastrobust.kernels")
    return {**sources(ROOT / "fastrobust", "fastrobust"), **{n: s for n, s in kernels.items() if ".tools" not in n}}


def room_of(module: str) -> str:
    """The room of a module, as it stands in the diagram: a folder, or a file of its own beside the public functions."""
    parts = module.split(".")[1:]
    if not parts:
        return "fastrobust"
    return ".".join(parts[:2]) if parts[0] == "kernels" and len(parts) > 1 else parts[0]


def diagram(inside: str = "") -> str:
    """The arrows between rooms, or between the modules of one, in Mermaid's language; not those that others imply."""
    modules = package()
    prefix = f"fastrobust.{inside}." if inside else ""
    name_of = room_of if not inside else lambda module: module.removeprefix(prefix)
    arrows: dict[str, set[str]] = {}
    for module, others in edges(modules).items():
        if module.startswith(prefix):
            here = arrows.setdefault(name_of(module), set())
            here |= {name_of(other) for other in others if other.startswith(prefix)} - {name_of(module)}
    if not arrows:
        raise SystemExit(f"no room {inside!r}: it is one of {', '.join(sorted(set(map(room_of, modules))))}")
    lines = ["graph TD"]
    for start in sorted(arrows):
        for end in sorted(_direct(arrows, start)):
            lines.append(f"    {_node(start)} --> {_node(end)}")
    return "\n".join(lines) + "\n"


def _direct(arrows: dict[str, set[str]], start: str) -> set[str]:
    """The ends of arrows from there that no longer way reaches."""
    beyond, todo = set[str](), list(arrows[start])
    while todo:
        for other in arrows.get(todo.pop(), ()):
            if other not in beyond:
                beyond.add(other)
                todo.append(other)
    return arrows[start] - beyond


def _node(name: str) -> str:
    return f'{re.sub("[^a-z0-9]", "_", name)}["{name}"]'


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("room", nargs="?", default="", help="draw the modules of this room: optimize, kernels.loops")
    parser.add_argument("--update", action="store_true", help="write the diagram of all rooms into CONTRIBUTING.md")
    given = parser.parse_args(arguments)
    if given.update:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(BLOCK.sub(lambda _: f"```mermaid\n{diagram()}```\n", text), encoding="utf-8")
    else:
        sys.stdout.write(diagram(given.room))
    return 0


if __name__ == "__main__":
    sys.exit(main())
