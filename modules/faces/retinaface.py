"""RetinaFace with a MobileNet of width 0.25: faces in all poses, with five points each, in 427 000 parameters.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020; weights of the PyTorch
version of it that is widely used (biubug6/Pytorch_Retinaface), batch normalisations folded into the convolutions.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..media.tensors import in_unit_range
from .alignment import cut_squares, square_of_points, transform
from .frozen import FrozenNetwork

MEAN = (104.0, 117.0, 123.0)  # of blue, green, red, from 0 to 255
LEVELS = ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))  # pixels between anchors, and their sides
CENTRE_UNIT, SIZE_UNIT = 0.1, 0.2  # of what the network says about an anchor
STRIDES = {"stage1": (1, 2, 1, 2, 1), "stage2": (2, 1, 1, 1, 1, 1), "stage3": (2, 1)}  # of the depthwise blocks
SCORE = 0.5  # least score of a face
LONGEST = 320  # pixels of the longer side: faces of 1/12 of it, 27 pixels, are found
OVERLAP = 0.4  # of two boxes of one face
# The points of a head that leans by 30 degrees are off by a fifth of the distance of the eyes, at 90 by half of it.  So
# heads that lean by more are cut out, as upright as the points make them, and looked at again.
LEANING = math.radians(12)
AGAIN, AROUND, TIMES = 160, 1.6, 2  # pixels of what is cut out, and its side in sides of the box


class Found(NamedTuple):
    """What is found in one picture, surest first, in its pixels.

    Attributes:
        boxes: [N, 4] left, top, right, bottom; from the hair line to the chin, upright also of a face that is not.
        scores: [N] in [0, 1].
        points: [N, 5, 2] eyes, tip of the nose, corners of the mouth, each pair from the left of an upright face.
    """

    boxes: Tensor
    scores: Tensor
    points: Tensor


class RetinaFace(FrozenNetwork):
    """The detector."""

    def __init__(self) -> None:
        super().__init__("retinaface_mnet025.fp16")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``[B, 3, H, W]`` in [0, 1], at the size looked at -> per anchor boxes [B, A, 4], scores [B, A], points
        [B, A, 10], in units of the anchors."""
        pixels = 255 * images.float().flip(1) - images.new_tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1)
        x = self._leaky(pixels, "body.stage1.0.0", stride=2)
        stages = []
        for stage, strides in STRIDES.items():
            for number, stride in enumerate(strides, start=1 if stage == "stage1" else 0):
                x = self._leaky(x, f"body.{stage}.{number}.0", stride)
                x = self._leaky(x, f"body.{stage}.{number}.3")
            stages.append(x)
        features = [self._context(x, f"ssh{i}") for i, x in enumerate(self._pyramid(*stages), start=1)]
        boxes, scores, points = (
            torch.cat([self._head(x, f"{head}.{i}.conv1x1", width) for i, x in enumerate(features)], dim=1)
            for head, width in (("BboxHead", 4), ("ClassHead", 2), ("LandmarkHead", 10))
        )
        return boxes, scores.softmax(-1)[..., 1], points

    def _leaky(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        return F.leaky_relu(self.conv(x, name, stride), 0.1)

    def _pyramid(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine, middle, coarse = (self._leaky(x, f"fpn.output{i}.0") for i, x in enumerate((fine, middle, coarse), 1))
        middle = self._leaky(middle + F.interpolate(coarse, middle.shape[2:]), "fpn.merge2.0")
        fine = self._leaky(fine + F.interpolate(middle, fine.shape[2:]), "fpn.merge1.0")
        return fine, middle, coarse

    def _context(self, x: Tensor, name: str) -> Tensor:
        """The surroundings by 3, 5 and 7 pixels (Najibi et al., "SSH", ICCV 2017)."""
        five = self._leaky(x, f"{name}.conv5X5_1.0")
        seven = self.conv(self._leaky(five, f"{name}.conv7X7_2.0"), f"{name}.conv7x7_3.0")
        parts = [self.conv(x, f"{name}.conv3X3.0"), self.conv(five, f"{name}.conv5X5_2.0"), seven]
        return F.relu(torch.cat(parts, dim=1))

    def _head(self, x: Tensor, name: str, width: int) -> Tensor:
        return self.conv(x, name).permute(0, 2, 3, 1).reshape(len(x), -1, width)

    @torch.no_grad()
    def detect(self, images: Tensor, longest: int = LONGEST, least: float = SCORE) -> list[Found]:
        """The faces in each picture.

        Args:
            images: [B, 3, H, W] in [0, 1] or in bytes, of any size.
            longest: pixels of the longer side at which they are looked at.  Faces under some 20 pixels are missed.
            least: scores below are left out.
        """
        height, width = images.shape[2:]
        scale = longest / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        # bytes of a photograph are made smaller many times faster than its floats, which also take four times the room
        small = images if images.device.type == "cpu" and images.dtype == torch.uint8 else in_unit_range(images)
        if size != (height, width):
            small = F.interpolate(small, size, mode="bilinear", antialias=True)
        small = in_unit_range(small)
        # A network of stride 32 needs 32 pixels
        small = F.pad(small, (0, max(0, 32 - size[1]), 0, max(0, 32 - size[0])), value=0.5)
        found = self._look(small, least, width / size[1], height / size[0])
        counts = [len(each.scores) for each in found]
        owner = torch.arange(len(images)).repeat_interleave(torch.tensor(counts)).to(images.device)
        boxes, scores, points = (torch.cat(values) for values in zip(*found, strict=True))
        points = self._look_again(images, boxes, points, owner)
        parts = (values.split(counts) for values in (boxes, scores, points))
        return [Found(*each) for each in zip(*parts, strict=True)]

    def _look(self, images: Tensor, least: float, wider: float = 1.0, higher: float = 1.0) -> list[Found]:
        """Faces at the size of ``images``, in units of pictures that are so many times as wide and high."""
        unit = images.new_tensor([wider, higher])
        anchors = _anchors(*images.shape[2:]).to(images.device)
        return [_decoded(*parts, anchors, unit, least) for parts in zip(*self(images), strict=True)]

    def _look_again(self, images: Tensor, boxes: Tensor, points: Tensor, owner: Tensor) -> Tensor:
        """The points ``[N, 5, 2]`` of faces, read from an upright picture of each that leans."""
        leaning = _leans(points).nonzero().squeeze(1)
        for _ in range(TIMES):
            if not len(leaning):
                break
            matrix = square_of_points(boxes[leaning], points[leaning], AROUND).matrix(AGAIN)
            looks = self._look(cut_squares(images, matrix, AGAIN, owner[leaning]), least=0.5)
            still = []
            for row, back, seen in zip(leaning.tolist(), matrix, looks, strict=True):
                away = ((seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2 - AGAIN / 2).norm(dim=1)
                if len(away) and away.min() < AGAIN / 4:
                    upright = seen.points[away.argmin()][None]
                    points[row] = transform(upright, back[None])[0]
                    still += [row] if _leans(upright) else []
            leaning = leaning.new_tensor(still)
        return points


def _leans(points: Tensor) -> Tensor:
    """Of which of ``[N, 5, 2]`` the eyes are not level."""
    across = points[:, 1] - points[:, 0]
    return torch.atan2(across[:, 1], across[:, 0]).abs() > LEANING


def _decoded(boxes: Tensor, scores: Tensor, points: Tensor, anchors: Tensor, unit: Tensor, least: float) -> Found:
    sure = scores > least
    boxes, scores, points, anchors = boxes[sure], scores[sure], points[sure], anchors[sure]
    middle, side = anchors[:, :2], anchors[:, 2:]
    centre, half = middle + CENTRE_UNIT * boxes[:, :2] * side, side * (SIZE_UNIT * boxes[:, 2:]).exp() / 2
    boxes = torch.cat([(centre - half) * unit, (centre + half) * unit], dim=1)
    places = middle[:, None] + CENTRE_UNIT * points.view(-1, 5, 2) * side[:, None]
    kept = _surest(boxes, scores)
    return Found(boxes[kept], scores[kept], places[kept] * unit)


def _surest(boxes: Tensor, scores: Tensor) -> Tensor:
    """Numbers of the boxes that no surer one overlaps, surest first.  (Importing torchvision for it takes seconds.)"""
    order = scores.argsort(descending=True)
    low, high = boxes[order].split(2, dim=1)
    shared = (torch.minimum(high[:, None], high) - torch.maximum(low[:, None], low)).clamp(min=0).prod(2)
    area = (high - low).prod(1)
    covers = (shared / (area[:, None] + area - shared) > OVERLAP).cpu()
    kept = torch.ones(len(order), dtype=torch.bool)
    for number in range(len(order)):
        if kept[number]:
            kept[number + 1 :] &= ~covers[number, number + 1 :]
    return order[kept.to(order.device)]


@lru_cache(maxsize=8)
def _anchors(height: int, width: int) -> Tensor:
    """Centres and sides, ``[A, 4]`` in pixels, in the order of the network's answers."""
    rows = []
    for step, sides in LEVELS:
        y, x = torch.meshgrid(torch.arange(-(-height // step)), torch.arange(-(-width // step)), indexing="ij")
        centre = (torch.stack([x, y], -1).view(-1, 1, 2) + 0.5) * step
        side = torch.tensor(sides, dtype=torch.float32).view(1, -1, 1)
        rows.append(torch.cat([centre.expand(-1, len(sides), 2), side.expand(len(centre), -1, 2)], 2).view(-1, 4))
    return torch.cat(rows)
