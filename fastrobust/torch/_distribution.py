"""Barron's distribution, for `torch.distributions`."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .. import _api, _density
from .. import _arguments as arguments
from . import _kernels, _private
from ._arguments import difference, no_tensor, promoted
from ._context import general, levels

if TYPE_CHECKING:
    from .._types import Options
    from ._types import Context, Gradients, Operand

_ONE = torch.Size()


class Barron(Distribution):
    """The distribution with density exp(-rho(x - loc, alpha, scale)) / (scale Z(alpha)).

    alpha = 2 is the normal, 1 a smoothed Laplace, 0 Student's t with one degree of freedom (Cauchy's, sqrt(2) times as
    wide); beyond 2 the tails are lighter than the normal's.

    Parameters
    ----------
    alpha : float or Tensor
        Shape, >= 0; infinity is one. Integers take the dtype of the other tensors; where these are integers, too, all
        become float64.
    loc : float or Tensor
        The centre, of which the density is symmetric.
    scale : float or Tensor
        c > 0.
    validate_args : bool, optional

    Notes
    -----
    `sample` rejects from Cauchy's distribution: a third to all of the draws are kept. `rsample` differentiates the same
    samples in all three parameters, once; in alpha implicitly through the distribution function, as `icdf`. `cdf`,
    `icdf`, `entropy` and `variance` integrate numerically, with 74 to 300 evaluations of the density: `cdf` is right to
    1e-14 of itself in float64, in the tails to about rho times 1e-16. Source: J. T. Barron, CVPR 2019, section 2.

    `torch.distributions.kl_divergence` takes it on both sides, and together with `Normal` and `Cauchy`: by quadrature,
    to 1e-11, some ms each, differentiable; infinite where the tails of the first are too heavy for the loss of the
    second, as those of alpha = 0 are from the second's alpha = 1 on.

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import Barron
    >>> _ = torch.manual_seed(0)
    >>> normal = Barron(2.0)
    >>> round(normal.log_prob(torch.tensor(1.0)).item(), 6), round(normal.cdf(torch.tensor(1.0)).item(), 6)
    (-1.418939, 0.841345)
    >>> Barron(0.5, loc=torch.zeros(3), scale=2.0).sample((1000,)).shape
    torch.Size([1000, 3])
    """

    arg_constraints = {
        "alpha": constraints.greater_than_eq(0.0),
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        alpha: float | Tensor,
        loc: float | Tensor = 0.0,
        scale: float | Tensor = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.alpha, self.loc, self.scale = _private.broadcast_all(*_floating(alpha=alpha, loc=loc, scale=scale))
        super().__init__(self.alpha.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> Barron:
        """This distribution with that batch shape, without copies."""
        new = _private.new_instance(self, Barron, _instance)
        shape = torch.Size(batch_shape)
        new.alpha, new.loc, new.scale = (p.expand(shape) for p in (self.alpha, self.loc, self.scale))
        super(Barron, new).__init__(shape, validate_args=False)
        _private.validate_alike(new, self)
        return new

    @property
    def _valid_alpha(self) -> Tensor:
        """alpha, and NaN where there is no distribution, for which `validate_args=False` lets one ask."""
        return torch.where((self.alpha >= 0) & (self.scale > 0), self.alpha, math.nan)

    @property
    def mean(self) -> Tensor:
        """loc; NaN for alpha = 0, where there is none."""
        return torch.where(self._valid_alpha > 0, self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc

    @property
    def variance(self) -> Tensor:
        """84 at alpha = 0.1, 10^6 at 0.02, 10^96 at 0.001 (scale 1); infinite below 0.00031."""
        wide = _density.second_moment(torch, self._valid_alpha.double())
        return (wide * self.scale.double() ** 2).to(self.alpha.dtype)

    def entropy(self) -> Tensor:
        """log c + log Z + E rho, in nats."""
        alpha = self._valid_alpha.double()
        wide = _density.expected_loss(torch, alpha) + _api.log_partition(alpha)
        return wide.to(self.alpha.dtype) + torch.log(self.scale)

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of the density; see `fastrobust.nll`."""
        if _private.validates(self):
            _private.validate_sample(self, value)
        return -_api.nll(self._from_centre(value), self.alpha, self.scale)

    def cdf(self, value: Tensor) -> Tensor:
        """The probability of what is below; right in both tails."""
        if _private.validates(self):
            _private.validate_sample(self, value)
        return _cdf(self._from_centre(value) / self.scale, self._valid_alpha)

    def icdf(self, value: Tensor) -> Tensor:
        """The quantile of a probability."""
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value, dtype=self.alpha.dtype, device=self.alpha.device)
        return self.loc + self.scale * _quantile(value, self._valid_alpha)

    def _from_centre(self, value: Operand) -> Tensor:
        """The difference of value and loc; the value may be a number where nothing is validated."""
        return difference(value, self.loc) if isinstance(value, Tensor) else value - self.loc

    def rsample(self, sample_shape: Sequence[int] = _ONE) -> Tensor:
        """Samples that can be differentiated in alpha, loc and scale."""
        shape = torch.Size(sample_shape) + self.batch_shape
        alpha = self._valid_alpha.expand(shape)
        if _private.batched(alpha):
            raise NotImplementedError("vmap over samples: let loc, alpha and scale broadcast instead, or sample_shape")
        with torch.no_grad():
            z = _drawn(alpha.detach())
        return self.loc + self.scale * _followed(z, None, alpha)

    def sample(self, sample_shape: Sequence[int] = _ONE) -> Tensor:
        """Samples, without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)


def _floating(**values: Operand) -> list[Operand]:
    """The values, with integers and numbers in the dtype of the tensors of floating point, as `Barron` says."""
    tensors = [v for v in values.values() if isinstance(v, Tensor)]
    for name, value in values.items():
        if not isinstance(value, (Tensor, numbers.Real)):
            raise no_tensor(name, value)
        if isinstance(value, Tensor) and value.is_complex():
            raise TypeError(f"{name} is a tensor of {value.dtype}: make it real")
    if not tensors:
        return list(values.values())
    floats = [t for t in tensors if t.is_floating_point()]
    options: Options = {"dtype": promoted(floats) if floats else torch.float64, "device": tensors[0].device}
    return [
        torch.full((), arguments.number(v), **options)
        if not isinstance(v, Tensor)
        else v
        if v.is_floating_point()
        else v.to(options["dtype"])
        for v in values.values()
    ]


def _drawn(alpha: Tensor) -> Tensor:
    """A sample at scale 1 for each alpha, by rejection from Cauchy's distribution.

    rho grows with alpha, so the density at alpha = 0 times Z(0)/Z(alpha) lies above.
    """
    flat = alpha.reshape(-1).to(_kernels.compute_type(alpha.dtype))
    samples = torch.full_like(flat, math.nan)
    left = torch.nonzero(flat >= 0)[:, 0]  # nothing is drawn where there is no distribution
    while left.numel():
        shapes = flat[left]
        x = math.sqrt(2) * torch.tan(math.pi * (torch.rand_like(shapes) - 0.5))
        keep = torch.rand_like(x) < torch.exp(_api.loss(x, 0.0, 1.0) - _api.loss(x, shapes, 1.0))
        samples[left[keep]] = x[keep]
        left = left[~keep]
    return samples.reshape(alpha.shape).to(alpha.dtype)


def _cdf(z: Tensor, alpha: Tensor) -> Tensor:
    """The distribution function at scale 1, by the tail beyond |z|; in double."""
    wide, shape = torch.broadcast_tensors(z.double(), alpha.double())
    with torch.no_grad():
        far = _api.loss(wide, shape, 1.0) > 745  # where the tail underflows, infinity among it
    beyond = torch.where(far, 0.0, torch.abs(wide))
    tail = torch.where(far, 0.0, _density.tail(torch, beyond, shape))
    return torch.where(wide < 0, tail, 1 - tail).to(torch.promote_types(z.dtype, alpha.dtype))


class _Implicit(torch.autograd.Function):
    """z as a function of its probability and alpha: dz = (dp - dF/dalpha dalpha)/density."""

    @staticmethod
    def forward(z: Tensor, p: Tensor | None, alpha: Tensor) -> Tensor:
        """z, as a result of its own."""
        return z.clone()

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep dz/dp and dz/dalpha."""
        z, _, alpha = inputs
        shape = alpha.detach()
        slope = torch.func.grad(lambda a: _cdf(z.detach(), a).sum())(shape)
        density = torch.exp(-_api.nll(z, alpha.detach(), 1.0))
        rates = 1 / density, torch.where(torch.isinf(z), 0.0, -slope / density)
        ctx.save_for_backward(*rates)
        ctx.save_for_forward(*rates)

    @staticmethod
    def jvp(ctx: Context, _: object, dp: Tensor | None, dalpha: Tensor | None) -> Tensor:
        """The sum of the rates times the tangents that there are."""
        pairs = zip(ctx.saved_tensors, (dp, dalpha), strict=True)
        terms = [rate * tangent for rate, tangent in pairs if tangent is not None]
        return sum(terms[1:], terms[0])

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> Gradients:
        """The rates times the gradient; second derivatives are refused, since they would be 0."""
        # create_graph=True, which a single torch.func.grad sets, too
        if torch.is_grad_enabled() and sum(levels()) != 1:
            raise NotImplementedError(
                "icdf and rsample of Barron are differentiable once, in alpha and the probability"
            )
        in_p, in_alpha = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return None, gradient * in_p if wanted[1] else None, gradient * in_alpha if wanted[2] else None


def _followed(z: Tensor, p: Tensor | None, alpha: Tensor) -> Tensor:
    """z, with its derivatives if somebody may ask for them."""
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (p, alpha))
    return _Implicit.apply(z, p, alpha) if wanted or general() else z


def _quantile(p: Tensor, alpha: Tensor) -> Tensor:
    """The inverse of `_cdf`."""
    p, alpha = torch.broadcast_tensors(p, alpha)
    with torch.no_grad():
        below = torch.minimum(p, 1 - p).double()
        z = _density.upper_quantile(torch, below, alpha.double())
        z = torch.where(p < 0.5, -z, z).to(torch.promote_types(p.dtype, alpha.dtype))
        z = torch.where((p < 0) | (p > 1), math.nan, z)
    return _followed(z, p, alpha)
