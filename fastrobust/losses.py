"""A catalogue of losses, called on arrays of any library, with all derivatives in one pass.

Losses of elements are each a `Loss`; those of regions and of rows are called likewise, and have `value_and_grad`.

The first operand ``x`` is a residual (prediction less target), or what is predicted, where there is a ``target``.

>>> import numpy as np
>>> from fastrobust import losses
>>> losses.bce_logits(np.array([40.0, -40.0]), np.array([1.0, 1.0]))
array([4.24835426e-18, 4.00000000e+01])
>>> weights = losses.balanced_weights([3, 1])  # of classes of which one is rare
>>> total = losses.mse + 0.1 * losses.mae
>>> total(np.array([1.0, -2.0]), reduction="sum")
np.float64(5.300000000000001)
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ._class_weights import balanced_weights, effective_number_weights
from ._cross_entropy import cross_entropy
from ._divergence import kl_logits
from ._info_nce import info_nce
from ._loss import Loss
from ._multiclass_hinge import multiclass_hinge
from ._norm_loss import norm
from ._softmax_focal import softmax_focal
from ._triplet import triplet
from .kernels.compilers.alone import imported
from .kernels.losses import classification, generative, likelihoods, regions, residuals, similarity, tasks
from .kernels.losses.formula import Formula

_SUBJECTS = residuals, classification, likelihoods, generative, similarity, tasks
_FORMULAS: dict[str, Formula] = {
    name.lower(): getattr(subject, name) for subject in _SUBJECTS for name in subject.__all__
}
_NAMES = sorted([*_FORMULAS, *regions.NAMES])
_losses: dict[str, Any] = {}

__all__ = [
    "Loss",
    "balanced_weights",
    "cross_entropy",
    "effective_number_weights",
    "info_nce",
    "kl_logits",
    "multiclass_hinge",
    "norm",
    "softmax_focal",
    "triplet",
    *_NAMES,
]


def _formula(name: str) -> Formula:
    return _FORMULAS[name] if name in _FORMULAS else regions.formula(name)


def _listed(subject: ModuleType, names: Sequence[str]) -> str:
    """The losses of a subject, a line each, under what the subject says of itself."""
    said = [f"* `{name}`: {(_formula(name).function.__doc__ or '').partition(chr(10))[0]}" for name in sorted(names)]
    return "\n".join([(subject.__doc__ or "").strip(), "", *said])


_ROWS = """Losses of rows, a value for several elements together.

* `cross_entropy`: of logits, and indices or probabilities of classes; arrays of NumPy, CuPy, PyTorch and JAX.
* `softmax_focal`: the focal loss of several classes; likewise.
* `kl_logits`: the Kullback-Leibler divergence by logits; likewise.
* `multiclass_hinge`: of the scores of several classes; likewise.
* `info_nce`: of the embeddings of a batch; likewise.
* `triplet`: of an anchor, what is like it and what is not; likewise.
* `norm`: makes a loss of the length of vectors of one of residuals, or of `contrastive`; likewise."""
__doc__ = "\n\n".join(
    [
        __doc__ or "",
        *(_listed(subject, [name.lower() for name in subject.__all__]) for subject in _SUBJECTS),
        _listed(regions, regions.NAMES),
        _ROWS,
    ]
)


def __getattr__(name: str) -> Any:
    """The loss of that name, made when it is first asked for."""
    if name in regions.NAMES:
        kind: Any = imported(f"{__package__}._regions").RegionLoss
    elif name in _FORMULAS:
        kind = Loss
    else:
        raise AttributeError(f"fastrobust.losses has no loss {name!r}: it has {', '.join(_NAMES)}")
    if name not in _losses:
        _losses[name] = kind(_formula(name), __name__) if kind is Loss else kind(name, __name__)
    return _losses[name]


def __dir__() -> list[str]:
    return __all__
