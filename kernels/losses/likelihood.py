"""The negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha).

The density is exp(-rho(x, alpha, c)) / (c Z(alpha)) (Barron 2019, eq. 16), so its negative logarithm can be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arithmetic.elementary import decompose, log_parts
from ..arithmetic.functions import log
from ..arithmetic.primitives import double, scalar, single, where
from . import barron, barron_in_doubles, higher
from .barron import LOSS
from .definition import Code, Definition, Library, Stage
from .partition import LOG_PARTITION, log_partition
from .shapes import BELOW_TWO, shape

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
    log_c = log_parts(m - T(1.0), T(0.0), m, ml, e)[0]
    # 1/c is NaN where c is not valid, 0 where c is infinite.
    log_c = where(abs(inv) > T(0.0), log_c, where(inv != inv, inv, scale))
    fields = (*shape(alpha), c, inv, inv2, log_z.value, log_z.slope, log_c)
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


# --- float32 in doubles: see `barron_in_doubles`


class PreparedInDoubles(NamedTuple):
    """The numbers of `barron_in_doubles.Prepared`, by the same names, and three more."""

    alpha: Any
    k: Any
    inverse_k: Any
    b: Any
    ratio: Any
    c: Any
    inverse_c: Any
    inverse_c2: Any
    u_of_square: Any
    log_z: Any
    log_z_slope: Any
    log_c: Any


@scalar
def looked_up_in_doubles(alpha, scale):
    """The first stage that prepares: log Z; its derivative at 2 is that at 2 - epsilon of a float."""
    a = double(alpha)
    slope = log_partition(where(a == type(a)(2.0), double(BELOW_TWO(alpha)), a))[1]
    return LogZ(log_partition(a)[0], slope)


@scalar
def prepared_in_doubles(alpha, scale, log_z):
    """The second stage that prepares."""
    loss = barron_in_doubles.prepared(alpha, scale)
    log_c = where(loss.inverse_c == loss.inverse_c, log(loss.c), loss.inverse_c)
    fields = (*loss, log_z.value, log_z.slope, log_c)
    return PreparedInDoubles(*fields)


@scalar
def values_in_doubles(x, prepared, log, extreme, close):
    """The second stage."""
    (value, dx, dscale, *others), exp = barron_in_doubles.values_of(x, prepared, log, extreme)
    value, dscale = value + (prepared.log_c + prepared.log_z), dscale + prepared.inverse_c
    return tuple(map(single, (value, dx, dscale, *others))), exp


@scalar
def dalpha_in_doubles(x, prepared, log, exp, extreme, close):
    """The third stage."""
    slope = barron_in_doubles.dalpha_of(x, prepared, log, exp, extreme, close)
    return (single(slope + prepared.log_z_slope),), ()


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
    in_doubles=Code(
        parameters=LOSS.parameters,
        prepares=(Stage(looked_up_in_doubles, LogZ), Stage(prepared_in_doubles, PreparedInDoubles)),
        stages=(
            Stage(barron_in_doubles.logarithm, barron_in_doubles.Log),
            Stage(values_in_doubles, barron_in_doubles.Exp, barron.VALUES),
            Stage(dalpha_in_doubles, None, ("dalpha",)),
        ),
        cases=barron_in_doubles.CASES,
        carries=np.float64,
    ),
    domains={**LOSS.domains, **LOG_PARTITION.domains},
    slopes=slopes,
    costly=LOSS.costly,
)
