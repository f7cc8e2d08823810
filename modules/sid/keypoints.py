"""Keypoint detector K: self-supervised key points, each with a local affine frame (FOMM section 3.1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..config.sid import KPDetectorParams
from ..geometry import AntiAliasDownsample, coordinate_grid, full_precision
from .blocks import Hourglass


class Keypoints(NamedTuple):
    """Key points of a batch of frames.

    Attributes:
        value: positions ``[B, K, 2]`` in [-1, 1].
        jacobian: local affine frames ``[B, K, 2, 2]``; None when the detector estimates none.
    """

    value: Tensor
    jacobian: Tensor | None

    def map(self, function) -> Keypoints:
        """Apply ``function`` to both tensors."""
        return Keypoints(function(self.value), None if self.jacobian is None else function(self.jacobian))

    def detach(self) -> Keypoints:
        return self.map(torch.Tensor.detach)

    def chunk(self, parts: int) -> list[Keypoints]:
        """Those of each of several equal parts of the batch."""
        jacobians = [None] * parts if self.jacobian is None else self.jacobian.chunk(parts)
        return [Keypoints(*pair) for pair in zip(self.value.chunk(parts), jacobians, strict=True)]


def shared_motion(source: Keypoints, driving: Keypoints) -> Tensor:
    """Least-squares affine map from source to driving key points, minus the identity, ``[B, 2, 3]``.

    The part of the motion all key points share.
    """
    with torch.autocast(source.value.device.type, enabled=False):
        design = torch.cat([source.value, torch.ones_like(source.value[..., :1])], dim=-1)
        # a little ridge keeps the fit defined while an untrained detector puts all points in one place
        gram = design.mT @ design + 1e-3 * torch.eye(3, dtype=design.dtype, device=design.device)
        return torch.linalg.solve(gram, design.mT @ (driving.value - source.value)).mT.clamp(-2, 2)


class KeypointDetector(nn.Module):
    """Hourglass, softmax heat-maps, expected position and heat-map-weighted jacobian.

    ``[B, 3, H, W]`` in [0, 1] -> :class:`Keypoints`.
    """

    def __init__(self, params: KPDetectorParams, num_kp: int, estimate_jacobian: bool = True):
        super().__init__()
        self.predictor = Hourglass(params.block_expansion, 3, params.num_blocks, params.max_features)
        self.kp = nn.Conv2d(self.predictor.out_filters, num_kp, kernel_size=7, padding=params.pad)
        self.jacobian = None
        if estimate_jacobian:
            maps = 1 if params.single_jacobian_map else num_kp
            self.jacobian = nn.Conv2d(self.predictor.out_filters, 4 * maps, kernel_size=7, padding=params.pad)
            nn.init.zeros_(self.jacobian.weight)
            self.jacobian.bias.data.copy_(torch.eye(2).flatten().repeat(maps))
        self.temperature = params.temperature
        self.down = AntiAliasDownsample(params.scale_factor) if params.scale_factor != 1 else None

    def forward(self, image: Tensor, parts: int = 1) -> Keypoints:
        """In training, ``parts`` batches one after the other in ``image`` give what each gives alone, sooner."""
        features = self.predictor(image if self.down is None else self.down(image), parts)
        # the temperature multiplies what half precision rounds off tenfold: positions would tremble
        with torch.autocast(image.device.type, enabled=False):
            return self._locate(full_precision(features))

    def _locate(self, features: Tensor) -> Keypoints:
        logits = self.kp(features)
        heatmap = torch.softmax(logits.flatten(2) / self.temperature, dim=2).view_as(logits)
        grid = coordinate_grid(*heatmap.shape[2:], like=heatmap)
        value = (heatmap.unsqueeze(-1) * grid).sum(dim=(2, 3))
        if self.jacobian is None:
            return Keypoints(value, None)
        entries = self.jacobian(features).unflatten(1, (-1, 4))
        jacobian = (heatmap.unsqueeze(2) * entries).sum(dim=(3, 4))
        return Keypoints(value, jacobian.unflatten(2, (2, 2)))
