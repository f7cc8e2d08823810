"""Folds of the skin that come with age and with action units."""

from __future__ import annotations

import torch
from torch import Tensor

from .curves import hill
from .parameters import ACTION_UNITS, Faces, identity_column, sided


class _Strength:
    """How strong an action unit is on the side of each point, [B, M]."""

    def __init__(self, faces: Faces, left: Tensor):
        self._sides, self._left = sided(faces), left

    def __getitem__(self, name: str) -> Tensor:
        column = ACTION_UNITS.index(name)
        on_left, on_right = (side[:, column, None] for side in self._sides)
        return torch.lerp(on_right, on_left, self._left)


def _crease(distance: Tensor, width: float) -> Tensor:
    """Dark in the fold, a little light on the slope below it (positive distances are above)."""
    scaled = distance * (1 / width)
    return hill(scaled).sub_(hill(scaled + 1.9), alpha=0.45)


def _window(value: Tensor, low: float, high: float, soft: float) -> Tensor:
    """1 between low and high, fading over ``soft`` on both sides."""
    middle, reach = (low + high) / 2, (high - low) / 2
    return (value - middle).abs_().sub_(reach).mul_(-1 / soft).add_(0.5).clamp_(0, 1)


def wrinkles(faces: Faces, x: Tensor, y: Tensor, left: Tensor) -> Tensor:
    """Darkness of the folds at face coordinates [B, M]; ``left`` is 1 on the person's left side."""
    side = x.abs()
    unit = _Strength(faces, left)
    age = (0.5 + 0.5 * identity_column(faces, "age"))[:, None] ** 1.5
    smile, wrinkle, raiser, cheek = unit["AU12"], unit["AU9"], unit["AU10"], unit["AU6"]

    course = 0.3 + 0.52 * (-0.76 - y) + 0.35 * (-0.76 - y) ** 2
    fold = _crease((course - side) * 0.8, 0.035) * _window(y, -1.2, -0.76, 0.16)
    total = fold * (0.12 + 0.75 * age + 0.6 * smile + 0.5 * raiser + 0.4 * wrinkle).clamp(max=1)

    brows = 0.55 * unit["AU1"] * _window(side, -1, 0.4, 0.3) + 0.55 * unit["AU2"] * _window(side, 0.25, 0.9, 0.3)
    arch = y - 0.06 * torch.cos(side * 5)
    lines = sum(_crease(arch - height, 0.022) for height in (0.58, 0.72, 0.86))
    total = total + lines * _window(side, -1, 0.75, 0.25) * (0.7 * age + brows).clamp(max=1)

    frown = _crease(side - 0.1 - 0.05 * (y - 0.25), 0.026) * _window(y, 0.14, 0.42, 0.14)
    total = total + 0.9 * frown * (unit["AU4"] + 0.25 * age).clamp(max=1)
    root = sum(_crease(y - height + 0.25 * side, 0.02) for height in (0.12, 0.02)) * _window(side, -1, 0.16, 0.08)
    total = total + 0.8 * root * wrinkle
    sides = _crease(side - 0.17 - 0.4 * (0.1 - y), 0.022) * _window(y, -0.32, 0.02, 0.1)
    total = total + 0.6 * sides * wrinkle

    spread = (side - 0.72).clamp(min=0)
    rays = ((0.03, 0.3), (-0.02, -0.15), (-0.07, -0.55))
    feet = sum(_crease(y - base - slope * spread, 0.016) for base, slope in rays)
    total = total + feet * _window(side, 0.8, 1.0, 0.06) * (0.8 * age + 0.6 * cheek).clamp(max=1)

    pouch = _crease(y + 0.15 - 0.35 * (side - 0.47) ** 2, 0.026) * _window(side, 0.28, 0.68, 0.12)
    total = total + pouch * (0.08 + 0.9 * age + 0.4 * cheek + 0.3 * unit["AU7"]).clamp(max=1)

    corner = _crease(side - 0.47 - 0.12 * (-1.2 - y), 0.025) * _window(y, -1.45, -1.22, 0.1)
    total = total + corner * (0.6 * age + 0.6 * unit["AU15"])
    dimple = torch.exp(-(((side - 0.53) / 0.03) ** 2) - ((y + 1.16) / 0.075) ** 2)
    total = total + dimple * (0.95 * unit["AU14"] + 0.25 * smile)
    chin = _crease(y + 1.47 - 0.3 * side**2, 0.035) * _window(side, -1, 0.22, 0.14)
    return total + 0.7 * chin * unit["AU17"]
