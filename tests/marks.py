"""Marks of parameters."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["slow"]


def slow(*values: Any) -> list[Any]:
    """Variants of quicker tests: each value as a parameter that the ordinary run leaves out."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
