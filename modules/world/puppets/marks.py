"""The 68 landmarks of many heads at once, fast enough for a fit: only the points that they need are moved."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..eyes import LOWER, UPPER, Lids, lid_height
from ..geometry import constants
from ..head import head_grid
from ..landmarks import EYE_POINTS, fixed_places, sample_grid

JAW = 17  # the first landmarks are the jaw's
MEETING = -0.045  # height of an upper lid that is closed, over the line through the eye's corners
_EYES = slice(36, 48)
_EYE_ROWS = (0.45, -0.4)  # face coordinates Y between which lids are
_DENSE = 161  # points of the jaw as a curve


class Marks(NamedTuple):
    """A linear model of the landmarks: what it takes to find them on a head of any shape and with any lids.

    Attributes:
        rows: [N] and
        columns: [N] places in the head's grid of the 56 landmarks beside the eyes, then of a table for each of the
            twelve at the eyes, down the rows where lids are.
        heights: [K] face coordinates Y of the table's rows, downwards.
    """

    rows: Tensor
    columns: Tensor
    heights: Tensor

    def points(self, grids: Tensor) -> Tensor:
        """[B, N, 3] of heads or displacements on the grid, [B, R, C, 3]."""
        count = len(grids)
        return sample_grid(grids, self.rows.expand(count, -1), self.columns.expand(count, -1))

    def landmarks(self, points: Tensor, lids: Tensor) -> Tensor:
        """[B, 68, 3] of points [B, N, 3] and lids [B, 2, 2] (upper and lower, then the eye at the left first)."""
        batch, count = len(points), len(self.heights)
        others = points[:, :56]
        table = points[:, 56:].view(batch, 12, count, 3)
        y = eye_heights(lids)
        index = torch.searchsorted(-self.heights, -y.detach().contiguous()).clamp(1, count - 1)
        share = (self.heights[index - 1] - y) / (self.heights[index - 1] - self.heights[index])
        low, high = (table.gather(2, i[..., None, None].expand(-1, -1, 1, 3))[:, :, 0] for i in (index - 1, index))
        eyes = torch.lerp(low, high, share[..., None])
        return torch.cat([others[:, :36], eyes, others[:, 36:]], 1)


@lru_cache(maxsize=4)
def marks(device: torch.device) -> Marks:
    """The model on a device."""
    grid = head_grid()
    rows, columns = fixed_places(device)
    number = np.nonzero((grid.rows < _EYE_ROWS[0]) & (grid.rows > _EYE_ROWS[1]))[0]
    table = torch.from_numpy(number.astype(np.float32)).to(device)
    heights = torch.from_numpy(grid.rows[number].astype(np.float32)).to(device)
    rest = torch.cat([torch.arange(36), torch.arange(48, 68)]).to(device)
    return Marks(
        torch.cat([rows[rest], table.repeat(12)]),
        torch.cat([columns[rest], columns[_EYES].repeat_interleave(len(table))]),
        heights,
    )


@lru_cache(maxsize=4)
def bases(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [N, 3], identity [I, N, 3] and action units [2A, N, 3] at the points of :func:`marks`."""
    fixed, model = constants(device), marks(device)
    shape = fixed.mean.shape
    return (
        model.points(fixed.mean[None])[0],
        model.points(fixed.identity.view(-1, *shape)),
        model.points(fixed.units.view(-1, *shape)),
    )


def eye_heights(lids: Tensor) -> Tensor:
    """Face coordinate Y [B, 12] of the eyes' landmarks, lids as in :meth:`Marks.landmarks`."""
    places, eyes, order = _eye_points(lids.device)
    upper, lower = (lid_height(places[i], lids[:, i, eyes[i]], i == 0) for i in (0, 1))
    return torch.cat([upper, lower], 1)[:, order]


@lru_cache(maxsize=4)
def _eye_points(device: torch.device) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Of the landmarks on upper and on lower lids: places and eyes; and the order in which iBUG has all of them."""
    points = [(place, eye, upper) for eye, some in enumerate(EYE_POINTS) for place, upper in some]
    numbers = [[i for i, (_, _, upper) in enumerate(points) if upper is wanted] for wanted in (True, False)]
    places = [torch.tensor([points[i][0] for i in some], device=device) for some in numbers]
    eyes = [torch.tensor([points[i][1] for i in some], device=device) for some in numbers]
    return places, eyes, torch.tensor([i for some in numbers for i in some], device=device).argsort()


def face_coordinates(lids: Tensor) -> Tensor:
    """Face coordinates (X, Y) [B, 68, 2] of the landmarks."""
    grid = head_grid()
    rows, columns = (values.cpu().numpy() for values in fixed_places(lids.device))
    x = np.interp(columns, np.arange(grid.shape[1]), grid.x[0])
    y = np.interp(rows, np.arange(grid.shape[0]), grid.rows)
    fixed = torch.from_numpy(np.stack([x, y], -1).astype(np.float32)).to(lids.device)
    found = fixed.expand(len(lids), -1, -1).clone()
    found[:, _EYES, 1] = eye_heights(lids)
    return found


def open_lids(count: int, device: torch.device) -> Tensor:
    """[B, 2, 2] lids of eyes at rest."""
    return torch.tensor([[UPPER, UPPER], [LOWER, LOWER]], device=device).repeat(count, 1, 1)


def as_lids(lids: Tensor) -> Lids:
    """[B, 2, 2] as the face world has it."""
    return Lids(lids[:, 0].T, lids[:, 1].T)


def slid(points: Tensor, landmarks: Tensor, *others: Tensor) -> list[Tensor]:
    """Points [B, 68, 2] with those of the jaw slid along it to where they are nearest to the landmarks.

    A photograph's jaw is marked along its outline, at no fixed places of the skin.  ``others`` [B, 68, C] go along.
    """
    place = torch.linspace(0, JAW - 1, _DENSE, device=points.device)
    low = place.long().clamp(max=JAW - 2)
    share = (place - low)[:, None]

    def curve(values: Tensor) -> Tensor:
        return torch.lerp(values[:, low], values[:, low + 1], share)

    with torch.no_grad():
        nearest = torch.cdist(landmarks[:, :JAW], curve(points)).argmin(-1)
    found = []
    for values in (points, *others):
        jaw = curve(values).gather(1, nearest[..., None].expand(-1, -1, values.shape[-1]))
        found.append(torch.cat([jaw, values[:, JAW:]], 1))
    return found
