"""The same functions, differentiable, on tensors; the modules of this loss, and the distribution.

The functions are those of `fastrobust`: they take tensors on the CPU or a CUDA device, with autograd of any order,
`torch.func`, forward mode, `torch.compile` and `torch.export`. Here lists and Python numbers give tensors, too: as
residuals of PyTorch's default dtype, on the device of the parameters, and lists as parameters and weights of the
residuals' dtype and device. Arrays of NumPy are what they are to `fastrobust`: they give arrays of NumPy, and together
with tensors they are an error.

>>> import numpy as np
>>> import fastrobust.torch as frt
>>> frt.loss([3.0, 4.0], [1.0, 2.0], 1.0)
tensor([2.1623, 8.0000])
>>> frt.loss(np.array([3.0, 4.0]), [1.0, 2.0], 1.0)
array([2.16227766, 8.        ])
"""

import importlib

from ..kernels.compilers.alone import uninterrupted

# ruff: noqa: E402
# An exception out of a signal handler, as of Ctrl-C, would leave what cannot be imported again: halves of PyTorch's
# compiler and of Numba, and operators, which are registered once.
uninterrupted(
    lambda: [importlib.import_module(f".{name}", __name__) for name in ("_divergence", "_modules", "_routes")]
)

from .. import LossGrad, PartitionGrad, _api
from .._dispatch import remember
from .._evaluate import definitions
from .._shapes import SHAPES
from . import _divergence, _kernels, _routes  # noqa: F401  _divergence registers itself
from ._activation import ShapeActivation
from ._cross_entropy import CrossEntropyLoss
from ._distribution import Barron
from ._formula_module import Loss
from ._image_loss import AdaptiveImageLoss
from ._lists import for_tensors
from ._modules import AdaptiveLoss, RobustLoss, StudentTLoss
from ._usual_modules import (
    BCELoss,
    BCEWithLogitsLoss,
    GaussianNLLLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    SmoothL1Loss,
)

# A compiler cannot trace look-ups that import.
remember(_kernels.PLAIN, _routes)
for _name in ("loss", "nll", "log_partition", *SHAPES.values()):
    definitions[_name]

loss = for_tensors(_api.loss, __name__)
influence = for_tensors(_api.influence, __name__)
weight = for_tensors(_api.weight, __name__)
curvature = for_tensors(_api.curvature, __name__)
nll = for_tensors(_api.nll, __name__)
log_partition = for_tensors(_api.log_partition, __name__)
log_partition_and_grad = for_tensors(_api.log_partition_and_grad, __name__)
loss_and_grad = for_tensors(_api.loss_and_grad, __name__)
nll_and_grad = for_tensors(_api.nll_and_grad, __name__)

__all__ = [
    "AdaptiveImageLoss",
    "AdaptiveLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "Barron",
    "CrossEntropyLoss",
    "GaussianNLLLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "LossGrad",
    "MSELoss",
    "PartitionGrad",
    "RobustLoss",
    "ShapeActivation",
    "SmoothL1Loss",
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
