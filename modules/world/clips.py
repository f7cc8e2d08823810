"""Clips: a person in a scene who looks about, talks, blinks, and whose expressions come and go."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from .curves import step
from .draws import EXPRESSIONS, expression
from .parameters import ACTION_UNITS, POSE, Faces

CALM_SHARE = 0.5  # of clips, if nothing else is said
_BLINK = 0.3  # seconds from open to open
_SPEECH = ("AU25", "AU26", "AU20", "AU23", "AU17", "AU10")


def clip(
    identity: Tensor, scene: Tensor, seed: int, frames: int, fps: float = 25.0, calm_share: float = CALM_SHARE
) -> Faces:
    """``frames`` faces of one person ``identity [I]`` in one ``scene [S]``, as smooth paths of everything that moves.

    ``calm_share`` is how likely the head is to keep almost still.

    The movement depends on ``seed`` and on time alone: at twice the rate, every second frame is the same, and a longer
    clip begins as a shorter one.  Hence every path, and every event of a path, draws from a generator of its own: how
    many events fit the length decides nothing else.
    """
    of_pose, of_units, of_rest, of_speech, of_blinks, of_gaze, of_calm = np.random.SeedSequence([seed, 5]).spawn(7)
    times = np.arange(frames) / fps
    units, asymmetry = _expressions(times, of_units)
    units = (units + _restless(times, np.random.default_rng(of_rest))).clip(0, 1)
    units = np.maximum(units, _speech(times, np.random.default_rng(of_speech)))
    lids = ACTION_UNITS.index("AU43")
    units[:, lids] = np.maximum(units[:, lids], _blinks(times, of_blinks))
    poses = _poses(times, np.random.default_rng(of_pose), _calm(np.random.default_rng(of_calm), calm_share))
    paths = (units.clip(0, 1), asymmetry, _gaze(times, of_gaze), poses)
    tensors = (torch.from_numpy(path.astype(np.float32)).to(identity.device) for path in paths)
    return Faces(identity.float().expand(frames, -1), *tensors, scene.float().expand(frames, -1))


def _events(seed: np.random.SeedSequence) -> Iterator[np.random.Generator]:
    """Generators without end, one for each event."""
    while True:
        yield np.random.default_rng(seed.spawn(1)[0])


def _drift(times: np.ndarray, rng: np.random.Generator, slowest: float, fastest: float) -> np.ndarray:
    """[T] a smooth path about 0, within [-1, 1]: three sines with rates in hertz, the faster the smaller."""
    rates = rng.uniform(slowest, fastest, 3)
    weights = 1 / rates
    phases = rng.uniform(0, 2 * np.pi, 3)
    return (np.sin(2 * np.pi * rates * times[:, None] + phases) * weights).sum(1) / weights.sum()


def _calm(rng: np.random.Generator, share: float) -> float:
    """How much of its movement the head of a clip keeps: in a ``share`` of them almost none, in the others all.

    As in interviews and in portraits: there what changes from frame to frame is what the face does.
    """
    return 1.0 if rng.random() < 1 - share else rng.uniform(0.02, 0.15)


def _poses(times: np.ndarray, rng: np.random.Generator, calm: float) -> np.ndarray:
    """[T, 6]: each clip has its own middle and its own liveliness; some nod or shake their heads for a while."""
    reach = np.array([30, 15, 13, 0.09, 0.07, 0.07]) * rng.uniform(0.25, 1.0, 6)
    middle = rng.uniform(-1, 1, 6) * np.array([14, 7, 6, 0.05, 0.04, 0.06])
    paths = np.stack([_drift(times, rng, 0.06, 0.4) for _ in POSE], 1)
    pose = middle + calm * reach * paths
    for axis, size in ((1, 6.0), (0, 9.0)):  # nods, then shakes
        start, rate, happens = rng.uniform(0, 8), rng.uniform(0.9, 1.5), rng.random() < 0.5
        beat = np.sin(2 * np.pi * rate * (times - start))
        pose[:, axis] += calm * happens * size * _window(times, start, 2.2, 0.5) * beat
    pose[:, :3] = pose[:, :3].clip([-45, -30, -30], [45, 30, 30])
    pose[:, 5] = np.exp(pose[:, 5])
    return pose


def _window(times: np.ndarray, start: float, length: float, soft: float) -> np.ndarray:
    """1 from start to start + length, rising and falling smoothly over ``soft`` seconds."""
    rise = ((times - start) / soft).clip(0, 1)
    fall = ((start + length - times) / soft).clip(0, 1)
    return step(np.minimum(rise, fall), 0, 1)


def _expressions(times: np.ndarray, seed: np.random.SeedSequence) -> tuple[np.ndarray, np.ndarray]:
    """Action units and asymmetry [T, A]: one expression after the other, with rests."""
    count = len(ACTION_UNITS)
    units, asymmetry = np.zeros((len(times), count)), np.zeros((len(times), count))
    names = [name for name in EXPRESSIONS if name != "neutral"]
    events = _events(seed)
    start = next(events).uniform(-1.0, 0.6)
    while len(times) and start < times[-1]:
        rng = next(events)
        strength, length, soft = rng.uniform(0.4, 1.0), rng.uniform(1.2, 3.0), rng.uniform(0.3, 0.7)
        recipe = expression(names[rng.integers(len(names))], strength).numpy()
        extra = (rng.random(count) < 0.08) * rng.uniform(0.2, 0.7, count)
        window = _window(times, start, length, soft)[:, None]
        units = np.maximum(units, np.maximum(recipe, extra) * window)
        asymmetry += window * ((rng.random(count) < 0.12) * rng.uniform(-0.8, 0.8, count))
        start += length + rng.uniform(-0.3, 0.9)
    return units, asymmetry.clip(-1, 1)


def _restless(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[T, A]: a face is never quite still, but for its lids and its jaw."""
    count = len(ACTION_UNITS)
    units = np.stack([_drift(times, rng, 0.2, 0.8) for _ in range(count)], 1) * rng.uniform(0, 0.22, count)
    units[:, [ACTION_UNITS.index("AU43"), ACTION_UNITS.index("AU26")]] = 0
    return units.clip(0, None)


def _speech(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[T, A] movements of the mouth, at about four syllables a second, in phrases; in some clips none."""
    units = np.zeros((len(times), len(ACTION_UNITS)))
    talks = rng.random() < 0.65
    pause, rate = rng.uniform(0, 2 * np.pi), rng.uniform(2.4, 3.6)
    phrase = 1 / (1 + np.exp(-6 * (np.sin(2 * np.pi * 0.22 * times + pause) + 0.35)))
    phases = rng.uniform(0, 2 * np.pi, (len(_SPEECH), 2))
    sizes = np.array([0.75, 0.5, 0.3, 0.45, 0.25, 0.2]) * rng.uniform(0.6, 1.1, len(_SPEECH))
    for name, (first, second), size in zip(_SPEECH, phases, sizes, strict=True):
        beat = np.sin(2 * np.pi * rate * times + first) + 0.6 * np.sin(2 * np.pi * rate * 0.61 * times + second)
        units[:, ACTION_UNITS.index(name)] = talks * phrase * size * (0.5 + beat / 3.2).clip(0, 1)
    return units


def _blinks(times: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
    """[T] of AU43: every few seconds, the lids close faster than they open."""
    events = _events(seed)
    lids, start = np.zeros(len(times)), next(events).uniform(0, 2.5)
    while len(times) and start < times[-1]:
        phase = ((times - start) / _BLINK).clip(0, 1)
        closing, opening = (phase / 0.4).clip(0, 1), ((1 - phase) / 0.6).clip(0, 1)
        lids = np.maximum(lids, step(np.minimum(closing, opening), 0, 1))
        start += next(events).uniform(1.4, 4.5)
    return lids


def _gaze(times: np.ndarray, seed: np.random.SeedSequence) -> np.ndarray:
    """[T, 2] degrees: rests on one thing, then leaps to the next within a tenth of a second."""
    events = _events(seed)
    gaze, place, start = np.zeros((len(times), 2)), np.zeros(2), 0.0
    while len(times) and start <= times[-1]:
        rng = next(events)
        target = rng.uniform(-1, 1, 2) * (18, 9) * (rng.random() < 0.75)
        ramp = step((times - start) / 0.12, 0, 1)[:, None]
        gaze = np.where(times[:, None] >= start, place + (target - place) * ramp, gaze)
        place, start = target, start + rng.uniform(0.5, 2.4)
    return gaze
