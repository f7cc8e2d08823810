"""Configurations in YAML files: read, checked as a whole, written."""

from __future__ import annotations

import os
from typing import Any, Literal, TypeVar

from ..errors import UserError
from . import schema
from .mef import MEFConfig, check_mef_together
from .rigged import RiggedConfig
from .schema import BadValue
from .sid import Config
from .sid_checks import check_together
from .small_base import SmallBaseConfig

T = TypeVar("T")


def load_config(path: str | os.PathLike) -> Config:
    """Read a YAML file.  Raises :class:`UserError`, one line, for a file that is missing, not YAML or not valid."""
    values = read_sections(Config, path)
    if stage_of(values) == "MEF":
        raise UserError(f"{path}: configures MEF, not SID: train it with train_mef.py, draw with Inference.py --prompt")
    if stage_of(values) == "rigged":
        raise UserError(
            f"{path}: configures rigged SID, which this does not take; give a configuration with model_params"
        )
    return config_from_dict(values, where=str(path))


def stage_of(values: Any) -> Literal["SID", "MEF", "rigged"] | None:
    """Which stage plain values of a YAML file configure: MEF has a base, SID a generator, rigged SID triples."""
    data = values.get("dataset_params") if isinstance(values, dict) else None
    if isinstance(data, dict) and "triples" in data:
        return "rigged"
    model = values.get("model_params") if isinstance(values, dict) else None
    if not isinstance(model, dict):
        return None
    return "MEF" if "base_params" in model else "SID" if "generator_params" in model else None


def read_sections(kind: type, path: str | os.PathLike) -> dict:
    """The plain values of a YAML file with the sections of ``kind``, as yet unchecked."""
    values = schema.read_yaml(path)
    if values is None:
        raise UserError(f"{path}: the file is empty; expected the sections {', '.join(schema.hints(kind))}")
    return values


def config_from_dict(values: dict, where: str = "configuration") -> Config:
    """A checked configuration from plain values; ``where`` is what an error names as the place (the file)."""
    config = section_from_dict(Config, values, where)
    try:
        check_together(config)
    except BadValue as error:
        raise UserError(f"{where}: {error}") from None
    return config


def section_from_dict(kind: type[T], values: dict, where: str = "configuration", root: type = Config) -> T:
    """One section (``ModelParams``, ...) from plain values, every value checked on its own.

    Advice on an unknown key looks through ``root``, the configuration it belongs to.
    """
    try:
        return schema.from_values(kind, values, root=root)
    except BadValue as error:
        raise UserError(f"{where}: {error}") from None


def config_to_dict(config: Any) -> Any:
    """Plain YAML/JSON values of a configuration or a section; ``config_from_dict`` is the inverse."""
    return schema.to_values(config)


def save_config(config: Any, path: str | os.PathLike) -> None:
    """Write the configuration with every default spelled out; the file appears whole or not at all."""
    schema.write_yaml(schema.to_values(config), path)


def load_mef_config(path: str | os.PathLike) -> MEFConfig:
    """Read a YAML file.  Raises :class:`UserError`, one line, for a file that is missing, not YAML or not valid."""
    values = read_sections(MEFConfig, path)
    if stage_of(values) == "SID":
        raise UserError(f"{path}: configures SID, not MEF: train it with train_sid.py")
    return mef_config_from_dict(values, where=str(path))


def mef_config_from_dict(values: dict[str, Any], where: str = "configuration") -> MEFConfig:
    """A checked configuration from plain values; ``where`` is what an error names as the place (the file)."""
    config = section_from_dict(MEFConfig, values, where, MEFConfig)
    try:
        check_mef_together(config)
    except BadValue as error:
        raise UserError(f"{where}: {error}") from None
    return config


def load_small_base_config(path: str | os.PathLike) -> SmallBaseConfig:
    """Read a YAML file.  Raises :class:`UserError`, one line, for a file that is missing, not YAML or not valid."""
    config = section_from_dict(SmallBaseConfig, read_sections(SmallBaseConfig, path), str(path), SmallBaseConfig)
    model = config.model_params
    halvings = len(model.autoencoder_params.channels) + len(model.denoiser_params.channels) - 2
    if config.dataset_params.resolution % 2**halvings:
        value = BadValue(
            "dataset_params.resolution",
            f"a multiple of 2**{halvings}, which autoencoder_params.channels and denoiser_params.channels halve it by",
            f"{config.dataset_params.resolution}",
        )
        raise UserError(f"{path}: {value}")
    return config


def load_animation_config(path: str | os.PathLike) -> Config | RiggedConfig:
    """Read a YAML file of SID, rigged (its data are triples) or not.  Raises :class:`UserError`, one line."""
    return load_rigged_config(path) if stage_of(read_sections(Config, path)) == "rigged" else load_config(path)


def load_rigged_config(path: str | os.PathLike) -> RiggedConfig:
    """Read a YAML file of rigged SID.  Raises :class:`UserError`, one line."""
    return rigged_config_from_dict(read_sections(RiggedConfig, path), str(path))


def rigged_config_from_dict(values: dict, where: str = "configuration") -> RiggedConfig:
    """A checked configuration of rigged SID from plain values; ``where`` is what an error names as the place."""
    return section_from_dict(RiggedConfig, values, where, RiggedConfig)
