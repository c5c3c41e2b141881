"""A loss that is not Barron's, with two data operands and two parameters: all that the library needs to know of it.

width^2 (sqrt(1 + z^2) - 1) + tilt (x - target), z = (x - target)/width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastrobust.kernels.arithmetic.elementary import square_root
from fastrobust.kernels.arithmetic.primitives import scalar
from fastrobust.kernels.losses.definition import Bound, Definition, Domain, Library, Stage

__all__ = ["TOY"]


class Prepared(NamedTuple):
    """What depends on the parameters alone."""

    width: Any
    inverse: Any
    tilt: Any


class Root(NamedTuple):
    """What the first stage leaves: r = x - target, z^2, sqrt(1 + z^2) and its inverse."""

    r: Any
    square: Any
    root: Any
    inverse: Any


@scalar
def prepared(width, tilt):
    """What depends on the parameters alone."""
    return Prepared(width, type(width)(1.0) / width, tilt)


@scalar
def closer(root, square):
    """A step of Heron's towards the square root."""
    return type(root)(0.5) * (root + square / root)


@scalar
def root_of(x):
    """The square root: from a number that is at least half of it, six steps are enough for either precision."""
    first = closer(closer(square_root(x), x), x)
    return closer(closer(closer(closer(first, x), x), x), x)


@scalar
def root(x, target, prepared):
    """First stage."""
    T = type(x)
    r = x - target
    z = r * prepared.inverse
    square = z * z
    found = root_of(T(1.0) + square)
    return (), Root(r, square, found, T(1.0) / found)


@scalar
def values(x, target, prepared, root):
    """Second stage."""
    T = type(x)
    growth = root.square / (root.root + T(1.0))  # root - 1, without cancellation
    dx = root.r * root.inverse + prepared.tilt
    value = prepared.width * prepared.width * growth + prepared.tilt * root.r
    dwidth = prepared.width * (T(2.0) * growth - root.square * root.inverse)
    return (value, dx, -dx, dwidth, root.r, root.inverse * root.inverse * root.inverse), ()


def slopes(library: Library, name: str, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Rules of differentiation."""
    x, target, width, tilt = operands
    r, one = x - target, library.xp.ones_like((x - target) * width * tilt)
    z = r / width
    root = library.xp.sqrt(1 + z * z)
    (curvature,) = library.get("curvature")
    mixed = r * (z * z) / (width * root**3)
    if name == "dx":
        return [curvature, -curvature, mixed, one]
    if name == "dtarget":
        return [-curvature, curvature, -mixed, -one]
    if name == "dwidth":
        return [mixed, -mixed, 2 * (root - 1) - z * z / root - z**4 / root**3, 0 * one]
    if name == "dtilt":
        return [one, -one, 0 * one, 0 * one]
    bend = -3 * z / (width * root**5)  # of the curvature
    return [bend, -bend, -z * bend, 0 * one]


OUTPUTS = "value", "dx", "dtarget", "dwidth", "dtilt", "curvature"

TOY = Definition(
    name="toy",
    digest=hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8],
    data=("x", "target"),
    parameters=("width", "tilt"),
    others=("curvature",),
    prepares=(Stage(prepared, Prepared),),
    stages=(Stage(root, Root), Stage(values, None, OUTPUTS)),
    domains={"width": Domain(0.0, True, "width must be positive, got {}")},
    slopes=slopes,
    bounds={"curvature": Bound(8, 8, ((3.0, 1.0, 0.7, 0.1), (3.0, 1.0, 0.7, 0.1)))},
)
