"""The training loop, the one of all networks that learn here.

``batch -> losses -> backward -> step -> average -> log -> checkpoint``, one straight line.  Everything random in step
*n* on rank *r* follows from (seed, n, r) alone: a resumed run needs no random states to continue exactly where the
interrupted one would have gone, whatever killed it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from .. import media
from ..config.training import LoopParams
from ..errors import UserError
from .averages import Average
from .checkpoint import averaged, restore, save_checkpoint
from .layout import Layout
from .log import TrainingLog, left_out
from .position import Clock, Position, is_over
from .schedule import learning_rate_factor
from .signals import Agreement, Signals
from .updates import Updates

LATEST = "latest-checkpoint.pth.tar"  # written by the clock and on signals; numbered ones are written by epochs


@dataclass
class Objective:
    """A module that returns ``(losses by name, output)``, and the optimisers that follow the gradient of their sum.

    The first one is called with the batch, a later one with the output of the one before.
    """

    module: nn.Module
    optimizers: dict[str, Optimizer]


class Loaded(NamedTuple):
    """What a checkpoint could not give: tensors a warm start left new, and whole networks that start anew."""

    missing: list[str]
    fresh: list[str]


class Trainer:
    """Trains a network through the epochs of a loader.

    Args:
        model: what learns, and what is averaged under ``ema_decay``.
        layout: how checkpoints hold it.
        objectives: what it learns from, in the order in which they are followed.
        loader: its ``batch_sampler`` is a :class:`.data.sampling.EpochSampler` for this process.
        beside: further networks that a checkpoint holds, by their entries.
        notes: plain values that a checkpoint holds.
        picture: draws a training picture, uint8 ``[H, W, 3]``, from an objective's last output and the averaged model.
        accumulation: parts in which a step's batch is computed, one after the other, to save memory.

    Raises:
        UserError: the parameters do not fit one another.
    """

    def __init__(
        self,
        model: Any,
        layout: Layout,
        objectives: list[Objective],
        loader: DataLoader,
        params: LoopParams,
        accelerator: Accelerator,
        *,
        beside: dict[str, nn.Module] | None = None,
        notes: dict[str, Any] | None = None,
        picture: Callable[[Any, Any], Tensor] | None = None,
        accumulation: int = 1,
    ):
        share = params.batch_size // accelerator.num_processes
        if share % accumulation:
            raise UserError(f"gradient_accumulation: {accumulation} does not divide a process's {share} items a step")
        self.steps = params.num_epochs * loader.batch_sampler.batches_per_epoch
        if params.warmup_steps >= self.steps:
            raise UserError(f"warmup_steps: {params.warmup_steps} is not less than the run's {self.steps} steps")
        self.model, self.layout, self.loader, self.params = model, layout, loader, params
        self.accelerator = accelerator
        self.beside, self.notes, self.picture, self.accumulation = beside or {}, notes or {}, picture, accumulation
        self.position = Position()
        for network in (model, *self.beside.values(), *(objective.module for objective in objectives)):
            network.to(accelerator.device)
        self.average = None if params.ema_decay is None else Average(model, params.ema_decay)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            for objective in objectives:  # there is no synchronised batch norm on a CPU
                objective.module = nn.SyncBatchNorm.convert_sync_batchnorm(objective.module)
        self.updates = [Updates(accelerator, o.module, o.optimizers, params.gradient_clip) for o in objectives]
        self.optimizers = {name: o for update in self.updates for name, o in update.optimizers.items()}
        self.base_lr = {name: o.defaults["lr"] for name, o in self.optimizers.items()}

    @property
    def averaged(self) -> Any:
        """The model to use: averaged where averages are kept."""
        return self.model if self.average is None else self.average.network

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the time budget is spent."""
        return is_over(self.position.epoch, self.position.seconds, self.params)

    # --------------------------------------------------------------------------------------------------- checkpoints

    def restore(self, entries: dict[str, Any], path: str | os.PathLike, weights_alone: bool = False) -> Loaded:
        """Continue from a checkpoint of this run or one like it; say what it could not give.

        With ``weights_alone``, and where it lacks the encoders (FOMM's, for a model with them), the run starts at
        epoch 0 with fresh optimisers, and its average with the weights.

        Raises:
            UserError: it does not fit.
        """
        missing = self.layout.load(self.model, averaged(entries) if weights_alone else entries, path)
        fresh = [name for name, network in self.beside.items() if not _restored(network, entries.get(name))]
        is_new = bool(missing) or weights_alone
        if self.average is not None:
            kept = None if is_new else entries.get("ema")
            self.layout.load(self.average.network, kept or self.layout.state(self.model), path)
            self.average.updates = int(entries.get("ema_updates", 0)) if kept else 0
        if is_new:
            return Loaded(missing, fresh)
        for name, optimizer in self.optimizers.items():
            if name in entries and name.removeprefix("optimizer_") not in fresh:
                _restore_optimizer(optimizer, entries[name], f"{path}: what its {name} remembers")
        if self.accelerator.scaler is not None and "scaler" in entries:
            self.accelerator.scaler.load_state_dict(entries["scaler"])
        if "training" in entries:
            self.position = Position(**entries["training"])
        elif "epoch" in entries:  # FOMM's: the number of the last epoch done
            epoch = int(entries["epoch"]) + 1
            self.position = Position(epoch=epoch, step=epoch * self.loader.batch_sampler.batches_per_epoch)
        return Loaded(missing, fresh)

    def state(self) -> dict[str, Any]:
        """The checkpoint entries of the networks, their averages and the notes."""
        entries = self.layout.state(self.model) | {name: network.state_dict() for name, network in self.beside.items()}
        if self.average is not None:
            entries |= {"ema": self.layout.state(self.average.network), "ema_updates": self.average.updates}
        return entries | self.notes

    def _save(self, folder: Path, name: str, epoch: int) -> None:
        """Write a checkpoint of the present position; ``epoch`` is the number FOMM's loader will read."""
        sums, skipped = self._epoch_so_far()
        position = asdict(self.position) | {"sums": sums, "skipped": skipped}
        if not self.accelerator.is_main_process:
            return
        entries = self.state() | {name: o.state_dict() for name, o in self.optimizers.items()}
        if self.accelerator.scaler is not None:
            entries["scaler"] = self.accelerator.scaler.state_dict()
        save_checkpoint(entries | {"epoch": epoch, "training": position}, folder / name)
        if name != LATEST:
            (folder / LATEST).unlink(missing_ok=True)  # the numbered one is ahead of it

    def _epoch_so_far(self) -> tuple[dict[str, float], int]:
        """The epoch's sums of losses, their mean over the processes, and the steps it has skipped."""
        names = sorted(self.position.sums)
        values = torch.tensor([float(self.position.sums[name]) for name in names], dtype=torch.float64)
        mean = self.accelerator.reduce(values.to(self.accelerator.device), reduction="mean").tolist()
        return dict(zip(names, mean, strict=True)), int(self.position.skipped)

    # ---------------------------------------------------------------------------------------------------------- loop

    def fit(self, folder: Path) -> None:
        """Train to the last epoch, or till the time budget is spent; everything is written to ``folder``.

        A signal ends it early, after a checkpoint, with SystemExit 128 + signal.

        Raises:
            UserError: losses or gradients are not finite for many steps in a row.
        """
        params, sampler, position = self.params, self.loader.batch_sampler, self.position
        unreadable: set[str] = set()  # why items of this process's batches were left out, not yet in the log
        saved_at = time.monotonic()
        with contextlib.ExitStack() as stack:
            signals, agreement = stack.enter_context(Signals()), Agreement(self.accelerator)
            log = None
            if self.accelerator.is_main_process:
                log = stack.enter_context(TrainingLog(folder, self.steps, position.step, position.epoch))
            for epoch in range(position.epoch, params.num_epochs):
                sampler.set_position(epoch, self.position.batches_done)
                output, clock = None, Clock(self.position.seconds)
                for batch in _batches(self.loader):
                    unreadable.update(filter(None, batch.pop("unreadable", ())))
                    output = self.step(batch)
                    if log is not None:
                        log.advance(None if params.minutes is None else 60 * params.minutes - clock.seconds)
                    if self.position.step % params.log_every == 0:
                        self._log_steps(log)
                    due = time.monotonic() - saved_at > params.checkpoint_minutes * 60
                    save, number, seconds = agreement.reached(due, signals.received, clock.seconds)
                    if params.minutes is not None and seconds is not None:
                        self.position.seconds = seconds
                    if save or number:
                        self._log_unreadable(unreadable, folder)  # a resumed run will not meet these items again
                        self._save(folder, LATEST, epoch)
                        saved_at = time.monotonic()
                    if number:
                        self._stop(folder, number)
                    if self.is_over:
                        break
                self._log_unreadable(unreadable, folder)
                self._end_epoch(folder, epoch, output, log)
                if self.is_over:
                    break

    def step(self, batch: dict[str, Tensor]) -> Any:
        """One step of every objective on a batch; return the last one's output."""
        position, device = self.position, self.accelerator.device
        torch.manual_seed(_step_seed(self.params.seed, position.step, self.accelerator.process_index))
        factor = learning_rate_factor(self.params, position.epoch, position.step, self.steps, position.seconds)
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.base_lr[name] * factor
        parts: list[Any] = _split({k: v.to(device, non_blocking=True) for k, v in batch.items()}, self.accumulation)
        skipped = torch.zeros((), device=device)
        for update in self.updates:
            terms, parts, bad = update.follow(parts)
            for name, value in terms.items():
                position.sums[name] = position.sums.get(name, 0.0) + value
            skipped = torch.maximum(skipped, bad)
        position.skipped = position.skipped + skipped
        if self.average is not None:
            self.average.update(self.model)
        position.batches_done += 1
        position.step += 1
        return parts[-1]

    def _log_steps(self, log: TrainingLog | None) -> None:
        """Bring the last steps' figures to the log; on every process, stop a run of steps that are not finite."""
        losses: dict[str, float] = {}
        norms: dict[str, float] = {}
        for update in self.updates:  # the one place where the host waits for the device
            found = update.read()
            losses |= found.losses
            norms[update.name] = found.gradient_norm
        if log is not None:
            rates = {name: o.param_groups[0]["lr"] for name, o in self.optimizers.items()}
            figures = {"loss": losses, "learning_rate": rates, "gradient_norm": norms}
            figures["skipped"] = int(self.position.skipped)
            log.steps(self.position.step, self.position.epoch, figures, self.params.batch_size)

    def _log_unreadable(self, reasons: set[str], folder: Path) -> None:
        """Bring what all processes left out into the log, which only the main process has; all have to call this."""
        gathered = gather_object(sorted(reasons))
        reasons.clear()
        if gathered and self.accelerator.is_main_process:
            left_out(folder, gathered)

    def _stop(self, folder: Path, number: int) -> None:
        if self.accelerator.is_main_process:
            name, where = signal.Signals(number).name, folder / LATEST
            print(f"\nstopped by {name}; continue with --checkpoint '{where}'", file=sys.stderr)
        self.accelerator.wait_for_everyone()
        sys.exit(128 + number)

    def _end_epoch(self, folder: Path, epoch: int, output: Any, log: TrainingLog | None) -> None:
        params, done, step = self.params, self.position.batches_done, self.position.step
        if step % params.log_every:  # what the epoch's last steps have not told yet
            self._log_steps(log)
        sums, skipped = self._epoch_so_far()
        self.position = Position(epoch=epoch + 1, step=step, seconds=self.position.seconds)
        last = self.is_over
        if log is not None:
            log.epoch(epoch, {name: value / max(1, done - skipped) for name, value in sums.items()}, skipped)
            drawn = last or (epoch + 1) % params.visualize_every == 0
            if self.picture is not None and output is not None and drawn:
                image = self.picture(output, self.averaged).numpy()
                media.write_image(folder / "train-vis" / f"{epoch:08d}-rec.png", image)
        if last or (epoch + 1) % params.checkpoint_freq == 0:
            self._save(folder, f"{epoch:08d}-checkpoint.pth.tar", epoch)


def _restored(network: nn.Module, entries: Any) -> bool:
    """Whether a checkpoint's entry could be used; FOMM's adversarial configurations have another discriminator."""
    try:
        restore(network, entries, "checkpoint")
    except UserError:
        return False
    return True


def _restore_optimizer(optimizer: Any, state: dict[str, Any], what: str) -> None:
    groups = [group | {"fused": optimizer.defaults.get("fused")} for group in state["param_groups"]]
    try:
        optimizer.load_state_dict(state | {"param_groups": groups})
    except ValueError as error:
        raise UserError(
            f"{what} holds other networks than those of this run ({error}): "
            "start a new run from its weights with --finetune"
        ) from error
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            if value.shape == parameter.shape:  # fused optimisers go through memory in order
                kept[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _batches(loader: Iterable) -> Iterator[dict[str, Any]]:
    """The loader's batches; an error of ours in a worker process comes out as the one line it was there."""
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:
            raise UserError(str(error).strip().splitlines()[-1].partition("Error: ")[2] or str(error)) from error
        yield batch


def _split(batch: dict[str, Tensor], count: int) -> list[dict[str, Tensor]]:
    """A batch in ``count`` equal parts."""
    chunks = {name: values.chunk(count) for name, values in batch.items()}
    return [{name: parts[i] for name, parts in chunks.items()} for i in range(count)]


def _step_seed(seed: int, step: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])
