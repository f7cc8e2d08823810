"""Faces of the synthetic world to measure on: people never seen in training, with their truth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..data.sampling import worker_options
from ..errors import UserError
from ..world import (
    Faces,
    Render,
    clip,
    draw_expressions,
    draw_identities,
    draw_poses,
    draw_scenes,
    project_landmarks,
    render,
)

# people of one seed are never those of another; data.synthetic.inputs has one more
TRAINING_SEED, MEASURING_SEED, PROBE_SEED = 0, 1_000_003, 3_000_017
CHUNK = 32 * 128**2  # pixels rendered at once


def portraits(people: int, frames: int, seed: int, same_face: int | None = None) -> Faces:
    """``frames`` pictures each of ``people`` people, ``[people * frames]`` faces, a person's in a row.

    Every picture has its own scene, expression and pose.  With ``same_face`` all pictures of everybody share the
    expression and pose of that number, so that nothing but the person and the scene, drawn anew, tells them apart.
    """
    count = people * frames
    identity = draw_identities(people, seed).repeat_interleave(frames, dim=0)
    if same_face is None:
        return Faces(identity, *draw_expressions(count, seed), draw_poses(count, seed), draw_scenes(count, seed))
    drawn = *draw_expressions(same_face + 1, seed), draw_poses(same_face + 1, seed)
    scenes = draw_scenes((same_face + 1) * count, seed)[-count:]
    return Faces(identity, *(values[-1:].expand(count, -1) for values in drawn), scenes)


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
    for rows in tqdm(_rows(faces, size), desc=what, unit="batch", leave=False):
        yield render(faces.take(rows), size)


def _rows(faces: Faces, size: int) -> list[slice]:
    count = max(1, CHUNK // size**2)
    return [slice(start, start + count) for start in range(0, faces.size, count)]


class _Chunks(Dataset):
    """Renders of some faces at a time, as bytes and landmarks."""

    def __init__(self, faces: Faces, size: int):
        self.faces, self.size, self.rows = faces, size, _rows(faces, size)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        drawn = render(self.faces.take(self.rows[number]), self.size)
        return (drawn.image * 255).round().to(torch.uint8), drawn.landmarks


def render_all(faces: Faces, size: int, what: str, workers: int = 0) -> tuple[Tensor, Tensor]:
    """Pictures ``[N, 3, size, size]`` as bytes, so that many thousand fit in memory, and landmarks ``[N, 68, 2]``.

    ``workers`` processes of one thread each share the work, which is faster than as many threads; a GPU needs none.
    As for any processes that Python starts, the script's own work must then be under ``if __name__ == "__main__"``.
    """
    try:
        images = torch.empty(faces.size, 3, size, size, dtype=torch.uint8, device=faces.identity.device)
    except RuntimeError as error:
        needed = faces.size * 3 * size**2 / 2**30
        raise UserError(
            f"{faces.size} pictures take {needed:.0f} GiB, more memory than there is; ask for fewer"
        ) from error
    landmarks = torch.empty(faces.size, 68, 2, device=faces.identity.device)
    chunks = _Chunks(faces, size)
    processes = {} if images.is_cuda else worker_options(chunks, workers)
    own = torch.Generator()  # else a loader draws from everybody's
    loader = DataLoader(chunks, batch_size=None, generator=own, **processes)
    for rows, drawn in zip(chunks.rows, tqdm(loader, desc=what, unit="batch", leave=False), strict=True):
        images[rows], landmarks[rows] = drawn
    return images, landmarks


def pupil_distance(faces: Faces) -> Tensor:
    """Distance between the eyes' middles in the picture, as ``[B]``, were each face at rest and looking straight ahead.

    Landmark errors are told in it: what is seen of the distance shrinks as the head turns, and would punish turning.
    """
    pose = torch.zeros_like(faces.pose)
    pose[:, 5] = faces.pose[:, 5]
    still = {name: torch.zeros_like(getattr(faces, name)) for name in ("action_units", "asymmetry", "gaze")}
    points = project_landmarks(faces._replace(pose=pose, **still))
    return (points[:, 36:42].mean(dim=1) - points[:, 42:48].mean(dim=1)).norm(dim=-1)
