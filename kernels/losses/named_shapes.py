"""Barron's loss at the shapes that have names: L2, Charbonnier's, Cauchy's, Geman and McClure's, Welsch's.

There alpha is 2, 1, 0, -2 or -inf, and float32 in doubles takes a closed form, of s = (x/c)^2.  Whatever else is asked
of these definitions is what `barron.LOSS` gives, but for the derivative in alpha, which is NaN: for that ask `LOSS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..arithmetic.elementary import power_of_two
from ..arithmetic.primitives import double, fma, max, min, scalar, single, where
from ..arithmetic.short import inverse_root, log1p_of_positive, parts_of_exp, root, root_and_inverse
from .barron import LOSS
from .barron_in_doubles import VALUES, inverse_of_scale
from .definition import Cases, Code, Definition, Stage
from .shapes import FINITE, outside

__all__ = ["CAUCHY", "CHARBONNIER", "GEMAN_MCCLURE", "L2", "WELSCH"]

_INFINITY = float("inf")
_LARGEST = 3.4028234663852886e38
_Z_MOST, _S_MOST = 2.0**40, 2.0**80  # |x|/c, and its square, of the quick case
_NEAR = 2.0**-12  # s below it: sqrt(1 + s) - 1 by three terms, right to 2^-39
_LEAST = -708.0  # from which on downwards an exponential counts as 0


class Prepared(NamedTuple):
    """The numbers that depend on c alone, for all x."""

    c: Any
    inverse_c: Any
    inverse_c2: Any


class Limits(NamedTuple):
    """Where |x| = inf: rho, psi c, weight c^2 and -c d rho/dc."""

    rho: float
    psi: float
    weight: float
    dscale: float


@scalar
def prepared(alpha, scale):
    """The stage that prepares."""
    c = double(scale)
    inverse_c = inverse_of_scale(c)
    return Prepared(c, inverse_c, inverse_c * inverse_c)


@scalar
def ordinary(prepared):
    """Tell whether c allows the quick case, which is not extreme, and the |x| up to which it holds."""
    c, inverse_c, _ = prepared
    T = type(c)
    return inverse_c == inverse_c, single(min(c * T(_Z_MOST), T(_LARGEST)))


@scalar
def _l2(s, extreme):
    """rho, weight c^2, and curvature/weight."""
    T = type(s)
    return T(0.5) * s, T(1.0), T(1.0)


@scalar
def _charbonnier(s, extreme):
    T = type(s)
    w = T(1.0) + s
    y, rest = root_and_inverse(w)
    large = extreme & (s > T(_S_MOST))
    y, rest = where(large, (root(w), inverse_root(w)), (y, rest))
    near = s * fma(s, fma(s, T(1.0 / 16), T(-1.0 / 8)), T(0.5))
    return where(s < T(_NEAR), near, y - T(1.0)), rest, rest * rest


@scalar
def _cauchy(s, extreme):
    T = type(s)
    half = T(0.5) * s
    weight = T(1.0) / (T(1.0) + half)
    return log1p_of_positive(half), weight, fma(-s, weight, T(1.0))


@scalar
def _geman_mcclure(s, extreme):
    T = type(s)
    quarter = T(0.25) * s
    rest = T(1.0) / (T(1.0) + quarter)
    return T(0.5) * s * rest, rest * rest, fma(-s, rest, T(1.0))


@scalar
def _welsch(s, extreme):
    T = type(s)
    n, r = parts_of_exp(max(T(-0.5) * s, T(_LEAST)))
    power = power_of_two(n)
    return abs(fma(power, r, power - T(1.0))), fma(power, r, power), T(1.0) - s  # 0 and not -0


def _values(closed: Callable[..., Any], limits: Limits) -> Callable[..., Any]:
    """The stage of an element: the outputs of `barron_in_doubles.values`, and NaN."""

    @scalar
    def values(x, prepared, extreme, close):
        _, inverse_c, inverse_c2 = prepared
        x = double(x)
        T = type(x)
        rho, weight, factor = closed((x * x) * inverse_c2, extreme)
        weight = weight * inverse_c2
        dx = x * weight
        dscale = (x * -inverse_c) * dx
        curvature = weight * factor
        far = extreme & (abs(x) > FINITE(x))
        rho = where(far, T(limits.rho) + T(0.0) * inverse_c, rho)
        slope = T(limits.psi) * inverse_c
        dx = where(far, where(x > T(0.0), slope, -slope), dx)
        dscale = where(far, -(T(limits.dscale) * inverse_c), dscale)
        weight, curvature = where(far, (T(limits.weight) * inverse_c2,) * 2, (weight, curvature))
        return (*map(single, (rho, dx, dscale, weight, curvature)), single(T(float("nan")))), ()

    return values


def _at(name: str, closed: Callable[..., Any], limits: Limits) -> Definition:
    """The definition of that shape."""
    code = Code(
        parameters=LOSS.parameters,
        prepares=(Stage(prepared, Prepared),),
        stages=(Stage(_values(closed, limits), None, (*VALUES, "dalpha")),),
        carries=np.float64,
        cases=Cases(ordinary, outside, scalar(lambda prepared: False), ()),
    )
    return replace(LOSS, name=f"loss_{name}", title="loss", in_doubles=code, general=LOSS, module=__name__)


L2 = _at("l2", _l2, Limits(_INFINITY, _INFINITY, 1.0, _INFINITY))
CHARBONNIER = _at("charbonnier", _charbonnier, Limits(_INFINITY, 1.0, 0.0, _INFINITY))
CAUCHY = _at("cauchy", _cauchy, Limits(_INFINITY, 0.0, 0.0, 2.0))
GEMAN_MCCLURE = _at("geman_mcclure", _geman_mcclure, Limits(2.0, 0.0, 0.0, 0.0))
WELSCH = _at("welsch", _welsch, Limits(1.0, 0.0, 0.0, 0.0))
