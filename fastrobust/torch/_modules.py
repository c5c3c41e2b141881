"""Modules of the loss, with a fixed or a learned shape and scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from .. import _api
from .. import _arguments as arguments
from .._call import check_reduction
from ..kernels.losses import student_t
from ..kernels.losses.catalogue import LOSS, NLL
from . import _kernels
from ._arguments import common_shape, prepared, weights_for
from ._reductions import fusible, pulled_back, watched, weighed
from ._scaled import SHIFT, Axes, Scaled, check_dtype, residual_of

if TYPE_CHECKING:
    from ._types import Context, Gradients, Operand

Reduction = Literal["none", "sum", "mean"]


class RobustLoss(nn.Module):
    """General robust loss rho(input - target, alpha, scale) with a fixed shape and scale.

    Parameters
    ----------
    alpha, scale : float or Tensor, broadcast with the residuals
        See `fastrobust.loss`. Tensors become buffers: they move with the module and are in its ``state_dict``. Those of
        integers become PyTorch's default dtype.
    reduction : {"none", "sum", "mean"}

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import RobustLoss
    >>> criterion = RobustLoss(alpha=0.0, scale=0.5)
    >>> residual = torch.tensor([0.0, 0.5, 50.0], requires_grad=True)
    >>> criterion(residual).backward()
    >>> residual.grad
    tensor([0.0000, 0.4444, 0.0133])
    """

    alpha: float | Tensor
    scale: float | Tensor

    def __init__(self, alpha: float | Tensor = 1.0, scale: float | Tensor = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__()
        check_reduction(reduction)
        arguments.check_numbers(LOSS, (0.0, alpha, scale))
        self.reduction = reduction
        for name, value in (("alpha", alpha), ("scale", scale)):
            if not isinstance(value, (Tensor, *arguments.NUMBERS)):
                raise TypeError(f"{name} must be a number or a tensor, got {value!r}")
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                # An integer one would cut off what is loaded into it.
                whole = not (value.is_floating_point() or value.is_complex())
                self.register_buffer(name, value.to(torch.get_default_dtype()) if whole else value)
            else:
                setattr(self, name, value)

    def forward(self, input: Tensor, target: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
        """The loss of the residuals ``input - target``; weights (or a mask) as in `fastrobust.loss`."""
        residual = residual_of(input, target)
        return _api.loss(residual, self.alpha, self.scale, reduction=self.reduction, weights=weights)

    def extra_repr(self) -> str:
        """The arguments, for the module's repr."""
        return f"alpha={_shown(self.alpha)}, scale={_shown(self.scale)}, reduction={self.reduction!r}"


def _shown(value: float | Tensor) -> str:
    """A number to four digits, or the shape of a tensor with more than one element, for a repr."""
    if isinstance(value, Tensor):
        return f"{value.item():.4g}" if value.numel() == 1 and not value.is_meta else f"<{tuple(value.shape)}>"
    return f"{value:.4g}"


class AdaptiveLoss(Scaled):
    """Mean negative log-likelihood of residuals under Barron's density, whose shape and scale are learned.

    **Give its parameters to the optimizer**, together with the model's:
    ``torch.optim.Adam(list(model.parameters()) + list(criterion.parameters()))``; else nothing adapts. The likelihood
    may be negative, and so may this loss. Weight decay on the parameters pulls alpha to the middle of its range and the
    scale to ``scale_init``.

    Parameters
    ----------
    shape : int or tuple of int
        How many parameters: a number of features along ``dim``, or a shape that broadcasts with the residuals.
        1: one alpha and one scale for all.
    dim : int
        The axis of the residuals along which a number of features lies: -1 the last, 1 the channels of images.
    alpha_range : (float, float)
        Bounds of alpha, 0 <= low <= high, (0, 2) unless given; equal ones fix it.
    alpha_init : float, optional
        Within the range; its middle unless given.
    scale_min, scale_init : float
        The lower bound of the scale and where it starts; equal ones fix it. A tensor that broadcasts to the scales has
        a start for each: see also `start_scale` and `init_from`.
    reduction : {"none", "sum", "mean"}
    dtype, device
        Of the parameters.

    Attributes
    ----------
    alpha, scale : Tensor, shape (1, features) or ``shape``
        As of now, differentiable.
    latent_alpha, latent_scale : Parameter
        alpha = low + (high - low) sigmoid(latent_alpha), scale = scale_min + (scale_init - scale_min)
        softplus(latent_scale + log(e - 1)), as in Barron's package, whose checkpoints load. None where fixed.
    scale_start : Tensor
        A ``scale_init`` for each, where it was a tensor or is set; a buffer, and in the ``state_dict`` then.

    Raises
    ------
    ValueError
        For bounds that are not 0 <= low <= high, or alpha_init, scale_min, scale_init outside of them.

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import AdaptiveLoss
    >>> _ = torch.manual_seed(0)
    >>> x = torch.linspace(-1, 1, 200)
    >>> y = 0.7 * x + 0.15 + 0.025 * torch.randn(200)
    >>> y[::10] += 3
    >>> model, criterion = torch.nn.Linear(1, 1), AdaptiveLoss()
    >>> optimizer = torch.optim.Adam(list(model.parameters()) + list(criterion.parameters()), lr=0.02)
    >>> for _ in range(500):
    ...     optimizer.zero_grad()
    ...     criterion(model(x[:, None]), y[:, None]).backward()
    ...     optimizer.step()
    >>> print(f"{model.weight.item():.2f} {model.bias.item():.2f}")
    0.70 0.15
    """

    latent_alpha: nn.Parameter | None
    _like: Tensor

    def __init__(
        self,
        shape: int | Sequence[int] = 1,
        *,
        dim: int = -1,
        alpha_range: tuple[float, float] = arguments.ALPHA_RANGE,
        alpha_init: float | None = None,
        scale_min: float = 1e-5,
        scale_init: float | Tensor = 1.0,
        reduction: Reduction = "mean",
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        check_dtype(dtype)
        low, high, start = arguments.alpha_range(alpha_range, alpha_init)
        self.axes, self.reduction, self.alpha_range = Axes(shape, dim), reduction, (low, high)
        latent = None
        if low < high:
            first = math.log((start - low) / (high - start))
            latent = nn.Parameter(torch.full(self.axes.shape, first, dtype=dtype, device=device))
        self.register_parameter("latent_alpha", latent)
        self._with_scales(scale_min, scale_init, self.axes.shape, dtype, device)
        # Where what is fixed has its dtype and device from; not in the state.
        self.register_buffer("_like", torch.zeros((), dtype=dtype, device=device), persistent=False)

    @property
    def alpha(self) -> Tensor:
        """The shape parameters."""
        return self._alpha(self.latent_alpha)

    @property
    def scale(self) -> Tensor:
        """The scales."""
        return self._scale()

    def _alpha(self, latent: Tensor | None) -> Tensor:
        """The shape parameters for latent ones; fixed at the lower bound without."""
        low, high = self.alpha_range
        return (
            self._like.new_full(self.axes.shape, low) if latent is None else low + (high - low) * torch.sigmoid(latent)
        )

    def _scale(self) -> Tensor:
        """The scales; `compat`, whose ``scale`` is a method, calls this."""
        return self._scale_of(self.latent_scale, self._like, self.axes.shape)

    def forward(self, input: Tensor, target: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
        """The negative log-likelihood of ``input - target``; weights (or a mask) as in `fastrobust.nll`."""
        x = residual_of(input, target)
        if self.reduction in ("sum", "mean") and fusible(
            (x, self.latent_alpha, self.latent_scale, self._like, weights)
        ):
            return _Fused.apply(x, self.latent_alpha, self.latent_scale, weights, self)
        return self._nll(x, self.latent_alpha, self.latent_scale, weights)

    def _nll(
        self, x: Tensor, latent_alpha: Tensor | None, latent_scale: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        """The loss in terms of the latent parameters."""
        alpha = self.axes.placed(self._alpha(latent_alpha), x)
        scale = self.axes.placed(self._scale_of(latent_scale, self._like, self.axes.shape), x)
        return _api.nll(x, alpha, scale, reduction=self.reduction, weights=weights)

    def extra_repr(self) -> str:
        """The arguments, for the module's repr."""
        low, high = self.alpha_range
        return f"{self.axes}, alpha_range=({low:g}, {high:g}), {self._scales_shown()}, reduction={self.reduction!r}"


class _Fused(torch.autograd.Function):
    """The sum or mean in terms of the latent parameters, with all gradients, in one pass and few small operations."""

    @staticmethod
    def forward(
        ctx: Context,
        x: Tensor,
        latent_alpha: Tensor | None,
        latent_scale: Tensor | None,
        weights: Tensor | None,
        module: AdaptiveLoss,
    ) -> Tensor:
        """The sum or mean; keeps the gradients, those in latent parameters by the slopes of sigmoid and softplus.

        With one alpha and one scale on the CPU these are Python's numbers, which cost less than tensors.
        """
        axes, above, (low, high) = module.axes, module._above(), module.alpha_range
        wrt = tuple(n for n, need in zip(NLL.operands, ctx.needs_input_grad, strict=False) if need)
        mean = module.reduction == "mean"
        slopes: dict[str, Operand] = {}
        single = axes.features == 1 and x.is_cpu
        above = above.item() if single and isinstance(above, Tensor) else above
        alpha: Operand = low
        if latent_alpha is not None:
            share = _sigmoid(latent_alpha.item()) if single else torch.sigmoid(latent_alpha)
            alpha, slopes["alpha"] = low + (high - low) * share, (high - low) * share * (1 - share)
        scale: Operand = module._start
        if latent_scale is not None:
            y: Any = (latent_scale.item() if single else latent_scale) + SHIFT
            softplus = math.log1p(math.exp(-abs(y))) + max(y, 0.0) if single else nn.functional.softplus(y)
            scale = module.scale_min + above * softplus
            slopes["scale"] = above * (_sigmoid(y) if single else torch.sigmoid(y))
        alpha, scale = (axes.placed(p, x) if isinstance(p, Tensor) else p for p in (alpha, scale))
        reduced = _kernels.sums(NLL, wrt, (x, alpha, scale), weights, mean, x.dtype)
        latent: dict[str, Any] = {"alpha": latent_alpha, "scale": latent_scale}
        kept = [
            g if name == "x" else (g.reshape(latent[name].shape) * slopes[name])
            for name, g in zip(wrt, reduced[1:], strict=True)
        ]
        ctx.save_for_backward(*kept)
        ctx.args = watched((x, latent_alpha, latent_scale, weights))
        ctx.module = module
        return reduced[0]

    @staticmethod
    def backward(ctx: Context, gradient: Tensor) -> Gradients:
        """The gradients that were kept, times the one that comes."""

        def again(
            x: Tensor, latent_alpha: Tensor | None, latent_scale: Tensor | None, weights: Tensor | None
        ) -> Tensor:
            # Without fusion, which would lead back here.
            return ctx.module._nll(x, latent_alpha, latent_scale, weights)

        return *pulled_back(ctx, ctx.needs_input_grad[:3], gradient, again), None, None


def _sigmoid(y: float) -> float:
    """The logistic function of a number, without overflow."""
    return 1 / (1 + math.exp(-y)) if y > 0 else math.exp(y) / (1 + math.exp(y))


def student_t_nll(x: Tensor, df: Operand, scale: Operand) -> tuple[Tensor, torch.dtype]:
    """The negative log-likelihood of Student's t, not in half precision; and the dtype that it should have."""
    arguments.check_numbers(LOSS, (0.0, 1.0, scale))
    dtype, (x, df, scale) = prepared(("x", "df", "scale"), (x, df, scale))
    wide = _kernels.compute_type(dtype)
    x = x.to(wide)
    df, scale = (torch.as_tensor(p, dtype=torch.float64, device=x.device) for p in (df, scale))
    constant = student_t.log_normalization(torch, df) + torch.log(scale)
    tail = student_t.log_tail(torch, x, df.to(wide), scale.to(wide))
    return tail + constant.to(wide), dtype


class StudentTLoss(Scaled):
    """Mean negative log-likelihood of residuals under Student's t, whose degrees of freedom and scale are learned.

    Give its parameters to the optimizer, as those of `AdaptiveLoss`.

    Parameters
    ----------
    shape, dim, scale_min, scale_init, reduction, dtype, device
        As of `AdaptiveLoss`.

    Attributes
    ----------
    df, scale : Tensor
        As of now, differentiable; df = exp(log_df) starts at 1, the scale as in `AdaptiveLoss`.
    log_df, latent_scale : Parameter
        Named and shaped as in Barron's package.

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import StudentTLoss
    >>> round(StudentTLoss()(torch.tensor([0.0, 1.0])).item(), 6)  # Cauchy's: log(pi) + log(2)/2
    1.491303
    """

    def __init__(
        self,
        shape: int | Sequence[int] = 1,
        *,
        dim: int = -1,
        scale_min: float = 1e-5,
        scale_init: float | Tensor = 1.0,
        reduction: Reduction = "mean",
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__()
        check_reduction(reduction)
        check_dtype(dtype)
        self.axes, self.reduction = Axes(shape, dim), reduction
        self.log_df = nn.Parameter(torch.zeros(self.axes.shape, dtype=dtype, device=device))
        self._with_scales(scale_min, scale_init, self.axes.shape, dtype, device)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return self._df()

    @property
    def scale(self) -> Tensor:
        """The scales."""
        return self._scale()

    def _df(self) -> Tensor:
        """The degrees of freedom; `compat`, whose ``df`` is a method, calls this."""
        return torch.exp(self.log_df)

    def _scale(self) -> Tensor:
        """The scales, likewise."""
        return self._scale_of(self.latent_scale, self.log_df, self.axes.shape)

    def forward(self, input: Tensor, target: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
        """The negative log-likelihood of ``input - target``; weights (or a mask) as in `fastrobust.nll`."""
        x = residual_of(input, target)
        df, scale = self.axes.placed(self._df(), x), self.axes.placed(self._scale(), x)
        if weights is not None:
            weights = weights_for(weights, "x", x, common_shape(("x", "df", "scale"), (x, df, scale)))
            x = torch.where(weights == 0, 0.0, x)
        value, dtype = student_t_nll(x, df, scale)
        return weighed(value, weights, self.reduction).to(dtype)

    def extra_repr(self) -> str:
        """The arguments, for the module's repr."""
        return f"{self.axes}, {self._scales_shown()}, reduction={self.reduction!r}"
