"""Smooth noise that is the same everywhere: a fixed table of random numbers, read bicubically-smoothed."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_SIDE = 256


@lru_cache(maxsize=4)
def _table(device: torch.device) -> Tensor:
    values = np.random.default_rng(20).random(_SIDE * _SIDE).astype(np.float32)
    return torch.from_numpy(values).to(device)


def _read(index: Tensor) -> Tensor:
    return _table(index.device).index_select(0, index.flatten()).view(index.shape)


def noise(x: Tensor, y: Tensor) -> Tensor:
    """Value noise in [0, 1] with features of size 1, at coordinates that are broadcast against each other."""
    x, y = torch.broadcast_tensors(x, y)
    column, row = x.floor(), y.floor()
    u, v = x - column, y - row
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    column, row = column.int() & (_SIDE - 1), row.int() & (_SIDE - 1)
    right, below = (column + 1) & (_SIDE - 1), ((row + 1) & (_SIDE - 1)) * _SIDE
    row = row * _SIDE
    top = torch.lerp(_read(row + column), _read(row + right), u)
    return torch.lerp(top, torch.lerp(_read(below + column), _read(below + right), u), v)


def jitter(x: Tensor, y: Tensor) -> Tensor:
    """A random number in [0, 1] per unit square: the same all over it."""
    column, row = x.floor().int() & (_SIDE - 1), y.floor().int() & (_SIDE - 1)
    return _read(row * _SIDE + column)
