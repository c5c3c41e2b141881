"""The same functions, differentiable, on tensors; and the modules of this loss.

The functions are those of `fastrobust`: they take tensors on the CPU or a CUDA device, with autograd of any order,
`torch.func`, forward mode, `torch.compile` and `torch.export`.
"""

import importlib

from ..kernels.compilers.alone import uninterrupted

# ruff: noqa: E402
# An exception out of a signal handler, as of Ctrl-C, would leave what cannot be imported again: halves of PyTorch's
# compiler and of Numba, and operators, which are registered once.
uninterrupted(
    lambda: [importlib.import_module(f".{name}", __name__) for name in ("_divergence", "_modules", "_routes")]
)

from .. import (
    LossGrad,
    PartitionGrad,
    curvature,
    influence,
    log_partition,
    log_partition_and_grad,
    loss,
    loss_and_grad,
    nll,
    nll_and_grad,
    weight,
)
from .._dispatch import remember
from .._evaluate import definitions
from . import _divergence, _kernels, _routes  # noqa: F401  _divergence registers itself
from ._distribution import Barron
from ._modules import AdaptiveLoss, RobustLoss, StudentTLoss

# A compiler cannot trace look-ups that import.
remember(_kernels.PLAIN, _routes)
for _name in ("loss", "nll", "log_partition"):
    definitions[_name]

__all__ = [
    "AdaptiveLoss",
    "Barron",
    "LossGrad",
    "PartitionGrad",
    "RobustLoss",
    "StudentTLoss",
    "curvature",
    "influence",
    "log_partition",
    "log_partition_and_grad",
    "loss",
    "loss_and_grad",
    "nll",
    "nll_and_grad",
    "weight",
]
