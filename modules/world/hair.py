"""Hair and hats: shells over the skull that follow the person's head, and hang below it where hair is long."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .curves import step, unit
from .head import head_grid
from .noise import noise
from .parameters import HAIR_STYLES, HATS, Faces, category, variation

ROWS = 30
BUN_SHAPE = (10, 16)
_KNOTS = np.radians([0, 25, 42, 55, 66, 78, 95, 125, 180])  # azimuths from the front at which lengths are given

# Per style: height where the hair ends at each of the azimuths, thickness (top, side, back, at the front edge),
# waves, curls.
_STYLES: dict[str, tuple[list[float], tuple[float, float, float, float], float, float]] = {
    "bald": ([1.5] * 9, (0, 0, 0, 0), 0, 0),
    "buzz-cut": ([1.2, 1.17, 1.02, 0.72, 0.34, -0.25, 0.2, -0.6, -0.95], (0.045, 0.035, 0.04, 0.01), 0, 0),
    "short": ([1.1, 1.1, 0.98, 0.68, 0.3, -0.3, 0.15, -0.7, -1.05], (0.2, 0.08, 0.12, 0.07), 0, 0.3),
    "side-parted": ([1.12, 1.12, 1.0, 0.68, 0.3, -0.3, 0.1, -0.7, -1.1], (0.27, 0.11, 0.14, 0.13), 0, 0.2),
    "swept-back": ([1.24, 1.18, 0.98, 0.7, 0.36, -0.1, 0.1, -0.9, -1.3], (0.3, 0.09, 0.16, 0.2), 0, 0.05),
    "bob-cut": ([0.64, 0.62, 0.5, -1.3, -1.42, -1.48, -1.5, -1.55, -1.6], (0.24, 0.2, 0.24, 0.12), 0.15, 0),
    "long straight": ([1.16, 1.1, 0.9, 0.2, -2.8, -2.9, -3.0, -3.0, -3.0], (0.2, 0.15, 0.2, 0.1), 0.1, 0),
    "long wavy": ([1.14, 1.08, 0.8, -0.5, -2.55, -2.6, -2.7, -2.8, -2.8], (0.26, 0.22, 0.26, 0.14), 1.0, 0.1),
    "long curly": ([1.06, 1.0, 0.75, -0.5, -1.9, -2.1, -2.2, -2.4, -2.5], (0.34, 0.36, 0.36, 0.2), 0.5, 0.9),
    "curly": ([1.02, 1.0, 0.86, 0.55, 0.1, -0.4, -0.5, -0.9, -1.2], (0.4, 0.26, 0.3, 0.22), 0, 1.0),
    "afro": ([1.05, 1.0, 0.82, 0.5, 0.0, -0.5, -0.7, -1.0, -1.2], (0.62, 0.58, 0.6, 0.35), 0, 0.7),
    "bun": ([1.18, 1.12, 0.96, 0.66, 0.28, -0.25, 0.1, -0.6, -0.95], (0.1, 0.06, 0.08, 0.05), 0, 0),
}
# Per hat: height of its edge at the front and at the back, thickness, brim in front and around.
_HATS = {
    "none": (1.6, 1.6, 0, 0, 0),
    "a beanie": (0.72, 0.1, 0.2, 0, 0),
    "a cap": (0.86, 0.3, 0.19, 0.8, 0),
    "a wide-brimmed hat": (0.82, 0.45, 0.22, 1.0, 1.0),
}


@lru_cache(maxsize=1)
def _tables() -> tuple[Tensor, Tensor, Tensor]:
    """Lengths [style, C] over the columns of the head, the other figures [style, 6], and the hats [hat, 5]."""
    side = np.abs(head_grid().columns)
    lengths = np.stack([np.interp(side, _KNOTS, _STYLES[name][0]) for name in HAIR_STYLES])
    figures = np.array([[*_STYLES[name][1], *_STYLES[name][2:]] for name in HAIR_STYLES])
    hats = np.array([_HATS[name] for name in HATS])
    return tuple(torch.from_numpy(a.astype(np.float32)) for a in (lengths, figures, hats))


def _columns(like: Tensor) -> Tensor:
    """[C] azimuths of the head's columns."""
    return torch.from_numpy(head_grid().columns.astype(np.float32)).to(like.device)


def hair_ends(faces: Faces) -> Tensor:
    """[B, C] face coordinate Y at which the hair ends, over the columns of the head."""
    lengths = _tables()[0].to(faces.scene.device)[category(faces, "hair_style")]
    longer = variation(faces, "hair_length")[:, None]
    hanging = step(lengths, -0.6, -1.6)
    ragged = noise(26 * _columns(lengths) + 30 * variation(faces, "hair_seed")[:, None] + 40, 0 * lengths + 9) - 0.5
    lengths = lengths + 0.13 * ragged * step(lengths, 0.0, 0.3)
    return lengths * (1 + 0.16 * longer * hanging) + 0.05 * longer * (1 - hanging) * (lengths > 0.6)


def hair_shell(faces: Faces, skull: Tensor) -> Tensor:
    """Points of the hair [B, ROWS, C, 3] over the head's points ``skull`` [B, R, C, 3], without expression."""
    style = category(faces, "hair_style")
    figures = _tables()[1].to(skull.device)[style]
    azimuth = _columns(skull)
    ends = hair_ends(faces)
    t = torch.linspace(0, 1, ROWS, device=skull.device)[None, :, None]
    height = 1.855 + (ends[:, None] - 1.855) * t
    base = hang(skull, height)

    top, side, back, edge, wave, curl = (f[:, None, None] for f in figures.T)
    front = step(azimuth.cos(), 0.2, 0.8)
    around = side + (back - side) * step(azimuth.cos(), 0.1, -0.7)
    up = step(height, 0.35, 1.35)
    thickness = around + (top - around) * up
    # At the forehead the shell starts low over the skin and rises; where hair hangs it keeps its thickness.
    rise = ((1 - t) / 0.3).clamp(0, 1).sqrt() * (1 - edge / top.clamp(min=0.01)) + edge / top.clamp(min=0.01)
    thickness = thickness * (rise * front + (1 - front) * ((1 - t) / 0.06).clamp(0.25, 1).sqrt())
    parting = (style == HAIR_STYLES.index("side-parted"))[:, None, None]
    lean = variation(faces, "hair_seed").sign()[:, None, None]
    thickness = torch.where(parting, thickness * (1 + 0.55 * torch.sin(azimuth) * lean * up), thickness)
    capped = (category(faces, "hat") > 0)[:, None, None]
    thickness = torch.where(capped, thickness.clamp(max=0.1) * up + thickness * (1 - up), thickness)
    thickness = thickness * (1 + 0.3 * variation(faces, "hair_volume")[:, None, None])

    seed = variation(faces, "hair_seed")[:, None, None]
    lumps = noise(2.1 * base[..., 0] + 9 * seed + 40, 2.1 * base[..., 1] + 1.3 * base[..., 2] + 40) - 0.5
    tufts = noise(6.5 * base[..., 0] + 60, 6.5 * base[..., 1] + 4 * base[..., 2] + 9 * seed + 60) - 0.5
    thickness = thickness * (1 + (0.25 + 0.8 * curl) * lumps + (0.1 + 0.5 * curl) * tufts)
    ripples = torch.sin(height * 5.5 + 3 * torch.sin(azimuth * 2) + 6 * seed)
    thickness = thickness + 0.09 * wave * ripples * step(height, 0.6, -0.6)
    middle = torch.tensor([0.0, 0.35, -0.15], device=skull.device)
    away = base - middle
    away = torch.stack([away[..., 0], away[..., 1].clamp(min=0), away[..., 2]], -1)
    points = base + unit(away, -1) * thickness[..., None]
    bald = (style == HAIR_STYLES.index("bald"))[:, None, None, None]
    return torch.where(bald, middle, points)


def hang(skull: Tensor, height: Tensor) -> Tensor:
    """Points [B, N, C, 3] of the skull at face coordinates ``height`` [B, N, C]; below the eyes, straight down.

    Behind, hair lies on the nape instead of sinking into the shoulders; in front it clears the cheeks.
    """
    rows = -torch.from_numpy(head_grid().rows[:40].astype(np.float32)).to(skull.device)
    lowest = 0.1
    kept = height.clamp(min=lowest, max=-float(rows[0]))
    index = torch.searchsorted(rows, -kept.contiguous()).clamp(1, len(rows) - 1)
    share = ((-kept - rows[index - 1]) / (rows[index] - rows[index - 1])).clamp(0, 1)[..., None]
    pick = index[..., None].expand(*index.shape, 3)
    points = skull.gather(1, pick - 1) * (1 - share) + skull.gather(1, pick) * share
    below = (lowest - height).clamp(min=0)
    spread = 1 + 0.05 * step(below, 0.5, 2.2)
    return torch.stack([points[..., 0] * spread, points[..., 1] - below, points[..., 2]], -1)


def bun(faces: Faces, skull: Tensor) -> Tensor:
    """[B, 10, 16, 3] the knot of a bun, behind the crown; a point inside the head for other styles."""
    polar = torch.linspace(0, np.pi, BUN_SHAPE[0], device=skull.device)[:, None]
    angle = torch.arange(BUN_SHAPE[1], device=skull.device) * (2 * np.pi / BUN_SHAPE[1])
    height = (0.85 * polar.cos()).expand(BUN_SHAPE)
    ball = torch.stack([polar.sin() * angle.sin(), height, polar.sin() * angle.cos()], -1)
    crown = skull[:, 0].mean(1) + torch.tensor([0.0, 0.22, -0.35], device=skull.device)
    wears = (category(faces, "hair_style") == HAIR_STYLES.index("bun")).float()
    radius = (0.5 + 0.1 * variation(faces, "hair_volume")) * wears
    centre = crown * wears[:, None]
    return centre[:, None, None] + ball * radius[:, None, None, None]


def hat_shell(faces: Faces, skull: Tensor) -> Tensor:
    """Points of the hat [B, ROWS, C, 3]; a point inside the head where there is none."""
    kind = category(faces, "hat")
    front, back, thickness, visor, brim = (f[:, None, None] for f in _tables()[2].to(skull.device)[kind].T)
    azimuth = _columns(skull)
    crown_rows = ROWS - 8
    t = torch.cat([torch.linspace(0, 1, crown_rows), torch.ones(8)]).to(skull.device)[None, :, None]
    out = torch.cat([torch.zeros(crown_rows), torch.linspace(0, 1, 8)]).to(skull.device)[None, :, None]
    end = back + (front - back) * step(azimuth.cos(), -0.6, 0.6)
    height = 1.855 + (end - 1.855) * t
    base = hang(skull, height)
    middle = torch.tensor([0.0, 0.35, -0.15], device=skull.device)
    away = base - middle
    away = unit(away, -1)
    beanie = (kind == HATS.index("a beanie"))[:, None, None].float()
    cuff = 0.06 * beanie * step(t, 0.66, 0.7)
    points = base + away * (thickness + cuff)[..., None]
    fedora = (kind == HATS.index("a wide-brimmed hat"))[:, None, None].float()
    points = points + torch.stack([0 * height, 0.3 * fedora * step(height, 0.9, 1.4), 0 * height], -1)
    ahead = step(azimuth.cos(), 0.35, 0.85)
    reach = out * (visor * ahead + (brim - visor * ahead).clamp(min=0))
    level = torch.stack([azimuth.sin(), -0.16 - 0.12 * ahead, azimuth.cos()], -1)
    straight = torch.tensor([0.0, -0.16, 1.0], device=skull.device)  # a visor is pushed forward, not fanned out
    points = points + reach[..., None] * torch.where((brim > 0)[..., None], level, straight)
    return torch.where((kind > 0)[:, None, None, None], points, middle)
