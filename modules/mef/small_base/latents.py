"""What a small base's autoencoder makes of the portraits, computed once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from ...config.small_base import PictureParams
from ...data.portraits import Portrait
from ...errors import UserError
from ...training.checkpoint import load_checkpoint, save_checkpoint
from ..cache.key import stamps
from ..weighting import latent_face_mask
from .common import Batch, read_picture

BATCH = 16  # pictures encoded together


@torch.no_grad()
def encode_all(autoencoder: AutoencoderKL, portraits: list[Portrait], resolution: int, show: bool) -> Batch:
    """Every portrait's posterior, ``mean`` and ``deviation``, unscaled, and ``face``, its mask: float16, on the CPU."""
    rows: dict[str, list[Tensor]] = {"mean": [], "deviation": [], "face": []}
    for start in tqdm(range(0, len(portraits), BATCH), desc="encoding pictures", unit="batch", disable=not show):
        some = portraits[start : start + BATCH]
        pictures = [read_picture(portrait, resolution) for portrait in some]
        posterior = autoencoder.encode(torch.stack(pictures).to(autoencoder.device)).latent_dist
        rows["mean"].append(posterior.mean.half().cpu())
        rows["deviation"].append(posterior.std.half().cpu())
        shape = posterior.mean.shape[2:]
        rows["face"].append(torch.stack([latent_face_mask(portrait, resolution, shape) for portrait in some]).half())
    return {name: torch.cat(parts) for name, parts in rows.items()}


def portrait_latents(
    autoencoder: AutoencoderKL, portraits: list[Portrait], data: PictureParams, accelerator: Accelerator
) -> Batch:
    """:func:`encode_all`, kept in ``data.cache_dir`` if there is one: the first process then computes for all."""
    show = accelerator.is_main_process
    if data.cache_dir is None:
        return encode_all(autoencoder, portraits, data.resolution, show)
    path = Path(data.cache_dir) / f"{_key(autoencoder, portraits, data)}.pth"
    if accelerator.is_main_process and not path.is_file():
        save_checkpoint(encode_all(autoencoder, portraits, data.resolution, show), path)
    accelerator.wait_for_everyone()
    if not path.is_file():
        raise UserError(f"{path}: missing: set dataset_params.cache_dir to a folder that all machines share")
    return load_checkpoint(path)


def _key(autoencoder: AutoencoderKL, portraits: list[Portrait], data: PictureParams) -> str:
    """Of the pictures and the weights themselves: their file is written again with every denoiser."""
    made_from = [
        data.resolution,
        [[stamps(str(p)) for p in (portrait.image, portrait.mask) if p] for portrait in portraits],
    ]
    digest = hashlib.sha256(json.dumps(made_from).encode())
    for _, weight in sorted(autoencoder.state_dict().items()):
        digest.update(weight.half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
