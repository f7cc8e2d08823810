"""Reading a driver: landmarks of frames -> action units, lids, gaze and pose, to be shown by a puppet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..curves import step
from ..parameters import ACTION_UNITS
from .fit import Fit, fit, interocular
from .looking import gaze_change
from .marks import open_lids
from .puppet import Puppets
from .warp import warped_heads

_CLOSING = (0.05, 0.2)  # of the way that lids have to go, between which it comes to count as closing
_AT_ONCE = 256  # frames that are fitted together


class Motion(NamedTuple):
    """What a driver does in N frames.

    Attributes:
        units: [N, 2, A] action units of the person's left and right side.
        pose: [N, 6] as of the face world, in the driver's frames.
        gaze: [N, 2] degrees that the eyes have turned in their head since the neutral frame.
    """

    units: Tensor
    pose: Tensor
    gaze: Tensor

    def row(self, index: int) -> Motion:
        """One frame's."""
        return Motion(*(values[index : index + 1] for values in self))


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


class Reader:
    """Reads a driver whose frame without expression is known: that gives the shape, and where the eyes rest.

    Args:
        neutral: [68, 2] landmarks of that frame in [-1, 1].
        closed: share of the way that lids go in these landmarks as the eye closes: 1 where they meet.
        look: where the irises are in that frame (:func:`.looking.iris_offset`).
    """

    def __init__(self, neutral: Tensor, closed: float = 1.0, look: float = 0.0):
        self.first, self._closed, self.look = fit(neutral[None]), closed, look
        self._head = warped_heads(self.first)

    def read(self, landmarks: Tensor, looks: list[float] | None = None, steps: int = 125) -> Motion:
        """Action units, sparse (an L1 term), and pose of frames ``[N, 68, 2]``; lids count by how far they close.

        Args:
            landmarks: in [-1, 1], of the same person, framed as the neutral frame was.
            looks: where the irises are; without it the eyes look ahead.
            steps: of the optimiser.
        """
        first, parts = self.first, []
        for start in range(0, len(landmarks), _AT_ONCE):
            frames = landmarks[start : start + _AT_ONCE]
            known = self._head.expand(len(frames), -1, -1, -1)
            parts.append(fit(frames, expressions=True, heads=known, steps=steps, start=first))
        found = Fit(*(torch.cat(values) for values in zip(*parts, strict=True)))
        units = _with_closure(found, first.lids, self._closed)
        return Motion(units, found.pose, _gaze(looks, self.look, found.pose[:, 0] - first.pose[:, 0]))


def read_driver(landmarks: Tensor) -> Motion:
    """Read all frames of a driver, ``[N, 68, 2]`` in [-1, 1], from the calmest on (:func:`neutral_frame`)."""
    return Reader(landmarks[neutral_frame(landmarks)]).read(landmarks)


def read_still(landmarks: Tensor, closed: float = 1.0, look: float = 0.0) -> Motion:
    """Read one picture, ``[68, 2]`` in [-1, 1], of somebody whose face without expression nobody has seen.

    The shape of the face is guessed with the expression.
    """
    found = fit(landmarks[None], expressions=True)
    units = _with_closure(found, open_lids(1, landmarks.device), closed)
    return Motion(units, found.pose, _gaze([look], 0.0, found.pose[:, 0]))


def _gaze(looks: list[float] | None, rest: float, turn: Tensor) -> Tensor:
    if looks is None:
        return turn.new_zeros(len(turn), 2)
    return gaze_change(torch.tensor(looks, device=turn.device), rest, turn)


def _with_closure(found: Fit, rest: Tensor, closed: float) -> Tensor:
    """Action units of fits, ``[N, 2, A]``, with lids that count by how far they close from ``rest [1, 2, 2]``."""
    units = found.units.clone()
    way = (rest[:, 0] - found.lids[:, 0]) / (rest[:, 0] + rest[:, 1]).clamp(min=0.05)
    closure = (way / closed).clamp(0, 1).flip(1)  # the eye at the left of the picture is the person's right one
    units[:, :, ACTION_UNITS.index("AU43")] = closure * step(closure, *_CLOSING)
    return units


def pose_shown(motion: Motion, first: Motion, puppets: Puppets, relative: bool = False) -> Tensor:
    """The poses ``[N, 6]`` of one puppet (or N of them) that show a driver's.

    Heads are turned as the driver's is, and are moved as far as that has moved since its ``first`` frame: where a face
    is in its frame is the frame's doing.  A ``relative`` turn counts from the first frame as well.
    """
    own = puppets.pose
    turn = motion.pose[:, :3] - (first.pose[:, :3] if relative else own[:, :3])
    scale = own[:, 5:] / first.pose[:, 5:]
    shift = (motion.pose[:, 3:5] - first.pose[:, 3:5]) * scale
    return torch.cat([own[:, :3] + turn, own[:, 3:5] + shift, motion.pose[:, 5:] * scale], dim=1)
