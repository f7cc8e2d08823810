"""Cutting a person out of a photograph: a sharper matte, and the background that was behind."""

from __future__ import annotations

import torch
from scipy.ndimage import label
from torch import Tensor

from ...faces.filters import blurred, dilated, filled
from ..curves import step

_PERSON = 0.25  # of a coarse matte, from which on a pixel may be the person's
_SOLID = (0.12, 0.9)  # what of a refined matte is taken for 0 and for 1


def refined_matte(photo: Tensor, coarse: Tensor) -> Tensor:
    """A matte [B, 1, S, S] that follows edges of the photograph [B, 3, S, S], of the largest person alone.

    A guided filter (He, Sun and Tang, 2013) of the coarse matte [B, 1, S, S], then contrast.
    """
    size = photo.shape[-1]
    person = _largest_parts(dilated((coarse > _PERSON).float(), max(1, size // 40)))
    grey, radius = photo.mean(1, keepdim=True), max(2, size // 64)
    mean, mean_matte = blurred(grey, radius), blurred(coarse, radius)
    covariance = blurred(grey * coarse, radius) - mean * mean_matte
    slope = covariance / (blurred(grey * grey, radius) - mean * mean + 2e-4)
    fine = blurred(slope, radius) * grey + blurred(mean_matte - slope * mean, radius)
    return step(fine.clamp(0, 1), *_SOLID) * blurred(person, max(1, size // 64))


def background_plate(photo: Tensor, matte: Tensor) -> Tensor:
    """[B, 3, S, S] the background, filled in smoothly where the person is."""
    size = photo.shape[-1]
    seen = 1 - dilated((matte > 0.03).float(), max(1, size // 40) + 1)
    plate = filled(photo, seen)
    return plate + (blurred(plate, max(1, size // 64)) - plate) * (1 - seen)


def _largest_parts(masks: Tensor) -> Tensor:
    """The largest connected part of each mask [B, 1, H, W]; an empty mask stays so."""
    kept = torch.zeros_like(masks)
    for mask, out in zip(masks[:, 0], kept[:, 0], strict=True):
        parts, count = label(mask.cpu().numpy() > 0)
        if count:
            numbers = torch.from_numpy(parts).to(mask.device)
            out[numbers == 1 + torch.bincount(numbers.flatten())[1:].argmax()] = 1
    return kept
