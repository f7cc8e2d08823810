"""The one definition of a close crop: a square around a face, upright or not, found from its landmarks.

Images are uint8 ``[H, W, 3]`` RGB; positions are pixels of the full image, (x, y), its first pixel from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .boxes import Box
from .crops import cut

EYES, MOUTH_CORNERS = (slice(36, 42), slice(42, 48)), [48, 54]  # of iBUG's 68 landmarks
# Of hypot(eye to eye, eyes to mouth): the height from brows to chin, and how far its middle is below the eyes.
# Medians over portraits (benchmarks/faces.py, part framing).  The mouth's corners hardly move as the jaw drops, and a
# head that turns shortens one of the two distances alone.
HEIGHT, DOWN = 1.54, 0.49
STEADY = (5, 95)  # percentiles of where a face goes in a video, which its square has to hold
FOLLOWING = 0.25  # seconds in which a crop that follows a face goes two thirds of the way
# Of an image's shorter side: how large a square in it is, and how near its middle, that there is no need to cut out.
WHOLE, CENTRED = 0.75, 0.3


class Crop(NamedTuple):
    """A square in an image: its middle, its side, and the angle, in radians, by which it is turned clockwise."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def wider(self, size: float, above: float = 0.0) -> Crop:
        """A crop ``size`` times as large, whose middle is above this one's by that share of its sides."""
        side = size * self.side
        up = above * side
        return Crop(self.x + up * math.sin(self.angle), self.y - up * math.cos(self.angle), side, self.angle)

    @property
    def matrix(self) -> np.ndarray:
        """The map ``[2, 3]`` from the square, 0 to 1 inside, to the image's pixels."""
        cos, sin = self.side * math.cos(self.angle), self.side * math.sin(self.angle)
        return np.array([[cos, -sin, self.x - (cos - sin) / 2], [sin, cos, self.y - (sin + cos) / 2]])

    @property
    def bounds(self) -> Box:
        """The whole pixels that it touches, also outside the image."""
        reach = self.side / 2 * (abs(math.cos(self.angle)) + abs(math.sin(self.angle)))
        low, high = math.floor, math.ceil
        return Box(low(self.x - reach), low(self.y - reach), high(self.x + reach), high(self.y + reach))

    @property
    def even(self) -> Box:
        """The upright square of even whole pixels that is nearest to it, also outside the image."""
        side = max(2, 2 * round(self.side / 2))
        left, top = (2 * round((middle - side / 2) / 2) for middle in (self.x, self.y))
        return Box(left, top, left + side, top + side)

    def is_whole(self, image: np.ndarray) -> bool:
        """Whether it is about what there is of ``image [H, W, 3]``, which has been cut out before, as close or closer.

        To cut that again would only blur it and repeat its edges.
        """
        height, width = image.shape[:2]
        side = min(height, width)
        off = max(abs(self.x - width / 2), abs(self.y - height / 2))
        return self.side >= WHOLE * side and off <= CENTRED * side


def axis(landmarks: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Of a face's landmarks ``[68, 2]`` its length (:data:`HEIGHT`), the middle of its eyes, and which way is down."""
    left, right = (landmarks[eye].mean(axis=0) for eye in EYES)
    return _axis(left, right, landmarks[MOUTH_CORNERS].mean(axis=0))


def _axis(left: np.ndarray, right: np.ndarray, mouth: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    eyes = (left + right) / 2
    down = mouth - eyes
    return math.hypot(*down, *(right - left)), eyes, down / max(1e-6, math.hypot(*down))


def face_crop(landmarks: np.ndarray, upright: bool = True) -> Crop:
    """The square of the face of ``landmarks [68, 2]``, from its brows to its chin.

    It keeps its place as mouth and lids open.  ``upright``: turned as the head leans, so that the face is not.
    """
    return _square(*axis(landmarks), upright)


def points_crop(points: np.ndarray) -> Crop:
    """The same, roughly, by a detector's five ``points [5, 2]``: eyes, nose, corners of the mouth; not turned."""
    return _square(*_axis(points[0], points[1], points[3:].mean(axis=0)), upright=False)


def _square(length: float, eyes: np.ndarray, down: np.ndarray, upright: bool) -> Crop:
    x, y = eyes + DOWN * length * down
    angle = math.atan2(-down[0], down[1]) if upright else 0.0
    return Crop(float(x), float(y), HEIGHT * length, angle)


def steady_crop(faces: Sequence[Crop], size: float, above: float = 0.0) -> Crop:
    """One square for all frames of a video, ``size`` times its face, and larger by as much as the face moves about."""
    x, y, side = np.array([face[:3] for face in faces]).T
    (left, right), (top, bottom) = np.percentile(x, STEADY), np.percentile(y, STEADY)
    moved = max(right - left, bottom - top)
    middle = Crop(float(left + right) / 2, float(top + bottom) / 2, float(np.median(side)))
    return middle.wider(size + float(moved) / middle.side, above)


class Follower:
    """A crop that goes after a face smoothly.

    Attributes:
        crop: where it is; None before the first face.
    """

    def __init__(self) -> None:
        self.crop: Crop | None = None
        self._before = 0.0  # when the face was last there: after a long absence the crop is where it is found again

    def move(self, aim: Crop, time: float) -> Crop:
        """Towards ``aim``, the face's own crop at ``time`` (seconds)."""
        if self.crop is not None:
            step = 1 - math.exp(-max(0.0, time - self._before) / FOLLOWING)
            aim = Crop(*(was + step * (now - was) for was, now in zip(self.crop, aim, strict=True)))
        self.crop, self._before = aim, time
        return aim


def cut_crop(image: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """What ``crop`` shows of an image, ``size`` x ``size`` pixels, antialiased; beyond the image its edge goes on."""
    box = crop.bounds
    part = Image.fromarray(cut(image, box))
    factor = max(1, int(crop.side / size))
    part = part.reduce(factor) if factor > 1 else part
    data = crop.matrix.copy()
    data[:, :2] /= size
    data[:, 2] -= box[:2]
    rows = tuple((data / factor).flatten())
    return np.array(part.transform((size, size), Image.Transform.AFFINE, rows, Image.Resampling.BICUBIC))
