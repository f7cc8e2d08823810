"""How far an expression is from another one, as SID reads them: what losses on an estimate of x0 look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ExpressionError(nn.Module):
    """Squared errors of z_exp and of z_pose over the data set's variances, their mean ``[B]``.

    0: as asked for; 1: no nearer than the data set's mean is on average.  Both parts count alike, however many numbers
    they have: of a cosine of all, pose is nearly everything.

    Args:
        sizes: numbers in z_exp and in z_pose.
        expressions: ``[N, width]`` of the data set.
    """

    def __init__(self, sizes: Sequence[int], expressions: Tensor):
        super().__init__()
        self.sizes = list(sizes)
        self.register_buffer("variances", self._variances(expressions.float()), persistent=False)

    def forward(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of embeddings ``[B, width]``."""
        return (self._summed((found - wanted).square()) / self.variances).mean(dim=-1)

    def _variances(self, expressions: Tensor) -> Tensor:
        """Of z_exp and z_pose, ``[2]``; of pictures that are all alike a hundredth of what they are."""
        varying = self._summed(expressions.var(dim=0, correction=0))
        return varying.maximum(0.01 * self._summed(expressions.square().mean(dim=0))).clamp_min(1e-6)

    def _summed(self, values: Tensor) -> Tensor:
        """Sums over the numbers of z_exp and of z_pose: ``[..., d]`` -> ``[..., 2]``."""
        return torch.stack([part.sum(dim=-1) for part in values.split(self.sizes, dim=-1)], dim=-1)
