"""The negative log-likelihood rho(x, alpha, c) + log c + log Z(alpha), and the table of what can be evaluated."""

from __future__ import annotations

from . import loss

# What `element` of each family returns, in order.
OUTPUTS = ("value", "dx", "dalpha", "dscale", "weight", "curvature")
FAMILIES = {"loss": (loss.shape, loss.width, loss.ordinary, loss.general, loss.element)}
