"""Parts of a face that are looked at closely: squares that go along with its points."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...faces.alignment import Squares, cut_squares
from .points import INNER_LIPS, LEFT_EYE, LIPS, RIGHT_EYE

LEFT_CORNER, RIGHT_CORNER = 33, 263  # outer corners of the eyes, as seen in the picture
MOUTH_SIDE, EYE_SIDE = 80, 40  # pixels, about as many as a frame of 256 has there
MOUTH_REACH, EYE_REACH = 0.95, 0.55  # sides of the squares, in distances of the eyes' outer corners


class Part(NamedTuple):
    """Which points a part goes by, the pixels and reach of its square, and if it is seen in a mirror."""

    rings: tuple[tuple[int, ...], ...]
    side: int
    reach: float
    mirrored: bool


MOUTH = Part((LIPS, INNER_LIPS), MOUTH_SIDE, MOUTH_REACH, mirrored=False)
EYES = tuple(Part((ring,), EYE_SIDE, EYE_REACH, mirrored) for ring, mirrored in ((LEFT_EYE, False), (RIGHT_EYE, True)))


def face_axes(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Middle of the eyes ``[B, 2]``, distance of their outer corners ``[B]`` as if seen from ahead, and angle ``[B]``.

    Of ``points [B, 468, 3]``: depth makes up for what a turned head shortens.
    """
    left, right = points[:, LEFT_CORNER], points[:, RIGHT_CORNER]
    across = right - left
    return (left + right)[:, :2] / 2, across.norm(dim=1), torch.atan2(across[:, 1], across[:, 0])


def square_at(middle: Tensor, side: Tensor, angle: Tensor, frames: Tensor) -> Squares:
    """A square of :func:`.faces.alignment.cut_squares`, in pixels, from half frames."""
    half = frames.shape[-1] / 2
    return Squares((middle + 1) * half, side * half, angle)


def along(middle: Tensor, angle: Tensor, right: Tensor | float, down: Tensor | float) -> Tensor:
    """Points ``[B, 2]`` to the right of and below others, in a face's own directions."""
    cos, sin = angle.cos(), angle.sin()
    return middle + torch.stack([right * cos - down * sin, right * sin + down * cos], dim=1)


def part_square(points: Tensor, part: Part, frames: Tensor) -> Squares:
    """Where a part is in frames ``[B, 3, H, H]`` with ``points [B, 468, 3]``."""
    _, across, angle = face_axes(points)
    ring = points[:, list(part.rings[0]), :2]
    return square_at((ring.amin(1) + ring.amax(1)) / 2, part.reach * across, angle, frames)


def cut(frames: Tensor, squares: Squares, part: Part) -> Tensor:
    """``[B, C, S, S]``: a part of frames."""
    face = cut_squares(frames, squares.matrix(part.side), part.side)
    return face.flip(-1) if part.mirrored else face
