"""Training SID: data, networks, losses, loop, read downwards."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch.utils.data import DataLoader

from ..config.files import config_to_dict
from ..config.rigged import RiggedConfig
from ..config.sid import Config
from ..data.frames import FrameDataset
from ..data.sampling import build_loader
from ..errors import UserError
from ..training.launch import one_voice, share_of_work
from ..training.log import left_out
from ..training.run import (
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
from ..training.trainer import Loaded, Trainer
from . import objectives
from .rigged.train import train_rigged
from .visualizer import Visualizer
from .weights import to_start_from


def train(config: Config | RiggedConfig, run: Run) -> Path:
    """Train SID in the way of its configuration; return the run's folder.  Raises UserError."""
    return train_rigged(config, run) if isinstance(config, RiggedConfig) else train_sid(config, run)


@one_voice()
def train_sid(config: Config, run: Run) -> Path:
    """Train SID; return the run's folder.

    Raises:
        UserError: data, checkpoint and configuration are not there or do not fit; losses are not finite any more.
    """
    train = config.train_params
    start, entries = starting_point(run)
    complete = is_complete(start, train)
    if complete and run.resume == "auto":
        return nothing_left(start)
    _check_files(config)
    accelerator = start_processes(run, train)
    _check_share(config, accelerator.num_processes)

    learning = objectives.build(config)
    loader = _loader(config, accelerator)
    targets = learning.generator_step.targets
    trainer = Trainer(
        learning.model,
        objectives.LAYOUT,
        learning.objectives,
        loader,
        train,
        accelerator,
        beside={"discriminator": learning.discriminator} | ({} if targets is None else {"targets": targets}),
        notes={"model_params": config_to_dict(config.model_params)},
        picture=lambda rendered, _: Visualizer(config.visualizer_params).sheet(rendered),
    )
    if run.finetune:
        entries = to_start_from(entries, config.model_params)
    loaded = continue_from(trainer, start, entries, complete, run.finetune)
    if loaded is not None and targets is not None and (run.finetune or "targets" in loaded.fresh):
        targets.load_state_dict(learning.model.encoders.state_dict())  # a new run's judge starts as they are
    del entries  # as large as the model and its optimisers

    folder = open_folder(run, start, config, accelerator)
    if accelerator.is_main_process:
        _announce(config, folder, loader, start, loaded)
    trainer.fit(folder)
    if accelerator.is_main_process:
        print(f"trained {trainer.position.epoch} epochs; the last checkpoint is in '{folder}'")
    close(accelerator)
    return folder


def _loader(config: Config, accelerator: Accelerator) -> DataLoader:
    """The loader of this process; clips are indexed, and decoded into ``cache_dir``, by all processes together."""
    data, rank, world = config.dataset_params, accelerator.process_index, accelerator.num_processes
    # the first process of a machine leaves to the others what it learns of the videos
    first = accelerator.local_main_process_first() if data.cache_dir else nullcontext()
    with first:
        loader = build_loader(data, config.train_params, rank=rank, world_size=world, progress=rank == 0)
    cast(FrameDataset, loader.dataset).prepare_cache(*share_of_work(rank, world), progress=rank == 0)
    accelerator.wait_for_everyone()
    return loader


def _check_files(config: Config) -> None:
    for root in config.dataset_params.roots:
        if not Path(root.path).is_dir():
            raise UserError(f"{root.path}: no such folder of training data; set dataset_params.root_dir")
    network = config.train_params.perceptual_network
    if network.weights == "imagenet" and network.path is not None and not Path(network.path).is_file():
        raise UserError(f"{network.path}: no such file; train_params.perceptual_network.path names it")


def _check_share(config: Config, processes: int) -> None:
    """UserError where a process's share of a batch is too small for the losses."""
    train, encoder = config.train_params, config.model_params.encoder_params
    weights, share = train.loss_weights, train.batch_size // processes
    where = f"train_params.batch_size: {train.batch_size} over {processes} process(es) leaves one item each"
    if (weights.cycle_identity or weights.cycle_semantics) and train.rendered(share) == 1:
        raise UserError(f"{where} to render; the cycle terms drive everybody by a neighbour and need two")
    normalised = encoder is not None and encoder.face_pixels and train.lr_encoders and not train.frozen_norms
    if normalised and share < 2:
        raise UserError(f"{where}; the batch norm of encoders with face_pixels needs two")


def _announce(config: Config, folder: Path, loader: DataLoader, start: Start, loaded: Loaded | None) -> None:
    """Print notes on how the run starts."""
    left_out(folder, (f"{path}: {reason}" for path, reason in cast(FrameDataset, loader.dataset).bad_clips.items()))
    if loaded is not None and loaded.missing:
        print(f"warm start from {start.path}: {len(loaded.missing)} tensors (encoders and what shows them) are new")
    if loaded is not None and "discriminator" in loaded.fresh and config.train_params.loss_weights.generator_gan:
        print(f"{start.path} has no discriminator of the configured kind; a new one is trained")
