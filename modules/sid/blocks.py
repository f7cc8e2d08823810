"""Building blocks shared by SID's networks.  Parameter names are FOMM's, so that its checkpoints load."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Modulate = Callable[[Tensor], Tensor]  # changes normalised features, shape kept


class SameBlock(nn.Module):
    """Convolution, batch norm, ReLU at one resolution: ``[B, in, H, W] -> [B, out, H, W]``."""

    FOLDED = (("conv", "norm"),)  # by :func:`.tuned.tuned`

    def __init__(self, in_features: int, out_features: int, kernel_size: int = 3, padding: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(in_features, out_features, kernel_size, padding=padding)
        self.norm = nn.BatchNorm2d(out_features)

    def forward(self, x: Tensor, modulate: Modulate | None = None, parts: int = 1) -> Tensor:
        """A batch of several ``parts`` is normalised as so many batches of their own."""
        out = self.conv(x)
        out = self.norm(out) if parts == 1 else torch.cat([self.norm(part) for part in out.chunk(parts)])
        return F.relu(out if modulate is None else modulate(out))


class DownBlock(SameBlock):
    """A same block, then 2x2 average pooling: ``[B, in, H, W] -> [B, out, H/2, W/2]``."""

    def forward(self, x: Tensor, modulate: Modulate | None = None, parts: int = 1) -> Tensor:
        return F.avg_pool2d(super().forward(x, modulate, parts), 2)


class UpBlock(SameBlock):
    """Nearest-neighbour doubling, then a same block: ``[B, in, H, W] -> [B, out, 2H, 2W]``."""

    def forward(self, x: Tensor, modulate: Modulate | None = None, parts: int = 1) -> Tensor:
        if not isinstance(self.conv, nn.ConvTranspose2d):  # by which .tuned.tuned does both at once
            x = F.interpolate(x, scale_factor=2)
        return super().forward(x, modulate, parts)


class ResBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions at constant width."""

    FOLDED = (("conv1", "norm2"),)

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(features)
        self.norm2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor, modulate: Modulate | None = None) -> Tensor:
        out = self.norm2(self.conv1(F.relu(self.norm1(x))))
        return self.conv2(F.relu(out if modulate is None else modulate(out))) + x


def widths(block_expansion: int, max_features: int, num_blocks: int) -> list[int]:
    """Feature counts after 0, 1, ... ``num_blocks`` halvings: doubling, capped at ``max_features``."""
    return [min(max_features, block_expansion * 2**i) for i in range(num_blocks + 1)]


class HourglassEncoder(nn.Module):
    """Down path of the hourglass; returns every resolution, finest first."""

    def __init__(self, block_expansion: int, in_features: int, num_blocks: int, max_features: int):
        super().__init__()
        outputs = widths(block_expansion, max_features, num_blocks)[1:]
        inputs = [in_features, *outputs[:-1]]
        self.down_blocks = nn.ModuleList(DownBlock(i, o) for i, o in zip(inputs, outputs, strict=True))

    def forward(self, x: Tensor, parts: int = 1) -> list[Tensor]:
        outputs = [x]
        for block in self.down_blocks:
            outputs.append(block(outputs[-1], parts=parts))
        return outputs


class HourglassDecoder(nn.Module):
    """Up path of the hourglass with skip connections."""

    def __init__(self, block_expansion: int, in_features: int, num_blocks: int, max_features: int):
        super().__init__()
        levels = widths(block_expansion, max_features, num_blocks)
        # the deepest block sees the encoder alone; every other sees the block below it and a skip of equal width
        self.up_blocks = nn.ModuleList(
            UpBlock(levels[i + 1] * (1 if i == num_blocks - 1 else 2), levels[i]) for i in reversed(range(num_blocks))
        )
        self.out_filters = levels[0] + in_features

    def forward(self, features: list[Tensor], parts: int = 1) -> Tensor:
        *skips, out = features
        for block in self.up_blocks:
            out = torch.cat([block(out, parts=parts), skips.pop()], dim=1)
        return out


class Hourglass(nn.Module):
    """U-Net: ``[B, in_features, H, W] -> [B, out_filters, H, W]``; H and W divisible by ``2**num_blocks``."""

    def __init__(self, block_expansion: int, in_features: int, num_blocks: int, max_features: int):
        super().__init__()
        self.encoder = HourglassEncoder(block_expansion, in_features, num_blocks, max_features)
        self.decoder = HourglassDecoder(block_expansion, in_features, num_blocks, max_features)
        self.out_filters = self.decoder.out_filters

    def forward(self, x: Tensor, parts: int = 1) -> Tensor:
        return self.decoder(self.encoder(x, parts), parts)
