"""The First Order Motion Model's way of working, with this project's networks: the yardstick of benchmarks.speed.

In float32, a frame at a time; the source is encoded anew for each of them; clips are read, and results kept, whole.
It is what the reference's demo.py, run.py and frames_dataset.py do (A. Siarohin et al., NeurIPS 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from modules import media
from modules.media.tensors import to_images, to_tensor
from modules.sid.model import SID


@torch.inference_mode()
def animate(model: SID, source: np.ndarray, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A source ``[H, W, 3]``, uint8, moved to the key points of each frame by a model without encoders."""
    device = next(model.parameters()).device
    image, clip = to_tensor([source], device), [to_tensor([frame]) for frame in frames]
    own = model.kp_detector(image)
    results = []
    for frame in clip:
        driven = model.kp_detector(frame.to(device))
        results.append(model.generator(image, own, driven).prediction.cpu())
    return to_images(torch.cat(results))


def training_pair(clip: str | Path, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Two frames of a video, ``[1, 3, H, W]`` each, as its data set takes them: all of it is decoded first."""
    frames = [frame.image for frame in media.read_video(clip)]
    first, second = sorted(generator.choice(len(frames), size=2))
    return to_tensor([frames[first]]), to_tensor([frames[second]])
