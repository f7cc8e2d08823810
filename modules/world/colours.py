"""Colours of skin, hair, cloth and things, linear RGB."""

from __future__ import annotations

import torch
from torch import Tensor

from .parameters import Faces, category, identity_column, variation

_SKIN = ((0.165, 0.088, 0.058), (0.29, 0.165, 0.105), (0.42, 0.255, 0.168), (0.55, 0.355, 0.25), (0.68, 0.475, 0.37))
_HAIR = (
    (0.012, 0.01, 0.01),
    (0.032, 0.018, 0.011),
    (0.085, 0.045, 0.022),
    (0.36, 0.235, 0.1),
    (0.22, 0.06, 0.016),
    (0.2, 0.195, 0.19),
    (0.5, 0.485, 0.46),
)
_CLOTH = (
    (0.75, 0.74, 0.72),
    (0.022, 0.022, 0.026),
    (0.22, 0.22, 0.23),
    (0.46, 0.035, 0.035),
    (0.04, 0.1, 0.36),
    (0.035, 0.2, 0.075),
    (0.7, 0.5, 0.06),
    (0.2, 0.06, 0.3),
    (0.75, 0.24, 0.035),
)
_HAT = (
    (0.02, 0.02, 0.022),
    (0.24, 0.24, 0.25),
    (0.42, 0.03, 0.03),
    (0.035, 0.075, 0.28),
    (0.05, 0.17, 0.07),
    (0.2, 0.11, 0.05),
)


def skin(faces: Faces) -> Tensor:
    """[3, B, 1]."""
    table = torch.tensor(_SKIN, device=faces.identity.device)
    place = (0.5 + 0.5 * identity_column(faces, "skin_tone")) * (len(table) - 1)
    low = place.floor().long().clamp(0, len(table) - 2)
    colour = torch.lerp(table[low], table[low + 1], (place - low)[:, None])
    hue = identity_column(faces, "skin_hue")[:, None]
    tint = torch.tensor([0.06, -0.035, 0.14], device=hue.device)  # from yellowish to rosy
    return (colour * (1 + hue * tint)).T[..., None]


def hair(faces: Faces) -> Tensor:
    """[3, B, 1]."""
    table = torch.tensor(_HAIR, device=faces.scene.device)[category(faces, "hair_color")]
    return (table * (1 + 0.3 * variation(faces, "hair_shade")[:, None])).T[..., None]


def cloth(faces: Faces) -> Tensor:
    """[3, B, 1]."""
    table = torch.tensor(_CLOTH, device=faces.scene.device)[category(faces, "clothing_color")]
    return (table * (1 + 0.2 * variation(faces, "clothing_shade")[:, None])).T[..., None]


def hat(faces: Faces) -> Tensor:
    """[3, B, 1]."""
    return torch.tensor(_HAT, device=faces.scene.device)[category(faces, "hat_color")].T[..., None]


def to_display(linear: Tensor) -> Tensor:
    """Linear light to pixel values in [0, 1]: a soft shoulder for highlights, then the usual gamma."""
    linear = linear.clamp(min=0)
    shoulder = torch.where(linear < 0.7, linear, 0.7 + 0.3 * torch.tanh((linear - 0.7) / 0.3 * 0.8))
    return shoulder.clamp(1e-6, 1) ** (1 / 2.2)
