"""Training SID from a configuration: data, stage, loop, in that order."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list

from modules import checkpoint as files
from modules.config import load_config, save_config
from modules.data.sampling import build_loader
from modules.errors import UserError
from modules.launch import device_list, launched, select_devices, spawn
from modules.sid.stage import SIDStage
from modules.training import Trainer, build_accelerator, new_run_folder, newest_checkpoint


def train(
    config_path: str,
    checkpoint: str | None = None,
    log_dir: str = "log",
    device_ids: str | None = None,
    resume: str | None = None,
    cpu: bool = False,
) -> Path:
    """Train SID; return the run's folder.

    Args:
        checkpoint: continue from it (in its own run's folder if it lies in one), or start from FOMM's weights.
        device_ids: ``"0,1"`` runs one process per device, GPUs if there are any, else CPU processes over gloo.
        resume: ``"auto"`` continues the newest run of this configuration under ``log_dir``, or starts one; anything
            else is a checkpoint's path.
    """
    config = load_config(config_path)
    if checkpoint is not None and resume is not None:
        raise UserError("--checkpoint and --resume say the same; give one of them")
    if resume == "auto":
        checkpoint = newest_checkpoint(log_dir, config_path)
    elif resume is not None:
        checkpoint = resume
    devices = device_list(device_ids)
    if not launched():
        select_devices(devices, cpu)
        if len(devices) > 1:
            spawn(len(devices))

    accelerator = build_accelerator(config.train_params, cpu)
    main = accelerator.is_main_process
    # read before a folder is made: a bad checkpoint or data set leaves nothing behind
    found = files.load(checkpoint) if checkpoint is not None else None
    stage = SIDStage(config)
    loader = build_loader(
        config.dataset_params,
        config.train_params,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        progress=main,
    )
    folder = [_run_folder(found, checkpoint, log_dir, config_path) if main else None]
    folder = Path(broadcast_object_list(folder)[0])
    trainer = Trainer(stage, loader, config.train_params, folder, accelerator)
    if found is not None:
        missing = trainer.resume(found, checkpoint)
        if main and missing:
            print(f"warm start from {checkpoint}: {len(missing)} tensors of the encoders, FiLM and motion head are new")
    if main:
        save_config(config, folder / Path(config_path).name)
        print(f"training in '{folder}' on {accelerator.num_processes} process(es), {accelerator.device}")
    trainer.run()
    accelerator.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return folder


def _run_folder(found: dict | None, checkpoint: str | os.PathLike | None, log_dir: str, config_path: str) -> Path:
    """The folder of the run the checkpoint comes from, or a new one."""
    if found is not None and "training" in found and (Path(checkpoint).parent / Path(config_path).name).is_file():
        return Path(checkpoint).parent
    return new_run_folder(log_dir, config_path)
