"""What a driver of ``Inputs/`` does: one strong expression after the other, in a head that turns, blinks and looks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...world.curves import step
from ...world.draws import FACE_CENTRE
from ...world.parameters import ACTION_UNITS, Faces

# Each is the whole of what the face does for a while; a driver shows all of them, in an order of its own.
BEATS: tuple[dict[str, float], ...] = (
    {"AU6": 0.8, "AU12": 1.0, "AU25": 0.8, "AU26": 0.25},  # a laugh that shows teeth
    {"AU1": 0.5, "AU2": 0.6, "AU5": 0.5, "AU25": 0.8, "AU26": 1.0},  # a mouth as wide as it goes
    {"AU4": 1.0, "AU7": 0.5, "AU15": 0.7, "AU17": 0.5},  # a frown
    {"AU17": 0.4, "AU23": 1.0, "AU25": 0.25},  # lips drawn together: the world has no AU18
    {"AU1": 1.0, "AU2": 1.0, "AU5": 0.7},  # brows up
    {"AU6": 0.6, "AU12": 0.9},  # a smile with closed lips
    {"AU4": 0.3, "AU9": 0.7, "AU10": 0.8, "AU25": 0.5},  # disgust
)
_LEAD, _CHANGE = 0.3, 0.22  # seconds without expression, first and last; and from one to the next
_BLINK = 0.28  # seconds from open to open
_REACH = (17.0, 7.0, 7.0)  # degrees of yaw, pitch and roll, at most
_GAZE = (16.0, 6.0)  # degrees
_SCALE = 1.28  # the face fills half of the frame's height


def perform(identity: Tensor, scene: Tensor, seed: int, frames: int, fps: float) -> Faces:
    """``frames`` faces of one person ``identity [I]`` in one ``scene [S]``; the first and last are without expression.

    Between them all of :data:`BEATS` are shown, in an order that depends on the seed, as do the head's turns.
    """
    rng = np.random.default_rng([seed, 31])
    times, length = np.arange(frames) / fps, frames / fps
    order, phase = rng.permutation(len(BEATS)), rng.uniform(0, 2 * np.pi, 3)
    side, rates = rng.choice([-1.0, 1.0]), rng.uniform(0.8, 1.2, 3) * (0.42, 0.6, 0.35)
    starts = np.linspace(_LEAD, length - _LEAD - _CHANGE, len(BEATS) + 1)
    units = np.zeros((frames, len(ACTION_UNITS)))
    for start, beat in zip(starts, [*(BEATS[i] for i in order), {}], strict=True):
        shown = np.array([beat.get(name, 0.0) for name in ACTION_UNITS])
        units += (shown - units) * step(times, start, start + _CHANGE)[:, None]
    lids = ACTION_UNITS.index("AU43")
    for start in (0.35, length / 2 + rng.uniform(-0.3, 0.3)):
        units[:, lids] = np.maximum(units[:, lids], step(1.6 - abs((times - start) / _BLINK * 2 - 1) * 1.6, 0, 1))
    calm = step(times, 0, 0.6) * step(times, length, length - 0.4)  # straight ahead where there is no expression
    swing = np.sin(2 * np.pi * rates * times[:, None] + phase) - np.sin(phase) * (1 - times[:, None] / length)
    pose = np.zeros((frames, 6))
    pose[:, :3] = swing.clip(-1, 1) * _REACH * calm[:, None] * (side, 1, 1)
    pose[:, 4], pose[:, 5] = FACE_CENTRE * _SCALE, _SCALE
    gaze = np.zeros((frames, 2))
    for start, turn in ((0.75, side), (1.5, 0.0), (2.3, -side), (3.0, 0.0)):  # eyes rest, then leap
        gaze += (turn * np.array([1.0, rng.uniform(-1, 1)]) * _GAZE - gaze) * step(times, start, start + 0.1)[:, None]
    paths = (units, np.zeros_like(units), gaze, pose)
    tensors = (torch.from_numpy(path.astype(np.float32)) for path in paths)
    return Faces(identity.expand(frames, -1), *tensors, scene.expand(frames, -1))


def close_pose(pose: Tensor) -> Tensor:
    """Poses ``[N, 6]`` whose faces, turned as before, fill half of the frame's height and its middle."""
    close = pose.clone()
    close[:, 3:] = pose.new_tensor([0.0, FACE_CENTRE * _SCALE, _SCALE])
    return close
