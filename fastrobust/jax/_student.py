"""Student's t with learned degrees of freedom and scale: a description, and parameters that are a plain pytree."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

from .. import _arguments as arguments
from .._call import check_reduction
from .._types import ArrayLike, DType
from ..kernels.losses import student_t
from ..kernels.losses.catalogue import LOSS
from . import _autodiff, _totals
from ._adaptive import DTypeLike, check_parameters, learned_scale, parameters

_OPERANDS = "x", "df", "scale"


@dataclasses.dataclass(frozen=True)
class StudentTLoss:
    """Mean negative log-likelihood of residuals under Student's t, whose degrees of freedom and scale are learned.

    `init` makes the parameters, `apply` evaluates; give the parameters to the optimizer, as those of `AdaptiveLoss`.

    Parameters
    ----------
    scale_min, scale_init : float
        The lower bound of the scale and where it starts; equal ones fix it.
    reduction : {"none", "sum", "mean"}

    Raises
    ------
    TypeError
        In `init` for another dtype than of floating point.
    ValueError
        For scales that are not 0 < scale_min <= scale_init, and an unknown reduction.

    Notes
    -----
    log Gamma(df/2) - log Gamma((df + 1)/2) + log(pi df)/2 + log c + (df + 1)/2 log(1 + x^2/(df c^2)), without the
    cancellation of the first two: within 4e-7 of the true value in float32 and 2e-15 in float64, for df from 0.02 to
    10^7. Source: K. L. Lange, R. J. A. Little, J. M. G. Taylor, Robust Statistical Modeling Using the t Distribution,
    JASA 84, 1989.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from fastrobust.jax import StudentTLoss
    >>> criterion = StudentTLoss()
    >>> params = criterion.init()
    >>> print(criterion.df(params), criterion.scale(params))
    1.0 1.0
    >>> print(f"{criterion.apply(params, jnp.array([0.0, 1.0])):.5f}")  # Cauchy's: log(pi) + log(2)/2
    1.49130
    """

    scale_min: float = 1e-5
    scale_init: float = 1.0
    reduction: Literal["none", "sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        check_reduction(self.reduction)
        arguments.scale_range(self.scale_min, self.scale_init)

    def init(self, shape: int | Sequence[int] = (), dtype: DTypeLike | None = None) -> dict[str, jax.Array]:
        """Parameters "df" and "scale" of that shape, on the real line; a fixed scale has none.

        The shape broadcasts with the residuals, as in `AdaptiveLoss`. The degrees of freedom start at 1.
        """
        names = ("df",) if self.scale_min == self.scale_init else ("df", "scale")
        return parameters(dict.fromkeys(names, 0.0), shape, dtype)

    def df(self, params: dict[str, jax.Array]) -> jax.Array:
        """The degrees of freedom, exp(params["df"])."""
        return jnp.exp(params["df"])

    def scale(self, params: dict[str, jax.Array]) -> jax.Array | float:
        """The scales, min + (init - min) softplus(params["scale"] + log(e - 1)); a number where fixed."""
        return learned_scale(params, self.scale_min, self.scale_init)

    def apply(self, params: dict[str, jax.Array], x: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
        """The negative log-likelihood of the residuals x; weights (or a mask) as in `fastrobust.nll`.

        Of x's dtype promoted with that of the parameters; integers become JAX's default dtype. Of the shape to which x
        and the parameters broadcast, or () if reduced. TypeError and ValueError name the argument that is refused.
        """
        check_parameters(params, self.init())
        dtype, args = _autodiff._converted(_OPERANDS, (x, self.df(params), self.scale(params)))
        _autodiff._shape(_OPERANDS, args)
        if weights is not None:
            weights = _autodiff._weights(_OPERANDS, weights, args, self.reduction == "mean")
        return _reduced(self.reduction, dtype, weights, *args)


@functools.partial(jax.jit, static_argnums=(0, 1), inline=True)
def _reduced(
    reduction: str, dtype: DType, weights: jax.Array | None, x: jax.Array, df: jax.Array, scale: jax.Array
) -> jax.Array:
    """The negative log-likelihood of each element, or its sum or mean; compiled once for each reduction and dtype."""
    if weights is not None:  # as `_totals.masked`
        none = weights == 0
        x = jnp.where(none, 0.0, x)
        df, scale = (p if p.size == 1 else jnp.where(none, 1.0, p) for p in (df, scale))
    constant = student_t.log_normalization(jnp, df) + jnp.log(scale)
    value = student_t.log_tail(jnp, x, df, scale) + constant
    if reduction != "none":
        (value,) = _totals.total(LOSS, (value,), (), reduction == "mean", (x, df, scale), weights)
    elif weights is not None:
        value = jnp.where(weights == 0, 0.0, value * weights)
    return value.astype(dtype)
