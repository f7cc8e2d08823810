"""The folder that adapters are saved in: two IP-Adapter files, SID's encoders, and what they were made for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..config.files import config_to_dict
from ..config.mef import BaseParams
from ..errors import UserError
from ..training.checkpoint import load_checkpoint, save_checkpoint
from .adapters import NAMES
from .embeddings import Embedder, SIDEncoders

CONFIG = "config.json"
BASE_KEY = "stable_diffusion"  # of CONFIG: where the base is found
CROP_KEY = "crop_faces"  # of CONFIG: whether pictures are cut out around the face first, as in training
SID_FILE = "sid_encoders.safetensors"
SID_KEY = "checkpoint"  # of CONFIG's sid: the file of a whole SID, seen from the folder, instead of SID_FILE
ADAPTER_FILES = tuple(f"{name}_adapter.safetensors" for name in NAMES)


def save_adapters(
    folder: Path,
    states: dict[str, Any],
    embedder: Embedder | None,
    base_params: BaseParams,
    crop_faces: bool,
    sid_checkpoint: str | None = None,
) -> None:
    """Write a folder that ``from_pretrained`` reads: two adapters, SID's encoders, ``config.json``.

    Args:
        states: what :meth:`.mef.adapters.Adapters.state` gives.
        crop_faces: whether they learnt from faces that a detector had cut out.
        sid_checkpoint: a whole SID that the encoders are to be read from, instead of copying them into the folder.
    """
    for name, file in zip(NAMES, ADAPTER_FILES, strict=True):
        save_checkpoint(states[f"{name}_adapter"], folder / file)
    widths = {name: states[f"{name}_adapter"]["image_proj"]["proj.0.weight"].shape[1] for name in NAMES}
    description: dict[str, Any] = {BASE_KEY: config_to_dict(base_params), "embedding_widths": widths}
    description |= {CROP_KEY: crop_faces, "sid": None}
    if embedder is not None:
        description["sid"] = embedder.sid.described()
        if sid_checkpoint is None:
            embedder.sid.save(folder / SID_FILE)
        else:
            description["sid"][SID_KEY] = Path(os.path.relpath(sid_checkpoint, folder)).as_posix()
        description["compound_params"] = config_to_dict(embedder.compound)
    write_text(folder / CONFIG, json.dumps(description, indent=2) + "\n")


def read_adapters(folder: Path) -> dict[str, Any]:
    """The adapters of a folder that :func:`save_adapters` wrote, by ``<name>_adapter``.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    read_description(folder / CONFIG)
    return {f"{name}_adapter": load_checkpoint(folder / file) for name, file in zip(NAMES, ADAPTER_FILES, strict=True)}


def read_sid(folder: Path, description: dict[str, Any]) -> SIDEncoders | None:
    """The encoders whose embeddings a folder's adapters learnt to read; None if ``config.json`` names none.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    sid = description.get("sid")
    if sid is None:
        return None
    if not isinstance(sid, dict) or not {"encoder_params", "size"} <= sid.keys():
        raise UserError(f"{folder / CONFIG}: sid: expected what save_pretrained writes, with encoder_params and size")
    return SIDEncoders.from_file((folder / sid.get(SID_KEY, SID_FILE)).resolve(), sid)


def read_description(path: Path) -> dict[str, Any]:
    """What ``config.json`` says.  Raises UserError for a file that is not one of adapters."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if BASE_KEY in description:
            return description
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        pass
    raise UserError(f"{path}: not a folder of DeepExpr adapters: it needs a {CONFIG} with {BASE_KEY}")
