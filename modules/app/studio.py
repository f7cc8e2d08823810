"""What the page does, by the functions that the command line calls; models are loaded once and kept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import media
from ..arguments import listed
from ..bundled import BUNDLED, BUNDLED_MEF, bundled
from ..config.files import load_animation_config
from ..devices import best_device
from ..errors import UserError
from ..faces.framer import Framer, across
from ..mark.marking import Watermark, of_drawing, of_photograph
from ..mef.options import PortraitOptions, check_prompt
from ..mef.target import BUNDLED as BUNDLED_PAINTER
from ..mef.target import Given, paint_files
from ..sid import inference, named
from ..sid.drivers import Paths
from ..sid.frames import MESH_FRAMING, POINT_FRAMES, frame_size
from ..sid.framing import Framing
from ..sid.group import framing_for, together
from ..sid.group_options import check_relative, names_several
from ..sid.motion_options import MotionOptions

if TYPE_CHECKING:
    from ..mef.pipeline import DeepExprPipeline

Way = Literal["model", "mesh"]
THUMBNAIL, THUMBNAIL_SIZE = 128, 2.3  # of a face that is to be chosen: pixels of a side, in faces from brows to chin
WATERMARK: Watermark = "invisible"  # as the command line's own choice


@dataclass(frozen=True)
class Look:
    """How an animated photograph is made and shown.

    Attributes:
        way: by the bundled model, or by a head fitted to the photograph.
        face: which of several in the photograph: largest, left, right, a number from the left, or all.
        beside: photograph and driver are shown beside the result.
    """

    way: Way = "model"
    face: str = "largest"
    beside: bool = False


class Studio:
    """Photographs and drivers in, files of results out.

    Args:
        cpu: do not use a GPU.
    """

    def __init__(self, cpu: bool = False):
        self.cpu = cpu

    @cached_property
    def _config(self) -> Any:
        return load_animation_config(bundled(BUNDLED["config"]))

    @cached_property
    def _model(self) -> inference.Moves:
        return inference.prepare(self._config, bundled(BUNDLED["checkpoint"]), best_device(self.cpu), "auto")

    @cached_property
    def _pipeline(self) -> DeepExprPipeline:
        from ..mef import inference as portraits  # diffusers takes seconds, which who animates should not wait for

        adapters, base = (str(bundled(BUNDLED_MEF[name])) for name in ("checkpoint", "base"))
        return portraits.load_pipeline(adapters, base, cpu=self.cpu)

    @cached_property
    def _painting_pipeline(self) -> DeepExprPipeline:
        from ..mef import inference as portraits

        return portraits.load_pipeline(str(bundled(BUNDLED_PAINTER)), cpu=self.cpu)

    def faces(self, photo: str) -> tuple[list[np.ndarray], int]:
        """The faces of a photograph from left to right, uint8 ``[THUMBNAIL, THUMBNAIL, 3]``, and which one is largest.

        Raises:
            UserError: the photograph cannot be read.
        """
        framer = Framer(THUMBNAIL_SIZE, cpu=self.cpu)
        (found,) = framer.overview([media.read_image(photo)], THUMBNAIL).faces
        main = [look is found[0] for look in across(found)]
        return [look.image for look in across(found)], main.index(True) if main else 0

    def _animated(
        self, options: MotionOptions, look: Look, driver: Paths | None = None
    ) -> tuple[inference.Animated, Framing]:
        """What moves a photograph, and how it is framed."""
        weights = None
        moves: inference.Moves
        if look.way == "mesh":
            size, params = POINT_FRAMES, MESH_FRAMING
            moves = partial(inference.by_mesh, cpu=self.cpu)
        else:
            size, params = frame_size(self._config), self._config.framing_params
            moves, weights = self._model, bundled(BUNDLED["checkpoint"])
        if names_several(look.face):
            moves = together(moves)
        marking = of_photograph(WATERMARK, weights)
        shown = {"side_by_side": look.beside, "face": look.face, "marking": marking}
        return moves(options), framing_for(look.face, driver)(size, params=params, cpu=self.cpu, **shown)

    def animate(self, photo: str, driver: Paths, folder: Path, options: MotionOptions, look: Look) -> Path:
        """The photograph moved by a video, as a video, or with the face of a picture, as a picture.

        With several drivers, one for each face, it is a picture where all of them are.
        """
        is_still = all(map(media.is_image, listed(driver)))
        if options.relative:
            check_relative(listed(driver))
        animated, framing = self._animated(replace(options, relative=options.relative and not is_still), look, driver)
        if is_still:
            result = folder / "animated.png"
            inference.animate_image(animated, photo, driver, str(result), framing)
        else:
            result = folder / "animated.mp4"
            inference.animate_video(animated, photo, driver, str(result), framing)
        return result

    def express(
        self, photo: str, words: str, folder: Path, options: MotionOptions, look: Look, seconds: float | None
    ) -> Path:
        """The photograph with an expression by name: a picture, or a clip of so many ``seconds``, there and back."""
        animated, framing = self._animated(options, look)
        if seconds is None:
            result = folder / f"{words}.png"
            named.show_image(animated, photo, words, str(result), framing)
        else:
            result = folder / f"{words}.mp4"
            named.show_video(animated, photo, words, str(result), framing, seconds)
        return result

    def portray(
        self, photo: str | None, reference: str | None, word: str | None, folder: Path, options: PortraitOptions
    ) -> list[Path]:
        """Portraits of a prompt, with the person of a photograph and the expression of a picture or a word."""
        check_prompt(options.prompt)
        _check_one(reference, word)
        from ..mef import inference as portraits

        marking = of_drawing(WATERMARK, (bundled(path) for path in BUNDLED_MEF.values()))
        artist = portraits.Portraitist(self._pipeline, options, photo, marking)
        portraits.tell_unread(self._pipeline.base.tokenizer, options.prompt)
        embedder = self._pipeline.expression_embedder
        shown = None if word is None else portraits.named_expression(embedder, word)
        return portraits.draw_images(artist, reference, str(folder / "portrait.png"), shown)

    def swap(self, given: Given, face: str, folder: Path, options: PortraitOptions) -> list[Path]:
        """Pictures with another person in one of its faces, or another expression, or both."""
        if not (given.source or given.reference or given.expression):
            raise UserError("nothing is to be changed yet; give who goes into the picture, or an expression")
        _check_one(given.reference, given.expression)
        marking = of_photograph(WATERMARK, bundled(BUNDLED_PAINTER))
        return paint_files(self._painting_pipeline, options, given, face, str(folder / "swapped.png"), marking)


def _check_one(reference: str | None, word: str | None) -> None:
    if reference is not None and word is not None:
        raise UserError("the expression: there are a picture and a word; take one of the two away")
