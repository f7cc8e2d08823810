"""The square in which a face is looked at: upright, in the middle, wherever and however large it is in the frame.

Its coordinates run from -1 to 1 like a frame's, (x, y), y down.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import full_precision, sample

FACE_SHARE = 0.55  # of the frame's side: the window that a face is looked for with
# The whole face in a square so found. Finders settle on what is most alike in everybody, from the eyes to the mouth
# (sid.losses.congealing): the mouth is then near the lower edge, and the chin beyond it.
WIDER, LOWER = 1.15, 0.5  # times as large, and so many half sides further down
WHOLE_FACE = 0.8, 1.0  # across and down, where the oval of a whole face has faded to 1/e
LEAST_CONTRAST = 0.03  # added to a face's standard deviation, so that a blank one is not blown up


def window(place: Tensor, aspect: float = 1.0) -> Tensor:
    """``place [B, 4]`` -> the map ``[B, 2, 3]`` from the face's square to the frame's coordinates.

    ``aspect``: how many times the frame is as wide as high; the window is square in pixels, and fits the shorter side.
    """
    size, angle = FACE_SHARE * place[:, 0].exp(), place[:, 1]
    cos, sin = size * angle.cos(), size * angle.sin()
    across, down = max(1.0, aspect), max(1.0, 1 / aspect)
    rows = [(cos / across, -sin / across, place[:, 2]), (sin / down, cos / down, place[:, 3])]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)


def aspect_of(image: Tensor) -> float:
    """How many times ``image [B, C, H, W]`` is as wide as high, from pixel to pixel."""
    return (image.shape[3] - 1) / (image.shape[2] - 1)


def whole_face(place: Tensor, aspect: float = 1.0) -> Tensor:
    """The place of the whole face, brows to chin, about the one that a finder has settled on, ``[B, 4]`` both."""
    down = window(place, aspect)[..., 1]
    return torch.cat([place[:, :1] + math.log(WIDER), place[:, 1:2], place[:, 2:] + LOWER * down], dim=1)


def within_whole_face(whole: Tensor, aspect: float = 1.0) -> Tensor:
    """The place whose :func:`whole_face` is ``whole``, ``[B, 4]`` both."""
    size = whole[:, :1] - math.log(WIDER)
    down = window(torch.cat([size, whole[:, 1:]], dim=1), aspect)[..., 1]
    return torch.cat([size, whole[:, 1:2], whole[:, 2:] - LOWER * down], dim=1)


def cut_out(image: Tensor, place: Tensor, side: int) -> Tensor:
    """The window at ``place [B, 4]`` of ``image [B, 3, H, W]``, upright: ``[B, 3, side, side]``."""
    with torch.autocast(image.device.type, enabled=False):  # a grid in half precision is off by whole pixels
        theta = window(place, aspect_of(image))
        grid = F.affine_grid(theta, [image.shape[0], 1, side, side], align_corners=True)
    return sample(image, grid, padding_mode="border")


def contrast(face: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """``face [B, C, S, S]`` less its mean colour, and its standard deviation ``[B, 1, 1, 1]``; by ``weight [S, S]``.

    The one over the other is the face at one contrast: an expression, or the shape of a nose, is a small change of
    the picture, of dark skin and in dim light a very small one.
    """
    with torch.autocast(face.device.type, enabled=False):
        weight, face = weight / weight.sum(), full_precision(face)
        face = face - (face * weight).sum(dim=(2, 3), keepdim=True)
        variance = (face.square() * weight).sum(dim=(2, 3), keepdim=True).mean(dim=1, keepdim=True)
        return face, variance.sqrt() + LEAST_CONTRAST


def face_oval(side: int, across: float = 0.7, down: float = 0.8) -> Tensor:
    """Weights ``[side, side]`` of a face cut out upright: 1 in the middle, 1/e at ``across`` or ``down``, then 0."""
    x = torch.linspace(-1, 1, side)
    return _oval(x[None], x[:, None], across, down)


def whole_face_oval(side: int) -> Tensor:
    """The same of a whole face: brows and chin count, which lie towards its edges."""
    return face_oval(side, *WHOLE_FACE)


def whole_face_in_frame(whole: Tensor, height: int, width: int) -> Tensor:
    """The same where it lies in a frame: ``whole [B, 4]``, the place of the whole face -> ``[B, 1, height, width]``."""
    theta = window(whole, (width - 1) / (height - 1))
    x = torch.linspace(-1, 1, width, device=whole.device).expand(height, -1)
    y = torch.linspace(-1, 1, height, device=whole.device)[:, None].expand(-1, width)
    away = torch.stack([x, y], dim=-1).flatten(0, 1) - theta[:, None, :, 2]
    inside = torch.linalg.solve(theta[:, :, :2], away.transpose(1, 2)).unflatten(2, (height, width))
    return _oval(inside[:, :1], inside[:, 1:], *WHOLE_FACE)


def _oval(x: Tensor, y: Tensor, across: float, down: float) -> Tensor:
    return torch.exp(-((x / across).square() + (y / down).square()).square())
