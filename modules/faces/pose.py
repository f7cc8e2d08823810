"""Head pose: how far MediaPipe's canonical face has to be turned to fit a face's landmarks."""

from __future__ import annotations

import torch
from torch import Tensor

from .frozen import FrozenNetwork

# Degrees by which a photograph that is turned away is turned to the front and beyond: ROOM at the first of AWAY, far
# more below it, and nothing from the second on, for the cheek that would come into view is not in it.
ROOM, AWAY = 25.0, (10.0, 30.0)


class HeadPose(FrozenNetwork):
    """Weighted orthogonal Procrustes of the landmarks that expressions move least."""

    def __init__(self) -> None:
        super().__init__("canonical_face")

    def forward(self, landmarks: Tensor) -> Tensor:
        """``[N, 468, 3]`` in pixels -> ``[N, 3]`` yaw, pitch, roll in degrees, with the face world's signs.

        Yaw is positive to the right of the picture, pitch upwards, roll clockwise.
        """
        turn = self.rotation(landmarks)
        yaw = torch.asin(turn[:, 2, 0].neg().clamp(-1, 1))
        pitch = torch.atan2(-turn[:, 2, 1], turn[:, 2, 2])
        roll = torch.atan2(-turn[:, 1, 0], turn[:, 0, 0])
        return torch.rad2deg(torch.stack([yaw, pitch, roll], 1))

    def rotation(self, landmarks: Tensor) -> Tensor:
        """The rotations ``[N, 3, 3]`` of the canonical face; x to the right, y up, z towards the camera."""
        weights = self.weight("weights")
        used = weights > 0
        weights, still = weights[used, None], self.weight("points")[used]
        flip = landmarks.new_tensor([1.0, -1.0, -1.0])
        seen = landmarks[:, used].float() * flip
        seen = seen - (weights * seen).sum(1, keepdim=True)
        still = still - (weights * still).sum(0)
        u, _, v = torch.linalg.svd((weights * seen).transpose(1, 2) @ still)
        handed = torch.linalg.det(u @ v)
        last = torch.stack([torch.ones_like(handed), torch.ones_like(handed), handed], 1)
        return (u * last[:, None]) @ v


def held_back(turn: Tensor, yaw: Tensor) -> Tensor:
    """A turn in degrees, no farther to the front than a photograph that is turned by ``yaw`` degrees has room for."""
    start, end = AWAY
    away = yaw.abs()
    room = ROOM * torch.where(away < start, (start / away) ** 3, ((end - away) / (end - start)).clamp(min=0))
    front = torch.where(yaw > 0, -1.0, 1.0)
    return front * torch.minimum(front * turn, room)
