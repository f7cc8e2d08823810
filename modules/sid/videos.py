"""Videos that a face is cut out of, frame by frame: drivers, and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import media
from ..errors import UserError
from ..faces.close_crop import Crop, cut_crop
from ..faces.crops import no_face
from ..faces.framer import Framer, Look, Overview

Fit = Callable[[np.ndarray], np.ndarray]
Frames = Iterator[media.Frame]
Faceless = Literal["keep", "skip"]
LARGEST = 1536  # pixels of a side of a crop's detail: what is pasted back is enlarged beyond


@dataclass(frozen=True)
class Source:
    """A source picture, or one frame of a source video, as the model sees it and as it comes back.

    Attributes:
        image: at the model's size, uint8 ``[h, w, 3]``.
        picture: all of it, uint8 ``[H, W, 3]``.
        crop: where ``image`` lies in it; None if that is no close crop.
        large: the same crop at the picture's resolution; None where nothing is pasted back.
        has_face: one without a face is not moved.
    """

    image: np.ndarray
    picture: np.ndarray
    crop: Crop | None = None
    large: np.ndarray | None = None
    has_face: bool = True

    @property
    def pictures(self) -> Any:
        """What an animator meets: at the model's size, and larger or None."""
        return self.image, self.large


def cut_large(picture: np.ndarray, crop: Crop, size: int) -> np.ndarray:
    """What ``crop`` shows of a picture at its own resolution, with ``size`` pixels of a side at least."""
    return cut_crop(picture, crop, max(size, min(LARGEST, round(crop.side))))


class Seen(NamedTuple):
    """One frame of a video, the crop that holds its face, what that shows, and whether the face is there."""

    frame: media.Frame
    crop: Crop
    image: np.ndarray
    has_face: bool


class FaceVideo:
    """A video and where its face is, streamed, as often as it is asked for.

    Args:
        framer: finds the face.
        size: pixels of a side of the crops.
        track: the crop follows the face, instead of resting where it holds all of its movement.
        faceless: frames without a face are kept, or skipped with the time that they are shown.
        overview: of the video, where it is known already.

    Attributes:
        info: what the video's index says.
        without: how many frames showed no face the last time, so far.

    Raises:
        UserError: no frame shows the face; if the crop is to follow it, when the frames have been read.
    """

    def __init__(
        self,
        path: str | Path,
        framer: Framer,
        size: int,
        track: bool = False,
        faceless: Faceless = "keep",
        overview: Overview | None = None,
    ):
        self.path, self.framer, self.size, self.faceless = path, framer, size, faceless
        self.info = media.probe_video(path)
        self.without, self._overview = 0, overview
        self._known = [] if track else [look.place for look in self.looks]
        self.place = None if track else framer.resting(self._known)

    @cached_property
    def looks(self) -> list[Look]:
        """The face in a few frames, evenly spread over the video."""
        overview = self._overview
        if overview is None:
            overview = self.framer.overview(media.frames_throughout(self.path, self.info), self.size)
        return self.framer.wanted(overview, str(self.path))

    def looked_at(self) -> Iterator[np.ndarray]:
        """The frames of :attr:`looks`, as :meth:`seen` shows them; around the face's own crop its edge goes on."""
        for look in self.looks:
            if self.place is None:
                yield look.image
                continue
            own = look.place.wider(self.framer.size, self.framer.above)
            scale, place = self.size / own.side, self.place
            left, top = own.x - own.side / 2, own.y - own.side / 2
            inside = Crop(scale * (place.x - left), scale * (place.y - top), scale * place.side)
            yield cut_crop(look.image, inside, self.size)

    def seen(self, frames: Frames) -> Iterator[Seen]:
        """The frames of the file, but for those that are skipped."""
        self.without, count, lost, before = 0, 0, 0.0, 0.0
        had_face = True
        for frame, found in self._places(frames):
            crop = found or _middle(frame.image)
            image = cut_crop(frame.image, crop, self.size)
            has_face = found is not None and (self.place is None or self.framer.shows_face(image, crop, self._known))
            count, self.without = count + 1, self.without + (not has_face)
            if self.faceless == "skip":
                lost += 0.0 if had_face else frame.time - before
                before, had_face = frame.time, has_face
                if not has_face:
                    continue
            yield Seen(media.Frame(frame.image, frame.time - lost), crop, image, has_face)
        if self.without == count:
            raise self._no_face()

    def _no_face(self) -> UserError:
        """Why no frame has shown the wanted face: there is none, or there are not so many."""
        try:
            self.framer.video(self.path)
        except UserError as error:
            return error
        return no_face(self.path)

    def _places(self, frames: Frames) -> Iterator[tuple[media.Frame, Crop | None]]:
        if self.place is None:
            return self.framer.follow(frames)
        return ((frame, self.place) for frame in frames)


def _middle(image: np.ndarray) -> Crop:
    height, width = image.shape[:2]
    return Crop(width / 2, height / 2, min(height, width))


class DrivingVideo:
    """The frames of a video as a model sees them, streamed, as often as they are asked for.

    Args:
        size: height and width of the model's frames.
        faces: where the face is cut out; None: frames are fitted.
        fit: makes a frame of the model's size of one.
    """

    def __init__(self, path: str | Path, size: tuple[int, int], faces: FaceVideo | None, fit: Fit):
        self.path, self.size, self.faces, self._fit = path, size[0], faces, fit
        self.info = media.probe_video(path) if faces is None else faces.info

    @property
    def faceless(self) -> int:
        """How many frames showed no face the last time, so far."""
        return 0 if self.faces is None else self.faces.without

    def frames(self, progress: Callable[[Frames], Frames] = iter) -> Frames:
        """Every frame, with its time, but for those that are skipped, whose time is left out.

        A frame without a face shows the one before; what comes before the first face shows that.

        Args:
            progress: wraps the frames of the file, e.g. to show a bar.

        Raises:
            UserError: no frame shows a face.
        """
        frames = progress(media.read_video(self.path))
        if self.faces is None:
            yield from (media.Frame(self._fit(frame.image), frame.time) for frame in frames)
            return
        shown: np.ndarray | None = None
        waiting: list[float] = []  # times before the first face
        for frame, _, image, has_face in self.faces.seen(frames):
            shown = image if has_face else shown
            waiting.append(frame.time)
            if shown is not None:
                yield from (media.Frame(shown, time) for time in waiting)
                waiting = []

    def some(self) -> Iterator[np.ndarray]:
        """A few frames, evenly spread over the video, that show the face."""
        if self.faces is None:
            yield from (self._fit(image) for image in media.frames_throughout(self.path, self.info))
        else:
            yield from self.faces.looked_at()


class SourceVideo:
    """A video of the person who is to be moved, streamed.

    Args:
        size: of a side of the model's frames.
        faces: where the face is.
        has_large: results are pasted back.
        limited: makes a frame as large as results are to be.
    """

    def __init__(self, size: int, faces: FaceVideo, has_large: bool, limited: Fit):
        self.size, self.faces, self._has_large, self._limited = size, faces, has_large, limited
        self.info = faces.info

    @property
    def without(self) -> int:
        """How many frames showed no face the last time, so far."""
        return self.faces.without

    def first(self) -> Source:
        """The first frame that shows the face.  Raises UserError where none does."""
        return next(shown for shown, _ in self.sources() if shown.has_face)

    def sources(self, frames: Frames | None = None) -> Iterator[tuple[Source, float]]:
        """Every frame with the time at which it is shown, but for those that are skipped.

        Args:
            frames: the file's, if they are read already.

        Raises:
            UserError: no frame shows a face.
        """
        frames = media.read_video(self.faces.path) if frames is None else frames
        for frame, crop, image, has_face in self.faces.seen(frames):
            picture = self._limited(frame.image)
            scale = len(picture) / len(frame.image)
            crop = Crop(scale * crop.x, scale * crop.y, scale * crop.side, crop.angle)
            large = cut_large(picture, crop, self.size) if self._has_large else None
            yield Source(image, picture, crop, large, has_face), frame.time
