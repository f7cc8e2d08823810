"""Boxes of faces, in pixels of the full image, and how they overlap.

A face box is a square from the brows to the chin, about as wide as the face.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BROWS_TO_CHIN = 0.92  # of the length from the hair line to the chin (median of 111 faces)


class Box(NamedTuple):
    """Left, top (inside) and right, bottom (outside) edges, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def centre(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    @classmethod
    def of_face(cls, left: float, top: float, right: float, bottom: float) -> Box:
        """The face box in a box as WIDER FACE has them: from the hair line to the chin, narrower as the head turns."""
        longer = max(right - left, bottom - top)
        return cls.square((left + right) / 2, (top + bottom) / 2, BROWS_TO_CHIN * longer)

    @classmethod
    def square(cls, x: float, y: float, side: float) -> Box:
        """The square of ``side`` around (x, y)."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


class Detection(NamedTuple):
    """A face box and how sure the detector is of it, in [0, 1]; its 68 landmarks ``[68, 2]``, if it reads them."""

    box: Box
    score: float
    landmarks: np.ndarray | None = None


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)
