"""What MEF learns from: adapters or a branch on a frozen base, loss and optimiser, and how checkpoints hold them."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch

from ..config.mef import MEFConfig
from ..training.trainer import Layout, Objective
from .base import training_noise
from .conditions import Conditions
from .dataset import PortraitDataset
from .embeddings import given_expression
from .forms import new_conditions
from .frozen import FrozenNetworks, Rows
from .step import MEFStep


def _state(adapters: Conditions) -> dict[str, Any]:
    return adapters.state()


def _load(adapters: Conditions, entries: dict[str, Any], path: str | os.PathLike) -> list[str]:
    adapters.load(entries, str(path))
    return []


LAYOUT = Layout(_state, _load)


class Learning(NamedTuple):
    """Adapters and objective of a training run, as :func:`build` makes them."""

    adapters: Conditions
    step: MEFStep
    objectives: list[Objective]


def build(config: MEFConfig, frozen: FrozenNetworks, dataset: PortraitDataset, embeddings: Rows) -> Learning:
    """New adapters or a new branch, seeded, on the frozen base, and what they learn from.

    Args:
        embeddings: of the data set, as :meth:`.Embedder.rows` gives them, to standardise by.
    """
    train, base = config.train_params, frozen.base
    torch.manual_seed(train.seed)
    noise, no_text = training_noise(base), frozen.no_text()
    adapters = new_conditions(base, frozen.embedder.widths, config.model_params)
    parameters = adapters.trainable()
    adapters.standardise([embeddings["identity"], given_expression(embeddings)])
    if train.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
        adapters.recompute_activations()
    step = MEFStep(base.unet, adapters, noise, frozen, dataset.tables, no_text, train, embeddings["expression"])
    optimizer = torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return Learning(adapters, step, [Objective(step, {"optimizer_adapters": optimizer})])
