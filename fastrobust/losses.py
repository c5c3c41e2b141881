"""A catalogue of losses, each a `Loss`: called on arrays of any library, with all derivatives in one pass.

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

from types import ModuleType

from ._class_weights import balanced_weights, effective_number_weights
from ._cross_entropy import cross_entropy
from ._loss import Loss
from ._softmax_focal import softmax_focal
from .kernels.losses import classification, generative, likelihoods, residuals
from .kernels.losses.formula import Formula

_SUBJECTS = residuals, classification, likelihoods, generative
_FORMULAS: dict[str, Formula] = {
    name.lower(): getattr(subject, name) for subject in _SUBJECTS for name in subject.__all__
}
_losses: dict[str, Loss] = {}

__all__ = ["Loss", "balanced_weights", "cross_entropy", "effective_number_weights", "softmax_focal", *sorted(_FORMULAS)]


def _listed(subject: ModuleType) -> str:
    """The losses of a subject, a line each, under what the subject says of itself."""
    lines = [f"{(subject.__doc__ or '').strip()}", ""]
    for name in sorted(map(str.lower, subject.__all__)):
        said = (_FORMULAS[name].function.__doc__ or "").partition("\n")[0]
        lines.append(f"* `{name}`: {said}")
    return "\n".join(lines)


_ROWS = """Losses of rows, a value for several elements together.

* `cross_entropy`: of logits, and indices or probabilities of classes; arrays of NumPy, PyTorch and JAX.
* `softmax_focal`: the focal loss of several classes; likewise."""
__doc__ = "\n\n".join([__doc__ or "", *map(_listed, _SUBJECTS), _ROWS])


def __getattr__(name: str) -> Loss:
    """The loss of that name, made when it is first asked for."""
    if name not in _FORMULAS:
        raise AttributeError(f"fastrobust.losses has no loss {name!r}: it has {', '.join(sorted(_FORMULAS))}")
    if name not in _losses:
        _losses[name] = Loss(_FORMULAS[name], __name__)
    return _losses[name]


def __dir__() -> list[str]:
    return __all__
