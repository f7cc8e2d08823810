"""Training rigged SID: data, networks, losses, loop, read downwards."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from ...config.rigged import RiggedConfig, RiggedTrainParams
from ...data.frames import FrameDataset
from ...data.sampling import loader_of
from ...data.triples.dataset import TripleDataset
from ...data.triples.mixture import Mixture
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
from .critic import Critic, CriticStep
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
    objectives, beside = _objectives(model, train)
    loader = loader_of(
        _data(config), train, config.dataset_params.num_workers, accelerator.process_index, accelerator.num_processes
    )
    trainer = Trainer(model, ONE_NETWORK, objectives, loader, train, accelerator, beside=beside)
    continue_from(trainer, start, entries, complete, run.finetune)
    folder = open_folder(run, start, config, accelerator)
    trainer.fit(folder)
    close(accelerator)
    return folder


def _objectives(model: RiggedSID, train: RiggedTrainParams) -> tuple[list[Objective], dict[str, torch.nn.Module]]:
    """What ``train.teach`` names learns from, and what learns beside it."""
    adam = partial(torch.optim.AdamW, lr=train.lr, weight_decay=1e-4, fused=True)
    if train.teach == "encoder":
        learning = adam([*model.encoder.parameters(), *model.rig.parameters()])
        return [Objective(EncoderStep(model, train.loss_weights), {"optimizer_encoder": learning})], {}
    critic = Critic() if train.loss_weights.passing else None
    step = GeneratorStep(model, train.loss_weights, train.codes == "encoder", critic)
    objectives = [Objective(step, {"optimizer_generator": adam(model.generator.parameters())})]
    if critic is None:
        return objectives, {}
    judging = adam(critic.parameters(), betas=(0.5, 0.999))
    return [*objectives, Objective(CriticStep(critic), {"optimizer_critic": judging})], {"critic": critic}


def _data(config: RiggedConfig) -> Mixture:
    params, train = config.dataset_params, config.train_params
    triples = TripleDataset(params.triples, train.seed, train.num_repeats)
    if params.pairs is None:
        return Mixture(triples)
    return Mixture(triples, FrameDataset(params.pairs, "train", train.seed), params.pairs.share, train.seed)
