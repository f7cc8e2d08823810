"""Exponential moving averages of weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """The running average of a network: parameters and buffers, since batch norms' statistics belong to their weights.

    The first update copies; later ones keep ``min(decay, (1 + n) / (10 + n))`` of what there was, so that a short run's
    average is not one of its first steps.

    Attributes:
        network: the averaged network.
        updates: how often :meth:`update` was called.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, current: nn.Module) -> None:
        """Bring the average up to date with the weights just stepped."""
        kept = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.updates else 0.0
        pairs = list(zip(_tensors(self.network), _tensors(current), strict=True))
        floats = [(average, value) for average, value in pairs if average.is_floating_point()]
        for average, value in pairs:
            if not average.is_floating_point():  # counters of batches
                average.copy_(value)
        torch._foreach_lerp_([a for a, _ in floats], [v.to(a.dtype) for a, v in floats], 1 - kept)
        self.updates += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
