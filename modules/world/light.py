"""Light and how surfaces answer to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .curves import unit
from .parameters import Faces, category, variation

# Azimuth from the front (positive from the right of the image) and elevation, in degrees.
_SIDES = ((0.0, 25.0), (-46.0, 24.0), (46.0, 24.0), (0.0, 55.0))
_COLORS = ((1.0, 0.98, 0.95), (1.12, 0.96, 0.78), (0.86, 0.97, 1.16), (1.2, 0.95, 0.62), (1.14, 0.88, 1.0))


class Light(NamedTuple):
    """One lamp far away and what the surroundings send back; colours [3, B, 1], directions [B, 3]."""

    direction: Tensor
    lamp: Tensor
    sky: Tensor
    ground: Tensor


def light(faces: Faces) -> Light:
    """The light of each scene."""
    device = faces.scene.device
    angles = torch.tensor(_SIDES, device=device)[category(faces, "light_side")]
    azimuth = torch.deg2rad(angles[:, 0] + 14 * variation(faces, "light_azimuth"))
    elevation = torch.deg2rad(angles[:, 1] + 12 * variation(faces, "light_elevation"))
    direction = torch.stack([azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], -1)
    color = torch.tensor(_COLORS, device=device)[category(faces, "light_color")].T[..., None]
    contrast = 0.39 + 0.17 * variation(faces, "light_contrast")[None, :, None]
    lamp = color * (0.62 + 0.75 * contrast)
    sky = (0.35 * color + 0.65) * (0.62 - 0.42 * contrast)
    return Light(direction, lamp, sky, sky * torch.tensor([0.72, 0.64, 0.6], device=device)[:, None, None])


def shade(
    albedo: Tensor,
    normal: Tensor,
    light: Light,
    occlusion: Tensor | float,
    gloss: Tensor | float,
    power: float,
    softness: tuple[float, float, float] = (0.2, 0.2, 0.2),
) -> Tensor:
    """Light that leaves a surface, [3, B, M], linear.

    Args:
        albedo: [3, B, M] or broadcast to it.
        normal: [3, B, M] unit normals, in the camera's space.
        light: of the B faces.
        occlusion: share of the surroundings that is seen, [B, M].
        gloss: strength of the highlight.
        power: its sharpness.
        softness: how far light creeps round into the dark side, per colour: skin lets red light through.
    """
    direction = light.direction.T[..., None]
    facing = (normal * direction).sum(0)
    up = 0.5 + 0.5 * normal[1]
    room = 0.72 + 0.4 * normal[2].clamp(min=0)  # the room in front is brighter than what is beside
    ambient = torch.lerp(light.ground, light.sky, up) * (occlusion * room)
    half = direction + torch.tensor([0.0, 0.0, 1.0], device=normal.device)[:, None, None]
    half = unit(half)
    highlight = (normal * half).sum(0).clamp(min=0) ** power * gloss
    wrap = torch.tensor(softness, device=normal.device)[:, None, None]
    direct = ((facing + wrap) / (1 + wrap)).clamp(min=0) * (0.45 + 0.55 * occlusion)
    return albedo * (ambient + light.lamp * direct) + light.lamp * (highlight * occlusion)
