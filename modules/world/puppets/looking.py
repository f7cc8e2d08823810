"""Where a driver looks: how far its irises are from the middle of its eyes, in the pixels of its frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..eyes import HALF
from .eyes import BALL_RADIUS

_EYES = (((36, 39), (37, 38), (41, 40)), ((42, 45), (43, 44), (47, 46)))  # corners, upper and lower lids' landmarks
_COLUMNS, _ROWS = 48, 9  # samples of an eye
_INSET = 0.08  # of the width, beside the corners; and of the height, beneath the lids: what is darkest there are lashes
_LEAST = 0.12  # height of an opening, of its width, below which an iris is not told from lashes
# Degrees of gaze that the centre of the darkness shows, of those it would if it were the pupil; by the bundled drivers.
_GAIN = 0.6
_TURN = 0.25  # of a turn of the head, what irises seem to move by: they lie before the line of the corners
_FURTHEST = 25.0  # degrees


def iris_offset(frame: Tensor, landmarks: Tensor) -> float:
    """How far irises are from the middle of their eyes, in widths of an eye, to the right of the picture.

    The mean of both eyes; NaN where they are too narrow.  The iris is where columns of an eye are darkest.

    Args:
        frame: [3, H, W] in [0, 1].
        landmarks: [68, 2] in [-1, 1].
    """
    offsets = [_offset(frame.mean(0, keepdim=True)[None], landmarks, *eye) for eye in _EYES]
    return sum(offsets) / len(offsets)


def _offset(grey: Tensor, landmarks: Tensor, corners, upper, lower) -> float:
    left, right = landmarks[list(corners)]
    high, low = landmarks[list(upper)], landmarks[list(lower)]
    opening = float((high.mean(0) - low.mean(0)).norm() / (right - left).norm())
    if not opening >= _LEAST:
        return float("nan")
    at = torch.linspace(_INSET, 1 - _INSET, _COLUMNS, device=grey.device)
    edges = [_along(torch.stack([left, *middle, right]), at) for middle in (high, low)]
    down = torch.linspace(2 * _INSET, 1 - _INSET, _ROWS, device=grey.device)[:, None, None]
    places = torch.lerp(edges[0][None], edges[1][None], down)
    columns = F.grid_sample(grey, places[None], align_corners=True)[0, 0].mean(0)
    # the darker half counts: white of the eye and skin do not
    dark = (columns.median() - columns).clamp(min=0).square()
    return float((dark * (at - 0.5)).sum() / dark.sum().clamp(min=1e-8))


def _along(line: Tensor, at: Tensor) -> Tensor:
    """[N, 2] places on a line of four points [4, 2], at shares of the way between its ends."""
    x = (at * 3).clamp(max=2.999)
    start = x.long()
    return torch.lerp(line[start], line[start + 1], (x - start)[:, None])


def gaze_change(offsets: Tensor, rest: float, yaw: Tensor) -> Tensor:
    """[N, 2] degrees that eyes have turned, in their head, since they rested; only sideways.

    Up and down is not read: lids that follow the eyes hide it.

    Args:
        offsets: [N] of :func:`iris_offset`, known.
        rest: that of the frame they are changes from.
        yaw: [N] degrees that the head has turned since.
    """
    moved = (offsets - rest) * 2 * HALF / BALL_RADIUS
    degrees = _GAIN * torch.rad2deg(moved.clamp(-1, 1).asin()) - _TURN * yaw
    sideways = degrees.clamp(-_FURTHEST, _FURTHEST)
    return torch.stack([sideways, torch.zeros_like(sideways)], 1)
