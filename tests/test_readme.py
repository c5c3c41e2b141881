"""What the documents tell a reader to type works: README's snippets verbatim, the extras that anything names."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(
    r"^(?:<!-- ([\w-]+) -->\n)?```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
)
SNIPPETS = [text for _, language, text in BLOCKS if language == "python"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
# What a module is called where it is not what one installs.
PACKAGES = {
    "skimage": "scikit-image",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "torch": "torch",
    "jax": "jax",
}


def title(text: str) -> str:
    """The modules that a snippet imports, for the test's name."""
    return "-".join(sorted(set(re.findall(r"^(?:import|from) ([\w.]+)", text, re.M)))) or "none"


@pytest.mark.parametrize("text", SNIPPETS, ids=title)
def test_a_snippet_runs_as_it_stands(text: str, tmp_path: Path) -> None:
    for module in ("torch", "jax", "scipy"):
        if re.search(rf"\b{module}\b", text):
            pytest.importorskip(module, reason=f"the snippet is about {module}, which is not installed")
    if "compat" in text:
        pytest.importorskip("torch", reason="the snippet is about PyTorch, which is not installed")
    # As a user types it: without warnings as errors, but without anything printed to stderr either.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_commands_of_readme(tmp_path: Path) -> None:
    """The shell blocks are the two marked commands, which CI runs, and the fit of the reader's own data."""
    commands = [(mark, text.strip()) for mark, language, text in BLOCKS if language == "sh"]
    assert [mark for mark, _ in commands] == ["demo-command", "test-command", ""]
    fit = commands[-1][1].split()
    assert fit[0] == "fastrobust"
    for module in ("pyarrow", "sklearn", "rich", "matplotlib"):
        pytest.importorskip(module, reason=f"the command line needs {module}, which is not installed")
    (tmp_path / "data.csv").write_text("x,y\n" + "".join(f"{i},{2 * i + (-1) ** i * (i % 7)}\n" for i in range(40)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", *fit], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.csv", "fit.json", "fit.png"]


def documents() -> list[Path]:
    """Every text of the repository that a reader or a user may see."""
    parts = [ROOT, ROOT / "fastrobust", ROOT / "kernels", ROOT / "benchmarks", ROOT / "examples"]
    return [
        file
        for part in parts
        for file in (part.glob("*") if part == ROOT else part.rglob("*"))
        if file.suffix in (".py", ".md") and "env" not in file.parts
    ]


def test_hints_name_what_can_be_installed() -> None:
    """``pip install ".[extra]"`` in a clone: the project is on no index yet, and the extra has to exist."""
    hints = [
        (file.name, hint) for file in documents() for hint in re.findall(r"pip install[^\n`]*", file.read_text("utf-8"))
    ]
    wrong = [hint for hint in hints if re.search(r"\bfastrobust\[", hint[1])]
    assert not wrong, "the name fastrobust is not registered"
    named = {extra for _, hint in hints for group in re.findall(r"\.\[([\w,]+)\]", hint) for extra in group.split(",")}
    assert named and named <= set(EXTRAS)


def requirements(extra: str) -> set[str]:
    """The distributions that an extra brings, those of the extras that it names included."""
    found: set[str] = {"numpy", "numba"}
    for line in EXTRAS[extra]:
        name = re.match(r"[\w-]+", line)
        assert name
        inner = re.match(r"fastrobust\[([\w,]+)\]", line)
        found |= {name[0]} if not inner else set().union(*map(requirements, inner[1].split(",")))
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.py")), ids=lambda file: file.stem)
def test_an_example_names_extras_that_bring_what_it_imports(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    roots = {module.partition(".")[0] for module in modules}
    outside = roots - set(sys.stdlib_module_names) - {"fastrobust", "picture"}
    if "fastrobust.optimize" in modules or "fastrobust.stats" in modules:
        outside.add("scipy")
    named = re.search(r'pip install "\.\[([\w,]+)\]"', ast.get_docstring(tree) or "")
    if named is None:
        assert file.stem == "picture" and not outside
        return
    brought = set().union(*map(requirements, named[1].split(",")))
    assert {PACKAGES.get(root, root) for root in outside} <= brought
