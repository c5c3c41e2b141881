"""The adaptive loss: a description without state, and parameters that are a plain pytree; how a scale is learned."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp

from .. import _api
from .. import _arguments as arguments
from .._call import check_reduction
from .._types import ArrayLike, DType
from ._arrays import array

DTypeLike: TypeAlias = "DType | type | str"  # what JAX takes for a dtype


def parameters(starts: dict[str, float], shape: int | Sequence[int], dtype: DTypeLike | None) -> dict[str, jax.Array]:
    """An array of that shape for each name, full of its number; of JAX's default dtype unless one is given."""
    try:
        dtype = jnp.result_type(float if dtype is None else dtype)  # not a weak type, which one step would change
        known = jnp.issubdtype(dtype, jnp.floating)
    except TypeError:
        known = False
    if not known:
        raise TypeError(f"dtype must be float16, bfloat16, float32 or float64, got {dtype}")
    try:
        return {name: jnp.full(shape, start, dtype) for name, start in starts.items()}
    except TypeError:
        raise TypeError(f"shape must be a length or a tuple of lengths, got {shape!r}") from None


def check_parameters(params: object, wanted: Iterable[str]) -> None:
    """Refuse what `init` has not made."""
    if not isinstance(params, dict) or not set(wanted) <= params.keys():
        raise ValueError(f"params must be those of init(), a dict with {sorted(wanted)}, got {params!r:.200}")
    for name in wanted:
        array(f"params[{name!r}]", params[name])


def learned_scale(params: dict[str, jax.Array], least: float, start: float) -> jax.Array | float:
    """least + (start - least) softplus(params["scale"] + log(e - 1)); a number where the two are equal."""
    if least == start:
        return start
    return least + (start - least) * jax.nn.softplus(params["scale"] + arguments.SHIFT)


@dataclasses.dataclass(frozen=True)
class AdaptiveLoss:
    """Mean negative log-likelihood of residuals under Barron's density, whose shape and scale are learned.

    `init` makes the parameters, `apply` evaluates; **give the parameters to the optimizer**, together with the model's.

    Parameters
    ----------
    alpha_range : (float, float)
        Bounds of alpha, 0 <= low <= high, (0, 2) unless given; equal ones fix it.
    alpha_init : float, optional
        Within the range; its middle unless given.
    scale_min, scale_init : float
        The lower bound of the scale and where it starts; equal ones fix it.
    reduction : {"none", "sum", "mean"}

    Raises
    ------
    ValueError
        For bounds that are not 0 <= low <= high, or alpha_init, scale_min, scale_init outside of them.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrobust.jax import AdaptiveLoss
    >>> x = jnp.linspace(-1, 1, 200)
    >>> y = (0.7 * x + 0.15 + 0.025 * jax.random.normal(jax.random.key(0), 200)).at[::10].add(3.0)
    >>> criterion = AdaptiveLoss()
    >>> params = {"line": jnp.zeros(2), "loss": criterion.init()}
    >>> @jax.jit
    ... def step(params):
    ...     def objective(p):
    ...         return criterion.apply(p["loss"], p["line"][0] * x + p["line"][1] - y)
    ...     slopes = jax.grad(objective)(params)
    ...     return jax.tree.map(lambda p, g: p - 0.02 * jnp.clip(g, -1, 1), params, slopes)
    >>> for _ in range(800):
    ...     params = step(params)
    >>> print(abs(params["line"] - jnp.array([0.7, 0.15])).max() < 0.02, criterion.scale(params["loss"]) < 0.05)
    True True
    """

    alpha_range: tuple[float, float] = arguments.ALPHA_RANGE
    alpha_init: float | None = None
    scale_min: float = 1e-5
    scale_init: float = 1.0
    reduction: Literal["none", "sum", "mean"] = "mean"

    def __post_init__(self) -> None:
        check_reduction(self.reduction)
        low, high, _ = arguments.alpha_range(self.alpha_range, self.alpha_init)
        object.__setattr__(self, "alpha_range", (low, high))  # a list would have no hash
        arguments.scale_range(self.scale_min, self.scale_init)

    def init(self, shape: int | Sequence[int] = (), dtype: DTypeLike | None = None) -> dict[str, jax.Array]:
        """Parameters "alpha" and "scale" of that shape, on the real line; what is fixed has none.

        The shape broadcasts with the residuals: () for one pair, (channels, 1, 1) for one for each channel of images.
        """
        low, high, start = arguments.alpha_range(self.alpha_range, self.alpha_init)
        starts = {"alpha": math.log((start - low) / (high - start))} if low < high else {}
        if self.scale_min < self.scale_init:
            starts["scale"] = 0.0
        return parameters(starts, shape, dtype)

    def alpha(self, params: dict[str, jax.Array]) -> jax.Array | float:
        """The shape parameters, low + (high - low) sigmoid(params["alpha"]); a number where fixed."""
        low, high = self.alpha_range
        return low + (high - low) * jax.nn.sigmoid(params["alpha"]) if low < high else low

    def scale(self, params: dict[str, jax.Array]) -> jax.Array | float:
        """The scales, min + (init - min) softplus(params["scale"] + log(e - 1)); a number where fixed."""
        return learned_scale(params, self.scale_min, self.scale_init)

    def apply(self, params: dict[str, jax.Array], x: ArrayLike, *, weights: ArrayLike | None = None) -> jax.Array:
        """The negative log-likelihood of the residuals x; weights (or a mask) as in `fastrobust.nll`.

        Of x's dtype promoted with that of the parameters; integers become JAX's default dtype. Of the shape to which x
        and the parameters broadcast, or () if reduced. TypeError and ValueError name the argument that is refused.
        """
        check_parameters(params, self.init())
        weights = None if weights is None else array("weights", weights)
        return _api.nll(
            array("x", x), self.alpha(params), self.scale(params), reduction=self.reduction, weights=weights
        )
