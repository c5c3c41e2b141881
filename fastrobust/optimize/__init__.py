"""Robust fitting with the general loss: pieces for other libraries' optimizers, and finished loops.

Needs SciPy: in a clone, pip install ".[optimize]"; `RobustRegressor` scikit-learn, too: pip install ".[sklearn]".
"""

from typing import TYPE_CHECKING, Any

from ._efficiency import efficiency_scale as efficiency_scale
from ._gauss_newton import gauss_newton as gauss_newton
from ._gauss_newton import triggs_factors as triggs_factors
from ._gnc import gnc as gnc
from ._irls import irls as irls
from ._scipy import scipy_loss as scipy_loss
from ._shape import fit_shape as fit_shape

if TYPE_CHECKING:
    from ._regressor import RobustRegressor as RobustRegressor

__all__ = [
    "RobustRegressor",
    "efficiency_scale",
    "fit_shape",
    "gauss_newton",
    "gnc",
    "irls",
    "scipy_loss",
    "triggs_factors",
]


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import, and the others work without it.
    if name != "RobustRegressor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from ._regressor import RobustRegressor
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        from .._dispatch import install

        raise ImportError(f"RobustRegressor needs scikit-learn: {install('sklearn')}", name=error.name) from error
    return RobustRegressor


def __dir__() -> list[str]:
    return list(__all__)
