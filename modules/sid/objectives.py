"""What SID learns from: its losses, the optimisers that follow them, and how checkpoints hold its networks."""

from __future__ import annotations

import os
from functools import partial
from typing import Any, NamedTuple

import torch

from ..config.sid import Config
from ..training.trainer import Layout, Objective
from . import weights
from .discriminator import MultiScaleDiscriminator
from .model import SID, build_discriminator
from .step import DiscriminatorStep, GeneratorStep

ADAM_BETAS = (0.5, 0.999)  # FOMM's, usual for adversarial training


def _warm_start(model: SID, entries: dict[str, Any], path: str | os.PathLike) -> list[str]:
    return weights.load_state(model, entries, path, warm_start=True)


LAYOUT = Layout(weights.state, _warm_start)


class Learning(NamedTuple):
    """Networks and objectives of a training run, as :func:`build` makes them."""

    model: SID
    discriminator: MultiScaleDiscriminator
    generator_step: GeneratorStep
    objectives: list[Objective]


def build(config: Config) -> Learning:
    """New networks, seeded, and what they learn from: the generator's side, then with its term the discriminator."""
    train = config.train_params
    adam = partial(torch.optim.Adam, betas=ADAM_BETAS, fused=True)
    torch.manual_seed(train.seed)
    model, discriminator = SID(config.model_params), build_discriminator(config.model_params)
    step = GeneratorStep(model, discriminator, train).to(memory_format=torch.channels_last)
    discriminator.to(memory_format=torch.channels_last)
    optimizers = {
        f"optimizer_{name}": adam(network.parameters(), lr=rate)
        for name, network in weights.learners(model, train).items()
        if (rate := train.learning_rate(name))
    }
    objectives = [Objective(step, optimizers)]
    if train.loss_weights.generator_gan:
        optimizer = adam(discriminator.parameters(), lr=train.lr_discriminator)
        objectives.append(Objective(DiscriminatorStep(discriminator, train), {"optimizer_discriminator": optimizer}))
    return Learning(model, discriminator, step, objectives)
