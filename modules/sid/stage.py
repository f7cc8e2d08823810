"""SID as the training loop sees it: two phases, their optimisers, and what a checkpoint holds."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..config.files import config_to_dict
from ..config.sid import Config
from ..errors import UserError
from ..training.checkpoint import restore
from ..training.loop import Loaded, Phase
from . import weights
from .model import SID, build_discriminator
from .step import DiscriminatorStep, GeneratorStep, Rendered
from .visualizer import Visualizer

ADAM_BETAS = (0.5, 0.999)  # FOMM's, usual for adversarial training


def _adam(module: torch.nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=ADAM_BETAS)


class SIDStage:
    """Builds everything SID trains from a configuration; see :class:`.training.loop.Stage`."""

    def __init__(self, config: Config):
        train = config.train_params
        torch.manual_seed(train.seed)
        self.config = config
        self.model = SID(config.model_params)
        self.discriminator = build_discriminator(config.model_params)
        self.generator_step = GeneratorStep(self.model, self.discriminator, train)
        optimizers = {
            f"optimizer_{name}": _adam(network, rate)
            for name, network in weights.learners(self.model, train).items()
            if (rate := train.learning_rate(name))
        }
        self.phases = [Phase(self.generator_step, optimizers)]
        if train.loss_weights.generator_gan:
            step = DiscriminatorStep(self.discriminator, train)
            optimizer = _adam(self.discriminator, train.lr_discriminator)
            self.phases.append(Phase(step, {"optimizer_discriminator": optimizer}))
        self.ema = None
        if train.ema_decay is not None:
            # batch norm's statistics are averaged too: those of the moment belong to other weights
            average = get_ema_multi_avg_fn(train.ema_decay)
            self.ema = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True)
        self.visualizer = Visualizer(config.visualizer_params)

    def to(self, device: torch.device) -> None:
        for phase in self.phases:
            phase.module.to(device)
        if self.ema is not None:
            self.ema.to(device)

    def after_step(self) -> None:
        """Bring the averages up to date with the weights just stepped."""
        self.generator_step.update_targets()
        if self.ema is not None:
            self.ema.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """The checkpoint entries of networks and averages (the loop adds optimisers and position)."""
        entries: dict[str, Any] = weights.state(self.model)
        entries["discriminator"] = self.discriminator.state_dict()
        if self.generator_step.targets is not None:
            entries["targets"] = self.generator_step.targets.state_dict()
        if self.ema is not None:
            entries["ema"] = weights.state(self.ema.module)
            entries["ema_updates"] = int(self.ema.n_averaged)
        entries["model_params"] = config_to_dict(self.config.model_params)
        return entries

    def load(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> Loaded:
        """Take over a checkpoint's networks; say which tensors a warm start left new, and which networks start anew."""
        missing = weights.load_state(self.model, checkpoint, path, warm_start=True)
        fresh = [] if self._load_discriminator(checkpoint) else ["discriminator"]
        if self.generator_step.targets is not None:
            # a run that had no cycle terms has no judging copies; they then start as the encoders are
            entries = checkpoint.get("targets") or self.model.encoders.state_dict()
            restore(self.generator_step.targets, entries, f"{path}: targets")
        if self.ema is not None:
            average = None if missing else checkpoint.get("ema")
            weights.load_state(self.ema.module, average or weights.state(self.model), path)
            self.ema.n_averaged.fill_(checkpoint.get("ema_updates", 0) if average else 0)
        return Loaded(missing, fresh)

    def _load_discriminator(self, checkpoint: dict[str, Any]) -> bool:
        """Whether the checkpoint's discriminator could be used; FOMM's adversarial configurations have another one."""
        try:
            restore(self.discriminator, checkpoint.get("discriminator"), "discriminator")
        except UserError:
            return False
        return True

    def picture(self, rendered: Rendered) -> Tensor:
        """One training picture, uint8 ``[H, W, 3]``."""
        return self.visualizer.sheet(rendered)
