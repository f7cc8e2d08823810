"""What a puppet does: expression, gaze and pose, as absolute numbers that mean the same on every puppet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..draws import draw_close_poses, draw_expressions
from ..parameters import ACTION_UNITS, POSE, Faces, neutral, sided

SCALES = (1.1, 1.45)  # at which a face of mean shape fills 45 to 60 % of the frame's height
IN_MIRROR = (-1, 1, -1, -1, 1, 1)  # what a mirror makes of a pose; of a gaze, what it makes of yaw and pitch
CODES = (
    *(f"{name}_{side}" for side in ("left", "right") for name in ACTION_UNITS),
    "gaze_yaw",
    "gaze_pitch",
    *POSE,
)


class States(NamedTuple):
    """B states.

    Attributes:
        units: [B, 2, A] action units of the person's left and right side, in [0, 1].
        gaze: [B, 2] yaw and pitch of the eyes relative to the head, in degrees.
        pose: [B, 6], as of the face world.
    """

    units: Tensor
    gaze: Tensor
    pose: Tensor

    @property
    def size(self) -> int:
        """Number of states."""
        return len(self.pose)

    @property
    def codes(self) -> Tensor:
        """[B, K] all numbers, columns as in :data:`CODES`."""
        return torch.cat([self.units.flatten(1), self.gaze, self.pose], 1)

    def take(self, index: Tensor | list[int] | slice) -> States:
        """The states at ``index``."""
        return States(*(value[index] for value in self))

    def to(self, device: torch.device | str) -> States:
        """The same states on another device."""
        return States(*(value.to(device) for value in self))

    @staticmethod
    def of_codes(codes: Tensor) -> States:
        """The states whose :attr:`codes` are ``[B, K]``."""
        units, gaze, pose = codes.split([codes.shape[1] - 8, 2, 6], 1)
        return States(units.unflatten(1, (2, -1)), gaze, pose)

    @staticmethod
    def cat(parts: list[States]) -> States:
        """One batch out of several."""
        return States(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def mirrored(self) -> States:
        """What the states are in a mirror."""
        sign = self.pose.new_tensor(IN_MIRROR)
        return States(self.units.flip(1), self.gaze * sign[:2], self.pose * sign)

    def faces(self) -> Faces:
        """Mean people in these states: what the face world's wrinkles, lids and mouth go by."""
        strongest = self.units.amax(1)
        uneven = (self.units[:, 0] - self.units[:, 1]) / strongest.clamp(min=1e-6)
        people = neutral(self.size).to(self.pose.device)
        return people._replace(action_units=strongest, asymmetry=uneven, gaze=self.gaze, pose=self.pose)


def states_of(faces: Faces) -> States:
    """The states of people of the face world."""
    return States(torch.stack(sided(faces), 1), faces.gaze, faces.pose)


def draw_states(n: int, seed: int, extent: float = 1.0) -> States:
    """``n`` random states; row i depends on the seed and i alone.

    Expressions are the face world's (basic ones, mixtures, neutral ones; one in seven units is uneven).  Poses lie
    within :data:`CLOSE_ANGLES` times ``extent``, mostly near the middle, and faces within the frame.
    """
    units, asymmetry, gaze = draw_expressions(n, seed)
    pose = draw_close_poses(n, seed, extent, SCALES)
    people = neutral(n)._replace(action_units=units, asymmetry=asymmetry, gaze=gaze, pose=pose)
    return states_of(people)
