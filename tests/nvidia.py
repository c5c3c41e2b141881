"""NVIDIA's assembler and disassembler, which need no GPU: installed by the extra "test" where PyPI has them."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["Missing", "assembled"]


class Missing(RuntimeError):
    """A program that is not installed."""


def _program(name: str, package: str) -> str:
    """The path of a program: of that package, or of whatever comes first."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((str(file.locate()) for file in files if file.name == name), None) or shutil.which(name)
    if found is None:
        raise Missing(f"{name} is not installed: pip install {package}")
    return found


def assembled(text: str, arch: str) -> tuple[str, str]:
    """The listing of the machine code that ptxas makes of PTX, and what it says of it: registers and spills."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(text)
        made = subprocess.run(
            [_program("ptxas", "nvidia-cuda-nvcc"), f"-arch={arch}", "-v", source, "-o", target],
            capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            raise ValueError(made.stderr)
        listing = subprocess.run(
            [_program("nvdisasm", "nvidia-cuda-nvdisasm"), target], capture_output=True, text=True, check=True
        )
    return listing.stdout, made.stderr
