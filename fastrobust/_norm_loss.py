"""Losses of the length of a vector: `norm` makes one of a loss of residuals."""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _api, _evaluate
from ._call import check_wrt
from ._dispatch import backend
from ._loss import Loss
from ._row_functions import NORM
from ._row_loss import Call, check_fits, derivatives_of, value_of
from ._sums import narrow, narrowed, prepared

if TYPE_CHECKING:
    from ._types import ArrayLike
    from .kernels.losses.definition import Definition

__all__ = ["NormLoss", "norm"]


def norm(loss: Any) -> NormLoss:
    """The loss of the Euclidean length of vectors, such as residuals in two or three dimensions.

    Parameters
    ----------
    loss : Loss or fastrobust.loss
        Of which the first operand becomes the length of a vector, as in registration, optical flow and bundle
        adjustment. All others stay, one number for each vector.

    Returns
    -------
    NormLoss
        Called like the loss, with vectors along ``axis`` in place of residuals; its derivatives are those in their
        components.

    Raises
    ------
    TypeError
        For what is no loss of elements.

    Examples
    --------
    >>> import numpy as np, fastrobust as fr
    >>> from fastrobust import losses
    >>> flow = np.array([[3.0, 4.0], [0.0, 0.0]])
    >>> losses.norm(losses.huber)(flow, 1.0)
    array([4.5, 0. ])
    >>> losses.norm(fr.loss).value_and_grad(flow, 1.0, 1.0, reduction="mean").dx
    array([[0.29417420, 0.39223227],
           [0.        , 0.        ]])
    """
    return NormLoss(loss)


class NormLoss:
    """A loss of the length of vectors: see `norm`.

    Attributes
    ----------
    loss : Loss or fastrobust.loss
        That of the length.
    operands : tuple of str
        What it takes, the vectors first.
    """

    def __init__(self, loss: Any) -> None:
        self.loss = loss
        self._definition, self._defaults = _described(loss)
        self.operands = self._definition.operands
        self.__name__ = self.__qualname__ = f"norm_of_{loss.__name__}"

    def __call__(
        self,
        *operands: ArrayLike,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        **named: ArrayLike,
    ) -> Any:
        """The loss of each vector, or their sum or mean.

        Parameters
        ----------
        *operands : array_like
            Vectors, then the other operands of the loss, which may also be given by name and broadcast to the vectors'
            shape without ``axis``.
        axis : int
            Where the components are. Default: the last.
        weights : array_like, broadcast to the vectors, optional
            Factor for each; one of 0 excludes it, whatever it holds.
        reduction : {"none", "sum", "mean"}
            "mean" divides by the sum of the weights.
        """
        given = self._bound(operands, named)
        half, lengths, others = self._lengths(given, axis, weights)
        own = getattr(backend(lengths, self.operands[0]), "own_sums", None)
        if own is not None and reduction != "none":  # the lengths, which nobody else holds, are differentiated again
            each = _evaluate.value_of(self._definition, (lengths, *others), "none", None, {})
            return narrowed(own.reduced(each, weights, reduction), half)
        return narrowed(_evaluate.value_of(self._definition, (lengths, *others), reduction, weights, {}), half)

    def value_and_grad(
        self,
        *operands: ArrayLike,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        wrt: Sequence[str] | None = None,
        **named: ArrayLike,
    ) -> Any:
        """The loss and its derivatives.

        Parameters
        ----------
        *operands, axis, weights, reduction, **named
            As in a call.
        wrt : sequence of str, optional
            The operands to differentiate by; None stands for those in all others in the result. Default: all.

        Returns
        -------
        namedtuple
            ``value``, then a field "d" and the operand's name for each: ``dx`` of the vectors' shape.

        Notes
        -----
        At a length of 0 the derivative is 0. Lengths of halves are float32; of float32 one that is beyond its range is
        infinite.
        """
        given = self._bound(operands, named)
        wanted = self.operands if wrt is None else check_wrt(wrt, self.operands)
        half, lengths, others = self._lengths(given, axis, weights)
        found = _evaluate.value_and_grad(self._definition, (lengths, *others), reduction, weights, wanted, None)
        value, dx, *slopes = found
        if self.operands[0] in wanted:
            dx = derivatives_of(NORM, (prepared(given[0]),), (), Call(axis, dx, "none"), ("x",))[1]
        return self.Grad(*(narrowed(part, half) for part in (value, dx, *slopes)))

    def _lengths(self, given: Sequence[Any], axis: int, weights: ArrayLike | None) -> tuple[Any, Any, Sequence[Any]]:
        """The dtype of the results if they are computed in a wider one, the lengths, and the other operands."""
        lengths = value_of(NORM, (prepared(given[0]),), (), Call(axis, _mask(weights), "none"))
        for name, value in zip(self.operands[1:], given[1:], strict=True):
            check_fits(name, np.shape(value), tuple(np.shape(lengths)))
        return narrow([value for value in given if hasattr(value, "dtype")]), lengths, given[1:]

    @functools.cached_property
    def Grad(self) -> type[Any]:
        """The type of what `value_and_grad` returns."""
        return collections.namedtuple("NormGrad", ("value", *("d" + name for name in self.operands)))

    def _bound(self, operands: tuple[ArrayLike, ...], named: Mapping[str, ArrayLike]) -> list[ArrayLike]:
        """All operands in their order."""
        given, left = list(operands), dict(named)
        if len(given) > len(self.operands):
            raise TypeError(f"{self.__name__} takes {', '.join(self.operands)}; got {len(given)} operands")
        for name in self.operands[len(given) :]:
            if name not in left and name not in self._defaults:
                raise TypeError(f"{self.__name__} needs {name}: it takes {', '.join(self.operands)}")
            given.append(left.pop(name) if name in left else self._defaults[name])
        if left:
            raise TypeError(f"{self.__name__} does not take {', '.join(left)}: it takes {', '.join(self.operands)}")
        return given

    def __repr__(self) -> str:
        return f"<loss {self.__name__}({', '.join(self.operands)})>"

    def __reduce__(self) -> Any:
        return norm, (self.loss,)


def _described(loss: Any) -> tuple[Definition, Mapping[str, float]]:
    """The definition of a loss of elements, and the defaults of its operands."""
    if isinstance(loss, Loss):
        return loss.formula.definition, loss.formula.defaults
    if getattr(loss, "__wrapped__", loss) is _api.loss:
        return _evaluate.definitions["loss"][0], {}
    raise TypeError(
        f"norm takes one of fastrobust.losses, what fastrobust.define made of a function without sums, or "
        f"fastrobust.loss; got {loss!r:.100}"
    )


def _mask(weights: Any) -> Any:
    """1 for what counts and 0 for what does not, so that the length of that is not looked at."""
    if weights is None:
        return None
    if isinstance(weights, int | float):
        return float(weights != 0)
    if not hasattr(weights, "shape"):
        weights = np.asarray(weights)
    return backend(weights, "weights").xp.where(weights == 0, 0.0, 1.0)
