"""How identity parameters bend the mean head: a linear basis of displacements, in interocular distances."""

from __future__ import annotations

import numpy as np

from .curves import bump, step
from .head import EYE, MOUTH, HeadGrid, nose_height, outward
from .parameters import IDENTITY


def identity_basis(grid: HeadGrid) -> np.ndarray:
    """[I, R, C, 3] displacement of the head for each parameter at 1; zero for those of appearance."""
    fields = {name: np.zeros((*grid.shape, 3)) for name in IDENTITY}
    _skull(grid, fields)
    _jaw(grid, fields)
    _nose(grid, fields)
    _eyes(grid, fields)
    _mouth(grid, fields)
    for name in ("chin_length", "chin_depth", "head_length", "chin_width", "jaw_width"):
        fields[name] *= (1 - grid.under)[..., None]
    return np.stack([fields[name] for name in IDENTITY])


def _skull(grid: HeadGrid, fields: dict[str, np.ndarray]) -> None:
    point, x, y = grid.points, np.abs(grid.x), grid.y
    normal = outward(grid.columns)[None] * grid.front[..., None]
    fields["head_width"][..., 0] = 0.085 * point[..., 0]
    fields["head_length"][..., 1] = 0.065 * point[..., 1]
    fields["forehead"][..., 1] = 0.17 * step(y, 0.3, 1.5)
    fields["forehead"][..., 2] = 0.07 * bump(grid.x, y, (0, 0.85), (0.7, 0.35)) * grid.front
    fields["cheekbones"] = 0.1 * (bump(x, y, (0.76, -0.38), (0.26, 0.22)))[..., None] * normal
    fields["cheek_fullness"] = 0.14 * (bump(x, y, (0.72, -0.92), (0.26, 0.32)))[..., None] * normal
    fields["brow_ridge"] = 0.085 * (bump(x, y, (0.35, 0.24), (0.32, 0.09)))[..., None] * normal


def _jaw(grid: HeadGrid, fields: dict[str, np.ndarray]) -> None:
    x, y = grid.x, np.maximum(grid.y, -1.92)
    jaw = step(y, -0.45, -1.3)
    fields["jaw_width"][..., 0] = 0.13 * grid.points[..., 0] * jaw * step(np.abs(x), 0.1, 0.6)
    fields["chin_length"][..., 1] = -0.17 * step(y, -1.3, -1.75) * step(np.abs(x), 1.1, 0.3)
    fields["chin_width"][..., 0] = 0.11 * np.sin(np.pi * (x / 0.95).clip(-1, 1)) * step(y, -1.3, -1.7)
    fields["chin_depth"][..., 2] = 0.16 * bump(x, y, (0, -1.78), (0.42, 0.24))


def _nose(grid: HeadGrid, fields: dict[str, np.ndarray]) -> None:
    x, y = grid.x, grid.y
    around = np.exp(-((np.abs(x) / 0.36) ** 4))
    base = step(y, 0.05, -0.7) * step(y, -1.06, -0.88)
    fields["nose_length"][..., 1] = -0.11 * base * around
    fields["nose_width"][..., 0] = 0.42 * x * np.exp(-((np.abs(x) / 0.36) ** 4)) * bump(0, y, (0, -0.7), (1, 0.2))
    fields["nose_bridge"][..., 2] = 0.11 * bump(x, y, (0, -0.22), (0.12, 0.2))
    fields["nose_bridge"][..., 0] = 0.3 * x * bump(x, y, (0, -0.2), (0.17, 0.25))
    fields["nose_depth"][..., 2] = 0.28 * nose_height(y) * np.exp(-((np.abs(x) / 0.22) ** 2))
    tip = bump(x, y, (0, -0.72), (0.15, 0.12))
    fields["nose_tip"][..., 1] = 0.09 * tip
    fields["nose_tip"][..., 2] = 0.03 * tip
    fields["nose_tip"][..., 0] = 0.3 * x * bump(x, y, (0, -0.68), (0.12, 0.1))


def _eyes(grid: HeadGrid, fields: dict[str, np.ndarray]) -> None:
    x, y, sign = np.abs(grid.x), grid.y, np.sign(grid.x)
    around = bump(x, y, (EYE, 0.0), (0.3, 0.2)) * grid.front
    fields["eye_size"][..., 0] = 0.17 * (x - EYE) * sign * around
    fields["eye_size"][..., 1] = 0.3 * y * around
    apart = bump(x, y, (EYE, 0.1), (0.36, 0.34)) * grid.front * step(x, 0.04, 0.2)
    fields["eye_spacing"][..., 0] = 0.065 * sign * apart
    fields["eye_slant"][..., 1] = 0.24 * (x - EYE) * around
    fields["brow_height"][..., 1] = 0.11 * bump(x, y, (0.48, 0.36), (0.5, 0.13)) * grid.front


def _mouth(grid: HeadGrid, fields: dict[str, np.ndarray]) -> None:
    x, y = grid.x, grid.y
    around = np.exp(-((np.abs(x) / 0.62) ** 4))
    fields["mouth_width"][..., 0] = 0.2 * x * bump(0, y, (0, MOUTH), (1, 0.22)) * around
    fields["mouth_height"][..., 1] = 0.065 * bump(x, y, (0, MOUTH), (0.5, 0.2))
    upper = bump(x, y, (0, -1.06), (0.27, 0.055)) * (np.arange(grid.shape[0]) <= grid.slit)[:, None]
    lower = bump(x, y, (0, -1.31), (0.27, 0.06)) * (np.arange(grid.shape[0]) > grid.slit)[:, None]
    fields["upper_lip"][..., 1] = 0.055 * upper
    fields["upper_lip"][..., 2] = 0.045 * bump(x, y, (0, -1.11), (0.25, 0.05))
    fields["lower_lip"][..., 1] = -0.065 * lower
    fields["lower_lip"][..., 2] = 0.055 * bump(x, y, (0, -1.26), (0.25, 0.06))
