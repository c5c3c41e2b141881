"""The log partition function of Barron's density, log Z(alpha), and its derivatives, from piecewise polynomials.

Z(alpha) = int exp(-rho(x, alpha, 1)) dx exists for alpha >= 0 only (Barron 2019, eq. 17); for alpha < 0 it diverges.
`tools/partition_table.py` computes the tables, `partition_layout` says where they keep what.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..arithmetic.primitives import bits, constant, from_bits, max, min, opposite, piecewise, scalar, where
from .definition import Bound, Definition, Domain, Library, Stage
from .partition_layout import LAYOUT

__all__ = ["LOG_PARTITION", "log_partition"]

_F4, _F8 = LAYOUT["float32"], LAYOUT["float64"]
_FILES = [np.load(Path(__file__).with_name(f"partition_table_{d}.npy"), allow_pickle=False) for d in ("f4", "f8")]
_value, _slope = (piecewise(_FILES[0][i], _FILES[1][i]) for i in (0, 1))
# Derivatives of the slope's polynomials, in w.
_bend = piecewise(*(f[1, :, 1:] * np.arange(1, f.shape[2], dtype=f.dtype) for f in _FILES))


def _by_region(name: str) -> list[Any]:
    """A constant for each region: alpha < 1, alpha < 2, the rest."""
    return [constant(a, b) for a, b in zip(getattr(_F4, name), getattr(_F8, name), strict=True)]


_low_a, _low_b, _low_c = _by_region("low")
_base_a, _base_b, _base_c = _by_region("base")
_offset_a, _offset_b, _offset_c = _by_region("offset")
_shift, _high = constant(_F4.shift, _F8.shift), constant(_F4.high, _F8.high)
_fraction, _one = constant(_F4.fraction, _F8.fraction), constant(_F4.one, _F8.one)
_half, _middle = constant(_F4.half, _F8.half), constant(_F4.middle, _F8.middle)
_near, _far = constant(_F4.near, _F8.near), constant(_F4.far, _F8.far)
_stretch, _scaled = constant(_F4.stretch, _F8.stretch), constant(_F4.scaled, _F8.scaled)
_exponent = constant(_F4.exponent, _F8.exponent)
_below_one, _below_two = constant(1 - 2.0**-24, 1 - 2.0**-53), constant(2 - 2.0**-23, 2 - 2.0**-52)
_infinity, _nan = constant(float("inf")), constant(float("nan"))


@scalar
def _locate(a):
    """The row of the table for a valid alpha, w in it, log Z less the tabulated value, and dw/dalpha."""
    T = type(a)
    in_a, in_b = a < T(1.0), a < T(2.0)
    i = bits(abs(where(in_a, a, a - T(2.0))))  # abs of both: alpha may be -0
    U = type(i)
    low = where(in_a, _low_a(a), where(in_b, _low_b(a), _low_c(a)))
    base = where(in_a, _base_a(a), where(in_b, _base_b(a), _base_c(a)))
    offset = where(in_a, _offset_a(a), where(in_b, _offset_b(a), _offset_c(a)))
    key = max(U(i >> _shift(a)), low)
    piece = U(min(key, _high(a)) - base)

    far, near = a >= _far(a), a < _near(a)
    inverse = T(1.0) / a
    edge = where(far, inverse, a) * _stretch(a) - _half(a)
    w = from_bits(U(U(i & _fraction(a)) | _one(a))) - _middle(a)
    power = T(1.0) / from_bits(U(i & _exponent(a)))
    power = where(in_b & opposite(in_a), -power, power)
    power = where(near, _stretch(a), where(far, -(_stretch(a) * inverse) * inverse, power))
    return piece, where(far | near, edge, w), offset, power


@scalar
def log_partition(alpha):
    """The pair of log Z(alpha) and its derivative: inf and NaN for alpha < 0; at 2 the derivative at 2 - epsilon."""
    T = type(alpha)
    valid = alpha >= T(0.0)
    a = where(valid, alpha, T(1.0))
    piece, w, offset, _ = _locate(a)
    # From alpha = 4 on the table holds alpha^2 times the derivative.
    factor = where(a >= _scaled(a), T(1.0) / a, T(1.0))
    value = offset + _value(w, piece)
    slope = (_slope(w, piece) * factor) * factor
    outside = where(alpha < T(0.0), _infinity(a), _nan(a))
    return where(valid, value, outside), where(valid, slope, _nan(a))


@scalar
def log_partition_bend(alpha):
    """The second derivative of log Z, about 1e-12 (1e-4 in float32) relative; at 2 that at 2 - epsilon."""
    T = type(alpha)
    a = where(alpha >= T(0.0), alpha, _nan(alpha))
    # The table holds constants for 1 and 2.
    a = where(a == T(1.0), _below_one(a), where(a == T(2.0), _below_two(a), a))
    piece, w, _, power = _locate(where(a == a, a, T(1.0)))
    bend = _bend(w, piece) * power
    factor = T(1.0) / a
    bend = where(a >= _scaled(a), bend * factor * factor - T(2.0) * factor * (_slope(w, piece) * factor * factor), bend)
    return where(a == a, bend, a)


@scalar
def values(alpha, prepared):
    """The stage of the definition: all outputs, for kernels that store what is wanted."""
    value, slope = log_partition(alpha)
    return (value, slope, log_partition_bend(alpha)), ()


ORDERS = "value", "dalpha", "d2alpha"  # each the derivative of the one before


def slopes(library: Library, name: str, operands: Sequence[Any], wanted: Sequence[bool]) -> list[Any]:
    """Rules of differentiation: each output is the derivative of the one before; two derivatives are tabulated."""
    if name == ORDERS[-1]:
        raise NotImplementedError("a third derivative of log Z in alpha was asked for: two are available")
    return library.get(ORDERS[ORDERS.index(name) + 1])


ALPHA = Domain(
    0.0,
    False,
    "alpha must be >= 0 in the likelihood, got {}: below, it cannot be normalized; cut it off with truncation=, or use "
    "loss",
)

BOUNDS = {  # at the witnesses the errors are 0.57 and 0.60, 2.02 and 1.98 units
    "value": Bound(2, 4, ((1.4986697435379028,), (6.0548354558967136e-15,)), relative_to="1"),
    "dalpha": Bound(8, 32, ((6.826267719268799,), (8.511228872106829,))),
}

LOG_PARTITION = Definition(
    name="log_partition",
    data=("alpha",),
    parameters=(),
    others=("d2alpha",),
    stages=(Stage(values, None, ORDERS),),
    domains={"alpha": ALPHA},
    slopes=slopes,
    bounds=BOUNDS,
)
