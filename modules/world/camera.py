"""Pose and perspective."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DISTANCE = 12.0  # of the camera from the middle of the head, in interocular distances: 75 cm
HALF_FRAME = 2.9  # what half the frame shows at that distance
CENTRE = -0.1  # height of the middle of the frame
PIVOT = (0.0, -0.5, -0.15)  # the head turns about this point, between the ears
BODY_SHARE = (0.25, 0.1, 0.12)  # of yaw, pitch and roll that the shoulders take part in


class View(NamedTuple):
    """Where everything is for the camera.

    Attributes:
        points: [B, V, 2] in [-1, 1] on the image, x to the right, y down.
        depth: [B, V] distance from the camera along its axis.
        rotation: [B, 3, 3] of the head.
        eye: [B, 3] the camera's place in the head's own space.
    """

    points: Tensor
    depth: Tensor
    rotation: Tensor
    eye: Tensor


def rotations(degrees: Tensor) -> Tensor:
    """[B, 3, 3] rotations by (yaw, pitch, roll) in degrees, [B, 3]: pitch first, roll last."""
    (cy, cp, cr), (sy, sp, sr) = (f(torch.deg2rad(degrees)).unbind(1) for f in (torch.cos, torch.sin))
    one, zero = torch.ones_like(cy), torch.zeros_like(cy)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).view(-1, 3, 3)

    yaw = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    pitch = matrix(one, zero, zero, zero, cp, sp, zero, -sp, cp)
    roll = matrix(cr, sr, zero, -sr, cr, zero, zero, zero, one)
    return roll @ yaw @ pitch


def turn(vectors: Tensor, pose: Tensor, follows: Tensor) -> Tensor:
    """Rotate [B, V, 3], points about the pivot or normals; ``follows`` [V] is 1 where they turn with the head."""
    turned = vectors @ rotations(pose[:, :3]).transpose(1, 2)
    if not bool((follows == 1).all()):
        others = follows < 1
        body = rotations(pose[:, :3] * torch.tensor(BODY_SHARE, device=vectors.device))
        slow = vectors[:, others] @ body.transpose(1, 2)
        turned[:, others] = torch.lerp(slow, turned[:, others], follows[others][:, None])
    return turned


def view(points: Tensor, pose: Tensor, follows: Tensor) -> View:
    """Turn, place and project points [B, V, 3]; ``follows`` [V] is 1 where they turn with the head."""
    pivot = torch.tensor(PIVOT, device=points.device)
    head = rotations(pose[:, :3])
    placed = turn(points - pivot, pose, follows) + pivot
    depth = DISTANCE - placed[..., 2]
    offset = placed[..., :2] - torch.tensor([0.0, CENTRE], device=points.device)
    flip = torch.tensor([1.0, -1.0], device=points.device)
    image = offset * flip * (DISTANCE / HALF_FRAME / depth * pose[:, 5:6])[..., None] + pose[:, None, 3:5]
    camera = torch.tensor([0.0, CENTRE, DISTANCE], device=points.device) - pivot
    return View(image, depth, head, camera @ head + pivot)


def pixels(points: Tensor, size: int) -> Tensor:
    """Image coordinates in [-1, 1] (centres of the outermost pixels) to pixels counted from the image's edge."""
    return (points + 1) * ((size - 1) / 2) + 0.5
