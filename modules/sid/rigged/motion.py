"""Dense motion of a face whose points have moved, and what it uncovers."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..blocks import Hourglass
from .plate import affine, thin_plate
from .points import BROW_POINTS, INNER_LIPS, LEFT_EYE, LIPS, MOVED, OUTLINE, RIGHT_EYE, STILL

GRID = 64  # cells of a side, at which motion is found; it is shown at any size
SPREAD = 0.04  # half frames: of a point in the maps that the network sees
FARTHEST = 0.25  # half frames: what the network may add to a motion
_GROUPS = (OUTLINE, LIPS, INNER_LIPS, LEFT_EYE, RIGHT_EYE, BROW_POINTS)
_OPEN = (INNER_LIPS, LEFT_EYE, RIGHT_EYE)  # of the source: what it shows of teeth and eyes


class PointMotion(NamedTuple):
    """Of B frames.

    Attributes:
        flow: [B, 2, G, G] backward flow, minus the identity, in half frames.
        shown: [B, 1, G, G] in [0, 1], how much of what is seen comes from there, and
        painted: [B, 3, G, G] in [0, 1] the rest.
    """

    flow: Tensor
    shown: Tensor
    painted: Tensor


def cells(size: int, like: Tensor) -> Tensor:
    """Middles of the cells of a frame, ``[size, size, 2]`` in half frames."""
    line = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def moved(image: Tensor, flow: Tensor) -> Tensor:
    """``image [B, C, H, W]`` seen through a flow ``[B, 2, G, G]``, at the image's size."""
    height, width = image.shape[2:]
    if flow.shape[2:] != image.shape[2:]:
        flow = F.interpolate(flow, size=(height, width), mode="bicubic", align_corners=False)
    grid = cells(height, flow) + flow.permute(0, 2, 3, 1)
    return F.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)


class MotionNetwork(nn.Module):
    """Chooses, cell by cell, between standing still, moving as the skull does, and moving as the face's points do.

    Points say nothing of hair, neck and shoulders, which follow the head by a share: the network weighs the three, adds
    a little of its own, and tells what the source does not show.
    """

    def __init__(self, width: int = 16, widest: int = 96) -> None:
        super().__init__()
        features = 3 * 3 + 2 * 2 + len(_GROUPS) + len(_OPEN)
        self.hourglass = Hourglass(width, features, 4, widest)
        self.read = nn.Conv2d(self.hourglass.out_filters, 3 + 2 + 1 + 3, 3, padding=1)
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)
        # the face's points are right about the face, and a source shows most of what is to be seen
        self.read.bias.data[2], self.read.bias.data[5] = 1.0, 3.0
        for name, chosen in (("all", MOVED), ("still", STILL)):
            self.register_buffer(name, torch.tensor(chosen), persistent=False)

    def forward(self, image: Tensor, source: Tensor, driven: Tensor) -> PointMotion:
        """``image [B, 3, H, W]``; its points ``source`` and where they are to be, ``driven``, both ``[B, 468, 3]``."""
        return self.weigh(*self.look(image, source, driven))

    def look(self, image: Tensor, source: Tensor, driven: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is weighed: pictures as they are and by each flow, the skull's and the points' flow, maps of points.

        ``[B, 9, G, G]``, ``[B, 4, G, G]`` and ``[B, 9, G, G]``.
        """
        # points learn from points (the motion head's own loss): pixels would only shake them
        with torch.no_grad(), torch.autocast(image.device.type, enabled=False):
            source, driven = source[..., :2].float(), driven[..., :2].float()
            places = cells(GRID, source).flatten(0, 1)[None]
            back = source - driven  # fitted itself, so that nothing moves where it is 0
            rigid = affine(driven[:, self.still], back[:, self.still], places)
            bent = thin_plate(driven[:, self.all], back[:, self.all], places)
            flows = [flow.mT.unflatten(2, (GRID, GRID)) for flow in (rigid, bent)]
            small = F.interpolate(image.float(), size=(GRID, GRID), mode="bilinear", antialias=True)
            seen = [small, *(moved(small, flow) for flow in flows)]
            maps = [_maps(driven, _GROUPS), _maps(source, _OPEN)]
            return torch.cat(seen, dim=1), torch.cat(flows, dim=1), torch.cat(maps, dim=1)

    def weigh(self, seen: Tensor, flows: Tensor, maps: Tensor) -> PointMotion:
        """The motion that comes of what :meth:`look` gave."""
        said = self.read(self.hourglass(torch.cat([seen, flows, maps], dim=1))).float()
        share, more, shown, painted = said.split([3, 2, 1, 3], dim=1)
        share = share.softmax(dim=1)
        rigid, bent = flows.chunk(2, dim=1)
        flow = share[:, 1:2] * rigid + share[:, 2:3] * bent + FARTHEST * torch.tanh(more)
        return PointMotion(flow, shown.sigmoid(), painted.sigmoid())


def _maps(points: Tensor, groups: tuple[tuple[int, ...], ...]) -> Tensor:
    """Where groups of points are, ``[B, len(groups), GRID, GRID]`` in [0, 1]."""
    line = cells(GRID, points)[0, :, 0]
    planes = []
    for group in groups:
        x, y = (points[:, list(group), i, None] - line for i in (0, 1))
        near = (-0.5 / SPREAD**2 * y[..., None].square()).exp() * (-0.5 / SPREAD**2 * x[:, :, None].square()).exp()
        planes.append(near.amax(dim=1))
    return torch.stack(planes, dim=1)
