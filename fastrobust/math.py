"""Elementary functions for formulas, see `fastrobust.define`, and for arrays of any library.

On arrays they have the accuracy and the derivatives of the library's kernels: errors are below 1.5 units in the last
place, those of `tanh`, `sigmoid` and `erf` below 3, of `logcosh` below 3.5, of `power` below 4.  `norm` and `logsumexp`
are of arrays along an axis; `sum` and `mean` in a formula make a loss of sums.

>>> import numpy as np
>>> from fastrobust.math import softplus
>>> softplus(np.array([-40.0, 20.5]))
array([4.24835426e-18, 2.05000000e+01])
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from . import _dispatch, _evaluate
from ._row_functions import logsumexp, norm
from .kernels.graph import functions
from .kernels.graph.real import Condition, Real
from .kernels.losses.formula import Formula

__all__ = [
    "abs",
    "clip",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "logcosh",
    "logsumexp",
    "maximum",
    "mean",
    "minimum",
    "norm",
    "power",
    "sigmoid",
    "sign",
    "softplus",
    "sqrt",
    "sum",
    "tanh",
    "where",
]


def _applied(name: str, *operands: Any) -> Any:
    """The function on numbers that are traced, or on arrays."""
    if any(isinstance(operand, Real) for operand in operands):
        return functions.FUNCTIONS[name](*operands)
    return _evaluate.value_of(_formula(name, len(operands)).definition, operands, "none", None, {})


@functools.cache
def _formula(name: str, count: int) -> Formula:
    """The formula that is the function alone."""
    function = functions.FUNCTIONS[name]

    def alone(*operands: Any) -> Any:
        return function(*operands)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = [inspect.Parameter(part, kind) for part in ("x", "y")[:count]]
    alone.__name__, alone.__signature__ = f"math_{name}", inspect.Signature(names)  # type: ignore[attr-defined]
    return Formula(alone, precision="working", owner=__name__)


def exp(x: Any) -> Any:
    """The exponential."""
    return _applied("exp", x)


def expm1(x: Any) -> Any:
    """The exponential less 1."""
    return _applied("expm1", x)


def log(x: Any) -> Any:
    """The natural logarithm."""
    return _applied("log", x)


def log1p(x: Any) -> Any:
    """The natural logarithm of 1 + x."""
    return _applied("log1p", x)


def sqrt(x: Any) -> Any:
    """The square root."""
    return _applied("sqrt", x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent."""
    return _applied("tanh", x)


def sigmoid(x: Any) -> Any:
    """The logistic function 1/(1 + exp(-x))."""
    return _applied("sigmoid", x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    return _applied("softplus", x)


def logcosh(x: Any) -> Any:
    """The logarithm of cosh(x)."""
    return _applied("logcosh", x)


def erf(x: Any) -> Any:
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) over t from 0 to x."""
    return _applied("erf", x)


def power(x: Any, y: Any) -> Any:
    """x to the power of y, for x >= 0 unless y is a small whole number."""
    return _applied("power", x, y)


def abs(x: Any) -> Any:
    """The absolute value, whose derivative at 0 is 0."""
    return _applied("abs", x)


def sign(x: Any) -> Any:
    """-1, 0 or 1; NaN of NaN."""
    return _applied("sign", x)


def minimum(a: Any, b: Any) -> Any:
    """The smaller of two, at ties the first; NaN if either is."""
    return _applied("minimum", a, b)


def maximum(a: Any, b: Any) -> Any:
    """The larger of two, at ties the first; NaN if either is."""
    return _applied("maximum", a, b)


def clip(x: Any, least: Any, most: Any) -> Any:
    """x, but no less than the least and no more than the most, either of which may be None."""
    x = x if least is None else maximum(x, least)
    return x if most is None else minimum(x, most)


def sum(x: Any) -> Any:
    """The sum over all elements; in a formula over those along the axes of a call, see `fastrobust.define`."""
    return functions.sum(x) if isinstance(x, Real) else _dispatch.backend(x).xp.sum(x)


def mean(x: Any) -> Any:
    """The mean over all elements; in a formula over those along the axes of a call, see `fastrobust.define`."""
    return functions.mean(x) if isinstance(x, Real) else _dispatch.backend(x).xp.mean(x)


def where(condition: Any, yes: Any, no: Any) -> Any:
    """The first of two where the condition holds, else the second, whose value then does not count.

    In a formula the derivative is that of the side that is taken: no NaN comes from the other.
    """
    if isinstance(condition, Condition) or isinstance(yes, Real) or isinstance(no, Real):
        return functions.where(condition, yes, no)
    return _dispatch.common(("condition", "yes", "no"), (condition, yes, no)).xp.where(condition, yes, no)
