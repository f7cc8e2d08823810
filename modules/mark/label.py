"""A mark that is seen: a small label in a corner."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TEXT = "AI generated"
HEIGHT, LEAST = 0.045, 9  # of its letters: of the picture's shorter side, and in pixels
WIDEST = 0.9  # of the picture's width
SHADE = 140  # how opaque its ground is, of 255


def add(image: np.ndarray) -> np.ndarray:
    """A picture, uint8 ``[H, W, 3]``, with the label in its lower right corner."""
    colour, share = _label(*image.shape[:2])
    height, width = share.shape[:2]
    marked = image.copy()
    corner = marked[-height:, -width:]
    corner[:] = np.rint(corner + share * (colour - corner))
    return marked


@functools.lru_cache(maxsize=8)
def _label(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The label for a picture of a size: its colours, float32 ``[h, w, 3]``, and how opaque they are, ``[h, w, 1]``."""
    size = max(LEAST, HEIGHT * min(height, width))
    size *= min(1, WIDEST * width / (_extent(size)[0] + size))
    letters, room = _extent(size), round(0.4 * size)
    drawn = Image.new("RGBA", (round(letters[0]) + 2 * room, round(1.25 * size) + room), (0, 0, 0, SHADE))
    ImageDraw.Draw(drawn).text((room, room // 2), TEXT, (255, 255, 255, 255), ImageFont.load_default(size))
    pixels = np.asarray(drawn)[-height:, -width:].astype(np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255


def _extent(size: float) -> tuple[float, float]:
    left, top, right, bottom = ImageFont.load_default(size).getbbox(TEXT)
    return right - left, bottom - top
