"""A training run as its command line asks for it: what it starts from, its processes, its folder."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list

from ..config.files import save_config
from ..config.training import LoopParams
from ..devices import device_list, keep_freed_memory, native_precision, select_devices, share_of_batch
from ..errors import UserError
from .checkpoint import load_checkpoint
from .command import Run, checkpoint_of
from .launch import launched, spawn
from .position import is_over
from .trainer import Loaded, Trainer

Entries = dict[str, Any]  # what a checkpoint holds


@dataclass(frozen=True)
class Start:
    """What a run starts from: a checkpoint, and the folder that it goes on in, where it is one of this configuration.

    ``position`` is the checkpoint's ``training`` entry; ``is_new`` tells a run that begins from one that goes on.
    """

    path: Path | None
    folder: Path | None
    position: Entries

    @property
    def is_new(self) -> bool:
        return self.folder is None


def starting_point(run: Run, read: Callable[[str], Entries] = load_checkpoint) -> tuple[Start, Entries | None]:
    """Find and read the checkpoint of a run: before processes are started or a folder is made.

    Raises:
        UserError: options contradict each other, or the checkpoint cannot be read.
    """
    checkpoint = checkpoint_of(run)
    if checkpoint is None:
        return Start(None, None, {}), None
    entries = read(str(checkpoint))
    path, position = checkpoint, entries.get("training", {})
    inside = (path.parent / "log.txt").is_file() and (path.parent / Path(run.config_path).name).is_file()
    own = path.parent if inside and position and not run.finetune else None
    return Start(path, own, {} if run.finetune else position), entries


def is_complete(start: Start, params: LoopParams, left: Path | None = None) -> bool:
    """Whether the run of a checkpoint has nothing left to do.

    ``left`` is the file that it writes last, after its last checkpoint: it may have been killed between the two.
    """
    done, seconds = start.position.get("epoch", 0), start.position.get("seconds", 0.0)
    over = bool(start.position) and is_over(done, seconds, params)
    return over and (start.folder is None or left is None or _is_newer(left, start.path))


def nothing_left(start: Start) -> Path:
    """Say that a run that was to go on, if there is something to go on with, is complete; return its folder."""
    print(f"nothing left to train: {start.path} is the end of its run, after {start.position['epoch']} epochs")
    return start.path.parent


def continue_from(
    trainer: Trainer, start: Start, entries: Entries | None, complete: bool, finetune: bool
) -> Loaded | None:
    """Let a trainer go on, or begin, from what :func:`starting_point` has read; say what that could not give.

    Raises:
        UserError: it does not fit, or is of a run that is ``complete``.
    """
    if entries is None:
        return None
    loaded = trainer.restore(entries, start.path, finetune)
    if trainer.is_over and (complete or start.is_new):  # FOMM's files tell their epoch alone
        raise _all_done(start.path, trainer)
    return loaded


def _all_done(path: Path | None, trainer: Trainer) -> UserError:
    params = trainer.params
    again = " (its rates then jump up again along the longer cosine)" if params.cosine else ""
    epochs = trainer.position.epoch >= params.num_epochs
    done = f"all {params.num_epochs} epochs are done" if epochs else f"its {params.minutes:g} minutes are spent"
    more = "num_epochs" if epochs else "minutes"
    return UserError(
        f"{path}: {done}: raise train_params.{more}{again}, or start a new run from its weights with --finetune"
    )


def _is_newer(left: Path, checkpoint: Path) -> bool:
    return left.is_file() and left.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns


def start_processes(run: Run, params: LoopParams) -> Accelerator:
    """One process a device; return accelerate's state of this one."""
    devices = device_list(run.device_ids)
    if not launched():
        select_devices(devices, run.cpu)
        share_of_batch(params.batch_size, max(1, len(devices)))
        if len(devices) > 1:
            spawn(len(devices))
    accelerator = build_accelerator(params, run.cpu)
    if not accelerator.is_main_process:  # what it warns of, the main process does too
        logging.getLogger(__name__.partition(".")[0]).setLevel(logging.ERROR)
    return accelerator


def build_accelerator(params: LoopParams, cpu: bool = False) -> Accelerator:
    """Accelerate's state of this process: CUDA devices, else the CPU."""
    # some loss settings leave some weights unused, which the reduction of gradients must know
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # NCCL gives up after 10 minutes; shares of a cache that is built for hours are not done at the same moment, nor is
    # what the main process does alone.  Where a process dies its launcher ends the others.
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    precision = native_precision(cpu) if params.precision == "auto" else params.precision
    cpu = cpu or not torch.cuda.is_available()
    if cpu and precision == "fp16":
        raise UserError("train_params.precision: fp16 does not work on this device: a CPU; take bf16 or fp32")
    if cpu:
        keep_freed_memory()  # a step wants again what the step before has freed
    mixed = "no" if precision == "fp32" else precision
    if AcceleratorState._shared_state.get("_mixed_precision", mixed) != mixed:
        AcceleratorState._reset_state()  # of a training that this process did before, in another precision
    try:
        return Accelerator(mixed_precision=mixed, cpu=cpu, kwargs_handlers=[unused, patient])
    except ValueError as error:
        raise UserError(f"train_params.precision: {params.precision} does not work on this device ({error})") from error


def open_folder(run: Run, start: Start, config: Any, accelerator: Accelerator) -> Path:
    """The run's folder, known to all processes, with the configuration as it is read; a new one is made."""
    main = accelerator.is_main_process
    names = [str(start.folder or new_run_folder(run.log_dir, run.config_path)) if main else None]
    folder = Path(broadcast_object_list(names)[0])
    if main:
        record = folder / Path(run.config_path).name
        if record.resolve() != Path(run.config_path).resolve():
            save_config(config, record)
        print(f"training in '{folder}' on {accelerator.num_processes} process(es), {accelerator.device}")
    return folder


def close(accelerator: Accelerator) -> None:
    """Wait for what other processes still do, and let them go."""
    accelerator.wait_for_everyone()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


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
