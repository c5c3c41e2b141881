"""What modules with learned scales have in common: residuals, where parameters lie in them, and the scales."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from .. import _arguments as arguments
from ._arguments import difference, no_tensor
from ._context import visible

if TYPE_CHECKING:
    from .._types import ArrayLike
    from ._types import Device

__all__ = ["SHIFT", "Axes", "Scaled", "check_dtype", "residual_of", "spread"]


def residual_of(input: Tensor, target: Tensor | None) -> Tensor:
    """The difference of the two, or the first alone; warns where shapes differ, since that is rarely meant."""
    for name, value in (("input", input), ("target", target)):
        if not isinstance(value, Tensor) and (value is not None or name == "input"):
            raise no_tensor(name, value)
    if target is None:
        return input
    if input.shape != target.shape:
        warnings.warn(
            f"input of shape {tuple(input.shape)} and target of shape {tuple(target.shape)} broadcast: "
            "make their shapes equal, lest every element meet every other",
            stacklevel=3,
        )
    return difference(input, target)


def check_dtype(dtype: torch.dtype | None) -> None:
    """Refuse a dtype of integers for parameters that learn."""
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype must be torch.float16, bfloat16, float32 or float64, got {dtype}")


SHIFT = arguments.SHIFT


def real(value: Any, name: str) -> Tensor:
    """Numbers as a tensor."""
    found = torch.as_tensor(value)
    if found.is_complex():
        raise TypeError(f"{name} is a tensor of {found.dtype}: make it real")
    return found


def spread(squares: Tensor) -> Tensor:
    """The roots of mean squares, those of nothing but zeros a thousandth of that of all."""
    whole = squares.mean()
    if not bool((squares.isfinite().all()) & (whole > 0)):
        raise ValueError(
            "the residuals must be finite, and not all 0, for scales to start at their spread: leave out what is not, "
            "or set the scales by start_scale"
        )
    return torch.where(squares > 1e-6 * whole, squares, 1e-6 * whole).sqrt()


class Axes:
    """The place of parameters in the residuals."""

    def __init__(self, shape: int | Sequence[int], dim: int) -> None:
        try:
            self.features = operator.index(shape) if hasattr(shape, "__index__") else None
            lengths: Any = shape if self.features is None else (1, self.features)
            self.shape, self.dim = tuple(operator.index(n) for n in lengths), operator.index(dim)
        except TypeError:
            raise TypeError(
                f"shape must be a number of features or a tuple of integers, and dim an integer, got {shape!r}, {dim!r}"
            ) from None
        if any(n < 1 for n in self.shape):
            raise ValueError(f"shape must be a positive number of features, or a shape without 0, got {shape!r}")

    def placed(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A parameter along its axis of x."""
        if self.features is None:
            return parameter
        if self.features == 1:
            return parameter.reshape(())
        if not -x.dim() <= self.dim < x.dim() or x.shape[self.dim] != self.features:
            raise ValueError(
                f"the residuals have shape {tuple(x.shape)}: axis dim={self.dim} must have {self.features} features"
            )
        return parameter.reshape(self.features, *[1] * (x.dim() - 1 - self.dim % x.dim()))

    def __str__(self) -> str:
        return f"{self.shape if self.features is None else self.features}, dim={self.dim}"


class Scaled(nn.Module):
    """A module with scales that are learned above a bound, or fixed where they start there."""

    latent_scale: nn.Parameter | None
    scale_start: Tensor | None
    axes: Axes

    def _with_scales(
        self, low: float, start: float | Tensor, shape: Sequence[int], dtype: torch.dtype | None, device: Device
    ) -> None:
        """Give it the latent parameter, 0 at the start, where scales are ``scale_init``; None for fixed ones."""
        if not isinstance(start, float | int):
            start = real(start, "scale_init")
        number = 2 * low if isinstance(start, Tensor) else start
        self.scale_min, self._start = arguments.scale_range(low, number)
        latent = None if low == number else nn.Parameter(torch.zeros(shape, dtype=dtype, device=device))
        self.register_parameter("latent_scale", latent)
        self.register_buffer("scale_start", None)
        if isinstance(start, Tensor):
            if visible(start) and not bool(((start > low) & (start < math.inf)).all()):
                raise ValueError(
                    f"scale_init must lie above scale_min, {low:g}, and be finite everywhere, got one from "
                    f"{start.min().item():g} to {start.max().item():g}"
                )
            self.start_scale(start)

    @torch.no_grad()
    def start_scale(self, scale: ArrayLike) -> None:
        """Let the scales start anew at these, which broadcast to theirs; what is not above the bound at twice that.

        Raises
        ------
        ValueError
            For scales of another shape, and where the scale is fixed.
        """
        latent, scale = self._learned(), real(scale, "scale")
        try:
            wide = scale.to(latent).expand(latent.shape)
        except RuntimeError:
            raise ValueError(f"the scales must broadcast to {tuple(latent.shape)}, got {tuple(scale.shape)}") from None
        with torch.inference_mode(False):  # what is loaded later is copied to it
            self.scale_start = torch.where(
                (wide > self.scale_min) & (wide < math.inf), wide, 2 * self.scale_min
            ).clone()
        latent.zero_()

    @torch.no_grad()
    def init_from(self, input: Tensor, target: Tensor | None = None) -> Self:
        """Let the scales start where the residuals of a batch are, at the root of their mean square for each scale.

        Scales that see zeros alone start at a thousandth of that of all residuals.

        Returns
        -------
        AdaptiveLoss or StudentTLoss
            Itself.

        Raises
        ------
        ValueError
            For residuals that are not finite, or all 0, and where the scale is fixed.
        """
        latent, x = self._learned(), residual_of(input, target).to(torch.float64)
        placed = self.axes.placed(latent, x)
        squares = (x * x).expand(torch.broadcast_shapes(x.shape, placed.shape))
        means = squares.sum_to_size(placed.shape) * (placed.numel() / max(1, squares.numel()))
        self.start_scale(spread(means).reshape(latent.shape))
        return self

    def _learned(self) -> Tensor:
        """The latent parameter of a scale that is not fixed."""
        if self.latent_scale is None:
            raise ValueError("the scale is fixed by scale_init equal to scale_min: leave one of them out")
        return self.latent_scale

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        """Have room for scales that were set, if there are some, and only then."""
        if f"{prefix}scale_start" in state_dict and self.scale_start is None and self.latent_scale is not None:
            self.scale_start = torch.zeros_like(self.latent_scale, requires_grad=False)
        elif f"{prefix}latent_scale" in state_dict and f"{prefix}scale_start" not in state_dict:
            self.scale_start = None  # as in a module whose start is a number
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _scale_of(self, latent: Tensor | None, like: Tensor, shape: Sequence[int]) -> Tensor:
        """The scale for a latent parameter; a fixed one has the dtype and device of ``like``."""
        if latent is None:
            return like.new_full(shape, self._start)
        return self.scale_min + self._above() * nn.functional.softplus(latent + SHIFT)

    def _above(self) -> Any:
        """How far above the bound scales start: a number, or one for each."""
        return (self._start if self.scale_start is None else self.scale_start) - self.scale_min

    def _scales_shown(self) -> str:
        start = f"{self._start:g}" if self.scale_start is None else f"<{tuple(self.scale_start.shape)}>"
        return f"scale_min={self.scale_min:g}, scale_init={start}"
