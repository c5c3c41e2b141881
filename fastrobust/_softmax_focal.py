"""The focal loss of several classes: cross-entropy, of which what is easy counts less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from . import _cross_entropy as entropy
from . import _evaluate
from . import _samples as of_classes
from ._dispatch import shown
from ._row_operations import Given
from .kernels.losses.softmax_focal import FOCAL_OF_LOSS

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["SoftmaxFocal", "SoftmaxFocalGrad", "softmax_focal"]


class SoftmaxFocalGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    dx: Any
    dgamma: Any


class SoftmaxFocal:
    """The focal loss of several classes: (1 - p)^gamma (-log p), p the probability of the right class by softmax.

    Parameters
    ----------
    x : array_like, real
        Logits, with the classes along ``axis``. The result has its dtype, float64 for integers.
    target : array_like
        The index of the right class for each sample, integers of x's shape without ``axis``.
    gamma : float, at least 0
        How much less easy samples count; with 0 the loss is the cross-entropy.
    axis, weights, class_weights, ignore_index, reduction, empty
        As in `cross_entropy`.

    Returns
    -------
    array of the samples' shape, or a number

    Raises
    ------
    TypeError, ValueError
        As `cross_entropy`, and for gamma < 0.

    Notes
    -----
    Lin et al., 2017, with softmax instead of sigmoid (Keras calls that categorical focal cross-entropy). Of the
    cross-entropy L it is q^gamma L, q = -expm1(-L), and so are its derivatives made: nothing is lost where p is nearly
    1, nor is there a NaN for gamma < 1. Arrays of NumPy and CuPy: errors are below 1 unit in the last place in float32,
    and 8 in float64, there 3 (1 + gamma) if that is more, as the power shows each unit of q, and in gamma up to L units
    more, since exp(-L) shows each of them. Tensors and arrays of JAX are differentiated to any order, in gamma, too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> losses.softmax_focal(np.array([[1.0, 2.0, 3.0], [20.0, 0.0, 0.0]]), np.array([0, 0]), 2.0)
    array([1.99360453e+00, 7.00520854e-26])
    """

    __name__ = __qualname__ = "softmax_focal"

    def __call__(
        self,
        x: ArrayLike,
        target: ArrayLike,
        gamma: Any = 2.0,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
    ) -> Any:
        """The loss of each sample, or their sum or mean; see ``help(losses.softmax_focal)``."""
        given = Given(target, axis, weights, class_weights, ignore_index, "all", reduction, empty)
        if (own := of_classes.of_library(x)) is not None:
            definition = FOCAL_OF_LOSS.definition
            return own.transformed(x, given, lambda of: _evaluate.value_of(definition, (of, gamma), "none", None, {}))
        return _evaluated(x, given, gamma, ()).value

    def value_and_grad(
        self,
        x: ArrayLike,
        target: ArrayLike,
        gamma: float = 2.0,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        class_weights: ArrayLike | None = None,
        ignore_index: int | None = None,
        reduction: Literal["none", "sum", "mean"] = "none",
        empty: Literal["nan", "zero"] = "nan",
        wrt: Sequence[str] = ("x", "gamma"),
    ) -> SoftmaxFocalGrad:
        """The loss and its derivatives, of arrays of NumPy and CuPy; others are differentiated by their libraries.

        Parameters
        ----------
        wrt : sequence of str
            Some of "x" and "gamma". The others are those of a call.
        """
        if not isinstance(wrt, tuple | list) or not set(wrt) <= {"x", "gamma"}:
            raise ValueError(f"wrt must be a tuple of names out of ('x', 'gamma'), got {wrt!r}")
        if of_classes.of_library(x) is not None:
            raise TypeError(
                f"value_and_grad takes arrays of NumPy and CuPy: let the library of this {shown(x)} differentiate"
            )
        given = Given(target, axis, weights, class_weights, ignore_index, "all", reduction, empty)
        return _evaluated(x, given, gamma, tuple(wrt))

    def __repr__(self) -> str:
        return "<loss softmax_focal(x, target, gamma)>"

    def __reduce__(self) -> str:
        return "softmax_focal"


softmax_focal = SoftmaxFocal()


def _evaluated(x: object, given: Given, gamma: Any, wrt: tuple[str, ...]) -> SoftmaxFocalGrad:
    """The loss and the derivatives that are wanted, of NumPy arrays: values first, since they scale the derivatives."""
    if isinstance(gamma, bool) or not isinstance(gamma, int | float | np.floating | np.integer):
        raise TypeError(f"gamma must be a number, got a {shown(gamma)}")
    kernels = of_classes.kernels_for(x, given)
    with kernels.place(x):
        samples = of_classes.samples_of(kernels, x, given)
        losses = entropy.values_of(samples)
        names = ("x", "gamma") if wrt else ()
        value, by_loss, by_gamma = _evaluate.value_and_grad(
            FOCAL_OF_LOSS.definition, (losses, gamma), "none", None, names, None
        )
        total = of_classes.divisor(samples, given)
        dx = None
        if "x" in wrt:
            counted = kernels.xp.where(samples.weights == 0, 0.0, by_loss)
            dx = entropy.slopes_of(samples, counted * of_classes.factors(samples, total))
        dgamma = of_classes.combined(by_gamma, samples, given.reduction, total) if "gamma" in wrt else None
        return SoftmaxFocalGrad(of_classes.combined(value, samples, given.reduction, total), dx, dgamma)
