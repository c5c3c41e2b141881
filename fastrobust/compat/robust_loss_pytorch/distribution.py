"""The distribution that the general loss is the negative logarithm of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ... import log_partition as _log_partition
from ...torch import Barron, nll
from . import _arguments as arguments

if TYPE_CHECKING:
    from ...torch._types import ArrayLike


def analytical_base_partition_function(numer: int, denom: int) -> float:
    """Z(numer/denom), the integral of exp(-rho(x, numer/denom, 1)) over x."""
    over, under = arguments.number("numer", numer), arguments.number("denom", denom)
    if not (over >= 0 and under > 0):
        raise ValueError(f"numer must be >= 0 and denom > 0, got {numer!r} and {denom!r}")
    return math.exp(_log_partition(np.float64(over / under)))


def partition_spline_curve(alpha: ArrayLike) -> Tensor:
    """A curve that is steep where log Z bends most; linear in log(alpha) far out. For alpha >= 0."""
    given = arguments.floating("alpha", alpha)
    alpha = given.double()
    y = alpha - 2
    near = 2.25 * y / (y.abs() + 0.25) + alpha + 2
    found = torch.where(alpha < 4, near, 5 / 18 * torch.log(4 * torch.clamp(alpha, min=4) - 15) + 8)
    return found.to(given.dtype)


def inv_partition_spline_curve(x: ArrayLike) -> Tensor:
    """The alpha at which `partition_spline_curve` is x, x >= 0."""
    given = arguments.floating("x", x)
    x = given.double()
    below = x < 4
    distance = torch.clamp(x, max=8) - 4
    height = torch.where(below, -distance, distance)  # not abs(), whose derivative at 0 would be 0
    half = 2.5 - height
    root = torch.sqrt(half**2 + height)
    y = torch.where(half > 0, 0.5 * height / (half + root), 0.5 * (root - half))  # y^2 + half y = height/4
    far = (torch.exp(3.6 * (torch.clamp(x, min=8) - 8)) + 15) / 4
    return torch.where(x < 8, 2 + torch.where(below, -y, y), far).to(given.dtype)


class Distribution:
    """Density exp(-rho(x, alpha, scale)) / (scale Z(alpha)), alpha >= 0."""

    def log_base_partition_function(self, alpha: ArrayLike) -> Tensor:
        """log Z(alpha); see `fastrobust.log_partition`."""
        return _log_partition(arguments.positive("alpha", arguments.floating("alpha", alpha), zero=True))

    def nllfun(self, x: ArrayLike, alpha: ArrayLike, scale: ArrayLike) -> Tensor:
        """The negative log-likelihood of each element; see `fastrobust.nll`."""
        alpha = arguments.positive("alpha", arguments.parameter("alpha", alpha), zero=True)
        scale = arguments.positive("scale", arguments.parameter("scale", scale))
        return nll(arguments.tensor("x", x), alpha, scale)

    def draw_samples(self, alpha: ArrayLike, scale: ArrayLike) -> Tensor:
        """A sample for each pair of alpha and scale, which broadcast; see `fastrobust.torch.Barron`."""
        alpha = arguments.positive("alpha", arguments.floating("alpha", alpha), zero=True)
        scale = arguments.positive("scale", arguments.floating("scale", scale))
        return Barron(alpha, 0.0, scale, validate_args=True).sample()
