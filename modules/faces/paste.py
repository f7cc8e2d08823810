"""Putting a moved face back into the picture that it was cut out of."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .. import media
from ..media.tensors import to_images
from .blend import Blender, Blends
from .close_crop import Crop

SEEN = 0.5 / 255  # a correction of colours below this would be rounded away
COLOURS = 0.5  # levels of a colour to which corrections are kept, up to 64 levels


class Paster:
    """Pastes results for one crop of one picture, at the picture's own resolution.

    Args:
        picture: uint8 ``[H, W, 3]``.
        crop: what was cut out of it.
        own: that, as it was cut out: uint8 ``[P, P, 3]``, as results are.
        device: of the network that says who is person.
        blender: says what of a result is shown; None: the person.
    """

    def __init__(
        self,
        picture: np.ndarray,
        crop: Crop,
        own: np.ndarray,
        device: torch.device | str = "cpu",
        blender: Blends | None = None,
    ):
        self._picture, self._side = picture, crop.side
        height, width = picture.shape[:2]
        box = crop.bounds
        self._left, self._top = max(0, int(box.left)), max(0, int(box.top))
        self._right, self._bottom = min(width, int(box.right)), min(height, int(box.bottom))
        # from pixels of the part of the picture that is touched to the crop, 0 to 1 inside
        inverse = np.linalg.inv(np.vstack([crop.matrix, [0, 0, 1]]))[:2]
        inverse[:, 2] += inverse[:, :2] @ (self._left, self._top)
        self._inverse = inverse
        self._blender = blender or Blender(own, torch.device(device))
        # what is lost where a crop is cut out and put back, so that nothing is where nothing moves
        self._lost = self._place(picture).astype(np.int16) - self._spread_picture(own)

    def paste(self, result: np.ndarray, onto: np.ndarray | None = None) -> np.ndarray:
        """A copy of the picture with ``result``, uint8 ``[P, P, 3]``, in the crop's place.

        What is neither the person nor next to them stays as it is, bit for bit.  ``onto`` is the picture with other
        faces pasted already.
        """
        blend = self._blender.blend(result)
        whole = (self._picture if onto is None else onto).copy()
        place = self._place(whole)
        share, same, _ = (self._spread(torch.cat([blend.share, blend.same, blend.same], 1)) / 255).transpose(2, 0, 1)
        change = self._lost * same[..., None]
        change += self._spread_picture(result)
        if blend.colour.abs().max() > SEEN:
            change += COLOURS * (self._spread(blend.colour / COLOURS + 128 / 255) - np.float32(128))
        change -= self._place(self._picture)  # so that shares of neighbours add up, whoever is first
        change *= share[..., None]
        change += place
        place[:] = np.rint(change, out=change).clip(0, 255, out=change)
        return whole

    def _place(self, picture: np.ndarray) -> np.ndarray:
        return picture[self._top : self._bottom, self._left : self._right]

    def _spread_picture(self, picture: np.ndarray) -> np.ndarray:
        """A picture of the crop over the part of the whole that it touches, antialiased; black outside the crop."""
        if len(picture) > self._side:
            side = max(1, round(self._side))
            picture = media.resize(picture, side, side)
        return self._transformed(Image.fromarray(picture), Image.Resampling.BICUBIC)

    def _spread(self, planes: torch.Tensor) -> np.ndarray:
        """Smooth values of the crop, ``[1, 3, S, S]`` in [0, 1], over that part in bytes; 0 outside the crop."""
        (image,) = to_images(planes)
        return self._transformed(Image.fromarray(image), Image.Resampling.BILINEAR).astype(np.float32)

    def _transformed(self, image: Image.Image, filter: Image.Resampling) -> np.ndarray:
        size = self._right - self._left, self._bottom - self._top
        rows = tuple((self._inverse * image.width).flatten())
        return np.asarray(image.transform(size, Image.Transform.AFFINE, rows, filter))
