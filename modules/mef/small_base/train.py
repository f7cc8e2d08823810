"""Training a small base: its autoencoder first, then text encoder and denoiser together; each read downwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

from ...atomic import check_place
from ...config.files import config_to_dict
from ...config.mef import BaseParams
from ...config.small_base import SmallBaseConfig
from ...config.training import LoopParams
from ...data.portraits import Portrait, read_portraits
from ...data.sampling import loader_of
from ...errors import UserError
from ...training.checkpoint import load_checkpoint
from ...training.launch import one_voice
from ...training.log import left_out
from ...training.run import (
    Run,
    Start,
    close,
    continue_from,
    is_complete,
    nothing_left,
    open_folder,
    start_processes,
    starting_point,
)
from ...training.trainer import Trainer
from ..base import load_base, quiet
from . import autoencoder, networks
from .common import LAYOUT
from .denoiser import TOKENIZER, Denoiser, DenoiserTraining, Latents
from .folder import INDEX, VAE, check_same_latents, read_autoencoder, save, take_over, vae_of
from .latents import encode_all, portrait_latents

SAMPLE = 1024  # pictures whose latents tell their spread


@one_voice()
def train_autoencoder(config: SmallBaseConfig, out: Path, run: Run) -> Path:
    """Train the autoencoder and write ``<out>/vae``; return the run's folder.  Raises UserError."""
    train, params = config.autoencoder_train_params, config.model_params.autoencoder_params

    def read(path: str) -> dict[str, Any]:
        """Of a run, or a base's folder, which has weights alone."""
        if not Path(path).is_dir():
            return load_checkpoint(path)
        return {"network": read_autoencoder(Path(path) / VAE, params).state_dict()}

    start, entries = starting_point(run, read)
    complete = is_complete(start, train, out / VAE / "config.json")
    if complete and run.resume == "auto":
        return nothing_left(start)
    if train.frozen_encoder and entries is None:
        raise UserError("autoencoder_train_params.frozen_encoder: needs --finetune and a --checkpoint")
    check_place(out / INDEX)
    base = _base_of(start)
    if base is not None and train.frozen_encoder:
        check_same_latents(out, base, params)
    portraits, bad = read_portraits(config.dataset_params.root_dir)
    accelerator = start_processes(run, train)

    network, objectives = autoencoder.build(config)
    resolution = config.dataset_params.resolution
    side = resolution // 2 ** (len(network.config.block_out_channels) - 1)
    shape = (network.config.latent_channels, side, side)
    loader = _loader(autoencoder.Pictures(portraits, resolution, shape, train), train, config, accelerator)
    notes = {"small_base": config_to_dict(config)}
    trainer = Trainer(network, LAYOUT, objectives, loader, train, accelerator, notes=notes, picture=autoencoder.picture)
    continue_from(trainer, start, entries, complete, run.finetune)
    del entries

    folder = open_folder(run, start, config, accelerator)
    if accelerator.is_main_process:
        if base is not None and train.frozen_encoder:
            take_over(out, base)  # all of the base: its denoiser knows these latents
        _announce(folder, start, portraits, bad, network)
    trainer.fit(folder)
    if accelerator.is_main_process:
        made = trainer.averaged.eval()
        known = vae_of(out, base)
        if train.frozen_encoder and (known / "config.json").is_file():  # what a denoiser was, or may have been, taught
            scaling = AutoencoderKL.load_config(known)["scaling_factor"]
        else:
            scaling = _scaling(made, portraits, resolution)
        made.register_to_config(scaling_factor=scaling)
        save(made, out / VAE)
        print(f"autoencoder: '{out / VAE}'")
        if not train.frozen_encoder:
            print(f"its latents are new: now train the denoiser of '{out}'")
    close(accelerator)
    return folder


@one_voice()
def train_denoiser(config: SmallBaseConfig, out: Path, run: Run) -> Path:
    """Train text encoder and UNet on the latents of ``<out>/vae``, or of the base it starts from; write ``out``.

    Returns the run's folder.  Raises UserError.
    """
    train, params = config.denoiser_train_params, config.model_params.autoencoder_params
    start, entries = starting_point(run, _read_denoiser)
    complete = is_complete(start, train, out / INDEX)
    if complete and run.resume == "auto":
        return nothing_left(start)
    check_place(out / INDEX)
    base = _base_of(start)
    if base is not None:
        check_same_latents(out, base, params)
    portraits, bad = read_portraits(config.dataset_params.root_dir)
    vae = vae_of(out, base)
    if not (vae / "config.json").is_file():
        raise UserError(f"{vae}: no such folder; train the autoencoder first (--part autoencoder)")
    accelerator = start_processes(run, train)

    latents_of = read_autoencoder(vae, params).to(accelerator.device)
    captions = [portrait.text for portrait in portraits]
    if entries is not None and TOKENIZER in entries:
        tokenizer = networks.restore_tokenizer(entries[TOKENIZER])  # other captions would number words otherwise
    else:
        tokenizer = networks.build_tokenizer(captions)
    tokens = _tokens(tokenizer, ["", *captions])
    training = DenoiserTraining(config, latents_of, tokenizer, tokens[0], portraits)
    rows = portrait_latents(latents_of, portraits, config.dataset_params, accelerator)
    timesteps = training.scheduler.config.num_train_timesteps
    loader = _loader(Latents(rows, tokens[1:], tokens[0], timesteps, config), train, config, accelerator)
    notes = {"small_base": config_to_dict(config), TOKENIZER: networks.tokenizer_text(tokenizer)}
    trainer = Trainer(
        training.network, LAYOUT, training.objectives, loader, train, accelerator, notes=notes, picture=training.picture
    )
    continue_from(trainer, start, entries, complete, run.finetune)
    del entries

    folder = open_folder(run, start, config, accelerator)
    if accelerator.is_main_process:
        if base is not None:
            take_over(out, base, VAE)
        _announce(folder, start, portraits, bad, training.network)
    trainer.fit(folder)
    if accelerator.is_main_process:
        with quiet():
            save(training.pipeline(trainer.averaged), out)
        print(f"base: '{out}'")
    close(accelerator)
    return folder


def _read_denoiser(path: str) -> dict[str, Any]:
    """Of a run, or a base's folder, which has weights alone."""
    if not Path(path).is_dir():
        return load_checkpoint(path)
    base = load_base(BaseParams(path=path))
    network = Denoiser(base.text_encoder, base.unet).state_dict()
    return {"network": network, TOKENIZER: networks.tokenizer_text(base.tokenizer)}


def _base_of(start: Start) -> Path | None:
    """The base's folder that a run starts from, where it is one."""
    return start.path if start.path is not None and start.path.is_dir() else None


def _loader(dataset: Dataset, train: LoopParams, config: SmallBaseConfig, accelerator: Accelerator) -> DataLoader:
    workers = config.dataset_params.num_workers
    return loader_of(dataset, train, workers, accelerator.process_index, accelerator.num_processes)


def _announce(
    folder: Path, start: Start, portraits: list[Portrait], bad: dict[str, str], network: torch.nn.Module
) -> None:
    if start.is_new:
        left_out(folder, (f"{path}: {reason}" for path, reason in bad.items()))
    count = sum(p.numel() for p in network.parameters())
    print(f"{len(portraits)} portraits; {count / 1e6:.2f} M parameters to train")


def _scaling(network: AutoencoderKL, portraits: list[Portrait], resolution: int) -> float:
    """The denoiser's latents are to have a spread of 1."""
    some = portraits[:: max(1, len(portraits) // SAMPLE)]
    rows = encode_all(network, some, resolution, True)
    return float(1 / (rows["mean"].float().var() + rows["deviation"].float().square().mean()).sqrt())


def _tokens(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """int64 ``[N, 77]``, as Stable Diffusion's pipelines tokenise."""
    return tokenizer(
        captions, padding="max_length", max_length=networks.MAX_TOKENS, truncation=True, return_tensors="pt"
    ).input_ids
