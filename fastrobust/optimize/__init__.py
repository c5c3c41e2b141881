"""Robust fitting with the general loss: pieces for other libraries' optimizers, and finished loops.

Needs SciPy: in a clone, pip install ".[optimize]"; `RobustRegressor` scikit-learn, too: pip install ".[sklearn]".
"""

from typing import TYPE_CHECKING, Any

from .._dispatch import install
from ..kernels.compilers.alone import imported
from ._efficiency import efficiency_scale as efficiency_scale
from ._gauss_newton import gauss_newton as gauss_newton
from ._gnc import gnc as gnc
from ._gnc import gnc_custom as gnc_custom
from ._irls import irls as irls
from ._scipy import scipy_loss as scipy_loss
from ._shape import fit_shape as fit_shape
from ._triggs import triggs_factors as triggs_factors

if TYPE_CHECKING:
    from ._regressor import RobustRegressor as RobustRegressor

__all__ = [
    "RobustRegressor",
    "efficiency_scale",
    "fit_shape",
    "gauss_newton",
    "gnc",
    "gnc_custom",
    "irls",
    "scipy_loss",
    "triggs_factors",
]


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import, and the others work without it.
    if name != "RobustRegressor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return imported("fastrobust.optimize._regressor").RobustRegressor
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "sklearn":
            raise
        raise ImportError(f"RobustRegressor needs scikit-learn: {install('sklearn')}", name=error.name) from error


def __dir__() -> list[str]:
    return list(__all__)
