"""Which items make up which batch: one seeded order per epoch, shared out over the processes of a run."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..config.data import DatasetParams
from ..config.sid import TrainParams
from ..config.training import LoopParams
from ..devices import share_of_batch
from ..errors import UserError
from .frames import FrameDataset

# Workers come from a clean server process, not from a fork of this one: FFmpeg's and OpenMP's threads and locks do not
# survive a fork, and a worker that meets one waits for ever.
WORKER_START = "forkserver"


class EpochSampler(Sampler):
    """Batches of ``(epoch, index)`` keys for one rank, without repeats within an epoch over all ranks.

    Global batch b holds the same items for any number of processes; rank r takes the r-th equal part of it.  Iterating
    does not move the sampler: ``set_position`` says where the next iteration starts.

    Args:
        length: items in the data set.
        batch_size: items a step, over all processes together.

    Raises:
        UserError: the batch cannot be shared out evenly, or the data set is smaller than one batch.
    """

    def __init__(self, length: int, batch_size: int, world_size: int = 1, rank: int = 0, seed: int = 0):
        self.share = share_of_batch(batch_size, world_size)
        self.length = length - length % batch_size  # the last, smaller batch is left out
        if self.length == 0:
            raise UserError(
                f"the data set has {length} items an epoch, fewer than batch_size {batch_size}; "
                "lower batch_size or raise num_repeats"
            )
        self.batch_size, self.rank, self.seed = batch_size, rank, seed
        self.items = length
        self.epoch, self.batches_done = 0, 0

    def set_position(self, epoch: int, batches_done: int = 0) -> None:
        """Start the next iteration in ``epoch`` after its first ``batches_done`` batches; those are not read."""
        self.epoch, self.batches_done = epoch, batches_done

    @property
    def batches_per_epoch(self) -> int:
        return self.length // self.batch_size

    def __len__(self) -> int:
        """Batches left in the epoch."""
        return max(0, self.batches_per_epoch - self.batches_done)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        # The spawn key keeps this stream apart from those of the items, which are seeded by (seed, epoch, index).
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, self.epoch], spawn_key=(1,)))
        order, epoch = rng.permutation(self.items)[: self.length], self.epoch
        for start in range(self.batches_done * self.batch_size, self.length, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield [(epoch, int(i)) for i in batch[self.rank * self.share : (self.rank + 1) * self.share]]


def build_loader(
    params: DatasetParams,
    train: TrainParams,
    split: str = "train",
    rank: int = 0,
    world_size: int = 1,
    progress: bool = False,
) -> DataLoader:
    """The loader of one process of a training run; ``loader.batch_sampler`` is its :class:`EpochSampler`.

    Raises:
        UserError: as :class:`FrameDataset` and :class:`EpochSampler`.
    """
    dataset = FrameDataset(params, split, train.seed, train.num_repeats, progress and rank == 0)
    return loader_of(dataset, train, params.num_workers, rank, world_size)


def loader_of(
    dataset: Dataset, train: LoopParams, num_workers: int = 0, rank: int = 0, world_size: int = 1
) -> DataLoader:
    """The loader of one process over a data set whose items are asked for by ``(epoch, index)``."""
    return DataLoader(
        dataset,
        batch_sampler=EpochSampler(len(dataset), train.batch_size, world_size, rank, train.seed),
        persistent_workers=num_workers > 0,
        prefetch_factor=4 if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        **worker_options(dataset, num_workers),
    )


def worker_options(dataset: Dataset, num_workers: int) -> dict[str, Any]:
    """A loader's options for the processes that read ``dataset``; empty without processes."""
    if not num_workers:
        return {}
    context = multiprocessing.get_context(WORKER_START)
    context.set_forkserver_preload([type(dataset).__module__])  # imported once, not once per worker
    _start_server()
    return {
        "num_workers": min(num_workers, os.cpu_count() or 1),
        "multiprocessing_context": context,
        "worker_init_fn": _leave_signals_to_the_trainer,
    }


def _start_server() -> None:
    """Start what workers are forked from, if it does not run yet.

    A SIGTERM to all of a run's processes, as ``timeout`` and job schedulers send it, reaches it too.  It inherits that
    this is ignored: without it the loader fails, and with it the training process, before that has saved.
    """
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and a group's SIGTERM reach workers too; they serve until the training process has saved and ends them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
