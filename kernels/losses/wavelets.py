"""Wavelets by lifting: what one level does to a line of numbers, and by how much it changes volumes.

Samples of even places and of odd ones are added to each other by turns (Daubechies and Sweldens 1998): each step adds
a factor times the sum of both neighbours to every sample of its parity, first to the odd ones.  Then even samples are
multiplied by the scale and are the low band, odd ones are divided by it and are the high band.  Beyond its ends a line
goes on reflected, without a repeated sample, so that a neighbour that is missing is the other one again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["WAVELETS", "Wavelet"]


@dataclass(frozen=True)
class Wavelet:
    """A biorthogonal wavelet."""

    name: str
    steps: tuple[float, ...]
    scale: float

    @property
    def __name__(self) -> str:
        """The name that kernels' names contain."""
        return "".join(letter if letter.isalnum() else "_" for letter in self.name)

    def log_abs_det(self, length: int) -> float:
        """The logarithm of the absolute determinant of one level of a line of two samples at least."""
        return math.log(self.scale) if length % 2 else 0.0


# CDF9/7: I. Daubechies and W. Sweldens, Factoring Wavelet Transforms into Lifting Steps, 1998, section 7.7, as JPEG
# 2000 has it; LeGall5/3: D. Le Gall and A. Tabatabai, 1988.  Scales are such that the low band's gain is sqrt 2.
WAVELETS = {
    wavelet.name: wavelet
    for wavelet in (
        Wavelet(
            "CDF9/7",
            (-1.5861343420599235, -0.0529801185729614, 0.8829110755309333, 0.4435068520439711),
            1.1496043988602418,
        ),
        Wavelet("LeGall5/3", (-0.5, 0.25), math.sqrt(2.0)),
    )
}
