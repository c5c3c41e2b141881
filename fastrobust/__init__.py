"""Barron's general and adaptive robust loss over large arrays: values, gradients and likelihoods.

`fastrobust.optimize`, `stats`, `torch` and `jax` are imported when they are first asked for, since they need further
libraries.
"""

from types import ModuleType as _Module

from . import _parts
from ._api import curvature as curvature
from ._api import influence as influence
from ._api import log_partition as log_partition
from ._api import log_partition_and_grad as log_partition_and_grad
from ._api import loss as loss
from ._api import loss_and_grad as loss_and_grad
from ._api import nll as nll
from ._api import nll_and_grad as nll_and_grad
from ._api import weight as weight
from ._define import define as define
from ._types import LossGrad as LossGrad
from ._types import PartitionGrad as PartitionGrad

__version__ = "0.1.0"

__all__ = [
    "LossGrad",
    "PartitionGrad",
    "curvature",
    "define",
    "influence",
    "log_partition",
    "log_partition_and_grad",
    "loss",
    "loss_and_grad",
    "nll",
    "nll_and_grad",
    "weight",
]


def __getattr__(name: str) -> _Module:
    return _parts.part(name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", *_parts.installed()])
