"""The negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha).

The density is exp(-rho(x, alpha, c)) / (c Z(alpha)) (Barron 2019, eq. 16), so its negative logarithm can be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..arithmetic.elementary import decompose, log_parts
from ..arithmetic.primitives import scalar, where
from . import barron, higher
from .barron import LOSS
from .definition import Definition, Library, Stage
from .partition import LOG_PARTITION, log_partition

__all__ = ["NLL"]


class LogZ(NamedTuple):
    """The logarithm of Z(alpha) and its derivative."""

    value: Any
    slope: Any


class Prepared(NamedTuple):
    """The numbers that depend on alpha and c alone: those of `barron.Prepared`, by the same names, and three more."""

    alpha: Any
    k: Any
    b: Any
    b_low: Any
    inverse_b: Any
    ratio: Any
    inverse_k2: Any
    inverse_k2_low: Any
    c: Any
    inverse_c: Any
    inverse_c2: Any
    log_z: Any
    log_z_slope: Any
    log_c: Any


@scalar
def looked_up(alpha, scale):
    """The first stage that prepares: log Z, on its own, since the look-ups would keep others from being vectorized."""
    return LogZ(*log_partition(alpha))


@scalar
def prepared(alpha, scale, log_z):
    """The second stage that prepares: what the loss needs of alpha and c, and log c."""
    T = type(scale)
    c, inv, inv2 = barron.width(scale)
    e, m, ml = decompose(c, T(0.0))
    log = log_parts(m - T(1.0), T(0.0), m, ml, e)[0]
    # 1/c is NaN where c is not valid, 0 where c is infinite.
    log = where(abs(inv) > T(0.0), log, where(inv != inv, inv, scale))
    fields = (*barron.shape(alpha), c, inv, inv2, log_z.value, log_z.slope, log)
    return Prepared(*fields)


@scalar
def values(x, prepared, log, extreme, close):
    """The second stage: `barron.values` with rho + log c + log Z; weight and curvature are those of the loss."""
    (value, dx, dscale, weight, curvature), exp = barron.values(x, prepared, log, extreme, close)
    return (value + (prepared.log_c + prepared.log_z), dx, dscale + prepared.inverse_c, weight, curvature), exp


@scalar
def dalpha(x, prepared, log, exp, extreme, close):
    """The third stage: `barron.dalpha` and the derivative of log Z."""
    (slope,), nothing = barron.dalpha(x, prepared, log, exp, extreme, close)
    return (slope + prepared.log_z_slope,), nothing


def slopes(library: Library, name: str, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Rules of differentiation: those of the loss, and what log c and log Z add."""
    rows = higher.slopes(library, name, operands, wanted, with_log_c=True)
    if name == "dalpha" and wanted[1]:
        rows[1] = rows[1] + library.evaluate(LOG_PARTITION, ("d2alpha",), operands[1])[0]
    return rows


NLL = Definition(
    name="nll",
    data=LOSS.data,
    parameters=LOSS.parameters,
    others=LOSS.others,
    prepares=(Stage(looked_up, LogZ), Stage(prepared, Prepared)),
    stages=(
        Stage(barron.logarithm, barron.Log),
        Stage(values, barron.Exp, barron.VALUES),
        Stage(dalpha, None, ("dalpha",)),
    ),
    cases=LOSS.cases,
    domains={**LOSS.domains, **LOG_PARTITION.domains},
    slopes=slopes,
    costly=LOSS.costly,
)
