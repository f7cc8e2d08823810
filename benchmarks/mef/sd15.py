"""Stable Diffusion 1.5 with random weights, and MEF's training on it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from modules import media
from modules.config.files import load_config, mef_config_from_dict
from modules.data.astronaut import moving_face
from modules.devices import dtype_of
from modules.mef import objectives
from modules.mef.base import quiet
from modules.mef.cache.shards import Cache
from modules.mef.dataset import PortraitDataset
from modules.mef.embeddings import Embedder, SIDEncoders
from modules.mef.frozen import FrozenNetworks
from modules.mef.train import embedding_sample, read_tables

ROOT = Path(__file__).resolve().parents[2]
SID = ROOT / "config" / "sid-128.yaml"


def random_unet(dtype: torch.dtype) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's, 859.52 M parameters."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
    return _filled(unet, dtype)


def _filled(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A network made on no device, with small random weights: its usual initialisation takes a minute."""
    with quiet():
        network = network.to(dtype).to_empty(device="cpu")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return network.eval().requires_grad_(False)


def random_base(dtype: torch.dtype) -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 with random weights, and a tokenizer that knows letters."""
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            sample_size=512,
        )
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary)}, merges=[], model_max_length=77)
    text = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            eos_token_id=1,
            bos_token_id=0,
            pad_token_id=1,
        )
    )
    return StableDiffusionPipeline(
        vae=_filled(vae, torch.float32),
        text_encoder=text.to(dtype).eval(),
        tokenizer=tokenizer,
        unet=random_unet(dtype),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
    )


def write_data(folder: Path, count: int) -> None:
    """Portraits, and an untrained SID."""
    lines = []
    for i, image in enumerate(moving_face(0, count, 512)):
        media.write_image(folder / f"{i}.png", image)
        lines.append(json.dumps({"file_name": f"{i}.png", "text": "a portrait of a woman", "identity": "anna"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def build(folder: Path, precision: str, batch: int, cached: bool) -> tuple[objectives.Learning, PortraitDataset]:
    values = {
        "dataset_params": {"root_dir": str(folder), "resolution": 512, "cache_dir": str(folder / "cache")},
        "model_params": {
            "base_params": {"path": "random"},
            "sid_params": {"config": str(SID), "checkpoint": str(SID)},
        },
        "train_params": {"batch_size": batch, "precision": precision, "ema_decay": 0.9999},
        "validation_params": {"prompts": ["a portrait"], "identities": [], "expressions": []},
    }
    config = mef_config_from_dict(values)
    sid = load_config(SID)
    encoders = SIDEncoders(sid.model_params.encoder_params, sid.dataset_params.frame_shape[:2])
    frozen = FrozenNetworks(random_base(dtype_of(precision)), Embedder(encoders), 512)
    tables, _ = read_tables(config)
    cache = None
    if cached:
        cache = Cache(config, tables)
        cache.build(cache.missing(), frozen)
    dataset = PortraitDataset(tables, frozen.latent_shape, 1000, config.train_params, cache)
    return objectives.build(config, frozen, dataset, embedding_sample(cache, tables, frozen)), dataset
