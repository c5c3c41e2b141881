"""The definitions of this library, and any definition by its name.

Adapters put names into programs, which may run in another process; whoever looks one up here has imported ours.
"""

from __future__ import annotations

from . import named_shapes as _shapes  # noqa: F401 - so that they are known
from .barron import LOSS
from .definition import Definition, known
from .likelihood import NLL
from .partition import LOG_PARTITION

__all__ = ["LOG_PARTITION", "LOSS", "NLL", "named"]


def named(name: str) -> Definition:
    """The definition of that name, the latest if there were several."""
    return known[name]
