"""Squares cut out of pictures, upright and in the size a network wants; and the faces that ArcFace's five points align.

Places are in pixels counted from the picture's corner: its first pixel reaches from 0 to 1, with its centre at 0.5.
Everything is batched and differentiable, in the picture and in the places.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ARCFACE_SIZE = 112
# Eyes, tip of the nose, corners of the mouth in a picture of 112 pixels: the points that ArcFace's networks are trained
# with (insightface, `arcface_src`), which counts from the centre of the first pixel.
ARCFACE_POINTS = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))


class Squares(NamedTuple):
    """N squares in pictures.

    Attributes:
        centre: [N, 2] as (x, y), in pixels.
        side: [N] in pixels.
        angle: [N] in radians, clockwise as seen in the picture.
    """

    centre: Tensor
    side: Tensor
    angle: Tensor

    def to_picture(self, points: Tensor) -> Tensor:
        """Points ``[N, K, 2]`` of the squares, each from 0 to 1 inside, in pixels of the pictures."""
        return transform(points, self.matrix(1))

    def matrix(self, size: int) -> Tensor:
        """The maps ``[N, 2, 3]`` from squares of ``size`` pixels to the pictures."""
        scale = self.side / size
        cos, sin = scale * self.angle.cos(), scale * self.angle.sin()
        turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
        corner = self.centre - turn.sum(2) * size / 2
        return torch.cat([turn, corner[..., None]], 2)


def transform(points: Tensor, matrix: Tensor) -> Tensor:
    """Points ``[N, K, 2]`` under affine maps ``[N, 2, 3]``."""
    # multiplied and summed: autocast would compute a matrix product in half precision
    return (matrix[:, None, :, :2] * points[:, :, None, :]).sum(-1) + matrix[:, None, :, 2]


def upright_square(points: Tensor, left: int, right: int, scale: float) -> Squares:
    """The square around points ``[N, K, 2]``, along the line from number ``left`` to ``right`` of them.

    Its side is ``scale`` times the larger extent of the points in the square's own directions.
    """
    across = points[:, right] - points[:, left]
    angle = torch.atan2(across[:, 1], across[:, 0])
    cos, sin = angle.cos()[:, None], angle.sin()[:, None]
    x, y = points.unbind(-1)
    turned = torch.stack([x * cos + y * sin, y * cos - x * sin], -1)
    low, high = turned.amin(1), turned.amax(1)
    (x, y), side = ((low + high) / 2).unbind(1), scale * (high - low).amax(1)
    cos, sin = cos[:, 0], sin[:, 0]
    return Squares(torch.stack([x * cos - y * sin, y * cos + x * sin], -1), side, angle)


def similarity(points: Tensor, targets: Tensor) -> Tensor:
    """The maps ``[N, 2, 3]`` (turned, scaled, moved) of ``targets [K, 2]`` that are nearest to ``points [N, K, 2]``."""
    mean, aim = points.mean(1, keepdim=True), targets.mean(0)
    a, b = targets - aim, points - mean
    spread = a.square().sum()
    cos = (a * b).sum((1, 2)) / spread
    sin = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / spread
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    return torch.cat([turn, mean.transpose(1, 2) - (turn @ aim)[..., None]], 2)


def cut_squares(
    images: Tensor, matrix: Tensor, size: int, owner: Tensor | None = None, outside: str = "border"
) -> Tensor:
    """What the maps ``[N, 2, 3]`` from squares to pictures show: ``[N, C, size, size]``.

    Args:
        images: [B, C, H, W] in any range.
        matrix: maps from pixels of the squares to pixels of the pictures.
        size: of the squares, in pixels.
        owner: int64 [N], the picture of each square; None: the first of the first, and so on.
        outside: of pictures: their edges ("border") or 0 ("zeros").
    """
    with torch.autocast(images.device.type, enabled=False):
        images, matrix = images.float(), matrix.float()
        owner = torch.arange(len(matrix), device=images.device) if owner is None else owner
        centres = torch.arange(size, device=images.device) + 0.5
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        places = transform(torch.stack([x, y], -1).view(1, -1, 2), matrix).view(-1, size, size, 2)
        # Where a square is shrunk, pixels are averaged first: bilinear sampling alone would leave most of them out
        scale = matrix[:, :, 0].detach().norm(dim=1).floor().clamp(min=1).int()
        cut = images.new_zeros(len(matrix), images.shape[1], size, size)
        for step in scale.unique().tolist():
            chosen = (scale == step).nonzero().squeeze(1)
            used, place = owner[chosen].unique(return_inverse=True)
            small = images[used] if step == 1 else F.avg_pool2d(images[used], step, ceil_mode=True)
            extent = places.new_tensor([small.shape[3], small.shape[2]])
            grid = places[chosen] / step / extent * 2 - 1
            part = F.grid_sample(small[place], grid, padding_mode=outside, align_corners=False)
            cut = cut.index_copy(0, chosen, part)
        return cut


def arcface_chips(images: Tensor, points: Tensor, size: int = ARCFACE_SIZE, owner: Tensor | None = None) -> Tensor:
    """Faces as ArcFace's networks expect them: ``[N, 3, size, size]``.

    Args:
        images: [B, 3, H, W].
        points: [N, 5, 2], eyes, tip of the nose, corners of the mouth, in pixels of the pictures.
        size: of the result, in pixels.
        owner: int64 [N], the picture of each face; None: one face per picture.
    """
    targets = (points.new_tensor(ARCFACE_POINTS) + 0.5) * size / ARCFACE_SIZE
    return cut_squares(images, similarity(points, targets), size, owner)
