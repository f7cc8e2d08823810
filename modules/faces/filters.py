"""Maps and pictures ``[B, C, H, W]``: dilated, eroded, blurred, and filled in where nothing is known."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dilated(values: Tensor, radius: int) -> Tensor:
    """Maxima over squares of side 2 radius + 1."""
    side = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(values, (side, 1), 1, (radius, 0)), (1, side), 1, (0, radius))


def eroded(values: Tensor, radius: int) -> Tensor:
    """Minima over such squares."""
    return -dilated(-values, radius)


def blurred(values: Tensor, radius: int) -> Tensor:
    """Means over such squares; edges are repeated outwards."""
    side = 2 * radius + 1
    padded = F.pad(values, (radius,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)


def ramp(way: Tensor) -> Tensor:
    """0 up to 0, 1 from 1 on, smooth between."""
    way = way.clamp(0, 1)
    return way * way * (3 - 2 * way)


def filled(values: Tensor, weight: Tensor) -> Tensor:
    """``values`` where ``weight [B, 1, H, W]`` is 1; what has less is taken from coarser and coarser pictures.

    Push and pull (Gortler et al., 1996: "The Lumigraph").
    """
    if min(values.shape[-2:]) <= 2:
        total = weight.sum((2, 3), keepdim=True).clamp(min=1e-6)
        return ((values * weight).sum((2, 3), keepdim=True) / total).expand_as(values)
    share = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values * weight, 2, ceil_mode=True) / share.clamp(min=1e-6)
    low = filled(coarse, (4 * share).clamp(max=1))
    spread = F.interpolate(low, size=values.shape[-2:], mode="bilinear")
    return torch.lerp(spread, values, weight)
