"""The semantic encoder: what a face does, read off its points and a close look at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...faces.alignment import Squares, cut_squares
from ..encoders import Semantics
from .codes import EXPRESSION, POSE
from .parts import EYE_SIDE, EYES, along, cut, face_axes, part_square, square_at
from .points import COUNT

SIDE = 80  # pixels of the face that is looked at
REACH, BELOW = 1.6, 0.36  # its side, and how far its middle is below the eyes, in distances of their outer corners
LEVELS, EYE_LEVELS = (24, 48, 96, 128), (16, 32, 48)
HIDDEN, EYE_HIDDEN = 256, 96
DROPOUT = 0.2
UNSTEADY = 0.05  # in training: deviation of a square's shift and logarithmic size, in sides, and turn, in radians


class Looks(NamedTuple):
    """What is read of B frames.

    Attributes:
        face: cut out upright, ``[B, 3, SIDE, SIDE]`` in [0, 1].
        left_eye, right_eye: as seen in the picture, ``[B, 3, EYE_SIDE, EYE_SIDE]``; the right one in a mirror.
        shape: the points along the face's own axes, from between the eyes, in distances of their outer corners,
            ``[B, 468, 3]``.
        place: middle of the eyes (x, y) in half frames, logarithm of that distance, angle in radians, ``[B, 4]``.
    """

    face: Tensor
    left_eye: Tensor
    right_eye: Tensor
    shape: Tensor
    place: Tensor


class PointEncoder(nn.Module):
    """Frames ``[B, 3, H, W]`` and their points ``[B, 468, 3]`` -> :class:`..encoders.Semantics`.

    Points tell a jaw from a smile whoever it is and whatever the light; the picture tells what moves no point: lids all
    but closed, gaze, folds.  Eyes are looked at more closely, the right one as the left one's mirror image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_convolutions((3, *LEVELS)))
        self.seen = nn.Sequential(nn.Linear(LEVELS[-1] * (SIDE // 16) ** 2, HIDDEN), nn.SiLU())
        self.eye = nn.Sequential(
            *_convolutions((3, *EYE_LEVELS)),
            nn.Flatten(),
            nn.Linear(EYE_LEVELS[-1] * (EYE_SIDE // 8) ** 2, EYE_HIDDEN),
            nn.SiLU(),
        )
        self.shape = nn.Sequential(
            nn.BatchNorm1d(COUNT * 3, affine=False), nn.Linear(COUNT * 3, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN)
        )
        self.read = nn.Sequential(
            nn.Linear(2 * HIDDEN + 2 * EYE_HIDDEN + 4, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, EXPRESSION + POSE)
        )

    def forward(self, frames: Tensor, points: Tensor) -> Semantics:
        return self.embed(self.look(frames, points))

    def look(self, frames: Tensor, points: Tensor) -> Looks:
        """Cut out of frames what is looked at."""
        points = points.detach()
        middle, across, angle = face_axes(points)
        square = self._unsteady(square_at(along(middle, angle, 0.0, BELOW * across), REACH * across, angle, frames))
        face = cut_squares(frames, square.matrix(SIDE), SIDE)
        eyes = [cut(frames, self._unsteady(part_square(points, eye, frames)), eye) for eye in EYES]
        with torch.autocast(frames.device.type, enabled=False):
            cos, sin = angle.cos()[:, None], angle.sin()[:, None]
            x, y = (points[..., :2] - middle[:, None]).unbind(-1)
            own = torch.stack([x * cos + y * sin, y * cos - x * sin, points[..., 2]], dim=-1) / across[:, None, None]
            place = torch.cat([middle, across.log()[:, None], angle[:, None]], dim=1)
        return Looks(face, *eyes, own, place)

    def embed(self, looks: Looks) -> Semantics:
        """The numbers of what :meth:`look` gave."""
        face, left_eye, right_eye, shape, place = looks
        seen = self.seen(self.features(_even(face)).flatten(1).float())
        left, right = self.eye(_even(torch.cat([left_eye, right_eye]))).float().unflatten(0, (2, -1))
        with torch.autocast(face.device.type, enabled=False):
            told = torch.cat([seen, left, right, self.shape(shape.flatten(1))], dim=1)
            numbers = self.read(torch.cat([F.dropout(told, DROPOUT, self.training), place], dim=1))
        return Semantics(*numbers.split([EXPRESSION, POSE], dim=1))

    def _unsteady(self, squares: Squares) -> Squares:
        """The squares themselves; in training others nearby: a face is to be read wherever it is cut."""
        if not self.training:
            return squares
        middle, side, angle = squares
        shift, size, turn = torch.randn(len(side), 4, device=side.device).mul(UNSTEADY).split([2, 1, 1], dim=1)
        return Squares(middle + shift * side[:, None], side * size[:, 0].exp(), angle + turn[:, 0])


def _even(faces: Tensor) -> Tensor:
    """Faces of one brightness and contrast: skin and light say nothing of what a face does."""
    # correction is spelt out: torch.export stumbles over the form that leaves it to the default
    deviation, mean = torch.std_mean(faces, dim=(1, 2, 3), correction=1, keepdim=True)
    return (faces - mean) / (deviation + 0.05)


def _convolutions(widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()]
        if outputs >= 96:
            layers += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()]
    return layers
