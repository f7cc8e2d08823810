"""How much each noise level, and each place of a picture, counts in a diffusion loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from torch import Tensor

from .. import media
from ..data.portraits import Portrait
from ..media.tensors import to_tensor


def min_snr_weight(noise: DDPMScheduler, steps: Tensor, gamma: float) -> Tensor:
    """``[B]``: min-SNR-gamma (Hang et al., 2023, eq. 5 and, for v, appendix)."""
    snr = compute_snr(noise, steps)
    clipped = snr.clamp(max=gamma)
    if noise.config.prediction_type == "v_prediction":
        return clipped / (snr + 1)
    return clipped / snr.clamp_min(1e-8)


def face_weight(face: Tensor, weight: float) -> Tensor:
    """``[B, 1, h, w]`` of mean 1 per item: ``weight`` inside the masks ``face [B, 1, h, w]`` relative to outside."""
    weights = 1 + (weight - 1) * face
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-8)


def latent_face_mask(portrait: Portrait, resolution: int, shape: tuple[int, int]) -> Tensor:
    """How much of each place of a latent ``shape`` is face: ``[1, h, w]`` in [0, 1]; 0 for a portrait without mask."""
    if portrait.mask is None:
        return torch.zeros(1, *shape)
    mask = media.fit(media.read_image(portrait.mask), resolution, resolution)
    return F.interpolate(to_tensor([mask]).mean(dim=1, keepdim=True), size=shape, mode="area")[0]
