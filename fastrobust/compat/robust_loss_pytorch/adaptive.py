"""Modules that learn the shape and scale of the loss, one of each for every dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...torch import AdaptiveLoss, StudentTLoss


def _dtype(float_dtype: Any) -> torch.dtype:
    """A NumPy or PyTorch dtype as PyTorch's."""
    if isinstance(float_dtype, torch.dtype):
        return float_dtype
    try:
        return {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16}[
            np.dtype(float_dtype).name
        ]
    except (KeyError, TypeError):
        raise ValueError(f"float_dtype must be float16, float32 or float64, got {float_dtype!r}") from None


def _check(num_dims: int, scale_lo: float, scale_init: float) -> None:
    if num_dims < 1:
        raise ValueError(f"num_dims must be a positive number, got {num_dims!r}")
    if not 0 < scale_lo <= scale_init:
        raise ValueError(f"scale_lo and scale_init must be 0 < lo <= init, got {scale_lo!r} and {scale_init!r}")


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
        float_dtype: Any,
        device: Any = "cpu",
        alpha_lo: float = 0.001,
        alpha_hi: float = 1.999,
        alpha_init: float | None = None,
        scale_lo: float = 1e-5,
        scale_init: float = 1.0,
    ) -> None:
        if not 0 <= alpha_lo <= alpha_hi:
            raise ValueError(f"alpha_lo and alpha_hi must be 0 <= lo <= hi, got {alpha_lo!r} and {alpha_hi!r}")
        _check(num_dims, scale_lo, scale_init)
        super().__init__(
            num_dims, alpha_range=(alpha_lo, alpha_hi), alpha_init=alpha_init, scale_min=scale_lo,
            scale_init=scale_init, reduction="none", dtype=_dtype(float_dtype), device=device,
        )  # fmt: skip
        self.num_dims = num_dims

    def alpha(self) -> Tensor:  # type: ignore[override]
        """The shape parameters, (1, num_dims)."""
        return self._alpha(self.latent_alpha)

    def scale(self) -> Tensor:  # type: ignore[override]
        """The scales, (1, num_dims)."""
        return self._scale()

    def lossfun(self, x: Tensor, **kwargs: Any) -> Tensor:
        """The negative log-likelihood of each element of x, shape (..., num_dims)."""
        if kwargs:
            raise TypeError(f"lossfun takes x alone, got {', '.join(kwargs)}")
        x = torch.as_tensor(x)
        if x.dim() < 1 or x.shape[-1] != self.num_dims:
            raise ValueError(f"x must have {self.num_dims} as its last axis, got shape {tuple(x.shape)}")
        return self(x)


class StudentsTLossFunction(StudentTLoss):
    """`fastrobust.torch.StudentTLoss` with the interface of Barron's package."""

    def __init__(
        self, num_dims: int, float_dtype: Any, device: Any = "cpu", scale_lo: float = 1e-5, scale_init: float = 1.0
    ) -> None:
        _check(num_dims, scale_lo, scale_init)
        super().__init__(
            num_dims,
            scale_min=scale_lo,
            scale_init=scale_init,
            reduction="none",
            dtype=_dtype(float_dtype),
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
