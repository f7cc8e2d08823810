"""One training step of MEF: noise a latent, let the UNet with both adapters predict, compare."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from ..config.mef import MEFTrainParams
from .frozen import FrozenNetworks, Rows
from .tables import Tables
from .weighting import face_weight, min_snr_weight


class MEFStep(nn.Module):
    """``batch -> ({loss name: loss}, {})``; see :class:`.mef.dataset.PortraitDataset` for the batch.

    Args:
        unet: frozen but for its adapters.
        noise: the base's noise schedule and prediction type.
        frozen: computes what the batch brings no cached rows of, and judges x0 estimates.
        tables: what the batch's row numbers mean.
        no_text: what stands for no prompt, batch 1.
        expressions: ``[N, width]`` of the data set, by whose variance an x0 estimate's errors are measured.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        noise: DDPMScheduler,
        frozen: FrozenNetworks,
        tables: Tables,
        no_text: Rows,
        params: MEFTrainParams,
        expressions: Tensor,
    ):
        super().__init__()
        self.unet, self.noise, self.params = unet, noise, params
        self.frozen, self.tables = frozen, tables
        self.scaling = frozen.base.vae.config.scaling_factor
        for name, states in no_text.items():
            self.register_buffer(f"no_{name}", states, persistent=False)
        self.register_buffer("variances", self._variances(expressions.float()), persistent=False)

    def forward(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict]:
        rows = batch if "mean" in batch else batch | self._encode(batch)
        clean = (rows["mean"] + rows["deviation"] * batch["posterior_noise"]) * self.scaling
        steps, noise = batch["timestep"], batch["noise"]
        noisy = self.noise.add_noise(clean, noise, steps)
        prediction = self._predict(noisy, steps, rows, batch["keep"])
        is_v = self.noise.config.prediction_type == "v_prediction"
        target = self.noise.get_velocity(clean, noise, steps) if is_v else noise
        weight = self._snr_weight(steps)[:, None, None, None] * face_weight(rows["face"], self.params.face_weight)
        terms = {"diffusion": (weight * (prediction - target).square()).mean()}
        weights = self.params.loss_weights
        if weights.identity or weights.expression:
            terms |= self._face_terms(noisy, prediction, steps, rows, batch["keep"])
        return terms, {}

    @torch.no_grad()
    def _encode(self, batch: dict[str, Tensor]) -> Rows:
        """What a cache would hold, computed now."""
        tables, frozen = self.tables, self.frozen
        rows = frozen.latents([tables.portraits[i] for i in batch["latents"].tolist()])
        text = frozen.text([tables.captions[i] for i in batch["text"].tolist()])
        faces = torch.cat([batch["identity_face"], batch["expression_face"]])
        embeddings = frozen.embeddings([tables.pictures[i] for i in faces.tolist()])
        count = len(batch["text"])
        return rows | {
            "text_states": text.pop("text"),
            **text,
            "identity": embeddings["identity"][:count],
            "expression": embeddings["expression"][count:],
        }

    def _predict(self, noisy: Tensor, steps: Tensor, rows: Rows, keep: Tensor) -> Tensor:
        """The UNet's prediction, float32 ``[B, C, h, w]``, each item under the conditions that ``keep [B, 3]`` says.

        A condition is left out by zeroing its *embedding*: that is what pipelines give in guidance's other half.
        """
        text, identity, expression = keep.unbind(dim=1)
        dtype = self.unet.conv_in.weight.dtype
        states = torch.where(text[:, None, None], rows["text_states"].to(dtype), self.no_text.to(dtype))
        faces = [rows["identity"] * identity[:, None], rows["expression"] * expression[:, None]]
        added: dict[str, Any] = {"image_embeds": [z[:, None] for z in faces]}
        if "pooled" in rows:
            height, width = (side * self.frozen.base.vae_scale_factor for side in noisy.shape[2:])
            added["text_embeds"] = torch.where(text[:, None], rows["pooled"].to(dtype), self.no_pooled.to(dtype))
            times = torch.tensor([[height, width, 0, 0, height, width]], dtype=dtype, device=noisy.device)
            added["time_ids"] = times.expand(len(noisy), -1)
        return self.unet(noisy.to(dtype), steps, states, added_cond_kwargs=added).sample.float()

    def _snr_weight(self, steps: Tensor) -> Tensor:
        if self.params.min_snr_gamma is None:
            return torch.ones_like(steps, dtype=torch.float32)
        return min_snr_weight(self.noise, steps, self.params.min_snr_gamma)

    def _face_terms(
        self, noisy: Tensor, prediction: Tensor, steps: Tensor, rows: Rows, keep: Tensor
    ) -> dict[str, Tensor]:
        """How far the face of the decoded x0 estimate is from the one asked for, where there is little noise.

        Of the identity 1 - cosine, and of the expression :meth:`_expression_error`.
        """
        weights, sid = self.params.loss_weights, self.frozen.embedder.sid
        asked = keep[:, 1:] & (steps < weights.max_timestep)[:, None]
        chosen = asked.any(dim=1)
        if not chosen.any():
            return {name: prediction.sum() * 0.0 for name in ("identity", "expression") if getattr(weights, name)}
        estimate = self._clean_estimate(noisy[chosen], prediction[chosen], steps[chosen])
        pictures = self.frozen.decode(estimate)
        with torch.autocast(noisy.device.type, enabled=False):
            fitted = F.interpolate(pictures, size=sid.size, mode="bilinear", antialias=True)
            identity, expression = sid(fitted)
        wanted = rows["identity"][chosen][:, : identity.shape[1]]  # SID's part of a compound
        distances = {
            "identity": 1 - F.cosine_similarity(identity, wanted),
            "expression": self._expression_error(expression, rows["expression"][chosen]),
        }
        return {
            name: getattr(weights, name) * (distance * asked[chosen, i]).sum() / len(steps)
            for i, (name, distance) in enumerate(distances.items())
            if getattr(weights, name)
        }

    def _expression_error(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Squared errors of z_exp and of z_pose over the data set's variances, their mean ``[B]``.

        0: as asked for; 1: no nearer than the data set's mean is on average.  Both parts count alike, however many
        numbers they have: of a cosine of all, pose is nearly everything.
        """
        return (self._summed((found - wanted).square()) / self.variances).mean(dim=-1)

    def _variances(self, expressions: Tensor) -> Tensor:
        """Of z_exp and z_pose, ``[2]``; of pictures that are all alike a hundredth of what they are."""
        varying = self._summed(expressions.var(dim=0, correction=0))
        return varying.maximum(0.01 * self._summed(expressions.square().mean(dim=0))).clamp_min(1e-6)

    def _summed(self, values: Tensor) -> Tensor:
        """Sums over the numbers of z_exp and of z_pose: ``[..., d]`` -> ``[..., 2]``."""
        parts = values.split(self.frozen.embedder.sid.semantic.sizes, dim=-1)
        return torch.stack([part.sum(dim=-1) for part in parts], dim=-1)

    def _clean_estimate(self, noisy: Tensor, prediction: Tensor, steps: Tensor) -> Tensor:
        """The latent x0 that the prediction means (Salimans and Ho, 2022, appendix D, for v)."""
        kept = self.noise.alphas_cumprod.to(noisy.device)[steps][:, None, None, None]
        if self.noise.config.prediction_type == "v_prediction":
            return kept.sqrt() * noisy - (1 - kept).sqrt() * prediction
        return (noisy - (1 - kept).sqrt() * prediction) / kept.sqrt()
