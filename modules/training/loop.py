"""The training loop both stages share.

``batch -> phase (losses) -> backward -> step -> averages -> log -> checkpoint``, one straight line.  Everything random
in step *n* on rank *r* follows from (seed, n, r) alone: a resumed run needs no random states to continue exactly where
the interrupted one would have gone, whatever killed it.
"""

from __future__ import annotations

import bisect
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .. import media
from ..atomic import write_text
from ..config.training import LoopParams
from ..errors import UserError
from .checkpoint import save_checkpoint

LATEST = "latest-checkpoint.pth.tar"  # written by the clock and on signals; numbered ones are written by epochs
LEFT_OUT = " so far: "  # in the lines of log.txt that name what could not be read
LR_DECAY = 0.1  # at each of epoch_milestones


@dataclass
class Phase:
    """One module that returns ``(losses by name, hand-over to the next phase)`` and the optimisers it steps.

    The first phase is called with the batch, each later one with what the one before handed over.
    """

    module: nn.Module
    optimizers: dict[str, Optimizer]


class Loaded(NamedTuple):
    """What a checkpoint could not give: tensors a warm start left new, and whole networks that start anew."""

    missing: list[str]
    fresh: list[str]


class Stage(Protocol):
    """What the loop needs of SID or MEF."""

    phases: list[Phase]

    def to(self, device: torch.device) -> None: ...
    def after_step(self) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> Loaded: ...
    def picture(self, hand_over: Any) -> Tensor: ...


@dataclass
class Position:
    """Where a run stands: batches already done of ``epoch``, steps of the run, and the epoch's sums of losses."""

    epoch: int = 0
    batches_done: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)


def build_accelerator(params: LoopParams, cpu: bool = False) -> Accelerator:
    """Accelerate's state of this process: CUDA devices, else the CPU."""
    # some loss settings leave some weights unused, which the reduction of gradients must know
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # NCCL gives up after 10 minutes; shares of a cache that is built for hours are not done at the same moment, nor is
    # what the main process does alone.  Where a process dies its launcher ends the others.
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    precision = {"fp32": "no"}.get(params.precision, params.precision)
    try:
        cpu = cpu or not torch.cuda.is_available()
        return Accelerator(mixed_precision=precision, cpu=cpu, kwargs_handlers=[unused, patient])
    except ValueError as error:
        raise UserError(f"train_params.precision: {params.precision} does not work on this device ({error})") from error


class _Signals(contextlib.AbstractContextManager):
    """Remembers SIGTERM and SIGINT so that the loop can finish its step and save; a second one acts at once."""

    received: int = 0

    def __enter__(self) -> _Signals:
        self.previous = {s: signal.signal(s, self._remember) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: object) -> None:
        self.received = number
        signal.signal(number, self.previous[number])


class Trainer:
    """Runs a stage through the epochs of a loader, writing everything to its ``folder``.

    Args:
        loader: its ``batch_sampler`` is an :class:`.data.sampling.EpochSampler` for this process.
        accumulation: parts in which a step's batch is computed, one after the other, to save memory.

    Set ``folder``, where ``log.txt``, TensorBoard events, ``train-vis`` and checkpoints go, before :meth:`run`.
    """

    folder: Path

    def __init__(
        self, stage: Stage, loader: DataLoader, params: LoopParams, accelerator: Accelerator, accumulation: int = 1
    ):
        share = params.batch_size // accelerator.num_processes
        if share % accumulation:
            raise UserError(f"gradient_accumulation: {accumulation} does not divide a process's {share} items a step")
        steps = params.num_epochs * loader.batch_sampler.batches_per_epoch
        if params.warmup_steps >= steps:
            raise UserError(f"warmup_steps: {params.warmup_steps} is not less than the run's {steps} steps; lower it")
        self.stage, self.loader, self.params, self.accelerator = stage, loader, params, accelerator
        self.accumulation = accumulation
        self.position = Position()
        stage.to(accelerator.device)
        for phase in stage.phases:  # prepared ones know float16's loss scale
            phase.optimizers = {name: accelerator.prepare(o) for name, o in phase.optimizers.items()}
        self.optimizers = {name: o for phase in stage.phases for name, o in phase.optimizers.items()}
        self.base_lr = {name: o.defaults["lr"] for name, o in self.optimizers.items()}
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            for phase in stage.phases:  # there is no synchronised batch norm on a CPU
                phase.module = nn.SyncBatchNorm.convert_sync_batchnorm(phase.module)
        self.modules = [accelerator.prepare(phase.module.train()) for phase in stage.phases]
        self.saved_at = time.monotonic()
        self._unreadable: set[str] = set()  # why items of this process's batches were left out, not yet in the log

    # --------------------------------------------------------------------------------------------------- checkpoints

    def resume(self, checkpoint: dict[str, Any], path: str | os.PathLike, weights_alone: bool = False) -> Loaded:
        """Continue from a checkpoint of this run or one like it; say what it could not give.

        With ``weights_alone``, and where it lacks the encoders (FOMM's, for a model with them), the run starts at
        epoch 0 with fresh optimisers.

        Raises:
            UserError: it does not fit.
        """
        loaded = self.stage.load(checkpoint, path)
        if loaded.missing or weights_alone:
            return loaded
        for name, optimizer in self.optimizers.items():
            if name in checkpoint and name.removeprefix("optimizer_") not in loaded.fresh:
                try:
                    optimizer.load_state_dict(checkpoint[name])
                except ValueError as error:
                    raise UserError(
                        f"{path}: what its {name} remembers is of other networks than those that learn here ({error}): "
                        "start a new run from its weights with --finetune"
                    ) from error
        if self.accelerator.scaler is not None and "scaler" in checkpoint:
            self.accelerator.scaler.load_state_dict(checkpoint["scaler"])
        if "training" in checkpoint:
            self.position = Position(**checkpoint["training"])
        elif "epoch" in checkpoint:  # FOMM's: the number of the last epoch done
            epoch = int(checkpoint["epoch"]) + 1
            self.position = Position(epoch=epoch, step=epoch * self.loader.batch_sampler.batches_per_epoch)
        return loaded

    def save(self, name: str, epoch: int) -> None:
        """Write a checkpoint of the present position; ``epoch`` is the number FOMM's loader will read."""
        position = {**vars(self.position), "sums": self._mean_sums()}
        if not self.accelerator.is_main_process:
            return
        entries = self.stage.state() | {name: o.state_dict() for name, o in self.optimizers.items()}
        if self.accelerator.scaler is not None:
            entries["scaler"] = self.accelerator.scaler.state_dict()
        save_checkpoint(entries | {"epoch": epoch, "training": position}, self.folder / name)
        if name != LATEST:
            (self.folder / LATEST).unlink(missing_ok=True)  # the numbered one is ahead of it
        self.saved_at = time.monotonic()

    def _mean_sums(self) -> dict[str, float]:
        names = sorted(self.position.sums)
        values = torch.tensor([float(self.position.sums[n]) for n in names], dtype=torch.float64)
        mean = self.accelerator.reduce(values.to(self.accelerator.device), reduction="mean").tolist()
        sums = dict(zip(names, mean, strict=True))
        if not all(map(math.isfinite, mean)):  # on every process, and before anything is saved
            raise UserError(
                f"training diverged in epoch {self.position.epoch}: {sums}; lower the learning rates or clip gradients"
            )
        return sums

    # ---------------------------------------------------------------------------------------------------------- loop

    def run(self) -> None:
        """Train to the last epoch; a signal ends it early, after a checkpoint, with SystemExit 128 + signal."""
        sampler, params = self.loader.batch_sampler, self.params
        main = self.accelerator.is_main_process
        if main:
            _keep_log_before(self.folder / "log.txt", self.position.epoch)
        bar = tqdm(
            total=params.num_epochs * sampler.batches_per_epoch,
            initial=self.position.step,
            unit="step",
            disable=not main,
            dynamic_ncols=True,
        )
        with contextlib.ExitStack() as stack:
            signals = stack.enter_context(_Signals())
            stack.enter_context(bar)
            writer = SummaryWriter(str(self.folder), purge_step=self.position.epoch) if main else None
            if writer is not None:
                stack.callback(writer.close)
            for epoch in range(self.position.epoch, params.num_epochs):
                sampler.set_position(epoch, self.position.batches_done)
                hand_over = None
                for batch in _batches(self.loader):
                    self._unreadable.update(filter(None, batch.pop("unreadable", ())))
                    hand_over = self._step(batch)
                    bar.update()
                    self._checkpoint_by_clock_or_signal(signals)
                self._end_epoch(epoch, hand_over, bar, writer)

    def log_left_out(self, reasons: Iterable[str]) -> None:
        """Count and name in ``log.txt``, once each in a run's life, what could not be read; for the main process."""
        path = self.folder / "log.txt"
        lines = path.read_text(encoding="utf-8").splitlines()
        known = [line.partition(LEFT_OUT)[2] for line in lines if line.startswith("#") and LEFT_OUT in line]
        with open(path, "a", encoding="utf-8") as log:
            for number, reason in enumerate(sorted(set(reasons) - set(known)), start=len(known) + 1):
                log.write(f"# left out, {number}{LEFT_OUT}{reason}\n")

    def _log_unreadable(self) -> None:
        """Bring what all processes left out into the log, which only the main process has; all have to call this."""
        reasons = gather_object(sorted(self._unreadable))
        self._unreadable.clear()
        if reasons and self.accelerator.is_main_process:
            self.log_left_out(reasons)

    def _set_learning_rates(self) -> None:
        steps = self.params.num_epochs * self.loader.batch_sampler.batches_per_epoch
        factor = learning_rate_factor(self.params, self.position.epoch, self.position.step, steps)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.base_lr[name] * factor

    def _step(self, batch: dict[str, Tensor]) -> Any:
        position, device = self.position, self.accelerator.device
        torch.manual_seed(_step_seed(self.params.seed, position.step, self.accelerator.process_index))
        self._set_learning_rates()
        parts: list[Any] = _split({k: v.to(device, non_blocking=True) for k, v in batch.items()}, self.accumulation)
        for phase, module in zip(self.stage.phases, self.modules, strict=True):
            for optimizer in phase.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            for i, part in enumerate(parts):
                last = i + 1 == len(parts)  # processes exchange gradients once a step
                with contextlib.nullcontext() if last else self.accelerator.no_sync(module):
                    terms, parts[i] = module(part)
                    self.accelerator.backward(torch.stack(list(terms.values())).sum() / len(parts))
                for name, value in terms.items():
                    position.sums[name] = position.sums.get(name, 0.0) + value.detach().double() / len(parts)
            if self.params.gradient_clip is not None:
                self.accelerator.clip_grad_norm_(
                    [p for o in phase.optimizers.values() for g in o.param_groups for p in g["params"]],
                    self.params.gradient_clip,
                )
            for optimizer in phase.optimizers.values():
                optimizer.step()
        self.stage.after_step()
        position.batches_done += 1
        position.step += 1
        return parts[-1]

    def _checkpoint_by_clock_or_signal(self, signals: _Signals) -> None:
        due = time.monotonic() - self.saved_at > self.params.checkpoint_minutes * 60
        wanted = torch.tensor([due and self.accelerator.is_main_process, signals.received], dtype=torch.int64)
        if self.accelerator.num_processes > 1:  # all must save, and stop, at the same step
            wanted = self.accelerator.gather(wanted.to(self.accelerator.device)[None]).amax(dim=0)
        save, number = wanted.tolist()
        if save or number:
            self._log_unreadable()  # a resumed run will not meet these items again
            self.save(LATEST, self.position.epoch)
        if number:
            if self.accelerator.is_main_process:
                name, where = signal.Signals(number).name, self.folder / LATEST
                print(f"\nstopped by {name}; continue with --checkpoint '{where}'", file=sys.stderr)
            self.accelerator.wait_for_everyone()
            sys.exit(128 + number)

    def _end_epoch(self, epoch: int, hand_over: Any, bar: tqdm, writer: SummaryWriter | None) -> None:
        params, done = self.params, self.position.batches_done
        sums = self._mean_sums()
        self._log_unreadable()
        self.position = Position(epoch=epoch + 1, step=self.position.step)
        if writer is not None:
            means = {name: value / done for name, value in sums.items()}
            line = "; ".join(f"{name} - {value:.5f}" for name, value in means.items())
            with open(self.folder / "log.txt", "a", encoding="utf-8") as log:
                log.write(f"{epoch:08d}) {line}\n")
            for name, value in means.items():
                writer.add_scalar(f"loss/{name}", value, epoch)
            bar.set_postfix({name: f"{value:.3g}" for name, value in list(means.items())[:4]})
            last = epoch + 1 == params.num_epochs
            if hand_over is not None and (last or (epoch + 1) % params.visualize_every == 0):
                media.write_image(
                    self.folder / "train-vis" / f"{epoch:08d}-rec.png", self.stage.picture(hand_over).numpy()
                )
        if (epoch + 1) % params.checkpoint_freq == 0 or epoch + 1 == params.num_epochs:
            self.save(f"{epoch:08d}-checkpoint.pth.tar", epoch)


def learning_rate_factor(params: LoopParams, epoch: int, step: int, steps: int) -> float:
    """What learning rates are multiplied by at ``step`` of ``steps``: milestones, cosine and warming up together."""
    factor = LR_DECAY ** bisect.bisect_right(params.epoch_milestones, epoch)
    if params.cosine:
        factor *= (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
    return factor * min(1.0, (step + 1) / (params.warmup_steps + 1))


def _batches(loader: DataLoader) -> Iterator[dict[str, Any]]:
    """The loader's batches; an error of ours in a worker process comes out as the one line it was there."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            raise UserError(str(error).strip().splitlines()[-1].partition("UserError: ")[2] or str(error)) from error
        yield batch


def _split(batch: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """A batch in ``count`` equal parts."""
    chunks = {name: values.chunk(count) for name, values in batch.items()}
    return [{name: parts[i] for name, parts in chunks.items()} for i in range(count)]


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _keep_log_before(log: Path, epoch: int) -> None:
    """Drop lines of epochs that will be run again, so that a resumed run's log has one line per epoch."""
    if log.exists():
        lines = log.read_text(encoding="utf-8").splitlines(True)
        kept = [line for line in lines if not line[:8].isdecimal() or int(line[:8]) < epoch]
        write_text(log, "".join(kept))
