"""Training MEF from a configuration: data, frozen networks, what they give of the data, stage, loop, in that order."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor

from ..config.files import config_to_dict, load_mef_config
from ..config.mef import MEFConfig
from ..data.portraits import read_portraits
from ..data.sampling import loader_of
from ..errors import UserError
from ..training import run as runs
from ..training.checkpoint import load_checkpoint
from ..training.loop import Loaded, Trainer
from .adapters import NAMES
from .base import DTYPES, load_base, training_noise
from .cache.shards import BATCH, Cache
from .dataset import PortraitDataset
from .embeddings import Embedder, SIDEncoders
from .folder import CONFIG, CROP_KEY, read_adapters, read_description, read_sid, save_adapters
from .frozen import FrozenNetworks
from .readable import Unreadable, find_unreadable
from .stage import MEFStage
from .tables import Tables

ADAPTERS = "adapters"  # folder in a run's, for DeepExprPipeline.from_pretrained and diffusers
SAMPLE = 1024  # pictures whose embeddings tell mean and deviation where there is no cache


def read_tables(config: MEFConfig) -> tuple[Tables, dict[str, str]]:
    """The data set's tables, and the portraits left out: path -> reason."""
    portraits, bad = read_portraits(config.dataset_params.root_dir)
    return Tables(portraits), bad


def build_encoder(config: MEFConfig, cpu: bool = False) -> FrozenNetworks:
    """The frozen networks, on the CPU."""
    data, model = config.dataset_params, config.model_params
    sid = SIDEncoders.from_sid(model.sid_params)
    base = load_base(model.base_params, DTYPES[config.train_params.precision])
    base.safety_checker = None  # a gigabyte that would only judge validation pictures
    detector = "auto" if data.crop_faces else None
    return FrozenNetworks(base, Embedder(sid, model.compound_params, detector, cpu), data.resolution)


def build_cache(config: MEFConfig, tables: Tables, encoder: FrozenNetworks, accelerator: Accelerator) -> Cache:
    """The cache, complete; processes share what is still to be computed."""
    cache = Cache(config, tables)
    # the first one's list on all: another run may be filling the same cache while they look
    [shards] = broadcast_object_list([cache.incomplete() if accelerator.is_main_process else None])
    cache.build(shards[accelerator.process_index :: accelerator.num_processes], encoder, accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if missing := cache.missing():
        reason = f"{len(missing)} parts that other processes have built are not there"
        raise UserError(f"{cache.folder}: {reason}: set dataset_params.cache_dir to a folder that all machines share")
    return cache


def embedding_sample(
    cache: Cache | None, tables: Tables, encoder: FrozenNetworks, bad: Collection[int] = ()
) -> tuple[Tensor, Tensor]:
    """Embeddings of the data set, ``[N, width]`` each: all of them, or as many as tell mean and deviation.

    ``bad``: without a cache, rows of pictures that cannot be read.
    """
    bad = bad if cache is None else cache.unreadable("faces")
    good = [i for i in range(len(tables.pictures)) if i not in bad]
    if cache is not None:
        return cache.column("faces", "identity")[good], cache.column("faces", "expression")[good]
    spread = np.linspace(0, len(good) - 1, min(len(good), SAMPLE)).round().astype(int)
    chosen = [tables.pictures[good[i]] for i in spread]
    parts = [encoder.embeddings(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH)]
    return tuple(torch.cat([part[name].cpu() for part in parts]) for name in NAMES)


class MEFRecipe:
    """See :class:`.training.run.Recipe`."""

    def __init__(self, config_path: str):
        self.config = load_mef_config(config_path)
        self.train_params = self.config.train_params

    def read(self, checkpoint: str) -> dict[str, Any]:
        """Of a run, or a folder of adapters, which has weights alone."""
        return read_adapters(Path(checkpoint)) if Path(checkpoint).is_dir() else load_checkpoint(checkpoint)

    def check(self) -> None:
        self.tables, self.bad = read_tables(self.config)

    def build(
        self, accelerator: Accelerator, found: dict[str, Any] | None, checkpoint: str | None, finetune: bool
    ) -> tuple[Trainer, Loaded | None]:
        config, train, tables = self.config, self.config.train_params, self.tables
        encoder = build_encoder(config, accelerator.device.type == "cpu").to(accelerator.device)
        if checkpoint is not None and Path(checkpoint).is_dir() and accelerator.is_main_process:
            _tell_other_embeddings(Path(checkpoint), encoder.embedder)
        cache, unreadable = None, Unreadable({}, {})
        if config.dataset_params.cache_dir is not None:
            cache = build_cache(config, tables, encoder, accelerator)
        else:
            unreadable = find_unreadable(tables, encoder.embedder, accelerator)
        timesteps = training_noise(encoder.base).config.num_train_timesteps
        dataset = PortraitDataset(tables, encoder.latent_shape, timesteps, train, cache, unreadable)
        workers, rank, world = config.dataset_params.num_workers, accelerator.process_index, accelerator.num_processes
        loader = loader_of(dataset, train, workers, rank, world)
        stage = MEFStage(config, encoder, dataset, embedding_sample(cache, tables, encoder, unreadable.faces))
        if cache is not None:
            encoder.forget_text()  # its states are all there: gigabytes for other things
        trainer = Trainer(stage, loader, train, accelerator, train.gradient_accumulation)
        if finetune and "ema" in found:
            found = found | found["ema"] | {"ema_updates": 0}  # a new run's average forgets its first steps again
        loaded = trainer.resume(found, checkpoint, finetune) if found is not None else None
        return trainer, loaded

    def announce(self, trainer: Trainer, loaded: Loaded | None, checkpoint: str | None, is_new: bool) -> None:
        if is_new:
            left_out = self.bad | trainer.loader.dataset.left_out
            trainer.log_left_out(f"{path}: {reason}" for path, reason in left_out.items())
        count = sum(p.numel() for p in trainer.stage.adapters.parameters() if p.requires_grad)
        print(f"{len(self.tables.portraits)} portraits; {count / 1e6:.2f} M parameters to train")

    def left(self, folder: Path) -> Path:
        return folder / ADAPTERS / CONFIG

    def finish(self, trainer: Trainer) -> None:
        """The adapters by themselves, as other programs read them."""
        stage, folder = trainer.stage, trainer.folder / ADAPTERS
        embedder, base_params = stage.encoder.embedder, self.config.model_params.base_params
        save_adapters(folder, stage.averaged(), embedder, base_params, self.config.dataset_params.crop_faces)
        print(f"adapters: '{folder}'")


def _tell_other_embeddings(folder: Path, own: Embedder) -> None:
    """Say so if adapters to start from learnt to read other embeddings: allowed, but rarely what is meant."""
    description = read_description(folder / CONFIG)
    try:
        sid = read_sid(folder, description)
    except UserError as error:
        print(f"note: whether {folder} read the embeddings of this configuration cannot be told: {error}")
        return
    if sid is None:
        return
    read = description.get("compound_params"), description.get(CROP_KEY, False)
    if not sid.same_as(own.sid) or read != (config_to_dict(own.compound), own.detector is not None):
        print(f"note: {folder} read other embeddings than this configuration gives, and has to learn them anew")


train = partial(runs.run, MEFRecipe)
