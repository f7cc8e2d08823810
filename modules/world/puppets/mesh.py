"""The mesh of a puppet: the front of the face world's head, and a sheet of the photograph around it."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from .. import geometry
from ..head import JAWLINE, head_grid

SHEET = 76  # vertices of the sheet a side
LOW, HIGH = -0.35, 1.35  # what it covers of the photograph, in shares of its side
_FACE = (1.1, 1.2)  # |X| and Y up to which skin counts as face


class Mesh(NamedTuple):
    """What all puppets share: V vertices are those of the head's grid, then those of the sheet.

    Attributes:
        triangles: [T, 3] clockwise as seen.
        is_mouth: bool [T] between the lips.
        is_sheet: bool [T].
        face: [V, 2] face coordinates (X, Y); far outside, 9, on the sheet.
        heads: vertices of the head.
        columns: [C] face coordinates X of the grid's columns, increasing.
        rows: [R] Y of its rows, decreasing.
    """

    triangles: Tensor
    is_mouth: Tensor
    is_sheet: Tensor
    face: Tensor
    heads: int
    columns: Tensor
    rows: Tensor

    def grid_place(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Fractional rows and columns of face coordinates on the front of the head, away from the mouth."""
        return _place(-self.rows, -y), _place(self.columns, x)


def _place(table: Tensor, values: Tensor) -> Tensor:
    high = torch.searchsorted(table, values.contiguous()).clamp(1, len(table) - 1)
    return high - 1 + (values - table[high - 1]) / (table[high] - table[high - 1]).clamp(min=1e-6)


@lru_cache(maxsize=4)
def mesh(device: torch.device) -> Mesh:
    """The mesh on a device."""
    fixed = geometry.constants(device)
    grid = head_grid()
    heads = grid.shape[0] * grid.shape[1]
    chosen = (fixed.parts == geometry.SKIN) | (fixed.parts == geometry.MOUTH)
    skin, around = fixed.triangles[chosen], _sheet_triangles(heads).to(device)
    triangles = torch.cat([skin, around])
    sheet = torch.arange(len(triangles), device=device) >= len(skin)
    mouth = torch.cat(
        [fixed.parts[chosen] == geometry.MOUTH, torch.zeros(len(around), dtype=torch.bool, device=device)]
    )
    front = fixed.face[..., :2].flatten(0, 1)
    face = torch.cat([front, torch.full((SHEET**2, 2), 9.0, device=device)])
    return Mesh(
        triangles, mouth, sheet, face, heads, fixed.face[0, :, 0].contiguous(), fixed.face[:, 0, 1].contiguous()
    )


def skin_triangles(device: torch.device) -> Tensor:
    """[T, 3] of the head alone, with the mouth closed over."""
    whole = mesh(device)
    return whole.triangles[~whole.is_sheet]


def _sheet_triangles(first: int) -> Tensor:
    index = first + torch.arange(SHEET * SHEET).view(SHEET, SHEET)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    return torch.stack([torch.stack([a, b, d], -1), torch.stack([a, d, c], -1)], 2).reshape(-1, 3)


def head_normals(heads: Tensor) -> Tensor:
    """[B, R*C, 3] unit normals of heads [B, R, C, 3]; the lips are edges of two patches."""
    slit = head_grid().slit + 1
    above, below = geometry.grid_normals(heads[:, :slit]), geometry.grid_normals(heads[:, slit:])
    return torch.cat([above, below], 1).flatten(1, 2)


def is_face(x: Tensor, y: Tensor) -> Tensor:
    """Whether face coordinates are of the face: skin from hair to jaw."""
    return (y > JAWLINE) & (y < _FACE[1]) & (x.abs() < _FACE[0])
