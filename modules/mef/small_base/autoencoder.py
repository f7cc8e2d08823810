"""Training the autoencoder of a small base."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.utils.data import Dataset

from ...config.sid import PerceptualParams
from ...config.small_base import SmallBaseConfig
from ...config.training import LoopParams
from ...data.portraits import Portrait
from ...media.tensors import to_images
from ...sid.perceptual import build_perceptual, feature_distance
from ...training.trainer import Objective
from . import networks
from .common import Batch, normal_noise, read_picture

SHOWN = 8  # pictures of a training picture


class Pictures(Dataset):
    """The portraits' pictures, items ``{"image": float32 [3, H, W] in [-1, 1]}``, and noise of their own."""

    def __init__(self, portraits: list[Portrait], resolution: int, latent_shape: tuple[int, ...], params: LoopParams):
        self.portraits, self.resolution, self.latent_shape = portraits, resolution, latent_shape
        self.seed, self.repeats = params.seed, params.num_repeats

    def __len__(self) -> int:
        return len(self.portraits) * self.repeats

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        image = read_picture(self.portraits[index % len(self.portraits)], self.resolution)
        rng = np.random.default_rng([self.seed, epoch, index])
        return {"image": image, "posterior_noise": normal_noise(rng, self.latent_shape)}


class AutoencoderStep(nn.Module):
    """``{"image", "posterior_noise"} -> losses``: pixels, features, and the posterior's divergence (Rombach et al.,
    2022, section 3.1, without the adversarial part)."""

    def __init__(self, autoencoder: AutoencoderKL, config: SmallBaseConfig):
        super().__init__()
        self.autoencoder, self.params = autoencoder, config.autoencoder_train_params
        self.perceptual = build_perceptual(PerceptualParams(weights="small"))

    def forward(self, batch: Batch) -> tuple[dict[str, Tensor], Batch]:
        image = batch["image"]
        posterior = self.autoencoder.encode(image).latent_dist
        made = self.autoencoder.decode(posterior.mean + posterior.std * batch["posterior_noise"]).sample
        shown, wanted = made / 2 + 0.5, image / 2 + 0.5
        features = feature_distance(self.perceptual(wanted), self.perceptual(shown), [1.0] * 5)
        terms = {
            "pixel": (made - image).abs().mean(),
            "perceptual": self.params.perceptual * features,
            "divergence": self.params.divergence * posterior.kl().mean(),
        }
        return terms, {"image": image.detach(), "made": made.detach()}


def build(config: SmallBaseConfig) -> tuple[AutoencoderKL, list[Objective]]:
    """A new autoencoder, seeded, and what it learns from."""
    params = config.autoencoder_train_params
    torch.manual_seed(params.seed)
    network = networks.build_autoencoder(config.model_params.autoencoder_params, config.dataset_params.resolution)
    if params.frozen_encoder:
        network.encoder.requires_grad_(False)
        network.quant_conv.requires_grad_(False)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=params.lr, fused=True)
    return network, [Objective(AutoencoderStep(network, config), {"optimizer": optimizer})]


def picture(shown: Batch, averaged: AutoencoderKL) -> Tensor:
    """Pictures above what the autoencoder makes of them."""
    rows = [torch.cat(list(shown[name][:SHOWN].float().cpu()), dim=2) for name in ("image", "made")]
    return _as_bytes(torch.cat(rows, dim=1))


def _as_bytes(image: Tensor) -> Tensor:
    """uint8 ``[H, W, 3]`` of ``[3, H, W]`` in [-1, 1]."""
    return torch.from_numpy(to_images((image[None] / 2 + 0.5).clamp(0, 1))[0])
