"""Reading a driver: landmarks of frames -> action units, lids, gaze and pose, to be shown by a puppet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..parameters import ACTION_UNITS
from .fit import Fit, fit, interocular
from .puppet import Puppets
from .states import States
from .warp import warped_heads

_CLOSED = 0.35  # of the way that lids have to go, from which on it counts as closing
_AT_ONCE = 256  # frames that are fitted together


class Motion(NamedTuple):
    """What a driver does in N frames.

    Attributes:
        units: [N, 2, A] action units of the person's left and right side.
        gaze: [N, 2] in degrees; 0 where it was not given.
        pose: [N, 6] change from the neutral frame: degrees, shifts in units of the neutral frame's scale, and the
            ratio of the scales.
        error: [N] how far the landmarks within the face are off, in interocular distances.
        neutral: number of the frame that was taken as neutral.
    """

    units: Tensor
    gaze: Tensor
    pose: Tensor
    error: Tensor
    neutral: int


def neutral_frame(landmarks: Tensor) -> int:
    """The frame, of [N, 68, 2], with the mouth most closed, the eyes open and the head straight."""
    distance = interocular(landmarks)
    gap = (landmarks[:, 66, 1] - landmarks[:, 62, 1]) / distance
    lids = landmarks[:, [41, 40, 47, 46], 1] - landmarks[:, [37, 38, 43, 44], 1]
    openness = lids.mean(1) / distance
    corners = (landmarks[:, 36] + landmarks[:, 45]) / 2
    turned = (landmarks[:, 30, 0] - corners[:, 0]).abs() / distance
    wide = (landmarks[:, 54, 0] - landmarks[:, 48, 0]).abs() / distance
    return int((gap.abs() + turned + (openness - openness.median()).abs() + (wide - wide.median()).abs()).argmin())


def read_driver(landmarks: Tensor, neutral: int | None = None, gaze: Tensor | None = None, steps: int = 250) -> Motion:
    """Read a driver.

    The neutral frame gives the shape; with it known, the action units of each frame are fitted, sparse (an L1 term),
    and its pose.  Lids count by how far they close.

    Args:
        landmarks: [N, 68, 2] in [-1, 1], of one person.
        neutral: number of a frame without expression; without it :func:`neutral_frame` chooses one.
        gaze: [N, 2] yaw and pitch of the eyes in degrees, if something measured it.
        steps: of the optimiser.
    """
    number = neutral_frame(landmarks) if neutral is None else neutral
    first = fit(landmarks[number : number + 1])
    head = warped_heads(first)
    parts = []
    for start in range(0, len(landmarks), _AT_ONCE):
        frames = landmarks[start : start + _AT_ONCE]
        known = head.expand(len(frames), -1, -1, -1)
        parts.append(fit(frames, expressions=True, heads=known, steps=steps, start=first))
    found = Fit(*(torch.cat(values) for values in zip(*parts, strict=True)))

    units = found.units.clone()
    open_ = (first.lids[:, 0] - found.lids[:, 0]) / (first.lids[:, 0] + first.lids[:, 1]).clamp(min=0.05)
    closure = open_.clamp(0, 1).flip(1)  # the eye at the left of the picture is the person's right one
    units[:, :, ACTION_UNITS.index("AU43")] = torch.where(closure > _CLOSED, closure, 0.0)
    change = found.pose - first.pose
    change[:, 3:5] /= first.pose[:, 5:]
    change[:, 5] = found.pose[:, 5] / first.pose[:, 5]
    looks = torch.zeros_like(found.pose[:, :2]) if gaze is None else gaze - gaze[number]
    return Motion(units, looks, change, found.error, number)


def shown_by(motion: Motion, puppets: Puppets) -> States:
    """The states of one puppet (or N of them) that show a driver's motion, counted from the photograph's pose."""
    own = puppets.pose.expand(len(motion.units), -1)
    pose = own + motion.pose
    pose[:, 3:5] = own[:, 3:5] + motion.pose[:, 3:5] * own[:, 5:]
    pose[:, 5] = own[:, 5] * motion.pose[:, 5]
    return States(motion.units, motion.gaze + puppets.gaze, pose)
