"""A loss in the form of `scipy.optimize.least_squares`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .. import loss as barron_loss
from .. import weight
from .._loss import Loss
from .._types import ArrayLike
from ._unit_loss import UnitLoss, chosen, numbers_of, slope_of_weights


def scipy_loss(alpha: float | None = None, *, loss: Loss | None = None) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """The general loss for ``scipy.optimize.least_squares(fun, x0, loss=scipy_loss(alpha), f_scale=c)``.

    Or one of the catalogue, or of your own: ``scipy_loss(loss=losses.tukey)``.

    Parameters
    ----------
    alpha : float
        Shape in [-inf, inf].
    loss : fastrobust.losses.Loss, in place of alpha
        One of a residual alone and even, with defaults for all its parameters (see `Loss.with_defaults`) and weights
        psi(x)/x that are finite, as SciPy's R' has to be.

    Returns
    -------
    callable
        From z = (f/f_scale)^2, shape (m,), to SciPy's R, R' and R'', shape (3, m), an array of its own at each call,
        since SciPy writes into it. R = 2 rho(sqrt(z), alpha, 1), or 2 loss(sqrt(z)): SciPy minimizes
        0.5 f_scale^2 sum(R).

    Raises
    ------
    TypeError, ValueError
        Where alpha is no number, or NaN; for alpha and a loss together, and for a loss that is none of the above.

    Notes
    -----
    R' is the weight of iteratively reweighted least squares, R'' = -sign(2 - alpha)/2 R'/(1 + z/|alpha - 2|). alpha = 1
    is SciPy's "soft_l1"; alpha = 0 its "cauchy" for f_scale smaller by sqrt(2). R'' of a loss is half of the weight's
    derivative over the residual, by the graph of its formula, and by three terms of its series near 0.

    SciPy squares f and f_scale, and its gtol has a unit: where f is very small or large, its start comes back as a
    solution, whatever the loss. Divide f by its scale yourself then, with f_scale 1; `gauss_newton` does.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.optimize import least_squares
    >>> from fastrobust.optimize import scipy_loss
    >>> t = np.linspace(0, 1, 50)
    >>> y = 0.7 * t + 0.15
    >>> y[::7] += 5
    >>> fit = least_squares(lambda p: p[0] * t + p[1] - y, [0.0, 0.0], loss=scipy_loss(0.0), f_scale=0.1)
    >>> print(np.round(fit.x, 2))
    [0.7  0.15]
    """
    unit, _ = chosen("scipy_loss", alpha, 1.0, loss)
    if unit.alpha is None:
        return _of_loss(loss, unit)
    shape = unit.alpha

    def rho(z: ArrayLike) -> NDArray[np.float64]:
        """R, R' and R'' at squared residuals z, for SciPy."""
        z = np.asarray(z, np.float64)
        residual = np.sqrt(z)
        derivatives = np.empty((3, *z.shape))
        np.multiply(barron_loss(residual, shape, 1.0), 2, out=derivatives[0])
        weight(residual, shape, 1.0, out=derivatives[1])
        if shape == 2:
            derivatives[2] = 0
        elif math.isinf(shape):
            derivatives[2] = derivatives[1]
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                np.divide(derivatives[1], 1 + z / abs(shape - 2), out=derivatives[2])
            derivatives[2][np.isinf(z)] = np.float64(np.inf) ** (shape / 2 - 2)  # of inf/inf
        derivatives[2] *= math.copysign(0.5, shape - 2)
        return derivatives

    return rho


def _of_loss(loss: object, unit: UnitLoss) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """R, R' and R'' of a user's loss."""
    own, numbers = numbers_of(loss)
    if not own.traits().even:
        raise ValueError(
            f"scipy_loss needs a loss that is even, since SciPy asks for that of squares, and {unit.name} is not: "
            "take gauss_newton"
        )
    slope = slope_of_weights(own, numbers)

    def rho(z: ArrayLike) -> NDArray[np.float64]:
        """R, R' and R'' at squared residuals z, for SciPy."""
        z = np.asarray(z, np.float64)
        residual = np.sqrt(z)
        derivatives = np.empty((3, *z.shape))
        np.multiply(unit.value(residual, 1.0), 2, out=derivatives[0])
        derivatives[1] = unit.weight(residual)
        np.multiply(slope(residual), 0.5, out=derivatives[2])
        return derivatives

    return rho
