"""MEF as the training loop sees it: one phase, its optimiser, and what a checkpoint holds."""

from __future__ import annotations

import copy
import os
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..config.files import config_to_dict
from ..config.mef import MEFConfig
from ..errors import UserError
from ..training.averages import warmed_up
from ..training.loop import Loaded, Phase
from .adapters import NAMES, attach_new
from .base import training_noise
from .dataset import PortraitDataset
from .frozen import FrozenNetworks
from .step import MEFStep
from .validation import Validation


class MEFStage:
    """Builds what MEF trains into a frozen base; see :class:`.training.loop.Stage`.

    Args:
        embeddings: ``[N, width]`` of the data set, identity then expression, to standardise by.
    """

    def __init__(
        self, config: MEFConfig, encoder: FrozenNetworks, dataset: PortraitDataset, embeddings: tuple[Tensor, Tensor]
    ):
        train, model = config.train_params, config.model_params
        torch.manual_seed(train.seed)
        self.config, self.base = config, encoder.base
        unet = self.base.unet
        noise, no_text = training_noise(self.base), encoder.no_text()
        sizes = (model.identity_params, model.expression_params)
        self.adapters = attach_new(unet, encoder.embedder.widths, sizes, model.inject)
        parameters = self.adapters.trainable()
        self.adapters.standardise(embeddings)
        if train.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.encoder = encoder
        self.validation = Validation(config.validation_params, encoder, dataset.portraits, self.adapters)
        step = MEFStep(unet, noise, encoder, dataset.tables, no_text, train, embeddings[1])
        optimizer = torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay)
        self.phases = [Phase(step, {"optimizer_adapters": optimizer})]
        self.ema = None
        if train.ema_decay is not None:
            self.ema = AveragedModel(self.adapters, multi_avg_fn=warmed_up(train.ema_decay))

    def to(self, device: torch.device) -> None:
        self.encoder.to(device)
        self.phases[0].module.to(device)
        if self.ema is not None:
            self.ema.to(device)

    def after_step(self) -> None:
        if self.ema is not None:
            self.ema.update_parameters(self.adapters)

    def averaged(self) -> dict[str, Any]:
        """The adapters to use: averaged where averages are kept."""
        return (self.adapters if self.ema is None else self.ema.module).state()

    def state(self) -> dict[str, Any]:
        """The checkpoint entries of adapters and averages (the loop adds the optimiser and the position)."""
        entries: dict[str, Any] = self.adapters.state()
        if self.ema is not None:
            entries |= {"ema": self.ema.module.state(), "ema_updates": int(self.ema.n_averaged)}
        return entries | {"mef": config_to_dict(self.config)}

    def load(self, checkpoint: dict[str, Any], path: str | os.PathLike) -> Loaded:
        """Take over a checkpoint's adapters.  Raises UserError for one that is not of this configuration."""
        if f"{NAMES[0]}_adapter" not in checkpoint:
            raise UserError(f"{path}: not a checkpoint of MEF: it has no {NAMES[0]}_adapter")
        self.adapters.load(checkpoint, str(path))
        if self.ema is not None:
            self.ema.module.load(checkpoint.get("ema") or checkpoint, str(path))
            self.ema.n_averaged.fill_(checkpoint.get("ema_updates", 0))
        return Loaded([], [])

    def picture(self, hand_over: Any) -> Tensor:
        """The validation grid, by the averaged adapters, uint8 ``[H, W, 3]``."""
        training = copy.deepcopy(self.adapters.state())
        self.adapters.load(self.averaged(), "averages")
        try:
            with torch.autocast(self.base.device.type, self.base.unet.dtype, self.base.unet.dtype != torch.float32):
                return self.validation.grid()
        finally:
            self.adapters.load(training, "adapters")
