"""What training the two parts of a small base has in common."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ... import media
from ...config.files import config_to_dict
from ...config.small_base import SmallBaseConfig
from ...config.training import LoopParams
from ...data.portraits import Portrait
from ...media.tensors import to_tensor
from ...training.averages import warmed_up
from ...training.checkpoint import restore
from ...training.loop import Loaded, Phase

Batch = dict[str, Tensor]


class PartStage:
    """One network, one phase, averaged weights; see :class:`.training.loop.Stage`.  Subclasses draw the picture."""

    def __init__(
        self,
        config: SmallBaseConfig,
        step: nn.Module,
        network: nn.Module,
        params: LoopParams,
        optimizer: torch.optim.Optimizer,
    ):
        self.config, self.step, self.network = config, step, network
        self.phases = [Phase(step, {"optimizer": optimizer})]
        self.ema = None
        if params.ema_decay is not None:
            self.ema = AveragedModel(network, multi_avg_fn=warmed_up(params.ema_decay))

    @property
    def averaged(self) -> nn.Module:
        """The network to use."""
        return self.network if self.ema is None else self.ema.module

    def to(self, device: torch.device) -> None:
        self.step.to(device)
        if self.ema is not None:
            self.ema.to(device)

    def after_step(self) -> None:
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def state(self) -> dict[str, Any]:
        entries: dict[str, Any] = {"network": self.network.state_dict(), "small_base": config_to_dict(self.config)}
        if self.ema is not None:
            entries |= {"ema": self.ema.module.state_dict(), "ema_updates": int(self.ema.n_averaged)}
        return entries

    def load(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> Loaded:
        """Take over a checkpoint's network.  Raises UserError for one of another part or configuration."""
        restore(self.network, checkpoint.get("network"), f"{path}: network")
        if self.ema is not None:
            restore(self.ema.module, checkpoint.get("ema") or checkpoint["network"], f"{path}: ema")
            self.ema.n_averaged.fill_(checkpoint.get("ema_updates", 0))
        return Loaded([], [])


def read_picture(portrait: Portrait, resolution: int) -> Tensor:
    """float32 ``[3, H, W]`` in [-1, 1]."""
    return to_tensor([media.fit(media.read_image(portrait.image), resolution, resolution)])[0] * 2 - 1


def normal_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
