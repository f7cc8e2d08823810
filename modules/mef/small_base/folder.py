"""The folder of a small base: its autoencoder read, parts written, what another base has taken over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from safetensors import SafetensorError

from ...atomic import appearing
from ...config.small_base import AutoencoderParams
from ...errors import UserError
from ..base import quiet

VAE, INDEX = "vae", "model_index.json"  # the autoencoder's folder in the base's, and what names all of them


def read_autoencoder(path: Path, params: AutoencoderParams) -> AutoencoderKL:
    """A base's autoencoder, frozen, float32.  Raises UserError for one that is not there, or of other sizes."""
    try:
        with quiet():
            autoencoder = AutoencoderKL.from_pretrained(path).eval().requires_grad_(False)
        autoencoder.register_to_config(_name_or_path=VAE)  # a base says nothing of where it was made
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: no autoencoder can be loaded from there ({reason})") from error
    found = list(autoencoder.config.block_out_channels), autoencoder.config.latent_channels
    if found != (list(params.channels), params.latent_channels):
        raise UserError(f"{path}: its channels {found} differ from model_params.autoencoder_params; train it again")
    return autoencoder


def vae_of(out: Path, base: Path | None) -> Path:
    """The autoencoder that latents are of: ``<out>/vae``, or till that is there the base's that a run starts from."""
    own = out / VAE
    return own if base is None or (own / "config.json").is_file() else base / VAE


def check_same_latents(out: Path, base: Path, params: AutoencoderParams) -> None:
    """UserError where ``out`` has an autoencoder that makes other latents than that of ``base``."""
    vae = vae_of(out, base)
    own, other = (read_autoencoder(path, params).state_dict() for path in (vae, base / VAE))
    makes_latents = [name for name in own if name.startswith(("encoder.", "quant_conv."))]
    if not all(torch.equal(own[name], other[name]) for name in makes_latents):
        raise UserError(f"{vae}: makes other latents than {base / VAE}; choose another --out")


def take_over(out: Path, base: Path, part: str = "") -> None:
    """Copy a base, or a part of it, to ``out`` unless there is an autoencoder: who continues the run finds it there."""
    if not (out / VAE / "config.json").is_file():
        with appearing(out) as made:
            shutil.copytree(base / part, Path(made) / part, dirs_exist_ok=True)


def save(part: Any, folder: Path) -> None:
    """Files are kept in half precision.  They load as float32 by default, as diffusers' models do."""
    with appearing(folder) as made:
        part.to(dtype=torch.float16).save_pretrained(made)
        for config in Path(made).rglob("config.json"):  # transformers' models are loaded in the precision it names
            text = config.read_text(encoding="utf-8").replace('"dtype": "float16"', '"dtype": "float32"')
            config.write_text(text, encoding="utf-8")
