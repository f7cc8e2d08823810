"""What MEF learns from: adapters in a frozen base, their loss and optimiser, and how checkpoints hold them."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..config.mef import MEFConfig
from ..errors import UserError
from ..training.trainer import Layout, Objective
from .adapters import NAMES, Adapters, attach_new
from .base import training_noise
from .dataset import PortraitDataset
from .frozen import FrozenNetworks
from .step import MEFStep


def _load(adapters: Adapters, entries: dict[str, Any], path: str | os.PathLike) -> list[str]:
    if f"{NAMES[0]}_adapter" not in entries:
        raise UserError(f"{path}: not a checkpoint of MEF: it has no {NAMES[0]}_adapter")
    adapters.load(entries, str(path))
    return []


LAYOUT = Layout(Adapters.state, _load)


class Learning(NamedTuple):
    """Adapters and objective of a training run, as :func:`build` makes them."""

    adapters: Adapters
    step: MEFStep
    objectives: list[Objective]


def build(
    config: MEFConfig, frozen: FrozenNetworks, dataset: PortraitDataset, embeddings: tuple[Tensor, Tensor]
) -> Learning:
    """New adapters, seeded, in the frozen base, and what they learn from.

    Args:
        embeddings: ``[N, width]`` of the data set, identity then expression, to standardise by.
    """
    train, model, base = config.train_params, config.model_params, frozen.base
    torch.manual_seed(train.seed)
    noise, no_text = training_noise(base), frozen.no_text()
    sizes = (model.identity_params, model.expression_params)
    adapters = attach_new(base.unet, frozen.embedder.widths, sizes, model.inject)
    parameters = adapters.trainable()
    adapters.standardise(embeddings)
    if train.gradient_checkpointing:
        base.unet.enable_gradient_checkpointing()
    step = MEFStep(base.unet, noise, frozen, dataset.tables, no_text, train, embeddings[1])
    optimizer = torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    return Learning(adapters, step, [Objective(step, {"optimizer_adapters": optimizer})])
