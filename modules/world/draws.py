"""Random people, expressions, poses and scenes.  Row i of a draw depends on the seed and i alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .parameters import ACTION_UNITS, CATEGORIES, IDENTITY, POSE, SCENE

# Action units of the basic expressions (Ekman and Friesen's prototypes), at full strength.
EXPRESSIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"AU6": 0.8, "AU12": 1.0, "AU25": 0.7},
    "sadness": {"AU1": 0.9, "AU4": 0.6, "AU15": 0.9, "AU17": 0.5},
    "surprise": {"AU1": 0.9, "AU2": 1.0, "AU5": 0.8, "AU25": 0.6, "AU26": 0.8},
    "fear": {"AU1": 0.9, "AU2": 0.5, "AU4": 0.6, "AU5": 0.9, "AU20": 0.8, "AU25": 0.7, "AU26": 0.2},
    "anger": {"AU4": 1.0, "AU5": 0.4, "AU7": 0.8, "AU17": 0.3, "AU23": 0.9},
    "disgust": {"AU4": 0.4, "AU7": 0.4, "AU9": 1.0, "AU10": 0.7, "AU17": 0.4},
    "contempt": {"AU12": 0.4, "AU14": 0.9},
}

# Probabilities of scene categories that are not all alike.
_CHANCES = {
    "hair_style": (0.05, 0.09, 0.13, 0.12, 0.1, 0.1, 0.1, 0.09, 0.06, 0.06, 0.05, 0.05),
    "hair_color": (0.26, 0.22, 0.21, 0.11, 0.09, 0.07, 0.04),
    "beard": (0.62, 0.1, 0.06, 0.06, 0.09, 0.07),
    "makeup": (0.74, 0.08, 0.06, 0.06, 0.06),
    "glasses": (0.76, 0.09, 0.1, 0.05),
    "hat": (0.85, 0.06, 0.05, 0.04),
    "light_color": (0.4, 0.2, 0.16, 0.14, 0.1),
}
_RANGES = (40.0, 22.0, 22.0, 0.12, 0.1)  # of the pose, at extent 1; two standard deviations of a random face

# Faces seen closely, in ranges that photographs stand: degrees of yaw, pitch and roll, and shifts.
CLOSE_ANGLES = (20.0, 12.0, 20.0)
CLOSE_SHIFTS = (0.08, 0.06)
FRONTAL_PITCH = 3.0  # degrees that photographs taken from straight ahead are fitted with, in the mean
FACE_CENTRE = -0.12  # y of the pose that has a face of mean shape in the middle of the frame, at scale 1
PORTRAIT_SCALES = (1.0, 1.2)  # at which a face of mean shape fills 41 to 49 % of the frame's height


def expression(name: str, strength: float = 1.0) -> Tensor:
    """[A] action units of one of :data:`EXPRESSIONS`, scaled by ``strength`` in [0, 1]."""
    units = EXPRESSIONS[name]
    return torch.tensor([strength * units.get(unit, 0.0) for unit in ACTION_UNITS])


def draw_identities(n: int, seed: int) -> Tensor:
    """[n, I] people, uniform in [-1, 1] in every parameter."""
    return _tensor(_uniform(n, len(IDENTITY), seed, 1) * 2 - 1)


def draw_expressions(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Action units [n, A], asymmetry [n, A] and gaze [n, 2]: neutral, a basic one, or a mixture of a few units."""
    units = len(ACTION_UNITS)
    numbers = _uniform(n, 4 * units + 8, seed, 2)
    kind, which, strength = numbers[:, :3].T
    basic = np.stack([expression(name).numpy() for name in EXPRESSIONS])
    recipe = basic[(which * len(basic)).astype(int)] * (0.4 + 0.6 * strength[:, None])
    present, amount, extra, share = np.split(numbers[:, 8:], 4, axis=1)
    mixture = (present < 0.22) * (0.25 + 0.75 * amount)
    action_units = np.where((kind < 0.45)[:, None], recipe + (present < 0.06) * 0.6 * amount, mixture)
    action_units[kind > 0.92] = 0
    lids = ACTION_UNITS.index("AU43")
    action_units[:, lids] = np.where(present[:, lids] < 0.1, 0.5 + 0.5 * amount[:, lids], 0)
    asymmetry = (extra < 0.15) * (2 * share - 1)
    gaze = (numbers[:, 3:5] + numbers[:, 5:7] - 1) * (22, 14) * (numbers[:, 7:8] < 0.7)
    return _tensor(action_units.clip(0, 1)), _tensor(asymmetry), _tensor(gaze)


def draw_poses(n: int, seed: int, extent: float = 1.0) -> Tensor:
    """[n, 6] poses, mostly near the middle; ``extent`` scales the ranges (1: yaw up to 45 degrees)."""
    numbers = _uniform(n, 3 * len(POSE), seed, 3).reshape(n, 3, len(POSE))
    bell = numbers.mean(1) * 2 - 1  # of three uniforms: bounded, standard deviation a third
    pose = bell * extent * np.array([*(1.6 * value for value in _RANGES), 0.14])
    limit = np.array([45, 30, 30, 0.25, 0.2, 0.2])
    pose = pose.clip(-limit, limit)
    pose[:, -1] = np.exp(pose[:, -1])
    return _tensor(pose)


def draw_close_poses(n: int, seed: int, extent: float = 1.0, scales: tuple[float, float] = PORTRAIT_SCALES) -> Tensor:
    """[n, 6] poses of faces in the middle of the frame, within :data:`CLOSE_ANGLES` times ``extent``, mostly less."""
    number = torch.from_numpy(np.random.default_rng([seed, 11]).random((n, 9)).astype(np.float32))
    bell = number[:, :3] + number[:, 3:6] - 1  # of two uniforms, in [-1, 1]
    angles = extent * bell * torch.tensor(CLOSE_ANGLES)
    angles[:, 1] += FRONTAL_PITCH
    scale = scales[0] + (scales[1] - scales[0]) * number[:, 6]
    shift = (2 * number[:, 7:9] - 1) * torch.tensor(CLOSE_SHIFTS)
    shift[:, 1] += FACE_CENTRE * scale
    return torch.cat([angles, shift, scale[:, None]], 1)


def draw_scenes(n: int, seed: int) -> Tensor:
    """[n, S] scenes.  A beard and make-up do not meet, nor a hat and hair that stands above it."""
    numbers = _uniform(n, len(SCENE), seed, 4)
    scene = numbers * 2 - 1
    for column, (name, values) in enumerate(CATEGORIES.items()):
        chances = np.array(_CHANCES.get(name, np.full(len(values), 1 / len(values))))
        scene[:, column] = np.searchsorted(np.cumsum(chances / chances.sum())[:-1], numbers[:, column], side="right")
    columns = {name: scene[:, i] for i, name in enumerate(SCENE)}
    columns["makeup"][columns["beard"] > 0] = 0
    high = np.isin(columns["hair_style"], [CATEGORIES["hair_style"].index(name) for name in ("afro", "bun")])
    columns["hat"][high] = 0
    return _tensor(scene)


def _uniform(n: int, columns: int, seed: int, factor: int) -> np.ndarray:
    """float64 [n, columns] in [0, 1); numpy fills it row by row, so the first rows do not depend on ``n``."""
    return np.random.default_rng([seed, factor]).random((n, columns))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
