"""The folder that adapters, or a branch, are saved in: their files, SID's encoders, and what they were made for."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..config.files import config_to_dict, section_from_dict
from ..config.mef import BaseParams, CompoundParams
from ..errors import UserError
from ..training.checkpoint import load_checkpoint
from .branch import ENTRY, FORM_KEY, TOKENS_FILE, read_branch
from .checks import BASE_KEY, CONFIG, read_description
from .conditions import NAMES, Conditions
from .embeddings import Embedder, SIDEncoders
from .exemplar import SID
from .hub import is_path
from .inpainting import BASE, BaseAndAdapters, save_base

CROP_KEY = "crop_faces"  # of CONFIG: whether pictures are cut out around the face first, as in training
EXEMPLAR_KEY = "exemplar_encoder"  # of CONFIG: what an exemplar adapter reads pictures with; absent without one
SID_FILE = "sid_encoders.safetensors"
SID_KEY = "checkpoint"  # of CONFIG's sid: the file of a whole SID, seen from the folder, instead of SID_FILE
ADAPTER_FILES = tuple(f"{name}_adapter.safetensors" for name in NAMES)
FILES = (CONFIG, SID_FILE, *ADAPTER_FILES, f"{ENTRY}/*", TOKENS_FILE, f"{BASE}/*")  # all there can be, for the hub


def save_adapters(
    folder: Path,
    conditions: Conditions,
    embedder: Embedder | None,
    base_params: BaseParams,
    crop_faces: bool,
    sid_checkpoint: str | None = None,
    base: Any = None,
) -> None:
    """Write a folder that ``from_pretrained`` reads: adapters or branch, SID's encoders, ``config.json``.

    Args:
        crop_faces: whether they learnt from faces that a detector had cut out.
        sid_checkpoint: a whole SID that the encoders are to be read from, instead of copying them into the folder.
        base: the pipeline whose UNet has learnt with :class:`.inpainting.BaseAndAdapters`, which is written as well.
    """
    form = conditions.save(folder)
    if isinstance(conditions, BaseAndAdapters):
        base_params = save_base(base, conditions.unet, folder / BASE)
    widths = dict(zip(NAMES, conditions.widths, strict=True))
    base = {key: _seen_from(folder, name) for key, name in config_to_dict(base_params).items()}
    description: dict[str, Any] = {BASE_KEY: base, "embedding_widths": widths}
    description |= {CROP_KEY: crop_faces, "sid": None} | form
    if embedder is not None:
        description["sid"] = embedder.sid.described()
        if sid_checkpoint is None:
            embedder.sid.save(folder / SID_FILE)
        else:
            description["sid"][SID_KEY] = Path(os.path.relpath(sid_checkpoint, folder)).as_posix()
        description["compound_params"] = config_to_dict(embedder.compound)
        if embedder.exemplar is not None:
            description[EXEMPLAR_KEY] = _seen_from(folder, embedder.exemplar.name)
    write_text(folder / CONFIG, json.dumps(description, indent=2) + "\n")


def read_adapters(folder: Path) -> dict[str, Any]:
    """What a folder that :func:`save_adapters` wrote holds, as :meth:`.Conditions.state` gave it.

    Raises:
        UserError: there are no adapters or branch, or they cannot be read.
    """
    form = read_description(folder / CONFIG).get(FORM_KEY)
    if form == ENTRY:
        return read_branch(folder)
    if form is not None:
        raise UserError(f"{folder / CONFIG}: {FORM_KEY}: expected {ENTRY}, or nothing for adapters, found {form!r}")
    return {f"{name}_adapter": load_checkpoint(folder / file) for name, file in zip(NAMES, ADAPTER_FILES, strict=True)}


def read_base(folder: Path, description: dict[str, Any], of_hub: bool = False) -> BaseParams:
    """Where a folder's base is found.  Raises UserError for what is no place, or none that ``of_hub`` may name."""
    params = section_from_dict(BaseParams, description[BASE_KEY], f"{folder / CONFIG}: {BASE_KEY}", BaseParams)
    config = params.config and _place(folder, params.config, of_hub)
    return replace(params, path=_place(folder, params.path, of_hub), config=config)


def read_compound(folder: Path, description: dict[str, Any], of_hub: bool = False) -> CompoundParams:
    """What a folder's identity holds beside SID's; errors as of :func:`read_base`."""
    values = description.get("compound_params", {})
    params = section_from_dict(CompoundParams, values, f"{folder / CONFIG}: compound_params", CompoundParams)
    clip, recognition = (name and _place(folder, name, of_hub) for name in (params.clip, params.face_recognition))
    return replace(params, clip=clip, face_recognition=recognition)


def read_exemplar(folder: Path, description: dict[str, Any], of_hub: bool = False) -> str | None:
    """What a folder's exemplar adapter reads pictures with; None without one; errors as of :func:`read_base`."""
    encoder = description.get(EXEMPLAR_KEY)
    if encoder is not None and not isinstance(encoder, str):
        raise UserError(f"{folder / CONFIG}: {EXEMPLAR_KEY}: expected a name, found {encoder!r}")
    return encoder if encoder in (None, SID) else _place(folder, encoder, of_hub)


def read_sid(folder: Path, description: dict[str, Any], of_hub: bool = False) -> SIDEncoders | None:
    """The encoders whose embeddings a folder's adapters learnt to read; None if ``config.json`` names none.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    sid = description.get("sid")
    if sid is None:
        return None
    size = sid.get("size") if isinstance(sid, dict) else None
    whole = isinstance(size, list) and len(size) == 2 and all(type(length) is int and length > 0 for length in size)
    if not whole or not isinstance(sid.get("encoder_params"), dict) or not isinstance(sid.get(SID_KEY, ""), str):
        raise UserError(f"{folder / CONFIG}: sid: expected what save_pretrained writes, with encoder_params and size")
    path = folder / SID_FILE
    if SID_KEY in sid:
        path = Path(_place(folder, sid[SID_KEY], of_hub, may_be_id=False))
    return SIDEncoders.from_file(path, sid)


def read_embedder(
    folder: Path,
    description: dict[str, Any],
    detector: str = "auto",
    crop: bool | None = None,
    cpu: bool = False,
    of_hub: bool = False,
) -> Embedder | None:
    """What a folder's adapters read pictures with; None if ``config.json`` names no SID.

    Args:
        detector, crop, cpu: as :class:`.embeddings.Embedder` takes them; adapters that learnt from cut-out faces are
            shown nothing else.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    sid = read_sid(folder, description, of_hub)
    if sid is None:
        return None
    compound, exemplar = read_compound(folder, description, of_hub), read_exemplar(folder, description, of_hub)
    return Embedder(sid, compound, description.get(CROP_KEY) is True or crop, detector, cpu, exemplar)


def _seen_from(folder: Path, name: str | None) -> str | None:
    """A relative path of the working folder, or any that lies in ``folder``, as one of it; everything else as it is."""
    if name is None or not Path(name).exists():
        return name
    if Path(name).is_absolute() and not Path(name).resolve().is_relative_to(folder.resolve()):
        return name
    relative = Path(os.path.relpath(name, folder)).as_posix()
    return relative if relative.startswith(".") else f"./{relative}"


def _place(folder: Path, name: str, of_hub: bool, may_be_id: bool = True) -> str:
    """What ``config.json`` names, seen from the working folder; a hub id as it is.

    Raises:
        UserError: a folder ``of_hub``, which anybody may have written, names what lies outside it.
    """
    inside = Path(os.path.normpath(folder.absolute() / name))  # links are not followed: the hub's cache is made of them
    own = inside.is_relative_to(os.path.normpath(folder.absolute()))
    if of_hub and not (own and inside.exists()) and (is_path(name) or not may_be_id):
        raise UserError(f"{folder / CONFIG}: names {name}, outside what came from the hub; give a base of your own")
    if not may_be_id or name.startswith(".") or inside.exists():
        near = inside.exists() and inside.is_relative_to(Path.cwd())
        return os.path.relpath(inside) if near else str(inside)
    return name
