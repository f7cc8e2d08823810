"""Occlusion-aware generator G (FOMM section 3.2), optionally modulated by identity and semantics."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules.config import GeneratorParams
from modules.geometry import full_precision, resize_grid, sample
from modules.sid.blocks import DownBlock, ResBlock, SameBlock, UpBlock, widths
from modules.sid.dense_motion import DenseMotion, DenseMotionNetwork
from modules.sid.keypoints import Keypoints


class Generated(NamedTuple):
    """Output of the generator: ``prediction`` and the plainly warped source ``deformed``, both ``[B, 3, H, W]``."""

    prediction: Tensor
    deformed: Tensor | None
    motion: DenseMotion | None


class FiLM(nn.Module):
    """Feature-wise affine modulation (Perez et al., 2018), zero-initialised: at first it changes nothing at all."""

    def __init__(self, condition_dim: int, features: int):
        super().__init__()
        self.affine = nn.Linear(condition_dim, 2 * features)
        nn.init.zeros_(self.affine.weight)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.affine(condition)[:, :, None, None].chunk(2, dim=1)
        return x * (1 + scale) + shift


class Generator(nn.Module):
    """Encodes the source, warps its features by the dense motion, hides what is occluded, decodes.

    With ``condition_dim`` the bottleneck and up blocks are followed by :class:`FiLM` layers that take the condition
    ``[z_id(source) | z_sem(driving)]``; without it this is FOMM's generator, name by name.
    """

    def __init__(self, params: GeneratorParams, num_kp: int, num_channels: int = 3, condition_dim: int | None = None):
        super().__init__()
        self.dense_motion_network = None
        if params.dense_motion_params is not None:
            self.dense_motion_network = DenseMotionNetwork(
                params.dense_motion_params, num_kp, num_channels, params.estimate_occlusion_map
            )
        levels = widths(params.block_expansion, params.max_features, params.num_down_blocks)
        self.first = SameBlock(num_channels, levels[0], kernel_size=7, padding=3)
        self.down_blocks = nn.ModuleList(DownBlock(i, o) for i, o in zip(levels, levels[1:], strict=False))
        rising = levels[::-1]
        self.up_blocks = nn.ModuleList(UpBlock(i, o) for i, o in zip(rising, rising[1:], strict=False))
        self.bottleneck = nn.Sequential()
        for i in range(params.num_bottleneck_blocks):
            self.bottleneck.add_module(f"r{i}", ResBlock(levels[-1]))
        self.final = nn.Conv2d(levels[0], num_channels, kernel_size=7, padding=3)
        self.film = None
        if condition_dim is not None:
            modulated = [levels[-1]] * params.num_bottleneck_blocks + rising[1:]
            self.film = nn.ModuleList(FiLM(condition_dim, features) for features in modulated)

    def encode(self, source_image: Tensor) -> Tensor:
        """Source features at the bottleneck, ``[B, C, H/2**n, W/2**n]``: once per source, whatever the driver does."""
        features = self.first(source_image)
        for block in self.down_blocks:
            features = block(features)
        return features

    def forward(
        self,
        source_image: Tensor,
        source: Keypoints,
        driving: Keypoints,
        condition: Tensor | None = None,
        features: Tensor | None = None,
    ) -> Generated:
        """Render the source ``[B, 3, H, W]`` under the driving key points.

        ``condition`` is ``[B, condition_dim]``, needed exactly if the generator was built with one; ``features`` is
        what :meth:`encode` returned for this source, or None to compute it here.
        """
        out = self.encode(source_image) if features is None else features
        motion = deformed = None
        if self.dense_motion_network is not None:
            motion = self.dense_motion_network(source_image, source, driving)
            out = sample(out, resize_grid(motion.deformation, *out.shape[2:]))
            if motion.occlusion is not None:
                occlusion = motion.occlusion
                if occlusion.shape[2:] != out.shape[2:]:
                    occlusion = F.interpolate(occlusion, size=out.shape[2:], mode="bilinear", align_corners=False)
                out = out * occlusion.to(out.dtype)
            deformed = sample(source_image, resize_grid(motion.deformation, *source_image.shape[2:]))
        for i, block in enumerate([*self.bottleneck, *self.up_blocks]):
            out = block(out)
            if self.film is not None:
                out = self.film[i](out, condition)
        return Generated(torch.sigmoid(full_precision(self.final(out))), deformed, motion)
