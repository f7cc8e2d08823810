"""What the frozen networks make of portraits: latents, text states and face embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..data.portraits import Portrait
from ..errors import UserError
from ..media.tensors import to_images, to_tensor
from .base import Base, is_inpainting, is_xl
from .embeddings import Embedder
from .inpainting import face_mask, hidden, small_masks
from .weighting import latent_face_mask

Rows = dict[str, Tensor]  # tensors whose first dimension counts items


class FrozenNetworks:
    """VAE and text encoders of a base, and an embedder, on one device.

    Args:
        resolution: height and width of the pictures, pixels.
    """

    def __init__(self, base: Base, embedder: Embedder, resolution: int):
        self.base, self.embedder, self.resolution = base, embedder, resolution
        step = base.vae_scale_factor * 2 ** (len(base.unet.config.block_out_channels) - 1)
        if resolution % step:
            raise UserError(f"dataset_params.resolution: this base needs a multiple of {step}, found {resolution}")
        side = resolution // base.vae_scale_factor
        self.latent_shape = (base.vae.config.latent_channels, side, side)
        base.vae.float().requires_grad_(False)  # half precision overflows in some of them, and this is done once

    def to(self, device: torch.device | str) -> FrozenNetworks:
        self.base.to(device)
        self.embedder.to(device)
        return self

    @property
    def join(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """For a base for inpainting, which takes the pose from the picture (:meth:`.Embedder.joined`); else None."""
        return self.embedder.joined if is_inpainting(self.base) else None

    def forget_text(self) -> None:
        """Give up the text encoders."""
        for name in ("text_encoder", "text_encoder_2"):
            if getattr(self.base, name, None) is not None:
                setattr(self.base, name, None)

    @torch.no_grad()
    def latents(self, portraits: Sequence[Portrait]) -> Rows:
        """``mean`` and ``deviation`` of the VAE's posterior, unscaled, and ``face``, the masks: ``[B, 1, h, w]``.

        Of a base for inpainting also ``mask``, what is to be painted, and ``masked``, the mean of the rest, unscaled.

        Raises:
            UserError: a picture cannot be read; for inpainting, shows no face.
        """
        device = self.base.device
        pictures = self.pictures([portrait.image for portrait in portraits])
        posterior = self._posterior(pictures)
        side, shape = self.resolution, self.latent_shape[1:]
        faces = torch.stack([latent_face_mask(portrait, side, shape) for portrait in portraits]).to(device)
        rows = {"mean": posterior.mean, "deviation": posterior.std, "face": faces}
        if not is_inpainting(self.base):
            return rows
        shown = zip(to_images(pictures), portraits, strict=True)
        masks = torch.stack([face_mask(picture, str(portrait.image), device) for picture, portrait in shown])
        masked = self._posterior(pictures, masks).mean
        return rows | {"mask": small_masks(masks, shape), "masked": masked}

    @torch.no_grad()
    def nothing_given(self) -> Rows:
        """``mask`` and ``masked``, batch 1, of a picture that is painted as a whole."""
        pictures = torch.zeros(1, 3, self.resolution, self.resolution, device=self.base.device)
        masks = torch.ones_like(pictures[:, :1])
        return {"mask": small_masks(masks, self.latent_shape[1:]), "masked": self._posterior(pictures, masks).mean}

    def _posterior(self, pictures: Tensor, masks: Tensor | None = None) -> Any:
        """Of pictures in [0, 1], hidden where masks are 1."""
        pixels = pictures * 2 - 1
        with torch.autocast(pixels.device.type, enabled=False):
            return self.base.vae.encode(pixels if masks is None else hidden(pixels, masks)).latent_dist

    def pictures(self, files: Sequence) -> Tensor:
        """Picture files as the base would draw them: ``[B, 3, H, W]`` in [0, 1].  Raises UserError as they do."""
        side = self.resolution
        fitted = [media.fit(media.read_image(path), side, side) for path in files]
        return to_tensor(fitted, self.base.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents ``[B, C, h, w]`` -> pictures float32 ``[B, 3, H, W]`` in [0, 1], with gradients.

        In bf16, whose range is float32's, where the UNet computes in it; never in fp16.
        """
        vae, device = self.base.vae, latents.device.type
        of_unet = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.base.unet.dtype
        with torch.autocast(device, torch.bfloat16, enabled=of_unet == torch.bfloat16):
            decoded = vae.decode(latents.float() / vae.config.scaling_factor).sample
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> Rows:
        """``text [B, L, d]``, the states cross-attention reads; for SDXL also ``pooled [B, p]``."""
        states = self.base.encode_prompt(list(prompts), device=self.base.device, **self._once(False))
        return self._text_rows(states[0], states[2] if is_xl(self.base) else None)

    @torch.no_grad()
    def no_text(self) -> Rows:
        """What stands for "no prompt", batch 1: the same as in the unconditional half of guidance."""
        states = self.base.encode_prompt("", device=self.base.device, **self._once(True))
        return self._text_rows(states[1], states[3] if is_xl(self.base) else None)

    @staticmethod
    def _once(guidance: bool) -> dict[str, int | bool]:
        return {"num_images_per_prompt": 1, "do_classifier_free_guidance": guidance}

    @staticmethod
    def _text_rows(states: Tensor, pooled: Tensor | None) -> Rows:
        return {"text": states} if pooled is None else {"text": states, "pooled": pooled}

    def embeddings(self, files: Sequence) -> Rows:
        """``identity``, ``expression`` and, for an exemplar adapter, ``exemplar`` of the faces in picture files."""
        pictures: list[np.ndarray] = [media.read_image(path) for path in files]
        return self.embedder.rows(pictures, [str(path) for path in files])
