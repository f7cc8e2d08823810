"""SID's weights in checkpoints: which entry belongs to which network."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from ..config.sid import ModelParams, TrainParams
from ..errors import UserError
from ..training.checkpoint import averaged, load_checkpoint, restore
from .model import SID

ENCODER_ENTRY = "encoders"
FACE_MOTIONS = "dense_motion_network.face_flow.motions"  # of the generator; what z_exp stands for
FACE_AMOUNTS = "dense_motion_network.face_flow.more.weight"  # and how much of it is shown
RENAMED = {"dense_motion_network.film.": "dense_motion_network.semantic_flow."}  # names begin so in earlier files
BLUR = "down.weight"  # end of the names of AntiAliasDownsample's kernels


def networks(model: SID) -> dict[str, nn.Module]:
    """The networks of a model by the name of their checkpoint entry."""
    named = {"generator": model.generator, "kp_detector": model.kp_detector}
    return named if model.encoders is None else named | {ENCODER_ENTRY: model.encoders}


def learners(model: SID, params: TrainParams) -> dict[str, nn.Module]:
    """What has a learning rate of its own, by the name that :meth:`TrainParams.learning_rate` knows.

    Its optimiser goes by it too, so that a run cannot take over the state of another set of weights.
    """
    named = networks(model)
    if model.encoders is not None and params.lr_motion_head is not None:
        del named[ENCODER_ENTRY]
        named["image_encoders"] = nn.ModuleList([model.encoders.identity, model.encoders.semantic])
        named["motion_head"] = model.encoders.motion_head
    return named


def state(model: SID) -> dict[str, dict[str, torch.Tensor]]:
    """Entry -> state dict; without encoders exactly what FOMM's own loader expects."""
    return {name: module.state_dict() for name, module in networks(model).items()}


def _added(name: str) -> bool:
    parts = ("film.", "moving.", "dense_motion_network.semantic_flow.", "dense_motion_network.face_flow.")
    return name.startswith(parts)


def _renamed(entries: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A network's tensors under the names of today."""

    def now(name: str) -> str:
        return next((new + name[len(old) :] for old, new in RENAMED.items() if name.startswith(old)), name)

    return {now(name): value for name, value in entries.items()}


def load_state(model: SID, checkpoint: dict[str, Any], path: str | os.PathLike, warm_start: bool = False) -> list[str]:
    """Load a model's networks from a checkpoint; return the names it lacked.

    Strict, with one exception: ``warm_start`` lets a checkpoint without encoders (FOMM's own) start a model with
    them, and then only the encoders, the motion head, the FiLM layers and what moves faces may be missing.

    Raises:
        UserError: checkpoint and configuration do not fit; the line says where.
    """
    for required in ("generator", "kp_detector"):
        if not isinstance(checkpoint.get(required), dict):
            raise UserError(f"{path}: not a SID or FOMM checkpoint: it has no entry {required!r}")
    plain = ENCODER_ENTRY not in checkpoint
    if plain and model.encoders is not None and not warm_start:
        raise UserError(f"{path}: has no encoders, but the configuration has model_params.encoder_params; remove them")
    if not plain and model.encoders is None:
        raise UserError(f"{path}: has encoders, but the configuration has no model_params.encoder_params; add them")
    missing = []
    for entry, module in networks(model).items():
        if entry == ENCODER_ENTRY and plain:
            missing += [f"{entry}.{name}" for name in module.state_dict()]
            continue
        excused = _added if plain else (lambda name: False)
        missing += [f"{entry}.{n}" for n in restore(module, _renamed(checkpoint[entry]), f"{path}: {entry}", excused)]
    return missing


def to_start_from(checkpoint: dict[str, Any], params: ModelParams) -> dict[str, Any]:
    """A checkpoint's networks, averaged ones if it keeps them, for a new run, at another frame size too.

    Where the ``scale_factor`` of networks make up for a difference of size, all that depends on it is the fixed blur
    before a network looks at less than the whole frame; it is computed, not learnt, and taken from the configuration.
    """
    trained = averaged(checkpoint)
    fitted = {name: value for name, value in checkpoint.items() if name != "ema"}
    for entry, module in networks(SID(params)).items():
        blurs = {name: value for name, value in module.state_dict().items() if name.endswith(BLUR)}
        learnt = {name: value for name, value in trained.get(entry, {}).items() if not name.endswith(BLUR)}
        if learnt:
            fitted[entry] = learnt | blurs
    return fitted


def load_model(params: ModelParams, path: str | os.PathLike) -> SID:
    """A model for inference: evaluation mode, averaged weights where the checkpoint keeps them."""
    checkpoint = load_checkpoint(path)
    model = SID(params)
    load_state(model, averaged(checkpoint), path)
    return model.eval().requires_grad_(False)
