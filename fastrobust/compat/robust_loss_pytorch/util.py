"""Small functions on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...torch._modules import student_t_nll
from ...torch._scaled import SHIFT
from ...transforms import DCT, YUV
from ._arguments import floating, parameter, positive, tensor

if TYPE_CHECKING:
    from ...torch._types import ArrayLike, NDArray

_LOG_MAX, _EXP_MAX = 33e37, 87.5  # the largest arguments whose results fit into float32


def log_safe(x: ArrayLike) -> Tensor:
    """log(x), of at most 3.3e38."""
    return torch.log(torch.clamp(floating("x", x), max=_LOG_MAX))


def log1p_safe(x: ArrayLike) -> Tensor:
    """log(1 + x), of at most 3.3e38."""
    return torch.log1p(torch.clamp(floating("x", x), max=_LOG_MAX))


def exp_safe(x: ArrayLike) -> Tensor:
    """exp(x), of at most 87.5."""
    return torch.exp(torch.clamp(floating("x", x), max=_EXP_MAX))


def expm1_safe(x: ArrayLike) -> Tensor:
    """exp(x) - 1, of at most 87.5."""
    return torch.expm1(torch.clamp(floating("x", x), max=_EXP_MAX))


def inv_softplus(y: ArrayLike) -> Tensor:
    """The x with log(1 + exp(x)) = y."""
    y = floating("y", y)
    return y + torch.log(-torch.expm1(-y))


def logit(y: ArrayLike) -> Tensor:
    """The x with 1/(1 + exp(-x)) = y."""
    return torch.logit(floating("y", y))


def _ordered(lo: float, hi: float) -> None:
    """Refuse an empty interval."""
    if not lo < hi:
        raise ValueError(f"lo must be less than hi, got {lo!r} and {hi!r}")


def affine_sigmoid(logits: ArrayLike, lo: float = 0, hi: float = 1) -> Tensor:
    """A sigmoid from the real line to (lo, hi)."""
    _ordered(lo, hi)
    return torch.sigmoid(floating("logits", logits)) * (hi - lo) + lo


def inv_affine_sigmoid(probs: ArrayLike, lo: float = 0, hi: float = 1) -> Tensor:
    """The inverse of `affine_sigmoid`."""
    _ordered(lo, hi)
    return logit((floating("probs", probs) - lo) / (hi - lo))


def affine_softplus(x: ArrayLike, lo: float = 0, ref: float = 1) -> Tensor:
    """A softplus from the real line to (lo, inf), with ref at 0."""
    if not lo < ref:
        raise ValueError(f"lo must be less than ref, got {lo!r} and {ref!r}")
    return (ref - lo) * torch.nn.functional.softplus(floating("x", x) + SHIFT) + lo


def inv_affine_softplus(y: ArrayLike, lo: float = 0, ref: float = 1) -> Tensor:
    """The inverse of `affine_softplus`."""
    if not lo < ref:
        raise ValueError(f"lo must be less than ref, got {lo!r} and {ref!r}")
    return inv_softplus((floating("y", y) - lo) / (ref - lo)) - SHIFT


def students_t_nll(x: ArrayLike, df: ArrayLike, scale: ArrayLike) -> Tensor:
    """The negative log-likelihood of Student's t."""
    df, scale = positive("df", parameter("df", df)), positive("scale", parameter("scale", scale))
    value, dtype = student_t_nll(tensor("x", x), df, scale)
    return value.to(dtype)


_VOLUME_PRESERVING_YUV_SCALE = YUV.SCALE


def _transformed(name: str, image: ArrayLike, transform: Callable[[Tensor], Tensor]) -> Tensor:
    """The image with its channels, the last axis, transformed, in double."""
    image = floating(name, image)
    if not image.dim() or image.shape[-1] != 3:
        raise ValueError(f"{name} must have 3 channels as its last axis, got shape {tuple(image.shape)}")
    return transform(image.double()).to(image.dtype)


def rgb_to_syuv(rgb: ArrayLike) -> Tensor:
    """RGB, shape (..., 3), to a volume-preserving YUV."""
    return _transformed("rgb", rgb, YUV())


def syuv_to_rgb(yuv: ArrayLike) -> Tensor:
    """The inverse of `rgb_to_syuv`."""
    return _transformed("yuv", yuv, YUV().inverse)


def _planes(name: str, image: ArrayLike) -> Tensor:
    """The image as a tensor of at least two axes."""
    image = floating(name, image)
    if image.dim() < 2:
        raise ValueError(f"{name} must have two axes at least, got shape {tuple(image.shape)}")
    return image


def image_dct(image: ArrayLike) -> Tensor:
    """Orthonormal DCT-II over the last two axes."""
    found: Tensor = DCT()(_planes("image", image))
    return found


def image_idct(dct_image: ArrayLike) -> Tensor:
    """The inverse of `image_dct`."""
    found: Tensor = DCT().inverse(_planes("dct_image", dct_image))
    return found


def compute_jacobian(f: Callable[[Tensor], Tensor], x: ArrayLike) -> NDArray:
    """Derivatives of each element of f(x) (rows) in each element of x (columns)."""
    x = floating("x", x)
    jacobian = torch.autograd.functional.jacobian(f, x)
    return jacobian.reshape(-1, x.numel()).numpy()
