"""Ears, neck and shoulders."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .curves import bump, spline

EAR_SHAPE = (7, 22)  # rings from the middle outwards, and points around
BODY_SHAPE = (22, 44)  # rows from the throat to below the frame, and points around
BODY_TOP, HEAD_FOLLOWS, BODY_FOLLOWS = -0.95, -1.6, -2.5  # heights: the neck between the last two bends


@lru_cache(maxsize=1)
def ear_points() -> np.ndarray:
    """[2, 7, 22, 3] the ears on the left and right of the image."""
    ring = np.array([0.0, 0.25, 0.5, 0.7, 0.84, 0.95, 1.0])[:, None]
    angle = np.linspace(0, 2 * np.pi, EAR_SHAPE[1], endpoint=False)[None]
    # Height over the ear's own plane: a hollow, the inner fold, and the rim, which curls back to the head.
    relief = spline(ring, {0: -0.06, 0.25: -0.05, 0.5: 0.03, 0.7: 0.015, 0.84: 0.06, 0.95: 0.03, 1: -0.12})
    across = ring * np.cos(angle) * (0.235 + 0.07 * np.sin(angle))
    up = ring * np.sin(angle) * 0.42
    relief = relief - 0.05 * bump(across, up, (-0.2, 0.02), (0.1, 0.2))
    back, out, upward = np.array([0.5, 0.0, -0.86]), np.array([0.86, 0.06, 0.5]), np.array([0.05, 0.97, -0.16])
    middle = np.array([1.17, -0.3, -0.2])
    right = middle + across[..., None] * back + up[..., None] * upward + relief[..., None] * out
    left = right[:, ::-1] * np.array([-1.0, 1.0, 1.0])  # the order around is turned, so that it faces outwards too
    return np.stack([left, right])


@lru_cache(maxsize=1)
def body_points() -> np.ndarray:
    """[22, 44, 3] neck and shoulders of the mean person, a tube open at both ends."""
    rows = np.concatenate([np.linspace(BODY_TOP, -2.1, 8), np.linspace(-2.2, -3.1, 10), [-3.3, -3.7, -4.3, -5.2]])
    angle = np.linspace(-np.pi, np.pi, BODY_SHAPE[1], endpoint=False)
    y, angle = np.meshgrid(rows, angle, indexing="ij")
    width = spline(
        y,
        {
            -5.2: 3.2,
            -4.3: 3.3,
            -3.7: 3.25,
            -3.3: 3.0,
            -3.0: 2.55,
            -2.75: 1.85,
            -2.55: 1.3,
            -2.4: 0.93,
            -2.2: 0.77,
            -1.9: 0.71,
            BODY_TOP: 0.72,
        },
    )
    front = spline(y, {-5.2: 1.5, -3.7: 1.15, -3.0: 0.8, -2.6: 0.56, -2.3: 0.42, -1.9: 0.42, BODY_TOP: 0.4})
    back = spline(y, {-5.2: -1.6, -3.7: -1.6, -3.0: -1.5, -2.5: -1.25, -2.2: -1.05, -1.9: -0.95, BODY_TOP: -0.9})
    centre = (front + back) / 2
    x, z = width * np.sin(angle), centre + (front - back) / 2 * np.cos(angle)
    z = z + 0.06 * bump(np.abs(x), y, (0.24, -2.0), (0.12, 0.4)) * (np.cos(angle) > 0)  # cords of the neck
    z = z - 0.1 * bump(x, y, (0, -2.45), (0.16, 0.1)) * (np.cos(angle) > 0)  # pit above the breastbone
    return np.stack([x, y, z], -1)
