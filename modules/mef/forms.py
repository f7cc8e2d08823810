"""The two forms in which embeddings reach a base, adapters and branch: new ones, and those that were saved."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.mef import Fusion, MEFParams
from .adapters import attach, attach_new
from .base import Base
from .branch import ENTRY, attach_branch, fusion_of, new_branch
from .checks import CONFIG, read_description
from .conditions import NAMES, Conditions, Widths
from .folder import read_adapters
from .inpainting import UNET, BaseAndAdapters
from .projections import first_layer, widened

PROJECTION = "image_proj"  # of an adapter's file: what makes tokens of embeddings


def new_conditions(base: Base, widths: Widths, model: MEFParams) -> Conditions:
    """Untrained ones of the form that ``model_params.adapter`` names; the base, frozen, draws what it drew."""
    if model.adapter == "branch":
        return new_branch(base, widths, (model.identity_params, model.expression_params), model.fusion)
    sizes = model.identity_params, model.exemplar_params or model.expression_params
    adapters = attach_new(base.unet, widths, sizes, model.inject, model.expression_inject)
    return BaseAndAdapters(base.unet) if model.inpaint_params and model.inpaint_params.train_base else adapters


def attach_checkpoint(base: Base, entries: dict[str, Any], path: str | os.PathLike, fusion: Fusion) -> Conditions:
    """Those of a training checkpoint's ``entries``.  Raises UserError where they do not fit the base."""
    return _attached(base, entries, fusion, lambda entry: f"{path}: {entry}")


def attach_folder(base: Base, folder: Path) -> Conditions:
    """Those of a folder that ``save_pretrained`` wrote.  Raises UserError where they do not fit the base."""
    entries, fusion = read_adapters(folder), "plain"
    if ENTRY in entries:
        fusion = fusion_of(read_description(folder / CONFIG), str(folder / CONFIG))
    return _attached(base, entries, fusion, lambda entry: str(folder / f"{entry}.safetensors"))


def beginning(entries: dict[str, Any], conditions: Conditions, known: int, where: str | os.PathLike) -> dict[str, Any]:
    """What a new training begins with, of other weights.

    Adapters of SID's identity alone, ``known`` numbers, fit those of a compound: what is beside z_id has no effect
    until they have learnt (:func:`.projections.widened`).  A projection that reads another kind of embedding, a vector
    instead of an exemplar, begins anew, with the attention that there is, which is said.  All else is as it is.
    """
    begun, own = dict(entries), conditions.state()
    for name, projection in zip(NAMES, conditions.projections, strict=True):
        entry = f"{name}_adapter"
        saved = begun.get(entry)
        if entry not in own or not isinstance(saved, dict):
            continue
        made = saved.get(PROJECTION, {})
        if made.keys() != own[entry][PROJECTION].keys():
            print(f"note: {where}: its {entry} reads embeddings of another kind: that part begins anew")
            begun[entry] = saved | {PROJECTION: own[entry][PROJECTION]}
        elif name == NAMES[0] and first_layer(projection).in_features != known:
            begun[entry] = saved | {PROJECTION: widened(made, projection, known)}
    return begun


def _attached(base: Base, entries: dict[str, Any], fusion: Fusion, place: Callable[[str], str]) -> Conditions:
    if ENTRY in entries:
        return attach_branch(base, entries[ENTRY], place(ENTRY).removesuffix(".safetensors"), fusion)
    names = [f"{name}_adapter" for name in NAMES]
    adapters = attach(base.unet, [entries.get(name) for name in names], [place(name) for name in names])
    if UNET not in entries:
        return adapters
    trained = BaseAndAdapters(base.unet)
    trained.load(entries, place(UNET).partition(f": {UNET}")[0])
    return trained
