"""How much each noise level counts in a diffusion loss."""

from __future__ import annotations

from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor


def min_snr_weight(noise: DDPMScheduler, steps: Tensor, gamma: float) -> Tensor:
    """``[B]``: min-SNR-gamma (Hang et al., 2023, eq. 5 and, for v, appendix)."""
    snr = compute_snr(noise, steps)
    clipped = snr.clamp(max=gamma)
    if noise.config.prediction_type == "v_prediction":
        return clipped / (snr + 1)
    return clipped / snr.clamp_min(1e-8)
