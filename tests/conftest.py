"""``--require-gpu``: a machine that should have a GPU fails where another one skips."""

from __future__ import annotations

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-gpu", action="store_true", help="fail, instead of skip, tests that find no GPU")


@pytest.fixture(scope="session")
def cp(request: pytest.FixtureRequest) -> Any:
    """The module cupy, with a GPU behind it."""
    try:
        import cupy

        missing = "" if cupy.is_available() else "CuPy finds no GPU"
    except ImportError as error:
        missing = f"CuPy cannot be imported: {error}"
    if missing and request.config.getoption("--require-gpu"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return cupy
