"""A small data set of a moving face, made from scikit-image's astronaut: for smoke tests, not for results.

The photograph (of Eileen Collins, by NASA, in the public domain) is turned, moved, and warped about the mouth, eyes
and brows along smooth random paths.  People are told apart by proportions and tint.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.data import astronaut

from .. import media

# Places in the photograph, (x, y) in pixels from its top left corner.
HEAD, HEAD_RADIUS = (226, 105), 75
MOUTH, LEFT_EYE, RIGHT_EYE = (225, 146), (203, 101), (247, 102)
WINDOW = (116, 0, 220)  # left, top and side of the square that is shown


def write_clips(
    root: str | Path,
    clips: int = 8,
    frames: int = 50,
    size: int = 64,
    *,
    people: int = 4,
    test_people: int = 1,
    frame_rate: Fraction | int = 25,
    seed: int = 0,
) -> Path:
    """Write ``person<i>#<n>.mp4`` clips into ``root/train`` and ``root/test``, and return ``root``.

    ``clips`` is their number in all, shared out over ``people``; the last ``test_people`` of these are the test set.
    Frames are ``size`` x ``size`` pixels.  The same arguments give the same frames.
    """
    root = Path(root)
    for number in range(clips):
        person = number % people
        folder = root / ("test" if person >= people - test_people else "train")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"person{person + 1}#{number // people + 1:02d}.mp4"
        with media.VideoWriter(path, size, size, Fraction(frame_rate)) as writer:
            for i, image in enumerate(moving_face(person, frames, size, float(frame_rate), seed + 1000 * number)):
                writer.write(image, float(i / Fraction(frame_rate)))
    return root


def moving_face(person: int, frames: int, size: int, frame_rate: float = 25.0, seed: int = 0) -> list[np.ndarray]:
    """uint8 [size, size, 3] frames of one person; ``seed`` is of the movement."""
    look = np.random.default_rng(person)
    stretch = np.exp(look.uniform(-0.15, 0.15, 2)) if person else np.ones(2)
    tint = np.exp(look.uniform(-0.25, 0.25, 3)) if person else np.ones(3)
    photo = np.clip(astronaut() * tint, 0, 255)
    left, top, side = WINDOW
    # Twice as many samples as pixels each way, averaged below, so that the result is not jagged.
    steps = (np.arange(2 * size) + 0.5) * side / (2 * size)
    x, y = np.meshgrid(left + steps, top + steps)
    images = []
    for face in _paths(frames, frame_rate, np.random.default_rng(seed)):
        at_x, at_y = _place(x, y, face, stretch)
        sampled = [map_coordinates(photo[..., c], [at_y, at_x], order=1, mode="nearest") for c in range(3)]
        image = np.stack(sampled, -1).reshape(size, 2, size, 2, 3).mean((1, 3))
        images.append(np.rint(image).astype(np.uint8))
    return images


def _paths(frames: int, frame_rate: float, rng: np.random.Generator) -> list[dict[str, float]]:
    """Smooth random values in [-1, 1] per frame for each movement: three sines of 0.2 to 1 Hz each."""
    times = np.arange(frames) / frame_rate
    values = {}
    for name in ("x", "y", "turn", "zoom", "mouth", "smile", "eyes", "brows"):
        rates, phases = rng.uniform(0.2, 1.0, 3), rng.uniform(0, 2 * np.pi, 3)
        values[name] = np.sin(2 * np.pi * rates * times[:, None] + phases).mean(1) * 1.5
    return [{name: float(np.clip(path[i], -1, 1)) for name, path in values.items()} for i in range(frames)]


def _place(x: np.ndarray, y: np.ndarray, face: dict[str, float], stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in the photograph each output point comes from; away from the head, from its own place."""
    head = np.exp(-((np.hypot(x - HEAD[0], y - HEAD[1]) / (1.5 * HEAD_RADIUS)) ** 4))
    angle, zoom = 0.2 * face["turn"], np.exp(-0.1 * face["zoom"])
    dx, dy = x - HEAD[0] - 12 * face["x"], y - HEAD[1] - 8 * face["y"]
    moved_x = HEAD[0] + zoom * (np.cos(angle) * dx + np.sin(angle) * dy) * stretch[0]
    moved_y = HEAD[1] + zoom * (np.cos(angle) * dy - np.sin(angle) * dx) * stretch[1]
    x, y = x + head * (moved_x - x), y + head * (moved_y - y)
    return _express(x, y, face)


def _express(x: np.ndarray, y: np.ndarray, face: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Open and close mouth and eyes, widen the smile, raise the brows: stretch about a point, fading away from it."""
    from_mouth = x - MOUTH[0], y - MOUTH[1]
    near = np.exp(-((from_mouth[0] / 26) ** 2) - (from_mouth[1] / 18) ** 2)
    new_x = x - 0.25 * face["smile"] * near * from_mouth[0]
    new_y = y - 0.45 * face["mouth"] * near * from_mouth[1] + 4 * face["smile"] * near * (from_mouth[0] / 26) ** 2
    for eye in (LEFT_EYE, RIGHT_EYE):
        near = np.exp(-(((x - eye[0]) / 14) ** 2) - ((y - eye[1]) / 8) ** 2)
        new_y = new_y - 0.6 * min(0.3, face["eyes"]) * near * (y - eye[1])
        near = np.exp(-(((x - eye[0]) / 18) ** 2) - ((y - eye[1] + 16) / 9) ** 2)
        new_y = new_y + 4 * face["brows"] * near
    return new_x, new_y
