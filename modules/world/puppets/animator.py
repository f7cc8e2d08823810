"""Animating a photograph by way of the fitted head: no network has to be trained for it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...devices import best_device
from ...errors import UserError
from ...faces.analysis import load_analyser
from ...faces.detail import Detail, unchanged
from ...faces.matte import PersonMatte
from ...geometry import coordinate_grid
from ...media.tensors import to_images, to_tensor
from ..parameters import ACTION_UNITS
from .driver import Motion, Reader, neutral_frame, read_still, shown_by
from .eyes import photograph_state
from .fit import faults, fit_photographs
from .puppet import make_puppets
from .render import Rendering, render
from .states import States

LARGEST = 384  # pixels of a side at which puppets are drawn; results are larger by way of the photograph's detail
BATCH = 16  # driving frames read together
SMOOTHED = 2  # frames before and after that a frame is averaged with; lids are not, or blinks would vanish
CLOSED = 0.5  # of the way that lids go in the mesh's landmarks as eyes close (benchmarks/faces.py, part lids)
LIDS = ACTION_UNITS.index("AU43")


class PuppetAnimator:
    """A photograph, fitted once, driven by any number of frames.

    It is driven as a :class:`.sid.driving.ModelAnimator` is.  A driver's expression counts from its own face without
    one, so :meth:`prepare` is shown some of its frames first.

    Args:
        photo: a close crop, uint8 ``[P, P, 3]``; results have its size.
        drive: what is taken from a driver.
        strength: 0 leaves the photograph as it is, 1 shows the driver's, more exaggerates.
        relative: show what changes since the driver's first frame, not its expression as it is.
        cpu: leave a GPU alone.
        rests: results are to be pasted into a picture (:class:`.faces.detail.Detail`).

    Raises:
        UserError: no face is found, or the head cannot be fitted to it; the line says why.
    """

    def __init__(
        self,
        photo: np.ndarray,
        drive: Literal["both", "expression", "pose"] = "both",
        strength: float = 1.0,
        relative: bool = False,
        cpu: bool = False,
        rests: bool = False,
    ):
        self.drive, self.strength, self.relative = drive, strength, relative
        self.device = best_device(cpu)
        self._analyser = load_analyser(self.device)
        whole = to_tensor([photo], self.device)
        landmarks = self._landmarks([photo])[0]
        if landmarks is None:
            raise UserError("no face found in the source picture: choose one with a clear face")
        side = min(LARGEST, len(photo))
        small = F.interpolate(whole, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        # -1 and 1 are the centres of the outermost pixels, which lie further in where there are fewer
        landmarks = landmarks * (1 - 1 / len(photo)) / (1 - 1 / side)
        found = fit_photographs(landmarks[None])
        if fault := faults(found)[0]:
            raise UserError(f"--motion mesh cannot use the source picture: {fault}; choose another")
        with torch.no_grad():
            matte = PersonMatte().to(self.device)(small)
        self.puppet = make_puppets(small, matte, found)
        self.own = photograph_state(self.puppet)
        self._unmoved = self._draw(self.own).image
        self._detail = Detail(whole, self._unmoved, rests)
        self._best: Motion | None = None
        self._readers: dict[bool, Reader] = {}  # of the driving video (False), and of one for the pose (True)

    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Look at some of a driver's frames for the one that is most without expression.  Raises UserError."""
        seen = [marks for frame in frames if (marks := self._landmarks([frame])[0]) is not None]
        if not seen:
            raise UserError("no face found in the driver: choose one with a clear face")
        landmarks = torch.stack(seen)
        self._readers[for_pose] = Reader(landmarks[neutral_frame(landmarks)], CLOSED)

    def start_from_best(self, frames: Iterable[np.ndarray]) -> int:
        """Find the driving frame most like the photograph, since which the next :meth:`animate` shows what changes.

        Return its index.
        """
        reader, best, index = self._readers[False], float("inf"), 0
        start = reader.first.landmarks[0]
        for number, marks in enumerate(self._landmarks(frames)):
            if marks is None:
                continue
            pose = reader.read(marks[None], steps=60)
            states = shown_by(pose, self.puppet)
            distance = float((states.units - self.own.units).abs().sum() + (pose.pose[:, :3] / 20).abs().sum())
            if distance < best:
                best, index, start = distance, number, marks
        self._readers[False] = Reader(start, CLOSED)
        self._best = self._readers[False].read(start[None])
        return index

    def animate(
        self,
        frames: Iterable[np.ndarray],
        pose_frames: Iterable[np.ndarray] | None = None,
        pose_moves: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yield one result, uint8 ``[P, P, 3]``, per driving frame.

        ``pose_frames``, as many as ``frames``, give the head pose in place of the driver's.
        """
        motions = self._smoothed(self._read(frames, for_pose=False))
        poses = None if pose_frames is None else self._smoothed(self._read(pose_frames, for_pose=True))
        first, self._best = self._best, None
        relative = self.relative or first is not None
        for motion in motions:
            first = first or motion
            pose = motion.pose if poses is None else next(poses).pose
            origin = first if relative else None
            yield from to_images(self._detailed(self._draw(self._state(motion, origin, pose, poses is not None))))

    def _state(self, motion: Motion, first: Motion | None, pose: Tensor, other_pose: bool) -> States:
        """What the photograph is to show, ``[1]``; with ``first`` what has changed since then."""
        own = self.own
        wanted = shown_by(motion._replace(pose=pose), self.puppet)
        if first is not None:
            units = (own.units + motion.units - first.units).clamp(0, 1)
            wanted = wanted._replace(units=units)
        if self.drive == "expression" and not other_pose:
            wanted = wanted._replace(pose=own.pose)
        if self.drive == "pose":
            wanted = wanted._replace(units=own.units)
        mixed = States(*(mine + self.strength * (theirs - mine) for mine, theirs in zip(own, wanted, strict=True)))
        return mixed._replace(units=mixed.units.clamp(0, 1))

    def _draw(self, state: States) -> Rendering:
        return render(self.puppet, state, self.puppet.photo.shape[-1])

    def _detailed(self, drawn: Rendering) -> Tensor:
        """A drawing with the photograph's detail: moved where the flow is true, else where nothing has changed."""
        same = unchanged(drawn.image, self._unmoved)
        still = coordinate_grid(*drawn.image.shape[2:], drawn.flow)
        true = drawn.valid.permute(0, 2, 3, 1)
        flow = still + true * (drawn.flow - still)
        return self._detail.add(drawn.image, flow, drawn.valid + (1 - drawn.valid) * same)

    def _read(self, frames: Iterable[np.ndarray], for_pose: bool) -> Iterator[Motion]:
        """What a driver does, frame by frame; where its face is not seen, what it did before."""
        if for_pose not in self._readers:
            yield from self._read_stills(frames)
            return
        reader = self._readers[for_pose]
        known: Tensor = reader.first.landmarks[0]
        frames = iter(frames)
        while batch := list(itertools.islice(frames, BATCH)):
            rows = []
            for marks in self._landmarks(batch):
                known = known if marks is None else marks
                rows.append(known)
            motion = reader.read(torch.stack(rows))
            yield from (Motion(*(values[i : i + 1] for values in motion)) for i in range(len(rows)))

    def _read_stills(self, frames: Iterable[np.ndarray]) -> Iterator[Motion]:
        """What single pictures show; one that is the same as the one before is not read again."""
        before: np.ndarray | None = None
        for frame in frames:
            if before is None or not np.array_equal(frame, before):
                (marks,) = self._landmarks([frame])
                if marks is None:
                    raise UserError("no face found in the driving picture: choose one with a clear face")
                motion, before = read_still(marks, CLOSED), frame
                motion.pose[:, :3] -= self.own.pose[:, :3]  # which shown_by adds
            yield motion

    def _smoothed(self, motions: Iterator[Motion]) -> Iterator[Motion]:
        """The same number of motions, each averaged with its neighbours but for the lids."""
        around: deque[Motion] = deque()
        ahead, place = iter(motions), 0
        around.extend(itertools.islice(ahead, SMOOTHED + 1))
        while place < len(around):
            near = list(around)
            units = torch.stack([m.units for m in near]).mean(0)
            units[..., LIDS] = around[place].units[..., LIDS]
            pose = torch.stack([m.pose for m in near]).mean(0)
            yield around[place]._replace(units=units, pose=pose)
            around.extend(itertools.islice(ahead, 1))
            if place == SMOOTHED:
                around.popleft()
            else:
                place += 1

    def _landmarks(self, frames: Iterable[np.ndarray]) -> list[Tensor | None]:
        """Of each uint8 frame the main face's landmarks ``[68, 2]`` in [-1, 1]; None where there is no face."""
        found: list[Tensor | None] = []
        for frame in frames:
            faces = self._analyser.analyse(frame)
            size = torch.tensor([frame.shape[1], frame.shape[0]], dtype=torch.float32, device=self.device)
            # from pixels that begin at 0 to the centres of the outermost ones
            found.append((faces[0].landmarks68 - 0.5) / (size - 1) * 2 - 1 if faces else None)
        return found
