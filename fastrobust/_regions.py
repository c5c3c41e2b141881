"""Losses of regions as objects: Dice's and others of its kind, of two classes or more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _arguments as arguments
from . import _dispatch
from ._against_rest import against_rest, moved, pulled_back
from ._samples import checked_index
from ._sums import Axes, Rows, SumsLoss, derivatives_of, narrow, prepared, value_of
from .kernels.losses import regions
from .kernels.losses.sums import Split

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["RegionLoss"]


_DOC = """
Parameters
----------
x : array_like, real
    Logits, or probabilities, of elements. Arrays of NumPy, CuPy, PyTorch and JAX.
target : array_like, broadcast to x
    From 0 to 1, as masks are; with ``softmax_axis`` also the index of each element's class.
axis : int or sequence of int, optional
    What is one region: of images (N, C, H, W) ``(2, 3)`` is one of each image and class, ``(0, 2, 3)`` one of each
    class. Default: everything.
weights, reduction, empty, softmax_axis, ignore_index
    As ``help(type(loss).__call__)`` says.

Examples
--------
>>> import numpy as np
>>> from fastrobust import losses
>>> logits, classes = np.zeros((1, 2, 2, 2)), np.array([[[0, 1], [1, 1]]])
>>> losses.dice_logits(logits, classes, softmax_axis=1, axis=(0, 2, 3))
array([0.66666667, 0.4       ])
"""

_OPTIONS = {"empty": "one", "softmax_axis": None, "ignore_index": None}


class _Given(NamedTuple):
    """The arguments of a call, checked."""

    split: Split
    rows: Rows
    weights: Any
    counts: Callable[[Sequence[Any]], Any] | None


class RegionLoss(SumsLoss):
    """A loss of regions, of `fastrobust.losses`: see `SumsLoss`, whose ``axis`` says what is one region.

    Of images (N, C, H, W) ``axis=(2, 3)`` makes a region of each image and class, ``axis=(0, 2, 3)`` one of each class
    in all images together, which others call batch, and none one of everything.

    Attributes
    ----------
    data, parameters : tuple of str
        The names of the operands.
    parts : tuple of Loss or SumsLoss
        The losses that this is the sum of, with their factors, or itself alone.
    """

    def __init__(self, name: str, module: str) -> None:
        super().__init__(regions.formula(name), module, options=_OPTIONS)
        self.__doc__ = f"{(self.__doc__ or '').rstrip()}\n{_DOC}"
        self.name = name
        self._splits = {"one": self.split}

    def __call__(
        self,
        *operands: ArrayLike,
        axis: Axes = None,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        empty: regions.Empty = "one",
        softmax_axis: int | None = None,
        ignore_index: int | None = None,
        **named: Any,
    ) -> Any:
        """The loss.

        Parameters
        ----------
        *operands, axis, weights, reduction, **named
            As in a call of a `SumsLoss`.
        empty : {"one", "zero", "mean", "skip"}
            What a region without a target comes to: what the formula has, which with smooth = 0 is 1, with derivatives
            in x of 0 (0 if nothing is predicted either); 0; the mean of the probabilities; or 0 that does not count in
            a mean, which is NaN if none counts.
        softmax_axis : int, optional
            The axis of classes of which each element has one, for logits: probabilities are softmax's. The target may
            be the index of a class for each element then.
        ignore_index : int, optional
            What a target of integers is where the element is left out.
        """
        given = self._looked_at(operands, named, axis, weights, empty, softmax_axis, ignore_index)
        return value_of(given.split, given.rows, given.weights, reduction, given.counts)

    def value_and_grad(
        self,
        *operands: ArrayLike,
        axis: Axes = None,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        wrt: Sequence[str] | None = None,
        out: ArrayLike | None = None,
        empty: regions.Empty = "one",
        softmax_axis: int | None = None,
        ignore_index: int | None = None,
        **named: Any,
    ) -> Any:
        """The loss and its derivatives in the operands; see `SumsLoss.value_and_grad` and a call of the loss."""
        wanted = self._wanted(wrt)
        given = self._looked_at(operands, named, axis, weights, empty, softmax_axis, ignore_index)
        found = derivatives_of(given.split, given.rows, given.weights, reduction, wanted, given.counts, out)
        return self.Grad(*found)

    def _looked_at(
        self,
        operands: tuple[ArrayLike, ...],
        named: dict[str, Any],
        axis: Axes,
        weights: ArrayLike | None,
        empty: regions.Empty,
        softmax_axis: int | None,
        ignore_index: int | None,
    ) -> _Given:
        """The arguments of a call, checked."""
        given, options = self._bound(operands, named)
        self._refuse(options)
        if empty not in regions.EMPTY:
            raise ValueError(f"empty must be one of {', '.join(map(repr, regions.EMPTY))}, got {empty!r}")
        xp = self._library(given, weights).xp
        x: Any
        target: Any
        x, target, *parameters = given
        if xp is np:
            x, target = np.asarray(x), np.asarray(target)
        half = narrow((x, target, *parameters))
        x = prepared(x)
        pull: Callable[[Any], Any] | None = None
        left_out: Any = None
        if ignore_index is not None:
            if not _of_integers(target):
                kind = getattr(target, "dtype", type(target).__name__)
                raise TypeError(f"ignore_index goes with a target of integers, got one of {kind}")
            if isinstance(ignore_index, bool) or not isinstance(ignore_index, int | np.integer):
                raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
            left_out = target == ignore_index
        if softmax_axis is not None:
            if not self.name.endswith("_logits"):
                raise ValueError(f"softmax_axis is for logits: take {self.name}_logits, or give probabilities")
            place = arguments.axis_of(softmax_axis, x.ndim, "x", "softmax_axis")
            if _of_integers(target) and target.ndim == x.ndim - 1:
                left_out = None if left_out is None else moved(xp, left_out[..., None], -1, place)
                target = _one_hot(xp, target, x.shape[place], place, ignore_index)
        if np.shape(target) and not arguments.fits(np.shape(target), np.shape(x)):
            remedy = "with softmax_axis= where the classes are" if _of_integers(target) else "by target[:, None]"
            raise ValueError(
                f"target has the shape {np.shape(target)}, which does not broadcast to that of x, {np.shape(x)}: if it "
                f"has no axis of channels, say so {remedy}"
            )
        if left_out is not None:
            weights = xp.where(left_out, 0.0, 1.0 if weights is None else _like(xp, weights, x))
        if softmax_axis is not None:
            logits = x if weights is None else _without_excluded(xp, x, weights, place)
            x = against_rest(logits, place)

            def pull(slopes: Any) -> Any:
                return pulled_back(logits, place, slopes)

        rows = self._rows((x, target, *parameters), axis, weights, pull, half)
        split = self._split(empty)
        counts = None
        if empty == "skip":
            place_of_target = next(i for i, node in enumerate(split.sums) if node is regions.TARGET)

            def counts(sums: Sequence[Any]) -> Any:
                """1 for a region with a target."""
                return xp.where(sums[place_of_target] != 0, 1.0, 0.0)

        return _Given(split, rows, weights, counts)

    def _split(self, empty: regions.Empty) -> Split:
        """The formulas for this way with regions without a target."""
        key = "zero" if empty == "skip" else empty
        if key not in self._splits:
            self._splits[key] = Split(regions.formula(self.name, key))
        return self._splits[key]


def _like(xp: Any, weights: Any, x: Any) -> Any:
    """Weights as an array of the library."""
    return weights if hasattr(weights, "shape") else xp.asarray(weights, dtype=x.dtype)


def _without_excluded(xp: Any, x: Any, weights: Any, place: int) -> Any:
    """Logits with 0 where no class of an element counts, so that no NaN comes from there."""
    excluded = xp.broadcast_to(_like(xp, weights, x) == 0, x.shape)
    return xp.where(moved(xp, moved(xp, excluded, place, -1).all(-1)[..., None], -1, place), xp.zeros_like(x), x)


def _of_integers(target: Any) -> bool:
    """Tell whether an array holds integers."""
    return str(getattr(target, "dtype", "float")).rpartition(".")[2].lstrip("u").startswith("int")


def _one_hot(xp: Any, target: Any, count: int, place: int, ignore_index: int | None) -> Any:
    """1 for the class of each element and 0 for others, along an axis of classes.

    An index that is no class is an error, or NaN where values cannot be looked at.
    """
    own = getattr(_dispatch.backend(target, "target"), "own_sums", None)
    if xp is np:
        checked_index(target, count, ignore_index)
    elif own is not None:
        own.check_index(target, count, ignore_index)
    target = target[..., None]
    classes = xp.arange(count, **({"device": target.device} if hasattr(target, "requires_grad") else {}))
    found = xp.where((target >= 0) & (target < count), xp.where(target == classes, 1.0, 0.0), np.nan)
    return moved(xp, found, -1, place)
