"""The meshes of a batch of faces: all parts in one list of vertices, posed and projected."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from . import body, hair
from .action_units import unit_basis
from .curves import step, unit
from .head import head_grid
from .parameters import Faces, category, identity_column, sided
from .person import identity_basis

# What a triangle belongs to.
SKIN, MOUTH, EAR, BODY, HAIR, HAT = range(6)


class Surface(NamedTuple):
    """All that is drawn, in a space that turns with the head; in interocular distances.

    Attributes:
        points: [B, V, 3].
        normals: [B, V, 3] unit length, outwards.
        coordinates: [B, V, 3] what painting goes by: on the face its (X, Y) and how much of the head is front; on the
            body the point itself; in hair and hats azimuth, height and the share of the way from crown to end.
        still: [B, R, C, 3] the head without expression.
        head: [B, R, C, 3] the head with it.
        follows: [V] 1 where points turn with the head, 0 where they stay with the shoulders.
    """

    points: Tensor
    normals: Tensor
    coordinates: Tensor
    still: Tensor
    head: Tensor
    follows: Tensor


class _Constants(NamedTuple):
    mean: Tensor  # [R, C, 3]
    identity: Tensor  # [I, R*C*3]
    units: Tensor  # [2A, R*C*3]
    face: Tensor  # [R, C, 3] face coordinates and front
    ears: Tensor
    body: Tensor
    follows: Tensor
    triangles: Tensor
    parts: Tensor
    two_sided: Tensor  # bool [T]: hair, hats and ears are thin


@lru_cache(maxsize=4)
def constants(device: torch.device) -> _Constants:
    """Mean shapes, bases and topology."""
    grid = head_grid()
    units = unit_basis(grid)
    triangles, parts = _topology()
    rows, columns = grid.shape
    others = 2 * np.prod(body.EAR_SHAPE)
    torso = body.body_points()[..., 1]
    after = hair.ROWS * columns * 2 + np.prod(hair.BUN_SHAPE)
    follows = np.concatenate(
        [
            np.ones(rows * columns + others),
            step(torso, body.BODY_FOLLOWS, body.HEAD_FOLLOWS).ravel(),
            np.ones(after),
        ]
    )
    arrays = [
        grid.points,
        identity_basis(grid).reshape(-1, rows * columns * 3),
        units.reshape(-1, rows * columns * 3),
        np.stack([grid.x, grid.y, grid.front], -1),
        body.ear_points(),
        body.body_points(),
        follows,
    ]
    tensors = [torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32)).to(device) for a in arrays]
    return _Constants(
        *tensors,
        torch.from_numpy(triangles).to(device),
        torch.from_numpy(parts).to(device),
        torch.from_numpy(parts >= HAIR).to(device) | torch.from_numpy(parts == EAR).to(device),
    )


def visible_triangles(faces: Faces) -> tuple[Tensor, Tensor, Tensor]:
    """Triangles [T, 3], what they belong to [T], and if they have two sides [T]; without hats if nobody has one."""
    fixed = constants(faces.identity.device)
    count = len(fixed.parts)
    if not bool((category(faces, "hat") > 0).any()):
        count = int((fixed.parts != HAT).sum())  # hats come last
    return fixed.triangles[:count], fixed.parts[:count], fixed.two_sided[:count]


def _grid_triangles(rows: int, columns: int, first: int) -> np.ndarray:
    """[T, 3] two per cell of a grid closed around, clockwise seen from outside: rows go down, columns to the right."""
    index = first + np.arange(rows * columns).reshape(rows, columns)
    index = np.concatenate([index, index[:, :1]], 1)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return np.stack([np.stack([a, b, d], -1), np.stack([a, d, c], -1)], 2).reshape(-1, 3)


def _topology() -> tuple[np.ndarray, np.ndarray]:
    grid = head_grid()
    rows, columns = grid.shape
    pieces, first = [], 0

    def add(shape: tuple[int, int], part: int) -> None:
        nonlocal first
        triangles = _grid_triangles(*shape, first)
        first += shape[0] * shape[1]
        pieces.append((triangles, np.full(len(triangles), part)))

    add(grid.shape, SKIN)
    cell = np.arange(2 * (rows - 1) * columns) // (2 * columns)
    pieces[0][1][cell == grid.slit] = MOUTH
    add(body.EAR_SHAPE, EAR)
    add(body.EAR_SHAPE, EAR)
    add(body.BODY_SHAPE, BODY)
    add((hair.ROWS, columns), HAIR)
    add(hair.BUN_SHAPE, HAIR)
    add((hair.ROWS, columns), HAT)
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def heads(faces: Faces) -> tuple[Tensor, Tensor]:
    """The head's grid [B, R, C, 3] of every face, without expression and with it."""
    fixed = constants(faces.identity.device)
    still = fixed.mean + (faces.identity @ fixed.identity).view(-1, *fixed.mean.shape)
    return still, still + (torch.cat(sided(faces), 1) @ fixed.units).view_as(still)


def build(faces: Faces) -> Surface:
    """The surface of every face, before the pose."""
    fixed, batch = constants(faces.identity.device), faces.size
    still, head = heads(faces)
    slit = head_grid().slit + 1
    ears = _ears(faces, fixed, still)
    torso = fixed.body * torch.ones(3, device=head.device)
    wider = 1 + 0.13 * identity_column(faces, "neck_width")[:, None, None] * step(torso[..., 1], -2.7, -2.2)
    torso = torch.stack([torso[..., 0] * wider, torso[..., 1].expand_as(wider), torso[..., 2] * wider], -1)
    shell, knot, hat = hair.hair_shell(faces, still), hair.bun(faces, still), hair.hat_shell(faces, still)

    patches = [head[:, :slit], head[:, slit:], ears[:, 0], ears[:, 1], torso, shell, knot, hat]
    normals = [grid_normals(patch) for patch in patches]
    coordinates = [
        fixed.face[None].expand(batch, -1, -1, -1),
        torch.full_like(ears[:, 0], 9.0),
        torch.full_like(ears[:, 1], 9.0),
        torso,
        _shell_coordinates(faces, shell),
        _shell_coordinates(faces, knot),
        _shell_coordinates(faces, hat),
    ]
    return Surface(_join(patches), _join(normals), _join(coordinates), still, head, fixed.follows)


def _ears(faces: Faces, fixed: _Constants, still: Tensor) -> Tensor:
    """[B, 2, 7, 22, 3]: sized by their parameter, and at the sides of the head."""
    size = 1 + 0.22 * identity_column(faces, "ear_size")
    anchor = torch.tensor([1.12, -0.3, -0.1], device=still.device)
    side = torch.tensor([-1.0, 1.0], device=still.device)[:, None, None, None] * anchor
    side = torch.cat([side[..., :1], anchor[1:].expand(2, 1, 1, 2)], -1)
    ears = side + (fixed.ears - side) * size[:, None, None, None, None]
    scale = torch.stack(
        [
            1 + 0.085 * identity_column(faces, "head_width"),
            1 + 0.065 * identity_column(faces, "head_length"),
            torch.ones(faces.size, device=still.device),
        ],
        -1,
    )
    return ears * scale[:, None, None, None]


def _shell_coordinates(faces: Faces, shell: Tensor) -> Tensor:
    batch, rows, columns, _ = shell.shape
    share = torch.linspace(0, 1, rows, device=shell.device)[None, :, None].expand(batch, -1, columns)
    azimuth = torch.linspace(-np.pi, np.pi, columns + 1, device=shell.device)[:-1].expand(batch, rows, -1)
    return torch.stack([azimuth, shell[..., 1], share], -1)


def grid_normals(points: Tensor) -> Tensor:
    """Unit normals of grids [B, R, C, 3] that close around."""
    across = points.roll(-1, 2) - points.roll(1, 2)
    ends = torch.cat([points[:, :1], points, points[:, -1:]], 1)
    down = ends[:, 2:] - ends[:, :-2]
    return unit(torch.linalg.cross(down, across), -1)


def _join(patches: list[Tensor]) -> Tensor:
    return torch.cat([patch.flatten(1, 2) for patch in patches], 1)
