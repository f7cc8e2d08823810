"""The key of a cache: everything that what is kept in it depends on, as one short name."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ...config.files import config_to_dict
from ...config.mef import MEFConfig
from ...errors import UserError
from ...storage.tars import Member
from ..tables import Tables

FORMAT = 5  # raise it when what is cached would be computed differently
LOOKS, LOOK = 64, 4096  # parts of a large file that are looked at, and bytes of each
BASE_PARTS = ("vae*", "text_encoder*", "tokenizer*")  # folders of a base that latents and text states come from


def cache_key(config: MEFConfig, tables: Tables, half: bool) -> str:
    """16 hexadecimal digits.  Raises UserError for a file that is not there."""
    data, model = config.dataset_params, config.model_params
    base, compound, sid = model.base_params, model.compound_params, model.sid_params

    @functools.cache  # a picture may be in many portraits
    def stamp(path: Path | Member | None) -> list[Any] | None:
        return path.stamp if isinstance(path, Member) else path and _stamp(path, data.root_dir)

    made_from = [
        FORMAT,
        half,
        data.resolution,
        data.crop_faces,
        config_to_dict(base),
        config_to_dict(compound),
        stamps(sid.checkpoint),
        stamps(sid.config),
        stamps(base.path, *BASE_PARTS),
        stamps(base.config, *BASE_PARTS),
        stamps(compound.clip),
        stamps(compound.face_recognition),
        tables.captions,
        [stamp(path) for path in tables.pictures],  # in the order of their rows
        [[p.text, *map(stamp, (p.image, p.identity_image, p.reference_image, p.mask))] for p in tables.portraits],
    ]
    if model.exemplar_params is not None:
        encoder = model.exemplar_params.encoder
        made_from += [encoder, stamps(encoder)]
    if model.inpaint_params is not None:
        made_from.append("inpainting")
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:16]


def stamps(name: str | None, *parts: str) -> list[list[Any]]:
    """Of a file, or of all files in (those ``parts`` of) a folder.  A hub id, which is neither, stands for itself.

    Told by what is in them, not by their times: machines that share a cache have weights of their own.
    """
    path = Path(name or "")
    if name is None or not path.exists():
        return []
    if path.is_file():
        return [_content(path, path.parent)]
    folders = [folder for part in parts for folder in path.glob(part)] if parts else [path]
    inside = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    return [_content(file, path) for file in inside if not any(p[0] == "." for p in file.relative_to(path).parts)]


def _content(path: Path, root: Path) -> list[Any]:
    """Name, size, and a digest of evenly spaced parts: training changes weights everywhere."""
    digest = hashlib.sha256()
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            for i in range(LOOKS) if size > LOOKS * LOOK else ():
                file.seek(i * (size - LOOK) // (LOOKS - 1))
                digest.update(file.read(LOOK))
            digest.update(b"" if size > LOOKS * LOOK else file.read())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return [os.path.relpath(path, root), size, digest.hexdigest()]


def _stamp(path: Path, root: str | Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    return [os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns]
