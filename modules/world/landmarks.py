"""The 68 landmarks of iBUG's mark-up, as points of the surface.

They are fixed to the skin, as in 3D mark-ups: the jaw's points stay on the jaw when the head turns, instead of
following its outline.  Numbers run as seen in the image, the first on its left.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .eyes import HALF, Lids, lid_height
from .features import brow_height, lower_lip, upper_lip
from .head import EYE, JAWLINE, MOUTH, MOUTH_HALF, RADIUS, head_grid

_LIPS_X = (-MOUTH_HALF, -0.24, -0.09, 0.0, 0.09, 0.24, MOUTH_HALF, 0.24, 0.09, 0.0, -0.09, -0.24)
_INNER_X = (-0.35, -0.09, 0.0, 0.09, 0.35, 0.09, 0.0, -0.09)
# Places of the eyes' points along the eye, from -1 (inner) to 1 (outer), and whether they are on the upper lid; the
# eye at the left of the image first.  The other eye's points start at its inner corner.
_EYE = ((1.0, True), (0.4, True), (-0.4, True), (-1.0, True), (-0.4, False), (0.4, False))
EYE_POINTS = (_EYE, tuple(_EYE[i] for i in (3, 2, 1, 0, 5, 4)))


@lru_cache(maxsize=4)
def fixed_places(device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and columns of all 68 points in the head's grid, as fractions; those of the eyes only as to columns."""
    grid = head_grid()
    azimuth = np.radians(np.linspace(-86, 86, 17))
    jaw_y = JAWLINE + np.interp(np.abs(np.linspace(-1, 1, 17)), [0.8, 1.0], [0.0, 1.55])
    points = list(zip(RADIUS * np.sin(azimuth), jaw_y, strict=True))
    brow = np.array([0.92, 0.77, 0.6, 0.42, 0.24])
    heights = brow_height(torch.tensor(brow)).numpy()
    points += list(zip(-brow, heights, strict=True)) + list(zip(brow[::-1], heights[::-1], strict=True))
    points += [(0.0, y) for y in (0.03, -0.22, -0.46, -0.68)]
    points += [(-0.23, -0.81), (-0.12, -0.86), (0.0, -0.88), (0.12, -0.86), (0.23, -0.81)]
    points += [(-EYE - HALF * place, 0.0) for place, _ in EYE_POINTS[0]]
    points += [(EYE + HALF * place, 0.0) for place, _ in EYE_POINTS[1]]
    side = torch.tensor(_LIPS_X).abs()
    lips = torch.where(torch.arange(12) < 7, upper_lip(side), lower_lip(side))
    lips[[0, 6]] = MOUTH
    points += list(zip(_LIPS_X, lips.tolist(), strict=True)) + [(x, MOUTH) for x in _INNER_X]
    x, y = np.array(points).T
    columns = np.interp(x, grid.x[0], np.arange(grid.shape[1]))
    rows = _row_of(y)
    rows[60:65], rows[65:68] = grid.slit, grid.slit + 1
    rows[48] = rows[54] = grid.slit
    tensors = (torch.from_numpy(values.astype(np.float32)).to(device) for values in (rows, columns))
    return tuple(tensors)


def _row_of(y: np.ndarray) -> np.ndarray:
    rows = head_grid().rows
    return np.interp(-y, -rows, np.arange(len(rows)))


def surface_landmarks(head: Tensor, lids: Lids) -> Tensor:
    """Points [B, 68, 3] on the head's grid [B, R, C, 3]."""
    rows, columns = fixed_places(head.device)
    rows = rows.expand(len(head), -1).clone()
    table = torch.from_numpy(-head_grid().rows.astype(np.float32)).to(head.device)
    for eye, points in enumerate(EYE_POINTS):
        for i, (place, upper) in enumerate(points):
            at = torch.tensor(place, device=head.device)
            y = lid_height(at, (lids.upper if upper else lids.lower)[eye], upper).contiguous()
            index = torch.searchsorted(table, -y).clamp(1, len(table) - 1)
            rows[:, 36 + 6 * eye + i] = index - 1 + (-y - table[index - 1]) / (table[index] - table[index - 1])
    return sample_grid(head, rows, columns.expand(len(head), -1))


def sample_grid(points: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear [B, N, D] of a grid [B, R, C, D] at fractional rows and columns [B, N]; no more of it is read."""
    batch = torch.arange(len(points), device=points.device)[:, None]
    row = rows.floor().long().clamp(0, points.shape[1] - 2)
    column = columns.floor().long().clamp(0, points.shape[2] - 2)
    v, u = (rows - row)[..., None], (columns - column)[..., None]

    def at(down: int, right: int) -> Tensor:
        return points[batch, row + down, column + right].to(u.dtype)

    return torch.lerp(torch.lerp(at(0, 0), at(0, 1), u), torch.lerp(at(1, 0), at(1, 1), u), v)


@lru_cache(maxsize=4)
def _eye_places(device: torch.device) -> tuple[Tensor, Tensor]:
    grid = head_grid()
    columns = np.interp([-EYE, EYE], grid.x[0], np.arange(grid.shape[1]))
    rows = _row_of(np.zeros(2))
    return tuple(torch.from_numpy(values.astype(np.float32))[None].to(device) for values in (rows, columns))


def eye_surface(still: Tensor) -> Tensor:
    """Points [2, B, 3] of the mesh over the pupils; ``still`` is the head without expression."""
    rows, columns = _eye_places(still.device)
    return sample_grid(still, rows.expand(len(still), -1), columns.expand(len(still), -1)).transpose(0, 1)
