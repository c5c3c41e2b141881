"""Robust fitting with the general loss: pieces for other libraries' optimizers, and finished loops.  Needs SciPy."""

from ._efficiency import efficiency_scale as efficiency_scale
from ._gauss_newton import gauss_newton as gauss_newton
from ._gauss_newton import triggs_factors as triggs_factors
from ._gnc import gnc as gnc
from ._irls import irls as irls
from ._scipy import scipy_loss as scipy_loss
from ._shape import fit_shape as fit_shape

__all__ = ["efficiency_scale", "fit_shape", "gauss_newton", "gnc", "irls", "scipy_loss", "triggs_factors"]
