"""Neck and clothes."""

from __future__ import annotations

import torch
from torch import Tensor

from . import colours
from .curves import bump, mix, step
from .light import Light, shade
from .noise import noise
from .parameters import CLOTHES, Faces, category


def body_colour(faces: Faces, place: Tensor, normal: Tensor, light: Light) -> Tensor:
    """[3, B, M], linear, of the body at ``place`` [3, B, M] (unposed points)."""
    x, y, z = place
    side, kind = x.abs(), category(faces, "clothing")[:, None]
    under_chin = 0.22 + 0.78 * step(y, -1.85, -2.55)
    occlusion = mix(under_chin, torch.ones_like(y), step(z, 0.3, -0.6) * 0.4)
    skin = colours.skin(faces) * (1 - 0.1 * bump(side, y, (0.16, -2.35), (0.05, 0.3)))
    skin = skin * (1 + 0.06 * torch.tensor([1.0, -0.6, -0.6], device=y.device)[:, None, None])
    skin_light = shade(skin, normal, light, occlusion, 0.04, 12, (0.4, 0.26, 0.2))

    cloth, cover, gloss = _garment(faces, kind, x, y, z, side)
    folds = noise(x * 2.2 + 3 * y, y * 1.4 + x) + 0.5 * noise(x * 5 - 2 * y, y * 3)
    edge = 0.55 + 0.45 * step(cover, 0.5, 1.0)
    seen = (0.45 + 0.55 * step(y, -1.9, -2.6)) * edge
    cloth_light = shade(cloth * (0.78 + 0.3 * folds), normal, light, seen, gloss, 10)
    return mix(skin_light, cloth_light, step(cover, 0.4, 0.55))


def _garment(faces: Faces, kind: Tensor, x: Tensor, y: Tensor, z: Tensor, side: Tensor) -> tuple[Tensor, Tensor, float]:
    """Albedo [3, B, M], how surely a point is covered [B, M] (edge at 0.5), and gloss."""
    base = colours.cloth(faces).expand(3, *x.shape)
    white = torch.tensor([0.72, 0.72, 0.73], device=x.device)[:, None, None]

    def worn(name: str) -> Tensor:
        return kind == CLOTHES.index(name)

    # Necklines: heights below which there is cloth, lower in front (z > -0.3) than behind.
    ahead = step(z, -0.7, 0.3)
    round_neck = -2.25 - 0.28 * ahead * (1 - (side / 0.9) ** 2).clamp(min=0)
    vee = -2.1 - 0.75 * ahead * (1 - side / 0.62).clamp(min=0)
    tank = -2.25 - 0.75 * step(side, 0.78, 0.5) * ahead - 2.2 * step(side, 1.3, 1.75)
    neck = torch.where(worn("turtleneck"), torch.full_like(y, -1.82), round_neck)
    neck = torch.where(worn("shirt"), vee + 0.12, neck)
    neck = torch.where(worn("suit"), torch.full_like(y, -2.12), neck)
    neck = torch.where(worn("tank top"), tank, neck)
    cover = step(y - neck, 0.06, -0.06)

    hem = bump(0, y - neck, (0, -0.07), (1, 0.035)) * (worn("t-shirt") | worn("striped sweater") | worn("hoodie"))
    base = base * (1 - 0.25 * hem)
    ribs = 0.5 + 0.5 * torch.sin(torch.atan2(x, z + 0.3) * 46)
    base = base * (1 - 0.22 * ribs * worn("turtleneck"))
    stripes = step(torch.sin(y * 17 - 0.4 * side), -0.2, 0.2)
    base = mix(base, white * 0.9, stripes * worn("striped sweater"))
    # Hoodie: cords, a seam, and the hood around the neck.
    cords = bump(side, 0 * y, (0.27, 0), (0.03, 1)) * step(y, -2.55, -2.62) * (z > 0)
    base = mix(base, white, cords * worn("hoodie"))
    hood = bump(0, y - neck, (0, -0.16), (1, 0.06)) * worn("hoodie")
    base = base * (1 - 0.35 * hood)
    # Shirt: a collar along the opening, a placket with buttons.
    collar = bump(0, y - neck, (0, -0.2), (1, 0.025)) * worn("shirt") * (side < 0.9)
    placket = bump(side, 0 * y, (0.09, 0), (0.012, 1)) * (y < -2.8) * (z > 0) * worn("shirt")
    base = base * (1 - 0.45 * torch.maximum(collar, placket))
    # Suit: white shirt and tie between the lapels.
    opening = 0.52 * (1 - ((-2.1 - y) / 1.6).clamp(0, 1))
    shirt = step(side - opening, 0.02, -0.02) * (z > -0.2) * worn("suit")
    lapel = bump(0, side - opening, (0, 0.2), (1, 0.018)) * worn("suit") * (z > -0.2) * (y < -2.3)
    base = base * (1 - 0.5 * lapel)
    base = mix(base, white, shirt)
    tie = step(side - 0.075 - 0.05 * (-2.2 - y).clamp(0, 1), 0.015, -0.015) * (z > 0) * worn("suit") * (y < -2.2)
    accent = colours.cloth(faces)[[2, 0, 1]] * 0.7 + 0.02
    base = mix(base, accent * (0.8 + 0.4 * step(torch.sin((x + y) * 40), -0.3, 0.3)), tie)
    return base, cover, 0.02
