"""Boxes of faces, in pixels of the full image, and how they overlap.

A face box is a square from the brows to the chin, about as wide as the face.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


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
        """The face box in a box from the hair line to the chin, which narrows as the head turns."""
        short, long = sorted((right - left, bottom - top))
        return cls.square((left + right) / 2, (top + bottom) / 2, max(short, 0.75 * long))

    @classmethod
    def square(cls, x: float, y: float, side: float) -> Box:
        """The square of ``side`` around (x, y)."""
        return cls(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


class Detection(NamedTuple):
    """A face that a detector has found.

    Attributes:
        box: where it is.
        score: in [0, 1], how sure the detector is.
        points: float32 [5, 2], eyes, tip of the nose and corners of the mouth in pixels, each pair from the left of an
            upright face; None of a detector that has none.
    """

    box: Box
    score: float
    points: np.ndarray | None = None


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / (a.width * a.height + b.width * b.height - shared)
