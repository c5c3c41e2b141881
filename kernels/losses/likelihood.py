"""The negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha), and the families of functions that have loops.

The density is exp(-rho(x, alpha, c)) / (c Z(alpha)) (Barron 2019, eq. 16), so its negative logarithm can be negative.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from ..arithmetic.elementary import decompose, log_parts
from ..arithmetic.primitives import scalar
from . import barron
from .signatures import LOSS

# What `values` returns, in order; a kernel can write these and "dalpha".
VALUES = tuple(name for name in LOSS.outputs if name != "dalpha")


@scalar
def loss_shape(alpha, log_z, slope):
    """The numbers that depend on alpha alone; the loss needs no log Z."""
    return barron.shape(alpha)


@scalar
def nll_shape(alpha, log_z, slope):
    """The numbers that depend on alpha alone: those of the loss, log Z(alpha) and its derivative."""
    return *barron.shape(alpha), log_z, slope


@scalar
def nll_width(scale):
    """The numbers that depend on c alone: those of the loss, and log c."""
    T = type(scale)
    c, inv, inv2 = barron.width(scale)
    e, m, ml = decompose(c, T(0.0))
    log = log_parts(m - T(1.0), T(0.0), m, ml, e)[0]
    # 1/c is NaN where c is not valid, 0 where c is infinite.
    log = log if abs(inv) > T(0.0) else (inv if inv != inv else scale)
    return c, inv, inv2, log


@scalar
def nll_values(x, log, shape, width, extreme):
    """`barron.values` for the negative log-likelihood; weight and curvature are those of the loss."""
    (value, dx, dscale, weight, curvature), exp = barron.values(x, log, shape, width, extreme)
    return (value + (width[3] + shape[8]), dx, dscale + width[1], weight, curvature), exp


@scalar
def nll_dalpha(x, log, exp, shape, width, extreme, close):
    """`barron.dalpha` for the negative log-likelihood."""
    return barron.dalpha(x, log, exp, shape, width, extreme, close) + shape[9]


class Family(NamedTuple):
    """A function of (x, alpha, scale) as its loops need it: see `barron`, whose `logarithm` both have."""

    shape: Callable[..., Any]
    width: Callable[..., Any]
    values: Callable[..., Any]
    dalpha: Callable[..., Any]
    sizes: tuple[int, int]  # how many numbers `shape` and `width` return
    tabulated: bool  # whether `shape` uses log Z


FAMILIES = {
    "loss": Family(loss_shape, barron.width, barron.values, barron.dalpha, (8, 3), tabulated=False),
    "nll": Family(nll_shape, nll_width, nll_values, nll_dalpha, (10, 4), tabulated=True),
}


@functools.cache
def element(family: str) -> Callable[..., Any]:
    """element(x, shape, width, extreme, close): all stages in a row: what `values` returns, and d/dalpha."""
    values, dalpha = FAMILIES[family].values, FAMILIES[family].dalpha

    def stages(x, shape, width, extreme, close):
        log = barron.logarithm(x, shape, width, extreme)
        found, exp = values(x, log, shape, width, extreme)
        return found, dalpha(x, log, exp, shape, width, extreme, close)

    return scalar(stages)
