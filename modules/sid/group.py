"""Several faces of one source: each is cut out, driven and put back, in step with the others.

What stands for one person elsewhere is here :class:`.drivers.Each` of them, so that files are read and written as for
one (:mod:`.inference`): a :class:`Group` is the source, an :class:`Ensemble` moves it, :class:`GroupFraming` cuts out
and pastes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .. import media
from ..arguments import listed
from ..devices import best_device
from ..errors import UserError
from ..faces.blend import Blender
from ..faces.crops import no_face
from ..faces.framer import Overview
from ..faces.paste import Paster
from ..faces.territory import Territory
from ..world.puppets.states import States
from .drivers import Each, Paths
from .driving import Animates
from .framing import Framing
from .group_options import ALL, names_several
from .motion_options import MotionOptions
from .videos import FaceVideo, Fit, Source, SourceVideo


@dataclass(frozen=True)
class Group(Source):
    """A source picture, or one frame of a source video, with several people."""

    people: tuple[Source, ...] = ()

    @staticmethod
    def of(people: Iterable[Source]) -> Group:
        """Of people who are cut out of one picture."""
        people = tuple(people)
        first, has_face = people[0], any(person.has_face for person in people)
        return Group(first.image, first.picture, first.crop, first.large, has_face, people)

    @property
    def pictures(self) -> Each:
        return Each(person.pictures for person in self.people)


class GroupVideo:
    """A video of several people who are to be moved, streamed; it is read once for all of them."""

    def __init__(self, videos: list[SourceVideo]):
        self._videos = videos
        self.info = videos[0].info
        self.without = 0  # frames in which not all faces were seen, the last time, so far

    def first(self) -> Group:
        """Of each the first frame that shows the face."""
        return Group.of(video.first() for video in self._videos)

    def sources(self) -> Iterator[tuple[Group, float]]:
        """Every frame with the time at which it is shown."""
        self.without = 0
        copies = itertools.tee(media.read_video(self._videos[0].faces.path), len(self._videos))
        parts = (video.sources(copy) for video, copy in zip(self._videos, copies, strict=True))
        for each in zip(*parts, strict=True):
            people = [person for person, _ in each]
            self.without += not all(person.has_face for person in people)
            yield Group.of(people), each[0][1]


@dataclass(frozen=True)
class GroupFraming(Framing):
    """The framing of several faces, which ``face`` names, or of all, ``"all"``: from left to right.

    Attributes:
        drivers: how many there are: one for all, or one for each face.
    """

    face: str | tuple[str, ...] = ALL
    drivers: int = 1

    def source(self, path: str | Path) -> Group:
        """The source picture at ``path``.  Raises UserError where a face is not found, or a driver has none."""
        picture = self._limited(media.read_image(path))
        crops = self._source_framer.crops(picture, self._wanted, str(path), self.params.upright)
        self._check(len(crops), path)
        return Group.of(self._cut(picture, crop) for crop in crops)

    def source_video(self, path: str | Path) -> GroupVideo:
        """The same of a video; who is who is told by the frames that show as many faces as most do."""
        overview = self._source_framer.overview(media.frames_throughout(path), self.size[0])
        overview, names = overview.usual, self._wanted
        if not overview.faces:
            raise no_face(path)
        if names is None:
            names = tuple(str(number + 1) for number in range(len(overview.faces[0])))
        self._check(len(names), path)
        videos = [self._video_of(path, name, overview) for name in names]
        for number, video in enumerate(videos):
            seen = {id(look) for look in video.faces.looks}
            if any(id(look) in seen for other in videos[:number] for look in other.faces.looks):
                raise UserError(f"--face {names[number]}: is a face of {path} that another --face names as well")
        return GroupVideo(videos)

    def finisher(self, source: Group) -> Fit:
        """The function that puts all results of an ensemble back into the picture."""
        device, places = best_device(self.cpu), [person.crop for person in source.people]
        pasters = {
            number: Paster(
                person.picture,
                person.crop,
                person.large,
                device,
                Territory(Blender(person.large, device), places, number),
            )
            for number, person in enumerate(source.people)
            if person.has_face
        }

        def finish(results: Each) -> np.ndarray:
            whole = source.picture
            for number, paster in pasters.items():
                whole = paster.paste(results[number], whole)
            return whole

        return finish

    @property
    def _wanted(self) -> tuple[str, ...] | None:
        return None if self.face == ALL else listed(self.face)

    def _video_of(self, path: str | Path, name: str, overview: Overview) -> SourceVideo:
        one = replace(self, face=name)
        seen = FaceVideo(path, one._source_framer, self.size[0], overview=overview)
        return SourceVideo(self.size[0], seen, True, self._limited)

    def _check(self, faces: int, path: str | Path) -> None:
        if self.drivers not in (1, faces):
            found = "one face" if faces == 1 else f"{faces} faces"
            raise UserError(f"--driving_video: {self.drivers} drivers for {found} of {path}; give one, or one each")


def framing_for(face: str | tuple[str, ...] | None, driver: Paths | None) -> Callable[..., Framing]:
    """What makes the framing of ``face``, which may name several, and of as many drivers; it takes all else."""
    return partial(GroupFraming, drivers=len(listed(driver)) or 1) if names_several(face) else Framing


class Ensemble:
    """People who are driven together, each by an animator of its own, as :class:`.driving.Animates` drives one.

    Results are :class:`.drivers.Each`.  So are driving frames, or they are one for all.
    """

    def __init__(self, animators: list[Animates]):
        self.animators = animators
        self.chain = Chains(animators)

    def prepare(self, frames: Iterable[np.ndarray] | Each, for_pose: bool = False) -> None:
        """Look at some of the drivers' frames; None stands for a driving picture."""
        if not isinstance(frames, Each):
            frames = Each([list(frames)] * len(self.animators))
        for animator, some in zip(self.animators, frames, strict=True):
            if some is not None:
                animator.prepare(some, for_pose)

    def animate(
        self,
        frames: Iterable[Any],
        pose_frames: Iterable[np.ndarray] | None = None,
        pose_moves: bool = False,
        sources: Iterable[Each] | None = None,
    ) -> Iterator[Each]:
        """Yield a result of each person per driving frame; no more is held than their animators read ahead."""
        said = self._parts(frames)
        poses = [None] * len(said) if pose_frames is None else self._parts(pose_frames)
        met = [()] * len(said) if sources is None else [(own,) for own in self._parts(sources)]
        shown = (
            animator.animate(own, pose, pose_moves, *person)
            for animator, own, pose, person in zip(self.animators, said, poses, met, strict=True)
        )
        yield from map(Each, zip(*shown, strict=True))

    def code_of_state(self, state: States) -> Tensor:
        """As an animator's; codes are the same for all people."""
        return self.animators[0].code_of_state(state)

    def code_of_picture(self, picture: np.ndarray) -> Tensor:
        """As an animator's."""
        return self.animators[0].code_of_picture(picture)

    def show(self, code: Tensor, shares: Iterable[float]) -> Iterator[Each]:
        """Yield all of them with one expression, once for each of ``shares``."""
        shown = (animator.show(code, own) for animator, own in zip(self.animators, self._parts(shares), strict=True))
        yield from map(Each, zip(*shown, strict=True))

    def _parts(self, frames: Iterable[Any]) -> list[Iterator[Any]]:
        """What of ``frames`` is each person's."""
        copies = itertools.tee(frames, len(self.animators))
        return [_part(copy, number) for number, copy in enumerate(copies)]


class Chains:
    """What is done to the codes of an ensemble's drivers."""

    def __init__(self, animators: list[Animates]):
        self._animators = animators

    def start(self, rate: float) -> None:
        """Begin with new drivers of ``rate`` frames a second."""
        for animator in self._animators:
            animator.chain.start(rate)


def _part(frames: Iterable[Any], number: int) -> Iterator[Any]:
    for frame in frames:
        yield frame[number] if isinstance(frame, Each) else frame


def together(
    moves: Callable[[MotionOptions], Callable[[Source], Animates]],
) -> Callable[[MotionOptions], Callable[[Group], Ensemble]]:
    """How groups move, where ``moves`` says how one person does."""

    def of(options: MotionOptions) -> Callable[[Group], Ensemble]:
        animated = moves(options)
        return lambda group: Ensemble([_named(animated, *each) for each in enumerate(group.people, 1)])

    return of


def _named(animated: Callable[[Source], Animates], number: int, person: Source) -> Animates:
    """The animator of one of a group.  Raises UserError that says whose face it is that cannot be moved."""
    try:
        return animated(person)
    except UserError as error:
        raise UserError(f"face {number} of the source: {error}") from error
