"""Modules that learn the shape and scale of the loss, one of each for every dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...torch import AdaptiveLoss, StudentTLoss
from ...transforms import DCT, Wavelet
from . import _arguments as arguments
from . import wavelet
from .util import rgb_to_syuv

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ...torch._types import ArrayLike


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


class AdaptiveImageLossFunction(nn.Module):
    """The loss of images in Barron's package, of colours in wavelets, cosines or pixels.

    `fastrobust.torch.AdaptiveImageLoss` takes channels first or last, grey, volumes, has parameters by band, and the
    likelihood of pixels where sizes are odd, which this one has not.

    Parameters
    ----------
    image_size : (int, int, int)
        Width, height and channels, in the order of what `lossfun` takes.
    float_dtype : dtype of NumPy or PyTorch
    device : str, int or torch.device
    color_space : {"RGB", "YUV"}
    representation : {"CDF9/7", "LeGall5/3", "DCT", "PIXEL"}
    wavelet_num_levels : int
        At most as many as `wavelet.get_max_num_levels` says.
    wavelet_scale_base : float
        Level d, from 0, is multiplied by this to the power of d.
    use_students_t : bool
        Whether the density is Student's t.
    **kwargs
        Of `AdaptiveLossFunction`, or of `StudentsTLossFunction`.
    """

    def __init__(
        self,
        image_size: Sequence[int],
        float_dtype: torch.dtype | DTypeLike,
        device: torch.device | str | int | None = "cpu",
        color_space: str = "YUV",
        representation: str = "CDF9/7",
        wavelet_num_levels: int = 5,
        wavelet_scale_base: float = 1,
        use_students_t: bool = False,
        **kwargs: float,
    ) -> None:
        super().__init__()
        if len(image_size) != 3:
            raise ValueError(f"image_size must be (width, height, channels), got {tuple(image_size)!r}")
        width, height, channels = (arguments.dimensions(n) for n in image_size)
        for name, value, known in (
            ("color_space", color_space, ("RGB", "YUV")),
            ("representation", representation, ("CDF9/7", "LeGall5/3", "DCT", "PIXEL")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if color_space == "YUV" and channels != 3:
            raise ValueError(f"color_space 'YUV' is for 3 channels, got {channels}: take color_space='RGB'")
        self.image_size = width, height, channels
        self.color_space, self.representation = color_space, representation
        self.wavelet_num_levels, self.wavelet_scale_base = wavelet_num_levels, wavelet_scale_base
        self.use_students_t = use_students_t
        self._transform: DCT | Wavelet | None = DCT() if representation == "DCT" else None
        if representation in ("CDF9/7", "LeGall5/3"):
            most = wavelet.get_max_num_levels((channels, width, height))
            if not 0 <= wavelet_num_levels <= most:
                raise ValueError(
                    f"wavelet_num_levels must be from 0 to {most} for images of {width} by {height}, got "
                    f"{wavelet_num_levels!r}"
                )
            self._transform = Wavelet(representation, wavelet_num_levels)
        dims = width * height * channels
        self.adaptive_lossfun: AdaptiveLossFunction | StudentsTLossFunction
        if use_students_t:
            self.adaptive_lossfun = StudentsTLossFunction(dims, float_dtype, device, **kwargs)
        else:
            self.adaptive_lossfun = AdaptiveLossFunction(dims, float_dtype, device, **kwargs)

    def lossfun(self, x: ArrayLike) -> Tensor:
        """The negative log-likelihood of each coefficient of x, shape (batch, width, height, channels)."""
        x = arguments.floating("x", x)
        if x.dim() != 4 or tuple(x.shape[1:]) != self.image_size:
            raise ValueError(f"x must have the shape (batch, *{self.image_size}), got {tuple(x.shape)}")
        coefficients = self._coefficients(x)
        found: Tensor = self.adaptive_lossfun(coefficients.reshape(len(x), -1))
        return found.reshape(x.shape)

    forward = lossfun

    def alpha(self) -> Tensor:
        """The shape parameters, (width, height, channels)."""
        if isinstance(self.adaptive_lossfun, StudentsTLossFunction):
            raise AttributeError("Student's t has no alpha: its degrees of freedom are df()")
        return self.adaptive_lossfun.alpha().reshape(self.image_size)

    def df(self) -> Tensor:
        """Degrees of freedom, (width, height, channels)."""
        if isinstance(self.adaptive_lossfun, AdaptiveLossFunction):
            raise AttributeError("Barron's density has no degrees of freedom: its shape is alpha()")
        return self.adaptive_lossfun.df().reshape(self.image_size)

    def scale(self) -> Tensor:
        """The scales, (width, height, channels)."""
        return self.adaptive_lossfun.scale().reshape(self.image_size)

    def _coefficients(self, x: Tensor) -> Tensor:
        """What the loss is taken of, of the shape of x."""
        if self.color_space == "YUV":
            x = rgb_to_syuv(x)
        if self._transform is None:
            return x
        found: Tensor = self._transform(x.permute(0, 3, 1, 2))
        if isinstance(self._transform, Wavelet) and self.wavelet_scale_base != 1:
            found = found * self._rescaling(found)
        return found.permute(0, 2, 3, 1)

    def _rescaling(self, like: Tensor) -> Tensor:
        """The power of the base for each place of the flat pyramid."""
        width, height, _ = self.image_size
        found = like.new_ones(width, height)
        for level in range(self.wavelet_num_levels):
            found[:width, :height] = self.wavelet_scale_base**level
            width, height = (width + 1) // 2, (height + 1) // 2
        found[:width, :height] = self.wavelet_scale_base**self.wavelet_num_levels
        return found
