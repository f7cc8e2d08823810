"""Putting a moved face back into the picture that it was cut out of."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .close_crop import Crop

RIM = 0.08  # of the crop's side: over this width a result fades into the picture


class Paster:
    """Pastes results for one crop of one picture, at the picture's own resolution.

    Args:
        size: (width, height) of the picture.
        crop: what was cut out of it.
        side: pixels of a side of the results.
    """

    def __init__(self, size: tuple[int, int], crop: Crop, side: int):
        box = crop.bounds
        self._left, self._top = max(0, int(box.left)), max(0, int(box.top))
        self._right, self._bottom = min(size[0], int(box.right)), min(size[1], int(box.bottom))
        self._rim = _rim(side)
        # from pixels of the part of the picture that is touched to those of the result
        inverse = np.linalg.inv(np.vstack([crop.matrix, [0, 0, 1]]))[:2]
        inverse[:, 2] += inverse[:, :2] @ (self._left, self._top)
        self._data = tuple((inverse * side).flatten())

    def paste(self, picture: np.ndarray, result: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """A copy of ``picture`` with ``result`` in the crop's place, faded in at its rim.

        Args:
            picture: uint8 ``[H, W, 3]``.
            result: uint8 ``[side, side, 3]``.
            mask: how much of the result is shown, float ``[side, side]`` in [0, 1]; left out: all of it.
        """
        shown = self._rim if mask is None else self._rim * mask
        weight = self._spread(shown.astype(np.float32))[..., None]
        moved = np.stack([self._spread(result[..., c].astype(np.float32)) for c in range(3)], axis=-1)
        whole = picture.copy()
        place = whole[self._top : self._bottom, self._left : self._right]
        place[:] = np.rint(place + weight * (moved - place)).clip(0, 255).astype(np.uint8)
        return whole

    def _spread(self, plane: np.ndarray) -> np.ndarray:
        """Values of the crop over the part of the picture that it touches; 0 outside the crop."""
        size = self._right - self._left, self._bottom - self._top
        picture = Image.fromarray(plane)
        return np.asarray(picture.transform(size, Image.Transform.AFFINE, self._data, Image.Resampling.BILINEAR))


def _rim(side: int) -> np.ndarray:
    """1 inside, falling smoothly to 0 at the edge, ``[side, side]``."""
    pixels = np.arange(side) + 0.5
    ramp = np.clip(np.minimum(pixels, side - pixels) / side / RIM, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    return ramp[:, None] * ramp
