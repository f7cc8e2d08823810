"""From samples to pixels: means, and the flow that can be trusted."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_NEAR = 0.08  # interocular distances in depth within which a point is the one seen
_SPREAD = 6.0  # pixels that the flow may differ by within a pixel; more is an edge between two layers


def averaged(samples: Tensor, size: int) -> Tensor:
    """Means ``[B, C, size, size]`` over the samples of each pixel, of ``[B, C, S * S]`` or ``[B, S * S]``."""
    side = _side(samples)
    return F.avg_pool2d(samples.reshape(len(samples), -1, side, side), side // size)


def pixel_flow(samples: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Flow ``[B, 2, size, size]`` of pixels, and bool ``[B, 1, size, size]`` where all its samples agree about it.

    Args:
        samples: [B, 2, S * S] in [-1, 1], NaN where a sample comes from nowhere.
        size: pixels of a side.
    """
    side = _side(samples)
    known = torch.isfinite(samples).all(1, keepdim=True)
    values = torch.where(known, samples, 0.0)
    planes = values.reshape(len(values), 2, side, side)
    step = side // size
    spread = F.max_pool2d(planes, step) + F.max_pool2d(-planes, step)
    agrees = (spread * (size - 1) / 2 < _SPREAD).all(1, keepdim=True)
    return averaged(values, size), agrees & (averaged(known.float(), size) == 1)


def is_seen(flow: Tensor, flow_depth: Tensor, front: Tensor, size: int) -> Tensor:
    """bool ``[B, 1, size, size]``: what pixels show is not hidden in the picture that the flow leads to.

    Args:
        flow: [B, 2, S * S] of the samples.
        flow_depth: [B, S * S] distance from the camera, there, of what they show.
        front: [B, S * S] distance of what is seen in that picture, infinite where there is nothing.
        size: pixels of a side.
    """
    side = _side(front)
    front = torch.where(torch.isfinite(front), front, 0.0).view(-1, 1, side, side)
    place = torch.nan_to_num(flow).transpose(1, 2)[:, :, None]
    nearest = F.grid_sample(front, place, mode="nearest", align_corners=True)[:, :, :, 0]
    return averaged((flow_depth[:, None] < nearest + _NEAR).float(), size) == 1


def _side(samples: Tensor) -> int:
    return round(samples.shape[-1] ** 0.5)
