"""Activations that Barron's shape alpha bends: the more convex a loss is, the less a network need be.

They are made of the power transform f(x, lambda) of Barron (2025, arXiv 2502.10647), of which the general robust loss
is rho(x, alpha, c) = f((x/c)^2/2, lambda), lambda = (alpha - 2)/max(2, alpha), so that the kernels of the loss serve
them on all libraries.  With alpha = 2 each is the identity.

>>> import numpy as np
>>> from fastrobust.activations import elu
>>> elu(np.array([-3.0, -1.0, 2.0]), 0.0).round(6)  # alpha = 0: -log(1 - x) below 0
array([-1.386294, -0.693147,  2.      ])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from . import _api
from ._sums import narrowed, taken

if TYPE_CHECKING:
    from ._types import ArrayLike

__all__ = ["ActivationGrad", "elu", "elu_and_grad", "symmetric", "symmetric_and_grad"]

_TINY = 2.0**-100  # up to which f(x, lambda) is x


class ActivationGrad(NamedTuple):
    """An activation and its derivatives, for each element."""

    value: Any
    dx: Any
    dalpha: Any


def elu(x: ArrayLike, alpha: ArrayLike) -> Any:
    """x for x >= 0, else -f(-x, lambda(alpha)): an exponential linear unit whose bend is learned.

    Parameters
    ----------
    x : array_like, any shape
    alpha : array_like or float, broadcast with x
        2 the identity, 1 a square root, 1 - sqrt(1 - 2x), 0 a logarithm, -log(1 - x), -inf the usual ELU, exp(x) - 1.

    Returns
    -------
    array
        Of x's library and dtype; float64 for integers.

    Raises
    ------
    TypeError
        For arrays of other libraries than NumPy, CuPy, PyTorch and JAX.

    Notes
    -----
    The slope at 0 is 1. Errors are below 3 units in the last place in float32 and 6 in float64, up to 2 - alpha more in
    the slope and 4 more than that in the derivative in alpha, since a root is rounded first. Tensors and arrays of JAX
    are differentiated, in alpha, too; its derivative is infinite at alpha = 2, so learn within (0, 1.999). For arrays
    of NumPy and CuPy see `elu_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.activations import elu
    >>> elu(np.array([-1.0]), -np.inf).round(6)
    array([-0.632121])
    """
    target, half, given = taken(x, "activations")
    xp = target.xp
    bent = given < 0
    value = _api.loss(xp.sqrt(2 * xp.where(bent, -given, 0.5)), alpha, 1.0)
    return narrowed(xp.where(bent, -value, given), half)


def elu_and_grad(x: ArrayLike, alpha: ArrayLike) -> ActivationGrad:
    """`elu` and its derivatives in x and alpha, for each element, of arrays of NumPy and CuPy, or without a graph.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.activations import elu_and_grad
    >>> elu_and_grad(np.array([-3.0, 1.0]), 0.0).dx
    array([0.25, 1.  ])
    """
    target, half, given = taken(x, "activations")
    xp = target.xp
    bent = given < 0
    one = xp.ones_like(given)
    found, slope = _bent(xp, xp.where(bent, -given, 0.5 * one), alpha)
    parts = xp.where(bent, -found.value, given), xp.where(bent, slope, one), xp.where(bent, -found.dalpha, 0 * one)
    return ActivationGrad(*(narrowed(part, half) for part in parts))


def symmetric(x: ArrayLike, alpha: ArrayLike) -> Any:
    """sign(x) f(abs(x), lambda(alpha)): from the identity by a signed square root and logarithm to a bounded one.

    Parameters and notes as of `elu`: alpha = 0 is the signed logarithm sign(x) log(1 + abs(x)), -inf is bounded by 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.activations import symmetric
    >>> symmetric(np.array([-3.0, 0.0, 3.0]), 0.0).round(6)
    array([-1.386294,  0.      ,  1.386294])
    """
    target, half, given = taken(x, "activations")
    xp = target.xp
    is_usual = abs(given) > _TINY
    value = _api.loss(xp.sqrt(2 * xp.where(is_usual, abs(given), 0.5)), alpha, 1.0)
    return narrowed(xp.where(is_usual, xp.where(given < 0, -value, value), given), half)


def symmetric_and_grad(x: ArrayLike, alpha: ArrayLike) -> ActivationGrad:
    """`symmetric` and its derivatives in x and alpha, as `elu_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastrobust.activations import symmetric_and_grad
    >>> symmetric_and_grad(np.array([-3.0, 0.0]), 0.0).dx
    array([0.25, 1.  ])
    """
    target, half, given = taken(x, "activations")
    xp = target.xp
    is_usual = abs(given) > _TINY
    one = xp.ones_like(given)
    found, slope = _bent(xp, xp.where(is_usual, abs(given), 0.5 * one), alpha)
    sign = xp.where(given < 0, -one, one)
    parts = (
        xp.where(is_usual, sign * found.value, given),
        xp.where(is_usual, slope, one),
        xp.where(is_usual, sign * found.dalpha, 0 * one),
    )
    return ActivationGrad(*(narrowed(part, half) for part in parts))


def _bent(xp: Any, y: Any, alpha: Any) -> tuple[Any, Any]:
    """The loss that is f(y), with its derivative in alpha, and the slope of f: the weight of such a residual."""
    z = xp.sqrt(2 * y)
    return _api.loss_and_grad(z, alpha, 1.0, wrt=("alpha",)), _api.weight(z, alpha, 1.0)
