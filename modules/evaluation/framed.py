"""Test clips as a model's frames are: cut out close where they have not been yet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .. import media
from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.clips import Clip, UnreadableClip
from ..errors import UserError
from ..faces.close_crop import cut_crop
from ..faces.framer import Framer


def frames_throughout(clip: Clip) -> Iterator[np.ndarray]:
    """A few frames of a clip, evenly spread, in which animators look for the face at rest."""
    duration = float(clip.times[-1] + 1 / clip.frame_rate)
    return (clip.read([index])[0] for index in media.throughout(len(clip), duration))


class ClipFraming:
    """Clips -> the same clips, framed as the configuration's ``framing_params`` say.

    A video has one square for all of its frames, as a driver of Inference.py, and each photograph its own, as a source.

    Args:
        crop: cut all of them out; False: none; None: those that are not cut out close already
            (:meth:`.close_crop.Crop.is_whole`), where there are ``framing_params``.

    Raises:
        UserError: ``crop`` without ``framing_params``.
    """

    def __init__(self, config: Config | RiggedConfig, crop: bool | None = None, cpu: bool = False) -> None:
        params = config.framing_params
        if crop and params is None:
            raise UserError("--crop needs a configuration with framing_params; crop-video.py cuts clips out for others")
        self.crop, self.size, self.params = crop, config.dataset_params.frame_shape[0], params
        self._framer = None
        if params is not None and crop is not False:
            self._framer = Framer(params.size, params.above, cpu=cpu)
        self._known: dict[Clip, Clip] = {}

    def __call__(self, clip: Clip) -> Clip:
        """The same object for the same clip.  Raises UnreadableClip; with ``crop`` also where there is no face."""
        if self._framer is None:
            return clip
        if clip not in self._known:
            self._known[clip] = self._photographs(clip) if clip.is_photos else self._moving(clip)
        return self._known[clip]

    def _moving(self, clip: Clip) -> Clip:
        whole = replace(clip, fit=lambda image: image)
        first = whole.read([0])[0]
        try:
            place = self._framer.steady(frames_throughout(whole), str(clip.path))
        except UnreadableClip:
            raise
        except UserError as error:
            self._faceless(error)
            return clip
        if self.crop is None and place.is_whole(first):
            return clip
        return replace(clip, fit=lambda image: cut_crop(image, place, self.size))

    def _photographs(self, clip: Clip) -> Clip:
        def fit(image: np.ndarray) -> np.ndarray:
            try:
                place = self._framer.picture(image, clip.name, self.params.upright)
            except UserError as error:
                self._faceless(error)
                return media.fit(image, self.size, self.size)
            if self.crop is None and place.is_whole(image):
                return media.fit(image, self.size, self.size)
            return cut_crop(image, place, self.size)

        return replace(clip, fit=fit)

    def _faceless(self, error: UserError) -> None:
        """Without a face nothing tells whether a clip has been cut out: it is taken as it is, unless ``crop``."""
        if self.crop:
            raise UnreadableClip(str(error)) from error
        print(f"{error}; taken as it is", file=sys.stderr)
