"""What the folder of an exported model is to hold.  Nothing heavy is imported here: mistakes are told at once."""

from __future__ import annotations

from pathlib import Path

from ...arguments import command_line
from ...config.files import load_animation_config
from ...config.rigged import RiggedConfig
from ...config.sid import Config
from ...errors import UserError

CONFIG = "config.yaml"
SID_FILES = ("keypoints", "source", "generator")
ENCODER_FILES = ("identity", "semantics", "motion_head")
RIGGED_FILES = ("mesh", "encoder", "motion_head", "motion", "mouth", "eye")


def read_config(folder: Path) -> Config | RiggedConfig:
    """The configuration of an exported model.

    Raises:
        UserError: the folder is not one that :func:`.folder.write_folder` wrote.
    """
    _check_there(folder, CONFIG)
    config = load_animation_config(folder / CONFIG)
    for name in names(config):
        _check_there(folder, file_of(name))
    return config


def file_of(name: str) -> str:
    """Of a part, in the folder."""
    return f"{name}.onnx"


def names(config: Config | RiggedConfig) -> tuple[str, ...]:
    """The parts of a configuration's model."""
    if isinstance(config, RiggedConfig):
        return RIGGED_FILES
    return SID_FILES if config.model_params.encoder_params is None else SID_FILES + ENCODER_FILES


def _check_there(folder: Path, file: str) -> None:
    if not (folder / file).is_file():
        raise UserError(f"{folder}: has no {file}; give a folder that {command_line('sid.export')} --onnx wrote")
