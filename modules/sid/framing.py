"""How files become frames of a model's size, and results pictures again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from .. import faces, media
from ..config.sid import FramingParams
from ..errors import UserError
from ..faces.framer import Framer
from ..faces.framing import Crop, cut_crop
from ..faces.paste import Paster

Fit = Callable[[np.ndarray], np.ndarray]
Frames = Iterator[media.Frame]
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

    def shown(self, source: Source, driver: np.ndarray, result: np.ndarray) -> np.ndarray:
        """A result as it is written, uint8: ``result`` alone, or source, driver and result in the height of results."""
        if not self.side_by_side:
            return result
        height = len(result)
        first = source.image if source.large is None else source.picture
        return np.concatenate(
            [first, media.resize(driver, height, round(height * driver.shape[1] / len(driver))), result], 1
        )

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

    def frames(
        self, progress: Callable[[Iterator[media.Frame]], Iterator[media.Frame]] = iter
    ) -> Iterator[media.Frame]:
        """Every frame, with its time.

        Where frames are skipped, those after them close up.  What comes before the first face shows that face.

        Args:
            progress: wraps the frames of the file, e.g. to show a bar.

        Raises:
            UserError: no frame shows a face.
        """
        self.faceless = 0
        frames = progress(media.read_video(self.path))
        if self._fit is not None:
            for frame in frames:
                yield media.Frame(self._fit(frame.image), frame.time)
            return
        keep, shown, lost, before = self.framing.faceless == "keep", None, 0.0, 0.0
        waiting: list[float] = []  # times before the first face
        for frame, image in self._cut(frames):
            if image is None:
                self.faceless += 1
                lost += 0.0 if keep else frame.time - before
                if shown is None:
                    waiting.append(frame.time)
                elif keep:
                    yield media.Frame(shown, frame.time)
            else:
                shown = image
                if keep:
                    yield from (media.Frame(image, time) for time in waiting)
                elif waiting:
                    lost = frame.time
                waiting = []
                yield media.Frame(image, frame.time - lost)
            before = frame.time
        if shown is None:
            raise UserError(
                f"no face found in {self.path}: choose one with a clear face, or take it whole with --no-crop"
            )

    def some(self, count: int) -> Iterator[np.ndarray]:
        """Up to ``count`` frames, evenly spread over the video, that show the face."""
        step = max(1, -(-len(self.info.times) // count))
        return (frame.image for frame in itertools.islice(self.frames(), 0, None, step))

    def _cut(self, frames: Frames) -> Iterator[tuple[media.Frame, np.ndarray | None]]:
        """Frames, and what is cut out of each; None where no face is in it."""
        framer, size = self.framing.framer, self.framing.size[0]
        if self._place is None:
            for frame, crop in framer.follow(frames):
                yield frame, None if crop is None else cut_crop(frame.image, crop, size)
            return
        for frame in frames:
            image = cut_crop(frame.image, self._place, size)
            yield frame, image if framer.shows_face(image) else None
