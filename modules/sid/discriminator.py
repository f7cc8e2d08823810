"""Multi-scale patch discriminator D (LSGAN; pix2pixHD's form as FOMM uses it)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.sid import DiscriminatorParams
from ..geometry import gaussian_heatmaps
from .blocks import widths
from .keypoints import Keypoints

KP_VARIANCE = 0.01  # of the Gaussians shown to a key-point-aware discriminator; FOMM's value


class PatchBlock(nn.Module):
    """Unpadded 4x4 convolution, instance norm (but for the first block), leaky ReLU, pooling (but for the last)."""

    def __init__(self, in_features: int, out_features: int, norm: bool, pool: bool, sn: bool):
        super().__init__()
        self.conv = nn.Conv2d(in_features, out_features, kernel_size=4)
        if sn:
            self.conv = nn.utils.spectral_norm(self.conv)
        self.norm = nn.InstanceNorm2d(out_features, affine=True) if norm else None
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.norm is not None:
            out = self.norm(out)
        out = F.leaky_relu(out, 0.2)
        return F.avg_pool2d(out, 2) if self.pool else out


class PatchDiscriminator(nn.Module):
    """One scale: ``[B, 3 (+K), H, W]`` -> feature maps of every block and a map of patch scores ``[B, 1, h, w]``."""

    def __init__(self, params: DiscriminatorParams, num_kp: int):
        super().__init__()
        in_features = 3 + (num_kp if params.use_kp else 0)
        outputs = widths(params.block_expansion, params.max_features, params.num_blocks)[1:]
        last = params.num_blocks - 1
        self.down_blocks = nn.ModuleList(
            PatchBlock(i, o, norm=n > 0, pool=n < last, sn=params.sn)
            for n, (i, o) in enumerate(zip([in_features, *outputs[:-1]], outputs, strict=True))
        )
        self.conv = nn.Conv2d(outputs[-1], 1, kernel_size=1)
        if params.sn:
            self.conv = nn.utils.spectral_norm(self.conv)
        self.use_kp = params.use_kp

    def forward(self, image: Tensor, keypoints: Keypoints) -> tuple[list[Tensor], Tensor]:
        out = image
        if self.use_kp:
            heatmaps = gaussian_heatmaps(keypoints.value, *image.shape[2:], variance=KP_VARIANCE)
            out = torch.cat([image, heatmaps.to(image.dtype)], dim=1)
        features = []
        for block in self.down_blocks:
            out = block(out)
            features.append(out)
        return features, self.conv(out)


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator per entry of ``scales``, fed from an image pyramid."""

    def __init__(self, params: DiscriminatorParams, num_kp: int):
        super().__init__()
        self.scales = params.scales
        self.discs = nn.ModuleDict({self._name(scale): PatchDiscriminator(params, num_kp) for scale in params.scales})

    @staticmethod
    def _name(scale: float) -> str:
        return f"{scale:g}".replace(".", "-")  # a module's name cannot hold a dot

    def forward(self, pyramid: dict[float, Tensor], keypoints: Keypoints) -> list[tuple[list[Tensor], Tensor]]:
        """Per scale, (feature maps, patch scores) of ``pyramid[scale]``."""
        return [self.discs[self._name(scale)](pyramid[scale], keypoints) for scale in self.scales]
