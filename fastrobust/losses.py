"""A catalogue of losses, each a `Loss`: called on arrays of any library, with all derivatives in one pass.

Residuals (``x``, prediction less target): `mse`, `half_squared_error`, `mae`, `huber`, `smooth_l1`, `pseudo_huber`,
`cauchy`, `geman_mcclure`, `welsch`, `tukey`, `log_cosh`, `epsilon_insensitive`, `squared_epsilon_insensitive`; of a
prediction ``x`` and a ``target``: `quantile`, `expectile`.

Classification with two classes: `bce` of probabilities, `bce_logits`, `focal_logits`, `balanced_focal_logits`;
`hinge`, `squared_hinge`, `smoothed_hinge` of scores.

Likelihoods: `poisson_deviance`, `gamma_deviance`, of the logarithm of the mean `poisson_deviance_log`,
`gamma_deviance_log`; `gaussian_nll`, `gaussian_nll_log`; `standard_kl`, `gaussian_kl`.

Generative models: `gan_minimax_generator`, `gan_non_saturating_generator`, `gan_hinge`, `gan_wasserstein`,
`gan_least_squares` (the discriminator's loss is `bce_logits`); `min_snr_noise`, `min_snr_data`, `min_snr_velocity`.

>>> import numpy as np
>>> from fastrobust import losses
>>> losses.bce_logits(np.array([40.0, -40.0]), np.array([1.0, 1.0]))
array([4.24835426e-18, 4.00000000e+01])
>>> total = losses.mse + 0.1 * losses.mae
>>> total(np.array([1.0, -2.0]), reduction="sum")
np.float64(5.300000000000001)
"""

from __future__ import annotations

from ._loss import Loss
from .kernels.losses import classification, generative, likelihoods, residuals

__all__ = [
    "Loss",
    "balanced_focal_logits",
    "bce",
    "bce_logits",
    "cauchy",
    "epsilon_insensitive",
    "expectile",
    "focal_logits",
    "gamma_deviance",
    "gamma_deviance_log",
    "gan_hinge",
    "gan_least_squares",
    "gan_minimax_generator",
    "gan_non_saturating_generator",
    "gan_wasserstein",
    "gaussian_kl",
    "gaussian_nll",
    "gaussian_nll_log",
    "geman_mcclure",
    "half_squared_error",
    "hinge",
    "huber",
    "log_cosh",
    "mae",
    "min_snr_data",
    "min_snr_noise",
    "min_snr_velocity",
    "mse",
    "poisson_deviance",
    "poisson_deviance_log",
    "pseudo_huber",
    "quantile",
    "smooth_l1",
    "smoothed_hinge",
    "squared_epsilon_insensitive",
    "squared_hinge",
    "standard_kl",
    "tukey",
    "welsch",
]


def __getattr__(name: str) -> Loss:
    raise AttributeError(f"fastrobust.losses has no loss {name!r}: it has {', '.join(__all__[1:])}")


cauchy = Loss(residuals.CAUCHY, __name__)
epsilon_insensitive = Loss(residuals.EPSILON_INSENSITIVE, __name__)
expectile = Loss(residuals.EXPECTILE, __name__)
geman_mcclure = Loss(residuals.GEMAN_MCCLURE, __name__)
half_squared_error = Loss(residuals.HALF_SQUARED_ERROR, __name__)
huber = Loss(residuals.HUBER, __name__)
log_cosh = Loss(residuals.LOG_COSH, __name__)
mae = Loss(residuals.MAE, __name__)
mse = Loss(residuals.MSE, __name__)
pseudo_huber = Loss(residuals.PSEUDO_HUBER, __name__)
quantile = Loss(residuals.QUANTILE, __name__)
smooth_l1 = Loss(residuals.SMOOTH_L1, __name__)
squared_epsilon_insensitive = Loss(residuals.SQUARED_EPSILON_INSENSITIVE, __name__)
tukey = Loss(residuals.TUKEY, __name__)
welsch = Loss(residuals.WELSCH, __name__)

balanced_focal_logits = Loss(classification.BALANCED_FOCAL_LOGITS, __name__)
bce = Loss(classification.BCE, __name__)
bce_logits = Loss(classification.BCE_LOGITS, __name__)
focal_logits = Loss(classification.FOCAL_LOGITS, __name__)
hinge = Loss(classification.HINGE, __name__)
smoothed_hinge = Loss(classification.SMOOTHED_HINGE, __name__)
squared_hinge = Loss(classification.SQUARED_HINGE, __name__)

gamma_deviance = Loss(likelihoods.GAMMA_DEVIANCE, __name__)
gamma_deviance_log = Loss(likelihoods.GAMMA_DEVIANCE_LOG, __name__)
gaussian_kl = Loss(likelihoods.GAUSSIAN_KL, __name__)
gaussian_nll = Loss(likelihoods.GAUSSIAN_NLL, __name__)
gaussian_nll_log = Loss(likelihoods.GAUSSIAN_NLL_LOG, __name__)
poisson_deviance = Loss(likelihoods.POISSON_DEVIANCE, __name__)
poisson_deviance_log = Loss(likelihoods.POISSON_DEVIANCE_LOG, __name__)
standard_kl = Loss(likelihoods.STANDARD_KL, __name__)

gan_hinge = Loss(generative.GAN_HINGE, __name__)
gan_least_squares = Loss(generative.GAN_LEAST_SQUARES, __name__)
gan_minimax_generator = Loss(generative.GAN_MINIMAX_GENERATOR, __name__)
gan_non_saturating_generator = Loss(generative.GAN_NON_SATURATING_GENERATOR, __name__)
gan_wasserstein = Loss(generative.GAN_WASSERSTEIN, __name__)
min_snr_data = Loss(generative.MIN_SNR_DATA, __name__)
min_snr_noise = Loss(generative.MIN_SNR_NOISE, __name__)
min_snr_velocity = Loss(generative.MIN_SNR_VELOCITY, __name__)
