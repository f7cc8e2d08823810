"""What z_exp and z_pose say: action units of each side of the face, gaze, and the pose of the head.

They are the numbers of the worlds that pictures are made of (:mod:`.world.puppets.states`), in units in which all vary
by about as much.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...world.parameters import ACTION_UNITS
from ..encoders import Semantics

UNITS = 2 * len(ACTION_UNITS)  # of the person's left side, then of the right
GAZE = 20.0  # degrees to one unit of z_exp
ANGLE = 20.0  # degrees to one unit of z_pose
EXPRESSION, POSE = UNITS + 2, 6  # numbers in z_exp; in z_pose: yaw, pitch, roll, x, y, logarithm of the scale


def semantics_of(codes: Tensor) -> Semantics:
    """z_exp and z_pose that say what ``codes [..., K]`` say (:data:`.world.puppets.states.CODES`)."""
    units, gaze, angles, place, scale = codes.split([UNITS, 2, 3, 2, 1], dim=-1)
    expression = torch.cat([units, gaze / GAZE], dim=-1)
    return Semantics(expression, torch.cat([angles / ANGLE, place, scale.log()], dim=-1))


def without_rest(said: Semantics) -> Semantics:
    """A driver's motion ``[T, ...]`` less what tells most of whose it is: how a face and a head are when they rest.

    Gaze, angles, place and scale count from their medians over time; action units do from the calmest frame already.
    What moves, and what is relative to a frame, stays as it is.
    """
    units, gaze = said.expression.split([UNITS, EXPRESSION - UNITS], dim=1)
    gaze, pose = (z - z.median(dim=0).values for z in (gaze, said.pose))
    return Semantics(torch.cat([units, gaze], dim=1), pose)
