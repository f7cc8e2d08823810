"""Adapters of two origins in one base: the expression's of a folder of ours, beside an identity of ours or FaceID's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config.mef import BaseParams
from ..errors import UserError
from ..training.checkpoint import load_checkpoint
from .adapters import Adapters, AdapterState, attach, check_fits
from .arcface import ArcFace
from .base import Base, load_base, quiet
from .checks import CONFIG, read_description
from .embeddings import Embedder
from .folder import read_adapters, read_base, read_embedder
from .pipeline import DeepExprPipeline

EXPRESSION = "expression_adapter"


class FaceIDEmbedder:
    """Pictures -> the identity that IP-Adapter FaceID reads: a face-recognition network's, of unit length.

    Args:
        network: .onnx file (ArcFace).
    """

    def __init__(self, network: str, cpu: bool = False):
        self._recognise = ArcFace(network, cpu)

    def to(self, device: torch.device | str) -> FaceIDEmbedder:
        return self

    @torch.no_grad()
    def __call__(self, pictures: Sequence[np.ndarray], names: Sequence[str]) -> tuple[Tensor]:
        """uint8 ``[H, W, 3]`` pictures -> ``[B, width]`` alone.  Raises UserError for one without a face."""
        return (F.normalize(self._recognise(pictures, names), dim=1),)


def use_expression_adapter(
    pipeline: DeepExprPipeline, folder: str | Path, detector: str = "auto", crop: bool | None = None, cpu: bool = False
) -> DeepExprPipeline:
    """Let the expression adapter of another folder take the place of a pipeline's, with what it reads pictures with.

    Raises:
        UserError: a branch in one of them, another base, or no encoders in the folder.
    """
    if not isinstance(pipeline.adapters, Adapters):
        raise UserError("--expression_adapter: a branch reads both embeddings together; give adapters as --checkpoint")
    identity = pipeline.adapters.state()["identity_adapter"]
    read = _read_expression(Path(folder), detector, crop, cpu)
    adapters = attach(pipeline.base.unet, [identity, read.state], ["--checkpoint", read.place])
    params = pipeline.base_params, pipeline.crop_faces
    return DeepExprPipeline(pipeline.base, adapters, pipeline.embedder, *params, expression_embedder=read.embedder)


def from_face_id(
    path: str | Path,
    network: str,
    folder: str | Path,
    *,
    base: str | None = None,
    base_config: str | None = None,
    dtype: torch.dtype = torch.float32,
    detector: str = "auto",
    crop: bool | None = None,
    cpu: bool = False,
) -> DeepExprPipeline:
    """An IP-Adapter FaceID file of anybody's with an expression adapter of ours, on the latter's base or another.

    Args:
        network: .onnx file of the face-recognition network that the FaceID adapter was trained on.
        folder: of the expression adapter.

    Raises:
        UserError: what is not there, or does not fit.
    """
    folder = Path(folder)
    read = _read_expression(folder, detector, crop, cpu)
    params = BaseParams(path=base, config=base_config) if base else read_base(folder, read.description)
    state, made = load_checkpoint(path), load_base(params, dtype)
    layers = state.get("ip_adapter", {})
    kept = {name: value for name, value in layers.items() if "_lora." not in name}
    identity = {"image_proj": state.get("image_proj", {}), "ip_adapter": kept}
    check_fits(made.unet, identity, str(path))
    _load_loras(made, layers, str(path))
    adapters = attach(made.unet, [identity, read.state], [str(path), read.place])
    embedder = FaceIDEmbedder(network, cpu)
    return DeepExprPipeline(made, adapters, embedder, params, expression_embedder=read.embedder)


def _load_loras(base: Base, layers: dict[str, Tensor], where: str) -> None:
    """Those that some FaceID files bring for the base's own attention; before a resampler has attention there too."""
    for number, lora in base.unet._load_ip_adapter_loras([{"ip_adapter": layers}]).items():
        try:
            with quiet():
                base.load_lora_weights(lora, adapter_name=f"faceid_{number}")
        except ValueError as error:
            raise UserError(f"{where}: holds LoRA weights, which need peft: pip install peft") from error


class _Expression(NamedTuple):
    state: AdapterState
    place: str
    embedder: Embedder
    description: dict[str, Any]


def _read_expression(folder: Path, detector: str, crop: bool | None, cpu: bool) -> _Expression:
    description, entries = read_description(folder / CONFIG), read_adapters(folder)
    if EXPRESSION not in entries:
        raise UserError(f"{folder}: holds a branch; --expression_adapter takes a folder of adapters")
    embedder = read_embedder(folder, description, detector, crop, cpu)
    if embedder is None:
        raise UserError(f"{folder}: saved without SID's encoders; give a run's folder adapters/")
    return _Expression(entries[EXPRESSION], str(folder / f"{EXPRESSION}.safetensors"), embedder, description)
