"""Barron's general and adaptive robust loss over large arrays: values, gradients and likelihoods."""

from ._api import curvature as curvature
from ._api import influence as influence
from ._api import log_partition as log_partition
from ._api import log_partition_and_grad as log_partition_and_grad
from ._api import loss as loss
from ._api import loss_and_grad as loss_and_grad
from ._api import nll as nll
from ._api import nll_and_grad as nll_and_grad
from ._api import weight as weight
from ._types import LossGrad as LossGrad
from ._types import PartitionGrad as PartitionGrad

__version__ = "0.1.0"

__all__ = [
    "LossGrad",
    "PartitionGrad",
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
