"""The residual warp: what the fitted head lacks, so that its landmarks meet the photograph's."""

from __future__ import annotations

import torch
from torch import Tensor

from ...geometry import solve
from .. import camera
from ..curves import step
from ..geometry import constants
from ..head import MOUTH, MOUTH_HALF, head_grid
from ..landmarks import surface_landmarks
from .fit import OPEN, Fit, interocular
from .marks import JAW, as_lids, face_coordinates, slid

_WIDTH = 0.12  # of the multiquadric, in interocular distances
_SLACK, _JAW_SLACK = 1e-3, 0.05  # how exactly landmarks are met; those of the jaw are marked less surely
_LIPS = 0.1  # the third coordinate, half the distance that parts upper from lower lip
_FADE = (2.2, 0.7)  # face coordinates Y between which the warp fades towards the crown
# Landmarks of the inner lips: upper and the lower one beneath
_INNER = ((61, 67), (62, 66), (63, 65))


def closed_mouths(landmarks: Tensor) -> Tensor:
    """bool [B]: the lips meet, but for what landmarks err by."""
    gap = torch.stack([landmarks[:, low, 1] - landmarks[:, up, 1] for up, low in _INNER], 1)
    return gap.abs().amax(1) < OPEN * interocular(landmarks)


def warped_heads(found: Fit) -> Tensor:
    """[B, R, C, 3] the fitted heads, moved in planes parallel to the image until their landmarks are the photographs'.

    Radial basis functions in face coordinates (a multiquadric and a constant; Bookstein 1989 has the idea).  What moves
    the jaw's points is met loosely.  The warp fades towards the crown and behind the ears, where nothing is marked.
    """
    heads, device = found.heads(), found.pose.device
    lips = surface_landmarks(heads, as_lids(found.lids))
    seen = camera.view(lips, found.pose, torch.ones(68, device=device)).points
    _, points, places = slid(seen, found.landmarks, lips, face_coordinates(found.lids))
    view = camera.view(points, found.pose, torch.ones(68, device=device))
    target = _with_lips_closed(found.landmarks)
    scale = view.depth / (camera.DISTANCE * found.pose[:, 5:6] / camera.HALF_FRAME)
    flip = torch.tensor([1.0, -1.0], device=device)
    gap = (target - view.points) * flip * scale[..., None]
    moves = torch.cat([gap, torch.zeros_like(gap[..., :1])], -1) @ view.rotation  # back into the head's space
    weights = _solve(_separated(places, _sides_of_marks(places)), moves)
    grid = constants(device).face.flatten(0, 1)
    every = _separated(grid[None, :, :2], _sides_of_grid(device))
    kernel = _multiquadric(every.expand(len(places), -1, -1), _separated(places, _sides_of_marks(places)))
    fade = step(grid[:, 1], *_FADE) * grid[:, 2]
    change = (kernel @ weights[:, :68] + weights[:, 68:]) * fade[:, None]
    return _lips_meeting(heads + change.view_as(heads), closed_mouths(found.landmarks))


def _lips_meeting(heads: Tensor, closed: Tensor) -> Tensor:
    """Heads whose two edges of the slit coincide where a mouth is closed, and beside every mouth."""
    grid = head_grid()
    edges = heads[:, grid.slit : grid.slit + 2]
    beside = torch.from_numpy(abs(grid.x[grid.slit]) >= MOUTH_HALF).to(heads.device)
    together = (closed[:, None] | beside)[:, None, :, None]
    heads = heads.clone()
    heads[:, grid.slit : grid.slit + 2] = torch.where(together, edges.mean(1, keepdim=True), edges)
    return heads


def _solve(places: Tensor, moves: Tensor) -> Tensor:
    """Weights [B, 69, 3] of the functions at the landmarks, then the constant."""
    slack = torch.full((68,), _SLACK, device=places.device)
    slack[:JAW] = _JAW_SLACK
    # added, not taken away: less than nothing on the diagonal brings the matrix near a singular one, and faces tear
    kernel = _multiquadric(places, places) + torch.diag(slack)
    one = torch.ones_like(kernel[:, :1])
    top = torch.cat([kernel, one.transpose(1, 2)], 2)
    bottom = torch.cat([one, torch.zeros_like(one[..., :1])], 2)
    right = torch.cat([moves, torch.zeros_like(moves[:, :1])], 1)
    # float64: the matrix is ill-conditioned where landmarks nearly coincide
    return solve(torch.cat([top, bottom], 1).double(), right.double()).float()


def _multiquadric(a: Tensor, b: Tensor) -> Tensor:
    return -(torch.cdist(a, b) ** 2 + _WIDTH**2).sqrt()


def _with_lips_closed(landmarks: Tensor) -> Tensor:
    """Landmarks whose inner lips coincide where the mouth is closed."""
    target = landmarks.clone()
    closed = closed_mouths(landmarks)[:, None]
    for up, low in _INNER:
        middle = (landmarks[:, up] + landmarks[:, low]) / 2
        target[:, up] = torch.where(closed, middle, landmarks[:, up])
        target[:, low] = torch.where(closed, middle, landmarks[:, low])
    return target


def _separated(places: Tensor, side: Tensor) -> Tensor:
    """[B, N, 3] face coordinates and a third that keeps the lips apart; ``side`` is 1 above the mouth, -1 beneath."""
    x, y = places.unbind(-1)
    open_ = (1 - (x / MOUTH_HALF) ** 2).clamp(0, 1).sqrt()
    apart = side * _LIPS * open_ * torch.exp(-(((y - MOUTH) / 0.25) ** 2))
    return torch.stack([x, y, apart], -1)


def _sides_of_marks(places: Tensor) -> Tensor:
    side = torch.where(places[..., 1] > MOUTH, 1.0, -1.0)
    for up, low in _INNER:
        side[:, up], side[:, low] = 1.0, -1.0
    return side


def _sides_of_grid(device: torch.device) -> Tensor:
    grid = head_grid()
    rows = torch.arange(grid.shape[0], device=device)[:, None].expand(grid.shape)
    return torch.where(rows <= grid.slit, 1.0, -1.0).flatten()
