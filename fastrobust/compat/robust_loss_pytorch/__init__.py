"""The interface of Barron's package ``robust_loss_pytorch`` over these kernels.

``from fastrobust.compat import robust_loss_pytorch`` or ``import fastrobust.compat.robust_loss_pytorch as
robust_loss_pytorch`` in place of ``import robust_loss_pytorch``; names, signatures, defaults, parameters and
checkpoints stay. Where that package asserts or returns NaN, this one takes more: numbers, any rank, mixed dtypes.
The wavelet and image parts are not here yet.
"""

from typing import NoReturn

from . import adaptive, cubic_spline, distribution, general, util
from .adaptive import AdaptiveLossFunction, StudentsTLossFunction
from .general import lossfun

__all__ = [
    "AdaptiveLossFunction",
    "StudentsTLossFunction",
    "adaptive",
    "cubic_spline",
    "distribution",
    "general",
    "lossfun",
    "util",
]


def __getattr__(name: str) -> NoReturn:
    """Refuse what is not here, with a word on what is still to come."""
    if name == "wavelet":
        raise AttributeError(f"{name} is not here yet: wavelets are still to be taken from another package")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
