"""The adaptive loss of images: in wavelets, cosines or pixels, with parameters that are shared as wanted."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import _api
from .. import _arguments as arguments
from ..transforms import DCT, YUV, Wavelet
from ._arguments import weights_for
from ._context import compiling
from ._cross_entropy import HALVES
from ._modules import AdaptiveLoss, Reduction, StudentTLoss, student_t_nll
from ._reductions import weighed
from ._scaled import residual_of, spread

__all__ = ["AdaptiveImageLoss"]

Density = Literal["barron", "student_t"]
Representation = Literal["wavelets", "dct", "pixels"]
Share = Literal["coefficient", "band", "all"]


class AdaptiveImageLoss(nn.Module):
    """Mean negative log-likelihood of images' residuals, in coefficients whose shapes and scales are learned.

    Residuals are transformed first: errors of neighbouring pixels have much in common, those of wavelets of different
    scales little, and each has a scale of its own. **Give the parameters to the optimizer**, as those of
    `AdaptiveLoss`. The likelihood may be negative, and so may this loss.

    Parameters
    ----------
    size : tuple of int
        Height and width of the images, or depth, height and width of volumes, without batch and channels.
    channels : int
        How many channels there are. Default: 3.
    channels_last : bool
        Whether images have shape (batch, height, width, channels), not (batch, channels, height, width).
    yuv : bool, optional
        Whether RGB becomes brightness and two colours first. Default: with 3 channels.
    representation : {"wavelets", "dct", "pixels"} or callable
        Of what the loss is taken: `fastrobust.transforms.Wavelet`, `DCT`, pixels as they are, or what a function makes
        of residuals of shape (batch, channels, *size), of the same shape; its determinant is not known.
    wavelet : {"CDF9/7", "LeGall5/3"}
    levels : int, optional
        Of the wavelet transform. Default: as many as there are.
    share : {"coefficient", "band", "all"}
        What has parameters of its own: each coefficient of each channel, which takes many images to learn; each band of
        each channel (with wavelets, else each channel); or nothing, and there is one of each.
    density : {"barron", "student_t"}
        Whose parameters are learned, as in `AdaptiveLoss` or `StudentTLoss`.
    alpha_range, alpha_init
        As of `AdaptiveLoss`, for Barron's density.
    scale_min, scale_init : float
        The lower bound of the scales and where they start; equal ones fix them. A tensor that broadcasts to the scales
        of ``adaptive`` has a start for each. See also `init_from`.
    reduction : {"none", "sum", "mean"}
        Over images and coefficients; "none" gives the losses of the coefficients, with an image's axes.
    dtype, device
        Of the parameters.

    Attributes
    ----------
    adaptive : AdaptiveLoss or StudentTLoss
        The loss of the coefficients: its parameters have the shape (channels, *size), (bands, channels) or (1, 1).

    Raises
    ------
    ValueError
        For sizes without pixels, options that are none, and residuals of another shape.

    Notes
    -----
    The likelihood is that of pixels: where the transform changes volumes, which wavelets of odd sizes do, the logarithm
    of its determinant is subtracted, in equal parts from all coefficients.

    Examples
    --------
    >>> import torch
    >>> from fastrobust.torch import AdaptiveImageLoss
    >>> _ = torch.manual_seed(0)
    >>> criterion = AdaptiveImageLoss((32, 32), share="band", scale_init=0.1)
    >>> criterion.adaptive.alpha.shape  # 5 levels of 3 bands and the residual, 3 channels
    torch.Size([16, 3])
    >>> images = torch.rand(4, 3, 32, 32)
    >>> _ = criterion.init_from(images - 0.5)
    >>> bool(criterion(images, torch.full_like(images, 0.5)).isfinite())
    True
    """

    def __init__(
        self,
        size: Sequence[int],
        channels: int = 3,
        *,
        channels_last: bool = False,
        yuv: bool | None = None,
        representation: Representation | Callable[[Tensor], Tensor] = "wavelets",
        wavelet: str = "CDF9/7",
        levels: int | None = None,
        share: Share = "coefficient",
        density: Density = "barron",
        alpha_range: tuple[float, float] = arguments.ALPHA_RANGE,
        alpha_init: float | None = None,
        scale_min: float = 1e-5,
        scale_init: float | Tensor = 1.0,
        reduction: Reduction = "mean",
        dtype: torch.dtype | None = None,
        device: torch.device | str | int | None = None,
    ) -> None:
        super().__init__()
        self.size, self.channels, self.channels_last = _sized(size), channels, channels_last
        if isinstance(channels, bool) or not hasattr(channels, "__index__") or channels < 1:
            raise ValueError(f"channels must be a positive integer, got {channels!r}")
        self.yuv = channels == 3 if yuv is None else yuv
        if self.yuv and channels != 3:
            raise ValueError(f"yuv=True is for 3 channels, got {channels}: leave it out")
        for name, value, known in (
            ("share", share, ("coefficient", "band", "all")),
            ("density", density, ("barron", "student_t")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        self.share, self.density, self.reduction = share, density, reduction
        axes = tuple(range(-len(self.size), 0))
        self.transform = _transform(representation, wavelet, levels, axes)
        bands = self._bands()
        shape = {"coefficient": (channels, *self.size), "band": (len(bands), channels), "all": (1, 1)}[share]
        common: dict[str, Any] = {"scale_min": scale_min, "scale_init": scale_init, "dtype": dtype, "device": device}
        self.adaptive: AdaptiveLoss | StudentTLoss
        if density == "barron":
            self.adaptive = AdaptiveLoss(
                shape, alpha_range=alpha_range, alpha_init=alpha_init, reduction=reduction, **common
            )
        else:
            self.adaptive = StudentTLoss(shape, reduction=reduction, **common)

    def forward(self, input: Tensor, target: Tensor | None = None, *, weights: Tensor | None = None) -> Tensor:
        """The loss of ``input - target``; weights, of shape (batch,), are a factor for each image.

        A weight of 0 excludes an image, whatever it holds.  To exclude pixels, make their residuals 0, by
        ``torch.where(mask, input - target, 0.0)``: coefficients are of many pixels.
        """
        residual = residual_of(input, target)
        x = self.coefficients(residual)
        if weights is not None:
            weights = self._by_image(weights, x)
            x = torch.where(weights == 0, 0.0, x)
        found = self._loss(x, weights)
        if not compiling() and found.requires_grad:
            node: Any = found.grad_fn
            # A derivative of second order needs the coefficients, which nobody else holds: see `_reductions.Watched`.
            node.metadata["coefficients"] = x
        found = found - self._constant(x, weights)
        found = self._restored(found) if self.reduction == "none" else found
        return found.to(residual.dtype) if residual.dtype in HALVES else found

    def coefficients(self, x: Tensor) -> Tensor:
        """What the loss is taken of, of shape (batch, channels, *size); of halves in float32."""
        given = tuple(x.shape)
        x = self._with_channels_first(x.float() if x.dtype in HALVES else x)
        if tuple(x.shape[1:]) != (self.channels, *self.size):
            raise ValueError(self._other_shape(given))
        if self.yuv:
            x = YUV(axis=1)(x)
        if self.transform is None:
            return x
        found = self.transform(x)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            got = f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise ValueError(
                f"representation must give a tensor of the shape of residuals, {tuple(x.shape)}, and gave {got}"
            )
        return found

    @torch.no_grad()
    def init_from(self, input: Tensor, target: Tensor | None = None) -> AdaptiveImageLoss:
        """Start the scales where the residuals of a batch are: at the root of their mean square for each parameter.

        Parameters
        ----------
        input, target
            As of a call: a prediction and what it is to be, or their difference.

        Returns
        -------
        AdaptiveImageLoss
            Itself.

        Raises
        ------
        ValueError
            For residuals that are not finite, or all 0, and where the scale is fixed.
        """
        x = self.coefficients(residual_of(input, target))
        if self.share != "band":
            self.adaptive.init_from(x)
            return self
        squares = x.to(torch.float64).square().mean(0)
        means = [squares[(slice(None), *band)].flatten(1).mean(1) for band in self._bands()]
        self.adaptive.start_scale(spread(torch.stack(means)))
        return self

    def _loss(self, x: Tensor, weights: Tensor | None) -> Tensor:
        """The loss of coefficients, but for the determinant."""
        if self.share == "coefficient":
            return self.adaptive(x, weights=weights)
        scale = self._placed(self.adaptive._scale())
        if isinstance(self.adaptive, AdaptiveLoss):
            alpha = self._placed(self.adaptive._alpha(self.adaptive.latent_alpha))
            return _api.nll(x, alpha, scale, reduction=self.reduction, weights=weights)
        value, dtype = student_t_nll(x, self._placed(self.adaptive._df()), scale)
        return weighed(value, weights, self.reduction).to(dtype)

    def _placed(self, parameter: Tensor) -> Tensor:
        """A parameter by band and channel where its coefficients are."""
        if self.share != "band":
            return parameter.reshape(())
        found = parameter.new_empty(self.channels, *self.size)
        for number, band in enumerate(self._bands()):
            found[(slice(None), *band)] = parameter[number].reshape(-1, *[1] * len(self.size))
        return found

    def _by_image(self, weights: Any, x: Tensor) -> Tensor:
        """The weights of the images as they broadcast with coefficients."""
        weights = torch.as_tensor(weights, device=x.device)
        if tuple(weights.shape) != (len(x),):
            raise ValueError(
                f"weights must be a factor for each image, of shape ({len(x)},), got {tuple(weights.shape)}: to leave "
                "pixels out, make their residuals 0, by torch.where(mask, input - target, 0.0)"
            )
        return weights_for(weights.reshape(-1, *[1] * (x.dim() - 1)), "x", x, x.shape)

    def _other_shape(self, given: tuple[int, ...]) -> str:
        """The message for residuals of another shape."""
        wanted = (*self.size, self.channels) if self.channels_last else (self.channels, *self.size)
        hint, rest = "", given[1:]
        if given == wanted:
            hint = "; of one image give x[None]"
        elif len(self.size) == 3 and len(given) == 4:
            hint = f"; a size of three numbers is that of volumes: of images it is (height, width), got {self.size}"
        elif rest == ((self.channels, *self.size) if self.channels_last else (*self.size, self.channels)):
            hint = f"; where channels come {'first' if self.channels_last else 'last'}, say so by channels_last="
            hint += str(not self.channels_last)
        elif sorted(rest) == sorted(wanted):
            hint = "; size is (height, width)"
        return f"residuals must have the shape (batch, {', '.join(map(str, wanted))}), got {given}{hint}"

    def _constant(self, x: Tensor, weights: Tensor | None) -> Any:
        """What the determinant of the transform adds to the likelihood of pixels, of each coefficient or of all."""
        of_pixels = 0.0 if not isinstance(self.transform, Wavelet) else self.transform.log_abs_det(self.size)
        each = of_pixels / math.prod(self.size)
        if each == 0.0 or self.reduction == "mean":
            return each
        counted = x.new_ones(()) if weights is None else weights
        return each * counted if self.reduction == "none" else each * counted.expand(x.shape).sum()

    def _bands(self) -> list[tuple[slice, ...]]:
        """Where the bands are; without wavelets there is one."""
        if isinstance(self.transform, Wavelet):
            return self.transform.bands(self.size)
        return [tuple(slice(0, length) for length in self.size)]

    def _with_channels_first(self, x: Tensor) -> Tensor:
        """The images with channels first."""
        return x.movedim(-1, 1) if self.channels_last and x.dim() > 1 else x

    def _restored(self, x: Tensor) -> Tensor:
        """The images with channels where they were."""
        return x.movedim(1, -1) if self.channels_last and x.dim() > 1 else x

    def extra_repr(self) -> str:
        """The arguments, for the module's repr."""
        return f"{self.size}, channels={self.channels}, {self.transform or 'pixels'}, share={self.share!r}"


def _sized(size: Sequence[int]) -> tuple[int, ...]:
    """The extents of an image or a volume."""
    try:
        found = tuple(operator.index(n) for n in size)
    except TypeError:
        found = ()
    if len(found) not in (2, 3) or min(found) < 1:
        raise ValueError(
            f"size must be (height, width), or (depth, height, width), positive integers without batch and channels, "
            f"got {size!r}"
        )
    return found


def _transform(representation: Any, wavelet: str, levels: int | None, axes: tuple[int, ...]) -> Any:
    """What makes coefficients of residuals, or None for pixels."""
    if isinstance(representation, str) and representation in ("wavelets", "dct", "pixels"):
        return {"wavelets": Wavelet(wavelet, levels, axes), "dct": DCT(axes), "pixels": None}[representation]
    if not callable(representation) or isinstance(representation, type):
        raise ValueError(f"representation must be 'wavelets', 'dct', 'pixels' or callable, got {representation!r}")
    if isinstance(representation, Wavelet):
        count = len(axes) + 2  # with batch and channels
        if tuple(axis % count for axis in representation.axes) != tuple(axis % count for axis in axes):
            raise ValueError(f"representation must have the axes {axes} of images, got {representation}")
        return Wavelet(representation.kind, representation.levels, axes)
    return representation
