"""A photograph animated by the rigged model, at its own size; frames in, frames out, streamed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ... import media
from ...errors import UserError
from ...media.tensors import to_images, to_tensor
from ..encoders import Semantics
from ..motion import MotionOptions, compose
from .codes import UNITS
from .model import RiggedSID

ANGLES = 3  # numbers of z_pose that turn the head; the others say where it is
HIGHEST = 1.2  # action unit that is shown: what a driver exaggerates beyond all that was learnt would tear


class Reading(NamedTuple):
    """Of B frames: points ``[B, 468, 3]``, and what they show."""

    points: Tensor
    semantics: Semantics


class RiggedAnimator:
    """A source person, read once, driven by any number of frames, as by :class:`..animator.Animator`.

    Args:
        model: in evaluation mode, on its device.
        source: a close crop, as :func:`.media.as_image` takes it.
        batch_size: driving frames computed together; results do not depend on it.
        large: the same crop, larger: results then come in its size.
    """

    def __init__(
        self,
        model: RiggedSID,
        source: Any,
        options: MotionOptions | None = None,
        batch_size: int = 8,
        large: Any = None,
    ):
        self.model, self.options, self.batch_size = model, options or MotionOptions(), batch_size
        self.options.check_strength()
        self.device = next(model.parameters()).device
        with torch.inference_mode():
            self.image = to_tensor([media.as_image(source if large is None else large, "source")], self.device)
            self.source = self._read(to_tensor([media.as_image(source, "source")], self.device))
        self._calm: dict[bool, Tensor] = {}  # what a driver's face says at rest: of the driver, and of one for the pose
        self._best: Semantics | None = None

    @torch.inference_mode()
    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Look at some of a driver's frames for the one that is most without expression, which others count from."""
        said = [self._read(to_tensor([frame], self.device)).semantics.expression for frame in frames]
        if said:
            every = torch.cat(said)
            calmest = every[:, :UNITS].clamp(min=0).sum(dim=1).argmin()
            rest = every[calmest : calmest + 1].clone()
            rest[:, UNITS:] = 0  # where somebody looks is no habit of the face
            self._calm[for_pose] = rest

    @torch.inference_mode()
    def start_from_best(self, frames: Iterable[np.ndarray]) -> int:
        """Find the driving frame most like the source, the origin of the next :meth:`animate`'s relative motion.

        Return its index.
        """
        best, index = float("inf"), 0
        own = self.source.semantics.cat()
        for number, batch in enumerate(_batches(frames, self.batch_size)):
            said = self._driver(batch, for_pose=False)
            distances = (said.cat() - own)[:, :-ANGLES].square().sum(dim=1).tolist()
            for i, distance in enumerate(distances):
                if distance < best:
                    best, index, self._best = distance, number * self.batch_size + i, _row(said, i)
        return index

    @torch.inference_mode()
    def animate(
        self,
        frames: Iterable[np.ndarray],
        pose_frames: Iterable[np.ndarray] | None = None,
        pose_moves: bool = False,
    ) -> Iterator[np.ndarray]:
        """Yield one result, uint8 ``[H, W, 3]``, per driving frame; at most a batch of frames is held at a time.

        ``pose_frames``, as many as ``frames``, give the head pose in place of the driver's; where ``pose_moves``, they
        are a video's, and relative motion starts from the first of them.
        """
        first, self._best = self._best, None
        first_pose: Semantics | None = None
        poses = None if pose_frames is None else iter(pose_frames)
        for batch in _batches(frames, self.batch_size):
            driver = self._driver(batch, for_pose=False)
            first = first or _row(driver, 0)
            pose = None
            if poses is not None:
                pose = self._driver(list(itertools.islice(poses, len(batch))), for_pose=True)
                first_pose = first_pose or _row(pose, 0)
            yield from self._render(driver, first, pose, first_pose, pose_moves)

    def _render(
        self,
        driver: Semantics,
        first: Semantics,
        pose: Semantics | None,
        first_pose: Semantics | None,
        pose_moves: bool,
    ) -> Iterator[np.ndarray]:
        own = self.source.semantics
        if not self.options.relative:
            driver = _placed(driver, first, own)
            pose = None if pose is None or first_pose is None else _placed(pose, first_pose, own)
        shown = compose(own, driver, first, self.options, pose, first_pose if pose_moves else None)
        expression = shown.expression.clone()
        expression[:, :UNITS] = expression[:, :UNITS].clamp(-0.2, HIGHEST)
        shown = Semantics(expression, shown.pose)
        for i in range(len(shown.pose)):  # one at a time, for each may be as large as a photograph
            after = _row(shown, i)
            driven = self.model.rig(self.source.points, own, after)
            made = self.model.generator(self.image, self.source.points, driven, own, after).image
            if not made.isfinite().all():
                raise UserError("the model's pictures are not finite, though its weights are; use another checkpoint")
            yield from to_images(made)

    def _driver(self, frames: list[np.ndarray], for_pose: bool) -> Semantics:
        said = self._read(to_tensor(frames, self.device)).semantics
        if for_pose not in self._calm:
            return said
        return Semantics(said.expression - self._calm[for_pose], said.pose)

    def _read(self, frames: Tensor) -> Reading:
        points = self.model.points(frames)
        return Reading(points, self.model.encoder(frames, points))


def _placed(driver: Semantics, first: Semantics, own: Semantics) -> Semantics:
    """A driver's semantics with the source's place: where a face is in its frame is the frame's doing."""
    place = own.pose[:, ANGLES:] + driver.pose[:, ANGLES:] - first.pose[:, ANGLES:]
    return Semantics(driver.expression, torch.cat([driver.pose[:, :ANGLES], place], dim=1))


def _batches(frames: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    frames = iter(frames)
    while batch := list(itertools.islice(frames, size)):
        yield batch


def _row(semantics: Semantics, index: int) -> Semantics:
    return Semantics(*(z[index : index + 1] for z in semantics))
