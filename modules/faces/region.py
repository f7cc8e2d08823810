"""The part of a picture that is painted anew where a face is exchanged: an oval about it, from its landmarks.

It is larger than the face, so that its outline tells nothing of the shape of the head, and leaves room for a jaw that
drops.  Positions are pixels of the picture, (x, y), its first pixel from 0 to 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .close_crop import Crop, axis

# In the length of a face's axis (close_crop.axis), from the middle of its eyes; brows and chin lie at -0.28 and 1.26.
TOP, BOTTOM = -0.8, 1.6
ACROSS = 0.62  # half axis, in the extent of the landmarks: ears lie partly inside


class Region(NamedTuple):
    """An oval: its middle, its half axes, and the angle, in radians, by which it is turned clockwise."""

    x: float
    y: float
    across: float
    down: float
    angle: float

    def within(self, crop: Crop, size: int) -> Region:
        """The same in what ``crop`` shows, ``size`` x ``size`` pixels."""
        inverse = np.linalg.inv(np.vstack([crop.matrix, [0, 0, 1]]))[:2]
        x, y = size * (inverse[:, :2] @ (self.x, self.y) + inverse[:, 2])
        scale = size / crop.side
        return Region(float(x), float(y), scale * self.across, scale * self.down, self.angle - crop.angle)

    def is_inside(self, image: np.ndarray) -> bool:
        """Whether all of it lies in a picture ``[H, W, 3]``."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        right = math.hypot(self.across * cos, self.down * sin)
        below = math.hypot(self.across * sin, self.down * cos)
        height, width = image.shape[:2]
        return right <= self.x <= width - right and below <= self.y <= height - below

    def distance(self, height: int, width: int) -> Tensor:
        """Of every pixel ``[height, width]`` from the middle: 0 there, 1 on the outline."""
        x, y = torch.arange(width) + 0.5 - self.x, (torch.arange(height) + 0.5 - self.y)[:, None]
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return (((x * cos + y * sin) / self.across).square() + ((y * cos - x * sin) / self.down).square()).sqrt()

    def mask(self, height: int, width: int) -> Tensor:
        """1 inside, 0 outside: float32 ``[1, height, width]``."""
        return (self.distance(height, width) < 1).float()[None]


def face_region(landmarks: np.ndarray) -> Region:
    """The oval of the face of ``landmarks [68, 2]``, leaning as it does."""
    length, eyes, down = axis(landmarks)
    right = np.array([down[1], -down[0]])
    places = (landmarks - eyes) @ right
    low, high = float(places.min()), float(places.max())
    x, y = eyes + (low + high) / 2 * right + (TOP + BOTTOM) / 2 * length * down
    half = (BOTTOM - TOP) / 2 * length
    return Region(float(x), float(y), ACROSS * (high - low), half, math.atan2(-down[0], down[1]))
