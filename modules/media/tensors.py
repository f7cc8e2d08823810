"""Pictures as tensors and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_tensor(images: list[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """uint8 ``[H, W, 3]`` images as ``float32 [B, 3, H, W]`` in [0, 1]."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    return batch.permute(0, 3, 1, 2).float() / 255


def in_unit_range(images: Tensor) -> Tensor:
    """Pictures in bytes as float32 in [0, 1]; those in floats are that already."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def to_images(batch: Tensor) -> list[np.ndarray]:
    """``[B, 3, H, W]`` in [0, 1] as uint8 ``[H, W, 3]`` images."""
    return list((batch.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())
