"""SciPy's private interfaces that `fastrobust.stats` uses, and what is done in their place where SciPy lacks them.

No version of SciPy has to be excluded for them.
"""

from __future__ import annotations

from typing import Any

from .._types import ArrayLike, Options

try:
    from scipy.stats._distn_infrastructure import _ShapeInfo
except ImportError:
    _ShapeInfo = None

__all__ = ["parameters", "shape_info"]


def shape_info(name: str, low: float, high: float) -> object:
    """The description of a real shape parameter, of a range with both ends, which ``scipy.stats.fit`` asks for.

    SciPy's class for it has no public name. Where it is gone, or takes other arguments, an object with the same
    attributes takes its place, and SciPy's functions look at no more than these.
    """
    if _ShapeInfo is not None:
        try:
            return _ShapeInfo(name, False, (low, high), (True, True))
        except TypeError:
            pass
    return _Shape(name, low, high)


class _Shape:
    """A description of a parameter with what SciPy's functions look at: its name, its range, and that it is real."""

    integrality, inclusive = False, (True, True)

    def __init__(self, name: str, low: float, high: float) -> None:
        self.name, self.endpoints, self.domain = name, (low, high), [low, high]


def parameters(distribution: object, args: tuple[ArrayLike, ...], options: Options) -> tuple[Any, Any, Any]:
    """alpha, loc and scale out of the arguments of a method of the distribution, as SciPy's own methods find them.

    SciPy gives each distribution a method for it. Where that is gone, a function with its defaults takes its place.
    """
    if (parse := getattr(distribution, "_parse_args", None)) is None:
        return _parameters(*args, **options)
    (alpha,), loc, scale = parse(*args, **options)
    return alpha, loc, scale


def _parameters(alpha: ArrayLike, loc: ArrayLike = 0, scale: ArrayLike = 1) -> tuple[Any, Any, Any]:
    """alpha, loc and scale out of arguments, with SciPy's defaults."""
    return alpha, loc, scale
