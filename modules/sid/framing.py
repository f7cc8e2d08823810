"""How files become frames of a model's size, and results pictures again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import faces, media
from ..arguments import listed
from ..config.sid import FramingParams
from ..devices import best_device
from ..faces.close_crop import Crop, cut_crop
from ..faces.framer import Framer
from ..faces.paste import Paster
from ..mark import Marking
from .drivers import Each, Paths
from .frames import is_close
from .options import is_motion
from .videos import DrivingVideo, Faceless, FaceVideo, Fit, Source, SourceVideo, cut_large


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
        marking: the marks of results; None: they have none.
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
    marking: Marking | None = None

    @property
    def is_close(self) -> bool:
        return is_close(self.params, self.crop)

    @property
    def _source_framer(self) -> Framer:
        return Framer(self.params.size, self.params.above, self.face, self.cpu)

    @property
    def framer(self) -> Framer:
        """Finds the faces of drivers."""
        return Framer(self.params.size, self.params.above, self.driver_face, self.cpu, "--driver_face")

    def source(self, path: str | Path) -> Source:
        """The source picture at ``path``.  Raises UserError where its face is wanted and not found."""
        picture = media.read_image(path)
        if not self.is_close:
            return Source(self._fitted(picture, str(path)), picture)
        picture = self._limited(picture)
        crop = self._source_framer.picture(picture, str(path), self.params.upright)
        return self._cut(picture, crop)

    def source_video(self, path: str | Path) -> SourceVideo:
        """The source video at ``path``, with a close crop.  Raises UserError where its face is not found."""
        seen = FaceVideo(path, self._source_framer, self.size[0], self.track, self.faceless)
        return SourceVideo(self.size[0], seen, self.paste_back is not False, self._limited)

    def finisher(self, source: Source) -> Fit:
        """The function that makes of an animator's result what is written."""
        if not source.has_face:
            return lambda result: source.image if self.paste_back is False else source.picture
        if source.large is None or source.crop is None:
            return lambda result: result
        return Paster(source.picture, source.crop, source.large, best_device(self.cpu)).paste

    def image(self, path: str | Path) -> np.ndarray:
        """The driving picture at ``path``, cropped and resized: uint8 ``[h, w, 3]``."""
        image = media.read_image(path)
        if self.is_close:
            return cut_crop(image, self.framer.picture(image, str(path), upright=False), self.size[0])
        return self._fitted(image, str(path))

    def video(self, path: str | Path) -> DrivingVideo:
        """The driving video at ``path``.  Raises UserError where its face is wanted and not found."""
        if self.is_close:
            seen = FaceVideo(path, self.framer, self.size[0], self.track, self.faceless)
            return DrivingVideo(path, self.size, seen, lambda image: image)
        if not self.crop:
            return DrivingVideo(path, self.size, None, lambda image: media.fit(image, *self.size))
        box = faces.in_shape(faces.video_box(path, faces.load_detector(self.detector, self.cpu)), self.size)
        return DrivingVideo(path, self.size, None, lambda image: media.fit(faces.cut(image, box), *self.size))

    def driver(self, path: str | Path) -> np.ndarray | DrivingVideo:
        """The driving picture or video at ``path``."""
        return self.image(path) if media.is_image(path) else self.video(path)

    def shown(self, source: Source, driver: Any, result: np.ndarray) -> np.ndarray:
        """A result as it is written, uint8: ``result`` alone, or source, driver and result side by side.

        ``driver`` is a picture, :class:`.drivers.Each` of several, or nothing that can be shown.
        """
        picture = self._beside(source, driver, result)
        return picture if self.marking is None else self.marking.put(picture)

    @property
    def xmp(self) -> str | None:
        """The metadata of results."""
        return None if self.marking is None else self.marking.packet

    def blank(self, paths: Paths) -> Each:
        """What has the size of the driver at a path, or of several, where it is shown."""
        return Each(np.zeros((*self.size, 3), np.uint8) for path in listed(paths) if not is_motion(path))

    def _beside(self, source: Source, driver: Any, result: np.ndarray) -> np.ndarray:
        if not self.side_by_side:
            return result
        height = len(result)
        first = source.image if source.large is None else source.picture
        pictures = [each for each in (driver if isinstance(driver, Each) else [driver]) if isinstance(each, np.ndarray)]
        drivers = [
            media.resize(picture, height, round(height * picture.shape[1] / len(picture))) for picture in pictures
        ]
        return np.concatenate([first, *drivers, result], axis=1)

    def _cut(self, picture: np.ndarray, crop: Crop) -> Source:
        large = None if self.paste_back is False else cut_large(picture, crop, self.size[0])
        return Source(cut_crop(picture, crop, self.size[0]), picture, crop, large)

    def _fitted(self, image: np.ndarray, where: str) -> np.ndarray:
        if self.crop:
            image = faces.crop_image(image, faces.load_detector(self.detector, self.cpu), where, self.size)
        return media.fit(image, *self.size)

    def _limited(self, picture: np.ndarray) -> np.ndarray:
        """A source picture as large as it comes back."""
        longest = max(picture.shape[:2])
        if self.result_size is None or longest <= self.result_size:
            return picture
        height, width = (max(2, round(n * self.result_size / longest)) for n in picture.shape[:2])
        return media.resize(picture, height, width)
