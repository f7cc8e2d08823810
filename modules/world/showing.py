"""What words for expressions look like: the mean of a mixture, and faces drawn from a word's distribution."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .emotions import UNEVEN, Emotion, Mixture
from .parameters import ACTION_UNITS, neutral
from .puppets.states import States

UNEVEN_SPREAD = 0.1  # of asymmetry: no face is quite even
GAZE_SPREAD = 2.0  # degrees


def state_of(mixture: Mixture) -> States:
    """The state ``[1]`` of a face straight ahead that shows the mean of a mixture.

    Action units of its parts are added, each times its weight, and end at 1; gaze likewise, relative to the head.
    """
    units, down = torch.zeros(1, 2, len(ACTION_UNITS)), 0.0
    for emotion, weight in mixture:
        units[0] += weight * torch.tensor([[side.get(name, 0.0) for name in ACTION_UNITS] for side in emotion.sides()])
        down += weight * emotion.down
    return States(units.clamp(max=1), torch.tensor([[0.0, -down]]), neutral(1).pose)


def draw_shown(emotion: Emotion, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Action units [n, A], asymmetry [n, A] and gaze [n, 2] of faces that show an emotion, each in its own way.

    Strength varies by :attr:`.Emotion.spread` and each unit by half of that again.  Row i depends on the emotion, the
    seed and i alone.
    """
    count = len(ACTION_UNITS)
    name = int.from_bytes(emotion.name.encode(), "big")
    normal = np.random.default_rng([seed, 21, name]).standard_normal((n, 2 * count + 3)).clip(-2, 2)
    strength, gaze, each, uneven = np.split(normal, [1, 3, 3 + count], axis=1)
    mean = np.array([emotion.units.get(unit, 0.0) for unit in ACTION_UNITS])
    units = mean * (1 + emotion.spread * strength) * (1 + emotion.spread / 2 * each)
    asymmetry = UNEVEN_SPREAD * uneven + emotion.uneven * np.isin(ACTION_UNITS, UNEVEN)
    looking = GAZE_SPREAD * gaze - np.array([0.0, emotion.down])
    values = units.clip(0, 1), asymmetry.clip(-1, 1), looking
    return tuple(torch.from_numpy(value.astype(np.float32)) for value in values)  # type: ignore[return-value]
