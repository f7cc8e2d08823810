"""The motion head: points of a face moved as a head turns, and as its muscles pull."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...world import camera
from ..encoders import Semantics
from .codes import ANGLE, EXPRESSION, POSE
from .points import COUNT, MOVED

HIDDEN = 384
_FLIP = (1.0, -1.0, -1.0)  # from the picture's axes (down, away) to the world's (up, towards the camera)


class Rig(nn.Module):
    """Points of a source and a change of semantics -> the points as they then are.

    The points are brought to the head's own space by the source's pose, moved there by what the expression changes, and
    brought back by the pose to be shown: x = c + s R X, as in LivePortrait (Guo et al., 2024, eq. 2), where the space
    is found by itself.  What an expression moves is linear in it for all faces, and a small network adds what is
    particular; without a change nothing moves at all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(EXPRESSION, COUNT * 3, bias=False)
        self.layers = nn.Sequential(
            nn.Linear(len(MOVED) * 3 + EXPRESSION + POSE, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.SiLU(),
            nn.Linear(HIDDEN, COUNT * 3),
        )
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)
        self.register_buffer("moved", torch.tensor(MOVED), persistent=False)
        self.middle = nn.Parameter(torch.tensor(0.55))  # depth of the points, in half frames, counted from the pivot

    def forward(self, points: Tensor, before: Semantics, after: Semantics) -> Tensor:
        """``points [B, 468, 3]`` of the source, in half frames; ``before`` its semantics, ``after`` those to show."""
        with torch.autocast(points.device.type, enabled=False):
            own = self.to_head(points, before.pose)
            shape = own[:, self.moved].flatten(1)
            says = (torch.cat([shape, *sem], dim=1) for sem in (after, before))
            change = self.linear(after.expression - before.expression)
            change = change + torch.sub(*(self.layers(said) for said in says))
            return self.to_frame(own + change.unflatten(1, (COUNT, 3)), after.pose)

    def to_head(self, points: Tensor, pose: Tensor) -> Tensor:
        """Points of a frame in the space of the head: its size 1, turned to the camera, from the pivot."""
        rotation, centre, scale = self._place(pose)
        return ((points - centre) * points.new_tensor(_FLIP) / scale) @ rotation

    def to_frame(self, points: Tensor, pose: Tensor) -> Tensor:
        """The opposite of :meth:`to_head`."""
        rotation, centre, scale = self._place(pose)
        return (points @ rotation.mT) * scale * points.new_tensor(_FLIP) + centre

    def _place(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rotation = camera.rotations(pose[:, :3] * ANGLE)
        scale = pose[:, 5:6].exp()
        up = (camera.CENTRE - camera.PIVOT[1]) / camera.HALF_FRAME
        x, y = pose[:, 3:4], pose[:, 4:5] + up * scale
        centre = torch.cat([x, y, self.middle.expand_as(x) * scale], dim=1)
        return rotation, centre[:, None], scale[:, :, None]
