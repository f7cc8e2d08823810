"""What the command line names for MEF, looked at where it lies.  Nothing heavy is imported here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..training.checkpoint_file import check_file
from .hub import check_there

CONFIG = "config.json"  # of a folder of adapters
BASE_KEY = "stable_diffusion"  # of CONFIG: where the base is found


def check_named(
    checkpoint: str,
    base: str | None = None,
    base_config: str | None = None,
    expression_adapter: str | None = None,
    face_recognition: str | None = None,
) -> None:
    """UserError where a file or folder is not there, or not what it should be; ids of the hub are left to the hub."""
    if face_recognition is not None:
        if expression_adapter is None:
            raise UserError("--face_recognition is of a FaceID file beside an --expression_adapter")
        check_recognition(face_recognition, "--face_recognition")
    if face_recognition is not None or Path(checkpoint).is_file():
        check_file(checkpoint)
    else:
        check_adapters(checkpoint)
    if base is not None:
        check_base(base, base_config)
    if expression_adapter is not None:
        read_description(Path(expression_adapter) / CONFIG)


def check_adapters(name: str) -> None:
    """UserError for a folder of adapters that is not there, and no id of the hub."""
    check_there(name, "folder of adapters")


def check_base(name: str, config: str | None = None) -> None:
    """UserError for a base that is not there, and no id of the hub; ``config`` is a single file's."""
    check_there(name, "base")
    path = Path(name)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        if config is not None:
            check_there(config, "folder of a base's layout")
    elif path.is_file():
        raise UserError(f"{path}: a base is a hub id, a folder or a .safetensors file")


def check_recognition(path: str, option: str) -> None:
    """UserError for a face-recognition network that is not there."""
    if not Path(path).is_file():
        raise UserError(f"{option}: {path}: no such file")


def read_description(path: Path) -> dict[str, Any]:
    """What ``config.json`` says.  Raises UserError for a file that is not one of adapters."""
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(description, dict) and BASE_KEY in description:
            return description
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        pass
    raise UserError(f"{path}: not a folder of DeepExpr adapters: it needs a {CONFIG} with {BASE_KEY}")
