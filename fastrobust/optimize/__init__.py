"""Robust fitting with the general loss: pieces for other libraries' optimizers, and finished loops.  Needs SciPy."""

from ._efficiency import efficiency_scale as efficiency_scale
from ._scipy import scipy_loss as scipy_loss

__all__ = ["efficiency_scale", "scipy_loss"]
