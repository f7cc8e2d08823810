"""How files become frames of a model's size, and results pictures again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .. import faces, media
from ..config.sid import FramingParams
from ..errors import UserError
from ..faces.close_crop import Crop, cut_crop
from ..faces.crops import no_face
from ..faces.framer import Framer
from ..faces.paste import Paster

Fit = Callable[[np.ndarray], np.ndarray]
Frames = Iterator[media.Frame]
Cut = Iterator[tuple[media.Frame, np.ndarray | None]]
Faceless = Literal["keep", "skip"]
LARGEST = 1536  # pixels of a side of a crop's detail: what is pasted back is enlarged beyond


@dataclass(frozen=True)
class Source:
    """A source picture, as the model sees it and as it comes back.

    Attributes:
        image: at the model's size, uint8 ``[h, w, 3]``.
        picture: all of it, uint8 ``[H, W, 3]``.
        crop: where ``image`` lies in it; None if that is no close crop.
        large: the same crop at the picture's resolution; None where nothing is pasted back.
    """

    image: np.ndarray
    picture: np.ndarray
    crop: Crop | None = None
    large: np.ndarray | None = None

    def finisher(self) -> Fit:
        """The function that makes of an animator's result what is written."""
        if self.large is None or self.crop is None:
            return lambda result: result
        height, width = self.picture.shape[:2]
        paster = Paster((width, height), self.crop, len(self.large))
        return lambda result: paster.paste(self.picture, result)


@dataclass(frozen=True)
class Framing:
    """What is cut out of pictures and videos for a model.

    Attributes:
        size: height and width of the model's frames.
        crop: find the face and cut it out, instead of the picture's centre; None: where ``params`` are there.
        detector: of crops without ``params``, in the way of FOMM's data sets: auto, retinaface, face-alignment.
        side_by_side: results show source, driver and result.
        cpu: keep the face networks off the GPU.
        params: the model's own framing, by landmarks.
        face: which of several in the source, as :func:`.faces.framer.chosen` takes it.
        driver_face: which of several in the drivers.
        paste_back: put results back into the source picture; None: where there is a close crop.
        track: a driving video's crop follows the face, instead of resting where it holds all of its movement.
        faceless: frames of a driving video without a face show the face before ("keep") or are left out ("skip").
        result_size: longest side of a source picture that is pasted back into, in pixels; larger ones are made smaller.
    """

    size: tuple[int, int]
    crop: bool | None = None
    detector: str = "auto"
    side_by_side: bool = False
    cpu: bool = False
    params: FramingParams | None = None
    face: str = "largest"
    driver_face: str = "largest"
    paste_back: bool | None = None
    track: bool = False
    faceless: Faceless = "keep"
    result_size: int | None = None

    @property
    def is_close(self) -> bool:
        return self.params is not None and self.crop is not False

    @property
    def framer(self) -> Framer:
        """Finds the faces of drivers."""
        return Framer(self.params.size, self.params.above, self.driver_face, self.cpu, "--driver_face")

    def source(self, path: str | Path) -> Source:
        """The source picture at ``path``.  Raises UserError where its face is wanted and not found."""
        picture = media.read_image(path)
        if not self.is_close:
            return Source(self._fitted(picture, str(path)), picture)
        longest = max(picture.shape[:2])
        if self.result_size is not None and longest > self.result_size:
            height, width = (max(2, round(n * self.result_size / longest)) for n in picture.shape[:2])
            picture = media.resize(picture, height, width)
        framer = Framer(self.params.size, self.params.above, self.face, self.cpu)
        crop = framer.picture(picture, str(path), self.params.upright)
        large = None
        if self.paste_back is not False:
            large = cut_crop(picture, crop, max(self.size[0], min(LARGEST, round(crop.side))))
        return Source(cut_crop(picture, crop, self.size[0]), picture, crop, large)

    def image(self, path: str | Path) -> np.ndarray:
        """The driving picture at ``path``, cropped and resized: uint8 ``[h, w, 3]``."""
        image = media.read_image(path)
        if self.is_close:
            return cut_crop(image, self.framer.picture(image, str(path), upright=False), self.size[0])
        return self._fitted(image, str(path))

    def video(self, path: str | Path) -> DrivingVideo:
        """The driving video at ``path``.  Raises UserError where its face is wanted and not found."""
        if self.is_close:
            return DrivingVideo(path, self)
        if not self.crop:
            return DrivingVideo(path, self, lambda image: media.fit(image, *self.size))
        box = faces.in_shape(faces.video_box(path, faces.load_detector(self.detector, self.cpu)), self.size)
        return DrivingVideo(path, self, lambda image: media.fit(faces.cut(image, box), *self.size))

    def driver(self, path: str | Path) -> np.ndarray | DrivingVideo:
        """The driving picture or video at ``path``."""
        return self.image(path) if media.is_image(path) else self.video(path)

    def shown(self, source: Source, driver: np.ndarray, result: np.ndarray) -> np.ndarray:
        """A result as it is written, uint8: ``result`` alone, or source, driver and result in the height of results."""
        if not self.side_by_side:
            return result
        height = len(result)
        first = source.image if source.large is None else source.picture
        driver = media.resize(driver, height, round(height * driver.shape[1] / len(driver)))
        return np.concatenate([first, driver, result], axis=1)

    def _fitted(self, image: np.ndarray, where: str) -> np.ndarray:
        if self.crop:
            image = faces.crop_image(image, faces.load_detector(self.detector, self.cpu), where, self.size)
        return media.fit(image, *self.size)


class DrivingVideo:
    """The frames of a video as a model sees them, streamed, as often as they are asked for.

    Args:
        fit: makes a frame of the model's size of one; None: a close crop is cut out, and frames without a face in it
            are held over or skipped.

    Attributes:
        faceless: how many frames showed no face the last time, so far.
    """

    def __init__(self, path: str | Path, framing: Framing, fit: Fit | None = None):
        self.path, self.framing, self._fit = path, framing, fit
        self.info = media.probe_video(path)
        self.faceless = 0
        self._place = framing.framer.video(path) if fit is None and not framing.track else None

    def frames(self, progress: Callable[[Frames], Frames] = iter) -> Frames:
        """Every frame, with its time, but for those that are skipped, whose time is left out.

        Args:
            progress: wraps the frames of the file, e.g. to show a bar.

        Raises:
            UserError: no frame shows a face.
        """
        self.faceless = 0
        frames = progress(media.read_video(self.path))
        if self._fit is not None:
            return (media.Frame(self._fit(frame.image), frame.time) for frame in frames)
        return (self._held if self.framing.faceless == "keep" else self._closed_up)(self._cut(frames))

    def some(self) -> Iterator[np.ndarray]:
        """A few frames, evenly spread over the video, that show the face."""
        framer, size = self.framing.framer, self.framing.size[0]
        for image in media.frames_throughout(self.path):
            if self._fit is not None:
                yield self._fit(image)
            elif self._place is not None:
                yield cut_crop(image, self._place, size)
            elif (place := framer.find(image)) is not None:
                yield cut_crop(image, place, size)

    def _cut(self, frames: Frames) -> Cut:
        """Frames, and what is cut out of each; None where no face is in it."""
        framer, size = self.framing.framer, self.framing.size[0]
        places = framer.follow(frames) if self._place is None else ((frame, self._place) for frame in frames)
        for frame, place in places:
            image = None if place is None else cut_crop(frame.image, place, size)
            if self._place is not None and not framer.shows_face(image):
                image = None
            self.faceless += image is None
            yield frame, image

    def _held(self, frames: Cut) -> Frames:
        """A frame without a face shows the one before; what comes before the first face shows that."""
        shown: np.ndarray | None = None
        waiting: list[float] = []  # times before the first face
        for frame, image in frames:
            shown = shown if image is None else image
            waiting.append(frame.time)
            if shown is not None:
                yield from (media.Frame(shown, time) for time in waiting)
                waiting = []
        if shown is None:
            raise self._no_face()

    def _closed_up(self, frames: Cut) -> Frames:
        """Frames without a face are left out, and so is the time that each is shown."""
        lost = before = 0.0
        was_there, any_face = True, False
        for frame, image in frames:
            lost += 0.0 if was_there else frame.time - before
            before, was_there = frame.time, image is not None
            if image is not None:
                any_face = True
                yield media.Frame(image, frame.time - lost)
        if not any_face:
            raise self._no_face()

    def _no_face(self) -> UserError:
        """Why no frame has shown the wanted face: there is none, or there are not so many."""
        try:
            self.framing.framer.video(self.path)
        except UserError as error:
            return error
        return no_face(self.path)
