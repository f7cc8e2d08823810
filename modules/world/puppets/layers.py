"""Behind the face: a sheet of the photograph, bent, that carries hair, ears, neck and shoulders along."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...faces.filters import blurred, dilated, eroded
from .. import camera
from ..curves import step
from ..geometry import constants
from ..head import JAWLINE
from ..raster import rasterise
from .fit import Fit, interocular
from .mesh import HIGH, LOW, SHEET, skin_triangles

_CROWN = 1.8  # face coordinate Y above which the head is under hair
_FACING = 0.12  # least z of the normal of a vertex whose texture is used, but for the middle of the face
_DEPTH_REACH, _MOTION_REACH = 0.33, 0.30  # interocular distances over which the sheet leaves the head
_BEHIND = 0.04  # how far it lies behind the head where the head covers it
_NECK = (-1.25, -0.1)  # heights over the chin between which the sheet begins to turn with the head
_ABSENT = 0.02  # of a matte, below which there is nothing to carry


class Sheet(NamedTuple):
    """Vertices in the head's space, in the photograph's pose.

    Attributes:
        points: [B, N, 3]; NaN where there is nothing.
        near: int64 [B, N] the nearest vertex of the head, and
        share: [B, N] how much of its motion is taken.
        follow: [B, N] 1 where a vertex turns with the head, 0 where it stays with the shoulders.
    """

    points: Tensor
    near: Tensor
    share: Tensor
    follow: Tensor


def seen_vertices(normals: Tensor, device: torch.device) -> Tensor:
    """bool [R*C]: vertices of the head's front that face the camera; normals [R*C, 3] in its space."""
    x, y, front = constants(device).face.flatten(0, 1).T
    faces_camera = (normals[:, 2] > _FACING) | (x.abs() < 0.7)
    return (front > 0.02) & (y >= JAWLINE - 1e-3) & (y < _CROWN) & faces_camera


def make_sheet(view: camera.View, seen: Tensor, matte: Tensor, found: Fit) -> tuple[Sheet, Tensor, Tensor]:
    """The sheet of one photograph.

    Args:
        view: the head [1, R*C] in the photograph.
        seen: of :func:`seen_vertices`.
        matte: [1, 1, P, P].
        found: its fit.

    Returns:
        the sheet, its vertices in the photograph [N, 2], and where the head covers it, [1, 1, SHEET, SHEET].
    """
    device, distance = matte.device, interocular(found.landmarks)[0]
    line = torch.linspace(LOW, HIGH, SHEET, device=device) * 2 - 1
    place = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)
    far, near = torch.cdist(place, view.points[0, seen]).min(1)
    far, near = far / distance, seen.nonzero()[:, 0][near]
    depth, cover = _covered(view, seen)
    inside = cover.flatten() > 0

    # heights over the chin, in interocular distances, and the depth of what is there: hair, ears, neck, chest
    face = constants(device).face.flatten(0, 1)
    chin = view.points[0, (face[:, 0].abs() < 0.05) & ((face[:, 1] - JAWLINE).abs() < 1e-2)].mean(0)
    offset = (place - chin) / distance * torch.tensor([1.0, -1.0], device=device)
    height = (offset @ view.rotation[0, :2, :2])[:, 1]
    rest = torch.lerp(torch.tensor(-0.15, device=device), torch.tensor(0.25, device=device), step(height, 0.4, -0.3))
    rest = rest - 0.35 * step(height, -0.5, -1.5)
    beside = camera.DISTANCE - view.depth[0, near]
    z = rest + (beside - rest) * torch.exp(-((far / _DEPTH_REACH) ** 2))
    z = torch.where(inside, camera.DISTANCE - depth - _BEHIND, z)
    z = torch.where(inside, z, blurred(z.view(1, 1, SHEET, SHEET), 1).flatten())

    share = torch.where(inside, torch.ones_like(far), torch.exp(-((far / _MOTION_REACH) ** 2)))
    points = _unprojected(place, z, found.pose, view.rotation[0])
    there = dilated(matte, max(1, matte.shape[-1] // 26))
    at = F.grid_sample(there, place[None, :, None], padding_mode="border", align_corners=True).flatten()
    hidden = eroded(cover, 3).flatten() > 0.5
    points = torch.where(((at < _ABSENT) | hidden)[:, None], torch.nan, points)
    return Sheet(points[None], near[None], share[None], step(height, *_NECK)[None]), place, cover


def _covered(view: camera.View, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Depth [N] of the head over the sheet's vertices, and where it is, [1, 1, SHEET, SHEET]."""
    points = torch.where(seen[:, None], view.points[0], torch.nan)
    pixels = ((points + 1) / 2 - LOW) / (HIGH - LOW) * (SHEET - 1) + 0.5
    triangles = skin_triangles(points.device)
    one_sided = torch.zeros(len(triangles), dtype=torch.bool, device=points.device)
    nearest, depth = rasterise(pixels[None], view.depth, triangles, one_sided, SHEET)
    return depth[0], (nearest >= 0).float().view(1, 1, SHEET, SHEET)


def _unprojected(place: Tensor, z: Tensor, pose: Tensor, rotation: Tensor) -> Tensor:
    """Points of the head's space that the photograph's camera sees at ``place`` [N, 2], at ``z`` [N] of its own."""
    device = place.device
    scale = (camera.DISTANCE - z) * camera.HALF_FRAME / (camera.DISTANCE * pose[0, 5])
    offset = (place - pose[0, 3:5]) * torch.tensor([1.0, -1.0], device=device) * scale[:, None]
    offset = offset + torch.tensor([0.0, camera.CENTRE], device=device)
    pivot = torch.tensor(camera.PIVOT, device=device)
    return (torch.cat([offset, z[:, None]], 1) - pivot) @ rotation + pivot
