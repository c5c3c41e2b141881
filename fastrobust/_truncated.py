"""The density cut off at |x| = truncation * c: its partition function and likelihood, which exist for every alpha.

    Z(alpha, tau) = int_{-tau}^{tau} exp(-rho(x, alpha, 1)) dx

Source: N. Chebrolu et al., Adaptive Robust Kernels for Non-Linear Least Squares Problems, RA-L 2021, arXiv 2004.14938.
By quadrature over the public functions, for any array library, so that what differentiates `loss` differentiates this.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from . import _api
from ._arguments import NUMBERS, unbroadcast
from ._dispatch import backend
from ._types import LossGrad, PartitionGrad

_SPACING = 0.04  # of log x between nodes near x = 1: the integrand at alpha = inf is analytic for |Im log x| < 0.22
_REACH = 38.0  # the nodes go to within e^-38 of both ends, relative to 1 and to tau


def checked(truncation: Any) -> float:
    """As a number."""
    if not (isinstance(truncation, (*NUMBERS, np.number)) and truncation > 0):
        raise ValueError(f"truncation must be a positive number, in units of the scale, got {truncation!r}")
    return float(truncation)


@functools.lru_cache(maxsize=64)
def rule(tau: float) -> tuple[Any, Any]:
    """Nodes in (0, tau) and weights: x = tau/(1 + exp(-pi sinh t)), double exponential at both ends."""
    size = max(math.log(tau), 0.0)
    step = _SPACING / math.hypot(math.pi, size)
    below, above = (math.ceil(math.asinh(reach / math.pi) / step) for reach in (_REACH + size, _REACH))
    t = step * np.arange(-below, above + 1)
    low, high = np.exp(-math.pi * np.sinh(t)), np.exp(math.pi * np.sinh(t))
    x = tau / (1 + low)
    return x, step * math.pi * np.cosh(t) * x / (1 + high)


def _end(xp: Any, alpha: Any, rho: float) -> Any:
    """Where the loss is about that, in alpha's precision: beyond, derivatives would overflow."""
    alpha = alpha.detach() if hasattr(alpha, "detach") else alpha
    a = xp.where(alpha < 1e-6, 1e-6, xp.where(alpha > 1e6, 1e6, alpha))
    b = abs(a - 2) + 1e-9
    log = xp.log1p(rho * a / b) * 2 / a
    log = xp.where(log < 1400, log, 1400.0)
    return xp.sqrt(-b * xp.expm1(-log)) * xp.exp(0.5 * log)


def _nodes(xp: Any, alpha: Any, truncation: float) -> tuple[Any, Any, Any]:
    """Nodes, weights, and alpha with an axis for them; where exp(-rho) is nothing, rho and its slopes stay finite."""
    if xp.__name__ == "torch":
        x, weights = (xp.asarray(part, device=alpha.device) for part in rule(truncation))
    else:
        x, weights = map(xp.asarray, rule(truncation))
    alpha = alpha[..., None]
    with np.errstate(over="ignore"):  # in float32
        end = _end(xp, alpha, 740.0)
    return xp.where(x < end, x, end), weights, alpha


def _like(value: Any, dtype: Any) -> Any:
    return value.to(dtype) if hasattr(value, "to") else value.astype(dtype)


def _logarithm(xp: Any, total: Any, alpha: Any) -> tuple[Any, Any]:
    """log Z, and its dtype: alpha's, unless that is an integer."""
    dtype = alpha.dtype if "float" in str(alpha.dtype) else total.dtype
    return _like(xp.log(2 * total), dtype), dtype


def _array(xp: Any, value: Any) -> Any:
    return np.asarray(value) if xp is np else value


def log_partition(alpha: Any, truncation: Any) -> Any:
    """log Z(alpha, tau)."""
    xp, tau = backend(alpha, leading="alpha").xp, checked(truncation)
    if math.isinf(tau):
        return _api.log_partition(alpha)
    alpha = _array(xp, alpha)
    x, weights, shape = _nodes(xp, alpha, tau)
    return _logarithm(xp, (weights * xp.exp(-_api.loss(x, shape, 1.0))).sum(-1), alpha)[0]


def log_partition_and_grad(alpha: Any, truncation: Any) -> PartitionGrad:
    """log Z(alpha, tau) and its derivative -E d rho/d alpha."""
    xp, tau = backend(alpha, leading="alpha").xp, checked(truncation)
    if math.isinf(tau):
        return _api.log_partition_and_grad(alpha)
    alpha = _array(xp, alpha)
    x, weights, shape = _nodes(xp, alpha, tau)
    found = _api.loss_and_grad(x, shape, 1.0, wrt=("alpha",))
    density = weights * xp.exp(-found.value)
    total = density.sum(-1)
    value, dtype = _logarithm(xp, total, alpha)
    return PartitionGrad(value, _like(-(density * found.dalpha).sum(-1) / total, dtype))


def nll(x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, truncation: Any) -> Any:
    """rho + log c + log Z(alpha, tau), inf where |x| > tau c."""
    xp, inside, outside, weights = _split(x, alpha, scale, weights, checked(truncation))
    value = _api.loss(inside, alpha, scale)
    constant = _log(xp, scale) + _for_numbers(log_partition, alpha, truncation)
    value = xp.where(outside, math.inf, _like(value + constant, value.dtype))
    return _weighed(value, weights, reduction)


def nll_and_grad(x: Any, alpha: Any, scale: Any, reduction: str, weights: Any, wrt: Any, truncation: Any) -> LossGrad:
    """The same and its derivatives, 0 where |x| > tau c."""
    xp, inside, outside, weights = _split(x, alpha, scale, weights, checked(truncation))
    library = xp.__name__.partition(".")[0]
    if library not in ("numpy", "cupy"):
        raise TypeError(
            f"nll_and_grad takes a truncation for arrays of NumPy and CuPy, and x is of {library}: differentiate "
            "nll(..., truncation=) instead"
        )
    found = _api.loss_and_grad(inside, alpha, scale, wrt=wrt)
    log_z, slope = _for_numbers(log_partition_and_grad, alpha, truncation)
    dtype = found.value.dtype
    with np.errstate(all="ignore"):  # a scale of 0 gives NaN
        added = LossGrad(_log(xp, scale) + log_z, 0.0, slope, 1 / scale)
    results: list[Any] = []
    for name, part, constant in zip(LossGrad._fields, found, added, strict=True):
        if part is None:
            results.append(None)
            continue
        part = xp.where(outside, math.inf if name == "value" else 0.0, _like(part + constant, dtype))
        if name == "value":
            results.append(_weighed(part, weights, reduction))
            continue
        part = _weighed(part, weights, "none")
        if reduction == "mean":
            part = part / _total(weights, part)
        if reduction != "none" and name != "dx":
            shape = getattr(alpha if name == "dalpha" else scale, "shape", ())
            part = xp.asarray(unbroadcast(part, shape)).reshape(shape)
        results.append(_like(part, dtype))
    return LossGrad(*results)


def _split(x: Any, alpha: Any, scale: Any, weights: Any, tau: float) -> tuple[Any, Any, Any, Any]:
    """The library; x with 0 instead of what is outside or has a weight of 0; what is outside; weights."""
    xp = backend(x, alpha, scale, weights).xp
    x = _array(xp, x)
    outside = unused = abs(x) > tau * scale
    if weights is not None:
        weights = _array(xp, weights) if not isinstance(weights, NUMBERS) else xp.full_like(x, weights)
        outside, unused = outside & (weights != 0), outside | (weights == 0)
    return xp, xp.where(unused, xp.zeros_like(x), x), outside, weights


def _log(xp: Any, scale: Any) -> Any:
    return math.log(scale) if isinstance(scale, NUMBERS) else xp.log(scale)


def _for_numbers(function: Any, alpha: Any, truncation: Any) -> Any:
    """With Python numbers as results for a number, so that they take the precision of x."""
    found = function(alpha, truncation)
    if not isinstance(alpha, NUMBERS):
        return found
    return tuple(map(float, found)) if isinstance(found, tuple) else float(found)


def _weighed(value: Any, weights: Any, reduction: str) -> Any:
    value = value if weights is None else value * weights
    if reduction == "none":
        return value
    return value.sum() if reduction == "sum" else value.sum() / _total(weights, value)


def _total(weights: Any, value: Any) -> Any:
    """The sum of the weights, each counted as often as it is used."""
    count = math.prod(value.shape)
    return count if weights is None else weights.sum() * (count / max(math.prod(weights.shape), 1))
