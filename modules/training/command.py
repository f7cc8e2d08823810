"""What the command line says of a training run.  Nothing heavy is imported here: mistakes are told at once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .checkpoint_file import check_file


@dataclass(frozen=True)
class Run:
    """What the command line says of a run.

    Attributes:
        config_path: the configuration's file; runs are named after it.
        checkpoint: continue from it (in its own run's folder if it lies in one), or start from its weights.
        log_dir: the folder that runs' folders are made in.
        device_ids: ``"0,1"`` runs one process per device, GPUs if there are any, else CPU processes over gloo.
        resume: ``"auto"`` continues the newest run of this configuration under ``log_dir``, or starts one; anything
            else is a checkpoint's path.
        finetune: take the checkpoint's (averaged) weights alone: a new run, at epoch 0.
    """

    config_path: str
    checkpoint: str | None = None
    log_dir: str = "log"
    device_ids: str | None = None
    resume: str | None = None
    finetune: bool = False
    cpu: bool = False


def checkpoint_of(run: Run) -> Path | None:
    """The checkpoint that a run starts from, if any.  Raises UserError where options contradict each other."""
    if run.checkpoint is not None and run.resume is not None:
        raise UserError("--checkpoint and --resume both name a run to continue; give one of them")
    if run.resume == "auto":
        checkpoint = newest_checkpoint(run.log_dir, run.config_path)
    else:
        named = run.checkpoint or run.resume
        checkpoint = None if named is None else Path(named)
    if run.finetune and checkpoint is None:
        raise UserError("--finetune needs the --checkpoint to start from")
    return checkpoint


def check_run(run: Run, may_be_folder: bool = False) -> None:
    """UserError where options contradict each other, or the checkpoint is not there.

    ``may_be_folder``: where a folder will do as well, it is looked into later.
    """
    checkpoint = checkpoint_of(run)
    if checkpoint is not None and not (may_be_folder and checkpoint.is_dir()):
        check_file(checkpoint)


def newest_checkpoint(log_dir: str | os.PathLike, config_path: str | os.PathLike) -> Path | None:
    """The last checkpoint written by any run of this configuration under ``log_dir``; None if there is none."""
    stem = Path(config_path).stem
    found = [
        path
        for folder in Path(log_dir).glob("* *")
        if folder.name.rsplit(" ", 1)[0] == stem
        for path in folder.glob("*-checkpoint.pth.tar")
    ]
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
