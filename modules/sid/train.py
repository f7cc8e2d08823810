"""Training SID from a configuration: data, stage, loop, in that order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from modules import checkpoint as files
from modules.config import Config, load_config, save_config
from modules.data.sampling import build_loader
from modules.errors import UserError
from modules.launch import device_list, launched, select_devices, spawn
from modules.sid.stage import SIDStage
from modules.sid.weights import to_start_from
from modules.training import Trainer, build_accelerator, new_run_folder, newest_checkpoint


def train(
    config_path: str,
    checkpoint: str | None = None,
    log_dir: str = "log",
    device_ids: str | None = None,
    resume: str | None = None,
    finetune: bool = False,
    cpu: bool = False,
) -> Path:
    """Train SID; return the run's folder.

    Args:
        checkpoint: continue from it (in its own run's folder if it lies in one), or start from FOMM's weights.
        device_ids: ``"0,1"`` runs one process per device, GPUs if there are any, else CPU processes over gloo.
        resume: ``"auto"`` continues the newest run of this configuration under ``log_dir``, or starts one; anything
            else is a checkpoint's path.
        finetune: take the checkpoint's weights alone, of a model for other frame sizes too: a new run, at epoch 0.
    """
    config = load_config(config_path)
    if checkpoint is not None and resume is not None:
        raise UserError("--checkpoint and --resume say the same; give one of them")
    if resume == "auto":
        checkpoint = newest_checkpoint(log_dir, config_path)
    elif resume is not None:
        checkpoint = resume
    if finetune and checkpoint is None:
        raise UserError("--finetune needs the --checkpoint to start from")
    # read before processes are started or a folder is made: a bad checkpoint or data set then leaves nothing behind
    found = files.load(checkpoint) if checkpoint is not None else None
    if resume == "auto" and found is not None and _finished(found, config):
        print(f"nothing left to train: {checkpoint} has all {config.train_params.num_epochs} epochs")
        return Path(checkpoint).parent
    if finetune:
        found = to_start_from(found, config.model_params)
    _check_roots(config)
    devices = device_list(device_ids)
    if not launched():
        select_devices(devices, cpu)
        if len(devices) > 1:
            spawn(len(devices))

    accelerator = build_accelerator(config.train_params, cpu)
    trainer, loaded = _build(config, accelerator, found, checkpoint, finetune)
    main = accelerator.is_main_process
    own = _own_run_folder(found, checkpoint, config_path) if not finetune else None
    folder = [str(own or new_run_folder(log_dir, config_path)) if main else None]
    trainer.folder = Path(broadcast_object_list(folder)[0])
    if main:
        record = trainer.folder / Path(config_path).name
        if record.resolve() != Path(config_path).resolve():
            save_config(config, record)
        if own is None:
            trainer.log_left_out(f"{path}: {reason}" for path, reason in trainer.loader.dataset.bad_clips.items())
        if loaded is not None and loaded.missing:
            print(f"warm start from {checkpoint}: {len(loaded.missing)} tensors of encoders, FiLM, motion head are new")
        if loaded is not None and loaded.fresh and config.train_params.loss_weights.generator_gan:
            print(f"{checkpoint} has no {loaded.fresh[0]} of the configured kind: it starts anew")
        print(f"training in '{trainer.folder}' on {accelerator.num_processes} process(es), {accelerator.device}")
    del found  # as large as the model and its optimisers
    trainer.run()
    if main:
        print(f"trained {config.train_params.num_epochs} epochs; the last checkpoint is in '{trainer.folder}'")
    accelerator.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return trainer.folder


def _finished(found: dict[str, Any], config: Config) -> bool:
    return found.get("training", {}).get("epoch", 0) >= config.train_params.num_epochs


def _check_roots(config: Config) -> None:
    for root in config.dataset_params.roots:
        if not Path(root.path).is_dir():
            raise UserError(f"{root.path}: no such folder of training data; set dataset_params.root_dir")


def _build(config: Config, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint, finetune: bool):
    """The trainer at its starting position, and what the checkpoint could not give (None without one)."""
    train = config.train_params
    rank, world = accelerator.process_index, accelerator.num_processes
    weights = train.loss_weights
    if (weights.cycle_identity or weights.cycle_semantics) and train.batch_size // world < 2:
        raise UserError(
            f"train_params.batch_size: {train.batch_size} over {world} process(es) leaves one item each; the cycle "
            "terms drive everybody by a neighbour and need two"
        )
    stage = SIDStage(config)
    loader = build_loader(config.dataset_params, train, rank=rank, world_size=world, progress=rank == 0)
    with accelerator.local_main_process_first():
        loader.dataset.prepare_cache(progress=rank == 0)
    trainer = Trainer(stage, loader, train, accelerator)
    loaded = trainer.resume(found, checkpoint, finetune) if found is not None else None
    return trainer, loaded


def _own_run_folder(
    found: dict[str, Any] | None, checkpoint: str | os.PathLike | None, config_path: str
) -> Path | None:
    """The run folder the checkpoint lies in, if it is one of this configuration."""
    if found is None or "training" not in found:
        return None
    folder = Path(checkpoint).parent
    inside = (folder / "log.txt").is_file() and (folder / Path(config_path).name).is_file()
    return folder if inside else None
