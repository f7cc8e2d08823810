"""Smooth noise that is the same everywhere: a fixed table of random numbers, read bicubically-smoothed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_SIDE = 256


@lru_cache(maxsize=4)
def _table(device: torch.device) -> Tensor:
    """[65536, 4]: each number with its neighbours to the right, below, and below on the right."""
    values = np.random.default_rng(20).random((_SIDE, _SIDE)).astype(np.float32)
    corners = [np.roll(values, (-down, -right), (0, 1)).ravel() for down in (0, 1) for right in (0, 1)]
    return torch.from_numpy(np.stack(corners, 1)).to(device)


def _index(column: Tensor, row: Tensor) -> Tensor:
    return ((row.int() & (_SIDE - 1)) * _SIDE + (column.int() & (_SIDE - 1))).flatten()


def noise(x: Tensor, y: Tensor) -> Tensor:
    """Value noise in [0, 1] with features of size 1, at coordinates that are broadcast against each other."""
    x, y = torch.broadcast_tensors(x, y)
    column, row = x.floor(), y.floor()
    u, v = x - column, y - row
    u, v = (u * u).mul_(u.mul_(-2).add_(3)), (v * v).mul_(v.mul_(-2).add_(3))
    corners = _table(x.device).index_select(0, _index(column, row)).view(*x.shape, 4)
    left, right = torch.lerp(corners[..., :2], corners[..., 2:], v[..., None]).unbind(-1)
    return torch.lerp(left, right, u)


def jitter(x: Tensor, y: Tensor) -> Tensor:
    """A random number in [0, 1] per unit square: the same all over it."""
    x, y = torch.broadcast_tensors(x, y)
    return _table(x.device)[:, 0].index_select(0, _index(x.floor(), y.floor())).view(x.shape)
