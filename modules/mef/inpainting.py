"""SFSR's base: Stable Diffusion in its inpainting form, and adapters with which its UNet learns as well.

The UNet reads, channel by channel, the noisy latent, the mask (1 where it paints) and the latent of the picture with
the masked part in grey: Stable Diffusion's own inpainting form, 4 + 1 + 4 channels.  DiffSFSR (CVPR 2024) gives the
background's latent during training, so that capacity goes to the face; how, is not public, and this is our reading.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from torch import Tensor, nn

from ..config.mef import BaseParams, InpaintParams
from ..errors import UserError
from ..faces.analysis import load_analyser
from ..faces.framer import CLOSE
from ..faces.region import face_region
from ..media.tensors import to_tensor
from .adapters import Adapters
from .base import Base, InpaintingBase, is_inpainting, is_xl, quiet
from .small_base.folder import VAE, save

UNET = "unet"  # entry of checkpoints: the weights of a UNet that has learnt
BASE = "base"  # folder beside adapters, of a base whose UNet has learnt with them
ADAPTER_PARTS = "encoder_hid_proj.", ".processor."  # of a UNet's tensors: those that belong to adapters


def in_form(base: Base, params: InpaintParams | None, where: str) -> Base:
    """A base in the form that ``model_params.inpaint_params`` asks for.

    Raises:
        UserError: it is of the other form, and is not to learn this one.
    """
    if params is None and is_inpainting(base):
        raise UserError(f"{where}: is a base for inpainting; set model_params.inpaint_params, or take another")
    if params is None or is_inpainting(base):
        return base
    if not params.train_base:
        raise UserError(
            f"{where}: its UNet reads no background; take a base for inpainting, or set inpaint_params.train_base"
        )
    return extended(base)


def extended(base: Base) -> InpaintingBase:
    """The inpainting form of a base for text: further channels of its first layer begin at zero.

    So at first it draws what it drew, whatever mask and background say.
    """
    unet, first, latent = base.unet, base.unet.conv_in, base.vae.config.latent_channels
    count = 2 * latent + 1
    wider = nn.Conv2d(count, first.out_channels, first.kernel_size, first.stride, first.padding).to(first.weight)
    with torch.no_grad():
        wider.weight.zero_()
        wider.weight[:, :latent] = first.weight
        wider.bias.copy_(first.bias)
    unet.conv_in = wider
    unet.register_to_config(in_channels=count)
    with quiet():
        pipeline = _pipeline(base, **base.components)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _pipeline(base: Base, **parts: Any) -> InpaintingBase:
    if is_xl(base):
        return StableDiffusionXLInpaintPipeline(**parts)
    return StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)


def save_base(base: InpaintingBase, unet: UNet2DConditionModel, folder: Path) -> BaseParams:
    """Write the base with this UNet, less its adapters, in half precision: stock diffusers pipelines load the folder.

    Returns where it is.
    """
    plain = UNet2DConditionModel.from_config({**unet.config, "encoder_hid_dim_type": None})
    plain.load_state_dict(own_weights(unet))
    parts = {name: copy.deepcopy(part) for name, part in base.components.items() if name != UNET}
    plain.register_to_config(_name_or_path=UNET)  # a base says nothing of where it was made
    parts[VAE].register_to_config(_name_or_path=VAE)
    with quiet():
        save(_pipeline(base, unet=plain, **parts), folder)
    return BaseParams(path=str(folder))


def own_weights(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """A UNet's tensors without those of adapters in it."""
    return {name: value for name, value in unet.state_dict().items() if not any(part in name for part in ADAPTER_PARTS)}


class BaseAndAdapters(Adapters):
    """Adapters and the UNet that they are in, which learns as well; float32."""

    def __init__(self, unet: UNet2DConditionModel):
        super().__init__(unet)
        self.unet = unet

    def trainable(self) -> list[nn.Parameter]:
        super().trainable()
        own = own_weights(self.unet)
        for name, parameter in self.unet.named_parameters():
            if name in own:
                parameter.requires_grad_(True)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def state(self) -> dict[str, dict[str, dict[str, Tensor]]]:
        return {**super().state(), UNET: {"weights": own_weights(self.unet)}}

    def load(self, entries: dict[str, Any], where: str) -> None:
        """What :meth:`state` gave; adapters alone leave the UNet as it is."""
        entries = {UNET: self.state()[UNET], **entries}
        super().load(entries, where)
        self.unet.load_state_dict(entries[UNET]["weights"], strict=False)

    def save(self, folder: Path) -> dict[str, Any]:
        """The adapters' files; the UNet goes into a folder of its base (:func:`save_base`)."""
        return self._save(super().state(), folder)


def face_mask(picture: np.ndarray, where: str, device: torch.device) -> Tensor:
    """The oval of the main face of a uint8 picture ``[H, W, 3]`` that is close already: ``[1, H, W]``, 0 or 1.

    Raises:
        UserError: no face is found.
    """
    pixels = to_tensor([picture], device)
    (found,) = load_analyser(device)(pixels, longest=CLOSE)
    if not found:
        raise UserError(f"no face found in {where}: the part to paint is found by it")
    return face_region(found[0].landmarks68.cpu().numpy()).mask(*picture.shape[:2]).to(device)


def hidden(pictures: Tensor, masks: Tensor) -> Tensor:
    """Pictures ``[B, 3, H, W]`` in [-1, 1], grey where the masks ``[B, 1, H, W]`` are 1: as diffusers hides them."""
    return pictures * (masks < 0.5)


def small_masks(masks: Tensor, shape: Sequence[int]) -> Tensor:
    """Masks at the size of latents, by the nearest pixel, as diffusers makes them."""
    return F.interpolate(masks, size=tuple(shape))


def background(pictures: Tensor, masks: Tensor) -> dict[str, Any]:
    """Options of an inpainting pipeline: what is given, ``[B, 3, H, W]`` in [0, 1], and what of it is painted anew."""
    return {"image": pictures, "mask_image": masks, "strength": 1.0}
