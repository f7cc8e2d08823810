"""The frozen base: Stable Diffusion 1.x, 2.x or XL by hub id, folder or single file."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import logging
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTokenizer
from transformers.utils import logging as transformers_logging

from ..config.mef import BaseParams
from ..errors import UserError
from .checks import check_base

FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"  # of a single file
INPAINTING_CHANNELS = 9  # noisy latent, mask, latent of the background
SMALL_VOCABULARY = 10_000  # tokens; CLIP has 49,408
InpaintingBase: TypeAlias = StableDiffusionInpaintPipeline | StableDiffusionXLInpaintPipeline
Base: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline | InpaintingBase
SCHEDULERS = {
    # said here, since bases whose own scheduler has no such options do not say it: latents are of any size
    "ddim": (DDIMScheduler, {"clip_sample": False, "set_alpha_to_one": False}),
    "dpm++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
    "euler": (EulerDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),  # for bases, or LoRAs on them, distilled for it
}


def load_base(params: BaseParams, dtype: torch.dtype = torch.float32) -> Base:
    """The base's pipeline, on the CPU: of text to image or, where its UNet has the channels for it, of inpainting.

    Raises:
        UserError: nothing of that name, or not a Stable Diffusion 1.x, 2.x or XL of one of the two.
    """
    path = Path(params.path)
    try:
        with quiet():
            pipeline = _load(path, params, dtype)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{params.path}: no Stable Diffusion base can be loaded from there ({reason})") from error
    if not isinstance(pipeline, Base):
        raise UserError(f"{params.path}: a {type(pipeline).__name__}; expected Stable Diffusion 1.x, 2.x or XL")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what diffusers and transformers say of ordinary loading off the screen; downloads still show."""
    before = logging.get_verbosity(), transformers_logging.get_verbosity()
    logging.set_verbosity_error()
    transformers_logging.set_verbosity_error()
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(before[0])
        transformers_logging.set_verbosity(before[1])


def _load(path: Path, params: BaseParams, dtype: torch.dtype) -> Any:
    check_base(params.path, params.config)
    if path.suffix == ".safetensors":
        return _load_single_file(path, params.config, dtype)
    variant = {"variant": params.variant} if params.variant else {}
    return DiffusionPipeline.from_pretrained(params.path, torch_dtype=dtype, **variant)


def _load_single_file(path: Path, config: str | None, dtype: torch.dtype) -> Base:
    with safe_open(path, framework="pt") as file:
        is_xl = any(name.startswith("conditioner.embedders.1.") for name in file.keys())  # noqa: SIM118 (no dict)
        first = file.get_slice(FIRST_LAYER).get_shape() if FIRST_LAYER in file.keys() else [0, 0]  # noqa: SIM118
    of_text = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    of_pictures = StableDiffusionXLInpaintPipeline if is_xl else StableDiffusionInpaintPipeline
    kind = of_pictures if first[1] == INPAINTING_CHANNELS else of_text
    return kind.from_single_file(str(path), torch_dtype=dtype, **({"config": config} if config else {}))


def is_xl(base: Base) -> bool:
    return isinstance(base, StableDiffusionXLPipeline | StableDiffusionXLInpaintPipeline)


def is_inpainting(base: Base) -> bool:
    """Whether its UNet reads a mask and a background beside the noisy latent."""
    return base.unet.config.in_channels == 2 * base.vae.config.latent_channels + 1


@contextlib.contextmanager
def finite_pictures(base: Any, path: str) -> Iterator[None]:
    """Within the block, raise UserError for latents or pictures that are not finite: they would come out black.

    It names the weight of ``path`` that is to blame, if there is one.
    """

    def check(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        what = next(
            (what for what, t in (("latents", inputs[0]), ("pictures", output)) if not t.isfinite().all()), None
        )
        if what is not None:
            raise UserError(_why_not_finite(base, path, what))

    hook = base.vae.decoder.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


def _why_not_finite(base: Any, path: str, what: str) -> str:
    for part, network in base.components.items():
        for name, value in network.state_dict().items() if isinstance(network, nn.Module) else ():
            if not value.is_meta and not value.isfinite().all():
                return f"{path}: {part}: {name} is not finite: fetch the base again, or take another"
    return f"{path}: its {what} are not finite, though its weights are: try float32 or another scheduler"


def set_scheduler(base: Any, name: str) -> None:
    """Sample with ``ddim``, ``dpm++``, ``euler`` or ``lcm`` on the base's own noise schedule."""
    kind, options = SCHEDULERS[name]
    base.scheduler = kind.from_config(base.scheduler.config, **options)


def check_steps(base: Any, steps: int) -> None:
    """UserError for more denoising steps than the base's scheduler has."""
    scheduler = base.scheduler
    try:
        scheduler.set_timesteps(steps)
        reached = float(scheduler.timesteps.max())
    except ValueError:
        reached = math.inf
    if reached >= scheduler.config.num_train_timesteps:
        raise UserError(f"--steps: {steps} are too many for this scheduler; use fewer")


def training_noise(base: Base) -> DDPMScheduler:
    """The noise the base was trained with.  Raises UserError for a base that predicts neither noise nor v."""
    scheduler = DDPMScheduler.from_config(base.scheduler.config)
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise UserError(f"the base predicts {scheduler.config.prediction_type}; expected epsilon or v_prediction")
    return scheduler


def part_read(prompt: str, tokenizer: CLIPTokenizer) -> str | None:
    """How much of a prompt the base reads, where that is not all of it."""
    with quiet():
        tokens = tokenizer(prompt, add_special_tokens=False, truncation=False).input_ids
    room = tokenizer.model_max_length - 2  # start and end
    if len(tokens) <= room:
        return None
    end = tokenizer.decode(tokens[:room])[-30:]
    return f"the base reads its first {room} tokens of {len(tokens)}, up to '...{end}'"


def spelt_words(prompt: str, tokenizer: CLIPTokenizer) -> list[str]:
    """Words of a prompt that the vocabulary of a base trained on few captions lacks, so that it spells them.

    A single letter is never one of them.  Nothing is said of a large vocabulary: CLIP spells words that it knows well.
    """
    if len(tokenizer) >= SMALL_VOCABULARY:
        return []
    words = dict.fromkeys(re.findall(r"[^\W\d_]+", prompt.lower()))
    return [word for word in words if len(tokenizer.tokenize(word)) != 1]
