"""The scale that keeps a given efficiency where the errors are normal."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from .. import curvature, influence

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
_X = 20 * (_NODES + 1)  # [0, 40]: beyond, the normal density is nothing
_DENSITY = 20 * _WEIGHTS * np.exp(-0.5 * _X * _X) / math.sqrt(0.5 * math.pi)


def _efficiency(alpha: float, scale: float) -> float:
    """Of the M-estimator of location at the standard normal: (E psi')^2 / E psi^2."""
    psi, slope = influence(_X, alpha, scale), curvature(_X, alpha, scale)
    return float((_DENSITY @ slope) ** 2 / (_DENSITY @ (psi * psi)))


def efficiency_scale(alpha: float, efficiency: float = 0.95) -> float:
    """The scale c, in standard deviations, at which the estimator of location has that efficiency at the normal.

    Parameters
    ----------
    alpha : float
        Shape, below 2: at 2 the efficiency is 1 whatever the scale.
    efficiency : float
        In (0, 1): the variance of the mean divided by that of the estimator, for normal errors.

    Raises
    ------
    ValueError
        For alpha >= 2, an efficiency outside of (0, 1), or one that no scale gives (alpha >= 1 is always above 0.63).

    Notes
    -----
    (E psi')^2 / E psi^2 by Gauss-Legendre quadrature (Huber and Ronchetti, Robust Statistics, 2009, chapter 3); to 1e-9.

    Examples
    --------
    >>> from fastrobust.optimize import efficiency_scale
    >>> round(efficiency_scale(0.0), 6)
    1.686412
    """
    if not alpha < 2:
        raise ValueError(f"alpha must be below 2, where the efficiency depends on the scale, got {alpha!r}")
    if not 0 < efficiency < 1:
        raise ValueError(f"efficiency must lie between 0 and 1, got {efficiency!r}")
    low, high = 0.05, 100.0
    if _efficiency(alpha, low) > efficiency or _efficiency(alpha, high) < efficiency:
        raise ValueError(
            f"no scale between {low} and {high} gives an efficiency of {efficiency!r} at alpha = {alpha!r}"
        )
    return float(brentq(lambda c: _efficiency(alpha, c) - efficiency, low, high, xtol=1e-12))
