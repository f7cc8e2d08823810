"""Training SID from a configuration: data, stage, loop, in that order."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ..config.files import load_config
from ..data.sampling import build_loader
from ..errors import UserError
from ..training import launch
from ..training import run as runs
from ..training.checkpoint import load_checkpoint
from ..training.loop import Loaded, Trainer
from .stage import SIDStage
from .weights import to_start_from


class SIDRecipe:
    """See :class:`.training.run.Recipe`."""

    def __init__(self, config_path: str):
        self.config = load_config(config_path)
        self.train_params = self.config.train_params

    def read(self, checkpoint: str) -> dict[str, Any]:
        return load_checkpoint(checkpoint)

    def check(self) -> None:
        for root in self.config.dataset_params.roots:
            if not Path(root.path).is_dir():
                raise UserError(f"{root.path}: no such folder of training data; set dataset_params.root_dir")
        network = self.config.train_params.perceptual_network
        if network.weights == "imagenet" and network.path is not None and not Path(network.path).is_file():
            raise UserError(f"{network.path}: no such file; train_params.perceptual_network.path names it")

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        config, train = self.config, self.config.train_params
        rank, world = accelerator.process_index, accelerator.num_processes
        weights, rendered = train.loss_weights, train.rendered(train.batch_size // world)
        if (weights.cycle_identity or weights.cycle_semantics) and rendered == 1:
            raise UserError(
                f"train_params.batch_size: {train.batch_size} over {world} process(es) leaves one item each to render; "
                "the cycle terms drive everybody by a neighbour and need two"
            )
        encoder = config.model_params.encoder_params
        normalised = encoder is not None and encoder.face_pixels and train.lr_encoders and not train.frozen_norms
        if normalised and train.batch_size // world < 2:
            raise UserError(
                f"train_params.batch_size: {train.batch_size} over {world} process(es) leaves one item each; the batch "
                "norm of encoders with face_pixels needs two"
            )
        if finetune:
            found = to_start_from(found, config.model_params)
        stage = SIDStage(config)
        # the first process of a machine leaves to the others what it learns of the videos
        first = accelerator.local_main_process_first() if config.dataset_params.cache_dir else nullcontext()
        with first:
            loader = build_loader(config.dataset_params, train, rank=rank, world_size=world, progress=rank == 0)
        loader.dataset.prepare_cache(*launch.share_of_work(rank, world), progress=rank == 0)
        accelerator.wait_for_everyone()
        trainer = Trainer(stage, loader, train, accelerator)
        loaded = trainer.resume(found, checkpoint, finetune) if found is not None else None
        return trainer, loaded

    def announce(self, trainer: Trainer, loaded: Loaded | None, checkpoint: str | None, is_new: bool) -> None:
        trainer.log_left_out(f"{path}: {reason}" for path, reason in trainer.loader.dataset.bad_clips.items())
        if loaded is not None and loaded.missing:
            print(f"warm start from {checkpoint}: {len(loaded.missing)} tensors (encoders and what shows them) are new")
        if loaded is not None and loaded.fresh and self.config.train_params.loss_weights.generator_gan:
            print(f"{checkpoint} has no {loaded.fresh[0]} of the configured kind: it starts anew")

    def left(self, folder: Path) -> None:
        """The numbered checkpoint is all."""

    def finish(self, trainer: Trainer) -> None:
        """Nothing: see :meth:`left`."""


train = partial(runs.run, SIDRecipe)
