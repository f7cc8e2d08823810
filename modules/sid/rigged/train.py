"""Training rigged SID: data, networks, losses, loop, read downwards."""

from __future__ import annotations

from pathlib import Path

import torch

from ...config.rigged import RiggedConfig
from ...data.sampling import loader_of
from ...data.triples.dataset import TripleDataset
from ...training.launch import one_voice
from ...training.layout import ONE_NETWORK
from ...training.run import (
    Run,
    close,
    continue_from,
    is_complete,
    nothing_left,
    open_folder,
    start_processes,
    starting_point,
)
from ...training.trainer import Objective, Trainer
from .model import RiggedSID
from .step import EncoderStep, GeneratorStep


@one_voice()
def train_rigged(config: RiggedConfig, run: Run) -> Path:
    """Train what ``train_params.teach`` names; return the run's folder.

    Raises:
        UserError: triples, checkpoint and configuration are not there or do not fit; losses are not finite any more.
    """
    train = config.train_params
    start, entries = starting_point(run)
    complete = is_complete(start, train)
    if complete and run.resume == "auto":
        return nothing_left(start)
    accelerator = start_processes(run, train)
    torch.manual_seed(train.seed)
    model = RiggedSID()
    if train.teach == "encoder":
        step: torch.nn.Module = EncoderStep(model, train.loss_weights)
        learning = [*model.encoder.parameters(), *model.rig.parameters()]
    else:
        step = GeneratorStep(model, train.loss_weights, train.codes == "encoder")
        learning = list(model.generator.parameters())
    optimizer = torch.optim.AdamW(learning, lr=train.lr, weight_decay=1e-4, fused=True)
    data = TripleDataset(config.dataset_params.triples, train.seed, train.num_repeats)
    loader = loader_of(
        data, train, config.dataset_params.num_workers, accelerator.process_index, accelerator.num_processes
    )
    objective = Objective(step, {f"optimizer_{train.teach}": optimizer})
    trainer = Trainer(model, ONE_NETWORK, [objective], loader, train, accelerator)
    continue_from(trainer, start, entries, complete, run.finetune)
    folder = open_folder(run, start, config, accelerator)
    trainer.fit(folder)
    close(accelerator)
    return folder
