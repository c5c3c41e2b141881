"""The negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha), and the families of functions that have loops.

The density is exp(-rho(x, alpha, c)) / (c Z(alpha)) (Barron 2019, eq. 16), so its negative logarithm can be negative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from . import loss
from .elementary import decompose, log_parts
from .primitives import scalar

# What `element` returns, in order.
OUTPUTS = ("value", "dx", "dalpha", "dscale", "weight", "curvature")


@scalar
def loss_shape(alpha, log_z, slope):
    """What depends on alpha alone; the loss needs no log Z."""
    return loss.shape(alpha)


@scalar
def nll_shape(alpha, log_z, slope):
    """What depends on alpha alone, with log Z(alpha) and its derivative."""
    core, limits = loss.shape(alpha)
    return core, limits, (log_z, slope)


@scalar
def nll_width(scale):
    """What depends on c alone."""
    T = type(scale)
    c, inv, inv2, x_big = loss.width(scale)
    e, m, ml, _ = decompose(c, T(0.0))
    log = log_parts(m - T(1.0), T(0.0), m, ml, e)[0]
    # 1/c is NaN where c is not valid, 0 where c is infinite.
    log = log if abs(inv) > T(0.0) else (inv if inv != inv else scale)
    return c, inv, inv2, x_big, log


@scalar
def nll(x, shape, width, case):
    """The negative log-likelihood and its partials at x; weight and curvature are those of the loss."""
    value, dx, dalpha, dscale, weight, curvature = loss.element(x, shape, width, case)
    log_z, slope = shape[2]
    return value + (width[4] + log_z), dx, dalpha + slope, dscale + width[1], weight, curvature


class Family(NamedTuple):
    """A function of (x, alpha, scale) as `cpu` needs it."""

    shape: Callable[..., Any]
    width: Callable[..., Any]
    element: Callable[..., Any]
    tabulated: bool  # whether `shape` uses log Z


FAMILIES = {
    "loss": Family(loss_shape, loss.width, loss.element, tabulated=False),
    "nll": Family(nll_shape, nll_width, nll, tabulated=True),
}
