"""A photograph animated by the rigged model, at its own size; frames in, frames out, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ... import media
from ...faces.detail import kept_share, unchanged
from ...faces.landmarks68 import landmarks68
from ...faces.pose import HeadPose, held_back
from ...media.tensors import to_images, to_tensor
from ...world.control.chain import Chain
from ...world.control.units import Units, lips_apart
from ...world.puppets.states import States
from ..driving import ModelAnimator, Pictures
from ..encoders import Semantics
from ..motion import compose
from ..motion_options import MotionOptions
from .codes import ANGLE, EXPRESSION, GAZE, POSE, UNITS, semantics_of, without_rest
from .model import RiggedSID, Shown
from .motion import GRID, moved

ANGLES = 3  # numbers of z_pose that turn the head; the others say where it is
COMPARED = 128  # pixels of a side, at which it is seen what has changed
HABIT = 0.3  # of an action unit that a face may seem to show at rest: who shows more in every frame does smile
MEANT = 1.25  # changes of action units meant by one that is read: the mean of all that may be, which falls short
TOGETHER = 4 * 256**2  # pixels of frames that are shown together
LEAST = 1e-3  # share of a pixel that is painted, of which it is asked how much of it is lacking
LOWEST, HIGHEST = -0.2, 1.2  # of an action unit that is shown: beyond all that was learnt faces would tear
KIND = Units(GAZE, ANGLE, LOWEST, HIGHEST)


class Person(NamedTuple):
    """A source, read once.

    Attributes:
        image: [1, 3, H, H], at the size of the results.
        points: [1, 468, 3].
        semantics: what it shows.
        yaw: [1, 1], degrees by which the head is turned, measured: the encoder has learnt to read no profile.
        kept: how much of its motion each place keeps (:meth:`.model.Generator.forward`).
        detail: [1, 7, H, H], the source less the model's picture of it as it is; what that lacks because it is painted;
            how much of it is not, but the source, warped.
    """

    image: Tensor
    points: Tensor
    semantics: Semantics
    yaw: Tensor
    kept: Tensor | None
    detail: Tensor

    def repeated(self, count: int) -> Person:
        """The same for each of ``count`` frames."""
        image, points, yaw, detail = (
            t.expand(count, *t.shape[1:]) for t in (self.image, self.points, self.yaw, self.detail)
        )
        semantics = Semantics(*(z.expand(count, -1) for z in self.semantics))
        return Person(image, points, semantics, yaw, self.kept, detail)


class Reading(NamedTuple):
    """Of B frames: points ``[B, 468, 3]``, and what they show."""

    points: Tensor
    semantics: Semantics

    def saying(self, semantics: Semantics) -> Reading:
        """The same points, with other semantics."""
        return self._replace(semantics=semantics)

    def row(self, index: int) -> Reading:
        """One frame's."""
        return self.rows(slice(index, index + 1))

    def rows(self, rows: slice) -> Reading:
        """Some frames'."""
        return Reading(self.points[rows], Semantics(*(z[rows] for z in self.semantics)))


class RiggedAnimator(ModelAnimator[Reading, list[Person]]):
    """A source person, read once, driven by any number of frames; arguments are :class:`..driving.ModelAnimator`'s.

    Points are moved by what is read off the driver, or with ``keypoints`` motion to where the driver's are (relative:
    by as much as those move), as in FOMM: right for another frame of the same person, whose shape it is.
    """

    def __init__(
        self,
        model: RiggedSID,
        source: Any,
        options: MotionOptions | None = None,
        batch_size: int = 8,
        large: Any = None,
        half: torch.dtype | None = None,
        change: Tensor | None = None,
    ):
        options = options or MotionOptions()
        options.resolved(has_encoders=True)  # say at once what cannot work
        self.model = model
        self._pose = HeadPose().to(next(model.parameters()).device)
        super().__init__(model, source, options, batch_size, large, half, change)
        self._calm: dict[bool, Tensor] = {}  # what a driver's face says at rest: of the driver, and of one for the pose

    @torch.inference_mode()
    def prepare(self, frames: Iterable[np.ndarray], for_pose: bool = False) -> None:
        """Look at some of a driver's frames for the one that is most without expression, which others count from."""
        said = [self._look([frame]).semantics.expression for frame in frames]
        if said:
            every = torch.cat(said)
            calmest = every[:, :UNITS].clamp(min=0).sum(dim=1).argmin()
            rest = every[calmest : calmest + 1].clone()
            rest[:, UNITS:] = 0  # where somebody looks is no habit of the face
            rest.clamp_(-HABIT, HABIT)
            self._calm[for_pose] = rest

    def _meet(self, pictures: list[Pictures]) -> list[Person]:
        return [self._person(*each) for each in pictures]

    def _person(self, source: Any, large: Any) -> Person:
        small = media.as_image(source, "source")
        read = self._look([small])
        image = to_tensor([small if large is None else media.as_image(large, "large")], self.device)
        kept = None if large is None else kept_share(GRID, GRID).to(self.device)
        person = Person(image, *read, self._pose(read.points)[:, :1], kept, image)
        made = self._made(person, person.semantics, person.points)
        # The source, warped, may be off its place by a little even at rest: that is no detail which moves along, or all
        # edges would be embossed.
        painted = made.image - made.share * moved(image, made.flow)
        return person._replace(
            detail=torch.cat([image - made.image, (1 - made.share) * image - painted, made.share], 1)
        )

    def _read(self, frames: list[np.ndarray], for_pose: bool) -> Reading:
        read = self._look(frames)
        if for_pose not in self._calm:
            return read
        said = read.semantics
        return Reading(read.points, Semantics(said.expression - self._calm[for_pose], said.pose))

    def code_of_state(self, state: States) -> Tensor:
        """z_exp ``[1, E]`` that says so.

        It counts as one that is read, though that falls short: so does what is shown (``benchmarks.emotions sid``).
        """
        return semantics_of(state.codes.to(self.device)).expression

    @torch.inference_mode()
    def code_of_picture(self, picture: np.ndarray) -> Tensor:
        """z_exp ``[1, E]`` that is read, but for the gaze."""
        said = self._look([picture]).semantics.expression.clone()
        said[:, UNITS:] = 0
        return said

    def _saying(self, code: Tensor, shares: Tensor) -> Reading:
        (person,) = self.person
        shown, count = person.semantics.expression, len(shares)
        rest = shown.clone()
        rest[:, :UNITS] = 0  # gaze counts from where the source looks
        expression = torch.lerp(shown.expand(count, -1), rest + code, shares[:, None])
        return self._as_read(Semantics(expression, person.semantics.pose.expand(count, -1)))

    def _as_read(self, semantics: Semantics) -> Reading:
        (person,) = self.person
        return Reading(person.points.expand(len(semantics.pose), -1, -1), semantics)

    def without_rest(self, said: Semantics) -> Semantics:
        return without_rest(said)

    def _chain(self, change: Tensor | None) -> Chain:
        return Chain.of_units(self.options.control, self.options.strength, KIND, change)

    def _look(self, frames: list[np.ndarray]) -> Reading:
        pictures = to_tensor(frames, self.device)
        points = self.model.points(pictures)
        with self._autocast():
            return Reading(points, self.model.encoder(pictures, points))

    def _distances(self, read: Reading) -> Tensor:
        (person,) = self.person
        return (read.semantics.cat() - person.semantics.cat())[:, :-ANGLES].square().sum(dim=1)

    def _results(
        self, person: list[Person], driver: Reading, first: Reading, pose: Reading | None, first_pose: Reading | None
    ) -> Iterator[np.ndarray]:
        count, together = len(driver.points), 1
        if len(person) == 1:  # a few at a time, for each may be as large as a photograph
            together = max(1, TOGETHER // person[0].image[0, 0].numel())
        for start in range(0, count, together):
            rows = slice(start, min(count, start + together))
            each = person[0].repeated(rows.stop - start) if len(person) == 1 else person[start]
            said, beside = driver.rows(rows), None if pose is None else pose.rows(rows)
            wanted = self._wanted(each, said, first, beside, first_pose)
            if self.options.motion == "keypoints":
                change = said.points - (first.points if self.options.relative else each.points)
                driven = each.points + self.options.strength * change
            else:
                driven = self.model.rig(each.points, each.semantics, wanted)
            yield from to_images(self._shown(each, wanted, driven))

    def _wanted(
        self, person: Person, driver: Reading, first: Reading, pose: Reading | None, first_pose: Reading | None
    ) -> Semantics:
        """What a source is to show."""
        own, said, start = person.semantics, driver.semantics, first.semantics
        turn, turn_start = (None if read is None else read.semantics for read in (pose, first_pose))
        if not self.options.relative:
            said = _placed(said, start, own)
        if turn is not None and not (self.options.relative and turn_start):  # a picture's place is nobody's change
            turn = _placed(turn, turn_start or turn, own)
        shown = compose(own, said, start, self.options, turn, turn_start, self.chain)
        units, gaze = shown.expression.split([UNITS, shown.expression.shape[1] - UNITS], dim=1)
        mine = own.expression[:, :UNITS]  # which is shown as it is if nothing is to change
        yaw, rest = shown.pose.split([1, shown.pose.shape[1] - 1], dim=1)
        if self.options.motion != "keypoints":  # points show all there is
            units = mine + MEANT * (units - mine)
            yaw = own.pose[:, :1] + held_back(ANGLE * (yaw - own.pose[:, :1]), person.yaw) / ANGLE
        units = torch.clamp(units, mine.clamp(max=LOWEST), mine.clamp(min=HIGHEST))
        codes = torch.cat([units, gaze, yaw, rest], dim=1)
        return _split(self.chain.set_to(codes, lambda tried: self._lips_apart(person, tried)))

    def _lips_apart(self, person: Person, codes: Tensor) -> Tensor:
        """How far lips are apart in a source with such codes, ``[B]``, as the motion head has it."""
        return lips_apart(landmarks68(self.model.rig(person.points, person.semantics, _split(codes))))

    def _shown(self, person: Person, wanted: Semantics, driven: Tensor) -> Tensor:
        made, size = self._made(person, wanted, driven), person.image.shape[2:]
        unlike, lacking, own = moved(person.detail, made.flow).split([3, 3, 1], dim=1)
        # What was painted of the source at rest may be the source itself now, which lacks nothing: edges would be drawn
        # twice, with rims on both sides.
        shown = torch.minimum(made.share, (1 - made.share) / (1 - own).clamp(min=LEAST))
        same = unchanged(_small(made.image), _small(person.image - person.detail[:, :3]))
        same = F.interpolate(same, size, mode="bilinear")
        picture = made.image + torch.lerp(lacking * shown, unlike, same)
        if not picture.isfinite().all():
            raise self._not_finite()
        return picture.clamp(0, 1)

    def _made(self, person: Person, wanted: Semantics, driven: Tensor) -> Shown:
        own = person.semantics
        with self._autocast():
            return self.model.generator(person.image, person.points, driven, own, wanted, person.kept)


def _split(codes: Tensor) -> Semantics:
    """Semantics of codes ``[B, EXPRESSION + POSE]``."""
    return Semantics(*codes.split([EXPRESSION, POSE], dim=1))


def _placed(driver: Semantics, first: Semantics, own: Semantics) -> Semantics:
    """A driver's semantics with the source's place: where a face is in its frame is the frame's doing."""
    place = own.pose[:, ANGLES:] + driver.pose[:, ANGLES:] - first.pose[:, ANGLES:]
    return Semantics(driver.expression, torch.cat([driver.pose[:, :ANGLES], place], dim=1))


def _small(picture: Tensor) -> Tensor:
    return F.interpolate(picture, (COMPARED, COMPARED), mode="bilinear", antialias=True)
