"""One training step of MEF: noise a latent, let the UNet with adapters or branch predict, compare."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from ..config.mef import MEFTrainParams
from .base import is_inpainting
from .conditions import Conditions
from .embeddings import given_expression
from .face_losses import FaceLosses
from .frozen import FrozenNetworks, Rows
from .tables import Tables
from .weighting import face_weight, min_snr_weight


class MEFStep(nn.Module):
    """``batch -> ({loss name: loss}, {})``; see :class:`.mef.dataset.PortraitDataset` for the batch.

    Args:
        unet: frozen but for its adapters.
        adapters: in the UNet, or a branch beside it.
        noise: the base's noise schedule and prediction type.
        frozen: computes what the batch brings no cached rows of, and judges x0 estimates.
        tables: what the batch's row numbers mean.
        no_text: what stands for no prompt, batch 1.
        expressions: ``[N, width]`` of the data set, by whose variance an x0 estimate's errors are measured.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        adapters: Conditions,
        noise: DDPMScheduler,
        frozen: FrozenNetworks,
        tables: Tables,
        no_text: Rows,
        params: MEFTrainParams,
        expressions: Tensor,
    ):
        super().__init__()
        self.unet, self.adapters, self.noise, self.params = unet, adapters, noise, params
        self.frozen, self.tables = frozen, tables
        self.scaling = frozen.base.vae.config.scaling_factor
        for name, states in no_text.items():
            self.register_buffer(f"no_{name}", states, persistent=False)
        self.reads_background = is_inpainting(frozen.base)
        for name, values in frozen.nothing_given().items() if self.reads_background else ():
            self.register_buffer(f"no_{name}", values, persistent=False)
        self.faces = FaceLosses(noise, frozen, tables, params, expressions)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
        rows = batch if "mean" in batch else batch | self.encode(batch)
        clean, noisy = self.noised(rows)
        steps, noise = batch["timestep"], batch["noise"]
        prediction = self.predict(rows, noisy, steps)
        is_v = self.noise.config.prediction_type == "v_prediction"
        target = self.noise.get_velocity(clean, noise, steps) if is_v else noise
        face = rows["mask"] if self.reads_background else rows["face"]
        weight = self._snr_weight(steps)[:, None, None, None] * face_weight(face, self.params.face_weight)
        terms = {"diffusion": (weight * (prediction - target).square()).mean()}
        if self.faces.names:
            terms |= self.faces(rows, noisy, prediction, self.predict)
        return terms, {}

    def noised(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Of a batch with its rows: scaled latents, and the same with the batch's noise, ``[B, C, h, w]`` both."""
        clean = (rows["mean"] + rows["deviation"] * rows["posterior_noise"]) * self.scaling
        return clean, self.noise.add_noise(clean, rows["noise"], rows["timestep"])

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> Rows:
        """What a cache would hold, computed now."""
        tables, frozen = self.tables, self.frozen
        rows = frozen.latents([tables.portraits[i] for i in batch["latents"].tolist()])
        text = frozen.text([tables.captions[i] for i in batch["text"].tolist()])
        kinds = ["identity_face", "expression_face", *(["pose_face"] if "pose_face" in batch else [])]
        faces = torch.cat([batch[kind] for kind in kinds])
        embeddings = frozen.embeddings([tables.pictures[i] for i in faces.tolist()])
        count = len(batch["text"])
        made = {"identity": embeddings.pop("identity")[:count]}
        made |= {name: values[count : 2 * count] for name, values in embeddings.items()}
        if "pose_face" in batch:
            made["expression"] = frozen.embedder.joined(made["expression"], embeddings["expression"][2 * count :])
        return rows | {"text_states": text.pop("text"), **text, **made}

    def predict(self, rows: Rows, noisy: Tensor, steps: Tensor) -> Tensor:
        """The UNet's prediction, float32 ``[B, C, h, w]``, each item under the conditions that its ``keep`` says.

        A condition is left out by zeroing its *embedding*: that is what pipelines give in guidance's other half.
        """
        text, identity, expression = rows["keep"].unbind(dim=1)
        dtype = self.unet.conv_in.weight.dtype
        states = torch.where(text[:, None, None], rows["text_states"].to(dtype), self.no_text.to(dtype))
        faces = zip((rows["identity"], given_expression(rows)), (identity, expression), strict=True)
        kept = [torch.where(given.view(-1, *[1] * (z.ndim - 1)), z, 0.0) for z, given in faces]
        added: dict[str, Any] = {"image_embeds": [z[:, None] for z in kept]}
        if "pooled" in rows:
            height, width = (side * self.frozen.base.vae_scale_factor for side in noisy.shape[2:])
            added["text_embeds"] = torch.where(text[:, None], rows["pooled"].to(dtype), self.no_pooled.to(dtype))
            times = torch.tensor([[height, width, 0, 0, height, width]], dtype=dtype, device=noisy.device)
            added["time_ids"] = times.expand(len(noisy), -1)
        latents = torch.cat([noisy, *self._background(rows)], dim=1).to(dtype)
        with self.adapters.acting(self.unet):
            return self.unet(latents, steps, states, added_cond_kwargs=added).sample.float()

    def _background(self, rows: Rows) -> list[Tensor]:
        """Of a base for inpainting, mask and latent of the background; where none is given, all is masked."""
        if not self.reads_background:
            return []
        given = rows["background"][:, None, None, None]
        mask, masked = (torch.where(given, rows[name], getattr(self, f"no_{name}")) for name in ("mask", "masked"))
        return [mask, masked * self.scaling]

    def _snr_weight(self, steps: Tensor) -> Tensor:
        if self.params.min_snr_gamma is None:
            return torch.ones_like(steps, dtype=torch.float32)
        return min_snr_weight(self.noise, steps, self.params.min_snr_gamma)
