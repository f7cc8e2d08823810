"""Where a puppet's mesh is in a state."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import camera
from ..curves import step
from ..eyes import Lids
from ..head import head_grid
from ..landmarks import surface_landmarks
from .eyes import state_lids
from .marks import as_lids
from .mesh import unit_fields
from .puppet import Puppets
from .states import States

_CRACK = (0.01, 0.03)  # interocular distances between the lips, from none to all of which is seen


class Posed(NamedTuple):
    """A mesh before the camera.

    Attributes:
        points: [B, V, 2] in [-1, 1]; NaN where a puppet has nothing.
        depth: [B, V].
        local: [B, V, 3] in the head's space.
        head: [B, R, C, 3] the head, whole.
        rotation: [B, 3, 3] of the head.
        eye: [B, 3] the camera in the head's space.
        lids: heights of the lids.
        gaze: [B, 2].
        landmarks: [B, 68, 2].
    """

    points: Tensor
    depth: Tensor
    local: Tensor
    head: Tensor
    rotation: Tensor
    eye: Tensor
    lids: Lids
    gaze: Tensor
    landmarks: Tensor


def pose_puppets(puppets: Puppets, states: States) -> Posed:
    """Puppets in states, one each."""
    change = (states.units - puppets.units).flatten(1) @ unit_fields(puppets.head.device)
    return _posed(puppets, change.view(puppets.size, -1, 3), states.pose, states.gaze, state_lids(puppets, states))


def as_photographed(puppets: Puppets) -> Posed:
    """Puppets as in their photographs, exactly: points are the texture's places."""
    nothing = torch.zeros_like(puppets.head).flatten(1, 2)
    posed = _posed(puppets, nothing, puppets.pose, puppets.gaze, as_lids(puppets.lids))
    there = torch.cat([puppets.seen, torch.isfinite(puppets.sheet.points[..., 0])], 1)
    return posed._replace(points=torch.where(there[..., None], puppets.texture, torch.nan))


def _posed(puppets: Puppets, change: Tensor, pose: Tensor, gaze: Tensor, lids: Lids) -> Posed:
    head = _without_cracks(puppets.head + change.view_as(puppets.head))
    sheet, device = puppets.sheet, head.device
    moved = change.gather(1, sheet.near[..., None].expand(-1, -1, 3)) * sheet.share[..., None]
    behind = sheet.points + moved
    front = torch.where(puppets.seen[..., None], head.flatten(1, 2), torch.nan)

    # shoulders take a share of the turn from the photograph's pose to this one
    pivot = torch.tensor(camera.PIVOT, device=device)
    rotation, before = camera.rotations(pose[:, :3]), camera.rotations(puppets.pose[:, :3])
    share = torch.tensor(camera.BODY_SHARE, device=device)
    body = camera.rotations((pose - puppets.pose)[:, :3] * share) @ before

    def turned(points: Tensor, by: Tensor) -> Tensor:
        return (points - pivot) @ by.transpose(1, 2) + pivot

    placed = torch.lerp(turned(behind, body), turned(behind, rotation), sheet.follow[..., None])
    placed = torch.cat([turned(front, rotation), placed], 1)
    marked = turned(surface_landmarks(head, lids), rotation)
    camera_at = torch.tensor([0.0, camera.CENTRE, camera.DISTANCE], device=device) - pivot
    return Posed(
        _seen(placed, pose),
        camera.DISTANCE - placed[..., 2],
        torch.cat([front, behind], 1),
        head,
        rotation,
        camera_at @ rotation + pivot,
        lids,
        gaze,
        _seen(marked, pose),
    )


def _without_cracks(heads: Tensor) -> Tensor:
    """Heads [B, R, C, 3] whose lips meet where a gap is too narrow: an open mouth leaves such ones as it closes."""
    slit = head_grid().slit
    edges = heads[:, slit : slit + 2]
    gap = edges[:, :1, :, 1] - edges[:, 1:, :, 1]
    meeting = edges.mean(1, keepdim=True)
    heads = heads.clone()
    heads[:, slit : slit + 2] = torch.lerp(meeting, edges, step(gap, *_CRACK)[..., None])
    return heads


def _seen(points: Tensor, pose: Tensor) -> Tensor:
    """[B, N, 2] images of points [B, N, 3] that are turned already."""
    offset = points[..., :2] - torch.tensor([0.0, camera.CENTRE], device=points.device)
    flip = torch.tensor([1.0, -1.0], device=points.device)
    scale = camera.DISTANCE / camera.HALF_FRAME / (camera.DISTANCE - points[..., 2]) * pose[:, 5:6]
    return offset * flip * scale[..., None] + pose[:, None, 3:5]
