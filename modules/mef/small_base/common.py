"""What training the two parts of a small base has in common."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import media
from ...data.portraits import Portrait
from ...media.tensors import to_tensor
from ...training.layout import ONE_NETWORK

Batch = dict[str, Tensor]


def _load(network: nn.Module, entries: dict[str, Any], path: str | os.PathLike) -> list[str]:
    """``entries`` of a checkpoint, or an average's alone, which had no name in files of version 0.1."""
    if "training" not in entries and "network" not in entries:
        entries = {"network": entries}
    return ONE_NETWORK.load(network, entries, path)


LAYOUT = ONE_NETWORK._replace(load=_load)


def read_picture(portrait: Portrait, resolution: int) -> Tensor:
    """float32 ``[3, H, W]`` in [-1, 1]."""
    return to_tensor([media.fit(media.read_image(portrait.image), resolution, resolution)])[0] * 2 - 1


def normal_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
