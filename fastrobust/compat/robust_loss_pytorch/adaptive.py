"""Modules that learn the shape and scale of the loss, one of each for every dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from torch import Tensor

from ...torch import AdaptiveLoss, StudentTLoss
from . import _arguments as arguments

if TYPE_CHECKING:
    import torch
    from numpy.typing import DTypeLike

    from ...torch._types import ArrayLike


def __getattr__(name: str) -> NoReturn:
    """Refuse what is not here, with what to take instead of the loss for images."""
    if name == "AdaptiveImageLossFunction":
        raise AttributeError(
            f"{name} is not here yet: take AdaptiveLossFunction on features of the images' differences, or, on pixels, "
            "fastrobust.torch.AdaptiveLoss(channels, dim=1)"
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class AdaptiveLossFunction(AdaptiveLoss):
    """`fastrobust.torch.AdaptiveLoss` with the interface of Barron's package: one alpha and scale for each dimension.

    Parameters
    ----------
    num_dims : int
        The last axis of what `lossfun` takes.
    float_dtype : dtype of NumPy or PyTorch
    device : str, int or torch.device
    alpha_lo, alpha_hi, alpha_init, scale_lo, scale_init
        See `fastrobust.torch.AdaptiveLoss`.
    """

    def __init__(
        self,
        num_dims: int,
        float_dtype: torch.dtype | DTypeLike,
        device: torch.device | str | int | None = "cpu",
        alpha_lo: float = 0.001,
        alpha_hi: float = 1.999,
        alpha_init: float | None = None,
        scale_lo: float = 1e-5,
        scale_init: float = 1.0,
    ) -> None:
        low, high, start = arguments.alphas(alpha_lo, alpha_hi, alpha_init)
        scale_lo, scale_init = arguments.scales(scale_lo, scale_init)
        num_dims = arguments.dimensions(num_dims)
        super().__init__(
            num_dims, alpha_range=(low, high), alpha_init=start, scale_min=scale_lo, scale_init=scale_init,
            reduction="none", dtype=arguments.dtype(float_dtype), device=device,
        )  # fmt: skip
        self.num_dims = num_dims

    def alpha(self) -> Tensor:  # type: ignore[override]
        """The shape parameters, (1, num_dims)."""
        return self._alpha(self.latent_alpha)

    def scale(self) -> Tensor:  # type: ignore[override]
        """The scales, (1, num_dims)."""
        return self._scale()

    def lossfun(self, x: ArrayLike, **kwargs: object) -> Tensor:
        """The negative log-likelihood of each element of x, shape (..., num_dims)."""
        if kwargs:
            raise TypeError(f"lossfun takes x alone, got {', '.join(kwargs)}")
        x = arguments.tensor("x", x)
        if x.dim() < 1 or x.shape[-1] != self.num_dims:
            raise ValueError(f"x must have num_dims={self.num_dims} as its last axis, got shape {tuple(x.shape)}")
        return self(x)


class StudentsTLossFunction(StudentTLoss):
    """`fastrobust.torch.StudentTLoss` with the interface of Barron's package."""

    def __init__(
        self,
        num_dims: int,
        float_dtype: torch.dtype | DTypeLike,
        device: torch.device | str | int | None = "cpu",
        scale_lo: float = 1e-5,
        scale_init: float = 1.0,
    ) -> None:
        scale_lo, scale_init = arguments.scales(scale_lo, scale_init)
        num_dims = arguments.dimensions(num_dims)
        super().__init__(
            num_dims,
            scale_min=scale_lo,
            scale_init=scale_init,
            reduction="none",
            dtype=arguments.dtype(float_dtype),
            device=device,
        )
        self.num_dims = num_dims

    def df(self) -> Tensor:  # type: ignore[override]
        """Degrees of freedom, (1, num_dims)."""
        return self._df()

    def scale(self) -> Tensor:  # type: ignore[override]
        """The scales, (1, num_dims)."""
        return self._scale()

    lossfun = AdaptiveLossFunction.lossfun
