"""Training MEF: data, frozen networks and what they give of it, adapters or branch, loss, loop, read downwards."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ..config.files import config_to_dict
from ..config.mef import CompoundParams, MEFConfig
from ..data.portraits import read_portraits
from ..data.sampling import loader_of
from ..data.shards.reading import names_shards, read_shards
from ..devices import dtype_of
from ..errors import UserError
from ..storage.places import is_remote
from ..training.checkpoint import averaged, load_checkpoint
from ..training.launch import one_voice
from ..training.log import left_out
from ..training.run import (
    Run,
    close,
    continue_from,
    is_complete,
    nothing_left,
    open_folder,
    start_processes,
    starting_point,
)
from ..training.trainer import Trainer
from . import objectives
from .base import load_base, training_noise
from .cache.shards import BATCH, SHARD, Cache
from .checks import CONFIG, read_description
from .cost import cost
from .dataset import PortraitDataset
from .embeddings import Embedder, SIDEncoders
from .folder import CROP_KEY, EXEMPLAR_KEY, read_adapters, read_sid, save_adapters
from .forms import beginning
from .frozen import FrozenNetworks, Rows
from .inpainting import BaseAndAdapters, in_form
from .readable import Unreadable, find_unreadable
from .tables import Tables
from .validation import Validation

ADAPTERS = "adapters"  # folder in a run's, for DeepExprPipeline.from_pretrained and diffusers
SAMPLE = 1024  # pictures whose embeddings tell mean and deviation


def read_tables(config: MEFConfig) -> tuple[Tables, dict[str, str]]:
    """The data set's tables, and the portraits left out: path -> reason."""
    data = config.dataset_params
    if names_shards(data.root_dir):
        is_local = data.cache_dir is not None and not is_remote(data.cache_dir)
        portraits, bad = read_shards(data.root_dir, Path(data.cache_dir) / "indices" if is_local else None)
    else:
        portraits, bad = read_portraits(data.root_dir)
    return Tables(portraits), bad


def build_frozen(config: MEFConfig, cpu: bool = False) -> FrozenNetworks:
    """The frozen networks, on the CPU."""
    data, model = config.dataset_params, config.model_params
    sid = SIDEncoders.from_sid(model.sid_params)
    learns = model.inpaint_params is not None and model.inpaint_params.train_base
    base = load_base(model.base_params, torch.float32 if learns else dtype_of(config.train_params.precision))
    base = in_form(base, model.inpaint_params, "model_params.base_params")
    base.safety_checker = None  # a gigabyte that would only judge validation pictures
    exemplar = model.exemplar_params and model.exemplar_params.encoder
    embedder = Embedder(sid, model.compound_params, data.crop_faces, cpu=cpu, exemplar=exemplar)
    return FrozenNetworks(base, embedder, data.resolution)


def build_cache(config: MEFConfig, tables: Tables, frozen: FrozenNetworks, accelerator: Accelerator) -> Cache:
    """The cache, complete; processes share what is still to be computed."""
    cache = Cache(config, tables)
    # the first one's list on all: another run may be filling the same cache while they look
    [shards] = broadcast_object_list([cache.incomplete() if accelerator.is_main_process else None])
    started, rank, world = time.perf_counter(), accelerator.process_index, accelerator.num_processes
    cache.build(shards[rank::world], frozen, accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if shards and accelerator.is_main_process:
        rows = {name: len(items) for name, items in tables.items().items()}
        pictures = sum(min(SHARD, rows[table] - number * SHARD) for table, number in shards if table == "latents")
        print(cost("caching", pictures, time.perf_counter() - started, world))
    if missing := cache.missing():
        reason = f"{len(missing)} parts that other processes have built are not there"
        raise UserError(f"{cache.place}: {reason}: set dataset_params.cache_dir to a folder that all machines share")
    return cache


def embedding_sample(cache: Cache | None, tables: Tables, frozen: FrozenNetworks, bad: Collection[int] = ()) -> Rows:
    """Embeddings of the data set, ``[N, ...]`` each: enough for mean and deviation.

    ``bad``: without a cache, rows of pictures that cannot be read.
    """
    bad = bad if cache is None else cache.unreadable("faces")
    good = [i for i in range(len(tables.pictures)) if i not in bad]
    spread = [good[i] for i in np.linspace(0, len(good) - 1, min(len(good), SAMPLE)).round().astype(int)]
    if cache is not None:
        rows = [cache.row("faces", i) for i in spread]
        exemplars = [found for i in spread if (found := cache.exemplar(i)) is not None]
        sample = {name: torch.stack([row[name] for row in rows]).float() for name in rows[0]}
        return sample | ({"exemplar": torch.stack(exemplars).float()} if exemplars else {})
    chosen = [tables.pictures[i] for i in spread]
    parts = [frozen.embeddings(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH)]
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


@one_voice()
def train_mef(config: MEFConfig, run: Run) -> Path:
    """Train MEF's adapters or branch; return the run's folder, with these by themselves in ``adapters/``.

    Raises:
        UserError: data, networks, checkpoint and configuration are not there or do not fit; losses are not finite.
    """
    train = config.train_params
    start, entries = starting_point(run, read_checkpoint)
    complete = is_complete(start, train, start.folder and start.folder / ADAPTERS / CONFIG)
    if complete and run.resume == "auto":
        return nothing_left(start)
    tables, bad = read_tables(config)
    accelerator = start_processes(run, train)

    frozen = build_frozen(config, accelerator.device.type == "cpu").to(accelerator.device)
    if start.path is not None and start.path.is_dir() and accelerator.is_main_process:
        _tell_other_embeddings(start.path, frozen.embedder)
    cache, unreadable = None, Unreadable({}, {})
    if config.dataset_params.cache_dir is not None:
        cache = build_cache(config, tables, frozen, accelerator)
    else:
        unreadable = find_unreadable(tables, frozen.embedder, accelerator)
    timesteps = training_noise(frozen.base).config.num_train_timesteps
    dataset = PortraitDataset(tables, frozen.latent_shape, timesteps, train, cache, unreadable, frozen.join)
    rank, world = accelerator.process_index, accelerator.num_processes
    loader = loader_of(dataset, train, config.dataset_params.num_workers, rank, world)

    learning = objectives.build(config, frozen, dataset, embedding_sample(cache, tables, frozen, unreadable.faces))
    validation = Validation(config.validation_params, frozen, dataset.portraits, learning.adapters)
    if cache is not None and not isinstance(learning.adapters, BaseAndAdapters):
        frozen.forget_text()  # its states are all there: gigabytes for other things
    trainer = Trainer(
        learning.adapters,
        objectives.LAYOUT,
        learning.objectives,
        loader,
        train,
        accelerator,
        notes={"mef": config_to_dict(config)},
        picture=lambda _, averaged: validation.grid_of(averaged),
        accumulation=train.gradient_accumulation,
    )

    if run.finetune and entries is not None:
        known = frozen.embedder.sid.params.identity_dim
        entries = beginning(averaged(entries), learning.adapters, known, start.path)
    continue_from(trainer, start, entries, complete, run.finetune)
    del entries

    folder = open_folder(run, start, config, accelerator)
    if accelerator.is_main_process:
        if start.is_new:
            left_out(folder, (f"{path}: {reason}" for path, reason in (bad | dataset.left_out).items()))
        count = sum(p.numel() for p in learning.adapters.parameters() if p.requires_grad)
        print(f"{len(tables.portraits)} portraits; {count / 1e6:.2f} M parameters to train")
    started, first = time.perf_counter(), trainer.position.step
    trainer.fit(folder)
    if accelerator.is_main_process:
        made, base_params = folder / ADAPTERS, config.model_params.base_params
        crops = config.dataset_params.crop_faces
        save_adapters(made, trainer.averaged, frozen.embedder, base_params, crops, base=frozen.base)
        pictures = (trainer.position.step - first) * train.batch_size
        print(cost("training", pictures, time.perf_counter() - started, world))
        print(f"adapters: '{made}'")
        print(f"trained {trainer.position.epoch} epochs; the last checkpoint is in '{folder}'")
    close(accelerator)
    return folder


def read_checkpoint(path: str) -> dict[str, Any]:
    """What a run's checkpoint holds, or a folder of adapters, which has weights alone."""
    return read_adapters(Path(path)) if Path(path).is_dir() else load_checkpoint(path)


def _tell_other_embeddings(folder: Path, own: Embedder) -> None:
    """Say so if adapters to start from learnt to read other embeddings: allowed, but rarely what is meant."""
    description = read_description(folder / CONFIG)
    try:
        sid = read_sid(folder, description)
    except UserError as error:
        print(f"note: cannot check whether {folder} was trained on this configuration's embeddings: {error}")
        return
    if sid is None:
        return
    crops = description.get(CROP_KEY) is True
    compound = description.get("compound_params")
    if compound == config_to_dict(CompoundParams()):
        compound = config_to_dict(own.compound)  # z_id alone is a part of every compound
    read = compound, crops, crops and sid.framing, description.get(EXEMPLAR_KEY)
    exemplar = own.exemplar and own.exemplar.name
    if not sid.same_as(own.sid) or read != (
        config_to_dict(own.compound),
        own.crop,
        own.crop and own.sid.framing,
        exemplar,
    ):
        print(f"note: {folder} was trained on other embeddings than this configuration's, and has to learn them again")
