"""The numbers alpha at which Barron's loss has a definition with a closed form, without a derivative in alpha."""

from __future__ import annotations

import math

__all__ = ["NUMBERS", "SHAPES"]

NUMBERS = float, int  # the types of numbers that are looked at, not those of NumPy's

SHAPES = {  # the names of the definitions
    2.0: "loss_l2",
    1.0: "loss_charbonnier",
    0.0: "loss_cauchy",
    -2.0: "loss_geman_mcclure",
    -math.inf: "loss_welsch",
}
