"""Losses of generative models: adversarial ones of logits, and noise prediction in diffusion."""

from __future__ import annotations

from typing import Any

from ..graph.functions import exp, maximum, minimum, sigmoid, softplus
from .definition import Domain
from .formula import Formula

__all__ = [
    "GAN_HINGE",
    "GAN_LEAST_SQUARES",
    "GAN_MINIMAX_GENERATOR",
    "GAN_NON_SATURATING_GENERATOR",
    "GAN_WASSERSTEIN",
    "MIN_SNR_DATA",
    "MIN_SNR_NOISE",
    "MIN_SNR_VELOCITY",
]

Number = Any  # of a formula: see `graph.real`


def gan_minimax_generator(x: Number) -> Number:
    """The generator's minimax loss of the discriminator's logit x of what is generated: log(1 - s(x))."""
    return -softplus(x)


def gan_non_saturating_generator(x: Number) -> Number:
    """The generator's non-saturating loss of the discriminator's logit x of what is generated: -log s(x)."""
    return softplus(-x)


def gan_hinge(x: Number, target: Number) -> Number:
    """The discriminator's hinge loss: max(0, 1 - t x), t = 1 for what is real and -1 for what is generated."""
    return maximum(0, 1 - target * x)


def gan_wasserstein(x: Number, target: Number) -> Number:
    """The critic's Wasserstein loss -t x, t = 1 for what is real and -1 for what is generated.

    With t = 1 for what is generated it is the generator's loss, that of the hinge loss too.
    """
    return -(target * x)


def gan_least_squares(x: Number, target: Number) -> Number:
    """Least-squares loss (x - t)^2/2, t = 1 for what is to look real and 0 for what is not."""
    return 0.5 * ((x - target) * (x - target))


def min_snr_noise(x: Number, log_snr: Number, gamma: Number = 5.0) -> Number:
    """Squared error of predicted noise by min-SNR weights: min(1, gamma/SNR) x^2."""
    return minimum(1, gamma * exp(-log_snr)) * (x * x)


def min_snr_data(x: Number, log_snr: Number, gamma: Number = 5.0) -> Number:
    """Squared error of predicted data by min-SNR weights: min(SNR, gamma) x^2."""
    return minimum(exp(log_snr), gamma) * (x * x)


def min_snr_velocity(x: Number, log_snr: Number, gamma: Number = 5.0) -> Number:
    """Squared error of predicted velocity by min-SNR weights: min(SNR, gamma)/(SNR + 1) x^2."""
    # s(l) min(1, gamma/SNR), so that nothing is 0/0 where the SNR is 0.
    return sigmoid(log_snr) * minimum(1, gamma * exp(-log_snr)) * (x * x)


_GAMMA = {"gamma": Domain(0.0, True, "gamma must be positive, got {}: it is the signal-to-noise ratio that is enough")}

GAN_MINIMAX_GENERATOR = Formula(gan_minimax_generator)
GAN_NON_SATURATING_GENERATOR = Formula(gan_non_saturating_generator)
GAN_HINGE = Formula(gan_hinge, precision="wide", ranges={"target": (-1.0, 1.0)})  # as `classification.HINGE` is
GAN_WASSERSTEIN = Formula(gan_wasserstein, ranges={"target": (-1.0, 1.0)})
GAN_LEAST_SQUARES = Formula(gan_least_squares)
MIN_SNR_NOISE, MIN_SNR_DATA, MIN_SNR_VELOCITY = (
    Formula(function, ("gamma",), domains=_GAMMA, ranges={"log_snr": (-20.0, 20.0)})
    for function in (min_snr_noise, min_snr_data, min_snr_velocity)
)
