"""Small functions on tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...torch._modules import SHIFT, student_t_nll
from ._arguments import floating, parameter, positive, tensor

_LOG_MAX, _EXP_MAX = 33e37, 87.5  # the largest arguments whose results fit into float32


def log_safe(x: Any) -> Tensor:
    """log(x), of at most 3.3e38."""
    return torch.log(torch.clamp(floating("x", x), max=_LOG_MAX))


def log1p_safe(x: Any) -> Tensor:
    """log(1 + x), of at most 3.3e38."""
    return torch.log1p(torch.clamp(floating("x", x), max=_LOG_MAX))


def exp_safe(x: Any) -> Tensor:
    """exp(x), of at most 87.5."""
    return torch.exp(torch.clamp(floating("x", x), max=_EXP_MAX))


def expm1_safe(x: Any) -> Tensor:
    """exp(x) - 1, of at most 87.5."""
    return torch.expm1(torch.clamp(floating("x", x), max=_EXP_MAX))


def inv_softplus(y: Any) -> Tensor:
    """x with log(1 + exp(x)) = y."""
    y = floating("y", y)
    return y + torch.log(-torch.expm1(-y))


def logit(y: Any) -> Tensor:
    """x with 1/(1 + exp(-x)) = y."""
    return torch.logit(floating("y", y))


def _ordered(lo: float, hi: float) -> None:
    if not lo < hi:
        raise ValueError(f"lo must be less than hi, got {lo!r} and {hi!r}")


def affine_sigmoid(logits: Any, lo: float = 0, hi: float = 1) -> Tensor:
    """From the real line to (lo, hi)."""
    _ordered(lo, hi)
    return torch.sigmoid(floating("logits", logits)) * (hi - lo) + lo


def inv_affine_sigmoid(probs: Any, lo: float = 0, hi: float = 1) -> Tensor:
    """Inverse of `affine_sigmoid`."""
    _ordered(lo, hi)
    return logit((floating("probs", probs) - lo) / (hi - lo))


def affine_softplus(x: Any, lo: float = 0, ref: float = 1) -> Tensor:
    """From the real line to (lo, inf), with ref at 0."""
    if not lo < ref:
        raise ValueError(f"lo must be less than ref, got {lo!r} and {ref!r}")
    return (ref - lo) * torch.nn.functional.softplus(floating("x", x) + SHIFT) + lo


def inv_affine_softplus(y: Any, lo: float = 0, ref: float = 1) -> Tensor:
    """Inverse of `affine_softplus`."""
    if not lo < ref:
        raise ValueError(f"lo must be less than ref, got {lo!r} and {ref!r}")
    return inv_softplus((floating("y", y) - lo) / (ref - lo)) - SHIFT


def students_t_nll(x: Any, df: Any, scale: Any) -> Tensor:
    """The negative log-likelihood of Student's t."""
    df, scale = positive("df", parameter("df", df)), positive("scale", parameter("scale", scale))
    value, dtype = student_t_nll(tensor("x", x), df, scale)
    return value.to(dtype)


# The YUV of PAL, scaled so that it keeps volumes: distributions of pixels are densities in either space.
_MATRIX = 1.580227820074 * torch.tensor(
    [
        [0.299, 0.587, 0.114],
        [-0.14714119, -0.28886916, 0.43601035],
        [0.61497538, -0.51496512, -0.10001026],
    ],
    dtype=torch.float64,
)


def _transformed(name: str, image: Any, matrix: Tensor) -> Tensor:
    image = floating(name, image)
    if not image.dim() or image.shape[-1] != 3:
        raise ValueError(f"{name} must have 3 channels as its last axis, got shape {tuple(image.shape)}")
    return image @ matrix.to(image).T


def rgb_to_syuv(rgb: Any) -> Tensor:
    """RGB, shape (..., 3), to a volume-preserving YUV."""
    return _transformed("rgb", rgb, _MATRIX)


def syuv_to_rgb(yuv: Any) -> Tensor:
    """Inverse of `rgb_to_syuv`."""
    return _transformed("yuv", yuv, torch.linalg.inv(_MATRIX))


def _dct(n: int, like: Tensor) -> Tensor:
    """The orthonormal matrix of the DCT-II."""
    k, i = (torch.arange(n, dtype=torch.float64, device=like.device).reshape(s) for s in ((-1, 1), (1, -1)))
    matrix = math.sqrt(2 / n) * torch.cos(math.pi * k * (2 * i + 1) / (2 * n))
    matrix[0] /= math.sqrt(2)
    return matrix.to(like.dtype)


def _planes(name: str, image: Any) -> Tensor:
    image = floating(name, image)
    if image.dim() < 2:
        raise ValueError(f"{name} must have two axes at least, got shape {tuple(image.shape)}")
    return image


def image_dct(image: Any) -> Tensor:
    """Orthonormal DCT-II over the last two axes."""
    image = _planes("image", image)
    return _dct(image.shape[-2], image) @ image @ _dct(image.shape[-1], image).T


def image_idct(dct_image: Any) -> Tensor:
    """Inverse of `image_dct`."""
    image = _planes("dct_image", dct_image)
    return _dct(image.shape[-2], image).T @ image @ _dct(image.shape[-1], image)


def compute_jacobian(f: Callable[[Tensor], Tensor], x: Any) -> np.ndarray[Any, Any]:
    """Derivatives of each element of f(x) (rows) in each element of x (columns)."""
    x = floating("x", x)
    jacobian = torch.autograd.functional.jacobian(f, x)
    return jacobian.reshape(-1, x.numel()).numpy()
