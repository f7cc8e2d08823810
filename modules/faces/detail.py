"""Results larger than the pictures that a motion is computed on: what the source shows beyond them moves along.

A model of 128 pixels knows where everything goes, but not what a photograph of 3,000 shows there.  So what its picture
of the source lacks, all that is finer and all that it gets wrong, is moved by its dense motion, hidden where something
new is painted, and added to what it paints.  Where nothing moves the result is the source itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import coordinate_grid, resize_grid, sample
from .filters import dilated, ramp

UNCHANGED = 0.02  # difference of a colour that is hardly seen
SIDES, BELOW = 0.08, 0.18  # of a crop's side: over this width its motion comes to rest; below, where the neck is


class Detail:
    """Of one source.

    Args:
        source: ``[1, 3, H, W]`` in [0, 1], at the size of the results.
        unmoved: the picture of the source as it is, ``[1, 3, h, w]``, as the pictures of its motion are made.
        rests: results are to be pasted into a picture, so their motion comes to rest towards their edges: shoulders
            stay in one piece, and the neck bends.
    """

    def __init__(self, source: Tensor, unmoved: Tensor, rests: bool = False):
        self.size = source.shape[2:]
        self.rests = rests
        self.lacking = source - _enlarged(unmoved, *self.size)

    def add(self, picture: Tensor, motion: Tensor, shown: Tensor | None = None) -> Tensor:
        """Pictures ``[B, 3, h, w]`` at the size of the results and with the source's detail, in [0, 1].

        Args:
            picture: what is made of the source at the small size.
            motion: backward flow ``[B, h', w', 2]`` in [-1, 1]: where in the source each pixel comes from.
            shown: share of each pixel that comes from there, ``[B, 1, h'', w'']``; None: all.
        """
        if self.rests:
            picture, motion = _at_rest(picture.float(), motion)
        grid = enlarged_grid(motion, *self.size)
        moved = sample(self.lacking.expand(len(grid), -1, -1, -1), grid, padding_mode="border")
        if shown is not None:
            moved = moved * F.interpolate(shown.float(), self.size, mode="bilinear")
        return (_enlarged(picture, *self.size) + moved).clamp(0, 1)


def unchanged(picture: Tensor, before: Tensor) -> Tensor:
    """Softly 1 where pictures ``[B, 3, h, w]`` show what ``before`` shows and nothing has moved nearby.

    What moves may have left its place nearby, unseen where colours are alike.
    """
    change = (picture - before).abs().amax(dim=1, keepdim=True)
    return torch.exp(-(dilated(change, max(1, picture.shape[2] // 32)) / UNCHANGED).square())


def _at_rest(picture: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """A picture and its motion, both brought to rest towards the edges.

    Where the flow is f and its share w is to be left, the source at x + w f is what the picture shows at x - (1 - w) f,
    as long as f is smooth.
    """
    moves = motion.float() - coordinate_grid(*motion.shape[1:3], motion)
    left = kept_share(*motion.shape[1:3]).to(motion)[None, ..., None]
    back = resize_grid(moves * (left - 1), *picture.shape[2:], align_corners=True)
    still = coordinate_grid(*picture.shape[2:], back)
    return sample(picture, still + back, padding_mode="border"), motion - moves * (1 - left)


def kept_share(height: int, width: int) -> Tensor:
    """Of its motion that a crop keeps, ``[height, width]``: 1 inside, 0 at the edges."""
    x, y = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    ways = (torch.minimum(x, 1 - x)[None] / SIDES, y[:, None] / SIDES, (1 - y)[:, None] / BELOW)
    share = torch.ones(height, width)
    for way in ways:
        share = share * ramp(way)
    return share


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
