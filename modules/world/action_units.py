"""How action units move the skin: a linear basis of displacements, in interocular distances.

Only the lids and what is painted (wrinkles, dimples) are elsewhere, in :mod:`features`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .curves import bump, step
from .head import MOUTH, MOUTH_HALF, HeadGrid
from .parameters import ACTION_UNITS

HINGE = (-0.35, 0.0)  # (y, z) of the joint of the jaw
JAW_ANGLE = 0.2  # radians the jaw turns with AU26 at 1

# What each action unit gives the gap between the lips, at its middle: (upper lip up, lower lip down).
LIP_PART = {"AU10": (0.085, 0.0), "AU12": (0.02, 0.0), "AU9": (0.03, 0.0), "AU20": (0.01, 0.02), "AU25": (0.05, 0.09)}


def unit_basis(grid: HeadGrid) -> np.ndarray:
    """[2, A, R, C, 3] displacement of the head for each action unit at 1: the left side's share, then the right's.

    Left and right are the person's; the left one is on the right of the image.
    """
    face = _Face(grid)
    fields = np.stack([_FIELDS[name](face) if name in _FIELDS else np.zeros((*grid.shape, 3)) for name in ACTION_UNITS])
    fields *= ((1 - grid.under) * step(np.abs(grid.columns), 2.6, 1.3))[..., None]
    left = step(grid.x, -0.14, 0.14)[..., None]
    return np.stack([fields * left, fields * (1 - left)])


class _Face:
    """Face coordinates, with x counted from the middle: the fields are symmetric."""

    def __init__(self, grid: HeadGrid):
        self.x, self.y, self.sign, self.points = np.abs(grid.x), grid.y, np.sign(grid.x), grid.points
        rows = np.arange(grid.shape[0])[:, None]
        self.upper = (rows <= grid.slit) & np.ones(grid.shape, bool)
        # Height of the opening along the slit for one unit of it in the middle; zero from the corners outwards.
        self.opening = (1 - (self.x / MOUTH_HALF) ** 2).clip(0, 1) ** 0.75

    def field(self, x=0.0, y=0.0, z=0.0) -> np.ndarray:
        """[R, C, 3]; ``x`` is away from the middle."""
        parts = np.broadcast_arrays(self.sign * x, y, z, np.zeros_like(self.x))[:3]
        return np.stack(parts, -1).astype(float)

    def at(self, x: float, y: float, width: float, height: float) -> np.ndarray:
        return bump(self.x, self.y, (x, y), (width, height))

    def lips(self, up: float, down: float) -> np.ndarray:
        """The lips part by ``up`` and ``down``; what is above and below follows, less with the distance."""
        above = up * self.opening * step(self.y, -0.84, -1.06) * self.upper
        below = -down * self.opening * step(self.y, -1.75, -1.3) * ~self.upper
        return self.field(y=above + below)

    def corners(self, x: float, y: float, z: float = 0.0) -> np.ndarray:
        """The corners of the mouth are pulled; the lips between them follow as a string would."""
        near = np.exp(-(((self.y - MOUTH) / 0.24) ** 2)) * np.exp(-(((self.x - MOUTH_HALF) / 0.3).clip(0, None) ** 2))
        pull = (self.x / MOUTH_HALF).clip(0, 1)
        return self.field(x * near * pull, y * near * pull**2.2, z * near * pull)


def _brow(centre: float, width: float) -> Callable[[_Face], np.ndarray]:
    def field(face: _Face) -> np.ndarray:
        shape = face.at(centre, 0.42, width, 0.24) * step(face.y, 0.1, 0.28)
        return face.field(y=0.15 * shape)

    return field


def _brow_lowerer(face: _Face) -> np.ndarray:
    shape = face.at(0.22, 0.36, 0.28, 0.16) * step(face.y, 0.04, 0.24)
    bulge = 0.03 * face.at(0.12, 0.28, 0.12, 0.1)
    return face.field(x=-0.055 * shape * step(face.x, 0.0, 0.15), y=-0.11 * shape, z=bulge)


def _cheek_raiser(face: _Face) -> np.ndarray:
    shape = face.at(0.6, -0.42, 0.26, 0.17)
    return face.field(y=0.1 * shape, z=0.07 * shape) + face.field(y=-0.03 * face.at(0.85, 0.32, 0.15, 0.12))


def _nose_wrinkler(face: _Face) -> np.ndarray:
    wings = face.at(0.2, -0.7, 0.14, 0.17)
    sides = face.at(0.22, -0.4, 0.16, 0.2)
    field = face.field(x=0.02 * wings, y=0.085 * wings + 0.05 * sides, z=0.03 * sides)
    field += face.field(y=-0.06 * face.at(0.15, 0.3, 0.2, 0.12))
    return field + face.lips(*LIP_PART["AU9"]) + face.field(y=0.03 * face.at(0.25, -1.02, 0.2, 0.1) * face.upper)


def _upper_lip_raiser(face: _Face) -> np.ndarray:
    fold = face.at(0.34, -0.85, 0.17, 0.17)
    return face.lips(*LIP_PART["AU10"]) + face.field(y=0.07 * fold, z=0.035 * fold)


def _smile(face: _Face) -> np.ndarray:
    cheek = face.at(0.58, -0.62, 0.22, 0.2)
    thin = -0.02 * face.at(0.0, -1.27, 0.3, 0.08)
    field = face.corners(0.135, 0.17, -0.07) + face.field(x=0.02 * cheek, y=0.07 * cheek, z=0.075 * cheek)
    return field + face.field(y=0.012 * face.at(0, -1.05, 0.25, 0.1), z=thin) + face.lips(*LIP_PART["AU12"])


def _dimpler(face: _Face) -> np.ndarray:
    corner = face.at(0.5, MOUTH, 0.11, 0.13)
    return face.corners(0.075, 0.025, -0.05) + face.field(z=-0.05 * corner)


def _chin_raiser(face: _Face) -> np.ndarray:
    boss = face.at(0.0, -1.62, 0.28, 0.16)
    lips = 0.06 * np.exp(-((face.x / 0.36) ** 4)) * step(face.y, -1.62, -1.3) * step(face.y, -0.9, -1.1)
    pout = 0.05 * face.at(0.0, -1.28, 0.25, 0.09)
    return face.field(y=0.07 * boss + lips, z=0.03 * boss + pout)


def _lip_tightener(face: _Face) -> np.ndarray:
    middle = np.exp(-((face.x / 0.42) ** 4))
    upper = -0.05 * bump(0, face.y, (0, -1.055), (1, 0.04)) * face.upper
    lower = 0.065 * bump(0, face.y, (0, -1.33), (1, 0.06)) * ~face.upper
    thin = -0.05 * bump(0, face.y, (0, MOUTH), (1, 0.1))
    return face.corners(-0.07, 0.0) + face.field(y=(upper + lower) * middle, z=thin * middle)


def _jaw_drop(face: _Face) -> np.ndarray:
    """Rotation about the hinge, to first order; the cheeks stretch, the upper lip stays."""
    below = step(face.y, -0.75, -1.5)
    corner = step(0.0 * face.y + MOUTH, -0.75, -1.5)
    slit = face.opening * (0.93 - corner)
    weight = np.where(face.upper, below * (1 - face.opening) * 1.0, below + slit * step(face.y, -1.75, -1.25))
    weight = np.where(face.upper, np.minimum(weight, corner), weight).clip(0, 1) * step(face.x, 1.5, 0.9)
    y, z = face.points[..., 1] - HINGE[0], face.points[..., 2] - HINGE[1]
    drop = face.field(y=-JAW_ANGLE * 1.25 * z * weight, z=JAW_ANGLE * y * weight)
    return drop + face.corners(-0.035, 0.0)


_FIELDS: dict[str, Callable[[_Face], np.ndarray]] = {
    "AU1": _brow(0.2, 0.17),
    "AU2": _brow(0.7, 0.2),
    "AU4": _brow_lowerer,
    "AU6": _cheek_raiser,
    "AU9": _nose_wrinkler,
    "AU10": _upper_lip_raiser,
    "AU12": _smile,
    "AU14": _dimpler,
    "AU15": lambda face: face.corners(0.01, -0.14) + face.field(y=-0.03 * face.at(0.45, -1.4, 0.14, 0.14)),
    "AU17": _chin_raiser,
    "AU20": lambda face: face.corners(0.14, -0.035, -0.05) + face.lips(*LIP_PART["AU20"]),
    "AU23": _lip_tightener,
    "AU25": lambda face: face.lips(*LIP_PART["AU25"]),
    "AU26": _jaw_drop,
}


def jaw_drop(units: np.ndarray):
    """How far the lower teeth go down: [..., A] action units to [...]."""
    return units[..., ACTION_UNITS.index("AU26")] * JAW_ANGLE * 1.25 * 1.4
