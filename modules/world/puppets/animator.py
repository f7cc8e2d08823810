"""Animating a photograph by way of the fitted head: no network has to be trained for it."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...devices import best_device
from ...errors import UserError
from ...faces.analysis import load_analyser
from ...faces.detail import Detail, unchanged
from ...faces.matte import PersonMatte
from ...faces.pose import held_back
from ...geometry import coordinate_grid
from ...media.tensors import to_images, to_tensor
from ..control.chain import Chain
from ..control.options import Control
from ..control.units import Units, lips_apart
from ..parameters import ACTION_UNITS
from .driver import Motion, Reader, neutral_frame, pose_shown, read_still
from .eyes import photograph_state
from .fit import faults, fit_photographs
from .looking import iris_offset
from .posing import pose_puppets
from .puppet import make_puppets
from .render import Rendering, render
from .states import States

LARGEST = 384  # pixels of a side at which puppets are drawn; results are larger by way of the photograph's detail
BATCH = 64  # driving frames read together: a fit of many takes hardly longer than of one
AVERAGED = (0.25, 0.5, 0.25)  # weights of the frame before, a frame and the next; lids are not, or blinks would vanish
GAZED = 5  # frames whose middle gaze is a frame's, for eyes leap
CLOSED = 0.5  # of the way that lids go in the mesh's landmarks as eyes close (benchmarks/faces.py, part lids)
COMPARABLE = (1.0, (20.0, 20.0, 20.0, 1.0, 1.0, 1.0), 20.0)  # of a motion's numbers, changes that count alike
LIDS = ACTION_UNITS.index("AU43")


class Seen(NamedTuple):
    """The main face of a frame."""

    landmarks: Tensor  # [68, 2] in [-1, 1]
    look: float  # where its irises are (:func:`.looking.iris_offset`)

    def looking(self, otherwise: float) -> float:
        """Where its irises are; where its eyes are too narrow to tell, what is known ``otherwise``."""
        return self.look if math.isfinite(self.look) else otherwise


class PuppetAnimator:
    """A photograph, fitted once, driven by any number of frames.

    It is driven as a :class:`.sid.driving.ModelAnimator` is.  A driver's expression counts from its own face without
    one, so :meth:`prepare` is shown some of its frames first.

    Args:
        photo: a close crop, uint8 ``[P, P, 3]``; results have its size.
        drive: what is taken from a driver.
        strength: 0 leaves the photograph as it is, 1 shows the driver's, more exaggerates.
        relative: show what changes since the driver's first frame, not its expression and turn as they are.
        cpu: leave a GPU alone.
        rests: results are to be pasted into a picture (:class:`.faces.detail.Detail`).
        control: regions, openings, edits and smoothing.

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
        control: Control | None = None,
    ):
        self.drive, self.relative = drive, relative
        self.device = best_device(cpu)
        self.chain = Chain.of_units(control or Control(), strength, Units()).to(self.device)
        self._analyser = load_analyser(self.device)
        whole = to_tensor([photo], self.device)
        (face,) = self._faces([photo])
        if face is None:
            raise UserError("no face found in the source picture: choose one with a clear face")
        side = min(LARGEST, len(photo))
        small = F.interpolate(whole, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        # -1 and 1 are the centres of the outermost pixels, which lie further in where there are fewer
        landmarks = face.landmarks * (1 - 1 / len(photo)) / (1 - 1 / side)
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
        seen = [face for frame in frames if (face := self._faces([frame])[0]) is not None]
        if not seen:
            raise UserError("no face found in the driver: choose one with a clear face")
        first = seen[neutral_frame(torch.stack([face.landmarks for face in seen]))]
        looks = [face.look for face in seen if math.isfinite(face.look)]
        self._readers[for_pose] = Reader(first.landmarks, CLOSED, first.looking(float(np.median(looks or [0.0]))))

    def start_from_best(self, frames: Iterable[np.ndarray]) -> int:
        """Find the driving frame most like the photograph, since which the next :meth:`animate` shows what changes.

        Return its index.
        """
        reader, best, index = self._readers[False], float("inf"), 0
        start = Seen(reader.first.landmarks[0], reader.look)
        for number, face in enumerate(self._faces(frames)):
            if face is None:
                continue
            motion = reader.read(face.landmarks[None], steps=60)
            turn = (motion.pose - self.own.pose)[:, :3]
            distance = float((motion.units - self.own.units).abs().sum() + (turn / 20).abs().sum())
            if distance < best:
                best, index, start = distance, number, face
        self._readers[False] = Reader(start.landmarks, CLOSED, start.looking(reader.look))
        self._best = self._readers[False].read(start.landmarks[None])
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
        motions = self.motions(frames)
        poses = None if pose_frames is None else self.motions(pose_frames, for_pose=True)
        first, self._best = self._best, None
        relative, first_pose = self.relative or first is not None, None
        for motion in motions:
            first = first or motion
            if poses is None:
                yield self.show_motion(motion, first, relative)
                continue
            pose = next(poses)
            first_pose = first_pose or pose
            yield self.show_motion(
                motion, first, relative, pose_shown(pose, first_pose, self.puppet, relative and pose_moves)
            )

    def motions(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> Iterator[Motion]:
        """What a driver does in each of its frames, smoothed over time: another photograph may show it as well."""
        motions = self._smoothed(self._read(frames, for_pose))
        return motions if not self.chain.control.smooth else self._smoother(motions, for_pose)

    def _smoother(self, motions: Iterator[Motion], for_pose: bool) -> Iterator[Motion]:
        for motion in motions:
            each = [values / motion.pose.new_tensor(unit) for values, unit in zip(motion, COMPARABLE, strict=True)]
            units, pose, gaze = self.chain.smoothed(each, for_pose)
            yield Motion(units, pose * pose.new_tensor(COMPARABLE[1]), gaze * COMPARABLE[2])

    def show_motion(
        self, motion: Motion, first: Motion, relative: bool = False, pose: Tensor | None = None
    ) -> np.ndarray:
        """The photograph, uint8 ``[P, P, 3]``, with a motion.

        Args:
            motion: one frame's.
            first: that of the driver's first frame, since which heads are moved.
            relative: turns and expressions count from there as well.
            pose: [1, 6] to be shown in place of the motion's (:func:`.driver.pose_shown`).
        """
        return to_images(self._detailed(self._draw(self._state(motion, first, relative, pose))))[0]

    def code_of_state(self, state: States) -> Tensor:
        """Action units of both sides and gaze, ``[1, 2 A + 2]``."""
        return torch.cat([state.units.flatten(1), state.gaze], dim=1).to(self.device)

    def code_of_picture(self, picture: np.ndarray) -> Tensor:
        """The same of what a picture shows, but for the gaze.  Raises UserError where it has no face."""
        (motion,) = self._read_stills([picture])
        return self.code_of_state(States(motion.units, torch.zeros_like(motion.gaze), motion.pose))

    def show(self, code: Tensor, shares: Iterable[float]) -> Iterator[np.ndarray]:
        """Yield the photograph, uint8 ``[P, P, 3]``, once for each of ``shares``, in its own pose.

        Args:
            code: [1, 2 A + 2] of the expression.
            shares: 0 leaves the photograph as it is, 1 shows the code's expression in place of its own, at the
                animator's strength.
        """
        said = States.of_codes(torch.cat([code, self.own.pose], dim=1))
        for share in shares:
            units = torch.lerp(self.own.units, said.units, share)
            wanted = States(units, self.own.gaze + share * said.gaze, self.own.pose)
            yield to_images(self._detailed(self._draw(self._chained(wanted))))[0]

    def _state(self, motion: Motion, first: Motion, relative: bool, pose: Tensor | None) -> States:
        """What the photograph is to show, ``[1]``."""
        own = self.own
        if pose is None:
            turned = self.drive != "expression"
            pose = pose_shown(motion, first, self.puppet, relative) if turned else own.pose
        wanted = States(motion.units, self.puppet.gaze + motion.gaze, pose)
        if relative:
            units = (own.units + motion.units - first.units).clamp(0, 1)
            wanted = wanted._replace(units=units, gaze=own.gaze + motion.gaze - first.gaze)
        if self.drive == "pose":
            wanted = wanted._replace(units=own.units, gaze=own.gaze)
        return self._chained(wanted)

    def _chained(self, wanted: States) -> States:
        """What the photograph shows where so much is wanted."""
        own = self.own
        mixed = States.of_codes(self.chain.composed(own.codes, wanted.codes))
        turn = held_back(mixed.pose[:, :1] - own.pose[:, :1], own.pose[:, :1])
        pose = torch.cat([own.pose[:, :1] + turn, mixed.pose[:, 1:]], dim=1)
        shown = mixed._replace(units=mixed.units.clamp(0, 1), pose=pose)
        return States.of_codes(self.chain.set_to(shown.codes, self._lips_apart))

    def _lips_apart(self, codes: Tensor) -> Tensor:
        return lips_apart(pose_puppets(self.puppet, States.of_codes(codes)).landmarks)

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
        known = Seen(reader.first.landmarks[0], reader.look)
        frames = iter(frames)
        while batch := list(itertools.islice(frames, BATCH)):
            rows = []
            for face in self._faces(batch):
                known = known if face is None else face._replace(look=face.looking(known.look))
                rows.append(known)
            motion = reader.read(torch.stack([face.landmarks for face in rows]), [face.look for face in rows])
            yield from map(motion.row, range(len(rows)))

    def _read_stills(self, frames: Iterable[np.ndarray]) -> Iterator[Motion]:
        """What single pictures show; one that is the same as the one before is not read again."""
        before: np.ndarray | None = None
        for frame in frames:
            if before is None or not np.array_equal(frame, before):
                (face,) = self._faces([frame])
                if face is None:
                    raise UserError("no face found in the driving picture: choose one with a clear face")
                motion, before = read_still(face.landmarks, CLOSED, face.looking(0.0)), frame
            yield motion

    def _smoothed(self, motions: Iterator[Motion]) -> Iterator[Motion]:
        """The same number of motions, each averaged with its neighbours; lids are not, and eyes still leap."""
        around: deque[Motion] = deque(maxlen=GAZED)
        for motion in _held_on(motions, GAZED // 2):
            around.append(motion)
            if len(around) < GAZED:
                continue
            middle, near = around[GAZED // 2], list(around)[GAZED // 2 - 1 : GAZED // 2 + 2]
            units, pose = (sum(w * m[i] for w, m in zip(AVERAGED, near, strict=True)) for i in (0, 1))
            units[..., LIDS] = middle.units[..., LIDS]
            yield Motion(units, pose, torch.stack([m.gaze for m in around]).median(0).values)

    def _faces(self, frames: Iterable[np.ndarray]) -> list[Seen | None]:
        """The main face of each uint8 frame; None where there is none."""
        found: list[Seen | None] = []
        for frame in frames:
            faces = self._analyser.analyse(frame)
            if not faces:
                found.append(None)
                continue
            size = torch.tensor([frame.shape[1], frame.shape[0]], dtype=torch.float32, device=self.device)
            # from pixels that begin at 0 to the centres of the outermost ones
            landmarks = (faces[0].landmarks68 - 0.5) / (size - 1) * 2 - 1
            found.append(Seen(landmarks, iris_offset(to_tensor([frame], self.device)[0], landmarks)))
        return found


def _held_on(motions: Iterable[Motion], count: int) -> Iterator[Motion]:
    """Motions of which the first and the last are held ``count`` times longer."""
    before: Motion | None = None
    for motion in motions:
        if before is None:
            yield from itertools.repeat(motion, count)
        yield (before := motion)
    if before is not None:
        yield from itertools.repeat(before, count)
