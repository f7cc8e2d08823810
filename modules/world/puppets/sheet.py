"""A contact sheet: what puppets look like."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...media.tensors import to_images
from .edges import framed
from .posing import as_photographed
from .puppet import Puppets
from .render import render
from .states import draw_states

_DOT = (60, 230, 90)


def contact_sheet(puppets: Puppets, rows: int, columns: int, size: int, seed: int) -> np.ndarray:
    """uint8 [rows * size, (1 + columns) * size, 3]: each photograph with its landmarks, then random states.

    Puppets are drawn evenly from all; those without room are not shown.
    """
    rows = min(rows, puppets.size)
    chosen = puppets.take(torch.linspace(0, puppets.size - 1, rows).round().long().to(puppets.head.device))
    states = draw_states(rows * columns, seed).to(puppets.head.device)
    many = torch.arange(rows, device=puppets.head.device).repeat_interleave(columns)
    states = framed(states, chosen.take(many))
    drawn = to_images(render(chosen, states, size, who=many).image)
    lines = []
    for row, photo in enumerate(_photographs(chosen, size)):
        lines.append(np.concatenate([photo, *drawn[row * columns : (row + 1) * columns]], 1))
    return np.concatenate(lines)


def _photographs(puppets: Puppets, size: int) -> list[np.ndarray]:
    picture = puppets.photo.float() / 255
    whole = picture[:, :3] + (1 - picture[:, 3:4]) * puppets.plate.float() / 255
    images = to_images(F.interpolate(whole, size=(size, size), mode="bilinear", antialias=True))
    return [dotted(image, points) for image, points in zip(images, as_photographed(puppets).landmarks, strict=True)]


def dotted(image: np.ndarray, landmarks: Tensor) -> np.ndarray:
    """A copy of a uint8 picture [S, S, 3] with landmarks [68, 2] in [-1, 1] on it."""
    image, size = image.copy(), len(image)
    x, y = ((landmarks.cpu().numpy() + 1) / 2 * (size - 1)).round().astype(int).clip(0, size - 1).T
    image[y, x] = _DOT
    return image
