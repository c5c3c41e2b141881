"""The hinge loss of several classes, a loss of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _samples as of_classes
from ._dispatch import shown
from ._row_operations import Given

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["MulticlassHinge", "MulticlassHingeGrad", "multiclass_hinge"]

Kind = Literal["crammer_singer", "weston_watkins"]
_KINDS: tuple[Kind, ...] = ("crammer_singer", "weston_watkins")


class MulticlassHingeGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    dx: Any
    dmargin: Any


class MulticlassHinge:
    """The hinge loss of several classes, of how far the right one's score is above the others'.

    Parameters
    ----------
    x : array_like, real
        Scores, with the classes along ``axis``. The result has its dtype, float64 for integers.
    target : array_like
        The index of the right class for each sample, integers of x's shape without ``axis``.
    margin : float
        By how much the right class is to be above the others.
    kind : {"crammer_singer", "weston_watkins"}
        max(0, margin + max over k != t of x_k - x_t), by the worst of the other classes; or the mean over K classes of
        max(0, margin + x_k - x_t), k != t, as `torch.nn.MultiMarginLoss` has it.
    power : {1, 2}
        Whether margins that are missed are squared.
    axis, weights, class_weights, ignore_index, reduction, empty
        As in `cross_entropy`.

    Returns
    -------
    array of the samples' shape, or a number

    Notes
    -----
    Crammer and Singer 2001, Weston and Watkins 1999. At a bend the derivative is that of the flat side; among several
    worst classes it is that of the first. NumPy's arrays are computed in double; tensors and arrays of JAX are
    differentiated by their libraries.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> x, target = np.array([[1.0, 2.0, 0.5]]), np.array([0])
    >>> losses.multiclass_hinge(x, target)
    array([2.])
    >>> losses.multiclass_hinge(x, target, kind="weston_watkins")
    array([0.83333333])
    """

    __name__ = __qualname__ = "multiclass_hinge"

    def __call__(
        self,
        x: ArrayLike,
        target: ArrayLike,
        margin: Any = 1.0,
        *,
        kind: Kind = "crammer_singer",
        power: Literal[1, 2] = 1,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
    ) -> Any:
        """The loss of each sample, or their sum or mean; see ``help(losses.multiclass_hinge)``."""
        _check(kind, power)
        given = Given(target, axis, weights, class_weights, ignore_index, "all", reduction, empty)
        if (own := of_classes.of_library(x)) is not None:
            return own.by_class(x, given, lambda xp, z, right, places: _loss(xp, z, right, places, margin, kind, power))
        return _evaluated(x, given, margin, kind, power, ()).value

    def value_and_grad(
        self,
        x: ArrayLike,
        target: ArrayLike,
        margin: float = 1.0,
        *,
        kind: Kind = "crammer_singer",
        power: Literal[1, 2] = 1,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
        wrt: Sequence[str] = ("x", "margin"),
    ) -> MulticlassHingeGrad:
        """The loss and its derivatives, of arrays of NumPy and CuPy; others are differentiated by their libraries.

        Parameters
        ----------
        wrt : sequence of str
            Some of "x" and "margin". The others are those of a call.
        """
        _check(kind, power)
        if not isinstance(wrt, tuple | list) or not set(wrt) <= {"x", "margin"}:
            raise ValueError(f"wrt must be a tuple of names out of ('x', 'margin'), got {wrt!r}")
        if of_classes.of_library(x) is not None:
            raise TypeError(
                f"value_and_grad takes arrays of NumPy and CuPy: let the library of this {shown(x)} differentiate"
            )
        given = Given(target, axis, weights, class_weights, ignore_index, "all", reduction, empty)
        return _evaluated(x, given, margin, kind, power, tuple(wrt))

    def __repr__(self) -> str:
        return "<loss multiclass_hinge(x, target, margin)>"

    def __reduce__(self) -> str:
        return "multiclass_hinge"


multiclass_hinge = MulticlassHinge()


def _check(kind: object, power: object) -> None:
    if kind not in _KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power!r}")


def _missing(xp: Any, z: Any, right: Any, margin: Any) -> Any:
    """By how much each class misses the margin to the right one, at least 0; 0 for that itself. NaN stays."""
    own = xp.where(right, z, xp.zeros_like(z)).sum(-1)[..., None]
    gaps = (z - own) + margin
    return xp.where(right | (gaps <= 0), xp.zeros_like(gaps), gaps)


def _loss(xp: Any, z: Any, right: Any, places: Any, margin: Any, kind: Kind, power: int) -> Any:
    """The loss of each sample, classes along the last axis."""
    missing = _missing(xp, z, right, margin)
    if kind == "crammer_singer":
        worst = places == xp.argmax(missing, -1)[..., None]
        return xp.where(worst, missing, xp.zeros_like(missing)).sum(-1) ** power
    return (missing**power).sum(-1) / z.shape[-1]


def _slopes(xp: Any, z: Any, right: Any, places: Any, margin: float, kind: Kind, power: int) -> Any:
    """The derivative in each class's score as if it were not the right one's."""
    missing = _missing(xp, z, right, margin)
    if kind == "crammer_singer":
        worst = places == xp.argmax(missing, -1)[..., None]
        missing = xp.where(worst, missing, 0.0)
    slopes = 2.0 * missing if power == 2 else xp.where(missing > 0, 1.0, missing)
    return slopes / z.shape[-1] if kind == "weston_watkins" else slopes


def _evaluated(
    x: object, given: Given, margin: Any, kind: Kind, power: int, wrt: tuple[str, ...]
) -> MulticlassHingeGrad:
    """The loss and the derivatives that are wanted, of NumPy arrays."""
    if isinstance(margin, bool) or not isinstance(margin, int | float | np.floating | np.integer):
        raise TypeError(f"margin must be a number, got a {shown(margin)}")
    kernels = of_classes.kernels_for(x, given)
    with kernels.place(x):
        xp, samples = kernels.xp, of_classes.samples_of(kernels, x, given)
        z = xp.moveaxis(samples.data[0], 1, -1).astype(np.float64)
        z = xp.where((samples.weights == 0)[..., None], 0.0, z)
        places = xp.arange(z.shape[-1])
        right = places == samples.chosen[..., None]
        strange = (samples.weights != 0) & ~right.any(-1)  # of an index that is no class
        values = xp.where(strange, np.nan, _loss(xp, z, right, places, float(margin), kind, power))
        total = of_classes.divisor(samples, given)
        dx = dmargin = None
        if wrt:
            slopes = _slopes(xp, z, right, places, float(margin), kind, power)
            together = xp.where(strange, np.nan, slopes.sum(-1))
            if "margin" in wrt:
                dmargin = of_classes.combined(together, samples, given.reduction, total)
            if "x" in wrt:
                factors = of_classes.factors(samples, total)
                each = xp.where(right | strange[..., None], -together[..., None], slopes) * factors[..., None]
                dx = of_classes.like_x(samples, xp.moveaxis(each, -1, 1))
        return MulticlassHingeGrad(of_classes.combined(values, samples, given.reduction, total), dx, dmargin)
