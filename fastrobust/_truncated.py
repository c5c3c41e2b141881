"""The density cut off at |x| = truncation * c: its partition function and likelihood, which exist for every alpha.

    Z(alpha, tau) = int_{-tau}^{tau} exp(-rho(x, alpha, 1)) dx

Source: N. Chebrolu et al., Adaptive Robust Kernels for Non-Linear Least Squares Problems, RA-L 2021, arXiv 2004.14938.
By quadrature over the public functions, for any array library, so that what differentiates `loss` differentiates this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from . import _evaluate
from ._arguments import NUMBERS, broadcast, check_numbers, number, supported, unbroadcast
from ._dispatch import backend, common
from ._types import Array, ArrayLike, LossGrad, Namespace, PartitionGrad
from .kernels.arithmetic import scaling
from .kernels.losses.catalogue import LOG_PARTITION, LOSS, NLL
from .kernels.losses.definition import Definition
from .kernels.losses.inverse import where_loss_is
from .kernels.losses.truncation import rule

if TYPE_CHECKING:
    import torch

_Array: TypeAlias = "Array | torch.Tensor"  # what any of the libraries has

_LONGEST = 1e280  # beyond, the nodes would overflow; the integral is that to here, or infinite where it grows with tau


def _loss(x: _Array, alpha: _Array | float, scale: _Array | float) -> Any:
    """The loss rho of each element, by the backend of x."""
    return _evaluate.value_of("loss", (x, alpha, scale), "none", None, {})


def _loss_and_grad(x: _Array, alpha: _Array | float, scale: _Array | float, wrt: Sequence[str]) -> LossGrad:
    """The loss of each element with its derivatives, None where they are not wanted."""
    return LossGrad(*_evaluate.value_and_grad("loss", (x, alpha, scale), "none", None, wrt, None))


def checked(truncation: float) -> float:
    """The truncation as a float, or an error unless it is a positive number."""
    real = isinstance(truncation, (*NUMBERS, np.floating, np.integer)) and not isinstance(truncation, bool)
    if not (real and truncation > 0):
        raise ValueError(f"truncation must be a positive number, in units of the scale, got {truncation!r}")
    return number(truncation)


def _wide(xp: Namespace, array: Any) -> Any:
    """The array in double; in JAX in float32 at least, since doubles may be switched off there."""
    if xp.__name__ == "torch":
        return array.double()
    return array.astype(xp.promote_types(array.dtype, "float32") if xp.__name__ == "jax.numpy" else np.float64)


def _like(array: _Array, dtype: Any) -> _Array:
    """The array in that dtype of its library."""
    return array.to(dtype) if hasattr(array, "to") else array.astype(dtype)


def _array(xp: Namespace, value: Any) -> _Array:
    """Numbers and lists as arrays, where the library's own arrays are not made of them."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = number(value)  # an integer may be too large for every dtype
    return xp.asarray(value) if isinstance(value, (*NUMBERS, list, tuple)) or np.isscalar(value) else value


def _opened(definition: Definition, operands: tuple[ArrayLike, ...], weights: ArrayLike | None = None) -> Any:
    """Containers as plain arrays, and what labels results; None where there are none."""
    target = common(definition.operands, operands, weights)
    return target.opened(definition, operands, weights) if hasattr(target, "opened") else None


class _Prepared(NamedTuple):
    """The integral over x at scale 1: alpha in double, with an axis for the nodes; the nodes and their weights."""

    xp: Namespace
    alpha: _Array
    nodes: _Array
    weights: _Array
    dtype: object  # of the result: alpha's, unless that is an integer


def _prepared(alpha: Any, tau: float) -> _Prepared:
    """alpha with an axis for the nodes; where exp(-rho) is nothing, rho and its slopes stay finite."""
    xp = backend(alpha, "alpha").xp
    alpha = _array(xp, alpha)
    supported("alpha", np.dtype(str(alpha.dtype).removeprefix("torch.").replace("bfloat16", "float32")))
    wide = _wide(xp, alpha)[..., None]
    dtype = alpha.dtype if "float" in str(alpha.dtype) else wide.dtype
    if xp.__name__ == "torch":
        x, weights = (xp.tensor(part.tolist(), dtype=wide.dtype, device=alpha.device) for part in rule(tau))
    else:
        x, weights = (xp.asarray(part, dtype=wide.dtype) for part in rule(tau))
    # Beyond, derivatives would overflow.
    end = where_loss_is(xp, wide.detach() if hasattr(wide, "detach") else wide, 740.0)
    return _Prepared(xp, wide, xp.where(x < end, x, end), weights, dtype)


def log_partition(alpha: ArrayLike, truncation: float) -> Any:
    """The logarithm of Z(alpha, tau), in alpha's dtype; that of Z(alpha) where tau is too large for the quadrature."""
    tau = checked(truncation)
    if tau > _LONGEST:
        return _evaluate.value_of("log_partition", (alpha,), "none", None, {})
    if opened := _opened(LOG_PARTITION, (alpha,)):
        (alpha,) = opened.operands
        return opened.each(log_partition(alpha, truncation))
    xp, wide, x, weights, dtype = _prepared(alpha, tau)
    total = (weights * xp.exp(-_loss(x, wide, 1.0))).sum(-1)
    return _scalar(_like(xp.log(2 * total) + math.log(tau), dtype))


def log_partition_and_grad(alpha: ArrayLike, truncation: float) -> PartitionGrad:
    """The logarithm of Z(alpha, tau) and its derivative -E d rho/d alpha."""
    tau = checked(truncation)
    if tau > _LONGEST:
        return PartitionGrad(*_evaluate.value_and_grad("log_partition", (alpha,), "none", None, ("alpha",), None))
    if opened := _opened(LOG_PARTITION, (alpha,)):
        (alpha,) = opened.operands
        return PartitionGrad(*opened.each(log_partition_and_grad(alpha, truncation)))
    xp, wide, x, weights, dtype = _prepared(alpha, tau)
    rho = _loss_and_grad(x, wide, 1.0, ("alpha",))
    density = weights * xp.exp(-rho.value)
    total = density.sum(-1)
    slope = -(density * rho.dalpha).sum(-1) / total
    return PartitionGrad(_scalar(_like(xp.log(2 * total) + math.log(tau), dtype)), _scalar(_like(slope, dtype)))


def nll(
    x: ArrayLike, alpha: ArrayLike, scale: ArrayLike, reduction: str, weights: ArrayLike | None, truncation: float
) -> Any:
    """The negative log-likelihood rho + log c + log Z(alpha, tau), inf where |x| > tau c."""
    if opened := _opened(NLL, (x, alpha, scale), weights):
        x, alpha, scale = opened.operands
        plain = nll(x, alpha, scale, reduction, opened.weights, truncation)
        return plain if reduction != "none" else opened.each(plain)
    check_numbers(LOSS, (x, alpha, scale))
    split = _split(x, alpha, scale, weights, checked(truncation))
    xp = split.xp
    rho = _loss(split.inside, split.alpha, split.scale)
    constant = _log(xp, split.scale) + _for_numbers(log_partition, split.alpha, truncation)
    wide = xp.where(split.outside, math.inf, _wide(xp, rho) + constant)
    return _scalar(_like(_weighed(xp, wide, split.weights, reduction), rho.dtype))


def nll_and_grad(
    x: ArrayLike,
    alpha: ArrayLike,
    scale: ArrayLike,
    reduction: str,
    weights: ArrayLike | None,
    wrt: Sequence[str],
    truncation: float,
) -> LossGrad:
    """The likelihood of `nll` and its derivatives, 0 where |x| > tau c.

    The loss and its derivatives come from `loss_and_grad`.  To each is added, in double, what log c + log Z(alpha, tau)
    contributes to it, before it is weighted and summed.
    """
    if opened := _opened(NLL, (x, alpha, scale), weights):
        x, alpha, scale = opened.operands
        plain = nll_and_grad(x, alpha, scale, reduction, opened.weights, wrt, truncation)
        return LossGrad(*(opened.each(plain) if reduction == "none" else opened.reduced(NLL, plain)))
    check_numbers(LOSS, (x, alpha, scale))
    split = _split(x, alpha, scale, weights, checked(truncation))
    xp, alpha, scale, weights = split.xp, split.alpha, split.scale, split.weights
    library = xp.__name__.partition(".")[0]
    if library not in ("numpy", "cupy"):
        raise TypeError(
            f"nll_and_grad takes a truncation for arrays of NumPy and CuPy, and x is of {library}: differentiate "
            "nll(..., truncation=) instead"
        )
    rho = _loss_and_grad(split.inside, alpha, scale, wrt)
    log_z, slope = _for_numbers(log_partition_and_grad, alpha, truncation)
    with np.errstate(all="ignore"):  # elements of scale that are 0
        added = LossGrad(_log(xp, scale) + log_z, 0.0, slope, 1 / scale)
    parts: list[_Array | None] = []
    count: _Array | float = 1
    if reduction == "mean":
        with np.errstate(all="ignore"):
            relative = None if weights is None else _lifted(xp, weights, rho.value)
            count = math.prod(rho.value.shape) if relative is None else _divisor(xp, relative, rho.value)
    for name, part, constant in zip(LossGrad._fields, rho, added, strict=True):
        if part is None:
            parts.append(None)
            continue
        wide = xp.where(split.outside, math.inf if name == "value" else 0.0, _wide(xp, part) + constant)
        if name == "value":
            wide = _weighed(xp, wide, weights, reduction)
        else:
            wide = _weighed(xp, wide, relative if reduction == "mean" else weights, "none") / count
            if reduction != "none" and name != "dx":
                shape = split.shapes[name]
                wide = xp.asarray(unbroadcast(wide, shape)).reshape(shape)
        parts.append(_scalar(_like(xp.asarray(wide), rho.value.dtype)))
    return LossGrad(*parts)


class _Split(NamedTuple):
    """The arguments as arrays or numbers, x and parameters harmless where the weight is 0."""

    xp: Namespace
    inside: _Array
    outside: _Array
    alpha: _Array | float
    scale: _Array | float
    weights: _Array | None
    shapes: dict[str, tuple[int, ...]]  # of the parameters' gradients, when summed


def _split(x: Any, alpha: Any, scale: Any, weights: Any, tau: float) -> _Split:
    """The arguments checked, and cut into what lies within tau c and what does not; what has no weight is neither."""
    xp = common(LOSS.operands, (x, alpha, scale), weights).xp
    x, weights = _array(xp, x), None if weights is None else _array(xp, weights)
    alpha, scale = (v if isinstance(v, NUMBERS) else _array(xp, v) for v in (alpha, scale))
    for name, value in (("x", x), ("alpha", alpha), ("scale", scale), ("weights", weights)):
        if isinstance(getattr(value, "dtype", None), np.dtype):
            supported(name, value.dtype)
    shapes = {"dalpha": getattr(alpha, "shape", ()), "dscale": getattr(scale, "shape", ())}
    _check_shapes(xp, weights, x=x, alpha=alpha, scale=scale)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        outside = unused = (abs(x) > tau * scale) & (scale > 0)
    if weights is not None:
        zero = weights == 0
        outside, unused = outside & ~zero, outside | zero
        alpha, scale = (v if isinstance(v, NUMBERS) else xp.where(zero, xp.ones_like(v), v) for v in (alpha, scale))
    return _Split(xp, xp.where(unused, xp.zeros_like(x), x), outside, alpha, scale, weights, shapes)


def _check_shapes(xp: Namespace, weights: _Array | None, **values: _Array | float) -> None:
    """Refuse shapes that do not fit, and weights that would extend the result."""
    arrays = {name: value for name, value in values.items() if not isinstance(value, NUMBERS)}
    if any(type(n) is not int for a in arrays.values() for n in a.shape):  # symbols of JAX's or of PyTorch's tracers
        together, shape = xp.broadcast_shapes, tuple(xp.broadcast_shapes(*(a.shape for a in arrays.values())))
    else:
        together, shape = np.broadcast_shapes, broadcast(arrays, arrays.values())
    if weights is None:
        return
    try:
        fits = tuple(together(shape, tuple(weights.shape))) == tuple(shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"weights of shape {tuple(weights.shape)} do not broadcast to the shape {shape} of the result")


def _log(xp: Namespace, scale: _Array | float) -> Any:
    """The logarithm of the scale; without a warning NaN or infinite where an element is not positive."""
    if isinstance(scale, NUMBERS):
        return math.log(scale)
    with np.errstate(all="ignore"):
        return xp.log(_wide(xp, scale))


def _for_numbers(function: Callable[[ArrayLike, float], Any], alpha: _Array | float, truncation: float) -> Any:
    """The function of alpha; for a number, numbers, so that they take the precision of x."""
    log_z = function(alpha, truncation)  # with its derivative in a tuple, if that is what the function gives
    if not isinstance(alpha, NUMBERS):
        return log_z
    return tuple(map(float, log_z)) if isinstance(log_z, tuple) else float(log_z)


@np.errstate(all="ignore")
def _weighed(xp: Namespace, value: _Array, weights: _Array | None, reduction: str) -> Any:
    """The elements times their weights, or the sum of these, or the mean by the weights; all in double."""
    if reduction == "none":
        return value if weights is None else value * _wide(xp, weights)
    count: _Array | float = math.prod(value.shape) if reduction == "mean" else 1
    if weights is not None:
        weights = _lifted(xp, weights, value) if reduction == "mean" else _wide(xp, weights)
        count = _divisor(xp, weights, value) if reduction == "mean" else 1
        value = value * weights
    return scaling.divided(xp, value.sum(), (value * scaling.APART).sum(), count)


def _lifted(xp: Namespace, weights: _Array, value: _Array) -> _Array:
    """Weights of a mean times a power of two, such that they sum to about 1: see `kernels.arithmetic.scaling`."""
    wide = _wide(xp, weights)
    if not math.prod(value.shape):
        return wide
    wide = wide * scaling.inverse_power(xp, abs(wide).max())  # so that the sum is in reach
    return wide * scaling.inverse_power(xp, abs(_total(wide, value)))


def _divisor(xp: Namespace, weights: _Array, value: _Array) -> _Array:
    """The sum of the weights, by which a mean is divided; NaN where they cancel."""
    total = _total(weights, value)
    return xp.where(total == 0, math.nan, total)


def _total(weights: _Array, value: _Array) -> _Array:
    """The sum of the weights, each counted as often as it is used."""
    return weights.sum() * (math.prod(value.shape) / max(math.prod(weights.shape), 1))


def _scalar(array: _Array) -> _Array:
    """A NumPy scalar for a NumPy array without axes, as the other functions return."""
    return array[()] if type(array) is np.ndarray and not array.ndim else array
