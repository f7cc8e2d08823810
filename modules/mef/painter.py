"""SFSR: a face in a given picture becomes another person's, shows another expression, or both, in one pass.

Pose, light and background are the picture's: the pose by its own z_pose, the others by what the base sees around the
oval that it paints anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..errors import UserError
from ..faces.blend import RegionBlender
from ..faces.close_crop import Crop, cut_crop
from ..faces.framer import Framer
from ..faces.paste import Paster
from ..faces.region import Region, face_region
from ..media.tensors import to_tensor
from .base import check_steps, is_inpainting, is_xl, quiet, set_scheduler
from .inference import sampling, steps_told
from .inpainting import background
from .options import PortraitOptions
from .pipeline import DeepExprPipeline


class Place(NamedTuple):
    """A face in a picture.

    Attributes:
        picture: uint8 ``[H, W, 3]``.
        crop: the square around the face that is shown to the base.
        region: the oval that is painted anew, in the picture.
    """

    picture: np.ndarray
    crop: Crop
    region: Region

    def shown(self, size: int) -> np.ndarray:
        """What the crop shows, uint8 ``[size, size, 3]``."""
        return cut_crop(self.picture, self.crop, size)

    def pasted(self, painted: np.ndarray, device: torch.device) -> np.ndarray:
        """The picture with ``painted``, uint8 ``[S, S, 3]``, in the oval; what is outside stays, bit for bit."""
        own = self.shown(max(len(painted), round(self.crop.side)))
        blender = RegionBlender(own, self.region.within(self.crop, 1), device)
        return Paster(self.picture, self.crop, own, device, blender).paste(painted)


class FacePainter:
    """Paints faces into pictures with a base in its inpainting form.

    Raises:
        UserError: the pipeline is of another form, or its SID does not say how closely it sees faces.
    """

    def __init__(self, pipeline: DeepExprPipeline, options: PortraitOptions):
        base, embedder = pipeline.base, pipeline.embedder
        if not is_inpainting(base):
            where = pipeline.base_params.path
            raise UserError(f"{where}: its UNet reads no background; --target_image needs a base for inpainting")
        if embedder is None or embedder.sid.framing is None:
            raise UserError("--target_image needs adapters with a SID that has framing_params")
        self.pipeline, self.options, self.embedder = pipeline, options, embedder
        self.framing = embedder.sid.framing
        self.size = base.unet.config.sample_size * base.vae_scale_factor
        if options.scheduler is not None:
            set_scheduler(base, options.scheduler)
        check_steps(base, options.steps)

    def place(self, picture: np.ndarray, where: str, face: str = "largest") -> Place:
        """Where a face of a uint8 picture ``[H, W, 3]`` is; ``face`` as :func:`.faces.framer.chosen` takes it.

        Raises:
            UserError: there is no such face in the picture (``where``), or it is not whole.
        """
        framer = Framer(self.framing.size, self.framing.above, face, self.pipeline.base.device.type == "cpu")
        landmarks = framer.landmarks(picture, where)
        region, crop = face_region(landmarks), framer.crop_of(landmarks, self.framing.upright)
        if not region.is_inside(picture):
            raise UserError(f"{where}: the face is at the picture's edge; give a picture with some room around it")
        height, width = picture.shape[:2]
        if height == width and crop.is_whole(picture):
            crop = Crop(width / 2, height / 2, width)  # a close portrait: cut again it would only be blurred
        return Place(picture, crop, region)

    @torch.no_grad()
    def paint(
        self,
        place: Place,
        identity: Tensor | None = None,
        expression: Tensor | None = None,
        sees: bool = True,
        scales: tuple[float, float] | None = None,
        progress: bool = False,
    ) -> list[np.ndarray]:
        """``num_images`` squares, uint8 ``[size, size, 3]``: what the place's crop shows, its oval painted anew.

        Args:
            identity, expression: embeddings ``[1, width]``; None: as the face in the picture has it.
            sees: the base is given what is around the oval; else all of the square is painted.
            scales: strengths of the adapters of identity and expression; None: as the options say.
            progress: show how many steps are done.
        """
        shown = place.shown(self.size)
        own = self._own(shown)
        expression = own[1] if expression is None else self.embedder.joined(expression, own[1])
        mask = place.region.within(place.crop, self.size).mask(self.size, self.size)
        given = background(to_tensor([shown]), mask[None] if sees else torch.ones(1, 1, self.size, self.size))
        return self._drawn(given, own[0] if identity is None else identity, expression, scales, progress)

    def draw(self) -> list[np.ndarray]:
        """``num_images`` squares of what the prompt says, with nobody's face in particular."""
        nothing = torch.zeros(1, 3, self.size, self.size)
        return self._drawn(background(nothing, torch.ones_like(nothing[:, :1])))

    def _own(self, shown: np.ndarray) -> tuple[Tensor, Tensor]:
        """Identity and expression of a face that is cut out already."""
        embedded = self.embedder.of_crops([shown], ["--target_image"])
        return embedded["identity"].cpu(), embedded["expression"].cpu()

    def _drawn(
        self,
        given: dict[str, Any],
        identity: Tensor | None = None,
        expression: Tensor | None = None,
        scales: tuple[float, float] | None = None,
        progress: bool = False,
    ) -> list[np.ndarray]:
        options = self.options
        drawn = sampling(options)
        if scales is not None:
            drawn["identity_scale"], drawn["expression_scale"] = scales
        text = {"prompt": options.prompt} if options.prompt else no_words(self.pipeline.base)
        with quiet(), steps_told(options.steps, progress) as told:  # too long a prompt has been told of
            result = self.pipeline(
                **text,
                **given,
                identity_embedding=identity,
                expression_embedding=expression,
                height=self.size,
                width=self.size,
                **drawn,
                **told,
            )
        return [np.asarray(image.convert("RGB")) for image in result.images]


def no_words(base: Any) -> dict[str, Tensor]:
    """Options of a pipeline in place of a prompt: what training gives where text is left out."""
    states = base.encode_prompt("", device=base.device, num_images_per_prompt=1, do_classifier_free_guidance=True)
    return {"prompt_embeds": states[1]} | ({"pooled_prompt_embeds": states[3]} if is_xl(base) else {})


def side_by_side(size: int, *pictures: np.ndarray) -> np.ndarray:
    """Pictures of any sizes in a row of squares, uint8 ``[size, n size, 3]``."""
    return np.concatenate([media.fit(picture, size, size) for picture in pictures], axis=1)
