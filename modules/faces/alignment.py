"""Squares cut out of pictures, upright and in the size a network wants; and the faces that ArcFace's five points align.

Places are in pixels counted from the picture's corner: its first pixel reaches from 0 to 1, with its centre at 0.5.
Everything is batched and differentiable, in the picture and in the places.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.tensors import in_unit_range

ARCFACE_SIZE = 112
# Eyes, tip of the nose, corners of the mouth in a picture of 112 pixels: the points that ArcFace's networks are trained
# with (insightface, `arcface_src`).  Whether they count from the first pixel's corner or its centre is not said; taken
# from the corner, as all places here, MobileFace tells 121 people apart a little better (d' 7.0, not 6.7).
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


def square_of_points(boxes: Tensor, points: Tensor, scale: float) -> Squares:
    """The square of a detected face, along its eyes, its middle between that of the box and that of the points.

    ``boxes [N, 4]``, of which ``scale`` times the longer sides are the square's, and ``points [N, 5, 2]``.
    """
    across = points[:, 1] - points[:, 0]
    centre = (points.mean(1) + (boxes[:, :2] + boxes[:, 2:]) / 2) / 2
    return Squares(centre, scale * (boxes[:, 2:] - boxes[:, :2]).amax(1), torch.atan2(across[:, 1], across[:, 0]))


def similarity(points: Tensor, targets: Tensor) -> Tensor:
    """The maps ``[N, 2, 3]`` (turned, scaled, moved) of ``targets [K, 2]`` that are nearest to ``points [N, K, 2]``."""
    mean, aim = points.mean(1, keepdim=True), targets.mean(0)
    a, b = targets - aim, points - mean
    spread = a.square().sum()
    cos = (a * b).sum((1, 2)) / spread
    sin = (a[:, 0] * b[..., 1] - a[:, 1] * b[..., 0]).sum(1) / spread
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    return torch.cat([turn, mean.transpose(1, 2) - (turn * aim).sum(2, keepdim=True)], 2)


def cut_squares(
    images: Tensor, matrix: Tensor, size: int, owner: Tensor | None = None, outside: str = "border"
) -> Tensor:
    """What the maps ``[N, 2, 3]`` from squares to pictures show: ``[N, C, size, size]``, of bytes in [0, 1].

    Args:
        images: [B, C, H, W] in any range, floats or bytes.
        matrix: maps from pixels of the squares to pixels of the pictures.
        size: of the squares, in pixels.
        owner: int64 [N], the picture of each square; None: the first of the first, and so on.
        outside: of pictures: their edges ("border") or 0 ("zeros").
    """
    with torch.autocast(images.device.type, enabled=False):
        matrix = matrix.float()
        owner = torch.arange(len(matrix), device=images.device) if owner is None else owner
        centres = torch.arange(size, device=images.device) + 0.5
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        places = transform(torch.stack([x, y], -1).view(1, -1, 2), matrix).view(-1, size, size, 2)
        # Where a square is shrunk, pixels are averaged first: bilinear sampling alone would leave most of them out
        scale = (matrix[:, :, 0].detach().norm(dim=1) + 1e-4).floor().clamp(min=1).int()
        cut = matrix.new_zeros(len(matrix), images.shape[1], size, size)
        for step in scale.unique().tolist():
            chosen = (scale == step).nonzero().squeeze(1)
            used, place = owner[chosen].unique(return_inverse=True)
            left, top, right, bottom = _touched(places[chosen], step, images.shape[3], images.shape[2])
            small = in_unit_range(images[..., top:bottom, left:right][used])
            small = small if step == 1 else F.avg_pool2d(small, step, ceil_mode=True)
            extent = places.new_tensor([small.shape[3], small.shape[2]])
            grid = (places[chosen] - places.new_tensor([left, top])) / step / extent * 2 - 1
            part = F.grid_sample(small[place], grid, padding_mode=outside, align_corners=False)
            cut = cut.index_copy(0, chosen, part)
        return cut


def _touched(places: Tensor, step: int, width: int, height: int) -> list[int]:
    """Left, top, right and bottom of what is sampled at ``places [..., 2]`` of pictures pooled by ``step``.

    A face is a small part of a large picture.  The edges are multiples of ``step``, or the picture's own, and at least
    one pooled pixel is within them.
    """
    low, high = places.flatten(0, -2).aminmax(dim=0)
    edges = (torch.stack([low / step - 1, high / step + 1]).nan_to_num()).floor().int().tolist()
    last = [-(-width // step) - 1, -(-height // step) - 1]
    first = [min(max(edge, 0), end) for edge, end in zip(edges[0], last, strict=True)]
    final = [min(max(edge, 0), end) for edge, end in zip(edges[1], last, strict=True)]
    return [step * edge for edge in first] + [step * (edge + 1) for edge in final]


def arcface_chips(images: Tensor, points: Tensor, size: int = ARCFACE_SIZE, owner: Tensor | None = None) -> Tensor:
    """Faces as ArcFace's networks expect them: ``[N, 3, size, size]``.

    Args:
        images: [B, 3, H, W].
        points: [N, 5, 2], eyes, tip of the nose, corners of the mouth, in pixels of the pictures.
        size: of the result, in pixels.
        owner: int64 [N], the picture of each face; None: one face per picture.
    """
    targets = points.new_tensor(ARCFACE_POINTS) * size / ARCFACE_SIZE
    return cut_squares(images, similarity(points, targets), size, owner)
