"""What is behind the person, out of focus."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .curves import bump, mix, step
from .noise import jitter, noise
from .parameters import BACKGROUNDS, Faces, category, variation


class _Place:
    """Coordinates [B, H, W] in half frames (y down), shifted per scene, and the scene's own hue and tone [B, 1, 1]."""

    def __init__(self, faces: Faces, size: int):
        device = faces.scene.device
        line = torch.linspace(-1, 1, size, device=device)
        values = {name: variation(faces, f"background_{name}")[:, None, None] for name in ("hue", "tone", "x", "y")}
        self.hue, self.tone, self.seed = values["hue"], values["tone"], 40 * values["x"]
        self.y, self.x = line[:, None] + 0.3 * values["y"], line[None, :] + 0.8 * values["x"]
        self.x, self.y = torch.broadcast_tensors(self.x, self.y)

    def colour(self, *rgb: float, hue: float = 0.25, tone: float = 0.25) -> Tensor:
        """[3, B, 1, 1] linear, varied per scene."""
        base = torch.tensor(rgb, device=self.x.device)[:, None, None, None]
        tint = torch.tensor([1.0, 0.0, -1.0], device=self.x.device)[:, None, None, None]
        return base * (1 + hue * tint * self.hue) * (1 + tone * self.tone)

    def noise(self, scale: float, dx: float = 0.0) -> Tensor:
        return noise(self.x * scale + self.seed + dx + 50, self.y * scale + 50)


def background(faces: Faces, size: int) -> Tensor:
    """[B, 3, size, size] linear."""
    kinds = category(faces, "background")
    result = torch.zeros(faces.size, 3, size, size, device=faces.scene.device)
    for kind in kinds.unique().tolist():
        chosen = (kinds == kind).nonzero().squeeze(1)
        painted = _PAINTERS[BACKGROUNDS[kind]](_Place(faces.take(chosen), size))
        result[chosen] = painted.expand(3, len(chosen), size, size).transpose(0, 1)
    return result


def _studio(p: _Place) -> Tensor:
    glow = torch.exp(-0.8 * ((p.x - 0.3 * p.hue) ** 2 + (p.y + 0.1) ** 2))
    return p.colour(0.32, 0.32, 0.33, hue=0.08, tone=0.7) * (0.55 + 0.6 * glow) * (0.96 + 0.08 * p.noise(3))


def _gradient(p: _Place) -> Tensor:
    return mix(p.colour(0.05, 0.13, 0.36), p.colour(0.32, 0.52, 0.75), step(p.y + 0.15 * p.x, 1.3, -1.3)) + 0 * p.x


def _bricks(p: _Place) -> Tensor:
    row = p.y * 5.5
    column = p.x * 2.2 + 0.5 * (row.floor() % 2)
    u, v = column - column.floor(), row - row.floor()
    mortar = torch.maximum(step((u - 0.5).abs(), 0.44, 0.48), step((v - 0.5).abs(), 0.36, 0.44))
    own = jitter(column + 100, row + 100)
    brick = p.colour(0.36, 0.125, 0.075) * (0.65 + 0.55 * own) * (0.8 + 0.4 * p.noise(14))
    return mix(brick, p.colour(0.42, 0.37, 0.32), mortar)


def _books(p: _Place) -> Tensor:
    shelf = p.y * 1.7 + 0.2
    level = shelf.floor()
    v = shelf - level
    column = p.x * 9 + 3.3 * level + 2 * noise(p.x * 2 + 9 + p.seed, level + 20)
    own, tall = jitter(column + 60, level + 60), jitter(column + 90, level + 30)
    colour = torch.stack([own, jitter(column + 7, level + 9), jitter(column + 31, level + 77)]) ** 2 * 0.42 + 0.02
    colour = colour * p.colour(1, 0.85, 0.7) * (0.6 + 0.5 * (1 - ((column - column.floor()) * 2 - 1) ** 2))
    book = step(v, 0.22 + 0.25 * tall, 0.26 + 0.25 * tall) * step(v, 0.93, 0.9)
    wood = p.colour(0.2, 0.105, 0.05) * (0.8 + 0.4 * p.noise(6))
    return mix(mix(p.colour(0.035, 0.022, 0.015) + 0 * p.x, colour, book), wood, step((v - 0.965).abs(), 0.05, 0.03))


def _park(p: _Place) -> Tensor:
    leaves = 0.6 * p.noise(4) + 0.4 * p.noise(9, 7)
    trees = mix(p.colour(0.03, 0.085, 0.02), p.colour(0.22, 0.38, 0.08), leaves**1.5)
    sky = p.colour(0.62, 0.78, 0.9, hue=0.05)
    trees = mix(trees, sky, step(leaves + 0.35 * (-p.y - 0.5), 0.66, 0.86))
    grass = p.colour(0.13, 0.28, 0.05) * (0.7 + 0.5 * p.noise(7, 3))
    return mix(trees, grass, step(p.y + 0.1 * p.noise(2), 0.45, 0.6))


def _beach(p: _Place) -> Tensor:
    sky = mix(p.colour(0.2, 0.45, 0.8, hue=0.08), p.colour(0.72, 0.85, 0.93, hue=0.08), step(p.y, -1.3, 0.1))
    clouds = step(noise(p.x * 1.5 + 9 + p.seed, p.y * 5 + 9), 0.55, 0.9)
    sky = mix(sky, torch.tensor(0.93, device=p.x.device), 0.6 * clouds)
    sea = p.colour(0.04, 0.25, 0.36) * (0.8 + 0.5 * noise(p.x * 3 + p.seed, p.y * 26 + 50))
    sand = p.colour(0.68, 0.52, 0.33, hue=0.08) * (0.85 + 0.25 * p.noise(9))
    return mix(mix(sky, sea, step(p.y, 0.1, 0.13)), sand, step(p.y + 0.05 * p.noise(3), 0.5, 0.56))


def _lights(p: _Place) -> Tensor:
    colour = p.colour(0.012, 0.014, 0.035) * (0.6 + 0.8 * p.noise(2))
    for layer in range(2):
        scale = 3.2 + 1.7 * layer
        u, v = p.x * scale + 7.7 * layer + 50, p.y * scale + 3.1 * layer + 50
        cx = u.floor() + 0.3 + 0.4 * jitter(u + 11, v)
        cy = v.floor() + 0.3 + 0.4 * jitter(u, v + 23)
        disc = step(((u - cx) ** 2 + (v - cy) ** 2).sqrt(), 0.3, 0.22) * (jitter(u + 5 + p.seed.floor(), v + 5) > 0.45)
        warm = jitter(u + 37, v + 41)
        lamp = torch.stack([0.95 - 0.5 * warm**4, 0.3 + 0.45 * warm, 0.08 + 0.75 * warm**3])
        colour = colour + lamp * disc * (0.25 + 0.5 * jitter(u + 71, v + 3))
    return colour


def _kitchen(p: _Place) -> Tensor:
    u, v = (p.x * 4) % 1, (p.y * 4) % 1
    joint = torch.maximum(step((u - 0.5).abs(), 0.45, 0.485), step((v - 0.5).abs(), 0.45, 0.485))
    own = jitter(p.x * 4 + 80, p.y * 4 + 80)
    tiles = mix(p.colour(0.62, 0.64, 0.6, hue=0.12) * (0.85 + 0.25 * own), p.colour(0.36, 0.35, 0.33), joint)
    cupboard = p.colour(0.3, 0.19, 0.1) * (0.85 + 0.3 * noise(p.x * 14 + 50, p.y * 2 + 50))
    door = step(((p.x * 1.1) % 1 - 0.5).abs(), 0.47, 0.49)
    tiles = mix(tiles, cupboard * (1 - 0.6 * door), step(p.y, -0.42, -0.46))
    return mix(tiles, p.colour(0.12, 0.11, 0.105), step(p.y, 0.78, 0.82))


def _curtain(p: _Place) -> Tensor:
    wave = torch.sin(p.x * 9 + 2.5 * noise(p.x * 2 + p.seed + 9, p.y * 0.5 + 9) + p.seed)
    return p.colour(0.4, 0.1, 0.13, hue=0.5, tone=0.5) * (0.55 + 0.4 * wave) * (0.9 + 0.1 * p.noise(2))


def _wood(p: _Place) -> Tensor:
    plank = p.x * 3
    own = jitter(plank + 70, 0 * p.y + 10)
    grain = noise(plank * 6 + 50, p.y * 1.2 + 30 * own) * 0.5 + noise(plank * 18 + 50, p.y * 1.5 + 9 * own) * 0.5
    gap = step((plank - plank.floor() - 0.5).abs(), 0.46, 0.495)
    return p.colour(0.36, 0.2, 0.1) * (0.5 + 0.4 * own + 0.5 * grain) * (1 - 0.8 * gap)


def _sunset(p: _Place) -> Tensor:
    high = step(p.y, 1.0, -1.2)
    sky = mix(p.colour(0.95, 0.42, 0.12, hue=0.1), p.colour(0.2, 0.16, 0.42, hue=0.2), high)
    clouds = step(noise(p.x * 1.2 + p.seed + 30, p.y * 4.5 + 30) + 0.3 * p.noise(6) * 0.5, 0.5, 0.85)
    sky = mix(sky, p.colour(0.8, 0.33, 0.28), 0.6 * clouds)
    return mix(sky, p.colour(0.03, 0.025, 0.04), step(p.y - 0.12 * p.noise(2.5), 0.62, 0.68))


def _snow(p: _Place) -> Tensor:
    field = p.colour(0.74, 0.79, 0.87, hue=0.04, tone=0.12) * (0.9 + 0.15 * p.noise(3))
    trees = step(noise(p.x * 7 + p.seed + 20, p.y * 1.3 + 20) + 0.4 * (p.y + 0.4), 0.35, 0.75)
    firs = mix(p.colour(0.55, 0.63, 0.72, hue=0.04), p.colour(0.06, 0.1, 0.1), trees)
    return mix(firs, field, step(p.y + 0.12 * p.noise(1.5), 0.25, 0.36))


def _office(p: _Place) -> Tensor:
    u, v = (p.x * 0.9 + 0.3) % 1, (p.y * 0.7 + 0.5) % 1
    frame = torch.maximum(step((u - 0.5).abs(), 0.43, 0.45), step((v - 0.5).abs(), 0.45, 0.465))
    houses = step(p.y + 0.5 * jitter(p.x * 4 + 50 + p.seed, 0 * p.y), 0.3, 0.33)
    outside = mix(p.colour(0.6, 0.75, 0.9, hue=0.1), p.colour(0.34, 0.38, 0.42), houses)
    blinds = step(((p.y * 9) % 1 - 0.5).abs(), 0.4, 0.3) * step(p.y, -0.2, -0.3)
    outside = mix(outside, p.colour(0.7, 0.68, 0.62), 0.8 * blinds)
    return mix(outside, p.colour(0.2, 0.19, 0.18), frame)


def _green(p: _Place) -> Tensor:
    edge = bump(p.x, p.y, (0.6, -0.6), (0.9, 0.9))
    return p.colour(0.1, 0.24, 0.15, hue=0.2, tone=0.4) * (0.7 + 0.5 * edge) * (0.95 + 0.1 * p.noise(22))


_PAINTERS: dict[str, Callable[[_Place], Tensor]] = {
    "a grey studio wall": _studio,
    "a blue gradient": _gradient,
    "a brick wall": _bricks,
    "a bookshelf": _books,
    "a park": _park,
    "a beach": _beach,
    "city lights at night": _lights,
    "a kitchen": _kitchen,
    "a curtain": _curtain,
    "a wooden wall": _wood,
    "a sunset sky": _sunset,
    "a snowy field": _snow,
    "an office window": _office,
    "a green wall": _green,
}
