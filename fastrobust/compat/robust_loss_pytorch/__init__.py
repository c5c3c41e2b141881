"""The interface of Barron's package ``robust_loss_pytorch`` over these kernels.

``from fastrobust.compat import robust_loss_pytorch`` or ``import fastrobust.compat.robust_loss_pytorch as
robust_loss_pytorch`` in place of ``import robust_loss_pytorch``; names, signatures, defaults, parameters and
checkpoints stay. Where that package asserts or returns NaN, this one takes more: numbers, any rank, mixed dtypes.
"""

from . import adaptive, cubic_spline, distribution, general, util, wavelet
from .adaptive import AdaptiveImageLossFunction, AdaptiveLossFunction, StudentsTLossFunction
from .general import lossfun

__all__ = [
    "AdaptiveImageLossFunction",
    "AdaptiveLossFunction",
    "StudentsTLossFunction",
    "adaptive",
    "cubic_spline",
    "distribution",
    "general",
    "lossfun",
    "util",
    "wavelet",
]
