"""Estimates of the clean latent x0 while there is still noise: what losses on the finished picture look at.

All of them are deterministic DDIM (Song et al., 2021, eq. 12 with eta = 0) from the noise level t to 0, in N
evaluations of the network at the evenly spaced levels t, floor(t (N-1)/N), ..., floor(t/N):

    x0  = (x_t - sqrt(1 - a_t) e) / sqrt(a_t)              e: the noise that the network predicts at x_t, t
    x_m = sqrt(a_m) x0 + sqrt(1 - a_m) e                   for the next level m; and again from there

a is the cumulative alpha.  ``one_step`` is N = 1.  ``midpoint`` is N = 2: exactly DiffSwap's midpoint estimate (Zhao et
al., CVPR 2023), m = floor(t/2), which DiffSFSR (CVPR 2024) improves in a way that is not public.  ``ddim-N`` is any N.
"""

from __future__ import annotations

from collections.abc import Callable

from diffusers import DDPMScheduler
from torch import Tensor

from ..config.mef import evaluations

Predict = Callable[[Tensor, Tensor], Tensor]  # x_t [B, C, h, w] and t [B] -> noise or v, as the base predicts it


def estimate_clean(
    noise: DDPMScheduler, estimator: str, noisy: Tensor, prediction: Tensor, steps: Tensor, predict: Predict
) -> Tensor:
    """The latent x0 ``[B, C, h, w]``, with the gradient of every evaluation.

    Args:
        noise: the base's noise schedule, and whether it predicts noise or v.
        estimator: ``one_step``, ``midpoint`` or ``ddim-N``.
        noisy, prediction, steps: x_t, what the network predicts of it, and t ``[B]``: the first evaluation.
        predict: the further N - 1.
    """
    count = evaluations(estimator)
    level = steps
    for i in range(1, count):
        lower = steps * (count - i) // count
        kept = _kept(noise, lower, noisy)
        clean, error = clean_of(noise, noisy, prediction, level), noise_of(noise, noisy, prediction, level)
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * error
        prediction, level = predict(noisy, lower), lower
    return clean_of(noise, noisy, prediction, level)


def clean_of(noise: DDPMScheduler, noisy: Tensor, prediction: Tensor, steps: Tensor) -> Tensor:
    """The x0 that one prediction means (Salimans and Ho, 2022, appendix D, for v)."""
    kept = _kept(noise, steps, noisy)
    if noise.config.prediction_type == "v_prediction":
        return kept.sqrt() * noisy - (1 - kept).sqrt() * prediction
    return (noisy - (1 - kept).sqrt() * prediction) / kept.sqrt()


def noise_of(noise: DDPMScheduler, noisy: Tensor, prediction: Tensor, steps: Tensor) -> Tensor:
    """The noise that one prediction means."""
    if noise.config.prediction_type == "v_prediction":
        kept = _kept(noise, steps, noisy)
        return kept.sqrt() * prediction + (1 - kept).sqrt() * noisy
    return prediction


def _kept(noise: DDPMScheduler, steps: Tensor, like: Tensor) -> Tensor:
    """Cumulative alphas ``[B, 1, 1, 1]``."""
    return noise.alphas_cumprod.to(like.device)[steps][:, None, None, None]
