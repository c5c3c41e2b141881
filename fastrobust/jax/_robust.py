"""The loss with a fixed shape and scale: a description that is a static argument, and a function of residuals."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .. import _api
from .. import _arguments as arguments
from .._call import check_reduction
from .._types import ArrayLike
from ..kernels.losses.catalogue import LOSS
from ._arrays import array


def _constant(name: str, value: ArrayLike) -> float | tuple[Any, ...]:
    """A number, or tuples of numbers: arrays have no hash."""
    if not isinstance(value, arguments.NUMBERS):
        with jax.ensure_compile_time_eval():  # else a list in a program would be traced
            array(name, value)  # or an error; its digits may be fewer than those of the value
        try:
            value = np.asarray(value, np.float64).tolist()
        except jax.errors.TracerArrayConversionError:
            raise TypeError(f"{name} is traced, and not fixed: give it to fastrobust.jax.loss") from None
    return _tuple(value)


def _tuple(nested: Any) -> Any:
    """Tuples in place of lists, at every depth; a number as it is."""
    return tuple(map(_tuple, nested)) if isinstance(nested, list) else nested


@dataclasses.dataclass(frozen=True)
class RobustLoss:
    """General robust loss rho(x, alpha, scale) with a fixed shape and scale, a function of the residuals x.

    It has no parameters and may be a static argument of `jax.jit`; equal ones have equal hashes.

    Parameters
    ----------
    alpha, scale : float or array_like, broadcast with the residuals
        See `fastrobust.loss`. Numbers take the dtype of the residuals, arrays have JAX's default dtype and are kept as
        tuples of numbers.
    reduction : {"none", "sum", "mean"}

    Raises
    ------
    TypeError
        For arrays that are traced: what is not fixed is an argument of `fastrobust.jax.loss`.
    ValueError
        For a number ``scale <= 0`` and an unknown reduction.

    Notes
    -----
    The formula, its source and its accuracy stand with `fastrobust.loss`. Differentiable to every order.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrobust.jax import RobustLoss
    >>> criterion = RobustLoss(alpha=0.0, scale=0.5)
    >>> [round(float(slope), 4) for slope in jax.grad(criterion)(jnp.array([0.0, 0.5, 50.0]))]
    [0.0, 0.4444, 0.0133]
    """

    alpha: ArrayLike = 1.0
    scale: ArrayLike = 1.0
    reduction: Literal["none", "sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        check_reduction(self.reduction)
        for name in ("alpha", "scale"):
            object.__setattr__(self, name, _constant(name, getattr(self, name)))
        arguments.check_numbers(LOSS, (0.0, self.alpha, self.scale))

    def __call__(self, x: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
        """The loss of the residuals x; weights (or a mask) as in `fastrobust.loss`.

        Of x's dtype promoted with that of alpha and scale where they are arrays; integers become JAX's default dtype.
        Of the shape to which the three broadcast, or () if reduced.
        """
        alpha, scale = (jnp.asarray(p) if isinstance(p, tuple) else p for p in (self.alpha, self.scale))
        weights = None if weights is None else array("weights", weights)
        return _api.loss(array("x", x), alpha, scale, reduction=self.reduction, weights=weights)
