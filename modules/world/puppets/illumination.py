"""The light of a photograph, as far as its skin shows it, and what a face turned or bent looks like in it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..curves import step
from ..geometry import constants
from ..head import JAWLINE

_GUESS = (0.5, 0.0, 0.25, 0.42)  # a soft light from in front and above; relative to the mean brightness
_TRUST = 0.1  # of the guess against the photograph, per vertex
_DARKEST, _LIGHTEST = 0.7, 1.35  # of what a change of the normal does to pixel values


def read_light(photo: Tensor, points: Tensor, normals: Tensor, seen: Tensor) -> Tensor:
    """[1, 4]: linear brightness of skin over its mean, as a + b . normal.

    Args:
        photo: [1, 3, P, P] in [0, 1].
        points: [1, R*C, 2] vertices in the photograph.
        normals: [1, R*C, 3] in the camera's space.
        seen: bool [R*C].

    Vertices of bare skin are fitted by least squares with a prior, twice, the second time without the outliers (brows,
    hair, glasses).
    """
    x, y, _ = constants(photo.device).face.flatten(0, 1).T
    skin = seen & (x.abs() < 0.95) & (y > -1.8) & (y < 0.8) & ~((y.abs() < 0.4) & (x.abs() < 0.9))
    skin &= ~((y < -0.95) & (y > -1.45) & (x.abs() < 0.55))
    value = F.grid_sample(photo, points[:, skin, None], align_corners=True)[0, :, :, 0].mean(0) ** 2.2
    value = value / value.median().clamp(min=1e-4)
    basis = torch.cat([torch.ones_like(value)[:, None], normals[0, skin]], 1)
    guess = torch.tensor(_GUESS, device=photo.device)
    guess = guess / (basis @ guess).mean()
    weight = torch.ones_like(value)
    found = guess
    for _ in range(2):
        square = (basis * weight[:, None]).T @ basis + _TRUST * len(basis) * torch.eye(4, device=photo.device)
        found = guess + torch.linalg.solve(square, (basis * weight[:, None]).T @ (value - basis @ guess))
        weight = ((value - basis @ found).abs() < 0.35).float()
    return found[None]


def relighting(light: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Factors [B, R*C] on pixel values of skin whose normals, in the camera's space, change; light [B, 4]."""

    def brightness(normals: Tensor) -> Tensor:
        return (light[:, None, 0] + torch.einsum("bvi,bi->bv", normals, light[:, 1:])).clamp(min=0.15)

    x, y, _ = constants(light.device).face.flatten(0, 1).T
    inner = step(x.abs(), 1.0, 0.7) * step(y, JAWLINE, -1.6) * step(y, 1.3, 0.8)
    factor = (brightness(after) / brightness(before)) ** (1 / 2.2)
    return 1 + (factor.clamp(_DARKEST, _LIGHTEST) - 1) * inner
