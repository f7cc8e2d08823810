"""Results larger than the model's pictures: what the source shows beyond them moves along.

A model of 128 pixels knows where everything goes, but not what a photograph of 3,000 shows there.  So what its picture
of the source lacks, all that is finer and all that it gets wrong, is moved by its dense motion, hidden where something
new is painted, and added to what it paints.  Where nothing moves the result is the source itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..geometry import coordinate_grid, sample
from ..media.tensors import to_images
from .dense_motion import DenseMotion
from .generator import Generated


class Detail:
    """Of one source.

    Args:
        source: ``[1, 3, H, W]`` in [0, 1], at the size of the results.
        unmoved: the model's picture of the source as it is, ``[1, 3, h, w]``.
    """

    def __init__(self, source: Tensor, unmoved: Tensor):
        self.size = source.shape[2:]
        self.lacking = source - _enlarged(unmoved, *self.size)

    def add(self, prediction: Tensor, motion: DenseMotion) -> Tensor:
        """The model's pictures ``[B, 3, h, w]``, at the size of the results and with the source's detail, in [0, 1]."""
        grid = enlarged_grid(motion.deformation, *self.size)
        moved = sample(self.lacking.expand(len(grid), -1, -1, -1), grid, padding_mode="border")
        if motion.occlusion is not None:
            moved = moved * F.interpolate(motion.occlusion.float(), self.size, mode="bilinear")
        return (_enlarged(prediction, *self.size) + moved).clamp(0, 1)

    def images(self, made: Generated) -> Iterator[np.ndarray]:
        """The same as uint8 pictures, one at a time: each may be as large as a photograph."""
        if made.motion is None:
            raise UserError("a model without dense motion cannot move a source's detail; take --no-paste_back")
        motion = made.motion
        for i in range(len(made.prediction)):
            occlusion = None if motion.occlusion is None else motion.occlusion[i : i + 1]
            one = motion._replace(deformation=motion.deformation[i : i + 1], occlusion=occlusion)
            yield from to_images(self.add(made.prediction[i : i + 1], one))


def _enlarged(picture: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(picture.float(), (height, width), mode="bicubic", align_corners=False)


def enlarged_grid(grid: Tensor, height: int, width: int) -> Tensor:
    """A sampling grid ``[B, h, w, 2]`` of a small picture, for one of ``height`` x ``width`` pixels of the same place.

    Pictures of the same place have their edges in common, not the centres of their outermost pixels, which -1 and 1
    mean here: so what is enlarged is by how much the grid moves, in the units of the place.
    """
    small = torch.tensor([grid.shape[2], grid.shape[1]], dtype=torch.float32, device=grid.device)
    large = torch.tensor([width, height], dtype=torch.float32, device=grid.device)
    moves = (grid.float() - coordinate_grid(*grid.shape[1:3], grid)) * (small - 1) / small
    moves = F.interpolate(moves.permute(0, 3, 1, 2), (height, width), mode="bilinear", align_corners=False)
    return coordinate_grid(height, width, grid) + moves.permute(0, 2, 3, 1) * large / (large - 1)
