"""The scale that keeps a given efficiency where the errors are normal."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from .. import curvature, influence
from ..kernels.losses.truncation import rule
from ._arrays import number

# Over the normal density to 40, beyond which it is nothing; as dense in log x around a small scale as around 1.
_X, _WEIGHTS = rule(40.0)
_DENSITY = 40 * _WEIGHTS * np.exp(-0.5 * _X * _X) / math.sqrt(0.5 * math.pi)
_SCALES = 1e-6, 1e4


def _efficiency(alpha: float, scale: float) -> float:
    """The efficiency of the M-estimator of location at the standard normal: (E psi')^2 / E psi^2."""
    psi, slope = influence(_X, alpha, scale), curvature(_X, alpha, scale)
    return float((_DENSITY @ slope) ** 2 / (_DENSITY @ (psi * psi)))


def efficiency_scale(alpha: float, efficiency: float = 0.95) -> float:
    """The scale c, in standard deviations of normal errors, at which the estimator of location has that efficiency.

    Parameters
    ----------
    alpha : float
        Shape, below 2: at 2 the efficiency is 1 whatever the scale.
    efficiency : float
        In (0, 1): the variance of the mean divided by that of the estimator, for normal errors.

    Raises
    ------
    ValueError
        For alpha >= 2, and for an efficiency that no scale gives: with alpha = 1 it is at least 2/pi, that of the
        median, and with alpha = 1.9 at least 0.997.

    Notes
    -----
    (E psi')^2 / E psi^2 (Huber and Ronchetti, Robust Statistics, 2009, chapter 3), by quadrature, to 1e-9.

    Examples
    --------
    >>> from fastrobust.optimize import efficiency_scale
    >>> round(efficiency_scale(0.0), 6)
    1.686412
    """
    alpha, efficiency = number("alpha", alpha), number("efficiency", efficiency)
    if alpha >= 2:
        raise ValueError(f"alpha must be below 2, where the efficiency depends on the scale, got {alpha:g}")
    if not 0 < efficiency < 1:
        raise ValueError(f"efficiency must lie between 0 and 1, got {efficiency:g}")
    least, most = (_efficiency(alpha, scale) for scale in _SCALES)
    if least > 1 - 1e-9:
        raise ValueError(f"alpha = {alpha!r} is so near 2 that every scale gives an efficiency of 1: lower it")
    if not least < efficiency < most:
        raise ValueError(
            f"efficiency must lie between {least:.10g} and {most:.16g} for alpha = {alpha!r}, got {efficiency!r}: "
            "no scale gives it"
        )
    low, high = map(math.log, _SCALES)
    return math.exp(brentq(lambda c: _efficiency(alpha, math.exp(c)) - efficiency, low, high, xtol=1e-13))
