"""Barron's distribution for JAX, with the interface of NumPyro's distributions, which it does not need."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .. import _api, _density
from .. import _arguments as arguments
from .._types import ArrayLike
from ..kernels.losses.catalogue import NLL
from . import _namespace, _private
from ._arrays import array

_NAMES = ("alpha", "loc", "scale")
_Integral: TypeAlias = Callable[..., jax.Array]  # a function of arrays, the last of which is alpha
_Two: TypeAlias = tuple[jax.Array, jax.Array]  # arguments, or their tangents, which may be symbolic zeros


class _Constraint:
    """A constraint as NumPyro has them, which says where values may lie; used until NumPyro is imported."""

    event_dim, is_discrete = 0, False

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, x: jax.Array | float) -> jax.Array:
        if self.name == "real":
            return jnp.isfinite(x)
        return jnp.asarray(x) > 0 if self.name == "positive" else jnp.asarray(x) >= 0

    def __repr__(self) -> str:
        return self.name


def _constraint(name: str) -> Any:
    """NumPyro's constraint of that name, by which it finds transformations; ours where NumPyro is not imported."""
    theirs = sys.modules.get("numpyro.distributions.constraints")
    return _Constraint(name) if theirs is None else getattr(theirs, name)


@jax.tree_util.register_pytree_with_keys_class
class Barron:
    """The distribution with density exp(-rho(x - loc, alpha, scale)) / (scale Z(alpha)).

    alpha = 2 is the normal, 1 a smoothed Laplace, 0 Student's t with one degree of freedom (Cauchy's, sqrt(2) times as
    wide); beyond 2 the tails are lighter than the normal's.

    Parameters
    ----------
    alpha : float or array
        Shape, >= 0; infinity is one. A number below 0 is an error.
    loc : float or array
        The centre, of which the density is symmetric.
    scale : float or array
        c > 0. A number <= 0 is an error. Such elements of arrays, and those of alpha below 0, give NaN, and `log_prob`
        what -`nll` does.

        The three broadcast. Numbers and integers take the dtype of the arrays of floating point, and JAX's default
        dtype where there are none.

    Attributes
    ----------
    alpha, loc, scale : array
        The leaves of this pytree, each of its own shape: ``vmap`` over a distribution maps all three.
    mean, mode, variance, stddev : array
        Of the shape batch_shape, as `cdf` and the others where the value has no axes.
    batch_shape, event_shape, event_dim
        The shape to which the parameters broadcast, and those of a single draw, () and 0.
    support, arg_constraints, is_discrete, has_rsample, has_enumerate_support, reparametrized_params
        As NumPyro has them; the constraints are NumPyro's once that is imported.

    Raises
    ------
    TypeError
        For parameters and values of which JAX makes no array of real numbers, for what is no random key, no shape.
    ValueError
        For numbers ``alpha < 0`` and ``scale <= 0``, and shapes that do not broadcast, of values too.

    Notes
    -----
    `numpyro.sample` takes it as one of NumPyro's. `sample` rejects from Cauchy's distribution, of which a third to all
    of the draws are kept, and its samples can be differentiated in all three parameters, in alpha implicitly through
    the distribution function, as `icdf`. `cdf`, `icdf`, `entropy` and `variance` integrate numerically, in the
    precision of the parameters: in float64, which JAX has where one switches it on, `cdf` is right to 1e-14 of itself,
    in the tails to about rho times 1e-16. In float32: `cdf` to 5e-7, and rho times that; `entropy` to 5e-7; `icdf` to
    3e-5, next to the median to 1e-6 times the scale; `variance` to 2e-6 from alpha = 0.1 on and 1e-4 below.
    Everything has derivatives of every order, but those that need a third derivative of log Z, which
    are refused. Source: J. T. Barron, CVPR 2019, section 2.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from fastrobust.jax import Barron
    >>> normal = Barron(2.0)
    >>> print(f"{normal.log_prob(1.0):.5f} {normal.cdf(1.0):.5f} {normal.icdf(0.975):.5f}")
    -1.41894 0.84134 1.95996
    >>> noise = Barron(jnp.array([0.5, 1.0, 2.0]), loc=3.0, scale=0.5)
    >>> noise.sample(jax.random.key(0), (1000,)).shape
    (1000, 3)
    >>> slopes = jax.grad(lambda d: d.log_prob(4.0).sum())(noise)
    >>> slopes.alpha.shape, slopes.loc.shape
    ((3,), ())
    """

    event_shape: tuple[int, ...] = ()
    event_dim = 0
    is_discrete = False
    has_enumerate_support = False
    has_rsample = True
    reparametrized_params = list(_NAMES)

    alpha: jax.Array
    loc: jax.Array
    scale: jax.Array

    def __init__(self, alpha: ArrayLike, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0) -> None:
        arguments.check_numbers(NLL, (0.0, alpha, scale))
        given = dict(zip(_NAMES, (alpha, loc, scale), strict=True))
        arrays: dict[str, Any] = {n: v if isinstance(v, arguments.NUMBERS) else array(n, v) for n, v in given.items()}
        floats = [v for v in arrays.values() if not isinstance(v, arguments.NUMBERS) and v.dtype.kind not in "biu"]
        dtype = jnp.result_type(*floats) if floats else jnp.result_type(float)
        for name, value in arrays.items():
            number = isinstance(value, arguments.NUMBERS)
            arrays[name] = jnp.asarray(arguments.number(value) if number else value, dtype)
        self.alpha, self.loc, self.scale = arrays.values()
        try:
            self.batch_shape  # noqa: B018  whose lengths may be symbols
        except ValueError:
            arguments.broadcast(arrays, arrays.values())

    # --- a pytree

    def tree_flatten_with_keys(self) -> tuple[list[tuple[jax.tree_util.GetAttrKey, jax.Array]], None]:
        """The parameters with their names: the leaves of this pytree, which holds nothing else."""
        return [(jax.tree_util.GetAttrKey(name), getattr(self, name)) for name in _NAMES], None

    @classmethod
    def tree_unflatten(cls, _: None, leaves: Sequence[Any]) -> Barron:
        """A distribution of these leaves, which are not looked at."""
        new = object.__new__(cls)  # JAX also puts what is no array into the places of leaves
        new.alpha, new.loc, new.scale = leaves
        return new

    def __repr__(self) -> str:
        return f"Barron(alpha={self.alpha}, loc={self.loc}, scale={self.scale})"

    # --- shapes and places

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The shape to which the parameters broadcast."""
        return tuple(jnp.broadcast_shapes(self.alpha.shape, self.loc.shape, self.scale.shape))

    def shape(self, sample_shape: Sequence[int] = ()) -> tuple[int, ...]:
        """The shape of samples: that sample_shape, and batch_shape after it."""
        return (*_lengths("sample_shape", sample_shape), *self.batch_shape)

    def expand(self, batch_shape: Sequence[int]) -> Barron:
        """This distribution with that batch shape; alpha and scale keep their own, which is less to compute."""
        wanted = _lengths("batch_shape", batch_shape)
        if _together(self.batch_shape, wanted) != wanted:
            raise ValueError(
                f"batch_shape {self.batch_shape} does not expand to {wanted}: add axes, or lengthen those of 1"
            )
        return Barron(self.alpha, jnp.broadcast_to(self.loc, wanted), self.scale)

    @property
    def support(self) -> Any:
        """The real line."""
        return _constraint("real")

    @property
    def arg_constraints(self) -> dict[str, Any]:
        """The constraints of the parameters: where these may lie."""
        return {"alpha": _constraint("nonnegative"), "loc": _constraint("real"), "scale": _constraint("positive")}

    # --- the density and its integrals

    @property
    def _valid_alpha(self) -> jax.Array:
        """alpha in the computing type, and NaN where there is no distribution."""
        alpha = self.alpha.astype(arguments.compute_type(self.alpha.dtype))
        return jnp.where((alpha >= 0) & (self.scale > 0), alpha, math.nan)

    @property
    def mean(self) -> jax.Array:
        """loc; NaN for alpha = 0, where there is none."""
        return jnp.where(self._valid_alpha > 0, self.loc, math.nan)

    @property
    def mode(self) -> jax.Array:
        """loc."""
        return self._like(self.loc)

    @property
    def variance(self) -> jax.Array:
        """84 at alpha = 0.1, 10^6 at 0.02 (scale 1); infinite where it exceeds the dtype, and at 0."""
        moment = _of_alpha(_moment, 0, self._valid_alpha)
        return self._like(moment * self.scale.astype(moment.dtype) ** 2)

    @property
    def stddev(self) -> jax.Array:
        """The square root of the variance."""
        return jnp.sqrt(self.variance)

    def entropy(self) -> jax.Array:
        """log c + log Z + E rho, in nats."""
        surprise = _of_alpha(_surprise, 0, self._valid_alpha)
        return self._like(surprise + jnp.log(self.scale.astype(surprise.dtype)))

    def log_prob(self, value: ArrayLike) -> jax.Array:
        """The logarithm of the density; see `fastrobust.nll`."""
        return -_api.nll(self._given(value) - self.loc, self.alpha, self.scale)

    def cdf(self, value: ArrayLike) -> jax.Array:
        """The probability of what is below; right in both tails."""
        x = self._given(value) - self.loc
        wide = arguments.compute_type(x.dtype)
        z = x.astype(wide) / self.scale.astype(wide)
        return _cdf(0, *_alike(z, self._valid_alpha)).astype(x.dtype)

    def icdf(self, value: ArrayLike) -> jax.Array:
        """The quantile of a probability; NaN for what is none."""
        p = self._given(value)
        dtype = jnp.result_type(p, self.alpha)
        z = _quantile(*_alike(p.astype(arguments.compute_type(dtype)), self._valid_alpha))
        return self._placed(z).astype(dtype)

    # --- samples

    def sample(self, key: jax.Array, sample_shape: Sequence[int] = ()) -> jax.Array:
        """Samples of shape ``sample_shape + batch_shape``, which can be differentiated in the parameters."""
        alpha = jnp.broadcast_to(self._valid_alpha, self.shape(sample_shape))
        _check_key(key)
        return self._like(self._placed(_drawn(key, alpha)))

    def rsample(self, key: jax.Array, sample_shape: Sequence[int] = ()) -> jax.Array:
        """The samples of `sample`, by the name for those that can be differentiated."""
        return self.sample(key, sample_shape)

    def sample_with_intermediates(
        self, key: jax.Array, sample_shape: Sequence[int] = ()
    ) -> tuple[jax.Array, list[jax.Array]]:
        """`sample`, and nothing that would spare `log_prob` its work."""
        return self.sample(key, sample_shape), []

    def __call__(
        self,
        *args: Sequence[int],
        rng_key: jax.Array,
        sample_intermediates: bool = False,
        **options: Sequence[int],
    ) -> jax.Array | tuple[jax.Array, list[jax.Array]]:
        """`sample`, as NumPyro calls it."""
        method = self.sample_with_intermediates if sample_intermediates else self.sample
        return method(rng_key, *args, **options)

    def _given(self, value: ArrayLike) -> jax.Array:
        """The value as an array that broadcasts with the parameters."""
        value = array("value", value)
        if _together(value.shape, self.batch_shape) is None:
            raise ValueError(
                f"value of shape {value.shape} does not broadcast with batch_shape {self.batch_shape}: "
                "compared from the last axis, each pair of lengths must be equal or 1"
            )
        return value

    def _placed(self, z: jax.Array) -> jax.Array:
        """loc + scale z, in the dtype of z."""
        return self.loc.astype(z.dtype) + self.scale.astype(z.dtype) * z

    def _like(self, statistic: jax.Array) -> jax.Array:
        """The statistic in the dtype of the parameters and the shape of the distribution or beyond."""
        shape = jnp.broadcast_shapes(statistic.shape, self.batch_shape)
        return jnp.broadcast_to(statistic.astype(self.alpha.dtype), shape)


def _lengths(name: str, value: Sequence[int]) -> tuple[int, ...]:
    """A shape, some of whose lengths may be symbols."""
    try:
        return tuple(jnp.broadcast_shapes(tuple(value)))
    except TypeError:
        raise TypeError(f"{name} must be a tuple of lengths, as (3,) or (), got {value!r}") from None


def _together(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape to which the two broadcast, if they do."""
    try:
        return tuple(jnp.broadcast_shapes(first, second))
    except ValueError:
        return None


def _check_key(key: object) -> None:
    """Refuse what is not one random key of JAX's, of either kind."""
    try:
        jax.eval_shape(lambda key: jax.random.fold_in(key, 0), key)
    except (TypeError, ValueError):
        got = f"an array of shape {key.shape}: vmap over several" if isinstance(key, jax.Array) else repr(key)
        raise TypeError(f"key must be a random key, as jax.random.key(0), got {got}") from None


def _alike(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The two in their common dtype and shape."""
    dtype, shape = jnp.result_type(first, second), jnp.broadcast_shapes(first.shape, second.shape)
    return jnp.broadcast_to(first.astype(dtype), shape), jnp.broadcast_to(second.astype(dtype), shape)


# --- at scale 1, in the computing type; compiled, since loops outside of a program are compiled anew in each call
#
# JAX forgets rules of differentiation in a loop of which it takes derivatives in reverse and then forward, as for a
# Hessian.  So the integrals have rules of their own, and each order in alpha is one more jvp within its program.


def _moment(alpha: jax.Array) -> jax.Array:
    """The second moment at scale 1."""
    return _density.second_moment(_namespace, alpha)


def _surprise(alpha: jax.Array) -> jax.Array:
    """The entropy at scale 1: E rho + log Z."""
    return _density.expected_loss(_namespace, alpha) + _api.log_partition(alpha)


def _below(z: jax.Array, alpha: jax.Array) -> jax.Array:
    """The distribution function, to be differentiated in alpha."""
    far = _api.loss(z, alpha, 1.0) > -math.log(jnp.finfo(z.dtype).smallest_subnormal)  # where the tail underflows
    tail = _density.tail(_namespace, jnp.where(far, 0.0, abs(z)), alpha)
    return jnp.where(z < 0, 1.0, -1.0) * jnp.where(far, 0.0, tail)


def _height(z: jax.Array, alpha: jax.Array) -> jax.Array:
    """The density."""
    return jnp.exp(-_api.nll(z, alpha, 1.0))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _derivative(function: _Integral, order: int, alpha: jax.Array, *before: jax.Array) -> jax.Array:
    """The derivative of that order in the last argument, alpha."""
    if order == 0:
        return function(*before, alpha)
    lower = functools.partial(_derivative, function, order - 1)
    return jax.jvp(lambda a: lower(a, *before), (alpha,), (jnp.ones_like(alpha),))[1]


def _followed(like: jax.Array, slopes: Sequence[Callable[[], jax.Array]], tangents: Sequence[jax.Array]) -> jax.Array:
    """The tangent of a result: its slopes times the tangents that there are."""
    pairs = zip(slopes, tangents, strict=True)
    terms = [slope() * tangent for slope, tangent in pairs if not _private.is_zero(tangent)]
    return sum(terms[1:], terms[0]) if terms else jnp.zeros_like(like)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _of_alpha(function: _Integral, order: int, alpha: jax.Array) -> jax.Array:
    """The derivative of that order of an integral that is a function of alpha."""
    return _derivative(function, order, alpha)


def _of_alpha_jvp(
    function: _Integral, order: int, args: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """The rule of `_of_alpha`: the derivative of one order more, times the tangent of alpha."""
    value = _of_alpha(function, order, *args)
    return value, _followed(value, [lambda: _of_alpha(function, order + 1, *args)], tangents)


@jax.jit
def _probability(z: jax.Array, alpha: jax.Array) -> jax.Array:
    """The distribution function, right in both tails; not to be differentiated."""
    tail = jnp.exp(_density.log_tail(_namespace, abs(z), alpha))
    return jnp.where(z < 0, tail, 1 - tail)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _cdf(order: int, z: jax.Array, alpha: jax.Array) -> jax.Array:
    """The derivative of that order in alpha of the distribution function."""
    return _derivative(_below, order, alpha, z) if order else _probability(z, alpha)


def _cdf_jvp(order: int, args: _Two, tangents: _Two) -> tuple[jax.Array, jax.Array]:
    """The rule of `_cdf`: the density or its derivatives for z, the next order for alpha."""
    z, alpha = args
    value = _cdf(order, z, alpha)
    slopes = [lambda: _derivative(_height, order, alpha, z), lambda: _cdf(order + 1, z, alpha)]
    return value, _followed(value, slopes, tangents)


def _implicit(z: jax.Array, alpha: jax.Array) -> jax.Array:
    """dz/dalpha where the distribution function stays as it is; 0 at infinity."""
    ends = jnp.isinf(z)
    return jnp.where(ends, 0.0, -_cdf(1, z, alpha) / jnp.where(ends, 1.0, _height(z, alpha)))


@jax.custom_jvp
@jax.jit
def _quantile(p: jax.Array, alpha: jax.Array) -> jax.Array:
    """The inverse of the distribution function."""
    z = _density.upper_quantile(_namespace, jnp.minimum(p, 1 - p), alpha)
    return jnp.where((p < 0) | (p > 1), math.nan, jnp.where(p < 0.5, -z, z))


def _quantile_jvp(args: _Two, tangents: _Two) -> tuple[jax.Array, jax.Array]:
    """The rule of `_quantile`, by those of the distribution function whose inverse it is."""
    z, alpha = _quantile(*args), args[1]
    return z, _followed(z, (lambda: 1 / _height(z, alpha), lambda: _implicit(z, alpha)), tangents)


@jax.custom_jvp
@jax.jit
def _drawn(key: jax.Array, alpha: jax.Array) -> jax.Array:
    """A sample for each alpha, by rejection from Cauchy's distribution.

    rho grows with alpha, so the density at alpha = 0 times Z(0)/Z(alpha) lies above.
    """

    def wanted(state: tuple[int, jax.Array, jax.Array]) -> jax.Array:
        return state[2].any()

    def further(state: tuple[int, jax.Array, jax.Array]) -> tuple[int, jax.Array, jax.Array]:
        """One more proposal for all, which those take that are left."""
        count, samples, left = state
        place, height = jax.random.uniform(jax.random.fold_in(key, count), (2, *alpha.shape), alpha.dtype)
        x = math.sqrt(2) * jnp.tan(math.pi * (place - 0.5))
        keep = left & (height < jnp.exp(_api.loss(x, 0.0, 1.0) - _api.loss(x, alpha, 1.0)))
        return count + 1, jnp.where(keep, x, samples), left & ~keep

    # NaN stays where there is no distribution.  The product is cut among devices as the samples will be.
    nothing = math.nan * alpha * jax.random.uniform(key, (), alpha.dtype)
    return jax.lax.while_loop(wanted, further, (0, nothing, (alpha >= 0) & jnp.isnan(nothing)))[1]


def _drawn_jvp(args: _Two, tangents: _Two) -> tuple[jax.Array, jax.Array]:
    """The rule of `_drawn` in alpha: a sample is the quantile of a probability that stays as it is."""
    z = _drawn(*args)
    return z, _followed(z, (lambda: _implicit(z, args[1]),), tangents[1:])


_of_alpha.defjvp(_of_alpha_jvp, symbolic_zeros=True)
_cdf.defjvp(_cdf_jvp, symbolic_zeros=True)
_quantile.defjvp(_quantile_jvp, symbolic_zeros=True)
_drawn.defjvp(_drawn_jvp, symbolic_zeros=True)
