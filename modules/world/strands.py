"""How hair and hats look."""

from __future__ import annotations

import torch
from torch import Tensor

from . import colours
from .curves import step, unit
from .light import Light, shade
from .noise import noise
from .parameters import HAIR_STYLES, HATS, Faces, category, variation

_CURLED = tuple(name in ("curly", "afro", "long curly") for name in HAIR_STYLES)
_SHORT = tuple(name in ("short", "buzz-cut", "swept-back", "side-parted") for name in HAIR_STYLES)
_WAVED = tuple(name in ("long wavy",) for name in HAIR_STYLES)


def hair_colour(faces: Faces, coordinates: Tensor, normal: Tensor, point: Tensor, light: Light) -> Tensor:
    """[3, B, M], linear: locks of strands that run down the shell, or curls; the highlight lies across them."""
    azimuth, height, share = coordinates
    normal = torch.where(normal[2:] < 0, -normal, normal)  # the inside of a curtain of hair is seen as well
    style = category(faces, "hair_style")
    curled = torch.tensor(_CURLED, device=style.device)[style][:, None]
    waved = torch.tensor(_WAVED, device=style.device)[style][:, None]
    seed = 20 * variation(faces, "hair_seed")[:, None] + 60
    bend = noise(azimuth * 2 + seed, share * 3 + 50) * 1.2 + waved * 0.25 * torch.sin(height * 5.5 + 4 * azimuth.sin())
    across = azimuth * 9 + 1.5 * bend
    short = torch.tensor(_SHORT, device=style.device)[style][:, None]
    cut = torch.where(short, 2.6, 1.0)  # short hair lies in tufts
    strand = 0.5 * noise(across * 5.5 + seed, share * 4 * cut) + 0.5 * noise(across * 12, share * 7 * cut + seed)
    lock = noise(across * (0.7 + 0.6 * cut) + seed, share * 2.2 * cut**1.5 + 9)
    curl = noise(point[0] * 9 + seed, point[1] * 9 + point[2] * 4)
    fine = noise(point[0] * 22 + seed, point[1] * 22 + point[2] * 9)
    strand = torch.where(curled, 0.45 * fine + 0.55 * curl, strand)
    lock = torch.where(curled, curl, lock)

    down = torch.stack([-normal[0] * normal[1], 1 - normal[1] ** 2, -normal[2] * normal[1]])
    tilt = (lock - 0.5) * torch.where(curled, 1.6, 0.9)
    tangent = unit(down)
    lit_normal = normal + 0.5 * tilt * torch.stack([normal[2], 0 * tilt, -normal[0]]) + 0.25 * tilt * tangent
    lit_normal = unit(lit_normal)
    albedo = colours.hair(faces) * (0.5 + 0.7 * strand + 0.35 * (lock - 0.5))
    occlusion = (0.66 + 0.34 * step(share, 1.02, 0.8)) * (0.55 + 0.45 * lock) * (0.6 + 0.4 * step(height, -2.2, -0.3))
    colour = shade(albedo, lit_normal, light, occlusion, 0.0, 1, (0.3, 0.3, 0.3))

    half = light.direction.T[..., None] + torch.tensor([0.0, 0.0, 1.0], device=normal.device)[:, None, None]
    half = unit(half)
    along = (tangent * half).sum(0) + 0.35 * (strand - 0.5)
    band = (1 - along**2).clamp(min=0) ** 14 * (normal * half).sum(0).clamp(min=0)
    sheen = (0.35 * colours.hair(faces) ** 0.5 + 0.03) * torch.where(curled, 0.4, 1.0)
    return colour + sheen * light.lamp * band * (0.3 + 0.9 * strand) * occlusion


def hat_colour(faces: Faces, coordinates: Tensor, normal: Tensor, light: Light) -> Tensor:
    """[3, B, M], linear: knitted, woven or felt."""
    azimuth, height, share = coordinates
    normal = torch.where(normal[2:] < 0, -normal, normal)
    kind = category(faces, "hat")[:, None]
    albedo = colours.hat(faces).expand(3, *azimuth.shape)
    ribs = 0.5 + 0.5 * torch.sin(azimuth * 40)
    knit = (kind == HATS.index("a beanie")) * (0.35 * ribs + 0.1 * noise(azimuth * 30 + 40, height * 24 + 40))
    band = (kind == HATS.index("a wide-brimmed hat")) * step(height, 1.12, 1.06) * step(share, 0.75, 0.72)
    seams = (kind == HATS.index("a cap")) * step((azimuth * 3 / 3.1416 % 1 - 0.5).abs(), 0.475, 0.5)
    weave = 0.92 + 0.16 * noise(azimuth * 60 + 40, height * 50 + 40)
    albedo = albedo * weave * (1.15 - knit) * (1 - 0.75 * band) * (1 - 0.4 * seams)
    under = torch.where(share > 0.78, 0.75, 1.0)
    return shade(albedo, normal, light, under, 0.015, 8)
