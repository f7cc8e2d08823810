"""Where the face of a picture or a video is, as a close crop: chosen, steady or followed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from .. import media
from ..devices import best_device
from ..errors import UserError
from ..media.tensors import to_tensor
from .analysis import Face, load_analyser
from .boxes import Box
from .close_crop import Crop, Follower, cut_crop, face_crop, points_crop, steady_crop
from .crops import F, main_chain, no_face
from .landmarks68 import landmarks68

CLOSE = 160  # pixels of a close crop in which a face is looked for: it is large there
NEAR, SIMILAR = 1.0, 1.8  # how far a face goes between two looks, in its sides, and by what factor its size changes


class Look(NamedTuple):
    """A face in one of the frames that a video was looked at in.

    Attributes:
        box: of the face in its frame.
        place: from brows to chin, not turned.
        image: the face in a crop of its own, uint8 ``[S, S, 3]``.
    """

    box: Box
    place: Crop
    image: np.ndarray


class Overview(NamedTuple):
    """The faces in some frames of a video, each frame's main one first, and the frames' width and height."""

    faces: list[list[Look]]
    extent: tuple[int, int]

    @property
    def usual(self) -> Overview:
        """Of those frames the ones that show as many faces as frames with faces do in the middle: the same people."""
        counts = sorted(len(each) for each in self.faces if each)
        return self._replace(faces=[each for each in self.faces if counts and len(each) == counts[len(counts) // 2]])


def chosen(faces: list[F], which: str, where: str, option: str = "--face") -> F:
    """One of a picture's faces.

    Args:
        faces: the main one first.
        which: ``"largest"`` (large and central), ``"left"``, ``"right"``, or a number, which counts from the left.
        where: what an error names as the place.
        option: what it names as the option that ``which`` is of.

    Raises:
        UserError: there is no face, or not so many.
    """
    if not faces:
        raise no_face(where)
    if which == "largest":
        return faces[0]
    number = {"left": 1, "right": len(faces)}.get(which) or int(which)
    if number > len(faces):
        found = "one face is" if len(faces) == 1 else f"{len(faces)} faces are"
        raise UserError(f"{option} {which}: {found} found in {where}")
    return across(faces)[number - 1]


def across(faces: list[F]) -> list[F]:
    """A picture's faces from left to right."""
    return sorted(faces, key=lambda face: face.box.left + face.box.right)


def several(faces: list[F], wanted: Sequence[str] | None, where: str) -> list[F]:
    """Several of a picture's faces, each as :func:`chosen` takes it; None: all, from left to right.

    Raises:
        UserError: there is none, or not so many, or one is wanted twice.
    """
    if wanted is None:
        return across(faces) or [chosen(faces, "largest", where)]
    found = [chosen(faces, which, where) for which in wanted]
    for number, face in enumerate(found):
        if any(face is other for other in found[:number]):
            raise UserError(f"--face {wanted[number]}: is a face of {where} that another --face names as well")
    return found


class Framer:
    """Finds the crops that a model's frames are.

    Args:
        size: of a crop, in faces from brows to chin.
        above: its middle above the face's, in its sides.
        which: of several faces, as :func:`chosen` takes it; in a video those of its sampled frames are counted.
        cpu: leave a GPU alone.
        option: what errors name as the option that ``which`` is of.
    """

    def __init__(
        self, size: float, above: float = 0.0, which: str = "largest", cpu: bool = False, option: str = "--face"
    ):
        self.size, self.above, self.which, self.option = size, above, which, option
        self._analyser = load_analyser(best_device(cpu))

    def picture(self, image: np.ndarray, where: str, upright: bool) -> Crop:
        """The crop of a uint8 picture ``[H, W, 3]``; ``upright``: turned as the head leans.  Raises UserError."""
        return self.crop_of(self.landmarks(image, where), upright)

    def landmarks(self, image: np.ndarray, where: str) -> np.ndarray:
        """``[68, 2]`` of the wanted face of a picture.  Raises UserError."""
        face = chosen(self._analyser.analyse(image), self.which, where, self.option)
        return face.landmarks68.cpu().numpy()

    def crops(self, image: np.ndarray, wanted: Sequence[str] | None, where: str, upright: bool) -> list[Crop]:
        """Those of several faces, as :func:`several` takes them.  Raises UserError."""
        faces = several(self._analyser.analyse(image), wanted, where)
        return [self.crop_of(face.landmarks68.cpu().numpy(), upright) for face in faces]

    def crop_of(self, landmarks: np.ndarray, upright: bool) -> Crop:
        """The crop of a face, ``[68, 2]``, as of :meth:`picture`."""
        return face_crop(landmarks, upright).wider(self.size, self.above)

    def video(self, path: str | Path) -> Crop:
        """One crop for all of a video, by frames spread over it.  Raises UserError where they show no face."""
        return self.steady(media.frames_throughout(path), str(path))

    def steady(self, images: Iterable[np.ndarray], where: str) -> Crop:
        """One crop for all of a video, by some of its frames.  Raises UserError where they show no face."""
        return self.resting([look.place for look in self.looks(images, where, CLOSE)])

    def resting(self, places: Sequence[Crop]) -> Crop:
        """The crop that holds a face in all of ``places``."""
        return steady_crop(places, self.size, self.above)

    def looks(self, images: Iterable[np.ndarray], where: str, size: int) -> list[Look]:
        """The face in some frames of a video, one at a time, in crops of ``size`` pixels of a side.

        Raises:
            UserError: they show none.
        """
        return self.wanted(self.overview(images, size), where)

    def overview(self, images: Iterable[np.ndarray], size: int) -> Overview:
        """All faces in some frames of a video, in crops of ``size`` pixels of a side."""
        found = []
        for image in images:
            places = [(face.box, _crop(face, upright=False)) for face in self._analyser.analyse(image)]
            own = (cut_crop(image, place.wider(self.size, self.above), size) for _, place in places)
            found.append([Look(box, place, shown) for (box, place), shown in zip(places, own, strict=True)])
            extent = image.shape[1], image.shape[0]
        return Overview(found, extent)

    def wanted(self, overview: Overview, where: str) -> list[Look]:
        """The looks of the face.  Raises UserError where there is none."""
        found, extent = overview
        if self.which == "largest":
            faces = main_chain(found, extent)
        else:
            faces = [chosen(each, self.which, where, self.option) for each in found if self._has(each)]
        if not faces:  # say whether there is none, or not so many
            chosen(max(found, key=len), self.which, where, self.option)
        return faces

    def follow(self, frames: Iterator[media.Frame]) -> Iterator[tuple[media.Frame, Crop | None]]:
        """Every frame with a crop that follows its face smoothly; None while the face is not there."""
        follower = Follower()
        for frame in frames:
            faces, crop = self._analyser.analyse(frame.image), follower.crop
            is_there = bool(faces) if crop is not None else self._has(faces)
            if is_there:
                face = chosen(faces, self.which, "") if crop is None else _nearest(faces, crop)
                follower.move(_crop(face, upright=False).wider(self.size, self.above), frame.time)
            yield frame, follower.crop if is_there else None

    def shows_face(self, image: np.ndarray, crop: Crop, places: Sequence[Crop]) -> bool:
        """Whether a crop, uint8 ``[S, S, 3]``, shows the face that was in one of ``places``, and not just another's.

        Args:
            image: what ``crop`` shows, upright.
            places: of :meth:`looks`, of the picture that ``crop`` is of.
        """
        (found,) = self._analyser.detector.detect(to_tensor([image], self._analyser.device), longest=CLOSE)
        scale = crop.side / len(image)
        left, top = crop.x - crop.side / 2, crop.y - crop.side / 2
        seen = [points_crop(scale * points.cpu().numpy() + (left, top)) for points in found.points]
        return any(_is_near(face, place) for face in seen for place in places)

    def points(self, image: np.ndarray, before: Tensor | None) -> Tensor | None:
        """The mesh ``[1, 468, 3]`` of the wanted face of a frame; None where it is not there.

        It is looked for about its points in the frame ``before``, in a sixth of the time, and else in the whole frame.
        """
        if before is not None:
            again = self._analyser.again(image, before)
            if again is not None:
                return again
        faces = self._analyser.analyse(image)
        return chosen(faces, self.which, "").landmarks[None] if self._has(faces) else None

    def _has(self, faces: Sequence) -> bool:
        """Whether the wanted one can be among them."""
        return len(faces) >= (int(self.which) if self.which.isdigit() else 1)


class Pursuit:
    """The crop of a face in frames that come one by one and have to be drawn at once."""

    def __init__(self, framer: Framer):
        self._framer, self._follower = framer, Follower()
        self._points: Tensor | None = None

    def find(self, image: np.ndarray, time: float) -> Crop | None:
        """The crop in a frame, uint8 ``[H, W, 3]``, of a ``time`` in seconds, moved smoothly; None without the face."""
        self._points = self._framer.points(image, self._points)
        if self._points is None:
            return None
        face = face_crop(landmarks68(self._points)[0, :, :2].cpu().numpy(), upright=False)
        return self._follower.move(face.wider(self._framer.size, self._framer.above), time)


def _crop(face: Face, upright: bool) -> Crop:
    return face_crop(face.landmarks68.cpu().numpy(), upright)


def _is_near(face: Crop, place: Crop) -> bool:
    """Whether a face may be the one that was in ``place``: next to it, and of about its size."""
    is_alike = 1 / SIMILAR < face.side / place.side < SIMILAR
    return is_alike and math.hypot(face.x - place.x, face.y - place.y) < NEAR * place.side


def _nearest(faces: list[Face], crop: Crop) -> Face:
    """The face that goes on in a crop's place: who it is counted as may change from frame to frame."""

    def distance(face: Face) -> float:
        x, y = face.box.centre
        return (x - crop.x) ** 2 + (y - crop.y) ** 2

    return min(faces, key=distance)
