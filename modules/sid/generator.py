"""Occlusion-aware generator G (FOMM section 3.2), optionally modulated by identity and semantics."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.sid import GeneratorParams
from ..geometry import full_precision, resize_grid, sample
from .blocks import DownBlock, ResBlock, SameBlock, UpBlock, widths
from .dense_motion import DenseMotion, DenseMotionNetwork, FlowReading
from .keypoints import Keypoints


class Condition(NamedTuple):
    """The generator's input from the embeddings.

    Attributes:
        look: ``[z_id of the source | z_sem to show]``, ``[B, look_dim]``, for the FiLM layers.
        change: ``z_sem`` to show minus the source's, ``[B, semantic_dim]``, for the dense motion.
        place: of the source's face, ``[B, 4]``, for the same; None where the encoders do not look for it.
    """

    look: Tensor
    change: Tensor
    place: Tensor | None


class ConditionSize(NamedTuple):
    """Widths of the embeddings in a :class:`Condition`.

    ``moving_dim``: how many numbers of ``change``, the first ones, stand for a motion of the face each.
    """

    identity_dim: int
    semantic_dim: int
    moving_dim: int = 0

    @property
    def look_dim(self) -> int:
        return self.identity_dim + self.semantic_dim


class Generated(NamedTuple):
    """Output of the generator: ``prediction`` and the plainly warped source ``deformed``, both ``[B, 3, H, W]``."""

    prediction: Tensor
    deformed: Tensor | None
    motion: DenseMotion | None


class FiLM(nn.Module):
    """Feature-wise affine modulation (Perez et al., 2018), zero-initialised: at first it changes nothing at all.

    It acts on features just normalised, inside a block (as in AdaIN): on the sum that residual blocks hand on, factors
    would multiply from block to block.
    """

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

    With a ``condition`` size :class:`FiLM` layers modulate the bottleneck and up blocks and the dense motion knows the
    change of semantics; without it this is FOMM's generator, name by name.  Where numbers of it stand for motions of
    the face (``moving_dim``), the bottleneck also sees that part of the dense motion.

    With ``params.skips`` warped source features of every resolution, and at last the source itself, replace what is
    not occluded (Siarohin et al., CVPR 2021: "Motion Representations for Articulated Animation"): what the source
    shows stays as sharp as it is there, and the network paints the rest.
    """

    def __init__(self, params: GeneratorParams, num_kp: int, condition: ConditionSize | None = None):
        super().__init__()
        self.skips = params.skips
        self.dense_motion_network = None
        if params.dense_motion_params is not None:
            self.dense_motion_network = DenseMotionNetwork(
                params.dense_motion_params,
                num_kp,
                params.estimate_occlusion_map,
                condition and condition.semantic_dim,
                condition.moving_dim if condition else 0,
            )
        levels = widths(params.block_expansion, params.max_features, params.num_down_blocks)
        self.first = SameBlock(3, levels[0], kernel_size=7, padding=3)
        self.down_blocks = nn.ModuleList(DownBlock(i, o) for i, o in zip(levels, levels[1:], strict=False))
        rising = levels[::-1]
        self.up_blocks = nn.ModuleList(UpBlock(i, o) for i, o in zip(rising, rising[1:], strict=False))
        self.bottleneck = nn.Sequential()
        for i in range(params.num_bottleneck_blocks):
            self.bottleneck.add_module(f"r{i}", ResBlock(levels[-1]))
        self.final = nn.Conv2d(levels[0], 3, kernel_size=7, padding=3)
        self.moving = None
        if self.dense_motion_network is not None and self.dense_motion_network.face_flow is not None:
            # a modulation is the same everywhere; what opens in a face opens in one place
            self.moving = FlowReading(levels[-1])
        self.film = None
        if condition is not None:
            modulated = [levels[-1]] * params.num_bottleneck_blocks + rising[1:]
            self.film = nn.ModuleList(FiLM(condition.look_dim, features) for features in modulated)

    def encode(self, source_image: Tensor) -> list[Tensor]:
        """Source features ``[B, C_n, H/2**n, W/2**n]`` the decoder needs, finest first, the bottleneck's last.

        They are the same for every driver: once per source is enough.
        """
        features = [self.first(source_image)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features if self.skips else features[-1:]

    def forward(
        self,
        source_image: Tensor,
        source: Keypoints,
        driving: Keypoints,
        condition: Condition | None = None,
        features: list[Tensor] | None = None,
    ) -> Generated:
        """Render the source ``[B, 3, H, W]`` under the driving key points.

        ``condition`` is needed exactly if the generator was built with one; ``features`` is what
        :meth:`encode` returned for this source, or None to compute it here.
        """
        *skips, out = self.encode(source_image) if features is None else features
        motion = deformed = None
        if self.dense_motion_network is not None:
            told = () if condition is None else (condition.change, condition.place)
            motion = self.dense_motion_network(source_image, source, driving, *told)
            out = self._show(out, motion)
            deformed = self._warp(source_image, motion)
            if self.moving is not None:
                out = out + self.moving(motion.face_flow, *out.shape[2:])
        bottleneck = len(self.bottleneck)
        for i, block in enumerate([*self.bottleneck, *self.up_blocks]):
            if self.skips and i > bottleneck:
                out = self._show(skips.pop(), motion, out)
            out = block(out, None if self.film is None else partial(self.film[i], condition=condition.look))
        if skips:
            out = self._show(skips.pop(), motion, out)
        prediction = torch.sigmoid(full_precision(self.final(out)))
        if self.skips:
            prediction = self._show(source_image, motion, prediction)
        return Generated(prediction, deformed, motion)

    def _warp(self, image: Tensor, motion: DenseMotion) -> Tensor:
        if not self.skips:
            return sample(image, resize_grid(motion.deformation, *image.shape[2:]))
        # what is shown as it is must not be shifted as FOMM's weights have learnt to live with, nor end in black
        grid = resize_grid(motion.deformation, *image.shape[2:], align_corners=True)
        return sample(image, grid, padding_mode="border")

    def _show(self, image: Tensor, motion: DenseMotion, hidden: Tensor | None = None) -> Tensor:
        """``image [B, C, H, W]`` moved by the motion; what is occluded shows ``hidden`` (nothing: zero)."""
        out = self._warp(image, motion)
        if motion.occlusion is None:
            return out
        occlusion = motion.occlusion
        if occlusion.shape[2:] != out.shape[2:]:
            occlusion = F.interpolate(occlusion, size=out.shape[2:], mode="bilinear", align_corners=False)
        occlusion = occlusion.to(out.dtype)
        return out * occlusion if hidden is None else out * occlusion + hidden * (1 - occlusion)
