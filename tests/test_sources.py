"""What the key of a kernel in the cache knows of the sources: all that it reaches, wherever that lies, and no more."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fastrobust
from fastrobust.kernels.compilers import sources

KERNELS = Path(fastrobust.__file__).parent / "kernels"


def imported(text: str, package: list[str], known: set[str]) -> set[str]:
    """By the grammar, not by a pattern: the modules of this package that a text imports, with their packages."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] + (node.module or "").split(".") * bool(node.module)
            names = [base, *([*base, alias.name] for alias in node.names)]
            found |= {".".join(name[:length]) for name in names for length in range(len(name) + 1)}
    return found & known


def test_the_pattern_sees_what_python_imports() -> None:
    known = sources.read(KERNELS)
    assert {"compilers.native", "losses.barron", "arithmetic.primitives"} <= set(known)
    for name, source in known.items():
        file = KERNELS.joinpath(*name.split(".")).with_suffix(".py") if name else KERNELS / "__init__.py"
        if not file.exists():
            file = KERNELS.joinpath(*name.split("."), "__init__.py")
        package = [
            part for part in (name if file.name == "__init__.py" else name.rpartition(".")[0]).split(".") if part
        ]
        text = file.read_text(encoding="utf-8")
        assert set(source.imports) == imported(text, package, set(known)), name
        absolute = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import | ast.ImportFrom)]
        for node in absolute:
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""] * (not node.level)
            )
            assert not [n for n in names if n.startswith("fastrobust")], "only relative imports are seen"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """a uses deep.b and, within a function, deep.er.c with a table; d stands alone."""
    texts = {
        "a.py": "from .deep import b as other\n\ndef f():\n    from .deep.er import (\n        c,  # late\n    )\n",
        "__init__.py": "",
        "d.py": "import os\n", "deep/__init__.py": "", "deep/b.py": "from ..e import x\n", "e.py": "x = 1\n",
        "deep/er/__init__.py": "", "deep/er/c.py": 'NAME = "table.npy"\n', "tools/t.py": "",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "deep" / "er" / "table.npy").write_bytes(b"numbers")
    return tmp_path


def test_all_that_is_reached_counts(tree: Path) -> None:
    known = sources.read(tree)
    assert sources.reached(known, ["a"]) == ["", "a", "deep", "deep.b", "deep.er", "deep.er.c", "e"]
    assert sources.reached(known, ["d"]) == ["d"]
    assert "tools.t" not in known


@pytest.mark.parametrize(
    ("file", "changes"),
    [("a.py", True), ("deep/b.py", True), ("e.py", True), ("deep/er/c.py", True), ("deep/er/table.npy", True),
     ("deep/__init__.py", True), ("d.py", False), ("tools/t.py", False)],
)  # fmt: skip
def test_an_edit_changes_the_digest_of_what_reaches_it(tree: Path, file: str, changes: bool) -> None:
    before = sources._digest(sources.read(tree), ["a"])
    with open(tree / file, "ab") as stream:
        stream.write(b"#")
    assert (sources._digest(sources.read(tree), ["a"]) != before) == changes


def test_a_file_that_moves_is_another(tree: Path) -> None:
    before = sources._digest(sources.read(tree), ["a"])
    (tree / "e.py").rename(tree / "g.py")
    (tree / "deep" / "b.py").write_text("from ..g import x\n")
    moved = sources._digest(sources.read(tree), ["a"])
    (tree / "deep" / "g.py").write_text((tree / "g.py").read_text())
    (tree / "deep" / "b.py").write_text("from .g import x\n")
    assert len({before, moved, sources._digest(sources.read(tree), ["a"])}) == 3
