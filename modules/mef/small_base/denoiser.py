"""Training text encoder and UNet of a small base together, on the latents of its autoencoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import CLIPTokenizer

from ...config.small_base import SmallBaseConfig
from ...data.portraits import Portrait
from ...training.trainer import Objective
from ..base import quiet
from ..embeddings import SIDEncoders
from ..weighting import face_weight, min_snr_weight
from . import networks
from .common import Batch, normal_noise
from .face_features import FaceFeatures

TOKENIZER = "tokenizer"  # a checkpoint's entry beside the network's
SHOWN = 8  # pictures of a training picture
SHOWN_STEPS = 20  # of the samples shown in training
SHOWN_GUIDANCE = 3.0


class Latents(Dataset):
    """What the autoencoder makes of the portraits, in memory, with captions as tokens and everything random.

    Items: ``mean``, ``deviation``, ``noise``, ``posterior_noise`` ``[C, h, w]``, ``face [1, h, w]``, ``tokens [77]``,
    ``timestep``.
    """

    def __init__(self, rows: Batch, tokens: Tensor, no_text: Tensor, timesteps: int, config: SmallBaseConfig):
        self.rows, self.tokens, self.no_text, self.timesteps = rows, tokens, no_text, timesteps
        self.params = config.denoiser_train_params

    def __len__(self) -> int:
        return len(self.tokens) * self.params.num_repeats

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        rng = np.random.default_rng([self.params.seed, epoch, index])
        row = index % len(self.tokens)
        shape = tuple(self.rows["mean"].shape[1:])
        return {
            **{name: column[row].float() for name, column in self.rows.items()},
            "tokens": self.no_text if rng.random() < self.params.text_dropout else self.tokens[row],
            "timestep": int(rng.integers(self.timesteps)),
            "noise": normal_noise(rng, shape),
            "posterior_noise": normal_noise(rng, shape),
        }


class Denoiser(nn.Module):
    """Text encoder and UNet, trained together."""

    def __init__(self, text_encoder: nn.Module, unet: nn.Module):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(noisy, timestep, self.text_encoder(tokens).last_hidden_state).sample.float()


class DenoiserStep(nn.Module):
    """``batch -> {"diffusion": loss}`` for a batch of :class:`Latents`: v-prediction under min-SNR weights.

    Faces weigh more, as the configuration says; ``faces`` adds its losses.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise: DDPMScheduler,
        scaling: float,
        config: SmallBaseConfig,
        faces: FaceFeatures | None = None,
    ):
        super().__init__()
        self.denoiser, self.noise, self.scaling, self.faces = denoiser, noise, scaling, faces
        self.params = config.denoiser_train_params

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
        clean = (batch["mean"] + batch["deviation"] * batch["posterior_noise"]) * self.scaling
        steps, noise = batch["timestep"], batch["noise"]
        noisy = self.noise.add_noise(clean, noise, steps)
        prediction = self.denoiser(noisy, steps, batch["tokens"])
        weight = min_snr_weight(self.noise, steps, self.params.min_snr_gamma)[:, None, None, None]
        weight = weight * face_weight(batch["face"], self.params.face_weight)
        error = (prediction - self.noise.get_velocity(clean, noise, steps)).square()
        terms = {"diffusion": (weight * error).mean()}
        if self.faces is not None:
            terms |= self.faces(clean, noisy, prediction, steps)
        return terms, {"tokens": batch["tokens"].detach()}


class DenoiserTraining:
    """The denoiser of an autoencoder, new and seeded, what it learns from, and the base that both make.

    Args:
        no_text: what stands for no caption, int64 ``[77]``.
        portraits: what is learnt from.
    """

    def __init__(
        self,
        config: SmallBaseConfig,
        autoencoder: AutoencoderKL,
        tokenizer: CLIPTokenizer,
        no_text: Tensor,
        portraits: list[Portrait],
    ):
        params, model = config.denoiser_train_params, config.model_params
        torch.manual_seed(params.seed)
        self.autoencoder, self.tokenizer, self.no_text = autoencoder, tokenizer, no_text
        side = config.dataset_params.resolution // 2 ** (len(model.autoencoder_params.channels) - 1)
        self.network = Denoiser(
            networks.build_text_encoder(model.denoiser_params, tokenizer),
            networks.build_unet(model.denoiser_params, autoencoder.config.latent_channels, side),
        )
        self.scheduler = networks.build_scheduler()
        noise = DDPMScheduler.from_config(self.scheduler.config)
        faces = None
        if params.face_feature_params is not None:
            sid = SIDEncoders.from_sid(params.face_feature_params.sid_params).to(autoencoder.device)
            resolution = config.dataset_params.resolution
            faces = FaceFeatures(autoencoder, noise, sid, params.face_feature_params, portraits, resolution)
        step = DenoiserStep(self.network, noise, autoencoder.config.scaling_factor, config, faces)
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True
        )
        self.objectives = [Objective(step, {"optimizer": optimizer})]

    def pipeline(self, denoiser: Denoiser) -> StableDiffusionPipeline:
        """The base with this denoiser, such as the averaged one."""
        return StableDiffusionPipeline(
            vae=self.autoencoder,
            text_encoder=denoiser.text_encoder,
            tokenizer=self.tokenizer,
            unet=denoiser.unet,
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    @torch.no_grad()
    def picture(self, shown: Batch, denoiser: Denoiser) -> Tensor:
        """Samples for the captions of a batch, always from the same noise."""
        with quiet():
            pipeline = self.pipeline(denoiser)
        pipeline.set_progress_bar_config(disable=True)
        tokens, encode = shown["tokens"][:SHOWN], denoiser.text_encoder
        pictures = pipeline(
            prompt_embeds=encode(tokens).last_hidden_state,
            negative_prompt_embeds=encode(self.no_text.to(tokens.device).expand_as(tokens)).last_hidden_state,
            num_inference_steps=SHOWN_STEPS,
            guidance_scale=SHOWN_GUIDANCE,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        return torch.from_numpy((np.concatenate(list(pictures), axis=1) * 255).round().astype(np.uint8))
