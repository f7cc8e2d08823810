"""Stable Diffusion of every kind, small enough for tests, with random weights, in diffusers' own layout."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

KINDS = ("sd15", "sd21", "sdxl")


def tokenizer() -> CLIPTokenizer:
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[], model_max_length=32)


def text_config(width: int, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=60,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=32,
        projection_dim=projection,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        sample_size=32,
    )


def unet(kind: str) -> UNet2DConditionModel:
    common = {"sample_size": 16, "in_channels": 4, "out_channels": 4, "norm_num_groups": 8}
    torch.manual_seed(KINDS.index(kind))
    if kind == "sdxl":
        return UNet2DConditionModel(
            **common,
            block_out_channels=(16, 32),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            cross_attention_dim=48,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
    return UNet2DConditionModel(
        **common,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=24 if kind == "sd15" else 32,
        attention_head_dim=2 if kind == "sd15" else (2, 4),
        use_linear_projection=kind == "sd21",
    )


def build(kind: str) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """A pipeline of random weights; 32 x 32 pixels, 16 x 16 latents."""
    torch.manual_seed(0)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    if kind == "sdxl":
        second = CLIPTextModelWithProjection(text_config(24, 24))
        return StableDiffusionXLPipeline(
            vae=autoencoder(),
            text_encoder=CLIPTextModel(text_config(24, 24)),
            text_encoder_2=second,
            tokenizer=tokenizer(),
            tokenizer_2=tokenizer(),
            unet=unet(kind),
            add_watermarker=False,
            scheduler=EulerDiscreteScheduler(**schedule),
        )
    prediction = "epsilon" if kind == "sd15" else "v_prediction"
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(text_config(24 if kind == "sd15" else 32, 32)),
        tokenizer=tokenizer(),
        unet=unet(kind),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        scheduler=DDIMScheduler(
            **schedule, steps_offset=1, prediction_type=prediction, clip_sample=False, set_alpha_to_one=False
        ),
    )


def save(kind: str, folder: Path) -> Path:
    build(kind).save_pretrained(folder)
    return folder
