"""The mean head: a grid of columns around the head and rows from crown to jaw.

Lengths are in interocular distances (of the pupils, 63 mm): x to the right of the image, y up, z towards the camera;
the pupils are at y = 0.  Every vertex also has face coordinates (X, Y) that do not move with person or expression:
X = 1.15 sin(azimuth), about x on the front, and Y about y.  Features are placed, moved and painted in these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .curves import bump, spline, step

RADIUS = 1.15  # of the cylinder that face coordinates are wrapped on
MOUTH = -1.18  # height of the line between the lips
MOUTH_HALF = 0.41  # half the width of the slit
EYE = 0.5  # |X| of the pupils
MOUTH_RISE = 0.1  # y of the mouth and chin over their face coordinate Y: noses are shorter than Y has room for
JAWLINE = -1.92  # face coordinate of the row along the edge of the jaw
UNDER_ROWS = 5  # beneath it, to the throat

_HALF_WIDTH = {
    1.86: 0.0,
    1.82: 0.27,
    1.75: 0.45,
    1.6: 0.7,
    1.4: 0.9,
    1.1: 1.07,
    0.8: 1.16,
    0.5: 1.19,
    0.2: 1.17,
    -0.1: 1.12,
    -0.4: 1.09,
    -0.7: 1.06,
    -1.0: 1.03,
    -1.3: 1.0,
    -1.6: 0.96,
    -1.92: 0.9,
}
_FRONT = {
    1.86: -0.15,
    1.82: 0.28,
    1.75: 0.5,
    1.6: 0.8,
    1.4: 1.05,
    1.15: 1.25,
    0.8: 1.42,
    0.5: 1.48,
    0.3: 1.47,
    0.0: 1.42,
    -0.3: 1.42,
    -0.6: 1.44,
    -0.85: 1.48,
    -1.18: 1.48,
    -1.47: 1.39,
    -1.7: 1.4,
    -1.82: 1.36,
    -1.92: 1.24,
}
_BACK = {
    1.86: -0.15,
    1.82: -0.5,
    1.75: -0.72,
    1.6: -1.0,
    1.4: -1.25,
    1.0: -1.5,
    0.5: -1.62,
    0.0: -1.55,
    -0.5: -1.35,
    -1.0: -1.15,
    -1.92: -0.9,
}
_CENTRE = {1.86: -0.15, 0.5: -0.15, -0.5: -0.1, -1.2: 0.0, -1.92: 0.05}  # z of the widest place


@dataclass(frozen=True)
class HeadGrid:
    """Rows and columns of the head, and the mean head on them; arrays [R, C] or [R, C, 3]."""

    rows: np.ndarray  # [R] face coordinate Y
    columns: np.ndarray  # [C] azimuth in radians from the front, increasing to the right of the image
    x: np.ndarray  # face coordinate X
    y: np.ndarray  # face coordinate Y
    front: np.ndarray  # 1 on the face, 0 behind the ears
    under: np.ndarray  # 0 on the face, to 1 at the throat
    slit: int  # row of the upper lip's edge; the next row, at the same place, is the lower lip's
    points: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.x.shape


def _rows() -> tuple[np.ndarray, int]:
    upper = np.concatenate(
        [
            [1.855, 1.83, 1.77, 1.68, 1.56, 1.42, 1.27, 1.12, 0.98, 0.85, 0.74, 0.65, 0.57],
            np.arange(0.51, -0.21, -0.04),
            np.arange(-0.24, -0.6, -0.05),
            np.arange(-0.6, -1.1, -0.03),
            [-1.1, -1.125, -1.145, -1.165, MOUTH],
        ]
    )
    lower = np.concatenate(
        [
            [MOUTH, -1.195, -1.215, -1.24, -1.265],
            np.arange(-1.295, -1.6, -0.035),
            np.arange(-1.63, -1.9, -0.05),
            [JAWLINE],
            JAWLINE - np.linspace(0, 0.5, UNDER_ROWS + 1)[1:],
        ]
    )
    return np.concatenate([upper, lower]), len(upper) - 1


def _columns() -> np.ndarray:
    front = np.arcsin(np.clip(np.arange(0, 0.8, 0.036) / RADIUS, 0, 1))
    side = np.linspace(front[-1], np.pi / 2, 11)[1:]
    back = np.linspace(np.pi / 2, np.pi, 9)[1:]
    half = np.concatenate([front, side, back])
    return np.concatenate([-half[:0:-1], half[:-1]])


@lru_cache(maxsize=1)
def head_grid() -> HeadGrid:
    """The mean head."""
    rows, slit = _rows()
    columns = _columns()
    y, azimuth = np.meshgrid(rows, columns, indexing="ij")
    x = RADIUS * np.sin(azimuth)
    x = np.where(np.cos(azimuth) > 0, x, np.sign(azimuth) * (2 * RADIUS - np.abs(x)))  # goes on growing behind
    front = step(np.cos(azimuth), -0.05, 0.35)
    under = ((JAWLINE - y) / 0.5).clip(0, 1)
    return HeadGrid(rows, columns, x, y, front, under, slit, _mean_points(x, y, azimuth, front, under))


def _mean_points(x, y, azimuth, front, under) -> np.ndarray:
    row = np.maximum(y, JAWLINE)
    sin, cos = np.sin(azimuth), np.cos(azimuth)
    centre = spline(row, _CENTRE)
    reach = np.where(cos > 0, spline(row, _FRONT) - centre, centre - spline(row, _BACK))
    points = np.stack([1.07 * spline(row, _HALF_WIDTH) * sin, row + _lift(row, cos), centre + reach * cos], -1)
    points += _sculpture(x, row, azimuth) * front[..., None]
    points[..., 1] += spline(row, {0.1: 0.0, -0.85: MOUTH_RISE, -1.2: MOUTH_RISE})
    throat = np.array([0.0, -1.5, 0.0])
    sag = -0.1 * np.sin(np.pi * under)[..., None] * np.array([0.0, 1.0, 0.0])
    return points + (throat - points) * under[..., None] + sag


def _lift(row: np.ndarray, cos: np.ndarray) -> np.ndarray:
    """How far rows near the jaw climb towards the ears and the nape: their edge is the jaw line."""
    amount = spline(row, {JAWLINE: 0.92, -1.6: 0.68, -1.3: 0.42, -1.0: 0.22, -0.6: 0.06, 0.0: 0.0})
    return amount * (1 - cos).clip(0, 1) ** 0.85


def outward(azimuth: np.ndarray) -> np.ndarray:
    """[..., 3] horizontal direction away from the axis of the head."""
    return np.stack([np.sin(azimuth), np.zeros_like(azimuth), np.cos(azimuth)], -1)


def _sculpture(x: np.ndarray, y: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """[..., 3] what makes a face of an egg: sockets, brows, cheekbones, nose, lips, chin."""
    side = np.abs(x)
    relief = (
        0.07 * bump(side, y, (0.38, 0.26), (0.26, 0.1))  # brow ridge
        + 0.03 * bump(x, y, (0, 0.28), (0.16, 0.12))  # glabella
        - 0.2 * bump(side, y, (0.42, -0.03), (0.19, 0.17))  # eye socket
        + 0.11 * bump(side, y, (0.5, -0.01), (0.16, 0.11))  # eyeball behind the lids
        + 0.08 * bump(side, y, (0.68, -0.42), (0.24, 0.17))  # cheekbone
        + 0.05 * bump(side, y, (0.36, -0.66), (0.15, 0.2))  # cheek beside the nose
        - 0.06 * bump(side, y, (0.82, -0.95), (0.22, 0.25))  # hollow of the cheek
        - 0.05 * bump(side, y, (1.05, 0.4), (0.16, 0.3))  # temple
        + 0.05 * bump(x, y, (0, 0.85), (0.6, 0.3))  # forehead
    )
    forward = _nose(x, y) + _mouth(x, y) + 0.09 * bump(x, y, (0, -1.69), (0.24, 0.13))
    forward -= 0.05 * bump(x, y, (0, -1.46), (0.25, 0.07))  # furrow above the chin
    points = relief[..., None] * outward(azimuth)
    points[..., 2] += forward
    points[..., 1] -= 0.035 * bump(x, y, (0, -0.72), (0.14, 0.08))  # the tip hangs over the base
    return points


def nose_height(y: np.ndarray) -> np.ndarray:
    """How far the ridge stands out at heights ``y``."""
    return spline(
        y,
        {
            0.28: 0.0,
            0.12: 0.05,
            -0.1: 0.15,
            -0.4: 0.28,
            -0.56: 0.345,
            -0.66: 0.37,
            -0.74: 0.345,
            -0.81: 0.23,
            -0.88: 0.06,
            -0.94: 0.0,
        },
    )


def _nose(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    width = spline(y, {0.2: 0.11, -0.1: 0.1, -0.4: 0.13, -0.66: 0.195, -0.85: 0.19})
    ridge = nose_height(y) * np.exp(-(np.abs(x / width / 1.25) ** 2.4))
    wings = 0.19 * bump(np.abs(x), y, (0.2, -0.735), (0.075, 0.085)) * step(y, -0.9, -0.78)
    return ridge + wings


def _mouth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    narrow = np.exp(-((np.abs(x) / 0.4) ** 2.5))
    rows = bump(0, y, (0, -1.115), (1, 0.055)) * 0.085 + bump(0, y, (0, -1.26), (1, 0.065)) * 0.115
    groove = -0.075 * bump(0, y, (0, MOUTH), (1, 0.022)) * np.exp(-((np.abs(x) / 0.44) ** 4))
    arch = 0.07 * bump(x, y, (0, -1.15), (0.42, 0.26))
    philtrum = -0.022 * bump(x, y, (0, -0.99), (0.045, 0.09)) + 0.012 * bump(np.abs(x), y, (0.09, -1.0), (0.035, 0.09))
    corners = -0.05 * bump(np.abs(x), y, (MOUTH_HALF + 0.02, MOUTH), (0.06, 0.06))
    return rows * narrow + groove + arch + philtrum + corners
