"""Faces of the synthetic world to measure on: people never seen in training, with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from modules.data.synthetic import (
    Faces,
    Render,
    clip,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    render,
)

TRAINING_SEED, MEASURING_SEED = 0, 1_000_003  # people of one seed are never those of the other
CHUNK = 32  # faces rendered at once


def portraits(people: int, frames: int, seed: int, same_face: bool = False) -> Faces:
    """``frames`` pictures each of ``people`` people, ``[people * frames]`` faces, a person's in a row.

    Every picture has its own scene, expression and pose; with ``same_face`` all pictures of everybody share one
    expression and pose, so that nothing but the person and the scene tells them apart.
    """
    count = people * frames
    identity = draw_identities(people, seed).repeat_interleave(frames, dim=0)
    expressions, poses = draw_expressions(count, seed), draw_poses(count, seed)
    if same_face:
        expressions = tuple(t[:1].expand(count, -1) for t in expressions)
        poses = poses[:1].expand(count, -1)
    return Faces(identity, *expressions, poses, draw_scenes(count, seed))


class CrossPair(NamedTuple):
    """Source, driving clip and rendered truth of one cross-reenactment, all of the same world.

    Attributes:
        source: one face: person A in scene A.
        driving: T faces: person B in scene B.
        truth: T faces: person A in scene A with B's expression, gaze and pose.
    """

    source: Faces
    driving: Faces
    truth: Faces


def cross_pair(number: int, frames: int, seed: int) -> CrossPair:
    """The ``number``-th pair of a seed: two people, a clip of ``frames`` frames at 5 frames a second."""
    people, scenes = draw_identities(2 * number + 2, seed)[-2:], draw_scenes(2 * number + 2, seed)[-2:]
    clip_seed = seed + 7 * number
    driving = clip(people[1], scenes[1], clip_seed, frames, fps=5)
    own = clip(people[0], scenes[0], clip_seed + 1, 1)
    truth = driving._replace(identity=people[:1].expand(frames, -1), scene=scenes[:1].expand(frames, -1))
    return CrossPair(own, driving, truth)


def renders(faces: Faces, size: int, what: str) -> Iterator[Render]:
    """:func:`render` for any number of faces, a few at a time, with a progress bar called ``what``."""
    for start in tqdm(range(0, faces.size, CHUNK), desc=what, unit="batch", leave=False):
        yield render(faces.take(slice(start, start + CHUNK)), size)


def render_all(faces: Faces, size: int, what: str) -> tuple[Tensor, Tensor]:
    """Pictures ``[N, 3, size, size]`` as bytes, so that many thousand fit in memory, and landmarks ``[N, 68, 2]``."""
    images = torch.empty(faces.size, 3, size, size, dtype=torch.uint8, device=faces.identity.device)
    landmarks = torch.empty(faces.size, 68, 2, device=faces.identity.device)
    for number, rendered in enumerate(renders(faces, size, what)):
        rows = slice(number * CHUNK, number * CHUNK + len(rendered.image))
        images[rows], landmarks[rows] = (rendered.image * 255).round().to(torch.uint8), rendered.landmarks
    return images, landmarks


def interocular(landmarks: Tensor) -> Tensor:
    """Distance between the outer eye corners (iBUG points 37 and 46) of ``[B, 68, 2]``, as ``[B]``."""
    return (landmarks[:, 36] - landmarks[:, 45]).norm(dim=-1)
