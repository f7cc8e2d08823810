"""What the camera does: one affine motion of all that is not the person."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modules.config import BackgroundParams
from modules.sid.encoders import ImageEncoder


class BackgroundMotion(nn.Module):
    """Two frames of one clip, ``[B, 3, H, W]`` each, to the affine motion of their background, ``[B, 2, 3]``.

    It says where in the source each point of the driving frame comes from (Siarohin et al., CVPR 2021: "Motion
    Representations for Articulated Animation", background motion).  At first that is where it is.  Frames of
    two clips have no common background: there is nothing to ask between them.
    """

    def __init__(self, params: BackgroundParams, num_channels: int = 3):
        super().__init__()
        self.encoder = ImageEncoder(params, 6, 2 * num_channels)
        nn.init.zeros_(self.encoder.project.weight)
        nn.init.zeros_(self.encoder.project.bias)

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        change = self.encoder(torch.cat([source, driving], dim=1)).unflatten(1, (2, 3))
        return change + torch.eye(2, 3, dtype=change.dtype, device=change.device)
