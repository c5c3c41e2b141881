"""The loss as a norm for statsmodels' RLM, whose unit of residuals is its own estimate of the scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from statsmodels.robust import norms

import fastrobust as fr


class Norm(norms.RobustNorm):  # type: ignore[misc]
    """c^2 rho(z, alpha, c)."""

    def __init__(self, alpha: float, tune: float = 1.0) -> None:
        self.alpha, self.tune = alpha, tune

    def rho(self, z: Any) -> Any:
        return self.tune**2 * fr.loss(z, self.alpha, self.tune)

    def psi(self, z: Any) -> Any:
        return self.tune**2 * fr.influence(z, self.alpha, self.tune)

    def weights(self, z: Any) -> Any:
        return self.tune**2 * fr.weight(np.asarray(z), self.alpha, self.tune)

    def psi_deriv(self, z: Any) -> Any:
        return self.tune**2 * fr.curvature(z, self.alpha, self.tune)
