"""The Kullback-Leibler divergence of distributions over classes by their logits, a loss of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ._row_loss import Call, Task, derivatives_of, value_of
from ._row_operations import Operations
from .kernels.losses import divergence
from .kernels.losses.cross_entropy import LOG_SUM_EXP

if TYPE_CHECKING:
    from ._types import ArrayLike
    from .kernels.losses.rowwise import RowDefinition

__all__ = ["KlLogits", "KlLogitsGrad", "kl_logits"]


class KlLogitsGrad(NamedTuple):
    """The loss and its derivatives; None for those that were not asked for."""

    value: Any
    dx: Any
    dtarget: Any


class KlLogits:
    """The Kullback-Leibler divergence of two distributions by their logits: sum p_k log(p_k/q_k) for each row.

    Parameters
    ----------
    x : array_like, real
        Logits of q = softmax(x), what is learned, along ``axis``. The result has the dtype of both, float64 for
        integers.
    target : array_like
        Logits of p = softmax(target), such as a teacher's; a class of -inf counts nothing.
    axis : int
        Where the classes are. Default: the last.
    weights : array_like, optional
        A factor for each row, broadcast to the rows; one of 0 excludes it, whatever it holds.
    reduction : {"none", "sum", "mean"}
        "mean" divides by the sum of the weights, so by the number of rows: of data of shape (N, K) PyTorch calls that
        "batchmean", which divides by the first axis alone otherwise.

    Returns
    -------
    array of the rows' shape, or a number

    Notes
    -----
    For distillation with a temperature T (Hinton et al. 2015) give both logits over T, and multiply by T^2. Other
    implementations subtract logarithms of probabilities, which leaves noise, or less than 0, of a divergence below 1e-7
    in float32. Here all terms are positive, and q - p, the derivative, keeps its digits as well, to a double's unit of
    the largest difference of logits. Arrays of NumPy and CuPy, and plain tensors, are evaluated in double: the loss
    is right to 1 unit in the last place in float32, and in float64 to some 2 for each unit of the largest log p, whose
    exponential shows them, and to those of the differences of logits. Tensors and arrays of JAX are differentiated to
    any order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust import losses
    >>> teacher, student = np.array([[1.0, 0.0]]), np.array([[1.0 + 1e-9, 0.0]])
    >>> losses.kl_logits(student, teacher)
    array([9.83059829e-20])
    """

    __name__ = __qualname__ = "kl_logits"

    def __call__(
        self,
        x: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
    ) -> Any:
        """The loss of each row, or their sum or mean; see ``help(losses.kl_logits)``."""
        return value_of(_TASK, (x, target), (), Call(axis, weights, reduction))

    def value_and_grad(
        self,
        x: ArrayLike,
        target: ArrayLike,
        *,
        axis: int = -1,
        weights: ArrayLike | None = None,
        reduction: str = "none",
        wrt: Sequence[str] = ("x", "target"),
    ) -> KlLogitsGrad:
        """The loss and its derivatives, in one pass.

        Parameters
        ----------
        wrt : sequence of str
            Some of "x" and "target". The others are those of a call.
        """
        return KlLogitsGrad(*derivatives_of(_TASK, (x, target), (), Call(axis, weights, reduction), wrt))

    def __repr__(self) -> str:
        return "<loss kl_logits(x, target)>"

    def __reduce__(self) -> str:
        return "kl_logits"


kl_logits = KlLogits()


def _definition(kernels: Any, data: list[Any]) -> tuple[RowDefinition, list[Any]]:
    """The definition, and of each row the logarithms of both sums and the mean difference."""
    x, target = data
    wanted = (LOG_SUM_EXP, [x]), (LOG_SUM_EXP, [target]), (divergence.MEAN_DIFFERENCE, [target, x])
    numbers = [kernels.of_rows(definition, given, None, [], 1.0, None).value for definition, given in wanted]
    return divergence.DIVERGENCE, numbers


def _composed(library: Operations, data: list[Any], numbers: list[Any]) -> Any:
    """The same in operations of a library."""
    xp, (x, t) = library.xp, data
    log_p = t - library.logsumexp(t, -1)[..., None]
    p = xp.exp(log_p)
    d = xp.where(p == 0, xp.zeros_like(x), x - t)
    mean = (p * d).sum(-1)
    far = (library.logsumexp(x, -1) - library.logsumexp(t, -1)) - mean
    is_near = far < divergence.NEAR
    u = xp.where(is_near[..., None], d - mean[..., None], xp.zeros_like(d))
    usual = u < 1
    small = xp.where(usual, u, xp.zeros_like(u))
    large = xp.where(usual, xp.zeros_like(u), u)
    terms = xp.where(usual, p * _expm1mx(xp, small), xp.exp(log_p + large) - p * (1 + large))
    near = xp.log1p(xp.where(p == 0, xp.zeros_like(p), terms).sum(-1))
    return xp.where(is_near, near, far)


def _expm1mx(xp: Any, u: Any) -> Any:
    """expm1(u) - u, by its series where that would cancel."""
    is_small = abs(u) < 0.3
    z = xp.where(is_small, u, xp.zeros_like(u))
    series = xp.ones_like(z)
    for k in range(14, 2, -1):
        series = 1 + z * series / k
    return xp.where(is_small, 0.5 * z * z * series, xp.expm1(u) - u)


_TASK = Task("kl_logits", ("x", "target"), (), _definition, _composed)
