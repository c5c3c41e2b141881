"""The triplet loss of embeddings, a loss of rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._row_functions import is_wide
from ._row_loss import Call, Task, derivatives_of, value_of
from ._row_operations import Operations, length
from .kernels.losses import distances

if TYPE_CHECKING:
    from ._types import ArrayLike
    from .kernels.losses.distances import Distance
    from .kernels.losses.rowwise import RowDefinition

__all__ = ["Triplet", "TripletGrad", "triplet"]


class TripletGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    danchor: Any
    dpositive: Any
    dnegative: Any
    dmargin: Any


class Triplet:
    """The triplet loss: max(0, D(anchor, positive) - D(anchor, negative) + margin) for each row.

    Parameters
    ----------
    anchor, positive, negative : array_like, real
        Embeddings along ``axis``, which broadcast. The result has the dtype of all of them, float64 for integers.
    margin : float or array_like that broadcasts to the rows
        By how much the negative is to be farther away than the positive.
    distance : {"euclidean", "squared", "manhattan", "cosine"}
        D: the Euclidean distance or its square, the sum of absolute differences, or 1 less the cosine, to which a
        vector of zeros has 1.
    swap : bool
        Whether the distance of positive and negative counts where it is the smaller one (Balntas et al. 2016).
    soft : bool
        log(1 + exp(...)) instead of the largest of 0 and that (Hermans et al. 2017, with a margin of 0).
    axis : int
        Where the elements of an embedding are. Default: the last.
    weights : array_like, optional
        A factor for each row, broadcast to the rows; one of 0 excludes it, whatever it holds.
    reduction : {"none", "sum", "mean"}
        "mean" divides by the sum of the weights.

    Returns
    -------
    array of the rows' shape, or a number

    Raises
    ------
    TypeError, ValueError
        For operands that do not fit, options that are none, and arrays of other libraries than NumPy, CuPy, PyTorch
        and JAX.

    Notes
    -----
    Schroff et al. 2015. No epsilon is added anywhere: a distance of 0 is 0, with the derivative 0, and equal rows lose
    nothing; at the bend of the loss its derivative is 0. Differences are squared in double, those of float64 scaled by
    their size, so that nothing overflows that need not. Cosine distances are half of the square of the difference of
    unit vectors, which keeps the digits of small angles. Arrays of NumPy and CuPy, and plain tensors:
    the loss is right to some units in the last place of its distances, in one pass with all derivatives. Tensors and
    arrays of JAX are differentiated to any order, in the margin, too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> anchor, positive, negative = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), np.array([[1.0, 2.1]])
    >>> losses.triplet(anchor, positive, negative, 1.0)
    array([0.9])
    >>> losses.triplet.value_and_grad(anchor, positive, negative, 1.0).dnegative
    array([[ 0., -1.]])
    """

    __name__ = __qualname__ = "triplet"

    def __call__(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        margin: Any = 1.0,
        *,
        distance: Distance = "euclidean",
        swap: bool = False,
        soft: bool = False,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
    ) -> Any:
        """The loss of each row, or their sum or mean; see ``help(losses.triplet)``."""
        task = _task(distance, swap, soft)
        return value_of(task, (anchor, positive, negative), (margin,), Call(axis, weights, reduction))

    def value_and_grad(
        self,
        anchor: ArrayLike,
        positive: ArrayLike,
        negative: ArrayLike,
        margin: Any = 1.0,
        *,
        distance: Distance = "euclidean",
        swap: bool = False,
        soft: bool = False,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        wrt: Sequence[str] = ("anchor", "positive", "negative", "margin"),
    ) -> TripletGrad:
        """The loss and its derivatives, in one pass.

        Parameters
        ----------
        wrt : sequence of str
            Some of "anchor", "positive", "negative" and "margin". The others are those of a call.
        """
        task = _task(distance, swap, soft)
        call = Call(axis, weights, reduction)
        return TripletGrad(*derivatives_of(task, (anchor, positive, negative), (margin,), call, wrt))

    def __repr__(self) -> str:
        return "<loss triplet(anchor, positive, negative, margin)>"

    def __reduce__(self) -> str:
        return "triplet"


triplet = Triplet()


def _task(distance: Distance, swap: bool, soft: bool) -> Task:
    """The loss with these options, checked."""
    if distance not in distances.DISTANCES:
        known = ", ".join(map(repr, distances.DISTANCES))
        raise ValueError(f"distance must be one of {known}, got {distance!r}")
    return _made(distance, bool(swap), bool(soft))


@functools.cache
def _made(distance: Distance, swap: bool, soft: bool) -> Task:
    """The loss with these options."""

    def definition(kernels: Any, data: list[Any]) -> tuple[RowDefinition, list[Any]]:
        of_distance = distances.triplet(distance, swap, soft, is_wide(data))
        return of_distance, [_inverse_length(kernels, array) for array in data] if distance == "cosine" else []

    def composed(library: Operations, data: list[Any], numbers: list[Any]) -> Any:
        return _composed(library, data, numbers[0], distance, swap, soft)

    return Task("triplet", ("anchor", "positive", "negative"), ("margin",), definition, composed)


def _inverse_length(kernels: Any, array: Any) -> Any:
    """The inverse lengths along the second of three axes, 0 of zeros."""
    found = kernels.of_rows(distances.norm(is_wide([array])), [array], None, [], 1.0, None).value
    with np.errstate(divide="ignore"):
        return kernels.xp.where(found == 0, 0.0, 1.0 / found)


def _composed(library: Operations, data: list[Any], margin: Any, distance: str, swap: bool, soft: bool) -> Any:
    """The loss of each row, in operations of a library."""
    xp = library.xp
    if distance == "cosine":
        lengths = [length(library, row)[..., None] for row in data]
        empty = [n[..., 0] == 0 for n in lengths]
        data = [
            xp.where(n == 0, xp.zeros_like(row), row / xp.where(n == 0, xp.ones_like(n), n))
            for row, n in zip(data, lengths, strict=True)
        ]

    def far(i: int, j: int) -> Any:
        between = data[i] - data[j]
        if distance == "euclidean":
            return length(library, between)
        if distance == "manhattan":
            return abs(between).sum(-1)
        total = (between * between).sum(-1)
        if distance == "cosine":  # 0 has half a square of 1 from unit vectors, and is to have 1
            total = 0.5 * (total + sum(xp.where(empty[k], xp.ones_like(total), xp.zeros_like(total)) for k in (i, j)))
        return total

    near, other = far(0, 1), far(0, 2)
    if swap:
        between = far(1, 2)
        other = xp.where(other <= between, other, between)
    z = near - other + margin
    zero = xp.zeros_like(z)
    return xp.logaddexp(z, zero) if soft else xp.where(z <= 0, zero, z)
