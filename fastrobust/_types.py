"""What the public functions return."""

from __future__ import annotations

from typing import Any, NamedTuple


class LossGrad(NamedTuple):
    """A loss and its partial derivatives; a gradient that was not asked for is None."""

    value: Any
    dx: Any
    dalpha: Any
    dscale: Any


class PartitionGrad(NamedTuple):
    """log Z(alpha) and its derivative."""

    value: Any
    dalpha: Any
