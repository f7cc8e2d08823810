"""The networks of a small base, all of them diffusers' and transformers' own classes."""

from __future__ import annotations

import string
from collections.abc import Iterable

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...config.small_base import AutoencoderParams, DenoiserParams

MAX_TOKENS = 77  # of a caption, as in Stable Diffusion
VOCABULARY = 2000  # at most: the words of the captions, and letters for all others
TEXT_HEADS = 4
AUTOENCODER_GROUPS, DENOISER_GROUPS = 8, 16  # that channels are normalised in
FIRST_LOG_VARIANCE = -6.0  # of the posterior of an untrained autoencoder


def build_autoencoder(params: AutoencoderParams, resolution: int) -> AutoencoderKL:
    """Pictures ``[B, 3, H, W]`` in [-1, 1] to latents ``[B, C, H/f, W/f]`` and back; f doubles with every level."""
    levels = len(params.channels)
    autoencoder = AutoencoderKL(
        block_out_channels=tuple(params.channels),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=params.layers,
        latent_channels=params.latent_channels,
        norm_num_groups=AUTOENCODER_GROUPS,
        mid_block_add_attention=False,
        sample_size=resolution,
    )
    with torch.no_grad():  # at a deviation of 1 noise would drown what the first steps write into the latents
        autoencoder.quant_conv.bias[params.latent_channels :] = FIRST_LOG_VARIANCE
    return autoencoder


def build_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """CLIP's tokenizer with the vocabulary of ``captions``: their words are whole tokens, others are spelt."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    alphabet = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    blank = CLIPTokenizer(vocab={token: i for i, token in enumerate(alphabet)}, merges=[])
    texts = [*sorted(set(captions)), " ".join(letters)]  # each letter as a word, for whatever stands alone in a prompt
    trained = blank.train_new_from_iterator(
        texts, VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    trained.model_max_length = MAX_TOKENS
    return trained


def tokenizer_text(tokenizer: CLIPTokenizer) -> str:
    """A tokenizer as one string, for a checkpoint: token numbers mean nothing without it."""
    return tokenizer.backend_tokenizer.to_str()


def restore_tokenizer(text: str) -> CLIPTokenizer:
    """The tokenizer that :func:`tokenizer_text` wrote down."""
    tokenizer = CLIPTokenizer(tokenizer_object=Tokenizer.from_str(text))
    tokenizer.model_max_length = MAX_TOKENS
    return tokenizer


def build_text_encoder(params: DenoiserParams, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Token numbers ``[B, 77]`` to states ``[B, 77, text_width]``."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=params.text_width,
            intermediate_size=4 * params.text_width,
            num_hidden_layers=params.text_layers,
            num_attention_heads=TEXT_HEADS,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=params.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_unet(params: DenoiserParams, latent_channels: int, side: int) -> UNet2DConditionModel:
    """Stable Diffusion's UNet for latents of ``side``: cross-attention at every level but the finest, as in SDXL.

    Attention between all of the finest level's places is dear on a CPU.
    """
    attentive = len(params.channels) - 1
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(params.channels),
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attentive,
        up_block_types=("CrossAttnUpBlock2D",) * attentive + ("UpBlock2D",),
        layers_per_block=params.layers,
        norm_num_groups=DENOISER_GROUPS,
        cross_attention_dim=params.text_width,
        attention_head_dim=tuple(max(1, width // params.head_width) for width in params.channels),  # head counts
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise schedule; v is predicted, which needs no large weights where there is much noise."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
