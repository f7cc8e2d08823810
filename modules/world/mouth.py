"""What is seen between the lips: teeth, tongue, and the dark behind them."""

from __future__ import annotations

import torch
from torch import Tensor

from .action_units import jaw_drop
from .curves import mix, step
from .head import MOUTH, MOUTH_RISE
from .light import Light
from .parameters import Faces, identity_column

_FRONT, _CURVE = 1.37, 0.75  # the row of teeth: z = front - curve x^2


def mouth_colour(faces: Faces, point: Tensor, view: Tensor, light: Light) -> Tensor:
    """[3, B, M], linear, for rays from ``view`` [B, 3] through ``point`` [3, B, M], both in the head's space."""
    ray = point - view.T[..., None]
    ray = ray / ray[2:].clamp(max=-1e-3).neg()
    scale = 1 + 0.065 * identity_column(faces, "head_length")[:, None]
    shift = 0.065 * identity_column(faces, "mouth_height")[:, None]
    depth = (point[2] - (_FRONT - _CURVE * point[0] ** 2)).clamp(min=0)
    for _ in range(2):
        hit = point + ray * depth
        depth = (depth + hit[2] - (_FRONT - _CURVE * hit[0] ** 2)).clamp(0, 0.6)
    hit = point + ray * depth
    x, y = hit[0], (hit[1] - shift) / scale - MOUTH_RISE
    drop = jaw_drop(faces.action_units)[:, None]

    edge = MOUTH - 0.035 - 0.012 * step(x.abs(), 0.0, 0.25) * -1
    upper = step(y, edge - 0.008, edge + 0.012) * step(y, MOUTH + 0.26, MOUTH + 0.2)
    lower_edge = MOUTH - 0.045 - drop
    lower = step(y, lower_edge + 0.012, lower_edge - 0.01) * 0.8
    gaps = _gaps(x, 0.135) * upper + _gaps(x, 0.09) * lower
    teeth = torch.tensor([0.95, 0.9, 0.8], device=x.device)[:, None, None] * (1 - 0.35 * gaps)
    away = step(x.abs(), 0.5, 0.12)
    shadow = (0.25 + 0.75 * away) * (0.4 + 0.6 * step(depth, 0.3, 0.04)) * (0.62 + 0.38 * step(y, MOUTH + 0.09, MOUTH))

    tongue_top = MOUTH - 0.07 - 0.8 * drop + 0.02 * (1 - (x / 0.3) ** 2)
    tongue = step(y, tongue_top + 0.05, tongue_top - 0.06) * step(x.abs(), 0.32, 0.15)
    cave = torch.tensor([0.055, 0.016, 0.014], device=x.device)[:, None, None]
    inside = mix(cave, torch.tensor([0.33, 0.11, 0.1], device=x.device)[:, None, None], 0.75 * tongue)
    colour = mix(inside * (0.4 + 0.6 * away), teeth * shadow, torch.maximum(upper, lower) * step(x.abs(), 0.52, 0.4))
    return colour * (light.sky + light.lamp * 0.5)


def _gaps(x: Tensor, width: float) -> Tensor:
    """1 on the lines between teeth of ``width``, softly."""
    phase = (x / width - (x / width).round()).abs()  # 0 between two teeth: the middle of the row is a gap
    return step(phase, 0.1, 0.0)
