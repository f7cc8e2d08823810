"""The grid of portraits that training draws: people by expressions by prompts, always from the same noise."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..config.mef import BaseParams, ValidationParams
from ..data.portraits import Portrait
from ..media.tensors import to_images, to_tensor
from ..storage.tars import Member
from .base import is_xl, set_scheduler
from .conditions import Conditions
from .embeddings import given_expression
from .frozen import FrozenNetworks
from .inpainting import background, face_mask
from .pipeline import DeepExprPipeline

DEFAULT_COUNT = 2  # people, expressions and prompts taken from the data set where none are named


class Validation:
    """Embeds its pictures and prompts once; :meth:`grid` then needs the UNet and the VAE's decoder alone."""

    def __init__(
        self, params: ValidationParams, frozen: FrozenNetworks, portraits: Sequence[Portrait], adapters: Conditions
    ):
        self.params, self.frozen, self.base = params, frozen, frozen.base
        self.adapters = adapters
        self.side = frozen.resolution
        # where training reads them off: a portrait's own picture need not show a face
        first = {p.identity: p.identity_image or p.image for p in reversed(portraits)}
        people = params.identities or list(first.values())[::-1][:DEFAULT_COUNT]
        apart = portraits[:: max(1, len(portraits) // DEFAULT_COUNT)][:DEFAULT_COUNT]
        expressions = params.expressions or [p.reference_image or p.image for p in apart]
        prompts = params.prompts or list(dict.fromkeys(p.text for p in portraits))[:DEFAULT_COUNT]
        self.people, self.expressions = list(map(self._thumbnail, people)), list(map(self._thumbnail, expressions))
        self.identities = frozen.embeddings(people)["identity"].cpu()
        self.semantics = given_expression(frozen.embeddings(expressions)).cpu()
        # for inpainting, the columns' own pictures, into which people are painted
        targets = params.expressions or [str(p.image) for p in apart]
        if frozen.join is not None:
            self.semantics = frozen.join(self.semantics, frozen.embeddings(targets)["expression"].cpu())
        self.backgrounds = [{} if frozen.join is None else self._background(path) for path in targets]
        self.text = [frozen.text([prompt]) for prompt in prompts]
        self.no_text = frozen.no_text()
        self.pipeline = DeepExprPipeline(self.base, adapters, None, BaseParams(path="."))

    def _thumbnail(self, path: str | Path | Member) -> np.ndarray:
        return media.fit(media.read_image(path), self.side, self.side)

    def _background(self, path: str) -> dict[str, Any]:
        picture = self._thumbnail(path)
        return background(to_tensor([picture]), face_mask(picture, path, self.base.device)[None].cpu())

    def grid_of(self, averaged: Conditions) -> Tensor:
        """:meth:`grid` by other weights of the adapters, which are as they were afterwards."""
        training = copy.deepcopy(self.adapters.state())
        self.adapters.load(averaged.state(), "averages")
        try:
            dtype = self.base.unet.dtype
            with torch.autocast(self.base.device.type, dtype, dtype != torch.float32):
                return self.grid()
        finally:
            self.adapters.load(training, "adapters")

    @torch.no_grad()
    def grid(self) -> Tensor:
        """uint8 ``[H, W, 3]``: a block per prompt; rows are people, columns expressions, each shown at the margin."""
        scheduler = self.base.scheduler
        set_scheduler(self.base, "ddim")
        try:
            blocks = [self._block(text) for text in self.text]
        finally:
            self.base.scheduler = scheduler
        return torch.from_numpy(np.concatenate(blocks))

    def _block(self, text: dict[str, Tensor]) -> np.ndarray:
        rows = [np.concatenate([np.full_like(self.people[0], 255), *self.expressions], axis=1)]
        for person, identity in zip(self.people, self.identities, strict=True):
            columns = zip(self.semantics, self.backgrounds, strict=True)
            images = [self._portrait(text, identity, z, given) for z, given in columns]
            rows.append(np.concatenate([person, *images], axis=1))
        return np.concatenate(rows)

    def _portrait(
        self, text: dict[str, Tensor], identity: Tensor, expression: Tensor, given: dict[str, Any]
    ) -> np.ndarray:
        options = {"prompt_embeds": text["text"], "negative_prompt_embeds": self.no_text["text"]}
        if is_xl(self.base):
            options |= {"pooled_prompt_embeds": text["pooled"], "negative_pooled_prompt_embeds": self.no_text["pooled"]}
        options = {name: states.to(self.base.device, self.base.unet.dtype) for name, states in options.items()}
        result = self.pipeline(
            identity_embedding=identity,
            expression_embedding=expression,
            guidance_scale=self.params.guidance_scale,
            num_inference_steps=self.params.steps,
            generator=torch.Generator().manual_seed(self.params.seed),
            height=self.side,
            width=self.side,
            output_type="latent",
            **options,
            **given,
        )
        return to_images(self.frozen.decode(result.images))[0]
