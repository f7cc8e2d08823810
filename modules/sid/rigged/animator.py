"""A photograph animated by the rigged model, at its own size; frames in, frames out, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import media
from ...errors import UserError
from ...faces.detail import kept_share, unchanged
from ...media.tensors import to_images, to_tensor
from ..animator import Pictures, batches, together
from ..encoders import Semantics
from ..motion import MotionOptions, compose
from .closeups import paste
from .codes import UNITS
from .model import RiggedSID, Shown
from .motion import GRID, moved

ANGLES = 3  # numbers of z_pose that turn the head; the others say where it is
COMPARED = 128  # pixels of a side, at which it is seen what has changed
LOWEST, HIGHEST = -0.2, 1.2  # of an action unit that is shown: beyond all that was learnt faces would tear


class Person(NamedTuple):
    """A source, read once.

    Attributes:
        image: [1, 3, H, H], at the size of the results.
        points: [1, 468, 3].
        semantics: what it shows.
        lacking: [1, 3, H, H], what the model's picture of it as it is lacks.
    """

    image: Tensor
    points: Tensor
    semantics: Semantics
    lacking: Tensor


class Reading(NamedTuple):
    """Of B frames: points ``[B, 468, 3]``, and what they show."""

    points: Tensor
    semantics: Semantics

    def row(self, index: int) -> Reading:
        """One frame's."""
        return Reading(self.points[index : index + 1], _row(self.semantics, index))


class RiggedAnimator:
    """A source person, read once, driven by any number of frames, as by :class:`..animator.Animator`.

    Points are moved by what is read off the driver, or with ``keypoints`` motion to where the driver's are (relative:
    by as much as those move), as in FOMM: right for another frame of the same person, whose shape it is.

    Args:
        model: in evaluation mode, on its device.
        source: a close crop, as :func:`.media.as_image` takes it.
        batch_size: driving frames read together; results do not depend on it.
        large: the same crop, larger: results then come in its size, and stay as they are at their edges, to be pasted
            back.
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
        self.options.resolved(has_encoders=True)  # say at once what cannot work
        self.device = next(model.parameters()).device
        self.person = self._person((source, large))
        self._calm: dict[bool, Tensor] = {}  # what a driver's face says at rest: of the driver, and of one for the pose
        self._best: Reading | None = None

    @torch.inference_mode()
    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Look at some of a driver's frames for the one that is most without expression, which others count from."""
        said = [self._read([frame]).semantics.expression for frame in frames]
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
        own = self.person.semantics.cat()[:, :-ANGLES]
        for number, batch in enumerate(batches(frames, self.batch_size)):
            read = self._driver(batch, for_pose=False)
            distances = (read.semantics.cat()[:, :-ANGLES] - own).square().sum(dim=1).tolist()
            for i, distance in enumerate(distances):
                if distance < best:
                    best, index, self._best = distance, number * self.batch_size + i, read.row(i)
        return index

    @torch.inference_mode()
    def animate(
        self,
        frames: Iterable[np.ndarray],
        pose_frames: Iterable[np.ndarray] | None = None,
        pose_moves: bool = False,
        sources: Iterable[Pictures] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield one result, uint8 ``[H, W, 3]``, per driving frame: see :meth:`..animator.Animator.animate`.

        Raises:
            UserError: what the model makes is not finite.
        """
        first, self._best = self._best, None
        first_pose: Semantics | None = None
        by_points = self.options.motion == "keypoints"
        for batch, pose_batch, group in together(frames, pose_frames, sources, self.batch_size):
            driver = self._driver(batch, for_pose=False)
            first = first or driver.row(0)
            pose = None
            if pose_batch is not None:
                pose = self._driver(pose_batch, for_pose=True).semantics
                first_pose = first_pose or _row(pose, 0)
            for i in range(len(batch)):  # one at a time, for each may be as large as a photograph
                person = self.person if group is None else self._person(group[i])
                beside = None if pose is None else _row(pose, i)
                said = driver.row(i)
                own, start = person.semantics, first.semantics
                wanted = self._wanted(own, said.semantics, start, beside, first_pose, pose_moves)
                driven = self._followed(person, said.points, first.points) if by_points else None
                yield from to_images(self._shown(person, wanted, driven))

    def _wanted(
        self,
        own: Semantics,
        driver: Semantics,
        first: Semantics,
        pose: Semantics | None,
        first_pose: Semantics | None,
        pose_moves: bool,
    ) -> Semantics:
        """What a source is to show."""
        if not self.options.relative:
            driver = _placed(driver, first, own)
            pose = None if pose is None or first_pose is None else _placed(pose, first_pose, own)
        shown = compose(own, driver, first, self.options, pose, first_pose if pose_moves else None)
        units, gaze = shown.expression.split([UNITS, shown.expression.shape[1] - UNITS], dim=1)
        mine = own.expression[:, :UNITS]  # which is shown as it is if nothing is to change
        units = torch.clamp(units, mine.clamp(max=LOWEST), mine.clamp(min=HIGHEST))
        return Semantics(torch.cat([units, gaze], dim=1), shown.pose)

    def _followed(self, person: Person, driver: Tensor, first: Tensor) -> Tensor:
        """Where points go that follow the driver's own."""
        change = driver - (first if self.options.relative else person.points)
        return person.points + self.options.strength * change

    def _shown(self, person: Person, wanted: Semantics, driven: Tensor | None) -> Tensor:
        made = self._made(person, wanted, driven)
        shown = F.interpolate(made.motion.shown, person.image.shape[2:], mode="bilinear")
        for patch in made.patches:
            shown = shown * (1 - paste(made.image, patch)[1])
        same = unchanged(_small(made.image), _small(person.image - person.lacking))
        shown = shown + (1 - shown) * F.interpolate(same, person.image.shape[2:], mode="bilinear")
        picture = made.image + moved(person.lacking, made.motion.flow) * shown
        if not picture.isfinite().all():
            raise UserError("the model's pictures are not finite, though its weights are; use another checkpoint")
        return picture.clamp(0, 1)

    def _made(self, person: Person, wanted: Semantics, driven: Tensor | None = None) -> Shown:
        model = self.model
        driven = model.rig(person.points, person.semantics, wanted) if driven is None else driven
        return model.generator(person.image, person.points, driven, person.semantics, wanted, self._kept)

    @torch.inference_mode()
    def _person(self, pictures: Pictures) -> Person:
        source, large = pictures
        small = to_tensor([media.as_image(source, "source")], self.device)
        image = small if large is None else to_tensor([media.as_image(large, "large")], self.device)
        self._kept = None if large is None else kept_share(GRID, GRID).to(self.device)
        points = self.model.points(small)
        person = Person(image, points, self.model.encoder(small, points), torch.zeros_like(image))
        return person._replace(lacking=image - self._made(person, person.semantics).image)

    def _driver(self, frames: list[np.ndarray], for_pose: bool) -> Reading:
        read = self._read(frames)
        if for_pose not in self._calm:
            return read
        said = read.semantics
        return Reading(read.points, Semantics(said.expression - self._calm[for_pose], said.pose))

    def _read(self, frames: list[np.ndarray]) -> Reading:
        pictures = to_tensor(frames, self.device)
        points = self.model.points(pictures)
        return Reading(points, self.model.encoder(pictures, points))


def _placed(driver: Semantics, first: Semantics, own: Semantics) -> Semantics:
    """A driver's semantics with the source's place: where a face is in its frame is the frame's doing."""
    place = own.pose[:, ANGLES:] + driver.pose[:, ANGLES:] - first.pose[:, ANGLES:]
    return Semantics(driver.expression, torch.cat([driver.pose[:, :ANGLES], place], dim=1))


def _small(picture: Tensor) -> Tensor:
    return F.interpolate(picture, (COMPARED, COMPARED), mode="bilinear", antialias=True)


def _row(semantics: Semantics, index: int) -> Semantics:
    return Semantics(*(z[index : index + 1] for z in semantics))
