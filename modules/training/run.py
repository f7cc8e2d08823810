"""A training run from its command line to its end, for either stage: checkpoint, processes, folder, loop."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..config.files import save_config
from ..config.training import LoopParams
from ..devices import device_list, select_devices, share_of_batch
from ..errors import UserError
from .launch import launched, one_voice, spawn
from .loop import Loaded, Trainer, build_accelerator


class Recipe(Protocol):
    """What a run needs to know of its stage."""

    config: Any  # what is written beside the checkpoints
    train_params: LoopParams

    def read(self, checkpoint: str) -> dict[str, Any]:
        """What a checkpoint holds, as :func:`.training.checkpoint.load_checkpoint` gives it.  Raises UserError."""

    def check(self) -> None:
        """Raise UserError for data that is not there: before processes are started or a folder is made."""

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        """The trainer at its starting position, and what the checkpoint could not give (None without one)."""

    def announce(self, trainer: Trainer, loaded: Loaded | None, checkpoint: str | None, is_new: bool) -> None:
        """Say what is worth knowing of the start, on the main process, once the run has its folder."""

    def left(self, folder: Path) -> Path | None:
        """The file that :meth:`finish` writes last, for a run in ``folder``; None if it writes nothing."""

    def finish(self, trainer: Trainer) -> None:
        """Write what a finished run leaves beside its checkpoints, on the main process."""


@one_voice()
def run(
    make_recipe: Callable[[str], Recipe],
    config_path: str,
    checkpoint: str | None = None,
    log_dir: str = "log",
    device_ids: str | None = None,
    resume: str | None = None,
    finetune: bool = False,
    cpu: bool = False,
) -> Path:
    """Train; return the run's folder.

    Args:
        make_recipe: makes the stage's recipe from the configuration's path.
        checkpoint: continue from it (in its own run's folder if it lies in one), or start from its weights.
        device_ids: ``"0,1"`` runs one process per device, GPUs if there are any, else CPU processes over gloo.
        resume: ``"auto"`` continues the newest run of this configuration under ``log_dir``, or starts one; anything
            else is a checkpoint's path.
        finetune: take the checkpoint's (averaged) weights alone: a new run, at epoch 0.
    """
    recipe = make_recipe(config_path)
    params = recipe.train_params
    if checkpoint is not None and resume is not None:
        raise UserError("--checkpoint and --resume say the same; give one of them")
    if resume == "auto":
        checkpoint = newest_checkpoint(log_dir, config_path)
    elif resume is not None:
        checkpoint = resume
    if finetune and checkpoint is None:
        raise UserError("--finetune needs the --checkpoint to start from")
    # read before processes are started or a folder is made: a bad checkpoint or data set then leaves nothing behind
    found = recipe.read(checkpoint) if checkpoint is not None else None
    own = _own_run_folder(found, checkpoint, config_path) if not finetune else None
    finished = own is None or _finished(recipe, Path(checkpoint))
    over = found is not None and found.get("training", {}).get("epoch", 0) >= params.num_epochs
    if resume == "auto" and over and finished:
        print(f"nothing left to train: {checkpoint} has all {params.num_epochs} epochs")
        return Path(checkpoint).parent
    recipe.check()
    devices = device_list(device_ids)
    if not launched():
        select_devices(devices, cpu)
        share_of_batch(params.batch_size, max(1, len(devices)))
        if len(devices) > 1:
            spawn(len(devices))

    accelerator = build_accelerator(params, cpu)
    main = accelerator.is_main_process
    if not main:  # what it warns of, the main process does too
        logging.getLogger(__name__.partition(".")[0]).setLevel(logging.ERROR)
    trainer, loaded = recipe.build(accelerator, found, checkpoint, finetune)
    if trainer.position.epoch >= params.num_epochs and finished:
        again = " (its rates then jump up again along the longer cosine)" if params.cosine else ""
        raise UserError(
            f"{checkpoint}: all {params.num_epochs} epochs are done: raise train_params.num_epochs{again}, or start a "
            "new run from its weights with --finetune"
        )
    folder = [str(own or new_run_folder(log_dir, config_path)) if main else None]
    trainer.folder = Path(broadcast_object_list(folder)[0])
    if main:
        record = trainer.folder / Path(config_path).name
        if record.resolve() != Path(config_path).resolve():
            save_config(recipe.config, record)
        recipe.announce(trainer, loaded, checkpoint, own is None)
        print(f"training in '{trainer.folder}' on {accelerator.num_processes} process(es), {accelerator.device}")
    del found  # as large as the model and its optimisers
    trainer.run()
    if main:
        recipe.finish(trainer)
        print(f"trained {params.num_epochs} epochs; the last checkpoint is in '{trainer.folder}'")
    accelerator.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return trainer.folder


def _finished(recipe: Recipe, checkpoint: Path) -> bool:
    """Whether the run of a last checkpoint has written what it leaves: it may have been killed just before."""
    left = recipe.left(checkpoint.parent)
    return left is None or left.is_file() and left.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns


def _own_run_folder(
    found: dict[str, Any] | None, checkpoint: str | os.PathLike | None, config_path: str
) -> Path | None:
    """The run folder the checkpoint lies in, if it is one of this configuration."""
    if found is None or "training" not in found:
        return None
    folder = Path(checkpoint).parent
    inside = (folder / "log.txt").is_file() and (folder / Path(config_path).name).is_file()
    return folder if inside else None


def new_run_folder(log_dir: str | os.PathLike, config_path: str | os.PathLike) -> Path:
    """``log/<config> <time>/``, made; a second run within the second gets a number."""
    stamp = time.strftime("%d_%m_%y_%H.%M.%S")
    for number in itertools.count(1):
        folder = Path(log_dir) / f"{Path(config_path).stem} {stamp}{'' if number == 1 else f'-{number}'}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{folder}: cannot be made ({error.strerror}); choose another --log_dir") from error
        break
    (folder / "log.txt").touch()  # what marks a run's folder
    return folder


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
