"""Which pixels are a person: MediaPipe's selfie segmentation, for one or few people near the camera."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .graph import GraphNetwork

SIZE = 256  # pixels of the picture that the network sees, whatever its shape was


class PersonMatte(nn.Module):
    """Share of each pixel that is a person: head, hair, body and clothes."""

    def __init__(self) -> None:
        super().__init__()
        self.network = GraphNetwork("mp_selfie.fp16")

    def forward(self, images: Tensor) -> Tensor:
        """``[B, 3, H, W]`` in [0, 1] -> ``[B, 1, H, W]`` in [0, 1], from a matte of 256 x 256 pixels."""
        small = F.interpolate(images.float(), (SIZE, SIZE), mode="bilinear", antialias=True)
        (matte,) = self.network(small)
        return F.interpolate(matte.permute(0, 3, 1, 2), images.shape[2:], mode="bilinear", antialias=True).clamp(0, 1)
